"""Bare pyOpenSSL: an epoll loop that accepts, shakes hands, and closes when the client does. No Twisted.

The context is set as the gateway's: the same suites, session tickets, client certificates required, verified against
the same CAs and CRLs, by OpenSSL itself. Whoever sends a line is told whose certificate was seen, and whether the
session was resumed. Its one argument is JSON: {"credentials": path, "authorities": path, "crls": [path], "ciphers"}.
"""

import json
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

NO_AUTO_CHAIN = 0x08  # SSL_MODE_NO_AUTO_CHAIN
SESSION_SECONDS = 3600
_lib: Any = Binding().lib


def make_context(settings: dict[str, Any]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | NO_AUTO_CHAIN)
    context.set_cipher_list(settings["ciphers"].encode())
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_timeout(SESSION_SECONDS)
    context.set_session_id(b"bench")
    context.use_certificate_chain_file(settings["credentials"])
    context.use_privatekey_file(settings["credentials"])
    _verify_clients(context, settings)
    return context


def _verify_clients(context: SSL.Context, settings: dict[str, Any]) -> None:
    store = context.get_cert_store()
    assert store is not None
    for authority in x509.load_pem_x509_certificates(Path(settings["authorities"]).read_bytes()):
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    for crl in settings["crls"]:
        store.add_crl(x509.load_pem_x509_crl(Path(crl).read_bytes()))
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)


class Peer:
    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.is_open = False

    def goes_on(self) -> bool:
        """Do what can be done now; False when the connection is over."""
        connection = self.connection
        try:
            if not self.is_open:
                connection.do_handshake()
                self.is_open = True
            while connection.recv(4096):
                connection.sendall(seen(connection))
        except SSL.WantReadError:
            return True
        except SSL.ZeroReturnError:
            with suppress(SSL.Error):
                connection.shutdown()
        except SSL.Error:
            pass  # refused, or cut
        return False


def seen(connection: SSL.Connection) -> bytes:
    certificate = connection.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    station = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    resumed = _lib.SSL_session_reused(connection._ssl) == 1  # pyOpenSSL has no method for it
    return json.dumps({"station": station, "resumed": resumed}).encode() + b"\n"


def serve(context: SSL.Context, listener: socket.socket) -> None:
    poll = select.epoll()
    peers: dict[int, Peer] = {}
    listening = listener.fileno()
    poll.register(listening, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number == listening:
                accept(context, listener, peers, poll)
            elif not peers[number].goes_on():
                poll.unregister(number)
                peers.pop(number).connection.close()


def accept(context: SSL.Context, listener: socket.socket, peers: dict[int, Peer], poll: select.epoll) -> None:
    """All that wait."""
    with suppress(BlockingIOError):
        while True:
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = SSL.Connection(context, sock)
            connection.set_accept_state()
            peers[sock.fileno()] = Peer(connection)
            poll.register(sock.fileno(), select.EPOLLIN)


def main() -> None:
    context = make_context(json.loads(sys.argv[1]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    about = f"epoll loop, {SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()}"
    print(json.dumps({"port": listener.getsockname()[1], "about": about}), flush=True)
    serve(context, listener)


if __name__ == "__main__":
    main()

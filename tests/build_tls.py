"""TLS listeners without a reactor: real OpenSSL on both sides, bytes carried by hand."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from ocppgw.net.tls import REQUIRE, TlsCreator, TlsFactory, TlsFiles, load
from tests.make_certificates import Made, crl_pem, make_ca, make_crl, make_server, write

VERSIONS = {"TLSv1.1": SSL.TLS1_1_VERSION, "TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class Pki:
    """One root, two issuing CAs below it, and the gateway's RSA and EC certificates on disk."""

    def __init__(self, folder: Path, now: float | None = None) -> None:
        self.folder = folder
        self.now = now = time.time() if now is None else now
        self.root = make_ca("Root", now=now)
        self.issuing = make_ca("Issuing", self.root, now=now)
        self.other_issuing = make_ca("Other issuing", self.root, now=now)
        self.rsa = make_server(self.issuing, "localhost", kind="rsa", now=now, label="server")
        self.ec = make_server(self.other_issuing, "localhost", now=now, label="server")
        self.write("rsa.pem", self.rsa.pem)
        self.write("ec.pem", self.ec.pem)
        self.write_authorities(self.root, self.issuing, self.other_issuing)

    def write(self, name: str, *parts: bytes) -> Path:
        return write(self.folder / name, *parts)

    def write_authorities(self, *authorities: Made) -> Path:
        return self.write("ca.pem", *(one.certificate.public_bytes(Encoding.PEM) for one in authorities))

    def write_crls(self, *revoked: Made, days: float = 7) -> Path:
        """CRLs of all CAs; each certificate is in that of its issuer."""
        crls = []
        for authority in (self.root, self.issuing, self.other_issuing):
            own = [one for one in revoked if one.certificate.issuer == authority.certificate.subject]
            crls.append(make_crl(authority, own, now=self.now, days=days))
        return self.write("crl.pem", crl_pem(*crls))

    def files(self, **changes: Any) -> TlsFiles:
        """Both server certificates, keys in their files, and the CA bundle."""
        paths = tuple(self.folder / name for name in ("rsa.pem", "ec.pem"))
        return TlsFiles(**{"cert_paths": paths, "ca_paths": (self.folder / "ca.pem",), **changes})


class Edge(Protocol):
    """What a TLS connection is handed to. It notes what it gets, and why the handshake failed."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None
        self.failure: Any = "not lost yet"

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.received += data

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        self.lost = reason
        self.failure = self.transport.tls_failure()


class Listener:
    """A listener of one kind, on material that was loaded from disk."""

    def __init__(self, files: TlsFiles, kind: str = REQUIRE, now: float | None = None) -> None:
        self.files = files
        self.now = time.time() if now is None else now
        self.creator = TlsCreator((kind,), lambda: self.now)
        self.load()
        self.factory = TlsFactory(self.creator, kind, Factory.forProtocol(Edge), Clock())

    def load(self, files: TlsFiles | None = None) -> None:
        """Load and swap, as a reload does."""
        self.creator.swap(self.creator.prepare(load(files or self.files, self.now)))

    def accept(self) -> "Accepted":
        return Accepted(self.factory)

    def connect(self, client: "Client") -> "Accepted":
        """A whole handshake, successful or not, and what either side sends at its end."""
        accepted = self.accept()
        client.begin()
        accepted.talk(client)
        return accepted


class Accepted:
    """The gateway's side of a connection."""

    def __init__(self, factory: TlsFactory) -> None:
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        self.tls = protocol
        self.edge: Any = protocol.wrappedProtocol
        self.tcp = StringTransport()
        self.tls.makeConnection(self.tcp)

    @property
    def done(self) -> bool:
        return self.tls.tls_failure() is None

    def receive(self, data: bytes) -> bytes:
        """What comes from TCP; what is sent for it."""
        self.tls.dataReceived(data)
        return self.sent()

    def sent(self) -> bytes:
        sent = self.tcp.value()
        self.tcp.clear()
        return sent

    def talk(self, client: "Client") -> None:
        """Carry bytes between both until neither has anything to say."""
        for _ in range(20):
            to_gateway = client.step()
            to_client = self.receive(to_gateway) if to_gateway else self.sent()
            client.take(to_client)
            if not to_gateway and not to_client:
                return
        raise AssertionError("they talk for ever")

    def lose(self) -> Any:
        """TCP goes; the reason that the edge was told."""
        edge = self.edge
        self.tls.connectionLost(Failure(ConnectionDone()))
        return edge.failure


class Client:
    """A station's TLS on pyOpenSSL. `error` is OpenSSL's word when it gives up."""

    def __init__(
        self,
        certificate: Made | None = None,
        *,
        version: str = "",
        ciphers: str = "",
        server_name: str = "localhost",
        trusts: Made | None = None,
        chain: bool = True,
        tickets: bool = True,
    ) -> None:
        self.context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if version:
            context.set_min_proto_version(VERSIONS[version])
            context.set_max_proto_version(VERSIONS[version])
        context.set_cipher_list(f"{ciphers or 'ALL'}:@SECLEVEL=0".encode())
        if not tickets:
            context.set_options(SSL.OP_NO_TICKET)
        if certificate is not None:
            context.use_certificate(certificate.certificate)
            context.use_privatekey(certificate.key)
            for above in certificate.above if chain else ():
                context.add_extra_chain_cert(above)
        if trusts is not None:
            store = context.get_cert_store()
            assert store is not None
            store.add_cert(X509.from_cryptography(trusts.certificate))
            context.set_verify(SSL.VERIFY_PEER)
        self.server_name = server_name
        self.session: SSL.Session | None = None
        self.tls = SSL.Connection(context)
        self.begin()

    def begin(self) -> None:
        """A new connection, which offers the session that the last one got."""
        self.tls.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)  # else OpenSSL gives its session up
        self.tls = SSL.Connection(self.context)
        if self.server_name:
            self.tls.set_tlsext_host_name(self.server_name.encode())
        if self.session is not None:
            self.tls.set_session(self.session)
        self.tls.set_connect_state()
        self.done = False
        self.error = ""
        self.received = b""

    def step(self) -> bytes:
        """What OpenSSL has to send now."""
        if not self.done and not self.error:
            try:
                self.tls.do_handshake()
                self.done = True
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                self._gave_up(error)
        sent = b""
        try:
            while True:
                sent += self.tls.bio_read(65536)
        except SSL.WantReadError:
            return sent

    def take(self, data: bytes) -> None:
        if data:
            self.tls.bio_write(data)
        try:
            while self.done and not self.error:
                self.received += self.tls.recv(65536)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._gave_up(error)

    def keep_session(self) -> None:
        self.session = self.tls.get_session()

    def records(self, *texts: bytes) -> list[bytes]:
        """Each text as what goes over TCP."""
        found = []
        for text in texts:
            self.tls.sendall(text)
            found.append(self.step())
        return found

    @property
    def server_chain(self) -> list[str]:
        chain: Iterable[Any] = self.tls.get_peer_cert_chain(as_cryptography=True) or ()
        return [one.subject.rfc4514_string() for one in chain]

    def _gave_up(self, error: SSL.Error) -> None:
        queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
        self.error = queue[0][2] if queue else type(error).__name__

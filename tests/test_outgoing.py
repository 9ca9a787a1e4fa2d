"""Outgoing TLS against a server of the standard library's ssl module, over loopback sockets."""

import socket
import ssl
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import ConfigError, OcppgwError
from ocppgw.net.outgoing import TlsClient, UntrustedServer, client_tls, tls_fault
from ocppgw.pki import Credentials, PkiError, make_issuing, make_root, make_server, make_station, new_key
from ocppgw.pki.issuing import DAY, SERVER, issue, name
from ocppgw.pki.pem import key_pem

TIME_LIMIT = 10.0


@cache
def authority(which: str = "ours") -> Credentials:
    """An issuing CA, made ten days ago; its root is not in its chain."""
    return issued_by_root(which)[1]


@cache
def issued_by_root(which: str) -> tuple[Credentials, Credentials]:
    began = time.time() - 10 * DAY
    root = make_root(which, began, days=100.0)
    return root, make_issuing(root, which, began)


@dataclass
class Seen:
    """What the server saw of its one connection."""

    version: str | None = None
    server_name: str | None = None
    certificate: Any = None
    received: bytes = b""
    error: str = ""


@dataclass
class Client(Protocol):
    """Sends a secret at once, and notes what comes back and how it ends."""

    received: bytes = b""
    reasons: list[BaseException] = field(default_factory=list)

    def connectionMade(self) -> None:  # noqa: N802
        assert self.transport is not None
        self.transport.write(b"secret")

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.received += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # noqa: N802
        assert reason.value is not None
        self.reasons.append(reason.value)


class OutgoingTests(SynchronousTestCase):
    def setUp(self) -> None:
        # Not mktemp(): under pytest that is the current directory, and nobody clears it.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name: str, pem: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(pem)
        return path

    def root(self, which: str = "ours") -> Path:
        return self.file(f"{which}.pem", issued_by_root(which)[0].chain_pem)

    @contextmanager
    def serving(self, credentials: Credentials, adjust: Any = lambda context: None) -> Iterator[tuple[int, Seen]]:
        """A TLS server for one connection, which says hello: its port and what it sees."""
        seen = Seen()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file("server.pem", credentials.pem))
        context.sni_callback = lambda _socket, name, _context: setattr(seen, "server_name", name)
        adjust(context)

        def serve() -> None:
            raw, _ = listener.accept()
            raw.settimeout(TIME_LIMIT)
            # Closing with unread data would reset the connection, and the alert could be lost on its way.
            with raw.dup() as kept_open:
                try:
                    with context.wrap_socket(raw, server_side=True) as wrapped:
                        seen.version, seen.certificate = wrapped.version(), wrapped.getpeercert()
                        seen.received = wrapped.recv(100)
                        wrapped.sendall(b"hello")
                except OSError as error:
                    seen.error = str(error)
                kept_open.settimeout(TIME_LIMIT)
                while kept_open.recv(65536):
                    pass

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(TIME_LIMIT)
            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield listener.getsockname()[1], seen
            finally:
                thread.join()

    def connect(self, port: int, creator: IOpenSSLClientConnectionCreator) -> Client:
        """Twisted's TLS over a blocking socket, until one side ends it; the client is told of the end."""
        client, clock, transport = Client(), Clock(), StringTransport()
        factory = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(lambda: client), clock)
        tls = factory.buildProtocol(None)  # type: ignore[arg-type]
        with socket.create_connection(("127.0.0.1", port), timeout=TIME_LIMIT) as wire:
            tls.makeConnection(transport)
            while not (client.received or transport.disconnecting):
                clock.advance(0)
                wire.sendall(transport.value())
                transport.clear()
                data = wire.recv(65536)
                if not data:
                    break
                tls.dataReceived(data)
            wire.sendall(transport.value())
            tls.connectionLost(Failure(ConnectionDone()))
        return client

    def exchange(
        self, host: str, credentials: Credentials, creator: Any = None, adjust: Any = lambda context: None
    ) -> tuple[Client, Seen]:
        """One connection to a server with these credentials, by a client that asks for `host`."""
        with self.serving(credentials, adjust) as (port, seen):
            client = self.connect(port, creator or client_tls(host, self.root()))
        return client, seen

    def assert_refused(self, client: Client, seen: Seen, sentence: str) -> None:
        """The client knows why, and not a byte of the secret was sent."""
        (reason,) = client.reasons
        self.assertIsInstance(reason, UntrustedServer)
        self.assertRegex(tls_fault(reason), sentence)
        self.assertEqual((b"", b""), (seen.received, client.received))
        self.assertIn("alert", seen.error.lower())  # the server is told, too

    # --- the server's name

    def test_right_name_is_accepted_and_sent_as_sni(self) -> None:
        client, seen = self.exchange("Ocpp.Example.com", make_server(authority(), ["ocpp.example.com"], time.time()))
        self.assertEqual((b"hello", b"secret"), (client.received, seen.received))
        self.assertEqual(("TLSv1.3", "ocpp.example.com"), (seen.version, seen.server_name))

    def test_wrong_name_is_refused(self) -> None:
        server = make_server(authority(), ["other.example.com", "192.0.2.1"], time.time())
        client, seen = self.exchange("ocpp.example.com", server)
        self.assert_refused(client, seen, r"for DNS:other.example.com, IP:192.0.2.1, not for ocpp.example.com$")

    def test_certificate_without_any_name_is_refused(self) -> None:
        key, subject = new_key(), name("ocpp.example.com")
        leaf = issue(authority(), SERVER, subject, key.public_key(), time.time(), days=1, serial_number=5)
        client, seen = self.exchange("ocpp.example.com", Credentials(leaf, key, (authority().certificate,)))
        self.assert_refused(client, seen, r"for no host at all \(it has no subjectAltName\), not for ocpp.example.com")

    def test_ip_address_is_looked_for_in_the_certificate_and_not_sent_as_sni(self) -> None:
        for names in (["127.0.0.1"], ["localhost", "127.0.0.1"]):
            client, seen = self.exchange("127.0.0.1", make_server(authority(), names, time.time()))
            self.assertEqual((b"hello", None), (client.received, seen.server_name))
        client, seen = self.exchange("127.0.0.1", make_server(authority(), ["127.0.0.2", "localhost"], time.time()))
        self.assert_refused(client, seen, "for IP:127.0.0.2, DNS:localhost, not for 127.0.0.1")

    # --- the server's chain

    def test_unknown_ca_is_refused(self) -> None:
        server = make_server(authority("theirs"), ["localhost"], time.time())
        client, seen = self.exchange("localhost", server)
        self.assert_refused(client, seen, "signed by CN=Development root CA,O=theirs, which .* CAs of .*ours.pem$")
        self.assertIn("unknown ca", seen.error)

    def test_without_a_file_the_systems_roots_decide(self) -> None:
        server = make_server(authority(), ["localhost"], time.time())
        client, seen = self.exchange("localhost", server, client_tls("localhost"))
        self.assert_refused(client, seen, "not among the CAs of the system$")

    def test_expired_and_future_certificates_are_refused(self) -> None:
        expired = make_server(authority(), ["localhost"], time.time() - 5 * DAY, days=3)
        client, seen = self.exchange("localhost", expired)
        self.assert_refused(client, seen, r"^the server's certificate expired on 20\d\d-\d\d-\d\d \d\d:\d\d UTC$")
        self.assertIn("certificate expired", seen.error)
        future = make_server(authority(), ["localhost"], time.time() + 5 * DAY)
        client, seen = self.exchange("localhost", future)
        self.assert_refused(client, seen, "^the server's certificate is not valid before 20")

    def test_station_certificate_makes_no_server(self) -> None:
        client, seen = self.exchange("CP-001", make_station(authority(), "CP-001", time.time()))
        self.assert_refused(client, seen, "the server's certificate is not made for a server")

    # --- versions

    def test_tls_1_2_is_spoken_and_nothing_older(self) -> None:
        def newest(version: ssl.TLSVersion) -> Any:
            def adjust(context: ssl.SSLContext) -> None:
                context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
                context.set_ciphers("ALL:@SECLEVEL=0")
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                    context.maximum_version = version

            return adjust

        server = make_server(authority(), ["localhost"], time.time(), is_rsa=True)
        client, seen = self.exchange("localhost", server, adjust=newest(ssl.TLSVersion.TLSv1_2))
        self.assertEqual((b"hello", "TLSv1.2"), (client.received, seen.version))
        client, seen = self.exchange("localhost", server, adjust=newest(ssl.TLSVersion.TLSv1_1))
        self.assertEqual((b"", None), (client.received, seen.version))
        self.assertEqual("the server ended TLS with the alert 'protocol version'", tls_fault(client.reasons[0]))

    # --- the client's certificate

    def asking(self, context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.root())

    def test_client_certificate_is_presented_with_its_chain(self) -> None:
        server = make_server(authority(), ["localhost"], time.time())
        station = make_station(authority(), "CP-001", time.time())
        together = self.file("together.pem", station.pem)
        apart = self.file("chain.pem", station.chain_pem), self.file("station.key", key_pem(station.key))
        for files in ((together, None), apart):
            creator = client_tls("localhost", self.root(), *files)
            client, seen = self.exchange("localhost", server, creator, self.asking)
            self.assertEqual(b"hello", client.received, seen.error)
            self.assertIn((("commonName", "CP-001"),), seen.certificate["subject"])

    def test_server_that_refuses_the_client_is_quoted(self) -> None:
        server = make_server(authority(), ["localhost"], time.time())
        client, _ = self.exchange("localhost", server, adjust=self.asking)
        self.assertEqual("the server ended TLS with the alert 'certificate required'", tls_fault(client.reasons[0]))
        foreign = self.file("foreign.pem", make_station(authority("theirs"), "CP-001", time.time()).pem)
        creator = client_tls("localhost", self.root(), foreign)
        client, _ = self.exchange("localhost", server, creator, self.asking)
        self.assertEqual("the server ended TLS with the alert 'unknown ca'", tls_fault(client.reasons[0]))

    def test_stations_share_one_context_and_keep_their_own_certificates(self) -> None:
        client = TlsClient("localhost", self.root())
        stations = [make_station(authority(), f"CP-{number}", time.time()) for number in (1, 2)]
        creators = [client.creator(self.file(f"{n}.pem", one.pem)) for n, one in enumerate(stations)]
        connections = [creator.clientConnectionForTLS(None) for creator in creators]  # type: ignore[arg-type]
        self.assertIs(connections[0].get_context(), connections[1].get_context())
        server = make_server(authority(), ["localhost"], time.time())
        for number, creator in enumerate(creators, start=1):
            _, seen = self.exchange("localhost", server, creator, self.asking)
            self.assertIn((("commonName", f"CP-{number}"),), seen.certificate["subject"])

    # --- what can't be used is named

    def test_unusable_files_and_hosts_are_named(self) -> None:
        station = make_station(authority(), "CP-001", time.time())
        good, bare = self.file("good.pem", station.pem), self.file("bare.pem", station.chain_pem)
        other = self.file("other.key", key_pem(new_key()))
        junk = self.file("junk.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        root = self.root()
        cases: tuple[tuple[tuple[Any, ...], type[OcppgwError], str], ...] = (
            (("localhost", self.folder / "no.pem"), PkiError, "no.pem does not exist"),
            (("localhost", junk), PkiError, "junk.pem holds no readable certificate"),
            (("localhost", root, self.folder / "no.pem"), PkiError, "no.pem does not exist"),
            (("localhost", root, bare), PkiError, "bare.pem holds no readable private key"),
            (
                ("localhost", root, good, other),
                PkiError,
                "other.key is not that of the first certificate in .*good.pem",
            ),
            (("a b", root), ConfigError, "'a b' is neither a host name nor an IP address"),
            (("", root), ConfigError, "'' is neither a host name"),
        )
        for arguments, kind, sentence in cases:
            with self.assertRaisesRegex(kind, sentence):
                client_tls(*arguments)

    def test_other_failures_are_no_fault_of_tls(self) -> None:
        for error in (ConnectionDone(), None, SSL.Error(), SSL.SysCallError(-1, "Unexpected EOF"), ValueError([])):
            self.assertEqual("", tls_fault(error))
        self.assertEqual("TLS failed: wrong version number", tls_fault(SSL.Error([("", "", "wrong version number")])))

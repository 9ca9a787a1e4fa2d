"""TLS between TCP and the WebSocket edge: contexts that can be swapped, and handshakes that can be explained.

Twisted's TLSMemoryBIOProtocol does the work once the handshake is over; here it begins later and ends sooner:
- OpenSSL's state (40 KiB) is made when the first bytes look like TLS, not when TCP connects: half-open connections cost
  nothing, and plain HTTP can be answered as such.
- A frame of one TLS record, the rule with chargers, is read with one call; Twisted asks twice more and gets exceptions.
- Writes aren't gathered for the next turn of the reactor (Twisted's BufferingTLSTransport): a link writes whole frames,
  one at a time, and the timer costs more than it could save.
"""

# mypy: allow-untyped-calls
# (Twisted's TLS protocol is typed in part only.)

from collections.abc import Callable, Iterable
from typing import Any, Final

from OpenSSL.SSL import (
    RECEIVED_SHUTDOWN,
    SENT_SHUTDOWN,
    VERIFY_NONE,
    Connection,
    Error,
    WantReadError,
    ZeroReturnError,
)
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ocppgw.access.refusals import Reason
from ocppgw.access.transport import TlsFacts, TlsFailure
from ocppgw.net.tls import openssl
from ocppgw.net.tls.contexts import Generation, Home, build
from ocppgw.net.tls.crl import Crls
from ocppgw.net.tls.failures import failure
from ocppgw.net.tls.handshake import First, Handshake, first_bytes
from ocppgw.net.tls.material import Material
from ocppgw.net.tls.verify import Verifier

_RECORD_HEADER = 5
_APPLICATION_DATA = 23
_MOST = 2**15
_CLOSED = SENT_SHUTDOWN | RECEIVED_SHUTDOWN
_TEXT: Final = Reason.TLS_PLAIN_HTTP.text
HTTP_ANSWER: Final = (
    f"HTTP/1.1 {Reason.TLS_PLAIN_HTTP.status} {_TEXT}\r\nContent-Type: text/plain\r\n"
    f"Content-Length: {len(_TEXT) + 1}\r\nConnection: close\r\n\r\n{_TEXT}\n"
).encode("ascii")


@implementer(IOpenSSLServerConnectionCreator)
class TlsCreator:
    """Makes the OpenSSL connections of all TLS listeners, from the newest generation of contexts.

    `kinds` are those of the listeners: none, request, require. `clock` gives seconds since the epoch.
    """

    def __init__(self, kinds: Iterable[str], clock: Callable[[], float]) -> None:
        self._kinds = frozenset(kinds)
        self._clock = clock
        self.crls = Crls()
        self.generation: Generation | None = None

    def prepare(self, material: Material) -> Generation:
        """Contexts of this material, not yet in use. Blocks: call it in a thread. Errors: TlsMaterialError."""
        return build(material, self._kinds, Verifier(lambda: self.crls, self._clock))

    def swap(self, generation: Generation) -> None:
        """From now on connections begin with these contexts; those that are there keep theirs."""
        old, self.generation = self.generation, generation
        self.crls = generation.material.crls
        if old is not None:
            old.verifier.forget()

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """(IOpenSSLServerConnectionCreator) For a protocol of a TlsFactory."""
        factory, generation = tlsProtocol.factory, self.generation
        assert isinstance(factory, TlsFactory)
        assert generation is not None, "no listener before the first swap"
        return Connection(generation.contexts[factory.kind])


class StationTls(TLSMemoryBIOProtocol):
    """One connection. To the protocol above it is the transport, with what TLS knows beside (`tls_facts`)."""

    factory: "TlsFactory"
    transport: Any
    _tlsConnection: Connection | None = None  # type: ignore[assignment]  # Twisted has one from the beginning
    _handshake: Handshake | None = None
    _in_pieces = False  # a part of a record may be waiting in OpenSSL's buffer

    # --- the handshake

    def makeConnection(self, transport: Any) -> None:
        self._appSendBuffer: list[bytes] = []
        self._handshake = Handshake()
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        if self._lostTLSConnection or self._aborted:
            return
        if self._handshakeDone:
            self._carry(data)
        elif self._tlsConnection is None:
            self._begin(data)
        else:
            self._shake(data)

    def _begin(self, data: bytes) -> None:
        """The first bytes: of TLS, or of something else."""
        handshake = self._handshake
        if handshake is None or handshake.first is not First.UNDECIDED:
            return  # refused, and closing
        data = handshake.hello + data
        handshake.first = first_bytes(data)
        if handshake.first is First.TLS:
            handshake.hello = b""
            self._tlsConnection = connection = self.factory.creator.serverConnectionForTLS(self)
            connection.set_accept_state()
            connection.set_app_data(handshake)
            self._shake(data)
        elif handshake.first is First.UNDECIDED:
            handshake.hello = data
        else:
            if handshake.first is First.HTTP:
                self.transport.write(HTTP_ANSWER)
            self.transport.loseConnection()

    def _shake(self, data: bytes) -> None:
        handshake, connection = self._handshake, self._tlsConnection
        assert handshake is not None
        assert connection is not None
        if not handshake.whole:
            handshake.received(data)
        connection.bio_write(data)
        try:
            connection.do_handshake()
        except WantReadError:
            self._flushSendBIO()
        except Error as error:
            handshake.failed(error)
            self._tlsShutdownFinished(None)
        else:
            self._handshakeDone = True
            self._after_handshake()

    def _after_handshake(self) -> None:
        """What OpenSSL has to say (TLS 1.3: session tickets), and what came right behind the handshake."""
        assert self._tlsConnection is not None
        if self._appSendBuffer:
            self._unbufferPendingWrites()
        if openssl.unread(self._tlsConnection):
            self._flushReceiveBIO()
            self._note_pieces()
        else:
            self._flushSendBIO()

    # --- what the layer above asks (and `getPeer` and the like, of the transport below)

    def tls_facts(self) -> TlsFacts:
        """Of a connection whose handshake is done."""
        connection, handshake = self._tlsConnection, self._handshake
        assert connection is not None
        home: Home = connection.get_context().get_app_data()
        asked = connection.get_verify_mode() != VERIFY_NONE
        certificate = None if handshake is None else handshake.certificate
        if certificate is None and asked:
            certificate = home.verifier.recall(connection)
        return TlsFacts(
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            server_name=(connection.get_servername() or b"").decode("ascii", "backslashreplace"),
            resumed=openssl.resumed(connection),
            asked=asked,
            certificate=certificate,
            crl_fault=None if certificate is None else home.verifier.crl_fault(certificate),
            hello=b"" if handshake is None else handshake.hello,
        )

    def tls_failure(self) -> TlsFailure | None:
        """Why the handshake did not finish; None when it did. Up to and in the `connectionLost` of the layer above."""
        handshake, connection = self._handshake, self._tlsConnection
        if self._handshakeDone or handshake is None:
            return None
        return failure(handshake, "" if connection is None else connection.get_protocol_version_name())

    def tls_slim(self) -> None:
        """After the upgrade: let go of what only the handshake needed."""
        self._handshake = None
        connection = self._tlsConnection
        if connection is not None and self._handshakeDone:
            connection.set_app_data(None)
            openssl.shrink(connection)

    # --- afterwards

    def _carry(self, data: bytes) -> None:
        """Records of an open connection; as a rule exactly one, with one frame."""
        connection = self._tlsConnection
        assert connection is not None
        size = len(data)
        connection.bio_write(data)
        if self._appSendBuffer:
            self._unbufferPendingWrites()
        one_record = data[0] == _APPLICATION_DATA and size - _RECORD_HEADER == int.from_bytes(data[3:5])
        if one_record and not self._in_pieces and self._take(size):
            return
        self._flushReceiveBIO()
        self._note_pieces()

    def _note_pieces(self) -> None:
        connection = self._tlsConnection
        self._in_pieces = connection is not None and openssl.unread(connection) > 0

    def _take(self, most: int) -> bool:
        """Hand on what one record holds. Whether there was something."""
        assert self._tlsConnection is not None
        try:
            data = self._tlsConnection.recv(most)
        except WantReadError:
            return False
        except ZeroReturnError:
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        except Error:
            self._tlsShutdownFinished(Failure())
        else:
            if not self._aborted:
                self.wrappedProtocol.dataReceived(data)
            return True
        return False

    def _flushReceiveBIO(self) -> None:
        while not self._lostTLSConnection and self._tlsConnection is not None and self._take(_MOST):
            pass
        self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        connection = self._tlsConnection
        size = 0 if connection is None else openssl.unsent(connection)
        if connection is not None and size:
            self.transport.write(connection.bio_read(size))

    def _write(self, data: bytes) -> None:
        if self._tlsConnection is not None:
            super()._write(data)
        elif not self._lostTLSConnection:
            self._bufferedWrite(data)

    # --- the end

    def _shutdownTLS(self) -> None:
        if self._handshakeDone:
            super()._shutdownTLS()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lostTLSConnection = True  # all that came was handed on: Twisted would ask OpenSSL for more
        if self._handshakeDone and self._tlsConnection is not None:
            self._tlsConnection.set_shutdown(_CLOSED)  # a lost link is no reason to give up the session
        super().connectionLost(reason)
        self._handshake = None


class TlsFactory(TLSMemoryBIOFactory):
    """A listener of one kind: none, request or require a client certificate. Wraps the edge's factory."""

    protocol = StationTls

    def __init__(self, creator: TlsCreator, kind: str, wrapped: IProtocolFactory, reactor: Any) -> None:
        super().__init__(creator, False, wrapped, reactor)
        self.creator = creator
        self.kind = kind

    def buildProtocol(self, addr: Any) -> StationTls | None:  # type: ignore[override]  # the edge may refuse
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else StationTls(self, wrapped)

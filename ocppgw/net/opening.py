"""The opening handshake of one connection (RFC 6455 section 4): Autobahn reads it, the entrance decides it.

Traps of Autobahn that are closed here (each has a test in tests/test_websocket.py):
- While onConnect's Deferred is pending, a second pipelined request would call onConnect again and change the path:
  reading is paused, what still arrives is held in bounds, and the identity comes from the decision alone.
- A peer that drops while it is being decided would get onOpen and never onClose: such a decision is dropped.
- Deny reasons go raw into the status line and can carry no headers: refusals are written here, from constants.
- Headers are split at every line end that Python knows, so a client could smuggle a header past a proxy in the value
  of another one: a request with any line end but CRLF is refused.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.wamp.types import TransportDetails
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.defer import Deferred

from ocppgw.access.admission import HandshakeFacts
from ocppgw.access.proxies import Origin
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import TlsFacts, TlsFailure
from ocppgw.net import compression
from ocppgw.net.websocket_rules import WebSocketRules
from ocppgw.routing.entrance import Welcome
from ocppgw.routing.visit import Visit

MAX_REQUEST_BYTES = 16_384  # request line and headers
MAX_HELD_BYTES = 65_536  # what may follow the request before it is decided
TLS_HANDSHAKE_RECORD = 0x16  # RFC 8446 section 5.1
_BAD_LINE_END = re.compile(rb"[\x00\x0b\x0c\x1c-\x1e\x85]|\r(?!\n)|(?<!\r)\n")
_FAULTS = {405: "the method is not GET", 505: "the HTTP version is not 1.1"}
_NO_DETAILS = TransportDetails()
_NO_SUBPROTOCOL = frozenset({Reason.NO_SUBPROTOCOL, Reason.SUBPROTOCOL_NOT_SERVED})


class VisitMaker(Protocol):
    """What is used of `ocppgw.routing.entrance.Entrance`."""

    def visit(self, peer: str, listener: str) -> Visit: ...


class OpeningFactory(Protocol):
    """What is used of the factory."""

    rules: WebSocketRules
    entrance: VisitMaker
    half_open: int
    _batched_timer: Any


class OpeningProtocol(WebSocketServerProtocol):  # type: ignore[misc]
    """A connection until it is open or refused. Transports with `tls_facts`, `tls_failure` and `tls_slim` are TLS
    (`ocppgw.net.tls`)."""

    factory: OpeningFactory
    address = ""
    websocket_extensions: list[compression.Extension]
    _visit: Visit
    _secured: Callable[[], TlsFacts] | None = None  # the TLS layer's facts, None on a plain connection
    _welcome: Welcome | None = None
    _deciding: "Deferred[Any] | None" = None
    _held = b""
    _close_at_open = False
    _half_open = False
    _begun = False  # Autobahn's part, which on TLS waits for the first decrypted bytes
    _tls_limit: Any = None  # the timer until then
    state = WebSocketServerProtocol.STATE_CONNECTING
    data = b""

    def connectionMade(self) -> None:
        """In place of Autobahn's, which collects what WAMP needs, and asks TLS about a handshake that has not begun."""
        factory = self.factory
        self._transport_details = _NO_DETAILS
        self.peer = self.address = self._peer()
        with suppress(AttributeError, OSError):  # no TCP
            self.transport.setTcpNoDelay(True)
        self._secured = getattr(self.transport, "tls_facts", None)
        kind = "plain" if self._secured is None else "TLS"
        port = getattr(self.transport.getHost(), "port", 0)
        self._visit = factory.entrance.visit(self.address, f"{kind} port {port}")
        if factory.half_open >= factory.rules.max_half_open:
            self._visit.refuse(Reason.TOO_MANY_CONNECTIONS, "too many handshakes are not finished", is_cut=True)
            self.transport.abortConnection()
            return
        self._half_open = True
        factory.half_open += 1
        if self._secured is None:
            self._begin()
        else:
            limit = factory.rules.handshake_timeout
            self._tls_limit = factory._batched_timer.call_later(limit, self._tls_timeout)

    def _begin(self) -> None:
        """Autobahn's part begins; its own class in between only prints and counts."""
        self._begun = True
        self._end_tls_limit()
        WebSocketProtocol._connectionMade(self)

    def _end_tls_limit(self) -> None:
        limit, self._tls_limit = self._tls_limit, None
        if limit is not None:
            limit.cancel()

    def connectionLost(self, reason: Any = None) -> None:
        self._opened_or_gone()
        self._visit.left()
        self._end_tls_limit()
        if self._secured is not None:
            self._gone(self.transport.tls_failure())
        if self._begun:
            WebSocketProtocol._connectionLost(self, reason)

    def _gone(self, failure: TlsFailure | None) -> None:
        if failure is not None:
            self._name_peer()
        self._visit.gone(failure)

    def peer_named(self) -> bool:
        """(net.door) The PROXY protocol named the station: its address is counted from here on, before TLS. False when
        it may not go on."""
        reason = self._visit.came_from(Origin(self._peer()))
        if reason is not None:
            self._visit.refuse(reason, is_cut=True)
            self.transport.abortConnection()
        return reason is None

    def _name_peer(self) -> None:
        """Before HTTP the PROXY protocol alone can have named another one, and only after connectionMade."""
        self._visit.address = self._peer()

    def _peer(self) -> str:
        """The peer's address; the one the PROXY protocol named, once it has."""
        return getattr(self.transport.getPeer(), "host", "") or "local"

    def _may_buffer(self, data: bytes) -> bool:
        """Before the upgrade: hold what comes after the request, refuse a request that does not end."""
        if not self._begun:
            self._begin()
        if self._deciding is not None:
            self._held += data
            if len(self._held) > MAX_HELD_BYTES:
                detail = "more than 64 KiB came before the answer to the request"
                self._visit.refuse(Reason.MALFORMED_REQUEST, detail, is_cut=True)
                self._drop()
            return False
        if not self.data and data[0] == TLS_HANDSHAKE_RECORD and self._secured is None:
            detail = "the first bytes are a TLS ClientHello"
            self._gone(TlsFailure(Reason.TLS_ON_PLAIN_PORT.code, detail, hello=data[:MAX_REQUEST_BYTES]))
            self._drop()
            return False
        if len(self.data) + len(data) > MAX_REQUEST_BYTES:
            end = (self.data + data).find(b"\r\n\r\n")
            if not 0 <= end <= MAX_REQUEST_BYTES - 4:
                self._name_peer()
                self._refuse(self._visit.refuse(Reason.MALFORMED_REQUEST, "the request is larger than 16 KiB"))
                return False
        return True

    def onConnect(self, request: Any) -> "Deferred[Any]":
        """Decide, then let Autobahn go on. The Deferred never fires for a connection that is gone or refused."""
        decided: Deferred[Any] = Deferred()
        self._deciding = decided
        self.transport.pauseProducing()
        self._name_peer()
        self.websocket_extensions = compression.honourable(self.websocket_extensions)
        if _BAD_LINE_END.search(self.http_request_data):
            detail = "a header holds a line end that is not CRLF"
            self._decided(self._visit.refuse(Reason.MALFORMED_REQUEST, detail, self.http_request_uri))
            return decided
        tls = None if self._secured is None else self._secured()
        facts = HandshakeFacts(self.http_request_uri, tuple(request.protocols), self._peer(), tls=tls)
        self._visit.decide(facts, request.headers).addCallback(self._decided)
        return decided

    def _decided(self, decision: Welcome | Refused) -> None:
        decided, self._deciding = self._deciding, None
        if self.state != self.STATE_CONNECTING or decided is None:
            return  # it went while it was being decided: no session, no ghost
        self.transport.resumeProducing()
        self.data += self._held
        self._held = b""
        self.address = self._visit.address
        if isinstance(decision, Welcome):
            self._welcome = decision
            decided.callback(decision.admitted.subprotocol or None)
        elif self.factory.rules.no_subprotocol_close and decision.reason in _NO_SUBPROTOCOL:
            self._close_at_open = True
            decided.callback(None)
        else:
            self._refuse(decision)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Autobahn found the request wanting. Its words may hold the peer's: only constants go out."""
        self._name_peer()
        line = self.data.partition(b"\r\n")[0].split()
        target = line[1].decode("latin-1") if len(line) == 3 else ""
        if code == 426 and target:
            facts = HandshakeFacts(target, (), self._peer(), is_websocket=False)
            self._visit.decide(facts, self.http_headers).addCallback(self._refuse)
        else:
            detail = _FAULTS.get(code, "it is no valid upgrade request (RFC 6455 section 4.2.1)")
            self._refuse(self._visit.refuse(Reason.MALFORMED_REQUEST, detail, target))

    def _refuse(self, refused: Welcome | Refused) -> None:
        assert isinstance(refused, Refused)
        if self.state != self.STATE_CONNECTING:
            return  # it went while it was being decided
        self.wasClean = True  # counted and logged by the entrance: nothing for Autobahn to warn about
        self.transport.write(answer(refused))
        self.dropConnection(abort=False)

    def _drop(self) -> None:
        self.wasClean = True
        self.dropConnection(abort=True)

    def _tls_timeout(self) -> None:
        """The TLS handshake does not end, or nothing comes after it."""
        self._tls_limit = None
        unfinished = self.transport.tls_failure()
        if unfinished is not None:
            self._gone(replace(unfinished, kind=Reason.TLS_TIMEOUT.code))
        else:
            self._name_peer()
            self._visit.refuse(Reason.HANDSHAKE_TIMEOUT, "nothing came after the TLS handshake", is_cut=True)
        self.transport.abortConnection()

    def onOpenHandshakeTimeout(self) -> None:
        """A request that does not end (slow-loris), or a store that does not answer."""
        self.openHandshakeTimeoutCall = None
        if self.state != self.STATE_CONNECTING:
            return
        if self._deciding is not None:
            self._refuse(self._visit.refuse(Reason.STORE_UNAVAILABLE, "the store did not answer in time"))
        else:
            self._name_peer()
            self._refuse(self._visit.refuse(Reason.HANDSHAKE_TIMEOUT))

    def _opened_or_gone(self) -> None:
        if self._half_open:
            self._half_open = False
            self.factory.half_open -= 1
            self._visit.upgraded()

    def _slim(self) -> None:
        """Let go of the request: thousands of idle connections would keep it for nothing."""
        self.http_request_data = self.http_response_data = b""
        self.http_headers: dict[str, str] = {}
        self.http_request_params: dict[str, list[str]] = {}
        self.websocket_extensions = []
        if self._secured is not None:
            self.transport.tls_slim()


def answer(refused: Refused) -> bytes:
    """The HTTP answer of a refusal (RFC 9110): constants only, whatever the peer sent."""
    body = refused.text.encode("ascii") + b"\n"
    head = [f"HTTP/1.1 {refused.status} {refused.text}"]
    head += [f"{name}: {value}" for name, value in refused.headers]
    connection = "upgrade, close" if refused.status == 426 else "close"
    head += [f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: {connection}"]
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body

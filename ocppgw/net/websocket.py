"""The WebSocket edge (RFC 6455): Autobahn, with a fast lane past its frame machine, carrying text between TCP and link.

A charger's traffic is small whole text frames. `dataReceived` looks for exactly one of those and hands its payload
straight on; everything else (split or joined frames, fragments, control frames, compression, errors) goes to Autobahn
untouched, so that RFC 6455 behaviour stays Autobahn's. Both lanes end in the same `Link.received`.

Traps of Autobahn that are closed here (each has a test in tests/test_websocket.py):
- While onConnect's Deferred is pending, a second pipelined request would call onConnect again and change the path:
  reading is paused, what still arrives is held in bounds, and the identity comes from the decision alone.
- A peer that drops while it is being decided would get onOpen and never onClose: such a decision is dropped.
- Deny reasons go raw into the status line and can carry no headers: refusals are written here, from constants.
"""

from collections.abc import Callable
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Server
from twisted.logger import Logger

from ocppgw.access.admission import HandshakeFacts
from ocppgw.access.refusals import Reason, Refused
from ocppgw.net import compression
from ocppgw.net.brake import Brake
from ocppgw.net.fast_lane import text_frame, whole_text_frame, write_now
from ocppgw.net.websocket_rules import WebSocketRules
from ocppgw.routing.entrance import Entrance, Welcome
from ocppgw.routing.links import Link

__all__ = ["SWEEPS_PER_INTERVAL", "ChargerFactory", "ChargerProtocol", "WebSocketRules"]

log = Logger(namespace="ocppgw.websocket")

MAX_REQUEST_BYTES = 16_384  # request line and headers
MAX_HELD_BYTES = 65_536  # what may follow the request before it is decided
SWEEPS_PER_INTERVAL = 10  # liveness is looked at ten times a ping interval


class Poll(Protocol):
    """What is used of `ocppgw.net.fastpoll.FastPoll`."""

    def adopt(self, transport: Any, received: Callable[[bytes], None]) -> int: ...
    def pause(self, number: int) -> None: ...
    def resume(self, number: int) -> None: ...
    def forget(self, number: int) -> None: ...


class ChargerProtocol(WebSocketServerProtocol):  # type: ignore[misc]
    """One connection of a charger: carries, decides nothing."""

    factory: "ChargerFactory"
    link: Link | None = None
    seen = 0  # the factory's turn in which the peer last sent anything
    address = ""
    websocket_extensions: list[compression.Extension]
    _welcome: Welcome | None = None
    _deciding: "Deferred[Any] | None" = None
    _held = b""
    _fast = False
    _polled = -1  # file descriptor while FastPoll reads for this connection
    _send_now: Callable[[bytes], int] | None = None
    _close_at_open = False
    _counted = False

    # --- the opening handshake

    def connectionMade(self) -> None:
        factory = self.factory
        super().connectionMade()
        peer = self.transport.getPeer()
        self.address = getattr(peer, "host", "") or "local"
        if factory.half_open >= factory.rules.max_half_open:
            factory.entrance.refuse(Reason.TOO_MANY_CONNECTIONS, self.address)
            self.wasClean = True  # counted and logged by the entrance: nothing for Autobahn to warn about
            self.dropConnection(abort=True)
            return
        self._counted = True
        factory.half_open += 1

    def dataReceived(self, data: bytes) -> None:
        self.seen = self.factory.turn
        if self._fast and self.state == self.STATE_OPEN and not self.data and self.current_frame is None:
            text = None if self.inside_message else whole_text_frame(data, self.factory.rules.max_message_bytes)
            if text is not None:
                self._text(text)
                return
        elif self.state == self.STATE_CONNECTING and not self._may_buffer(data):
            return
        self._dataReceived(data)

    def _may_buffer(self, data: bytes) -> bool:
        """Before the upgrade: hold what comes after the request, refuse a request that does not end."""
        if self._deciding is not None:
            self._held += data
            if len(self._held) > MAX_HELD_BYTES:
                self.dropConnection(abort=True)
            return False
        if len(self.data) + len(data) > MAX_REQUEST_BYTES:
            end = (self.data + data).find(b"\r\n\r\n")
            if not 0 <= end <= MAX_REQUEST_BYTES - 4:
                self._refuse(self.factory.entrance.refuse(Reason.MALFORMED_REQUEST, self.address))
                return False
        return True

    def onConnect(self, request: Any) -> "Deferred[Any]":
        """Decide, then let Autobahn go on. The Deferred never fires for a connection that is gone or refused."""
        decided: Deferred[Any] = Deferred()
        self._deciding = decided
        self.transport.pauseProducing()
        self.websocket_extensions = compression.honourable(self.websocket_extensions)
        facts = HandshakeFacts(self.http_request_uri, tuple(request.protocols), self.address)
        self.factory.entrance.decide(facts, request.headers).addCallback(self._decided)
        return decided

    def _decided(self, decision: Welcome | Refused) -> None:
        decided, self._deciding = self._deciding, None
        if self.state != self.STATE_CONNECTING or decided is None:
            return  # it went while it was being decided: no session, no ghost
        self.transport.resumeProducing()
        self.data += self._held
        self._held = b""
        if isinstance(decision, Welcome):
            self._welcome = decision
            decided.callback(decision.admitted.subprotocol)
        elif self.factory.rules.no_subprotocol_close and decision.reason in _NO_SUBPROTOCOL:
            self._close_at_open = True
            decided.callback(None)
        else:
            self._refuse(decision)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Autobahn found the request wanting. Its words may hold the peer's: only constants go out."""
        entrance = self.factory.entrance
        line = self.data.partition(b"\r\n")[0].split()
        if code == 426 and len(line) == 3:
            path = line[1].decode("latin-1")
            entrance.decide(HandshakeFacts(path, (), self.address, is_websocket=False), {}).addCallback(self._refuse)
        else:
            self._refuse(entrance.refuse(Reason.MALFORMED_REQUEST, self.address))

    def _refuse(self, refused: Welcome | Refused) -> None:
        assert isinstance(refused, Refused)
        body = refused.text.encode("ascii") + b"\n"
        head = [f"HTTP/1.1 {refused.status} {refused.text}"]
        head += [f"{name}: {value}" for name, value in refused.headers]
        connection = "upgrade, close" if refused.status == 426 else "close"
        head += [f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: {connection}"]
        self.wasClean = True  # as in connectionMade
        self.transport.write("\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body)
        self.dropConnection(abort=False)

    def onOpenHandshakeTimeout(self) -> None:
        """A request that does not end (slow-loris), or a store that does not answer."""
        self.openHandshakeTimeoutCall = None
        if self.state == self.STATE_CONNECTING:
            reason = Reason.MALFORMED_REQUEST if self._deciding is None else Reason.STORE_UNAVAILABLE
            self._refuse(self.factory.entrance.refuse(reason, self.address))

    def onOpen(self) -> None:
        self._uncount()
        rules = self.factory.rules
        if self._close_at_open or self._welcome is None:
            self.close(1002, "no common subprotocol")
            return
        compressed = self._perMessageCompress is not None
        self._fast = rules.fast_lane and not compressed
        self.maxMessagePayloadSize = rules.max_inflated_bytes if compressed else rules.max_message_bytes
        self._slim()
        self.transport.registerProducer(Brake(self), True)
        self.factory.opened(self)
        if self._fast:
            self._enter_fast_lane()
        welcome, self._welcome = self._welcome, None
        try:
            self.link = self.factory.open_link(welcome, self)
            self.link.opened()
        except Exception:  # else Autobahn's Deferred would swallow it, and the charger would wait for ever
            log.failure("a connection could not be opened", station=welcome.station.charge_point_id)
            self.close(1011, "internal error")

    def _enter_fast_lane(self) -> None:
        """Plain TCP only: what TLS has to decrypt comes through Twisted."""
        poll, transport = self.factory.poll, self.transport
        if poll is None or type(transport) is not Server or getattr(transport, "TLS", False):
            return
        self._polled = poll.adopt(transport, self.dataReceived)
        if hasattr(transport, "_tempDataBuffer"):
            self._send_now = transport.getHandle().send

    def brake(self, *, on: bool) -> None:
        if self._polled >= 0 and self.factory.poll is not None:
            (self.factory.poll.pause if on else self.factory.poll.resume)(self._polled)
        elif on:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def _slim(self) -> None:
        """Let go of the request: thousands of idle connections would keep it for nothing."""
        self.http_request_data = self.http_response_data = b""
        self.http_headers: dict[str, str] = {}
        self.http_request_params: dict[str, list[str]] = {}
        self.websocket_extensions = []

    # --- messages

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Autobahn's own lane."""
        if isBinary:
            if self.link is not None:
                self.link.received_binary()
        else:
            self._text(payload)

    def _text(self, text: bytes) -> None:
        link = self.link
        if link is None or self.state != self.STATE_OPEN:
            return  # closing: an answer could not be sent any more, so the charger will send it again
        try:
            link.received(text)
        except Exception:  # a fault of ours must cost this connection at most
            log.failure("a message could not be handled", station=link.station.charge_point_id)
            self.close(1011, "internal error")

    def send_text(self, text: bytes) -> None:
        """(routing.links.Socket)"""
        if self.state != self.STATE_OPEN:
            return
        if not self._fast:
            self.sendMessage(text, isBinary=False)
            return
        if self._send_now is None:
            self.transport.write(text_frame(text))
        else:
            write_now(self.transport, self._send_now, text_frame(text))

    def close(self, code: int, reason: str) -> None:
        """(routing.links.Socket) Send a close frame; the peer has `close_timeout` seconds to answer."""
        if self.state == self.STATE_OPEN:
            self._fast = False
            self._send_now = None
            # Not sendClose: that allows applications 1000 and 3000 to 4999 only (RFC 6455 section 7.4.2 is wider).
            self.sendCloseFrame(code=code, reasonUtf8=encode_truncate(reason, 123), isReply=False)

    # --- the end

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        link, self.link = self.link, None
        if link is None:
            return
        if self.closedByMe:
            link.closed(self.localCloseCode, (self.localCloseReason or b"").decode())
        else:
            link.closed(code, reason or "closed by the charger")

    def _closeConnection(self, abort: bool = False) -> None:
        self._leave_poll()
        super()._closeConnection(abort)

    def _leave_poll(self) -> None:
        if self._polled >= 0 and self.factory.poll is not None:
            self.factory.poll.forget(self._polled)
            self._polled = -1
            self._send_now = None

    def connectionLost(self, reason: Any = None) -> None:
        self._leave_poll()
        self._uncount()
        self.factory.lost(self)
        super().connectionLost(reason)

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self.factory.half_open -= 1

    def liveness(self, idle_turns: int) -> None:
        """Called once a turn for a silent peer: ping each interval, drop after the allowed misses."""
        rules = self.factory.rules
        if idle_turns % SWEEPS_PER_INTERVAL:
            return
        if idle_turns // SWEEPS_PER_INTERVAL > rules.ping_misses:
            self.wasNotCleanReason = f"no answer to {rules.ping_misses} pings"
            self.dropConnection(abort=True)
        elif self.state == self.STATE_OPEN:
            self.sendPing()


_NO_SUBPROTOCOL = frozenset({Reason.NO_SUBPROTOCOL, Reason.SUBPROTOCOL_NOT_SERVED})


class Clock(Protocol):
    def seconds(self) -> float: ...


class ChargerFactory(WebSocketServerFactory):  # type: ignore[misc]
    """Makes the protocols of one listener. `open_link` turns a Welcome and its socket into a Link."""

    protocol = ChargerProtocol
    noisy = False

    def __init__(
        self,
        rules: WebSocketRules,
        entrance: Entrance,
        open_link: Callable[[Welcome, ChargerProtocol], Link],
        reactor: Any,
        poll: Poll | None = None,
    ) -> None:
        super().__init__(reactor=reactor)
        self.poll = poll
        self.rules = rules
        self.entrance = entrance
        self.open_link = open_link
        self.turn = 0
        self.half_open = 0
        self._open: set[ChargerProtocol] = set()
        self.setProtocolOptions(
            webStatus=False,
            failByDrop=False,  # say why with a close frame: 1002, 1007, 1009
            openHandshakeTimeout=rules.handshake_timeout,
            closeHandshakeTimeout=rules.close_timeout,
            maxFramePayloadSize=rules.max_message_bytes,
            maxMessagePayloadSize=rules.max_message_bytes,
            perMessageCompressionAccept=compression.accept if rules.compression else None,
            utf8validateIncoming=False,  # the JSON parser checks it for both lanes, and the session closes with 1007
            autoPingInterval=0,  # liveness is counted here, because it has to see both lanes
            allowNullOrigin=True,
        )
        self.server = "ocppgw"

    def opened(self, protocol: ChargerProtocol) -> None:
        self._open.add(protocol)

    def lost(self, protocol: ChargerProtocol) -> None:
        self._open.discard(protocol)

    def sweep(self) -> None:
        """Called ten times a ping interval."""
        self.turn += 1
        turn = self.turn
        for protocol in [protocol for protocol in self._open if turn - protocol.seen >= SWEEPS_PER_INTERVAL]:
            protocol.liveness(turn - protocol.seen)

    def close_all(self, code: int, reason: str) -> None:
        for protocol in list(self._open):
            protocol.close(code, reason)

    @property
    def open_count(self) -> int:
        return len(self._open)

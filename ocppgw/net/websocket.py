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

import msgspec
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from ocppgw.access.admission import HandshakeFacts
from ocppgw.access.refusals import Reason, Refused
from ocppgw.routing.entrance import Entrance, Welcome
from ocppgw.routing.links import Link

log = Logger(namespace="ocppgw.websocket")

MAX_REQUEST_BYTES = 16_384  # request line and headers
MAX_HELD_BYTES = 65_536  # what may follow the request before it is decided
SWEEPS_PER_INTERVAL = 10  # liveness is looked at ten times a ping interval
TEXT_FIN = 0x81


class WebSocketRules(msgspec.Struct, frozen=True):
    """Bounds and timers of the listener; seconds and bytes."""

    max_message_bytes: int = 262_144
    max_inflated_bytes: int = 1_048_576
    max_half_open: int = 1000
    handshake_timeout: float = 10.0
    close_timeout: float = 3.0
    ping_interval: float = 30.0
    ping_misses: int = 2
    compression: bool = True
    fast_lane: bool = True
    no_subprotocol_close: bool = False


def whole_text_frame(data: bytes, limit: int) -> bytes | None:
    """The unmasked payload when `data` is exactly one masked, unfragmented, uncompressed text frame of at most `limit`
    bytes (RFC 6455 section 5.2); None for everything else."""
    size = len(data)
    if size < 6 or data[0] != TEXT_FIN:
        return None
    length = data[1] - 0x80  # negative without the mask bit
    if 0 <= length < 126:
        start = 6
    elif length == 126 and size >= 8:
        length = data[2] << 8 | data[3]
        if length < 126:  # not the shortest encoding: Autobahn's affair
            return None
        start = 8
    else:
        return None
    if size != start + length or length > limit:
        return None
    mask = data[start - 4 : start]
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data[start:], "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


def text_frame(text: bytes) -> bytes:
    """A server's frame: unmasked, unfragmented."""
    length = len(text)
    if length < 126:
        return b"\x81%c%b" % (length, text)
    if length < 65_536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), text)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), text)


@implementer(IPushProducer)
class _Brake:
    """A peer that does not read its answers is not read from either, so that they can't pile up here."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def pauseProducing(self) -> None:
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """Nothing to stop: the messages come from the peer."""


class ChargerProtocol(WebSocketServerProtocol):  # type: ignore[misc]
    """One connection of a charger: carries, decides nothing."""

    factory: "ChargerFactory"
    link: Link | None = None
    seen = 0  # the factory's turn in which the peer last sent anything
    address = ""
    _welcome: Welcome | None = None
    _deciding: "Deferred[Any] | None" = None
    _held = b""
    _fast = False
    _close_at_open = False
    _counted = False

    # --- the opening handshake

    def connectionMade(self) -> None:
        factory = self.factory
        super().connectionMade()
        peer = self.transport.getPeer()
        self.address = getattr(peer, "host", "") or "local"
        if factory.half_open >= factory.rules.max_half_open:
            factory.refused_half_open()
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
        if len(self.data) + len(data) > MAX_REQUEST_BYTES and b"\r\n\r\n" not in self.data + data:
            self._refuse(self.factory.entrance.refuse(Reason.MALFORMED_REQUEST, self.address))
            return False
        return True

    def onConnect(self, request: Any) -> "Deferred[Any]":
        """Decide, then let Autobahn go on. The Deferred never fires for a connection that is gone or refused."""
        decided: Deferred[Any] = Deferred()
        self._deciding = decided
        self.transport.pauseProducing()
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
        self.wasClean = True  # decided and answered: nothing for Autobahn to warn about
        self.transport.write("\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body)
        self.dropConnection(abort=False)

    def onOpen(self) -> None:
        self._uncount()
        rules = self.factory.rules
        if self._close_at_open or self._welcome is None:
            self.sendClose(1002, "no common subprotocol")
            return
        compressed = self._perMessageCompress is not None
        self._fast = rules.fast_lane and not compressed
        self.maxMessagePayloadSize = rules.max_inflated_bytes if compressed else rules.max_message_bytes
        self._slim()
        self.transport.registerProducer(_Brake(self.transport), True)
        self.factory.opened(self)
        self.link = self.factory.open_link(self._welcome, self)
        self.link.opened()
        self._welcome = None

    def _slim(self) -> None:
        """Let go of the request: thousands of idle connections would keep it for nothing."""
        self.http_request_data = self.http_response_data = b""
        self.http_headers: dict[str, str] = {}
        self.http_request_params: dict[str, list[str]] = {}
        self.websocket_extensions = ()

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
        if link is None:
            return
        try:
            link.received(text)
        except Exception:  # a fault of ours must cost this connection at most
            log.failure("a message could not be handled", station=link.station.charge_point_id)
            self.close(1011, "internal error")

    def send_text(self, text: bytes) -> None:
        """(routing.links.Socket)"""
        if self.state != self.STATE_OPEN:
            return
        if self._fast:
            self.transport.write(text_frame(text))
        else:
            self.sendMessage(text, isBinary=False)

    def close(self, code: int, reason: str) -> None:
        """(routing.links.Socket) Send a close frame; the peer has `close_timeout` seconds to answer."""
        if self.state == self.STATE_OPEN:
            self._fast = False
            # Not sendClose: that allows applications 1000 and 3000 to 4999 only (RFC 6455 section 7.4.2 is wider).
            self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:123], isReply=False)

    # --- the end

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.closed(self.localCloseCode or code, self.localCloseReason or reason or "closed by the charger")

    def connectionLost(self, reason: Any = None) -> None:
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
    ) -> None:
        super().__init__(reactor=reactor)
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
            perMessageCompressionAccept=_accept_compression if rules.compression else None,
            autoPingInterval=0,  # liveness is counted here, because it has to see both lanes
            allowNullOrigin=True,
        )
        self.server = "ocppgw"

    def opened(self, protocol: ChargerProtocol) -> None:
        self._open.add(protocol)

    def lost(self, protocol: ChargerProtocol) -> None:
        self._open.discard(protocol)

    def refused_half_open(self) -> None:
        self.entrance.refuse(Reason.TOO_MANY_CONNECTIONS, "")

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


def _accept_compression(offers: list[Any]) -> Any:
    """permessage-deflate (RFC 7692) without context takeover: a window kept per connection would cost 300 KiB each."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer,
                request_no_context_takeover=offer.accept_no_context_takeover,
                no_context_takeover=True,
            )
    return None

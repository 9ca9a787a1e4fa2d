"""The WebSocket edge (RFC 6455): Autobahn, with a fast lane past its frame machine, carrying text between TCP and link.

A charger's traffic is small whole text frames. `dataReceived` looks for exactly one of those and hands its payload
straight on; everything else (split or joined frames, fragments, control frames, compression, errors) goes to Autobahn
untouched, so that RFC 6455 behaviour stays Autobahn's. Both lanes end in the same `Link.received`.
"""

from collections.abc import Callable
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.util import encode_truncate
from twisted.internet.defer import Deferred, succeed
from twisted.internet.tcp import Server
from twisted.logger import Logger

from ocppgw.net import compression
from ocppgw.net.brake import Brake
from ocppgw.net.fast_lane import text_frame, whole_text_frame, write_now
from ocppgw.net.opening import OpeningProtocol
from ocppgw.net.websocket_rules import WebSocketRules
from ocppgw.routing.entrance import Entrance, Welcome
from ocppgw.routing.links import Link

__all__ = ["SWEEPS_PER_INTERVAL", "ChargerFactory", "ChargerProtocol", "WebSocketRules"]

log = Logger(namespace="ocppgw.websocket")

SWEEPS_PER_INTERVAL = 10  # liveness is looked at ten times a ping interval


class Poll(Protocol):
    """What is used of `ocppgw.net.fastpoll.FastPoll`."""

    def adopt(self, transport: Any, received: Callable[[bytes], None]) -> int: ...
    def pause(self, number: int) -> None: ...
    def resume(self, number: int) -> None: ...
    def forget(self, number: int) -> None: ...


class ChargerProtocol(OpeningProtocol):
    """One connection of a charger: carries, decides nothing."""

    factory: "ChargerFactory"
    link: Link | None = None
    seen = 0  # the factory's turn in which the peer last sent anything
    _fast = False
    _polled = -1  # file descriptor while FastPoll reads for this connection
    _send_now: Callable[[bytes], int] | None = None
    _probes: "tuple[Deferred[bool], ...]" = ()

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

    def onOpen(self) -> None:
        self._opened_or_gone()
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

    def probe(self, seconds: float) -> "Deferred[bool]":
        """(routing.links.Socket) One ping; anything that comes counts as an answer, as for `liveness`."""
        probed: Deferred[bool] = Deferred()
        if self.state != self.STATE_OPEN:
            return succeed(False)
        before = self.received_count()
        self._probes = (*self._probes, probed)

        def over() -> None:
            if probed in self._probes:
                self._probes = tuple(other for other in self._probes if other is not probed)
                probed.callback(self.received_count() != before)

        self.factory.reactor.callLater(seconds, over)
        self.sendPing()
        return probed

    def received_count(self) -> int:
        return 0 if self.link is None else self.link.messages

    def onPong(self, payload: bytes) -> None:
        self._settle_probes(is_alive=True)

    def _settle_probes(self, *, is_alive: bool) -> None:
        probes, self._probes = self._probes, ()
        for probed in probes:
            probed.callback(is_alive)

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
        self._settle_probes(is_alive=False)
        self.factory.lost(self)
        super().connectionLost(reason)

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


class _ExactTimer:
    """In place of Autobahn's batched timer, which rounds down to whole seconds: half a second would be none."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def call_later(self, delay: float, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self._reactor.callLater(delay, function, *args, **options)


def _configured(factory: WebSocketServerFactory) -> type[ChargerProtocol]:
    """The protocol class with the factory's options as class attributes.

    Autobahn copies its three dozen options to every connection and prints them for a debug line: 2 KiB and a tenth of a
    handshake's CPU time.
    """
    options = {name: getattr(factory, name) for name in ChargerProtocol.CONFIG_ATTRS}
    members = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
    return type("ChargerProtocol", (ChargerProtocol,), {**members, "CONFIG_ATTRS": []})


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
        self.protocol = _configured(self)
        self._batched_timer = _ExactTimer(reactor)

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

    def all_open(self) -> list[ChargerProtocol]:
        return list(self._open)

    @property
    def open_count(self) -> int:
        return len(self._open)

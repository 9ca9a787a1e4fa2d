"""The socket of one station: an Autobahn client that connects, reconnects with back-off, and performs the effects."""

import base64
import random
import urllib.parse
from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from ocppgw.net.outgoing import tls_fault
from ocppgw.simulator.effects import Disconnect, Effect, Send
from ocppgw.simulator.station import Station

BACK_OFF_MIN = 1.0  # seconds; 2.x calls these RetryBackOffWaitMinimum, RandomRange and RepeatTimes
BACK_OFF_RANDOM = 1.0
BACK_OFF_REPEATS = 6
CONNECT_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 15
CLOSE_TIMEOUT = 2
PING_INTERVAL = 60
PING_TIMEOUT = 30
MAX_MESSAGE = 1024 * 1024  # bytes


class BackOff:
    """Growing waits with jitter: 2.x part 4 section 5.3; 1.6 only asks for "some back-off"."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._repeats = 0

    def wait(self) -> float:
        factor: int = 1 << self._repeats
        self._repeats = min(self._repeats + 1, BACK_OFF_REPEATS)
        return factor * (BACK_OFF_MIN + self._rng.uniform(0.0, BACK_OFF_RANDOM))

    def reset(self) -> None:
        self._repeats = 0


class StationProtocol(WebSocketClientProtocol):  # type: ignore[misc]
    """Carries frames; every decision is the connection's."""

    connection: "StationConnection"
    tls_fault = ""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.tls_fault = tls_fault(reason.value)
        super().connectionLost(reason)

    def onOpen(self) -> None:  # noqa: N802
        self.connection.opened()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        self.connection.received(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N802, N803
        self.connection.closed(self.tls_fault or reason or "connection lost")


class StationConnection:
    """One station and its socket. `stopped` is called once, when the station has left for good or was stopped."""

    def __init__(
        self,
        station: Station,
        factory: WebSocketClientFactory,
        endpoint: IStreamClientEndpoint,
        reactor: Any,
        stopped: Callable[[], None],
    ) -> None:
        self.station = station
        self._factory = factory
        self._endpoint = endpoint
        self._reactor = reactor
        self._stopped = stopped
        self._back_off = BackOff(station.rng)
        self._protocol: StationProtocol | None = None
        self._attempt: Deferred[Any] | None = None
        self._retry: Any = None
        self._wake: Any = None
        self._opened_before = False
        self._open = False
        self._closing: Disconnect | None = None
        self._ended = False
        self._all_closed: list[Deferred[None]] = []

    @property
    def open(self) -> bool:
        return self._open

    def start(self) -> None:
        """Connect, and go on until the station leaves or `stop` is called."""
        self._retry = None
        self._attempt = self._endpoint.connect(self._factory)
        self._attempt.addCallbacks(self._reached, self._unreachable)

    def wind_down(self) -> None:
        """Let the station end its sessions and leave; without a connection it leaves at once."""
        if self._open and self._closing is None:
            self._perform(self.station.wind_down(self._reactor.seconds()))
        else:
            self.stop()

    def stop(self) -> "Deferred[None]":
        """Close the socket properly and never open it again; fires when it is closed."""
        if self._ended:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._all_closed.append(closed)
        self._closing = Disconnect(None)
        if self._attempt is not None:
            self._attempt.cancel()
        elif self._protocol is None:
            self._end()
        elif self._open:
            self._protocol.sendClose(1000, "station leaves")
        else:
            self._protocol.transport.abortConnection()
        return closed

    # From the endpoint and the protocol

    def _reached(self, protocol: StationProtocol) -> None:
        self._attempt = None
        protocol.connection = self
        self._protocol = protocol
        if self._ended or self._closing is not None:
            protocol.transport.abortConnection()

    def _unreachable(self, failure: Failure) -> None:
        self._attempt = None
        self._lost(f"can't connect: {failure.getErrorMessage()}")

    def opened(self) -> None:
        self._open = True
        self.station.statistics.reconnects += self._opened_before
        self._opened_before = True
        self._perform(self.station.connected(self._reactor.seconds()))

    def received(self, payload: bytes) -> None:
        if self._closing is None:
            self._back_off.reset()
            self._perform(self.station.received(payload, self._reactor.seconds()))

    def closed(self, reason: str) -> None:
        self._protocol = None
        self._open = False
        self._lost(reason)

    def _lost(self, reason: str) -> None:
        if self._ended:
            return
        effects = self.station.disconnected(self._reactor.seconds())
        closing, self._closing = self._closing, None
        if closing is None:
            self.station.statistics.error(self.station.station_id, reason)
            closing = Disconnect(self._back_off.wait())
        if closing.reconnect_after is None:
            self._end()
            return
        self._retry = self._reactor.callLater(closing.reconnect_after, self.start)
        self._perform(effects)

    # Effects and time

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(text):
                    if self._protocol is not None and self._open:
                        self._protocol.sendMessage(text, isBinary=False)
                case Disconnect():
                    self._disconnect(effect)
        self._plan_tick()

    def _disconnect(self, effect: Disconnect) -> None:
        if self._protocol is not None and self._open:
            self._closing = effect
            self._protocol.sendClose(
                1000, "station reboots" if effect.reconnect_after is not None else "station leaves"
            )
        elif effect.reconnect_after is None:
            self.stop()
        # Rebooting without a connection: the reconnecting that goes on already will find the station rebooted.

    def _plan_tick(self) -> None:
        at = None if self._ended else self.station.wake_at
        if self._wake is not None and self._wake.active():
            if at is not None and self._wake.getTime() == at:
                return
            self._wake.cancel()
        self._wake = None
        if at is not None:
            self._wake = self._reactor.callLater(max(0.0, at - self._reactor.seconds()), self._tick)

    def _tick(self) -> None:
        self._wake = None
        self._perform(self.station.tick(self._reactor.seconds()))

    def _end(self) -> None:
        self._ended = True
        for call in (self._retry, self._wake):
            if call is not None and call.active():
                call.cancel()
        self._stopped()
        waiting, self._all_closed = self._all_closed, []
        for closed in waiting:
            closed.callback(None)


def client_factory(
    url: str, station_id: str, subprotocol: str, *, password: str | None, compression: bool, reactor: Any
) -> WebSocketClientFactory:
    """A factory for the sockets of one station; HTTP Basic as 1.6J section 6.2.2 and 2.x A00.FR.207 ask."""
    headers = {}
    if password is not None:
        token = base64.b64encode(f"{station_id}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    factory = WebSocketClientFactory(url, protocols=[subprotocol], headers=headers, reactor=reactor)
    factory.protocol = StationProtocol
    factory.noisy = False
    factory.setProtocolOptions(
        maxMessagePayloadSize=MAX_MESSAGE,
        openHandshakeTimeout=HANDSHAKE_TIMEOUT,
        closeHandshakeTimeout=CLOSE_TIMEOUT,
        autoPingInterval=PING_INTERVAL,
        autoPingTimeout=PING_TIMEOUT,
        tcpNoDelay=True,
    )
    if compression:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()], perMessageCompressionAccept=_accept_deflate
        )
    return factory


def _accept_deflate(response: object) -> PerMessageDeflateResponseAccept | None:
    if isinstance(response, PerMessageDeflateResponse):
        return PerMessageDeflateResponseAccept(response, max_message_size=MAX_MESSAGE)
    return None


def client_endpoint(
    url: str, reactor: Any, tls: IOpenSSLClientConnectionCreator | None = None
) -> IStreamClientEndpoint:
    """TCP, and TLS over it when the URL is wss://."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (80 if tls is None else 443)
    endpoint = HostnameEndpoint(reactor, str(parts.hostname), port, timeout=CONNECT_TIMEOUT)
    return endpoint if tls is None else wrapClientTLS(tls, endpoint, reactor)

"""Before anything is read: who may connect at all, how many a second, and what a listed load balancer says first.

    TCP accept -> Door -> [PROXY protocol] -> [TLS] -> WebSocket

A refused address costs one small object and no TLS handshake. On a plain port it is told 429 or 503 once it has sent
something (an answer that comes before the request would be lost in a reset); on a TLS port it is only cut off.
The PROXY protocol (HAProxy's specification, versions 1 and 2) is expected from listed proxies and from nobody else: a
sender who may choose whether to send it could claim any address.
"""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.protocols.haproxy._exceptions import InvalidProxyHeader
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.python.failure import Failure

from ocppgw.access.addresses import parse_address
from ocppgw.access.limits import TokenBucket
from ocppgw.access.refusals import Refused

log = Logger(namespace="ocppgw.door")

MAX_TURNED_AWAY = 500  # told why; beyond it they are cut off
TURNED_AWAY_SECONDS = 5.0
MAX_V1_HEADER = 107  # bytes, with its line end


class Doorman(Protocol):
    """What is used of `ocppgw.routing.entrance.Entrance`."""

    def turned_away(self, peer: str, listener: str, *, is_cut: bool) -> Refused | None: ...


class Port(Protocol):
    """What is used of a listening port."""

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...


class Door(Factory):
    """One listener's first protocol factory; `inner` makes the protocol of an accepted connection.

    `answer` gives the bytes of a refusal, None where nothing can be said in the clear; `proxied(address)` tells whether
    a peer has to speak the PROXY protocol, and `proxy_fault(address)` is called when it does not. `accepts_per_second`
    bounds accepting; what is above it waits in the kernel's queue, refused by nobody.
    """

    noisy = False

    def __init__(
        self,
        inner: Any,
        doorman: Doorman,
        listener: str,
        reactor: Any,
        answer: Callable[[Refused], bytes] | None,
        proxied: Callable[[str], bool],
        proxy_fault: Callable[[str], None],
        accepts_per_second: int,
    ) -> None:
        self._inner = inner
        self._doorman = doorman
        self._listener = listener
        self._reactor = reactor
        self._answer = answer
        self._proxied = proxied
        self._proxy_fault = proxy_fault
        rate = accepts_per_second
        self._bucket = TokenBucket(rate, rate, reactor.seconds()) if rate else None
        self._behind_proxy = _ProxyFactory(inner, proxy_fault)
        self._behind_proxy.protocol = _ProxyProtocol
        self._paused = False
        self.turned_away = 0
        self.port: Port | None = None  # set by who listens

    def logPrefix(self) -> str:
        return self._listener

    def doStart(self) -> None:
        super().doStart()  # type: ignore[no-untyped-call]
        self._inner.doStart()

    def doStop(self) -> None:
        self._inner.doStop()
        super().doStop()  # type: ignore[no-untyped-call]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        self._pace()
        host: str = getattr(addr, "host", "") or "local"
        answer = self._answer if self.turned_away < MAX_TURNED_AWAY else None
        refused = self._doorman.turned_away(host, self._listener, is_cut=answer is None)
        if refused is not None:  # None from here: Twisted closes the socket
            return None if answer is None else _TurnedAway(self, answer(refused), self._reactor)
        if self._proxied(host):
            return self._behind_proxy.buildProtocol(addr)
        return self._inner.buildProtocol(addr)

    def _pace(self) -> None:
        """Stop accepting for as long as the rate is used up."""
        bucket, port = self._bucket, self.port
        if bucket is None:
            return
        now = self._reactor.seconds()
        bucket.take(now)
        wait = bucket.wait(now)
        if wait > 0 and port is not None and not self._paused:
            self._paused = True
            port.pauseProducing()
            self._reactor.callLater(wait, self._resume, port)

    def _resume(self, port: Port) -> None:
        self._paused = False
        port.resumeProducing()  # does nothing once the port is closed


class _TurnedAway(TwistedProtocol):
    """Waits for the first bytes, says why not, and is gone."""

    def __init__(self, door: Door, answer: bytes, reactor: Any) -> None:
        self._door = door
        self._answer = answer
        self._reactor = reactor

    def connectionMade(self) -> None:
        self._door.turned_away += 1
        self._limit = self._reactor.callLater(TURNED_AWAY_SECONDS, self.transport.abortConnection)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if self._answer:
            self.transport.write(self._answer)  # type: ignore[union-attr]
            self._answer = b""
            self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._door.turned_away -= 1
        if self._limit.active():
            self._limit.cancel()


class _ProxyProtocol(HAProxyProtocolWrapper):
    """Twisted's parser, bounded, that also takes a header which arrives in pieces, and tells when there is none."""

    factory: "_ProxyFactory"
    _head = b""
    _failed = False

    def dataReceived(self, data: bytes) -> None:
        if self._proxyInfo is not None:
            super().dataReceived(data)
            return
        if self._failed:
            return
        if self._parser is None:
            self._head += data
            if not _can_be_told(self._head):
                return
            data, self._head = self._head.replace(b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN \r\n", 1), b""
        try:
            if self._parser is None:
                self._parser = _parser(data)
            info, rest = self._parser.feed(data)
        except (InvalidProxyHeader, ValueError, KeyError):  # the latter two for what Twisted's parsers let through
            self._failed = True
            self.loseConnection()  # type: ignore[no-untyped-call]
            self.factory.fault(getattr(self.transport.getPeer(), "host", "") or "local")  # type: ignore[union-attr]
            return
        if info is None:
            return
        self._proxyInfo = info
        if _is_welcome(self.wrappedProtocol) and rest:
            self.wrappedProtocol.dataReceived(rest)


class _ProxyFactory(HAProxyWrappingFactory):
    protocol: type[HAProxyProtocolWrapper] = _ProxyProtocol
    noisy = False

    def __init__(self, inner: Any, fault: Callable[[str], None]) -> None:
        super().__init__(inner)  # type: ignore[no-untyped-call]
        self.fault = fault


def _is_welcome(protocol: Any) -> bool:
    """Ask the edge (below TLS or not) whether the station that the header named may go on."""
    edge = getattr(protocol, "wrappedProtocol", protocol)
    named: Callable[[], bool] = getattr(edge, "peer_named", lambda: True)
    return named()


def _parser(head: bytes) -> V1Parser | V2Parser:
    """The parser for a header that begins so. ValueError when it is none, or a line of version 1 that names no
    address, which Twisted's parser would take as it is."""
    if head.startswith(V2Parser.PREFIX):
        return V2Parser()
    if not head.startswith(V1Parser.PROXYSTR):
        raise ValueError("no PROXY header")
    _, kind, source = (*head.partition(b"\r\n")[0].split(b" "), b"", b"", b"")[:3]
    if kind in (b"TCP4", b"TCP6") and parse_address(source.decode("ascii", "replace")) is None:
        raise ValueError("no address")
    return V1Parser()


def _can_be_told(head: bytes) -> bool:
    """Whether Twisted's wrapper can decide on these bytes: it looks at the first ones only once, and does not know the
    short form `PROXY UNKNOWN`, which is only seen in a whole line."""
    if head.startswith(V1Parser.PROXYSTR):
        return b"\r\n" in head or len(head) > MAX_V1_HEADER
    return len(head) >= (16 if V2Parser.PREFIX.startswith(head[:12]) else 8)

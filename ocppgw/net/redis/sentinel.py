"""Which Redis is the master, asked of its Sentinels before each connect and now and then while connected.

    → SENTINEL GET-MASTER-ADDR-BY-NAME main       ← ["10.0.0.7", "6379"]

All are asked at once, each on a connection of its own and for ASK_SECONDS at most. What most of them say counts: one
that was cut off, or stood still for a while, names a master that the others have replaced. While fewer than a majority
answer, what most of those say counts.

A master that was replaced may not know it yet: it hung, or was cut off from the Sentinels but not from here, and would
take writes that are lost when it learns. So the Sentinels are asked again after each login (`check`) and every few
seconds; whoever they do not name any more is left.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as AskTimeout
from twisted.internet.error import ConnectError
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from txredisapi import ResponseError
from zope.interface import implementer

from ocppgw.clock import Clock, within
from ocppgw.net.redis.health import Trouble
from ocppgw.net.redis.replies import Reply
from ocppgw.net.redis.settings import RedisSettings
from ocppgw.net.redis.troubles import Refused, said, why_not
from ocppgw.net.redis.wire import Wire, WireFactory

ASK_SECONDS = 1.0

Address = tuple[str, int]  # host and port
EndpointTo = Callable[[str, int, bool], IStreamClientEndpoint]  # the last one: with TLS


class Unhelpful(Exception):
    """A Sentinel answered, and named no master."""


@implementer(IStreamClientEndpoint)
class MasterEndpoint:
    """(IStreamClientEndpoint) Connects to the master of the settings' Sentinels. `endpoint_to` makes endpoints."""

    def __init__(self, settings: RedisSettings, clock: Clock, endpoint_to: EndpointTo) -> None:
        self._settings, self._clock, self._endpoint_to = settings, clock, endpoint_to

    def connect(self, factory: Any) -> "Deferred[Any]":
        """Fails with Refused when no Sentinel names a master, or as the connection to the master does."""
        return Deferred.fromCoroutine(self._connect(factory))

    async def check(self, wire: Wire) -> None:
        """Refused when the Sentinels name another master than `wire` is connected to. They may be silent."""
        try:
            host, port = await self.master()
        except Refused:
            return
        if wire.place not in (None, (host, port)):
            raise Refused(Trouble("replaced", f"Redis at {_text(wire.place)} was replaced by {_text((host, port))}"))

    def master(self) -> "Deferred[Address]":
        return Poll(self._settings, self._clock, self._ask).result

    # --- inside

    async def _connect(self, factory: Any) -> Any:
        host, port = await self.master()
        protocol: Any = await self._endpoint_to(host, port, self._settings.address.tls).connect(factory)
        if isinstance(protocol, Wire):
            protocol.place = (host, port)
        return protocol

    def _ask(self, sentinel: Address) -> "Deferred[Address]":
        asked: Deferred[Address] = Deferred.fromCoroutine(self._question(*sentinel))
        return within(self._clock, ASK_SECONDS, asked)

    async def _question(self, host: str, port: int) -> Address:
        settings = self._settings
        factory = WireFactory(lambda message: None)
        wire: Any = await self._endpoint_to(host, port, settings.sentinel_tls).connect(factory)
        try:
            if settings.sentinel_password:
                await self._log_in(wire)
            return _address(await wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", settings.sentinel_master))
        finally:
            if not wire.is_lost:
                wire.transport.abortConnection()

    async def _log_in(self, wire: Wire) -> None:
        user, password = self._settings.sentinel_username, self._settings.sentinel_password
        try:
            await wire.ask("AUTH", *([user, password] if user else [password]))
        except ResponseError as error:  # its text may hold what was sent
            raise Unhelpful(why_not(str(error))) from None


class Poll:
    """`result` fires as soon as a majority names the same master, or when all have answered or failed."""

    def __init__(self, settings: RedisSettings, clock: Clock, ask: Callable[[Address], "Deferred[Address]"]) -> None:
        self._name, self._open = settings.sentinel_master, len(settings.sentinels)
        self._majority = self._open // 2 + 1
        self._votes: Counter[Address] = Counter()
        self._faults: list[str] = []
        self.result: Deferred[Address] = Deferred(lambda _: self._end())
        self._asked = [ask(sentinel).addErrback(self._failed, sentinel) for sentinel in settings.sentinels]
        for asked in self._asked:
            asked.addCallback(self._answered)

    def _failed(self, failure: Failure, sentinel: Address) -> None:
        self._faults.append(f"{_text(sentinel)}: {_reason(failure.value)}")

    def _answered(self, address: Address | None) -> None:
        self._open -= 1
        if address is not None:
            self._votes[address] += 1
        if self.result.called:
            return
        best = self._votes.most_common(1)
        if best and (best[0][1] >= self._majority or not self._open):
            self.result.callback(best[0][0])
            self._end()
        elif not self._open:
            faults = "; ".join(self._faults)[:300]
            self.result.errback(
                Refused(Trouble("sentinels", f"no Sentinel names a Redis master {self._name!r}: {faults}"))
            )

    def _end(self) -> None:
        for asked in getattr(self, "_asked", ()):
            asked.cancel()


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ResponseError | Unhelpful):
        return said(error)
    if isinstance(error, NobodyListens):
        return "nobody listens"
    if isinstance(error, AskTimeout | ConnectError):
        return "no answer"
    return type(error).__name__


def _address(reply: Reply) -> Address:
    match reply:
        case [bytes(host), bytes(port)] if port.isdigit():
            return host.decode("utf-8", "replace"), int(port)
    raise Unhelpful("it knows no such master")


def _text(address: Address | None) -> str:
    host, port = address or ("", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

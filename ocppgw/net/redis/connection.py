"""A connection to Redis that is made again whenever it is lost, and calls that never take longer than they may.

A call fails with StoreError `call_timeout` seconds after it was made at the latest. While there is no connection, calls
wait for the next one as long as the outage is shorter than that; then they fail at once, so that an outage doesn't pile
up handshakes. An answer that does not come in time ends the connection: whatever hangs, hangs for all that wait behind
it, and a new connection tells whether Redis is there.

A call that was sent and failed may have been carried out all the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from txredisapi import ConnectionError as LostConnection
from txredisapi import RedisError, ResponseError

from ocppgw.clock import Clock, within
from ocppgw.errors import Overloaded, StoreError
from ocppgw.net.redis.health import Trouble
from ocppgw.net.redis.replies import Reply
from ocppgw.net.redis.settings import RedisSettings
from ocppgw.net.redis.troubles import Refused, kind_of, said, trouble_of, why_not
from ocppgw.net.redis.wire import Pushed, Wire, WireFactory, Word

MAX_CALLS = 30_000  # that wait for an answer or a connection
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)  # between attempts to connect; the last one from then on
PING_SECONDS = 1.0
PINGS_A_CHECK = 2

Prepare = Callable[[Wire], Awaitable[None]]
Send = Callable[[Wire], "Deferred[Any]"]


class Connection:
    """`tell` hears what is wrong, and None when a connection can be used. `prepare` is done on each new connection
    before it is used, after the login. `changed` hears that a connection came or went. `random` gives 0 to 1. `took`
    hears how long Redis takes to answer a PING, in seconds; `refused` of errors that it answers with, their first word.

    An endpoint may have a coroutine `check(wire)`, which raises Refused when another Redis is to be talked to (see
    sentinel.py). Where it does, Redis must also say itself that it is a master.
    """

    def __init__(
        self,
        settings: RedisSettings,
        clock: Clock,
        endpoint: IStreamClientEndpoint,
        random: Callable[[], float],
        tell: Callable[[Trouble | None], None],
        changed: Callable[[], None],
        prepare: Prepare | None = None,
        pushed: Pushed = lambda message: None,
        took: Callable[[float], None] = lambda seconds: None,
        refused: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._settings, self._clock, self._endpoint, self._random = settings, clock, endpoint, random
        self._tell, self._changed, self._prepare = tell, changed, prepare
        self._check: Prepare | None = getattr(endpoint, "check", None)
        self._took, self._refused = took, refused
        self._factory = WireFactory(pushed)
        self.wire: Wire | None = None  # that can be used
        self._calls = 0
        self._waiting: list[Deferred[Wire]] = []
        self._down_since = clock.seconds()
        self._running: Deferred[None] | None = None
        self._is_wanted = False

    def start(self) -> None:
        self._down_since = self._clock.seconds()
        self._is_wanted = True
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def stop(self) -> None:
        """At once: what is open fails."""
        self._is_wanted = False
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(StoreError("the connection to Redis was closed"))

    def renew(self) -> None:
        """Give this connection up for a new one."""
        if self.wire is not None:
            self._drop(self.wire, None)

    def call(self, *words: Word) -> "Deferred[Reply]":
        """One command and its answer."""
        return self.perform(lambda wire: wire.ask(*words))

    def calls(self, commands: Sequence[Sequence[Word]]) -> "Deferred[list[Reply]]":
        """Several commands in one go, and their answers. Fails with the first that fails."""

        def send(wire: Wire) -> "Deferred[list[Reply]]":
            return gatherResults([wire.ask(*words) for words in commands], consumeErrors=True)

        return self.perform(send)

    def script(self, text: bytes, keys: list[str], values: list[Word]) -> "Deferred[Reply]":
        return self.perform(lambda wire: wire.script(text, keys, values))

    def perform(self, send: Send) -> "Deferred[Any]":
        if not self._is_wanted:
            return fail(StoreError("the connection to Redis is not open"))
        if self._calls >= MAX_CALLS:
            return fail(Overloaded(f"{MAX_CALLS} calls wait for Redis", hint="it is slow, or there are too many"))
        self._calls += 1
        done: Deferred[Any]
        if self.wire is not None:
            done = self._send(self.wire, send, self._settings.call_timeout)
        else:
            done = self._when_connected(send)
        return done.addBoth(self._ended)

    # --- calls

    def _ended(self, result: Any) -> Any:
        self._calls -= 1
        return result

    def _when_connected(self, send: Send) -> "Deferred[Any]":
        now, limit = self._clock.seconds(), self._settings.call_timeout
        left = self._down_since + limit - now
        if left <= 0:
            return fail(StoreError(f"Redis at {self._settings.where} can't be reached"))
        connected: Deferred[Wire] = Deferred()
        self._waiting.append(connected)
        timer = self._clock.callLater(left, self._give_up, connected)

        def go_on(wire: Wire) -> "Deferred[Any]":
            timer.cancel()
            return self._send(wire, send, now + limit - self._clock.seconds())

        def failed(failure: Failure) -> Failure:
            if timer.active():
                timer.cancel()
            return failure

        return connected.addCallbacks(go_on, failed)

    def _give_up(self, connected: "Deferred[Wire]") -> None:
        self._waiting.remove(connected)
        connected.errback(StoreError(f"Redis at {self._settings.where} can't be reached"))

    def _send(self, wire: Wire, send: Send, limit: float) -> "Deferred[Any]":
        """A Deferred of its own: whoever cancels it takes no answer from the others."""
        done: Deferred[Any] = Deferred()
        timer = self._clock.callLater(max(limit, 0.0), self._too_late, wire, done)

        def settle(result: Any) -> None:
            if timer.active():
                timer.cancel()
            if done.called:
                return
            if isinstance(result, Failure):
                done.errback(self._store_error(wire, result))
            else:
                done.callback(result)

        try:
            send(wire).addBoth(settle)
        except RedisError:
            settle(Failure())
        return done

    def _too_late(self, wire: Wire, done: "Deferred[Any]") -> None:
        if not done.called:
            done.errback(StoreError(f"Redis at {self._settings.where} did not answer in time"))
        self._drop(wire, Trouble("silent", f"Redis at {self._settings.where} does not answer"))

    def _store_error(self, wire: Wire, failure: Failure) -> Exception:
        error = failure.value
        if isinstance(error, FirstError):
            error = error.subFailure.value
        if isinstance(error, ResponseError):
            kind = kind_of(error)
            self._refused(kind)
            if kind == "READONLY":  # it became a replica: who is the primary shows on a new connection
                self._drop(wire, _replica(self._settings))
            return StoreError(f"Redis refuses: {said(error)}")
        if isinstance(error, RedisError):
            return StoreError(f"the connection to Redis at {self._settings.where} was lost")
        return error if isinstance(error, Exception) else StoreError("the call to Redis failed")

    # --- the connection

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                wire = await self._connect()
            except CancelledError:
                raise
            except Exception as error:
                if not self._is_wanted:  # endpoints have errors of their own for what was cancelled
                    return
                self._tell(trouble_of(error, self._settings.where, self._settings.address.host))
                await self._pause(attempt)
                attempt += 1
                continue
            attempt = 0
            await self._keep(wire)
            await self._pause(0)

    async def _connect(self) -> Wire:
        wire: Any = await self._endpoint.connect(self._factory)
        try:
            await self._log_in(wire)
        except LostConnection:
            raise Refused(self._closed(wire)) from None
        except BaseException:
            self._drop(wire, None)
            raise
        connected: Wire = wire
        return connected

    def _log_in(self, wire: Wire) -> "Deferred[None]":
        done: Deferred[None] = Deferred.fromCoroutine(self._introduce(wire))
        return within(self._clock, self._settings.call_timeout, done)

    async def _introduce(self, wire: Wire) -> None:
        address = self._settings.address
        if address.password:
            await self._authenticate(wire)
        if address.db:
            await wire.ask("SELECT", address.db)
        await wire.ask("PING")  # LOADING, NOAUTH and the like show here
        if self._check is not None:
            self._judge_role(await wire.ask("ROLE"))
            await self._check(wire)
        if self._prepare is not None:
            await self._prepare(wire)

    async def _authenticate(self, wire: Wire) -> None:
        address = self._settings.address
        words = (address.username, address.password) if address.username else (address.password,)
        try:
            await wire.ask("AUTH", *words)
        except ResponseError as error:  # its text is not repeated: it may hold what was sent
            name = f"user {address.username!r}" if address.username else "the default user"
            reason = f"Redis at {self._settings.where} does not let {name} in: {why_not(str(error))}"
            raise Refused(Trouble("login", reason)) from None

    def _up(self, wire: Wire) -> None:
        self.wire = wire
        self._tell(None)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(wire)
        self._changed()

    async def _keep(self, wire: Wire) -> None:
        """Until it is lost. Who does not answer a PING is taken for lost."""
        pings: Deferred[None] = Deferred.fromCoroutine(self._ping(wire))
        pings.addErrback(lambda _failure: None)
        try:
            wire.losing = self._down  # before its calls fail: who asks again at once is to wait for the next one
            self._up(wire)
            await wire.until_lost()
            if not wire.is_dropped:  # else it was told already why
                self._tell(self._closed(wire))
        finally:
            pings.cancel()
            self._drop(wire, None)

    async def _ping(self, wire: Wire) -> None:
        pings = 0
        while not wire.is_lost:
            await self._sleep(PING_SECONDS)
            answer = await self._answer_to_ping(wire)
            pings += 1
            if self._check is not None and not (wire.is_lost or wire.is_dropped):
                await self._look_after(wire, answer, pings)

    async def _answer_to_ping(self, wire: Wire) -> Reply:
        """None when it was refused (BUSY, LOADING): the next one may not be. Who is silent is dropped by then."""
        asked_at = self._clock.seconds()
        try:
            answer = await self._send(wire, self._ping_once, self._settings.call_timeout)
        except StoreError:
            return None
        self._took(self._clock.seconds() - asked_at)
        return answer

    def _ping_once(self, wire: Wire) -> "Deferred[Reply]":
        return wire.ask("PING" if self._check is None else "ROLE")

    async def _look_after(self, wire: Wire, role: Reply, pings: int) -> None:
        try:
            if role is not None:
                self._judge_role(role)
            if self._check is not None and pings % PINGS_A_CHECK == 0:
                await self._check(wire)
        except Refused as error:
            self._drop(wire, error.trouble)

    def _judge_role(self, role: Reply) -> None:
        if not isinstance(role, list) or role[:1] != [b"master"]:
            raise Refused(_replica(self._settings))

    def _down(self, wire: Wire) -> None:
        if self.wire is wire:
            self.wire = None
            self._down_since = self._clock.seconds()
            self._changed()

    def _drop(self, wire: Wire, trouble: Trouble | None) -> None:
        wire.is_dropped = True
        self._down(wire)
        if not wire.is_lost and wire.transport is not None:
            wire.transport.abortConnection()
        if trouble is not None:
            self._tell(trouble)

    def _pause(self, attempt: int) -> "Deferred[None]":
        seconds = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
        return self._sleep(seconds * (0.75 + 0.5 * self._random()))

    def _sleep(self, seconds: float) -> "Deferred[None]":
        slept: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(seconds, slept.callback, None)
        return slept

    def _closed(self, wire: Wire) -> Trouble:
        return Trouble("lost", f"the connection to Redis at {self._settings.where} was lost: {wire.why[:200]}")


def _replica(settings: RedisSettings) -> Trouble:
    return Trouble("replica", f"Redis at {settings.where} is a replica and takes no writes")

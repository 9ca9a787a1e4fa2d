"""Changes of identities and revocations, whoever made them: found, and told to those who hold stations' connections.

Redis tells of them while tracking.py has its leave and both connections. Otherwise, every SWEEP_SECONDS, what stands in
Redis is compared with what this node gave out last, for all that is of interest: the identities and certificates of
connected stations. A sweep also follows every time that tracking begins, for what happened while nobody told.

A change that comes while a station is on its way in finds no connection to judge yet. So what was given out in the last
HANDSHAKE_SECONDS is told once more when that station's connection has turned up.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.net.redis.cache import Cache
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet import Fleet
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.lookups import LookUps
from ocppgw.net.redis.records import digest
from ocppgw.net.redis.replies import Reply
from ocppgw.routing.access_listeners import AccessListeners

log = Logger(namespace="ocppgw.redis")

Interest = Callable[[], tuple[Collection[str], Collection[str]]]  # of connected stations: ids, fingerprints

SWEEP_SECONDS = 1.5
REST_SECONDS = 0.1  # at least, between two sweeps
SWEPT_AT_ONCE = 500  # keys
TOLD_AT_ONCE = 200  # then the reactor has its turn: each may make a listener look a station up
TOLD_PAUSE = 0.02
MAX_UNTOLD = 20_000  # then a sweep finds out instead
MANY_REVOCATIONS = 10  # in one go; from then on only those of connected stations are told
HANDSHAKE_SECONDS = 15.0
ECHO_SECONDS = 10.0  # within which Redis tells of a change that this node made itself


class Changes:
    def __init__(
        self,
        clock: Clock,
        calls: Connection,
        keys: Keys,
        cache: Cache,
        look_ups: LookUps,
        fleet: Fleet | None = None,
    ) -> None:
        self._clock, self._calls, self._keys, self._cache, self._look_ups = clock, calls, keys, cache, look_ups
        self._fleet = fleet
        self.listeners = AccessListeners()
        self.interest: Interest = lambda: ((), ())
        self._untold: dict[str, None] = {}
        self._is_telling = False
        self._on_their_way: dict[str, float] = {}  # keys to tell once more, until when
        self._own: dict[str, tuple[bytes, float]] = {}  # what this node wrote lately
        self._is_due = False
        self._nap: Deferred[None] | None = None
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def stop(self) -> None:
        running, self._running = self._running, None
        self._untold.clear()
        if running is not None:
            running.cancel()

    def sweep_now(self) -> None:
        self._is_due = True
        nap, self._nap = self._nap, None
        if nap is not None and not nap.called:
            nap.callback(None)

    def arriving(self, keys: Iterable[str]) -> None:
        """Somebody is let in without Redis: look again when he is there, and Redis, too."""
        self._on_their_way.update(dict.fromkeys(keys, self._clock.seconds() + HANDSHAKE_SECONDS))

    # --- this node's own

    def writing(self, key: str, raw: bytes | None) -> None:
        """This node is about to change it; Redis may tell of that before it answers."""
        self._own[key] = (digest(raw), self._clock.seconds())

    def written(self, key: str, raw: bytes | None) -> None:
        """Redis has it: tell at once, and let neither the echo nor a sweep tell again."""
        self._cache.mark(key, digest(raw), self._cache.given_out(key))
        if self._fleet is not None:
            self._fleet.seen(key)
        self._changed(key)

    def not_written(self, key: str) -> None:
        """It was not done, or nobody knows."""
        self._own.pop(key, None)
        self._look_ups.changed(key)

    # --- what Redis tells

    def invalidated(self, message: Reply) -> None:
        """A message of Redis' tracking: the changed keys, or None for all of them."""
        if not isinstance(message, list):
            self._look_ups.all_changed()
            self.sweep_now()
            return
        for key in [raw.decode("utf-8", "surrogateescape") for raw in message if isinstance(raw, bytes)]:
            self._look_ups.changed(key)
            if self._fleet is not None:
                self._fleet.seen(key)  # what is missing can't be deleted: it was written
            if key in self._own:
                self._compare_echo(key)
            else:
                self._untold[key] = None
        if len(self._untold) > MAX_UNTOLD:
            self._untold.clear()
            self.sweep_now()
        if not self._is_telling:
            self._tell_some()

    def _tell_some(self) -> None:
        batch = list(islice(self._untold, TOLD_AT_ONCE))
        for key in batch:
            del self._untold[key]
        for key in self._worth_telling(batch):
            self._changed(key)
        self._is_telling = bool(self._untold)
        if self._is_telling:
            self._clock.callLater(TOLD_PAUSE, self._tell_some)

    def _worth_telling(self, batch: list[str]) -> Iterable[str]:
        """A listener looks for a revoked certificate among all connections."""
        revocations = [key for key in batch if key.startswith(self._keys.revocations)]
        if len(revocations) <= MANY_REVOCATIONS:
            return batch
        connected = {self._keys.revocation(fingerprint) for fingerprint in self.interest()[1]}
        lately = self._clock.seconds() - HANDSHAKE_SECONDS
        return [
            key
            for key in batch
            if not key.startswith(self._keys.revocations) or key in connected or self._cache.given_out(key) > lately
        ]

    def _compare_echo(self, key: str) -> None:
        """Most likely Redis tells what this node wrote; but somebody else may have written after it. And this node may
        write again before the answer to this comes."""
        asked = self._own[key]

        def compare(raws: list[Reply]) -> None:
            own = self._own.get(key)
            if own is None or digest(raws[0]) not in (asked[0], own[0]):
                self._own.pop(key, None)
                self._changed(key)

        self._calls.call("MGET", key).addCallbacks(compare, lambda _failure: self.sweep_now())

    # --- telling

    def _changed(self, key: str) -> None:
        self._look_ups.changed(key)
        now = self._clock.seconds()
        if now - self._cache.given_out(key) < HANDSHAKE_SECONDS:
            self._on_their_way[key] = now + HANDSHAKE_SECONDS
        self._tell(key)

    def _tell(self, key: str) -> None:
        if self._fleet is not None and self._fleet.is_missing(key):
            return
        if key.startswith(self._keys.identities):
            self.listeners.identity_changed(key.removeprefix(self._keys.identities))
        elif key.startswith(self._keys.revocations):
            self.listeners.certificate_revoked(key.removeprefix(self._keys.revocations))

    def _tell_arrived(self) -> None:
        if not self._on_their_way or self._calls.wire is None:
            return
        now = self._clock.seconds()
        arrived = set(self._keys_of_interest()) & self._on_their_way.keys()
        self._on_their_way = {
            key: until for key, until in self._on_their_way.items() if key not in arrived and now < until
        }
        for key in arrived:
            self._tell(key)

    # --- sweeping

    async def _run(self) -> None:
        while True:
            started = self._clock.seconds()
            try:
                await self._turn()
            except CancelledError:
                raise
            except Exception:
                log.failure("changes of access rights can't be looked for")
            spent = self._clock.seconds() - started
            # Never without a rest: a sweep that fails at once would be made again at once, and nothing else any more.
            await self._sleep(REST_SECONDS if self._is_due else max(SWEEP_SECONDS - spent, REST_SECONDS))

    async def _turn(self) -> None:
        self._cache.forget_old()
        horizon = self._clock.seconds() - ECHO_SECONDS
        self._own = {key: own for key, own in self._own.items() if own[1] > horizon}
        self._tell_arrived()
        if self._fleet is not None and self._fleet.is_over():
            self._is_due = True
        if self._calls.wire is None:
            self._is_due = False  # the next connection brings a sweep
        elif self._is_due or not self._cache.is_tracked:
            is_due, self._is_due = self._is_due, False
            await self._sweep(is_due=is_due)

    async def _sweep(self, *, is_due: bool) -> None:
        keys = list(self._keys_of_interest())
        if is_due and self._fleet is not None:  # all may be gone, and nobody of interest
            with contextlib.suppress(OcppgwError):
                await self._fleet.verify(self._calls)
        for start in range(0, len(keys), SWEPT_AT_ONCE):
            batch = keys[start : start + SWEPT_AT_ONCE]
            try:
                raws = await self._calls.call("MGET", *batch)
                await self._verify(batch, raws)
            except OcppgwError:
                self._is_due = self._calls.wire is not None
                return
            for key, raw in zip(batch, raws, strict=True):
                self._compare(key, raw)

    async def _verify(self, keys: Sequence[str], raws: Sequence[bytes | None]) -> None:
        """What was there and is not: is it gone, or is all of Redis?"""
        if self._fleet is not None and any(
            raw is None and self._cache.marked(key) for key, raw in zip(keys, raws, strict=True)
        ):
            await self._fleet.verify(self._calls)

    def _compare(self, key: str, raw: bytes | None) -> None:
        if self._fleet is not None and raw is not None:
            self._fleet.seen(key)
        elif self._fleet is not None and self._fleet.is_missing(key):
            return
        value = digest(raw)
        is_different = self._cache.is_different(key, value)
        self._cache.mark(key, value, self._cache.given_out(key))  # now it is the youngest: strangers push out others
        if not is_different:
            self._look_ups.confirmed(key)
            return
        if raw is None and key.startswith(self._keys.revocations):
            self._look_ups.changed(key)  # not revoked, or not any more: that closes nothing
        else:
            self._changed(key)

    def _keys_of_interest(self) -> Iterator[str]:
        ids, fingerprints = self.interest()
        yield from map(self._keys.identity, ids)
        yield from map(self._keys.revocation, fingerprints)

    def _sleep(self, seconds: float) -> "Deferred[None]":
        nap: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(seconds, self._wake, nap)

        def awake(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        self._nap = nap
        return nap.addBoth(awake)

    def _wake(self, nap: "Deferred[None]") -> None:
        if not nap.called:
            nap.callback(None)

"""Looking a station up: from the cache, with others who ask the same, or in one round trip."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from ocppgw.errors import StoreError
from ocppgw.net.redis.cache import Cache
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet import Fleet, missing
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.memory import Memory
from ocppgw.net.redis.records import digest, read_identity, read_profile, read_revocation
from ocppgw.net.redis.replies import Reply
from ocppgw.net.redis.wire import Word
from ocppgw.ports import Known

MAX_TRIES = 3  # a look-up that was overtaken by a change is made again


class Flight:
    """A look-up under way, and who waits for it."""

    def __init__(self, charge_point_id: str, fingerprint: str, keys: tuple[str, ...]) -> None:
        self.charge_point_id, self.fingerprint, self.keys = charge_point_id, fingerprint, keys
        self.waiting: list[Deferred[Known]] = []
        self.is_stale = False
        self.tries = 0

    def join(self) -> "Deferred[Known]":
        """Each has a Deferred of his own: one who cancels it leaves the others theirs."""
        joined: Deferred[Known] = Deferred()
        self.waiting.append(joined)
        return joined

    def land(self, result: Known | Failure) -> None:
        waiting, self.waiting = self.waiting, []
        for joined in waiting:
            if joined.called:
                continue
            if isinstance(result, Failure):
                joined.errback(result)
            else:
                joined.callback(result)


class LookUps:
    """`memory` answers while Redis does not; `remembered` hears the keys of such an answer, `note` counts it. `fleet`
    tells what is missing from what was deleted."""

    def __init__(
        self,
        calls: Connection,
        keys: Keys,
        cache: Cache,
        memory: Memory | None = None,
        fleet: Fleet | None = None,
        note: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._calls, self._keys, self._cache = calls, keys, cache
        self._memory, self._fleet, self._note = memory or Memory(lambda: 0.0, 0.0), fleet, note
        self.remembered: Callable[[Sequence[str]], None] = lambda keys: None
        self._flights: dict[tuple[str, ...], Flight] = {}
        self._by_key: dict[str, set[Flight]] = {}

    def look_up(self, charge_point_id: str, fingerprint: str) -> "Deferred[Known]":
        identity_key = self._keys.identity(charge_point_id)
        station = self._cache.get(identity_key)
        if not fingerprint:
            if station is not None:
                identity, profile = station.value
                return succeed(Known(identity, None, profile))
            return self._share(charge_point_id, "", (identity_key,))
        revocation_key = self._keys.revocation(fingerprint)
        revocation = self._cache.get(revocation_key)
        if station is not None and revocation is not None:
            identity, profile = station.value
            return succeed(Known(identity, revocation.value, profile))
        return self._share(charge_point_id, fingerprint, (identity_key, revocation_key))

    def changed(self, key: str) -> None:
        """What is cached under it, and what is on its way, is not good any more."""
        self._memory.drop(key)
        self._outdated(key)

    def confirmed(self, key: str) -> None:
        """A sweep found what was given out last."""
        self._memory.confirm(key)

    def profile_raised(self, key: str, security_profile: int) -> None:
        """Of the station with this key. Redis may have been away."""
        self._memory.raise_profile(key, security_profile)
        self._outdated(key)

    def all_changed(self) -> None:
        self._cache.clear()
        for flight in self._flights.values():
            flight.is_stale = True

    # --- inside

    def _outdated(self, key: str) -> None:
        self._cache.drop(key)
        for flight in self._by_key.get(key, ()):
            flight.is_stale = True

    def _share(self, charge_point_id: str, fingerprint: str, keys: tuple[str, ...]) -> "Deferred[Known]":
        flight = self._flights.get(keys)
        if flight is not None:
            return flight.join()
        flight = self._flights[keys] = Flight(charge_point_id, fingerprint, keys)
        for key in keys:
            self._by_key.setdefault(key, set()).add(flight)
        joined = flight.join()
        self._ask(flight)
        return joined

    def _ask(self, flight: Flight) -> None:
        flight.tries += 1
        flight.is_stale = False
        commands: Sequence[Sequence[Word]] = (
            ("MGET", *flight.keys),
            ("HGET", self._keys.profiles, flight.charge_point_id),
        )
        self._calls.calls(commands).addCallback(self._answered, flight).addErrback(self._failed, flight)

    def _answered(self, replies: list[Reply], flight: Flight) -> "Deferred[None] | None":
        """A change that was told meanwhile may be missing in the answer: whoever is let in on it would stay in."""
        if flight.is_stale and flight.tries < MAX_TRIES:
            self._ask(flight)
            return None
        if self._fleet is None or not self._is_gone(flight.keys, replies[0]):
            self._take(replies, flight)
            return None
        verified = Deferred.fromCoroutine(self._fleet.verify(self._calls))
        return verified.addCallback(lambda _: self._take(replies, flight))

    def _is_gone(self, keys: Sequence[str], raws: Sequence[bytes | None]) -> bool:
        """Something that was there when it was last given out."""
        return any(raw is None and self._cache.marked(key) for key, raw in zip(keys, raws, strict=True))

    def _take(self, replies: list[Reply], flight: Flight) -> None:
        raws, raw_profile = replies
        self._refuse_missing(flight, raws)
        identity, profile = read_identity(raws[0]), read_profile(raw_profile)
        revocation = read_revocation(flight.fingerprint, raws[1]) if flight.fingerprint else None
        if not flight.is_stale:
            self._cache.put(flight.keys[0], (identity, profile), digest(raws[0]))
            if flight.fingerprint:
                self._cache.put(flight.keys[1], revocation, digest(raws[1]))
        known = Known(identity, revocation, profile)
        if not flight.is_stale:
            self._memory.put(flight.keys, known)
        self._land(known, flight)

    def _refuse_missing(self, flight: Flight, raws: Sequence[bytes | None]) -> None:
        if self._fleet is None:
            return
        for key, raw in zip(flight.keys, raws, strict=True):
            if raw is not None:
                self._fleet.seen(key)
            elif self._fleet.is_missing(key):
                raise missing(flight.charge_point_id)

    def _failed(self, failure: Failure, flight: Flight) -> None:
        known = self._memory.get(flight.keys) if failure.check(StoreError) else None
        if known is None:
            self._land(failure, flight)
            return
        self._note("admitted-from-cache")
        self.remembered(flight.keys)
        self._land(known, flight)

    def _land(self, result: Known | Failure, flight: Flight) -> None:
        if self._flights.get(flight.keys) is flight:
            del self._flights[flight.keys]
        for key in flight.keys:
            flights = self._by_key.get(key, set())
            flights.discard(flight)
            if not flights:
                self._by_key.pop(key, None)
        flight.land(result)

"""Who may connect, in Redis (ports.AccessStore): shared by all nodes and with whoever else writes there."""

import random as random_module
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint

from ocppgw.access.attempts import StoredAttempt
from ocppgw.errors import Overloaded, StoreError
from ocppgw.net.redis.attempts import Attempts
from ocppgw.net.redis.cache import Cache
from ocppgw.net.redis.changes import Changes, Interest
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.endpoints import TlsTo, endpoint_of
from ocppgw.net.redis.fleet import Fleet
from ocppgw.net.redis.health import Health
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.listing import Listing
from ocppgw.net.redis.lookups import LookUps
from ocppgw.net.redis.memory import Memory
from ocppgw.net.redis.records import encode, read_with_id
from ocppgw.net.redis.replies import Reply
from ocppgw.net.redis.scripts import RAISE_PROFILE, SWAP_IDENTITY
from ocppgw.net.redis.settings import RedisSettings
from ocppgw.net.redis.tracking import Tracking
from ocppgw.net.redis.wire import Word
from ocppgw.ocpp.effects import Record
from ocppgw.ports import AccessListener, AttemptQuery, Edit, IdentityPage, Known

MAX_SWAPS = 20  # tries to change an identity that other nodes change at the same time
MAX_EDITS = 100  # of one identity that wait for each other

Decide = Callable[[dict[str, Any] | None], Edit | None]
Publish = Callable[[Record], "Deferred[None]"]


class RedisAccessStore:
    """`publish_audit` fires when the event is safe. `tls` makes the TLS of a rediss:// address: for a host's name, a
    Twisted connection creator. `note` counts, by a constant name, what went wrong; `random` gives 0 to 1. Nothing
    happens before `start`.

    A change is in Redis, and told, before its audit event is published. When publishing fails, so does the call, though
    the change is made; to repeat it is harmless, and publishes the event.
    """

    def __init__(
        self,
        settings: RedisSettings,
        reactor: Any,
        publish_audit: Publish,
        tls: TlsTo | None = None,
        note: Callable[[str], None] = lambda kind: None,
        *,
        endpoint: IStreamClientEndpoint | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._settings, self._publish_audit = settings, publish_audit
        self._keys = keys = Keys(settings)
        self._health = Health(settings.where, reactor.seconds, note)
        self._cache = Cache(reactor.seconds, settings.cache_seconds)
        self._tracking = Tracking(reactor, keys, self._tracked, note)
        place = endpoint or endpoint_of(settings, reactor, tls)
        self._memory = Memory(reactor.seconds, settings.cached_admission)
        self._emptied: list[Callable[[], None]] = []
        self._fleet = Fleet(reactor, keys, self._cache.present, self._was_emptied, note)
        connect = partial(Connection, settings, reactor, place, random)
        self._calls = connect(
            self._health.tell,
            self._connections_changed,
            self._fleet.log_in,
            took=self._health.took,
            refused=self._health.refused,
        )
        self._look_ups = LookUps(self._calls, keys, self._cache, self._memory, self._fleet, note)
        self._changes = Changes(reactor, self._calls, keys, self._cache, self._look_ups, self._fleet)
        self._look_ups.remembered = self._changes.arriving
        self._listener = connect(
            lambda trouble: None,  # the other connection tells what is wrong
            self._connections_changed,
            self._tracking.subscribe,
            self._changes.invalidated,
        )
        self._attempts = Attempts(self._calls, keys, settings.attempts_kept)
        self._listing = Listing(self._calls, keys, reactor.seconds)
        self._turns: dict[str, DeferredLock] = {}

    def start(self) -> None:
        self._calls.start()
        self._listener.start()
        self._changes.start()

    def stop(self) -> None:
        """At once; calls that are open fail."""
        self._changes.stop()
        self._tracking.stop()
        self._listener.stop()
        self._calls.stop()

    def status(self) -> tuple[bool, str]:
        """Whether Redis can be used, and if not, why not."""
        return self._health.status()

    @property
    def calls(self) -> Connection:
        """For the rest of what is kept in this Redis."""
        return self._calls

    @property
    def keys(self) -> Keys:
        return self._keys

    def was_emptied(self) -> bool:
        """Redis lost what it held, and it is not all back."""
        return self._fleet.was_emptied()

    def on_emptied(self, callback: Callable[[], None]) -> None:
        """Called each time that this node finds Redis emptied: what it knows itself should be told there again."""
        self._emptied.append(callback)

    @property
    def hears_of_changes(self) -> bool:
        """Redis tells of them; else they are looked for every 1.5 seconds."""
        return self._cache.is_tracked

    def watch(self, interest: Interest) -> None:
        """`interest` gives the ids and the certificates' fingerprints of the stations that are connected here."""
        self._changes.interest = interest

    # --- ports.AccessStore

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> "Deferred[Known]":
        return self._look_ups.look_up(charge_point_id, fingerprint)

    def put_identity(self, identity: Mapping[str, Any], event: Record | None = None) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._put(identity, event))

    def edit_identity(self, charge_point_id: str, edit: Decide) -> "Deferred[Mapping[str, Any] | None]":
        lock = self._turns.setdefault(charge_point_id, DeferredLock())
        if len(lock.waiting) >= MAX_EDITS:
            return fail(Overloaded(f"{MAX_EDITS} changes of {charge_point_id} wait for Redis", hint="try again later"))
        edited: Deferred[Any] = Deferred()  # whoever cancels it does not undo what Redis has or will have
        run = lock.run(lambda: Deferred.fromCoroutine(self._edit(charge_point_id, edit)))
        run.addBoth(self._turn_over, charge_point_id, lock).addBoth(_settle, edited)
        return edited

    def identities(self, search: str = "", offset: int = 0, limit: int = 100) -> "Deferred[IdentityPage]":
        return self._listing.identities(search, offset, limit)

    def revoke_certificate(self, fingerprint: str, entry: Mapping[str, Any], event: Record) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._revoke(fingerprint, entry, event))

    def revocations(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        return self._listing.revocations()

    def remember_profile(self, charge_point_id: str, security_profile: int) -> "Deferred[None]":
        key = self._keys.identity(charge_point_id)
        cached = self._cache.get(key)
        if security_profile <= 0 or (cached is not None and cached.value[1] >= security_profile):
            return succeed(None)
        raised = self._calls.script(RAISE_PROFILE, [self._keys.profiles], [charge_point_id, security_profile])
        return raised.addBoth(self._profile_raised, key, security_profile)

    def on_access_change(self, callback: AccessListener) -> None:
        self._changes.listeners.add(callback)

    def save_attempts(self, attempts: Sequence[StoredAttempt]) -> "Deferred[None]":
        return self._attempts.save(attempts)

    def attempts(self, query: AttemptQuery) -> "Deferred[Sequence[StoredAttempt]]":
        return self._attempts.find(query)

    # --- changes

    async def _put(self, identity: Mapping[str, Any], event: Record | None) -> None:
        key, raw = self._keys.identity(identity["chargePointId"]), encode(identity)
        await self._write(key, raw)
        await self._publish(event)

    async def _edit(self, charge_point_id: str, decide: Decide) -> Mapping[str, Any] | None:
        key = self._keys.identity(charge_point_id)
        (current,) = await self._calls.call("MGET", key)
        for _ in range(MAX_SWAPS):
            before = read_with_id(charge_point_id, current)
            edit = decide(deepcopy(before))
            if edit is None:
                return before
            after = None if edit.identity is None else encode(edit.identity)
            swapped, *found = await self._swap(charge_point_id, current, after)
            if swapped:
                await self._publish(edit.event)
                return read_with_id(charge_point_id, after)
            (current,) = found
        raise StoreError(f"{charge_point_id} is changed by others all the time", hint="try again later")

    async def _swap(self, charge_point_id: str, before: bytes | None, after: bytes | None) -> list[Reply]:
        key = self._keys.identity(charge_point_id)
        values: list[Word] = [*_flagged(before), *_flagged(after), charge_point_id]
        self._changes.writing(key, after)
        try:
            answer: list[Reply] = await self._calls.script(SWAP_IDENTITY, [key, self._keys.profiles], values)
        except BaseException:
            self._changes.not_written(key)
            raise
        if answer[0]:
            self._changes.written(key, after)
        else:
            self._changes.not_written(key)
        return answer

    async def _write(self, key: str, raw: bytes, *life: Word) -> None:
        self._changes.writing(key, raw)
        try:
            await self._calls.call("SET", key, raw, *life)
        except BaseException:
            self._changes.not_written(key)
            raise
        self._changes.written(key, raw)

    async def _revoke(self, fingerprint: str, entry: Mapping[str, Any], event: Record) -> None:
        key, raw = self._keys.revocation(fingerprint), encode(entry)
        milliseconds = int(self._settings.revoked_ttl * 1000)
        life: tuple[Word, ...] = ("PX", milliseconds) if milliseconds > 0 else ()
        await self._write(key, raw, *life)
        await self._publish(event)

    async def _publish(self, event: Record | None) -> None:
        if event is not None:
            await self._publish_audit(event)

    def _turn_over(self, result: Any, charge_point_id: str, lock: DeferredLock) -> Any:
        if not lock.locked and self._turns.get(charge_point_id) is lock:
            del self._turns[charge_point_id]
        return result

    def _profile_raised(self, result: Any, key: str, security_profile: int) -> Any:
        self._look_ups.profile_raised(key, security_profile)
        return result

    def _was_emptied(self) -> None:
        for callback in self._emptied:
            callback()

    # --- connections

    def _connections_changed(self) -> None:
        self._tracking.arrange(self._calls, self._listener)

    def _tracked(self, is_tracked: bool) -> None:
        """What was cached before may have changed unheard, and so may the rights of those who are connected."""
        self._cache.is_tracked = is_tracked
        self._memory.track(on=is_tracked)
        if is_tracked:
            self._look_ups.all_changed()
            self._changes.sweep_now()


def _flagged(raw: bytes | None) -> tuple[Word, Word]:
    return ("0", b"") if raw is None else ("1", raw)


def _settle(result: Any, edited: "Deferred[Any]") -> None:
    if not edited.called:
        edited.callback(result)  # a Failure, too

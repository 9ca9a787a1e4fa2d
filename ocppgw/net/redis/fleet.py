"""Whether this Redis is still the one that it was, or was emptied: restarted without its data, or flushed.

    fleet    string  a random id, written by the node that first finds none

A node that remembers another id has lost all that others wrote there: identities, revocations, sessions. Read as it
stands, every connected station would count as deleted. So from then on a key that this node gave out before counts as
missing, not as deleted, until it is there again; who asks for it is told that Redis can't say. Deletions count again
when the first of the missing keys have been back for DELETIONS_COUNT_SECONDS: by then whoever restores them is done.

The id is read after each login, and whenever something is not there that was there before.
"""

from collections.abc import Callable, Iterable
from secrets import token_hex

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from txredisapi import ResponseError

from ocppgw.clock import Clock
from ocppgw.errors import StoreError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.replies import Reply
from ocppgw.net.redis.wire import Wire

log = Logger(namespace="ocppgw.redis")

DELETIONS_COUNT_SECONDS = 600.0


class Fleet:
    """`given_out` gives the keys whose values this node gave out; `emptied` hears, one turn of the reactor later, that
    Redis was emptied; `note` counts it."""

    def __init__(
        self,
        clock: Clock,
        keys: Keys,
        given_out: Callable[[], Iterable[str]],
        emptied: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        self._clock, self._key, self._given_out = clock, keys.fleet, given_out
        self._emptied, self._note = emptied, note
        self._marker: bytes | None = None
        self._missing: set[str] = set()
        self._restored_since: float | None = None
        self._was_refused = False

    def was_emptied(self) -> bool:
        """And not all that is missing is back, or counts as deleted."""
        return bool(self._missing)

    def is_missing(self, key: str) -> bool:
        return key in self._missing

    def seen(self, key: str) -> None:
        """It is there, or this node deleted it itself."""
        if key in self._missing:
            self._missing.discard(key)
            if self._restored_since is None:
                self._restored_since = self._clock.seconds()
                log.info("what was missing in Redis comes back; deletions count again in 10 minutes")

    def is_over(self) -> bool:
        """True once: deletions count again, and some keys are missing still."""
        since = self._restored_since
        if since is None or not self._missing or self._clock.seconds() - since < DELETIONS_COUNT_SECONDS:
            return False
        log.warn("{count} keys did not come back to Redis: they count as deleted", count=len(self._missing))
        self._missing.clear()
        return True

    async def log_in(self, wire: Wire) -> None:
        """On a new connection, before it is used."""
        try:
            await self._compare(await wire.ask("GET", self._key), wire.ask)
        except ResponseError:  # such as NOPERM, READONLY: no reason to do without Redis
            self._refused()

    async def verify(self, calls: Connection) -> None:
        """Something that was there is not. Errors: StoreError when Redis can't say whether it was emptied."""
        await self._compare(await calls.call("GET", self._key), calls.call)

    # --- inside

    async def _compare(self, marker: Reply, ask: Callable[..., "Deferred[Reply]"]) -> None:
        if marker is None:
            await ask("SET", self._key, token_hex(16), "NX")
            marker = await ask("GET", self._key)
        before, self._marker = self._marker, marker
        if before not in (None, marker):
            self._was_emptied()

    def _was_emptied(self) -> None:
        self._missing.update(self._given_out())
        self._restored_since = None
        self._note("redis-emptied")
        log.error(
            "Redis was emptied: what this fleet wrote there is gone. Connected stations stay; those that connect are "
            "refused until their identities are there again"
        )
        self._clock.callLater(0, self._emptied)

    def _refused(self) -> None:
        if not self._was_refused:
            self._was_refused = True
            self._note("redis-marker-refused")
            log.warn("Redis does not let this node read and write {key}: that it was emptied won't show", key=self._key)


def missing(charge_point_id: str) -> StoreError:
    return StoreError(
        f"Redis was emptied, and what it held of {charge_point_id} is not there again",
        hint="restore Redis' data, or put the identity again",
    )

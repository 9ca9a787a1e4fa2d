"""All keys of a family, in pieces: for people who list identities or the denylist, and for nothing else.

SCAN walks through every key of the database, whatever its family: with 50,000 identities and as many sessions that is
100 round trips of a millisecond or two. A page without a search then reads only its own identities; with a search all
of them are read, in 100 more. (Measured with 50,000 identities alone: 0.1 and 0.4 seconds, of which the reactor is held
for up to 30 ms at a time.) Only the ids are kept in memory, and the page.
"""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from ocppgw.errors import Overloaded
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import Keys, pattern
from ocppgw.net.redis.records import matches, read_revocation, read_with_id
from ocppgw.ports import IdentityPage

SCANNED_AT_ONCE = 1000
READ_AT_ONCE = 500
MAX_NAMES = 500_000


class Listing:
    def __init__(self, calls: Connection, keys: Keys) -> None:
        self._calls, self._keys = calls, keys

    def identities(self, search: str, offset: int, limit: int) -> "Deferred[IdentityPage]":
        return Deferred.fromCoroutine(self._identities(search.casefold(), offset, limit))

    def revocations(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        return Deferred.fromCoroutine(self._revocations())

    async def _identities(self, wanted: str, offset: int, limit: int) -> IdentityPage:
        names = await self._names(self._keys.identities)
        if not wanted:
            page = await self._read(names[offset : offset + limit])
            return IdentityPage(page, len(names))
        found: list[dict[str, Any]] = []
        total = 0
        for start in range(0, len(names), READ_AT_ONCE):
            for identity in await self._read(names[start : start + READ_AT_ONCE]):
                if matches(identity, wanted):
                    if offset <= total < offset + limit:
                        found.append(identity)
                    total += 1
        return IdentityPage(found, total)

    async def _read(self, names: list[str]) -> list[dict[str, Any]]:
        identities: list[dict[str, Any]] = []
        for start in range(0, len(names), READ_AT_ONCE):
            some = names[start : start + READ_AT_ONCE]
            raws = await self._calls.call("MGET", *map(self._keys.identity, some))
            found = [read_with_id(name, raw) for name, raw in zip(some, raws, strict=True)]
            identities += [identity for identity in found if identity is not None]  # else it was deleted meanwhile
        return identities

    async def _revocations(self) -> dict[str, Mapping[str, Any]]:
        names = await self._names(self._keys.revocations)
        entries: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(names), READ_AT_ONCE):
            some = names[start : start + READ_AT_ONCE]
            raws = await self._calls.call("MGET", *map(self._keys.revocation, some))
            for name, raw in zip(some, raws, strict=True):
                entry = read_revocation(name, raw)
                if entry is not None:
                    entries[name] = entry
        return entries

    async def _names(self, front: str) -> list[str]:
        """What follows `front` in the keys that begin so, sorted."""
        names: set[str] = set()  # SCAN may give a key twice
        cursor: bytes = b"0"
        while True:
            cursor, keys = await self._calls.call("SCAN", cursor, "MATCH", pattern(front), "COUNT", SCANNED_AT_ONCE)
            names.update(key.decode("utf-8", "replace").removeprefix(front) for key in keys)
            if len(names) > MAX_NAMES:
                raise Overloaded(f"there are more than {MAX_NAMES} keys {front}…", hint="list them with redis-cli")
            if cursor == b"0":
                return sorted(names)

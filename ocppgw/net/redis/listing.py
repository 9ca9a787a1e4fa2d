"""All keys of a family, in pieces: for people who list identities or the denylist, and for nothing else.

SCAN walks through every key of the database, whatever its family: with 50,000 identities and as many sessions that is
100 round trips of a millisecond or two. A page without a search then reads only its own identities; with a search all
of them are read, in 100 more. (Measured with 50,000 identities alone: 0.1 and 0.4 seconds, of which the reactor is held
for up to 30 ms at a time.) Only the ids are kept in memory, and the page.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.records import matches, read_revocation, read_with_id
from ocppgw.net.redis.scanning import READ_AT_ONCE, Family, read_family
from ocppgw.ports import IdentityPage


class Listing:
    def __init__(self, calls: Connection, keys: Keys, seconds: Callable[[], float]) -> None:
        self._calls, self._keys, self._seconds = calls, keys, seconds

    def identities(self, search: str, offset: int, limit: int) -> "Deferred[IdentityPage]":
        return Deferred.fromCoroutine(self._identities(search.casefold(), offset, limit))

    def revocations(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        return Deferred.fromCoroutine(self._revocations())

    async def _identities(self, wanted: str, offset: int, limit: int) -> IdentityPage:
        family = Family(self._calls, self._keys.identities, self._seconds)
        names = await family.names()
        if not wanted:
            return IdentityPage(await _read(family, names[offset : offset + limit]), len(names))
        found: list[dict[str, Any]] = []
        total = 0
        for start in range(0, len(names), READ_AT_ONCE):
            for identity in await _read(family, names[start : start + READ_AT_ONCE]):
                if matches(identity, wanted):
                    if offset <= total < offset + limit:
                        found.append(identity)
                    total += 1
        return IdentityPage(found, total)

    async def _revocations(self) -> dict[str, Mapping[str, Any]]:
        raws = await read_family(self._calls, self._keys.revocations, self._seconds)
        entries = {name: read_revocation(name, raw) for name, raw in raws.items()}
        return {name: entry for name, entry in entries.items() if entry is not None}


async def _read(family: Family, names: list[str]) -> list[dict[str, Any]]:
    identities = [read_with_id(name, raw) for name, raw in (await family.strings(names)).items()]
    return [identity for identity in identities if identity is not None]

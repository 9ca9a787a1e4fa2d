"""Connection attempts of all nodes, bounded so that nobody can push out what others left.

At most 2 * PER_GROUP for one station id (or, where an attempt named none, for one origin), and a number in total. What
is too much goes from the origin that has most of it, oldest first: an attacker who tries one station's id, or invents a
new one each time, mostly pushes out his own attempts. An origin is an address, for IPv6 a /64, the smallest network a
subscriber gets (RFC 6177).

The index is small enough (a few thousand members of about 150 bytes) to be read whole for a query: people make those,
now and then. A list for each mark would be quicker to read, and could be made to grow without bound by inventing marks.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from ocppgw.access.addresses import subscriber
from ocppgw.access.attempts import StoredAttempt
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.scripts import SAVE_ATTEMPTS
from ocppgw.net.redis.wire import Word
from ocppgw.ports import AttemptQuery

PER_GROUP = 20
GROUP_DIGITS = 16
HEAD = 2 * GROUP_DIGITS + 15  # group, origin, number
SAVED_AT_ONCE = 100
READ_AT_ONCE = 500
LIFE_SECONDS = 30 * 86_400  # after the last attempt of all


class Marks(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt is looked for by."""

    at: float
    charge_point_id: str
    address: str
    fingerprint: str
    common_name: str
    refused: bool


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Marks).decode


class Attempts:
    """`kept`: how many in total."""

    def __init__(self, calls: Connection, keys: Keys, kept: int) -> None:
        self._calls, self._kept = calls, kept
        self._index, self._bodies = keys.attempts, keys.attempt_bodies
        self._keys = [keys.attempts, keys.attempt_bodies, keys.attempt_counts]

    def save(self, attempts: Sequence[StoredAttempt]) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._save(attempts))

    def find(self, query: AttemptQuery) -> "Deferred[Sequence[StoredAttempt]]":
        return Deferred.fromCoroutine(self._find(query))

    async def _save(self, attempts: Sequence[StoredAttempt]) -> None:
        for start in range(0, len(attempts), SAVED_AT_ONCE):
            values: list[Word] = [self._kept, PER_GROUP, LIFE_SECONDS]
            for attempt in attempts[start : start + SAVED_AT_ONCE]:
                values += _stored(attempt)
            await self._calls.script(SAVE_ATTEMPTS, self._keys, values)

    async def _find(self, query: AttemptQuery) -> Sequence[StoredAttempt]:
        found: list[tuple[int, Marks]] = []
        newest: Word = "+inf"
        while len(found) < query.limit:
            members = await self._calls.call("ZREVRANGEBYSCORE", self._index, newest, "-inf", "LIMIT", 0, READ_AT_ONCE)
            if not members:
                break
            found += [read for read in map(_read, members) if _fits(read[1], query)]
            newest = f"({_read(members[-1])[0]}"
        return await self._with_bodies(found[: query.limit])

    async def _with_bodies(self, found: list[tuple[int, Marks]]) -> list[StoredAttempt]:
        attempts: list[StoredAttempt] = []
        for start in range(0, len(found), SAVED_AT_ONCE):
            some = found[start : start + SAVED_AT_ONCE]
            bodies = await self._calls.call("HMGET", self._bodies, *(number for number, _ in some))
            attempts += [
                _whole(marks, body)
                for (_, marks), body in zip(some, bodies, strict=True)
                if body is not None  # pushed out meanwhile
            ]
        return attempts


def _stored(attempt: StoredAttempt) -> tuple[Word, Word, Word, Word]:
    origin = _short("origin", subscriber(attempt.address))
    group = _short("station", attempt.charge_point_id) if attempt.charge_point_id else origin
    marks = Marks(
        attempt.at,
        attempt.charge_point_id,
        attempt.address,
        attempt.fingerprint,
        attempt.common_name,
        attempt.refused,
    )
    return group, origin, _encode(marks), attempt.body


def _short(kind: str, text: str) -> str:
    return blake2b(f"{kind}:{text}".encode("utf-8", "surrogatepass"), digest_size=GROUP_DIGITS // 2).hexdigest()


def _read(member: bytes) -> tuple[int, Marks]:
    return int(member[2 * GROUP_DIGITS : HEAD]), _decode(member[HEAD:])


def _whole(marks: Marks, body: bytes) -> StoredAttempt:
    return StoredAttempt(
        marks.at, marks.charge_point_id, marks.address, marks.fingerprint, marks.common_name, marks.refused, body
    )


def _fits(marks: Marks, query: AttemptQuery) -> bool:
    """Beside a station, common names and addresses find only attempts that name none: stations may share them."""
    if query.refused_only and not marks.refused:
        return False
    asked = (query.charge_point_id, *query.addresses, *query.fingerprints, *query.common_names)
    if not any(asked):
        return True
    own = query.charge_point_id
    return (
        _is_one(marks.charge_point_id, (own,))
        or _is_one(marks.fingerprint, query.fingerprints)
        or (
            (not own or not marks.charge_point_id)
            and (_is_one(marks.address, query.addresses) or _is_one(marks.common_name, query.common_names))
        )
    )


def _is_one(value: str, wanted: Iterable[Any]) -> bool:
    return bool(value) and value in wanted

"""Connection attempts, bounded so that nobody can push out what others left.

At most PER_STATION for one station id (or, where an attempt named none, for one origin), and a number in total. What is
too much goes from the origin that has most of it, oldest first: an attacker who tries one station's id, or invents a
new one each time, mostly pushes out his own attempts. An origin is an address, for IPv6 a /64, the smallest network a
subscriber gets (RFC 6177).
"""

import sqlite3
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed

from ocppgw.access.addresses import subscriber
from ocppgw.access.attempts import StoredAttempt
from ocppgw.net.embedded.database import Database
from ocppgw.ocpp.effects import Record
from ocppgw.ports import AttemptQuery

PER_STATION = 20

_COLUMNS = "at, charge_point_id, address, fingerprint, common_name, refused, body"
_INSERT = f"INSERT INTO attempts ({_COLUMNS}, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_OF_STATION = "charge_point_id = ?"
_OF_NO_STATION = "charge_point_id = '' AND origin = ?"
_ANY = "1"


class Attempts:
    """`kept`: how many in total."""

    def __init__(self, database: Database, kept: int) -> None:
        self._database = database
        self._kept = kept

    def save(self, attempts: Sequence[StoredAttempt]) -> "Deferred[None]":
        if not attempts:
            return succeed(None)

        def write(connection: sqlite3.Connection, _records: list[Record]) -> None:
            rows = [(attempt, subscriber(attempt.address)) for attempt in attempts]
            connection.executemany(_INSERT, [(*_values(attempt), origin) for attempt, origin in rows])
            for station in {attempt.charge_point_id for attempt, _ in rows if attempt.charge_point_id}:
                _trim(connection, PER_STATION, PER_STATION, _OF_STATION, station)
            for origin in {origin for attempt, origin in rows if not attempt.charge_point_id}:
                _trim(connection, PER_STATION, PER_STATION, _OF_NO_STATION, origin)
            # A little more than too much, so that a full table isn't looked through for every single attempt.
            _trim(connection, self._kept, self._kept - self._kept // 20, _ANY)

        return self._database.write(write)

    def find(self, query: AttemptQuery) -> "Deferred[Sequence[StoredAttempt]]":
        return self._database.read(lambda connection: _find(connection, query))


def _values(attempt: StoredAttempt) -> tuple[object, ...]:
    return (
        attempt.at,
        attempt.charge_point_id,
        attempt.address,
        attempt.fingerprint,
        attempt.common_name,
        attempt.refused,
        attempt.body,
    )


def _trim(connection: sqlite3.Connection, most: int, left: int, which: str, *values: str) -> None:
    """Where more than `most` fit `which`, leave `left`: those that have the fewest newer ones of their own origin."""
    count = connection.execute(f"SELECT count(*) FROM attempts WHERE {which}", values).fetchone()[0]  # noqa: S608
    if count > most:
        connection.execute(
            "DELETE FROM attempts WHERE number IN (SELECT number FROM ("  # noqa: S608  constants only
            "SELECT number, row_number() OVER (PARTITION BY origin ORDER BY number DESC) AS newer "
            f"FROM attempts WHERE {which}) ORDER BY newer DESC, number LIMIT ?)",
            (*values, count - left),
        )


def _find(connection: sqlite3.Connection, query: AttemptQuery) -> list[StoredAttempt]:
    conditions, values = _conditions(query)
    refused = "refused AND " if query.refused_only else ""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM attempts WHERE {refused}({conditions}) ORDER BY number DESC LIMIT ?",  # noqa: S608
        (*values, query.limit),
    )
    return [
        StoredAttempt(at, station, address, fingerprint, common_name, bool(refused), body)
        for at, station, address, fingerprint, common_name, refused, body in rows
    ]


def _conditions(query: AttemptQuery) -> tuple[str, list[str]]:
    """Beside a station, common names and addresses find only attempts that name none: stations may share them."""
    nobodys = " AND charge_point_id = ''" if query.charge_point_id else ""
    asked = (
        ("charge_point_id", (query.charge_point_id,), ""),
        ("fingerprint", query.fingerprints, ""),
        ("common_name", query.common_names, nobodys),
        ("address", query.addresses, nobodys),
    )
    parts: list[str] = []
    values: list[str] = []
    for column, wanted, also in asked:
        known = [value for value in wanted if value]
        if known:
            # "<> ''" because the index leaves the empty ones out, and is used only where the query does so too.
            parts.append(f"({column} <> '' AND {column} IN ({', '.join('?' * len(known))}){also})")
            values += known
    return " OR ".join(parts) or _ANY, values

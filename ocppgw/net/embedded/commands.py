"""The life of each command on disk: its record, and beside every change the event that tells of it."""

import sqlite3
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred

from ocppgw.net.embedded.database import Database
from ocppgw.ocpp.effects import Record
from ocppgw.ports import CommandRecord

MOST_WITHOUT_END = 1000  # looked at in one sweep

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CommandRecord).decode


class Commands:
    """`kept` (seconds): how long after its end. The promises of its methods are those of `ports.Store`."""

    def __init__(self, database: Database, clock: Callable[[], float], kept: float) -> None:
        self._database, self._clock, self._kept = database, clock, kept

    def open(self, record: CommandRecord, event: Record) -> "Deferred[CommandRecord | None]":
        def open_(connection: sqlite3.Connection, records: list[Record]) -> CommandRecord | None:
            existing = _find(connection, record.command_id)
            if existing is None:
                connection.execute(
                    "INSERT INTO commands (command_id, ended_at, body) VALUES (?, NULL, ?)",
                    (record.command_id, _encode(record)),
                )
                records.append(event)
            return existing

        return self._database.write(open_)

    def find(self, command_id: str) -> "Deferred[CommandRecord | None]":
        return self._database.read(lambda connection: _find(connection, command_id))

    def change(self, record: CommandRecord, event: Record) -> "Deferred[bool]":
        ended_at = self._clock() if record.outcome is not None else None

        def change(connection: sqlite3.Connection, records: list[Record]) -> bool:
            changed = connection.execute(
                "UPDATE commands SET ended_at = ?, body = ?, waiting_for = NULL "
                "WHERE command_id = ? AND ended_at IS NULL",
                (ended_at, _encode(record), record.command_id),
            )
            if changed.rowcount:
                records.append(event)
            return changed.rowcount == 1

        return self._database.write(change)

    def take(self, record: CommandRecord, held_by: str | None) -> "Deferred[bool]":
        def take(connection: sqlite3.Connection, _records: list[Record]) -> bool:
            stored = _find(connection, record.command_id)
            if stored is None or stored.outcome is not None:
                return False
            if stored.taken_by not in (None, record.taken_by, held_by):
                return False
            waits_for = record.charge_point_id if record.request is not None and record.taken_by is None else None
            connection.execute(
                "UPDATE commands SET body = ?, waiting_for = ? WHERE command_id = ?",
                (_encode(record), waits_for, record.command_id),
            )
            return True

        return self._database.write(take)

    def without_end(self) -> "Deferred[Sequence[CommandRecord]]":
        def find(connection: sqlite3.Connection) -> list[CommandRecord]:
            rows = connection.execute("SELECT body FROM commands WHERE ended_at IS NULL")
            records = sorted((_decode(body) for (body,) in rows), key=lambda record: record.deadline or 0.0)
            return records[:MOST_WITHOUT_END]

        return self._database.read(find)

    def waiting(self, charge_point_id: str) -> "Deferred[Sequence[CommandRecord]]":
        def find(connection: sqlite3.Connection) -> list[CommandRecord]:
            rows = connection.execute("SELECT body FROM commands WHERE waiting_for = ?", (charge_point_id,))
            return sorted((_decode(body) for (body,) in rows), key=lambda record: record.requested_at)

        return self._database.read(find)

    def keep(self, record: CommandRecord) -> "Deferred[None]":
        """A command that waits for its station in Redis, for when Redis loses it. No event goes with it."""

        def keep(connection: sqlite3.Connection, _records: list[Record]) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO commands (command_id, ended_at, body, waiting_for) VALUES (?, NULL, ?, ?)",
                (record.command_id, _encode(record), record.charge_point_id),
            )

        return self._database.write(keep)

    def kept(self) -> "Deferred[Sequence[CommandRecord]]":
        def find(connection: sqlite3.Connection) -> list[CommandRecord]:
            rows = connection.execute("SELECT body FROM commands WHERE waiting_for IS NOT NULL")
            return [_decode(body) for (body,) in rows]

        return self._database.read(find)

    def forget(self, command_ids: Sequence[str]) -> "Deferred[None]":
        def forget(connection: sqlite3.Connection, _records: list[Record]) -> None:
            connection.executemany("DELETE FROM commands WHERE command_id = ?", [(name,) for name in command_ids])

        return self._database.write(forget)

    def forget_ended(self, connection: sqlite3.Connection, now: float) -> None:
        connection.execute("DELETE FROM commands WHERE ended_at < ?", (now - self._kept,))


def _find(connection: sqlite3.Connection, command_id: str) -> CommandRecord | None:
    row = connection.execute("SELECT body FROM commands WHERE command_id = ?", (command_id,)).fetchone()
    return _decode(row[0]) if row else None

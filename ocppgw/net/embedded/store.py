"""The store on SQLite (ports.Store), in the same file and transactions as the journal: station state here, commands,
identities, denylist and attempts in the modules beside it.

State of stations that were seen since the start is kept in memory; `load_station` still goes through the writing
thread, so that it comes back only after everything an older connection of the station handed over is settled.

Ids: a transaction id is counted up on disk before the charger hears of it, so a crash skips ids and never repeats
one. A fresh state directory starts its transaction ids at the seconds since 2020: after the loss of a disk, ids go on
above those given before (ADR 0006).
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ocppgw.access.attempts import StoredAttempt
from ocppgw.errors import StoreError
from ocppgw.fleet_ports import Claim
from ocppgw.net.embedded.attempts import Attempts
from ocppgw.net.embedded.commands import Commands
from ocppgw.net.embedded.database import Database, unpack
from ocppgw.net.embedded.denylist import Denylist
from ocppgw.net.embedded.identities import Decide, FileEvent, Identities
from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.recovery import recover
from ocppgw.ocpp.state import StationState, Transaction, TransactionFound
from ocppgw.ports import AccessListener, AttemptQuery, CommandRecord, Edit, IdentityPage, Known, StationRow
from ocppgw.routing.access_listeners import AccessListeners

log = Logger(namespace="ocppgw.store")

MAX_TRANSACTION_ID = 2**31 - 1
SECONDS_OF_2020 = 1_577_836_800
EPOCHS_PER_START = 10**9
TAIL_RECORDS = 20_000  # newest events read at the start for repeated CALLs
TAIL_SECONDS = 600.0
RECENT_SECONDS = 86_400.0
STATES_IN_MEMORY = 100_000  # stations; beyond it the one that connected longest ago is read from disk again

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_records: Callable[[bytes], list[tuple[int, str]]] = msgspec.msgpack.Decoder(list[tuple[int, str]]).decode

_TRANSACTION = "SELECT transaction_id, key, started_at, ended_at, records FROM transactions WHERE charge_point_id = ?"


class SqliteStore:
    """`command_ttl` (seconds): how long ended commands, and ended transactions with them, are kept. `revoked_ttl`
    (seconds, 0 for ever): how long a revoked certificate is. `attempts_kept`: how many connection attempts are."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float],
        command_ttl: float,
        revoked_ttl: float = 0.0,
        attempts_kept: int = 5000,
    ) -> None:
        self._database = database
        self._clock = clock
        connection = database.connection
        self._states: dict[str, StationState] = {}
        self._listeners = AccessListeners()
        self._identities = Identities(database, self._listeners)
        self._denylist = Denylist(database, self._listeners, clock, revoked_ttl)
        self._attempts = Attempts(database, attempts_kept)
        self._commands = Commands(database, clock, command_ttl)
        try:
            self._epoch = _count_start(connection) * EPOCHS_PER_START
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"the state can't be written: {error}", hint="is another program holding the file?"
            ) from None
        self._read_tail(connection)

    # --- who may connect

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> "Deferred[Known]":
        kept = self._identities.get(charge_point_id)
        return succeed(Known(kept.identity, self._denylist.find(fingerprint), kept.profile))

    def put_identity(self, identity: Mapping[str, Any], event: Record | None = None) -> "Deferred[None]":
        stored = self._identities.edit(identity["chargePointId"], lambda _current: Edit(identity, event))
        return stored.addCallback(lambda _stored: None)

    def edit_identity(self, charge_point_id: str, edit: Decide) -> "Deferred[Mapping[str, Any] | None]":
        return self._identities.edit(charge_point_id, edit)

    def identities(self, search: str = "", offset: int = 0, limit: int = 100) -> "Deferred[IdentityPage]":
        return self._identities.page(search, offset, limit)

    def sync_files(
        self, files: Mapping[str, tuple[Mapping[str, Any], str]], event: FileEvent
    ) -> "Deferred[tuple[int, int]]":
        """Follow the identity files: `files` maps each station id to its identity and a digest of it.

        A file is taken when it is new or its digest has changed since it was taken last: what was changed or deleted
        by other means meanwhile stays so until then. The identity of a file that is gone is deleted. Fires with how
        many identities were changed, and how many deleted.
        """
        return self._identities.sync_files(files, event)

    def remember_profile(self, charge_point_id: str, security_profile: int) -> "Deferred[None]":
        return self._identities.remember_profile(charge_point_id, security_profile)

    def revoke_certificate(self, fingerprint: str, entry: Mapping[str, Any], event: Record) -> "Deferred[None]":
        return self._denylist.add(fingerprint, entry, event)

    def revocations(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        return succeed(self._denylist.all())

    def on_access_change(self, callback: AccessListener) -> None:
        self._listeners.add(callback)

    def save_attempts(self, attempts: Sequence[StoredAttempt]) -> "Deferred[None]":
        return self._attempts.save(attempts)

    def attempts(self, query: AttemptQuery) -> "Deferred[Sequence[StoredAttempt]]":
        return self._attempts.find(query)

    # --- stations

    def claim(self, charge_point_id: str) -> "Deferred[Claim]":
        self._epoch += 1
        return succeed(Claim(charge_point_id, self._epoch))

    def load_station(self, charge_point_id: str) -> "Deferred[StationState]":
        known = self._states.get(charge_point_id)
        if known is not None and known.loaded:
            return self._database.read(lambda _connection: known)

        def load(connection: sqlite3.Connection) -> StationState:
            return _load(connection, charge_point_id, known or StationState())

        return self._database.read(load).addCallback(self._remember, charge_point_id)

    def find_transaction(self, charge_point_id: str, key: str, transaction_id: str) -> "Deferred[TransactionFound]":
        if not key:
            return self._database.read(
                lambda connection: TransactionFound(_by_id(connection, charge_point_id, transaction_id))
            )

        def find(connection: sqlite3.Connection, _records: list[Record]) -> TransactionFound:
            row = connection.execute(f"{_TRANSACTION} AND key = ? AND key <> ''", (charge_point_id, key)).fetchone()
            return TransactionFound(_transaction(row), 0) if row else TransactionFound(None, _fresh_id(connection))

        return self._database.write(find)

    def transaction(self, charge_point_id: str, transaction_id: str) -> "Deferred[Transaction | None]":
        return self._database.read(lambda connection: _by_id(connection, charge_point_id, transaction_id))

    def highest_transaction_id(self) -> int:
        """Before the database is started: 0 when none was given here."""
        row = self._database.connection.execute("SELECT value FROM meta WHERE name = 'transaction_ids'").fetchone()
        return row[0] if row else 0

    def raise_transaction_id(self, number: int) -> "Deferred[None]":
        """Ids up to `number` were given elsewhere."""

        def raise_(connection: sqlite3.Connection, _records: list[Record]) -> None:
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('transaction_ids', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (number,),
            )

        return self._database.write(raise_)

    def recent_transactions(self) -> "Deferred[Sequence[tuple[str, Transaction]]]":
        """Those that are open, and those that ended within RECENT_SECONDS, of all stations."""

        def find(connection: sqlite3.Connection) -> list[tuple[str, Transaction]]:
            rows = connection.execute(
                "SELECT charge_point_id, transaction_id, key, started_at, ended_at, records FROM transactions "
                "WHERE ended_at IS NULL OR ended_at > ?",
                (self._clock() - RECENT_SECONDS,),
            )
            return [(name, _transaction(tuple(row))) for name, *row in rows]

        return self._database.read(find)

    def known_stations(self) -> "Deferred[Sequence[StationRow]]":
        return self._database.read(_stations).addCallback(self._with_identities)

    def known_station(self, charge_point_id: str) -> "Deferred[StationRow | None]":
        def find(connection: sqlite3.Connection) -> dict[str, StationRow]:
            return _stations(connection, charge_point_id)

        def one(rows: dict[str, StationRow]) -> StationRow | None:
            identity = self._identities.get(charge_point_id).identity
            row = rows.get(charge_point_id)
            return row if identity is None else _with_identity(row, identity)

        return self._database.read(find).addCallback(one)

    # --- commands

    def open_command(self, record: CommandRecord, event: Record) -> "Deferred[CommandRecord | None]":
        return self._commands.open(record, event)

    def command(self, command_id: str) -> "Deferred[CommandRecord | None]":
        return self._commands.find(command_id)

    def change_command(self, record: CommandRecord, event: Record) -> "Deferred[bool]":
        return self._commands.change(record, event)

    def take_command(self, record: CommandRecord, held_by: str | None = None) -> "Deferred[bool]":
        return self._commands.take(record, held_by)

    def open_commands(self) -> "Deferred[Sequence[CommandRecord]]":
        return self._commands.without_end()

    def waiting_commands(self, charge_point_id: str) -> "Deferred[Sequence[CommandRecord]]":
        return self._commands.waiting(charge_point_id)

    def fleet_files(self) -> "Deferred[frozenset[str]]":
        """(net.redis.identity_files.Disk)"""
        rows = "SELECT charge_point_id FROM fleet_files"
        return self._database.read(lambda connection: frozenset(name for (name,) in connection.execute(rows)))

    def set_fleet_files(self, names: Iterable[str]) -> "Deferred[None]":
        def put(connection: sqlite3.Connection, _records: list[Record]) -> None:
            connection.execute("DELETE FROM fleet_files")
            connection.executemany("INSERT INTO fleet_files VALUES (?)", [(name,) for name in names])

        return self._database.write(put)

    def keep_command(self, record: CommandRecord) -> "Deferred[None]":
        """(net.redis.kept_commands.Disk)"""
        return self._commands.keep(record)

    def kept_commands(self) -> "Deferred[Sequence[CommandRecord]]":
        return self._commands.kept()

    def forget_commands(self, command_ids: Sequence[str]) -> "Deferred[None]":
        return self._commands.forget(command_ids)

    def publish_unpublished(self) -> "Deferred[int]":
        """An end and its event are one transaction here."""
        return succeed(0)

    def tend(self, transactions_kept: float) -> "Deferred[None]":
        """Called every minute: forget ended commands, transactions that ended `transactions_kept` s ago, and
        revocations whose time is over."""
        now = self._clock()

        def forget(connection: sqlite3.Connection, _records: list[Record]) -> None:
            self._commands.forget_ended(connection, now)
            connection.execute("DELETE FROM transactions WHERE ended_at < ?", (now - transactions_kept,))
            self._denylist.forget_expired(connection, now)

        return self._database.write(forget).addCallback(lambda _: self._denylist.forgotten(now))

    # --- inside

    def _remember(self, state: StationState, charge_point_id: str) -> StationState:
        # Two handshakes of one station may load it at the same time: the first one's object is the one all share.
        state = self._states.setdefault(charge_point_id, state)
        state.loaded = True
        if len(self._states) > STATES_IN_MEMORY:
            del self._states[next(iter(self._states))]
        return state

    def _with_identities(self, rows: dict[str, StationRow]) -> list[StationRow]:
        for identity in self._identities.all():
            name = identity["chargePointId"]
            rows[name] = _with_identity(rows.get(name), identity)
        return list(rows.values())

    def _read_tail(self, connection: sqlite3.Connection) -> None:
        oldest = time.time() - TAIL_SECONDS
        rows: list[tuple[float, list[list[Any]]]] = []
        count = 0
        for at, body in connection.execute("SELECT at, body FROM journal WHERE at >= ? ORDER BY last DESC", (oldest,)):
            records = unpack(body)
            rows.append((at, records))
            count += len(records)
            if count >= TAIL_RECORDS:
                break
        for at, records in reversed(rows):
            for _topic, _key, value in records:
                event = _decode_object(value)
                name = event.get("chargePointId")
                if name and "correlationId" not in event:
                    recover(self._states.setdefault(name, StationState()), event, at)


def _count_start(connection: sqlite3.Connection) -> int:
    connection.execute(
        "INSERT INTO meta (name, value) VALUES ('starts', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
    )
    starts: int = connection.execute("SELECT value FROM meta WHERE name = 'starts'").fetchone()[0]
    return starts


def _load(connection: sqlite3.Connection, charge_point_id: str, state: StationState) -> StationState:
    """`state` may hold what the journal's tail told already."""
    row = connection.execute(
        "SELECT boot_status, boot FROM stations WHERE charge_point_id = ?", (charge_point_id,)
    ).fetchone()
    if row:
        state.boot_status, state.boot = row
    rows = connection.execute(f"{_TRANSACTION} AND ended_at IS NULL ORDER BY started_at", (charge_point_id,))
    for transaction in map(_transaction, rows.fetchall()):
        newer = state.transactions.get(transaction.transaction_id)
        if newer is not None:
            transaction.records.update(newer.records)
        state.remember_transaction(transaction)
    for name in [name for name, kept in state.transactions.items() if kept.started_at is None]:
        stored = _by_id(connection, charge_point_id, name)  # known to the tail, ended or orphaned on disk
        if stored is not None:
            stored.records.update(state.transactions[name].records)
            state.transactions[name] = stored
    return state


def _fresh_id(connection: sqlite3.Connection) -> int:
    connection.execute(
        "INSERT INTO meta (name, value) VALUES ('transaction_ids', ?) "
        "ON CONFLICT (name) DO UPDATE SET value = value + 1",
        (max(1, int(time.time()) - SECONDS_OF_2020),),
    )
    fresh: int = connection.execute("SELECT value FROM meta WHERE name = 'transaction_ids'").fetchone()[0]
    if fresh > MAX_TRANSACTION_ID:
        raise StoreError("transaction ids are used up", hint="2^31 of them were given")
    return fresh


def _by_id(connection: sqlite3.Connection, charge_point_id: str, transaction_id: str) -> Transaction | None:
    row = connection.execute(f"{_TRANSACTION} AND transaction_id = ?", (charge_point_id, transaction_id)).fetchone()
    return _transaction(row) if row else None


def _transaction(row: tuple[Any, ...]) -> Transaction:
    name, key, started_at, ended_at, records = row
    return Transaction(name, key, started_at, ended_at, dict(_decode_records(records)))


def _stations(connection: sqlite3.Connection, charge_point_id: str | None = None) -> dict[str, StationRow]:
    """Rows of one station, or of all."""
    rows = connection.execute(
        "SELECT charge_point_id, station_id, tenant_id, version, boot_status, boot FROM stations "
        "WHERE ?1 IS NULL OR charge_point_id = ?1",
        (charge_point_id,),
    )
    found = {
        name: StationRow(name, station, tenant, version, status, _decode_object(boot))
        for name, station, tenant, version, status, boot in rows
    }
    running = connection.execute(
        "SELECT charge_point_id, transaction_id, started_at FROM transactions "
        "WHERE ended_at IS NULL AND started_at IS NOT NULL AND (?1 IS NULL OR charge_point_id = ?1)",
        (charge_point_id,),
    )
    for name, transaction_id, started_at in running:
        if name in found:
            found[name].open_transactions[transaction_id] = started_at
    return found


def _with_identity(row: StationRow | None, identity: Mapping[str, Any]) -> StationRow:
    row = row or StationRow(identity["chargePointId"], "", "")
    return msgspec.structs.replace(row, station_id=identity["stationId"], tenant_id=identity["tenantId"])

"""The store of a fleet (ports.Store): identities, stations, transactions and commands in Redis, for all nodes.

Events are not in Redis: what a change wants published is made durable by this node's journal, through `publish`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.errors import OcppgwError, StoreError
from ocppgw.net.redis.commands import Commands
from ocppgw.net.redis.fleet_keys import FleetKeys, reply_keys
from ocppgw.net.redis.identity_files import Disk as FileDisk
from ocppgw.net.redis.identity_files import FileEvent, IdentityFiles
from ocppgw.net.redis.kept_commands import Disk as CommandDisk
from ocppgw.net.redis.kept_commands import KeptCommands
from ocppgw.net.redis.scanning import read_hashes
from ocppgw.net.redis.settings import RedisSettings
from ocppgw.net.redis.stations import Body, Carrier, Stations, read_body
from ocppgw.net.redis.store import RedisAccessStore
from ocppgw.net.redis.transactions import Transactions
from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.state import StationState, Transaction, TransactionFound
from ocppgw.ports import CommandRecord, StationRow

log = Logger(namespace="ocppgw.redis")

LEASE_SECONDS = 5.0  # between looks at the ids in hand
TELL_AGAIN_SECONDS = 5.0
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Local(CommandDisk, FileDisk, Protocol):
    """What this node has on its own disk (the embedded store)."""

    def load_station(self, charge_point_id: str) -> "Deferred[StationState]": ...
    def transaction(self, charge_point_id: str, transaction_id: str) -> "Deferred[Transaction | None]": ...
    def highest_transaction_id(self) -> int: ...
    def raise_transaction_id(self, number: int) -> "Deferred[None]": ...
    def recent_transactions(self) -> "Deferred[Sequence[tuple[str, Transaction]]]": ...


class FleetStore(RedisAccessStore):
    """`serves_without`: while Redis is away, stations are let in with what this node knows of them by itself."""

    def __init__(
        self,
        settings: RedisSettings,
        reactor: Any,
        publish: "Callable[[Record], Deferred[None]]",
        local: Local,
        tls: Any = None,
        note: Callable[[str], None] = lambda kind: None,
        *,
        command_ttl: float = 86_400.0,
        transactions_kept: float = 14 * 86_400.0,
        answers_kept: float = 300.0,
        serves_without: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(settings, reactor, publish, tls, note, **others)
        self._reactor, self._local, self._serves_without, self._note = reactor, local, serves_without, note
        self._transactions_kept = transactions_kept
        self._fleet_keys = keys = FleetKeys(settings.prefix)
        self._commands = Commands(self.calls, keys, reactor.seconds, publish, command_ttl, note)
        self._kept = KeptCommands(local, self._commands, reactor, command_ttl, note)
        self._transactions = Transactions(
            self.calls, keys, reactor.seconds, local.highest_transaction_id(), local.raise_transaction_id, note
        )
        replies = reply_keys(self.keys, keys)
        self.stations = Stations(self.calls, keys, reactor, transactions_kept, answers_kept, note, replies)
        self._files = IdentityFiles(self, self.calls, keys, local)
        self._leasing: IDelayedCall | None = None
        self._telling: IDelayedCall | None = None
        self.all_acknowledged: Callable[[], Deferred[None]] = lambda: succeed(None)  # the bus has this disk's events

    def start(self) -> None:
        super().start()
        self.stations.start()
        self._kept.start()
        self._lease()
        self.tell_old()

    def stop(self) -> None:
        """After `stations.stop`. At once; calls that are open fail."""
        for timer in (self._leasing, self._telling):
            if timer is not None and timer.active():
                timer.cancel()
        self._kept.stop()
        super().stop()

    # --- stations

    def touch(self, link: Carrier) -> None:
        """(routing.links.Mirror)"""
        self.stations.touch(link)

    def load_station(self, charge_point_id: str) -> "Deferred[StationState]":
        return Deferred.fromCoroutine(self._load(charge_point_id))

    def find_transaction(self, charge_point_id: str, key: str, transaction_id: str) -> "Deferred[TransactionFound]":
        if key:
            return Deferred.fromCoroutine(self._transactions.by_key(charge_point_id, key))
        return Deferred.fromCoroutine(self._by_id(charge_point_id, transaction_id))

    def known_station(self, charge_point_id: str) -> "Deferred[StationRow | None]":
        return Deferred.fromCoroutine(self._known_station(charge_point_id))

    def known_stations(self) -> "Deferred[Sequence[StationRow]]":
        return Deferred.fromCoroutine(self._known_stations())

    def sync_files(
        self, files: Mapping[str, tuple[Mapping[str, Any], str]], event: FileEvent
    ) -> "Deferred[tuple[int, int]]":
        """Follow the identity files, as the embedded store does; files that several nodes have count once."""
        return self._files.sync(files, event)

    # --- commands

    def open_command(self, record: CommandRecord, event: Record) -> "Deferred[CommandRecord | None]":
        return Deferred.fromCoroutine(self._commands.open(record, event))

    def command(self, command_id: str) -> "Deferred[CommandRecord | None]":
        return Deferred.fromCoroutine(self._commands.find(command_id))

    def change_command(self, record: CommandRecord, event: Record) -> "Deferred[bool]":
        return Deferred.fromCoroutine(self._commands.change(record, event))

    def take_command(self, record: CommandRecord, held_by: str | None = None) -> "Deferred[bool]":
        return Deferred.fromCoroutine(self._take(record, held_by))

    def on_command_put_back(self, callback: Callable[[str], None]) -> None:
        """`callback` hears which station a command waits for that Redis had lost, and has again."""
        self._kept.put_back = callback

    def open_commands(self) -> "Deferred[Sequence[CommandRecord]]":
        return Deferred.fromCoroutine(self._commands.all_open())

    def waiting_commands(self, charge_point_id: str) -> "Deferred[Sequence[CommandRecord]]":
        return Deferred.fromCoroutine(self._commands.waiting(charge_point_id))

    def publish_unpublished(self) -> "Deferred[int]":
        return Deferred.fromCoroutine(self._commands.publish_unpublished())

    def tend(self, _transactions_kept: float) -> "Deferred[None]":
        """Everything here has a time to live."""
        return succeed(None)

    # --- inside

    async def _load(self, charge_point_id: str) -> StationState:
        try:
            return await self.stations.load(charge_point_id)
        except StoreError:
            if not self._serves_without:
                raise
        own = self.stations.own(charge_point_id)
        return own[1] if own is not None else await self._local.load_station(charge_point_id)

    async def _take(self, record: CommandRecord, held_by: str | None) -> bool:
        if record.request is not None and record.taken_by is None:
            await self._kept.keep(record)
        return await self._commands.take(record, held_by)

    async def _by_id(self, charge_point_id: str, transaction_id: str) -> TransactionFound:
        """While Redis is away: what this node knows. A transaction message is never refused for what is not known."""
        try:
            return await self._transactions.by_id(charge_point_id, transaction_id)
        except StoreError:
            self._note("transaction-not-looked-up")
            return TransactionFound(await self._local.transaction(charge_point_id, transaction_id))

    async def _known_station(self, name: str) -> StationRow | None:
        keys = self._fleet_keys
        known = await self.look_up(name)
        raw = await self.calls.call("HGET", keys.state(name), "body")
        row = None if raw is None else _row(name, read_body(raw))
        if known.identity is not None:
            row = _with_identity(name, row, known.identity)
        if row is None:
            return None
        running = await self._transactions.running([name])
        return msgspec.structs.replace(row, open_transactions=running[name])

    async def _known_stations(self) -> list[StationRow]:
        bodies = await read_hashes(self.calls, self._fleet_keys.states, "body", self._reactor.seconds)
        rows = {name: row for name, raw in bodies.items() if (row := _row(name, read_body(raw))) is not None}
        offset, total = 0, 1
        while offset < total:
            page = await self.identities(offset=offset, limit=1000)
            total = page.total
            offset += 1000
            for identity in page.identities:
                name = identity["chargePointId"]
                rows[name] = _with_identity(name, rows.get(name), identity)
        running = await self._transactions.running(list(rows))
        return [msgspec.structs.replace(row, open_transactions=running[name]) for name, row in rows.items()]

    def _lease(self) -> None:
        self._leasing = self._reactor.callLater(LEASE_SECONDS, self._lease)
        Deferred.fromCoroutine(self._transactions.lease()).addErrback(
            lambda failure: log.failure("transaction ids could not be leased", failure=failure)
        )

    async def _tell_old(self) -> None:
        """What the last process on this disk may not have told the fleet; it is merged, so to repeat it is harmless.

        But not what is open here since long ago: it may have ended at another node, and be forgotten in Redis by now.
        And not before the bus has its events: another node answers what is known in Redis without an event of its own.
        """
        oldest = self._reactor.seconds() - self._transactions_kept
        recent = await self._local.recent_transactions()
        await self.all_acknowledged()
        for name, transaction in recent:
            if transaction.ended_at is not None or (transaction.started_at or 0.0) > oldest:
                await self.stations.save_transaction(name, transaction)

    def _not_told(self, failure: Any) -> None:
        """Redis is away: after a while again."""
        if failure.check(OcppgwError) is None:
            log.failure("transactions of the last process were not told to Redis", failure=failure)
            return
        self._note("old-transactions-not-told")
        self._telling = self._reactor.callLater(TELL_AGAIN_SECONDS, self.tell_old)

    def tell_old(self) -> None:
        """What this node has on its disk of transactions, to a Redis that may not know it."""
        Deferred.fromCoroutine(self._tell_old()).addErrback(self._not_told)


def _row(name: str, body: Body | None) -> StationRow | None:
    if body is None:
        return None
    if body.boot_status is None:
        return StationRow(name, body.station_id, body.tenant_id, open_transactions={})
    boot = _decode_object(body.boot) if body.boot else None
    return StationRow(name, body.station_id, body.tenant_id, body.version, body.boot_status, boot, {})


def _with_identity(name: str, row: StationRow | None, identity: Mapping[str, Any]) -> StationRow:
    row = row or StationRow(name, "", "", open_transactions={})
    return msgspec.structs.replace(
        row, station_id=str(identity.get("stationId", "")), tenant_id=str(identity.get("tenantId", ""))
    )

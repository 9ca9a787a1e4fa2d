"""Commands of the whole fleet: records, who may send them, and their one end."""

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocppgw.errors import OcppgwError, StoreError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet_keys import FleetKeys
from ocppgw.net.redis.fleet_scripts import CHANGE_COMMAND, OPEN_COMMAND, TAKE_COMMAND, TAKE_UNPUBLISHED
from ocppgw.net.redis.wire import Word
from ocppgw.ocpp.effects import Record
from ocppgw.ports import CommandRecord

log = Logger(namespace="ocppgw.redis")

AT_ONCE = 1000  # commands looked at
PUBLISHED_AT_ONCE = 100
UNPUBLISHED_SECONDS = 10.0  # then somebody else publishes an end
BEYOND_DEADLINE = 3600.0  # an open command's record lives at least as long

Publish = Callable[[Record], "Deferred[None]"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CommandRecord).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, str, bytes]).decode


class Commands:
    """`publish` fires when an event is durable on this node; `ttl` (seconds) is how long an ended command is kept."""

    def __init__(
        self, calls: Connection, keys: FleetKeys, clock: Callable[[], float], publish: Publish, ttl: float
    ) -> None:
        self._calls, self._keys, self._clock, self._publish, self._ttl = calls, keys, clock, publish, ttl

    async def open(self, record: CommandRecord, event: Record) -> CommandRecord | None:
        keys, name = self._keys, record.command_id
        values: list[Word] = [_encode(record), _score(record.deadline), self._life(record), name]
        existing = await self._calls.script(OPEN_COMMAND, [keys.command(name), keys.open_commands], values)
        if existing is not None:
            return _read(name, existing)
        await self._publish(event)
        return None

    async def find(self, command_id: str) -> CommandRecord | None:
        raw = await self._calls.call("GET", self._keys.command(command_id))
        return None if raw is None else _read(command_id, raw)

    async def change(self, record: CommandRecord, event: Record) -> bool:
        keys, name, is_end = self._keys, record.command_id, record.outcome is not None
        names = [
            keys.command(name),
            keys.open_commands,
            keys.waiting_for(record.charge_point_id),
            keys.unpublished,
            keys.unpublished_ends,
            "" if record.unique_id is None else keys.unique + record.unique_id,
        ]
        told = _pack((event.topic, event.key, event.value)) if is_end else b""
        now = _score(self._clock())
        values: list[Word] = [_encode(record), self._life(record), name, "1" if is_end else "0", told, now]
        if not await self._calls.script(CHANGE_COMMAND, names, values):
            return False
        await self._publish(event)
        if is_end:
            self._published(name)
        return True

    async def take(self, record: CommandRecord, held_by: str | None) -> bool:
        waits = record.request is not None and record.taken_by is None
        names = [self._keys.command(record.command_id), self._keys.waiting_for(record.charge_point_id)]
        since = _score(self._clock()) if waits else ""
        values: list[Word] = [_encode(record), record.command_id, record.taken_by or "", held_by or "", since]
        return bool(await self._calls.script(TAKE_COMMAND, names, values))

    async def all_open(self) -> Sequence[CommandRecord]:
        return await self._records(self._keys.open_commands)

    async def waiting(self, charge_point_id: str) -> Sequence[CommandRecord]:
        records = await self._records(self._keys.waiting_for(charge_point_id))
        return [record for record in records if record.request is not None and record.taken_by is None]

    async def publish_unpublished(self) -> int:
        now, keys = self._clock(), self._keys
        values: list[Word] = [_score(now - UNPUBLISHED_SECONDS), _score(now), PUBLISHED_AT_ONCE]
        found = await self._calls.script(TAKE_UNPUBLISHED, [keys.unpublished, keys.unpublished_ends], values)
        for name, told in zip(found[::2], found[1::2], strict=True):
            await self._publish(Record(*_unpack(told)))
            self._published(name.decode())
        return len(found) // 2

    # --- inside

    async def _records(self, index: str) -> list[CommandRecord]:
        names = [raw.decode() for raw in await self._calls.call("ZRANGE", index, 0, AT_ONCE - 1)]
        if not names:
            return []
        raws = await self._calls.call("MGET", *map(self._keys.command, names))
        gone = [name for name, raw in zip(names, raws, strict=True) if raw is None]
        if gone:
            await self._calls.call("ZREM", index, *gone)
        return [record for raw in raws if raw is not None and (record := _readable(raw)) is not None]

    def _published(self, name: str) -> None:
        """Nobody waits for it: what stays is published once more, with the same eventId."""
        keys = self._keys
        commands: list[tuple[Word, ...]] = [("ZREM", keys.unpublished, name), ("HDEL", keys.unpublished_ends, name)]
        self._calls.calls(commands).addErrback(lambda failure: failure.trap(OcppgwError) and None)

    def _life(self, record: CommandRecord) -> int:
        if record.outcome is not None:
            return max(1, int(self._ttl))
        return max(1, int(max(self._ttl, (record.deadline or 0.0) - self._clock() + BEYOND_DEADLINE)))


def _score(seconds: float | None) -> str:
    return f"{seconds or 0.0:.3f}"


def _readable(raw: bytes) -> CommandRecord | None:
    try:
        return _decode(raw)
    except msgspec.MsgspecError:
        return None


def _read(command_id: str, raw: bytes) -> CommandRecord:
    record = _readable(raw)
    if record is None:
        raise StoreError(
            f"the record of command {command_id} in Redis can't be read", hint="somebody else wrote it; delete its key"
        )
    return record

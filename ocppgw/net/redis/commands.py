"""Commands of the whole fleet: records, who may send them, and their one end.

A record may be the existing gateway's, or anybody's: one that can't be read is nobody's command, and its id can't be
used. That is a CommandError, so that a request read from the bus becomes a dead letter and doesn't come for ever.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocppgw.errors import CommandError, OcppgwError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet_keys import FleetKeys
from ocppgw.net.redis.fleet_scripts import (
    CHANGE_COMMAND,
    OPEN_COMMAND,
    PUT_BACK_COMMAND,
    TAKE_COMMAND,
    TAKE_UNPUBLISHED,
)
from ocppgw.net.redis.wire import Word
from ocppgw.ocpp.effects import Record
from ocppgw.ports import CommandRecord

log = Logger(namespace="ocppgw.redis")

AT_ONCE = 1000  # commands looked at
PUBLISHED_AT_ONCE = 100
UNPUBLISHED_SECONDS = 10.0  # then somebody else publishes an end
BEYOND_DEADLINE = 3600.0  # an open command's record lives at least as long
UNIQUE = "unique:"  # behind `command-audit:` there begin the keys of message ids
OUTCOMES = {"Accepted": "Accepted", "Rejected": "Rejected", "Failed": "Failed", "Timeout": "Unknown"}  # of the statuses

Publish = Callable[[Record], "Deferred[None]"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CommandRecord).decode
_decode_object: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, str, bytes, str]).decode
_NO_COMMAND = CommandRecord("", "", "", "", "")


class Commands:
    """`publish` fires when an event is durable on this node; `ttl` (seconds) is how long an ended command is kept."""

    def __init__(
        self,
        calls: Connection,
        keys: FleetKeys,
        clock: Callable[[], float],
        publish: Publish,
        ttl: float,
        note: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._calls, self._keys, self._clock, self._publish, self._ttl = calls, keys, clock, publish, ttl
        self._note = note
        self._token = token_hex(8)  # tells this process' ends from those of others

    async def open(self, record: CommandRecord, event: Record) -> CommandRecord | None:
        keys, name = self._keys, record.command_id
        if name.startswith(UNIQUE):
            raise CommandError(f"a commandId can't begin with {UNIQUE!r}", hint="a UUID will do")
        values: list[Word] = [_encode(record), _score(record.deadline), self._life(record), name]
        existing = await self._calls.script(OPEN_COMMAND, [keys.command(name), keys.open_commands], values)
        if existing is not None:
            return _known(name, existing)
        await self._publish(event)
        return None

    async def find(self, command_id: str) -> CommandRecord | None:
        raw = await self._calls.call("GET", self._keys.command(command_id))
        return None if raw is None else read_command(command_id, raw)

    async def change(self, record: CommandRecord, event: Record) -> bool:
        """An end that was stored but not published may be tried again by the process that stored it."""
        keys, name, is_end = self._keys, record.command_id, record.outcome is not None
        names = [
            keys.command(name),
            keys.open_commands,
            keys.waiting_for(record.charge_point_id),
            keys.unpublished,
            keys.unpublished_ends,
        ]
        if record.unique_id is not None:
            names.append(keys.unique + record.unique_id)
        told = _pack((event.topic, event.key, event.value, self._token)) if is_end else b""
        now = _score(self._clock())
        ours = "1" if record.taken_by is not None else "0"
        values: list[Word] = [_encode(record), self._life(record), name, "1" if is_end else "0", told, now, ours]
        if not await self._calls.script(CHANGE_COMMAND, names, values):
            return False
        await self._publish(event)
        if is_end:
            self._published(name)
        return True

    async def take(self, record: CommandRecord, held_by: str | None) -> bool:
        waits = record.request is not None and record.taken_by is None
        names = [self._keys.command(record.command_id), self._keys.waiting_for(record.charge_point_id)]
        since = _score(self.requested(record)) if waits else ""
        values: list[Word] = [_encode(record), record.command_id, record.taken_by or "", held_by or "", since]
        return bool(await self._calls.script(TAKE_COMMAND, names, values))

    async def put_back(self, record: CommandRecord) -> bool:
        """One that waited for its station when Redis lost it. False: it is there."""
        keys, name = self._keys, record.command_id
        names = [keys.command(name), keys.open_commands, keys.waiting_for(record.charge_point_id)]
        since = _score(self.requested(record))
        values: list[Word] = [_encode(record), _score(record.deadline), self._life(record), name, since]
        return bool(await self._calls.script(PUT_BACK_COMMAND, names, values))

    async def find_all(self, command_ids: Sequence[str]) -> dict[str, CommandRecord | None]:
        """None: there is none, or it can't be read. At most AT_ONCE of them."""
        raws = await self._calls.call("MGET", *map(self._keys.command, command_ids))
        return {
            name: None if raw is None else read_command(name, raw) for name, raw in zip(command_ids, raws, strict=True)
        }

    async def all_open(self) -> Sequence[CommandRecord]:
        return [record for record in await self._records(self._keys.open_commands) if record.outcome is None]

    async def waiting(self, charge_point_id: str) -> Sequence[CommandRecord]:
        records = await self._records(self._keys.waiting_for(charge_point_id))
        return [
            record
            for record in records
            if record.request is not None and record.taken_by is None and record.outcome is None
        ]

    async def publish_unpublished(self) -> int:
        now, keys = self._clock(), self._keys
        values: list[Word] = [_score(now - UNPUBLISHED_SECONDS), _score(now), PUBLISHED_AT_ONCE]
        found = await self._calls.script(TAKE_UNPUBLISHED, [keys.unpublished, keys.unpublished_ends], values)
        count = 0
        for raw_name, told in zip(found[::2], found[1::2], strict=True):
            name, event = raw_name.decode("utf-8", "replace"), _event(told)
            if event is None:
                self._note("command-end-unreadable")
                log.warn("the end of command {command} in Redis is no event, and is dropped", command=name)
            else:
                await self._publish(event)
                count += 1
            self._published(raw_name)
        return count

    def requested(self, record: CommandRecord) -> float:
        """When, in seconds since the epoch."""
        try:
            return datetime.fromisoformat(record.requested_at).timestamp()
        except ValueError:
            return self._clock()

    # --- inside

    async def _records(self, index: str) -> list[CommandRecord]:
        """Of what the index names; what is no command's record goes from it."""
        names = [raw.decode("utf-8", "replace") for raw in await self._calls.call("ZRANGE", index, 0, AT_ONCE - 1)]
        if not names:
            return []
        found = await self.find_all(names)
        gone = [name for name, record in found.items() if record is None]
        if gone:
            await self._calls.call("ZREM", index, *gone)
        return [record for record in found.values() if record is not None]

    def _published(self, name: Word) -> None:
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


def read_command(command_id: str, raw: bytes) -> CommandRecord | None:
    """None when it is no command's record. The existing gateway's have no outcome, and may lack other members."""
    try:
        record = _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        record = _as_far_as_readable(raw)
    if not record.status:
        return None
    outcome = OUTCOMES.get(record.status) if record.outcome is None else record.outcome
    return msgspec.structs.replace(record, command_id=command_id, outcome=outcome)


def _as_far_as_readable(raw: bytes) -> CommandRecord:
    try:
        members = _decode_object(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NO_COMMAND
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(CommandRecord):
        try:
            found[field.name] = msgspec.convert(members[field.encode_name], field.type)
        except (KeyError, msgspec.ValidationError):
            continue
    return msgspec.structs.replace(_NO_COMMAND, **found)


def _known(command_id: str, raw: bytes) -> CommandRecord:
    record = read_command(command_id, raw)
    if record is None:
        raise CommandError(
            f"what Redis has under commandId {command_id!r} is no command's record", hint="use another commandId"
        )
    return record


def _event(told: bytes) -> Record | None:
    try:
        topic, key, value, _token = _unpack(told)
    except msgspec.MsgspecError:
        return None
    return Record(topic, key, value)

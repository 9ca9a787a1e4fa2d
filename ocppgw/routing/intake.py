"""Commands from the bus (Kafka): each record becomes a command, or a dead letter that says why it can't.

    record -> UTF-8 -> JSON object -> Commands.submit -> stored                         done
                 └────────┴──────────────────┴──> dead letter -> durable                done
                                             └──> the store or the journal fails: not done, the batch comes again

Done means durable: the bus commits the offsets of a batch when all of it is. A record that can't be used never holds up
its partition. Commands for one station are submitted in the order of their records, those for different stations at
the same time. A batch that comes again is gone through for what is not done; after a crash all of it comes again, and
a command that was stored then is known by its commandId.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import orjson
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.clock import Clock
from ocppgw.errors import CommandError, OcppgwError, StoreError
from ocppgw.logs import RateLimitedLog
from ocppgw.metrics import Metrics
from ocppgw.ocpp.deadletters import command_letter
from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.events import command_event, name_based_id
from ocppgw.ocpp.frames import dumps
from ocppgw.ports import Message
from ocppgw.routing.commands import Commands
from ocppgw.routing.outbox import Outbox

log = Logger(namespace="ocppgw.intake")

AT_ONCE = 100  # stations
SAME_LINE_SECONDS = 60.0


_Position = tuple[str, int, int]  # topic, partition, offset


class _Read:
    """A record and what is in it: a request, or the fault that keeps it from being one."""

    __slots__ = ("fault", "message", "position", "request")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.position: _Position = (message.topic, message.partition, message.offset)
        self.request: dict[str, Any] = {}
        self.fault: CommandError | None = None
        try:
            self.request = _request(message)
        except CommandError as fault:
            self.fault = fault

    @property
    def source(self) -> str:
        """The same when it is read again."""
        return "/".join(map(str, self.position))

    def station(self) -> str:
        """Whose order it has to keep."""
        named = self.request.get("chargePointId")
        return named if isinstance(named, str) and named else (self.message.key or b"").decode(errors="replace")


class CommandIntake:
    """`handle` is the bus's handler (`ports.Bus.consume`): it is called with one batch at a time."""

    def __init__(self, commands: Commands, outbox: Outbox, clock: Clock, node_id: str, metrics: Metrics) -> None:
        self._commands = commands
        self._outbox = outbox
        self._clock = clock
        self._node_id = node_id
        self._metrics = metrics
        self._log = RateLimitedLog(log, SAME_LINE_SECONDS, metrics.log_left_out)
        self._done: set[_Position] = set()  # of a batch that comes again

    def handle(self, messages: Sequence[Message]) -> "Deferred[None]":
        """Fires when all of them are done; fails, when no more of them is under way, if some are not."""
        return Deferred.fromCoroutine(self._batch(messages))

    async def _batch(self, messages: Sequence[Message]) -> None:
        failures: list[Failure] = []
        turns = DeferredSemaphore(AT_ONCE)
        await DeferredList([turns.run(self._station, reads, failures) for reads in _by_station(messages)])
        if failures:
            failures[0].raiseException()
        self._done.clear()

    def _station(self, reads: Sequence[_Read], failures: list[Failure]) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._in_order(reads)).addErrback(failures.append)

    async def _in_order(self, reads: Sequence[_Read]) -> None:
        for read in reads:
            if read.position in self._done:
                continue
            try:
                outcome = await self._one(read)
            except Exception:
                self._metrics.intake_record("failed")
                raise
            self._metrics.intake_record(outcome)
            self._done.add(read.position)

    async def _one(self, read: _Read) -> str:
        if self._outbox.fault:  # what is refused to stations is refused here
            raise StoreError(f"commands are not taken now: {self._outbox.fault}")
        fault: OcppgwError | None = read.fault
        if fault is None:
            self._compare_key(read)
            fault = await self._submitted(read)
        if fault is None:
            return "stored"
        if await self._is_repeat(read):
            return "repeated"
        await self._outbox.store(self._letter(read, fault))
        self._log_dead(read, fault)
        return "dead-letter"

    async def _submitted(self, read: _Read) -> OcppgwError | None:
        """None when it is stored, else why it never can be. What may pass is raised."""
        try:
            await maybeDeferred(self._commands.submit, read.request, read.source)
        except CommandError as fault:
            return fault
        except OcppgwError:
            raise
        except Exception:  # a fault of ours, which this record would meet each time again
            log.failure("a fault of the gateway itself, met by a command record")
            return OcppgwError("a fault of the gateway itself; its log has it")
        return None

    async def _is_repeat(self, read: _Read) -> bool:
        """A command that was taken before, and could not be now: its station is gone, or speaks another version."""
        command_id = read.request.get("commandId")
        record = await self._commands.command(command_id) if isinstance(command_id, str) else None
        if record is None:
            return False
        now, repeat = self._clock.seconds(), name_based_id("repeat", *map(str, read.position))
        builtins, payload = msgspec.to_builtins(record), {"status": record.status}
        await self._outbox.store(
            command_event("CommandDuplicate", builtins, now, payload, self._node_id, repeat=repeat)
        )
        return True

    def _letter(self, read: _Read, fault: OcppgwError) -> Record:
        message, now = read.message, self._clock.seconds()
        key, value = message.key or b"", message.value
        return command_letter(fault, *read.position, key, value, read.request, now, self._node_id)

    def _log_dead(self, read: _Read, fault: OcppgwError) -> None:
        """Its letter says more; a flood of them is one line in a while."""
        self._log.warn(
            fault.code,
            self._clock.seconds(),
            "a command record is no command and went to the dead letters: {code}, {topic} {partition} {offset}",
            code=fault.code,
            topic=read.message.topic,
            partition=read.message.partition,
            offset=read.message.offset,
        )

    def _compare_key(self, read: _Read) -> None:
        """Another key than the station's costs the order of its commands across partitions, no more."""
        named, key = read.request.get("chargePointId"), read.message.key
        if isinstance(named, str) and key is not None and named.encode() != key:
            self._metrics.note("command-key-differs")


def _by_station(messages: Sequence[Message]) -> Iterable[list[_Read]]:
    groups: dict[str, list[_Read]] = {}
    for message in messages:
        read = _Read(message)
        groups.setdefault(read.station(), []).append(read)
    return groups.values()


def _request(message: Message) -> dict[str, Any]:
    """The command request. One without a commandId gets one that it has again when it is read again."""
    hint = "send a CommandRequest as UTF-8 JSON"
    try:
        message.value.decode()
    except UnicodeDecodeError as error:
        raise CommandError(f"the record is not UTF-8: byte {error.start}", hint=hint, code="BadEncoding") from None
    try:
        request = orjson.loads(message.value)
    except orjson.JSONDecodeError as error:
        raise CommandError(f"the record isn't JSON: {error}", hint=hint, code="BadJson") from None
    if not isinstance(request, dict):
        raise CommandError("the record is no JSON object", hint=hint, code="BadJson")
    try:
        dumps(request)
    except ValueError as error:
        raise CommandError(f"the record is {error}", hint=hint, code="BadJson") from None
    if request.get("commandId") in (None, ""):
        place = (message.topic, str(message.partition), str(message.offset))
        request["commandId"] = name_based_id("record", *place, message.value)
    return request

"""Commands that wait for their stations, a second time on this node's disk: Redis may lose its data while they wait.

The node that let a command wait keeps it until it has been taken or has ended; it looks every LOOK_SECONDS. What is
missing in Redis at two looks in a row was lost, and is put back. Not at the first: the process that took a command,
or ended it a moment ago, tells a Redis that was emptied so again, and is to be heard before. What a process that
starts finds on its disk may have ended meanwhile, and be forgotten in Redis for its age: such a one is let go.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.net.redis.commands import AT_ONCE, Commands
from ocppgw.ports import CommandRecord

log = Logger(namespace="ocppgw.redis")

LOOK_SECONDS = 5.0


class Disk(Protocol):
    """This node's own."""

    def keep_command(self, record: CommandRecord) -> "Deferred[None]": ...
    def kept_commands(self) -> "Deferred[Sequence[CommandRecord]]": ...
    def forget_commands(self, command_ids: Sequence[str]) -> "Deferred[None]": ...


class KeptCommands:
    """`put_back` hears which station's command is in Redis again. `ttl` (seconds): how long Redis has ended ones."""

    def __init__(self, disk: Disk, commands: Commands, clock: Clock, ttl: float, note: Callable[[str], None]) -> None:
        self._disk, self._commands, self._clock, self._ttl, self._note = disk, commands, clock, ttl, note
        self._kept: dict[str, CommandRecord] = {}
        self._old: set[str] = set()  # of an earlier process, not seen in Redis yet, and older than what Redis keeps
        self._missing: frozenset[str] = frozenset()
        self._timer: IDelayedCall | None = None
        self.put_back: Callable[[str], None] = lambda charge_point_id: None

    def start(self) -> None:
        """Also with what the last process on this disk kept."""
        self._disk.kept_commands().addCallback(self._found).addErrback(self._failed)
        self._again()

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    async def keep(self, record: CommandRecord) -> None:
        """Before Redis has it among those that wait. Errors: StoreError, when the disk can't."""
        await self._disk.keep_command(record)
        self._kept[record.command_id] = record

    # --- inside

    def _found(self, records: Sequence[CommandRecord]) -> None:
        self._kept = {record.command_id: record for record in records} | self._kept
        oldest = self._clock.seconds() - self._ttl
        self._old = {record.command_id for record in records if self._commands.requested(record) < oldest}

    def _again(self) -> None:
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        looked = Deferred.fromCoroutine(self._look_at_all())
        looked.addErrback(self._failed).addCallback(lambda _: self._again())

    async def _look_at_all(self) -> None:
        names = list(self._kept)
        missing: set[str] = set()
        for at in range(0, len(names), AT_ONCE):
            missing |= await self._look_at(names[at : at + AT_ONCE])
        self._missing = frozenset(missing)

    async def _look_at(self, names: list[str]) -> set[str]:
        """Those that are missing for the first time."""
        found = await self._commands.find_all(names)
        missing = {name for name, record in found.items() if record is None}
        self._old &= missing
        over = [name for name, record in found.items() if name in self._old or (record and not _waits(record))]
        await self._let_go(over)
        for name in missing & self._missing & self._kept.keys():
            await self._put_back(self._kept[name])
        return missing - self._missing

    async def _let_go(self, names: Sequence[str]) -> None:
        if names:
            await self._disk.forget_commands(names)
            self._old.difference_update(names)
            for name in names:
                self._kept.pop(name, None)

    async def _put_back(self, record: CommandRecord) -> None:
        if await self._commands.put_back(record):
            self._note("command-put-back")
            log.warn("Redis had lost command {command}, which waits for its station", command=record.command_id)
            self.put_back(record.charge_point_id)

    def _failed(self, failure: Failure) -> None:
        """Redis or the disk: told elsewhere, and looked again."""
        self._note("kept-commands-not-looked-at")
        if failure.check(OcppgwError) is None:
            log.failure("waiting commands could not be looked at", failure=failure)


def _waits(record: CommandRecord) -> bool:
    return record.request is not None and record.taken_by is None and record.outcome is None

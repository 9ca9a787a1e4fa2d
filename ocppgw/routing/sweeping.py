"""Commands that are on their way nowhere any more: their process died, or they were lost between two nodes.

Every node looks, every few seconds; the store's compare-and-set lets one of them end each. A command is left alone
while the process that took it lives and its deadline is not long over: that process ends it.
"""

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.calls import NOT_SENT, TIMED_OUT
from ocppgw.ocpp.effects import CommandResult
from ocppgw.ports import CommandRecord, Store
from ocppgw.routing.commands import Commands
from ocppgw.routing.places import Places
from ocppgw.routing.results import RESTARTED

log = Logger(namespace="ocppgw.commands")

SWEEP_SECONDS = 5.0
GRACE_SECONDS = 5.0  # after the deadline, for the process that has the command


class Sweep:
    """`is_alone`: no other process has the store, so that what this one does not know is nobody's."""

    def __init__(
        self, store: Store, commands: Commands, places: Places, metrics: Metrics, clock: Clock, *, is_alone: bool
    ) -> None:
        self._store, self._commands, self._places = store, commands, places
        self._metrics, self._clock, self._is_alone = metrics, clock, is_alone
        self._is_running = False

    def run(self) -> "Deferred[int]":
        """Fires with how many commands it ended. Called every SWEEP_SECONDS; one at a time."""
        if self._is_running:
            return succeed(0)
        self._is_running = True
        return Deferred.fromCoroutine(self._sweep()).addErrback(self._failed).addCallback(self._over)

    def _over(self, count: int) -> int:
        self._is_running = False
        return count

    async def _sweep(self) -> int:
        records = [record for record in await self._store.open_commands() if not self._commands.has(record.command_id)]
        takers = {record.taken_by for record in records if record.taken_by is not None}
        alive = await self._places.alive(takers) if takers else frozenset()
        count = 0
        for record in records:
            result = self._end_of(record, alive)
            if result is not None:
                self._commands.close(record, result, timed_out=result.error_code == "Timeout")
                count += 1
        published = await self._store.publish_unpublished()
        for kind, amount in (("command-swept", count), ("command-end-published-again", published)):
            for _ in range(amount):
                self._metrics.note(kind)
        if count:
            log.warn("{count} commands were ended whose process died, or that were lost on their way", count=count)
        return count

    def _end_of(self, record: CommandRecord, alive: frozenset[str]) -> CommandResult | None:
        late = self._clock.seconds() - (record.deadline or 0.0)
        if record.request is not None:  # it waits for its station
            return NOT_SENT if late >= 0 else None
        if record.taken_by is not None and record.taken_by != self._places.me and record.taken_by not in alive:
            return RESTARTED
        if record.taken_by is None and self._is_alone:
            return RESTARTED
        if late < GRACE_SECONDS:
            return None
        return TIMED_OUT if record.unique_id is not None else NOT_SENT

    def _failed(self, failure: Failure) -> int:
        """Redis or the disk: told elsewhere, and tried again."""
        self._metrics.note("sweep-failed")
        if failure.check(OcppgwError) is None:
            log.failure("commands could not be swept", failure=failure)
        return 0

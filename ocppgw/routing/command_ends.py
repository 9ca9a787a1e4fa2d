"""How commands end: the first end is stored together with its event, and whoever waits for it is told.

An end that can't be stored is tried again for as long as this process lives; then it is `sweeping.Sweep`'s affair.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.clock import Clock, rest
from ocppgw.errors import OcppgwError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.calls import PendingCall
from ocppgw.ocpp.effects import CommandResult, Record
from ocppgw.ocpp.events import command_event
from ocppgw.ocpp.outcomes import event_type, terminal_status
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import CommandRecord, Store
from ocppgw.routing.credentials import Change
from ocppgw.routing.requests import CommandRequest
from ocppgw.routing.results import error_of, payload_of, shown

log = Logger(namespace="ocppgw.commands")

RETRY_SECONDS = 1.0  # between attempts to store a command's end
RECENT_SECONDS = 30.0  # in which a store that lost its data hears of an end again
MOST_RECENT = 1000  # ends; the oldest goes first
LOOK_SECONDS = 0.5  # between looks at a command that another node has


class Open(msgspec.Struct):
    """A command on its way in this process; without `pending` its station was not there yet."""

    record: CommandRecord
    wanted: CommandRequest
    pending: PendingCall | None = None
    change: Change | None = None
    timer: IDelayedCall | None = None  # only while it waits between two connections
    is_settling: bool = False


class Ends:
    """The commands on their way in this process (`open`, by id), and their way out of it."""

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, node_id: str) -> None:
        self._store, self._metrics, self._clock, self._node_id = store, metrics, clock, node_id
        self.open: dict[str, Open] = {}
        self._ended: dict[str, list[Deferred[CommandRecord | None]]] = {}
        self._recent: deque[tuple[float, CommandRecord, Record]] = deque(maxlen=MOST_RECENT)

    def event(self, kind: str, record: CommandRecord, payload: Mapping[str, Any], *, repeat: str = "") -> Record:
        return command_event(
            kind, msgspec.to_builtins(record), self._clock.seconds(), payload, self._node_id, repeat=repeat
        )

    def ended(self, command_id: str) -> "Deferred[CommandRecord | None]":
        """Fires with the record once the command has ended; with None when there is no such command."""
        if command_id not in self.open:
            return Deferred.fromCoroutine(self._end_elsewhere(command_id))
        waiting: Deferred[CommandRecord | None] = Deferred(lambda d: self._ended.get(command_id, [d]).remove(d))
        self._ended.setdefault(command_id, []).append(waiting)
        return waiting

    def finished(self, command_id: str, result: CommandResult) -> None:
        """Its outcome is known here; what it changed of credentials is settled first."""
        command = self.open.get(command_id)
        if command is None or command.is_settling:
            return
        if command.change is None:
            self._end(None, command, result)
            return
        command.is_settling = True
        settled = command.change.settle(result, sent=command.record.unique_id is not None)
        settled.addErrback(self._not_settled, command_id).addCallback(self._end, command, result)

    def close(self, record: CommandRecord, result: CommandResult, *, timed_out: bool) -> None:
        """End a command, on its way here or not."""
        command = self.open.get(record.command_id)
        if command is not None:
            cancel(command)
        ended = msgspec.structs.replace(
            record,
            status=terminal_status(result.outcome, timed_out),
            outcome=result.outcome.value,
            response_at=rfc3339(self._clock.seconds()).decode(),
            response_payload=result.response,
            error=error_of(result),
            request=None,
        )
        self._store_end(ended, self.event(event_type(result.outcome, timed_out), ended, payload_of(result)))

    def let_go(self, command: Open) -> None:
        """It goes on elsewhere."""
        command_id = command.record.command_id
        self._forget(command_id)
        self._look_elsewhere(command_id)

    def tell_again(self) -> None:
        """The store has lost its data: what this process has just ended is not to be sent once more."""
        oldest = self._clock.seconds() - RECENT_SECONDS
        for at, ended, event in self._recent:
            if at >= oldest:
                self._store.change_command(ended, event).addErrback(self.not_stored, ended.command_id)

    # --- inside

    def _end(self, _settled: None, command: Open, result: CommandResult) -> None:
        sent = None if command.pending is None else command.pending.payload
        self.close(command.record, shown(result, sent), timed_out=result.error_code == "Timeout")

    def _store_end(self, ended: CommandRecord, event: Record) -> None:
        """Until it is stored: the end is what the backend waits for. A crash before that is the sweep's affair."""

        def stored(won: bool) -> "Deferred[None] | None":
            if not won:
                return Deferred.fromCoroutine(self._not_won(ended, event))
            self._forget(ended.command_id)
            self._recent.append((self._clock.seconds(), ended, event))
            self._metrics.command_ended(ended.outcome or "Unknown")
            self._tell_ended(ended.command_id, ended)
            return None

        def failed(failure: Any) -> None:
            self.not_stored(failure, ended.command_id)
            self._clock.callLater(RETRY_SECONDS, self._store_end, ended, event)

        self._store.change_command(ended, event).addCallback(stored).addErrback(failed)

    async def _not_won(self, ended: CommandRecord, event: Record) -> None:
        """Another end came first; or the store has lost the command, and nobody else will end it."""
        if await self._store.command(ended.command_id) is not None:
            self._forget(ended.command_id)
            self._look_elsewhere(ended.command_id)
            return
        opened = msgspec.structs.replace(
            ended, status="Queued", outcome=None, response_at=None, response_payload=None, error=None, taken_by=None
        )
        await self._store.open_command(opened, self.event("CommandRouted", opened, {}))
        self._metrics.note("command-stored-again")
        self._store_end(ended, event)

    def _forget(self, command_id: str) -> None:
        command = self.open.pop(command_id, None)
        if command is not None:
            cancel(command)

    def _tell_ended(self, command_id: str, record: CommandRecord | None) -> None:
        for waiting in self._ended.pop(command_id, ()):
            waiting.callback(record)

    def _look_elsewhere(self, command_id: str) -> None:
        if command_id in self._ended:
            found = Deferred.fromCoroutine(self._end_elsewhere(command_id))
            found.addErrback(self._not_found).addCallback(lambda record: self._tell_ended(command_id, record))

    async def _end_elsewhere(self, command_id: str) -> CommandRecord | None:
        record = await self._store.command(command_id)
        while record is not None and record.outcome is None:
            await rest(self._clock, LOOK_SECONDS)
            record = await self._store.command(command_id)
        return record

    def _not_found(self, failure: Any) -> None:
        self._metrics.note("command-not-found")
        if failure.check(OcppgwError) is None:
            log.failure("a fault of the gateway itself", failure=failure)

    def _not_settled(self, failure: Any, command_id: str) -> None:
        self._metrics.note("credentials-not-stored")
        log.error(
            "the old and the new credentials both stay good after command {command}: {reason}",
            command=command_id,
            reason=failure.getErrorMessage(),
        )

    def not_stored(self, failure: Any, command_id: str) -> None:
        self._metrics.note("command-not-stored")
        log.error("command {command} not stored: {reason}", command=command_id, reason=failure.getErrorMessage())


def cancel(command: Open) -> None:
    if command.timer is not None and command.timer.active():
        command.timer.cancel()
    command.timer = None

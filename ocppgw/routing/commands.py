"""A command's way: accepted, stored, sent, and ended exactly once.

    submit -> stored with CommandRouted -> CALL on the station's link (CommandDispatched) -> answer, deadline or loss
           -> compare-and-set to its end, together with the one terminal event

The compare-and-set and the event share one transaction of the store, so a crash leaves either both or neither; what a
crash left open is closed by `sweep` at the next start. A station that isn't connected fails the command at once.

A command that changes how its station proves itself (a password, a certificate) is announced before the CALL goes out,
so that the station can get in with the old and with the new, and settled before its end is told. What is stored, told
and published of a command holds no password: only the CALL does.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.errors import CommandError, OcppgwError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.calls import NOT_SENT, PendingCall
from ocppgw.ocpp.effects import CommandResult, Dispatched, Record
from ocppgw.ocpp.events import command_event
from ocppgw.ocpp.intents import map_command
from ocppgw.ocpp.outcomes import Outcome, event_type, terminal_status
from ocppgw.ocpp.secrets import redacted
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import CommandRecord, Store
from ocppgw.routing.credentials import Change, Credentials
from ocppgw.routing.links import Clock, Link, Links
from ocppgw.routing.outbox import Outbox
from ocppgw.routing.requests import CommandRequest, read_request
from ocppgw.routing.results import NOT_CONNECTED, OTHER_VERSION, RESTARTED, error_of, payload_of, shown

log = Logger(namespace="ocppgw.commands")

ENDED = frozenset({"Accepted", "Rejected", "Failed", "Timeout"})
RETRY_SECONDS = 1.0  # between attempts to store a command's end while the disk refuses writes


class _Open(msgspec.Struct):
    """A command on its way in this process; without `pending` its station was not there."""

    record: CommandRecord
    pending: PendingCall | None = None
    change: Change | None = None
    timer: IDelayedCall | None = None  # only while it waits between two connections
    is_settling: bool = False


class Commands:
    """`new_id` makes command ids; `default_timeout` in seconds."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        links: Links,
        metrics: Metrics,
        clock: Clock,
        node_id: str,
        default_timeout: float,
        new_id: Callable[[], str],
        new_number: Callable[[], int],
        credentials: Credentials | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._links = links
        self._metrics = metrics
        self._clock = clock
        self._node_id = node_id
        self._default_timeout = default_timeout
        self._new_id = new_id
        self._new_number = new_number
        self._credentials = credentials
        self._open: dict[str, _Open] = {}
        self._waiting: dict[str, list[str]] = {}  # charger id -> commands to send when it is back
        self._ended: dict[str, list[Deferred[CommandRecord | None]]] = {}

    # --- the backend's side

    def submit(self, request: Mapping[str, Any]) -> "Deferred[CommandRecord]":
        """See `ports.GatewayApi.submit`. Raises nothing: errors come through the Deferred."""
        try:
            wanted = read_request(request)
            command = self._prepared(wanted, self._link_of(wanted))
        except CommandError as error:
            failed: Deferred[CommandRecord] = Deferred()
            failed.errback(error)
            return failed
        stored = self._store.open_command(command.record, self._event("CommandRouted", command.record, {}))
        return stored.addCallback(self._stored, command)

    def command(self, command_id: str) -> "Deferred[CommandRecord | None]":
        return self._store.command(command_id)

    def ended(self, command_id: str) -> "Deferred[CommandRecord | None]":
        """Fires with the record once the command has ended; with None when there is no such command."""
        if command_id not in self._open:
            return self._store.command(command_id)
        waiting: Deferred[CommandRecord | None] = Deferred(lambda d: self._ended.get(command_id, [d]).remove(d))
        self._ended.setdefault(command_id, []).append(waiting)
        return waiting

    def sweep(self) -> "Deferred[int]":
        """Close what an earlier process left open; fires with how many. Called before the listener opens."""

        def close(records: Any) -> int:
            for record in records:
                self._close(record, RESTARTED, timed_out=False)
            return len(records)

        return self._store.open_commands().addCallback(close)

    # --- the link's side (links.CommandListener)

    def dispatched(self, link: Link, effect: Dispatched) -> None:
        command = self._open.get(effect.command_id)
        if command is None:
            return
        command.record = msgspec.structs.replace(
            command.record, status="Sent", unique_id=effect.message_id, sent_at=rfc3339(effect.at).decode()
        )
        event = self._event(
            "CommandDispatched", command.record, {"action": effect.action, "messageId": effect.message_id}
        )
        self._store.change_command(command.record, event).addErrback(self._not_stored, effect.command_id)

    def finished(self, command_id: str, result: CommandResult) -> None:
        command = self._open.get(command_id)
        if command is None or command.is_settling:
            return
        if command.change is None:
            self._end(None, command, result)
            return
        command.is_settling = True
        settled = command.change.settle(result, sent=command.record.unique_id is not None)
        settled.addErrback(self._not_settled, command_id).addCallback(self._end, command, result)

    def late(self, command_id: str, result: CommandResult) -> None:
        """The charger answered after the end: reported, the end stands."""

        def report(record: CommandRecord | None) -> None:
            if record is not None:
                event = self._event("CommandLateResult", record, payload_of(shown(result)))
                self._outbox.publish(event, (), NOBODY, 0)

        self._store.command(command_id).addCallback(report).addErrback(self._not_stored, command_id)

    def requeued(self, command_id: str) -> None:
        """Its connection went before it was sent: kept for the next one until its deadline."""
        command = self._open.get(command_id)
        if command is None:
            return
        charge_point_id = command.record.charge_point_id
        self._waiting.setdefault(charge_point_id, []).append(command_id)
        delay = max(0.0, (command.record.deadline or 0.0) - self._clock.seconds())
        command.timer = self._clock.callLater(delay, self.finished, command_id, NOT_SENT)

    def link_opened(self, link: Link) -> None:
        for command_id in self._waiting.pop(link.station.charge_point_id, ()):
            command = self._open.get(command_id)
            if command is not None:
                _cancel(command)
                self._send(command, link)

    # --- from request to record

    def _link_of(self, wanted: CommandRequest) -> Link | None:
        if wanted.charge_point_id:
            return self._links.get(wanted.charge_point_id)
        link = self._links.of_station(wanted.station_id or "")
        if link is None:
            raise CommandError(
                f"no connected charger belongs to stationId {wanted.station_id!r}", hint="give its chargePointId"
            )
        return link

    def _prepared(self, wanted: CommandRequest, link: Link | None) -> _Open:
        requested_at = wanted.requested(self._clock.seconds())
        record = CommandRecord(
            command_id=wanted.command_id or self._new_id(),
            command_type=wanted.command_type,
            charge_point_id=wanted.charge_point_id or (link.station.charge_point_id if link else ""),
            status="Queued",
            requested_at=rfc3339(requested_at).decode(),
            connector_id=wanted.connector_id,
            node_id=self._node_id,
            deadline=requested_at + (wanted.timeout_sec or self._default_timeout),
            request_payload=redacted(wanted.payload),
        )
        return _Open(record) if link is None else self._mapped(wanted, record, link)

    def _mapped(self, wanted: CommandRequest, record: CommandRecord, link: Link) -> _Open:
        version, name = link.version, record.charge_point_id
        action, payload = map_command(
            version,
            wanted.command_type,
            wanted.payload or {},
            wanted.connector_id,
            new_remote_start_id=self._new_number,
        )
        record = msgspec.structs.replace(
            record,
            action=action,
            station_id=link.station.station_id,
            tenant_id=link.station.tenant_id,
            ocpp_version=version.name,
        )
        change = None if self._credentials is None else self._credentials.change(name, version, action, payload)
        return _Open(record, PendingCall(record.command_id, action, dict(payload), record.deadline or 0.0), change)

    def _stored(self, existing: CommandRecord | None, command: _Open) -> CommandRecord:
        if existing is not None:
            repeat = self._event("CommandDuplicate", existing, {"status": existing.status}, repeat=self._new_id())
            self._outbox.publish(repeat, (), NOBODY, 0)
            return existing
        record = command.record
        self._open[record.command_id] = command
        if command.change is None or self._links.get(record.charge_point_id) is None:
            self._start(None, command)
        else:
            command.change.announce().addCallbacks(
                self._start, self._not_announced, callbackArgs=(command,), errbackArgs=(command,)
            )
        return record

    def _start(self, _announced: None, command: _Open) -> None:
        link = self._links.get(command.record.charge_point_id)
        if link is None or command.pending is None:
            self.finished(command.record.command_id, NOT_CONNECTED)
        else:
            self._send(command, link)

    def _not_announced(self, failure: Any, command: _Open) -> None:
        """Sent all the same, it could lock the station out: its new password would be wrong here."""
        code, reason = OcppgwError.code, "a fault of the gateway itself; its log has it"
        if failure.check(OcppgwError) is None:
            log.failure("a fault of the gateway itself", failure=failure)
        else:
            code, reason = failure.value.code, failure.getErrorMessage()
        self.finished(
            command.record.command_id, CommandResult(Outcome.FAILED, error_code=code, error_description=reason)
        )

    def _send(self, command: _Open, link: Link) -> None:
        """Its CALL was made for the OCPP version the station spoke then; it may have come back with another."""
        if command.pending is not None and command.record.ocpp_version == link.version.name:
            link.call(command.pending)
        else:
            self.finished(command.record.command_id, OTHER_VERSION)

    # --- the end

    def _end(self, _settled: None, command: _Open, result: CommandResult) -> None:
        sent = None if command.pending is None else command.pending.payload
        self._close(command.record, shown(result, sent), timed_out=result.error_code == "Timeout")

    def _close(self, record: CommandRecord, result: CommandResult, *, timed_out: bool) -> None:
        command = self._open.get(record.command_id)
        if command is not None:
            _cancel(command)
        ended = msgspec.structs.replace(
            record,
            status=terminal_status(result.outcome, timed_out),
            outcome=result.outcome.value,
            response_at=rfc3339(self._clock.seconds()).decode(),
            response_payload=result.response,
            error=error_of(result),
        )
        event = self._event(event_type(result.outcome, timed_out), ended, payload_of(result))
        self._store_end(ended, event)

    def _store_end(self, ended: CommandRecord, event: Record) -> None:
        """Until it is stored: the end is what the backend waits for. A crash before that is the sweep's affair."""

        def stored(won: bool) -> None:
            self._open.pop(ended.command_id, None)
            if won:
                self._metrics.command_ended(ended.outcome or "Unknown")
            for waiting in self._ended.pop(ended.command_id, ()):
                waiting.callback(ended)

        def failed(failure: Any) -> None:
            self._not_stored(failure, ended.command_id)
            self._clock.callLater(RETRY_SECONDS, self._store_end, ended, event)

        self._store.change_command(ended, event).addCallbacks(stored, failed)

    def _event(self, kind: str, record: CommandRecord, payload: Mapping[str, Any], *, repeat: str = "") -> Record:
        return command_event(
            kind, msgspec.to_builtins(record), self._clock.seconds(), payload, self._node_id, repeat=repeat
        )

    def _not_settled(self, failure: Any, command_id: str) -> None:
        self._metrics.note("credentials-not-stored")
        log.error(
            "the old and the new credentials both stay good after command {command}: {reason}",
            command=command_id,
            reason=failure.getErrorMessage(),
        )

    def _not_stored(self, failure: Any, command_id: str) -> None:
        self._metrics.note("command-not-stored")
        log.error("command {command} not stored: {reason}", command=command_id, reason=failure.getErrorMessage())


class _Nobody:
    """Waits for a record nobody answers for."""

    def durable(self, token: int) -> None: ...

    def refused(self, token: int, reason: str) -> None:
        log.warn("event not stored: {reason}", reason=reason)


NOBODY = _Nobody()


def _cancel(command: _Open) -> None:
    if command.timer is not None and command.timer.active():
        command.timer.cancel()
    command.timer = None

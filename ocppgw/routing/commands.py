"""A command's way: accepted, stored, sent, and ended exactly once.

    submit -> stored with CommandRouted -> CALL on the station's link (CommandDispatched) -> answer, deadline or loss
           -> compare-and-set to its end, together with the one terminal event

The compare-and-set and the event share one transaction of the store, so a crash leaves either both or neither; what a
crash left open is closed by `sweep` at the next start. A station that isn't connected fails the command at once.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.errors import CommandError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.calls import NOT_SENT, PendingCall
from ocppgw.ocpp.effects import CommandResult, Dispatched, Record
from ocppgw.ocpp.events import command_event
from ocppgw.ocpp.intents import map_command
from ocppgw.ocpp.outcomes import Outcome, event_type, terminal_status
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import CommandRecord, Store
from ocppgw.routing.links import Clock, Link, Links
from ocppgw.routing.outbox import Outbox

log = Logger(namespace="ocppgw.commands")

ENDED = frozenset({"Accepted", "Rejected", "Failed", "Timeout"})
MAX_ID_LENGTH = 128
MAX_TIMEOUT_SECONDS = 86_400.0
RETRY_SECONDS = 1.0  # between attempts to store a command's end while the disk refuses writes

NOT_CONNECTED = CommandResult(
    Outcome.FAILED, error_code="NotConnected", error_description="the station is not connected to this gateway"
)
OTHER_VERSION = CommandResult(
    Outcome.FAILED,
    error_code="OtherVersion",
    error_description="the station reconnected with another OCPP version before the command was sent",
)
RESTARTED = CommandResult(
    Outcome.UNKNOWN,
    error_code="GatewayRestarted",
    error_description="the gateway stopped before the command ended; the charger may have run it",
)


class CommandRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What a backend sends (the outside contract, section 3). Times: `requestedAt` RFC 3339, `timeoutSec` seconds."""

    command_type: str
    command_id: str = ""
    charge_point_id: str | None = None
    station_id: str | None = None
    connector_id: int | None = None
    ocpp_version: str | None = None
    requested_by: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None
    requested_at: str | None = None
    timeout_sec: float | None = None


class _Open(msgspec.Struct):
    """A command on its way in this process."""

    record: CommandRecord
    pending: PendingCall
    timer: IDelayedCall | None = None  # only while it waits between two connections


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
        self._open: dict[str, _Open] = {}
        self._waiting: dict[str, list[str]] = {}  # charger id -> commands to send when it is back
        self._ended: dict[str, list[Deferred[CommandRecord | None]]] = {}

    # --- the backend's side

    def submit(self, request: Mapping[str, Any]) -> "Deferred[CommandRecord]":
        """See `ports.GatewayApi.submit`. Raises nothing: errors come through the Deferred."""
        try:
            wanted = self._checked(request)
            link = self._link_of(wanted)
            record, pending = self._prepared(wanted, link)
        except CommandError as error:
            failed: Deferred[CommandRecord] = Deferred()
            failed.errback(error)
            return failed
        stored = self._store.open_command(record, self._event("CommandRouted", record, {}))
        return stored.addCallback(self._stored, record, pending)

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
        if command is not None:
            self._close(command.record, result, timed_out=result.error_code == "Timeout")

    def late(self, command_id: str, result: CommandResult) -> None:
        """The charger answered after the end: reported, the end stands."""

        def report(record: CommandRecord | None) -> None:
            if record is not None:
                event = self._event("CommandLateResult", record, _event_payload(result))
                self._outbox.publish(event, (), NOBODY, 0)

        self._store.command(command_id).addCallback(report).addErrback(self._not_stored, command_id)

    def requeued(self, command_id: str) -> None:
        """Its connection went before it was sent: kept for the next one until its deadline."""
        command = self._open.get(command_id)
        if command is None:
            return
        charge_point_id = command.record.charge_point_id
        self._waiting.setdefault(charge_point_id, []).append(command_id)
        delay = max(0.0, command.pending.deadline - self._clock.seconds())
        command.timer = self._clock.callLater(delay, self.finished, command_id, NOT_SENT)

    def link_opened(self, link: Link) -> None:
        for command_id in self._waiting.pop(link.station.charge_point_id, ()):
            command = self._open.get(command_id)
            if command is not None:
                _cancel(command)
                self._send(command, link)

    # --- from request to record

    def _checked(self, request: Mapping[str, Any]) -> CommandRequest:
        try:
            wanted = msgspec.convert(request, CommandRequest)
        except msgspec.ValidationError as error:
            raise CommandError(
                f"the command request is not valid: {error}", hint="see the CommandRequest schema"
            ) from None
        if not wanted.charge_point_id and not wanted.station_id:
            raise CommandError("neither chargePointId nor stationId is given", hint="name the station")
        if len(wanted.command_id) > MAX_ID_LENGTH:
            raise CommandError(f"commandId is longer than {MAX_ID_LENGTH} characters", hint="a UUID will do")
        if wanted.timeout_sec is not None and not 0 < wanted.timeout_sec <= MAX_TIMEOUT_SECONDS:
            raise CommandError("timeoutSec is out of range", hint=f"above 0, at most {MAX_TIMEOUT_SECONDS:.0f} seconds")
        return wanted

    def _link_of(self, wanted: CommandRequest) -> Link | None:
        if wanted.charge_point_id:
            return self._links.get(wanted.charge_point_id)
        link = self._links.of_station(wanted.station_id or "")
        if link is None:
            raise CommandError(
                f"no connected charger belongs to stationId {wanted.station_id!r}", hint="give its chargePointId"
            )
        return link

    def _prepared(self, wanted: CommandRequest, link: Link | None) -> tuple[CommandRecord, PendingCall | None]:
        now = self._clock.seconds()
        requested_at = now if wanted.requested_at is None else _seconds(wanted.requested_at)
        deadline = requested_at + (wanted.timeout_sec or self._default_timeout)
        record = CommandRecord(
            command_id=wanted.command_id or self._new_id(),
            command_type=wanted.command_type,
            charge_point_id=wanted.charge_point_id or (link.station.charge_point_id if link else ""),
            status="Queued",
            requested_at=rfc3339(requested_at).decode(),
            connector_id=wanted.connector_id,
            node_id=self._node_id,
            deadline=deadline,
            request_payload=wanted.payload,
        )
        if link is None:
            return record, None
        version = link.version
        mapped = map_command(
            version,
            wanted.command_type,
            wanted.payload or {},
            wanted.connector_id,
            new_remote_start_id=self._new_number,
        )
        record = msgspec.structs.replace(
            record,
            action=mapped.action,
            station_id=link.station.station_id,
            tenant_id=link.station.tenant_id,
            ocpp_version=version.name,
        )
        return record, PendingCall(record.command_id, mapped.action, dict(mapped.payload), deadline)

    def _stored(
        self, existing: CommandRecord | None, record: CommandRecord, pending: PendingCall | None
    ) -> CommandRecord:
        if existing is not None:
            repeat = self._event("CommandDuplicate", existing, {"status": existing.status}, repeat=self._new_id())
            self._outbox.publish(repeat, (), NOBODY, 0)
            return existing
        placeholder = PendingCall(record.command_id, record.action or "", {}, record.deadline or 0.0)
        self._open[record.command_id] = _Open(record, pending or placeholder)
        link = self._links.get(record.charge_point_id)
        if pending is None or link is None:
            self.finished(record.command_id, NOT_CONNECTED)
        else:
            self._send(self._open[record.command_id], link)
        return record

    def _send(self, command: _Open, link: Link) -> None:
        """Its CALL was made for the OCPP version the station spoke then; it may have come back with another."""
        if command.record.ocpp_version == link.version.name:
            link.call(command.pending)
        else:
            self.finished(command.record.command_id, OTHER_VERSION)

    # --- the end

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
            error=_error(result),
        )
        event = self._event(event_type(result.outcome, timed_out), ended, _event_payload(result))
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


def _error(result: CommandResult) -> dict[str, Any] | None:
    if result.error_code is None:
        return None
    error = {"code": result.error_code, "description": result.error_description or ""}
    return error if result.error_details is None else {**error, "details": result.error_details}


def _event_payload(result: CommandResult) -> dict[str, Any]:
    payload: dict[str, Any] = {"outcome": result.outcome.value}
    if result.status is not None:
        payload["status"] = result.status
    if result.response is not None:
        payload["response"] = result.response
    error = _error(result)
    if error is not None:
        payload["error"] = error
    return payload


def _seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"requestedAt {text[:40]!r} is no RFC 3339 time", hint="2026-11-23T12:00:00Z") from None
    if moment.tzinfo is None:
        raise CommandError("requestedAt has no time zone", hint="end it with Z")
    return moment.timestamp()

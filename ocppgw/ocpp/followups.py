"""What the station tells after it has answered a command, matched to that command.

A **report** comes in parts (NotifyReport, NotifyMonitoringReport, NotifyCustomerInformation, NotifyDisplayMessages,
ReportChargingProfiles, ReportDERControl) that carry the command's requestId and, but for the last one, `tbc` (2.x part
2, B07, B08, N02, N09, K09). Each part is an event of its own with the command's id in it, and the last
one is followed by `ReportCompleted` with all of them in order. A report that stays away, breaks off or has a hole in
its seqNos ends in `ReportCompleted`, too, with `complete` false and the reason. PARTS and BYTES bound what is kept of
one report: what exceeds them is left out there (its own events stay) and the report is not complete.

**Progress** of an upload, an update or a battery swap carries the requestId, too (1.6 partly none: then it belongs to
the last command of its kind). A command that the station answers AcceptedCanceled has put an end to the one before it:
`OperationCancelled` (TC_N_36).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from ocppgw.ocpp.effects import CommandResult, Dispatched, Effect, Note, Publish
from ocppgw.ocpp.events import EventWriter
from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.state import StationState

REPORTS = {
    "GetBaseReport": "NotifyReport",
    "GetReport": "NotifyReport",
    "GetMonitoringReport": "NotifyMonitoringReport",
    "CustomerInformation": "NotifyCustomerInformation",
    "GetDisplayMessages": "NotifyDisplayMessages",
    "GetChargingProfiles": "ReportChargingProfiles",
    "GetDERControl": "ReportDERControl",
}
PROGRESS = {
    "GetLog": "LogStatusNotification",
    "GetDiagnostics": "DiagnosticsStatusNotification",
    "UpdateFirmware": "FirmwareStatusNotification",
    "SignedUpdateFirmware": "SignedFirmwareStatusNotification",
    "PublishFirmware": "PublishFirmwareStatusNotification",
    "RequestBatterySwap": "BatterySwap",
}
FOLLOWED = REPORTS.keys() | PROGRESS.keys()
PARTS_OF_REPORTS = frozenset(REPORTS.values())
MESSAGES = PARTS_OF_REPORTS | frozenset(PROGRESS.values())

REPORT_SECONDS = 300.0  # from the command, or its last part, to the next part
REPORTS_OPEN = 8  # per station; the oldest one ends when there are more
PARTS = 1000  # of one report
BYTES = 512 * 1024  # of all parts of one report: the event must pass Kafka's limit of 1 MiB

Then = Callable[[], Effect | None]


def _number(payload: Mapping[str, Any], name: str) -> int | None:
    """An integer of a valid payload: JSON Schema takes 7.0 for one. None, too, when it is beyond 64 bits."""
    value = payload.get(name)
    return None if value is None or abs(value) >= 2**63 else int(value)


class _Report(msgspec.Struct):
    """A report on its way. `parts`: JSON by seqNo, or by arrival where the parts have none."""

    command_id: str
    action: str
    request_id: int
    until: float
    parts: dict[int, bytes] = {}
    size: int = 0
    left_out: int = 0

    def add(self, number: int | None, part: bytes) -> None:
        number = len(self.parts) if number is None else number
        if number in self.parts:  # sent again
            return
        if len(self.parts) >= PARTS or self.size + len(part) > BYTES:
            self.left_out += 1
            return
        self.parts[number] = part
        self.size += len(part)

    def missing(self) -> list[int]:
        """seqNos below the highest one that never came, the first 100."""
        if self.left_out:
            return []
        top = max(self.parts, default=-1)
        if top - len(self.parts) > PARTS:  # an invented number: no list as long as it says
            return [next(number for number in range(top) if number not in self.parts)]
        return [number for number in range(top) if number not in self.parts][:100]


class FollowUps:
    """Those of one connection. Times are the session's seconds."""

    __slots__ = ("_events", "_last", "_reports", "_state")

    def __init__(self, state: StationState, events: EventWriter) -> None:
        self._state = state
        self._events = events
        self._reports: dict[tuple[str, int], _Report] = {}  # by the message that brings it and requestId
        self._last: dict[str, tuple[str, int | None]] = {}  # action -> the command before, and its requestId

    # --- the command

    def dispatched(self, sent: Dispatched) -> list[Effect]:
        """A CALL of `FOLLOWED` went out; what it asks for may come before its answer."""
        action, request_id = sent.action, _number(sent.payload, "requestId")
        message = REPORTS.get(action)
        if message is None:
            self._remember(PROGRESS[action], request_id, sent.command_id)
            return []
        if request_id is None or (action == "CustomerInformation" and not sent.payload["report"]):
            return []
        self._remember(message, request_id, sent.command_id)
        key = (message, request_id)
        effects: list[Effect] = [self._end(key, "Superseded", sent.at)] if key in self._reports else []
        if len(self._reports) >= REPORTS_OPEN:
            effects.append(self._end(next(iter(self._reports)), "Superseded", sent.at))
        self._reports[key] = _Report(sent.command_id, action, request_id, sent.at + REPORT_SECONDS)
        return effects

    def ended(self, command_id: str, result: CommandResult, now: float) -> list[Effect]:
        """The command was answered: nothing follows a refusal, and some answers cancel what went before."""
        if result.outcome not in (Outcome.ACCEPTED, Outcome.UNKNOWN):  # unknown: the charger may have run it
            self._reports = {key: row for key, row in self._reports.items() if row.command_id != command_id}
            return []
        if result.outcome is Outcome.UNKNOWN:
            return []
        found = next((name for name, known in self._commands().items() if known == command_id), "")
        message, _, number = found.partition("|")
        if message in PARTS_OF_REPORTS or not message:
            return []
        before = self._last.get(message)
        self._last[message] = (command_id, int(number) if number else None)
        if result.status != "AcceptedCanceled" or before is None or before[0] == command_id:
            return []
        return [self._cancelled(message, before, command_id, now)]

    def _cancelled(self, message: str, before: tuple[str, int | None], by: str, now: float) -> Effect:
        command_id, request_id = before
        action = next(name for name, progress in PROGRESS.items() if progress == message)
        members: dict[str, Any] = {"action": action, "cancelledBy": by}
        if request_id is not None:
            members["requestId"] = request_id
        return Publish(self._events.own("OperationCancelled", now, members, correlation_id=command_id), 0)

    def _remember(self, message: str, request_id: int | None, command_id: str) -> None:
        memory = self._state.remembering()
        memory.remember_command(f"{message}|{'' if request_id is None else request_id}", command_id)

    def _commands(self) -> Mapping[str, str]:
        return self._state.memory.commands if self._state.memory is not None else {}

    # --- what the station sends

    def received(self, message: str, payload: Mapping[str, Any], part: bytes, now: float) -> tuple[bytes, Then | None]:
        """A valid message of `MESSAGES`: members for its event, and what is to be done once that is durable."""
        request_id = _number(payload, "requestId")
        command_id = self._commands().get(f"{message}|{'' if request_id is None else request_id}")
        if command_id is None:
            return b"", None
        then = None
        if request_id is not None:
            key = (message, request_id)
            report = self._reports.get(key)
            if report is not None:
                then = partial(self._part, key, report, payload, part, now)
        return b',"commandId":%b' % dumps(command_id), then

    def _part(
        self, key: tuple[str, int], report: _Report, payload: Mapping[str, Any], part: bytes, now: float
    ) -> Effect | None:
        if self._reports.get(key) is not report:
            return None  # ended meanwhile
        report.add(_number(payload, "seqNo"), part)
        report.until = now + REPORT_SECONDS
        if payload.get("tbc"):
            return None
        reason = "TooLarge" if report.left_out else "MissingParts" if report.missing() else ""
        return self._end(key, reason, now)

    # --- the ends

    @property
    def wake_at(self) -> float | None:
        return min((report.until for report in self._reports.values()), default=None)

    def tick(self, now: float) -> list[Effect]:
        late = [key for key, report in self._reports.items() if report.until <= now]
        return [effect for key in late for effect in (Note("report-incomplete"), self._end(key, "Timeout", now))]

    def lost(self, now: float) -> list[Effect]:
        return [self._end(key, "Disconnected", now) for key in list(self._reports)]

    def _end(self, key: tuple[str, int], reason: str, now: float) -> Publish:
        report = self._reports.pop(key)
        members: dict[str, Any] = {
            "action": report.action,
            "requestId": report.request_id,
            "complete": not reason,
        }
        if reason:
            members["reason"] = reason
        if report.left_out:
            members["leftOut"] = report.left_out
        missing = report.missing()
        if missing:
            members["missing"] = missing
        parts = b",".join(report.parts[number] for number in sorted(report.parts))
        record = self._events.own(
            "ReportCompleted", now, members, extra=b',"parts":[%b]' % parts, correlation_id=report.command_id
        )
        return Publish(record, 0)

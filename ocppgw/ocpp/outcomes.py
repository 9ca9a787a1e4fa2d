"""What a charger's answer to a command means: one outcome for the many statuses of three versions.

    CALLRESULT  -> outcome_of_result(version, action, payload)
    CALLERROR   -> outcome_of_error(code)
    timeout, lost connection -> Outcome.UNKNOWN: the charger may have done it

The table covers every status (and per-item attributeStatus) of the official schemas' CSMS-to-charger responses; a
status it does not know is FAILED.
"""

import enum
from collections.abc import Mapping
from typing import Any

from ocppgw.ocpp.versions import V16, OcppVersion, by_name, normalise_code


class Outcome(enum.Enum):
    """How a command ended. PARTIAL: the items of one command ended differently."""

    ACCEPTED = "Accepted"
    SCHEDULED = "Scheduled"
    ACCEPTED_EMPTY = "AcceptedEmpty"
    NOT_SUPPORTED = "NotSupported"
    REJECTED = "Rejected"
    PARTIAL = "Partial"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


_STATUSES = {
    Outcome.ACCEPTED: "Accepted AcceptedCanceled Unlocked Unpublished",
    Outcome.SCHEDULED: "Scheduled RebootRequired",
    Outcome.ACCEPTED_EMPTY: "EmptyResultSet NoProfiles NoTariff",
    Outcome.NOT_SUPPORTED: """NotSupported NotImplemented NotSupportedAttributeType UnsupportedMonitorType
        NotSupportedMessageFormat NotSupportedPriority NotSupportedState LanguageNotSupported ConditionNotSupported
        UnknownVendorId UnknownMessageId""",
    Outcome.REJECTED: """Rejected Failed Unknown NotFound Invalid VersionMismatch Faulted Occupied Unavailable
        UnlockFailed OngoingAuthorizedTransaction UnknownConnector UnknownComponent UnknownVariable Duplicate
        InvalidCertificate RevokedCertificate DownloadOngoing NoFirmware UnknownTransaction TooManyElements
        DuplicateTariffId TxNotFound NoCurrencyChange NoProfile""",
}
STATUS_OUTCOMES = {name: outcome for outcome, names in _STATUSES.items() for name in names.split()}

# A question that found nothing was answered; the same word means failure elsewhere.
OVERRIDES = {
    ("GetDisplayMessages", "Unknown"): Outcome.ACCEPTED_EMPTY,
    ("GetInstalledCertificateIds", "NotFound"): Outcome.ACCEPTED_EMPTY,
    ("GetDERControl", "NotFound"): Outcome.ACCEPTED_EMPTY,
}

# Actions answered item by item: member that holds the items, member of an item that holds its status.
ITEM_STATUSES = {
    "GetVariables": ("getVariableResult", "attributeStatus"),
    "SetVariables": ("setVariableResult", "attributeStatus"),
    "SetVariableMonitoring": ("setMonitoringResult", "status"),
    "ClearVariableMonitoring": ("clearMonitoringResult", "status"),
    "ClearTariffs": ("clearTariffsResult", "status"),
}

_ERRORS = {
    "NotSupported": Outcome.NOT_SUPPORTED,
    "NotImplemented": Outcome.NOT_SUPPORTED,
    "SecurityError": Outcome.REJECTED,
}
_ACCEPTED = frozenset({Outcome.ACCEPTED, Outcome.SCHEDULED, Outcome.ACCEPTED_EMPTY, Outcome.PARTIAL})
_REJECTED = frozenset({Outcome.REJECTED, Outcome.NOT_SUPPORTED})


def outcome_of_result(
    version: str | OcppVersion, action: str, payload: Mapping[str, Any]
) -> tuple[Outcome, str | None]:
    """Outcome of a valid CALLRESULT, with the charger's status text (None when it gave none or the items differ).

    `version` is an OcppVersion or its name. Never raises: an answer that can't be understood is FAILED.
    """
    if action in ITEM_STATUSES:
        return _of_items(action, payload)
    if "status" in payload:
        return _of_status(action, payload["status"])
    if version is V16 or (isinstance(version, str) and by_name(version) is V16):
        return _of_answer_without_status_16(action, payload), None
    return Outcome.ACCEPTED, None


def _of_status(action: str, status: object) -> tuple[Outcome, str | None]:
    if not isinstance(status, str):
        return Outcome.FAILED, None
    return OVERRIDES.get((action, status)) or STATUS_OUTCOMES.get(status, Outcome.FAILED), status


def _of_items(action: str, payload: Mapping[str, Any]) -> tuple[Outcome, str | None]:
    list_name, status_name = ITEM_STATUSES[action]
    items = payload.get(list_name)
    if not isinstance(items, list) or not items:
        return Outcome.FAILED, None
    results = {_of_status(action, item.get(status_name) if isinstance(item, Mapping) else None) for item in items}
    outcomes = {outcome for outcome, _ in results}
    statuses = {status for _, status in results}
    return outcomes.pop() if len(outcomes) == 1 else Outcome.PARTIAL, statuses.pop() if len(statuses) == 1 else None


def _of_answer_without_status_16(action: str, payload: Mapping[str, Any]) -> Outcome:
    match action:
        case "GetConfiguration" if payload.get("unknownKey"):
            return Outcome.PARTIAL if payload.get("configurationKey") else Outcome.REJECTED
        case "GetDiagnostics" if not payload.get("fileName"):
            return Outcome.ACCEPTED_EMPTY
        case "GetLocalListVersion" if payload.get("listVersion") == -1:
            return Outcome.NOT_SUPPORTED
    return Outcome.ACCEPTED


def outcome_of_error(code: str) -> Outcome:
    """Outcome of a CALLERROR with this code, in any version's spelling."""
    return _ERRORS.get(normalise_code(code), Outcome.FAILED)


def terminal_status(outcome: Outcome, timed_out: bool = False) -> str:
    """A command's final `status`: Accepted, Rejected, Failed or Timeout."""
    if timed_out:
        return "Timeout"
    if outcome in _ACCEPTED:
        return "Accepted"
    return "Rejected" if outcome in _REJECTED else "Failed"


def event_type(outcome: Outcome, timed_out: bool = False) -> str:
    """The eventType that ends a command: CommandAccepted, CommandRejected, CommandFailed or CommandTimeout."""
    return f"Command{terminal_status(outcome, timed_out)}"

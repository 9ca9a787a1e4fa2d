"""OCPP 1.6J, 2.0.1 and 2.1 as data: names on the wire, error codes, boot rules and the actions of each.

Whoever needs a difference between them asks a field of `OcppVersion`. Which actions exist follows the official schemas
(OCPP 1.6 edition 2 with the security whitepaper; 2.0.1 edition 3 and 2.1 edition 1, part 3).
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Kinds of topic, named by configuration: cpms station, session, command and audit events, and dead letters.
STATION, SESSION, COMMAND, AUDIT, DEAD = "station", "session", "command", "audit", "dead"


class Direction(enum.Enum):
    """Who may send the CALL."""

    UP = "charger to CSMS"
    DOWN = "CSMS to charger"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One action of one version.

    `event_type` is the eventType of the DomainEvent made of it ("" when only the CSMS sends it) and `topic` its kind of
    topic. `never_refused`: the charger keeps it until it is answered and in the end discards it, so a CALLERROR loses
    billing or security data (OCPP 1.6 sections 4.7, 4.8, 4.10; 2.x J02.FR.19, E13). `is_send`: a SEND, never answered.
    """

    name: str
    direction: Direction
    event_type: str = ""
    topic: str = STATION
    never_refused: bool = False
    is_send: bool = False


@dataclass(frozen=True, slots=True)
class ErrorCodes:
    """A version's wire names of CALLERROR codes; `envelope` is for an array that is no proper CALL."""

    formation: str
    envelope: str
    occurrence: str
    property_constraint: str = "PropertyConstraintViolation"
    type_constraint: str = "TypeConstraintViolation"
    not_implemented: str = "NotImplemented"
    not_supported: str = "NotSupported"
    internal: str = "InternalError"
    protocol: str = "ProtocolError"
    security: str = "SecurityError"
    generic: str = "GenericError"


# 1.6 misspells "Occurrence", and its errata 2025-04 (sections 5.1, 5.2) keep both old names on purpose.
_CODES_16 = ErrorCodes("FormationViolation", "FormationViolation", "OccurenceConstraintViolation")
_CODES_2X = ErrorCodes("FormatViolation", "RpcFrameworkError", "OccurrenceConstraintViolation")
_NORMAL = {_CODES_16.formation: _CODES_2X.formation, _CODES_16.occurrence: _CODES_2X.occurrence}


def normalise_code(code: str) -> str:
    """The 2.x spelling of an error code; anything unknown comes back as it is (chargers invent codes)."""
    return _NORMAL.get(code, code)


@dataclass(frozen=True, slots=True, eq=False)
class OcppVersion:
    """One protocol version. Compared by identity: V16, V201 and V21 are the only instances.

    - `name`: as in identities' allowedProtocols and DomainEvent.ocppVersion
    - `subprotocols`, `path_names`: lower case; names of Sec-WebSocket-Protocol and of the URL's version segment
    - `schema_package`: sub-package of the PyPI package `ocpp` that holds the schemas
    - `up`, `down`: names of the actions the charger (CSMS) may send; DataTransfer is in both, the SEND of 2.1 in `up`
    - `pending_down`: what may be sent to a charger in boot state Pending; `remote_start_stop`: what never may
    - `trigger_reply_actions`: requestedMessage of a trigger -> actions that answer it; none for CustomTrigger, whose
      answer is the vendor's affair
    - `report_actions`: action that asks for a report -> action that brings it, allowed while Pending
    - `answers_unreadable`: a text without a readable id is answered with the id "-1" (2.x part 4 section 4.2.3)
    - `has_signed`: `<Action>-Signed` wrappers are accepted (2.x part 4 section 7)
    """

    name: str
    subprotocols: tuple[str, ...]
    path_names: tuple[str, ...]
    schema_package: str
    codes: ErrorCodes
    actions: Mapping[str, ActionSpec]
    up: frozenset[str]
    down: frozenset[str]
    pending_down: frozenset[str]
    remote_start_stop: frozenset[str]
    trigger_actions: frozenset[str]
    trigger_reply_actions: Mapping[str, frozenset[str]]
    report_actions: Mapping[str, str]
    answers_unreadable: bool
    has_signed: bool
    has_send: bool
    has_call_result_error: bool


_UP_16 = """Authorize BootNotification DiagnosticsStatusNotification FirmwareStatusNotification Heartbeat
    LogStatusNotification MeterValues SecurityEventNotification SignCertificate SignedFirmwareStatusNotification
    StartTransaction StatusNotification StopTransaction"""
_DOWN_16 = """CancelReservation CertificateSigned ChangeAvailability ChangeConfiguration ClearCache ClearChargingProfile
    DeleteCertificate ExtendedTriggerMessage GetCompositeSchedule GetConfiguration GetDiagnostics
    GetInstalledCertificateIds GetLocalListVersion GetLog InstallCertificate RemoteStartTransaction
    RemoteStopTransaction ReserveNow Reset SendLocalList SetChargingProfile SignedUpdateFirmware TriggerMessage
    UnlockConnector UpdateFirmware"""
_UP_201 = """Authorize BootNotification ClearedChargingLimit FirmwareStatusNotification Get15118EVCertificate
    GetCertificateStatus Heartbeat LogStatusNotification MeterValues NotifyChargingLimit NotifyCustomerInformation
    NotifyDisplayMessages NotifyEVChargingNeeds NotifyEVChargingSchedule NotifyEvent NotifyMonitoringReport NotifyReport
    PublishFirmwareStatusNotification ReportChargingProfiles ReservationStatusUpdate SecurityEventNotification
    SignCertificate StatusNotification TransactionEvent"""
_DOWN_201 = """CancelReservation CertificateSigned ChangeAvailability ClearCache ClearChargingProfile
    ClearDisplayMessage ClearVariableMonitoring CostUpdated CustomerInformation DeleteCertificate GetBaseReport
    GetChargingProfiles GetCompositeSchedule GetDisplayMessages GetInstalledCertificateIds GetLocalListVersion
    GetLog GetMonitoringReport GetReport GetTransactionStatus GetVariables InstallCertificate PublishFirmware
    RequestStartTransaction RequestStopTransaction ReserveNow Reset SendLocalList SetChargingProfile
    SetDisplayMessage SetMonitoringBase SetMonitoringLevel SetNetworkProfile SetVariableMonitoring SetVariables
    TriggerMessage UnlockConnector UnpublishFirmware UpdateFirmware"""
_UP_21 = f"""{_UP_201} BatterySwap ClosePeriodicEventStream GetCertificateChainStatus NotifyDERAlarm NotifyDERStartStop
    NotifyPriorityCharging NotifySettlement OpenPeriodicEventStream PullDynamicScheduleUpdate ReportDERControl
    VatNumberValidation"""
_DOWN_21 = f"""{_DOWN_201} AFRRSignal AdjustPeriodicEventStream ChangeTransactionTariff ClearDERControl ClearTariffs
    GetDERControl GetPeriodicEventStream GetTariffs NotifyAllowedEnergyTransfer NotifyWebPaymentStarted
    RequestBatterySwap SetDERControl SetDefaultTariff UpdateDynamicSchedule UsePriorityCharging"""
_SEND_21 = "NotifyPeriodicEventStream"

# Where the eventType is not the action's own name. TransactionEvent is told apart by its own eventType member.
_EVENT_TYPES = {
    "BootNotification": "StationBooted",
    "Heartbeat": "StationHeartbeat",
    "StatusNotification": "ConnectorStatusChanged",
    "DataTransfer": "DataTransferReceived",
    "StartTransaction": "SessionStarted",
    "StopTransaction": "SessionStopped",
    "MeterValues": "MeterValuesReceived",
    "TransactionEvent": "SessionEvent",
}
_SESSION_ACTIONS = frozenset({"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"})
_NEVER_REFUSED = _SESSION_ACTIONS | {"SecurityEventNotification"}


def _up_spec(name: str, direction: Direction = Direction.UP, *, is_send: bool = False) -> ActionSpec:
    topic = SESSION if name in _SESSION_ACTIONS else STATION
    return ActionSpec(name, direction, _EVENT_TYPES.get(name, name), topic, name in _NEVER_REFUSED, is_send)


def _actions(up: str, down: str, send: str = "") -> Mapping[str, ActionSpec]:
    specs = [_up_spec("DataTransfer", Direction.BOTH)]
    specs += [_up_spec(name) for name in up.split()]
    specs += [ActionSpec(name, Direction.DOWN) for name in down.split()]
    specs += [_up_spec(name, is_send=True) for name in send.split()]
    return MappingProxyType({spec.name: spec for spec in specs})


def _answered_by_itself(names: str, **others: Iterable[str]) -> Mapping[str, frozenset[str]]:
    replies = {name: frozenset({name}) for name in names.split()}
    return MappingProxyType(replies | {name: frozenset(actions) for name, actions in others.items()})


def _may_be_sent_by(actions: Mapping[str, ActionSpec], sender: Direction) -> frozenset[str]:
    return frozenset(name for name, spec in actions.items() if spec.direction in (sender, Direction.BOTH))


_ACTIONS_16 = _actions(_UP_16, _DOWN_16)
_ACTIONS_201 = _actions(_UP_201, _DOWN_201)
_ACTIONS_21 = _actions(_UP_21, _DOWN_21, _SEND_21)

_REMOTE_16 = frozenset({"RemoteStartTransaction", "RemoteStopTransaction"})
_REMOTE_2X = frozenset({"RequestStartTransaction", "RequestStopTransaction"})
# B02.FR.01, and the certificate renewal that A00.FR.429, .806 and .807 want of a charger held in Pending.
_PENDING_DOWN_2X = frozenset(
    {
        *("GetVariables", "SetVariables", "GetBaseReport", "GetReport", "TriggerMessage"),
        *("CertificateSigned", "InstallCertificate"),
    }
)
_REPORTS_2X = MappingProxyType({"GetBaseReport": "NotifyReport", "GetReport": "NotifyReport"})
_SIGN = {"SignCertificate"}
_TRIGGERS_201 = """BootNotification LogStatusNotification FirmwareStatusNotification Heartbeat MeterValues
    StatusNotification TransactionEvent PublishFirmwareStatusNotification"""

V16 = OcppVersion(
    name="1.6J",
    subprotocols=("ocpp1.6", "ocpp1.6j"),
    path_names=("1.6", "1.6j"),
    schema_package="v16",
    codes=_CODES_16,
    actions=_ACTIONS_16,
    up=_may_be_sent_by(_ACTIONS_16, Direction.UP),
    down=_may_be_sent_by(_ACTIONS_16, Direction.DOWN),
    pending_down=_may_be_sent_by(_ACTIONS_16, Direction.DOWN) - _REMOTE_16,  # OCPP 1.6 section 4.2
    remote_start_stop=_REMOTE_16,
    trigger_actions=frozenset({"TriggerMessage", "ExtendedTriggerMessage"}),
    trigger_reply_actions=_answered_by_itself(
        """BootNotification DiagnosticsStatusNotification LogStatusNotification Heartbeat MeterValues
        StatusNotification""",
        # The extended trigger asks for the signed one under the same name (security whitepaper).
        FirmwareStatusNotification=("FirmwareStatusNotification", "SignedFirmwareStatusNotification"),
        SignChargePointCertificate=_SIGN,
    ),
    report_actions=MappingProxyType({}),
    answers_unreadable=False,
    has_signed=False,
    has_send=False,
    has_call_result_error=False,
)

V201 = OcppVersion(
    name="2.0.1",
    subprotocols=("ocpp2.0.1",),
    path_names=("2.0.1",),
    schema_package="v201",
    codes=_CODES_2X,
    actions=_ACTIONS_201,
    up=_may_be_sent_by(_ACTIONS_201, Direction.UP),
    down=_may_be_sent_by(_ACTIONS_201, Direction.DOWN),
    pending_down=_PENDING_DOWN_2X,
    remote_start_stop=_REMOTE_2X,
    trigger_actions=frozenset({"TriggerMessage"}),
    trigger_reply_actions=_answered_by_itself(
        _TRIGGERS_201,
        SignChargingStationCertificate=_SIGN,
        SignV2GCertificate=_SIGN,
        SignCombinedCertificate=_SIGN,
    ),
    report_actions=_REPORTS_2X,
    answers_unreadable=True,
    has_signed=True,
    has_send=False,
    has_call_result_error=False,
)

V21 = OcppVersion(
    name="2.1",
    subprotocols=("ocpp2.1",),
    path_names=("2.1",),
    schema_package="v21",
    codes=_CODES_2X,
    actions=_ACTIONS_21,
    up=_may_be_sent_by(_ACTIONS_21, Direction.UP),
    down=_may_be_sent_by(_ACTIONS_21, Direction.DOWN),
    pending_down=_PENDING_DOWN_2X,
    remote_start_stop=_REMOTE_2X,
    trigger_actions=frozenset({"TriggerMessage"}),
    trigger_reply_actions=_answered_by_itself(
        _TRIGGERS_201,
        SignChargingStationCertificate=_SIGN,
        SignV2GCertificate=_SIGN,
        SignV2G20Certificate=_SIGN,
        SignCombinedCertificate=_SIGN,
        CustomTrigger=(),
    ),
    report_actions=_REPORTS_2X,
    answers_unreadable=True,
    has_signed=True,
    has_send=True,
    has_call_result_error=True,
)

VERSIONS = (V16, V201, V21)

_BY_SUBPROTOCOL = {name: version for version in VERSIONS for name in version.subprotocols}
_BY_PATH_NAME = {name: version for version in VERSIONS for name in version.path_names}
_BY_NAME = {version.name: version for version in VERSIONS}


def by_subprotocol(name: str) -> OcppVersion | None:
    """The version a Sec-WebSocket-Protocol value names, in any case; None when it is not served (as `ocpp2.0`)."""
    return _BY_SUBPROTOCOL.get(name.lower())


def by_path_name(name: str) -> OcppVersion | None:
    """The version a URL's version segment names, in any case; None when it names none."""
    return _BY_PATH_NAME.get(name.lower())


def by_name(name: str) -> OcppVersion | None:
    """The version with exactly this `name` (`1.6J`, `2.0.1`, `2.1`)."""
    return _BY_NAME.get(name)

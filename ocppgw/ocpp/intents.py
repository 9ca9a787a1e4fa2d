"""From a CommandRequest's commandType and payload to the CALL of the charger's version.

A commandType is an action the CSMS may send in that version, with the action's own payload; or one of these intents,
written the same for every version (names of the outside contract, section 3):

    Reset               {type: Soft | Hard, connectorId?}        Reset
    RemoteStart         {idTag, connectorId?}                    RemoteStartTransaction | RequestStartTransaction
    RemoteStop          {sessionId | transactionId}              RemoteStopTransaction | RequestStopTransaction
    UnlockConnector     {connectorId}                            UnlockConnector
    ChangeConfiguration {key, value}                             ChangeConfiguration | SetVariables
    TriggerMessage      {requestedMessage, connectorId?}         TriggerMessage | ExtendedTriggerMessage (1.6)
    UpdateFirmware      {location, retrieveDate}                 UpdateFirmware | SignedUpdateFirmware (1.6)

connectorId may also stand in the CommandRequest itself. A 1.6 connector n is EVSE n with connector 1 in 2.x. Members an
intent does not know go along unchanged, so that each version's own fields can be used; the schema has the last word.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from ocppgw.errors import CommandError
from ocppgw.ocpp.schemas import Violation, schema_set
from ocppgw.ocpp.versions import OcppVersion

Payload = dict[str, Any]


class MappedCommand(NamedTuple):
    """The CALL to send: the action and a payload that is valid for it."""

    action: str
    payload: Payload


class _Request(NamedTuple):
    """An intent to be mapped: mappers may take `members` apart; connector 0, the whole station, is None."""

    members: Payload
    connector: int | None
    new_request_id: Callable[[], int]


_Mapper = Callable[[_Request], MappedCommand]

# Actions that carry a requestId, by which what follows is known: the gateway's own where the command has none.
_NUMBERED = frozenset(
    {
        *("GetBaseReport", "GetReport", "GetMonitoringReport", "CustomerInformation", "GetDisplayMessages"),
        *("GetChargingProfiles", "GetDERControl", "GetLog", "PublishFirmware", "RequestBatterySwap"),
    }
)


def map_command(
    version: OcppVersion,
    command_type: str,
    payload: Mapping[str, Any],
    connector_id: int | None,
    new_remote_start_id: Callable[[], int],
) -> MappedCommand:
    """The CALL for a command.

    `new_remote_start_id` gives a positive int32, for a remoteStartId or a requestId the payload leaves out.
    Raises CommandError: UnsupportedCommand when the version has no such commandType, InvalidCommand when the payload is
    not valid for the action.
    """
    native = command_type in version.down
    mapper = _INTENTS[version.name].get(command_type)
    if mapper is None and not native:
        raise _unsupported(version, command_type)
    members = dict(payload)
    mapped = MappedCommand(command_type, members)
    if mapper and not (native and _is_complete(version, mapped, connector_id)):
        mapped = mapper(_Request(*_without_connector(members, connector_id), new_remote_start_id))
    if mapped.action in _NUMBERED and "requestId" not in mapped.payload:
        mapped.payload["requestId"] = new_remote_start_id()
    violation = _violation(version, mapped)
    if violation:
        raise CommandError(
            f"{command_type}: {violation.description}",
            hint=f"the payload must suit {mapped.action} of OCPP {version.name}",
        )
    return mapped


def _unsupported(version: OcppVersion, command_type: str) -> CommandError:
    known = sorted(version.down | _INTENTS[version.name].keys())
    if command_type in version.up:
        message = f"{command_type} is sent by the charger, not to it"
    else:
        message = f"OCPP {version.name} has no command {command_type[:50]!r}"
    near = get_close_matches(command_type[:50], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return CommandError(message, hint=hint, code="UnsupportedCommand")


def _is_complete(version: OcppVersion, command: MappedCommand, connector_id: int | None) -> bool:
    """Whether the payload is the action's own already, and a connectorId beside it adds nothing."""
    named = connector_id is None or not {"connectorId", "evseId", "evse"}.isdisjoint(command.payload)
    return named and _violation(version, command) is None


def _violation(version: OcppVersion, command: MappedCommand) -> Violation | None:
    validator = schema_set(version).requests[command.action]
    try:
        valid = validator.is_valid(command.payload)
    except ValueError:  # what no JSON text can hold, as a member name that is no string
        valid = False
    return None if valid else validator.explain(command.payload)


def _without_connector(payload: Payload, connector_id: int | None) -> tuple[Payload, int | None]:
    members = dict(payload)
    if "evseId" in members and "connectorId" in members:
        return members, connector_id  # the charger's own numbering: not ours to merge
    connector = members.pop("connectorId", members.pop("evseId", connector_id))
    return members, None if connector == 0 else connector


def _with(members: Payload, name: str, value: object) -> Payload:
    return members if value is None else {name: value, **members}


# 1.6


def _reset_16(request: _Request) -> MappedCommand:
    members = request.members
    if "type" in members:
        members["type"] = _renamed({"OnIdle": "Soft", "Immediate": "Hard"}, members["type"])
    return MappedCommand("Reset", members)


def _remote_start_16(request: _Request) -> MappedCommand:
    members = request.members
    if "idToken" in members and "idTag" not in members:
        token = members.pop("idToken")
        members["idTag"] = token.get("idToken") if isinstance(token, Mapping) else token
    return MappedCommand("RemoteStartTransaction", _with(members, "connectorId", request.connector))


def _remote_stop_16(request: _Request) -> MappedCommand:
    transaction_id = _take_transaction_id(request.members)
    if isinstance(transaction_id, str) and transaction_id.isascii() and transaction_id.isdecimal():
        transaction_id = int(transaction_id[:20])
    return MappedCommand("RemoteStopTransaction", _with(request.members, "transactionId", transaction_id))


def _unlock_16(request: _Request) -> MappedCommand:
    return MappedCommand("UnlockConnector", _with(request.members, "connectorId", request.connector))


def _change_configuration_16(request: _Request) -> MappedCommand:
    members = request.members
    if "value" in members:
        members["value"] = _as_text(members["value"])
    return MappedCommand("ChangeConfiguration", members)


def _trigger_16(request: _Request) -> MappedCommand:
    members = _with(request.members, "connectorId", request.connector)
    message = members.get("requestedMessage")
    if message in ("SignChargingStationCertificate", "SignChargePointCertificate"):
        return MappedCommand("ExtendedTriggerMessage", members | {"requestedMessage": "SignChargePointCertificate"})
    # The log's status has a message of its own in the security extension; the core can't ask for it.
    extended = message == "LogStatusNotification"
    return MappedCommand("ExtendedTriggerMessage" if extended else "TriggerMessage", members)


def _update_firmware_16(request: _Request) -> MappedCommand:
    members = _flat_firmware(request.members)
    if "signature" not in members and "signingCertificate" not in members:
        members.pop("requestId", None)  # answers to the plain message carry none
        return MappedCommand("UpdateFirmware", _renamed_member(members, "retrieveDateTime", "retrieveDate"))
    return MappedCommand("SignedUpdateFirmware", _nested_firmware(members, request.new_request_id))


# 2.0.1 and 2.1


def _reset_2x(request: _Request) -> MappedCommand:
    members = _with(request.members, "evseId", request.connector)
    if "type" in members:
        members["type"] = _renamed({"Soft": "OnIdle", "Hard": "Immediate"}, members["type"])
    return MappedCommand("Reset", members)


def _remote_start_2x(request: _Request) -> MappedCommand:
    members = request.members
    token = members.pop("idTag", None)
    if token is None:
        token = members.pop("idToken", None)
    if isinstance(token, str):
        token = {"idToken": token, "type": "Central"}
    members = _with(_with(members, "idToken", token), "evseId", request.connector)
    if "remoteStartId" not in members:
        members["remoteStartId"] = request.new_request_id()
    return MappedCommand("RequestStartTransaction", members)


def _remote_stop_2x(request: _Request) -> MappedCommand:
    transaction_id = _take_transaction_id(request.members)
    if isinstance(transaction_id, int) and not isinstance(transaction_id, bool):
        transaction_id = str(transaction_id)
    return MappedCommand("RequestStopTransaction", _with(request.members, "transactionId", transaction_id))


def _unlock_2x(request: _Request) -> MappedCommand:
    members = request.members
    if request.connector is not None:
        members = {"evseId": request.connector, "connectorId": 1, **members}
    return MappedCommand("UnlockConnector", members)


def _change_configuration_2x(request: _Request) -> MappedCommand:
    members = request.members
    if "setVariableData" in members:
        return MappedCommand("SetVariables", members)
    if "key" in members:
        members |= _component_and_variable(members.pop("key"))
    members = _renamed_member(members, "value", "attributeValue")
    if "attributeValue" in members:
        members["attributeValue"] = _as_text(members["attributeValue"])
    for name in ("component", "variable"):
        if isinstance(members.get(name), str):
            members[name] = {"name": members[name]}
    return MappedCommand("SetVariables", {"setVariableData": [members]})


def _trigger_2x(request: _Request) -> MappedCommand:
    members = request.members
    names = {
        "DiagnosticsStatusNotification": "LogStatusNotification",
        "SignChargePointCertificate": "SignChargingStationCertificate",
    }
    message = _renamed(names, members.get("requestedMessage"))
    if message is not None:
        members["requestedMessage"] = message
    if request.connector is not None and "evse" not in members:
        evse = {"id": request.connector}
        # StatusNotification is about a connector, all others about an EVSE (F06.FR.13).
        members["evse"] = evse | {"connectorId": 1} if message == "StatusNotification" else evse
    return MappedCommand("TriggerMessage", members)


def _update_firmware_2x(request: _Request) -> MappedCommand:
    return MappedCommand("UpdateFirmware", _nested_firmware(_flat_firmware(request.members), request.new_request_id))


# Shared


def _renamed(names: Mapping[str, str], value: Any) -> Any:
    return names.get(value, value) if isinstance(value, str) else value


def _renamed_member(members: Payload, old: str, new: str) -> Payload:
    if old in members and new not in members:
        members[new] = members.pop(old)
    return members


def _take_transaction_id(members: Payload) -> Any:
    return members.pop("transactionId", members.pop("sessionId", None))


def _as_text(value: Any) -> Any:
    """Settings are strings on the wire; `true` and numbers are what people write."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _component_and_variable(key: Any) -> Payload:
    component, dot, variable = key.partition(".") if isinstance(key, str) else ("", "", "")
    if not (component and dot and variable):
        raise CommandError(
            "ChangeConfiguration: the key names no component and variable",
            hint="write Component.Variable, for example OCPPCommCtrlr.HeartbeatInterval",
        )
    return {"component": component, "variable": variable}


_FIRMWARE_MEMBERS = ("location", "retrieveDateTime", "installDateTime", "signingCertificate", "signature")


def _flat_firmware(members: Payload) -> Payload:
    firmware = members.get("firmware")
    if isinstance(firmware, Mapping):
        del members["firmware"]
        members |= firmware
    return members


def _nested_firmware(members: Payload, new_request_id: Callable[[], int]) -> Payload:
    members = _renamed_member(members, "retrieveDate", "retrieveDateTime")
    firmware = {name: members.pop(name) for name in _FIRMWARE_MEMBERS if name in members}
    if "requestId" not in members:
        members["requestId"] = new_request_id()
    return members | {"firmware": firmware}


_INTENTS_16: Mapping[str, _Mapper] = {
    "Reset": _reset_16,
    "RemoteStart": _remote_start_16,
    "RemoteStop": _remote_stop_16,
    "UnlockConnector": _unlock_16,
    "ChangeConfiguration": _change_configuration_16,
    "TriggerMessage": _trigger_16,
    "UpdateFirmware": _update_firmware_16,
}
_INTENTS_2X: Mapping[str, _Mapper] = {
    "Reset": _reset_2x,
    "RemoteStart": _remote_start_2x,
    "RemoteStop": _remote_stop_2x,
    "UnlockConnector": _unlock_2x,
    "ChangeConfiguration": _change_configuration_2x,
    "TriggerMessage": _trigger_2x,
    "UpdateFirmware": _update_firmware_2x,
}
_INTENTS = {"1.6J": _INTENTS_16, "2.0.1": _INTENTS_2X, "2.1": _INTENTS_2X}

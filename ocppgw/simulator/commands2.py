"""Answers of an OCPP 2.0.1 station to every command of the CSMS; 2.1 keeps them all.

Part 2 chapters, by letter: B configuration and reset, D local list, E transactions, F remote control, G availability,
H reservations, J metering, K smart charging, L firmware, M certificates, N monitoring and logs, O displays, P data.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from ocppgw.simulator import commands, reports2
from ocppgw.simulator.charging import Cause, Connector, Reservation
from ocppgw.simulator.configuration import COMPONENTS_2
from ocppgw.simulator.dialect import Handler, Payload, timestamp
from ocppgw.simulator.messages2 import meter_value
from ocppgw.simulator.outbox import Outgoing

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

ACCEPTED: Payload = {"status": "Accepted"}
REJECTED: Payload = {"status": "Rejected"}


# B: reset, variables, network profiles


def reset(station: "Station", payload: Payload, now: float) -> Payload:
    if "evseId" in payload:
        return _reset_evse(station, payload, now)
    if payload["type"] == "OnIdle" and station.charging:
        station.reset_when_idle()
        return {"status": "Scheduled"}
    cause = None if payload["type"] == "ImmediateAndResume" else Cause.HARD_RESET
    station.reboot_soon(now, "RemoteReset", cause=cause, graceful=True)
    return ACCEPTED


def _reset_evse(station: "Station", payload: Payload, now: float) -> Payload:
    connector = station.connectors.get(payload["evseId"])
    if connector is None:
        return REJECTED
    if payload["type"] == "Immediate":
        connector.stop(Cause.HARD_RESET, now)
    waits = payload["type"] == "OnIdle" and connector.session is not None
    return {"status": "Scheduled" if waits else "Accepted"}


def _item_status(station: "Station", item: Payload) -> str:
    component, name = item["component"]["name"], item["variable"]["name"]
    if component not in COMPONENTS_2:
        return "UnknownComponent"
    if (component, name) not in station.settings:
        return "UnknownVariable"
    return "Accepted" if item.get("attributeType", "Actual") == "Actual" else "NotSupportedAttributeType"


def get_variables(station: "Station", payload: Payload, now: float) -> Payload:
    results = []
    for item in payload["getVariableData"]:
        key = (item["component"]["name"], item["variable"]["name"])
        result = _echo(item, "component", "variable", "attributeType")
        result["attributeStatus"] = _item_status(station, item)
        if result["attributeStatus"] == "Accepted":
            if station.dialect.settings[key].secret:
                result["attributeStatus"] = "Rejected"
            else:
                result["attributeValue"] = station.settings[key]
        results.append(result)
    return {"getVariableResult": results}


def set_variables(station: "Station", payload: Payload, now: float) -> Payload:
    results = []
    for item in payload["setVariableData"]:
        result = _echo(item, "component", "variable", "attributeType")
        result["attributeStatus"] = _set_variable(station, item, now)
        results.append(result)
    return {"setVariableResult": results}


def _set_variable(station: "Station", item: Payload, now: float) -> str:
    status = _item_status(station, item)
    if status != "Accepted":
        return status
    key = (item["component"]["name"], item["variable"]["name"])
    setting = station.dialect.settings[key]
    if not setting.writable or not setting.accepts(item["attributeValue"]):
        return "Rejected"
    commands.change_setting(station, key, item["attributeValue"], now)
    return "RebootRequired" if setting.needs_reboot else "Accepted"


def _echo(item: Payload, *members: str) -> Payload:
    return {name: item[name] for name in members if name in item}


# E, F, G: transactions, remote control, availability


def request_start(station: "Station", payload: Payload, now: float) -> Payload:
    token = str(payload["idToken"]["idToken"])
    connector = commands.connector_for(station, payload.get("evseId"), token)
    if connector is None or not station.accepted:
        return REJECTED
    if "chargingProfile" in payload:
        commands.add_profile(station, connector.number, payload["chargingProfile"])
    connector.remote_start(token, payload["remoteStartId"], now)
    return ACCEPTED


def request_stop(station: "Station", payload: Payload, now: float) -> Payload:
    connector = station.session_of(payload["transactionId"])
    if connector is None or not station.accepted:
        return REJECTED
    connector.stop(Cause.REMOTE, now)
    return ACCEPTED


def get_transaction_status(station: "Station", payload: Payload, now: float) -> Payload:
    answer: Payload = {"messagesInQueue": bool(station.outbox.transactional)}
    if "transactionId" in payload:  # E14.FR.06: without an id there is nothing to be ongoing
        answer["ongoingIndicator"] = station.session_of(payload["transactionId"]) is not None
    return answer


def unlock(station: "Station", payload: Payload, now: float) -> Payload:
    connector = station.connectors.get(payload["evseId"])
    if connector is None or payload["connectorId"] != 1:
        return {"status": "UnknownConnector"}
    return {"status": "Unlocked" if connector.session is None else "OngoingAuthorizedTransaction"}


def change_availability(station: "Station", payload: Payload, now: float) -> Payload:
    evse = payload.get("evse")
    chosen = _evses(station, evse["id"] if evse else 0)
    return commands.change_availability(station, chosen, payload["operationalStatus"] == "Operative", now)


def _evses(station: "Station", number: int) -> list[Connector]:
    """EVSE 0 stands for all of them."""
    return [connector for key, connector in station.connectors.items() if number in (0, key)]


def trigger_message(station: "Station", payload: Payload, now: float) -> Payload:
    message, evse = payload["requestedMessage"], payload.get("evse")
    chosen = _evses(station, evse["id"] if evse else 0)
    if message == "BootNotification":
        return commands.trigger_boot(station, now)
    if message == "StatusNotification":
        if evse is None or "connectorId" not in evse:
            return REJECTED  # F06.FR.13
        items = [Outgoing(message, station.dialect.status(connector, now)) for connector in chosen]
    elif message == "MeterValues":
        items = [_meter_values(connector, now) for connector in chosen]
    elif message == "TransactionEvent":
        return _trigger_transactions(station, chosen, now)
    elif message in TRIGGERED:
        items = [TRIGGERED[message](station)]
    else:
        return {"status": "NotImplemented"}
    return commands.trigger(station, items, now) if items else REJECTED


def _trigger_transactions(station: "Station", chosen: list[Connector], now: float) -> Payload:
    running = [connector for connector in chosen if connector.session is not None]
    for connector in running:
        connector.trigger_sample(now)
    return ACCEPTED if running else REJECTED


def _meter_values(connector: Connector, now: float) -> Outgoing:
    connector.advance(now)
    payload = {"evseId": connector.number, "meterValue": [meter_value(connector.reading(now), "Trigger", now)]}
    return Outgoing("MeterValues", payload)


def _signing(kind: str | None) -> Callable[["Station"], Outgoing]:
    def item(station: "Station") -> Outgoing:
        payload = {"csr": commands.signing_request(station.station_id)}
        if kind is not None:  # left out: one certificate for both uses
            payload["certificateType"] = kind
        return Outgoing("SignCertificate", payload)

    return item


TRIGGERED: Mapping[str, Callable[["Station"], Outgoing]] = {
    "Heartbeat": lambda station: Outgoing("Heartbeat", {}),
    "FirmwareStatusNotification": lambda station: station.dialect.firmware(
        "Downloading" if station.memory.firmware_running else "Idle", station.memory.firmware_request, signed=True
    ),
    "LogStatusNotification": commands.log_status_now,
    "PublishFirmwareStatusNotification": lambda station: Outgoing(
        "PublishFirmwareStatusNotification", {"status": "Idle"}
    ),
    "SignChargingStationCertificate": _signing("ChargingStationCertificate"),
    "SignV2GCertificate": _signing("V2GCertificate"),
    "SignCombinedCertificate": _signing(None),
}


# D, H: local list, reservations


def send_local_list(station: "Station", payload: Payload, now: float) -> Payload:
    entries = payload.get("localAuthorizationList", [])
    rows = {str(entry["idToken"]["idToken"]): entry.get("idTokenInfo") for entry in entries}
    return commands.send_local_list(station, payload["updateType"], payload["versionNumber"], rows)


def reserve_now(station: "Station", payload: Payload, now: float) -> Payload:
    token, evse_id = str(payload["idToken"]["idToken"]), payload.get("evseId")
    connector = station.connectors.get(evse_id) if evse_id else commands.connector_for(station, None, "")
    expires_at = datetime.fromisoformat(payload["expiryDateTime"]).timestamp()
    return commands.reserve(station, connector, Reservation(payload["id"], token), expires_at, now)


# K: smart charging


def set_charging_profile(station: "Station", payload: Payload, now: float) -> Payload:
    profile = payload["chargingProfile"]
    if profile["chargingProfilePurpose"] == "TxProfile" and station.session_of(profile.get("transactionId")) is None:
        return REJECTED  # K01.FR.09
    return commands.add_profile(station, payload["evseId"], profile)


def clear_charging_profile(station: "Station", payload: Payload, now: float) -> Payload:
    criteria = payload.get("chargingProfileCriteria", {})
    if "chargingProfileId" in payload:
        found = [payload["chargingProfileId"]] if payload["chargingProfileId"] in station.memory.profiles else []
    else:
        found = station.memory.matching_profiles(
            criteria.get("evseId"), criteria.get("chargingProfilePurpose"), criteria.get("stackLevel")
        )
    for key in found:
        del station.memory.profiles[key]
    return {"status": "Accepted" if found else "Unknown"}


def get_composite_schedule(station: "Station", payload: Payload, now: float) -> Payload:
    number, unit = payload["evseId"], payload.get("chargingRateUnit", "W")
    if number != 0 and number not in station.connectors:
        return REJECTED
    schedule = {
        "evseId": number,
        "duration": payload["duration"],
        "scheduleStart": timestamp(now),
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": commands.limit(station, number, unit, now)}],
    }
    return {"status": "Accepted", "schedule": schedule}


# L, M: firmware, certificates


def update_firmware(station: "Station", payload: Payload, now: float) -> Payload:
    signed = "signature" in payload["firmware"]
    return commands.update_firmware(station, payload["requestId"], signed=signed, now=now)


def publish_firmware(station: "Station", payload: Payload, now: float) -> Payload:
    request_id, location, checksum = payload["requestId"], payload["location"], payload["checksum"]

    def report(status: str, at: float) -> None:
        message = {"status": status, "requestId": request_id}
        if status == "Published":
            station.memory.published.add(checksum)
            message["location"] = [location]
        station.send("PublishFirmwareStatusNotification", message, at)

    if len(station.memory.published) >= reports2.MAX_PUBLISHED:
        return REJECTED
    commands.sequence(station, "publish", ("Downloading", "Downloaded", "ChecksumVerified", "Published"), report, now)
    return ACCEPTED


def unpublish_firmware(station: "Station", payload: Payload, now: float) -> Payload:
    if payload["checksum"] not in station.memory.published:
        return {"status": "NoFirmware"}
    station.memory.published.remove(payload["checksum"])
    return {"status": "Unpublished"}


def get_installed_certificate_ids(station: "Station", payload: Payload, now: float) -> Payload:
    kinds = payload.get("certificateType")
    found = [
        {"certificateType": kind, "certificateHashData": data}
        for kind, data in station.memory.certificates.values()
        if kinds is None or kind in kinds
    ]
    return {"status": "Accepted", "certificateHashDataChain": found} if found else {"status": "NotFound"}


def get_log(station: "Station", payload: Payload, now: float) -> Payload:
    replaced = station.memory.log_request
    answer = commands.get_log(station, payload, now)
    if replaced is not None:  # N01.FR.20
        station.send("LogStatusNotification", {"status": "AcceptedCanceled", "requestId": replaced}, now)
    return answer


COMMANDS_201: Mapping[str, Handler] = {
    "CancelReservation": commands.cancel_reservation,
    "CertificateSigned": commands.accept,
    "ChangeAvailability": change_availability,
    "ClearCache": commands.accept,
    "ClearChargingProfile": clear_charging_profile,
    "CostUpdated": commands.nothing,
    "DataTransfer": commands.data_transfer,
    "DeleteCertificate": commands.delete_certificate,
    "GetCompositeSchedule": get_composite_schedule,
    "GetInstalledCertificateIds": get_installed_certificate_ids,
    "GetLocalListVersion": lambda station, payload, now: {"versionNumber": station.memory.list_version},
    "GetLog": get_log,
    "GetTransactionStatus": get_transaction_status,
    "GetVariables": get_variables,
    "InstallCertificate": commands.install_certificate,
    "PublishFirmware": publish_firmware,
    "RequestStartTransaction": request_start,
    "RequestStopTransaction": request_stop,
    "ReserveNow": reserve_now,
    "Reset": reset,
    "SendLocalList": send_local_list,
    "SetChargingProfile": set_charging_profile,
    "SetNetworkProfile": commands.accept,
    "SetVariables": set_variables,
    "TriggerMessage": trigger_message,
    "UnlockConnector": unlock,
    "UnpublishFirmware": unpublish_firmware,
    "UpdateFirmware": update_firmware,
    **reports2.COMMANDS,
}

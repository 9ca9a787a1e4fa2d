"""OCPP 2.x commands followed by a report, and what the reports show: inventory, monitors, displays, profiles.

Part 2: B07, B08 (reports), K09 (profiles), N02 to N09 (monitoring, customer information), O (displays).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ocppgw.simulator.configuration import SettingKey
from ocppgw.simulator.dialect import Handler, Payload, timestamp
from ocppgw.simulator.memory import Full

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

PART = 8  # rows per report message: small, so that consumers see `tbc` at work
MAX_PUBLISHED = 20

ACCEPTED: Payload = {"status": "Accepted"}
EMPTY: Payload = {"status": "EmptyResultSet"}


def _parts(rows: Sequence[Any]) -> Iterator[tuple[int, list[Any], bool]]:
    """(seqNo, rows, more to come?)."""
    for seq_no, start in enumerate(range(0, len(rows), PART)):
        yield seq_no, list(rows[start : start + PART]), start + PART < len(rows)


# Inventory


def get_base_report(station: "Station", payload: Payload, now: float) -> Payload:
    keys = list(station.settings)
    if payload["reportBase"] == "ConfigurationInventory":
        keys = [key for key in keys if station.dialect.settings[key].writable]
    elif payload["reportBase"] == "SummaryInventory":
        keys = [key for key in keys if "AvailabilityState" in key]
    return _report(station, keys, payload["requestId"], now)


def get_report(station: "Station", payload: Payload, now: float) -> Payload:
    keys = list(station.settings)
    wanted = payload.get("componentVariable")
    if wanted is not None:
        keys = [key for key in keys if any(_matches(key, item) for item in wanted)]
    return _report(station, keys, payload["requestId"], now)


def _matches(key: SettingKey, item: Payload) -> bool:
    variable = item.get("variable")
    return key[0] == item["component"]["name"] and (variable is None or key[1] == variable["name"])


def _report(station: "Station", keys: list[SettingKey], request_id: int, now: float) -> Payload:
    if not keys:
        return EMPTY
    rows = [_inventory_row(station, key) for key in keys]
    for seq_no, part, more in _parts(rows):
        message = {"requestId": request_id, "generatedAt": timestamp(now), "seqNo": seq_no, "tbc": more}
        station.send("NotifyReport", {**message, "reportData": part}, now, early=True)
    return ACCEPTED


def _inventory_row(station: "Station", key: SettingKey) -> Payload:
    setting = station.dialect.settings[key]
    attribute: Payload = {"type": "Actual", "mutability": setting.mutability, "persistent": True, "constant": False}
    if not setting.secret:
        attribute["value"] = station.settings[key]
    characteristics: Payload = {"dataType": setting.kind, "supportsMonitoring": False}
    if setting.options:
        characteristics["valuesList"] = setting.options
    return {
        "component": {"name": key[0]},
        "variable": {"name": key[1]},
        "variableAttribute": [attribute],
        "variableCharacteristics": characteristics,
    }


# Monitoring


def set_variable_monitoring(station: "Station", payload: Payload, now: float) -> Payload:
    return {"setMonitoringResult": [_set_monitor(station, item) for item in payload["setMonitoringData"]]}


def _set_monitor(station: "Station", item: Payload) -> Payload:
    monitors = station.memory.monitors
    result: Payload = {name: item[name] for name in ("type", "severity", "component", "variable")}
    if "id" in item and item["id"] not in monitors:
        return {**result, "status": "Rejected", "id": item["id"]}  # N04.FR.16
    monitor_id = item.get("id", max(monitors, default=0) + 1)
    try:
        station.memory.store(monitors, monitor_id, {"transaction": False, **item, "id": monitor_id})
    except Full:
        return {**result, "status": "Rejected"}
    return {**result, "status": "Accepted", "id": monitor_id}


def clear_variable_monitoring(station: "Station", payload: Payload, now: float) -> Payload:
    monitors = station.memory.monitors
    results = [
        {"id": key, "status": "NotFound" if monitors.pop(key, None) is None else "Accepted"} for key in payload["id"]
    ]
    return {"clearMonitoringResult": results}


def get_monitoring_report(station: "Station", payload: Payload, now: float) -> Payload:
    rows = [_monitor_row(station, monitor) for monitor in station.memory.monitors.values()]
    if not rows:
        return EMPTY
    for seq_no, part, more in _parts(rows):
        message = {"requestId": payload["requestId"], "generatedAt": timestamp(now), "seqNo": seq_no, "tbc": more}
        station.send("NotifyMonitoringReport", {**message, "monitor": part}, now, early=True)
    return ACCEPTED


def _monitor_row(station: "Station", monitor: Payload) -> Payload:
    shown = {name: monitor[name] for name in ("id", "transaction", "value", "type", "severity")}
    if station.dialect.version == "2.1":
        shown["eventNotificationType"] = "CustomMonitor"
    return {"component": monitor["component"], "variable": monitor["variable"], "variableMonitoring": [shown]}


# Charging profiles


def get_charging_profiles(station: "Station", payload: Payload, now: float) -> Payload:
    criteria = payload["chargingProfile"]
    memory = station.memory
    found = memory.matching_profiles(
        payload.get("evseId"), criteria.get("chargingProfilePurpose"), criteria.get("stackLevel")
    )
    found = [key for key in found if key in criteria.get("chargingProfileId", [key])]
    if not found or "CSO" not in criteria.get("chargingLimitSource", ["CSO"]):
        return {"status": "NoProfiles"}
    for position, key in enumerate(found, 1):
        profile = memory.profiles[key]
        message = {"requestId": payload["requestId"], "chargingLimitSource": "CSO", "evseId": profile.number}
        message |= {"chargingProfile": [profile.payload], "tbc": position < len(found)}
        station.send("ReportChargingProfiles", message, now)
    return ACCEPTED


# Customer information, displays


def customer_information(station: "Station", payload: Payload, now: float) -> Payload:
    if not any(name in payload for name in ("customerCertificate", "idToken", "customerIdentifier")):
        return {"status": "Invalid"}  # N09.FR.09
    if payload["report"]:
        message = {"requestId": payload["requestId"], "seqNo": 0, "tbc": False, "generatedAt": timestamp(now)}
        station.send("NotifyCustomerInformation", {**message, "data": "no data about this customer"}, now)
    return ACCEPTED


def set_display_message(station: "Station", payload: Payload, now: float) -> Payload:
    message = payload["message"]
    transaction_id = message.get("transactionId")
    if transaction_id is not None and station.session_of(transaction_id) is None:
        return {"status": "UnknownTransaction"}
    try:
        station.memory.store(station.memory.displays, message["id"], message)
    except Full:
        return {"status": "Rejected"}
    return ACCEPTED


def get_display_messages(station: "Station", payload: Payload, now: float) -> Payload:
    found = [
        message
        for key, message in station.memory.displays.items()
        if key in payload.get("id", [key])
        and payload.get("priority") in (None, message["priority"])
        and payload.get("state") in (None, message.get("state"))
    ]
    if not found:
        return {"status": "Unknown"}
    for _, part, more in _parts(found):
        message = {"requestId": payload["requestId"], "messageInfo": part, "tbc": more}
        station.send("NotifyDisplayMessages", message, now)
    return ACCEPTED


def clear_display_message(station: "Station", payload: Payload, now: float) -> Payload:
    cleared = station.memory.displays.pop(payload["id"], None)
    return {"status": "Unknown" if cleared is None else "Accepted"}


def _accept(station: "Station", payload: Payload, now: float) -> Payload:
    return ACCEPTED


COMMANDS: Mapping[str, Handler] = {
    "ClearDisplayMessage": clear_display_message,
    "ClearVariableMonitoring": clear_variable_monitoring,
    "CustomerInformation": customer_information,
    "GetBaseReport": get_base_report,
    "GetChargingProfiles": get_charging_profiles,
    "GetDisplayMessages": get_display_messages,
    "GetMonitoringReport": get_monitoring_report,
    "GetReport": get_report,
    "SetDisplayMessage": set_display_message,
    "SetMonitoringBase": _accept,
    "SetMonitoringLevel": _accept,
    "SetVariableMonitoring": set_variable_monitoring,
}

"""Answers of an OCPP 1.6 station to every command of the CSMS (core, the optional profiles, security whitepaper)."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from ocppgw.simulator import commands
from ocppgw.simulator.charging import Cause, Connector, Reservation
from ocppgw.simulator.dialect import Handler, Payload, timestamp
from ocppgw.simulator.messages16 import meter_value
from ocppgw.simulator.outbox import Outgoing

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

ACCEPTED: Payload = {"status": "Accepted"}
REJECTED: Payload = {"status": "Rejected"}


def remote_start(station: "Station", payload: Payload, now: float) -> Payload:
    wanted, id_tag = payload.get("connectorId"), str(payload["idTag"])
    connector = commands.connector_for(station, wanted, id_tag)
    if connector is None or not station.accepted:
        return REJECTED
    if "chargingProfile" in payload:
        commands.add_profile(station, connector.number, payload["chargingProfile"])
    connector.remote_start(id_tag, None, now)
    return ACCEPTED


def remote_stop(station: "Station", payload: Payload, now: float) -> Payload:
    connector = station.session_of(payload["transactionId"])
    if connector is None or not station.accepted:
        return REJECTED
    connector.stop(Cause.REMOTE, now)
    return ACCEPTED


def reset(station: "Station", payload: Payload, now: float) -> Payload:
    soft = payload["type"] == "Soft"
    cause = Cause.SOFT_RESET if soft else Cause.HARD_RESET
    station.reboot_soon(now, "RemoteReset", cause=cause, graceful=soft)
    return ACCEPTED


def unlock(station: "Station", payload: Payload, now: float) -> Payload:
    connector = station.connectors.get(payload["connectorId"])
    if connector is None:
        return {"status": "NotSupported"}  # errata 3.87
    connector.stop(Cause.UNLOCKED, now)
    return {"status": "Unlocked"}


def change_availability(station: "Station", payload: Payload, now: float) -> Payload:
    chosen = _connectors(station, payload["connectorId"])
    return commands.change_availability(station, chosen, payload["type"] == "Operative", now)


def _connectors(station: "Station", number: int) -> list[Connector]:
    """Connector 0 stands for all of them."""
    return [connector for key, connector in station.connectors.items() if number in (0, key)]


def get_configuration(station: "Station", payload: Payload, now: float) -> Payload:
    settings = station.dialect.settings
    asked = payload.get("key") or list(settings)
    known = [key for key in asked if key in settings]
    unknown = [key for key in asked if key not in settings]
    rows = []
    for key in known:
        row = {"key": key, "readonly": not settings[key].writable}
        if not settings[key].secret:
            row["value"] = station.settings[key]
        rows.append(row)
    return {"configurationKey": rows, "unknownKey": unknown} if unknown else {"configurationKey": rows}


def change_configuration(station: "Station", payload: Payload, now: float) -> Payload:
    key, value = payload["key"], payload["value"]
    setting = station.dialect.settings.get(key)
    if setting is None:
        return {"status": "NotSupported"}
    if not setting.writable or not setting.accepts(value):
        return REJECTED
    commands.change_setting(station, key, value, now)
    return {"status": "RebootRequired" if setting.needs_reboot else "Accepted"}


def trigger_message(station: "Station", payload: Payload, now: float) -> Payload:
    message, number = payload["requestedMessage"], payload.get("connectorId")
    if number is not None and number != 0 and number not in station.connectors:
        return REJECTED
    if message == "BootNotification":
        return commands.trigger_boot(station, now)
    connectors = _connectors(station, number or 0)
    if message == "StatusNotification":
        items = [Outgoing(message, station.dialect.status(connector, now)) for connector in connectors]
    elif message == "MeterValues":
        items = [_triggered_meter_values(connector, now) for connector in connectors]
    elif message in TRIGGERED:
        items = [TRIGGERED[message](station)]
    else:
        return {"status": "NotImplemented"}
    return commands.trigger(station, items, now)


def _triggered_meter_values(connector: Connector, now: float) -> Outgoing:
    connector.advance(now)
    payload: Payload = {
        "connectorId": connector.number,
        "meterValue": [meter_value(connector.reading(now), "Trigger", now)],
    }
    if connector.session is not None and isinstance(connector.session.transaction_id, int):
        payload["transactionId"] = connector.session.transaction_id
    return Outgoing("MeterValues", payload)


TRIGGERED: Mapping[str, Callable[["Station"], Outgoing]] = {
    "Heartbeat": lambda station: Outgoing("Heartbeat", {}),
    "DiagnosticsStatusNotification": lambda station: Outgoing(
        "DiagnosticsStatusNotification", {"status": "Uploading" if station.memory.log_request is not None else "Idle"}
    ),
    "FirmwareStatusNotification": lambda station: station.dialect.firmware(
        "Downloading" if station.memory.firmware_running else "Idle", None, signed=False
    ),
    "LogStatusNotification": commands.log_status_now,
    "SignChargePointCertificate": lambda station: Outgoing(
        "SignCertificate", {"csr": commands.signing_request(station.station_id)}
    ),
}


def extended_trigger(station: "Station", payload: Payload, now: float) -> Payload:
    if payload["requestedMessage"] == "FirmwareStatusNotification":
        return commands.trigger(station, [station.dialect.firmware("Idle", None, signed=True)], now)
    return trigger_message(station, payload, now)


def update_firmware(station: "Station", payload: Payload, now: float) -> Payload:
    commands.update_firmware(station, None, signed=False, now=now)
    return {}


def signed_update_firmware(station: "Station", payload: Payload, now: float) -> Payload:
    return commands.update_firmware(station, payload["requestId"], signed=True, now=now)


def get_diagnostics(station: "Station", payload: Payload, now: float) -> Payload:
    station.memory.log_request = 0

    def report(status: str, at: float) -> None:
        if status == "Uploaded":
            station.memory.log_request = None
        station.send("DiagnosticsStatusNotification", {"status": status}, at)

    commands.sequence(station, "log", ("Uploading", "Uploaded"), report, now)
    return {"fileName": f"{station.station_id}-diagnostics.log"[:255]}


def reserve_now(station: "Station", payload: Payload, now: float) -> Payload:
    number = payload["connectorId"]
    connector = station.connectors.get(number) if number else commands.connector_for(station, None, "")
    reservation = Reservation(payload["reservationId"], payload["idTag"])
    return commands.reserve(station, connector, reservation, _seconds(payload["expiryDate"]), now)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def send_local_list(station: "Station", payload: Payload, now: float) -> Payload:
    entries = payload.get("localAuthorizationList", [])
    rows = {str(entry["idTag"]): entry.get("idTagInfo") for entry in entries}
    return commands.send_local_list(station, payload["updateType"], payload["listVersion"], rows)


def set_charging_profile(station: "Station", payload: Payload, now: float) -> Payload:
    return commands.add_profile(station, payload["connectorId"], payload["csChargingProfiles"])


def clear_charging_profile(station: "Station", payload: Payload, now: float) -> Payload:
    if "id" in payload:
        found = [payload["id"]] if payload["id"] in station.memory.profiles else []
    else:
        found = station.memory.matching_profiles(
            payload.get("connectorId"), payload.get("chargingProfilePurpose"), payload.get("stackLevel")
        )
    for key in found:
        del station.memory.profiles[key]
    return {"status": "Accepted" if found else "Unknown"}


def get_composite_schedule(station: "Station", payload: Payload, now: float) -> Payload:
    number, unit = payload["connectorId"], payload.get("chargingRateUnit", "W")
    if number != 0 and number not in station.connectors:
        return REJECTED
    schedule = {
        "duration": payload["duration"],
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": commands.limit(station, number, unit, now)}],
    }
    return {
        "status": "Accepted",
        "connectorId": number,
        "scheduleStart": timestamp(now),
        "chargingSchedule": schedule,
    }


def get_installed_certificate_ids(station: "Station", payload: Payload, now: float) -> Payload:
    kind = payload["certificateType"]
    found = [data for at, data in station.memory.certificates.values() if at == kind]
    return {"status": "Accepted", "certificateHashData": found} if found else {"status": "NotFound"}


COMMANDS_16: Mapping[str, Handler] = {
    "CancelReservation": commands.cancel_reservation,
    "CertificateSigned": commands.accept,
    "ChangeAvailability": change_availability,
    "ChangeConfiguration": change_configuration,
    "ClearCache": commands.accept,
    "ClearChargingProfile": clear_charging_profile,
    "DataTransfer": commands.data_transfer,
    "DeleteCertificate": commands.delete_certificate,
    "ExtendedTriggerMessage": extended_trigger,
    "GetCompositeSchedule": get_composite_schedule,
    "GetConfiguration": get_configuration,
    "GetDiagnostics": get_diagnostics,
    "GetInstalledCertificateIds": get_installed_certificate_ids,
    "GetLocalListVersion": lambda station, payload, now: {"listVersion": station.memory.list_version},
    "GetLog": commands.get_log,
    "InstallCertificate": commands.install_certificate,
    "RemoteStartTransaction": remote_start,
    "RemoteStopTransaction": remote_stop,
    "ReserveNow": reserve_now,
    "Reset": reset,
    "SendLocalList": send_local_list,
    "SetChargingProfile": set_charging_profile,
    "SignedUpdateFirmware": signed_update_firmware,
    "TriggerMessage": trigger_message,
    "UnlockConnector": unlock,
    "UpdateFirmware": update_firmware,
}

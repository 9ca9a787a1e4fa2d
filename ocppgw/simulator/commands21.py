"""What OCPP 2.1 adds: tariffs (I), DER control (R), bidirectional power (Q), battery swap (S), streams (N11 to N15)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ocppgw.simulator import commands
from ocppgw.simulator.commands2 import COMMANDS_201
from ocppgw.simulator.dialect import Handler, Payload
from ocppgw.simulator.memory import Full

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

ACCEPTED: Payload = {"status": "Accepted"}
REJECTED: Payload = {"status": "Rejected"}
# Members of SetDERControl that hold a control, and what ReportDERControl wants beside it
PLAIN = ("enterService", "gradient")
WITH_FLAGS = ("fixedPFAbsorb", "fixedPFInject", "fixedVar", "freqDroop", "limitMaxDischarge", "curve")


# Tariffs


def set_default_tariff(station: "Station", payload: Payload, now: float) -> Payload:
    number = payload["evseId"]
    if number != 0 and number not in station.connectors:
        return REJECTED
    station.memory.tariffs[number] = payload["tariff"]
    return ACCEPTED


def change_transaction_tariff(station: "Station", payload: Payload, now: float) -> Payload:
    return {"status": "TxNotFound"} if station.session_of(payload["transactionId"]) is None else ACCEPTED


def get_tariffs(station: "Station", payload: Payload, now: float) -> Payload:
    rows = []
    for number, tariff in station.memory.tariffs.items():
        if payload["evseId"] in (0, number):
            row = {"tariffId": tariff["tariffId"], "tariffKind": "DefaultTariff"}
            rows.append({**row, "evseIds": [number]} if number else row)
    return {"status": "Accepted", "tariffAssignments": rows} if rows else {"status": "NoTariff"}


def clear_tariffs(station: "Station", payload: Payload, now: float) -> Payload:
    tariffs, evse_id = station.memory.tariffs, payload.get("evseId")
    present = {str(tariff["tariffId"]): number for number, tariff in tariffs.items() if evse_id in (None, number)}
    results: list[Payload] = []
    for tariff_id in payload.get("tariffIds", list(present)):
        cleared = tariff_id in present and tariffs.pop(present[tariff_id], None) is not None
        results.append({"tariffId": tariff_id, "status": "Accepted" if cleared else "NoTariff"})
    return {"clearTariffsResult": results or [{"status": "NoTariff"}]}


# Distributed energy resources


def set_der_control(station: "Station", payload: Payload, now: float) -> Payload:
    if not any(name in payload for name in (*PLAIN, *WITH_FLAGS)):
        return REJECTED
    try:
        station.memory.store(station.memory.der_controls, payload["controlId"], payload)
    except Full:
        return REJECTED
    return ACCEPTED


def _der_found(station: "Station", payload: Payload) -> list[str]:
    return [
        key
        for key, control in station.memory.der_controls.items()
        if payload.get("isDefault") in (None, control["isDefault"])
        and payload.get("controlType") in (None, control["controlType"])
        and payload.get("controlId") in (None, key)
    ]


def clear_der_control(station: "Station", payload: Payload, now: float) -> Payload:
    found = _der_found(station, payload)
    for key in found:
        del station.memory.der_controls[key]
    return {"status": "Accepted" if found else "NotFound"}


def get_der_control(station: "Station", payload: Payload, now: float) -> Payload:
    found = _der_found(station, payload)
    for position, key in enumerate(found, 1):
        message = {"requestId": payload["requestId"], "tbc": position < len(found)}
        station.send("ReportDERControl", {**message, **_der_report(station.memory.der_controls[key])}, now)
    return {"status": "Accepted" if found else "NotFound"}


def _der_report(control: Payload) -> Payload:
    report: Payload = {}
    for name in (*PLAIN, *WITH_FLAGS):
        if name not in control:
            continue
        member = "fixedPF" if name.startswith("fixedPF") else name
        row = {member: control[name], "id": control["controlId"]}
        if name in WITH_FLAGS:
            row |= {"isDefault": control["isDefault"], "isSuperseded": False}
        if name == "curve":
            row["curveType"] = control["controlType"]
        report[name] = [row]
    return report


# Dynamic profiles, battery swap, streams


def update_dynamic_schedule(station: "Station", payload: Payload, now: float) -> Payload:
    profile = station.memory.profiles.get(payload["chargingProfileId"])
    dynamic = profile is not None and profile.payload["chargingProfileKind"] == "Dynamic"
    return ACCEPTED if dynamic else REJECTED


def use_priority_charging(station: "Station", payload: Payload, now: float) -> Payload:
    if station.session_of(payload["transactionId"]) is None:
        return REJECTED
    found = station.memory.matching_profiles(None, "PriorityCharging", None)
    return {"status": "Accepted" if found else "NoProfile"}


def request_battery_swap(station: "Station", payload: Payload, now: float) -> Payload:
    def report(event: str, at: float) -> None:
        battery = {"evseId": 1, "serialNumber": f"BAT-{payload['requestId']}"[:50], "soC": 80, "soH": 97}
        message = {"batteryData": [battery], "eventType": event, "idToken": payload["idToken"]}
        station.send("BatterySwap", {**message, "requestId": payload["requestId"]}, at)

    commands.sequence(station, "swap", ("BatteryIn", "BatteryOut"), report, now)
    return ACCEPTED


def adjust_stream(station: "Station", payload: Payload, now: float) -> Payload:
    return REJECTED  # this station opens no streams, so none can be adjusted


COMMANDS_21: Mapping[str, Handler] = {
    **COMMANDS_201,
    "AFRRSignal": commands.accept,
    "AdjustPeriodicEventStream": adjust_stream,
    "ChangeTransactionTariff": change_transaction_tariff,
    "ClearDERControl": clear_der_control,
    "ClearTariffs": clear_tariffs,
    "GetDERControl": get_der_control,
    "GetPeriodicEventStream": commands.nothing,
    "GetTariffs": get_tariffs,
    "NotifyAllowedEnergyTransfer": commands.accept,
    "NotifyWebPaymentStarted": commands.nothing,
    "RequestBatterySwap": request_battery_swap,
    "SetDERControl": set_der_control,
    "SetDefaultTariff": set_default_tariff,
    "UpdateDynamicSchedule": update_dynamic_schedule,
    "UsePriorityCharging": use_priority_charging,
}

"""What a message says, the same for every OCPP version: connectors, meter values, transactions, tokens, boots.

    normalised(V16.name, "StatusNotification", payload)     -> {"kind": "status", "evseId": 1, "state": "occupied", …}

Members and units: schemas/domain-event.schema.json, `normalised`. It stands beside the original payload in an event,
and replaces nothing. A view is made of what the message says and never of what was said before.

- A 1.6 connector is EVSE number connectorId with one connector, as chargers that speak both see themselves; connectorId
  0 is the station itself and has neither.
- `state` has the words that both know (2.x ConnectorStatusEnumType); `detail` is the station's own.
- A transaction begins, goes on and ends: `phase`. Its meter register at begin and end is `meterWh`: of 1.6 meterStart
  and meterStop, of 2.x the reading with context Transaction.Begin or Transaction.End.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.readings import Reading, readings
from ocppgw.ocpp.versions import V16, V21, V201


class _Answer(msgspec.Struct, rename="camel"):
    transaction_id: int | None = None


_answered = msgspec.json.Decoder(_Answer).decode

Payload = Mapping[str, Any]
View = dict[str, Any]
Make = Callable[[Payload, Any], View]

_STATES_16 = {
    "Available": "available",
    "Preparing": "occupied",
    "Charging": "occupied",
    "SuspendedEV": "occupied",
    "SuspendedEVSE": "occupied",
    "Finishing": "occupied",
    "Reserved": "reserved",
    "Unavailable": "unavailable",
    "Faulted": "faulted",
}
_PHASES = {"Started": "start", "Updated": "update", "Ended": "end"}
_EDGES = {"start": "Transaction.Begin", "end": "Transaction.End"}


def normalised(version: str, action: str, payload: Payload, transaction_id: Any = None) -> View | None:
    """The view of a valid `payload`; None for actions that have none. `transaction_id`: of a 1.6 StartTransaction, as
    the gateway gave it."""
    make = _VIEWS[version].get(action)
    return None if make is None else make(payload, transaction_id)


def member(version: str, action: str, payload: Payload, answer: bytes) -> bytes:
    """The view as a member of an event's payload, with a leading comma; b"" where there is none. `answer`: JSON of the
    payload that the station is answered with."""
    number = _answered(answer).transaction_id if action == "StartTransaction" else None
    view = normalised(version, action, payload, number)
    return b"" if view is None else b',"normalised":%b' % dumps(view)


# --- boots and tokens


def _boot_16(payload: Payload, _: Any) -> View:
    view = {"kind": "boot", "vendor": payload["chargePointVendor"], "model": payload["chargePointModel"]}
    serial = payload.get("chargePointSerialNumber") or payload.get("chargeBoxSerialNumber")
    return _with(view, serialNumber=serial, firmwareVersion=payload.get("firmwareVersion"))


def _boot_2x(payload: Payload, _: Any) -> View:
    station = payload["chargingStation"]
    view = {"kind": "boot", "vendor": station["vendorName"], "model": station["model"], "reason": payload["reason"]}
    return _with(view, serialNumber=station.get("serialNumber"), firmwareVersion=station.get("firmwareVersion"))


def _authorize_16(payload: Payload, _: Any) -> View:
    return {"kind": "authorize", "idToken": {"value": payload["idTag"]}}


def _authorize_2x(payload: Payload, _: Any) -> View:
    return {"kind": "authorize", "idToken": _token(payload["idToken"])}


def _token(token: Mapping[str, Any]) -> View:
    return {"value": token["idToken"], "type": token["type"]}


# --- connectors


def _status_16(payload: Payload, _: Any) -> View:
    view = {"kind": "status", **_place_16(payload["connectorId"])}
    view |= {"state": _STATES_16[payload["status"]], "detail": payload["status"]}
    error = payload["errorCode"]
    return _with(view, at=payload.get("timestamp"), error=None if error == "NoError" else error)


def _status_2x(payload: Payload, _: Any) -> View:
    status = payload["connectorStatus"]
    place = {"evseId": payload["evseId"], "connectorId": payload["connectorId"]}
    return {"kind": "status", **place, "state": status.lower(), "detail": status, "at": payload["timestamp"]}


def _place_16(connector_id: int) -> View:
    return {"evseId": connector_id, "connectorId": 1} if connector_id > 0 else {}


def _place_2x(evse: Mapping[str, Any] | None) -> View:
    return {} if evse is None else _with({"evseId": evse["id"]}, connectorId=evse.get("connectorId"))


# --- meters and transactions


def _meter_16(payload: Payload, _: Any) -> View:
    view = {"kind": "meter", **_place_16(payload["connectorId"])}
    number = payload.get("transactionId")
    view = _with(view, transactionId=None if number is None else str(number))
    return {**view, "readings": readings(payload["meterValue"])}


def _meter_2x(payload: Payload, _: Any) -> View:
    place = {"evseId": payload["evseId"]} if payload["evseId"] > 0 else {}
    return {"kind": "meter", **place, "readings": readings(payload["meterValue"])}


def _start_16(payload: Payload, transaction_id: Any) -> View:
    view = {"kind": "transaction", "phase": "start", **_place_16(payload["connectorId"])}
    view = _with(view, transactionId=None if transaction_id is None else str(transaction_id))
    return {
        **view,
        "at": payload["timestamp"],
        "idToken": {"value": payload["idTag"]},
        "meterWh": float(payload["meterStart"]),
    }


def _stop_16(payload: Payload, _: Any) -> View:
    view: View = {"kind": "transaction", "phase": "end", "transactionId": str(payload["transactionId"])}
    view |= {"at": payload["timestamp"], "meterWh": float(payload["meterStop"])}
    tag, data = payload.get("idTag"), payload.get("transactionData")
    view = _with(view, reason=payload.get("reason"), idToken=None if tag is None else {"value": tag})
    return _with(view, readings=readings(data) if data else None)


def _event_2x(payload: Payload, _: Any) -> View:
    about, phase = payload["transactionInfo"], _PHASES[payload["eventType"]]
    view = {"kind": "transaction", "phase": phase, **_place_2x(payload.get("evse"))}
    view |= {"transactionId": about["transactionId"], "at": payload["timestamp"], "seqNo": payload["seqNo"]}
    token = payload.get("idToken")
    found = readings(payload.get("meterValue", ()))
    return _with(
        view,
        reason=about.get("stoppedReason"),
        chargingState=about.get("chargingState"),
        offline=True if payload.get("offline") else None,
        idToken=None if token is None or token["type"] == "NoAuthorization" else _token(token),
        meterWh=_register(found, _EDGES.get(phase, "")),
        readings=found or None,
    )


def _register(found: list[Reading], context: str) -> float | None:
    values = (each.get("energyImportWh") for each in found if each["context"] == context)
    return next((value for value in values if value is not None), None)


def _with(view: View, **members: Any) -> View:
    """Those that are there."""
    return view | {name: value for name, value in members.items() if value is not None}


_2X: Mapping[str, Make] = {
    "BootNotification": _boot_2x,
    "Authorize": _authorize_2x,
    "StatusNotification": _status_2x,
    "MeterValues": _meter_2x,
    "TransactionEvent": _event_2x,
}
_VIEWS: Mapping[str, Mapping[str, Make]] = {
    V16.name: {
        "BootNotification": _boot_16,
        "Authorize": _authorize_16,
        "StatusNotification": _status_16,
        "MeterValues": _meter_16,
        "StartTransaction": _start_16,
        "StopTransaction": _stop_16,
    },
    V201.name: _2X,
    V21.name: _2X,
}

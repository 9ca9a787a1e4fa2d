"""What the stations say: one `Row` per measured action, the same bytes for every server.

Message templates are bytes for `%` with a mapping of bytes: id (message id), time (RFC 3339, UTC, milliseconds), seq
(rises by one per message, from 1), energy (Wh, rises). The shapes are OCPP 1.6J (part 4 section 4.2) and 2.0.1 (part 4
section 4.2) CALLs: [2, id, action, payload].
"""

import json
from dataclasses import dataclass
from typing import Any

Call = tuple[str, Any]  # action, payload


@dataclass(frozen=True)
class Row:
    name: str
    prefix: str  # of the station ids
    version: str  # as in the URL; the subprotocol is "ocpp" + version
    payload: Any
    transaction: bool = False

    def opening(self, transaction_id: str, time: str) -> list[Call]:
        """CALLs sent once before the measured ones: the boot and, where needed, the transaction's start (seqNo 0)."""
        started = transaction_event("Started", transaction_id, time, 0, "CablePluggedIn", id_token=True)
        return [boot(self.version), *([("TransactionEvent", started)] if self.transaction else [])]

    def closing(self, transaction_id: str, time: str, seq: int) -> list[Call]:
        """CALLs sent once after the measured ones."""
        ended = transaction_event("Ended", transaction_id, time, seq, "EVDeparted")
        return [("TransactionEvent", ended)] if self.transaction else []

    def template(self, transaction_id: str) -> bytes:
        """The measured CALL as bytes for `%`."""
        text = json.dumps([2, "@id@", self.name, self.payload], separators=(",", ":")).replace("%", "%%")
        for slot in ("@seq@", "@energy@"):  # numbers lose the quotes, 1.6's values keep them
            text = text.replace(f'"#{slot}"', f"%({slot.strip('@')})b")
        for slot in ("@id@", "@time@", "@seq@", "@energy@"):
            text = text.replace(slot, f"%({slot.strip('@')})b")
        return text.replace("@transaction@", transaction_id).encode()


def encode_call(message_id: str, action: str, payload: Any) -> bytes:
    return json.dumps([2, message_id, action, payload], separators=(",", ":")).encode()


def boot(version: str) -> Call:
    if version == "1.6":
        return "BootNotification", {
            "chargePointVendor": "Bench",
            "chargePointModel": "B-22",
            "chargePointSerialNumber": "B22-000417",
            "firmwareVersion": "4.1.7",
        }
    station = {"vendorName": "Bench", "model": "B-22", "serialNumber": "B22-000417", "firmwareVersion": "4.1.7"}
    return "BootNotification", {"reason": "PowerUp", "chargingStation": station}


def transaction_event(
    kind: str, transaction_id: str, time: str, seq: Any, trigger: str, *, id_token: bool = False
) -> dict[str, Any]:
    """A 2.0.1 TransactionEventRequest of EVSE 1 with `kind` Started, Updated or Ended."""
    event: dict[str, Any] = {
        "eventType": kind,
        "timestamp": time,
        "triggerReason": trigger,
        "seqNo": seq,
        "transactionInfo": {"transactionId": transaction_id, "chargingState": "Charging"},
        "evse": {"id": 1, "connectorId": 1},
    }
    if id_token:
        event["idToken"] = {"idToken": "04A2245CB12290", "type": "ISO14443"}
    return event


METER_VALUES_16 = {
    "connectorId": 1,
    "transactionId": 4711,
    "meterValue": [
        {
            "timestamp": "@time@",
            "sampledValue": [
                {
                    "value": "@energy@",
                    "context": "Sample.Periodic",
                    "measurand": "Energy.Active.Import.Register",
                    "unit": "Wh",
                },
                {"value": "11040", "measurand": "Power.Active.Import", "unit": "W"},
            ],
        }
    ],
}


def _sample(value: Any, measurand: str, unit: str, phase: str | None = None) -> dict[str, Any]:
    sample = {"value": value, "context": "Sample.Periodic", "measurand": measurand, "unitOfMeasure": {"unit": unit}}
    return sample if phase is None else {**sample, "phase": phase}


UPDATED_201 = {
    **transaction_event("Updated", "@transaction@", "@time@", "#@seq@", "MeterValuePeriodic"),
    "meterValue": [
        {
            "timestamp": "@time@",
            "sampledValue": [
                _sample("#@energy@", "Energy.Active.Import.Register", "Wh"),
                _sample(11040.5, "Power.Active.Import", "W"),
                _sample(16.1, "Current.Import", "A", "L1"),
                _sample(15.9, "Current.Import", "A", "L2"),
                _sample(16.0, "Current.Import", "A", "L3"),
            ],
        }
    ],
}

ROWS = (
    Row("Heartbeat", "HB", "1.6", {}),
    Row(
        "StatusNotification",
        "SN",
        "1.6",
        {"connectorId": 1, "errorCode": "NoError", "status": "Charging", "timestamp": "@time@"},
    ),
    Row("MeterValues", "MV", "1.6", METER_VALUES_16),
    Row("TransactionEvent", "TE", "2.0.1", UPDATED_201, transaction=True),
)

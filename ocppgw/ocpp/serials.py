"""The serial number in BootNotification against the certificate's common name (OCPP 2.0.1, B01.FR.11 and FR.12)."""

from collections.abc import Mapping
from typing import Any

from ocppgw.ocpp.effects import Close, Effect, Note, Publish
from ocppgw.ocpp.events import EventWriter


def serial_numbers(boot: Mapping[str, Any]) -> list[str]:
    """The serial numbers in a valid BootNotification: one at most in 2.x; 1.6 has two fields for it."""
    station = boot.get("chargingStation", boot)
    found = (station.get(name) for name in ("serialNumber", "chargePointSerialNumber", "chargeBoxSerialNumber"))
    return [serial for serial in found if serial]


def lacks(required: str | None, boot: Mapping[str, Any]) -> bool:
    return required is not None and required not in serial_numbers(boot)


def mismatch(events: EventWriter, required: str | None, boot: Mapping[str, Any], now: float) -> list[Effect]:
    """Closed without an answer."""
    facts = {"certificateCommonName": required, "serialNumber": ", ".join(serial_numbers(boot)) or None}
    return [
        Note("serial-number-mismatch"),
        Publish(events.own("SerialNumberMismatch", now, facts), 0),
        Close(1008, "the serial number is not the certificate's"),
    ]

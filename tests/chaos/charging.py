"""What a simulated station sends: a boot, then statuses, meter values and transactions, each where it makes sense."""

import itertools
import random
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.integration.station import boot_payload

JsonObject = dict[str, Any]


class Call(NamedTuple):
    action: str
    payload: JsonObject


Calls = Generator[Call, JsonObject, None]  # each is sent on with its answer


def charging(version: str, chance: random.Random, is_over: Callable[[], bool]) -> Calls:
    """A transaction that was begun is ended."""
    yield Call("BootNotification", boot_payload(version))
    station = Station16() if version == "1.6" else Station201()
    while not is_over():
        match chance.randrange(4):
            case 0:
                yield from station.plugged()
            case 1:
                yield station.status()
            case _:
                yield station.meter_values()
    yield from station.unplugged()


class Station16:
    def __init__(self) -> None:
        self._meter = itertools.count(1)
        self._transaction: int | None = None

    def plugged(self) -> Calls:
        """In, or out when it was in."""
        if self._transaction is not None:
            yield from self.unplugged()
            return
        start = {"connectorId": 1, "idTag": "T", "meterStart": next(self._meter), "timestamp": now()}
        answer = yield Call("StartTransaction", start)
        self._transaction = answer["transactionId"]

    def unplugged(self) -> Calls:
        if self._transaction is not None:
            stop = {"transactionId": self._transaction, "meterStop": next(self._meter), "timestamp": now()}
            yield Call("StopTransaction", stop)
            self._transaction = None

    def status(self) -> Call:
        status = "Available" if self._transaction is None else "Charging"
        return Call(
            "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": status, "timestamp": now()}
        )

    def meter_values(self) -> Call:
        values = [{"timestamp": now(), "sampledValue": [{"value": str(next(self._meter))}]}]
        running = {} if self._transaction is None else {"transactionId": self._transaction}
        return Call("MeterValues", {"connectorId": 1, "meterValue": values, **running})


class Station201:
    def __init__(self) -> None:
        self._meter = itertools.count(1)
        self._begun = itertools.count(1)
        self._transaction = ""
        self._number = 0

    def plugged(self) -> Calls:
        if self._transaction:
            yield from self.unplugged()
            return
        self._transaction, self._number = f"tx-{next(self._begun)}", 0
        yield self._event("Started", "CablePluggedIn")

    def unplugged(self) -> Calls:
        if self._transaction:
            yield self._event("Ended", "EVDeparted")
            self._transaction = ""

    def status(self) -> Call:
        status = "Occupied" if self._transaction else "Available"
        return Call(
            "StatusNotification", {"timestamp": now(), "connectorStatus": status, "evseId": 1, "connectorId": 1}
        )

    def meter_values(self) -> Call:
        if self._transaction:
            return self._event("Updated", "MeterValuePeriodic")
        return Call("MeterValues", {"evseId": 1, "meterValue": self._values()})

    def _event(self, kind: str, reason: str) -> Call:
        event = {
            "eventType": kind,
            "timestamp": now(),
            "triggerReason": reason,
            "seqNo": self._number,
            "transactionInfo": {"transactionId": self._transaction},
            "meterValue": self._values(),
        }
        self._number += 1
        return Call("TransactionEvent", event)

    def _values(self) -> list[JsonObject]:
        return [{"timestamp": now(), "sampledValue": [{"value": next(self._meter)}]}]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

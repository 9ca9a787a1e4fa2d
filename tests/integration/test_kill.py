"""`kill -9` at any moment under load: what was answered is in the journal exactly once, no transaction id twice.

Twenty stations of all three versions run transactions without pause. The daemon is killed at a random moment and
started again on the same state, fifty times. A CALL that was cut off is sent again after the reconnect, half of the
time under its old message id and half of the time under a new one, as stations in the field do.
"""

import asyncio
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.integration.harness import SUBPROTOCOLS, Gateway, boot_payload

KILLS = 50
STATIONS = 20
SEED = 1604
ANSWER_SECONDS = 20.0
TRANSACTIONAL = {"StartTransaction", "StopTransaction", "TransactionEvent"}

Key = tuple[Any, ...]


class Load:
    """What the stations did, as far as they know."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.random = random.Random(SEED)
        self.numbers = itertools.count(1)
        self.answered: list[tuple[str, str, dict[str, Any], str]] = []  # station, action, payload, message id
        self.errors: list[Any] = []
        self.started: dict[Key, int] = {}
        self.sent_again = Counter[str]()
        self.over = False


class LoadStation:
    def __init__(self, load: Load, version: str, charge_point_id: str) -> None:
        self.load, self.version, self.id = load, version, charge_point_id
        self.socket: ClientConnection | None = None
        self.booted = False

    async def run(self) -> None:
        while not self.load.over:
            if not self.booted:
                await self.call("BootNotification", boot_payload(self.version))
                self.booted = True
            await (self.transaction_16() if self.version == "1.6" else self.transaction_2x())
        if self.socket is not None:
            await self.socket.close()

    async def transaction_16(self) -> None:
        number = next(self.load.numbers)
        start = {"connectorId": 1, "idTag": f"T{number}", "meterStart": number, "timestamp": _time(number)}
        answer = await self.call("StartTransaction", start)
        transaction_id = answer["transactionId"]
        key = (self.id, start["idTag"])
        assert self.load.started.setdefault(key, transaction_id) == transaction_id
        for _ in range(3):
            await self.call("StatusNotification", _status(next(self.load.numbers)))
            await self.call("MeterValues", _meter_values(transaction_id, next(self.load.numbers)))
        await self.call(
            "StopTransaction", {"transactionId": transaction_id, "meterStop": 9, "timestamp": _time(number)}
        )

    async def transaction_2x(self) -> None:
        number = next(self.load.numbers)
        for sequence, kind in enumerate(("Started", "Updated", "Updated", "Updated", "Ended")):
            await self.call("Heartbeat", {})
            await self.call("TransactionEvent", _transaction_event(f"tx-{number}", kind, sequence))

    async def call(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Until it is answered, over however many connections that takes."""
        load = self.load
        message_id = self.new_id()
        while True:
            socket = await self.connected()
            try:
                await socket.send(json.dumps([2, message_id, action, payload]))
                answer = json.loads(await asyncio.wait_for(socket.recv(), ANSWER_SECONDS))
            except (ConnectionClosed, OSError):
                self.socket = None
                if load.random.random() < 0.5:
                    message_id = self.new_id()
                load.sent_again[action] += 1
                continue
            assert answer[1] == message_id, answer
            if answer[0] != 3:
                load.errors.append((action, answer))
                return {}
            load.answered.append((self.id, action, payload, message_id))
            return dict(answer[2])

    async def connected(self) -> ClientConnection:
        while self.socket is None:
            url = f"{self.load.gateway.websocket_url}/{self.version}/{self.id}"
            try:
                self.socket = await connect(url, subprotocols=[SUBPROTOCOLS[self.version]], compression=None)  # type: ignore[list-item]
            except (OSError, InvalidHandshake, EOFError):
                await asyncio.sleep(0.02)  # a station's back-off while the daemon is down
        return self.socket

    def new_id(self) -> str:
        return f"{self.id}-{next(self.load.numbers)}"


async def run_and_kill(load: Load) -> None:
    versions = itertools.cycle(SUBPROTOCOLS)
    stations = [LoadStation(load, version, f"K-{n:02}") for n, version in zip(range(STATIONS), versions, strict=False)]
    running = [asyncio.create_task(station.run()) for station in stations]
    for _ in range(KILLS):
        before = len(load.answered)
        while len(load.answered) < before + 40:  # it is under load again
            _raise_failed(running)
            await asyncio.sleep(0.005)
        await asyncio.sleep(load.random.random() * 0.05)  # the moment of death
        load.gateway.kill()
        await asyncio.to_thread(load.gateway.start)
    load.over = True
    await asyncio.gather(*running)


def _raise_failed(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def test_what_was_answered_is_in_the_journal_exactly_once(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        load = Load(gateway)
        asyncio.run(run_and_kill(load))
        events = [event for event in gateway.events() if "action" in event.get("payload", {})]

    by_message_id = Counter((event["chargePointId"], event["payload"]["messageId"]) for event in events)
    by_business_key = Counter(
        _business_key(event["chargePointId"], event["payload"]["action"], event["payload"]["payload"])
        for event in events
        if event["payload"]["action"] in TRANSACTIONAL
    )
    print(f"{KILLS} kills, {len(load.answered)} answered, sent again: {dict(load.sent_again)}, {len(events)} events")
    assert load.errors == []
    assert sum(load.sent_again.values()) >= KILLS, "the kills cut off too few CALLs to prove anything"
    for station, action, payload, message_id in load.answered:
        if action in TRANSACTIONAL:
            assert by_business_key[_business_key(station, action, payload)] == 1, (station, action, payload)
        else:
            assert by_message_id[station, message_id] == 1, (station, action, message_id)
    assert max(by_message_id.values()) == 1
    assert max(by_business_key.values()) == 1

    ids = list(load.started.values())
    assert len(ids) == len(set(ids)), "a transactionId was given twice"
    assert all(0 < number < 2**31 for number in ids)
    event_ids = Counter(event["eventId"] for event in events)
    assert max(event_ids.values()) == 1


def _business_key(station: str, action: str, payload: dict[str, Any]) -> Key:
    if action == "StartTransaction":
        return station, action, payload["idTag"]
    if action == "StopTransaction":
        return station, action, payload["transactionId"]
    return station, action, payload["transactionInfo"]["transactionId"], payload["seqNo"]


def _time(number: int) -> str:
    return f"2026-11-23T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"


def _status(number: int) -> dict[str, Any]:
    return {"connectorId": 1, "errorCode": "NoError", "status": "Charging", "info": str(number)}


def _meter_values(transaction_id: int, number: int) -> dict[str, Any]:
    sample = {"timestamp": _time(number), "sampledValue": [{"value": str(number)}]}
    return {"connectorId": 1, "transactionId": transaction_id, "meterValue": [sample]}


def _transaction_event(transaction_id: str, kind: str, sequence: int) -> dict[str, Any]:
    reason = {"Started": "CablePluggedIn", "Updated": "MeterValuePeriodic", "Ended": "EVDeparted"}[kind]
    return {
        "eventType": kind,
        "timestamp": _time(sequence),
        "triggerReason": reason,
        "seqNo": sequence,
        "transactionInfo": {"transactionId": transaction_id},
    }

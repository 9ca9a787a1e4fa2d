"""A backend that writes commands while the load goes on, some of them twice."""

import contextlib
import json
import random
import threading
import uuid
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from tests.chaos.charging import now

PACE_SECONDS = 0.1
AGAIN_SECONDS = 0.5  # after Kafka could not be reached
TIMEOUT_SECONDS = 6  # of a command
DELIVERY_SECONDS = 8.0
TWICE = 0.2
QUEUED = 0.3  # of the commands wait for their station, should it be away

JsonObject = dict[str, Any]

COMMANDS: dict[str, list[tuple[str, JsonObject]]] = {
    "1.6": [
        ("Reset", {"type": "Soft"}),
        ("RemoteStart", {"connectorId": 1, "idTag": "T"}),
        ("TriggerMessage", {"requestedMessage": "Heartbeat"}),
    ],
    "2.0.1": [
        ("Reset", {"type": "OnIdle"}),
        ("RemoteStart", {"evseId": 1, "idTag": "T", "remoteStartId": 1}),
        ("TriggerMessage", {"requestedMessage": "Heartbeat"}),
    ],
}


class Backend(threading.Thread):
    """`stations`: (id, version) of each. `written`: the commandIds that Kafka has for certain."""

    def __init__(
        self, brokers: str, topic: str, stations: Sequence[tuple[str, str]], stop: threading.Event, seed: int
    ) -> None:
        super().__init__(name="backend", daemon=True)
        self.written: list[str] = []
        self._brokers, self._topic, self._stations = brokers, topic, stations
        self._stop_wanted, self._chance = stop, random.Random(seed)

    def run(self) -> None:
        while not self._stop_wanted.is_set():
            with contextlib.suppress(KafkaError), contextlib.closing(self._producer()) as producer:
                while not self._stop_wanted.wait(PACE_SECONDS):
                    self._write(producer)
            self._stop_wanted.wait(AGAIN_SECONDS)

    def _producer(self) -> KafkaProducer:
        return KafkaProducer(
            bootstrap_servers=self._brokers,
            acks="all",
            enable_idempotence=False,
            max_block_ms=2000,
            request_timeout_ms=3000,
            delivery_timeout_ms=int(DELIVERY_SECONDS * 1000),
        )

    def _write(self, producer: KafkaProducer) -> None:
        """What was not confirmed may have got there all the same: then it has one end, too."""
        station, version = self._chance.choice(self._stations)
        command_type, payload = self._chance.choice(COMMANDS[version])
        request = {
            "commandId": str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            "commandType": command_type,
            "chargePointId": station,
            "payload": payload,
            "requestedAt": now(),
            "timeoutSec": TIMEOUT_SECONDS,
        }
        if self._chance.random() < QUEUED:
            request["whenOffline"] = "queue"
        value = json.dumps(request).encode()
        for _ in range(2 if self._chance.random() < TWICE else 1):
            producer.send(self._topic, key=station.encode(), value=value).get(2 * DELIVERY_SECONDS)
        self.written.append(str(request["commandId"]))

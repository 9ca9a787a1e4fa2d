"""One gateway with a real Kafka: every event gets there, in order per station, and commands come from there.

What clients saw and what Kafka holds is compared: an answered CALL is in Kafka once when equal eventIds are dropped.
"""

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from tests.integration.harness import TIME_LIMIT, Gateway, JsonObject, Station, status_payload
from tests.services import KafkaServer, wait_until

pytest_plugins = ("tests.services.fixtures",)

TERMINAL = {"CommandAccepted", "CommandRejected", "CommandFailed", "CommandTimeout"}
SETTLE_SECONDS = 1.0  # without a new record: what was to come has come


class Fleet:
    """A gateway whose topics are its own, and what Kafka holds in them."""

    def __init__(self, folder: Path, kafka: KafkaServer, **settings: Any) -> None:
        self.kafka = kafka
        self.name = f"t{uuid.uuid4().hex[:8]}"
        names = ("station_events", "session_events", "command_events", "audit_events", "dead_letters")
        topics = {f"topic_{name}": f"{self.name}.{name}" for name in names}
        self.requests = f"{self.name}.requests"
        self.events = list(topics.values())
        own = {
            "enabled": True,
            "brokers": [kafka.brokers],
            "group_id": self.name,
            "topic_command_requests": self.requests,
        }
        self.gateway = Gateway(folder, {"node": {"id": self.name}, "kafka": {**own, **topics, **settings}})

    def ask(self, **request: Any) -> str:
        """A command as a backend writes it; its commandId."""
        command_id = str(uuid.uuid4())
        self.write(json.dumps({"commandId": command_id, **request}).encode(), key=request.get("chargePointId", ""))
        return command_id

    def write(self, value: bytes, key: str = "", topic: str | None = None) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka.brokers, acks="all")
        producer.send(topic or self.requests, key=key.encode(), value=value).get(TIME_LIMIT)
        producer.close()

    def records(self, enough: int) -> list[tuple[str, JsonObject]]:
        """(topic, value) of what is there, each partition in order: at least `enough`, then until it is quiet."""
        consumer = KafkaConsumer(
            *self.events, bootstrap_servers=self.kafka.brokers, auto_offset_reset="earliest", metadata_max_age_ms=500
        )
        found: list[tuple[str, JsonObject]] = []
        deadline, quiet_since = time.monotonic() + 2 * TIME_LIMIT, time.monotonic()
        while time.monotonic() < deadline and (len(found) < enough or time.monotonic() - quiet_since < SETTLE_SECONDS):
            for batch in consumer.poll(timeout_ms=200).values():
                found += [(record.topic.partition(".")[2], json.loads(record.value)) for record in batch]
                quiet_since = time.monotonic()
        consumer.close()
        assert len(found) >= enough, f"{len(found)} of {enough} records"
        return found

    def command_events(self, command_id: str, last: set[str]) -> list[str]:
        """Types of the command's events, once one of `last` is there."""
        deadline = time.monotonic() + TIME_LIMIT
        while time.monotonic() < deadline:
            types = [
                value["eventType"]
                for topic, value in self.records(1)
                if topic == "command_events" and value.get("correlationId") == command_id
            ]
            if last & set(types):
                return types
        raise AssertionError(f"command {command_id} did not end: {types}")


@pytest.fixture
def fleet(tmp_path: Path, kafka_server: KafkaServer) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, kafka_server)
    with fleet.gateway:
        yield fleet


def traffic(gateway: Gateway, name: str, calls: int) -> list[str]:
    """A station that sends `calls` messages one after the other; the ids of those that were answered."""
    answered: list[str] = []
    with Station(gateway, "1.6", name) as station:
        station.booted()
        for number in range(calls):
            message_id = f"{name}-{number}"
            station.call("StatusNotification", status_payload("1.6", number % 3 + 1), message_id)
            answered.append(message_id)
    return answered


def assert_complete(fleet: Fleet, answered: dict[str, list[str]]) -> None:
    """Every answered CALL is there once after dropping equal eventIds, in order per station."""
    wanted = sum(map(len, answered.values()))
    found: dict[str, dict[str, str]] = defaultdict(dict)  # station -> eventId -> messageId, in order of arrival
    for topic, value in fleet.records(wanted):
        if topic == "station_events" and value["eventType"] == "ConnectorStatusChanged":
            found[value["chargePointId"]].setdefault(value["eventId"], value["payload"]["messageId"])
    for name, ids in answered.items():
        seen = list(found[name].values())
        assert [one for one in seen if one in set(ids)] == ids, name


def run_all(gateway: Gateway, stations: int, calls: int) -> dict[str, list[str]]:
    names = [f"CP-{number}" for number in range(stations)]
    with ThreadPoolExecutor(stations) as pool:
        return dict(zip(names, pool.map(lambda name: traffic(gateway, name, calls), names), strict=True))


def test_every_answered_call_is_in_kafka_in_order(fleet: Fleet) -> None:
    assert_complete(fleet, run_all(fleet.gateway, stations=8, calls=50))
    settled = {"healthy": True, "reason": "", "lagRecords": 0, "lagSeconds": 0.0, "required": False}
    wait_until(lambda: fleet.gateway.get("/ready")["kafka"] == settled, "Kafka's acknowledgement, and its group")


def test_stations_are_answered_while_kafka_is_away_and_nothing_is_lost(fleet: Fleet) -> None:
    before = traffic(fleet.gateway, "CP-0", 10)
    fleet.kafka.kill()
    during = traffic(fleet.gateway, "CP-1", 50)
    assert fleet.gateway.get("/ready")["kafka"]["lagRecords"] >= 50
    fleet.kafka.restart()
    after = traffic(fleet.gateway, "CP-2", 10)
    assert_complete(fleet, {"CP-0": before, "CP-1": during, "CP-2": after})
    wait_until(lambda: fleet.gateway.metric("ocppgw_relay_lag_records") == 0, "the last acknowledgement")


def test_a_killed_gateway_ships_what_it_had_answered(fleet: Fleet) -> None:
    fleet.kafka.pause()
    answered = run_all(fleet.gateway, stations=4, calls=25)
    fleet.gateway.kill()
    fleet.kafka.resume()
    fleet.gateway.start()
    assert_complete(fleet, answered)


def test_a_stopped_gateway_leaves_nothing_unshipped(fleet: Fleet) -> None:
    answered = {"CP-0": traffic(fleet.gateway, "CP-0", 20)}
    fleet.gateway.stop()
    assert_complete(fleet, answered)
    fleet.gateway.start()


def test_required_kafka_that_is_away_makes_the_gateway_unready(tmp_path: Path, kafka_server: KafkaServer) -> None:
    fleet = Fleet(tmp_path, kafka_server, required=True)
    with fleet.gateway as gateway:
        gateway.wait_ready()
        kafka_server.kill()
        traffic(gateway, "CP-0", 3)  # still served: the journal has it
        wait_until(lambda: gateway.http("GET", "/ready").status == 503, "/ready to tell it", 2 * TIME_LIMIT)
        assert "Kafka" in gateway.http("GET", "/ready").json["reason"]
        kafka_server.restart()
        gateway.wait_ready()


def test_a_command_from_kafka_ends_in_exactly_one_event(fleet: Fleet) -> None:
    with Station(fleet.gateway, "1.6", "CP-1") as station:
        station.booted()
        command_id = fleet.ask(commandType="Reset", chargePointId="CP-1", payload={"type": "Soft"})
        message_id, _, payload = station.expect_call("Reset")
        assert payload == {"type": "Soft"}
        station.reply(message_id, {"status": "Accepted"})
        types = fleet.command_events(command_id, {"CommandAccepted"})
        assert types == ["CommandRouted", "CommandDispatched", "CommandAccepted"]
        repeated = {"commandId": command_id, "commandType": "Reset", "chargePointId": "CP-1"}
        fleet.write(json.dumps({**repeated, "payload": {"type": "Soft"}}).encode(), "CP-1")
        again = fleet.command_events(command_id, {"CommandDuplicate"})
        assert sorted(TERMINAL & set(again)) == ["CommandAccepted"]
        station.nothing_was_sent()


def test_commands_of_this_nodes_own_topic_are_read_too(fleet: Fleet) -> None:
    with Station(fleet.gateway, "2.0.1", "CP-1") as station:
        station.booted()
        request = {"commandId": str(uuid.uuid4()), "commandType": "ClearCache", "chargePointId": "CP-1"}
        fleet.write(json.dumps(request).encode(), "CP-1", f"{fleet.requests}.node.{fleet.name}")
        message_id, _, _ = station.expect_call("ClearCache")
        station.reply(message_id, {"status": "Rejected"})
        assert fleet.command_events(request["commandId"], {"CommandRejected"})[-1] == "CommandRejected"


def test_what_is_no_command_goes_to_the_dead_letters_and_holds_nobody_up(fleet: Fleet) -> None:
    bad = [
        b"{not json",
        b"[]",
        b"\xff\xfe",
        b'{"commandType": "Reset"}',
        b'{"commandType": 7, "chargePointId": "CP-1"}',
    ]
    for value in bad:
        fleet.write(value, "CP-1")
    command_id = fleet.ask(commandType="Reset", chargePointId="CP-1", payload={"type": "Soft"})
    assert fleet.command_events(command_id, TERMINAL)[-1] == "CommandFailed"  # nobody is connected
    letters = [value for topic, value in fleet.records(1) if topic == "dead_letters"]
    assert len(letters) == len(bad)
    for letter in letters:
        assert letter["reason"]
        assert letter["topic"] == fleet.requests
        assert {"code", "partition", "offset", "record"} <= set(letter)

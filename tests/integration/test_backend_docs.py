"""What docs/backend.md tells developers of backends to type, typed: against a real gateway, Kafka and Redis."""

import hashlib
import json
import os
import re
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient

from ocppgw.access.identity import parse_identity
from tests import record_watch
from tests.asyncapi import Contract
from tests.integration.daemon import BIN
from tests.integration.harness import TIME_LIMIT, Gateway, JsonObject, Station, basic, status_payload
from tests.services import KafkaServer, RedisServer, wait_until

pytest_plugins = ("tests.services.fixtures",)

PAGE = (Path(__file__).parents[2] / "docs/backend.md").read_text()
KINDS = ("station_events", "session_events", "command_events", "audit_events", "dead_letters")
COMMAND_ID = "6f2f0c0e-7a58-4d0e-9d7e-0f4c3a5c6a51"  # of the page
QUIET = "-C consumer_timeout_ms=2000"  # the page says how to end the console consumer


def block(language: str, words: str) -> str:
    """The one block of the page in that language with these words in it."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if words in text]
    assert len(found) == 1, f"{len(found)} blocks have {words!r}"
    return found[0]


class Backend:
    """A gateway with topics of its own, and a shell in which the page's names mean its own ones."""

    def __init__(self, folder: Path, kafka: KafkaServer, **settings: Any) -> None:
        self.folder, self.kafka = folder, kafka
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.topics = {f"topic_{kind}": f"{self.name}.{kind}" for kind in KINDS}
        self.topics["topic_command_requests"] = f"{self.name}.requests"
        own = {"enabled": True, "brokers": [kafka.brokers], "group_id": self.name, **self.topics}
        self.gateway = Gateway(folder, {"node": {"id": self.name}, "kafka": own, **settings})

    def named(self, text: str) -> str:
        """With the topics and brokers of this test."""
        for topic, kind in (("station.events", "station_events"), ("session.events", "session_events")):
            text = text.replace(f"ocpp.{topic}", f"{self.name}.{kind}")
        text = text.replace("ocpp.command.events", f"{self.name}.command_events")
        text = text.replace("cpms.command.requests", f"{self.name}.requests")
        return text.replace("localhost:9092", self.kafka.brokers).replace('"my-backend"', f'"{self.name}-backend"')

    def typed(self, command: str) -> str:
        return typed(self.named(command), self.folder)

    def python(self, source: str) -> None:
        script = self.folder / "example.py"
        script.write_text(self.named(source))
        typed(f"python {script}", self.folder)

    def shipped(self) -> None:
        """All events so far are in Kafka."""
        lag = "ocppgw_relay_lag_records"
        wait_until(lambda: self.gateway.metric(lag) == 0, "Kafka's acknowledgement", TIME_LIMIT)


def typed(command: str, folder: Path) -> str:
    """What a shell prints; it must succeed and complain about nothing."""
    environ = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def lines(output: str) -> list[JsonObject]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def backend(tmp_path: Path, kafka_server: KafkaServer) -> Iterator[Backend]:
    backend = Backend(tmp_path, kafka_server)
    with backend.gateway:
        yield backend


def test_events_are_read_with_the_console_consumer(backend: Backend) -> None:
    with Station(backend.gateway, "1.6", "CP-001") as station:
        station.booted()
        station.call("Heartbeat", {})
        station.call(
            "MeterValues",
            {"connectorId": 1, "meterValue": [{"timestamp": "2026-11-25T08:00:00Z", "sampledValue": [{"value": "1"}]}]},
        )
    backend.gateway.wait_event(lambda event: event["eventType"] == "StationDisconnected")
    backend.shipped()
    events = lines(backend.typed(block("sh", "ocpp.session.events").rstrip() + f" {QUIET}"))
    by_sequence = sorted(events, key=lambda event: event["payload"]["sequence"])
    assert [event["eventType"] for event in by_sequence] == [
        "StationConnected",
        "StationBooted",
        "StationHeartbeat",
        "MeterValuesReceived",
        "StationDisconnected",
    ]
    assert {event["stationId"] for event in events} == {"CP-001"}


def test_the_reader_in_python_books_each_event_once(backend: Backend) -> None:
    with Station(backend.gateway, "1.6", "CP-001") as station:
        station.booted()
        for connector in (1, 2):
            station.call("StatusNotification", status_payload("1.6", connector))
    backend.gateway.wait_event(lambda event: event["eventType"] == "StationDisconnected")
    backend.shipped()
    send_again(backend)
    source = block("python", "sqlite3").replace("backend.sqlite3", str(backend.folder / "backend.sqlite3"))
    backend.python(source)
    with sqlite3.connect(backend.folder / "backend.sqlite3") as database:
        booked = [kind for (kind,) in database.execute("SELECT type FROM event ORDER BY rowid")]
    database.close()
    expected = ["StationConnected", "StationBooted", *2 * ["ConnectorStatusChanged"], "StationDisconnected"]
    assert booked == expected


def send_again(backend: Backend) -> None:
    """As a node does after an outage: what may not have got there once more."""
    topic = backend.topics["topic_station_events"]
    consumer = KafkaConsumer(
        topic, bootstrap_servers=backend.kafka.brokers, auto_offset_reset="earliest", consumer_timeout_ms=2000
    )
    records = list(consumer)
    consumer.close()
    assert len(records) == 5
    producer = KafkaProducer(bootstrap_servers=backend.kafka.brokers, acks="all")
    for record in records[1:]:
        producer.send(topic, key=record.key, value=record.value).get(TIME_LIMIT)
    producer.close()


def test_a_command_is_written_with_the_console_producer(backend: Backend) -> None:
    with Station(backend.gateway, "1.6", "CP-001") as station:
        station.booted()
        backend.typed(block("sh", "kafka-python producer"))
        message_id, _, payload = station.expect_call("Reset")
        assert payload == {"type": "Soft"}
        station.reply(message_id, {"status": "Accepted"})
        backend.gateway.ended(COMMAND_ID)
    backend.shipped()
    consumer = block("sh", "ocpp.command.events").replace("-t ", f"{QUIET} -t ")
    events = lines(backend.typed(consumer))
    assert [event["eventType"] for event in events] == ["CommandRouted", "CommandDispatched", "CommandAccepted"]
    assert {event["correlationId"] for event in events} == {COMMAND_ID}


def test_a_command_is_written_in_python(backend: Backend) -> None:
    with Station(backend.gateway, "2.0.1", "CP-001") as station:
        station.booted()
        backend.python(block("python", "KafkaProducer"))
        message_id, _, payload = station.expect_call("TriggerMessage")
        assert payload == {"requestedMessage": "Heartbeat"}
        station.reply(message_id, {"status": "Accepted"})


def test_a_request_without_its_station_becomes_the_dead_letter_that_is_shown(backend: Backend) -> None:
    shown = json.loads(block("json", "InvalidCommand"))
    backend.typed(f"echo '{shown['record']}' | kafka-python producer -b localhost:9092 -t cpms.command.requests")
    letter = backend.gateway.wait_event(lambda event: event.get("code") == "InvalidCommand")
    assert letter.keys() == shown.keys()
    for name in ("code", "reason", "hint", "record"):
        assert letter[name] == shown[name]


def test_json_of_the_page_follows_the_schemas() -> None:
    contract, found = Contract(), 0
    for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        value: Any = json.loads(text)
        topic = "cpms.command.dead_letters" if "code" in value else "ocpp.command.events"
        topic = "cpms.call.requests" if "replyTo" in value else topic
        assert contract.fault(topic, value.get("chargePointId", ""), value) == ""
        found += 1
    assert found


@pytest.fixture
def keys(redis_server: RedisServer) -> str:
    """A prefix of this test's own."""
    return f"t{uuid.uuid4().hex[:8]}"


def in_redis(text: str, redis: RedisServer, prefix: str) -> str:
    return text.replace("redis-cli", f"redis-cli -p {redis.port}").replace("ocpp:", f"{prefix}:")


def test_an_identity_is_written_with_redis_cli(tmp_path: Path, redis_server: RedisServer, keys: str) -> None:
    assert typed(in_redis(block("sh", "SET ocpp:chargers"), redis_server, keys), tmp_path) == "OK\n"
    identity = parse_identity(json.loads(redis_server.cli("GET", f"{keys}:chargers:CP-001")))
    assert identity.charge_point_id == "CP-001"
    stored = json.loads(redis_server.cli("GET", f"{keys}:chargers:CP-001"))["auth"]
    secret = f"{stored['secretSalt']}a password of 16 to 40 characters".encode()
    assert stored["secretHash"] == hashlib.sha256(secret).hexdigest()


def test_identities_are_deleted_and_certificates_revoked_with_redis_cli(
    tmp_path: Path, redis_server: RedisServer, keys: str
) -> None:
    redis_server.cli("SET", f"{keys}:chargers:CP-001", "{}")
    assert typed(in_redis(block("sh", "DEL ocpp:chargers"), redis_server, keys), tmp_path) == "1\nOK\n"
    revoked = redis_server.cli("--scan", "--pattern", f"{keys}:*")
    assert re.fullmatch(rf"{keys}:revoked-certs:[0-9A-F]{{64}}", revoked)


def test_the_identity_lets_its_station_in_and_out(
    tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer, keys: str
) -> None:
    redis = {"enabled": True, "url": redis_server.url(), "prefix": keys}
    backend, contract = Backend(tmp_path, kafka_server, redis=redis, stations={"unknown": "refuse"}), Contract()
    login = basic("CP-001", "a password of 16 to 40 characters")
    with backend.gateway:
        typed(in_redis(block("sh", "SET ocpp:chargers"), redis_server, keys), tmp_path)
        with Station(backend.gateway, "1.6", "CP-001", headers=login) as station:
            station.booted()
            session, node = typed(in_redis(block("sh", "GET ocpp:sessions"), redis_server, keys), tmp_path).splitlines()
            assert contract.stored_fault("session", json.loads(session)) == ""
            assert node == f"{keys}:nodes:{backend.name}"
            assert contract.stored_fault("node", json.loads(redis_server.cli("GET", node))) == ""
            command_id = backend.gateway.command("CP-001", "Reset", {"type": "Soft"})
            message_id, _, _ = station.expect_call("Reset")
            station.reply(message_id, {"status": "Accepted"})
            backend.gateway.ended(command_id)
            record = json.loads(redis_server.cli("GET", f"{keys}:command-audit:{command_id}"))
            assert contract.stored_fault("command-audit", record) == ""
            typed(in_redis(block("sh", "DEL ocpp:chargers"), redis_server, keys), tmp_path)
            assert station.closed_with() == 1008


def test_the_watch_finds_a_record_that_is_not_as_described(kafka_server: KafkaServer) -> None:
    """The record goes again with its topic: at the end of the run all of Kafka is looked at."""
    topic = f"t{uuid.uuid4().hex[:8]}.station_events"
    producer = KafkaProducer(bootstrap_servers=kafka_server.brokers, acks="all")
    producer.send(topic, key=b"CP-1", value=b'{"eventType": "StationHeartbeat"}').get(TIME_LIMIT)
    producer.send(topic, key=b"CP-1", value=b"{not json").get(TIME_LIMIT)
    producer.send(topic, key=b"CP-1", value=b"{not json", headers=[record_watch.BY_TEST]).get(TIME_LIMIT)
    producer.close()
    try:
        checked = record_watch.read_back(kafka_server.brokers, [topic])
    finally:
        admin = KafkaAdminClient(bootstrap_servers=kafka_server.brokers)
        admin.delete_topics([topic])
        admin.close()
    assert (checked.records, len(checked.faults)) == (2, 2)
    with pytest.raises(AssertionError, match="2 records are not as schemas/asyncapi"):
        checked.told()

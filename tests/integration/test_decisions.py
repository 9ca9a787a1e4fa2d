"""Answers that the backend gives: over HTTP with the embedded gateway, over Kafka with the example of the documents."""

import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from tests import record_watch
from tests.integration.daemon import BIN
from tests.integration.harness import TIME_LIMIT, Gateway, JsonObject, Station, boot_payload
from tests.services import KafkaServer

pytest_plugins = ("tests.services.fixtures",)

EXAMPLE = Path(__file__).parents[2] / "docs/examples/backend.py"
START = {"connectorId": 1, "idTag": "B4F62CEF", "meterStart": 0, "timestamp": "2026-11-25T08:00:00Z"}


# --- HTTP


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    decisions = {
        "enabled": True,
        "backend": ["Authorize", "StartTransaction"],
        "timeout_seconds": 1.0,
        "fallbacks": {"Authorize": "last", "DataTransfer": "error"},
        "tenants": {"other": ["DataTransfer"]},
    }
    with Gateway(tmp_path_factory.mktemp("decisions"), {"decisions": decisions}) as gateway:
        yield gateway


def next_call(gateway: Gateway) -> JsonObject:
    [call] = gateway.get("/v1/calls?wait=10")["calls"]
    return call  # type: ignore[no-any-return]


def answer(gateway: Gateway, call: JsonObject, payload: Any) -> int:
    return gateway.http("POST", f"/v1/calls/{call['correlationId']}", {"payload": payload}).status


def test_a_call_waits_for_what_is_posted(gateway: Gateway) -> None:
    with Station(gateway, "2.0.1", "HTTP-1") as station:
        station.booted()
        station.send([2, "a", "Authorize", {"idToken": {"idToken": "CARD", "type": "ISO14443"}}])
        call = next_call(gateway)
        assert (call["chargePointId"], call["action"], call["payload"]["idToken"]["idToken"]) == (
            "HTTP-1",
            "Authorize",
            "CARD",
        )
        wrong = gateway.http("POST", f"/v1/calls/{call['correlationId']}", {"payload": {"idTokenInfo": {}}})
        assert (wrong.status, wrong.json["code"]) == (400, "InvalidAnswer")
        assert answer(gateway, call, {"idTokenInfo": {"status": "NoCredit"}}) == 200
        assert station.recv() == [3, "a", {"idTokenInfo": {"status": "NoCredit"}}]
        assert gateway.metric('ocppgw_decisions_total{action="Authorize",outcome="backend"}') >= 1


def test_the_page_for_developers_tells_how(gateway: Gateway, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/backend.md").read_text()
    [settings] = re.findall(r"```toml\n(\[decisions\].*?)```", page, re.DOTALL)
    (tmp_path / "page.toml").write_text(settings)
    checked = subprocess.run([BIN / "ocppgw", "check-config", "-c", tmp_path / "page.toml"], check=False)
    assert checked.returncode == 0
    [commands] = re.findall(r"```sh\n(curl[^`]*v1/calls.*?)```", page, re.DOTALL)
    look, decide = commands.replace("http://127.0.0.1:3001", gateway.http_url).splitlines()
    with Station(gateway, "1.6", "HTTP-0") as station:
        station.booted()
        station.send([2, "a", "Authorize", {"idTag": "CARD"}])
        [call] = json.loads(subprocess.check_output(look, shell=True))["calls"]
        subprocess.check_call(decide.replace("CORRELATION_ID", call["correlationId"]), shell=True)
        assert station.recv() == [3, "a", {"idTagInfo": {"status": "Accepted"}}]


def test_nobody_answers_and_the_last_answer_for_that_card_goes_out(gateway: Gateway) -> None:
    with Station(gateway, "1.6", "HTTP-2") as station:
        station.booted()
        station.send([2, "a", "Authorize", {"idTag": "CARD"}])
        answer(gateway, next_call(gateway), {"idTagInfo": {"status": "Blocked"}})
        assert station.recv()[2] == {"idTagInfo": {"status": "Blocked"}}
        assert station.call("Authorize", {"idTag": "CARD"}) == {"idTagInfo": {"status": "Blocked"}}
        assert station.call("Authorize", {"idTag": "OTHER"}) == {"idTagInfo": {"status": "Accepted"}}


def test_a_transaction_is_answered_and_stored_though_nobody_decides(gateway: Gateway) -> None:
    with Station(gateway, "1.6", "HTTP-3") as station:
        station.booted()
        started = station.call("StartTransaction", START)
        assert started["idTagInfo"] == {"status": "Accepted"}
        event = station.wait_event("SessionStarted")
        assert event["payload"]["transactionId"] == started["transactionId"]


# --- Kafka


class Decided:
    """A gateway that asks over Kafka, with topics of its own."""

    def __init__(self, folder: Path, kafka: KafkaServer, **decisions: Any) -> None:
        self.kafka, self.folder = kafka, folder
        self.name = f"t{uuid.uuid4().hex[:8]}"
        kinds = ("station_events", "session_events", "command_events", "audit_events", "dead_letters", "call_requests")
        topics = {f"topic_{kind}": f"{self.name}.{kind}" for kind in kinds}
        self.requests, self.letters = topics["topic_call_requests"], topics["topic_dead_letters"]
        self.responses = f"{self.name}.responses.node.{self.name}"
        own = {
            "enabled": True,
            "brokers": [kafka.brokers],
            "group_id": self.name,
            "topic_command_requests": f"{self.name}.requests",
            "topic_call_responses": f"{self.name}.responses",
            **topics,
        }
        settings = {"enabled": True, "backend": ["Authorize", "BootNotification"], **decisions}
        more = {"decisions": settings, "events": {"normalised": True}}
        self.gateway = Gateway(folder, {"node": {"id": self.name}, "kafka": own, **more})

    @contextmanager
    def example(self, cards: JsonObject) -> Iterator[None]:
        """The backend of docs/, running."""
        (self.folder / "cards.json").write_text(json.dumps(cards))
        script = self.folder / "backend.py"
        script.write_text(EXAMPLE.read_text().replace("cpms.call.requests", self.requests))
        command = [sys.executable, str(script), self.kafka.brokers, "cards.json"]
        running = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "deciding\n"
            yield
        finally:
            running.kill()
            running.communicate(timeout=TIME_LIMIT)

    def until_decided(self, station: Station, tag: str, status: str) -> None:
        """The example has joined its group some moments after it began."""
        for _ in range(20):
            if station.call("Authorize", {"idTag": tag}) == {"idTagInfo": {"status": status}}:
                return
        raise AssertionError(f"{tag} never was {status}")


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory, session_kafka: KafkaServer) -> Iterator[Decided]:
    decided = Decided(tmp_path_factory.mktemp("decided"), session_kafka, timeout_seconds=2.0)
    session_kafka.create_topics({decided.requests: 2, decided.responses: 1, decided.letters: 1})
    with decided.gateway:
        yield decided


def test_the_example_of_the_documents_decides(decided: Decided) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
    with decided.example({"GOOD": "Accepted", "BAD": "Blocked"}), Station(decided.gateway, "1.6", "KAFKA-1") as station:
        station.booted()
        decided.until_decided(station, "BAD", "Blocked")
        assert station.call("Authorize", {"idTag": "GOOD"}) == {"idTagInfo": {"status": "Accepted"}}
        assert station.call("Authorize", {"idTag": "NOBODY"}) == {"idTagInfo": {"status": "Invalid"}}
        boot = {**boot_payload("1.6"), "chargePointVendor": "Unknown"}
        assert station.call("BootNotification", boot)["status"] == "Pending"
        booted = station.wait_event("StationBooted", lambda event: event["payload"]["status"] == "Pending")
        assert booted["payload"]["payload"]["chargePointVendor"] == "Unknown"
        assert booted["payload"]["normalised"]["vendor"] == "Unknown"
        with Station(decided.gateway, "2.0.1", "KAFKA-2") as other:
            other.booted()
            answer = other.call("Authorize", {"idToken": {"idToken": "BAD", "type": "Central"}})
            assert answer == {"idTokenInfo": {"status": "Blocked"}}
    record_watch.read_back(decided.kafka.brokers, only=[decided.requests])


def test_what_the_backend_may_not_answer_becomes_a_dead_letter_and_the_station_gets_the_fallback(
    decided: Decided,
) -> None:
    """The one who answers is this test."""

    def answer_wrongly() -> None:
        for record in consumer:
            call = json.loads(record.value)
            if call["chargePointId"] == "KAFKA-3" and call["action"] == "Authorize":
                reply = {"correlationId": call["correlationId"], "payload": {"idTagInfo": {"status": "Fine"}}}
                producer.send(call["replyTo"], value=json.dumps(reply).encode()).get(TIME_LIMIT)
                return

    brokers = decided.kafka.brokers
    consumer = KafkaConsumer(
        decided.requests, bootstrap_servers=brokers, auto_offset_reset="earliest", consumer_timeout_ms=15_000
    )
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all")
    backend = threading.Thread(target=answer_wrongly)
    backend.start()
    try:
        with Station(decided.gateway, "1.6", "KAFKA-3") as station:
            station.booted()
            assert station.call("Authorize", {"idTag": "CARD"}) == {"idTagInfo": {"status": "Accepted"}}
        [letter] = [json.loads(value) for _key, value in decided.kafka.consume(decided.letters, 1)]
        assert (letter["code"], letter["topic"]) == ("InvalidAnswer", decided.responses)
        assert "status" in letter["reason"]
    finally:
        backend.join(TIME_LIMIT)
        consumer.close()
        producer.close()


def test_while_kafka_is_away_stations_get_the_fallback(tmp_path: Path, kafka_server: KafkaServer) -> None:
    decided = Decided(tmp_path, kafka_server, fallback="local", timeout_seconds=3.0)
    kafka_server.create_topics({decided.requests: 1, decided.responses: 1})
    with decided.gateway as gateway:
        kafka_server.pause()
        try:
            with Station(gateway, "1.6", "KAFKA-4") as station:
                station.booted()
                assert station.call("Authorize", {"idTag": "CARD"}) == {"idTagInfo": {"status": "Accepted"}}
        finally:
            kafka_server.resume()
        assert gateway.metric('ocppgw_decisions_total{action="Authorize",outcome="not-asked"}') == 1

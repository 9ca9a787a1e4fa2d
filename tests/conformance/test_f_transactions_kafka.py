"""F: transactions while the backend is away. One outage for the stations of all versions."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer

from tests.conformance.cases import VERSIONS, case
from tests.conformance.test_f_transactions import event, start, stop
from tests.integration.harness import TIME_LIMIT, Gateway, JsonObject, Station
from tests.services import KafkaServer

pytest_plugins = ("tests.services.fixtures",)

TOPIC = "conformance-83.session_events"


class Outage(msgspec.Struct):
    """By version: what a station was answered while Kafka was away, and what Kafka held of it afterwards."""

    answers: dict[str, list[JsonObject]]
    delivered: dict[str, list[JsonObject]]


@pytest.fixture(scope="module")
def outage(session_kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    kafka = {
        "enabled": True,
        "brokers": [session_kafka.brokers],
        "group_id": "conformance-83",
        "topic_command_requests": "conformance-83.requests",
        "topic_station_events": "conformance-83.station_events",
        "topic_session_events": TOPIC,
        "topic_command_events": "conformance-83.command_events",
        "topic_audit_events": "conformance-83.audit_events",
        "topic_dead_letters": "conformance-83.dead_letters",
        "acknowledgement_timeout_ms": 500,
    }
    settings = {"node": {"id": "conformance-83"}, "kafka": kafka}
    answers: dict[str, list[JsonObject]] = {}
    with Gateway(tmp_path_factory.mktemp("kafka-away"), settings) as gateway:
        stations = [Station(gateway, version, f"AWAY-{version}").connect().booted() for version in VERSIONS]
        session_kafka.kill()
        for version, station in zip(VERSIONS, stations, strict=True):
            answers[version] = charged(station, version)
        session_kafka.restart()
        yield Outage(answers, delivered(session_kafka.brokers, 2 * len(VERSIONS)))
        for station in stations:
            station.close()


def charged(station: Station, version: str) -> list[JsonObject]:
    """A transaction; `call` fails on a CALLERROR and on a closed connection."""
    if version == "1.6":
        started = station.call("StartTransaction", start())
        return [started, station.call("StopTransaction", stop(started["transactionId"]))]
    return [station.call("TransactionEvent", event(kind, number)) for number, kind in enumerate(("Started", "Ended"))]


def delivered(brokers: str, enough: int) -> dict[str, list[JsonObject]]:
    """Events of the topic by ocppVersion, equal eventIds dropped."""
    consumer: Any = KafkaConsumer(
        TOPIC,
        bootstrap_servers=brokers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=round(TIME_LIMIT * 1000),
        metadata_max_age_ms=500,
    )
    found: dict[str, JsonObject] = {}
    for record in consumer:
        told = json.loads(record.value)
        found.setdefault(told["eventId"], told)
        if len(found) == enough:
            break
    consumer.close()
    return {
        version: [one for one in found.values() if f"AWAY-{version}" in one["chargePointId"]] for version in VERSIONS
    }


@case(83, "*")
def test_transactions_are_answered_while_the_backend_is_away_and_delivered_once(outage: Outage, version: str) -> None:
    first, last = outage.answers[version]
    assert last == {}
    kinds = [told["eventType"] for told in outage.delivered[version]]
    assert kinds == ["SessionStarted", "SessionStopped"]
    number = first.get("transactionId", "tx-1")
    assert [told["payload"]["transactionId"] for told in outage.delivered[version]] == [number] * 2

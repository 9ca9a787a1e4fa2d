"""Answers that wait for a real Kafka: what was answered outlives the node and its disk, and an outage costs little."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Station, status_payload
from tests.integration.test_kafka_gateway import Fleet, assert_complete, run_all, traffic
from tests.services import KafkaServer, wait_until

pytest_plugins = ("tests.services.fixtures",)

TIMEOUT = 1.0
EARLY = 'ocppgw_notes_total{kind="answered-before-kafka"}'


@pytest.fixture
def fleet(tmp_path: Path, kafka_server: KafkaServer) -> Iterator[Fleet]:
    waiting = {"acknowledged_actions": ["*"], "acknowledgement_timeout_ms": round(TIMEOUT * 1000)}
    fleet = Fleet(tmp_path, kafka_server, **waiting)
    with fleet.gateway:
        wait_until(lambda: fleet.gateway.get("/ready")["kafka"]["healthy"], "the connection to Kafka")
        yield fleet


def test_what_was_answered_is_in_kafka_although_the_node_never_comes_back(fleet: Fleet) -> None:
    traffic(fleet.gateway, "CP-FIRST", 3)  # the topics are there now
    before = fleet.gateway.metric(EARLY)
    answered = run_all(fleet.gateway, stations=6, calls=40)
    early = fleet.gateway.metric(EARLY)
    fleet.gateway.kill()
    assert early == before, "all waited for Kafka, and it took none too long"
    assert_complete(fleet, answered)


def test_an_outage_costs_one_wait_and_not_one_for_each_answer(fleet: Fleet) -> None:
    traffic(fleet.gateway, "CP-FIRST", 3)
    with Station(fleet.gateway, "1.6", "CP-1") as station:
        station.booted()
        fleet.kafka.pause()
        seconds = [_answer_seconds(station) for _ in range(10)]
        fleet.kafka.resume()
    assert seconds[0] > TIMEOUT / 2
    assert sum(seconds[1:]) < TIMEOUT, seconds
    assert fleet.gateway.metric(EARLY) >= 10
    wait_until(lambda: fleet.gateway.metric("ocppgw_relay_lag_records") == 0, "the last acknowledgement")


def _answer_seconds(station: Station) -> float:
    began = time.monotonic()
    station.call("StatusNotification", status_payload("1.6"))
    return time.monotonic() - began

"""A station whose old connection hangs on another node is back within five seconds; one that lives stays there."""

import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from websockets.exceptions import InvalidStatus

from tests.chaos.fleet import Fleet
from tests.integration.harness import Gateway, Station, upgrade
from tests.services import KafkaServer, RedisServer

pytest_plugins = ("tests.services.fixtures",)

BACK_SECONDS = 5.0


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, session_redis: RedisServer, session_kafka: KafkaServer
) -> Iterator[list[Gateway]]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), session_kafka, session_redis.port, nodes=2)
    try:
        fleet.start()
        yield fleet.nodes
    finally:
        fleet.stop()


@pytest.fixture
def name() -> str:
    return f"CP-{uuid.uuid4()}"


def seconds_until_served(node: Gateway, name: str) -> float:
    """A connection, a boot, and its answer."""
    begun = time.monotonic()
    with Station(node, "1.6", name) as station:
        station.booted()
        return time.monotonic() - begun


def half_open(node: Gateway, name: str) -> "closing[socket.socket]":
    """A connection whose other end neither reads nor answers from here on."""
    reply, peer = upgrade(node, f"/ocpp/1.6/{name}", "ocpp1.6")
    assert reply.status == 101, reply
    return closing(peer)


def test_half_open_on_another_node(nodes: list[Gateway], name: str) -> None:
    here, there = nodes
    with half_open(there, name):
        there.wait_station(name, lambda station: station["connected"])
        assert seconds_until_served(here, name) < BACK_SECONDS
        there.wait_station(name, lambda station: not station["connected"])


def test_half_open_on_the_same_node(nodes: list[Gateway], name: str) -> None:
    here, _ = nodes
    with half_open(here, name):
        assert seconds_until_served(here, name) < BACK_SECONDS


def test_the_other_node_hangs(nodes: list[Gateway], name: str) -> None:
    """What it was sent before it went on is not answered by it."""
    here, there = nodes
    with Station(there, "1.6", name) as old:
        old.booted()
        there.signal(signal.SIGSTOP)
        try:
            old.send([2, "late", "Heartbeat", {}])
            assert seconds_until_served(here, name) < BACK_SECONDS
        finally:
            there.signal(signal.SIGCONT)
        assert old.closed_with() == 1012
        assert old._held == [], there.log[-2500:]
    events = [
        event["payload"]["messageId"] for event in there.events(charge_point_id=name) if "messageId" in event["payload"]
    ]
    assert "late" not in events


def test_a_connection_that_lives_on_another_node_stays(nodes: list[Gateway], name: str) -> None:
    here, there = nodes
    with Station(there, "1.6", name) as old:
        old.booted()
        with pytest.raises(InvalidStatus) as refused:
            Station(here, "1.6", name).connect()
        assert refused.value.response.status_code == 409
        old.call("Heartbeat", {})
    there.wait_station(name, lambda station: not station["connected"])
    assert seconds_until_served(here, name) < BACK_SECONDS


def test_the_other_node_was_killed(nodes: list[Gateway], name: str) -> None:
    here, there = nodes
    with half_open(there, name):
        there.wait_station(name, lambda station: station["connected"])
        there.kill()
        try:
            assert seconds_until_served(here, name) < BACK_SECONDS
        finally:
            there.start()

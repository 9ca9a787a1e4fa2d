"""Two nodes of one fleet, as stations, backends and operators see them: real processes, Redis and Kafka."""

import json
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus, WebSocketException

from tests.chaos.fleet import Fleet
from tests.integration.daemon import TIME_LIMIT
from tests.integration.harness import NOW, Gateway, JsonObject, Station, status_payload
from tests.services import KafkaServer, RedisServer, wait_until

pytest_plugins = ("tests.services.fixtures",)

START = {"connectorId": 1, "idTag": "TAG", "meterStart": 5, "timestamp": NOW}


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, session_redis: RedisServer, session_kafka: KafkaServer
) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), session_kafka, session_redis.port, nodes=2)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def name() -> str:
    return f"CP-{uuid.uuid4()}"


def redis_json(redis: RedisServer, fleet: Fleet, key: str) -> JsonObject | None:
    raw = redis.cli("GET", f"{fleet.name}:{key}")
    return json.loads(raw) if raw else None


def ask(gateway: Gateway, name: str, wait: int = 10, **members: Any) -> JsonObject:
    """A command over HTTP; its record once it has ended or the time is over."""
    request = {"commandType": "Reset", "chargePointId": name, "payload": {"type": "Soft"}, **members}
    answer = gateway.http("POST", f"/v1/commands?wait={wait}", request)
    assert answer.status in (200, 202), answer
    return answer.json  # type: ignore[no-any-return]


def record_of(gateway: Gateway, record: JsonObject) -> JsonObject:
    return gateway.get(f"/v1/commands/{record['commandId']}")  # type: ignore[no-any-return]


# --- state follows the station


def test_a_station_goes_on_at_the_other_node_where_it_was(fleet: Fleet, name: str) -> None:
    """Conformance case 69: no boot is needed; a stop of a transaction that began elsewhere is no orphan."""
    here, there = fleet.nodes
    with Station(here, "1.6", name) as station:
        station.booted()
        number = station.call("StartTransaction", START)["transactionId"]
        first = station.call("StatusNotification", status_payload("1.6"), "the-very-same-message-id")
    with Station(there, "1.6", name) as station:
        assert station.call("StatusNotification", status_payload("1.6"), "the-very-same-message-id") == first
        assert station.call("StartTransaction", START)["transactionId"] == number, "the same start, the same id"
        stop = {"transactionId": number, "meterStop": 9, "timestamp": NOW}
        station.call("StopTransaction", stop)
        stopped = there.wait_event(
            lambda event: (event["eventType"], event["chargePointId"]) == ("SessionStopped", name)
        )
    assert "orphaned" not in stopped["payload"]
    assert not [row for row in there.events(charge_point_id=name) if row["eventType"] == "ConnectorStatusChanged"]


def test_a_rejected_station_stays_rejected_elsewhere(fleet: Fleet, name: str) -> None:
    here, there = fleet.nodes
    with Station(here, "1.6", name) as station:
        assert station.refused("StatusNotification", status_payload("1.6")) == "SecurityError"
    with Station(there, "1.6", name) as station:
        assert station.refused("StatusNotification", status_payload("1.6")) == "SecurityError"


# --- commands


def test_a_command_finds_its_station_on_the_other_node(fleet: Fleet, name: str) -> None:
    here, there = fleet.nodes
    found: list[JsonObject] = []
    with Station(there, "1.6", name) as station:
        station.booted()
        asking = threading.Thread(target=lambda: found.append(ask(here, name)))
        asking.start()
        message_id, action, payload = station.expect_call("Reset")
        station.reply(message_id, {"status": "Accepted"})
        asking.join(TIME_LIMIT)
    assert (action, payload) == ("Reset", {"type": "Soft"})
    assert (found[0]["status"], found[0]["outcome"]) == ("Accepted", "Accepted")
    assert record_of(there, found[0])["status"] == "Accepted", "every node knows it"


def test_a_command_waits_for_a_station_that_is_nowhere(fleet: Fleet, name: str) -> None:
    here, there = fleet.nodes
    record = ask(here, name, wait=0, whenOffline="queue", timeoutSec=600)
    older = ask(here, name, wait=0, whenOffline="queue", timeoutSec=600, coalesceKey="k")
    newer = ask(there, name, wait=0, whenOffline="queue", timeoutSec=600, coalesceKey="k")
    with Station(there, "1.6", name) as station:
        station.booted()
        for _ in range(2):
            message_id, _, _ = station.expect_call("Reset")
            station.reply(message_id, {"status": "Accepted"})
        for one, status in ((record, "Accepted"), (newer, "Accepted"), (older, "Failed")):
            wait_until(lambda one=one, status=status: record_of(here, one)["status"] == status, "its end")
    assert record_of(here, older)["error"]["code"] == "Superseded"


def test_a_station_that_is_nowhere_fails_a_command_at_once(fleet: Fleet, name: str) -> None:
    assert ask(fleet.nodes[0], name)["error"]["code"] == "NotConnected"


# --- what operators see


def test_every_node_lists_all_stations(fleet: Fleet, name: str) -> None:
    here, there = fleet.nodes
    with Station(there, "1.6", name) as station:
        station.booted()
        wait_until(
            lambda: [row for row in here.get(f"/v1/stations?search={name}")["stations"] if row["connected"]],
            "the other node's station",
        )
        (row,) = here.get(f"/v1/stations?search={name}")["stations"]
    assert row["nodeId"] == fleet.node_ids[1]


# --- Redis away, and the end of a node: fleets of their own


@pytest.fixture
def own_fleet(tmp_path: Path, redis_server: RedisServer, kafka_server: KafkaServer) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, kafka_server, redis_server.port, nodes=2)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()


def test_while_redis_is_away_sessions_go_on_and_new_ones_are_refused(
    own_fleet: Fleet, redis_server: RedisServer, name: str
) -> None:
    here = own_fleet.nodes[0]
    with Station(here, "1.6", name) as station:
        station.booted()
        redis_server.pause()
        wait_until(lambda: not here.get("/ready")["redis"]["healthy"], "the outage to be told")
        for _ in range(3):
            station.call("StatusNotification", status_payload("1.6"))
        number = station.call("StartTransaction", START)["transactionId"]
        station.call("StopTransaction", {"transactionId": number, "meterStop": 9, "timestamp": NOW})
        with pytest.raises(InvalidStatus) as refused:
            Station(here, "1.6", f"{name}-2").connect()
        assert refused.value.response.status_code == 503
        redis_server.resume()
        wait_until(lambda: here.get("/ready")["redis"]["healthy"], "the end of the outage")
        with Station(here, "1.6", f"{name}-2") as other:
            other.booted()
        station.call("Heartbeat", {})


def is_refused(node: Gateway, name: str) -> bool:
    try:
        Station(node, "1.6", name).connect().close()
    except (OSError, WebSocketException):
        return True
    return False


def test_a_node_that_stops_in_order_gives_its_stations_away(
    own_fleet: Fleet, redis_server: RedisServer, name: str
) -> None:
    here, there = own_fleet.nodes
    names = [f"{name}-{number}" for number in range(20)]
    stations = [Station(here, "1.6", one).connect().booted() for one in names]
    record = here.http(
        "POST", "/v1/commands", {"commandType": "Reset", "chargePointId": names[0], "payload": {"type": "Soft"}}
    )
    message_id, _, _ = stations[0].expect_call("Reset")
    here.signal(signal.SIGTERM)
    wait_until(lambda: is_refused(here, f"{name}-late"), "the port to be closed")
    stations[0].reply(message_id, {"status": "Accepted"})
    assert [station.closed_with() for station in stations] == [1001] * len(stations)
    begun = time.monotonic()
    moved = [Station(there, "1.6", one).connect() for one in names]
    assert time.monotonic() - begun < TIME_LIMIT
    for station in moved:
        station.call("Heartbeat", {})
        station.close()
    here.wait_log("Server Shut Down")
    assert record_of(there, record.json)["status"] == "Accepted", "it was in flight"
    assert redis_json(redis_server, own_fleet, f"nodes:{own_fleet.node_ids[0]}") is None
    here.process = None  # it has ended by itself


def test_two_processes_share_a_port(
    tmp_path: Path, redis_server: RedisServer, kafka_server: KafkaServer, name: str
) -> None:
    fleet = Fleet(tmp_path, kafka_server, redis_server.port, nodes=2)
    first, second = fleet.nodes
    try:
        first.settings["websocket"]["reuse_port"] = second.settings["websocket"]["reuse_port"] = True
        first.start()
        second.settings["websocket"]["port"] = first.websocket_port
        second.start()
        assert first.websocket_port == second.websocket_port
        stations = [Station(first, "1.6", f"{name}-{number}").connect().booted() for number in range(40)]
        counts = [sum(node.get("/health")["connections"].values()) for node in (first, second)]
        assert sum(counts) == 40
        assert min(counts) > 0, counts
        first.stop(60.0)
        served = 0
        for station in stations:
            try:
                station.call("Heartbeat", {})
                served += 1
            except Exception:
                station.connect().call("Heartbeat", {})
        assert served >= counts[1]
        assert sum(second.get("/health")["connections"].values()) == 40
        for station in stations:
            station.close()
    finally:
        fleet.stop()

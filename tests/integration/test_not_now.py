"""Nobody is let in for a while, whoever comes: the gateway starts, stops, or can't use its store."""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ocppgw.access.refusals import Reason
from tests.integration.daemon import TIME_LIMIT
from tests.integration.harness import Gateway, JsonObject, Station, basic, boot_payload
from tests.integration.knocking import Answer, Caller, Knock
from tests.integration.refusal_checks import explains, handshakes, is_answer, is_line
from tests.integration.refusal_rows import PASSWORD, password_hash

MANY = 300  # identities that take a moment to be stored
COME = Knock(headers=basic("CP-1", PASSWORD), source="127.0.0.2")


def identity(name: str) -> JsonObject:
    return {"chargePointId": name, "stationId": name, "tenantId": "tenant-1", "auth": password_hash()}


def build_gateway(folder: Path, **websocket: Any) -> Gateway:
    settings = {
        "websocket": websocket,
        "stations": {"unknown": "refuse"},
        "admission": {"flood_log_cooldown_seconds": 0},
        "journal": {"timeout_seconds": 1.5},
    }
    return Gateway(folder, settings, identities=[identity("CP-1"), identity("CP-2")])


def caller(gateway: Gateway, knock: Knock = COME) -> Caller:
    return Caller(knock, {"plain": gateway.websocket_port}, gateway.folder)


@contextmanager
def locked_store(gateway: Gateway) -> Iterator[None]:
    """Nobody can write to it meanwhile."""
    with closing(sqlite3.connect(gateway.state_dir / "ocppgw.sqlite3", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def is_told(gateway: Gateway, answer: Answer, reason: Reason, line: int, detail: str = "") -> None:
    """`line`: how many lines the log had before."""
    is_answer(answer, reason)
    gateway.wait_log(rf"\[{reason.code}\]", since=line)
    is_line(gateway.log.splitlines()[line:], reason, "refused 127.0.0.2: ", detail)


def is_kept_once(gateway: Gateway, reason: Reason) -> None:
    attempt = gateway.wait_attempt(lambda one: one["outcome"] == reason.code)
    assert attempt["status"] == reason.status
    explains(attempt, reason)
    assert [one["outcome"] for one in gateway.attempts() if one.get("chargePointId") != "CP-2"] == [reason.code]


def test_a_station_that_comes_before_the_identities_are_read(tmp_path: Path) -> None:
    gateway = build_gateway(tmp_path)
    with gateway:
        pass  # its ports are known from now on
    for number in range(MANY):
        gateway.write_identity(identity(f"MANY-{number}"))
    line = gateway.log.count("\n")
    starting = threading.Thread(target=gateway.start)
    starting.start()
    with ExitStack() as ending:
        ending.push(gateway)
        is_told(gateway, first_answer(gateway), Reason.STARTING, line)
        starting.join(TIME_LIMIT)
        is_kept_once(gateway, Reason.STARTING)
        assert caller(gateway).call().status == 101


def first_answer(gateway: Gateway) -> Answer:
    """To a station that waits at the door: the ports open before anything is read."""
    deadline = time.monotonic() + TIME_LIMIT
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError):
            return caller(gateway).call()
    raise AssertionError(f"the port did not open\n{gateway.log}")


def test_a_station_that_comes_while_the_gateway_stops(tmp_path: Path) -> None:
    gateway = build_gateway(tmp_path)
    with gateway:
        is_refused_while_it_stops(gateway)
    with gateway:
        is_kept_once(gateway, Reason.DRAINING)


def is_refused_while_it_stops(gateway: Gateway) -> None:
    late = caller(gateway).connect()  # connected, but it has not asked yet
    lingering = caller(gateway, Knock(path="/ocpp/1.6/CP-2", headers=basic("CP-2", PASSWORD)))
    assert lingering.call().status == 101
    line = gateway.log.count("\n")
    stopping = threading.Thread(target=gateway.stop)  # it waits for CP-2, which does not answer the close frame
    stopping.start()
    gateway.wait_log("Received SIGTERM", since=line)
    is_told(gateway, late.ask(), Reason.DRAINING, line)
    lingering.vanish()
    stopping.join(TIME_LIMIT)


def test_a_store_that_hangs(tmp_path: Path) -> None:
    with build_gateway(tmp_path) as gateway, Station(gateway, "1.6", "CP-2", headers=basic("CP-2", PASSWORD)) as other:
        with locked_store(gateway):
            other.send([2, "boot", "BootNotification", boot_payload("1.6")])
            wait_unready(gateway)
            line = gateway.log.count("\n")
            is_told(gateway, caller(gateway).call(), Reason.STORE_UNAVAILABLE, line)
        gateway.wait_ready()
        is_kept_once(gateway, Reason.STORE_UNAVAILABLE)
        assert caller(gateway).call().status == 101


def wait_stuck(gateway: Gateway) -> None:
    """Until the store's thread waits for the lock, and everybody else for that thread."""
    with suppress(TimeoutError):
        for _ in range(1000):
            assert gateway.http("GET", "/v1/identities?limit=1", time_limit=0.2).status == 200
        raise AssertionError("the store goes on")


def wait_unready(gateway: Gateway) -> None:
    deadline = time.monotonic() + TIME_LIMIT
    while gateway.http("GET", "/ready").status == 200:
        assert time.monotonic() < deadline, gateway.log
        time.sleep(0.02)


def test_a_store_that_does_not_answer_in_time(tmp_path: Path) -> None:
    with build_gateway(tmp_path, handshake_timeout_seconds=2.0) as gateway:
        with locked_store(gateway):
            provisioning = threading.Thread(target=gateway.provision, args=[identity("CP-3")])
            provisioning.start()
            wait_stuck(gateway)
            line = gateway.log.count("\n")
            answer = caller(gateway).call()
            is_told(gateway, answer, Reason.STORE_UNAVAILABLE, line, "the store did not answer in time")
        provisioning.join(TIME_LIMIT)
        is_kept_once(gateway, Reason.STORE_UNAVAILABLE)
        assert handshakes(gateway) == Counter([Reason.STORE_UNAVAILABLE.code])

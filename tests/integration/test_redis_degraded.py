"""Redis is away, slow, restarted without its data or flushed: what a node makes of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocppgw.net.redis import connection as connection_module
from ocppgw.net.redis import fleet as fleet_module
from ocppgw.net.redis import health as health_module
from ocppgw.ports import Known
from tests.contract_access import FINGERPRINT, IDENTITY, OTHER, REVOKED, audit_event, identity
from tests.integration.redis_nodes import (
    BACK_SECONDS,
    CHANGE_SECONDS,
    UNHEARD_RULES,
    Node,
    blocking,
    failure_of,
    until,
)
from tests.services import RedisServer

pytest_plugins = ("tests.services.fixtures",)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def away(node: Node, redis: RedisServer) -> None:
    redis.kill()
    until(lambda: not node.store.status()[0])


# --- away


@blocking
def test_by_default_nobody_is_let_in_while_redis_is_away(redis: RedisServer) -> None:
    node = Node(redis, "ocpp", cache_seconds=0.0).ready()
    try:
        node.cli_set(IDENTITY)
        assert node.look_up().identity == IDENTITY
        away(node, redis)
        failure_of(node.store.look_up("CP-1"))
        assert "admitted-from-cache" not in node.notes
    finally:
        node.stop()


@blocking
def test_on_request_those_are_let_in_whom_this_node_knows(redis: RedisServer) -> None:
    node = Node(redis, "ocpp", cached_admission=60.0, cache_seconds=0.0).ready()
    try:
        for name in ("CP-1", "CP-2"):
            node.cli_set(identity(name), name)
        assert node.look_up("CP-1", FINGERPRINT).identity == identity("CP-1")
        node.wait(node.store.remember_profile("CP-1", 3))
        assert node.look_up("CP-3") == Known()
        away(node, redis)
        assert node.look_up("CP-1", FINGERPRINT) == Known(identity("CP-1"), None, 3)
        assert node.notes.count("admitted-from-cache") == 1
        failure_of(node.store.look_up("CP-2"))  # never looked up here
        failure_of(node.store.look_up("CP-3"))  # was not there
        failure_of(node.store.look_up("CP-1", OTHER))  # may be revoked
    finally:
        node.stop()


@blocking
def test_what_is_known_to_be_revoked_or_changed_stays_so(redis: RedisServer) -> None:
    node = Node(redis, "ocpp", cached_admission=60.0, cache_seconds=0.0).ready()
    try:
        for name in ("CP-1", "CP-2"):
            node.cli_set(identity(name), name)
            node.look_up(name, FINGERPRINT)
        node.wait(node.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
        node.cli_set(identity("CP-2", status="disabled"), "CP-2")
        until(lambda: "CP-2" in node.listener.told, CHANGE_SECONDS)
        known = node.look_up("CP-1", FINGERPRINT)
        assert known.revocation is not None
        away(node, redis)
        assert node.look_up("CP-1", FINGERPRINT) == known
        failure_of(node.store.look_up("CP-2"))  # it changed, and nobody here knows to what
    finally:
        node.stop()


@blocking
def test_who_was_let_in_while_redis_was_away_is_judged_when_it_is_back(redis: RedisServer) -> None:
    node = Node(redis, "ocpp", cached_admission=60.0, cache_seconds=0.0).ready()
    try:
        node.cli_set(IDENTITY)
        node.look_up()
        away(node, redis)
        node.look_up()
        node.ids = ["CP-1"]
        node.listener.told.clear()
        redis.start()
        redis.call("SET", "ocpp:chargers:CP-1", "{}")
        until(lambda: "CP-1" in node.listener.told, BACK_SECONDS)
        assert node.look_up().identity == {}
    finally:
        node.stop()


@blocking
def test_a_redis_that_comes_and_goes_is_told_from_one_that_is_away(redis: RedisServer) -> None:
    node = Node(redis, "ocpp").ready()
    try:
        for _ in range(3):
            redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            until(lambda: not node.store.status()[0])
            until(lambda: node.store.status()[0])
        assert node.store.status() == (True, "Redis comes and goes: it went away 3 times within a minute")
    finally:
        node.stop()


# --- it answers, and refuses


@blocking
@pytest.mark.parametrize(
    ("setting", "on", "said"),
    [("maxmemory", "1mb", "its memory is used up"), ("min-replicas-to-write", "1", "too few replicas follow it")],
)
def test_that_redis_takes_no_writes_is_told_and_so_is_its_end(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, setting: str, on: str, said: str
) -> None:
    monkeypatch.setattr(health_module, "REFUSED_SECONDS", 0.5)
    node = Node(redis, "ocpp").ready()
    try:
        redis.call("CONFIG", "SET", setting, on)
        failure_of(node.store.put_identity(IDENTITY))
        assert said in node.store.status()[1]
        until(lambda: node.store.status() == (True, ""), BACK_SECONDS)
        failure_of(node.store.remember_profile("CP-1", 2))  # a script
        assert not node.store.status()[0]
        redis.call("CONFIG", "SET", setting, "0")
        node.wait(node.store.put_identity(IDENTITY))
        until(lambda: node.store.status() == (True, ""), BACK_SECONDS)
        assert node.notes == ["redis-refuses"] * 2
    finally:
        node.stop()


@blocking
def test_one_that_was_busy_for_a_while_is_looked_after_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PING_SECONDS", 0.1)
    node = Node(redis, "ocpp", call_timeout=3.0).ready()
    try:
        redis.call("CONFIG", "SET", "busy-reply-threshold", "50")
        with redis.connect() as other:
            other.send("EVAL", "while true do end", 0)
            until(lambda: "redis-refuses" in node.notes)
            assert "a script keeps it busy" in node.store.status()[1]
            redis.call("SCRIPT", "KILL")
        redis.pause()
        until(lambda: "does not answer" in node.store.status()[1])
    finally:
        redis.resume()
        node.stop()


# --- emptied


@blocking
@pytest.mark.parametrize("is_heard", [True, False])
def test_connected_stations_outlive_a_redis_that_lost_its_data(redis: RedisServer, is_heard: bool) -> None:
    node = Node(redis, "ocpp", is_heard, cache_seconds=0.0).ready()
    emptied: list[bool] = []
    node.store.on_emptied(lambda: emptied.append(node.store.was_emptied()))
    try:
        for name in ("CP-1", "CP-2"):
            node.cli_set(identity(name), name)
            node.look_up(name)
        node.ids = ["CP-1", "CP-2"]
        until(lambda: node.store.hears_of_changes == is_heard)
        node.listener.told.clear()
        redis.restart(empty=True)
        if not is_heard:
            redis.call("ACL", "SETUSER", "unheard", *UNHEARD_RULES)
        until(lambda: emptied, BACK_SECONDS)
        node.ready()
        node.cli_set(identity("CP-3"), "CP-3")
        assert node.look_up("CP-3").identity == identity("CP-3")
        error, _ = failure_of(node.store.look_up("CP-1"))
        assert "Redis was emptied" in str(error)
        assert node.listener.told in ([], ["CP-3"])
        assert emptied == [True]
        node.wait(node.store.put_identity(identity("CP-1")))
        node.cli_set(identity("CP-2"), "CP-2")
        until(lambda: node.look_up("CP-2").identity == identity("CP-2"), CHANGE_SECONDS)
        assert not node.store.was_emptied()
        node.listener.told.clear()
        node.cli("DEL", "ocpp:chargers:CP-1")
        until(lambda: "CP-1" in node.listener.told, CHANGE_SECONDS)
        assert node.look_up("CP-1") == Known()
    finally:
        node.stop()


@blocking
def test_what_does_not_come_back_counts_as_deleted_in_the_end(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "DELETIONS_COUNT_SECONDS", 1.0)
    node = Node(redis, "ocpp").ready()
    try:
        for name in ("CP-1", "CP-2"):
            node.cli_set(identity(name), name)
            node.look_up(name)
        node.ids = ["CP-1", "CP-2"]
        redis.restart(empty=True)
        until(node.store.was_emptied, BACK_SECONDS)
        node.ready()
        node.listener.told.clear()
        node.cli_set(identity("CP-1"), "CP-1")
        until(lambda: "CP-2" in node.listener.told)
        assert node.look_up("CP-2") == Known()
        assert node.look_up("CP-1").identity == identity("CP-1")
    finally:
        node.stop()


@blocking
def test_a_revocation_that_was_lost_keeps_its_certificate_out(redis: RedisServer) -> None:
    node = Node(redis, "ocpp").ready()
    try:
        node.wait(node.store.put_identity(IDENTITY))
        node.wait(node.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
        assert node.look_up("CP-1", FINGERPRINT).revocation is not None
        redis.restart(empty=True)
        until(node.store.was_emptied, BACK_SECONDS)
        node.ready()
        node.wait(node.store.put_identity(IDENTITY))
        failure_of(node.store.look_up("CP-1", FINGERPRINT))
        assert node.look_up("CP-1").identity == IDENTITY
    finally:
        node.stop()


@blocking
def test_an_emptied_redis_lets_in_whom_this_node_knows_when_that_is_asked_for(redis: RedisServer) -> None:
    node = Node(redis, "ocpp", cached_admission=60.0).ready()
    try:
        node.cli_set(IDENTITY)
        node.look_up()
        node.cli("FLUSHALL")
        until(node.store.was_emptied, CHANGE_SECONDS)
        assert node.look_up().identity == IDENTITY
        assert node.look_up("CP-2") == Known()
    finally:
        node.stop()


@blocking
def test_two_nodes_agree_on_the_mark_and_a_failing_one_is_no_reason_to_do_without_redis(redis: RedisServer) -> None:
    nodes = [Node(redis, "ocpp").ready() for _ in range(2)]
    try:
        redis.restart()
        for node in nodes:
            until(lambda node=node: "redis-outage" in node.notes)
            node.ready()
            assert "redis-emptied" not in node.notes
        assert len(str(redis.call("GET", "ocpp:fleet"))) >= 32
    finally:
        for node in nodes:
            node.stop()

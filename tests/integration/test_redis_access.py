"""Who may connect, on a real Redis: the contract of every store, redis-cli both ways, several nodes, every fault."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import crypto
from twisted.internet import reactor, ssl
from twisted.internet.defer import gatherResults
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

import ocppgw.net.redis as redis_package
from ocppgw.access.attempts import StoredAttempt
from ocppgw.errors import ConfigError
from ocppgw.net.redis import RedisAccessStore, RedisAddress, RedisSettings, parse_url
from ocppgw.ports import AttemptQuery, Edit, Known
from tests.contract_access import (
    FINGERPRINT,
    IDENTITY,
    REVOKED,
    AccessContract,
    attempt,
    audit_event,
    identity,
)
from tests.integration.certificates import Pki
from tests.integration.redis_nodes import (
    BACK_SECONDS,
    CALL_SECONDS,
    CHANGE_SECONDS,
    UNHEARD_RULES,
    Journal,
    Node,
    blocking,
    failure_of,
    until,
)
from tests.services import RedisServer, RedisUser

pytest_plugins = ("tests.integration.certificates", "tests.integration.redis_nodes", "tests.services.fixtures")

ADMIN = RedisUser("admin", "an admin's password")
GATEWAY = RedisUser("gateway", "correct horse:staple/@", rules="~ocpp:* resetchannels +@all -@dangerous")
Build = Callable[..., Node]


@pytest.fixture
def build(redis_server: RedisServer, prefix: str) -> Iterator[Build]:
    """Nodes on one Redis, with the same keys."""
    nodes: list[Node] = []

    def make(**settings: Any) -> Node:
        nodes.append(Node(redis_server, settings.pop("prefix", prefix), **settings))
        return nodes[-1].ready()

    yield make
    for node in nodes:
        node.stop()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def note(event: Any) -> None:
        lines.append(f"{formatEvent(event)} {event.get('log_failure', '')}")

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


# --- the contract of every store


class RedisCase(AccessContract, SynchronousTestCase):
    redis: RedisServer
    is_heard = True

    @pytest.fixture(autouse=True)
    def _redis(self, session_redis: RedisServer) -> None:
        self.redis = session_redis

    def build(self) -> Node:
        node = Node(self.redis, f"test-{uuid.uuid4()}", self.is_heard)
        self.addCleanup(node.stop)
        return node


class HeardContract(RedisCase):
    """Redis tells of changes."""


class UnheardContract(RedisCase):
    """Redis does not tell of changes."""

    is_heard = False


del RedisCase


# --- redis-cli, both ways


@blocking
def test_an_identity_written_with_redis_cli_is_found(build: Build) -> None:
    node = build()
    assert node.look_up() == Known()
    node.cli_set(IDENTITY)
    until(lambda: node.look_up().identity == IDENTITY, CHANGE_SECONDS)
    assert node.listener.told == ["CP-1"]


@blocking
def test_what_a_node_stores_is_read_with_redis_cli(build: Build) -> None:
    node = build()
    node.wait(node.store.put_identity(IDENTITY))
    node.wait(node.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
    assert json.loads(node.cli("GET", node.key("chargers:CP-1"))) == IDENTITY
    assert json.loads(node.cli("GET", node.key(f"revoked-certs:{FINGERPRINT}"))) == REVOKED


@blocking
def test_keys_without_a_prefix(build: Build) -> None:
    node = build(prefix="", identity_prefix=f"ids-{uuid.uuid4()}", revoked_prefix=f"revoked-{uuid.uuid4()}")
    node.wait(node.store.put_identity(IDENTITY))
    assert json.loads(node.cli("GET", f"{node.settings.identity_prefix}:CP-1")) == IDENTITY


@blocking
def test_a_revocation_written_as_1_revokes(build: Build) -> None:
    node = build()
    node.cli("SET", node.key(f"revoked-certs:{FINGERPRINT}"), "1")
    assert node.look_up("CP-1", FINGERPRINT).revocation == {"fingerprint": FINGERPRINT}
    assert node.wait(node.store.revocations()) == {FINGERPRINT: {"fingerprint": FINGERPRINT}}


@pytest.mark.parametrize("broken", ["", "not JSON", '"text"', "[]", "null", "12", "[" * 100_000, '{"a": 1'])
@blocking
def test_a_broken_record_is_an_identity_that_lets_nobody_in(build: Build, broken: str) -> None:
    node = build()
    node.redis.call("SET", node.key("chargers:CP-1"), broken)
    node.redis.call("SET", node.key(f"revoked-certs:{FINGERPRINT}"), broken)
    known = node.look_up("CP-1", FINGERPRINT)
    assert known.identity == {}
    assert known.revocation == {"fingerprint": FINGERPRINT}
    assert node.wait(node.store.identities()).identities == [{"chargePointId": "CP-1"}]
    seen: list[Any] = []

    def mend(current: Any) -> Edit:
        seen.append(current)
        return Edit(IDENTITY)

    assert node.wait(node.store.edit_identity("CP-1", mend)) == IDENTITY
    assert seen == [{"chargePointId": "CP-1"}], "with an id, so that it can be deleted and audited like any other"
    assert node.look_up().identity == IDENTITY


@blocking
def test_octets_that_are_no_text_and_keys_of_another_type_harm_nobody(build: Build) -> None:
    node = build()
    node.redis.call("SET", node.key("chargers:CP-1"), b'{"a": "\xff\xfe"}')
    node.redis.call("HSET", node.key("chargers:CP-2"), "a", "b")
    node.redis.call("HSET", node.key("security-profiles"), "CP-1", b"\xff")
    assert node.look_up("CP-1") == Known({}, None, 0)
    assert node.look_up("CP-2") == Known()
    error, _ = failure_of(node.store.edit_identity("CP-2", lambda current: Edit(IDENTITY)))
    assert "WRONGTYPE" in str(error)


# --- changes reach every node


@pytest.mark.parametrize("is_heard", [True, False])
@blocking
def test_a_change_made_with_redis_cli_is_heard_of_on_every_node(build: Build, is_heard: bool) -> None:
    nodes = [build(is_heard=is_heard), build(is_heard=is_heard)]
    steps: list[tuple[str, tuple[str, ...]]] = [
        ("CP-1", ("SET", nodes[0].key("chargers:CP-1"), json.dumps(IDENTITY | {"status": "disabled"}))),
        ("CP-1", ("DEL", nodes[0].key("chargers:CP-1"))),
        (FINGERPRINT, ("SET", nodes[0].key(f"revoked-certs:{FINGERPRINT}"), "1")),
    ]
    nodes[0].cli_set(IDENTITY)
    until(lambda: all(node.look_up("CP-1", FINGERPRINT) == Known(IDENTITY) for node in nodes))
    for node in nodes:
        node.ids, node.fingerprints = ["CP-1"], [FINGERPRINT]
    for name, words in steps:
        for node in nodes:
            node.listener.told.clear()
        nodes[0].cli(*words)
        until(lambda name=name: all(name in node.listener.told for node in nodes), CHANGE_SECONDS)  # type: ignore[misc]
    assert [node.look_up("CP-1", FINGERPRINT).identity for node in nodes] == [None, None]
    assert all(node.look_up("CP-1", FINGERPRINT).revocation for node in nodes)


@pytest.mark.parametrize("is_heard", [True, False])
@blocking
def test_a_change_made_on_one_node_is_heard_of_on_the_other_and_told_once_here(build: Build, is_heard: bool) -> None:
    here, there = build(is_heard=is_heard), build(is_heard=is_heard)
    there.ids = ["CP-1"]
    here.wait(here.store.put_identity(IDENTITY))
    until(lambda: "CP-1" in there.listener.told, CHANGE_SECONDS)
    here.ids = ["CP-1", "CP-2"]
    here.wait(here.store.edit_identity("CP-1", lambda current: Edit(current | {"status": "disabled"})))
    until(lambda: there.look_up().identity == IDENTITY | {"status": "disabled"}, CHANGE_SECONDS)
    there.cli_set(identity("CP-2"), "CP-2")  # when that is told, an echo would have been told before
    until(lambda: "CP-2" in here.listener.told, CHANGE_SECONDS)
    assert here.listener.told.count("CP-1") == 2


@blocking
def test_nothing_is_told_twice_by_sweeps(build: Build) -> None:
    node = build(is_heard=False)
    node.cli_set(IDENTITY)
    node.look_up()
    node.ids = ["CP-1", "CP-2", "CP-3"]
    for name in ("CP-2", "CP-3"):  # two sweeps at least
        node.look_up(name)
        node.cli_set(identity(name), name)
        until(lambda name=name: name in node.listener.told, CHANGE_SECONDS)  # type: ignore[misc]
    assert node.listener.told.count("CP-1") == 0


@blocking
def test_a_change_while_a_station_is_on_its_way_in_is_told_when_it_has_arrived(build: Build) -> None:
    node = build()
    node.cli_set(IDENTITY)
    until(lambda: node.look_up().identity == IDENTITY)
    node.cli_set(IDENTITY | {"status": "disabled"})
    until(lambda: "CP-1" in node.listener.told, CHANGE_SECONDS)
    node.listener.told.clear()
    node.ids = ["CP-1"]
    until(lambda: node.listener.told == ["CP-1"], CHANGE_SECONDS)


@blocking
def test_flushing_redis_deletes_nobody_who_was_there(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        node = Node(redis, "ocpp").ready()
        try:
            node.cli_set(IDENTITY)
            until(lambda: node.look_up().identity == IDENTITY)
            node.ids = ["CP-1"]
            node.listener.told.clear()
            node.cli("FLUSHALL")
            until(node.store.was_emptied, CHANGE_SECONDS)
            error, _ = failure_of(node.store.look_up("CP-1"))
            assert "Redis was emptied" in str(error)
            assert node.look_up("CP-2") == Known()  # this node never gave it out
            assert node.listener.told == []
        finally:
            node.stop()


@blocking
def test_thousands_of_changes_at_once_are_all_told(build: Build) -> None:
    node = build()
    names = {f"CP-{number}" for number in range(3000)}
    with node.redis.connect() as connection:
        for name in names:
            connection.send("SET", node.key(f"chargers:{name}"), "{}")
        for _ in names:
            connection.receive()
    until(lambda: set(node.listener.told) == names)


# --- cache


@blocking
def test_what_is_cached_needs_no_redis_and_is_dropped_at_once_when_it_changes(build: Build) -> None:
    node = build()
    node.cli_set(IDENTITY)
    until(lambda: node.look_up("CP-1", FINGERPRINT).identity == IDENTITY)
    before = calls_of(node.redis, "mget")
    for _ in range(100):
        node.look_up("CP-1", FINGERPRINT)
    assert calls_of(node.redis, "mget") == before
    node.cli_set(IDENTITY | {"status": "disabled"})
    until(lambda: node.listener.told.count("CP-1") == 2)
    assert node.look_up("CP-1", FINGERPRINT).identity == IDENTITY | {"status": "disabled"}


@blocking
def test_what_is_cached_does_not_outlive_its_time(build: Build) -> None:
    node = build(cache_seconds=0.2)
    node.look_up()
    node.redis.call("HSET", node.key("security-profiles"), "CP-1", 2)  # of this nobody is told
    until(lambda: node.look_up().security_profile == 2, 1.0)


@blocking
def test_look_ups_of_one_station_at_the_same_time_are_one(build: Build) -> None:
    node = build()
    node.redis.call("SET", node.key("chargers:CP-1"), json.dumps(IDENTITY))
    node.look_up("CP-2")
    before = calls_of(node.redis, "mget")
    found = node.wait(gatherResults([node.store.look_up("CP-1", FINGERPRINT) for _ in range(50)]))
    assert found == [Known(IDENTITY)] * 50
    assert calls_of(node.redis, "mget") == before + 1


def calls_of(redis: RedisServer, command: str) -> int:
    stats = redis.info("commandstats").get(f"cmdstat_{command}", "calls=0,")
    return int(stats.partition("calls=")[2].partition(",")[0])


# --- changes at the same time


@blocking
def test_edits_on_two_nodes_at_the_same_time_all_count(build: Build) -> None:
    nodes = [build(), build()]
    nodes[0].wait(nodes[0].store.put_identity(identity("CP-1", count=0)))

    def add_one(current: Any) -> Edit:
        return Edit(current | {"count": current["count"] + 1}, audit_event())

    edits = [node.store.edit_identity("CP-1", add_one) for _ in range(20) for node in nodes]
    nodes[0].wait(gatherResults(edits))
    until(lambda: all((node.look_up().identity or {})["count"] == 40 for node in nodes), CHANGE_SECONDS)
    assert [len(node.journal.records) for node in nodes] == [20, 20]


@blocking
def test_an_edit_does_not_bring_back_what_another_node_deleted(build: Build) -> None:
    here, there = build(), build()
    here.wait(here.store.put_identity(IDENTITY))
    seen: list[Any] = []

    def disable(current: Any) -> Edit | None:
        if not seen:
            there.redis.call("DEL", here.key("chargers:CP-1"))
        seen.append(current)
        return None if current is None else Edit(current | {"status": "disabled"})

    assert here.wait(here.store.edit_identity("CP-1", disable)) is None
    assert seen == [IDENTITY, None]
    assert here.look_up() == Known()


@blocking
def test_the_highest_profile_of_all_nodes_counts(build: Build) -> None:
    nodes = [build(cache_seconds=0), build(cache_seconds=0)]
    for node, profile in zip(nodes, (3, 1), strict=True):
        node.wait(node.store.remember_profile("CP-1", profile))
    assert [node.look_up().security_profile for node in nodes] == [3, 3]


@blocking
def test_a_change_whose_event_is_not_published_fails_though_it_is_made(build: Build) -> None:
    node = build()
    node.journal.fault = "no disk"
    error, _ = failure_of(node.store.put_identity(IDENTITY, audit_event()))
    assert "no disk" in str(error)
    assert node.look_up().identity == IDENTITY
    assert node.listener.told == ["CP-1"]


# --- time to live


@blocking
def test_revocations_live_as_long_as_configured(build: Build) -> None:
    for seconds, low, high in ((0, -1, -1), (100, 90_000, 100_000)):
        node = build(revoked_ttl=seconds)
        node.wait(node.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
        left = node.redis.call("PTTL", node.key(f"revoked-certs:{FINGERPRINT}"))
        assert isinstance(left, int)
        assert low <= left <= high


@blocking
def test_a_revocation_whose_time_is_over_revokes_nothing(build: Build) -> None:
    node = build(revoked_ttl=0.3)
    node.wait(node.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
    assert node.look_up("CP-1", FINGERPRINT).revocation == REVOKED
    until(lambda: node.look_up("CP-1", FINGERPRINT).revocation is None)


# --- many


@blocking
def test_thousands_of_identities_are_listed_in_order(build: Build, prefix: str) -> None:
    node = build(prefix=f"{prefix}[*]")
    names = [f"CP-{number:05}" for number in range(2500)]
    with node.redis.connect() as connection:
        for name in names:
            connection.send("SET", node.key(f"chargers:{name}"), json.dumps(identity(name, tenantId=name[-1])))
            connection.send("SET", f"{prefix}-:chargers:{name}", "{}")
        for _ in range(2 * len(names)):
            connection.receive()
    page = node.wait(node.store.identities("", 1200, 3))
    assert (ids(page.identities), page.total) == (["CP-01200", "CP-01201", "CP-01202"], 2500)
    page = node.wait(node.store.identities("cp-012", 98, 5))
    assert (ids(page.identities), page.total) == (["CP-01298", "CP-01299"], 100)


def ids(identities: Any) -> list[str]:
    return [one["chargePointId"] for one in identities]


@blocking
def test_a_flood_of_attempts_pushes_out_only_its_own(build: Build) -> None:
    node = build(attempts_kept=200)
    node.wait(node.store.save_attempts([attempt(1.0, "CP-1", "192.0.2.1")]))
    flood = [attempt(float(n), f"invented-{n}", "198.51.100.9") for n in range(2, 1002)]
    node.wait(node.store.save_attempts(flood))
    assert times(node, charge_point_id="CP-1") == [1.0]
    kept = times(node)
    assert 180 <= len(kept) <= 200
    assert kept[:-1] == [float(n) for n in range(1001, 1001 - len(kept) + 1, -1)]
    for key, count in (("ZCARD", "attempts"), ("HLEN", "attempts:bodies"), ("HLEN", "attempts:counts")):
        assert node.redis.call(key, node.key(count)) == len(kept)


@blocking
def test_attempts_of_all_nodes_are_found_on_each(build: Build) -> None:
    nodes = [build(), build()]
    for number, node in enumerate(nodes, 1):
        node.wait(node.store.save_attempts([attempt(float(number))]))
    assert [times(node) for node in nodes] == [[2.0, 1.0], [2.0, 1.0]]
    assert 0 < int(nodes[0].cli("TTL", nodes[0].key("attempts"))) <= 30 * 86_400


def times(node: Node, **query: Any) -> list[float]:
    found: list[StoredAttempt] = node.wait(node.store.attempts(AttemptQuery(limit=2000, **query)))
    return [one.at for one in found]


# --- Redis away


@blocking
def test_a_paused_redis_fails_calls_in_time_and_is_used_again_when_it_goes_on(build: Build, logged: list[str]) -> None:
    node = build()
    node.look_up()
    node.redis.pause()
    for call in (node.store.look_up("CP-2"), node.store.put_identity(IDENTITY), node.store.identities()):
        error, seconds = failure_of(call)
        assert error.code == "StoreUnavailable"
        assert seconds < CALL_SECONDS + 0.3
    until(lambda: not node.store.status()[0], CALL_SECONDS + 0.3)
    assert "does not answer" in node.store.status()[1]
    until(lambda: failure_of(node.store.look_up("CP-2"))[1] < 0.1)  # not each waits its time in a long outage
    node.redis.resume()
    until(lambda: node.store.status()[0], BACK_SECONDS)
    assert node.look_up("CP-2") == Known()
    assert node.notes == ["redis-outage"]
    assert len([line for line in logged if "Redis can't be used" in line]) == 1
    assert len([line for line in logged if "Redis can be used again" in line]) == 1


@pytest.mark.parametrize("is_heard", [True, False])
@blocking
def test_what_changed_while_redis_was_killed_is_told_afterwards(build: Build, is_heard: bool) -> None:
    node = build(is_heard=is_heard)
    node.cli_set(IDENTITY)
    until(lambda: node.look_up().identity == IDENTITY)
    node.ids = ["CP-1", "CP-2"]
    node.look_up("CP-2")
    node.redis.kill()
    until(lambda: not node.store.status()[0])
    node.listener.told.clear()
    failure_of(node.store.look_up("CP-3"))
    node.redis.start()
    if not is_heard:
        node.redis.call("ACL", "SETUSER", "unheard", *UNHEARD_RULES)
    node.cli_set(IDENTITY | {"status": "disabled"})
    until(lambda: "CP-1" in node.listener.told, BACK_SECONDS)
    assert "CP-2" not in node.listener.told
    assert node.look_up().identity == IDENTITY | {"status": "disabled"}


@blocking
def test_a_restart_tells_nothing_and_one_without_data_deletes_nobody(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        node = Node(redis, "ocpp").ready()
        try:
            node.wait(node.store.put_identity(IDENTITY))
            node.wait(node.store.put_identity(identity("CP-2")))
            for name in ("CP-1", "CP-2"):
                node.look_up(name)
            node.ids = ["CP-1", "CP-2"]
            node.listener.told.clear()
            redis.restart()
            until(lambda: not node.store.status()[0])
            node.ready()
            node.cli_set(identity("CP-2", status="disabled"), "CP-2")
            until(lambda: "CP-2" in node.listener.told, CHANGE_SECONDS)
            assert set(node.listener.told) == {"CP-2"}
            assert node.look_up().identity == IDENTITY
            node.listener.told.clear()
            redis.restart(empty=True)
            until(node.store.was_emptied, BACK_SECONDS)
            node.ready()
            failure_of(node.store.look_up("CP-1"))
            node.cli_set(IDENTITY)
            until(lambda: node.listener.told, CHANGE_SECONDS)
            assert node.look_up().identity == IDENTITY
            assert set(node.listener.told) == {"CP-1"}
            assert node.notes.count("redis-emptied") == 1
        finally:
            node.stop()


@blocking
def test_a_connection_that_redis_cuts_is_made_again_and_nothing_is_missed(build: Build) -> None:
    node = build()
    node.cli_set(IDENTITY)
    until(lambda: node.look_up().identity == IDENTITY)
    node.ids = ["CP-1"]
    for kind in ("pubsub", "normal"):
        node.listener.told.clear()
        node.cli("CLIENT", "KILL", "TYPE", kind)
        node.cli_set(IDENTITY | {"cut": kind})
        until(lambda: "CP-1" in node.listener.told, CHANGE_SECONDS)
        until(lambda kind=kind: node.look_up().identity == IDENTITY | {"cut": kind}, CHANGE_SECONDS)  # type: ignore[misc]
    node.ready()


@blocking
def test_redis_that_is_not_there_at_the_start_is_found_when_it_is(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    node = Node(redis, "ocpp")
    try:
        error, seconds = failure_of(node.store.look_up("CP-1"))
        assert "can't be reached" in str(error)
        assert seconds < CALL_SECONDS + 0.3
        assert "nobody listens" in node.store.status()[1]
        with redis:
            until(lambda: node.store.status()[0], BACK_SECONDS)
            assert node.look_up() == Known()
    finally:
        node.stop()


@blocking
def test_a_stopped_store_fails_its_calls(build: Build) -> None:
    node = build()
    call = node.store.look_up("CP-1")
    node.store.stop()
    failure_of(call)
    failure_of(node.store.look_up("CP-1"))


# --- users, TLS, databases


@blocking
def test_a_wrong_password_is_told_without_it_and_a_corrected_one_is_taken(
    redis_server: RedisServer, prefix: str, logged: list[str]
) -> None:
    address = parse_url(redis_server.url())
    user = f"user-{uuid.uuid4()}"
    secret = "swordfish-of-the-operator"
    wrong = RedisAddress(address.host, address.port, 0, user, secret)
    redis_server.call("ACL", "SETUSER", user, "on", ">something else", "~*", "&*", "+@all")
    node = Node(redis_server, prefix, address=wrong)
    try:
        until(lambda: "password" in node.store.status()[1])
        assert f"does not let user '{user}' in: the password or the user is wrong" in node.store.status()[1]
        error, _ = failure_of(node.store.look_up("CP-1"))
        assert error.code == "StoreUnavailable"
        redis_server.call("ACL", "SETUSER", user, f">{secret}")
        until(lambda: node.store.status()[0], BACK_SECONDS)
        assert node.look_up() == Known()
    finally:
        node.stop()
    said = "\n".join([*logged, repr(node.settings), str(node.settings), str(error), repr(node.store.status())])
    assert "Redis can't be used" in said
    assert secret not in said


@blocking
def test_a_password_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    with RedisServer(tmp_path, users=[ADMIN]) as redis:
        node = Node(redis, "ocpp")
        try:
            until(lambda: "asks for a password" in node.store.status()[1])
        finally:
            node.stop()


@blocking
def test_user_password_tls_and_a_database_of_its_own(tmp_path: Path, pki: Pki) -> None:
    with RedisServer(tmp_path, users=[ADMIN, GATEWAY], tls=pki.files) as redis:
        url = redis.url(GATEWAY).removesuffix("0") + "5"
        settings = RedisSettings(address=parse_url(url), call_timeout=CALL_SECONDS)
        journal = Journal()
        with pytest.raises(ConfigError, match="rediss"):
            RedisAccessStore(settings, reactor, journal.publish)
        store = RedisAccessStore(settings, reactor, journal.publish, lambda host: trusting(pki.files.root))
        store.start()
        try:
            pytest_twisted.blockon(store.put_identity(IDENTITY))
            assert json.loads(redis.cli("-n", "5", "GET", "ocpp:chargers:CP-1")) == IDENTITY
            assert pytest_twisted.blockon(store.look_up("CP-1")).identity == IDENTITY
            assert store.status() == (True, "")
        finally:
            store.stop()


@blocking
def test_the_least_that_redis_has_to_allow(redis_server: RedisServer) -> None:
    """As the package's docstring says it."""
    text = redis_package.__doc__ or ""
    rules = [word for line in text.splitlines() for word in line.split() if word[0] in "~+&"]
    heard, unheard = rules, rules[: rules.index("&__redis__:invalidate")]
    address = parse_url(redis_server.url())
    for is_heard, allowed in ((True, heard), (False, unheard)):
        redis_server.call("ACL", "SETUSER", "least", "reset", "on", ">least", *allowed)
        node = Node(redis_server, "ocpp", address=RedisAddress(address.host, address.port, 0, "least", "least"))
        node.is_heard = is_heard
        try:
            name = f"CP-{uuid.uuid4()}"
            node.ready()
            node.wait(node.store.put_identity(identity(name)))
            node.wait(node.store.remember_profile(name, 2))
            assert node.look_up(name) == Known(identity(name), None, 2)
            node.wait(node.store.edit_identity(name, lambda current: Edit(current | {"status": "disabled"})))
            assert node.wait(node.store.identities(name)).total == 1
            assert node.wait(node.store.edit_identity(name, lambda current: Edit(None))) is None
            node.wait(node.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
            assert FINGERPRINT in node.wait(node.store.revocations())
            node.wait(node.store.save_attempts([attempt(float(number), name) for number in range(100)]))
            assert len(times(node, charge_point_id=name)) >= 20
        finally:
            node.stop()
            redis_server.call("ACL", "DELUSER", "least")


@blocking
def test_a_certificate_that_nobody_vouches_for_is_not_talked_to(tmp_path: Path, pki: Pki) -> None:
    with RedisServer(tmp_path, tls=pki.files) as redis:
        settings = RedisSettings(address=parse_url(redis.url()), call_timeout=CALL_SECONDS)
        store = RedisAccessStore(settings, reactor, Journal().publish, lambda host: trusting(pki.foreign("x").path))
        store.start()
        try:
            until(lambda: "certificate verify failed" in store.status()[1])
        finally:
            store.stop()


def trusting(path: Path) -> Any:
    authority = ssl.Certificate(crypto.load_certificate(crypto.FILETYPE_PEM, path.read_bytes()))
    return ssl.optionsForClientTLS("localhost", authority)

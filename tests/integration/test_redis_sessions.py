"""Which node serves which station, on a real Redis: the contract of all, the outside contract's bytes, races."""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import ConfigError, OcppgwError, StoreError
from ocppgw.fleet_ports import Beat, Claim, Held, NodeRow
from ocppgw.net.redis import RedisSettings, parse_url
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.scanning import read_family
from ocppgw.net.redis.session_records import NodeFacts, encode
from ocppgw.net.redis.sessions import RedisSessions
from ocppgw.ocpp.timestamps import rfc3339
from tests.contract_sessions import (
    NODE_REFRESH,
    NODE_TTL,
    NOW,
    SESSION_STALE,
    SESSION_TTL,
    Node,
    SessionsContract,
    by_hand,
    reference_node,
)
from tests.services import RedisServer

pytest_plugins = ("tests.services.fixtures",)

TIME_LIMIT = 20.0
ROUNDS = 400
SECOND_MS = 1000


class RealFleet:
    """(contract_sessions.Fleet) Nodes on one Redis, each with a connection of its own."""

    def __init__(self, redis: RedisServer, prefix: str | None = None) -> None:
        self.redis = redis
        self.prefix = f"test-{uuid.uuid4()}" if prefix is None else prefix
        self.settings = RedisSettings(address=parse_url(redis.url()), prefix=self.prefix, call_timeout=TIME_LIMIT)
        self.keys = Keys(self.settings)
        self.clock = Clock()
        self.clock.advance(NOW)
        self.connections: list[Connection] = []

    def node(self, node_id: str, incarnation: str, advertise_url: str | None = None) -> RedisSessions:
        started = rfc3339(NOW).decode()
        facts = NodeFacts(node_id, incarnation, f"commands.{node_id}", f"control.{node_id}", started, advertise_url)
        return RedisSessions(
            self.connection(),
            self.keys,
            facts,
            self.clock,
            session_ttl=SESSION_TTL,
            session_stale=SESSION_STALE,
            node_ttl=NODE_TTL,
            node_refresh=NODE_REFRESH,
        )

    def connection(self) -> Connection:
        address = self.settings.address
        place = HostnameEndpoint(reactor, address.host, address.port)
        connection = Connection(
            self.settings,
            reactor,
            place,
            random.random,
            lambda trouble: None,
            lambda: None,
        )
        connection.start()
        self.connections.append(connection)
        return connection

    def wait(self, deferred: "Deferred[Any]") -> Any:
        return pytest_twisted.blockon(deferred.addTimeout(TIME_LIMIT, reactor))

    def stop(self) -> None:
        for connection in self.connections:
            connection.stop()

    def forget(self) -> None:
        found = self.redis.call("KEYS", self.key("*"))
        assert isinstance(found, list)
        names = [name for name in found if isinstance(name, bytes)]
        if names:
            self.redis.call("DEL", *names)

    def forget_node(self, node_id: str) -> None:
        assert self.redis.call("DEL", self.key(f"nodes:{node_id}")) == 1

    def write_session(self, members: Mapping[str, Any], charge_point_id: str = "CP-1") -> None:
        self.write(f"sessions:{charge_point_id}", json.dumps(members))

    def write_node(self, row: NodeRow) -> None:
        self.write(f"nodes:{row.node_id}", encode(row))

    def key(self, rest: str) -> str:
        return f"{self.prefix}:{rest}" if self.prefix else rest

    def write(self, rest: str, value: str | bytes) -> None:
        assert self.redis.call("SET", self.key(rest), value) == b"OK"

    def life(self, rest: str) -> int:
        """Milliseconds that the key still has to live."""
        left = self.redis.call("PTTL", self.key(rest))
        assert isinstance(left, int)
        return left


class RedisSessionsTests(SessionsContract, SynchronousTestCase):
    redis: RedisServer

    @pytest.fixture(autouse=True)
    def _redis(self, session_redis: RedisServer) -> None:
        self.redis = session_redis

    def build(self) -> RealFleet:
        fleet = RealFleet(self.redis)
        self.addCleanup(fleet.stop)
        return fleet


class RedisCase(SynchronousTestCase):
    """`fleet` has unique keys."""

    redis: RedisServer

    @pytest.fixture(autouse=True)
    def _redis(self, session_redis: RedisServer) -> None:
        self.redis = session_redis

    def setUp(self) -> None:
        self.fleet = RealFleet(self.redis)
        self.addCleanup(self.fleet.stop)

    def nodes(self, *node_ids: str) -> list[Node]:
        return [Node(self.fleet, node_id) for node_id in node_ids]


# --- the outside contract's bytes


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Nobody else's: to be wiped, and for keys without a prefix."""
    with RedisServer(tmp_path_factory.mktemp("own-redis")) as server:
        yield server


class EmptyRedis(SynchronousTestCase):
    redis: RedisServer

    @pytest.fixture(autouse=True)
    def _redis(self, own_redis: RedisServer) -> None:
        self.redis = own_redis

    def setUp(self) -> None:
        self.redis.call("FLUSHALL")

    def fleet(self, prefix: str) -> RealFleet:
        fleet = RealFleet(self.redis, prefix)
        self.addCleanup(fleet.stop)
        return fleet

    def test_keys_and_members_are_the_contracts(self) -> None:
        for prefix, front in (("ocpp", "ocpp:"), ("", "")):
            self.redis.call("FLUSHALL")
            fleet = self.fleet(prefix)
            old = Node(fleet).claim()
            claim = Node(fleet, "node-b").claim(over=old.epoch)
            names = self.redis.call("KEYS", "*")
            assert isinstance(names, list)
            self.assertEqual(
                sorted(name.decode() for name in names if isinstance(name, bytes)),
                sorted(
                    front + name
                    for name in (
                        "sessions:CP-1",
                        "nodes:node-a",
                        "nodes:node-b",
                        "node-losses:node-a",
                        "epochs",
                        "station-ids",
                    )
                ),
            )
            self.assertEqual(
                self.redis.call("GET", f"{front}sessions:CP-1"),
                b'{"chargePointId":"CP-1","ocppVersion":"1.6J","nodeId":"node-b","stationId":"station-1",'
                b'"tenantId":"tenant-1","connectedAt":"2026-11-25T08:00:00.000Z","connectedAtMs":1795593600000,'
                b'"lastSeenAt":"2026-11-25T08:00:00.000Z","lastSeenAtMs":1795593600000,"epoch":%d,"incarnation":"1"}'
                % claim.epoch,
            )
            self.assertEqual(
                self.redis.call("GET", f"{front}nodes:node-b"),
                b'{"nodeId":"node-b","commandTopic":"commands.node-b","sessionControlTopic":"control.node-b",'
                b'"startedAt":"2026-11-25T08:00:00.000Z","lastSeenAt":"2026-11-25T08:00:00.000Z","incarnation":"1"}',
            )
            self.assertEqual(self.redis.call("HGETALL", f"{front}epochs"), [b"CP-1", b"%d" % claim.epoch])
            self.assertEqual(self.redis.call("HGETALL", f"{front}station-ids"), [b"station-1", b"CP-1"])

    def test_a_refresh_writes_the_same_members_as_a_claim(self) -> None:
        fleet = self.fleet("ocpp")
        node = Node(fleet)
        claim = node.claim()
        claimed = self.redis.call("GET", "ocpp:sessions:CP-1")
        node.refresh(claim.epoch)
        self.assertEqual(self.redis.call("GET", "ocpp:sessions:CP-1"), claimed)
        fleet.forget()
        node.refresh(claim.epoch)
        self.assertEqual(self.redis.call("GET", "ocpp:sessions:CP-1"), claimed)

    def test_redis_is_emptied(self) -> None:
        fleet = self.fleet("ocpp")
        here, there = Node(fleet), Node(fleet, "node-b")
        old = here.claim()
        self.redis.call("FLUSHALL")
        self.redis.call("SCRIPT", "FLUSH")
        fleet.clock.advance(1.0)
        new = there.claim()
        self.assertGreater(new.epoch, old.epoch)
        self.assertEqual(here.beat(), Beat((), was_forgotten=True))
        self.assertEqual(here.refresh(old.epoch), [Claim("CP-1", new.epoch)])
        self.assertEqual(self.redis.call("HGET", "ocpp:epochs", "CP-1"), b"%d" % new.epoch)

    def test_the_advertised_url_is_told_and_read_back(self) -> None:
        fleet = self.fleet("ocpp")
        node = fleet.node("node-u", "1", "ws://10.0.0.7:8080")
        fleet.wait(node.announce())
        raw = self.redis.call("GET", "ocpp:nodes:node-u")
        assert isinstance(raw, bytes)
        self.assertEqual(json.loads(raw)["advertiseUrl"], "ws://10.0.0.7:8080")
        [row] = fleet.wait(node.nodes())
        self.assertEqual(row.advertise_url, "ws://10.0.0.7:8080")

    def test_a_node_without_rights_for_everything_can_do_this(self) -> None:
        """What Redis' ACL must allow."""
        rights = "+ping +select +get +set +mget +scan +del +hget +hset +rpush +ltrim +lrange +pexpire +eval +evalsha"
        self.redis.call("ACL", "SETUSER", "least", "reset", "on", ">least", "~ocpp:*", *rights.split())
        self.addCleanup(self.redis.call, "ACL", "DELUSER", "least")
        fleet = self.fleet("ocpp")
        fleet.settings = RedisSettings(
            address=parse_url(self.redis.url().replace("//", "//least:least@")), call_timeout=TIME_LIMIT
        )
        here, there = Node(fleet), Node(fleet, "node-b")
        old = here.claim()
        new = there.claim(over=old.epoch)
        self.assertEqual([lost.epoch for lost in here.beat().lost], [new.epoch])
        self.assertEqual(here.refresh(old.epoch), [Claim("CP-1", new.epoch)])
        self.assertEqual(list(there.all_sessions()), ["CP-1"])
        self.assertEqual(there.node_ids(), ["node-a", "node-b"])
        there.release(new)
        self.assertIsNone(here.owner())
        self.assertEqual(fleet.wait(here.sessions.station("station-1")), "CP-1")
        here.retire()


class KeyFamilies(SynchronousTestCase):
    def test_identities_and_revocations_keep_apart_from_sessions(self) -> None:
        address = parse_url("redis://localhost")
        for name in ("sessions", "nodes", "node-losses", "sessions:x"):
            for settings in (
                RedisSettings(address=address, identity_prefix=name),
                RedisSettings(address=address, revoked_prefix=name),
            ):
                with self.assertRaisesRegex(ConfigError, "can't be told apart"):
                    Keys(settings)
        Keys(RedisSettings(address=address, identity_prefix="session"))


# --- times to live


class TimesToLive(RedisCase):
    def assert_life(self, rest: str, seconds: float) -> None:
        left = self.fleet.life(rest)
        self.assertTrue(seconds * SECOND_MS - 10 * SECOND_MS < left <= seconds * SECOND_MS, f"{rest}: {left} ms")

    def shorten(self, rest: str) -> None:
        self.redis.call("PEXPIRE", self.fleet.key(rest), 60_000)

    def test_a_session_lives_from_claim_and_refresh(self) -> None:
        here, _ = self.nodes("node-a", "node-b")
        epoch = here.claim().epoch
        self.assert_life("sessions:CP-1", SESSION_TTL)
        self.shorten("sessions:CP-1")
        here.refresh(epoch)
        self.assert_life("sessions:CP-1", SESSION_TTL)
        self.fleet.forget()
        here.refresh(epoch)
        self.assert_life("sessions:CP-1", SESSION_TTL)

    def test_what_is_reported_as_lost_is_not_kept_alive(self) -> None:
        here, there = self.nodes("node-a", "node-b")
        old = here.claim()
        there.claim(over=old.epoch)
        self.shorten("sessions:CP-1")
        self.assertEqual(len(here.refresh(old.epoch)), 1)
        self.assert_life("sessions:CP-1", 60.0)

    def test_a_node_is_written_again_when_it_is_time_and_not_with_every_beat(self) -> None:
        [here] = self.nodes("node-a")
        self.assert_life("nodes:node-a", NODE_TTL)
        self.shorten("nodes:node-a")
        self.fleet.clock.advance(NODE_REFRESH - 0.5)
        here.beat()
        self.assert_life("nodes:node-a", 60.0)
        self.fleet.clock.advance(0.5)
        here.beat()
        self.assert_life("nodes:node-a", NODE_TTL)
        self.shorten("nodes:node-a")
        self.fleet.clock.advance(0.5)
        here.beat()
        self.assert_life("nodes:node-a", 60.0)
        self.fleet.clock.rightNow -= 3600.0
        here.beat()
        self.assert_life("nodes:node-a", NODE_TTL)

    def test_losses_outlive_the_node_and_the_rest_stays(self) -> None:
        here, there = self.nodes("node-a", "node-b")
        old = here.claim()
        there.claim(over=old.epoch)
        self.assert_life("node-losses:node-a", SESSION_TTL)
        self.assertEqual(self.fleet.life("epochs"), -1)
        self.assertEqual(self.fleet.life("station-ids"), -1)

    def test_a_session_that_was_not_refreshed_ends(self) -> None:
        here, there = self.nodes("node-a", "node-b")
        old = here.claim()
        self.redis.call("PEXPIRE", self.fleet.key("sessions:CP-1"), 1)
        deadline = time.monotonic() + TIME_LIMIT
        while here.owner() is not None:
            self.assertLess(time.monotonic(), deadline)
        new = there.claim()
        self.assertGreater(new.epoch, old.epoch)
        self.assertIsNone(new.taken_from)

    def test_the_list_of_losses_is_bounded(self) -> None:
        [here] = self.nodes("node-a")
        key = self.fleet.key("node-losses:node-b")
        fill = "for i = 1, 100000 do redis.call('RPUSH', KEYS[1], '[\"CP-' .. i .. '\",\"1\",\"n\"]') end"
        self.redis.call("EVAL", fill, 1, key)
        self.fleet.write_session(by_hand("node-b"))
        claim = here.claim()
        self.assertEqual(self.redis.call("LLEN", key), 100_000)
        self.assertEqual(
            self.redis.call("LINDEX", key, -1),
            json.dumps(["CP-1", str(claim.epoch), "node-a"]).replace(" ", "").encode(),
        )
        self.assertEqual(self.redis.call("LINDEX", key, 0), b'["CP-2","1","n"]')


# --- what others left there


BROKEN = ("", "not JSON", '"text"', "12", "null", "[]", "{}", '{"nodeId":null,"epoch":{}}', "[" * 5000, '{"a": 1')


class BrokenRecords(RedisCase):
    def test_a_session_that_cannot_be_read_counts_as_nothing(self) -> None:
        here, there = self.nodes("node-a", "node-b")
        for broken in BROKEN:
            self.fleet.write("sessions:CP-1", broken)
            self.assertEqual((here.owner(), here.all_sessions()), (None, {}), broken)
            claim = here.claim()
            self.assertIsNone(claim.taken_from)
            self.fleet.write("sessions:CP-1", broken)
            here.release(claim)
            there.release(claim)
            self.assertEqual(here.refresh(claim.epoch), [], broken)
            self.assertEqual(here.all_sessions()["CP-1"].epoch, claim.epoch)

    def test_a_key_of_another_type_counts_as_nothing(self) -> None:
        here, _ = self.nodes("node-a", "node-b")
        for name in ("sessions:CP-1", "nodes:node-r"):
            self.redis.call("HSET", self.fleet.key(name), "a", "b")
        self.assertEqual(here.all_sessions(), {})
        self.assertEqual(here.node_ids(), ["node-a", "node-b"])
        self.assertIsNone(here.claim().taken_from)
        self.fleet.write_session(by_hand("node-r"))
        self.assertIsNone(here.claim().taken_from)

    def test_a_node_that_cannot_be_read_is_dead(self) -> None:
        here, _ = self.nodes("node-a", "node-b")
        for broken in BROKEN:
            self.fleet.write("nodes:node-r", broken)
            if broken not in ("[]", "{}") and "nodeId" not in broken:
                self.assertEqual(here.node_ids(), ["node-a", "node-b"], broken)
                self.fleet.write_session(by_hand("node-r"))
                self.assertIsNone(here.claim().taken_from, broken)

    def test_what_lacks_members_is_read_as_far_as_it_goes(self) -> None:
        [here] = self.nodes("node-a")
        self.fleet.write_node(reference_node("node-r"))
        self.fleet.write("sessions:CP-1", '{"nodeId": "node-r", "epoch": "41", "lastSeenAtMs": 1795593600000.0}')
        held = here.held()
        self.assertEqual((held.session.node_id, held.session.epoch, held.session.tenant_id), ("node-r", 41, ""))
        self.assertEqual(held.session.charge_point_id, "CP-1")
        self.assertEqual(here.claim(over=41).taken_from, reference_node("node-r"))

    def test_a_loss_that_cannot_be_read_is_left_out(self) -> None:
        [here] = self.nodes("node-a")
        for item in ("x", "[]", '["CP-1","x","n"]', '["CP-1","7","n"]'):
            self.redis.call("RPUSH", self.fleet.key("node-losses:node-a"), item)
        self.assertEqual(here.beat(), Beat((Claim("CP-1", 7),)))

    def test_ids_with_any_character(self) -> None:
        here, there = self.nodes("node-a", "node-b")
        for name in ('CP "quoted"\\', "CP:1/ö*[x]", "日本"):
            old = here.claim(charge_point_id=name)
            new = there.claim(over=old.epoch, charge_point_id=name)
            self.assertEqual([(lost.charge_point_id, lost.epoch) for lost in here.beat().lost], [(name, new.epoch)])
            self.assertEqual(there.all_sessions(), {name: there.row(name, new.epoch)})
            there.release(new)


# --- faults of the connection


class Faults(RedisCase):
    def test_scripts_that_redis_forgot_are_sent_again(self) -> None:
        here, there = self.nodes("node-a", "node-b")
        claim = here.claim()
        self.redis.call("SCRIPT", "FLUSH")
        self.assertEqual(there.held().session.epoch, claim.epoch)
        self.assertEqual(here.refresh(claim.epoch), [])

    def test_calls_fail_with_store_error_when_redis_is_not_there(self) -> None:
        [here] = self.nodes("node-a")
        self.fleet.stop()
        calls: list[Callable[[], object]] = [
            here.beat,
            here.claim,
            here.owner,
            here.node_ids,
            here.all_sessions,
            here.retire,
            lambda: here.refresh(1),
            lambda: here.release(Claim("CP-1", 1)),
        ]
        for call in calls:
            with self.assertRaises(StoreError):
                call()

    def test_losses_that_were_brought_are_not_lost_when_the_rest_can_not_be_had(self) -> None:
        [here] = self.nodes("node-a")
        items = [json.dumps([f"CP-{number}", "7", "node-b"]) for number in range(1500)]
        self.redis.call("RPUSH", self.fleet.key("node-losses:node-a"), *items)
        sessions: Any = here.sessions
        beat_once, calls = sessions._beat_once, []

        async def second_fails() -> Any:
            calls.append(1)
            if len(calls) > 1:
                raise StoreError("gone")
            return await beat_once()

        sessions._beat_once = second_fails
        self.assertEqual(len(here.beat().lost), 1000)

    def test_a_walk_that_takes_too_long_ends(self) -> None:
        [here] = self.nodes("node-a")
        here.claim()
        times = iter([0.0, 31.0, 31.0])
        call = read_family(self.fleet.connection(), self.fleet.keys.sessions, lambda: next(times))
        with self.assertRaisesRegex(StoreError, "30 seconds"):
            self.fleet.wait(Deferred.fromCoroutine(call))


# --- races


class Contender:
    """A node, and what it believes: the epoch it holds, 0 for none."""

    def __init__(self, fleet: RealFleet, node_id: str) -> None:
        self.node = Node(fleet, node_id)
        self.sessions = self.node.sessions
        self.epoch = 0
        self.seen = 0  # of others
        self.grants: list[int] = []

    def act(self, chance: random.Random) -> "Deferred[Any]":
        what = chance.choice(("claim", "claim", "over", "over", "release", "refresh", "beat"))
        if what == "claim":
            return self.sessions.claim(self.node.row()).addCallback(self._answered)
        if what == "over":
            return self.sessions.claim(self.node.row(), self.seen).addCallback(self._answered)
        if what == "release" and self.epoch:
            epoch, self.epoch = self.epoch, 0
            return self.sessions.release([Claim("CP-1", epoch)])
        if what == "refresh":
            return self.refresh()
        return self.beat()

    def refresh(self) -> "Deferred[Any]":
        rows = [self.node.row(epoch=self.epoch)] if self.epoch else []
        return self.sessions.refresh(rows).addCallback(self._lost)

    def beat(self) -> "Deferred[Any]":
        return self.sessions.beat().addCallback(lambda beat: self._lost(beat.lost))

    def _answered(self, answer: Claim | Held) -> None:
        if isinstance(answer, Held):
            self.seen = answer.session.epoch
        else:
            self.grants.append(answer.epoch)
            self.epoch = max(self.epoch, answer.epoch)

    def _lost(self, claims: Any) -> None:
        for claim in claims:
            if claim.epoch > self.epoch:
                self.epoch = 0


class Races(RedisCase):
    def test_three_nodes_never_hold_a_station_together_and_epochs_only_grow(self) -> None:
        seed = random.SystemRandom().randrange(2**32)
        chance = random.Random(seed)
        nodes = [Contender(self.fleet, f"node-{letter}") for letter in "abc"]
        newest = takeovers = 0
        for number in range(ROUNDS):
            where = f"seed {seed}, round {number}"
            acting = [node.act(chance) for node in nodes for _ in range(chance.randrange(4))]
            self.fleet.wait(gatherResults(acting, consumeErrors=True))
            self.fleet.wait(gatherResults([node.beat() for node in nodes], consumeErrors=True))
            holders = [node for node in nodes if node.epoch]
            self.assertLessEqual(len(holders), 1, where)
            owner = nodes[0].node.owner()
            if holders:
                assert owner is not None, where
                self.assertEqual((owner[0].node_id, owner[0].epoch), (holders[0].node.node_id, holders[0].epoch), where)
            granted = sorted(epoch for node in nodes for epoch in node.grants)
            self.assertEqual(len(set(granted)), len(granted), where)
            self.assertTrue(all(epoch > newest for epoch in granted), where)
            newest = max([newest, *granted])
            takeovers += len(granted)
            for node in nodes:
                node.grants.clear()
        self.assertGreater(takeovers, ROUNDS / 2)

    def test_of_many_claims_at_once_one_is_granted(self) -> None:
        nodes = [Contender(self.fleet, f"node-{number}") for number in range(6)]
        for _ in range(50):
            answers = self.fleet.wait(gatherResults([node.sessions.claim(node.node.row()) for node in nodes]))
            [claim] = [answer for answer in answers if isinstance(answer, Claim)]
            overs = self.fleet.wait(
                gatherResults([node.sessions.claim(node.node.row(), claim.epoch) for node in nodes])
            )
            granted = [answer for answer in overs if isinstance(answer, Claim)]
            assert 1 <= len(granted) <= 2, "the holder itself may claim again before it is taken from"
            newest = max(granted, key=lambda claim: claim.epoch)
            for node in nodes:
                node.node.release(newest)

    def test_two_processes_with_one_node_id_do_not_both_go_on(self) -> None:
        first, second = Node(self.fleet, "node-a", "1"), Node(self.fleet, "node-a", "2")
        for _ in range(20):
            with self.assertRaises(OcppgwError):
                first.beat()
            self.assertEqual(second.beat(), Beat())


del RedisCase

"""Which master counts, when Sentinels differ, are slow, or are none."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.redis import RedisAddress, RedisSettings
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.health import Trouble
from ocppgw.net.redis.sentinel import ASK_SECONDS, MasterEndpoint
from ocppgw.net.redis.troubles import Refused
from tests.build_redis import FakeRedis

HOSTS = ("s1", "s2", "s3")
SECRET = "s3ntinel"


class Sentinels:
    """Three of them and two Redis, `a` and `b`; by host name."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.hosts = {name: FakeRedis(logs_in=False) for name in (*HOSTS, "a", "b")}
        for host in self.hosts.values():
            host.clock = self.clock
        self.settings = RedisSettings(
            **{
                "address": RedisAddress("unused"),
                "sentinels": tuple((name, 26379) for name in HOSTS),
                "sentinel_master": "main",
                **settings,
            }
        )
        self.with_tls: set[str] = set()
        self.endpoint = MasterEndpoint(self.settings, self.clock, self.to)

    def to(self, host: str, port: int, tls: bool) -> Any:
        if tls:
            self.with_tls.add(host)
        return self.hosts[host]

    def say(self, host: str, master: str | None) -> None:
        reply = b"*-1\r\n" if master is None else b"*2\r\n$1\r\n%b\r\n$4\r\n6379\r\n" % master.encode()
        self.hosts[host].says(reply)

    def are_open(self) -> list[str]:
        """Sentinels to which a connection is open."""
        return [name for name in HOSTS if any(not each.is_gone for each in self.hosts[name].transports)]


class Masters(SynchronousTestCase):
    def test_all_are_asked_at_once_and_a_majority_decides_without_waiting_for_the_rest(self) -> None:
        fleet = Sentinels()
        found = fleet.endpoint.master()
        question = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"main"]
        self.assertEqual([fleet.hosts[name].hears() for name in HOSTS], [[question]] * 3)
        fleet.say("s1", "a")
        self.assertNoResult(found)
        fleet.say("s3", "a")
        self.assertEqual(self.successResultOf(found), ("a", 6379))
        self.assertEqual(fleet.are_open(), [])
        self.assertEqual(fleet.clock.getDelayedCalls(), [])

    def test_one_that_is_behind_is_outvoted(self) -> None:
        fleet = Sentinels()
        found = fleet.endpoint.master()
        for name, master in zip(HOSTS, "abb", strict=True):
            fleet.say(name, master)
        self.assertEqual(self.successResultOf(found), ("b", 6379))

    def test_those_that_are_gone_or_silent_cost_a_second_at_most(self) -> None:
        fleet = Sentinels()
        fleet.hosts["s1"].is_there = False
        fleet.hosts["s2"].is_far = True
        found = fleet.endpoint.master()
        fleet.say("s3", "b")
        self.assertNoResult(found)
        fleet.clock.advance(ASK_SECONDS)
        self.assertEqual(self.successResultOf(found), ("b", 6379))

    def test_what_each_said_instead_is_told_when_none_names_a_master(self) -> None:
        fleet = Sentinels(sentinel_password=SECRET)
        fleet.hosts["s1"].is_there = False
        found = fleet.endpoint.master()
        fleet.hosts["s2"].says(f"-WRONGPASS {SECRET}\r\n".encode())
        fleet.clock.advance(ASK_SECONDS)
        reason = str(self.failureResultOf(found, Refused).value)
        self.assertIn("no Sentinel names a Redis master 'main'", reason)
        for part in ("s1:26379: nobody listens", "s2:26379: the password or the user is wrong", "s3:26379: no answer"):
            self.assertIn(part, reason)
        self.assertNotIn(SECRET, reason)

    def test_a_sentinel_that_does_not_know_the_name_says_so(self) -> None:
        fleet = Sentinels()
        found = fleet.endpoint.master()
        for name in HOSTS:
            fleet.say(name, None)
        self.assertIn("it knows no such master", str(self.failureResultOf(found, Refused).value))

    def test_user_and_password_come_first_and_tls_is_for_those_it_is_meant_for(self) -> None:
        fleet = Sentinels(sentinel_username="u", sentinel_password=SECRET, sentinel_tls=True)
        found = fleet.endpoint.master()
        for name in HOSTS:
            self.assertEqual(fleet.hosts[name].hears(), [[b"AUTH", b"u", SECRET.encode()]])
            fleet.hosts[name].says(b"+OK\r\n")
            fleet.say(name, "a")
        self.successResultOf(found)
        self.assertEqual(fleet.with_tls, set(HOSTS))

    def test_whoever_gives_up_leaves_nothing_open(self) -> None:
        fleet = Sentinels()
        found = fleet.endpoint.master()
        found.cancel()
        self.failureResultOf(found)
        self.assertEqual((fleet.are_open(), fleet.clock.getDelayedCalls()), ([], []))


class Connected(SynchronousTestCase):
    """A connection by Sentinels that all say the same."""

    def build(self) -> tuple[Sentinels, Connection, list[Trouble | None]]:
        fleet, troubles = Sentinels(call_timeout=3.0), []
        connection = Connection(fleet.settings, fleet.clock, fleet.endpoint, lambda: 0.5, troubles.append, lambda: None)
        connection.start()
        self.addCleanup(connection.stop)
        return fleet, connection, troubles

    def name(self, fleet: Sentinels, master: str) -> None:
        for name in HOSTS[:2]:
            fleet.say(name, master)

    def log_in(self, fleet: Sentinels, host: str) -> None:
        self.name(fleet, host)
        fleet.hosts[host].says(b"+PONG\r\n")
        fleet.hosts[host].says(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
        self.name(fleet, host)

    def test_a_master_that_says_so_and_is_named_still_after_the_login_is_used(self) -> None:
        fleet, connection, troubles = self.build()
        self.log_in(fleet, "a")
        self.assertEqual(troubles, [None])
        assert connection.wire is not None
        self.assertEqual(connection.wire.place, ("a", 6379))

    def test_who_says_that_he_is_a_replica_is_not_used(self) -> None:
        fleet, connection, troubles = self.build()
        self.name(fleet, "a")
        fleet.hosts["a"].says(b"+PONG\r\n*5\r\n$5\r\nslave\r\n$1\r\nb\r\n:6379\r\n$9\r\nconnected\r\n:1\r\n")
        self.assertIsNone(connection.wire)
        self.assertEqual([trouble and trouble.kind for trouble in troubles], ["replica"])

    def test_a_master_that_was_replaced_during_the_login_is_not_used(self) -> None:
        fleet, connection, troubles = self.build()
        self.name(fleet, "a")
        fleet.hosts["a"].says(b"+PONG\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
        self.name(fleet, "b")
        self.assertIsNone(connection.wire)
        (trouble,) = troubles
        assert trouble is not None
        self.assertEqual(trouble.reason, "Redis at a:6379 was replaced by b:6379")

    def test_a_master_that_is_replaced_later_is_left_for_the_new_one(self) -> None:
        fleet, connection, troubles = self.build()
        self.log_in(fleet, "a")
        for _ in range(2):
            fleet.clock.advance(1.0)
            fleet.hosts["a"].says(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
        self.name(fleet, "b")
        self.assertIsNone(connection.wire)
        fleet.clock.advance(0.1)
        self.log_in(fleet, "b")
        assert connection.wire is not None
        self.assertEqual(connection.wire.place, ("b", 6379))
        self.assertEqual([trouble and trouble.kind for trouble in troubles], [None, "replaced", None])

    def test_silent_sentinels_are_no_reason_to_leave_a_master(self) -> None:
        fleet, _connection, troubles = self.build()
        self.log_in(fleet, "a")
        for name in HOSTS:
            fleet.hosts[name].is_there = False
        for _ in range(10):
            fleet.clock.advance(1.0)
            fleet.hosts["a"].says(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
        self.assertEqual(troubles, [None])

    def test_a_master_that_is_demoted_while_nothing_is_asked_is_left(self) -> None:
        fleet, connection, troubles = self.build()
        self.log_in(fleet, "a")
        fleet.clock.advance(1.0)
        fleet.hosts["a"].says(b"*5\r\n$5\r\nslave\r\n$1\r\nb\r\n:6379\r\n$9\r\nconnected\r\n:1\r\n")
        self.assertIsNone(connection.wire)
        self.assertEqual([trouble and trouble.kind for trouble in troubles], [None, "replica"])

    def test_a_master_that_is_too_busy_to_say_what_it_is_is_left_all_the_same_when_it_was_replaced(self) -> None:
        fleet, connection, troubles = self.build()
        self.log_in(fleet, "a")
        for _ in range(2):
            fleet.clock.advance(1.0)
            fleet.hosts["a"].says(b"-BUSY Redis is busy running a script.\r\n")
        self.name(fleet, "b")
        self.assertIsNone(connection.wire)
        self.assertEqual([trouble and trouble.kind for trouble in troubles], [None, "replaced"])

    def test_a_master_that_nobody_listens_at_is_asked_for_again(self) -> None:
        fleet, connection, troubles = self.build()
        fleet.hosts["a"].is_there = False
        self.name(fleet, "a")
        self.assertEqual([trouble and trouble.kind for trouble in troubles], ["nobody"])
        fleet.clock.advance(0.1)
        self.log_in(fleet, "b")
        self.assertIsNotNone(connection.wire)

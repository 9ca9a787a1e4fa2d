"""What is remembered for outages, how Redis' health is told, and what a missing mark of the fleet means."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import StoreError
from ocppgw.net.redis import RedisSettings
from ocppgw.net.redis import memory as memory_module
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet import DELETIONS_COUNT_SECONDS, Fleet
from ocppgw.net.redis.health import REFUSED_SECONDS, Health, Trouble
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.memory import Memory
from ocppgw.net.redis.records import encode
from ocppgw.net.redis.replies import ReplyReader
from ocppgw.ports import Known
from tests.build_redis import ADDRESS, FakeRedis
from tests.test_redis_changes import CP_1, NEW, OLD, NodeCase, mget

ID, REVOKED = "ocpp:chargers:CP-1", "ocpp:revoked-certs:AB"
KNOWN = Known({"v": 1}, None, 2)
AWAY = Trouble("lost", "Redis is away")


class Remembering(SynchronousTestCase):
    def build(self, seconds: float = 60.0) -> tuple[Memory, Clock]:
        clock = Clock()
        return Memory(clock.seconds, seconds), clock

    def test_what_redis_said_is_good_for_so_long_and_no_longer(self) -> None:
        memory, clock = self.build()
        memory.put([ID], KNOWN)
        clock.advance(60.0)
        self.assertEqual(memory.get([ID]), KNOWN)
        clock.advance(0.1)
        self.assertIsNone(memory.get([ID]))

    def test_without_leave_nothing_is_kept(self) -> None:
        memory, _ = self.build(0.0)
        memory.put([ID], KNOWN)
        self.assertIsNone(memory.get([ID]))

    def test_it_grows_no_older_while_redis_would_tell_of_a_change(self) -> None:
        memory, clock = self.build()
        memory.track(on=True)
        memory.put([ID], KNOWN)
        clock.advance(1000.0)
        self.assertEqual(memory.get([ID]), KNOWN)
        memory.track(on=False)
        clock.advance(60.0)
        self.assertEqual(memory.get([ID]), KNOWN)
        clock.advance(0.1)
        self.assertIsNone(memory.get([ID]))

    def test_what_was_said_before_redis_told_of_changes_is_as_old_as_it_is(self) -> None:
        memory, clock = self.build()
        memory.put([ID], KNOWN)
        clock.advance(50.0)
        memory.track(on=True)
        clock.advance(11.0)
        self.assertIsNone(memory.get([ID]))

    def test_a_sweep_that_finds_it_unchanged_makes_it_young(self) -> None:
        memory, clock = self.build()
        memory.put([ID], KNOWN)
        clock.advance(50.0)
        memory.confirm(ID)
        clock.advance(50.0)
        self.assertEqual(memory.get([ID]), KNOWN)

    def test_what_changed_is_not_known_any_more(self) -> None:
        memory, _ = self.build()
        memory.put([ID, REVOKED], KNOWN)
        memory.drop(REVOKED)
        self.assertIsNone(memory.get([ID, REVOKED]))
        self.assertEqual(memory.get([ID]), KNOWN)

    def test_a_revocation_is_remembered_and_an_unknown_certificate_is_not_made_up(self) -> None:
        memory, _ = self.build()
        revoked = Known({"v": 1}, {"fingerprint": "AB"}, 2)
        memory.put([ID, REVOKED], revoked)
        self.assertEqual(memory.get([ID, REVOKED]), revoked)
        self.assertIsNone(memory.get([ID, "ocpp:revoked-certs:CD"]))

    def test_a_profile_only_rises(self) -> None:
        memory, _ = self.build()
        memory.put([ID], KNOWN)
        for profile, after in ((1, 2), (3, 3)):
            memory.raise_profile(ID, profile)
            self.assertEqual(memory.get([ID]), Known({"v": 1}, None, after))

    def test_invented_stations_push_nobody_out(self) -> None:
        self.patch(memory_module, "MAX_REMEMBERED", 2)
        memory, _ = self.build()
        memory.put([ID], KNOWN)
        for number in range(10):
            memory.put([f"ocpp:chargers:X-{number}"], Known())
        self.assertEqual(memory.get([ID]), KNOWN)
        memory.put(["b"], KNOWN)
        memory.put(["c"], KNOWN)
        self.assertIsNone(memory.get([ID]))


class Telling(SynchronousTestCase):
    def build(self) -> tuple[Health, Clock, list[str]]:
        clock, notes = Clock(), []
        health = Health("redis.example", clock.seconds, notes.append)
        health.tell(None)
        return health, clock, notes

    def test_slow_is_not_away(self) -> None:
        health, _, notes = self.build()
        health.took(0.1)
        self.assertEqual(health.status(), (True, ""))
        for _ in range(3):
            health.took(1.25)
        self.assertEqual(health.status(), (True, "Redis at redis.example is slow: it took 1.2 seconds to answer"))
        self.assertEqual(notes, ["redis-slow"])
        health.took(0.1)
        self.assertEqual(health.status(), (True, ""))

    def test_coming_and_going_is_told_from_being_away_and_forgotten_after_a_minute(self) -> None:
        health, clock, _ = self.build()
        health.tell(AWAY)
        self.assertEqual(health.status(), (False, "Redis is away"))
        for _ in range(2):
            health.tell(None)
            clock.advance(5.0)
            health.tell(AWAY)
        flapping = "Redis comes and goes: it went away 3 times within a minute"
        self.assertEqual(health.status(), (False, f"Redis is away; {flapping}"))
        health.tell(None)
        self.assertEqual(health.status(), (True, flapping))
        clock.advance(60.0)
        self.assertEqual(health.status(), (True, ""))

    def test_a_redis_that_answers_but_takes_no_writes_is_not_well_until_it_stops_saying_so(self) -> None:
        health, clock, notes = self.build()
        health.refused("OOM")
        full = "Redis at redis.example refuses writes: its memory is used up (maxmemory)"
        self.assertEqual(health.status(), (False, full))
        clock.advance(REFUSED_SECONDS - 1.0)
        health.refused("OOM")
        clock.advance(REFUSED_SECONDS - 1.0)
        self.assertEqual(health.status(), (False, full))
        clock.advance(1.0)
        self.assertEqual(health.status(), (True, ""))
        self.assertEqual(notes, ["redis-refuses"])

    def test_each_refusal_and_its_end_are_logged_once(self) -> None:
        health, clock, notes = self.build()
        with capturedLogs() as events:
            for _ in range(3):
                health.refused("NOREPLICAS")
                health.took(0.01)
            clock.advance(REFUSED_SECONDS)
            for _ in range(2):
                health.took(0.01)
        lines = [formatEvent(event) for event in events]
        self.assertEqual(len(lines), 2)
        self.assertIn("min-replicas-to-write", str(lines[0]))
        self.assertEqual(lines[1], "Redis at redis.example refuses nothing any more")
        health.refused("NOREPLICAS")
        self.assertEqual(notes, ["redis-refuses"] * 2)

    def test_what_is_refused_of_one_call_says_nothing_of_redis(self) -> None:
        health, _, notes = self.build()
        for kind in ("NOPERM", "WRONGTYPE", "ERR", ""):
            health.refused(kind)
        self.assertEqual((health.status(), notes), ((True, ""), []))

    def test_an_outage_ends_what_was_refused_before_it(self) -> None:
        health, _, _ = self.build()
        health.refused("LOADING")
        health.tell(AWAY)
        self.assertEqual(health.status(), (False, "Redis is away"))
        health.tell(None)
        self.assertEqual(health.status(), (True, ""))


class Refusals(SynchronousTestCase):
    """Redis answers, with errors."""

    def setUp(self) -> None:
        self.redis = FakeRedis()
        self.kinds: list[str] = []
        settings = RedisSettings(address=ADDRESS, call_timeout=1.0)
        self.calls = Connection(
            settings,
            self.redis.clock,
            self.redis,
            lambda: 0.5,
            self.redis.troubles.append,
            lambda: None,
            refused=self.kinds.append,
        )
        self.calls.start()
        self.addCleanup(self.calls.stop)
        self.redis.clock.advance(0)

    def pings(self) -> int:
        transport = self.redis.transports[-1]
        count = ReplyReader().feed(transport.value()).count([b"PING"])
        transport.clear()
        return count

    def test_a_ping_that_is_refused_is_not_the_last_one(self) -> None:
        self.assertEqual(self.pings(), 0)
        for _ in range(3):
            self.redis.clock.advance(1.0)
            self.assertEqual(self.pings(), 1)
            self.redis.says(b"-BUSY Redis is busy running a script.\r\n")
        self.redis.clock.advance(1.0)
        self.assertEqual(self.pings(), 1)
        self.redis.clock.advance(1.0)
        self.assertIn("does not answer", str(self.redis.troubles[-1]))
        self.assertEqual(self.kinds, ["BUSY"] * 3)

    def test_a_refusal_within_a_script_is_known_by_its_kind_in_every_version(self) -> None:
        for refusal, kind in (
            (b"-OOM command not allowed when used memory > 'maxmemory'. script: 3f, on @user_script:4.\r\n", "OOM"),
            (b"-ERR Error running script (call to f_3f): @user_script:4: @user_script: 4: -OOM no\r\n", "OOM"),
            (b"-ERR unknown command 'X', with args beginning with: '-OOM '\r\n", "ERR"),
        ):
            call = self.calls.script(b"return 1", [], [])
            self.redis.says(refusal)
            self.failureResultOf(call, StoreError)
            self.assertEqual(self.kinds.pop(), kind)

    def test_a_script_that_finds_a_replica_makes_a_new_connection_in_every_version(self) -> None:
        call = self.calls.script(b"return 1", [], [])
        self.redis.says(
            b"-ERR Error running script (call to f_3f): @user_script:4: @user_script: 4: "
            b"-READONLY You can't write against a read only replica.\r\n"
        )
        self.failureResultOf(call, StoreError)
        self.assertIsNone(self.calls.wire)
        self.assertIn("is a replica", str(self.redis.troubles[-1]))


class Marks(SynchronousTestCase):
    """`given_out` is what this node gave out."""

    def setUp(self) -> None:
        self.redis = FakeRedis()
        self.calls = self.redis.connection()
        self.addCleanup(self.calls.stop)
        self.notes: list[str] = []
        self.emptied = 0
        keys = Keys(RedisSettings(address=ADDRESS))
        self.fleet = Fleet(self.redis.clock, keys, lambda: [ID, REVOKED], self.hear, self.notes.append)

    def hear(self) -> None:
        self.emptied += 1

    def verify(self, *answers: bytes) -> None:
        verified = Deferred.fromCoroutine(self.fleet.verify(self.calls))
        for answer in answers:
            self.redis.says(answer)
        self.successResultOf(verified)
        self.redis.clock.advance(0)

    def test_the_first_node_writes_the_mark_and_all_use_the_one_that_is_there_then(self) -> None:
        self.verify(b"$-1\r\n", b"$-1\r\n", b"$3\r\nabc\r\n")
        commands = self.redis.hears()
        self.assertEqual(
            [words[:2] for words in commands],
            [[b"GET", b"ocpp:fleet"], [b"SET", b"ocpp:fleet"], [b"GET", b"ocpp:fleet"]],
        )
        self.assertEqual((commands[1][3], len(commands[1][2])), (b"NX", 32))
        self.verify(b"$3\r\nabc\r\n")
        self.assertEqual((self.fleet.was_emptied(), self.notes, self.emptied), (False, [], 0))

    def test_another_mark_means_that_all_is_missing_until_it_is_seen(self) -> None:
        self.verify(b"$3\r\nabc\r\n")
        self.verify(b"$-1\r\n", b"+OK\r\n", b"$3\r\nxyz\r\n")
        self.assertEqual((self.fleet.was_emptied(), self.notes, self.emptied), (True, ["redis-emptied"], 1))
        self.assertEqual([self.fleet.is_missing(key) for key in (ID, REVOKED, "other")], [True, True, False])
        self.verify(b"$3\r\nxyz\r\n")
        self.assertEqual(self.emptied, 1)
        self.fleet.seen(ID)
        self.fleet.seen(REVOKED)
        self.assertFalse(self.fleet.was_emptied())

    def test_deletions_count_again_some_time_after_the_first_is_back(self) -> None:
        self.verify(b"$3\r\nabc\r\n")
        self.verify(b"$3\r\nxyz\r\n")
        self.assertFalse(self.fleet.is_over())
        self.fleet.seen(ID)
        for seconds, is_over in ((DELETIONS_COUNT_SECONDS - 1, False), (1.0, True), (0.0, False)):
            self.redis.clock.rightNow += seconds
            self.assertEqual(self.fleet.is_over(), is_over)
        self.assertFalse(self.fleet.is_missing(REVOKED))
        self.assertEqual(self.notes, ["redis-emptied"])


class Echoes(NodeCase):
    def test_two_changes_of_ones_own_in_a_row_are_told_once_each(self) -> None:
        node = self.build()
        for value in (OLD, NEW):
            node.changes.writing(CP_1, encode(value))
            node.changes.written(CP_1, encode(value))
            if value is OLD:
                node.changes.invalidated([CP_1.encode()])  # asks what stands there now
        node.redis.says(mget(encode(OLD)))
        self.assertEqual(node.told(), ["CP-1", "CP-1"])

    def test_what_somebody_else_wrote_between_them_is_told(self) -> None:
        node = self.build()
        node.changes.writing(CP_1, encode(OLD))
        node.changes.written(CP_1, encode(OLD))
        node.changes.invalidated([CP_1.encode()])
        node.redis.says(mget({"v": 3}))
        self.assertEqual(node.told(), ["CP-1", "CP-1"])

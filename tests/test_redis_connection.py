"""A connection to Redis comes again, and calls end in time, whatever the other side does."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import Overloaded, StoreError
from ocppgw.net.redis import connection as connection_module
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.health import Trouble
from ocppgw.net.redis.settings import RedisAddress
from tests.build_redis import FakeRedis

WITH_PASSWORD = RedisAddress("redis.example", 6379, 0, "gateway", "s3cret")


class ConnectionCase(SynchronousTestCase):
    def build(self, redis: FakeRedis, **settings: Any) -> Connection:
        connection = redis.connection(**settings)
        self.addCleanup(self.end, redis, connection)
        return connection

    def end(self, redis: FakeRedis, connection: Connection) -> None:
        connection.stop()
        redis.clock.advance(0)
        self.assertEqual(redis.clock.getDelayedCalls(), [], "timers are left over")

    def error_of(self, deferred: "Deferred[Any]") -> str:
        return str(self.failureResultOf(deferred, StoreError).value)

    def last_trouble(self, redis: FakeRedis) -> Trouble:
        trouble = redis.troubles[-1]
        assert trouble is not None
        return trouble


class Calls(ConnectionCase):
    def test_answers_come_to_who_asked(self) -> None:
        redis = FakeRedis()
        connection = self.build(redis)
        one, several = connection.call("GET", "a"), connection.calls([("GET", "b"), ("MGET", "c", 1)])
        self.assertEqual(redis.hears(), [[b"GET", b"a"], [b"GET", b"b"], [b"MGET", b"c", b"1"]])
        redis.says(b"$1\r\n1\r\n$-1\r\n*2\r\n$0\r\n\r\n$2\r\n")
        self.assertEqual(self.successResultOf(one), b"1")
        self.assertNoResult(several)
        redis.says(b"12\r\n")
        self.assertEqual(self.successResultOf(several), [None, [b"", b"12"]])

    def test_what_redis_refuses_fails_that_call_alone(self) -> None:
        redis = FakeRedis()
        connection = self.build(redis)
        several, one = connection.calls([("GET", "a"), ("GET", "b")]), connection.call("GET", "c")
        redis.says(b"-NOPERM no\r\n$1\r\n1\r\n$1\r\n2\r\n")
        self.assertEqual(self.error_of(several), "Redis refuses: NOPERM no")
        self.assertEqual(self.successResultOf(one), b"2")

    def test_a_refusal_does_not_repeat_what_was_sent(self) -> None:
        redis = FakeRedis()
        call = self.build(redis).call("SET", "a", '{"secretHash": "0123"}')
        redis.says(b"-ERR unknown command 'SET', with args beginning with: 'a' '{\"secretHash\": \"0123\"}'\r\n")
        self.assertEqual(self.error_of(call), "Redis refuses: ERR unknown command 'SET'")

    def test_who_cancels_a_call_takes_nobody_elses_answer(self) -> None:
        redis = FakeRedis()
        connection = self.build(redis)
        first, second = connection.call("GET", "a"), connection.call("GET", "b")
        first.cancel()
        self.failureResultOf(first)
        redis.says(b"$1\r\n1\r\n$1\r\n2\r\n")
        self.assertEqual(self.successResultOf(second), b"2")

    def test_an_answer_that_does_not_come_ends_the_connection_and_all_that_wait_on_it(self) -> None:
        redis = FakeRedis()
        connection = self.build(redis)
        first = connection.call("GET", "a")
        redis.clock.advance(0.5)
        second = connection.call("GET", "b")
        redis.logs_in = False
        redis.clock.advance(0.5)
        self.assertIn("did not answer in time", self.error_of(first))
        self.assertIn("was lost", self.error_of(second))
        self.assertIn("does not answer", self.last_trouble(redis).reason)
        self.assertTrue(redis.transports[0].is_gone)

    def test_a_connection_on_which_nothing_is_asked_is_pinged(self) -> None:
        redis = FakeRedis()
        self.build(redis)
        self.assertIsNone(redis.troubles[-1])
        redis.clock.advance(1.0)
        redis.clock.advance(1.0)
        self.assertIn("does not answer", self.last_trouble(redis).reason)

    def test_calls_are_bounded(self) -> None:
        self.patch(connection_module, "MAX_CALLS", 2)
        redis = FakeRedis()
        connection = self.build(redis)
        calls = [connection.call("GET", "a") for _ in range(3)]
        self.failureResultOf(calls[2], Overloaded)
        redis.says(b"$-1\r\n")
        calls.append(connection.call("GET", "a"))
        redis.says(b"$-1\r\n$-1\r\n")
        self.assertIsNone(self.successResultOf(calls[3]))

    def test_a_script_is_sent_whole_once_a_connection(self) -> None:
        redis = FakeRedis()
        connection = self.build(redis)
        runs = [connection.script(b"return 1", ["k"], ["v"])]
        self.assertEqual(redis.hears(), [[b"EVAL", b"return 1", b"1", b"k", b"v"]])
        redis.says(b":1\r\n")
        runs.append(connection.script(b"return 1", ["k"], ["v"]))
        self.assertEqual([words[0] for words in redis.hears()], [b"EVALSHA"])
        redis.says(b"-NOSCRIPT No matching script.\r\n")  # Redis was restarted, or SCRIPT FLUSH
        self.assertEqual([words[0] for words in redis.hears()], [b"EVAL"])
        redis.says(b":2\r\n")
        self.assertEqual([self.successResultOf(run) for run in runs], [1, 2])


class Outages(ConnectionCase):
    def test_a_short_outage_is_waited_out_and_a_long_one_fails_at_once(self) -> None:
        redis = FakeRedis(is_there=False)
        connection = self.build(redis)
        early = connection.call("GET", "a")
        redis.clock.advance(0.3)
        self.assertNoResult(early)
        redis.is_there = True
        redis.clock.advance(0.3)
        redis.clock.advance(0)
        self.assertEqual(redis.hears(), [[b"GET", b"a"]])
        redis.says(b"$1\r\n1\r\n")
        self.assertEqual(self.successResultOf(early), b"1")
        redis.is_there = False
        redis.transports[-1].lose()
        late = connection.call("GET", "a")
        for _ in range(10):
            redis.clock.advance(0.1)
        self.assertIn("can't be reached", self.error_of(late))
        self.assertIn("can't be reached", self.error_of(connection.call("GET", "a")))

    def test_who_asks_again_as_soon_as_a_call_was_lost_waits_for_the_next_connection(self) -> None:
        """The others are still being told of the loss: a call that failed at once would be made again at once."""
        redis = FakeRedis()
        connection = self.build(redis)
        again: list[Deferred[Any]] = []
        lost = connection.call("GET", "a").addErrback(lambda _: again.append(connection.call("GET", "a")))
        redis.transports[-1].lose()
        self.successResultOf(lost)
        self.assertNoResult(again[0])
        redis.clock.advance(0.3)
        redis.clock.advance(0)
        redis.says(b"$1\r\n1\r\n")
        self.assertEqual(self.successResultOf(again[0]), b"1")

    def test_attempts_go_on_within_a_second_however_long_it_takes(self) -> None:
        redis = FakeRedis(is_there=False)
        self.build(redis)
        for _ in range(1000):
            redis.clock.advance(1.0)
        redis.is_there = True
        redis.clock.advance(1.0)
        redis.clock.advance(0)
        self.assertIsNone(redis.troubles[-1])
        self.assertIn("nobody listens", str(redis.troubles[-2]))

    def test_a_login_that_is_not_answered_is_one_failed_attempt(self) -> None:
        redis = FakeRedis(logs_in=False)
        self.build(redis, address=WITH_PASSWORD)
        self.assertEqual(redis.hears(), [[b"AUTH", b"gateway", b"s3cret"]])
        redis.clock.advance(1.0)
        self.assertIn("does not answer", self.last_trouble(redis).reason)
        redis.clock.advance(1.0)
        redis.says(b"+OK\r\n")
        redis.says(b"+PONG\r\n")
        self.assertIsNone(redis.troubles[-1])
        self.assertEqual(len(redis.transports), 2)

    def test_a_login_that_is_refused_is_tried_again_and_told_without_the_password(self) -> None:
        for refusal, said in (
            (b"-WRONGPASS invalid s3cret\r\n", "the password or the user is wrong"),
            (b"-ERR AUTH <password> called without any password s3cret\r\n", "needs no password"),
            (b"-ERR s3cret\r\n", "AUTH was refused (ERR)"),
        ):
            redis = FakeRedis(logs_in=False)
            self.build(redis, address=WITH_PASSWORD)
            redis.says(refusal)
            self.assertIn(said, self.last_trouble(redis).reason)
            self.assertNotIn("s3cret", self.last_trouble(redis).reason)
            redis.clock.advance(0.2)
            self.assertEqual(len(redis.transports), 2)

    def test_a_redis_that_still_loads_its_data_is_not_used_yet(self) -> None:
        redis = FakeRedis(logs_in=False)
        self.build(redis)
        redis.says(b"-LOADING Redis is loading the dataset in memory\r\n")
        self.assertIn("LOADING", self.last_trouble(redis).reason)
        redis.clock.advance(0.2)
        redis.says(b"+PONG\r\n")
        self.assertIsNone(redis.troubles[-1])

    def test_who_is_not_redis_is_not_talked_to(self) -> None:
        redis = FakeRedis(logs_in=False)
        self.build(redis)
        redis.says(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertTrue(redis.transports[0].is_gone)
        self.assertEqual(self.last_trouble(redis).kind, "lost")

    def test_a_primary_that_became_a_replica_is_connected_to_anew(self) -> None:
        redis = FakeRedis()
        call = self.build(redis).call("SET", "a", "b")
        redis.says(b"-READONLY You can't write against a read only replica.\r\n")
        self.assertIn("READONLY", self.error_of(call))
        self.assertIn("is a replica", self.last_trouble(redis).reason)
        redis.clock.advance(0.2)
        self.assertEqual(len(redis.transports), 2)

    def test_stopping_ends_everything_whatever_is_open(self) -> None:
        for redis in (FakeRedis(), FakeRedis(logs_in=False), FakeRedis(is_there=False), FakeRedis(is_far=True)):
            connection = redis.connection()
            call = connection.call("GET", "a")
            connection.stop()
            self.error_of(call)
            redis.clock.advance(0)
            self.assertEqual(redis.clock.getDelayedCalls(), [])
            self.assertTrue(all(transport.is_gone for transport in redis.transports))
            self.error_of(connection.call("GET", "a"))

"""What is cached, what overtakes a look-up, and which changes are told when. Redis is played byte for byte."""

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import StoreError
from ocppgw.net.redis import cache as cache_module
from ocppgw.net.redis import changes as changes_module
from ocppgw.net.redis import connection as connection_module
from ocppgw.net.redis.cache import UNTRACKED_SECONDS, Cache
from ocppgw.net.redis.changes import HANDSHAKE_SECONDS, SWEEP_SECONDS, SWEPT_AT_ONCE, TOLD_AT_ONCE, TOLD_PAUSE, Changes
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.lookups import MAX_TRIES, LookUps
from ocppgw.net.redis.records import digest
from ocppgw.net.redis.settings import RedisSettings
from ocppgw.ports import Known
from tests.build_redis import ADDRESS, FakeRedis
from tests.contract_access import FINGERPRINT, Listener

CP_1, REVOKED_KEY = "ocpp:chargers:CP-1", f"ocpp:revoked-certs:{FINGERPRINT}"
OLD, NEW = {"v": 1}, {"v": 2}


class Node:
    """`ids` and `fingerprints` are those of connected stations."""

    def __init__(self, *, is_tracked: bool = True) -> None:
        self.redis = FakeRedis()
        keys = Keys(RedisSettings(address=ADDRESS))
        self.calls = self.redis.connection()
        self.cache = Cache(self.redis.clock.seconds, 5.0)
        self.cache.is_tracked = is_tracked
        self.look_ups = LookUps(self.calls, keys, self.cache)
        self.changes = Changes(self.redis.clock, self.calls, keys, self.cache, self.look_ups)
        self.listener = Listener()
        self.changes.listeners.add(self.listener)
        self.ids: list[str] = []
        self.fingerprints: list[str] = []
        self.changes.interest = lambda: (self.ids, self.fingerprints)
        self.changes.start()

    def told(self) -> list[str]:
        told, self.listener.told = self.listener.told, []
        return told

    def hears(self) -> list[str]:
        """Commands and the keys of MGET, as text."""
        return [b" ".join(words).decode() for words in self.redis.hears()]

    def answers(self, *values: Any, profile: bytes | None = None) -> None:
        """To the MGET of a look-up, and to its HGET."""
        self.redis.says(mget(*values) + bulk(profile))

    def look_up(self, value: Any, name: str = "CP-1") -> None:
        """Of a station of whom Redis says `value`."""
        self.look_ups.look_up(name, "")
        self.redis.hears()
        self.answers(value)

    def pass_time(self, seconds: float) -> None:
        """In small steps."""
        for _ in range(round(seconds / 0.05)):
            self.redis.clock.advance(0.05)


def bulk(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def mget(*values: Any) -> bytes:
    return b"*%d\r\n" % len(values) + b"".join(map(bulk, values))


class NodeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(connection_module, "PING_SECONDS", float("inf"))

    def asks_anew(self, node: Node) -> None:
        """Nothing is cached of CP-1."""
        known = node.look_ups.look_up("CP-1", "")
        self.assertNoResult(known)
        known.addErrback(lambda _: None)

    def build(self, **settings: Any) -> Node:
        node = Node(**settings)
        self.addCleanup(node.calls.stop)
        self.addCleanup(node.changes.stop)
        return node


class LookingUp(NodeCase):
    def test_one_round_trip_tells_all(self) -> None:
        node = self.build()
        known = node.look_ups.look_up("CP-1", FINGERPRINT)
        self.assertEqual(node.hears(), [f"MGET {CP_1} {REVOKED_KEY}", "HGET ocpp:security-profiles CP-1"])
        node.answers(OLD, b"1", profile=b"2")
        self.assertEqual(self.successResultOf(known), Known(OLD, {"fingerprint": FINGERPRINT}, 2))

    def test_those_who_ask_the_same_share_one_and_each_may_cancel(self) -> None:
        node = self.build()
        first, second, third = (node.look_ups.look_up("CP-1", "") for _ in range(3))
        self.assertEqual(len(node.hears()), 2)
        first.cancel()
        self.failureResultOf(first)
        node.answers(OLD)
        for known in (second, third):
            self.assertEqual(self.successResultOf(known), Known(OLD))
        self.assertEqual(self.successResultOf(node.look_ups.look_up("CP-1", "")), Known(OLD))
        self.assertEqual(node.hears(), [])

    def test_a_failure_is_told_to_all_and_not_kept(self) -> None:
        node = self.build()
        shared = [node.look_ups.look_up("CP-1", "") for _ in range(2)]
        node.redis.says(b"-NOPERM no\r\n$-1\r\n")
        for known in shared:
            self.failureResultOf(known, StoreError)
        node.look_ups.look_up("CP-1", "")
        node.redis.hears()
        node.answers(OLD)
        self.assertEqual(self.successResultOf(node.look_ups.look_up("CP-1", "")), Known(OLD))

    def test_a_change_that_overtakes_the_answer_makes_it_ask_again(self) -> None:
        for changed in ([CP_1.encode()], [REVOKED_KEY.encode()], None):
            node = self.build()
            known = node.look_ups.look_up("CP-1", FINGERPRINT)
            node.changes.invalidated(changed)
            node.hears()
            node.answers(OLD, None)
            self.assertNoResult(known)
            self.assertEqual(len(node.hears()), 2)
            node.answers(NEW, b"1")
            self.assertEqual(self.successResultOf(known), Known(NEW, {"fingerprint": FINGERPRINT}))

    def test_what_changes_all_the_time_is_answered_but_not_kept(self) -> None:
        node = self.build()
        known = node.look_ups.look_up("CP-1", "")
        for _ in range(MAX_TRIES):
            self.assertNoResult(known)
            node.changes.invalidated([CP_1.encode()])
            node.answers(OLD)
        self.assertEqual(self.successResultOf(known), Known(OLD))
        self.asks_anew(node)


class Caching(NodeCase):
    def test_entries_are_good_for_a_while_and_shorter_when_redis_does_not_tell(self) -> None:
        for is_tracked, seconds in ((True, 5.0), (False, UNTRACKED_SECONDS)):
            node = self.build(is_tracked=is_tracked)
            node.look_up(OLD)
            node.pass_time(seconds - 0.1)
            self.assertEqual(self.successResultOf(node.look_ups.look_up("CP-1", "")), Known(OLD))
            node.pass_time(0.15)
            self.asks_anew(node)

    def test_what_is_kept_is_bounded(self) -> None:
        self.patch(cache_module, "MAX_ENTRIES", 2)
        self.patch(cache_module, "MAX_MARKS", 3)
        cache = Cache(lambda: 0.0, 5.0)
        for name in "abcd":
            cache.put(name, name, b"")
        self.assertEqual([cache.get(name) is not None for name in "abcd"], [False, False, True, True])
        self.assertEqual([cache.marked(name) for name in "abcd"], [None, b"", b"", b""])


class Telling(NodeCase):
    def test_changes_are_told_and_what_was_cached_is_dropped(self) -> None:
        node = self.build()
        node.look_up(OLD)
        node.changes.invalidated([CP_1.encode(), REVOKED_KEY.encode(), b"ocpp:chargers:\xff"])
        self.assertEqual(node.told(), ["CP-1", FINGERPRINT, "\udcff"])
        self.asks_anew(node)

    def test_the_echo_of_ones_own_change_is_not_told_but_what_came_after_it_is(self) -> None:
        for now_there, told in ((NEW, []), (OLD, ["CP-1"]), (None, ["CP-1"])):
            for is_early in (True, False):
                node = self.build()
                node.changes.writing(CP_1, json.dumps(NEW).encode())
                if is_early:  # Redis tells of it before it answers
                    node.changes.invalidated([CP_1.encode()])
                node.changes.written(CP_1, json.dumps(NEW).encode())
                self.assertEqual(node.told(), ["CP-1"])
                if not is_early:
                    node.changes.invalidated([CP_1.encode()])
                self.assertEqual(node.hears(), [f"MGET {CP_1}"])
                node.redis.says(mget(now_there))
                self.assertEqual(node.told(), told)

    def test_a_change_of_ones_own_that_failed_is_told_when_redis_tells_it(self) -> None:
        node = self.build()
        node.changes.writing(CP_1, b"{}")
        node.changes.not_written(CP_1)
        node.changes.invalidated([CP_1.encode()])
        self.assertEqual(node.told(), ["CP-1"])

    def test_a_change_during_a_handshake_is_told_again_once_when_the_station_has_arrived(self) -> None:
        node = self.build()
        node.look_up(OLD)
        node.changes.invalidated([CP_1.encode()])
        self.assertEqual(node.told(), ["CP-1"])
        node.pass_time(3 * SWEEP_SECONDS)
        self.assertEqual(node.told(), [])
        node.ids = ["CP-1"]
        node.pass_time(3 * SWEEP_SECONDS)
        self.assertEqual(node.told(), ["CP-1"])

    def test_a_station_that_connects_long_after_a_change_is_not_told_of(self) -> None:
        node = self.build()
        node.look_up(OLD)
        node.changes.invalidated([CP_1.encode()])
        node.pass_time(HANDSHAKE_SECONDS + SWEEP_SECONDS)
        node.ids = ["CP-1"]
        node.pass_time(3 * SWEEP_SECONDS)
        self.assertEqual(node.told(), ["CP-1"])

    def test_many_changes_are_told_a_few_at_a_time(self) -> None:
        node = self.build()
        names = [f"CP-{number}" for number in range(TOLD_AT_ONCE + 1)]
        node.changes.invalidated([f"ocpp:chargers:{name}".encode() for name in names])
        self.assertEqual(node.told(), names[:-1])
        node.redis.clock.advance(TOLD_PAUSE)
        self.assertEqual(node.told(), names[-1:])

    def test_too_many_changes_are_left_to_a_sweep(self) -> None:
        self.patch(changes_module, "MAX_UNTOLD", 10)
        node = self.build()
        node.look_up(OLD)
        node.ids = ["CP-1"]
        node.changes.invalidated([b"ocpp:chargers:%d" % number for number in range(11)])
        self.assertEqual(node.hears(), [f"MGET {CP_1}"])
        node.redis.says(mget(NEW))
        self.assertEqual(node.told(), ["CP-1"])

    def test_of_many_revocations_only_those_of_connected_stations_are_told(self) -> None:
        node = self.build()
        node.fingerprints = ["F7"]
        node.changes.invalidated([b"ocpp:revoked-certs:F%d" % number for number in range(50)])
        self.assertEqual(node.told(), ["F7"])

    def test_a_listener_that_fails_keeps_nobody_from_being_told(self) -> None:
        class Failing(Listener):
            def identity_changed(self, charge_point_id: str) -> None:
                raise RuntimeError("a fault")

        node, last = self.build(), Listener()
        node.changes.listeners.add(Failing())
        node.changes.listeners.add(last)
        node.changes.invalidated([CP_1.encode()])
        self.assertEqual((node.told(), last.told), (["CP-1"], ["CP-1"]))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class Sweeping(NodeCase):
    def swept(self, node: Node, *values: Any) -> None:
        """The next sweep, of one batch."""
        for _ in range(40):
            node.pass_time(0.05)
            heard = node.hears()
            if heard:
                self.assertEqual(len(heard), 1)
                self.assertTrue(heard[0].startswith("MGET "))
                node.redis.says(mget(*values))
                return
        self.fail("no sweep within 2 seconds")

    def test_only_what_is_different_from_what_was_given_out_is_told(self) -> None:
        node = self.build(is_tracked=False)
        node.look_up(OLD)
        node.look_up(OLD, "CP-2")
        node.ids = ["CP-1", "CP-2"]
        self.swept(node, OLD, OLD)
        self.assertEqual(node.told(), [])
        self.swept(node, OLD, NEW)
        self.assertEqual(node.told(), ["CP-2"])
        node.pass_time(0.05)
        self.swept(node, None, NEW)
        self.assertIn("CP-1", node.told())

    def test_a_connected_station_of_whom_nothing_is_remembered_is_told_of_once(self) -> None:
        node = self.build(is_tracked=False)
        node.ids, node.fingerprints = ["CP-1"], [FINGERPRINT]
        for told in (["CP-1"], []):
            self.swept(node, OLD, None)
            self.assertEqual(node.told(), told)
        self.swept(node, OLD, b"1")
        self.assertEqual(node.told(), [FINGERPRINT])

    def test_a_sweep_that_fails_at_once_is_made_again_after_a_rest(self) -> None:
        """Without one the process would do nothing else any more, and Redis could never be used again."""
        node = self.build(is_tracked=False)
        node.ids = ["CP-1"]
        asked = 0

        def lost(*_words: Any) -> "Deferred[Any]":
            nonlocal asked
            asked += 1
            if asked > 50:
                raise CancelledError  # ends the loop, and lets the test say so
            return fail(StoreError("the connection to Redis was lost"))

        self.patch(node.calls, "call", lost)
        node.changes.sweep_now()
        self.assertEqual(asked, 1)
        node.pass_time(1.0)
        self.assertTrue(5 <= asked <= 11, asked)

    def test_many_keys_are_read_in_batches(self) -> None:
        node = self.build(is_tracked=False)
        node.ids = [f"CP-{number}" for number in range(SWEPT_AT_ONCE + 1)]
        self.swept(node, *[OLD] * SWEPT_AT_ONCE)
        self.assertEqual(node.hears(), [f"MGET ocpp:chargers:CP-{SWEPT_AT_ONCE}"])
        self.assertEqual(len(node.told()), SWEPT_AT_ONCE)
        node.redis.says(mget(OLD))
        self.assertEqual(node.told(), [f"CP-{SWEPT_AT_ONCE}"])

    def test_a_sweep_that_fails_tells_nothing_and_is_made_again(self) -> None:
        node = self.build(is_tracked=False)
        node.look_up(OLD)
        node.ids = ["CP-1"]
        for _ in range(40):
            node.pass_time(0.05)
            if node.hears():
                break
        node.redis.says(b"-NOPERM no\r\n")
        self.assertEqual(node.told(), [])
        self.swept(node, NEW)
        self.assertEqual(node.told(), ["CP-1"])

    def test_nothing_is_swept_while_redis_tells_of_changes(self) -> None:
        node = self.build()
        node.ids = ["CP-1"]
        node.pass_time(5 * SWEEP_SECONDS)
        self.assertEqual(node.hears(), [])

    def test_a_fault_of_who_says_what_is_connected_does_not_end_the_sweeps(self) -> None:
        node = self.build(is_tracked=False)
        right, node.changes.interest = node.changes.interest, lambda: 1 / 0  # type: ignore[assignment, return-value]
        node.pass_time(2 * SWEEP_SECONDS)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)) > 0, True)
        node.changes.interest = right
        node.ids = ["CP-1"]
        self.swept(node, OLD)

    def test_marks_tell_values_apart(self) -> None:
        self.assertEqual(len({digest(None), digest(b""), digest(b"{}"), digest(b"{} ")}), 4)

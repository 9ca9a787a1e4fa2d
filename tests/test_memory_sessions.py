"""The sessions that other tests use in Redis' place keep the contract of all."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import StoreError
from ocppgw.fleet_ports import Beat, Sessions
from tests.contract_sessions import NODE_REFRESH, NODE_TTL, NOW, SESSION_STALE, SESSION_TTL, Node, SessionsContract
from tests.memory_sessions import MemoryFleet, MemorySessions


class Memory(MemoryFleet):
    """(contract_sessions.Fleet)"""

    def __init__(self) -> None:
        clock = Clock()
        clock.advance(NOW)
        super().__init__(clock, SESSION_TTL, SESSION_STALE, NODE_TTL, NODE_REFRESH)

    def node(self, node_id: str, incarnation: str) -> Sessions:
        return MemorySessions(self, node_id, incarnation)

    def wait(self, deferred: "Deferred[Any]") -> Any:
        results: list[Any] = []
        deferred.addBoth(results.append)
        [result] = results
        if isinstance(result, Failure):
            result.raiseException()
        return result


class MemorySessionsTests(SessionsContract, SynchronousTestCase):
    """The sessions that other tests use in Redis' place."""

    def build(self) -> Memory:
        return Memory()

    def test_sessions_end_by_themselves(self) -> None:
        self.here.claim()
        self.fleet.clock.advance(SESSION_TTL - 0.001)
        self.assertEqual(list(self.here.all_sessions()), ["CP-1"])
        self.fleet.clock.advance(0.001)
        self.assertEqual(self.here.all_sessions(), {})

    def test_a_node_that_does_not_beat_is_dead(self) -> None:
        self.here.claim()
        self.fleet.clock.advance(NODE_TTL)
        self.there.beat()
        self.assertEqual(self.here.node_ids(), ["node-b"])
        self.assertIsNone(self.there.claim().taken_from)
        self.assertTrue(self.here.beat().was_forgotten)

    def test_every_call_fails_while_it_is_away(self) -> None:
        memory = Memory()
        node = Node(memory)
        claim = node.claim()
        memory.fault = "Redis is away"
        calls = (node.claim, node.beat, node.retire, node.owner, node.node_ids, lambda: node.release(claim))
        for call in calls:
            with self.assertRaisesRegex(StoreError, "Redis is away"):
                call()
        memory.fault = ""
        self.assertEqual(node.beat(), Beat())
        self.assertEqual(node.refresh(claim.epoch), [])

"""The store of a fleet on a real Redis: the contract of every store, and what only several nodes can show."""

import json
import uuid
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import StoreError
from ocppgw.ocpp.effects import Change
from ocppgw.ocpp.state import Answered, StationState, Transaction
from ocppgw.ports import CommandRecord
from tests.contract_store import ACCEPTED, BOOT, QUEUED, SENT, StoreContract, event
from tests.integration.redis_nodes import blocking, until
from tests.integration.store_nodes import Build, Node
from tests.services import RedisServer

pytest_plugins = ("tests.integration.store_nodes",)


class FleetStoreTests(StoreContract, SynchronousTestCase):
    redis: RedisServer

    @pytest.fixture(autouse=True)
    def _redis(self, session_redis: RedisServer) -> None:
        self.redis = session_redis

    def build(self) -> Node:
        node = Node(self.redis, f"test-{uuid.uuid4()}")
        self.addCleanup(node.stop)
        return node

    def store_changes(self, *changes: Change) -> None:
        """Events go to the journal, states to Redis a moment later."""
        for change in changes:
            self.built.apply(change)  # type: ignore[attr-defined]
        self.built.settle()


# --- several nodes


@blocking
def test_a_station_goes_on_at_another_node_where_it_was(store_node: Build) -> None:
    first, second = store_node(), store_node()
    carrier = first.carrier()
    carrier.state.boot_status, carrier.state.boot = "Accepted", json.dumps(BOOT).encode()
    carrier.state.connectors = {"1": "Charging"}
    carrier.state.remembering().remember_command("LogStatusNotification|7", "command-1")
    carrier.state.remembering().limits["GetVariables"] = 4
    carrier.state.remember_transaction(Transaction("7", "key", 100.0, None, {0: "content-0"}))
    carrier.state.remember_answer("m-1", Answered(4711, b'[3,"m-1",{}]', 200.0))
    first.store.touch(carrier)
    first.settle()
    state = second.wait(second.store.load_station("CP-1"))
    assert (state.boot_status, json.loads(state.boot), state.connectors) == ("Accepted", BOOT, {"1": "Charging"})
    assert state.transactions == carrier.state.transactions
    assert state.recent == carrier.state.recent
    assert state.memory == carrier.state.memory


@blocking
def test_a_node_that_lost_a_station_writes_nothing_of_it_any_more(store_node: Build) -> None:
    """It was paused, and writes what it had when it wakes up."""
    first, second = store_node(), store_node()
    old, new = first.carrier(), second.carrier()
    old.epoch, new.epoch = 7, 8
    new.state.boot_status = "Accepted"
    second.store.touch(new)
    second.settle()
    old.state.boot_status = "Rejected"
    first.store.touch(old)
    first.settle()
    assert store_node().wait(second.store.load_station("CP-1")).boot_status == "Accepted"
    third = store_node()
    assert third.wait(third.store.load_station("CP-1")).boot_status == "Accepted"


@blocking
def test_a_node_takes_its_own_memory_only_while_nobody_else_had_the_station(store_node: Build) -> None:
    first, second = store_node(), store_node()
    mine = first.carrier()
    mine.epoch = 1
    first.store.touch(mine)
    first.settle()
    assert first.wait(first.store.load_station("CP-1")) is mine.state
    theirs = second.carrier()
    theirs.epoch = 2
    theirs.state.boot_status = "Pending"
    second.store.touch(theirs)
    second.settle()
    assert first.wait(first.store.load_station("CP-1")).boot_status == "Pending"


@blocking
def test_a_start_sent_again_to_another_node_gets_the_same_id(store_node: Build) -> None:
    """The first node died before it had recorded it."""
    first, second = store_node(), store_node()
    given = first.wait(first.store.find_transaction("CP-1", "key", ""))
    again = second.wait(second.store.find_transaction("CP-1", "key", ""))
    assert given.transaction is again.transaction is None
    assert given.fresh_id == again.fresh_id > 0
    known = second.wait(second.store.find_transaction("CP-1", "", str(given.fresh_id)))
    assert known.transaction.started_at is not None, "its stop is no orphan"


@blocking
def test_ids_go_on_far_above_when_redis_has_lost_its_data(store_node: Build, prefix: str) -> None:
    first, second = store_node(), store_node()
    given = first.wait(first.store.find_transaction("CP-1", "key", "")).fresh_id
    first.cli_delete_all()
    assert first.wait(first.store.find_transaction("CP-1", "key-2", "")).fresh_id > given + 999_999
    other = second.wait(second.store.find_transaction("CP-2", "key-3", "")).fresh_id
    assert other > given + 999_999
    assert first.local.highest > given


@blocking
def test_while_redis_is_away_a_start_gets_an_id_in_hand(store_node: Build) -> None:
    node = store_node()
    until(lambda: node.local.highest > 0)
    before = node.local.highest
    node.redis.pause()
    leased = node.wait(node.store.find_transaction("CP-1", "key", "")).fresh_id
    again = node.wait(node.store.find_transaction("CP-1", "key", "")).fresh_id
    other = node.wait(node.store.find_transaction("CP-1", "key-2", "")).fresh_id
    node.redis.resume()
    assert leased == again != other
    assert max(leased, other) <= before
    assert "transaction-id-from-lease" in node.notes


@blocking
def test_while_redis_is_away_a_transaction_is_looked_for_on_the_own_disk(store_node: Build) -> None:
    node = store_node()
    node.local.transactions["CP-1", "7"] = Transaction("7", "key", 100.0)
    node.redis.pause()
    found = node.wait(node.store.find_transaction("CP-1", "", "7")).transaction
    unknown = node.wait(node.store.find_transaction("CP-1", "", "8")).transaction
    node.redis.resume()
    assert (found.transaction_id, unknown) == ("7", None)


@blocking
def test_states_are_written_when_redis_is_back(store_node: Build) -> None:
    first, second = store_node(), store_node()
    carrier = first.carrier()
    carrier.state.boot_status = "Accepted"
    first.redis.pause()
    first.store.touch(carrier)
    first.settle()
    assert "state-write-failed" in first.notes
    first.redis.resume()

    def is_written() -> bool:
        try:
            return second.wait(second.store.load_station("CP-1")).boot_status == "Accepted"
        except StoreError:  # the second node has yet to connect again
            return False

    until(is_written)


@blocking
def test_without_redis_a_station_is_loaded_only_by_policy(store_node: Build) -> None:
    strict, lenient = store_node(), store_node(serves_without=True)
    lenient.local.states["CP-1"] = StationState(boot_status="Accepted", loaded=True)
    strict.redis.pause()
    with pytest.raises(StoreError):
        strict.wait(strict.store.load_station("CP-1"))
    assert lenient.wait(lenient.store.load_station("CP-1")).boot_status == "Accepted"
    strict.redis.resume()


@blocking
def test_transactions_of_the_last_process_reach_the_fleet(
    store_node: Build, redis_server: RedisServer, prefix: str
) -> None:
    node = store_node()
    node.local.transactions["CP-9", "9"] = Transaction("9", "key", reactor.seconds(), None, {0: "content"})  # type: ignore[attr-defined]
    node.reopen()
    other = store_node()
    until(lambda: other.wait(other.store.find_transaction("CP-9", "", "9")).transaction is not None)


@blocking
def test_the_fleet_hears_of_them_when_kafka_has_their_events(
    store_node: Build, redis_server: RedisServer, prefix: str
) -> None:
    """Another node answers what it finds in Redis without an event of its own: it has to be in Kafka by then."""
    node, other = store_node(), store_node()
    node.local.transactions["CP-9", "9"] = Transaction("9", "key", reactor.seconds(), None, {0: "content"})  # type: ignore[attr-defined]
    asked: list[Deferred[None]] = []

    def all_acknowledged() -> "Deferred[None]":
        asked.append(Deferred())
        return asked[-1]

    node.store.all_acknowledged = all_acknowledged
    node.store.tell_old()
    until(lambda: len(asked) == 1)
    node.settle()
    assert other.wait(other.store.find_transaction("CP-9", "", "9")).transaction is None
    asked[0].callback(None)
    until(lambda: other.wait(other.store.find_transaction("CP-9", "", "9")).transaction is not None)


@blocking
def test_only_one_of_many_nodes_takes_a_command_and_only_one_ends_it(store_node: Build) -> None:
    nodes = [store_node() for _ in range(3)]
    for number in range(20):
        record = msgspec.structs.replace(QUEUED, command_id=f"c-{number}")
        nodes[0].wait(nodes[0].store.open_command(record, event("CommandRouted")))
        takes = [
            node.store.take_command(msgspec.structs.replace(record, taken_by=f"node-{place}/x"))
            for place, node in enumerate(nodes)
        ]
        assert sorted(nodes[0].wait(take) for take in takes) == [False, False, True]
        ended = msgspec.structs.replace(ACCEPTED, command_id=record.command_id)
        ends = [node.store.change_command(ended, event("CommandAccepted")) for node in nodes]
        assert sorted(nodes[0].wait(end) for end in ends) == [False, False, True]
    kinds = [json.loads(record.value)["eventType"] for node in nodes for record in node.journal.records]
    assert (kinds.count("CommandRouted"), kinds.count("CommandAccepted")) == (20, 20)


@blocking
def test_an_end_whose_node_died_is_published_by_another(store_node: Build) -> None:
    dying, living = store_node(), store_node()
    dying.wait(dying.store.open_command(QUEUED, event("CommandRouted")))
    dying.journal.fault = "the process is gone"
    with pytest.raises(StoreError):
        dying.wait(dying.store.change_command(ACCEPTED, event("CommandAccepted")))
    assert living.wait(living.store.publish_unpublished()) == 0, "it may still be on its way"
    living.redis.call("ZADD", living.key("unpublished-commands"), "1", "c-1")
    assert living.wait(living.store.publish_unpublished()) == 1
    assert living.journal.records == [event("CommandAccepted")]
    until(lambda: living.redis.call("HLEN", living.key("unpublished-commands:ends")) == 0)


@blocking
def test_the_process_that_has_a_command_ends_it_though_redis_has_lost_it(store_node: Build) -> None:
    node = store_node()
    taken = msgspec.structs.replace(QUEUED, taken_by="node-1/x")
    node.wait(node.store.open_command(taken, event("CommandRouted")))
    node.cli_delete_all()
    ended = msgspec.structs.replace(ACCEPTED, taken_by="node-1/x")
    assert node.wait(node.store.change_command(ended, event("CommandAccepted")))
    rejected = msgspec.structs.replace(ended, status="Rejected", outcome="Rejected")
    assert not node.wait(node.store.change_command(rejected, event("CommandRejected")))
    assert [json.loads(record.value)["eventType"] for record in node.journal.records] == [
        "CommandRouted",
        "CommandAccepted",
    ]


@blocking
def test_keys_and_members_of_a_command_are_the_contracts(store_node: Build) -> None:
    node = store_node()
    node.wait(node.store.open_command(QUEUED, event("CommandRouted")))
    node.wait(node.store.change_command(SENT, event("CommandDispatched")))
    stored = json.loads(node.redis.cli("GET", node.key("command-audit:c-1")))
    assert {
        "commandId": "c-1",
        "commandType": "Reset",
        "chargePointId": "CP-1",
        "status": "Sent",
    }.items() <= stored.items()
    assert stored["requestPayload"] == {"type": "Soft"}
    assert node.redis.cli("GET", node.key("command-audit:unique:m-1")) == "c-1"
    assert 80_000 < int(node.redis.cli("TTL", node.key("command-audit:c-1"))) <= 86_400


@blocking
def test_a_command_that_the_existing_gateway_ended_stays_ended(store_node: Build) -> None:
    node = store_node()
    old = {
        "commandId": "c-1",
        "commandType": "Reset",
        "chargePointId": "CP-1",
        "status": "Accepted",
        "requestedAt": "x",
    }
    node.redis.cli("SET", node.key("command-audit:c-1"), json.dumps(old))
    assert not node.wait(node.store.change_command(SENT, event("CommandDispatched")))
    existing: CommandRecord = node.wait(node.store.open_command(QUEUED, event("CommandRouted")))
    assert existing.status == "Accepted"


@blocking
def test_replies_stand_under_the_contracts_keys(store_node: Build) -> None:
    node = store_node(answers_kept=300.0)
    carrier = node.carrier()
    carrier.state.remember_answer("m-1", Answered(4711, b'[3,"m-1",{}]', 200.0))
    node.store.touch(carrier)
    node.settle()
    assert node.redis.cli("GET", node.key("CP-1:m-1")) == '[3,"m-1",{}]'
    assert 290 < int(node.redis.cli("TTL", node.key("CP-1:m-1"))) <= 300


@blocking
def test_identity_files_of_two_nodes_count_once(store_node: Build) -> None:
    first, second = store_node(), store_node()
    files = {"CP-1": ({"chargePointId": "CP-1", "stationId": "s", "tenantId": "t"}, "digest-1")}

    def told(kind: str, identity: Any) -> Any:
        return event(kind)

    assert first.wait(first.store.sync_files(files, told)) == (1, 0)
    assert second.wait(second.store.sync_files(files, told)) == (0, 0)
    second.wait(second.store.put_identity({**files["CP-1"][0], "tenantId": "other"}))
    assert first.wait(first.store.sync_files(files, told)) == (0, 0), "changed by other means, it stays so"
    assert first.wait(first.store.sync_files({}, told)) == (0, 1)


@blocking
def test_a_file_that_was_removed_while_the_node_was_down_takes_its_identity_with_it(store_node: Build) -> None:
    """Whoever removed it wants the station locked out; other nodes' files are none of its affair."""
    first, second = store_node(), store_node()
    one = {"CP-1": ({"chargePointId": "CP-1", "stationId": "s", "tenantId": "t"}, "digest-1")}
    two = {"CP-2": ({"chargePointId": "CP-2", "stationId": "s", "tenantId": "t"}, "digest-2")}

    def told(kind: str, identity: Any) -> Any:
        return event(kind)

    assert first.wait(first.store.sync_files(one, told)) == (1, 0)
    assert second.wait(second.store.sync_files(two, told)) == (1, 0)
    first.reopen()
    assert first.wait(first.store.sync_files({}, told)) == (0, 1)
    assert first.wait(first.store.look_up("CP-1")).identity is None
    assert first.wait(first.store.look_up("CP-2")).identity is not None

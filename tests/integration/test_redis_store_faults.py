"""The store of a fleet where something is wrong: keys others wrote, names that could meet, answers that got lost."""

import json
import re
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

import ocppgw.net.redis as redis_package
import ocppgw.net.redis.kept_commands as kept_module
from ocppgw.errors import CommandError, StoreError
from ocppgw.net.redis import RedisAddress
from ocppgw.net.redis.stations import AT_ONCE
from ocppgw.ocpp.state import Answered, Transaction
from tests.contract_access import IDENTITY
from tests.contract_store import ACCEPTED, QUEUED, TIMEOUT, event
from tests.integration.redis_nodes import blocking, until
from tests.integration.store_nodes import Build, Node
from tests.services import RedisServer

pytest_plugins = ("tests.integration.store_nodes",)

RUNNING = Transaction("7", "key", 100.0, None, {0: "content-0"})
DAY = 86_400.0


def fresh(node: Node, name: str = "CP-1") -> Any:
    """The station's state as the store gives it now."""
    return node.wait(node.store.load_station(name))


def is_back(node: Node) -> bool:
    """It noticed that Redis was away, and that it is there again."""
    try:
        node.wait(node.store.command("nobody's"))
    except StoreError:
        return False
    return True


def find(node: Node, number: str, name: str = "CP-1") -> Transaction | None:
    found: Transaction | None = node.wait(node.store.find_transaction(name, "", number)).transaction
    return found


def run(node: Node, name: str, *transactions: Transaction) -> None:
    """Transactions of a connected station, written."""
    carrier = node.carrier(name)
    for transaction in transactions:
        carrier.state.remember_transaction(transaction)
    node.store.touch(carrier)
    node.settle()


class LimitedNode(Node):
    """It may do in Redis what the package's docstring asks for, and no more."""

    def address(self) -> RedisAddress:
        open_address = super().address()
        rules = re.findall(r"^    ([+~&].*)$", redis_package.__doc__ or "", re.MULTILINE)
        words = " ".join(rules).replace("~ocpp:*", f"~{self.prefix}:*").split()
        assert any(word.startswith("~") for word in words)
        self.redis.call("ACL", "SETUSER", self.prefix, "reset", "on", ">password", *words)
        return RedisAddress(open_address.host, open_address.port, 0, self.prefix, "password")


@blocking
def test_the_documented_rights_are_enough(redis_server: RedisServer, prefix: str) -> None:
    node = LimitedNode(redis_server, prefix, answers_kept=300.0)
    wait, store = node.wait, node.store
    carrier = node.carrier()
    carrier.state.remember_answer("m-1", Answered(1, b"[3]", 200.0))
    run(node, "CP-1", msgspec.structs.replace(RUNNING), Transaction("none-knows-its-start", "", None, 9.0, {1: "one"}))
    run(node, "CP-1", Transaction("7", "key", 100.0, 200.0, {0: "content-0", -1: "stop"}))
    assert "state-write-failed" not in node.notes
    assert wait(store.find_transaction("CP-1", "new", "")).fresh_id > 0
    assert len(wait(store.known_stations())) == 1
    until(lambda: node.local.highest > 0)
    assert "transaction-id-from-lease" not in node.notes
    wait(store.open_command(QUEUED, event("CommandRouted")))
    wait(store.take_command(msgspec.structs.replace(QUEUED, request={"commandType": "Reset"})))
    assert [record.command_id for record in wait(store.waiting_commands("CP-1"))] == ["c-1"]
    failed = msgspec.structs.replace(QUEUED, status="Failed", outcome="Failed")
    assert wait(store.change_command(failed, event("CommandFailed"))), "it was never sent: it has no message id"
    assert list(wait(store.open_commands())) == []
    assert wait(store.publish_unpublished()) == 0
    wait(store.sync_files({"CP-1": (IDENTITY, "digest")}, lambda kind, one: event(kind)))
    wait(store.sync_files({}, lambda kind, one: event(kind)))
    node.stop()


# --- states


@blocking
def test_a_station_that_comes_back_while_states_are_being_written_finds_its_own(store_node: Build) -> None:
    """Thousands come back at once after a cut in the network; its state is on its way, not there yet."""
    node = store_node()
    carriers = [node.carrier(f"CP-{number}") for number in range(2 * AT_ONCE)]
    for carrier in carriers:
        carrier.state.boot_status = "Accepted"
        node.store.touch(carrier)
    flushed = node.store.stations.flush()
    last = node.store.load_station(carriers[-1].station.charge_point_id)
    assert node.wait(last) is carriers[-1].state
    node.wait(flushed)


@pytest.mark.parametrize("key", ["station-state:CP-1", "transaction:CP-1:7", "open-transactions:CP-1"])
@pytest.mark.parametrize("broken", [("SET", "no JSON"), ("SET", "12"), ("RPUSH", "x")])
@blocking
def test_a_broken_key_of_one_station_keeps_no_other_from_being_written(
    store_node: Build, key: str, broken: tuple[str, str]
) -> None:
    node, other = store_node(), store_node()
    node.carrier("CP-1")
    node.carrier("CP-2")
    node.redis.call(broken[0], node.key(key), broken[1])
    run(node, "CP-1", msgspec.structs.replace(RUNNING))
    run(node, "CP-2", msgspec.structs.replace(RUNNING))
    assert "state-write-failed" not in node.notes
    for name in ("CP-1", "CP-2"):
        assert fresh(other, name).transactions == {"7": RUNNING}


@pytest.mark.parametrize("key", ["station-state:CP-1", "open-transactions:CP-1"])
@blocking
def test_a_broken_key_keeps_its_station_from_nothing(store_node: Build, key: str) -> None:
    node = store_node()
    node.redis.call("SET", node.key(key), "no hash, no set")
    assert fresh(node).boot_status is None


# --- names that could meet


@blocking
def test_a_station_cannot_write_another_ones_transactions(store_node: Build) -> None:
    """A station chooses its transactions' ids (2.x), and the id of a 1.6 station may hold a colon."""
    node, other = store_node(), store_node()
    run(node, "CP:A", msgspec.structs.replace(RUNNING))
    run(node, "CP", Transaction("A:7", "", 200.0, 300.0, {0: "forged"}))
    found = find(other, "7", "CP:A")
    assert found == RUNNING
    assert find(other, "A:7", "CP") == Transaction("A:7", "", 200.0, 300.0, {0: "forged"})


@pytest.mark.parametrize(
    ("station", "message_id", "key"),
    [
        ("chargers", "CP-1", "chargers:CP-1"),
        ("revoked-certs", "AB", "revoked-certs:AB"),
        ("sessions", "CP-1", "sessions:CP-1"),
        ("transaction:CP-1", "7", "transaction:CP-1:7"),
        ("station-state", "CP-1", "station-state:CP-1"),
        ("command-audit", "c-1", "command-audit:c-1"),
        ("attempts", "bodies", "attempts:bodies"),
        ("CP", "A:m-1", "CP:A:m-1"),
        ("rate", "x", "rate:x"),
    ],
)
@blocking
def test_a_station_cannot_write_other_keys_by_its_message_ids(
    store_node: Build, station: str, message_id: str, key: str
) -> None:
    node = store_node(answers_kept=300.0)
    carrier = node.carrier(station)
    carrier.state.remember_answer(message_id, Answered(1, b"[3]", 200.0))
    carrier.state.remember_answer("m-2", Answered(1, b'[3,"m-2",{}]', 200.0))
    node.store.touch(carrier)
    node.settle()
    assert node.redis.call("EXISTS", node.key(key)) == 0
    assert len(fresh(store_node(), station).recent) == 2, "it is remembered all the same"


# --- transactions


@blocking
def test_an_older_node_adds_its_records_to_a_transaction(store_node: Build) -> None:
    """It was cut off from Redis, and writes when it is back what the newer one never heard of."""
    older, newer, other = store_node(), store_node(), store_node()
    old, new = older.carrier(), newer.carrier()
    old.epoch, new.epoch = 7, 8
    run(newer, "CP-1", Transaction("7", "", None, None, {3: "three", 4: "four"}))
    run(older, "CP-1", Transaction("7", "key", 100.0, None, {1: "one", 2: "two", 3: "other"}))
    found = find(other, "7")
    assert found is not None
    assert found.started_at == 100.0
    assert found.key == "key"
    assert found.records == {1: "one", 2: "two", 3: "three", 4: "four"}


@blocking
def test_times_are_kept_to_the_microsecond_when_records_are_merged(store_node: Build) -> None:
    node, other = store_node(), store_node()
    started = 1_800_000_000.123456
    run(node, "CP-1", Transaction("7", "key", started, None, {1: "one"}))
    run(node, "CP-1", Transaction("7", "key", started, None, {2: "two"}))
    found = find(other, "7")
    assert found is not None
    assert found.started_at == started


@blocking
def test_an_id_in_hand_is_not_given_once_the_start_is_stored(store_node: Build) -> None:
    node, other = store_node(), store_node()
    node.carrier()
    until(lambda: node.local.highest > 0)
    node.redis.pause()
    leased = node.wait(node.store.find_transaction("CP-1", "key", "")).fresh_id
    assert "transaction-id-from-lease" in node.notes
    node.redis.resume()
    run(node, "CP-1", Transaction(str(leased), "key", 100.0, None, {0: "content-0"}))
    until(lambda: is_back(node) and is_back(other) and find(other, str(leased)) is not None)
    found = node.wait(node.store.find_transaction("CP-1", "key", ""))
    assert (found.transaction.transaction_id, found.fresh_id) == (str(leased), 0)


@blocking
def test_a_disk_that_does_not_keep_the_highest_id_is_told_of(store_node: Build) -> None:
    node = store_node()

    def refuse(number: int) -> "Deferred[None]":
        failed: Deferred[None] = Deferred()
        failed.errback(StoreError("the disk is full"))
        return failed

    node.local.raise_transaction_id = refuse  # type: ignore[method-assign]
    node.reopen()
    assert node.wait(node.store.find_transaction("CP-1", "key", "")).fresh_id > 0
    until(lambda: "transaction-id-not-kept" in node.notes)


@blocking
def test_a_transaction_that_ended_elsewhere_long_ago_is_not_opened_again(store_node: Build) -> None:
    """On this node's disk it is open for ever: it ended at another node, and Redis has forgotten it since."""
    node = store_node(transactions_kept=14 * DAY)
    now = reactor.seconds()  # type: ignore[attr-defined]
    node.local.transactions["CP-1", "7"] = Transaction("7", "old", now - 30 * DAY, None, {0: "content"})
    node.local.transactions["CP-1", "8"] = Transaction("8", "new", now - 1 * DAY, None, {0: "content"})
    node.reopen()
    until(lambda: find(node, "8") is not None)
    assert find(node, "7") is None


@blocking
def test_all_stations_show_their_open_transactions(store_node: Build) -> None:
    """`/v1/stations` counts them."""
    node = store_node()
    run(node, "CP-1", msgspec.structs.replace(RUNNING), Transaction("8", "", 200.0, 300.0, {0: "content"}))
    run(node, "CP-2")
    rows = {row.charge_point_id: row for row in node.wait(node.store.known_stations())}
    assert rows["CP-1"].open_transactions == {"7": 100.0}
    assert rows["CP-2"].open_transactions == {}


# --- commands


def reference_record(**members: Any) -> str:
    """As the existing gateway wrote it: without `requestedAt`."""
    return json.dumps(
        {
            "commandId": "c-1",
            "commandType": "Reset",
            "action": "Reset",
            "chargePointId": "CP-1",
            "nodeId": "old",
            "uniqueId": "m-1",
            "status": "Accepted",
            "sentAt": "2026-11-24T08:00:00.000Z",
            "responseAt": "2026-11-24T08:00:01.000Z",
            "requestPayload": {"type": "Soft"},
            "responsePayload": {"status": "Accepted"},
            "error": None,
            "connectorId": None,
            **members,
        }
    )


@blocking
def test_a_command_of_the_existing_gateway_is_known_and_stays_ended(store_node: Build) -> None:
    node = store_node()
    node.redis.call("SET", node.key("command-audit:c-1"), reference_record())
    record = node.wait(node.store.command("c-1"))
    assert (record.status, record.outcome, record.requested_at) == ("Accepted", "Accepted", "")
    assert node.wait(node.store.open_command(QUEUED, event("CommandRouted"))) == record
    assert not node.wait(node.store.change_command(TIMEOUT, event("CommandTimeout")))
    assert not node.wait(node.store.take_command(QUEUED))


@pytest.mark.parametrize("broken", ["no JSON", "12", "[]", '"text"', "null", "[" * 2000, '{"a": 1', "\xff"])
@blocking
def test_a_record_nobody_can_read_fails_its_command_and_nothing_else(store_node: Build, broken: str) -> None:
    """A CommandError: read from Kafka, it becomes a dead letter instead of holding its partition up for ever."""
    node = store_node()
    node.redis.call("SET", node.key("command-audit:c-1"), broken.encode("latin-1"))
    with pytest.raises(CommandError):
        node.wait(node.store.open_command(QUEUED, event("CommandRouted")))
    assert node.wait(node.store.command("c-1")) is None
    assert not node.wait(node.store.change_command(ACCEPTED, event("CommandAccepted")))
    assert not node.wait(node.store.take_command(QUEUED))
    node.redis.call("ZADD", node.key("open-commands"), 1, "c-1")
    assert list(node.wait(node.store.open_commands())) == []
    assert node.redis.call("ZCARD", node.key("open-commands")) == 0, "nobody will ever end it"


@blocking
def test_a_command_id_cannot_be_that_of_a_message(store_node: Build) -> None:
    """`command-audit:unique:…` is another family of keys."""
    node = store_node()
    with pytest.raises(CommandError):
        node.wait(node.store.open_command(msgspec.structs.replace(QUEUED, command_id="unique:m-1"), event("x")))
    assert node.journal.records == []


@blocking
def test_who_ended_a_command_and_could_not_publish_it_may_try_again(store_node: Build) -> None:
    """As it may when Redis' answer got lost: for the backend it is this node's end, and it waits for it."""
    node, other = store_node(), store_node()
    node.wait(node.store.open_command(QUEUED, event("CommandRouted")))
    node.journal.fault = "the disk is full"
    with pytest.raises(StoreError):
        node.wait(node.store.change_command(ACCEPTED, event("CommandAccepted")))
    assert not other.wait(other.store.change_command(TIMEOUT, event("CommandTimeout")))
    assert not other.wait(other.store.change_command(ACCEPTED, event("CommandAcceptedElsewhere")))
    node.journal.fault = ""
    assert node.wait(node.store.change_command(ACCEPTED, event("CommandAccepted")))
    assert node.journal.records[1:] == [event("CommandAccepted")]
    until(lambda: node.redis.call("HLEN", node.key("unpublished-commands:ends")) == 0)


@blocking
def test_commands_wait_in_the_order_of_their_requests_not_of_their_storing(store_node: Build) -> None:
    node = store_node()
    for name, second in (("c-1", 2), ("c-2", 1)):
        record = msgspec.structs.replace(QUEUED, command_id=name, requested_at=f"2026-11-24T08:00:0{second}.000Z")
        node.wait(node.store.open_command(record, event("CommandRouted")))
        assert node.wait(node.store.take_command(msgspec.structs.replace(record, request={"commandType": "Reset"})))
    assert [record.command_id for record in node.wait(node.store.waiting_commands("CP-1"))] == ["c-2", "c-1"]


@blocking
def test_one_end_that_is_no_event_keeps_no_other_from_being_published(store_node: Build) -> None:
    node = store_node()
    node.wait(node.store.open_command(QUEUED, event("CommandRouted")))
    node.journal.fault = "the process is gone"
    with pytest.raises(StoreError):
        node.wait(node.store.change_command(ACCEPTED, event("CommandAccepted")))
    node.journal.fault = ""
    node.redis.call("HSET", node.key("unpublished-commands:ends"), "c-0", "no event")
    for name in ("c-0", "c-1"):
        node.redis.call("ZADD", node.key("unpublished-commands"), 1, name)
    assert node.wait(node.store.publish_unpublished()) == 1
    until(lambda: node.redis.call("ZCARD", node.key("unpublished-commands")) == 0)


# --- identities


@blocking
def test_a_file_taken_by_many_nodes_at_once_counts_once(store_node: Build) -> None:
    nodes = [store_node() for _ in range(3)]
    files = {f"CP-{number}": ({**IDENTITY, "chargePointId": f"CP-{number}"}, "digest") for number in range(20)}
    syncs = [node.store.sync_files(files, lambda kind, one: event(kind)) for node in nodes]
    counts = nodes[0].wait(gatherResults(syncs))
    assert sum(changed for changed, _ in counts) == 20
    assert sum(len(node.journal.records) for node in nodes) == 20


# --- commands that wait while Redis loses its data

WAITING = msgspec.structs.replace(
    QUEUED,
    request={"commandType": "Reset", "chargePointId": "CP-1"},
    deadline=4_000_000_000.0,
    requested_at="2099-11-24T08:00:00.000Z",
)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "LOOK_SECONDS", 0.1)


def waits(node: Node) -> list[str]:
    return [record.command_id for record in node.wait(node.store.waiting_commands("CP-1"))]


def let_wait(node: Node) -> None:
    node.wait(node.store.open_command(QUEUED, event("CommandRouted")))
    assert node.wait(node.store.take_command(WAITING))


@pytest.mark.usefixtures("often")
@blocking
def test_a_waiting_command_outlives_the_data_of_redis(store_node: Build) -> None:
    node, other = store_node(), store_node()
    back: list[str] = []
    node.store.on_command_put_back(back.append)
    let_wait(node)
    node.cli_delete_all()
    until(lambda: back)
    assert waits(other) == ["c-1"]
    assert [record.command_id for record in other.wait(other.store.open_commands())] == ["c-1"]
    assert (back, node.notes.count("command-put-back")) == (["CP-1"], 1)


@pytest.mark.usefixtures("often")
@blocking
def test_it_outlives_the_process_too(store_node: Build) -> None:
    node = store_node()
    let_wait(node)
    node.stop()
    node.cli_delete_all()
    node.start()
    until(lambda: waits(node) == ["c-1"])


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("change", ["taken", "ended"])
@blocking
def test_one_that_was_sent_or_has_ended_is_not_put_back(store_node: Build, change: str) -> None:
    node, other = store_node(), store_node()
    let_wait(node)
    if change == "taken":
        assert other.wait(other.store.take_command(msgspec.structs.replace(WAITING, taken_by="b/1", request=None)))
    else:
        assert other.wait(other.store.change_command(ACCEPTED, event("CommandAccepted")))
    until(lambda: node.local.commands == {})


@pytest.mark.usefixtures("often")
@blocking
def test_who_took_it_is_heard_before_it_is_put_back(store_node: Build) -> None:
    """It tells Redis again what it had when it finds it empty; else two nodes would send the command."""
    node, other = store_node(), store_node()
    let_wait(node)
    looked = 0
    missing = node.store.command("c-1")
    node.wait(missing)
    find_all = node.store._commands.find_all

    async def find_and_count(names: Any) -> Any:
        nonlocal looked
        found = await find_all(names)
        looked += 1
        if looked == 1:
            assert found == {"c-1": None}
            taken = msgspec.structs.replace(WAITING, taken_by="b/1", request=None)
            await other.store.open_command(msgspec.structs.replace(taken, taken_by=None), event("CommandRouted"))
            await other.store.take_command(taken)
        return found

    node.cli_delete_all()
    node.store._commands.find_all = find_and_count  # type: ignore[method-assign]
    until(lambda: looked > 1 and node.local.commands == {})
    assert "command-put-back" not in node.notes
    assert waits(node) == []


@pytest.mark.usefixtures("often")
@blocking
def test_what_redis_may_have_forgotten_since_it_ended_is_let_go(store_node: Build) -> None:
    """The process was down for longer than Redis keeps ended commands."""
    node = store_node(command_ttl=60.0)
    node.local.commands["c-1"] = msgspec.structs.replace(WAITING, requested_at="2026-01-01T00:00:00.000Z")
    node.reopen()
    until(lambda: node.local.commands == {})
    assert waits(node) == []

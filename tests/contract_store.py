"""What every implementation of `ports.Store` has to do, beside the journal that shares its transactions."""

import json
from typing import Any

import msgspec

from ocppgw.ocpp.effects import Change, Record, SaveBoot, SaveTransaction
from ocppgw.ports import CommandRecord
from tests.contract_access import IDENTITY, AccessContract
from tests.contract_journal import Told

BOOT = {"chargePointVendor": "Vendor", "chargePointModel": "Model"}
QUEUED = CommandRecord("c-1", "Reset", "CP-1", "Queued", "2026-11-24T08:00:00.000Z", request_payload={"type": "Soft"})
SENT = msgspec.structs.replace(QUEUED, status="Sent", unique_id="m-1")
ACCEPTED = msgspec.structs.replace(SENT, status="Accepted", outcome="Accepted", response_payload={"status": "Accepted"})
TIMEOUT = msgspec.structs.replace(SENT, status="Timeout", outcome="Unknown")


def event(name: str) -> Record:
    return Record("command", "CP-1", json.dumps({"eventType": name}).encode())


def boot(charge_point_id: str = "CP-1", status: str = "Accepted") -> SaveBoot:
    payload = json.dumps(BOOT).encode()
    return SaveBoot(charge_point_id, "station-1", "tenant-1", "1.6J", status, payload, 1_800_000_000.0)


def transaction(
    name: str = "7", key: str = "key", started_at: float | None = 100.0, ended_at: float | None = None
) -> SaveTransaction:
    return SaveTransaction("CP-1", "1.6J", name, key, started_at, ended_at, {0: "content-0"})


class StoreContract(AccessContract):
    """Mix into a `SynchronousTestCase`, and give `build()`."""

    def store_changes(self, *changes: Change) -> None:
        """Through the journal, as a session does: the changes go with an event."""
        told: list[Any] = []
        self.built.journal.append(Record("station", "station-1", b"{}"), changes, Told(told), 1)
        self.built.settle()
        assert told == [("durable", 1)]

    def find(self, key: str = "", name: str = "", charge_point_id: str = "CP-1") -> Any:
        return self.built.wait(self.store.find_transaction(charge_point_id, key, name))

    def load(self, charge_point_id: str = "CP-1") -> Any:
        return self.built.wait(self.store.load_station(charge_point_id))

    # --- stations

    def test_a_station_never_seen_is_fresh(self) -> None:
        state = self.load()
        assert (state.boot_status, state.boot, state.transactions, state.recent) == (None, b"", {}, {})
        assert self.built.wait(self.store.known_station("CP-1")) is None
        assert list(self.built.wait(self.store.known_stations())) == []

    def test_the_boot_state_outlives_a_restart(self) -> None:
        self.store_changes(boot(status="Pending"))
        self.store_changes(boot(status="Rejected"), boot("CP-2"))
        self.built.reopen()
        state = self.load()
        assert state.boot_status == "Rejected"
        assert json.loads(state.boot) == BOOT
        assert self.load("CP-2").boot_status == "Accepted"

    def test_open_transactions_outlive_a_restart_and_ended_ones_are_not_loaded(self) -> None:
        self.store_changes(transaction("7", "k7"), transaction("8", "k8", ended_at=200.0), transaction("9", "k9", 50.0))
        self.built.reopen()
        transactions = self.load().transactions
        assert list(transactions) == ["9", "7"], "oldest first"
        found = transactions["7"]
        assert (found.transaction_id, found.key, found.started_at, found.ended_at) == ("7", "k7", 100.0, None)
        assert found.records == {0: "content-0"}
        assert self.load("CP-2").transactions == {}

    def test_known_stations_are_those_that_booted_and_those_with_an_identity(self) -> None:
        self.store_changes(boot("CP-2"), transaction("7"))
        self.built.wait(self.store.put_identity(IDENTITY))
        rows = {row.charge_point_id: row for row in self.built.wait(self.store.known_stations())}
        assert set(rows) == {"CP-1", "CP-2"}
        assert (rows["CP-1"].station_id, rows["CP-1"].tenant_id) == ("station-1", "tenant-1")
        assert (rows["CP-1"].version, rows["CP-1"].boot_status, rows["CP-1"].boot) == (None, None, None)
        assert (rows["CP-2"].version, rows["CP-2"].boot_status, rows["CP-2"].boot) == ("1.6J", "Accepted", BOOT)

    def test_a_known_station_shows_its_open_transactions(self) -> None:
        self.store_changes(boot(), transaction("7"), transaction("8", "k8", ended_at=200.0))
        row = self.built.wait(self.store.known_station("CP-1"))
        assert row.open_transactions == {"7": 100.0}

    # --- transactions

    def test_a_new_key_gets_a_positive_int32_that_nobody_got_before(self) -> None:
        given = []
        for number in range(5):
            found = self.find(key=f"key-{number}")
            assert found.transaction is None
            given.append(found.fresh_id)
        self.built.reopen()
        given += [self.find(key="key-after").fresh_id, self.find(key="key", charge_point_id="CP-2").fresh_id]
        assert len(set(given)) == len(given), given
        assert all(0 < number < 2**31 for number in given)

    def test_a_stored_key_is_the_same_transaction(self) -> None:
        self.store_changes(transaction("7", "key"))
        for _ in range(2):
            found = self.find(key="key")
            assert (found.transaction.transaction_id, found.fresh_id) == ("7", 0)
            self.built.reopen()

    def test_keys_are_the_stations_own(self) -> None:
        self.store_changes(transaction("7", "key"))
        assert self.find(key="key", charge_point_id="CP-2").transaction is None

    def test_a_transaction_is_found_by_its_id_ended_or_not(self) -> None:
        self.store_changes(transaction("7", ended_at=200.0), transaction("orphan", "", None))
        assert self.find(name="7").transaction.ended_at == 200.0
        assert self.find(name="orphan").transaction.started_at is None
        assert self.find(name="8").transaction is None
        assert self.find(name="7", charge_point_id="CP-2").transaction is None

    def test_a_transaction_without_key_is_no_answer_to_a_key(self) -> None:
        self.store_changes(transaction("orphan", "", None))
        assert self.find(key="key").transaction is None

    def test_a_changed_transaction_replaces_the_older(self) -> None:
        self.store_changes(transaction("7"))
        self.store_changes(
            msgspec.structs.replace(transaction("7", ended_at=300.0), records={0: "content-0", -1: "stop"})
        )
        found = self.find(name="7").transaction
        assert (found.ended_at, found.records) == (300.0, {0: "content-0", -1: "stop"})

    # --- commands

    def test_a_new_command_is_stored_with_its_event(self) -> None:
        assert self.built.wait(self.store.open_command(QUEUED, event("CommandRouted"))) is None
        assert self.event_types() == ["CommandRouted"]
        self.built.reopen()
        assert self.built.wait(self.store.command("c-1")) == QUEUED
        assert self.built.wait(self.store.command("c-2")) is None

    def test_a_repeated_command_is_told_and_changes_nothing(self) -> None:
        self.built.wait(self.store.open_command(QUEUED, event("CommandRouted")))
        again = msgspec.structs.replace(QUEUED, request_payload={"type": "Hard"})
        assert self.built.wait(self.store.open_command(again, event("CommandRouted"))) == QUEUED
        assert self.built.wait(self.store.command("c-1")) == QUEUED
        assert self.event_types() == ["CommandRouted"]

    def test_only_the_first_end_counts(self) -> None:
        self.built.wait(self.store.open_command(QUEUED, event("CommandRouted")))
        assert self.built.wait(self.store.change_command(SENT, event("CommandDispatched"))) is True
        first = self.store.change_command(ACCEPTED, event("CommandAccepted"))
        second = self.store.change_command(TIMEOUT, event("CommandTimeout"))
        assert (self.built.wait(first), self.built.wait(second)) == (True, False)
        assert self.built.wait(self.store.change_command(SENT, event("CommandDispatched"))) is False
        assert self.built.wait(self.store.command("c-1")) == ACCEPTED
        assert self.event_types() == ["CommandRouted", "CommandDispatched", "CommandAccepted"]

    def test_an_end_after_a_restart_does_not_count_either(self) -> None:
        self.built.wait(self.store.open_command(QUEUED, event("CommandRouted")))
        self.built.wait(self.store.change_command(ACCEPTED, event("CommandAccepted")))
        self.built.reopen()
        assert self.built.wait(self.store.change_command(TIMEOUT, event("CommandTimeout"))) is False
        assert self.event_types() == ["CommandRouted", "CommandAccepted"]

    def test_a_command_nobody_opened_is_not_changed(self) -> None:
        assert self.built.wait(self.store.change_command(ACCEPTED, event("CommandAccepted"))) is False
        assert self.event_types() == []

    def test_open_commands_are_those_without_an_end(self) -> None:
        for name in ("c-1", "c-2", "c-3"):
            record = msgspec.structs.replace(QUEUED, command_id=name)
            self.built.wait(self.store.open_command(record, event("CommandRouted")))
        ended = msgspec.structs.replace(ACCEPTED, command_id="c-2")
        self.built.wait(self.store.change_command(ended, event("CommandAccepted")))
        self.built.wait(self.store.change_command(SENT, event("CommandDispatched")))
        self.built.reopen()
        found = {record.command_id: record.status for record in self.built.wait(self.store.open_commands())}
        assert found == {"c-1": "Sent", "c-3": "Queued"}

    # --- who may send a command

    def opened(self, **members: Any) -> CommandRecord:
        record = msgspec.structs.replace(QUEUED, **members)
        assert self.built.wait(self.store.open_command(record, event("CommandRouted"))) is None
        return record

    def take(self, record: CommandRecord, held_by: str | None = None) -> bool:
        taken: bool = self.built.wait(self.store.take_command(record, held_by))
        return taken

    def test_one_process_takes_a_command_and_may_take_it_again(self) -> None:
        record = self.opened()
        mine, yours = (msgspec.structs.replace(record, taken_by=name) for name in ("node-1/a", "node-2/b"))
        assert [self.take(mine), self.take(yours), self.take(mine)] == [True, False, True]
        self.built.reopen()
        assert not self.take(yours)
        assert self.built.wait(self.store.command("c-1")) == mine
        assert self.event_types() == ["CommandRouted"]

    def test_who_holds_a_command_may_give_it_to_another(self) -> None:
        record = self.opened(taken_by="node-1/a")
        yours = msgspec.structs.replace(record, taken_by="node-2/b")
        assert not self.take(yours, held_by="node-3/c")
        assert self.take(yours, held_by="node-1/a")
        assert self.built.wait(self.store.command("c-1")) == yours

    def test_an_ended_command_is_taken_by_nobody(self) -> None:
        self.opened()
        self.built.wait(self.store.change_command(ACCEPTED, event("CommandAccepted")))
        assert not self.take(msgspec.structs.replace(QUEUED, taken_by="node-1/a"))
        assert self.built.wait(self.store.command("c-1")) == ACCEPTED

    def test_a_command_nobody_opened_is_not_taken(self) -> None:
        assert not self.take(msgspec.structs.replace(QUEUED, taken_by="node-1/a"))
        assert self.built.wait(self.store.command("c-1")) is None

    def waiting(self, charge_point_id: str = "CP-1") -> list[str]:
        found = self.built.wait(self.store.waiting_commands(charge_point_id))
        return [record.command_id for record in found]

    def test_commands_wait_for_their_station_in_the_order_they_came_in(self) -> None:
        for number, name in enumerate(("c-2", "c-1", "c-3")):
            record = self.opened(command_id=name, requested_at=f"2026-11-24T08:00:0{number}.000Z")
            assert self.waiting() == [] or name not in self.waiting()
            assert self.take(msgspec.structs.replace(record, request={"commandType": "Reset"}))
        self.built.reopen()
        assert self.waiting() == ["c-2", "c-1", "c-3"]
        assert self.waiting("CP-2") == []

    def test_a_command_waits_until_it_is_taken_or_ends(self) -> None:
        for name in ("c-1", "c-2", "c-3"):
            assert self.take(msgspec.structs.replace(self.opened(command_id=name), request={"commandType": "Reset"}))
        assert self.take(msgspec.structs.replace(QUEUED, taken_by="node-1/a"))
        ended = msgspec.structs.replace(TIMEOUT, command_id="c-3")
        assert self.built.wait(self.store.change_command(ended, event("CommandTimeout")))
        assert self.waiting() == ["c-2"]

    def test_open_commands_come_by_their_deadlines(self) -> None:
        for name, deadline in (("c-1", 30.0), ("c-2", 10.0), ("c-3", 20.0)):
            self.opened(command_id=name, deadline=1_800_000_000.0 + deadline)
        assert [record.command_id for record in self.built.wait(self.store.open_commands())] == ["c-2", "c-3", "c-1"]

    def test_an_end_that_was_published_is_not_published_again(self) -> None:
        self.opened()
        self.built.wait(self.store.change_command(ACCEPTED, event("CommandAccepted")))
        assert self.built.wait(self.store.publish_unpublished()) == 0
        assert self.event_types() == ["CommandRouted", "CommandAccepted"]

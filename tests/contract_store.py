"""What every Store and Journal has to do, whatever it is made of: mixed into the tests of each implementation.

`self.life()` gives a fresh life on the same data, with `store`, `journal`, `result(deferred)` and `publish(*values)`.
"""

from typing import Any

from ocppgw.ocpp.effects import Record, SaveBoot, SaveTransaction
from ocppgw.ports import CommandRecord
from tests.build_embedded import Waiter

IDENTITY = {"chargePointId": "CP-1", "stationId": "S-1", "tenantId": "T-1", "auth": {"type": "basic"}}
EVENT = Record("command", "CP-1", b'{"eventType":"CommandRouted"}')


def command(**members: Any) -> CommandRecord:
    return CommandRecord(
        **{"command_id": "c-1", "command_type": "Reset", "charge_point_id": "CP-1", "status": "Queued"}
        | {"requested_at": "2026-11-23T00:00:00.000Z"}
        | members
    )


def boot(status: str = "Pending") -> SaveBoot:
    return SaveBoot("CP-1", "S-1", "T-1", "1.6J", status, b'{"chargePointVendor":"V"}', 1.0)


def transaction(name: str = "7", *, key: str = "k", ended_at: float | None = None) -> SaveTransaction:
    return SaveTransaction("CP-1", "1.6J", name, key, 10.0, ended_at, {0: "content"})


class JournalContract:
    life: Any
    assertEqual: Any  # noqa: N815
    assertGreater: Any  # noqa: N815

    def test_events_come_back_in_order_with_rising_cursors(self) -> None:
        life = self.life()
        life.publish(b"1", b"2")
        life.publish(b"3")
        events = life.result(life.journal.read(0, 100))
        self.assertEqual(
            [(e.cursor, e.topic, e.key, e.value) for e in events],
            [
                (1, "station", "S-1", b"1"),
                (2, "station", "S-1", b"2"),
                (3, "station", "S-1", b"3"),
            ],
        )
        self.assertEqual(life.journal.last_cursor(), 3)

    def test_reading_starts_after_the_cursor_and_ends_at_the_limit(self) -> None:
        life = self.life()
        life.publish(b"1", b"2", b"3", b"4")
        self.assertEqual([e.cursor for e in life.result(life.journal.read(1, 2))], [2, 3])
        self.assertEqual(life.result(life.journal.read(4, 2)), [])

    def test_who_waits_is_told_in_order_once_it_is_durable(self) -> None:
        life = self.life()
        waiter = life.publish(b"1", b"2", b"3")
        self.assertEqual(waiter.told, [("durable", 1), ("durable", 2), ("durable", 3)])

    def test_listeners_hear_of_each_commit_until_they_end(self) -> None:
        life = self.life()
        heard: list[int] = []
        end = life.journal.on_durable(heard.append)
        life.publish(b"1", b"2")
        end()
        life.publish(b"3")
        self.assertEqual(heard, [2])

    def test_events_and_cursors_outlive_the_process(self) -> None:
        self.life().publish(b'{"n":1}')
        life = self.life()
        self.assertEqual(life.journal.last_cursor(), 1)
        life.publish(b'{"n":2}')
        self.assertEqual(
            [(e.cursor, e.value) for e in life.result(life.journal.read(0, 9))], [(1, b'{"n":1}'), (2, b'{"n":2}')]
        )

    def test_giving_up_refuses_who_waits_and_tells_nobody_later(self) -> None:
        life = self.life()
        waiter = Waiter()
        life.journal.append(Record("station", "S-1", b"1"), (), waiter, 5)
        life.journal.give_up("the disk hangs")
        self.assertEqual(waiter.told, [("refused", 5)])
        life.settle()
        self.assertEqual(waiter.told, [("refused", 5)])


class StoreContract:
    life: Any
    assertEqual: Any  # noqa: N815
    assertGreater: Any  # noqa: N815
    assertIsNone: Any  # noqa: N815
    assertTrue: Any  # noqa: N815

    def save(self, life: Any, *changes: Any) -> None:
        life.journal.append(Record("station", "S-1", b"{}"), changes, Waiter(), 1)
        life.settle()

    def test_an_identity_outlives_the_process(self) -> None:
        life = self.life()
        self.assertIsNone(life.result(life.store.identity("CP-1")))
        life.result(life.store.put_identity(IDENTITY))
        life = self.life()
        self.assertEqual(life.result(life.store.identity("CP-1")), IDENTITY)

    def test_epochs_grow_also_across_processes(self) -> None:
        life = self.life()
        first = life.result(life.store.claim("CP-1")).epoch
        second = life.result(life.store.claim("CP-1")).epoch
        life = self.life()
        third = life.result(life.store.claim("CP-1")).epoch
        self.assertTrue(first < second < third)

    def test_a_station_never_seen_is_fresh(self) -> None:
        life = self.life()
        state = life.result(life.store.load_station("CP-9"))
        self.assertIsNone(state.boot_status)
        self.assertEqual(state.transactions, {})

    def test_boot_state_and_open_transactions_outlive_the_process(self) -> None:
        self.save(self.life(), boot(), transaction("7"), transaction("8", key="l", ended_at=20.0))
        life = self.life()
        state = life.result(life.store.load_station("CP-1"))
        self.assertEqual(state.boot_status, "Pending")
        self.assertEqual(list(state.transactions), ["7"])
        self.assertEqual(state.transactions["7"].records, {0: "content"})

    def test_a_transaction_is_found_by_key_and_by_id_ended_or_not(self) -> None:
        self.save(self.life(), transaction("7", ended_at=20.0))
        life = self.life()
        by_key = life.result(life.store.find_transaction("CP-1", "k", ""))
        by_id = life.result(life.store.find_transaction("CP-1", "", "7"))
        self.assertEqual((by_key.transaction.transaction_id, by_id.transaction.ended_at), ("7", 20.0))
        self.assertIsNone(life.result(life.store.find_transaction("CP-2", "", "7")).transaction)

    def test_fresh_transaction_ids_are_positive_int32_and_never_repeat(self) -> None:
        ids: list[int] = []
        for _ in range(3):
            life = self.life()
            for number in range(5):
                found = life.result(life.store.find_transaction("CP-1", f"never-stored-{number}", ""))
                ids.append(found.fresh_id)
        self.assertEqual(ids, sorted(set(ids)))
        self.assertTrue(all(0 < number < 2**31 for number in ids))

    def test_a_command_id_is_taken_once(self) -> None:
        life = self.life()
        self.assertIsNone(life.result(life.store.open_command(command(), EVENT)))
        again = life.result(life.store.open_command(command(command_type="Other"), EVENT))
        self.assertEqual(again.command_type, "Reset")
        self.assertEqual(life.journal.last_cursor(), 1)

    def test_a_command_ends_once_and_only_the_first_end_is_journaled(self) -> None:
        life = self.life()
        life.result(life.store.open_command(command(), EVENT))
        ended = command(status="Accepted", outcome="Accepted")
        self.assertTrue(life.result(life.store.change_command(command(status="Sent"), EVENT)))
        self.assertTrue(life.result(life.store.change_command(ended, EVENT)))
        late = command(status="Timeout", outcome="Unknown")
        self.assertEqual(life.result(life.store.change_command(late, EVENT)), False)
        self.assertEqual(life.result(life.store.command("c-1")), ended)
        self.assertEqual(life.journal.last_cursor(), 3)

    def test_open_commands_are_found_after_a_crash(self) -> None:
        life = self.life()
        life.result(life.store.open_command(command(), EVENT))
        life.result(life.store.open_command(command(command_id="c-2"), EVENT))
        life.result(life.store.change_command(command(command_id="c-2", status="Failed", outcome="Failed"), EVENT))
        life = self.life()
        self.assertEqual([c.command_id for c in life.result(life.store.open_commands())], ["c-1"])

    def test_known_stations_are_those_provisioned_and_those_that_booted(self) -> None:
        life = self.life()
        self.save(life, boot("Accepted"), transaction("7"))
        life.result(life.store.put_identity({**IDENTITY, "chargePointId": "CP-2"}))
        rows = {row.charge_point_id: row for row in life.result(life.store.known_stations())}
        self.assertEqual(sorted(rows), ["CP-1", "CP-2"])
        self.assertEqual((rows["CP-1"].tenant_id, rows["CP-1"].open_transactions), ("T-1", {"7": 10.0}))
        self.assertEqual(life.result(life.store.known_station("CP-2")).boot_status, None)
        self.assertIsNone(life.result(life.store.known_station("CP-3")))

"""The embedded store and journal: the contracts, and what is special to SQLite."""

import json
import sqlite3
from typing import Any

from ocppgw.errors import StoreDamaged, StoreError
from ocppgw.net.embedded import schema
from ocppgw.ocpp.effects import Record
from tests.build_embedded import EmbeddedTestCase, Waiter
from tests.contract_store import JournalContract, StoreContract, boot, transaction


class SqliteJournalTests(JournalContract, EmbeddedTestCase):
    def test_what_comes_in_one_turn_is_one_commit(self) -> None:
        life = self.life()
        life.publish(*[b"x"] * 50)
        rows = life.result(life.database.read(lambda c: c.execute("SELECT first, last FROM journal").fetchall()))
        self.assertEqual(rows, [(1, 50)])

    def test_a_commit_that_fails_refuses_all_of_it_and_the_next_one_works(self) -> None:
        life = self.life()
        life.result(life.database.read(lambda c: c.execute("PRAGMA max_page_count = 1")))  # "disk is full" from now on
        waiter = Waiter()
        for token in (1, 2):
            life.journal.append(Record("station", "S-1", b"x" * 100_000), (boot(),), waiter, token)
        life.settle()  # a job that only reads is answered all the same
        self.assertEqual(waiter.told, [("refused", 1), ("refused", 2)])
        self.assertFalse(life.journal.status().healthy)
        self.assertEqual(life.journal.last_cursor(), 0)
        life.result(life.database.read(lambda c: c.execute("PRAGMA max_page_count = 1000000")))
        self.assertEqual(life.publish(b"y").told, [("durable", 1)])
        self.assertTrue(life.journal.status().healthy)
        self.assertEqual([e.value for e in life.result(life.journal.read(0, 9))], [b"y"])
        self.assertIsNone(life.result(life.store.load_station("CP-1")).boot_status)

    def test_a_waiter_that_fails_keeps_nobody_from_their_answer(self) -> None:
        class Faulty(Waiter):
            def durable(self, token: int) -> None:
                raise RuntimeError("a fault")

        life = self.life()
        good = Waiter()
        life.journal.append(Record("station", "S-1", b"1"), (), Faulty(), 1)
        life.journal.append(Record("station", "S-1", b"2"), (), good, 2)
        life.settle()
        self.assertEqual(good.told, [("durable", 2)])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_job_that_fails_fails_alone(self) -> None:
        life = self.life()
        waiter = Waiter()
        life.journal.append(Record("station", "S-1", b"1"), (), waiter, 1)
        failing = life.database.write(lambda _connection, _records: 1 // 0)
        with self.assertRaises(ZeroDivisionError):
            life.result(failing)
        self.assertEqual(waiter.told, [("durable", 1)])

    def test_waiting_is_counted_in_records_bytes_and_seconds(self) -> None:
        life = self.life(now=100.0)
        life.journal.append(Record("station", "S-1", b"12345"), (), Waiter(), 1)
        life.reactor.now = 103.0
        status = life.journal.status()
        self.assertEqual((status.waiting, status.oldest_wait_seconds), (1, 3.0))
        self.assertEqual(life.journal.backlog.waiting_bytes, 5)
        life.settle()
        self.assertEqual((life.journal.status().waiting, life.journal.backlog.waiting_bytes), (0, 0))
        self.assertEqual(life.journal.status().oldest_wait_seconds, 0.0)

    def test_old_events_are_dropped_the_newest_commit_never(self) -> None:
        life = self.life(days=1.0)
        life.publish(b"{}")
        life.publish(b"{}")
        life.reactor.now += 2 * 86_400
        life.result(life.journal.tend())
        self.assertEqual([e.cursor for e in life.result(life.journal.read(0, 9))], [2])
        self.assertEqual(life.journal.status().oldest_cursor, 2)
        life = self.life()
        life.publish(b"{}")
        self.assertEqual(life.journal.last_cursor(), 3)

    def test_beyond_its_size_the_oldest_go_first(self) -> None:
        life = self.life(size=300_000)
        for number in range(8):
            life.publish(bytes([number]) * 100_000)
        life.result(life.journal.tend())
        left = [e.cursor for e in life.result(life.journal.read(0, 99))]
        self.assertEqual(left, [8])
        self.assertLess(life.journal.status().bytes_on_disk, 300_000)


class SqliteStoreTests(StoreContract, EmbeddedTestCase):
    def test_loading_a_station_waits_for_what_was_handed_over_before(self) -> None:
        life = self.life()
        waiter = Waiter()
        life.journal.append(Record("station", "S-1", b"{}"), (boot(),), waiter, 1)
        life.result(life.store.load_station("CP-1"))
        self.assertEqual(waiter.told, [("durable", 1)])

    def test_two_handshakes_share_one_state(self) -> None:
        life = self.life()
        first = life.store.load_station("CP-1")
        second = life.store.load_station("CP-1")
        self.assertIs(life.result(first), life.result(second))

    def test_fresh_state_starts_its_ids_above_those_given_before_a_lost_disk(self) -> None:
        life = self.life()
        found = life.result(life.store.find_transaction("CP-1", "k", ""))
        self.assertGreater(found.fresh_id, 200_000_000)

    def test_recorded_calls_are_known_again_after_a_crash(self) -> None:
        payload: dict[str, Any] = {"action": "Heartbeat", "payload": {}, "messageId": "m-1"}
        event = {"eventId": "e", "eventType": "StationHeartbeat", "chargePointId": "CP-1", "payload": payload}
        self.life().publish(json.dumps(event).encode())
        life = self.life()
        self.assertIn("m-1", life.result(life.store.load_station("CP-1")).recent)

    def test_ended_commands_and_old_transactions_are_forgotten_in_time(self) -> None:
        life = self.life()
        self.save(life, transaction("7", ended_at=life.reactor.now), transaction("8", key="open"))
        life.reactor.now += 10_000.0
        life.result(life.store.tend(5_000.0))
        self.assertIsNone(life.result(life.store.find_transaction("CP-1", "", "7")).transaction)
        self.assertIsNotNone(life.result(life.store.find_transaction("CP-1", "", "8")).transaction)


class FileTests(EmbeddedTestCase):
    def test_a_folder_serves_one_process_at_a_time(self) -> None:
        self.life()
        with self.assertRaises(StoreError) as caught:
            schema.lock(self.folder)
        self.assertIn("in use by another ocppgw process", str(caught.exception))

    def test_a_file_that_is_no_database_is_named_and_left_alone(self) -> None:
        path = self.folder / schema.FILE_NAME
        path.write_bytes(b"not a database" * 1000)
        with self.assertRaises(StoreDamaged) as caught:
            schema.connect(self.folder)
        self.assertIn("restore it from a backup", str(caught.exception))
        self.assertEqual(path.read_bytes(), b"not a database" * 1000)

    def test_a_newer_layout_is_refused(self) -> None:
        connection = sqlite3.connect(self.folder / schema.FILE_NAME)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with self.assertRaises(StoreError) as caught:
            schema.connect(self.folder)
        self.assertIn("layout 99", str(caught.exception))

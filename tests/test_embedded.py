"""SQLite behind the ports: the contracts, and what is special to one file with one writing thread."""

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import StoreDamaged, StoreError
from ocppgw.net.embedded import schema, store
from ocppgw.net.embedded.database import Database
from ocppgw.net.embedded.journal import DROP_AT_ONCE, MEASURE_SECONDS, STEPS
from ocppgw.ocpp.effects import Change, Record
from ocppgw.routing.outbox import Outbox
from tests.build_embedded import DISK_FULL, Embedded, ThreadedReactor, Witness, build_embedded
from tests.contract_journal import JournalContract
from tests.contract_store import BOOT, QUEUED, StoreContract, boot, event, transaction

DAY = 86_400.0


class EmbeddedCase(SynchronousTestCase):
    def new_path(self) -> Path:
        """Where nothing is yet. Not mktemp(): under pytest that is the current directory, and nobody clears it."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name) / "state"

    def open(self, **settings: Any) -> Embedded:
        embedded = build_embedded(self.new_path(), **settings)
        self.addCleanup(embedded.close)
        return embedded

    def on_hold(self, embedded: Embedded, value: bytes = b"{}", token: int = 1) -> Any:
        """Append a record whose commit is held by the disk."""
        embedded.disk.hold()
        witness = embedded.append(value, token=token)
        embedded.reactor.advance(0)
        self.assertTrue(embedded.disk.reached.wait(10))
        return witness


class SqliteJournalTests(JournalContract, EmbeddedCase):
    def build(self) -> Embedded:
        return self.open()


class SqliteStoreTests(StoreContract, EmbeddedCase):
    def build(self) -> Embedded:
        return self.open()

    def test_epochs_of_a_station_grow_also_over_restarts(self) -> None:
        epochs = []
        for _ in range(3):
            for _ in range(2):
                claim = self.built.wait(self.built.store.claim("CP-1"))
                assert claim.charge_point_id == "CP-1"
                epochs.append(claim.epoch)
            self.built.reopen()
        assert epochs == sorted(set(epochs)), epochs


class GroupCommit(EmbeddedCase):
    def test_what_comes_in_one_turn_is_one_commit(self) -> None:
        embedded = self.open()
        before = embedded.disk.commits
        for number in range(100):
            embedded.append(b'{"n":%d}' % number)
        embedded.settle()
        self.assertEqual(embedded.disk.commits, before + 1)
        self.assertEqual(embedded.values(), [b'{"n":%d}' % number for number in range(100)])

    def test_what_comes_during_a_commit_is_the_next_one(self) -> None:
        embedded = self.open()
        told: list[Any] = []
        embedded.disk.hold()
        embedded.append(waiter=Witness(told), token=1)
        embedded.reactor.advance(0)
        self.assertTrue(embedded.disk.reached.wait(10))
        before = embedded.disk.commits
        for token in (2, 3, 4):
            embedded.append(waiter=Witness(told), token=token)
            embedded.reactor.advance(0)
        self.assertEqual(told, [])
        embedded.disk.release()
        embedded.settle()
        self.assertEqual(embedded.disk.commits, before + 2)
        self.assertEqual(told, [("durable", token) for token in (1, 2, 3, 4)])

    def test_a_query_sees_every_record_handed_over_before_it(self) -> None:
        embedded = self.open()
        embedded.append(b"{}", boot())
        state = embedded.wait(embedded.store.load_station("CP-1"))
        self.assertEqual(state.boot_status, "Accepted")

    def test_a_stop_commits_what_waits_behind_a_commit(self) -> None:
        embedded = self.open()
        first = self.on_hold(embedded, b'{"n":1}')
        second = embedded.append(b'{"n":2}', token=2)
        stored = embedded.store.open_command(QUEUED, event("CommandRouted"))
        stopped = embedded.database.stop()
        embedded.disk.release()
        embedded.wait(stopped)
        embedded.database.release()
        self.assertEqual(first.told + second.told, [("durable", 1), ("durable", 2)])
        self.assertIsNone(self.successResultOf(stored))
        embedded.is_open = False
        embedded._open()
        self.assertEqual(embedded.values()[:2], [b'{"n":1}', b'{"n":2}'])
        self.assertEqual(embedded.journal.last_cursor(), 3)

    def test_a_stopped_database_takes_no_more_jobs(self) -> None:
        embedded = self.open()
        embedded.close()
        self.failureResultOf(embedded.store.command("c-1"), StoreError)


class FailedCommit(EmbeddedCase):
    def test_the_whole_batch_is_refused_and_nothing_of_it_is_stored(self) -> None:
        embedded = self.open()
        embedded.append(b'{"n":1}')
        embedded.settle()
        embedded.disk.fault = DISK_FULL
        witness = Witness()
        embedded.append(b'{"n":2}', boot(), waiter=witness, token=2)
        embedded.append(b'{"n":3}', waiter=witness, token=3)
        refused = embedded.store.open_command(QUEUED, event("CommandRouted"))
        embedded.settle()
        self.assertEqual(witness.told, [("refused", 2, DISK_FULL), ("refused", 3, DISK_FULL)])
        self.assertIn(DISK_FULL, str(self.failureResultOf(refused, StoreError).value))
        self.assertEqual(embedded.values(), [b'{"n":1}'])
        self.assertEqual(embedded.journal.backlog.waiting, 0)

        embedded.reopen()
        self.assertIsNone(embedded.wait(embedded.store.load_station("CP-1")).boot_status)
        self.assertIsNone(embedded.wait(embedded.store.command("c-1")))

    def test_the_journal_says_why_and_is_well_again_after_the_next_commit(self) -> None:
        embedded = self.open()
        embedded.disk.fault = DISK_FULL
        embedded.append()
        embedded.settle()
        status = embedded.journal.status()
        self.assertEqual((status.healthy, status.reason), (False, DISK_FULL))
        embedded.disk.fault = ""
        again = embedded.append(b'{"n":2}')
        embedded.settle()
        self.assertEqual(again.told, [("durable", 1)])
        self.assertTrue(embedded.journal.status().healthy)
        self.assertEqual(embedded.journal.last_cursor(), 1, "no cursor was used up")

    def test_a_mended_disk_is_found_without_traffic(self) -> None:
        embedded = self.open()
        embedded.disk.fault = DISK_FULL
        embedded.wait(embedded.journal.tend())
        self.assertIn(DISK_FULL, embedded.journal.status().reason)
        embedded.disk.fault = ""
        embedded.wait(embedded.journal.tend())
        self.assertTrue(embedded.journal.status().healthy)

    def test_a_full_database_refuses_and_goes_on_when_there_is_room(self) -> None:
        embedded = self.open()

        def limit(pages: int) -> None:
            embedded.wait(
                embedded.database.read(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}"))
            )

        limit(1)  # SQLite takes the number of pages that are there
        large = b'{"n":"%b"}' % (b"x" * 100_000)
        self.assertEqual(self.told_of(embedded, large), [("refused", 1, DISK_FULL)])
        limit(1_000_000)
        self.assertEqual(self.told_of(embedded, large), [("durable", 1)])
        self.assertEqual(embedded.values(), [large])

    def told_of(self, embedded: Embedded, value: bytes) -> list[Any]:
        witness = embedded.append(value)
        embedded.settle()
        told: list[Any] = witness.told
        return told

    def test_queries_are_answered_while_nothing_can_be_written(self) -> None:
        embedded = self.open()
        embedded.append(b"{}", boot(), transaction("7"))
        embedded.settle()
        embedded.reopen()
        embedded.disk.fault = DISK_FULL
        refused = embedded.append()
        state = embedded.store.load_station("CP-1")
        found = embedded.store.find_transaction("CP-1", "", "7")
        embedded.settle()
        self.assertEqual(refused.told, [("refused", 1, DISK_FULL)])
        self.assertEqual(self.successResultOf(state).boot_status, "Accepted")
        self.assertIsNotNone(self.successResultOf(found).transaction)

    def test_a_change_that_can_not_be_stored_costs_its_batch_and_no_more(self) -> None:
        embedded = self.open()
        refused = embedded.append(b'{"n":1}', Change())
        embedded.settle()
        self.assertEqual([kind for kind, *_ in refused.told], ["refused"])
        self.assertTrue(self.flushLoggedErrors(TypeError))
        self.assertEqual(self.told_of(embedded, b'{"n":2}'), [("durable", 1)])
        self.assertEqual(embedded.values(), [b'{"n":2}'])

    def test_a_job_that_fails_of_itself_fails_alone(self) -> None:
        embedded = self.open()
        failed = embedded.database.write(lambda connection, records: 1 / 0)
        self.assertEqual(self.told_of(embedded, b"{}"), [("durable", 1)])
        self.failureResultOf(failed, ZeroDivisionError)


class SlowDisk(EmbeddedCase):
    def outbox(self, embedded: Embedded) -> Outbox:
        return Outbox(embedded.journal, embedded.metrics, 1000, 1_000_000, 10.0)

    def test_the_oldest_record_tells_how_long_the_disk_has_kept_silent(self) -> None:
        embedded = self.open()
        self.on_hold(embedded)
        embedded.reactor.advance(3)
        embedded.append()
        embedded.reactor.advance(4)
        self.assertEqual(embedded.journal.status().oldest_wait_seconds, 7.0)
        embedded.disk.release()
        embedded.settle()
        self.assertEqual(embedded.journal.status().oldest_wait_seconds, 0.0)

    def test_a_disk_that_hangs_refuses_what_waits_and_what_comes(self) -> None:
        embedded = self.open()
        outbox = self.outbox(embedded)
        held = self.on_hold(embedded)
        behind = embedded.append(token=2)
        embedded.reactor.advance(11)
        outbox.check()
        fault = "the disk has not confirmed a write for 11 s"
        self.assertEqual((outbox.fault, held.told), (fault, [("refused", 1, fault)]))
        self.assertEqual(behind.told, [("refused", 2, fault)])

        embedded.disk.release()
        embedded.settle()
        self.assertEqual((len(held.told), len(behind.told)), (1, 1), "nobody is told twice")
        outbox.check()
        self.assertEqual(outbox.fault, "")


class Retention(EmbeddedCase):
    def commits(self, embedded: Embedded, count: int, size: int = 10) -> None:
        for number in range(count):
            embedded.append(b'{"n":%d,"x":"%b"}' % (number, b"x" * size))
            embedded.settle()

    def test_events_beyond_their_age_go_and_the_newest_commit_stays(self) -> None:
        embedded = self.open(retention_days=2.0)
        self.commits(embedded, 5)
        embedded.reactor.rightNow += 1.9 * DAY
        embedded.wait(embedded.journal.tend())
        self.assertEqual(len(embedded.values()), 5)
        embedded.reactor.rightNow += 0.2 * DAY
        embedded.wait(embedded.journal.tend())
        self.assertEqual(len(embedded.values()), 1)
        self.assertEqual(embedded.journal.status().oldest_cursor, 5)

    def test_above_its_size_the_journal_drops_the_oldest(self) -> None:
        embedded = self.open(retention_bytes=2_000_000)
        self.commits(embedded, DROP_AT_ONCE + 50, 10_000)
        self.assertEqual(len(embedded.values()), DROP_AT_ONCE + 50)
        embedded.wait(embedded.journal.tend())
        kept = embedded.wait(embedded.journal.read(0, 1000))
        self.assertEqual([kept[0].cursor, kept[-1].cursor], [DROP_AT_ONCE + 1, DROP_AT_ONCE + 50])
        self.assertEqual(embedded.journal.status().oldest_cursor, DROP_AT_ONCE + 1)
        self.assertLess(embedded.journal.status().bytes_on_disk, 2_000_000)

    def test_within_its_size_nothing_is_dropped(self) -> None:
        embedded = self.open(retention_bytes=2_000_000)
        self.commits(embedded, 20, 10_000)
        embedded.wait(embedded.journal.tend())
        self.assertEqual(len(embedded.values()), 20)

    def test_cursors_go_on_after_retention_and_restart(self) -> None:
        embedded = self.open(retention_days=1.0)
        self.commits(embedded, 3)
        embedded.reactor.rightNow += 2 * DAY
        embedded.wait(embedded.journal.tend())
        embedded.reopen()
        self.assertEqual(embedded.journal.last_cursor(), 3)
        self.commits(embedded, 1)
        self.assertEqual([one.cursor for one in embedded.wait(embedded.journal.read(0, 10))], [3, 4])

    def test_ended_commands_and_transactions_are_forgotten_open_ones_never(self) -> None:
        embedded = self.open(command_ttl=100.0)
        embedded.wait(embedded.store.open_command(QUEUED, event("CommandRouted")))
        now = embedded.reactor.seconds()
        embedded.append(b"{}", transaction("7", ended_at=now), transaction("8", "k8"))
        embedded.settle()
        embedded.reactor.rightNow += 1000 * DAY
        embedded.wait(embedded.store.tend(400 * DAY))
        self.assertIsNotNone(embedded.wait(embedded.store.command("c-1")))
        self.assertIsNone(embedded.wait(embedded.store.find_transaction("CP-1", "", "7")).transaction)
        self.assertIsNotNone(embedded.wait(embedded.store.find_transaction("CP-1", "", "8")).transaction)

    def test_a_command_kept_for_redis_outlives_the_process(self) -> None:
        embedded = self.open()
        waiting = msgspec.structs.replace(QUEUED, request={"commandType": "Reset"})
        embedded.wait(embedded.store.keep_command(waiting))
        embedded.wait(embedded.store.open_command(msgspec.structs.replace(QUEUED, command_id="c-2"), event("x")))
        embedded.reopen()
        self.assertEqual(embedded.wait(embedded.store.kept_commands()), [waiting])
        embedded.wait(embedded.store.forget_commands(["c-1"]))
        self.assertEqual(embedded.wait(embedded.store.kept_commands()), [])


class Unshipped(EmbeddedCase):
    """From the first `set_shipped` on, retention keeps what is not shipped, and refuses more when that is too much."""

    BOUND = 200_000

    def small(self, **settings: Any) -> Embedded:
        return self.open(retention_bytes=self.BOUND, **settings)

    def commits(self, embedded: Embedded, count: int, size: int = 10_000) -> None:
        for _ in range(count):
            embedded.append(b'{"x":"%b"}' % (b"x" * size))
            embedded.settle()

    def ship(self, embedded: Embedded, cursor: int) -> None:
        embedded.wait(embedded.journal.set_shipped(cursor))

    def crashed(self, embedded: Embedded, **settings: Any) -> Embedded:
        """What a process finds after `kill -9` of the one before: the files as they are."""
        copy = self.new_path()
        shutil.copytree(embedded.folder, copy)
        found = build_embedded(copy, **settings)
        self.addCleanup(found.close)
        return found

    def outbox(self, embedded: Embedded) -> Outbox:
        return Outbox(embedded.journal, embedded.metrics, 1000, 1_000_000, 10.0)

    def published(self, outbox: Outbox, embedded: Embedded) -> list[Any]:
        witness = Witness()
        outbox.publish(Record("station", "station-1", b"{}"), (), witness, 1)
        embedded.settle()
        return witness.told

    def test_their_age_drops_none_of_them(self) -> None:
        embedded = self.open(retention_days=1.0)
        self.ship(embedded, 0)
        self.commits(embedded, 5)
        self.ship(embedded, 2)
        embedded.reactor.rightNow += 100 * DAY
        embedded.wait(embedded.journal.tend())
        kept = embedded.wait(embedded.journal.read(0, 100))
        self.assertEqual([event.cursor for event in kept], [3, 4, 5])
        self.assertEqual(embedded.journal.status().oldest_cursor, 3)

    def test_where_kafka_was_switched_off_retention_alone_decides_again(self) -> None:
        embedded = self.small()
        self.assertEqual(embedded.wait(embedded.journal.forget_shipped()), 0)
        self.commits(embedded, 3)
        self.ship(embedded, 1)
        embedded.reopen()
        self.assertEqual(embedded.wait(embedded.journal.forget_shipped()), 2)
        embedded.reopen()
        self.assertEqual((embedded.journal.shipped(), embedded.wait(embedded.journal.forget_shipped())), (0, 0))

    def test_a_commit_is_kept_while_a_part_of_it_is_not_shipped(self) -> None:
        embedded = self.open(retention_days=1.0)
        for number in range(3):
            embedded.append(b'{"n":%d}' % number)
        embedded.settle()
        self.commits(embedded, 1)
        self.ship(embedded, 2)
        embedded.reactor.rightNow += 100 * DAY
        embedded.wait(embedded.journal.tend())
        self.assertEqual(len(embedded.values()), 4)

    def test_their_size_drops_none_of_them_and_the_journal_is_full(self) -> None:
        embedded = self.small()
        self.ship(embedded, 0)
        self.commits(embedded, 25)
        embedded.wait(embedded.journal.tend())
        status = embedded.journal.status()
        self.assertEqual(len(embedded.values()), 25)
        self.assertEqual((status.healthy, status.is_full, status.oldest_cursor), (False, True, 1))
        self.assertRegex(status.reason, r"Kafka has yet to take 2\d{5} bytes .*journal.retention_bytes is 200000")
        self.assertIn(b'ocppgw_notes_total{kind="journal-full"} 1.0', embedded.metrics.exposition())

    def test_what_is_shipped_makes_room_and_is_dropped_beyond_the_size(self) -> None:
        embedded = self.small()
        self.ship(embedded, 0)
        self.commits(embedded, 25)
        embedded.wait(embedded.journal.tend())
        self.ship(embedded, 10)
        self.assertEqual(embedded.journal.status().reason, "")
        embedded.wait(embedded.journal.tend())
        kept = embedded.wait(embedded.journal.read(0, 100))
        self.assertEqual([event.cursor for event in kept], list(range(11, 26)))

    def test_shipped_events_do_not_make_it_full(self) -> None:
        embedded = self.small()
        self.commits(embedded, 25)
        self.ship(embedded, 25)
        self.assertFalse(embedded.journal.status().is_full)

    def test_without_a_bus_it_is_never_full(self) -> None:
        embedded = self.small()
        self.commits(embedded, 25)
        embedded.wait(embedded.journal.tend())
        self.assertEqual((embedded.journal.status().is_full, len(embedded.values())), (False, 1))

    def test_it_is_found_full_while_events_come(self) -> None:
        """Not only by the upkeep, which may come too late under load."""
        embedded = self.small()
        self.ship(embedded, 0)
        self.commits(embedded, 25)
        self.assertFalse(embedded.journal.status().is_full)
        embedded.reactor.advance(MEASURE_SECONDS)
        self.commits(embedded, 1)
        embedded.settle()
        self.assertTrue(embedded.journal.status().is_full)

    def test_above_its_size_it_drops_while_events_come(self) -> None:
        embedded = self.small()
        self.commits(embedded, 25)
        embedded.reactor.advance(MEASURE_SECONDS)
        self.commits(embedded, 1)
        embedded.settle()
        embedded.settle()
        self.assertEqual(len(embedded.values()), 1)

    def test_the_outbox_refuses_until_enough_is_shipped(self) -> None:
        embedded = self.small()
        outbox = self.outbox(embedded)
        self.ship(embedded, 0)
        self.commits(embedded, 25)
        embedded.wait(embedded.journal.tend())
        outbox.check()
        self.assertEqual(self.published(outbox, embedded), [("refused", 1, outbox.fault)])
        self.assertIn("Kafka", outbox.fault)
        self.assertEqual(embedded.journal.last_cursor(), 25)

        self.ship(embedded, 25)
        outbox.check()
        self.assertEqual((outbox.fault, self.published(outbox, embedded)), ("", [("durable", 1)]))
        self.assertEqual(embedded.journal.last_cursor(), 26)

    def test_a_restart_finds_it_as_full_as_it_was(self) -> None:
        embedded = self.small()
        self.ship(embedded, 0)
        self.commits(embedded, 30)
        self.ship(embedded, 5)
        crashed = self.crashed(embedded, retention_bytes=self.BOUND)
        self.assertEqual((crashed.journal.shipped(), crashed.journal.status().is_full), (5, True))
        crashed.reactor.rightNow += 1000 * DAY
        crashed.wait(crashed.journal.tend())
        self.assertEqual(crashed.wait(crashed.journal.read(0, 100))[0].cursor, 6)
        self.ship(crashed, 20)
        self.assertFalse(crashed.journal.status().is_full)

    def test_a_crash_keeps_a_cursor_that_was_stored(self) -> None:
        embedded = self.open()
        self.commits(embedded, 3)
        self.ship(embedded, 2)
        self.assertEqual(self.crashed(embedded).journal.shipped(), 2)

    def test_what_is_counted_is_what_is_there(self) -> None:
        """Counting goes on from where it was; it must agree with counting anew, whatever was shipped in between."""
        embedded = self.open(retention_bytes=1)
        self.ship(embedded, 0)
        for shipped in (0, 3, 3, 700, 1500, 2200, 3100, 3500):
            for number in range(500):
                embedded.append(b'{"n":%d}' % number)
            embedded.settle()
            self.ship(embedded, shipped)
            counted = embedded.journal.status().reason
            afresh = self.crashed(embedded, retention_bytes=1).journal.status().reason
            self.assertEqual(counted, afresh)
            self.assertIn("Kafka has yet to take", counted)

    def test_small_commits_are_counted_together_and_none_twice(self) -> None:
        bound = 100_000
        embedded = self.open(retention_bytes=bound)
        self.ship(embedded, 0)
        for shipped in (0, 0, 100, 499, 500):
            for _ in range(400):
                embedded.append(b"{}")
                embedded.settle()
            self.ship(embedded, shipped)
        self.commits(embedded, 15)
        self.ship(embedded, 501)

        def size(connection: Any) -> int:
            found: int = connection.execute("SELECT sum(length(body)) FROM journal WHERE last > 501").fetchone()[0]
            return found

        reason = embedded.journal.status().reason
        counted = int(reason.removeprefix("Kafka has yet to take ").split()[0])
        self.assertLess(abs(counted - embedded.wait(embedded.database.read(size))), bound // STEPS)


class Numbers(EmbeddedCase):
    def test_a_failed_commit_gives_no_transaction_id_away(self) -> None:
        embedded = self.open()
        given = []
        for number in range(6):
            embedded.disk.fault = DISK_FULL if number % 2 else ""
            asked = embedded.store.find_transaction("CP-1", f"key-{number}", "")
            embedded.settle()
            if number % 2:
                self.failureResultOf(asked, StoreError)
            else:
                given.append(self.successResultOf(asked).fresh_id)
        self.assertEqual(len(set(given)), 3)

    def test_a_fresh_folder_starts_its_ids_above_those_given_before_a_lost_disk(self) -> None:
        embedded = self.open()
        found = embedded.wait(embedded.store.find_transaction("CP-1", "key", ""))
        self.assertGreater(found.fresh_id, 200_000_000)

    def test_the_last_id_is_the_end_and_not_a_negative_number(self) -> None:
        embedded = self.open()
        embedded.wait(embedded.store.find_transaction("CP-1", "first", ""))

        def use_up(connection: Any, _records: Any) -> None:
            connection.execute(
                "UPDATE meta SET value = ? WHERE name = 'transaction_ids'", (store.MAX_TRANSACTION_ID - 1,)
            )

        embedded.wait(embedded.database.write(use_up))
        last = embedded.wait(embedded.store.find_transaction("CP-1", "last", ""))
        self.assertEqual(last.fresh_id, 2**31 - 1)
        with self.assertRaisesRegex(StoreError, "used up"):
            embedded.wait(embedded.store.find_transaction("CP-1", "one more", ""))

    def test_two_connections_of_a_station_share_its_state(self) -> None:
        embedded = self.open()
        first = embedded.store.load_station("CP-1")
        second = embedded.store.load_station("CP-1")
        state = embedded.wait(first)
        self.assertIs(embedded.wait(second), state)
        self.assertIs(embedded.wait(embedded.store.load_station("CP-1")), state)


class Opening(EmbeddedCase):
    def damaged(self, change: Any) -> StoreDamaged:
        """Write some events, let `change` at the file's bytes, open it again; the file must stay as it is then."""
        embedded = self.open()
        for _ in range(20):
            embedded.append(b'{"x":"%b"}' % (b"x" * 5000))
            embedded.settle()
        embedded.close()
        path = embedded.folder / schema.FILE_NAME
        path.write_bytes(change(path.read_bytes()))
        before = path.read_bytes()
        with self.assertRaises(StoreDamaged) as raised:
            Database(embedded.folder, ThreadedReactor())
        self.assertEqual(path.read_bytes(), before)
        self.assertIn(str(path), str(raised.exception))
        self.assertIn("restore it from a backup", raised.exception.hint)
        fault: StoreDamaged = raised.exception
        return fault

    def test_a_truncated_file_is_damaged(self) -> None:
        self.damaged(lambda whole: whole[: len(whole) // 2])

    def test_a_file_overwritten_in_the_middle_is_damaged(self) -> None:
        self.damaged(lambda whole: whole[:9000] + b"\xa5" * 20_000 + whole[29_000:])

    def test_something_else_is_no_database(self) -> None:
        fault = self.damaged(lambda whole: b"not a database at all. " * 1000)
        self.assertEqual(fault.code, "StoreDamaged")

    def test_a_failed_opening_lets_go_of_the_folder(self) -> None:
        folder = self.new_path()
        folder.mkdir()
        path = folder / schema.FILE_NAME
        path.write_bytes(b"not a database at all. " * 1000)
        with self.assertRaises(StoreDamaged):
            Database(folder, ThreadedReactor())
        path.unlink()
        build_embedded(folder).close()

    def test_a_newer_layout_is_refused_and_left_alone(self) -> None:
        embedded = self.open()
        embedded.close()
        path = embedded.folder / schema.FILE_NAME
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {schema.USER_VERSION + 1}")
        connection.close()
        before = path.read_bytes()
        with self.assertRaisesRegex(
            StoreError, f"layout {schema.USER_VERSION + 1}, this release knows {schema.USER_VERSION}"
        ):
            Database(embedded.folder, ThreadedReactor())
        self.assertEqual(path.read_bytes(), before)

    def test_a_folder_in_use_is_refused(self) -> None:
        embedded = self.open()
        with self.assertRaisesRegex(StoreError, "in use by another ocppgw process"):
            Database(embedded.folder, ThreadedReactor())
        embedded.reopen()

    def test_a_folder_that_can_not_be_made_is_named(self) -> None:
        path = self.new_path()
        path.write_text("in the way")
        with self.assertRaisesRegex(StoreError, "can't be used: .*OCPPGW_STATE_DIR"):
            Database(path, ThreadedReactor())

    def test_nobody_else_may_read_the_files(self) -> None:
        embedded = self.open()
        embedded.append()
        embedded.settle()
        modes = {path.name: os.stat(path).st_mode & 0o077 for path in embedded.folder.iterdir()}
        self.assertIn(schema.FILE_NAME, modes)
        self.assertEqual(set(modes.values()), {0}, modes)


class Tail(EmbeddedCase):
    """What only the journal knows after a crash."""

    def journaled(self, embedded: Embedded, message_id: str, action: str, payload: bytes, **more: Any) -> None:
        members = b"".join(b',"%b":"%b"' % (name.encode(), value.encode()) for name, value in more.items())
        embedded.append(
            b'{"eventId":"e-%b","chargePointId":"CP-1"%b,"payload":{"action":"%b","payload":%b,"messageId":"%b"}}'
            % (message_id.encode(), members, action.encode(), payload, message_id.encode())
        )
        embedded.settle()

    def test_recent_calls_are_known_again(self) -> None:
        embedded = self.open()
        self.journaled(embedded, "m-1", "Heartbeat", b"{}")
        embedded.append(b"{}", boot())
        embedded.reopen()
        state = embedded.wait(embedded.store.load_station("CP-1"))
        self.assertEqual(list(state.recent), ["m-1"])
        self.assertEqual(state.boot_status, "Accepted", "and what the tables hold is added")

    def test_commands_are_no_calls_of_the_station(self) -> None:
        embedded = self.open()
        self.journaled(embedded, "m-1", "Reset", b"{}", correlationId="c-1")
        embedded.reopen()
        self.assertEqual(embedded.wait(embedded.store.load_station("CP-1")).recent, {})

    def test_an_updated_transaction_joins_its_row(self) -> None:
        embedded = self.open()
        embedded.append(b"{}", transaction("7"), transaction("8", "k8", ended_at=200.0))
        for name, number in (("7", 3), ("8", 4), ("9", 5)):
            payload = b'{"transactionInfo":{"transactionId":"%b"},"seqNo":%d}' % (name.encode(), number)
            self.journaled(embedded, f"m-{name}", "TransactionEvent", payload)
        embedded.reopen()
        transactions = embedded.wait(embedded.store.load_station("CP-1")).transactions
        self.assertEqual(transactions["7"].records, {0: "content-0", 3: "e-m-7"})
        self.assertEqual((transactions["8"].records, transactions["8"].ended_at), ({0: "content-0", 4: "e-m-8"}, 200.0))
        self.assertEqual((transactions["9"].records, transactions["9"].started_at), ({5: "e-m-9"}, None))

    def test_what_is_old_is_left_to_the_tables(self) -> None:
        embedded = self.open()
        self.journaled(embedded, "m-1", "Heartbeat", b"{}")
        old = store.TAIL_SECONDS + 60

        def age(connection: Any, _records: Any) -> None:
            connection.execute("UPDATE journal SET at = at - ?", (old,))

        embedded.wait(embedded.database.write(age))
        embedded.reopen()
        self.assertEqual(embedded.wait(embedded.store.load_station("CP-1")).recent, {})

    def test_the_boot_payload_is_kept_as_it_came(self) -> None:
        embedded = self.open()
        embedded.append(b"{}", boot())
        embedded.reopen()
        self.assertEqual(embedded.wait(embedded.store.known_station("CP-1")).boot, BOOT)

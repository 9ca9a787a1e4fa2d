"""The outbox: bounded, watched, refusing loudly."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import Record
from ocppgw.ports import JournalStatus
from ocppgw.routing.outbox import Outbox
from tests.build_embedded import Witness

RECORD = Record("station", "S-1", b"12345")
TOO_MANY = "too many records wait for the disk"
WELL = JournalStatus(True, "", 0, 0.0, 0, 0, 0)


class FakeJournal:
    def __init__(self) -> None:
        self.waiting = self.waiting_bytes = 0
        self.backlog = self
        self.appended: list[Record] = []
        self.given_up: list[str] = []
        self.state = WELL

    def append(self, record: Record, _changes: Any, _waiter: Any, _token: int) -> None:
        self.appended.append(record)
        self.waiting += 1
        self.waiting_bytes += len(record.value)

    def give_up(self, reason: str) -> None:
        self.given_up.append(reason)

    def status(self) -> JournalStatus:
        return self.state


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.journal = FakeJournal()
        self.metrics = Metrics({}, "test")
        self.waiter = Witness()

    def outbox(self, records: int = 3, size: int = 1000) -> Outbox:
        return Outbox(self.journal, self.metrics, records, size, timeout=10.0)  # type: ignore[arg-type]

    def publish(self, outbox: Outbox, count: int) -> None:
        for token in range(1, count + 1):
            outbox.publish(RECORD, (), self.waiter, token)

    def test_beyond_its_bound_the_newest_is_refused_and_counted(self) -> None:
        self.publish(self.outbox(records=3), 5)
        self.assertEqual(len(self.journal.appended), 3)
        self.assertEqual(self.waiter.told, [("refused", token, TOO_MANY) for token in (4, 5)])
        self.assertIn(b'ocppgw_notes_total{kind="record-refused"} 2.0', self.metrics.exposition())

    def test_bytes_are_bounded_too(self) -> None:
        self.publish(self.outbox(size=10), 3)
        self.assertEqual(self.waiter.told, [("refused", 3, TOO_MANY)])

    def test_a_disk_that_hangs_refuses_who_waits_and_who_comes(self) -> None:
        outbox = self.outbox()
        self.journal.state = msgspec.structs.replace(WELL, oldest_wait_seconds=11.0, waiting=1)
        outbox.check()
        self.assertEqual(len(self.journal.given_up), 1)
        self.publish(outbox, 1)
        self.assertEqual((self.waiter.told, self.journal.appended), ([("refused", 1, outbox.fault)], []))
        self.assertIn("11 s", outbox.fault)

    def test_a_disk_that_comes_back_is_used_again(self) -> None:
        outbox = self.outbox()
        self.journal.state = msgspec.structs.replace(WELL, oldest_wait_seconds=11.0, waiting=1)
        outbox.check()
        self.journal.state = WELL
        outbox.check()
        self.publish(outbox, 1)
        self.assertEqual((outbox.fault, self.waiter.told, len(self.journal.appended)), ("", [], 1))

    def test_a_journal_full_of_unshipped_events_refuses_until_it_is_not(self) -> None:
        outbox = self.outbox()
        reason = "Kafka has yet to take 7 bytes of events"
        self.journal.state = msgspec.structs.replace(WELL, healthy=False, reason=reason, is_full=True)
        outbox.check()
        self.publish(outbox, 1)
        self.assertEqual((self.waiter.told, self.journal.appended), ([("refused", 1, reason)], []))
        self.assertEqual(self.journal.given_up, [], "what is on its way may still become durable")
        self.journal.state = WELL
        outbox.check()
        self.publish(outbox, 1)
        self.assertEqual((outbox.fault, len(self.journal.appended)), ("", 1))

    def test_a_journal_that_failed_once_is_still_tried(self) -> None:
        outbox = self.outbox()
        self.journal.state = msgspec.structs.replace(WELL, healthy=False, reason="database or disk is full")
        outbox.check()
        self.publish(outbox, 1)
        self.assertEqual((outbox.fault, len(self.journal.appended)), ("", 1))

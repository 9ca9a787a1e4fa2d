"""The relay between a real journal and a bus that a test commands: all of it, in order, once it is durable."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError
from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import Outgoing
from ocppgw.routing import relay
from ocppgw.routing.relay import LONGEST_PAUSE, MAX_BYTES, MAX_RECORDS, SAVE_SECONDS, STOP_SECONDS, Relay
from tests.build_embedded import DISK_FULL, Embedded, Witness, build_embedded

TOPICS = {
    "station": "ocpp.station.events",
    "session": "ocpp.session.events",
    "command": "ocpp.command.events",
    "audit": "cpms.audit.events",
    "dead": "cpms.command.dead_letters",
}


class FakeBus:
    """`taken`: what is in Kafka. `fault`: it is away. `held`: it does not answer until `answer`. `takes`: how many
    records of a batch get there although it fails. `largest`: bytes of a record, above which it is refused."""

    def __init__(self) -> None:
        self.taken: list[Outgoing] = []
        self.batches: list[int] = []  # records in each call
        self.fault: Exception | None = None
        self.takes = 0
        self.largest: dict[str, int] = {}
        self.missing = ""  # a topic
        self.held = False
        self.open: Deferred[None] | None = None
        self._records: Sequence[Outgoing] = ()

    def ship(self, records: Sequence[Outgoing]) -> "Deferred[None]":
        assert self.open is None, "a batch is out already"
        self.batches.append(len(records))
        self._records = records
        if self.held:
            self.open = Deferred()
            return self.open
        fault = self.fault or self._absent(records) or self._too_large(records)
        self.taken += records if fault is None else records[: self.takes]
        return succeed(None) if fault is None else fail(fault)

    def _absent(self, records: Sequence[Outgoing]) -> BusError | None:
        if all(record.topic != self.missing for record in records):
            return None
        fault = BusError(f"Kafka has no topic {self.missing}", code="TopicAbsent")
        fault.topic = self.missing  # type: ignore[attr-defined]
        return fault

    def _too_large(self, records: Sequence[Outgoing]) -> BusError | None:
        for index, record in enumerate(records):
            if len(record.value) > self.largest.get(record.topic, 10**9):
                return refusal(index)
        return None

    def answer(self, fault: Exception | None = None) -> None:
        out, self.open = self.open, None
        assert out is not None
        if fault is None:
            self.taken += self._records
            out.callback(None)
        else:
            out.errback(fault)


def refusal(index: int) -> BusError:
    fault = BusError("the record is too large", hint="raise max.message.bytes", code="RecordTooLarge")
    fault.index = index  # type: ignore[attr-defined]
    return fault


class RelayCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(relay, "DAWDLE_SECONDS", 0.0)  # see Dawdling
        self.bus = FakeBus()
        self.embedded = self.open()
        self.relay = self.start()

    def new_folder(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name) / "state"

    def open(self, folder: Path | None = None, **settings: Any) -> Embedded:
        embedded = build_embedded(folder or self.new_folder(), **settings)
        self.addCleanup(embedded.close)
        return embedded

    def start(self, embedded: Embedded | None = None, bus: FakeBus | None = None) -> Relay:
        embedded = embedded or self.embedded
        relay = Relay(
            embedded.journal,
            bus or self.bus,  # type: ignore[arg-type]
            TOPICS,
            embedded.metrics,
            embedded.reactor,
        )
        relay.start()
        return relay

    def append(self, *values: Any, kind: str = "station", key: str = "station-1") -> None:
        """One commit."""
        now = rfc3339(self.embedded.reactor.seconds()).decode()
        for value in values:
            event = json.dumps({"n": value, "occurredAt": now}).encode()
            self.embedded.journal.append(Record(kind, key, event), (), Witness(), 1)
        self.embedded.settle()

    def until(self, done: Callable[[], bool]) -> None:
        self.embedded.reactor.run_until(done)

    def until_shipped(self) -> None:
        self.until(lambda: self.relay.lag()[0] == 0)

    def until_out(self, calls: int) -> None:
        """That many batches were handed to the bus."""
        self.until(lambda: len(self.bus.batches) >= calls)

    def pass_time(self, seconds: float) -> None:
        """What is due on the way has its turn."""
        for _ in range(round(seconds * 10)):
            self.embedded.reactor.advance(0.1)
        self.embedded.reactor.advance(0.001)  # what the additions before have lost
        self.embedded.settle()

    def numbers(self, bus: FakeBus | None = None) -> list[Any]:
        return [json.loads(record.value).get("n") for record in (bus or self.bus).taken]

    def metric(self, name: str) -> float:
        lines = self.embedded.metrics.exposition().decode().splitlines()
        return float(next(line.rsplit(" ", 1)[1] for line in lines if line.startswith(name)))


class Shipping(RelayCase):
    def test_events_are_shipped_in_order_under_their_topics_names(self) -> None:
        self.append(1, 2)
        self.append(3, kind="session", key="station-2")
        self.until_shipped()
        self.assertEqual(
            [(record.topic, record.key, json.loads(record.value)["n"]) for record in self.bus.taken],
            [
                ("ocpp.station.events", "station-1", 1),
                ("ocpp.station.events", "station-1", 2),
                ("ocpp.session.events", "station-2", 3),
            ],
        )
        self.assertEqual(self.metric('ocppgw_relay_shipped_total{topic="ocpp.station.events"}'), 2)
        self.assertEqual(self.metric('ocppgw_relay_shipped_total{topic="ocpp.session.events"}'), 1)

    def test_nothing_is_shipped_before_it_is_durable(self) -> None:
        self.embedded.disk.hold()
        self.embedded.append(b"{}")
        self.embedded.reactor.advance(0)
        self.assertTrue(self.embedded.disk.reached.wait(10))
        self.embedded.reactor.advance(10)
        self.assertEqual(self.bus.batches, [])
        self.embedded.disk.release()
        self.until_out(1)

    def test_one_batch_is_out_at_a_time_and_the_next_has_all_that_came_meanwhile(self) -> None:
        self.bus.held = True
        self.append(1)
        self.until_out(1)
        for number in range(2, 7):
            self.append(number)
        self.assertEqual(self.bus.batches, [1])
        self.bus.answer()
        self.until_out(2)
        self.assertEqual(self.bus.batches, [1, 5])
        self.bus.answer()
        self.assertEqual(self.numbers(), [1, 2, 3, 4, 5, 6])

    def test_a_batch_has_a_bounded_number_of_records(self) -> None:
        self.append(*range(2 * MAX_RECORDS + 5))
        self.until_shipped()
        self.assertEqual(self.bus.batches, [MAX_RECORDS, MAX_RECORDS, 5])
        self.assertEqual(self.numbers(), list(range(2 * MAX_RECORDS + 5)))

    def test_a_batch_has_a_bounded_size(self) -> None:
        quarter = "x" * (MAX_BYTES // 4 - 100)
        self.append(*[quarter] * 9)
        self.until_shipped()
        self.assertEqual(self.bus.batches, [4, 4, 1])

    def test_a_record_larger_than_a_batch_goes_alone(self) -> None:
        self.append(1, "x" * (MAX_BYTES + 1), 2, 3)
        self.until_shipped()
        self.assertEqual(self.bus.batches, [1, 1, 2])

    def test_the_past_of_a_journal_is_shipped_too(self) -> None:
        folder = self.new_folder()
        self.embedded = self.open(folder)
        self.append(1, 2, 3)
        self.embedded.reopen()
        self.relay = self.start()
        self.until_shipped()
        self.assertEqual(self.numbers(), [1, 2, 3])

    def test_a_kind_of_event_without_a_topic_becomes_a_dead_letter(self) -> None:
        self.append(1, kind="of-a-later-release")
        self.append(2)
        self.until_shipped()
        letter = json.loads(self.bus.taken[0].value)
        self.assertEqual(self.bus.taken[0].topic, TOPICS["dead"])
        self.assertEqual((letter["topic"], letter["cursor"]), ("of-a-later-release", 1))
        self.assertEqual(json.loads(letter["record"])["n"], 1)
        self.assertEqual(self.numbers()[1:], [2])


class Outages(RelayCase):
    def test_it_is_tried_again_for_ever_with_growing_pauses(self) -> None:
        self.bus.fault = BusError("no broker answers")
        self.append(1)
        self.until_out(1)
        tried_at, start = [], self.embedded.reactor.seconds()
        for _ in range(400):
            before = len(self.bus.batches)
            self.embedded.reactor.advance(0.05)
            if len(self.bus.batches) > before:
                tried_at.append(self.embedded.reactor.seconds() - start)
        pauses = [round(b - a, 1) for a, b in zip([0.0, *tried_at], tried_at, strict=False)]
        self.assertEqual(pauses[:7], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE])
        self.assertEqual(set(pauses[7:]), {LONGEST_PAUSE} if pauses[7:] else set())
        self.assertEqual(self.metric("ocppgw_relay_failures_total"), len(tried_at) + 1)

    def test_events_that_come_do_not_shorten_the_pause(self) -> None:
        self.bus.fault = BusError("no broker answers")
        self.append(1)
        self.until_out(1)
        self.append(2)
        self.append(3)
        self.assertEqual(len(self.bus.batches), 1)

    def test_what_waited_is_shipped_in_order_when_it_is_back(self) -> None:
        self.bus.fault = BusError("no broker answers")
        for number in range(30):
            self.append(number)
            self.pass_time(0.5)
        self.assertEqual((self.bus.taken, self.relay.lag()[0]), ([], 30))
        self.bus.fault = None
        self.pass_time(LONGEST_PAUSE)
        self.until_shipped()
        self.assertEqual(self.numbers(), list(range(30)))

    def test_an_outage_is_told_once_at_its_begin_and_once_at_its_end(self) -> None:
        with capturedLogs() as logs:
            self.bus.fault = BusError("no broker answers")
            self.append(1, 2, 3)
            self.until_out(1)
            self.pass_time(20)
            self.bus.fault = None
            self.pass_time(LONGEST_PAUSE)
            self.until_shipped()
            self.append(4)
            self.until_shipped()
        told = [event for event in logs if event["log_namespace"] == "ocppgw.relay"]
        self.assertEqual([event["log_level"].name for event in told], ["error", "warn"])
        self.assertEqual((told[0]["waiting"], told[0]["reason"]), (3, "no broker answers"))
        self.assertEqual((told[1]["waiting"], told[1]["failures"]), (3, len(self.bus.batches) - 2))
        self.assertGreaterEqual(told[1]["seconds"], 20)

    def test_repeats_after_a_failure_are_the_same_bytes_and_keep_the_order(self) -> None:
        self.bus.fault, self.bus.takes = BusError("the connection went"), 2
        self.append(1, 2, 3)
        self.until_out(1)
        self.bus.fault = None
        self.pass_time(0.2)
        self.until_shipped()
        self.assertEqual(self.numbers(), [1, 2, 1, 2, 3])
        self.assertEqual(len({record.value for record in self.bus.taken}), 3)

    def test_pauses_start_anew_after_a_success(self) -> None:
        for round_ in range(2):
            self.bus.fault = BusError("no broker answers")
            before = len(self.bus.batches)
            self.append(round_)
            self.until_out(before + 1)
            self.bus.fault = None
            self.pass_time(0.2)
            self.until_shipped()
        self.assertEqual(self.numbers(), [0, 1])

    def test_a_fault_of_the_bus_itself_ends_nothing(self) -> None:
        self.bus.fault = ZeroDivisionError("a bug")
        self.append(1)
        self.until_out(1)
        self.bus.fault = None
        self.pass_time(0.2)
        self.until_shipped()
        self.assertEqual(self.numbers(), [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_journal_that_can_not_be_read_is_read_again(self) -> None:
        read, broken = self.embedded.journal.read, True

        def sometimes(since: int, limit: int) -> Any:
            return fail(OSError("a bad sector")) if broken else read(since, limit)

        self.patch(self.embedded.journal, "read", sometimes)
        self.append(1)
        self.pass_time(3)
        self.assertEqual((self.relay.lag()[0], self.bus.batches), (1, []))
        self.assertAlmostEqual(self.relay.lag()[1], 3, places=1)
        broken = False
        self.pass_time(LONGEST_PAUSE)
        self.until_shipped()
        self.assertEqual(self.numbers(), [1])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class Unshippable(RelayCase):
    def test_a_record_too_large_is_replaced_by_a_dead_letter_and_holds_nothing_up(self) -> None:
        self.bus.largest = {TOPICS["station"]: 5000}
        self.append(1, 2, "x" * 6000, 3)
        self.append(4)
        self.until_shipped()
        self.assertEqual(self.numbers(), [1, 2, None, 3, 4])
        put_aside = self.bus.taken[2]
        letter = json.loads(put_aside.value)
        self.assertEqual((put_aside.topic, put_aside.key), (TOPICS["dead"], "station-1"))
        self.assertEqual((letter["code"], letter["hint"]), ("RecordTooLarge", "raise max.message.bytes"))
        self.assertEqual((letter["topic"], letter["key"], letter["cursor"]), (TOPICS["station"], "station-1", 3))
        self.assertGreater(letter["bytes"], 6000)
        self.assertLess(len(put_aside.value), 2000)
        self.assertIn(letter["record"], self.embedded.values()[2].decode())
        self.assertEqual(self.metric('ocppgw_notes_total{kind="event-put-aside"}'), 1)
        self.assertEqual(self.metric("ocppgw_relay_failures_total"), 0)

    def test_several_in_a_batch_are_replaced_one_by_one(self) -> None:
        self.bus.largest = {TOPICS["station"]: 5000}
        self.append("x" * 6000, 1, "y" * 6000, "z" * 6000)
        self.until_shipped()
        self.assertEqual(self.numbers(), [None, 1, None, None])

    def test_without_room_for_the_letter_it_is_left_out_loudly(self) -> None:
        self.bus.largest = {TOPICS["station"]: 5000, TOPICS["dead"]: 10}
        with capturedLogs() as logs:
            self.append(1, "x" * 6000, 2, "y" * 6000)
            self.until_shipped()
        self.assertEqual(self.numbers(), [1, 2])
        self.assertEqual(self.metric('ocppgw_notes_total{kind="event-left-out"}'), 2)
        lost = [event["cursor"] for event in logs if "was not shipped" in event.get("log_format", "")]
        self.assertEqual(lost, [2, 4])
        self.assertEqual(len(self.embedded.values()), 4, "the journal still has them")

    def test_a_batch_of_nothing_but_left_out_records_is_done(self) -> None:
        self.bus.largest = {TOPICS["station"]: 5000, TOPICS["dead"]: 10}
        self.append("x" * 6000)
        self.until_shipped()
        self.assertEqual(self.bus.taken, [])
        self.append(1)
        self.until_shipped()
        self.assertEqual(self.numbers(), [1])

    def test_a_letter_whose_topic_is_missing_holds_no_event_up(self) -> None:
        """Also one of the gateway's own, about a command that could not be read."""
        self.bus.largest = {TOPICS["station"]: 5000}
        self.bus.missing = TOPICS["dead"]
        with capturedLogs() as logs:
            self.append(1, "x" * 6000, 2)
            self.append(7, kind="dead")
            self.append(3)
            self.until_shipped()
        self.assertEqual(self.numbers(), [1, 2, 3])
        self.assertEqual(self.metric('ocppgw_notes_total{kind="event-left-out"}'), 2)
        lost = [event["cursor"] for event in logs if "was not shipped" in event.get("log_format", "")]
        self.assertEqual(sorted(lost), [2, 4])
        self.assertEqual(len(self.embedded.values()), 5, "the journal still has them")

    def test_events_wait_for_a_topic_of_theirs_that_is_missing(self) -> None:
        self.bus.missing = TOPICS["station"]
        self.append(1)
        self.until_out(1)
        self.assertEqual(self.numbers(), [])
        self.bus.missing = ""
        self.pass_time(0.2)
        self.until_shipped()
        self.assertEqual(self.numbers(), [1])

    def test_an_index_beyond_the_batch_is_a_failure_like_others(self) -> None:
        self.bus.fault = refusal(7)
        self.append(1)
        self.until_out(1)
        self.bus.fault = None
        self.pass_time(0.2)
        self.until_shipped()
        self.assertEqual((self.numbers(), self.metric("ocppgw_relay_failures_total")), ([1], 1))


class Cursor(RelayCase):
    def crashed(self) -> Embedded:
        """What a process finds after `kill -9` of this one: the files as they are now."""
        copy = self.new_folder()
        shutil.copytree(self.embedded.folder, copy)
        return self.open(copy)

    def test_a_restart_goes_on_where_a_stop_ended(self) -> None:
        self.append(1, 2)
        self.until_shipped()
        self.embedded.wait(self.relay.stop())
        self.append(3)
        self.embedded.reopen()
        self.relay = self.start()
        self.until_shipped()
        self.assertEqual(self.numbers(), [1, 2, 3])

    def test_after_a_crash_at_most_the_last_second_is_shipped_again_byte_for_byte(self) -> None:
        self.append(1, 2)
        self.until_shipped()
        self.pass_time(SAVE_SECONDS)
        self.append(3)
        self.until_shipped()
        other = FakeBus()
        crashed = self.crashed()
        relay = self.start(crashed, other)
        crashed.reactor.run_until(lambda: relay.lag()[0] == 0)
        self.assertEqual(other.taken, self.bus.taken[2:])
        self.assertEqual(self.numbers(other), [3])

    def test_a_crash_while_a_batch_is_out_ships_it_again(self) -> None:
        self.bus.held = True
        self.append(1, 2, 3)
        self.until_out(1)
        other = FakeBus()
        crashed = self.crashed()
        relay = self.start(crashed, other)
        crashed.reactor.run_until(lambda: relay.lag()[0] == 0)
        self.bus.answer()
        self.assertEqual(other.taken, self.bus.taken)

    def test_it_is_stored_once_a_second_and_not_with_each_batch(self) -> None:
        stored: list[int] = []
        set_shipped = self.embedded.journal.set_shipped

        def counted(cursor: int) -> Any:
            stored.append(cursor)
            return set_shipped(cursor)

        self.patch(self.embedded.journal, "set_shipped", counted)
        for number in range(30):
            self.append(number)
            self.until_shipped()
            self.embedded.reactor.advance(0.1)
        self.assertEqual(len(self.bus.batches), 30)
        self.assertIn(len(stored), (2, 3))
        self.pass_time(10)
        self.assertEqual((stored[-1], len(stored)), (30, 3))
        self.assertEqual(self.embedded.journal.shipped(), 30)

    def test_a_cursor_that_can_not_be_stored_stops_nothing(self) -> None:
        self.append(1)
        self.until_shipped()
        self.embedded.disk.fault = DISK_FULL
        self.pass_time(SAVE_SECONDS)
        self.assertEqual(self.metric('ocppgw_notes_total{kind="shipped-cursor-not-stored"}'), 1)
        self.embedded.disk.fault = ""
        self.append(2)
        self.until_shipped()
        self.pass_time(SAVE_SECONDS)
        self.embedded.reopen()
        self.assertEqual(self.embedded.journal.shipped(), 2)

    def test_nothing_unshipped_is_dropped_although_the_bus_was_never_there(self) -> None:
        self.bus.fault = BusError("no broker answers")
        for number in range(5):
            self.append(number)
        self.embedded.reactor.rightNow += 1000 * 86_400.0
        self.embedded.wait(self.embedded.journal.tend())
        self.assertEqual(len(self.embedded.values()), 5)


class Stopping(RelayCase):
    def test_a_stop_ships_what_is_durable(self) -> None:
        self.bus.held = True
        self.append(1)
        self.until_out(1)
        self.append(2, 3)
        stopped = self.relay.stop()
        self.assertNoResult(stopped)
        self.bus.held = False
        self.bus.answer()
        self.embedded.wait(stopped)
        self.assertEqual(self.numbers(), [1, 2, 3])
        self.embedded.reopen()
        self.assertEqual(self.embedded.journal.shipped(), 3)

    def test_a_stop_of_an_idle_relay_is_at_once(self) -> None:
        self.append(1)
        self.until_shipped()
        self.successResultOf(self.relay.stop())
        self.append(2)
        self.pass_time(10)
        self.assertEqual(self.numbers(), [1])

    def test_a_stop_in_an_outage_is_at_once(self) -> None:
        self.bus.fault = BusError("no broker answers")
        self.append(1)
        self.until_out(1)
        self.successResultOf(self.relay.stop())

    def test_a_failure_during_a_stop_ends_it_at_once(self) -> None:
        self.bus.held = True
        self.append(1)
        self.until_out(1)
        stopped = self.relay.stop()
        self.bus.answer(BusError("no broker answers"))
        self.successResultOf(stopped)

    def test_a_bus_that_never_answers_holds_a_stop_up_for_a_bounded_time(self) -> None:
        self.bus.held = True
        self.append(1)
        self.until_out(1)
        stopped = self.relay.stop()
        self.embedded.reactor.advance(STOP_SECONDS - 0.1)
        self.assertNoResult(stopped)
        self.embedded.reactor.advance(0.1)
        self.successResultOf(stopped)
        self.embedded.close()
        self.bus.answer()  # too late for anything
        self.assertEqual(self.bus.batches, [1])

    def test_a_failure_after_the_end_of_a_stop_is_nobodys_affair(self) -> None:
        self.bus.held = True
        self.append(1)
        self.until_out(1)
        self.relay.stop()
        self.embedded.reactor.advance(STOP_SECONDS)
        self.bus.answer(BusError("closed"))
        self.assertEqual(self.metric("ocppgw_relay_failures_total"), 0)

    def test_a_relay_that_was_never_started_is_stopped_at_once(self) -> None:
        relay = Relay(self.embedded.journal, self.bus, TOPICS, self.embedded.metrics, self.embedded.reactor)  # type: ignore[arg-type]
        self.successResultOf(relay.stop())


class Lag(RelayCase):
    def test_nothing_waits_when_all_is_shipped(self) -> None:
        self.append(1, 2)
        self.until_shipped()
        self.embedded.reactor.advance(100)
        self.assertEqual(self.relay.lag(), (0, 0.0))

    def test_it_counts_what_waits_and_tells_the_age_of_the_oldest(self) -> None:
        self.bus.held = True
        self.append(1)
        self.until_out(1)
        self.embedded.reactor.advance(7)
        self.append(2, 3)
        records, seconds = self.relay.lag()
        self.assertEqual(records, 3)
        self.assertAlmostEqual(seconds, 7, places=1)
        self.assertEqual(self.metric("ocppgw_relay_lag_records"), 3)
        self.assertAlmostEqual(self.metric("ocppgw_relay_lag_seconds"), 7, places=1)

    def test_before_its_start_a_relay_knows_what_others_have_shipped(self) -> None:
        self.append(1, 2)
        self.until_shipped()
        self.embedded.wait(self.relay.stop())
        self.append(3)
        self.embedded.reopen()
        relay = Relay(self.embedded.journal, self.bus, TOPICS, self.embedded.metrics, self.embedded.reactor)  # type: ignore[arg-type]
        self.assertEqual(relay.lag()[0], 1)

    def test_events_that_retention_dropped_before_do_not_count(self) -> None:
        embedded = self.embedded = self.open(retention_days=1.0)
        for number in range(5):
            self.append(number)
        embedded.reactor.rightNow += 2 * 86_400.0
        embedded.wait(embedded.journal.tend())
        self.bus.fault = BusError("no broker answers")
        self.relay = self.start()
        self.assertEqual(self.relay.lag()[0], 1)
        self.bus.fault = None
        self.pass_time(1)
        self.until_shipped()
        self.assertEqual(self.numbers(), [4])

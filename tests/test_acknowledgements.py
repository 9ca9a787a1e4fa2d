"""Answers that wait for the bus: held until it has their events, and never longer than that is of use."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import Record
from ocppgw.routing.acknowledgements import MAX_BEHIND, MAX_HELD, Acknowledgements
from ocppgw.routing.outbox import Outbox
from tests.build_embedded import Witness
from tests.test_outbox import FakeJournal
from tests.test_relay import RelayCase

TIMEOUT = 1.0
EARLY = 'ocppgw_notes_total{kind="answered-before-kafka"}'


class FakeRelay:
    def __init__(self) -> None:
        self.cursor = 0
        self.is_failing = False
        self.hurried = 0

    def hurry(self) -> None:
        self.hurried += 1


class Broken:
    def durable(self, token: int) -> None:
        raise ZeroDivisionError

    def refused(self, token: int, reason: str) -> None: ...


class AcknowledgementsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.relay, self.clock, self.metrics, self.last = FakeRelay(), Clock(), Metrics({}, "test"), 0
        self.waiter = Witness()
        self.acknowledgements = Acknowledgements(self.relay, lambda: self.last, self.metrics, self.clock, TIMEOUT)

    def durable(self, token: int, cursor: int | None = None) -> None:
        """The journal has committed up to `cursor`."""
        self.last = token if cursor is None else cursor
        self.acknowledgements.held(self.waiter).durable(token)

    def shipped(self, cursor: int) -> None:
        self.relay.cursor = cursor
        self.acknowledgements.shipped(cursor)

    @property
    def told(self) -> list[int]:
        return [token for _word, token, *_ in self.waiter.told]

    def early(self) -> float:
        lines = self.metrics.exposition().decode().splitlines()
        return float(next((line.rsplit(" ", 1)[1] for line in lines if line.startswith(EARLY)), 0))

    def test_a_waiter_is_told_once_the_bus_has_its_event(self) -> None:
        self.durable(1)
        self.assertEqual((self.told, self.relay.hurried), ([], 1))
        self.shipped(1)
        self.assertEqual((self.told, self.early()), ([1], 0))
        self.clock.advance(10 * TIMEOUT)
        self.assertEqual((self.told, self.early()), ([1], 0))

    def test_those_of_one_commit_wait_for_all_of_it_and_are_told_in_order(self) -> None:
        for token in (1, 2, 3):
            self.durable(token, cursor=3)
        self.durable(4)
        self.shipped(2)
        self.assertEqual(self.told, [])
        self.shipped(3)
        self.assertEqual(self.told, [1, 2, 3])

    def test_a_refusal_is_passed_on_at_once(self) -> None:
        self.acknowledgements.held(self.waiter).refused(1, "the disk is full")
        self.assertEqual(self.waiter.told, [("refused", 1, "the disk is full")])

    def test_all_that_is_durable_can_be_waited_for_however_much_it_is(self) -> None:
        self.last = 10 * MAX_BEHIND
        early, late = self.acknowledgements.all_acknowledged(), self.acknowledgements.all_acknowledged()
        self.last += 1
        later = self.acknowledgements.all_acknowledged()
        self.clock.advance(10 * TIMEOUT)
        self.shipped(10 * MAX_BEHIND - 1)
        self.assertNoResult(early)
        self.shipped(10 * MAX_BEHIND)
        self.successResultOf(early)
        self.successResultOf(late)
        self.assertNoResult(later)
        self.shipped(self.last)
        self.successResultOf(later)
        self.successResultOf(self.acknowledgements.all_acknowledged())

    def test_who_waits_for_all_of_it_waits_no_longer_than_the_bus_takes_events(self) -> None:
        self.last = 7
        before = self.acknowledgements.all_acknowledged()
        self.relay.is_failing = True
        self.acknowledgements.failing()
        self.successResultOf(before)
        self.successResultOf(self.acknowledgements.all_acknowledged())

    def test_when_the_bus_takes_too_long_the_disk_is_enough(self) -> None:
        self.durable(1)
        self.clock.advance(TIMEOUT - 0.01)
        self.assertEqual(self.told, [])
        self.clock.advance(0.01)
        self.assertEqual((self.told, self.early()), ([1], 1))

    def test_each_has_its_own_time(self) -> None:
        self.durable(1)
        self.clock.advance(TIMEOUT / 2)
        self.durable(2)
        self.shipped(1)
        self.clock.advance(TIMEOUT / 2)
        self.assertEqual(self.told, [1])
        self.clock.advance(TIMEOUT / 2)
        self.assertEqual((self.told, self.early()), ([1, 2], 1))

    def test_after_one_waited_in_vain_nobody_is_held_until_the_bus_has_caught_up(self) -> None:
        self.durable(1)
        self.clock.advance(TIMEOUT / 2)
        self.durable(2)
        self.clock.advance(TIMEOUT / 2)
        self.assertEqual(self.told, [1, 2])
        self.durable(3)
        self.assertEqual(self.told, [1, 2, 3])
        self.shipped(1)
        self.durable(4)
        self.assertEqual((self.told, self.early()), ([1, 2, 3, 4], 4))
        self.shipped(4)
        self.durable(5)
        self.assertEqual(len(self.acknowledgements), 1)

    def test_while_the_relay_fails_nobody_is_held(self) -> None:
        self.durable(1)
        self.durable(2)
        self.relay.is_failing = True
        self.acknowledgements.failing()
        self.assertEqual(self.told, [1, 2])
        self.durable(3)
        self.assertEqual((self.told, self.early()), ([1, 2, 3], 3))

    def test_while_the_relay_is_far_behind_nobody_is_held(self) -> None:
        self.durable(1, cursor=MAX_BEHIND + 1)
        self.assertEqual((self.told, self.early()), ([1], 1))
        self.shipped(1)
        self.durable(2, cursor=MAX_BEHIND + 1)
        self.assertEqual(len(self.acknowledgements), 1)

    def test_those_that_wait_are_bounded(self) -> None:
        for token in range(MAX_HELD + 1):
            self.durable(token, cursor=1)
        self.assertEqual((self.told, len(self.acknowledgements)), ([MAX_HELD], MAX_HELD))

    def test_a_waiter_at_fault_keeps_nobody_else_waiting(self) -> None:
        self.last = 1
        self.acknowledgements.held(Broken()).durable(1)
        self.durable(2)
        self.shipped(2)
        self.assertEqual(self.told, [2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class OutboxWithBus(SynchronousTestCase):
    """Who publishes does not have to know whether there is a bus."""

    def setUp(self) -> None:
        self.journal = FakeJournal()
        self.outbox = Outbox(self.journal, Metrics({}, "test"), 1, 1000, timeout=10.0)  # type: ignore[arg-type]
        self.waiter = Witness()

    def publish(self, token: int) -> None:
        self.outbox.publish_acknowledged(Record("station", "S-1", b"1"), (), self.waiter, token)

    def test_without_a_bus_the_disk_is_enough(self) -> None:
        waiters = []
        self.patch(self.journal, "append", lambda _record, _changes, waiter, _token: waiters.append(waiter))
        self.publish(1)
        self.assertEqual(waiters, [self.waiter])

    def test_what_the_outbox_refuses_is_never_held(self) -> None:
        relay = FakeRelay()
        self.outbox.wait_for(Acknowledgements(relay, lambda: 0, Metrics({}, "test"), Clock(), TIMEOUT))
        self.publish(1)
        self.publish(2)
        self.assertEqual((len(self.journal.appended), [told[:2] for told in self.waiter.told]), (1, [("refused", 2)]))


class BehindTheJournal(RelayCase):
    """With a real journal and the relay that ships it."""

    def setUp(self) -> None:
        super().setUp()
        journal, metrics, reactor = self.embedded.journal, self.embedded.metrics, self.embedded.reactor
        acknowledgements = Acknowledgements(self.relay, journal.last_cursor, metrics, reactor, TIMEOUT)
        self.relay.acknowledged, self.relay.failing = acknowledgements.shipped, acknowledgements.failing
        self.outbox = Outbox(journal, metrics, 100, 10_000, timeout=10.0)
        self.outbox.wait_for(acknowledgements)
        self.waiter = Witness()

    def publish(self, *tokens: int) -> None:
        for token in tokens:
            record = Record("station", "station-1", b'{"n":%d}' % token)
            self.outbox.publish_acknowledged(record, (), self.waiter, token)

    @property
    def told(self) -> list[int]:
        return [token for _word, token, *_ in self.waiter.told]

    def test_an_answer_waits_for_the_acknowledgement(self) -> None:
        self.bus.held = True
        self.publish(1, 2)
        self.until_out(1)
        self.assertEqual((self.embedded.journal.last_cursor(), self.told), (2, []))
        self.bus.answer()
        self.assertEqual(self.told, [1, 2])

    def test_an_outage_costs_nobody_more_than_the_first_failure(self) -> None:
        self.bus.fault = ZeroDivisionError("away")
        self.publish(1)
        self.until(lambda: self.told == [1])
        self.flushLoggedErrors(ZeroDivisionError)
        before = self.embedded.reactor.seconds()
        self.publish(2, 3)
        self.until(lambda: self.told == [1, 2, 3])
        self.assertEqual(self.embedded.reactor.seconds(), before, "no time had to pass")

    def test_after_an_outage_answers_wait_again(self) -> None:
        self.bus.fault = ZeroDivisionError("away")
        self.publish(1)
        self.until(lambda: self.told == [1])
        self.flushLoggedErrors(ZeroDivisionError)
        self.bus.fault = None
        self.pass_time(0.2)
        self.until_shipped()
        self.bus.held = True
        self.publish(2)
        self.until_out(3)
        self.assertEqual(self.told, [1])
        self.bus.answer()
        self.assertEqual((self.told, self.numbers()), ([1, 2], [1, 2]))

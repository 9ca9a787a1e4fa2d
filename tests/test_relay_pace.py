"""How often the relay ships: seldom as long as nobody waits, because a batch has its cost; soon when somebody does."""

from ocppgw.routing import relay
from ocppgw.routing.relay import DAWDLE_SECONDS, HURRY_SECONDS, MAX_RECORDS
from tests.test_relay import RelayCase


class Pace(RelayCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(relay, "DAWDLE_SECONDS", DAWDLE_SECONDS)

    def advance(self, seconds: float) -> None:
        self.embedded.reactor.advance(seconds)
        self.embedded.settle()

    def first_is_shipped(self) -> None:
        self.append(1)
        self.until_out(1)

    def test_the_first_event_after_a_rest_goes_at_once(self) -> None:
        before = self.embedded.reactor.seconds()
        self.first_is_shipped()
        self.assertEqual(self.embedded.reactor.seconds(), before)

    def test_what_comes_soon_after_goes_together(self) -> None:
        self.first_is_shipped()
        for value in (2, 3, 4):
            self.append(value)
        self.assertEqual(self.bus.batches, [1])
        self.advance(DAWDLE_SECONDS)
        self.assertEqual((self.bus.batches, self.numbers()), ([1, 3], [1, 2, 3, 4]))

    def test_who_waits_cuts_the_pause_short(self) -> None:
        self.first_is_shipped()
        self.append(2)
        self.relay.hurry()
        self.assertEqual(self.bus.batches, [1])
        self.advance(HURRY_SECONDS)
        self.assertEqual(self.bus.batches, [1, 1])

    def test_who_waits_never_makes_it_longer(self) -> None:
        self.first_is_shipped()
        self.append(2)
        self.advance(DAWDLE_SECONDS - HURRY_SECONDS / 2)
        self.relay.hurry()
        self.advance(HURRY_SECONDS / 2)
        self.assertEqual(self.bus.batches, [1, 1])

    def test_who_waits_while_a_batch_is_out_has_the_next_one_soon(self) -> None:
        self.bus.held = True
        self.first_is_shipped()
        self.append(2)
        self.relay.hurry()
        self.bus.answer()
        self.advance(HURRY_SECONDS)
        self.assertEqual(self.bus.batches, [1, 1])

    def test_a_bus_that_takes_its_time_is_not_waited_for_twice(self) -> None:
        self.bus.held = True
        self.first_is_shipped()
        self.append(2)
        self.advance(DAWDLE_SECONDS)
        self.bus.answer()
        self.embedded.settle()
        self.assertEqual(self.bus.batches, [1, 1])

    def test_a_hurry_is_over_with_its_batch(self) -> None:
        self.first_is_shipped()
        self.append(2)
        self.relay.hurry()
        self.advance(HURRY_SECONDS)
        self.append(3)
        self.advance(DAWDLE_SECONDS - 0.001)
        self.assertEqual(self.bus.batches, [1, 1])
        self.advance(0.001)
        self.assertEqual(self.bus.batches, [1, 1, 1])

    def test_a_backlog_is_shipped_without_a_pause(self) -> None:
        before = self.embedded.reactor.seconds()
        self.append(*range(4 * MAX_RECORDS))
        self.until_out(4)
        self.assertEqual((self.bus.batches, self.embedded.reactor.seconds()), ([MAX_RECORDS] * 4, before))

    def test_a_stop_ends_the_pause(self) -> None:
        self.first_is_shipped()
        self.append(2)
        before = self.embedded.reactor.seconds()
        self.embedded.wait(self.relay.stop())
        self.assertEqual((self.numbers(), self.embedded.reactor.seconds()), ([1, 2], before))

    def test_a_pause_after_a_failure_is_not_cut_short(self) -> None:
        self.bus.fault = OSError("away")
        self.append(1)
        self.until_out(1)
        self.flushLoggedErrors(OSError)
        self.relay.hurry()
        self.append(2)
        self.advance(HURRY_SECONDS)
        self.assertEqual(self.bus.batches, [1])

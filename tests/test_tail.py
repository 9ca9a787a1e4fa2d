"""The newest events in memory: the same as on disk, and no more than there is room for."""

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.embedded.tail import Tail
from ocppgw.ocpp.effects import Record


def records(*numbers: int, size: int = 1) -> list[Record]:
    return [Record("station", f"key-{number}", b"x" * size) for number in numbers]


class TailCase(SynchronousTestCase):
    def read(self, tail: Tail, since: int, limit: int = 100) -> list[tuple[int, str]] | None:
        events = tail.read(since, limit)
        return None if events is None else [(event.cursor, event.key) for event in events]

    def test_an_empty_one_knows_nothing(self) -> None:
        self.assertIsNone(self.read(Tail(), 0))

    def test_it_gives_what_lies_behind_a_cursor(self) -> None:
        tail = Tail()
        tail.add(7, records(5, 6, 7))
        tail.add(8, records(8))
        tail.add(10, records(9, 10))
        everything = [(number, f"key-{number}") for number in range(5, 11)]
        for since in range(4, 11):
            self.assertEqual(self.read(tail, since), everything[since - 4 :])
            self.assertEqual(self.read(tail, since, 2), everything[since - 4 : since - 2])

    def test_it_does_not_guess_what_came_before(self) -> None:
        tail = Tail()
        tail.add(7, records(5, 6, 7))
        self.assertIsNone(self.read(tail, 3))

    def test_the_oldest_commits_go_when_there_are_too_many_events(self) -> None:
        tail = Tail(most_records=4)
        for last in (2, 4, 6):
            tail.add(last, records(last - 1, last))
        self.assertIsNone(self.read(tail, 1))
        self.assertEqual(self.read(tail, 2), [(3, "key-3"), (4, "key-4"), (5, "key-5"), (6, "key-6")])

    def test_or_too_many_bytes(self) -> None:
        tail = Tail(most_bytes=100)
        tail.add(1, records(1, size=60))
        tail.add(2, records(2, size=60))
        self.assertEqual((self.read(tail, 0), self.read(tail, 1)), (None, [(2, "key-2")]))
        tail.add(3, records(3, size=101))
        self.assertIsNone(self.read(tail, 2), "and one that is too large alone is not kept")
        tail.add(4, records(4, size=60))
        self.assertEqual(self.read(tail, 3), [(4, "key-4")])

    def test_cleared_it_begins_anew(self) -> None:
        tail = Tail()
        tail.add(1, records(1))
        tail.clear()
        self.assertIsNone(self.read(tail, 0))
        tail.add(9, records(9))
        self.assertEqual(self.read(tail, 8), [(9, "key-9")])

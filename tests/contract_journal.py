"""What every implementation of `ports.Journal` has to do, whatever it is made of."""

import abc
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ocppgw.ocpp.effects import Record
from ocppgw.ports import Journal


class Built(Protocol):
    """A journal with its surroundings, ready for use."""

    @property
    def journal(self) -> Journal: ...

    def wait(self, deferred: "Deferred[Any]") -> Any:
        """Its result; its failure is raised."""

    def settle(self) -> None:
        """Until nothing that was handed over waits any more."""

    def reopen(self) -> None:
        """Stop, and start again on the same state; `journal` is a new object then."""


class Told:
    """A waiter that keeps what it is told, in a list shared with others where their order matters."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def durable(self, token: int) -> None:
        self.told.append(("durable", token))

    def refused(self, token: int, reason: str) -> None:
        self.told.append(("refused", token, reason))


class Broken(Told):
    """A waiter that fails."""

    def durable(self, token: int) -> None:
        super().durable(token)
        raise ZeroDivisionError


def _json(value: bytes) -> bytes:
    """Values are JSON objects: a store may read them back."""
    return b'{"n":%b}' % value


def _plain(value: bytes) -> bytes:
    return value.removeprefix(b'{"n":').removesuffix(b"}")


class JournalContract(abc.ABC):
    """Mix into a `SynchronousTestCase`, and give `build()`."""

    @abc.abstractmethod
    def build(self) -> Built:
        """An empty journal; whatever it leaves running is cleaned up with the test."""

    def setUp(self) -> None:
        self.built = self.build()
        self.told: list[Any] = []

    def append(self, *values: bytes, waiter: Any = None) -> None:
        """Tokens count from 1 in each call."""
        for token, value in enumerate(values, 1):
            record = Record("station", f"key-{token}", _json(value))
            self.built.journal.append(record, (), waiter or Told(self.told), token)

    def read(self, since: int = 0, limit: int = 1000) -> list[bytes]:
        return [_plain(event.value) for event in self.built.wait(self.built.journal.read(since, limit))]

    def test_an_empty_journal_has_no_events_and_cursor_0(self) -> None:
        assert self.read() == []
        assert self.built.journal.last_cursor() == 0

    def test_each_waiter_is_told_once_and_in_order(self) -> None:
        self.append(b"1", b"2", b"3")
        assert self.told == [], "nobody is told before the disk has it"
        self.built.settle()
        assert self.told == [("durable", 1), ("durable", 2), ("durable", 3)]

    def test_what_a_waiter_was_told_of_can_be_read(self) -> None:
        self.append(b"1", b"2")
        self.built.settle()
        events = self.built.wait(self.built.journal.read(0, 10))
        assert [(event.topic, event.key, _plain(event.value)) for event in events] == [
            ("station", "key-1", b"1"),
            ("station", "key-2", b"2"),
        ]

    def test_cursors_grow_by_one_in_order_of_appending(self) -> None:
        self.append(b"1", b"2")
        self.built.settle()
        self.append(b"3")
        self.built.settle()
        events = self.built.wait(self.built.journal.read(0, 10))
        first = events[0].cursor
        assert [(event.cursor, _plain(event.value)) for event in events] == [
            (first, b"1"),
            (first + 1, b"2"),
            (first + 2, b"3"),
        ]
        assert self.built.journal.last_cursor() == first + 2

    def test_reading_starts_after_the_cursor_and_ends_at_the_limit(self) -> None:
        self.append(b"1", b"2", b"3")
        self.built.settle()
        self.append(b"4", b"5")
        self.built.settle()
        last = self.built.journal.last_cursor()
        assert self.read(last - 3) == [b"3", b"4", b"5"]
        assert self.read(last - 4, 2) == [b"2", b"3"]
        assert self.read(last - 4, 3) == [b"2", b"3", b"4"]
        assert self.read(last) == []
        assert self.read(last + 100) == []

    def test_events_and_cursors_outlive_a_restart(self) -> None:
        self.append(b"1", b"2")
        self.built.settle()
        last = self.built.journal.last_cursor()
        self.built.reopen()
        assert self.built.journal.last_cursor() == last
        self.append(b"3")
        self.built.settle()
        assert self.read() == [b"1", b"2", b"3"]
        assert self.built.journal.last_cursor() == last + 1

    def test_what_waits_at_a_stop_is_stored_first(self) -> None:
        self.append(b"1")
        self.built.reopen()
        assert self.told == [("durable", 1)]
        assert self.read() == [b"1"]

    def test_the_backlog_counts_what_is_not_durable(self) -> None:
        backlog = self.built.journal.backlog
        self.append(b"123", b"4567")
        assert (backlog.waiting, backlog.waiting_bytes) == (2, len(_json(b"123") + _json(b"4567")))
        assert self.built.journal.status().waiting == 2
        self.built.settle()
        assert (backlog.waiting, backlog.waiting_bytes) == (0, 0)

    def test_listeners_hear_of_the_newest_cursor_until_they_end_it(self) -> None:
        heard: list[int] = []
        end = self.built.journal.on_durable(heard.append)
        self.append(b"1", b"2")
        self.built.settle()
        assert heard[-1] == self.built.journal.last_cursor()
        end()
        end()  # twice is harmless
        self.append(b"3")
        self.built.settle()
        assert heard[-1] == self.built.journal.last_cursor() - 1

    def test_giving_up_refuses_each_waiter_once_and_nobody_is_told_again(self) -> None:
        self.append(b"1", b"2")
        self.built.journal.give_up("too slow")
        self.built.journal.give_up("too slow")
        assert self.told == [("refused", 1, "too slow"), ("refused", 2, "too slow")]
        self.built.settle()
        assert len(self.told) == 2
        assert self.built.journal.backlog.waiting == 0

    def test_a_record_is_taken_after_giving_up(self) -> None:
        self.append(b"1")
        self.built.journal.give_up("too slow")
        self.append(b"2")
        self.built.settle()
        assert self.told == [("refused", 1, "too slow"), ("durable", 1)]

    def test_a_waiter_that_fails_keeps_no_other_from_its_word(self) -> None:
        self.append(b"1", waiter=Broken(self.told))
        self.append(b"2")
        self.built.settle()
        assert self.told == [("durable", 1), ("durable", 1)]
        self.expect_errors(ZeroDivisionError)

    def test_nothing_is_shipped_at_first(self) -> None:
        self.append(b"1")
        self.built.settle()
        assert self.built.journal.shipped() == 0

    def test_what_was_shipped_is_known_after_a_restart(self) -> None:
        self.append(b"1", b"2", b"3")
        self.built.settle()
        last = self.built.journal.last_cursor()
        self.built.wait(self.built.journal.set_shipped(last - 1))
        assert self.built.journal.shipped() == last - 1
        self.built.reopen()
        assert self.built.journal.shipped() == last - 1
        self.built.wait(self.built.journal.set_shipped(last))
        self.built.reopen()
        assert self.built.journal.shipped() == last

    def test_what_was_shipped_stays_shipped(self) -> None:
        """A cursor from before changes nothing."""
        self.append(b"1", b"2")
        self.built.settle()
        last = self.built.journal.last_cursor()
        self.built.wait(self.built.journal.set_shipped(last))
        self.built.wait(self.built.journal.set_shipped(last - 1))
        assert self.built.journal.shipped() == last
        self.built.reopen()
        assert self.built.journal.shipped() == last

    def test_what_is_shipped_can_still_be_read(self) -> None:
        self.append(b"1", b"2")
        self.built.settle()
        self.built.wait(self.built.journal.set_shipped(self.built.journal.last_cursor()))
        assert self.read() == [b"1", b"2"]

    def test_a_cursor_handed_over_before_a_stop_is_stored(self) -> None:
        self.append(b"1")
        self.built.settle()
        last = self.built.journal.last_cursor()
        self.built.journal.set_shipped(last)
        self.built.reopen()
        assert self.built.journal.shipped() == last

    def test_status_of_a_healthy_journal(self) -> None:
        self.append(b"1")
        self.built.settle()
        status = self.built.journal.status()
        assert (status.healthy, status.reason, status.waiting) == (True, "", 0)
        assert (status.oldest_wait_seconds, status.is_full) == (0.0, False)
        assert status.last_cursor == self.built.journal.last_cursor()

    def expect_errors(self, *kinds: type[BaseException]) -> None:
        """They were logged, as they should be; each kind at least once."""
        flush: Any = self.flushLoggedErrors  # type: ignore[attr-defined]
        for kind in kinds:
            assert flush(kind), f"no {kind.__name__} was logged"

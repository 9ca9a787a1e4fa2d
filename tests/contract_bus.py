"""What every implementation of `ports.Bus` has to do, whatever it is made of."""

import abc
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from ocppgw.errors import BusError
from ocppgw.ports import Bus, Message, Outgoing

TIME_LIMIT = 30.0  # seconds for what is expected to happen
TURN_SECONDS = 0.01


class PumpedReactor(Clock):
    """A reactor that runs while a test waits for something, in real time; it takes calls from threads."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = time.monotonic()
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: A002, N802
        self._calls.put(lambda: callable(*args, **kwargs))

    def run_until(self, done: Callable[[], object], time_limit: float = TIME_LIMIT) -> float:
        """The seconds it took until `done`. AssertionError after `time_limit`."""
        begin = time.monotonic()
        while True:
            self.advance(max(0.0, time.monotonic() - self.rightNow))
            while not self._calls.empty():
                self._calls.get()()
            if done():
                return time.monotonic() - begin
            assert time.monotonic() - begin < time_limit, f"not within {time_limit} seconds"
            try:
                self._calls.get(timeout=TURN_SECONDS)()
            except queue.Empty:
                continue

    def wait(self, deferred: "Deferred[Any]", time_limit: float = TIME_LIMIT) -> Any:
        """Its result; its failure is raised."""
        results: list[Any] = []
        failures: list[Any] = []
        deferred.addCallbacks(results.append, failures.append)
        self.run_until(lambda: results or failures, time_limit)
        if failures:
            failures[0].raiseException()
        return results[0]


class Reader:
    """A `handle`: keeps what comes, and answers as the test says: at once, or with `held`, or with a failure."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Message]] = []
        self.failing = 0  # how many batches from now on are not handled
        self.held: Deferred[None] | None = None

    def __call__(self, messages: Sequence[Message]) -> "Deferred[None]":
        self.batches.append(messages)
        if self.failing:
            self.failing -= 1
            return fail(ZeroDivisionError("this batch is not handled"))
        return self.held if self.held is not None else succeed(None)

    @property
    def values(self) -> list[bytes]:
        return [message.value for batch in self.batches for message in batch]

    def hold(self) -> "Deferred[None]":
        self.held = Deferred()
        return self.held

    def release(self) -> None:
        held, self.held = self.held, None
        assert held is not None
        held.callback(None)


class Surroundings(Protocol):
    """A broker, and buses on it. What it started is stopped with the test."""

    reactor: PumpedReactor

    def bus(self) -> Bus:
        """Another one, not started."""

    def topic(self) -> str:
        """The name of a topic that nobody has used."""

    def put(self, topic: str, records: Sequence[tuple[str, bytes]]) -> None:
        """From outside."""

    def records(self, topic: str, count: int) -> list[tuple[bytes | None, bytes]]:
        """Key and value of what is in the topic: all of it, once there are `count`; in order for each key."""

    def abandon(self, bus: Bus) -> None:
        """Let it die without a stop."""

    largest: int  # bytes of key and value that the buses take


def outgoing(topic: str, *values: bytes, key: str = "CP-1") -> list[Outgoing]:
    return [Outgoing(topic, key, value) for value in values]


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%06d" % number for number in range(first, first + count)]


class BusContract(abc.ABC):
    """Mix into a `SynchronousTestCase`, and give `surroundings()`."""

    addCleanup: Callable[..., Any]  # noqa: N815
    flushLoggedErrors: Callable[..., Any]  # noqa: N815

    @abc.abstractmethod
    def surroundings(self) -> Surroundings: ...

    def setUp(self) -> None:
        self.around = self.surroundings()
        self.reactor = self.around.reactor
        self.topic = self.around.topic()
        self.reader = Reader()

    def start(self, bus: Bus) -> Bus:
        bus.start()
        self.addCleanup(lambda: self.reactor.wait(bus.stop()))
        return bus

    def producer(self) -> Bus:
        return self.start(self.around.bus())

    def consumer(self, reader: Reader, group: str = "group") -> Bus:
        bus = self.around.bus()
        bus.consume([self.topic], f"{group}-of-{self.topic}", reader)
        return self.start(bus)

    def ship(self, bus: Bus, *values: bytes, key: str = "CP-1") -> None:
        self.reactor.wait(bus.ship(outgoing(self.topic, *values, key=key)))

    def put(self, *values: bytes, key: str = "CP-1") -> None:
        self.around.put(self.topic, [(key, value) for value in values])

    def until_read(self, count: int, reader: Reader | None = None) -> None:
        wanted = reader or self.reader
        self.reactor.run_until(lambda: len(wanted.values) >= count)

    # --- shipping

    def test_what_was_shipped_is_there_in_order(self) -> None:
        bus = self.producer()
        self.ship(bus, *numbered(50))
        self.ship(bus, *numbered(50, 50))
        assert self.around.records(self.topic, 100) == [(b"CP-1", value) for value in numbered(100)]

    def test_every_key_keeps_its_order(self) -> None:
        bus = self.producer()
        mixed = [Outgoing(self.topic, f"CP-{number % 7}", value) for number, value in enumerate(numbered(210))]
        self.reactor.wait(bus.ship(mixed))
        found = self.around.records(self.topic, 210)
        for key in {record.key for record in mixed}:
            wanted = [record.value for record in mixed if record.key == key]
            assert [value for found_key, value in found if found_key == key.encode()] == wanted

    def test_one_batch_goes_to_several_topics(self) -> None:
        other = self.around.topic()
        self.reactor.wait(self.producer().ship([*outgoing(self.topic, b"1"), *outgoing(other, b"2", key="grüße")]))
        assert self.around.records(self.topic, 1) == [(b"CP-1", b"1")]
        assert self.around.records(other, 1) == [("grüße".encode(), b"2")]

    def test_an_empty_batch_is_shipped_at_once(self) -> None:
        done: list[None] = []
        self.producer().ship([]).addCallback(done.append)
        assert done == [None]

    def test_a_second_batch_is_refused_while_one_is_open(self) -> None:
        bus = self.producer()
        first = bus.ship(outgoing(self.topic, b"1"))
        with self.assert_bus_error("already"):
            self.reactor.wait(bus.ship(outgoing(self.topic, b"2")))
        self.reactor.wait(first)
        assert self.around.records(self.topic, 1) == [(b"CP-1", b"1")]

    def test_a_bus_that_does_not_run_ships_nothing(self) -> None:
        bus = self.around.bus()
        with self.assert_bus_error("does not run"):
            self.reactor.wait(bus.ship(outgoing(self.topic, b"1")))
        bus.start()
        self.ship(bus, b"2")
        self.reactor.wait(bus.stop())
        with self.assert_bus_error("does not run"):
            self.reactor.wait(bus.ship(outgoing(self.topic, b"3")))
        assert self.around.records(self.topic, 1) == [(b"CP-1", b"2")]

    def test_a_record_that_is_too_large_is_named_and_nothing_is_sent(self) -> None:
        bus = self.producer()
        size = self.around.largest + 1
        batch = outgoing(self.topic, b"1", b"2", b"x" * (size - len("CP-1")), b"4")
        with self.assert_bus_error(self.topic, "'CP-1'", str(size)) as caught:
            self.reactor.wait(bus.ship(batch))
        assert caught.index == 2
        self.ship(bus, b"5")
        assert self.around.records(self.topic, 1) == [(b"CP-1", b"5")]

    def test_the_largest_record_is_taken(self) -> None:
        value = b"x" * (self.around.largest - len("CP-1"))
        self.ship(self.producer(), value)
        assert self.around.records(self.topic, 1) == [(b"CP-1", value)]

    # --- reading

    def test_messages_tell_where_they_are_from(self) -> None:
        self.put(b"1", b"2", b"3")
        self.consumer(self.reader)
        self.until_read(3)
        messages = [message for batch in self.reader.batches for message in batch]
        assert [(message.topic, message.key, message.value) for message in messages] == [
            (self.topic, b"CP-1", value) for value in (b"1", b"2", b"3")
        ]
        assert len({message.partition for message in messages}) == 1
        offsets = [message.offset for message in messages]
        assert offsets == list(range(offsets[0], offsets[0] + 3))

    def test_what_comes_later_is_read_too(self) -> None:
        self.consumer(self.reader)
        bus = self.producer()
        for number in range(3):
            self.ship(bus, b"%d" % number)
            self.until_read(number + 1)
        assert self.reader.values == [b"0", b"1", b"2"]

    def test_one_consumer_reads_several_topics(self) -> None:
        other = self.around.topic()
        bus = self.around.bus()
        bus.consume([self.topic, other], f"group-of-{self.topic}", self.reader)
        self.start(bus)
        self.put(b"1")
        self.around.put(other, [("CP-2", b"2")])
        self.until_read(2)
        assert sorted(self.reader.values) == [b"1", b"2"]

    def test_groups_read_independently(self) -> None:
        other = Reader()
        self.put(b"1")
        self.consumer(self.reader)
        self.consumer(other, "other-group")
        self.until_read(1)
        self.until_read(1, other)
        assert self.reader.values == other.values == [b"1"]

    def test_batches_come_one_at_a_time(self) -> None:
        self.reader.hold()
        self.put(b"1")
        self.consumer(self.reader)
        self.until_read(1)
        self.put(b"2")
        self.ship(self.producer(), b"3")  # the bus has had its turns meanwhile
        assert self.reader.values == [b"1"]
        self.reader.release()
        self.until_read(3)
        assert self.reader.values == [b"1", b"2", b"3"]

    def test_a_batch_that_was_not_handled_comes_again(self) -> None:
        self.reader.failing = 2
        self.put(b"1", b"2")
        self.consumer(self.reader)
        self.reactor.run_until(lambda: len(self.reader.batches) >= 3)
        first = self.reader.batches[0]
        assert [list(batch) for batch in self.reader.batches[:3]] == [list(first)] * 3
        self.put(b"3")
        self.reactor.run_until(lambda: b"3" in self.reader.values)
        assert self.reader.values[-1] == b"3"
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 2

    def test_a_handler_that_raises_has_not_handled_its_batch(self) -> None:
        def handle(messages: Sequence[Message]) -> "Deferred[None]":
            if not self.reader.batches:
                self.reader.batches.append(messages)
                raise ZeroDivisionError
            return self.reader(messages)

        self.put(b"1")
        bus = self.around.bus()
        bus.consume([self.topic], f"group-of-{self.topic}", handle)
        self.start(bus)
        self.until_read(2)
        assert self.reader.values == [b"1", b"1"]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_what_was_handled_does_not_come_again(self) -> None:
        self.put(b"1", b"2")
        bus = self.consumer(self.reader)
        self.until_read(2)
        self.reactor.wait(bus.stop())
        self.put(b"3")
        successor = Reader()
        self.consumer(successor)
        self.until_read(1, successor)
        assert successor.values == [b"3"]

    def test_what_was_being_handled_comes_again_after_a_crash(self) -> None:
        self.reader.hold()
        self.put(b"1", b"2")
        bus = self.consumer(self.reader)
        self.until_read(1)
        self.around.abandon(bus)
        successor = Reader()
        self.consumer(successor)
        self.until_read(2, successor)
        assert successor.values == [b"1", b"2"]

    def test_a_stop_waits_for_the_batch_that_is_being_handled(self) -> None:
        self.reader.hold()
        self.put(b"1")
        bus = self.consumer(self.reader)
        self.until_read(1)
        stopping = bus.stop()
        self.reader.release()
        self.reactor.wait(stopping)
        self.put(b"2")
        successor = Reader()
        self.consumer(successor)
        self.until_read(1, successor)
        assert successor.values == [b"2"]

    # --- state

    def test_a_bus_is_healthy_while_it_runs(self) -> None:
        bus = self.around.bus()
        bus.consume([self.topic], f"group-of-{self.topic}", self.reader)
        assert not bus.status().healthy
        assert bus.status().reason
        self.start(bus)
        self.reactor.run_until(lambda: bus.status().healthy)
        assert bus.status().reason == ""
        self.reactor.wait(bus.stop())
        assert not bus.status().healthy

    def test_a_bus_can_be_stopped_twice(self) -> None:
        bus = self.around.bus()
        bus.start()
        self.reactor.wait(bus.stop())
        self.reactor.wait(bus.stop())

    def assert_bus_error(self, *words: str) -> "CaughtBusError":
        return CaughtBusError(words)


class CaughtBusError:
    """A `with` block that must raise a BusError with these words in its message; `index` is what it says."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self.index: int | None = None

    def __enter__(self) -> "CaughtBusError":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        assert isinstance(error, BusError), f"no BusError, but {error!r}"
        for word in self._words:
            assert word in str(error), f"{word!r} is not in {error}"
        self.index = getattr(error, "index", None)
        return True

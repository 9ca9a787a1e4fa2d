"""A bus in memory (ports.Bus), for tests of those who use one. It passes the same contract tests as the one on Kafka.

broker = MemoryBroker()                 topics and what groups have committed
bus = MemoryBus(broker, clock)          a node's bus; nothing moves but by the clock
broker.put("topic", "key", b"value")    from outside
broker.topics["topic"]                  all records, as [(key, value)]
broker.is_away = True                   batches fail and nothing is read until it is back
bus.abandon()                           a crash: nothing of it happens any more
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger

from ocppgw.errors import BusError
from ocppgw.ports import BusStatus, Message, Outgoing

log = Logger(namespace="tests.memory-bus")

RETRY_SECONDS = 1.0
AWAY = "the broker in memory is away"

Handle = Callable[[Sequence[Message]], "Deferred[None]"]


class Clock(Protocol):
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...  # noqa: A002, N802


class RecordTooLarge(BusError):
    code = "RecordRefused"

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class MemoryBroker:
    """Topics have one partition, and each of them one reader in a group: the first that asked and still lives."""

    def __init__(self) -> None:
        self.topics: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self.committed: dict[tuple[str, str], int] = defaultdict(int)  # (group, topic) → offset of the next
        self.readers: dict[tuple[str, str], list[_Consumer]] = defaultdict(list)
        self.is_away = False

    def put(self, topic: str, key: str, value: bytes) -> None:
        self.topics[topic].append((key, value))
        self.wake()

    def wake(self) -> None:
        """Something may be read by somebody now."""
        for readers in list(self.readers.values()):
            for reader in list(readers):
                reader.look_soon()


class MemoryBus:
    def __init__(self, broker: MemoryBroker, clock: Clock, largest: int = 1_000_000) -> None:
        self._broker, self._clock, self._largest = broker, clock, largest
        self._consumers: list[_Consumer] = []
        self._open: Deferred[None] | None = None
        self._runs = False

    def start(self) -> None:
        self._runs = True
        for consumer in self._consumers:
            consumer.join()

    def stop(self) -> "Deferred[None]":
        if not self._runs:
            return succeed(None)
        self._runs = False
        open_batches = [consumer.leave() for consumer in self._consumers]
        stopped: Deferred[None] = Deferred()

        def end() -> None:
            if all(open_batch is None or open_batch.called for open_batch in open_batches):
                stopped.callback(None)
            else:
                self._clock.callLater(0.01, end)

        self._clock.callLater(0, end)
        return stopped

    def abandon(self) -> None:
        self._runs = False
        for consumer in self._consumers:
            consumer.abandon()

    def ship(self, records: Sequence[Outgoing]) -> "Deferred[None]":
        if not self._runs:
            return fail(BusError("the bus does not run"))
        if self._open is not None:
            return fail(BusError("a batch is being shipped already"))
        if not records:
            return succeed(None)
        self._open = Deferred()
        self._clock.callLater(0, self._deliver, list(records))
        return self._open

    def consume(self, topics: Sequence[str], group: str, handle: Handle, member: str = "") -> None:
        self._consumers.append(_Consumer(self._broker, self._clock, topics, group, handle))

    def status(self) -> BusStatus:
        if not self._runs:
            return BusStatus(False, "the bus does not run")
        return BusStatus(not self._broker.is_away, AWAY if self._broker.is_away else "")

    def _deliver(self, records: Sequence[Outgoing]) -> None:
        done, self._open = self._open, None
        assert done is not None
        error = self._refusal(records)
        if error is not None:
            done.errback(error)
            return
        for record in records:
            self._broker.topics[record.topic].append((record.key, record.value))
        self._broker.wake()
        done.callback(None)

    def _refusal(self, records: Sequence[Outgoing]) -> BusError | None:
        if self._broker.is_away or not self._runs:
            return BusError(AWAY)
        for index, record in enumerate(records):
            size = len(record.key.encode()) + len(record.value)
            if size > self._largest:
                what = f"a record of {size} bytes for {record.topic}, key {record.key!r}"
                return RecordTooLarge(f"{what}, is larger than {self._largest}", index)
        return None


class _Consumer:
    def __init__(self, broker: MemoryBroker, clock: Clock, topics: Sequence[str], group: str, handle: Handle) -> None:
        self._broker, self._clock, self._handle = broker, clock, handle
        self._places = [(group, topic) for topic in topics]
        self._open: Deferred[None] | None = None
        self._is_member = self._is_abandoned = False

    def join(self) -> None:
        self._is_member = True
        for place in self._places:
            self._broker.readers[place].append(self)
        self.look_soon()

    def leave(self) -> "Deferred[None] | None":
        """The batch that is being handled: it is still committed."""
        self._is_member = False
        for place in self._places:
            if self in self._broker.readers[place] and self._open is None:
                self._broker.readers[place].remove(self)
        return self._open

    def abandon(self) -> None:
        self._is_member, self._is_abandoned = False, True
        for place in self._places:
            self._broker.readers[place].remove(self)
        self._broker.wake()

    def look_soon(self) -> None:
        self._clock.callLater(0, self._look)

    def _look(self) -> None:
        if not self._is_member or self._open is not None or self._broker.is_away:
            return
        batch: list[Message] = []
        after: dict[tuple[str, str], int] = {}
        for place in self._places:
            if self._broker.readers[place][0] is not self:
                continue
            records, first = self._broker.topics[place[1]], self._broker.committed[place]
            after[place] = len(records)
            batch += [
                Message(place[1], 0, offset, key.encode(), value)
                for offset, (key, value) in enumerate(records[first:], first)
            ]
        if batch:
            self._open = Deferred()
            self._hand_over(batch, after)

    def _hand_over(self, batch: Sequence[Message], after: dict[tuple[str, str], int]) -> None:
        if self._is_abandoned:
            return
        maybeDeferred(self._handle, batch).addCallbacks(
            lambda _: self._handled(after), lambda failure: self._not_handled(failure, batch, after)
        )

    def _handled(self, after: dict[tuple[str, str], int]) -> None:
        if self._is_abandoned:
            return
        self._broker.committed.update(after)
        self._settle()
        self.look_soon()

    def _not_handled(self, failure: Any, batch: Sequence[Message], after: dict[tuple[str, str], int]) -> None:
        log.failure("a batch was not handled, it comes again", failure=failure)
        if self._is_member:
            self._clock.callLater(RETRY_SECONDS, self._hand_over, batch, after)
        else:
            self._settle()

    def _settle(self) -> None:
        done, self._open = self._open, None
        assert done is not None
        done.callback(None)
        if not self._is_member:
            self.leave()
            self._broker.wake()

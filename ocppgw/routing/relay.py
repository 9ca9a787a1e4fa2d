"""From the journal to the bus (Kafka): everything, in order, one batch at a time, for as long as it takes.

    journal ── read ──> at most MAX_RECORDS / MAX_BYTES ── ship ──> acknowledged: the cursor moves on
       ^                                          └── failed: the same again, after 0.1 s, 0.2 s, … 5 s

A station was answered when the journal had its event: the relay owes the bus that event, whatever happens. One batch at
a time keeps the order of every station. The cursor is stored at most once a second and at a stop, so that it costs
nothing; after a crash some events are shipped again, with the same eventIds.

An event that the bus can't take at all (too large) must not hold up those behind it: a dead letter goes in its place,
and the event itself stays in the journal. It is logged and counted. So is a dead letter while its topic is missing: the
journal has it, and the others go on.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import BusError, OcppgwError, StoreError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.deadletters import event_letter
from ocppgw.ocpp.versions import DEAD
from ocppgw.ports import Bus, Journal, Outgoing, StoredEvent

log = Logger(namespace="ocppgw.relay")

MAX_RECORDS = 1000  # of a batch, and of what is read ahead
MAX_BYTES = 512 * 1024  # of a batch of more than one record
FIRST_PAUSE = 0.1  # seconds after a failure; doubled with each further one
LONGEST_PAUSE = 5.0
SAVE_SECONDS = 1.0  # how far the stored cursor may lag behind
DAWDLE_SECONDS = 0.02  # from the start of one batch to that of the next, at least
HURRY_SECONDS = 0.008  # the same when somebody waits for the bus to have it
STOP_SECONDS = 5.0  # how long a stop ships what is left


class Relay:
    """`topics` maps the kinds of topic, DEAD among them, to their real names."""

    def __init__(self, journal: Journal, bus: Bus, topics: Mapping[str, str], metrics: Metrics, clock: Clock) -> None:
        self._journal = journal
        self._bus = bus
        self._topics = topics
        self._metrics = metrics
        self._clock = clock
        self._cursor = journal.shipped()  # all up to here is
        self._ahead: deque[StoredEvent] = deque()  # read, and not shipped
        self._running: Deferred[None] | None = None
        self._resting: Deferred[None] | None = None
        self._pause: IDelayedCall | None = None  # ends the rest after a failure
        self._saving: IDelayedCall | None = None
        self._end_listening: Callable[[], None] = lambda: None
        self._stopping = self._is_over = False
        self._failures = 0  # since it last succeeded
        self.acknowledged: Callable[[int], None] = lambda cursor: None  # hears how far the bus has them
        self.failing: Callable[[], None] = lambda: None  # hears that the bus takes none
        self._dawdling: IDelayedCall | None = None  # lets the next batch grow
        self._is_hurried = False
        self._began = 0.0  # the last batch, with reading it
        self._failing_since = 0.0

    def start(self) -> None:
        """Go on where the last process on this journal came to; what it does not ship is kept from now on."""
        self._save()
        self._end_listening = self._journal.on_durable(self._published)
        self._metrics.watch_relay(self.lag)
        self._running = Deferred.fromCoroutine(self._run())

    def stop(self) -> "Deferred[None]":
        """Ship what is durable by now, unless the bus fails; fires after STOP_SECONDS at the latest. To be called
        before the journal is stopped, which stores the cursor that is handed to it here."""
        if self._running is None:
            return succeed(None)
        self._stopping = True
        self._end_listening()
        stopped: Deferred[None] = Deferred()
        bound = self._clock.callLater(STOP_SECONDS, self._finish, stopped)
        self._wake()
        self._running.addCallback(lambda _: self._finish(stopped))
        return stopped.addCallback(lambda _: bound.cancel() if bound.active() else None)

    @property
    def cursor(self) -> int:
        """All up to here is shipped."""
        return self._cursor

    @property
    def is_failing(self) -> bool:
        return self._failures > 0

    def hurry(self) -> None:
        """Somebody waits for what is durable by now, or is just becoming it."""
        if self._is_hurried:
            return
        self._is_hurried = True
        if self._dawdling is not None:
            self._dawdling.reset(self._time_until_next())

    def lag(self) -> tuple[int, float]:
        """How many durable events are not shipped yet, and the age of the oldest of them in seconds."""
        done = max(self._cursor, self._journal.status().oldest_cursor - 1)
        records = max(0, self._journal.last_cursor() - done)
        if not records:
            return 0, 0.0
        now = self._clock.seconds()
        oldest = self._failing_since if self._failures else now  # what was not even read has just come
        if self._ahead:
            oldest = _time_of(self._ahead[0].value, oldest)
        return records, max(0.0, now - oldest)

    # --- the loop

    async def _run(self) -> None:
        while not self._is_over:
            try:
                if self._ahead or self._cursor < self._journal.last_cursor():
                    await self._ship_next()
                elif self._stopping:
                    return
                else:
                    await self._rest()
            except Exception as fault:  # whatever it is: a relay that ended would never ship again
                if self._is_over:
                    return
                self._failed(fault)
                if self._stopping:
                    return
                await self._rest(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 10)))
                if self._stopping:
                    return

    async def _ship_next(self) -> None:
        self._is_hurried = False  # from here on it is about events that may come after this batch
        self._began = self._clock.seconds()
        await self._read_ahead()
        if self._is_over:
            return
        events = self._batch()
        records = await self._acknowledged(events)
        if self._is_over:
            return
        self._recovered()
        self._cursor = events[-1].cursor
        for _ in events:
            self._ahead.popleft()
        self.acknowledged(self._cursor)
        for topic, amount in Counter(record.topic for record in records).items():
            self._metrics.relay_shipped(topic, amount)
        if self._saving is None:
            self._saving = self._clock.callLater(SAVE_SECONDS, self._save)
        if not self._stopping and self._journal.last_cursor() - self._cursor < MAX_RECORDS // 2:
            await self._dawdle()

    def _dawdle(self) -> "Deferred[None]":
        """A batch costs as much as some ten records: with a pause they are larger and fewer."""
        seconds = self._time_until_next()
        if not seconds:
            return succeed(None)
        self._resting = resting = Deferred[None]()
        self._dawdling = self._clock.callLater(seconds, self._wake)
        return resting

    def _time_until_next(self) -> float:
        pace = HURRY_SECONDS if self._is_hurried else DAWDLE_SECONDS
        return min(pace, max(0.0, self._began + pace - self._clock.seconds()))  # also when the clock was put back

    async def _read_ahead(self) -> None:
        known = self._ahead[-1].cursor if self._ahead else self._cursor
        if known < self._journal.last_cursor() and len(self._ahead) < MAX_RECORDS:
            self._ahead.extend(await self._journal.read(known, MAX_RECORDS - len(self._ahead)))
        if not self._ahead:
            raise StoreError(f"the journal has events after cursor {self._cursor}, and none can be read")

    def _batch(self) -> list[StoredEvent]:
        """The next events; at least one, however large."""
        batch: list[StoredEvent] = []
        size = 0
        for event in self._ahead:
            size += len(event.key) + len(event.value)
            if batch and (size > MAX_BYTES or len(batch) == MAX_RECORDS):
                break
            batch.append(event)
        return batch

    async def _acknowledged(self, events: list[StoredEvent]) -> list[Outgoing]:
        """Ship them; what the bus can't take at all is replaced, or in the end left out. Returns what was shipped."""
        known = {event.cursor: event for event in events}
        left = {event.cursor: self._outgoing(event) for event in events}
        replaced: set[int] = set()
        while left:
            try:
                await self._bus.ship(list(left.values()))
                break
            except BusError as fault:
                letters = self._letters_without_topic(left, fault)
                if letters:
                    for cursor in letters:
                        del left[cursor]
                        self._left_out(known[cursor], fault)
                    continue
                index = getattr(fault, "index", None)
                if index is None or not 0 <= index < len(left):
                    raise
                event = known[list(left)[index]]
                if event.cursor in replaced:
                    del left[event.cursor]
                    self._left_out(event, fault)
                else:
                    replaced.add(event.cursor)
                    left[event.cursor] = self._letter(event, left[event.cursor].topic, fault)
        return list(left.values())

    def _letters_without_topic(self, left: Mapping[int, Outgoing], fault: BusError) -> list[int]:
        """Dead letters that have nowhere to go must not hold up the events of all stations."""
        if getattr(fault, "topic", "") != self._topics[DEAD]:
            return []
        return [cursor for cursor, record in left.items() if record.topic == self._topics[DEAD]]

    def _outgoing(self, event: StoredEvent) -> Outgoing:
        topic = self._topics.get(event.topic)
        if topic is None:  # another release wrote it
            return self._letter(event, event.topic, BusError(f"there is no topic for events of kind {event.topic!r}"))
        return Outgoing(topic, event.key, event.value)

    def _letter(self, event: StoredEvent, topic: str, fault: BusError) -> Outgoing:
        self._metrics.note("event-put-aside")
        log.error(
            "event {cursor} of {bytes} bytes can't be shipped to {topic}, a dead letter goes in its place: {reason}",
            cursor=event.cursor,
            bytes=len(event.value),
            topic=topic,
            reason=str(fault),
        )
        value = event_letter(fault, topic, event.key, event.cursor, event.value, self._clock.seconds())
        return Outgoing(self._topics[DEAD], event.key, value)

    def _left_out(self, event: StoredEvent, fault: BusError) -> None:
        self._metrics.note("event-left-out")
        log.error(
            "event {cursor} was not shipped, nor a dead letter about it; only the journal has it: {reason}",
            cursor=event.cursor,
            reason=str(fault),
        )

    # --- rests

    def _rest(self, seconds: float | None = None) -> "Deferred[None]":
        """Until something was published; with `seconds` just that long. A stop ends both."""
        self._resting = Deferred()
        if seconds is not None:
            self._pause = self._clock.callLater(seconds, self._wake)
        return self._resting

    def _published(self, _cursor: int) -> None:
        if self._pause is None and self._dawdling is None:
            self._wake()

    def _wake(self) -> None:
        for pause in (self._pause, self._dawdling):
            if pause is not None and pause.active():
                pause.cancel()
        self._pause = self._dawdling = None
        resting, self._resting = self._resting, None
        if resting is not None:
            resting.callback(None)

    # --- outages

    def _failed(self, fault: Exception) -> None:
        self._metrics.relay_failed()
        self._failures += 1
        self.failing()
        if self._failures > 1:
            return
        self._failing_since = self._clock.seconds()
        if not isinstance(fault, OcppgwError):
            log.failure("a fault while events were shipped")
        log.error(
            "events are not shipped ({waiting} wait): {reason}; the journal keeps them, and they are tried again",
            waiting=self.lag()[0],
            reason=str(fault),
        )

    def _recovered(self) -> None:
        if self._failures:
            log.warn(
                "events are shipped again, after {seconds:.1f} s and {failures} failed attempts; {waiting} waited",
                seconds=self._clock.seconds() - self._failing_since,
                failures=self._failures,
                waiting=self.lag()[0],
            )
        self._failures = 0

    # --- the cursor

    def _save(self) -> None:
        self._saving = None
        self._journal.set_shipped(self._cursor).addErrback(self._not_saved)

    def _not_saved(self, failure: object) -> None:
        """The disk's own fault is told elsewhere; the next save has the newer cursor anyway."""
        self._metrics.note("shipped-cursor-not-stored")

    def _finish(self, stopped: "Deferred[None]") -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._saving is not None:
            self._saving.cancel()
        self._save()
        stopped.callback(None)


class _Times(msgspec.Struct, rename="camel"):
    occurred_at: datetime | None = None
    at: datetime | None = None  # of a dead letter


_decode_times = msgspec.json.Decoder(_Times).decode


def _time_of(value: bytes, default: float) -> float:
    """When an event occurred, in seconds since the epoch."""
    try:
        times = _decode_times(value)
    except msgspec.MsgspecError:
        return default
    moment = times.occurred_at or times.at
    return default if moment is None else moment.timestamp()

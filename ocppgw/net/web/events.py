"""The journal over HTTP: pages by cursor, and a stream that never holds more than one page in memory.

`since` is a cursor: events after it, oldest first. A negative `since` counts back from the end.
"""

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ocppgw.net.web.replies import HttpError
from ocppgw.net.web.request import OperationsRequest
from ocppgw.ports import GatewayApi, StoredEvent

READ_EVENTS = 100  # read from the journal at a time; with the largest event, what a stream may hold in memory
SCAN_EVENTS = 10_000  # looked through for one filtered page; the client goes on at `next`
PAGE_BYTES = 4 * 1024 * 1024
KEEP_ALIVE_SECONDS = 15.0
STALLED_SECONDS = 60.0  # a reader that takes nothing for so long is cut off; it can come back with its cursor
MAX_FOLLOWERS = 64


class _Head(msgspec.Struct, rename="camel"):
    charge_point_id: str | None = None


class EventRow(msgspec.Struct):
    """One event as it is served; `event` is the DomainEvent as journaled."""

    cursor: int
    topic: str
    key: str
    event: msgspec.Raw


class Page(msgspec.Struct):
    """`next` is the cursor to go on from, `last` that of the newest event there is."""

    events: list[EventRow]
    next: int
    last: int


class Filter(msgspec.Struct, frozen=True):
    """Which events are wanted; None: any."""

    topic: str | None = None
    charge_point_id: str | None = None

    def __call__(self, event: StoredEvent) -> bool:
        if self.topic is not None and event.topic != self.topic:
            return False
        return self.charge_point_id is None or _charge_point_id(event.value) == self.charge_point_id


_decode_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.encode


def _charge_point_id(value: bytes) -> str | None:
    try:
        return _decode_head(value).charge_point_id
    except msgspec.DecodeError:
        return None


def _row(event: StoredEvent) -> EventRow:
    return EventRow(event.cursor, event.topic, event.key, msgspec.Raw(event.value))


def start_of(since: int, last: int) -> int:
    """The cursor that `since` means now. HttpError 409 when it lies beyond the newest event."""
    if since > last:
        hint = f"The newest event has cursor {last}. Was the state directory replaced? Then start at since=0."
        raise HttpError(409, "CursorBeyondEnd", f"There is no event with cursor {since} yet.", hint)
    return since if since >= 0 else max(0, last + since)


async def read_page(api: GatewayApi, since: int, limit: int, wanted: Filter) -> Page:
    """At most `limit` wanted events after `since`; fewer at the end, past PAGE_BYTES or after SCAN_EVENTS."""
    page = Page([], start_of(since, api.last_cursor()), api.last_cursor())
    size = scanned = 0
    while len(page.events) < limit and size < PAGE_BYTES and scanned < SCAN_EVENTS:
        events = await api.events(page.next, READ_EVENTS)
        for event in events:
            if len(page.events) >= limit or size >= PAGE_BYTES:
                return page
            page.next = event.cursor
            if wanted(event):
                page.events.append(_row(event))
                size += len(event.value)
        scanned += len(events)
        if len(events) < READ_EVENTS:
            break
    return page


class Followers:
    """The open event streams."""

    def __init__(self, api: GatewayApi, clock: IReactorTime) -> None:
        self._api, self._clock = api, clock
        self._streams: set[EventStream] = set()

    def follow(self, request: OperationsRequest, since: int | None, wanted: Filter) -> "Deferred[None]":
        """Stream events after `since` (None: the end) into `request`; fires when the stream is over."""
        if len(self._streams) >= MAX_FOLLOWERS:
            raise HttpError(503, "TooManyFollowers", f"{MAX_FOLLOWERS} streams are open already.", "Close one.")
        last = self._api.last_cursor()
        stream = EventStream(self._api, self._clock, request, last if since is None else start_of(since, last), wanted)
        self._streams.add(stream)
        stream.done.addBoth(self._forget, stream)
        stream.start()
        return stream.done

    def end(self) -> None:
        """End all streams cleanly (the gateway is going down)."""
        for stream in list(self._streams):
            stream.stopProducing()

    def _forget(self, _result: object, stream: "EventStream") -> None:
        self._streams.discard(stream)


@implementer(IPushProducer)
class EventStream:
    """Writes the journal into one response as NDJSON, page by page, as fast as its reader takes it.

    Nothing is queued: a page is read when the last one has been taken, so a slow reader costs one page. `done` fires
    with None when the stream is over; cancelling it ends the stream.
    """

    _log = Logger()

    def __init__(
        self, api: GatewayApi, clock: IReactorTime, request: OperationsRequest, cursor: int, wanted: Filter
    ) -> None:
        self._api, self._clock, self._request = api, clock, request
        self._cursor, self._wanted = cursor, wanted
        self._paused_since: float | None = None
        self._reading: Deferred[None] | None = None
        self._busy = False
        self._more = False  # events were published since the read that is under way began
        self._wrote = False
        self._timer: IDelayedCall | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._over = False
        self.done: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def start(self) -> None:
        """Send the headers, then what there is, then what comes."""
        self._request.set_header("Content-Type", "application/x-ndjson")
        self._request.set_header("Ocppgw-Cursor", str(self._cursor))
        self._request.send(b"")  # the headers go out now: the client learns that it is connected
        self._request.start_producing(self)
        self._unsubscribe = self._api.on_events(self._published)
        self._timer = self._clock.callLater(KEEP_ALIVE_SECONDS, self._tick)
        self._pump()

    def pauseProducing(self) -> None:  # noqa: N802
        self._paused_since = self._clock.seconds()

    def resumeProducing(self) -> None:  # noqa: N802
        self._paused_since = None
        self._wrote = True  # it has just taken something
        self._pump()

    def stopProducing(self) -> None:  # noqa: N802
        """End the stream; further calls do nothing."""
        if self._over:
            return
        self._over = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()
        self._request.stop_producing()
        if not self.done.called:
            self.done.callback(None)

    def _published(self, _cursor: int) -> None:
        self._more = True
        self._pump()

    def _pump(self) -> None:
        if self._over or self._paused_since is not None or self._busy:
            return
        self._busy = True  # set before the first step: a write may come back here through resumeProducing
        self._reading = Deferred.fromCoroutine(self._write_pages())
        self._reading.addCallbacks(self._caught_up, self._failed)

    async def _write_pages(self) -> None:
        """Until the end of the journal is reached or the reader is full."""
        while not self._over and self._paused_since is None:
            self._more = False
            events = await self._api.events(self._cursor, READ_EVENTS)
            if self._over:
                return
            self._write(events)
            if len(events) < READ_EVENTS and not self._more:
                return

    def _write(self, events: Sequence[StoredEvent]) -> None:
        if events:
            self._cursor = events[-1].cursor
        lines = b"".join(_encode(_row(event)) + b"\n" for event in events if self._wanted(event))
        if lines:
            self._wrote = True
            self._request.send(lines)

    def _caught_up(self, _result: None) -> None:
        self._busy = False
        if self._more:  # published, or taken, in the instant between the last look and now
            self._pump()

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        if not self._over:
            self._log.failure("An event stream ends: the journal can't be read", failure=failure)
            self.stopProducing()

    def _tick(self) -> None:
        now = self._clock.seconds()
        if self._paused_since is not None and now - self._paused_since >= STALLED_SECONDS:
            self._cut()
            return
        if self._paused_since is None and not self._wrote:
            self._request.send(b"\n")
        self._wrote = False
        self._timer = self._clock.callLater(KEEP_ALIVE_SECONDS, self._tick)

    def _cut(self) -> None:
        """Drop the connection: its buffer is full, so an orderly end would wait for the reader, too."""
        self._request.abort()
        self.stopProducing()

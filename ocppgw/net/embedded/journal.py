"""The event journal on SQLite (ports.Journal): what is durable, in order, for a bounded while.

Retention: whole commits older than `retention_days`, or beyond `retention_bytes`, are dropped oldest first, a bounded
number at a time. The newest commit always stays, because cursors go on from it.

Once `set_shipped` was called, what is not shipped yet is never dropped. When that alone reaches `retention_bytes`, the
journal is full: `status` says so, and the outbox refuses new records until enough has been shipped. Looked at once a
second, so what comes in a second or two may lie above the bound.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from ocppgw.metrics import Metrics
from ocppgw.net.embedded.database import Committed, Database, unpack
from ocppgw.net.embedded.schema import FILE_NAME
from ocppgw.net.embedded.tail import Tail
from ocppgw.ocpp.effects import Record
from ocppgw.ports import Backlog, JournalStatus, StoredEvent

log = Logger(namespace="ocppgw.journal")

MEASURE_SECONDS = 1.0  # between two looks at the journal's size while events come in
SHIPPED = "shipped"  # name of the cursor's row in the table meta
STEPS = 256  # in which unshipped bytes are counted up to the bound
DROP_AT_ONCE = 200  # commits dropped in one pass, so that the writing thread is never held up for long


class _Extent(NamedTuple):
    oldest: int  # cursor of the oldest event kept
    used: int  # bytes of the file
    unshipped: int  # bytes of events that are not shipped; 0 when nothing is to be shipped


class SqliteJournal:
    """`clock` gives wall-clock seconds; `pool` and `reactor` run the readers."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        reactor: Any,
        folder: Path,
        retention_days: float,
        retention_bytes: int,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._reactor = reactor
        self._path = folder / FILE_NAME
        self._retention_seconds = retention_days * 86_400
        self._retention_bytes = retention_bytes
        self._listeners: list[Callable[[int], None]] = []
        self._fault = ""
        self._full = ""
        self._extent = _Extent(0, 0, 0)
        self._measured_at = reactor.seconds()
        self._shipped = _shipped(database.connection)
        self._unshipped = _Unshipped(retention_bytes // STEPS)
        self._tail = Tail()  # of what is to be shipped
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        database.on_commit = self._committed
        self.backlog: Backlog = database
        self.append = database.append  # once a message: no call in between
        self._keep(self._measure(database.connection))

    def give_up(self, reason: str) -> None:
        self._database.give_up(reason)

    def last_cursor(self) -> int:
        return self._database.last

    def on_durable(self, callback: Callable[[int], None]) -> Callable[[], None]:
        self._listeners.append(callback)

        def end() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return end

    def read(self, since: int, limit: int) -> "Deferred[list[StoredEvent]]":
        if self._shipped is not None and since >= self._shipped:  # what is older may be dropped by now
            newest = self._tail.read(since, limit)
            if newest is not None:
                return succeed(newest)
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._read, since, limit)

    def status(self) -> JournalStatus:
        return JournalStatus(
            healthy=not (self._fault or self._full),
            reason=self._fault or self._full,
            waiting=self._database.waiting,
            oldest_wait_seconds=self._database.oldest(),
            last_cursor=self._database.last,
            oldest_cursor=self._extent.oldest,
            bytes_on_disk=self._extent.used,
            is_full=bool(self._full),
        )

    def shipped(self) -> int:
        return self._shipped or 0

    def set_shipped(self, cursor: int) -> "Deferred[None]":
        """A commit of its own when no other is due: for now and then, not for every batch. A cursor before the one
        that is known changes nothing."""
        self._shipped = max(cursor, self._shipped or 0)

        def remember(connection: sqlite3.Connection, _records: list[Record]) -> _Extent:
            connection.execute(
                "INSERT INTO meta (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (SHIPPED, cursor),
            )
            return self._measure(connection)

        return self._database.write(remember).addCallback(self._keep)

    def forget_shipped(self) -> "Deferred[int]":
        """There is no bus any more: retention alone decides from here on. Fires with how many events were not shipped
        when there was one, 0 when there never was."""
        shipped, self._shipped = self._shipped, None
        self._tail.clear()
        left = 0 if shipped is None else self._database.last - shipped

        def forget(connection: sqlite3.Connection, _records: list[Record]) -> _Extent:
            connection.execute("DELETE FROM meta WHERE name = ?", (SHIPPED,))
            return self._measure(connection)

        if shipped is None:
            return succeed(0)
        return self._database.write(forget).addCallback(self._keep).addCallback(lambda _: left)

    def tend(self) -> "Deferred[None]":
        """Called every minute: drop what is beyond retention. Also the probe that finds a mended disk."""

        def drop(connection: sqlite3.Connection, _records: list[Record]) -> _Extent:
            _drop(connection, self._reactor.seconds() - self._retention_seconds, self._retention_bytes)
            return self._measure(connection)

        def failed(failure: Any) -> None:
            self._fault = failure.getErrorMessage()
            self._metrics.note("journal-upkeep-failed")
            log.error("the journal's upkeep failed: {reason}", reason=self._fault)

        def done(extent: _Extent) -> None:
            self._fault = ""
            self._keep(extent)

        return self._database.write(drop).addCallbacks(done, failed)

    def close(self) -> None:
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _committed(self, committed: Committed) -> None:
        self._fault = committed.error
        if committed.error:
            self._metrics.note("journal-commit-failed")
            return
        self._metrics.journal_committed(committed.seconds, len(committed.records))
        if self._shipped is not None:
            self._tail.add(committed.last, committed.records)
        for listener in list(self._listeners):
            listener(committed.last)
        now = self._reactor.seconds()
        if now - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = now
            self._database.read(self._measure).addCallbacks(self._measured, _not_measured)

    def _measured(self, extent: _Extent) -> None:
        self._keep(extent)
        if extent.used > self._retention_bytes:
            self.tend()

    def _measure(self, connection: sqlite3.Connection) -> _Extent:
        """In the writing thread (and before it is started)."""
        shipped = _shipped(connection)
        unshipped = 0 if shipped is None else self._unshipped.count(connection, shipped)
        return _Extent(_oldest(connection), _used(connection), unshipped)

    def _keep(self, extent: _Extent) -> None:
        was_full, self._extent, self._full = bool(self._full), extent, ""
        if self._shipped is not None and extent.unshipped >= self._retention_bytes:
            self._full = (
                f"Kafka has yet to take {extent.unshipped} bytes of events, and journal.retention_bytes is "
                f"{self._retention_bytes}: no new ones are taken until it does"
            )
        if self._full and not was_full:
            self._metrics.note("journal-full")
            log.error("the journal is full: {reason}", reason=self._full)
        elif was_full and not self._full:
            log.warn("the journal takes events again: Kafka has taken enough of them")

    def _read(self, since: int, limit: int) -> list[StoredEvent]:
        """In a pool thread, on a connection of its own: a reader of history must not hold up the writer."""
        with self._reading:
            if self._reader is None:
                self._reader = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, check_same_thread=False)
            rows = self._reader.execute(
                "SELECT first, body FROM journal WHERE last > ? ORDER BY last LIMIT ?", (since, limit)
            )
            events: list[StoredEvent] = []
            for first, body in rows:
                for cursor, (topic, key, value) in enumerate(unpack(body), first):
                    if cursor > since:
                        events.append(StoredEvent(cursor, topic, key, value))
                if len(events) >= limit:
                    break
            return events[:limit]


class _Unshipped:
    """The bytes of the events that are not shipped, counted as they come. Used in the writing thread.

    Commits are counted together up to `step` bytes, and are shipped when the last of them is.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._steps: deque[tuple[int, int]] = deque()  # (last cursor, bytes)
        self._counted = 0  # the last cursor that is in it
        self._bytes = 0

    def count(self, connection: sqlite3.Connection, shipped: int) -> int:
        self._counted = max(self._counted, shipped)
        # SQLite reads no more than the head of a row to tell the length of its body.
        rows = connection.execute(
            "SELECT last, length(body) FROM journal WHERE last > ? ORDER BY last", (self._counted,)
        )
        for last, size in rows:
            before = self._steps.pop()[1] if self._steps and self._steps[-1][1] + size <= self._step else 0
            self._steps.append((last, before + size))
            self._counted = last
            self._bytes += size
        while self._steps and self._steps[0][0] <= shipped:
            self._bytes -= self._steps.popleft()[1]
        return self._bytes


def _not_measured(failure: Any) -> None:
    """The gateway is stopping, or the file can't be read: the upkeep and the next commit tell of that."""
    log.debug("the journal was not measured: {reason}", reason=failure.getErrorMessage())


def _shipped(connection: sqlite3.Connection) -> int | None:
    """None when nothing is to be shipped anywhere."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (SHIPPED,)).fetchone()
    return row[0] if row else None


def _oldest(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT first FROM journal ORDER BY last LIMIT 1").fetchone()
    return row[0] if row else 0


def _used(connection: sqlite3.Connection) -> int:
    """Bytes of the file."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    used: int = (pages - free) * size
    return used


def _drop(connection: sqlite3.Connection, before: float, max_bytes: int) -> None:
    """Only the oldest commits are looked at, so that a pass costs the same however large the journal is."""
    newest = connection.execute("SELECT max(last) FROM journal").fetchone()[0] or 0
    shipped = _shipped(connection)
    last = newest - 1 if shipped is None else min(newest - 1, shipped)
    oldest = "SELECT last, at FROM journal WHERE last <= ? ORDER BY last LIMIT ?"
    delete = f"DELETE FROM journal WHERE last IN (SELECT last FROM ({oldest})"  # noqa: S608  constants only
    connection.execute(f"{delete} WHERE at < ?)", (last, DROP_AT_ONCE, before))
    if _used(connection) > max_bytes:
        connection.execute(f"{delete})", (last, DROP_AT_ONCE))
    connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()

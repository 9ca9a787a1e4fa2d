"""The event journal on SQLite (ports.Journal): what is durable, in order, for a bounded while.

Retention: whole commits older than `retention_days`, or beyond `retention_bytes`, are dropped oldest first, a bounded
number at a time. The newest commit always stays, because cursors go on from it.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from ocppgw.metrics import Metrics
from ocppgw.net.embedded.database import Committed, Database, unpack
from ocppgw.net.embedded.schema import FILE_NAME
from ocppgw.ocpp.effects import Record
from ocppgw.ports import Backlog, JournalStatus, StoredEvent

log = Logger(namespace="ocppgw.journal")

DROP_AT_ONCE = 200  # commits dropped in one pass, so that the writing thread is never held up for long


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
        self._oldest = 0
        self._bytes = 0
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        database.on_commit = self._committed
        self.backlog: Backlog = database
        self.append = database.append  # once a message: no call in between
        self._keep(*_extent(database.connection))

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
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._read, since, limit)

    def status(self) -> JournalStatus:
        return JournalStatus(
            healthy=not self._fault,
            reason=self._fault,
            waiting=self._database.waiting,
            oldest_wait_seconds=self._database.oldest(),
            last_cursor=self._database.last,
            oldest_cursor=self._oldest,
            bytes_on_disk=self._bytes,
        )

    def tend(self) -> "Deferred[None]":
        """Called every minute: drop what is beyond retention. Also the probe that finds a mended disk."""

        def drop(connection: sqlite3.Connection, _records: list[Record]) -> tuple[int, int]:
            _drop(connection, self._reactor.seconds() - self._retention_seconds, self._retention_bytes)
            return _extent(connection)

        def failed(failure: Any) -> None:
            self._fault = failure.getErrorMessage()
            self._metrics.note("journal-upkeep-failed")
            log.error("the journal's upkeep failed: {reason}", reason=self._fault)

        def done(extent: tuple[int, int]) -> None:
            self._fault = ""
            self._keep(*extent)

        return self._database.write(drop).addCallbacks(done, failed)

    def close(self) -> None:
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _keep(self, oldest: int, size: int) -> None:
        self._oldest, self._bytes = oldest, size

    def _committed(self, committed: Committed) -> None:
        self._fault = committed.error
        if committed.error:
            self._metrics.note("journal-commit-failed")
            return
        self._metrics.journal_committed(committed.seconds, committed.records)
        for listener in list(self._listeners):
            listener(committed.last)

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


def _extent(connection: sqlite3.Connection) -> tuple[int, int]:
    """(oldest cursor kept, bytes of the file)."""
    oldest = connection.execute("SELECT first FROM journal ORDER BY last LIMIT 1").fetchone()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    return (oldest[0] if oldest else 0), (pages - free) * size


def _drop(connection: sqlite3.Connection, before: float, max_bytes: int) -> None:
    newest = "(SELECT max(last) FROM journal)"
    connection.execute(
        f"DELETE FROM journal WHERE last IN "  # noqa: S608  constants only
        f"(SELECT last FROM journal WHERE at < ? AND last < {newest} ORDER BY last LIMIT ?)",
        (before, DROP_AT_ONCE),
    )
    _, used = _extent(connection)
    if used > max_bytes:
        connection.execute(
            f"DELETE FROM journal WHERE last IN "  # noqa: S608  constants only
            f"(SELECT last FROM journal WHERE last < {newest} ORDER BY last LIMIT ?)",
            (DROP_AT_ONCE,),
        )
    connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()

"""The one thread that writes, and group commit: everything that came in since the last commit goes into the next one.

The reactor never waits for the disk. It hands over entries (an event with its state changes) and jobs (functions of the
connection); a turn of the thread runs all of them inside one transaction, commits (fsync), and tells the reactor
about the whole batch with one `callFromThread`. Order is kept: a job sees every entry handed over before it.

A batch that can't be committed is refused as a whole; nothing of it is stored. Reading jobs are run again on their own,
so that a full disk does not keep stations from being looked up.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.errors import StoreError
from ocppgw.net.embedded import schema
from ocppgw.ocpp.effects import Change, Record, SaveBoot, SaveTransaction
from ocppgw.ports import Waiter

log = Logger(namespace="ocppgw.journal")

CLOSE_SECONDS = 10.0  # how long a stop waits for the last commit

_pack = msgspec.msgpack.Encoder().encode
_unpack: Callable[[bytes], list[list[Any]]] = msgspec.msgpack.Decoder(list[list[Any]]).decode


class Reactor(Protocol):
    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall: ...  # noqa: A002, N802
    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None: ...  # noqa: A002, N802


class Entry(msgspec.Struct, gc=False):
    """A record on its way to the disk and who waits for it."""

    record: Record
    changes: tuple[Change, ...]
    waiter: Waiter | None
    token: int


class Job(msgspec.Struct):
    """`run(connection, records)`: `records` collects what is to be journaled with it."""

    run: Callable[[sqlite3.Connection, list[Record]], Any]
    done: "Deferred[Any]"
    reads: bool
    result: Any = None


Item = Entry | Job


class Committed(msgspec.Struct, frozen=True):
    """What the reactor is told of a batch."""

    items: list[Item]
    records: list[Record]  # none when it is not
    seconds: float
    error: str  # "" when it is on disk
    last: int


class Database:
    """`on_commit` is called in the reactor thread after every batch that held records, committed or not."""

    def __init__(self, folder: Path, reactor: Reactor) -> None:
        self._folder = folder
        self._reactor = reactor
        self._lock_file = schema.lock(folder)
        try:
            self.connection = schema.connect(folder)
        except StoreError:
            self.release()
            raise
        self._items: list[Item] = []  # collected since the last hand-over; reactor thread only
        self._handed: list[list[Item]] = []
        self._signal = threading.Condition()
        self._stopping = False
        self._scheduled = False
        self._in_flight: list[Item] = []  # what the thread works on; reactor thread only
        self._since = self._in_flight_since = 0.0  # when the first of `_items`, of `_in_flight`, came
        self._thread = threading.Thread(target=self._work, name="ocppgw-journal", daemon=True)
        self.on_commit: Callable[[Committed], None] = lambda committed: None
        self.waiting = 0
        self.waiting_bytes = 0
        row = self.connection.execute("SELECT max(last) FROM journal").fetchone()
        self.last: int = row[0] or 0
        self._written = self.last  # the thread's own count: it may be a batch ahead of what the reactor was told

    def start(self) -> None:
        """From here on only the thread uses `connection`."""
        self._thread.start()

    def stop(self) -> "Deferred[None]":
        """Commit what waits, then close the file; fires when both are done, at the latest after CLOSE_SECONDS."""
        done: Deferred[None] = Deferred()
        batch, self._items = self._items, []
        with self._signal:
            if batch:  # also behind a batch in flight: the thread ends when it has nothing more to do
                self._handed.append(batch)
            self._stopping = True
            self._signal.notify()

        def join() -> None:
            self._thread.join(CLOSE_SECONDS)
            self._reactor.callFromThread(done.callback, None)

        threading.Thread(target=join, name="ocppgw-journal-stop", daemon=True).start()
        return done

    def release(self) -> None:
        """Let another process have the folder; only after `stop`."""
        os.close(self._lock_file)

    # --- reactor thread

    def append(self, record: Record, changes: tuple[Change, ...], waiter: Waiter, token: int) -> None:
        self.waiting += 1
        self.waiting_bytes += len(record.value)
        if not self._items:
            self._first_item()
        self._items.append(Entry(record, changes, waiter, token))

    def read(self, run: Callable[[sqlite3.Connection], Any]) -> "Deferred[Any]":
        """Run a query in the thread, after everything handed over before it."""
        return self._job(lambda connection, _records: run(connection), reads=True)

    def write(self, run: Callable[[sqlite3.Connection, list[Record]], Any]) -> "Deferred[Any]":
        """Run a change in the thread; fires when it is on disk. The change and the records it appends go together."""
        return self._job(run, reads=False)

    def oldest(self) -> float:
        """Seconds the oldest record has waited, 0.0 when none waits."""
        if not self.waiting:
            return 0.0
        return max(0.0, self._reactor.seconds() - (self._in_flight_since if self._in_flight else self._since))

    def give_up(self, reason: str) -> None:
        """Refuse every record that waits; what the thread has may still become durable, and nobody is told."""
        for item in [*self._in_flight, *self._items]:
            if type(item) is Entry and item.waiter is not None:
                waiter, item.waiter = item.waiter, None
                waiter.refused(item.token, reason)

    def _job(self, run: Callable[[sqlite3.Connection, list[Record]], Any], *, reads: bool) -> "Deferred[Any]":
        done: Deferred[Any] = Deferred()
        if self._stopping:
            done.errback(StoreError("the gateway is stopping"))
            return done
        if not self._items:
            self._first_item()
        self._items.append(Job(run, done, reads))
        return done

    def _first_item(self) -> None:
        self._since = self._reactor.seconds()
        if not (self._scheduled or self._in_flight):
            # One hand-over a turn of the reactor: the messages read in one turn make one batch, and one thread switch.
            self._scheduled = True
            self._reactor.callLater(0, self._hand_over)

    def _hand_over(self) -> None:
        self._scheduled = False
        if not self._items or self._in_flight:
            return  # the batch in flight hands over the next one when it is done
        batch, self._items = self._items, []
        self._in_flight, self._in_flight_since = batch, self._since
        with self._signal:
            self._handed.append(batch)
            self._signal.notify()

    def _deliver(self, committed: Committed) -> None:
        error = committed.error
        if not error:
            self.last = committed.last
        self._in_flight = []
        self._hand_over()
        for item in committed.items:
            if type(item) is Entry:
                self.waiting -= 1
                self.waiting_bytes -= len(item.record.value)
                self._settle_entry(item, error)
            else:
                self._settle_job(item, error)  # type: ignore[arg-type]
        if error:
            log.error("the journal can't be written: {reason}", reason=error)
        if committed.records or error:
            self.on_commit(committed)

    @staticmethod
    def _settle_entry(entry: Entry, error: str) -> None:
        waiter = entry.waiter
        if waiter is None:
            return
        try:
            if error:
                waiter.refused(entry.token, error)
            else:
                waiter.durable(entry.token)
        except Exception:  # one station's fault must not keep the others from their answers
            log.failure("a record's waiter failed")

    @staticmethod
    def _settle_job(job: Job, error: str) -> None:
        if isinstance(job.result, Failure):
            job.done.errback(job.result)
        elif error and not job.reads:
            job.done.errback(StoreError(f"not stored: {error}"))
        else:
            job.done.callback(job.result)

    # --- the writing thread

    def _work(self) -> None:
        while True:
            with self._signal:
                while not self._handed and not self._stopping:
                    self._signal.wait()
                if not self._handed:
                    break
                batch = self._handed.pop(0)
            self._reactor.callFromThread(self._deliver, self._commit(batch))
        self.connection.close()

    def _commit(self, batch: list[Item]) -> Committed:
        started = time.perf_counter()
        connection = self.connection
        error, records, last = "", list[Record](), self._written
        try:
            connection.execute("BEGIN")
            records = self._run(batch)
            if records:
                last = self._journal(records)
            connection.execute("COMMIT")
            self._written = last
        except Exception as fault:
            error, records, last = str(fault), [], self._written
            if not isinstance(fault, sqlite3.Error | OSError):  # a fault of ours: the thread has to outlive it
                log.failure("a batch could not be written")
            self._roll_back(batch)
        return Committed(batch, records, time.perf_counter() - started, error, last)

    def _run(self, batch: list[Item]) -> list[Record]:
        records: list[Record] = []
        for item in batch:
            if type(item) is Entry:
                records.append(item.record)
                for change in item.changes:
                    apply_change(self.connection, change)
            else:
                assert type(item) is Job
                self._run_job(item, records)
        return records

    def _run_job(self, job: Job, records: list[Record]) -> None:
        try:
            job.result = job.run(self.connection, records)
        except sqlite3.Error:
            raise
        except Exception:  # a fault of ours, not of the disk: this job's caller is told, the batch goes on
            job.result = Failure()

    def _journal(self, records: list[Record]) -> int:
        last = self._written + len(records)
        body = _pack([(record.topic, record.key, record.value) for record in records])
        self.connection.execute(
            "INSERT INTO journal (last, first, at, body) VALUES (?, ?, ?, ?)",
            (last, self._written + 1, time.time(), body),
        )
        return last

    def _roll_back(self, batch: list[Item]) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as fault:
            log.error("rollback failed: {reason}", reason=str(fault))
        for item in batch:
            if type(item) is Job and item.reads:
                try:
                    item.result = item.run(self.connection, [])
                except Exception:
                    item.result = Failure()


def unpack(body: bytes) -> list[list[Any]]:
    """A journal row's records: [topic, key, value] each."""
    return _unpack(body)


def apply_change(connection: sqlite3.Connection, change: Change) -> None:
    """Store one change of state."""
    if type(change) is SaveBoot:
        connection.execute(
            "INSERT OR REPLACE INTO stations (charge_point_id, station_id, tenant_id, version, boot_status, boot, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            msgspec.structs.astuple(change),
        )
    elif type(change) is SaveTransaction:
        connection.execute(
            "INSERT OR REPLACE INTO transactions "
            "(charge_point_id, transaction_id, version, key, started_at, ended_at, records) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                change.charge_point_id,
                change.transaction_id,
                change.version,
                change.key,
                change.started_at,
                change.ended_at,
                _pack(list(change.records.items())),
            ),
        )
    else:
        raise TypeError(f"no table for {type(change).__name__}")

"""The embedded store and journal with a reactor that a test drives: the writing thread is real, nothing sleeps.

embedded = build_embedded(folder)       opens the state directory and starts the writing thread
embedded.append(b"1")                   -> a Witness who is told what becomes of the record
embedded.settle()                       until nothing waits for the disk
embedded.wait(store.command("c"))       the result of a Deferred, or its failure raised
embedded.reopen()                       stopped and opened again, as after a restart
embedded.disk                           a connection that can be made to hold commits, or to fail them
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from ocppgw.metrics import Metrics
from ocppgw.net.embedded import Database, SqliteJournal, SqliteStore
from ocppgw.ocpp.effects import Change, Record

TIME_LIMIT = 10.0  # seconds for what a thread is expected to do
DISK_FULL = "database or disk is full"


class ThreadedReactor(Clock):
    """A Clock that also takes calls from threads, and runs them while the test waits for something."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = time.time()  # the journal dates its commits by the wall clock
        self._calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: A002, N802
        self._calls.put(lambda: callable(*args, **kwargs))

    def getThreadPool(self) -> Any:  # noqa: N802
        return self

    def callInThreadWithCallback(self, on_result: Any, function: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        """(twisted.python.threadpool.ThreadPool) Readers run at once: only the writer needs its own thread here."""
        try:
            result = function(*args, **kwargs)
        except Exception:
            on_result(False, Failure())
        else:
            on_result(True, result)

    def run_until(self, done: Callable[[], bool]) -> None:
        """Let threads and due calls have their turn until `done`. AssertionError after TIME_LIMIT."""
        deadline = time.monotonic() + TIME_LIMIT
        while True:
            self.advance(0)
            if done():
                return
            try:
                call = self._calls.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not within {TIME_LIMIT} seconds") from None
            call()


class Disk:
    """The writer's connection; a test may hold its commits or let statements fail with `fault`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.fault = ""
        self.failing_statement = "COMMIT"
        self.commits = 0
        self.reached = threading.Event()  # a commit is being held
        self._open = threading.Event()
        self._open.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if self.fault and statement.startswith(self.failing_statement):
            raise sqlite3.OperationalError(self.fault)
        if statement == "COMMIT":
            self.reached.set()
            assert self._open.wait(TIME_LIMIT), "a held commit was never released"
            self.commits += 1
        return self._connection.execute(statement, *parameters)

    def hold(self) -> None:
        self.reached.clear()
        self._open.clear()

    def release(self) -> None:
        self._open.set()


class Witness:
    """A ports.Waiter: `told` holds ("durable", token) and ("refused", token, reason), in order."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.told: list[Any] = [] if log is None else log

    def durable(self, token: int) -> None:
        self.told.append(("durable", token))

    def refused(self, token: int, reason: str) -> None:
        self.told.append(("refused", token, reason))


class Embedded:
    """One state directory, open."""

    def __init__(
        self,
        folder: Path,
        retention_days: float = 7.0,
        retention_bytes: int = 2**30,
        command_ttl: float = 86_400.0,
        revoked_ttl: float = 0.0,
        attempts_kept: int = 5000,
    ) -> None:
        self.folder = folder
        self._retention = (retention_days, retention_bytes)
        self._bounds = (command_ttl, revoked_ttl, attempts_kept)
        self.reactor = ThreadedReactor()
        self._open()

    def _open(self) -> None:
        self.metrics = Metrics({"1.6J": ()}, "test")
        self.database = Database(self.folder, self.reactor)
        self.store = SqliteStore(self.database, self.reactor.seconds, *self._bounds)
        self.journal = SqliteJournal(self.database, self.metrics, self.reactor, self.folder, *self._retention)
        self.disk = Disk(self.database.connection)
        self.database.connection = self.disk  # type: ignore[assignment]
        self.database.start()
        self.is_open = True

    def append(self, value: bytes = b"{}", *changes: Change, waiter: Any = None, token: int = 1) -> Any:
        waiter = waiter or Witness()
        self.journal.append(Record("station", "station-1", value), changes, waiter, token)
        return waiter

    def settle(self) -> None:
        """Until all that was handed over is settled."""
        self.wait(self.database.read(lambda connection: None))

    def wait(self, deferred: "Deferred[Any]") -> Any:
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.reactor.run_until(lambda: bool(results))
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def values(self, since: int = 0, limit: int = 1000) -> list[bytes]:
        return [event.value for event in self.wait(self.journal.read(since, limit))]

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.disk.release()
            self.wait(self.database.stop())
            self.journal.close()
            self.database.release()

    def reopen(self) -> None:
        self.close()
        self._open()


def build_embedded(folder: str | Path, **settings: Any) -> Embedded:
    return Embedded(Path(folder), **settings)

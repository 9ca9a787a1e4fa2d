"""The embedded store and journal on a real file and its real thread, driven from a test without a reactor."""

import queue
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.metrics import Metrics
from ocppgw.net.embedded import Database, SqliteJournal, SqliteStore
from ocppgw.ocpp.effects import Record

TIME_LIMIT = 10.0


class ThreadlessReactor:
    """`callLater(0)` and what threads send wait until the test lets them run; the clock is the test's."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()
        self._pool = ThreadPool(0, 2)
        self._pool.start()

    def seconds(self) -> float:
        return self.now

    def callLater(self, _delay: float, function: Callable[..., Any], *args: Any) -> None:  # noqa: N802
        self._calls.put((function, args))

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:  # noqa: N802
        self._calls.put((function, args))

    def getThreadPool(self) -> ThreadPool:  # noqa: N802
        return self._pool

    def turn(self) -> None:
        """Run the next call; AssertionError when none comes in time."""
        try:
            function, args = self._calls.get(timeout=TIME_LIMIT)
        except queue.Empty:
            raise AssertionError("nothing happened any more") from None
        function(*args)

    def stop(self) -> None:
        self._pool.stop()


class Waiter:
    """Remembers what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def durable(self, token: int) -> None:
        self.told.append(("durable", token))

    def refused(self, token: int, reason: str) -> None:
        assert reason
        self.told.append(("refused", token))


class Embedded:
    """One life of the store and journal in `folder`."""

    def __init__(self, folder: Path, now: float | None = None, **retention: Any) -> None:
        self.reactor = ThreadlessReactor(time.time() if now is None else now)
        self.metrics = Metrics({}, "test")
        self.database = Database(folder, self.reactor)
        self.journal = SqliteJournal(
            self.database,
            self.metrics,
            self.reactor,
            folder,
            retention.get("days", 7.0),
            retention.get("size", 2**30),
        )
        self.store = SqliteStore(self.database, self.reactor.seconds, 3600.0)
        self.database.start()

    def result(self, deferred: "Deferred[Any]") -> Any:
        """Let the reactor turn until it fires."""
        results: list[Any] = []
        failures: list[Any] = []
        deferred.addCallbacks(results.append, failures.append)
        while not results and not failures:
            self.reactor.turn()
        if failures:
            failures[0].raiseException()
        return results[0]

    def settle(self) -> None:
        """Until everything handed over so far is committed or refused."""
        self.result(self.database.read(lambda _connection: None))

    def publish(self, *values: bytes, waiter: Waiter | None = None) -> Waiter:
        waiter = waiter or Waiter()
        for token, value in enumerate(values, 1):
            self.journal.append(Record("station", "S-1", value), (), waiter, token)
        self.settle()
        return waiter

    def stop(self) -> None:
        self.result(self.database.stop())
        self.journal.close()
        self.reactor.stop()


class EmbeddedTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.lives: list[Embedded] = []
        self.addCleanup(self.end)

    def life(self, now: float | None = None, **retention: Any) -> Embedded:
        """Start, after stopping the life before, on the same folder."""
        self.end()
        self.lives.append(Embedded(self.folder, now, **retention))
        return self.lives[-1]

    def end(self) -> None:
        while self.lives:
            life = self.lives.pop()
            life.stop()
            life.database.release()

"""Connection attempts on their way to the store: collected for a moment, written together, bounded.

They are for people who look for a fault, so losing the last ones in a crash is all right; holding up a handshake for
them is not.
"""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.access.attempts import Attempt, StoredAttempt, stored
from ocppgw.clock import Clock
from ocppgw.metrics import Metrics
from ocppgw.ports import Store

log = Logger(namespace="ocppgw.attempts")

COLLECT_SECONDS = 0.2
MAX_WAITING = 2000  # then the oldest ones give way


class AttemptLog:
    def __init__(self, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._waiting: list[StoredAttempt] = []
        self._timer: IDelayedCall | None = None

    def add(self, attempt: Attempt) -> None:
        self._waiting.append(stored(attempt))
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[0]
            self._metrics.note("attempt-not-kept")
        if self._timer is None:
            self._timer = self._clock.callLater(COLLECT_SECONDS, self.flush)

    def flush(self) -> "Deferred[None]":
        """Hand over what waits; fires when it is stored or lost."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        batch, self._waiting = self._waiting, []
        if not batch:
            return succeed(None)
        return self._store.save_attempts(batch).addErrback(self._lost, len(batch))

    def _lost(self, failure: Any, count: int) -> None:
        self._metrics.note("attempt-not-kept")
        log.warn("{count} attempts were not kept: {reason}", count=count, reason=failure.getErrorMessage())

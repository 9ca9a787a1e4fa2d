"""Records on their way to the disk: bounded, watched, and refused loudly when they can't get there.

The policy when the bound is reached, the disk hangs, or the journal is full of events that Kafka has yet to take: the
newest is refused at once (CALLERROR, or for transaction messages a close without answer, so that the charger keeps it),
and /ready says so. Nothing is ever dropped silently.
"""

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocppgw.errors import StoreError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import Change, Record
from ocppgw.ports import Journal, JournalStatus, Waiter

log = Logger(namespace="ocppgw.outbox")


class Gate(Protocol):
    """(`ocppgw.routing.acknowledgements.Acknowledgements`)"""

    def held(self, waiter: Waiter) -> Waiter:
        """A waiter that tells `waiter` once the bus has acknowledged the record."""


class Outbox:
    """`timeout` is how long (seconds) a record may wait for the disk before new ones are refused."""

    def __init__(self, journal: Journal, metrics: Metrics, max_records: int, max_bytes: int, timeout: float) -> None:
        self._journal = journal
        self._backlog = journal.backlog
        self._metrics = metrics
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._gate: Gate | None = None
        self.fault = ""  # the operator's sentence while records are refused, else ""

    def publish(self, record: Record, changes: tuple[Change, ...], waiter: Waiter, token: int) -> None:
        """Make it durable, then `waiter.durable(token)`; `waiter.refused(token, reason)` when that can't be."""
        backlog = self._backlog
        if self.fault or backlog.waiting >= self._max_records or backlog.waiting_bytes >= self._max_bytes:
            waiter.refused(token, self.fault or "too many records wait for the disk")
            self._metrics.note("record-refused")
            return
        self._journal.append(record, changes, waiter, token)

    def publish_acknowledged(self, record: Record, changes: tuple[Change, ...], waiter: Waiter, token: int) -> None:
        """The same, and the bus's acknowledgement is waited for, as long as it may be expected in time."""
        gate = self._gate
        self.publish(record, changes, waiter if gate is None else gate.held(waiter), token)

    def store(self, record: Record) -> "Deferred[None]":
        """Fires when it is durable; fails with StoreError when it can't be."""
        waiter = _Durable()
        self.publish(record, (), waiter, 0)
        return waiter.done

    def wait_for(self, gate: Gate) -> None:
        """There is a bus: `gate` knows what it has acknowledged."""
        self._gate = gate

    def check(self) -> JournalStatus:
        """Called every second: notice a disk that hangs, a journal that is full, and their recovery."""
        status = self._journal.status()
        if status.oldest_wait_seconds > self._timeout:
            self.fault = f"the disk has not confirmed a write for {status.oldest_wait_seconds:.0f} s"
            self._journal.give_up(self.fault)
        else:
            self.fault = status.reason if status.is_full else ""
        return status


class _Durable:
    """A waiter as a Deferred."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def durable(self, token: int) -> None:
        self.done.callback(None)

    def refused(self, token: int, reason: str) -> None:
        self.done.errback(StoreError(f"not stored: {reason}"))


class _Nobody:
    """Waits for a record nobody answers for."""

    def durable(self, token: int) -> None: ...

    def refused(self, token: int, reason: str) -> None:
        log.warn("event not stored: {reason}", reason=reason)


NOBODY = _Nobody()

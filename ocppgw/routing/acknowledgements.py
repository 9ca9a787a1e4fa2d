"""Answers that wait for the bus (Kafka) to have their events, and not only for this node's disk (ADR 0016).

    durable here -> held -> the relay has shipped all up to it         answered: Kafka has it
                     └── `timeout` seconds later                       answered: the disk has it

Nobody is held while nothing would come of it: while the relay fails, while it is far behind, and after somebody waited
in vain until Kafka has what was waited for. An outage costs a few answers one `timeout`, not all of them.

A station has one CALL served at a time, so that being held can't change the order of its answers.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.metrics import Metrics
from ocppgw.ports import Waiter

log = Logger(namespace="ocppgw.relay")

MAX_HELD = 20_000  # beyond it the disk is enough
MAX_BEHIND = 2000  # events that the relay has to ship first: two batches


class Shipping(Protocol):
    """What is used of the relay."""

    @property
    def cursor(self) -> int: ...
    @property
    def is_failing(self) -> bool: ...
    def hurry(self) -> None: ...


class _Held(msgspec.Struct, gc=False):
    cursor: int
    until: float
    waiter: Waiter
    token: int


class Acknowledgements:
    """(routing.outbox.Gate) `last_cursor` is that of the newest durable event; `timeout` in seconds."""

    def __init__(
        self, relay: Shipping, last_cursor: Callable[[], int], metrics: Metrics, clock: Clock, timeout: float
    ) -> None:
        self._relay, self._last_cursor, self._metrics, self._clock = relay, last_cursor, metrics, clock
        self._timeout = timeout
        self._held: deque[_Held] = deque()  # in the order of cursors, and of time
        self._timer: IDelayedCall | None = None
        self._late_up_to = 0  # events up to here were not there in time: until they are, nobody else is held
        self._watchers: list[tuple[int, Deferred[None]]] = []  # of `all_acknowledged`

    def __len__(self) -> int:
        return len(self._held)

    def held(self, waiter: Waiter) -> Waiter:
        return _Doorman(self, waiter)

    def durable(self, waiter: Waiter, token: int) -> None:
        """It is on disk: among the events up to the newest one."""
        relay, cursor = self._relay, self._last_cursor()
        behind = cursor - relay.cursor
        if relay.is_failing or self._late_up_to or behind > MAX_BEHIND or len(self._held) >= MAX_HELD:
            self._metrics.note("answered-before-kafka")
            waiter.durable(token)
            return
        self._held.append(_Held(cursor, self._clock.seconds() + self._timeout, waiter, token))
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._time_over)
        relay.hurry()

    def all_acknowledged(self) -> "Deferred[None]":
        """Fires once the bus has all that is durable by now, however much it is, or when it takes none."""
        cursor = self._last_cursor()
        if self._relay.is_failing or self._relay.cursor >= cursor:
            return succeed(None)
        watching: Deferred[None] = Deferred()
        self._watchers.append((cursor, watching))
        return watching

    def shipped(self, cursor: int) -> None:
        """The bus has all up to here."""
        held = self._held
        while held and held[0].cursor <= cursor:
            _tell(held.popleft())
        if cursor >= self._late_up_to:
            self._late_up_to = 0
        self._tell_watchers(cursor)

    def failing(self) -> None:
        """The bus does not take them: the disk has to be enough."""
        self._release()
        self._tell_watchers(self._last_cursor())

    def _tell_watchers(self, cursor: int) -> None:
        if not self._watchers:
            return
        told = [watching for wanted, watching in self._watchers if wanted <= cursor]
        self._watchers = [one for one in self._watchers if one[0] > cursor]
        for watching in told:
            watching.callback(None)

    def _time_over(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if self._held and self._held[0].until <= now:
            self._late_up_to = self._last_cursor()
            self._release()  # those behind it would wait in vain, too
        elif self._held:
            self._timer = self._clock.callLater(self._held[0].until - now, self._time_over)

    def _release(self) -> None:
        held = self._held
        while held:
            self._metrics.note("answered-before-kafka")
            _tell(held.popleft())


def _tell(held: _Held) -> None:
    try:
        held.waiter.durable(held.token)
    except Exception:  # one station's fault must not keep the others from their answers, nor the relay from its work
        log.failure("a record's waiter failed")


class _Doorman:
    """(ports.Waiter) Between the journal and the one who waits."""

    __slots__ = ("_acknowledgements", "_waiter")

    def __init__(self, acknowledgements: Acknowledgements, waiter: Waiter) -> None:
        self._acknowledgements, self._waiter = acknowledgements, waiter

    def durable(self, token: int) -> None:
        self._acknowledgements.durable(self._waiter, token)

    def refused(self, token: int, reason: str) -> None:
        self._waiter.refused(token, reason)

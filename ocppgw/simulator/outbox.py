"""The CALLs of one station: one in flight, in order; transaction messages outlive the connection.

OCPP 1.6J section 4.1.1 and 2.x part 4 section 4.1.1 (one CALL at a time), 1.6 section 3.7.1 and 2.x E04, E13
(transaction messages are queued while offline and repeated a few times when they fail).
"""

import random
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ocppgw.ocpp import frames

CALL_TIMEOUT = 30.0  # seconds until a CALL counts as unanswered
ATTEMPTS = 3  # TransactionMessageAttempts, MessageAttempts
RETRY_INTERVAL = 10.0  # seconds, times the number of attempts made
MAX_WAITING = 500  # messages of one station

Payload = dict[str, Any]


@dataclass(slots=True)
class Outgoing:
    """A CALL to be sent. `failed` gets the error code, "Timeout" or "Offline"; `prepare` runs just before sending."""

    action: str
    payload: Payload
    answered: Callable[[Payload, float], None] | None = None
    failed: Callable[[str, float], None] | None = None
    transactional: bool = False
    intermediate: bool = False  # a sample in the middle of a transaction: first to go when the queue is full
    prepare: Callable[[Payload], None] | None = None
    attempts: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class InFlight:
    message_id: str
    item: Outgoing
    deadline: float


class Outbox:
    """A bounded queue in front of the one slot. Full: intermediate samples go first, then the newest is refused."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: deque[Outgoing] = deque()
        self.in_flight: InFlight | None = None
        self.discarded = 0

    def __len__(self) -> int:
        return len(self._waiting) + (self.in_flight is not None)

    @property
    def transactional(self) -> int:
        """Transaction messages not yet answered."""
        flying = self.in_flight is not None and self.in_flight.item.transactional
        return sum(item.transactional for item in self._waiting) + flying

    def add(self, item: Outgoing, now: float) -> None:
        if len(self._waiting) >= MAX_WAITING and not self._make_room():
            self.discarded += 1
            if item.failed is not None:
                item.failed("QueueFull", now)
            return
        self._waiting.append(item)

    def _make_room(self) -> bool:
        for index, item in enumerate(self._waiting):
            if item.intermediate:
                del self._waiting[index]
                self.discarded += 1
                return True
        return False

    def take(self, now: float, *, transactional: bool) -> bytes | None:
        """The next frame to send, if the slot is free; transaction messages only when they may go."""
        if self.in_flight is not None:
            return None
        for index, item in enumerate(self._waiting):
            if item.transactional:
                blocked = not transactional or item.not_before > now
                transactional = transactional and not blocked  # their order is kept
                if blocked:
                    continue
            del self._waiting[index]
            return self._fly(item, now)
        return None

    def _fly(self, item: Outgoing, now: float) -> bytes:
        if item.prepare is not None:
            item.prepare(item.payload)
        item.attempts += 1
        message_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        self.in_flight = InFlight(message_id, item, now + CALL_TIMEOUT)
        return frames.call(message_id, item.action, item.payload)

    def land(self, message_id: str) -> Outgoing | None:
        """The message this answer belongs to; None for a foreign id, which leaves the slot alone."""
        if self.in_flight is None or self.in_flight.message_id != message_id:
            return None
        item, self.in_flight = self.in_flight.item, None
        return item

    def overdue(self, now: float) -> Outgoing | None:
        if self.in_flight is None or self.in_flight.deadline > now:
            return None
        item, self.in_flight = self.in_flight.item, None
        return item

    def failed(self, item: Outgoing, code: str, now: float) -> None:
        """A CALLERROR or no answer: transaction messages are tried again later, up to ATTEMPTS times."""
        if item.transactional and item.attempts < ATTEMPTS:
            item.not_before = now + RETRY_INTERVAL * item.attempts
            self._waiting.appendleft(item)
            return
        self.discarded += item.transactional
        if item.failed is not None:
            item.failed(code, now)

    def lost(self, now: float) -> None:
        """The connection is gone: what is no transaction message ends, the rest waits unchanged for the next one."""
        ended = [item for item in self._waiting if not item.transactional]
        self._waiting = deque(item for item in self._waiting if item.transactional)
        if self.in_flight is not None:
            item, self.in_flight = self.in_flight.item, None
            if item.transactional:
                item.attempts -= 1  # no verdict of the CSMS: the attempt does not count
                self._waiting.appendleft(item)
            else:
                ended.insert(0, item)
        for item in ended:
            if item.failed is not None:
                item.failed("Offline", now)

    def wake_at(self, *, transactional: bool) -> float | None:
        """When time alone changes something: the deadline of the CALL in flight, or the next retry."""
        if self.in_flight is not None:
            return self.in_flight.deadline
        if transactional:
            return next((item.not_before for item in self._waiting if item.transactional), None)
        return None

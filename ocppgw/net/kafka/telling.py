"""Messages that can't wait behind a batch of events: to other nodes, each sent at once and once.

They have a producer and a thread of their own. What comes while some are on their way goes with the next ones.
"""

from collections import deque
from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred, fail

from ocppgw.errors import BusError, Overloaded
from ocppgw.net.kafka.settings import KafkaSettings
from ocppgw.net.kafka.shipping import Job, Shipper, record_bytes, too_large
from ocppgw.net.kafka.threads import Reactor, ShippingThread
from ocppgw.ports import Outgoing

MAX_WAITING = 1000
TELL_SECONDS = 2.0  # from when it is handed over to its acknowledgement


class _Message(msgspec.Struct, eq=False):
    record: Outgoing
    told: "Deferred[None]"
    deadline: float


class Teller:
    """`monotonic` is the shipper's clock; the shipper is this teller's own."""

    def __init__(
        self,
        settings: KafkaSettings,
        shipper: Shipper,
        reactor: Reactor,
        monotonic: Callable[[], float],
        ended: Callable[[str], None],
    ) -> None:
        self._settings, self._monotonic = settings, monotonic
        self.thread = ShippingThread(shipper, reactor, self._shipped, ended, "messenger")
        self._waiting: deque[_Message] = deque()
        self._sent: list[_Message] = []
        self._job: Job | None = None
        self._is_stopped = False

    def tell(self, record: Outgoing) -> "Deferred[None]":
        """Fires when Kafka has it; fails with BusError otherwise, TELL_SECONDS from now at the latest."""
        if self._is_stopped:
            return fail(BusError("the bus does not run"))
        if len(self._waiting) >= MAX_WAITING:
            return fail(Overloaded(f"{MAX_WAITING} messages to other nodes wait for Kafka", hint="it is slow or away"))
        if record_bytes(record) > self._settings.max_record_bytes:
            return fail(too_large(record, 0, f"kafka.max_record_bytes, {self._settings.max_record_bytes}"))
        message = _Message(record, Deferred(), self._monotonic() + TELL_SECONDS)
        self._waiting.append(message)
        if self._job is None:
            self._next()
        return message.told

    def stop(self) -> None:
        """What is not acknowledged fails."""
        self._is_stopped = True
        messages, self._sent = [*self._sent, *self._waiting], []
        self._waiting.clear()
        for message in messages:
            _settle(message, BusError("the bus was stopped"))

    def _next(self) -> None:
        now = self._monotonic()
        while self._waiting and self._waiting[0].deadline <= now:
            _settle(self._waiting.popleft(), BusError("Kafka did not take a message to another node in time"))
        if not self._waiting:
            return
        self._sent, self._waiting = list(self._waiting), deque()
        deadline = max(message.deadline for message in self._sent)
        self._job = Job([message.record for message in self._sent], deadline, Deferred())
        self.thread.give(self._job)

    def _shipped(self, job: Job) -> None:
        if job is not self._job:
            return
        self._job = None
        messages, self._sent = self._sent, []
        for message in messages:
            _settle(message, job.error)
        if not self._is_stopped:
            self._next()


def _settle(message: _Message, error: BusError | None) -> None:
    if message.told.called:
        return
    if error is None:
        message.told.callback(None)
    else:
        message.told.errback(error)

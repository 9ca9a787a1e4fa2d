"""Messages that can't wait behind a batch of events: to other nodes, each sent at once and once.

They have a producer and a thread of their own. Those for one topic that come while others are on their way go together
with the next ones, in the order in which they came; topics take turns. A topic that Kafka does not have must not hold
up the others time and again: for a while nothing is sent there.
"""

from collections import deque
from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.errors import BusError
from ocppgw.net.kafka.settings import KafkaSettings
from ocppgw.net.kafka.shipping import Job, Shipper, TopicAbsent, record_bytes, too_large
from ocppgw.net.kafka.threads import Reactor, ShippingThread
from ocppgw.ports import Outgoing

log = Logger(namespace="ocppgw.kafka")

MAX_WAITING = 1000
TELL_SECONDS = 2.0  # from when it is handed over to its acknowledgement
ABSENT_SECONDS = 10.0  # in which a topic that was missing is not tried again


class _Message(msgspec.Struct, eq=False):
    record: Outgoing
    told: "Deferred[None]"
    deadline: float
    bound: IDelayedCall | None = None


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
        self._settings, self._reactor, self._monotonic = settings, reactor, monotonic
        self.thread = ShippingThread(shipper, reactor, self._shipped, ended, "messenger")
        self._waiting: deque[_Message] = deque()
        self._sent: list[_Message] = []
        self._job: Job | None = None
        self._absent: dict[str, tuple[float, BusError]] = {}  # topic -> until when, and what Kafka said
        self._is_stopped = False

    def tell(self, record: Outgoing) -> "Deferred[None]":
        """Fires when Kafka has it; fails with BusError otherwise, TELL_SECONDS from now at the latest."""
        refusal = self._refusal(record)
        if refusal is not None:
            return fail(refusal)
        message = _Message(record, Deferred(), self._monotonic() + TELL_SECONDS)
        message.bound = self._reactor.callLater(TELL_SECONDS, self._too_late, message)
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

    def _refusal(self, record: Outgoing) -> BusError | None:
        if self._is_stopped:
            return BusError("the bus does not run")
        if len(self._waiting) >= MAX_WAITING:
            return BusError(f"{MAX_WAITING} messages to other nodes wait for Kafka", code="Overloaded")
        if record_bytes(record) > self._settings.max_record_bytes:
            return too_large(record, 0, f"kafka.max_record_bytes, {self._settings.max_record_bytes}")
        until, error = self._absent.get(record.topic, (0.0, None))
        return error if until > self._monotonic() else None

    def _too_late(self, message: _Message) -> None:
        message.bound = None
        if message in self._waiting:
            self._waiting.remove(message)
        _settle(message, BusError("Kafka did not take a message to another node in time"))

    def _next(self) -> None:
        """Those of the topic whose turn it is."""
        if not self._waiting:
            return
        topic = self._waiting[0].record.topic
        self._sent = [message for message in self._waiting if message.record.topic == topic]
        self._waiting = deque(message for message in self._waiting if message.record.topic != topic)
        deadline = max(message.deadline for message in self._sent)
        self._job = Job([message.record for message in self._sent], deadline, Deferred())
        self.thread.give(self._job)

    def _shipped(self, job: Job) -> None:
        if job is not self._job:
            return
        self._job = None
        messages, self._sent = self._sent, []
        if isinstance(job.error, TopicAbsent):
            messages += self._shun(job.records[0].topic, job.error)
        if not self._is_stopped:
            self._next()
        for message in messages:
            _settle(message, job.error)

    def _shun(self, topic: str, error: BusError) -> list[_Message]:
        """The messages that wait for it."""
        now = self._monotonic()
        self._absent = {other: known for other, known in self._absent.items() if known[0] > now}
        self._absent[topic] = (now + ABSENT_SECONDS, error)
        log.warn(
            "nothing is sent to another node for {seconds:g} s: {reason}", seconds=ABSENT_SECONDS, reason=str(error)
        )
        messages = [message for message in self._waiting if message.record.topic == topic]
        self._waiting = deque(message for message in self._waiting if message.record.topic != topic)
        return messages


def _settle(message: _Message, error: BusError | None) -> None:
    bound, message.bound = message.bound, None
    if bound is not None:
        bound.cancel()
    if message.told.called:
        return
    if error is None:
        message.told.callback(None)
    else:
        message.told.errback(error)

"""What a consumer's thread does: one batch at a time is handled in the reactor, and committed once that is done.

While a batch is being handled the consumer stays in its group with its partitions paused: heartbeats alone don't keep
it there, and rebalances need it. A batch is committed only as long as the membership is the one it was read with: after
a rebalance its partitions may be another member's, which reads them again from the last commit. A batch whose handling
failed is handed over again, after a pause, for as long as it takes.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaConnectionError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    RetriableError,
    UnknownMemberIdError,
)
from twisted.logger import Logger

from ocppgw.net.kafka.clients import Consumer, Membership, Partition
from ocppgw.net.kafka.health import Trouble
from ocppgw.net.kafka.settings import KafkaSettings
from ocppgw.net.kafka.shipping import (
    EXPECTED,
    SILENT_SECONDS,
    TOPIC_SECONDS,
    BackOff,
    missing_topic,
    trouble_of,
    unreachable,
)
from ocppgw.ports import Message

log = Logger(namespace="ocppgw.kafka")

POLL_SECONDS = 0.2
AFTER_BATCH_SECONDS = 0.005  # lets the next batch grow: a batch costs as much as some ten records
STAY_SECONDS = 0.25  # between two signs of life while a batch is handled
COMMIT_SECONDS = 1.0
LONGEST_RETRY_PAUSE = 30.0

LOST = (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
PASSING = (KafkaConnectionError, KafkaTimeoutError, RetriableError)


class Batch:
    """Records on their way to `handle`, and what became of them; `settle` is called in the reactor thread."""

    def __init__(self, found: Mapping[Partition, Sequence[Message]], membership: Membership | None) -> None:
        self.messages = [message for messages in found.values() for message in messages]
        self.first = {partition: messages[0].offset for partition, messages in found.items()}
        self.next = {partition: messages[-1].offset + 1 for partition, messages in found.items()}
        self.membership = membership
        self.failures = 0
        self.retry_at: float | None = None
        self._settled = threading.Event()
        self._was_handled = False

    def settle(self, was_handled: bool) -> None:
        self._was_handled = was_handled
        self._settled.set()

    def wait(self, seconds: float) -> bool | None:
        """Whether it was handled; None when that isn't known after so long."""
        return self._was_handled if self._settled.wait(seconds) else None

    def renew(self) -> None:
        """It is to be handed over again."""
        self._settled = threading.Event()
        self.retry_at = None


class Reader:
    """`hand_over` takes a batch to the reactor. The other arguments are those of a Shipper."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        connect: Callable[[], Consumer],
        hand_over: Callable[[Batch], None],
        sleep: Callable[[float], object],
        monotonic: Callable[[], float],
        tell: Callable[[Trouble | None], None],
        note: Callable[[str], None],
    ) -> None:
        self._settings, self._topics, self._connect = settings, topics, connect
        self._hand_over, self._sleep, self._monotonic = hand_over, sleep, monotonic
        self._tell, self._note = tell, note
        self._consumer: Consumer | None = None
        self._batch: Batch | None = None
        self._back_off = BackOff(monotonic)
        self._missed_since: float | None = None  # a topic
        self._stop_at = float("inf")

    def turn(self) -> None:
        """Some of the work; returns within about a second, whatever Kafka does, unless it has to connect."""
        try:
            if self._batch is not None:
                self._continue(self._batch)
            elif self._connected():
                self._read()
        except Exception as fault:
            self._failed(fault)

    def stop_in(self, seconds: float) -> None:
        """From any thread: a batch that is not handled then is left to others."""
        self._stop_at = self._monotonic() + seconds

    def has_time_for_batch(self) -> bool:
        """Is there one that is being handled, and may still be committed before the stop?"""
        batch = self._batch
        return batch is not None and batch.retry_at is None and self._monotonic() < self._stop_at

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    # --- the connection

    def _connected(self) -> Consumer | None:
        if self._consumer is None:
            left = self._back_off.left()
            if left:
                self._sleep(min(left, POLL_SECONDS))
                return None
            self._consumer = self._connect()
        return self._consumer

    def _failed(self, fault: Exception) -> None:
        if not isinstance(fault, EXPECTED):
            log.failure("a fault while records were read from Kafka")
        self._back_off.failed()
        self._tell(trouble_of(fault, self._settings, self._why()))
        if not isinstance(fault, PASSING):
            self.close()
        self._sleep(min(self._back_off.left(), POLL_SECONDS))

    def _check_login(self, consumer: Consumer) -> None:
        fault = consumer.fault()
        if fault is not None:
            raise fault

    def _check(self, consumer: Consumer) -> None:
        self._check_login(consumer)
        if consumer.silence() > self._settings.request_timeout + SILENT_SECONDS:
            self._tell(unreachable(self._settings, self._why()))
            return
        missing = consumer.missing(self._topics)
        if missing:
            self._miss(missing)
        elif consumer.membership() is not None:
            self._missed_since = None
            self._back_off.succeeded()
            self._tell(None)

    def _miss(self, topic: str) -> None:
        now = self._monotonic()
        if self._missed_since is None:
            self._missed_since = now
        elif now - self._missed_since >= TOPIC_SECONDS:
            self._tell(Trouble(f"missing {topic}", str(missing_topic(topic, self._settings))))

    def _why(self) -> str:
        return self._consumer.cause() if self._consumer is not None else ""

    # --- batches

    def _read(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        found = consumer.poll(POLL_SECONDS)
        if found:
            self._batch = Batch(found, consumer.membership())
            self._hand_over(self._batch)
        self._check(consumer)

    def _continue(self, batch: Batch) -> None:
        if batch.retry_at is not None:
            self._wait_for_retry(batch)
            return
        was_handled = batch.wait(STAY_SECONDS)
        if was_handled is None:
            self._stay(batch)
        elif self._is_lost(batch):
            self._drop(batch)
        elif was_handled:
            self._commit(batch)
        else:
            batch.failures += 1
            pause = min(LONGEST_RETRY_PAUSE, self._settings.retry_pause * 2 ** min(batch.failures - 1, 10))
            batch.retry_at = self._monotonic() + pause

    def _wait_for_retry(self, batch: Batch) -> None:
        assert batch.retry_at is not None
        if self._is_lost(batch):
            self._drop(batch)
        elif self._monotonic() >= batch.retry_at:
            batch.renew()
            self._hand_over(batch)
        else:
            self._sleep(min(STAY_SECONDS, batch.retry_at - self._monotonic()))
            self._stay(batch)

    def _stay(self, batch: Batch) -> None:
        consumer = self._consumer
        if consumer is not None:  # else it was lost with all its batches
            consumer.stay()
            self._check(consumer)

    def _is_lost(self, batch: Batch) -> bool:
        return self._consumer is None or batch.membership is None or self._consumer.membership() != batch.membership

    def _commit(self, batch: Batch) -> None:
        consumer = self._consumer
        assert consumer is not None
        try:
            consumer.commit(batch.next, COMMIT_SECONDS)
        except LOST:
            self._drop(batch)
            return
        except PASSING as fault:  # handled it is: nothing is lost by trying again, nor by reading it twice
            self._tell(trouble_of(fault, self._settings, self._why()))
            consumer.stay()
            self._check_login(consumer)  # and no more: that a broker answers is no end of this trouble
            return
        self._done(consumer)

    def _drop(self, batch: Batch) -> None:
        """Its partitions may be another's by now; those that are still ours are read again."""
        self._note("kafka-batch-not-committed")
        if self._consumer is not None:
            self._consumer.seek(batch.first)
        self._done(self._consumer)

    def _done(self, consumer: Consumer | None) -> None:
        self._batch = None
        if consumer is not None:
            consumer.resume()
        self._sleep(AFTER_BATCH_SECONDS)

"""What the producer's thread does: all records of a batch are acknowledged, in order for each key, or the batch fails.

A batch goes in chunks, each of them one library batch per partition, the next one only when all of the last was
acknowledged: so nothing overtakes a record that was refused. The library itself never gives a record up. Where one is
not acknowledged in time the whole producer is closed, and whatever it still had with it; the next one starts from the
caller's first unacknowledged record again. What the closed one had on the wire is a run of records that begins there
too: wherever it lands, the first occurrences stay in order.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec
from kafka.errors import (
    AuthorizationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocppgw.errors import BusError
from ocppgw.net.kafka.clients import NoBroker, Producer, Sent, TopicMissing
from ocppgw.net.kafka.connections import REFUSALS
from ocppgw.net.kafka.health import Trouble
from ocppgw.net.kafka.partitions import partition_of
from ocppgw.net.kafka.settings import KafkaSettings
from ocppgw.ports import Outgoing

log = Logger(namespace="ocppgw.kafka")

CHUNK_BYTES = 512 * 1024
RECORD_BYTES = 100  # of a record, around its key and value
SLICE_SECONDS = 0.25  # of a wait, between two looks at the clock and at what is to stop
WATCH_SECONDS = 1.0  # between two looks at an idle connection
TOPIC_SECONDS = 3.0  # that a broker may take to make a topic on its first use
FIRST_BACK_OFF = 0.5
LONGEST_BACK_OFF = 5.0
SILENT_SECONDS = 4.0  # beyond a request's time limit: how often the broker is asked (clients.FRESH_SECONDS), and a bit

PROOF_LAPSES = 2  # request timeouts after the last batch in vain

UNREACHABLE = "unreachable"
MISSING = "missing topic"

EXPECTED = (KafkaError, NoBroker, BusError, OSError)  # of the library; all else is a fault of ours
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class RecordRefused(BusError):
    """Kafka can't take this record, now or later; `index` is its place in the batch."""

    code = "RecordRefused"

    def __init__(self, message: str, index: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.index = index


class TopicAbsent(BusError):
    """Kafka answers, and has no such topic."""

    code = "TopicAbsent"

    def __init__(self, message: str, topic: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.topic = topic


class Job(msgspec.Struct, eq=False):
    """A batch to ship; `deadline` is by the shipper's clock."""

    records: Sequence[Outgoing]
    deadline: float
    done: "Deferred[None]"
    error: BusError | None = None


class _Late(Exception):
    """Not acknowledged in time; says what was waited for."""


class BackOff:
    """When the next attempt is due."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._pause = FIRST_BACK_OFF
        self._due = float("-inf")

    def left(self) -> float:
        return max(0.0, self._due - self._monotonic())

    def failed(self) -> None:
        self._due = self._monotonic() + self._pause
        self._pause = min(LONGEST_BACK_OFF, self._pause * 2)

    def succeeded(self) -> None:
        self._pause = FIRST_BACK_OFF


class Shipper:
    """`connect` makes a producer and blocks; `tell` takes this side's trouble, None when all is well; `cause` says why
    batches are tried again; `note` counts."""

    def __init__(
        self,
        settings: KafkaSettings,
        connect: Callable[[], Producer],
        monotonic: Callable[[], float],
        tell: Callable[[Trouble | None], None],
        cause: Callable[[], str],
        note: Callable[[str], None],
    ) -> None:
        self._settings, self._connect, self._monotonic = settings, connect, monotonic
        self._tell, self._cause, self._note = tell, cause, note
        self._producer: Producer | None = None
        self._back_off = BackOff(monotonic)
        self._trouble: Trouble | None = None
        self._must_prove = False  # a broker that answers, and acknowledges nothing, is no use
        self._late_at = float("-inf")
        self._stop_at = float("inf")

    def turn(self, job: Job | None) -> bool:
        """Connect where there is no connection, then ship; whether the job is done, or has failed (`job.error`)."""
        try:
            self._connected()
            if job is None:
                self._watch()
                return False
            if self._producer is None:
                return self._waited(job)
            self._ship(self._producer, job)
        except BusError as error:
            assert job is not None
            job.error = error
        return True

    def pause(self) -> float:
        """Seconds until the next turn, when no job comes."""
        return WATCH_SECONDS if self._producer is not None else self._back_off.left()

    def stop_in(self, seconds: float) -> None:
        """From any thread: what is not acknowledged then is given up."""
        self._stop_at = self._monotonic() + seconds

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    # --- the connection

    def _connected(self) -> None:
        producer = self._producer
        if producer is None:
            if not self._back_off.left() and self._monotonic() < self._stop_at:
                self._open()
            return
        fault = producer.fault()
        if fault is not None:
            self._rebuild(trouble_of(fault, self._settings, self._why()))

    def _watch(self) -> None:
        """Nothing is shipped: is a broker there all the same?"""
        if self._producer is None:
            return
        if self._producer.silence() > self._settings.request_timeout + SILENT_SECONDS:
            if self._trouble is None:
                self._report(unreachable(self._settings, self._why()))
        elif self._trouble is not None and self._trouble.kind == UNREACHABLE:
            if self._must_prove and self._monotonic() - self._late_at > PROOF_LAPSES * self._settings.request_timeout:
                self._must_prove = False  # nobody wanted anything shipped since: that it answers has to do
            if not self._must_prove:
                self._report(None)

    def _open(self) -> None:
        try:
            self._producer = self._connect()
        except Exception as fault:
            if not isinstance(fault, EXPECTED):
                log.failure("a fault while the producer for Kafka was made")
            self._back_off.failed()
            self._report(trouble_of(fault, self._settings, self._why()))
        else:
            self._back_off.succeeded()
            if not self._must_prove:
                self._report(None)

    def _rebuild(self, trouble: Trouble) -> None:
        self._report(trouble)
        self._note("kafka-producer-rebuilt")
        self._back_off.failed()
        self.close()

    def _why(self) -> str:
        """What is behind a silence."""
        return (self._producer.cause() if self._producer is not None else "") or self._cause()

    def _report(self, trouble: Trouble | None) -> None:
        self._trouble = trouble
        self._tell(trouble)

    # --- shipping

    def _waited(self, job: Job) -> bool:
        if self._monotonic() < min(job.deadline, self._stop_at):
            return False
        job.error = BusError(self._trouble.reason if self._trouble else "the gateway is stopping")
        return True

    def _ship(self, producer: Producer, job: Job) -> None:
        check_sizes(job.records, self._settings.max_record_bytes)
        try:
            for first, chunk in chunks(job.records):
                self._ship_chunk(producer, job, first, chunk)
        except _Late as late:
            self._must_prove, self._late_at = True, self._monotonic()
            trouble = Trouble(UNREACHABLE, f"{late}{because(self._why())}")
            self._rebuild(trouble)
            raise BusError(trouble.reason) from None
        except RecordRefused:  # which is no trouble with Kafka
            self._proved()
            raise
        except BusError as error:
            self._report(Trouble(MISSING if isinstance(error, TopicAbsent) else "refused", str(error)))
            raise
        except Exception as fault:
            if not isinstance(fault, EXPECTED):
                log.failure("a fault while records were shipped to Kafka")
            trouble = trouble_of(fault, self._settings, self._why())
            self._rebuild(trouble)
            raise BusError(trouble.reason) from fault
        self._proved()

    def _proved(self) -> None:
        self._must_prove = False
        self._report(None)

    def _ship_chunk(self, producer: Producer, job: Job, first: int, chunk: Sequence[Outgoing]) -> None:
        counts = {topic: self._partitions(producer, topic, job) for topic in {record.topic for record in chunk}}
        sent = [
            producer.send(
                record.topic, partition_of(record.key, counts[record.topic]), record.key.encode(), record.value
            )
            for record in chunk
        ]
        self._await(producer, sent, job)
        failed = [(index, future.exception) for index, future in enumerate(sent) if future.exception is not None]
        if failed:
            # The record's own fault, not that it was in one batch with a faulty one.
            index, fault = min(failed, key=lambda each: type(each[1]) is KafkaError)
            raise self._refused(chunk[index], first + index, fault)

    def _await(self, producer: Producer, sent: Sequence[Sent], job: Job) -> None:
        since = self._monotonic()
        while True:
            left = self._left(job)
            producer.settle(max(0.0, min(SLICE_SECONDS, left)))
            if all(future.is_done for future in sent):
                return
            fault = producer.fault()
            if fault is not None:
                raise fault
            waited = self._monotonic() - since
            if left <= 0:
                raise _Late(f"Kafka at {self._settings.where} acknowledged not all of a batch in {waited:.1f} seconds")
            if waited > self._settings.request_timeout and self._trouble is None:
                where, limit = self._settings.where, self._settings.request_timeout
                reason = f"Kafka at {where} acknowledges nothing for more than {limit:g} seconds"
                self._report(Trouble(UNREACHABLE, f"{reason}{because(self._why())}"))

    def _partitions(self, producer: Producer, topic: str, job: Job) -> int:
        since, answered = self._monotonic(), False
        while True:
            try:
                return producer.partitions(topic)
            except TopicMissing:
                answered = True
            except KafkaTimeoutError:
                answered = False
            waited = self._monotonic() - since
            if answered and (waited >= TOPIC_SECONDS or self._left(job) <= 0):
                raise missing_topic(topic, self._settings)
            if self._left(job) <= 0:
                raise _Late(f"Kafka at {self._settings.where} told nothing about {topic} in {waited:.1f} seconds")

    def _left(self, job: Job) -> float:
        return min(job.deadline, self._stop_at) - self._monotonic()

    def _refused(self, record: Outgoing, index: int, fault: Exception) -> BusError:
        if isinstance(fault, TOO_LARGE):
            return too_large(record, index, "the topic takes (its max.message.bytes)")
        if isinstance(fault, AuthorizationError):
            return BusError(trouble_of(fault, self._settings, "").reason)
        return BusError(f"Kafka refuses records for {record.topic}: {type(fault).__name__}: {fault}")


def check_sizes(records: Sequence[Outgoing], limit: int) -> None:
    """RecordRefused for the first record whose key and value have more bytes than `limit`."""
    for index, record in enumerate(records):
        # Characters take up to four bytes: only where that could matter they are counted exactly.
        if 4 * len(record.key) + len(record.value) > limit and record_bytes(record) > limit:
            raise too_large(record, index, f"kafka.max_record_bytes, {limit}")


def record_bytes(record: Outgoing) -> int:
    return len(record.key.encode()) + len(record.value)


def chunks(records: Sequence[Outgoing]) -> Iterator[tuple[int, Sequence[Outgoing]]]:
    """Runs of records with at most CHUNK_BYTES, or a single larger one; each with the index of its first."""
    first, size = 0, 0
    for index, record in enumerate(records):
        more = len(record.key) + len(record.value) + RECORD_BYTES
        if size and size + more > CHUNK_BYTES:
            yield first, records[first:index]
            first, size = index, 0
        size += more
    if records:
        yield first, records[first:] if first else records


def too_large(record: Outgoing, index: int, limit: str) -> RecordRefused:
    size = record_bytes(record)
    return RecordRefused(
        f"a record of {size} bytes for {record.topic}, key {record.key!r}, is larger than {limit}", index
    )


def missing_topic(topic: str, settings: KafkaSettings) -> TopicAbsent:
    command = f"kafka-topics.sh --bootstrap-server {settings.brokers[0]} --create --topic {topic} --partitions 4"
    return TopicAbsent(f"Kafka has no topic {topic} and makes none by itself", topic, hint=command)


def trouble_of(fault: Exception, settings: KafkaSettings, cause: str) -> Trouble:
    """What a client's error means to the operator."""
    where = settings.where
    if isinstance(fault, REFUSALS):
        user = settings.sasl_username
        return Trouble(
            "login", f"Kafka at {where} refuses user {user!r} with {settings.sasl_mechanism}: {_words(fault)}"
        )
    if isinstance(fault, AuthorizationError):
        return Trouble("authorization", f"Kafka at {where} does not allow this: {_words(fault)}")
    if isinstance(fault, BusError):
        return Trouble("settings", str(fault))
    if isinstance(fault, NoBroker):
        return unreachable(settings, str(fault))
    if isinstance(fault, KafkaTimeoutError | KafkaConnectionError | OSError):
        return unreachable(settings, cause or str(fault))
    return Trouble(type(fault).__name__, f"Kafka at {where}: {_words(fault)}{because(cause)}")


def unreachable(settings: KafkaSettings, cause: str) -> Trouble:
    return Trouble(UNREACHABLE, f"no broker of {settings.where} answers{because(cause)}")


def because(cause: str) -> str:
    return f": {cause}" if cause else ""


def _words(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"

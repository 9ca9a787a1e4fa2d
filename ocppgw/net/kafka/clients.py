"""One producer and one consumer of kafka-python, with what is missing there: each belongs to one thread.

Traps of the library that are guarded here: a constructor that fails leaves its sockets and its thread behind; a
producer's `close` with unacknowledged records raises and leaves the thread sending; a refused password, and a topic
that does not exist, look like a broker that does not answer.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    BrokerResponseError,
    KafkaError,
    KafkaTimeoutError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from kafka.net.selector import NetworkSelector
from kafka.structs import MemberState, OffsetAndMetadata

from ocppgw.net.kafka.connections import Connections, Network
from ocppgw.net.kafka.settings import KafkaSettings, consumer_options, producer_options
from ocppgw.ports import Message

CLOSE_SECONDS = 1.0
METADATA_SECONDS = 1.0
FRESH_SECONDS = 3.0  # how long an answer shows that the broker is there
PAUSED_POLL_SECONDS = 0.05

Partition = tuple[str, int]  # topic, number


class TopicMissing(Exception):
    """The broker answers, and does not have the topic (yet: it may be making it)."""


class NoBroker(Exception):
    """None can be reached; says why, as far as that is known."""


class Sent(Protocol):
    """A record's future."""

    is_done: bool
    exception: Exception | None


class Producer(Protocol):
    def partitions(self, topic: str) -> int: ...
    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> Sent: ...
    def settle(self, seconds: float) -> None: ...
    def fault(self) -> Exception | None: ...
    def cause(self) -> str: ...
    def silence(self) -> float: ...
    def close(self) -> None: ...


class Membership(msgspec.Struct, frozen=True):
    """As what a consumer belongs to its group; a rebalance makes it another one."""

    member: str
    generation: int


class Consumer(Protocol):
    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Message]]: ...
    def stay(self) -> None: ...
    def resume(self) -> None: ...
    def membership(self) -> Membership | None: ...
    def seek(self, offsets: Mapping[Partition, int]) -> None: ...
    def commit(self, offsets: Mapping[Partition, int], seconds: float) -> None: ...
    def missing(self, topics: Sequence[str]) -> str: ...
    def fault(self) -> Exception | None: ...
    def cause(self) -> str: ...
    def silence(self) -> float: ...
    def close(self) -> None: ...


class _Client:
    """What both have in common: the network client inside, kept so that it can be closed and asked."""

    def __init__(self) -> None:
        self._inside: Any = None
        self._connections: Any = None
        self._asked: Any = None  # for news of the cluster, to see that somebody answers
        self._answered_at = float("-inf")

    def _make(self, library_class: Any, options: dict[str, Any]) -> Any:
        """The library's producer or consumer, connected."""
        try:
            made = library_class(kafka_client=self._keep, **options)
        except BaseException as fault:
            if self._inside is not None:
                self._inside.close()
            if isinstance(fault, KafkaTimeoutError):
                raise NoBroker(self.cause()) from fault
            raise
        self._answered_at = time.monotonic()
        return made

    def _keep(self, **options: Any) -> Any:
        net = NetworkSelector(**options)
        self._connections = Connections(net, **options)
        self._inside = Network(net=net, manager=self._connections)
        return self._inside

    def fault(self) -> Exception | None:
        """Why no broker lets this client in, though there are some."""
        found: Exception | None = self._connections.refusal
        return found

    def cause(self) -> str:
        """Why the last connection failed, "" when it did not."""
        failure = self._connections.failure if self._connections is not None else None
        return str(failure).removeprefix("KafkaConnectionError: ") if failure is not None else ""

    def silence(self) -> float:
        """Seconds since a broker was last known to answer. Asks for an answer where there is no fresh one: connections
        tell little, since idle clients have none, and those to a broker that hangs stay open."""
        now = time.monotonic()
        asked = self._asked
        if asked is not None and asked.is_done:
            self._asked = None
            if asked.exception is None or is_answer(asked.exception):
                self._answered_at = now
        if self._asked is None and now - self._answered_at >= FRESH_SECONDS:
            self._asked = self._inside.cluster.request_update()
        return now - self._answered_at


def is_answer(fault: Exception) -> bool:
    """Is it a broker's word? (The library also uses a broker's code where it has got no answer in time.)"""
    return isinstance(fault, BrokerResponseError) and not isinstance(fault, RequestTimedOutError)


class LibraryProducer(_Client):
    """Connecting blocks, at most for the connection timeout; NoBroker, KafkaError, BusError when it fails."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__()
        self._producer = self._make(KafkaProducer, producer_options(settings))

    def partitions(self, topic: str) -> int:
        """How many the topic has. Blocks for up to BLOCK_SECONDS and METADATA_SECONDS when that isn't known yet;
        TopicMissing, or KafkaTimeoutError when nobody answers."""
        try:
            return len(self._producer.partitions_for(topic))
        except KafkaTimeoutError:
            if self._has_news_without(topic):
                raise TopicMissing(topic) from None
            raise

    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> Sent:
        """Queue it. Does not block: `partitions` has been asked about the topic. `settle` sends."""
        self._inside.is_queueing = True
        sent: Sent = self._producer.send(topic, value=value, key=key, partition=partition)
        return sent

    def settle(self, seconds: float) -> None:
        """Send what is queued, and wait that long for it to be done; what became of it is in the futures."""
        self._inside.is_queueing = False
        with suppress(KafkaError):  # not all was done in time; or a batch was split, and its halves wait
            self._producer.flush(timeout=seconds)

    def close(self) -> None:
        """Give up what is not acknowledged; nothing is sent any more when this returns. Bounded."""
        # `close` alone waits for the unacknowledged, raises, and leaves its thread behind: it would go on sending old
        # records between those of its successor.
        self._inside.is_queueing = False
        self._producer._sender.force_close()
        with suppress(Exception):
            self._producer.close(timeout=CLOSE_SECONDS)

    def _has_news_without(self, topic: str) -> bool:
        """Does a broker answer now, and not know the topic?"""
        answered = threading.Event()
        update = self._inside.cluster.request_update()
        update.add_both(lambda _outcome: answered.set())
        if not answered.wait(METADATA_SECONDS):
            return False
        return update.exception is None or isinstance(update.exception, UnknownTopicOrPartitionError)


class LibraryConsumer(_Client):
    """As LibraryProducer."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], group: str, member: str = "") -> None:
        super().__init__()
        self._consumer = self._make(KafkaConsumer, consumer_options(settings, group, member))
        self._consumer.subscribe(topics=list(topics))

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Message]]:
        self._finish_joining()
        found = self._consumer.poll(timeout_ms=round(seconds * 1000))
        return {
            (topic, number): [
                Message(topic, number, record.offset, record.key, record.value or b"") for record in records
            ]
            for (topic, number), records in found.items()
        }

    def stay(self) -> None:
        """Remain a member of the group, and take part in its rebalances, without reading on."""
        self._finish_joining()
        self._consumer.pause(*self._consumer.assignment())
        early = self._consumer.poll(timeout_ms=round(PAUSED_POLL_SECONDS * 1000))
        for partition, records in early.items():  # assigned just now
            self._consumer.seek(partition, records[0].offset)
            self._consumer.pause(partition)

    def _finish_joining(self) -> None:
        """The library forgets that it is joining its group anew, when that began because the partitions of a topic
        changed, and took longer than a poll: it would wait, as no member, for ever, and with all of a CPU."""
        coordinator = self._consumer._coordinator
        if coordinator.rejoining:
            coordinator.request_rejoin()

    def resume(self) -> None:
        self._consumer.resume(*self._consumer.paused())

    def membership(self) -> Membership | None:
        """None while it has none that holds."""
        group = self._consumer.group_metadata()
        return Membership(group.member_id, group.generation_id) if group.state is MemberState.STABLE else None

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from there, where the partitions are still this member's."""
        assigned = self._consumer.assignment()
        for partition, offset in offsets.items():
            if partition in assigned:
                self._consumer.seek(TopicPartition(*partition), offset)

    def commit(self, offsets: Mapping[Partition, int], seconds: float) -> None:
        self._consumer.commit(
            {TopicPartition(*partition): OffsetAndMetadata(offset) for partition, offset in offsets.items()},
            timeout_ms=round(seconds * 1000),
        )

    def missing(self, topics: Sequence[str]) -> str:
        """The first of these topics that no broker knows, "" when there is none; asks for news of it."""
        cluster = self._inside.cluster
        for topic in topics:
            if cluster.partitions_for_topic(topic) is None:
                cluster.request_update()
                return topic
        return ""

    def close(self) -> None:
        """Leave the group. Bounded."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=round(CLOSE_SECONDS * 1000))
        except Exception:  # of any kind: also what the library's own thread has ended with
            self._inside.close()

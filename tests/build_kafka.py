"""Kafka's clients as tests play them, and the time that they take."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka.errors import (
    KafkaTimeoutError,
)

from ocppgw.net.kafka import KafkaSettings
from ocppgw.net.kafka.clients import (
    Membership,
    Partition,
    Sent,
    TopicMissing,
)
from ocppgw.ports import Message

SETTINGS = KafkaSettings(
    brokers=("kafka-1:9092", "kafka-2:9092"), ship_timeout=30.0, request_timeout=5.0, max_record_bytes=600_000
)
PASSWORD = "a-very-secret-word"
MEMBER = Membership("member", 1)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class SentRecord:
    def __init__(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        self.topic, self.partition, self.key, self.value = topic, partition, key, value
        self.is_done = False
        self.exception: Exception | None = None


class FakeProducer:
    """Acknowledges at once, unless told otherwise."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.sent: list[SentRecord] = []
        self.settled: list[int] = []  # how many were sent at each flush
        self.verdict: Callable[[SentRecord], Exception | None] = lambda record: None
        self.acknowledges = True
        self.counts: dict[str, int] = {"events": 4}
        self.refusal: Exception | None = None
        self.send_fault: Exception | None = None
        self.quiet = 0.0
        self.is_closed = False

    def partitions(self, topic: str) -> int:
        if topic not in self.counts:
            self.time.pass_(1.0)
            raise TopicMissing(topic) if not self.quiet else KafkaTimeoutError("nobody answers")
        return self.counts[topic]

    def send(self, topic: str, partition: int, key: bytes, value: bytes) -> Sent:
        if self.send_fault is not None and self.sent:
            raise self.send_fault
        record = SentRecord(topic, partition, key, value)
        self.sent.append(record)
        return record

    def settle(self, seconds: float) -> None:
        self.settled.append(len(self.sent))
        if not self.acknowledges:
            self.time.pass_(seconds)
            return
        for record in self.sent:
            record.is_done, record.exception = True, self.verdict(record)

    def fault(self) -> Exception | None:
        return self.refusal

    def cause(self) -> str:
        return ""

    def silence(self) -> float:
        return self.quiet

    def close(self) -> None:
        self.is_closed = True


class FakeConsumer:
    def __init__(self, found: list[Mapping[Partition, Sequence[Message]] | Exception]) -> None:
        self.found = found
        self.calls: list[Any] = []
        self.member: Membership | None = MEMBER
        self.commit_faults: list[Exception] = []
        self.missing_topic = ""
        self.refusal: Exception | None = None
        self.quiet = 0.0
        self.is_closed = False

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Message]]:
        found = self.found.pop(0) if self.found else {}
        if isinstance(found, Exception):
            raise found
        return found

    def stay(self) -> None:
        self.calls.append("stay")

    def resume(self) -> None:
        self.calls.append("resume")

    def membership(self) -> Membership | None:
        return self.member

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        self.calls.append(("seek", dict(offsets)))

    def commit(self, offsets: Mapping[Partition, int], seconds: float) -> None:
        self.calls.append(("commit", dict(offsets)))
        if self.commit_faults:
            raise self.commit_faults.pop(0)

    def missing(self, topics: Sequence[str]) -> str:
        return self.missing_topic

    def fault(self) -> Exception | None:
        return self.refusal

    def cause(self) -> str:
        return "refused"

    def silence(self) -> float:
        return self.quiet

    def close(self) -> None:
        self.is_closed = True


def messages(topic: str, partition: int, first: int, count: int) -> Mapping[Partition, Sequence[Message]]:
    found = [Message(topic, partition, offset, b"CP-1", b"%d" % offset) for offset in range(first, first + count)]
    return {(topic, partition): found}

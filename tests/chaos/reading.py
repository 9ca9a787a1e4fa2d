"""All that Kafka holds of a run, each record held against schemas/asyncapi.json."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tests import record_watch
from tests.chaos.auditor import TERMINAL

AGAIN_SECONDS = 0.2
CHECKED = 300  # records of each eventType: more would take longer than the run

Event = dict[str, Any]


def read(brokers: str, topics: Sequence[str], commands: set[str], seconds: float) -> tuple[list[Event], list[str]]:
    """The events with their topic, in the order of their partition; and what is wrong in them. Waits `seconds` at most
    until every one of the `commands` has an end. AssertionError when Kafka can't be read."""
    consumer = KafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, auto_offset_reset="earliest")
    events: list[Event] = []
    check = Checking()
    ended: set[str] = set()
    deadline = time.monotonic() + seconds
    try:
        partitions = _partitions(consumer, topics)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        while True:
            for record in _to_the_end(consumer, partitions):
                event = {**json.loads(record.value), "topic": record.topic}
                check.record(record)
                events.append(event)
                if event["eventType"] in TERMINAL:
                    ended.add(event["correlationId"])
            if commands <= ended or time.monotonic() > deadline:
                return events, check.faults
            time.sleep(AGAIN_SECONDS)
    finally:
        consumer.close()


class Checking:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self._checked: dict[str, int] = {}

    def record(self, record: Any) -> None:
        event = json.loads(record.value)
        kind = event["eventType"]
        self._checked[kind] = self._checked.get(kind, 0) + 1
        if self._checked[kind] <= CHECKED:
            fault = record_watch.contract().fault(record.topic, record.key.decode(), event)
            if fault:
                self.faults.append(f"{record.topic} holds what is not as schemas/asyncapi.json says: {fault}: {event}")


def _partitions(consumer: KafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    found = []
    for topic in topics:
        numbers = consumer.partitions_for_topic(topic)
        assert numbers, f"Kafka does not tell the partitions of {topic}"
        found += [TopicPartition(topic, number) for number in numbers]
    return found


def _to_the_end(consumer: KafkaConsumer, partitions: Sequence[TopicPartition], seconds: float = 60.0) -> Iterator[Any]:
    """As it is now."""
    deadline = time.monotonic() + seconds
    ends = consumer.end_offsets(list(partitions))
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        assert time.monotonic() < deadline, "Kafka was not read to its end in time"
        try:
            batches = consumer.poll(timeout_ms=200, max_records=5000)
        except KafkaError:  # a broker that has just come back
            continue
        for batch in batches.values():
            yield from batch

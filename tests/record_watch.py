"""Every record that the gateway writes during a test run is held against `schemas/asyncapi.json`.

    read_back(brokers)      all that is in Kafka, at the end of the run (tests.services.fixtures, session_kafka)
    seen(rows)              what a test reads at /v1/events (tests.integration.harness)
    seen_command(record)    what a test reads at /v1/commands

Tests write to Kafka, too, and not only what is right: what they put into the topics of command requests is not looked
at, but for what a node passed on to another; nor is a record with the header BY_TEST anywhere, nor what is no message
between nodes in their own topics.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from tests.asyncapi import Contract, channel_of

BY_TEST = ("by-test", b"")  # a header: a test wrote this record, whatever is in it
TIME_LIMIT = 60.0  # seconds to read all of it
SHOWN = 20  # faults
SHOWN_CHARACTERS = 600  # of a record

contract = cache(Contract)
_known: set[str] = set()  # eventIds that were looked at


class Checked(NamedTuple):
    """How much of Kafka was checked, and what is wrong in it."""

    records: int
    topics: int
    faults: list[str]

    def told(self) -> str:
        """AssertionError when there are faults."""
        text = "\n".join(self.faults[:SHOWN])
        assert not self.faults, f"{len(self.faults)} records are not as schemas/asyncapi.json says:\n{text}"
        return f"{self.records} records in {self.topics} topics of Kafka are as schemas/asyncapi.json says"


def seen(rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows of /v1/events: {topic, key, event}. AssertionError when one is wrong."""
    for row in rows:
        event = row["event"]
        if event["eventId"] not in _known and channel_of(row["topic"]):
            fault = contract().fault(row["topic"], row["key"], event)
            assert not fault, f"{row['topic']}: {fault}\n{json.dumps(event)[:SHOWN_CHARACTERS]}"
            _known.add(event["eventId"])


def seen_command(record: dict[str, Any]) -> None:
    """AssertionError when it is not as schemas/command-audit.schema.json says."""
    fault = contract().stored_fault("command-audit", record)
    assert not fault, f"{fault}\n{json.dumps(record)[:SHOWN_CHARACTERS]}"


def read_back(brokers: str, only: Sequence[str] = ()) -> Checked:
    """Reads all topics that the gateway writes to, or `only` these, from the beginning. AssertionError when that takes
    too long."""
    from kafka import KafkaConsumer  # noqa: PLC0415 - who has no Kafka needs no client

    consumer = KafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        topics = [topic for topic in only or sorted(consumer.topics()) if channel_of(topic)]
        records = 0
        faults: list[str] = []
        for record in _all_of(consumer, topics):
            if is_gateways(record.topic, record.value, record.headers):
                records += 1
                faults += _faults(record)
    finally:
        consumer.close()
    return Checked(records, len(topics), faults)


def is_gateways(topic: str, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> bool:
    if BY_TEST[0] in (name for name, _ in headers):
        return False
    channel = channel_of(topic)
    if channel not in ("nodeCommandRequests", "sessionControl"):
        return True
    members = _decoded(value)
    mark = "routing" if channel == "nodeCommandRequests" else "ownerNodeId"
    return isinstance(members, dict) and mark in members


def _faults(record: Any) -> Iterator[str]:
    key = (record.key or b"").decode(errors="replace")
    fault = contract().fault(record.topic, key, _decoded(record.value))
    if fault:
        text = (record.value or b"")[:SHOWN_CHARACTERS].decode(errors="replace")
        yield f"{record.topic} {record.partition} {record.offset}: {fault}\n    {text}"


def _decoded(value: bytes | None) -> Any:
    """None for what is not JSON."""
    try:
        return json.loads(value or b"")
    except ValueError:
        return None


def _all_of(consumer: Any, topics: Sequence[str]) -> Iterator[Any]:
    from kafka import TopicPartition  # noqa: PLC0415

    partitions = [
        TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic) or ()
    ]
    ends = consumer.end_offsets(partitions) if partitions else {}
    consumer.assign(partitions)
    if partitions:
        consumer.seek_to_beginning(*partitions)
    left, deadline = {partition for partition, end in ends.items() if end > 0}, time.monotonic() + TIME_LIMIT
    while left:
        assert time.monotonic() < deadline, f"{len(left)} partitions were not read to their end"
        for batch in consumer.poll(timeout_ms=500).values():
            yield from batch
        left = {partition for partition in left if consumer.position(partition) < ends[partition]}

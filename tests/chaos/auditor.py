"""What clients saw, and what Kafka holds: is every answered CALL there once and in order, has every command one end?

Equal eventIds are dropped first, as consumers do. The auditor's only facts are these two logs.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TERMINAL = frozenset({"CommandAccepted", "CommandRejected", "CommandFailed", "CommandTimeout"})

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Answered:
    """An answered CALL as its station saw it. `connection` counts the station's connections; times are monotonic.

    A probe is a CALL on a connection that the station had given up: nobody repeats it, so it need not be the last word
    on anything, but who answers it serves the station.
    """

    station: str
    message_id: str
    action: str
    payload: Mapping[str, Any]
    transaction_id: int | None
    connection: int
    first_sent_at: float
    sent_at: float  # the attempt that was answered
    answered_at: float
    is_probe: bool = False


@dataclass
class Audit:
    violations: list[str] = field(default_factory=list)
    answered: int = 0
    commands: int = 0
    duplicates: int = 0  # records that were dropped for their eventId
    slowest: float = 0.0  # seconds from the first attempt to the answer


def audit(
    answered: Iterable[Answered], commands: Iterable[str], records: Sequence[Record], *, as_sorted: bool = False
) -> Audit:
    """`commands`: ids of those that were written. `records`: DomainEvents with their topic, each partition in order.

    `as_sorted`: the order of a station's events is the one that their epochs and sequences give, not Kafka's. That is
    all that is promised of stations that moved to another node while Kafka was away (ADR 0016).
    """
    calls = sorted(answered, key=lambda call: call.answered_at)
    unique = _without_repeats(sorted(records, key=_written) if as_sorted else records)
    wanted = set(commands)
    found = Audit(answered=len(calls), commands=len(wanted), duplicates=len(records) - len(unique))
    found.slowest = max((call.answered_at - call.first_sent_at for call in calls), default=0.0)
    for check in (
        _event_ids(records),
        _calls(calls, unique),
        _transactions(calls, unique),
        _connections(calls),
        _commands(wanted, unique),
    ):
        found.violations += check
    return found


def _without_repeats(records: Sequence[Record]) -> list[Record]:
    seen: dict[str, Record] = {}
    for record in records:
        seen.setdefault(record["eventId"], record)
    return list(seen.values())


def _written(record: Record) -> tuple[int, int]:
    told = record.get("payload", {})
    return told.get("epoch", 0), told.get("sequence", 0)


def _event_ids(records: Sequence[Record]) -> Iterator[str]:
    """Whoever drops the second of two events with one eventId must not miss anything."""
    known: dict[str, tuple[Any, ...]] = {}
    for record in records:
        told = record.get("payload", {})
        what = (record["eventType"], record.get("correlationId"), told.get("messageId"), told.get("payload"))
        first = known.setdefault(record["eventId"], what)
        if first != what:
            yield f"eventId {record['eventId']} is of two different events: {first} and {what}"


def _calls(calls: Sequence[Answered], records: Sequence[Record]) -> Iterator[str]:
    stored: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if "messageId" in record.get("payload", {}) and "correlationId" not in record:
            stored[record["chargePointId"]].append(record)
    by_station: dict[str, list[Answered]] = defaultdict(list)
    for call in calls:
        by_station[call.station].append(call)
    for station, answered in by_station.items():
        yield from _stored_once(station, answered, stored[station])
        yield from _in_order(station, [call for call in answered if not call.is_probe], stored[station])


def _stored_once(station: str, calls: Sequence[Answered], records: Sequence[Record]) -> Iterator[str]:
    by_message: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_message[record["payload"]["messageId"]].append(record)
    for call in calls:
        found = by_message[call.message_id]
        name = f"{station}: {call.action} {call.message_id}, answered at {call.answered_at:.3f},"
        if len(found) != 1:
            nodes = [(each["payload"].get("nodeId"), each["payload"].get("epoch")) for each in found]
            yield f"{name} is in Kafka {len(found)} times {nodes}"
            continue
        told = found[0]["payload"]
        if told["payload"] != call.payload:
            yield f"{name} is in Kafka as {told['payload']}, it was {call.payload}"
        if call.action == "StartTransaction" and told.get("transactionId") != call.transaction_id:
            yield f"{name} got the id {call.transaction_id} and is in Kafka with {told.get('transactionId')}"


def _in_order(station: str, calls: Sequence[Answered], records: Sequence[Record]) -> Iterator[str]:
    """What Kafka keeps in one partition, a station's records of one topic, in the order of their answers."""
    places = {call.message_id: place for place, call in enumerate(calls)}
    last: dict[str, int] = defaultdict(lambda: -1)
    for record in records:
        topic, place = record["topic"], places.pop(record["payload"]["messageId"], None)  # its first occurrence
        if place is None:
            continue
        if place < last[topic]:
            later, call = calls[last[topic]], calls[place]
            yield (
                f"{station}: {topic} holds {call.action} {call.message_id}, answered at {call.answered_at:.3f}, behind "
                f"{later.action} {later.message_id}, answered at {later.answered_at:.3f}"
            )
        last[topic] = max(place, last[topic])


def _transactions(calls: Sequence[Answered], records: Sequence[Record]) -> Iterator[str]:
    """Those that were answered, and those that a station never got to know."""
    ids: dict[tuple[str, str], set[int]] = defaultdict(set)  # station, what it sent -> its ids
    for call in calls:
        if call.action == "StartTransaction" and call.transaction_id is not None:
            ids[call.station, _content(call.payload)].add(call.transaction_id)
    for record in records:
        told = record.get("payload", {})
        if told.get("action") == "StartTransaction" and "messageId" in told:
            ids[record["chargePointId"], _content(told["payload"])].add(told["transactionId"])
    starts: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for (station, content), numbers in ids.items():
        for number in numbers:
            starts[number].append((station, content))
        if len(numbers) > 1:
            yield f"{station}: one StartTransaction got the ids {sorted(numbers)}: {content}"
    for number, contents in starts.items():
        if len(contents) > 1:
            yield f"transactionId {number} was given to {len(contents)} transactions: {sorted(contents)}"


def _content(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True)


def _connections(calls: Sequence[Answered]) -> Iterator[str]:
    """Once a newer connection has answered, nothing that is sent on an older one after that may be."""
    by_station: dict[str, list[Answered]] = defaultdict(list)
    for call in calls:
        by_station[call.station].append(call)
    for station, answered in by_station.items():
        first: dict[int, float] = {}  # connection -> its first answer
        for call in answered:
            first.setdefault(call.connection, call.answered_at)
        for call in answered:
            newer = [number for number, at in first.items() if number > call.connection and at < call.sent_at]
            if newer:
                yield (
                    f"{station}: connection {call.connection} answered {call.message_id}, sent at {call.sent_at:.3f}, "
                    f"though connection {newer[0]} had answered at {first[newer[0]]:.3f}"
                )


def _commands(written: set[str], records: Sequence[Record]) -> Iterator[str]:
    ends: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record["eventType"] in TERMINAL:
            ends[record["correlationId"]].append(record["eventType"])
    for command_id in sorted(written | ends.keys()):
        if len(ends[command_id]) != 1:
            yield f"command {command_id} has {len(ends[command_id])} terminal events {Counter(ends[command_id])}"

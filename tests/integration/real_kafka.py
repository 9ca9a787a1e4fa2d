"""Buses on a broker that runs, and what tests see of them."""

import threading
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from ocppgw.errors import BusError
from ocppgw.net.kafka import KafkaBus, KafkaSettings
from ocppgw.ports import Bus, Outgoing
from tests.contract_bus import PumpedReactor, numbered
from tests.services import KafkaServer

SESSION_SECONDS = 6.0  # the least a broker allows
PUT_SECONDS = 20.0  # for a record of the test's own, also after an outage


class RealKafka:
    """(contract_bus.Surroundings) Buses on a broker that runs."""

    largest = 100_000

    def __init__(self, kafka: KafkaServer, **settings: Any) -> None:
        self.reactor = PumpedReactor()
        self.kafka = kafka
        self.notes: list[str] = []
        self.running: list[KafkaBus] = []
        self._producer: KafkaProducer | None = None  # the test's own
        self.settings = KafkaSettings(
            **{
                "brokers": (kafka.brokers,),
                "retry_pause": 0.05,
                "session_timeout": SESSION_SECONDS,
                "max_record_bytes": self.largest,
                **settings,
            }
        )

    def bus(self, **changes: Any) -> KafkaBus:
        return KafkaBus(msgspec.structs.replace(self.settings, **changes), self.reactor, self.notes.append)

    def started(self, **changes: Any) -> KafkaBus:
        bus = self.bus(**changes)
        bus.start()
        self.running.append(bus)
        return bus

    def stop(self) -> None:
        for bus in self.running:
            self.reactor.wait(bus.stop())
        self.close()
        self.reactor.run_until(lambda: not threads_of_bus(), 10.0)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()

    def topic(self) -> str:
        return f"topic-{uuid.uuid4()}"

    def put(self, topic: str, records: Sequence[tuple[str, bytes]]) -> None:
        """By one client, made before anything happens to the broker: new ones don't always get in soon after."""
        if self._producer is None:
            self._producer = KafkaProducer(
                bootstrap_servers=self.kafka.brokers,
                acks="all",
                linger_ms=5,
                request_timeout_ms=5000,
                reconnect_backoff_max_ms=1000,
            )
        sent = [self._producer.send(topic, key=key.encode(), value=value) for key, value in records]
        for future in sent:
            future.get(PUT_SECONDS)

    def records(self, topic: str, count: int) -> list[tuple[bytes | None, bytes]]:
        found = [(key, value) for _partition, key, value in self.placed(topic)]
        assert len(found) == count, f"{len(found)} records, not {count}"
        return found

    def placed(self, topic: str) -> list[tuple[int, bytes | None, bytes]]:
        """All of the topic, as (partition, key, value)."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.brokers)
        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            if not partitions:
                return []
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(partitions)
            found: list[tuple[int, bytes | None, bytes]] = []
            while any(consumer.position(partition) < ends[partition] for partition in partitions):
                for records in consumer.poll(500).values():
                    found += [(record.partition, record.key, record.value) for record in records]
            return found
        finally:
            consumer.close()

    def abandon(self, bus: Bus) -> None:
        assert isinstance(bus, KafkaBus)
        for thread in bus._reading:
            thread._reader.turn = lambda thread=thread: _die(thread)  # type: ignore[method-assign,misc]


def _die(thread: Any) -> None:
    """Like the end of a process: the connections are gone, and nobody has said good-bye to the group."""
    thread._reader._consumer._inside.close()
    thread._reader._batch = None
    thread._stopping.set()


class Log:
    """All that is logged meanwhile, as text."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __enter__(self) -> "Log":
        globalLogPublisher.addObserver(self.events.append)
        return self

    def __exit__(self, *_failure: object) -> None:
        globalLogPublisher.removeObserver(self.events.append)

    def lines(self, namespace: str = "ocppgw.kafka") -> list[str]:
        return [formatEvent(event) for event in self.events if event["log_namespace"] == namespace]

    @property
    def text(self) -> str:
        return "\n".join(f"{formatEvent(event)} {event.get('log_failure')}" for event in self.events)


class Load:
    """Ships numbered records of some keys as the relay does: batch after batch, each again until it is acknowledged."""

    def __init__(
        self,
        around: RealKafka,
        bus: KafkaBus,
        topic: str,
        count: int,
        keys: int = 11,
        batch: int = 250,
        pause: float = 0,
    ) -> None:
        self.around, self.topic, self.shipped, self.failures = around, topic, 0, 0
        self.pause = pause
        self.records = [Outgoing(topic, f"CP-{number % keys}", value) for number, value in enumerate(numbered(count))]
        self.done = Deferred.fromCoroutine(self._run(bus, batch))

    async def _run(self, bus: KafkaBus, batch: int) -> None:
        while self.shipped < len(self.records):
            records = self.records[self.shipped : self.shipped + batch]
            try:
                await bus.ship(records)
            except BusError:
                self.failures += 1
                await deferLater(self.around.reactor, 0.1)
            else:
                self.shipped += len(records)
                if self.pause:
                    await deferLater(self.around.reactor, self.pause)

    def check(self) -> int:
        """All are there, in order for each key once repeats are dropped; how many repeats there were."""
        found = self.around.placed(self.topic)
        seen: dict[bytes, dict[bytes, None]] = defaultdict(dict)
        for _partition, key, value in found:
            assert key is not None
            seen[key].setdefault(value)
        for key, values in seen.items():
            wanted = [record.value for record in self.records if record.key.encode() == key]
            assert list(values) == wanted, f"{key!r} has lost its order or records"
        assert sum(map(len, seen.values())) == len(self.records)
        return len(found) - len(self.records)


def threads_of_bus() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if "kafka" in name or "network-thread" in name]

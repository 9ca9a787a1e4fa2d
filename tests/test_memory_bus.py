"""The bus that other tests use in Kafka's place keeps the contract of every bus."""

import itertools
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.contract_bus import BusContract, PumpedReactor
from tests.memory_bus import MemoryBroker, MemoryBus


class Memory:
    """(contract_bus.Surroundings)"""

    largest = 1000

    def __init__(self) -> None:
        self.reactor = PumpedReactor()
        self.broker = MemoryBroker()
        self._numbers = itertools.count()

    def bus(self) -> MemoryBus:
        return MemoryBus(self.broker, self.reactor, self.largest)

    def topic(self) -> str:
        return f"topic-{next(self._numbers)}"

    def put(self, topic: str, records: Sequence[tuple[str, bytes]]) -> None:
        for key, value in records:
            self.broker.put(topic, key, value)

    def records(self, topic: str, count: int) -> list[tuple[bytes | None, bytes]]:
        found: list[tuple[bytes | None, bytes]] = [(key.encode(), value) for key, value in self.broker.topics[topic]]
        assert len(found) == count
        return found

    def abandon(self, bus: Any) -> None:
        bus.abandon()


class MemoryBusTests(BusContract, SynchronousTestCase):
    """The bus that other tests use in its place."""

    def surroundings(self) -> Memory:
        return Memory()

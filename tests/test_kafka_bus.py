"""The bus on Kafka without a broker: its threads, and its use of the library."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka import TopicPartition
from kafka.errors import (
    KafkaConnectionError,
    RequestTimedOutError,
    UnknownError,
)
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError
from ocppgw.net.kafka import KafkaBus, KafkaSettings
from ocppgw.net.kafka.bus import HANGING_SECONDS
from ocppgw.net.kafka.clients import (
    LibraryConsumer,
    LibraryProducer,
    NoBroker,
    is_answer,
)
from ocppgw.ports import Message
from tests.build_kafka import SETTINGS, FakeProducer, Time
from tests.contract_bus import PumpedReactor, outgoing
from tests.services import free_ports


def log_lines(lines: list[str]) -> Callable[[LogEvent], None]:
    return lambda event: lines.append(formatEvent(event))


class HangingClient(FakeProducer):
    """Its broker never answers, and the library does not come back."""

    def __init__(self, released: threading.Event) -> None:
        super().__init__(Time())
        self._released = released

    def settle(self, seconds: float) -> None:
        self._released.wait(30.0)


class KafkaBusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = PumpedReactor()
        self.released = threading.Event()
        self.addCleanup(self.released.set)

    def looked_again(self, bus: KafkaBus) -> Callable[[], bool]:
        def is_back() -> bool:
            self.reactor.advance(HANGING_SECONDS)
            return "has not come back" not in bus.status().reason

        return is_back

    def test_a_stop_is_bounded_even_when_the_library_hangs(self) -> None:
        settings = KafkaSettings(brokers=("kafka:9092",), stop_timeout=0.3)
        bus = KafkaBus(settings, self.reactor, connect_producer=lambda _: HangingClient(self.released))
        bus.start()
        shipping = bus.ship(outgoing("events", b"1"))
        stopping = bus.stop()
        assert self.reactor.run_until(lambda: stopping.called) < 1.0
        self.failureResultOf(shipping, BusError)

    def test_a_stop_is_bounded_while_it_connects(self) -> None:
        def connect(_settings: KafkaSettings) -> FakeProducer:
            self.released.wait(30.0)
            raise NoBroker

        settings = KafkaSettings(brokers=("kafka:9092",), stop_timeout=0.3)
        bus = KafkaBus(settings, self.reactor, connect_producer=connect)
        bus.start()
        assert not bus.status().healthy
        assert bus.status().reason == "connecting to Kafka at kafka:9092"
        stopping = bus.stop()
        assert self.reactor.run_until(lambda: stopping.called) < 1.0

    def test_a_library_that_does_not_come_back_is_told_and_so_is_its_return(self) -> None:
        notes: list[str] = []
        lines: list[str] = []
        observer = log_lines(lines)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        ahead = [0.0]  # of the real time
        bus = KafkaBus(
            KafkaSettings(brokers=("kafka:9092",)),
            self.reactor,
            notes.append,
            connect_producer=lambda _: HangingClient(self.released),
            monotonic=lambda: time.monotonic() + ahead[0],
        )
        bus.start()
        self.reactor.run_until(lambda: bus.status().healthy)
        bus.ship(outgoing("events", b"1")).addErrback(lambda _: None)
        self.reactor.advance(HANGING_SECONDS)
        assert bus.status().healthy, "as long as it may take"
        ahead[0] = SETTINGS.ship_timeout + SETTINGS.connection_timeout + HANGING_SECONDS + 1
        self.reactor.advance(HANGING_SECONDS)
        assert "producer has not come back" in bus.status().reason
        assert notes == ["kafka-client-hangs", "kafka-outage"]
        assert [line for line in lines if "producer has not come back" in line]
        self.released.set()
        self.reactor.run_until(self.looked_again(bus))
        self.reactor.wait(bus.stop())

    def test_a_bus_with_nothing_open_stops_at_once(self) -> None:
        bus = KafkaBus(SETTINGS, self.reactor, connect_producer=lambda _: FakeProducer(Time()))
        bus.start()
        stopping = bus.stop()
        assert self.reactor.run_until(lambda: stopping.called) < 1.0

    def test_a_fault_of_ours_ends_a_batch_and_not_the_thread(self) -> None:
        producer = FakeProducer(Time())
        producer.fault = lambda: 1 // 0  # type: ignore[assignment,return-value]
        clients = [producer, FakeProducer(Time())]
        bus = KafkaBus(SETTINGS, self.reactor, connect_producer=lambda _: clients.pop(0))
        bus.start()
        self.reactor.run_until(lambda: bus.status().healthy)
        with self.assertRaisesRegex(BusError, "a fault of the gateway: ZeroDivisionError"):
            self.reactor.wait(bus.ship(outgoing("events", b"1")))
        assert producer.is_closed
        assert self.flushLoggedErrors(ZeroDivisionError)
        self.reactor.wait(bus.ship(outgoing("events", b"1")))
        self.reactor.wait(bus.stop())

    def test_a_batch_costs_one_call_into_the_reactor(self) -> None:
        bus = KafkaBus(
            KafkaSettings(brokers=("kafka:9092",)), self.reactor, connect_producer=lambda _: FakeProducer(Time())
        )
        bus.start()
        self.reactor.run_until(lambda: bus.status().healthy)
        calls: list[Any] = []
        self.patch(
            self.reactor,
            "callFromThread",
            lambda *call: (calls.append(call), PumpedReactor.callFromThread(self.reactor, *call)),
        )
        self.reactor.wait(bus.ship(outgoing("events", *[b"x"] * 1000)))
        assert len(calls) == 1
        self.reactor.wait(bus.stop())


class ClientTests(SynchronousTestCase):
    """The library itself, where nobody listens."""

    def setUp(self) -> None:
        self.settings = KafkaSettings(brokers=(f"127.0.0.1:{free_ports(1)[0]}",), connection_timeout=0.3)

    def test_a_constructor_that_fails_says_why_and_leaves_no_thread(self) -> None:
        threads = set(threading.enumerate())
        with self.assertRaisesRegex(NoBroker, "ECONNREFUSED"):
            LibraryProducer(self.settings)
        with self.assertRaisesRegex(NoBroker, "ECONNREFUSED"):
            LibraryConsumer(self.settings, ["commands"], "group")
        assert not set(threading.enumerate()) - threads

    def test_staying_in_a_group_reads_nothing_of_what_it_assigns(self) -> None:
        """Were the position to move on, records that were never handled would be committed."""
        calls: list[Any] = []
        old, new = TopicPartition("commands", 0), TopicPartition("commands", 1)

        class Library:
            def assignment(self) -> set[TopicPartition]:
                return {old}

            def poll(self, timeout_ms: int) -> Mapping[TopicPartition, list[Message]]:
                calls.append("poll")
                return {new: [Message("commands", 1, 7, None, b""), Message("commands", 1, 8, None, b"")]}

            def pause(self, *partitions: TopicPartition) -> None:
                calls.append(("pause", *partitions))

            def seek(self, partition: TopicPartition, offset: int) -> None:
                calls.append(("seek", partition, offset))

            class _coordinator:  # noqa: N801  the library's own name
                rejoining = False

        consumer = LibraryConsumer.__new__(LibraryConsumer)
        consumer._consumer = Library()
        consumer.stay()
        assert calls == [("pause", old), "poll", ("seek", new, 7), ("pause", new)]

    def test_a_join_that_the_library_forgets_is_gone_on_with(self) -> None:
        """It began because a topic's partitions changed, and took longer than a poll."""
        asked: list[str] = []

        class Coordinator:
            rejoining = True

            def request_rejoin(self) -> None:
                asked.append("rejoin")

        class Library:
            _coordinator = Coordinator()

            def poll(self, timeout_ms: int) -> dict[Any, Any]:
                asked.append("poll")
                return {}

        consumer = LibraryConsumer.__new__(LibraryConsumer)
        consumer._consumer = Library()
        consumer.poll(0.1)
        Coordinator.rejoining = False
        consumer.poll(0.1)
        assert asked == ["rejoin", "poll", "poll"]

    def test_a_request_that_ran_out_of_time_is_no_answer(self) -> None:
        assert is_answer(UnknownError())
        assert not is_answer(RequestTimedOutError())
        assert not is_answer(KafkaConnectionError())

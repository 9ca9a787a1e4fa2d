"""Messages to other nodes: at once, in order, once, and in a bounded time, whatever becomes of them."""

import json
import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError
from ocppgw.net.kafka import KafkaBus, KafkaSettings
from ocppgw.net.kafka.telling import ABSENT_SECONDS, MAX_WAITING, TELL_SECONDS
from tests.build_kafka import FakeProducer, SentRecord, Time
from tests.contract_bus import PumpedReactor, outgoing


class Kafka(FakeProducer):
    """Its acknowledgements may be held."""

    def __init__(self, time: Time) -> None:
        super().__init__(time)
        self.counts = {"node-2": 4, "node-3": 4}
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def settle(self, seconds: float) -> None:
        self.reached.set()
        self.open.wait(30.0)
        super().settle(seconds)


class Telling(SynchronousTestCase):
    def setUp(self) -> None:
        self.time, self.reactor = Time(), PumpedReactor()
        self.kafka = Kafka(self.time)
        self.addCleanup(self.kafka.open.set)
        self.events = Kafka(self.time)
        self.addCleanup(self.events.open.set)
        self.bus = self.build()

    def build(self) -> KafkaBus:
        settings = KafkaSettings(brokers=("kafka:9092",), stop_timeout=1.0, max_record_bytes=1000)
        bus = KafkaBus(settings, self.reactor, connect_producer=self.connect, monotonic=self.time)
        bus.messenger()
        bus.start()
        self.addCleanup(lambda: self.reactor.wait(bus.stop()))
        self.reactor.run_until(lambda: bus.status().healthy)
        return bus

    def connect(self, _settings: KafkaSettings) -> FakeProducer:
        """Each thread makes its own."""
        is_messenger = threading.current_thread().name == "ocppgw-kafka-messenger"
        return self.kafka if is_messenger else self.events

    def tell(self, topic: str = "node-2", **message: Any) -> "Deferred[None]":
        return self.bus.tell(topic, {"chargePointId": "CP-1", **message})

    def hold(self) -> None:
        """One message is on its way, and is not acknowledged."""
        self.kafka.open.clear()
        self.kafka.reached.clear()
        self.first = self.tell(number=0)
        self.first.addErrback(lambda _: None)
        assert self.kafka.reached.wait(10.0)

    def numbers(self, topic: str = "node-2") -> list[int]:
        return [json.loads(record.value)["number"] for record in self.kafka.sent if record.topic == topic]

    def failure(self, told: "Deferred[None]") -> str:
        with self.assertRaises(BusError) as caught:
            self.reactor.wait(told)
        return str(caught.exception)

    def test_it_gets_there_as_json_with_the_stations_key(self) -> None:
        self.reactor.wait(self.tell(type="ForceDisconnect", epoch=7))
        record = self.kafka.sent[0]
        self.assertEqual((record.topic, record.key), ("node-2", b"CP-1"))
        self.assertEqual(json.loads(record.value), {"chargePointId": "CP-1", "type": "ForceDisconnect", "epoch": 7})

    def test_it_waits_for_no_batch_of_events(self) -> None:
        self.events.open.clear()
        shipping = self.bus.ship(outgoing("node-2", b"an event"))
        assert self.events.reached.wait(10.0)
        self.reactor.wait(self.tell(number=1))
        self.assertNoResult(shipping)
        self.events.open.set()
        self.reactor.wait(shipping)

    def test_those_that_follow_one_another_stay_in_order(self) -> None:
        self.hold()
        told = [self.tell(number=number) for number in range(1, 20)]
        self.kafka.open.set()
        for each in told:
            self.reactor.wait(each)
        self.assertEqual(self.numbers(), list(range(20)))

    def test_what_is_not_acknowledged_in_time_fails_even_when_the_library_hangs(self) -> None:
        self.hold()
        sent, waiting = self.first, self.tell(number=1)
        failed: list[Any] = []
        waiting.addErrback(failed.append)
        self.reactor.advance(TELL_SECONDS)
        self.assertTrue(sent.called)
        self.assertEqual(failed[0].type, BusError)
        self.kafka.open.set()
        self.reactor.wait(self.tell(number=2))
        self.assertEqual(self.numbers(), [0, 2], "what failed while it waited is not sent late")

    def test_those_that_wait_are_bounded(self) -> None:
        self.hold()
        told = [self.tell(number=number + 1) for number in range(MAX_WAITING)]
        self.assertIn("1000 messages", self.failure(self.tell(number=-1)))
        self.kafka.open.set()
        self.reactor.wait(told[-1])
        self.assertEqual(len(self.numbers()), MAX_WAITING + 1)

    def test_one_that_is_too_large_fails_alone(self) -> None:
        self.assertIn("max_record_bytes", self.failure(self.tell(text="x" * 1000)))
        self.reactor.wait(self.tell(number=1))

    def test_a_refusal_is_told_and_nothing_is_sent_again(self) -> None:
        self.kafka.verdict = lambda _record: OSError("not now")
        self.failure(self.tell(number=1))
        self.kafka.verdict = lambda _record: None
        self.reactor.wait(self.tell(number=2))
        self.assertEqual(self.numbers(), [1, 2])

    def test_a_topic_that_is_missing_holds_up_the_others_once(self) -> None:
        self.assertIn("has no topic node-9", self.failure(self.tell("node-9", number=1)))
        before = self.time.now
        self.assertIn("has no topic node-9", self.failure(self.tell("node-9", number=2)))
        self.reactor.wait(self.tell("node-3", number=3))
        self.assertEqual((self.time.now, self.numbers("node-3")), (before, [3]))

    def test_a_topic_that_was_missing_is_tried_again_after_a_while(self) -> None:
        self.failure(self.tell("node-9", number=1))
        self.kafka.counts["node-9"] = 1
        self.time.pass_(ABSENT_SECONDS)
        self.reactor.wait(self.tell("node-9", number=2))
        self.assertEqual(self.numbers("node-9"), [2])

    def test_another_nodes_missing_topic_does_not_make_this_one_unready(self) -> None:
        self.failure(self.tell("node-9", number=1))
        self.assertEqual((self.bus.status().healthy, self.bus.status().reason), (True, ""))

    def test_one_topics_messages_share_a_batch_and_no_fault_with_anothers(self) -> None:
        self.hold()

        def verdict(record: SentRecord) -> Exception | None:
            return OSError("refused") if record.topic == "node-3" else None

        self.kafka.verdict = verdict
        good, bad, more = self.tell("node-2", number=1), self.tell("node-3", number=2), self.tell("node-2", number=3)
        bad.addErrback(lambda failure: failure.trap(BusError))
        self.kafka.open.set()
        for each in (good, more, bad):
            self.reactor.wait(each)
        self.assertEqual(self.kafka.settled, [1, 3, 4])

    def test_a_stop_fails_what_is_not_acknowledged_and_what_comes(self) -> None:
        self.hold()
        waiting = self.tell(number=1)
        stopping = self.bus.stop()
        self.assertIn("stopped", self.failure(waiting))
        self.assertIn("does not run", self.failure(self.tell(number=2)))
        self.kafka.open.set()
        self.reactor.wait(stopping)
        self.assertEqual(self.numbers(), [0])

    def test_a_node_that_is_alone_has_nobody_to_tell(self) -> None:
        bus = KafkaBus(KafkaSettings(brokers=("kafka:9092",)), self.reactor, connect_producer=self.connect)
        self.assertIn("does not run", self.failure(bus.tell("node-2", {"chargePointId": "CP-1"})))

    def test_what_can_not_be_written_fails_like_all_else(self) -> None:
        """The callers have an errback, and no `except`."""
        for message in ({}, {"chargePointId": "CP-1", "text": "\ud800"}, {"chargePointId": "CP-1", "what": object()}):
            self.failureResultOf(self.bus.tell("node-2", message), BusError)

"""The bus on Kafka without a broker: what each side does, with a client and a time that the test makes up."""

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RequestTimedOutError,
    SaslAuthenticationFailedError,
    UnknownError,
)
from kafka.partitioner import DefaultPartitioner
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError
from ocppgw.net.kafka import KafkaBus, KafkaSettings
from ocppgw.net.kafka.clients import (
    LibraryConsumer,
    LibraryProducer,
    Membership,
    NoBroker,
    Partition,
    Sent,
    TopicMissing,
    is_answer,
)
from ocppgw.net.kafka.complaints import SAME_LINE_SECONDS, Complaints
from ocppgw.net.kafka.health import FLAPPING_SECONDS, Health, Trouble
from ocppgw.net.kafka.partitions import partition_of
from ocppgw.net.kafka.reading import Batch, Reader
from ocppgw.net.kafka.settings import consumer_options, producer_options
from ocppgw.net.kafka.shipping import CHUNK_BYTES, LONGEST_BACK_OFF, TOPIC_SECONDS, Job, RecordRefused, Shipper, chunks
from ocppgw.ports import Message, Outgoing
from tests.contract_bus import BusContract, PumpedReactor, outgoing
from tests.memory_bus import MemoryBroker, MemoryBus
from tests.services import free_ports

SETTINGS = KafkaSettings(
    brokers=("kafka-1:9092", "kafka-2:9092"), ship_timeout=30.0, request_timeout=5.0, max_record_bytes=600_000
)
PASSWORD = "a-very-secret-word"
MEMBER = Membership("member", 1)


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


class ShipperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = Time()
        self.producers: list[FakeProducer] = []
        self.connect_fault: Exception | None = None
        self.attempts: list[float] = []
        self.told: list[Trouble | None] = []
        self.notes: list[str] = []
        self.cause = ""
        self.shipper = Shipper(
            SETTINGS, self.connect, self.time, self.told.append, lambda: self.cause, self.notes.append
        )

    def connect(self) -> FakeProducer:
        self.attempts.append(self.time())
        if self.connect_fault is not None:
            raise self.connect_fault
        self.producers.append(FakeProducer(self.time))
        return self.producers[-1]

    @property
    def producer(self) -> FakeProducer:
        return self.producers[-1]

    def connected(self) -> None:
        self.shipper.turn(None)
        assert self.told == [None]

    def ship(self, *records: Outgoing) -> BusError | None:
        """Turns until it is done; its error."""
        job = Job(records, self.time() + SETTINGS.ship_timeout, Deferred())
        for _ in range(1000):
            if self.shipper.turn(job):
                return job.error
            self.time.pass_(0.25)
        raise AssertionError("the job never ends")

    def last_reason(self) -> str:
        trouble = self.told[-1]
        assert trouble is not None
        return trouble.reason

    # --- the connection

    def test_it_connects_before_there_is_anything_to_ship(self) -> None:
        self.connected()
        assert len(self.producers) == 1

    def test_attempts_come_less_and_less_often(self) -> None:
        self.connect_fault = NoBroker("refused")
        for _ in range(4000):
            self.shipper.turn(None)
            self.time.pass_(0.01)
        pauses = [round(later - earlier, 1) for earlier, later in itertools.pairwise(self.attempts)]
        assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
        assert set(pauses[4:]) == {LONGEST_BACK_OFF}
        assert "refused" in self.last_reason()

    def test_a_job_waits_for_a_connection_and_fails_in_time(self) -> None:
        self.connect_fault = NoBroker("refused")
        began = self.time()
        error = self.ship(*outgoing("events", b"1"))
        assert error is not None
        assert "no broker of kafka-1:9092, kafka-2:9092 answers: refused" in str(error)
        assert self.time() - began <= SETTINGS.ship_timeout + 1

    def test_a_job_is_shipped_when_the_broker_comes_in_time(self) -> None:
        self.connect_fault = NoBroker("refused")
        job = Job(outgoing("events", b"1"), self.time() + 30.0, Deferred())
        assert not self.shipper.turn(job)
        self.connect_fault = None
        self.time.pass_(1.0)
        assert self.shipper.turn(job)
        assert job.error is None
        assert self.told[-1] is None

    def test_a_fault_of_ours_is_logged_and_tried_again(self) -> None:
        self.connect_fault = ZeroDivisionError("ours")
        self.shipper.turn(None)
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        self.connect_fault = None
        self.time.pass_(1.0)
        self.shipper.turn(None)
        assert self.told[-1] is None

    def test_a_silent_broker_is_trouble_although_nothing_is_shipped(self) -> None:
        self.connected()
        self.producer.quiet = 20.0
        self.shipper.turn(None)
        assert "answers" in self.last_reason()
        self.shipper.turn(None)
        assert len(self.told) == 2, "told once"
        self.producer.quiet = 0.0
        self.shipper.turn(None)
        assert self.told[-1] is None

    def test_a_refused_login_makes_a_new_producer(self) -> None:
        self.connected()
        self.producer.refusal = SaslAuthenticationFailedError("no")
        self.shipper.turn(None)
        assert self.producers[0].is_closed
        assert "refuses user" in self.last_reason()
        self.time.pass_(1.0)
        self.shipper.turn(None)
        assert len(self.producers) == 2

    # --- what is sent

    def test_records_go_to_the_partitions_of_their_keys(self) -> None:
        records = [Outgoing("events", f"CP-{number}", b"1") for number in range(50)]
        assert self.ship(*records) is None
        assert [record.partition for record in self.producer.sent] == [partition_of(r.key, 4) for r in records]

    def test_all_of_a_chunk_goes_with_one_flush(self) -> None:
        assert self.ship(*outgoing("events", *[b"x"] * 1000)) is None
        assert self.producer.settled == [1000]

    def test_the_next_chunk_waits_for_the_last_one(self) -> None:
        big = b"x" * (CHUNK_BYTES // 2)
        assert self.ship(*outgoing("events", b"1", big, big, b"4")) is None
        assert self.producer.settled == [2, 4]

    def test_nothing_overtakes_what_was_refused(self) -> None:
        big = b"x" * (CHUNK_BYTES // 2)
        self.connected()
        self.producer.verdict = lambda record: UnknownError() if record.value == b"1" else None
        error = self.ship(*outgoing("events", b"1", big, big, b"4"))
        assert error is not None
        assert "UnknownError" in str(error)
        assert [record.value for record in self.producer.sent] == [b"1", big]
        assert not self.producer.is_closed, "all of it was settled"

    def test_a_chunk_is_at_least_one_record(self) -> None:
        large = Outgoing("events", "CP-1", b"x" * (2 * CHUNK_BYTES))
        small = Outgoing("events", "CP-1", b"1")
        assert list(chunks([])) == []
        assert [(first, len(run)) for first, run in chunks([large, large, small, small])] == [(0, 1), (1, 1), (2, 2)]

    def test_a_record_above_the_limit_is_refused_before_any_is_sent(self) -> None:
        self.connected()
        value = b"x" * (SETTINGS.max_record_bytes - 5)
        assert self.ship(Outgoing("events", "CP-1", value), Outgoing("events", "12345", value)) is None
        self.producer.sent.clear()
        for key in ("123456", "ü2345"):
            error = self.ship(*outgoing("events", b"1"), Outgoing("events", key, value))
            assert isinstance(error, RecordRefused)
            assert error.index == 1
            assert f"{SETTINGS.max_record_bytes + 1} bytes for events, key {key!r}" in str(error)
        assert self.producer.sent == []
        assert self.told == [None, None], "one record's fault is no trouble with Kafka"

    def test_a_record_above_the_topics_limit_is_named_by_its_place_in_the_batch(self) -> None:
        big = b"x" * (CHUNK_BYTES // 2)
        self.connected()
        self.producer.verdict = lambda record: MessageSizeTooLargeError() if record.value == b"4" else None
        error = self.ship(*outgoing("events", b"1", big, big, b"4", b"5"))
        assert isinstance(error, RecordRefused)
        assert error.index == 3
        assert self.told == [None, None]

    def test_the_record_that_spoils_a_batch_is_told_not_those_beside_it(self) -> None:
        self.connected()
        self.producer.verdict = lambda record: UnknownError("bad") if record.value == b"2" else KafkaError("beside")
        assert "bad" in str(self.ship(*outgoing("events", b"1", b"2", b"3")))

    # --- what is not acknowledged

    def test_what_is_not_acknowledged_in_time_is_given_up_with_its_producer(self) -> None:
        self.connected()
        self.producer.acknowledges = False
        self.cause = "NotEnoughReplicasError"
        began = self.time()
        error = self.ship(*outgoing("events", b"1"))
        assert error is not None
        assert "acknowledged not all of a batch in 30.0 seconds: NotEnoughReplicasError" in str(error)
        assert self.time() - began == SETTINGS.ship_timeout
        assert self.producer.is_closed
        assert self.notes == ["kafka-producer-rebuilt"]

    def test_a_slow_broker_is_trouble_before_the_batch_fails(self) -> None:
        self.connected()
        self.producer.acknowledges = False
        self.ship(*outgoing("events", b"1"))
        assert "acknowledges nothing for more than 5 seconds" in str(self.told[1])

    def test_a_broker_that_answers_and_acknowledges_nothing_stays_trouble(self) -> None:
        self.connected()
        self.producer.acknowledges = False
        self.ship(*outgoing("events", b"1"))
        self.time.pass_(10.0)
        self.shipper.turn(None)
        self.shipper.turn(None)
        assert len(self.producers) == 2
        assert self.told[-1] is not None, "that it connects proves nothing"
        assert self.ship(*outgoing("events", b"1")) is None
        assert self.told[-1] is None

    def test_a_producer_that_fails_half_way_is_given_up(self) -> None:
        self.connected()
        self.producer.send_fault = KafkaTimeoutError("no metadata")
        assert self.ship(*outgoing("events", b"1", b"2")) is not None
        assert self.producer.is_closed, "it must not send the first record later, behind its repetition"
        self.time.pass_(1.0)
        assert self.ship(*outgoing("events", b"1", b"2")) is None

    def test_a_login_that_is_refused_while_a_batch_waits_ends_the_wait(self) -> None:
        self.connected()
        self.producer.acknowledges = False
        settle = self.producer.settle

        def refuse(seconds: float) -> None:
            settle(seconds)
            self.producer.refusal = SaslAuthenticationFailedError("no")

        self.producer.settle = refuse  # type: ignore[method-assign]
        began = self.time()
        assert "refuses user" in str(self.ship(*outgoing("events", b"1")))
        assert self.time() - began < 1.0

    def test_a_stop_ends_the_wait(self) -> None:
        self.connected()
        self.producer.acknowledges = False
        self.shipper.stop_in(3.0)
        began = self.time()
        assert self.ship(*outgoing("events", b"1")) is not None
        assert self.time() - began == 3.0
        self.time.pass_(60.0)
        self.shipper.turn(None)
        assert len(self.producers) == 1, "it does not connect again"

    # --- topics

    def test_a_topic_may_take_a_while_to_be_made(self) -> None:
        self.connected()
        began = self.time()
        asked = self.producer.partitions

        def make(topic: str) -> int:
            if self.time() - began >= TOPIC_SECONDS - 1:
                self.producer.counts["new"] = 2
            return asked(topic)

        self.producer.partitions = make  # type: ignore[method-assign]
        assert self.ship(*outgoing("new", b"1")) is None

    def test_a_topic_that_nobody_makes_is_named_with_the_command(self) -> None:
        error = self.ship(*outgoing("events", b"1"), *outgoing("new", b"2"))
        assert error is not None
        assert "no topic new" in str(error)
        assert "kafka-topics.sh --bootstrap-server kafka-1:9092 --create --topic new --partitions 4" in str(error)
        assert self.producer.sent == []
        assert "no topic new" in self.last_reason()

    def test_a_broker_that_tells_nothing_about_a_topic_is_not_taken_for_one_without_it(self) -> None:
        self.connected()
        self.producer.quiet = 1.0
        error = self.ship(*outgoing("new", b"1"))
        assert "told nothing about new in 30" in str(error)
        assert self.producer.is_closed


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


FIRST = {("commands", 0): 5, ("commands", 1): 7}  # of the batch that `read` gives, and what to read after it
NEXT = {("commands", 0): 8, ("commands", 1): 8}


class ReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = Time()
        self.found: list[Mapping[Partition, Sequence[Message]] | Exception] = []
        self.consumers: list[FakeConsumer] = []
        self.batches: list[Batch] = []
        self.told: list[Trouble | None] = []
        self.notes: list[str] = []
        self.reader = Reader(
            SETTINGS,
            ["commands"],
            self.connect,
            self.batches.append,
            self.time.pass_,
            self.time,
            self.told.append,
            self.notes.append,
        )

        wait = Batch.wait
        self.patch(Batch, "wait", lambda batch, _seconds: wait(batch, 0.0))

    def connect(self) -> FakeConsumer:
        self.consumers.append(FakeConsumer(self.found))
        return self.consumers[-1]

    @property
    def consumer(self) -> FakeConsumer:
        return self.consumers[-1]

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.reader.turn()

    def read(self) -> Batch:
        """Let the reader hand a batch over."""
        self.found.append({**messages("commands", 0, 5, 3), **messages("commands", 1, 7, 1)})
        self.turns(1)
        return self.batches[-1]

    def test_a_batch_is_committed_once_it_was_handled(self) -> None:
        batch = self.read()
        assert [message.offset for message in batch.messages] == [5, 6, 7, 7]
        self.found.append(messages("commands", 0, 8, 1))
        self.turns(2)
        assert self.consumer.calls == ["stay", "stay"], "it stays in its group, and reads nothing more"
        batch.settle(True)
        self.turns(1)
        assert self.consumer.calls[2:] == [("commit", NEXT), "resume"]
        self.turns(1)
        assert [message.offset for message in self.batches[-1].messages] == [8]

    def test_a_batch_that_was_not_handled_comes_again_after_longer_and_longer_pauses(self) -> None:
        batch = self.read()
        at = [self.time()]
        while len(self.batches) < 5:
            count = len(self.batches)
            batch.settle(False)
            while len(self.batches) == count:
                self.turns(1)
            at.append(self.time())
        assert all(each is batch for each in self.batches)
        assert [round(later - earlier) for earlier, later in itertools.pairwise(at)] == [1, 2, 4, 8]
        assert ("commit", NEXT) not in self.consumer.calls
        assert "stay" in self.consumer.calls, "the group does not throw it out meanwhile"
        batch.settle(True)
        self.turns(1)
        assert ("commit", NEXT) in self.consumer.calls

    def test_a_batch_of_an_earlier_membership_is_not_committed(self) -> None:
        batch = self.read()
        self.consumer.member = Membership("member", 2)
        batch.settle(True)
        self.turns(1)
        assert self.consumer.calls == [("seek", FIRST), "resume"]
        assert self.notes == ["kafka-batch-not-committed"]

    def test_a_batch_that_waits_to_come_again_is_dropped_when_its_membership_ends(self) -> None:
        batch = self.read()
        batch.settle(False)
        self.turns(1)
        self.consumer.member = None
        self.turns(1)
        assert self.consumer.calls == [("seek", FIRST), "resume"]
        assert len(self.batches) == 1

    def test_a_commit_that_the_group_refuses_is_given_up(self) -> None:
        batch = self.read()
        self.consumer.commit_faults = [CommitFailedError("gone")]
        batch.settle(True)
        self.turns(1)
        assert self.consumer.calls == [("commit", NEXT), ("seek", FIRST), "resume"]

    def test_a_commit_that_nobody_answers_is_tried_again_without_handling_again(self) -> None:
        batch = self.read()
        self.consumer.commit_faults = [KafkaTimeoutError("late"), KafkaConnectionError("gone")]
        batch.settle(True)
        self.turns(3)
        commit = ("commit", NEXT)
        assert self.consumer.calls == [commit, "stay", commit, "stay", commit, "resume"]
        assert len(self.batches) == 1
        assert self.reader.has_time_for_batch() is False

    def test_a_poll_that_fails_with_the_connection_goes_on_with_the_same_consumer(self) -> None:
        self.found += [KafkaConnectionError("gone"), messages("commands", 0, 0, 1)]
        self.turns(2)
        assert len(self.consumers) == len(self.batches) == 1
        assert "no broker" in str(self.told[0])
        assert self.told[-1] is None

    def test_any_other_fault_makes_a_new_consumer_after_a_pause(self) -> None:
        self.found += [GroupAuthorizationFailedError("group"), messages("commands", 0, 0, 1)]
        self.turns(1)
        assert self.consumers[0].is_closed
        assert "does not allow this" in str(self.told[0])
        began = self.time()
        while not self.batches:
            self.turns(1)
        assert self.time() - began >= 0.25
        assert len(self.consumers) == 2

    def test_a_fault_of_ours_is_logged_and_survived(self) -> None:
        self.found += [ZeroDivisionError("ours"), messages("commands", 0, 0, 1)]
        while not self.batches:
            self.turns(1)
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_a_batch_whose_consumer_was_lost_is_never_committed(self) -> None:
        batch = self.read()
        self.consumer.refusal = SaslAuthenticationFailedError("no")
        self.turns(1)
        assert self.consumer.is_closed
        assert "refuses user" in str(self.told[-1])
        self.turns(3)
        assert len(self.consumers) == 1, "one batch at a time: that of the old one is still being handled"
        batch.settle(True)
        self.turns(3)
        assert not [call for consumer in self.consumers for call in consumer.calls if call[0] == "commit"]

    def test_a_topic_is_missed_only_after_it_could_have_been_made(self) -> None:
        self.reader.turn()
        self.told.clear()
        self.consumer.missing_topic = "commands"
        self.turns(2)
        assert self.told == []
        self.time.pass_(TOPIC_SECONDS)
        self.turns(1)
        assert "--create --topic commands" in str(self.told[-1])
        self.consumer.missing_topic = ""
        self.turns(1)
        assert self.told[-1] is None

    def test_a_silent_broker_is_trouble(self) -> None:
        self.turns(1)
        self.consumer.quiet = 20.0
        self.turns(1)
        assert "no broker of kafka-1:9092, kafka-2:9092 answers: refused" in str(self.told[-1])

    def test_a_stop_leaves_time_only_for_a_batch_that_is_being_handled(self) -> None:
        assert not self.reader.has_time_for_batch()
        batch = self.read()
        self.reader.stop_in(1.0)
        assert self.reader.has_time_for_batch()
        self.time.pass_(1.0)
        assert not self.reader.has_time_for_batch()
        self.reader.stop_in(100.0)
        batch.settle(False)
        self.turns(1)
        assert not self.reader.has_time_for_batch(), "the next one gets it"


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
        assert set(threading.enumerate()) == threads

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

        consumer = LibraryConsumer.__new__(LibraryConsumer)
        consumer._consumer = Library()
        consumer.stay()
        assert calls == [("pause", old), "poll", ("seek", new, 7), ("pause", new)]

    def test_a_request_that_ran_out_of_time_is_no_answer(self) -> None:
        assert is_answer(UnknownError())
        assert not is_answer(RequestTimedOutError())
        assert not is_answer(KafkaConnectionError())


class PartitionTests(SynchronousTestCase):
    def test_keys_go_where_the_librarys_default_partitioner_sends_them(self) -> None:
        class Cluster:
            def __init__(self, count: int) -> None:
                self.count = count

            def topics(self) -> set[str]:
                return {"events"}

            def partitions_for_topic(self, _topic: str) -> set[int]:
                return set(range(self.count))

            available_partitions_for_topic = partitions_for_topic

        for count, key in itertools.product(
            (1, 3, 4, 64), ("", "a", "ab", "abc", "CP-0001", "grüße", "漢字", "x" * 99)
        ):
            raw = key.encode()
            chosen = DefaultPartitioner().partition("events", key, raw, b"", b"", Cluster(count))
            assert partition_of(key, count) == chosen


class SettingsTests(SynchronousTestCase):
    def test_no_form_of_the_settings_shows_the_password(self) -> None:
        settings = KafkaSettings(
            brokers=("kafka:9092",), sasl_mechanism="PLAIN", sasl_username="gateway", sasl_password=PASSWORD
        )
        for shown in (repr(settings), str(settings), f"{settings}", str(list(settings.__rich_repr__()))):
            assert PASSWORD not in shown
            assert "gateway" in shown
        assert PASSWORD not in repr(Shipper(settings, lambda: FakeProducer(Time()), Time(), print, str, print))

    def test_the_protocol_follows_from_tls_and_login(self) -> None:
        def protocol(**more: Any) -> Any:
            return producer_options(KafkaSettings(brokers=("kafka:9092",), **more))["security_protocol"]

        assert protocol() == "PLAINTEXT"
        assert protocol(tls=True) == "SSL"
        assert protocol(sasl_mechanism="PLAIN") == "SASL_PLAINTEXT"
        assert protocol(tls=True, sasl_mechanism="SCRAM-SHA-512") == "SASL_SSL"

    def test_the_producer_loses_and_reorders_nothing(self) -> None:
        options = producer_options(SETTINGS)
        assert options["acks"] == "all"
        assert options["enable_idempotence"] is False
        assert options["max_in_flight_requests_per_connection"] == 1
        assert options["delivery_timeout_ms"] == float("inf")
        assert options["batch_size"] > CHUNK_BYTES
        assert options["reconnect_backoff_max_ms"] == 1000

    def test_the_consumer_commits_nothing_by_itself(self) -> None:
        options = consumer_options(SETTINGS, "group")
        assert options["enable_auto_commit"] is False
        assert options["group_id"] == "group"
        assert options["auto_offset_reset"] == "earliest"

    def test_a_tls_file_that_can_not_be_read_is_named(self) -> None:
        for name, path in (("tls_ca_path", "/no/ca.pem"), ("tls_cert_path", "/no/client.pem")):
            with self.assertRaisesRegex(BusError, path):
                producer_options(KafkaSettings(brokers=("kafka:9092",), tls=True, **{name: path}))


class Logged(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.time = Time()

    def lines(self) -> list[str]:
        return [str(formatEvent(event)) for event in self.events]


class HealthTests(Logged):
    def setUp(self) -> None:
        super().setUp()
        self.notes: list[str] = []
        self.health = Health("kafka:9092", self.time, self.notes.append)

    def test_an_outage_is_logged_once_for_both_sides(self) -> None:
        self.health.expect("producer")
        self.health.expect("consumer")
        self.health.tell("producer", None)
        assert self.health.status().reason == "connecting to Kafka at kafka:9092"
        self.health.tell("consumer", None)
        assert self.health.status().healthy
        for side in ("producer", "consumer", "producer"):
            self.health.tell(side, Trouble("unreachable", f"nobody answers the {side}"))
            self.time.pass_(2 * FLAPPING_SECONDS)
        assert self.health.status().reason.startswith("nobody answers")
        self.health.tell("producer", None)
        assert not self.health.status().healthy
        self.health.tell("consumer", None)
        assert self.health.status().healthy
        assert self.lines() == [
            "connected to Kafka at kafka:9092",
            "Kafka can't be used: nobody answers the producer",
            f"Kafka can be used again, after {6 * FLAPPING_SECONDS:.1f} seconds",
        ]
        assert self.notes == ["kafka-outage"]

    def test_another_kind_of_trouble_in_an_outage_is_a_line_of_its_own(self) -> None:
        self.health.tell("producer", Trouble("unreachable", "nobody answers"))
        self.health.tell("producer", Trouble("login", "refused"))
        self.health.tell("producer", Trouble("unreachable", "nobody answers"))
        assert len(self.lines()) == 2

    def test_a_flapping_broker_does_not_fill_the_log(self) -> None:
        for _ in range(50):
            self.health.tell("producer", Trouble("unreachable", "nobody answers"))
            self.time.pass_(FLAPPING_SECONDS / 100)
            self.health.tell("producer", None)
        assert len(self.lines()) == 2
        self.time.pass_(FLAPPING_SECONDS)
        self.health.tell("producer", Trouble("unreachable", "nobody answers"))
        assert len(self.lines()) == 3


class ComplaintsTests(Logged):
    def setUp(self) -> None:
        super().setUp()
        self.complaints = Complaints(lambda call, *arguments: call(*arguments), self.time)
        self.complaints.attach()
        self.addCleanup(self.complaints.detach)
        self.log = logging.getLogger("kafka.net.connection")

    def test_a_line_that_is_said_again_and_again_is_written_once_in_a_while(self) -> None:
        for number in range(1000):
            self.log.error("Connection failed: %s", number)
        assert self.lines() == ["kafka.net.connection: Connection failed: 0"]
        self.time.pass_(SAME_LINE_SECONDS)
        self.log.error("Connection failed: %s", "last")
        assert self.lines()[1:] == [
            "kafka.net.connection: Connection failed: last (999 more were left out since the last such line)"
        ]

    def test_only_faults_inside_of_the_library_are_warnings(self) -> None:
        self.log.error("Connection failed")
        try:
            raise ZeroDivisionError("inside")
        except ZeroDivisionError:
            self.log.exception("Uncaught error in {braces}")
        self.log.info("not worth a line")
        assert [event["log_level"].name for event in self.events] == ["info", "warn"]
        assert "Uncaught error in {braces}: ZeroDivisionError: inside" in self.lines()[1]

    def test_why_a_batch_is_tried_again_is_kept_for_a_while(self) -> None:
        assert self.complaints.cause() == ""
        logging.getLogger("kafka.producer.sender").warning("%s: retrying: %s", "sender", "NotEnoughReplicasError")
        assert self.complaints.cause() == "NotEnoughReplicasError"
        self.time.pass_(60.0)
        assert self.complaints.cause() == ""

    def test_nothing_is_said_after_the_end(self) -> None:
        self.complaints.detach()
        self.log.error("Connection failed")
        assert self.events == []

"""The producer's side of the bus, with a client and a time that the test makes up."""

import itertools

from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    SaslAuthenticationFailedError,
    UnknownError,
)
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError
from ocppgw.net.kafka.clients import (
    NoBroker,
)
from ocppgw.net.kafka.health import Trouble
from ocppgw.net.kafka.partitions import partition_of
from ocppgw.net.kafka.shipping import CHUNK_BYTES, LONGEST_BACK_OFF, TOPIC_SECONDS, Job, RecordRefused, Shipper, chunks
from ocppgw.ports import Outgoing
from tests.build_kafka import SETTINGS, FakeProducer, Time
from tests.contract_bus import outgoing


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

    def test_when_nobody_ships_an_answer_is_proof_enough_after_a_while(self) -> None:
        """Messages to other nodes are few: there may be none for hours."""
        self.connected()
        self.producer.acknowledges = False
        self.ship(*outgoing("events", b"1"))
        self.time.pass_(2 * SETTINGS.request_timeout)
        self.shipper.turn(None)
        self.shipper.turn(None)
        assert self.told[-1] is not None
        self.time.pass_(1.0)
        self.shipper.turn(None)
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

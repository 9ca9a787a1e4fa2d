"""What operators hear of Kafka."""

import logging
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.kafka.complaints import SAME_LINE_SECONDS, Complaints
from ocppgw.net.kafka.health import FLAPPING_SECONDS, Health, Trouble
from tests.build_kafka import Time


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

"""The consumer's side of the bus, with a client and a time that the test makes up."""

import itertools
from collections.abc import Mapping, Sequence

from kafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
)
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.kafka.clients import (
    Membership,
    Partition,
)
from ocppgw.net.kafka.health import Trouble
from ocppgw.net.kafka.reading import Batch, Reader
from ocppgw.net.kafka.shipping import TOPIC_SECONDS
from ocppgw.ports import Message
from tests.build_kafka import SETTINGS, FakeConsumer, Time, messages

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

    def test_commits_that_do_not_get_through_are_one_outage(self) -> None:
        """A broker that answers is no end of it: the group's coordinator may be another one."""
        self.read().settle(True)
        self.consumer.commit_faults = [KafkaTimeoutError("late")] * 5
        self.told.clear()
        self.turns(5)
        assert [trouble and trouble.kind for trouble in self.told] == ["unreachable"] * 5
        self.turns(2)
        assert self.told[-1] is None

    def test_a_login_that_is_refused_meanwhile_is_told(self) -> None:
        self.read().settle(True)
        self.consumer.commit_faults = [KafkaTimeoutError("late")]
        self.consumer.refusal = SaslAuthenticationFailedError("wrong password")
        self.turns(1)
        assert self.told[-1] is not None
        assert self.told[-1].kind == "login"

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

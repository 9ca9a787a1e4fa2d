"""A consumer gets through every rebalance, also where its polls are shorter than a rebalance takes.

The library forgets a rejoin that news of a topic began, when a poll ends before the group is whole again (Java's client
had the same: KAFKA-9815). Such a consumer reads nothing more, sends no heartbeat, and says nothing about it.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from kafka.admin import KafkaAdminClient, NewPartitions, NewTopic

from ocppgw.net.kafka.clients import LibraryConsumer
from ocppgw.net.kafka.settings import KafkaSettings
from tests.services import KafkaServer

pytest_plugins = ("tests.services.fixtures",)

POLL_SECONDS = 0.002  # a join takes several of these
JOIN_SECONDS = 10.0
NEWS_SECONDS = 0.5  # between two questions about the topics


@pytest.fixture
def admin(session_kafka: KafkaServer) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=session_kafka.brokers)) as client:
        yield client


def until_assigned(consumer: LibraryConsumer, count: int, turn: Callable[[LibraryConsumer], object]) -> None:
    began, asked = time.monotonic(), float("-inf")
    while len(consumer._consumer.assignment()) != count or consumer.membership() is None:
        assert time.monotonic() - began < JOIN_SECONDS, f"{consumer._consumer.group_metadata()} after {JOIN_SECONDS} s"
        if time.monotonic() - asked > NEWS_SECONDS:
            consumer._inside.cluster.request_update()
            asked = time.monotonic()
        turn(consumer)


def poll(consumer: LibraryConsumer) -> None:
    consumer.poll(POLL_SECONDS)


def stay(consumer: LibraryConsumer) -> None:
    """As while a batch is being handled."""
    consumer.stay()


@pytest.mark.parametrize("turn", [poll, stay])
def test_a_topic_grows(
    session_kafka: KafkaServer,
    admin: KafkaAdminClient,
    turn: Callable[[LibraryConsumer], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ocppgw.net.kafka.clients.PAUSED_POLL_SECONDS", POLL_SECONDS)
    topic = f"topic-{uuid.uuid4()}"
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    with closing(LibraryConsumer(KafkaSettings(brokers=(session_kafka.brokers,)), [topic], topic)) as consumer:
        until_assigned(consumer, 1, poll)
        for count in range(2, 7):
            admin.create_partitions({topic: NewPartitions(count)})
            until_assigned(consumer, count, turn)


def test_a_process_takes_the_place_of_the_one_before_it_at_once(session_kafka: KafkaServer) -> None:
    """Of a node that was killed: without a name, its successor waits until the group's session is over (10 s)."""
    topic = f"topic-{uuid.uuid4()}"
    session_kafka.create_topics({topic: 2})
    settings = KafkaSettings(brokers=(session_kafka.brokers,), session_timeout=10.0)
    with closing(LibraryConsumer(settings, [topic], topic, "node-1")) as dead:
        until_assigned(dead, 2, poll)
        began = time.monotonic()
        with closing(LibraryConsumer(settings, [topic], topic, "node-1")) as successor:
            until_assigned(successor, 2, poll)
            assert time.monotonic() - began < 4.0

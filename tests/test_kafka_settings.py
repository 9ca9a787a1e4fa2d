"""Kafka's settings as its clients want them, and the partitions of keys."""

import itertools
from typing import Any

from kafka.partitioner import DefaultPartitioner
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError
from ocppgw.net.kafka import KafkaSettings
from ocppgw.net.kafka.partitions import partition_of
from ocppgw.net.kafka.settings import consumer_options, producer_options
from ocppgw.net.kafka.shipping import CHUNK_BYTES, Shipper
from tests.build_kafka import PASSWORD, SETTINGS, FakeProducer, Time


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
        assert options["group_instance_id"] is None

    def test_the_only_one_in_its_group_has_a_name_there(self) -> None:
        assert consumer_options(SETTINGS, "group", "node-1")["group_instance_id"] == "node-1"

    def test_a_tls_file_that_can_not_be_read_is_named(self) -> None:
        for name, path in (("tls_ca_path", "/no/ca.pem"), ("tls_cert_path", "/no/client.pem")):
            with self.assertRaisesRegex(BusError, path):
                producer_options(KafkaSettings(brokers=("kafka:9092",), tls=True, **{name: path}))

"""The bus on a real Kafka: the contract of every bus, and what becomes of records when the broker stops or hangs."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka.record.default_records import DefaultRecordBatchBuilder
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError
from ocppgw.metrics import Metrics
from ocppgw.net.kafka import KafkaBus
from ocppgw.net.kafka.partitions import partition_of
from ocppgw.net.kafka.telling import TELL_SECONDS
from ocppgw.ports import Outgoing
from ocppgw.routing.control_inbox import ControlInbox
from ocppgw.routing.outbox import Outbox
from tests.contract_bus import BusContract, Reader, numbered
from tests.integration.real_kafka import Load, Log, RealKafka, threads_of_bus
from tests.services import KafkaServer
from tests.test_outbox import FakeJournal

pytest_plugins = ("tests.services.fixtures",)

HANG_SECONDS = 1.3  # more than a request may take, and less than after which Kafka's controller fences its broker
RESUME_SECONDS = 10.0  # with the library's own settings it can be half a minute
TOLD_SECONDS = 0.1  # a median; on an idle machine it is a few milliseconds
HEARD_SECONDS = 0.2  # the same
OUTBOX = Outbox(FakeJournal(), Metrics({}, "test"), 1, 1, 1.0)  # type: ignore[arg-type]  # for letters: none is written


class KafkaBusTests(BusContract, SynchronousTestCase):
    @pytest.fixture(autouse=True)
    def _kafka(self, session_kafka: KafkaServer) -> None:
        self.kafka = session_kafka

    def surroundings(self) -> RealKafka:
        around = RealKafka(self.kafka)
        self.addCleanup(around.close)
        return around


def crash(kafka: KafkaServer) -> None:
    kafka.kill()
    kafka.start()


def hang(kafka: KafkaServer) -> None:
    """For longer than a request may take."""
    kafka.pause()
    time.sleep(HANG_SECONDS)
    kafka.resume()


@pytest.fixture
def around(kafka_server: KafkaServer) -> Iterator[RealKafka]:
    surroundings = RealKafka(kafka_server, request_timeout=0.8)
    yield surroundings
    surroundings.stop()


@pytest.mark.parametrize(("fault", "ship_timeout"), [(hang, 30.0), (crash, 1.0)], ids=["patient", "impatient"])
def test_nothing_is_lost_or_reordered(
    around: RealKafka, fault: Callable[[KafkaServer], None], ship_timeout: float
) -> None:
    """The impatient bus gives batches up and builds its producer anew; the patient one lets the library repeat."""
    topic = around.topic()
    around.kafka.create_topics({topic: 4})
    bus = around.started(ship_timeout=ship_timeout)
    load = Load(around, bus, topic, 20_000)
    around.reactor.run_until(lambda: load.shipped >= 4_000)
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(fault, around.kafka)
        around.reactor.run_until(broken.done)
        broken.result()
    around.reactor.wait(load.done, RESUME_SECONDS)
    around.reactor.run_until(lambda: bus.status().healthy)
    assert load.check() <= 1_500, "repeats: at most what was open at each of a few failures"
    assert (load.failures > 0) == ("kafka-producer-rebuilt" in around.notes)


def test_a_stop_is_bounded_when_nobody_answers(around: RealKafka) -> None:
    topic = around.topic()
    reader = Reader()
    bus = around.bus(stop_timeout=3.0)
    bus.consume([topic], f"group-of-{topic}", reader)
    bus.start()
    around.reactor.run_until(lambda: bus.status().healthy)
    around.reactor.wait(bus.ship([Outgoing(topic, "CP-1", b"1")]))
    around.reactor.run_until(lambda: reader.values)
    reader.hold()
    around.kafka.pause()
    shipping = bus.ship([Outgoing(topic, "CP-1", b"2")])
    began = time.monotonic()
    around.reactor.wait(bus.stop())
    assert time.monotonic() - began < 3.5
    with pytest.raises(BusError):
        around.reactor.wait(shipping)
    around.reactor.run_until(lambda: not threads_of_bus(), 10.0)


def test_a_batch_fails_in_time_when_there_is_no_broker(tmp_path: Path) -> None:
    around = RealKafka(KafkaServer(tmp_path), connection_timeout=0.5, ship_timeout=2.0, stop_timeout=2.0)
    bus = around.started()
    began = time.monotonic()
    with pytest.raises(BusError, match="no broker of"):
        around.reactor.wait(bus.ship([Outgoing(around.topic(), "CP-1", b"1")]))
    assert 1.5 < time.monotonic() - began < 4.0
    around.stop()


def test_a_record_above_the_topics_limit_is_named(around: RealKafka) -> None:
    topic = around.topic()
    around.kafka.create_topics({topic: 2}, {"max.message.bytes": "2000"})
    bus = around.started()
    values = [b"1", b"x" * 1500, b"x" * 3000, b"4", b"x" * 1500]
    with pytest.raises(BusError, match=f"3004 bytes for {topic}, key 'CP-1'") as caught:
        around.reactor.wait(bus.ship([Outgoing(topic, "CP-1", value) for value in values]))
    assert caught.value.index == 2  # type: ignore[attr-defined]
    del values[2]
    around.reactor.wait(bus.ship([Outgoing(topic, "CP-1", value) for value in values]))
    found = [value for _key, value in around.records(topic, len(around.placed(topic)))]
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(values))
    assert "kafka-producer-rebuilt" not in around.notes


def test_what_the_broker_refuses_fails_with_its_words(around: RealKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record's own fault, as when the clocks differ: it must not be taken for one."""
    topic = around.topic()
    around.kafka.create_topics({topic: 1}, {"message.timestamp.before.max.ms": "60000"})
    append = DefaultRecordBatchBuilder.append  # keeps the clock among its defaults
    defaults = [(lambda: time.time() - 3600) if default is time.time else default for default in append.__defaults__]
    monkeypatch.setattr(append, "__defaults__", tuple(defaults))
    bus = around.started()
    with pytest.raises(BusError, match="timestamp") as caught:
        around.reactor.wait(bus.ship([Outgoing(topic, "CP-1", value) for value in numbered(50)]))
    assert not hasattr(caught.value, "index")
    assert "timestamp" in bus.status().reason
    other = around.topic()
    around.reactor.wait(bus.ship([Outgoing(other, "CP-1", b"1")]))
    assert bus.status().healthy


def test_a_key_goes_where_other_producers_send_it(around: RealKafka) -> None:
    topic = around.topic()
    around.kafka.create_topics({topic: 7})
    keys = [*(f"CP-{number:03}" for number in range(60)), "a", "ab", "grüße", "漢字-1"]
    around.kafka.produce(topic, [(key, "console") for key in keys])
    around.put(topic, [(key, b"kafka-python") for key in keys])
    around.reactor.wait(around.started().ship([Outgoing(topic, key, b"bus") for key in keys]))
    placed = around.placed(topic)
    for key in keys:
        places = {value: partition for partition, found, value in placed if found == key.encode()}
        assert set(places) == {b"console", b"kafka-python", b"bus"}
        assert set(places.values()) == {partition_of(key, 7)}, key
    assert len({partition for partition, _key, _value in placed}) == 7


# --- a group


def test_a_group_shares_a_topic_and_loses_nothing_in_rebalances(around: RealKafka) -> None:
    topic, first, second = around.topic(), Reader(), Reader()
    around.kafka.create_topics({topic: 4})
    load = Load(around, around.started(), topic, 12_000, keys=40, batch=100, pause=0.04)
    buses = [around.bus(), around.bus()]
    with Log() as log:
        for bus, reader in zip(buses, (first, second), strict=True):
            bus.consume([topic], f"group-of-{topic}", reader)
            bus.start()
            around.running.append(bus)
            around.reactor.run_until(lambda reader=reader: len(reader.values) > 500)
        around.reactor.wait(buses[0].stop())
        around.reactor.wait(load.done)
        around.reactor.run_until(lambda: len({*first.values, *second.values}) == 12_000)
    assert not [event for event in log.events if event.get("log_failure")], log.text
    repeats = len(first.values) + len(second.values) - 12_000
    assert repeats < 3_000, "only what was open at a rebalance comes again"


def test_a_batch_whose_partitions_were_lost_is_not_committed(around: RealKafka) -> None:
    topic, first, second = around.topic(), Reader(), Reader()
    around.kafka.create_topics({topic: 2})
    records = [(f"CP-{number}", value) for number, value in enumerate(numbered(20))]
    buses = [around.bus(), around.bus()]
    with Log() as log:
        buses[0].consume([topic], f"group-of-{topic}", first)
        buses[0].start()
        around.running.append(buses[0])
        around.reactor.run_until(lambda: buses[0].status().healthy)
        held = first.hold()
        around.put(topic, records)
        around.reactor.run_until(lambda: first.values)
        buses[1].consume([topic], f"group-of-{topic}", second)
        buses[1].start()
        around.running.append(buses[1])
        around.reactor.run_until(lambda: second.values)  # the first one stayed in the group, and gave a partition up
        first.held = None
        begun = set(first.values)
        held.callback(None)
        around.reactor.run_until(lambda: len(first.values) + len(second.values) >= 20 + len(begun))
    assert {*first.values, *second.values} == {value for _key, value in records}
    assert "kafka-batch-not-committed" in around.notes
    assert not [event for event in log.events if event.get("log_failure")], log.text


@pytest.mark.parametrize("fault", [hang, crash])
def test_reading_goes_on_soon_after_an_outage(around: RealKafka, fault: Callable[[KafkaServer], None]) -> None:
    topic, reader = around.topic(), Reader()
    bus = around.bus()
    bus.consume([topic], f"group-of-{topic}", reader)
    bus.start()
    around.running.append(bus)
    around.put(topic, [("CP-1", b"1")])
    around.reactor.run_until(lambda: reader.values)
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(fault, around.kafka)
        around.reactor.run_until(broken.done)
        broken.result()
    around.put(topic, [("CP-1", b"2")])
    around.reactor.run_until(lambda: b"2" in reader.values, RESUME_SECONDS)
    around.reactor.run_until(lambda: bus.status().healthy)


# --- messages to other nodes


@pytest.fixture
def telling(around: RealKafka) -> KafkaBus:
    bus = around.bus()
    bus.messenger()
    bus.start()
    around.running.append(bus)
    around.reactor.run_until(lambda: bus.status().healthy)
    return bus


def test_a_message_to_a_node_is_there_in_milliseconds(around: RealKafka, telling: KafkaBus) -> None:
    topic = around.topic()
    around.kafka.create_topics({topic: 1})
    around.reactor.wait(telling.tell(topic, {"chargePointId": "CP-1"}))
    seconds = []
    for number in range(30):
        began = time.monotonic()
        around.reactor.wait(telling.tell(topic, {"chargePointId": "CP-1", "number": number}))
        seconds.append(time.monotonic() - began)
    assert sorted(seconds)[15] < TOLD_SECONDS, seconds


def test_another_node_hears_it_soon(around: RealKafka, telling: KafkaBus) -> None:
    """Through its own control inbox."""
    topic, heard = around.topic(), []
    around.kafka.create_topics({topic: 1})
    other, metrics = around.bus(), Metrics({}, "test")
    inbox = ControlInbox(heard.append, OUTBOX, metrics, around.reactor, "node-2")
    other.consume([topic], f"group-of-{topic}", inbox.handle)
    other.start()
    around.running.append(other)
    around.reactor.run_until(lambda: other.status().healthy)
    seconds = []
    for number in range(20):
        began = time.monotonic()
        telling.tell(topic, {"chargePointId": "CP-1", "number": number}).addErrback(heard.append)
        around.reactor.run_until(lambda number=number: len(heard) > number)
        seconds.append(time.monotonic() - began)
    assert [told["number"] for told in heard] == list(range(20))
    assert sorted(seconds)[10] < HEARD_SECONDS, seconds


def test_messages_of_a_station_stay_in_order(around: RealKafka, telling: KafkaBus) -> None:
    topic = around.topic()
    around.kafka.create_topics({topic: 4})
    told = [telling.tell(topic, {"chargePointId": f"CP-{number % 7}", "number": number}) for number in range(500)]
    for each in told:
        around.reactor.wait(each)
    found: dict[bytes | None, list[int]] = defaultdict(list)
    for key, value in around.records(topic, 500):
        found[key].append(json.loads(value)["number"])
    assert found == {f"CP-{first}".encode(): list(range(first, 500, 7)) for first in range(7)}


def test_a_broker_that_hangs_fails_a_message_in_time_and_not_the_next(around: RealKafka, telling: KafkaBus) -> None:
    topic = around.topic()
    around.kafka.create_topics({topic: 1})
    around.kafka.pause()
    began = time.monotonic()
    with pytest.raises(BusError, match="in time"):
        around.reactor.wait(telling.tell(topic, {"chargePointId": "CP-1", "number": 1}))
    assert time.monotonic() - began < TELL_SECONDS + 0.5
    around.kafka.resume()

    def is_told() -> bool:
        try:
            around.reactor.wait(telling.tell(topic, {"chargePointId": "CP-1", "number": 2}))
        except BusError:
            return False
        return True

    around.reactor.run_until(is_told, RESUME_SECONDS)

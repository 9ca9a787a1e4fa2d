"""The Redis and Kafka that the other tests run against: they serve, and every fault that tests make with them is real.

Nothing of the gateway takes part: Redis is asked over a plain socket and with redis-cli, Kafka with its own tools.
"""

import re
import signal
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.certificates import Pki
from tests.services import KafkaServer, RedisReplyError, RedisSentinels, RedisServer, RedisUser, free_ports, wait_until
from tests.services.process import ROOT, is_free

pytest_plugins = ("tests.integration.certificates", "tests.services.fixtures")

ADMIN = RedisUser("admin", "an admin's password")
GATEWAY = RedisUser("gateway", "correct horse:staple/@", rules="~ocpp:* +@all -@dangerous")
HANGS_SECONDS = 0.3
FAIL_OVER_SECONDS = 15.0


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid.uuid4()}"


@pytest.fixture(scope="module")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[KafkaServer]:
    users = {"gateway": "a password: with = and / and spaces"}
    with KafkaServer(tmp_path_factory.mktemp("secured-kafka"), users=users, tls=pki.files) as kafka:
        yield kafka


# --- Redis


def test_redis_keeps_what_it_is_given(redis_server: RedisServer) -> None:
    with redis_server.connect() as connection:
        assert connection.call("SET", "ocpp:greeting", "grüß\r\ndich") == b"OK"
        assert connection.call("GET", "ocpp:greeting") == "grüß\r\ndich".encode()
        assert connection.call("GET", "ocpp:nothing") is None
        assert connection.call("EVAL", "return {1, {KEYS[1]}}", 1, "a") == [1, [b"a"]]
        with pytest.raises(RedisReplyError, match="unknown command"):
            connection.call("NONSENSE")
    assert redis_server.cli("SET", "ocpp:from-a-terminal", "gruß") == "OK"
    assert redis_server.call("GET", "ocpp:from-a-terminal") == "gruß".encode()


def test_killed_redis_has_lost_nothing_that_it_answered(redis_server: RedisServer) -> None:
    port = redis_server.port
    with redis_server.connect() as connection:
        for number in range(500):
            connection.call("SET", f"kept:{number}", number)
        redis_server.kill()
    with pytest.raises(ConnectionRefusedError):
        redis_server.connect()
    redis_server.start()
    assert redis_server.port == port
    assert redis_server.call("EXISTS", *(f"kept:{number}" for number in range(500))) == 500


def test_redis_restarts_with_its_data_or_empty(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        redis.call("SET", "a", "1")
        assert redis.restart().call("GET", "a") == b"1"
        assert redis.restart(empty=True).call("DBSIZE") == 0


def test_paused_redis_hangs_and_answers_when_it_goes_on(redis_server: RedisServer) -> None:
    with redis_server.connect(time_limit=5.0) as waiting, redis_server.connect(time_limit=HANGS_SECONDS) as impatient:
        redis_server.pause()
        waiting.send("INCR", "counted")
        with pytest.raises(TimeoutError):
            impatient.call("PING")
        redis_server.resume()
        assert waiting.receive() == 1


def test_redis_that_can_not_start_shows_why(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path, settings={"no-such-directive": "1"})
    with pytest.raises(AssertionError, match="Bad directive or wrong number of arguments"):
        redis.start()
    assert redis.has_ended()


def test_redis_users_log_in_and_keep_to_their_keys(tmp_path: Path) -> None:
    with RedisServer(tmp_path, users=(ADMIN, GATEWAY)) as redis:
        with redis.connect(GATEWAY) as connection:
            assert connection.call("SET", "ocpp:a", "1") == b"OK"
            with pytest.raises(RedisReplyError, match="NOPERM"):
                connection.call("SET", "other:a", "1")
        with pytest.raises(RedisReplyError, match="WRONGPASS"):
            redis.connect(RedisUser(GATEWAY.name, "wrong"))
        with redis.connect() as nobody, pytest.raises(RedisReplyError, match="NOAUTH"):
            nobody.call("GET", "ocpp:a")
        assert redis.cli("GET", "ocpp:a") == "1"
        assert redis.url(GATEWAY) == f"redis://gateway:correct%20horse%3Astaple%2F%40@127.0.0.1:{redis.port}/0"
        assert ADMIN.password not in Path(f"/proc/{redis.pid}/cmdline").read_text()


def test_redis_over_tls_wants_a_client_certificate(tmp_path: Path, pki: Pki) -> None:
    with RedisServer(tmp_path, tls=pki.files, client_certificate=pki.station("gateway").path) as redis:
        assert redis.url() == f"rediss://127.0.0.1:{redis.port}/0"
        assert redis.cli("SET", "a", "1") == "OK"
        assert redis.call("GET", "a") == b"1"
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(_plain(redis.port), server_hostname="127.0.0.1")
        redis.client_certificate = None
        with pytest.raises((ssl.SSLError, ConnectionError)):
            redis.call("GET", "a")


def test_sentinels_make_the_replica_the_primary(tmp_path: Path) -> None:
    with RedisSentinels(tmp_path, users=(ADMIN,)) as pair:
        old, new = pair.primary, pair.replica
        old.call("SET", "a", "1")
        assert old.call("WAIT", 1, 5000) == 1
        assert pair.fail_over() < FAIL_OVER_SECONDS
        assert pair.primary is new
        assert new.call("GET", "a") == b"1"
        new.call("SET", "a", "2")
        pair.rejoin()
        assert pair.replica is old
        wait_until(lambda: old.call("GET", "a") == b"2", "the new value on the replica")


# --- Kafka


def test_kafka_keeps_the_order_of_a_key(kafka_server: KafkaServer, topic: str) -> None:
    kafka_server.create_topics({topic: 3}, {"max.message.bytes": "2000"})
    assert kafka_server.partitions()[topic] == 3
    records = [(f"CP-{number % 5}", f'{{"number": {number}}}') for number in range(50)]
    kafka_server.produce(topic, records)
    read = kafka_server.consume(topic, 50)
    assert sorted(read) == sorted(records)
    for station in {key for key, _ in records}:
        assert [record for record in read if record[0] == station] == [r for r in records if r[0] == station]
    with pytest.raises(AssertionError, match=r"larger than the max message size|RecordTooLarge"):
        kafka_server.produce(topic, [("CP-1", "x" * 3000)])


def test_killed_kafka_has_lost_nothing_that_it_answered(kafka_server: KafkaServer, topic: str) -> None:
    brokers = kafka_server.brokers
    kafka_server.produce(topic, [("a", "1"), ("a", "2")])
    kafka_server.kill()
    with pytest.raises(ConnectionRefusedError):
        _plain(kafka_server.port)
    kafka_server.start()
    assert kafka_server.brokers == brokers
    kafka_server.produce(topic, [("a", "3")])
    assert kafka_server.consume(topic, 3) == [("a", "1"), ("a", "2"), ("a", "3")]


def test_paused_kafka_takes_the_record_when_it_goes_on(kafka_server: KafkaServer, topic: str) -> None:
    kafka_server.produce(topic, [("a", "1")])
    kafka_server.pause()
    sending = threading.Thread(target=kafka_server.produce, args=(topic, [("a", "2")]))
    sending.start()
    sending.join(2.0)  # a running broker has it after half a second
    was_waiting = sending.is_alive()
    kafka_server.resume()
    sending.join(30.0)
    assert was_waiting
    assert kafka_server.consume(topic, 2) == [("a", "1"), ("a", "2")]


def test_kafka_restarts_empty(secured_kafka: KafkaServer, topic: str) -> None:
    secured_kafka.create_topics({topic: 1})
    assert secured_kafka.restart(empty=True).partitions() == {}


def test_kafka_over_tls_wants_a_user(secured_kafka: KafkaServer, topic: str) -> None:
    assert secured_kafka.security_protocol == "SASL_SSL"
    secured_kafka.produce(topic, [("a", "1")])
    assert secured_kafka.consume(topic, 1) == [("a", "1")]
    config = secured_kafka.client_config_path
    properties = config.read_text()
    config.write_text(properties.replace(secured_kafka.users["gateway"], "wrong"))
    try:
        with pytest.raises(AssertionError, match="Authentication failed"):
            secured_kafka.consume(topic, 1)
    finally:
        config.write_text(properties)


# --- for people


@pytest.fixture
def taken_port() -> Iterator[int]:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        yield port


def test_services_run_until_ctrl_c_on_the_next_free_ports(tmp_path: Path, taken_port: int) -> None:
    (free,) = free_ports(1)
    words = ["--folder", str(tmp_path), "--redis-port", str(taken_port), "--kafka-port", str(free)]
    command = [str(ROOT / "tools" / "services"), *words]
    people = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert people.stdout is not None
        said = ""
        while "KAFKA_BROKERS" not in said:
            line = people.stdout.readline()
            assert line, said
            said += line
        redis = re.search(r"Redis at 127\.0\.0\.1:(\d+),", said)
        assert redis is not None, said
        assert int(redis[1]) > taken_port
        assert f"KAFKA_BROKERS=127.0.0.1:{free} make run\n" in said
        _plain(int(redis[1])).close()
        _plain(free).close()
        second = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        assert (second.returncode, second.stderr.count("run already")) == (1, 1)
    finally:
        people.send_signal(signal.SIGINT)
        rest, _ = people.communicate(timeout=20)
    assert "Stopping Redis and Kafka" in rest
    assert people.returncode == 0
    assert is_free(int(redis[1]))
    assert is_free(free)


def test_what_is_installed_is_not_installed_again() -> None:
    done = subprocess.run(
        [ROOT / "tools" / "install-services"], capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_containers_and_tests_have_the_same_kafka() -> None:
    version = re.search(r"<kafka.version>(.+)</kafka.version>", (ROOT / "services" / "pom.xml").read_text())
    assert version is not None
    assert f"image: apache/kafka:{version[1]}\n" in (ROOT / "compose.yaml").read_text()


def _plain(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5.0)

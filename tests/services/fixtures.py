"""Redis and Kafka for a whole test run, each started by the first test that asks for it:

    pytest_plugins = ("tests.services.fixtures",)

`session_redis` and `session_kafka` are for fixtures that live as long: a test only uses them. A test that kills, stops
or pauses takes `redis_server` or `kafka_server`: the same two, but whatever it does to them, the next one finds them
running. Data is never wiped: tests keep apart by their names for keys and topics. Nothing is skipped: where a service
is not installed, the tests that need it fail and say how to install it.

At the end of the run all that the gateway wrote to `session_kafka` is held against schemas/asyncapi.json; what is not
as described there is an error of the last test (tests.record_watch).

When a test fails, the report shows the log of each service that it used.
"""

from collections.abc import Generator, Iterator

import pytest

from tests import record_watch
from tests.services.kafka import KafkaServer
from tests.services.redis import RedisServer

WATCHED = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def session_kafka(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server
        checked = record_watch.read_back(server.ensure_running().brokers)
        request.config.stash[WATCHED] = checked.told()


@pytest.fixture
def redis_server(session_redis: RedisServer) -> Iterator[RedisServer]:
    yield session_redis
    session_redis.ensure_running()


@pytest.fixture
def kafka_server(session_kafka: KafkaServer) -> Iterator[KafkaServer]:
    yield session_kafka
    session_kafka.ensure_running()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if hasattr(value, "log_tail"):
                report.sections.append((f"the end of the log of {name}", value.log_tail()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if WATCHED in config.stash:
        terminalreporter.write_line(config.stash[WATCHED])

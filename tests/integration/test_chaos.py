"""A selection of the fault runs (`make chaos` has them all): a real fleet under load breaks, and nothing is lost."""

import shutil

import pytest

from tests.chaos.run import run
from tests.services import KafkaServer

pytest_plugins = ("tests.services.fixtures",)


@pytest.mark.parametrize(
    "fault",
    ["kill -9 of a node", "node paused", "Redis restarted empty"],
)
def test_nothing_is_lost(fault: str, kafka_server: KafkaServer) -> None:
    outcome = run(fault, seed=4711, kafka=kafka_server, stations=12, kafka_seconds=5.0)
    found = outcome.audit
    assert found.violations == [], f"logs and records: {outcome.folder}"
    assert found.answered > 500
    assert found.commands > 5
    shutil.rmtree(outcome.folder)

"""The gateway as a node of a fleet: Redis and Kafka real, every answer after Kafka's acknowledgement (the default).

Redis and Kafka run on the load's core: what is compared is the gateway's own CPU for a message. The same servers as in
the tests, installed by `tools/install-services`.
"""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.launch import Gateway
from tests.services.kafka import KafkaServer
from tests.services.redis import RedisServer

TOPICS = {
    "ocpp.station.events": 2,
    "ocpp.session.events": 2,
    "ocpp.command.events": 2,
    "cpms.audit.events": 1,
    "cpms.command.dead_letters": 1,
    "cpms.command.requests": 2,
    "cpms.command.requests.node.bench": 1,
    "ocpp.session.control.node.bench": 1,
}


class Services:
    """One Redis and one Kafka for all rows; `core` is where they run."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="services-")))
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})  # inherited by what is started
        try:
            self.redis = self._stack.enter_context(RedisServer(folder / "redis"))
            self.kafka = self._stack.enter_context(KafkaServer(folder / "kafka"))
        except BaseException:
            self._stack.close()
            raise
        finally:
            os.sched_setaffinity(0, before)
        self.kafka.create_topics(TOPICS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class FullNode(Gateway):
    """`waits_for`: the actions whose answer waits for Kafka."""

    def __init__(self, core: int, log: Path, services: Services, waits_for: str, profile: Path | None = None) -> None:
        super().__init__(core, log, profile)
        self._services, self._waits_for = services, waits_for
        self.name = "full node" if waits_for == "*" else "full node, journal"

    def _stations(self) -> str:
        kafka, redis = self._services.kafka, self._services.redis
        return "\n".join(
            (
                super()._stations(),
                f'[node]\nid = "bench"\n[kafka]\nenabled = true\nbrokers = ["{kafka.brokers}"]',
                f'acknowledged_actions = ["{self._waits_for}"]' if self._waits_for else "acknowledged_actions = []",
                f'[redis]\nenabled = true\nurl = "{redis.url()}"',
            )
        )

    def _learn(self, process: object) -> None:
        said = "Kafka's acknowledgement" if self._waits_for else "the journal's fsync"
        self.about = f"validating, Redis and Kafka, answering after {said}"

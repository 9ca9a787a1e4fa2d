"""Nodes on one Redis and one Kafka. Each has its own cable to Redis, a TCP proxy that can be cut."""

import contextlib
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from kafka.admin import KafkaAdminClient, NewTopic

from tests.integration.harness import Gateway
from tests.services import KafkaServer

BUFFER = 65_536
PARTITIONS = 2
POLL_SECONDS = 0.1
KINDS = ("station_events", "session_events", "command_events", "audit_events")
READY_SECONDS = 60.0  # at the end of a run


class Cable:
    """TCP from a port of its own to another one. Cut, nothing gets through and nobody is told; new ends wait."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.mend()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._open.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.target), 5.0)
            far.settimeout(None)
        except OSError:
            near.close()
            return
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BUFFER):
                self._open.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def create_topics(brokers: str, names: list[str]) -> None:
    """All with one request: Kafka's own tool takes half a second for each."""
    client = KafkaAdminClient(bootstrap_servers=brokers)
    try:
        client.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=1) for name in names])
    finally:
        client.close()


class Fleet:
    """`redis`: the settings of [redis] without url, or with; `redis_port` is behind the cables."""

    def __init__(
        self, folder: Path, kafka: KafkaServer, redis_port: int, nodes: int = 3, redis: dict[str, Any] | None = None
    ) -> None:
        self.kafka = kafka
        self.name = f"chaos{uuid.uuid4().hex[:8]}"
        self.requests = f"{self.name}.requests"
        self.topics = {f"topic_{kind}": f"{self.name}.{kind}" for kind in KINDS}
        self.cables = [Cable(redis_port) for _ in range(nodes)]
        self.nodes = [
            Gateway(folder / f"node-{place}", self._settings(f"{self.name}-{place}", cable, redis or {}))
            for place, cable in enumerate(self.cables)
        ]

    def _settings(self, node_id: str, cable: Cable, redis: dict[str, Any]) -> dict[str, Any]:
        kafka = {
            "enabled": True,
            "brokers": [self.kafka.brokers],
            "group_id": self.name,
            "topic_command_requests": self.requests,
            "topic_session_control": f"{self.name}.control",
            "topic_dead_letters": f"{self.name}.dead_letters",
            **self.topics,
        }
        url = f"redis://127.0.0.1:{cable.port}/0"
        return {
            "node": {"id": node_id},
            "kafka": kafka,
            "redis": {"enabled": True, "url": url, "prefix": self.name, "call_timeout_seconds": 1.0, **redis},
            "websocket": {"ping_interval_seconds": 5.0},
        }

    def start(self) -> None:
        topics = [self.requests, *self.topics.values(), f"{self.name}.dead_letters"]
        own = [f"{base}.node.{node}" for base in (self.requests, f"{self.name}.control") for node in self.node_ids]
        create_topics(self.kafka.brokers, [*topics, *own])
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            self.until_ready(node)

    @property
    def node_ids(self) -> list[str]:
        return [f"{self.name}-{place}" for place in range(len(self.nodes))]

    def until_ready(self, node: Gateway, seconds: float = 30.0) -> None:
        """Its consumers have joined, and all it had is in Kafka."""
        deadline, answer = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                ready = node.http("GET", "/ready").json
            except (OSError, ValueError) as fault:
                answer = repr(fault)
            else:
                if ready["ready"] and ready["kafka"]["healthy"] and not ready["kafka"]["lagRecords"]:
                    return
                answer = str(ready)
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{node.folder.name} is not ready: {answer}")

    def trouble(self, node: Gateway) -> str:
        """What is wrong with it at the end of a run; empty: nothing."""
        try:
            self.until_ready(node, READY_SECONDS)
        except AssertionError as fault:
            return str(fault)
        return f"{node.folder.name} logged a traceback" if "Traceback (most recent" in node.log else ""

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.kill()
        for cable in self.cables:
            cable.close()

"""One run: a fleet, load on it, a fault in it, the end of the load, and the audit."""

import json
import random
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka.errors import KafkaError

from tests.chaos.auditor import Audit, audit
from tests.chaos.backend import Backend
from tests.chaos.clients import StationThread
from tests.chaos.faults import FAULTS, MOVED_WITHOUT_KAFKA, Surroundings
from tests.chaos.fleet import Fleet
from tests.chaos.reading import read
from tests.services import KafkaServer, RedisServer
from tests.services.sentinels import SERVICE, RedisSentinels

BEFORE_SECONDS, AFTER_SECONDS = 2.0, 4.0
END_SECONDS = 60.0  # for every station to get its last answer
COMMAND_SECONDS = 25.0  # for the sweep to end what nobody else ends
VERSIONS = ("1.6", "1.6", "2.0.1")  # of every three stations


@dataclass
class Outcome:
    """`folder`: what was kept, when there are violations."""

    fault: str
    seed: int
    audit: Audit
    repeated: int = 0
    refused: int = 0
    served: int = 0  # CALLs that stations answered
    probes: int = 0  # that were answered on given-up connections
    seconds: float = 0.0
    folder: Path = Path()


def run(fault: str, seed: int, kafka: KafkaServer, *, stations: int = 24, kafka_seconds: float = 30.0) -> Outcome:
    """The folder is the caller's to remove. What keeps a run from its end is a violation, too."""
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        outcome = _run(fault, seed, kafka, stations, kafka_seconds, folder)
    except (AssertionError, OSError, TimeoutError, KafkaError) as broken:
        outcome = Outcome(fault, seed, Audit([f"the run did not get to its end: {broken!r}"]))
    outcome.folder, outcome.seconds = folder, time.monotonic() - started
    return outcome


def _run(fault: str, seed: int, kafka: KafkaServer, stations: int, kafka_seconds: float, folder: Path) -> Outcome:
    chance = random.Random(seed)
    with ExitStack() as stack:
        sentinels, settings = None, {}
        if fault == "Redis failover":
            sentinels = stack.enter_context(RedisSentinels(folder / "sentinels"))
            redis = sentinels.primary
            settings = _found_by(sentinels)
        else:
            redis = stack.enter_context(RedisServer(folder / "redis"))
        fleet = Fleet(folder, kafka, redis.port, redis=settings)
        stack.callback(fleet.stop)
        stack.callback(_keep_logs, fleet)
        fleet.start()
        return _loaded(fault, seed, Surroundings(fleet, kafka, redis, chance, kafka_seconds, sentinels), stations)


def _found_by(sentinels: RedisSentinels) -> dict[str, Any]:
    addresses = [f"{host}:{number}" for host, number in sentinels.addresses]
    return {"sentinels": addresses, "sentinel_master": SERVICE}


def _loaded(fault: str, seed: int, around: Surroundings, stations: int) -> Outcome:
    fleet, stop = around.fleet, threading.Event()
    names = [(f"CP-{number}", VERSIONS[number % len(VERSIONS)]) for number in range(stations)]
    clients = [
        StationThread(name, version, fleet.nodes, stop, seed * 1000 + place)
        for place, (name, version) in enumerate(names)
    ]
    backend = Backend(fleet.kafka.brokers, fleet.requests, names, stop, seed)
    for thread in (*clients, backend):
        thread.start()
    try:
        time.sleep(BEFORE_SECONDS)
        FAULTS[fault](around)
        time.sleep(AFTER_SECONDS)
    finally:
        stop.set()
    deadline = time.monotonic() + END_SECONDS
    for thread in (*clients, backend):
        thread.join(max(0.1, deadline - time.monotonic()))
    found = _audited(fleet, clients, backend, as_sorted=fault in MOVED_WITHOUT_KAFKA)
    return Outcome(
        fault,
        seed,
        found,
        sum(client.repeated for client in clients),
        sum(client.refused for client in clients),
        sum(client.commands for client in clients),
        sum(call.is_probe for client in clients for call in client.answered),
    )


def _audited(fleet: Fleet, clients: list[StationThread], backend: Backend, *, as_sorted: bool) -> Audit:
    stuck = [f"{client.name}: no answer to {client.waits_for} in time" for client in clients if client.is_alive()]
    if backend.is_alive():
        stuck.append("the backend could not write its last command in time")
    stuck += [each for each in (fleet.trouble(node) for node in fleet.nodes) if each]
    records, faults = read(fleet.kafka.brokers, list(fleet.topics.values()), set(backend.written), COMMAND_SECONDS)
    calls = [call for client in clients for call in list(client.answered)]
    found = audit(calls, backend.written, records, as_sorted=as_sorted)
    found.violations = [*stuck, *faults, *found.violations]
    if found.violations:
        _keep(fleet, clients, backend, records)
    return found


def _keep(fleet: Fleet, clients: list[StationThread], backend: Backend, records: list[dict[str, Any]]) -> None:
    """To look into."""
    folder = fleet.nodes[0].folder.parent
    (folder / "records.json").write_text("\n".join(json.dumps(record) for record in records))
    calls = [vars(call) for client in clients for call in list(client.answered)]
    (folder / "answered.json").write_text("\n".join(json.dumps(call) for call in calls))
    (folder / "commands.json").write_text(json.dumps(backend.written))


def _keep_logs(fleet: Fleet) -> None:
    for node in fleet.nodes:
        if node.folder.is_dir():
            (node.folder / "log.txt").write_text(node.log)

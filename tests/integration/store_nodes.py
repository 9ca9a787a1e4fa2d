"""A fleet's stores on a Redis that runs: what tests of one node or several, on one Redis, begin with.

Fixtures: `pytest_plugins = ("tests.integration.store_nodes",)`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from ocppgw.net.redis import RedisAddress, RedisSettings, parse_url
from ocppgw.net.redis.fleet_store import FleetStore
from ocppgw.ocpp.effects import Change, SaveBoot, SaveTransaction
from ocppgw.ocpp.rules import StationFacts
from ocppgw.ocpp.state import StationState, Transaction
from ocppgw.ocpp.versions import V16, OcppVersion
from ocppgw.ports import CommandRecord
from tests.integration.redis_nodes import CALL_SECONDS, TIME_LIMIT, Journal
from tests.services import RedisServer

pytest_plugins = ("tests.integration.redis_nodes", "tests.services.fixtures")


class Local:
    """What a node has on its own disk."""

    def __init__(self, highest: int = 0) -> None:
        self.highest = highest
        self.transactions: dict[tuple[str, str], Transaction] = {}
        self.states: dict[str, StationState] = {}
        self.files: frozenset[str] = frozenset()
        self.commands: dict[str, CommandRecord] = {}

    def load_station(self, charge_point_id: str) -> "Deferred[StationState]":
        return succeed(self.states.get(charge_point_id, StationState(loaded=True)))

    def transaction(self, charge_point_id: str, transaction_id: str) -> "Deferred[Transaction | None]":
        return succeed(self.transactions.get((charge_point_id, transaction_id)))

    def highest_transaction_id(self) -> int:
        return self.highest

    def raise_transaction_id(self, number: int) -> "Deferred[None]":
        self.highest = number
        return succeed(None)

    def recent_transactions(self) -> "Deferred[Any]":
        return succeed([(name, transaction) for (name, _), transaction in self.transactions.items()])

    def fleet_files(self) -> "Deferred[frozenset[str]]":
        return succeed(self.files)

    def set_fleet_files(self, names: Iterable[str]) -> "Deferred[None]":
        self.files = frozenset(names)
        return succeed(None)

    def keep_command(self, record: CommandRecord) -> "Deferred[None]":
        self.commands[record.command_id] = record
        return succeed(None)

    def kept_commands(self) -> "Deferred[Any]":
        return succeed(list(self.commands.values()))

    def forget_commands(self, command_ids: Sequence[str]) -> "Deferred[None]":
        for name in command_ids:
            del self.commands[name]
        return succeed(None)


class Carrier:
    """A link, as far as the store looks at it."""

    def __init__(self, station: StationFacts, state: StationState, epoch: int, version: OcppVersion = V16) -> None:
        self.station, self.state, self.epoch, self.version = station, state, epoch, version


class Node:
    """A fleet's store as one node has it; `reopen` is another process on the same Redis and disk."""

    def __init__(self, redis: RedisServer, prefix: str, **settings: Any) -> None:
        self.redis, self.prefix, self.more = redis, prefix, settings
        self.journal = Journal()
        self.local = Local()
        self.notes: list[str] = []
        self.epoch = 0
        self.carriers: dict[str, Carrier] = {}
        self.start()

    def address(self) -> RedisAddress:
        return parse_url(self.redis.url())

    def start(self) -> None:
        settings = RedisSettings(address=self.address(), prefix=self.prefix, call_timeout=CALL_SECONDS)
        self.store = FleetStore(
            settings, reactor, self.journal.publish, self.local, None, self.notes.append, **self.more
        )
        self.store.start()

    def stop(self) -> None:
        self.wait(self.store.stations.stop())
        self.store.stop()

    def reopen(self) -> None:
        self.stop()
        self.carriers.clear()
        self.start()

    def wait(self, deferred: "Deferred[Any]") -> Any:
        return pytest_twisted.blockon(deferred.addTimeout(TIME_LIMIT, reactor))

    def settle(self) -> None:
        self.wait(self.store.stations.flush())

    def key(self, rest: str) -> str:
        return f"{self.prefix}:{rest}"

    def cli_delete_all(self) -> None:
        """Of this test; other tests have the same Redis."""
        for name in self.redis.call("KEYS", f"{self.prefix}:*"):
            self.redis.call("DEL", name)

    def carrier(self, name: str = "CP-1") -> Carrier:
        """A connection of the station, with the state the store has of it."""
        if name not in self.carriers:
            self.epoch += 1
            state = self.wait(self.store.load_station(name))
            self.carriers[name] = Carrier(StationFacts(name, "station-1", "tenant-1"), state, self.epoch)
        return self.carriers[name]

    def apply(self, change: Change) -> None:
        """What a session does with its state once the change is durable."""
        if isinstance(change, SaveBoot):
            carrier = self.carrier(change.charge_point_id)
            carrier.state.boot_status, carrier.state.boot = change.status, change.payload
        else:
            assert isinstance(change, SaveTransaction)
            carrier = self.carrier(change.charge_point_id)
            carrier.state.remember_transaction(
                Transaction(change.transaction_id, change.key, change.started_at, change.ended_at, dict(change.records))
            )
        self.store.touch(carrier)


Build = Callable[..., Node]


@pytest.fixture
def store_node(redis_server: RedisServer, prefix: str) -> Iterator[Build]:
    """Makes nodes on one Redis, with the same keys."""
    nodes: list[Node] = []

    def make(**settings: Any) -> Node:
        nodes.append(Node(redis_server, prefix, **settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.stop()

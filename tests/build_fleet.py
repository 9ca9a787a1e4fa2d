"""Several nodes in one process, without Redis, Kafka and sockets, so that a test can pause each of them.

world = World(random)                 a fleet's memory, and time
node = world.node("a")                a node: claims, challenges and links are the real ones
world.advance(0.4)                    everybody who is not paused gets on with it
station = world.station("CP-1")
station.connect(node)                 -> a Deferred of Claim | Refused; a granted one opens a connection
station.send()                        one message on each of its connections; answers go to `world.answers`
node.pause(); node.resume()
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from ocppgw.access.refusals import Refused
from ocppgw.errors import BusError
from ocppgw.fleet_ports import Claim
from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import Send
from ocppgw.ocpp.rules import StationFacts
from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.versions import V16
from ocppgw.routing.challenges import Challenges
from ocppgw.routing.links import Link, Surroundings
from ocppgw.routing.ownership import FleetOwnership, OwnershipRules
from tests.memory_sessions import MemoryFleet, MemorySessions

START = 1_800_000_000.0


class EchoSession:
    """Answers every message at once."""

    def __init__(self, station: StationFacts) -> None:
        self.station = station
        self.state = StationState()
        self.latency = 0.0

    def opened(self, now: float, facts: Any) -> list[Any]:
        return []

    def lost(self, now: float, code: int | None, reason: str) -> list[Any]:
        return []

    def receive(self, text: bytes, now: float) -> list[Any]:
        return [Send(text)]


class NoCommands:
    def link_opened(self, link: Link) -> None: ...


class Peer:
    """One connection of a station, seen from its node. `is_dead`: nothing gets through, though nobody has noticed."""

    def __init__(self, world: "World", node: "Node", station: "Station", claim: Claim) -> None:
        self.world, self.node, self.station, self.epoch = world, node, station, claim.epoch
        self.address = "192.0.2.1"
        self.is_dead = self.is_closed = False
        self.codes: list[int] = []
        session: Any = EchoSession(StationFacts(station.name, "station-1", "tenant-1"))
        self.link = Link(session, self, V16, "ocpp1.6", node.around, epoch=claim.epoch)
        self.link.opened()

    def send_text(self, text: bytes) -> None:
        self.world.answers.append((self.station.name, self.epoch, self.node.name))

    def close(self, code: int, reason: str) -> None:
        self.is_closed = True
        self.codes.append(code)

    def probe(self, seconds: float) -> "Deferred[bool]":
        if not self.is_dead:
            return succeed(not self.is_closed)
        probed: Deferred[bool] = Deferred()
        self.node.clock.callLater(seconds, probed.callback, False)
        return probed

    def gone(self) -> None:
        """The node notices that it ended."""
        if not self.is_closed:
            self.is_closed = True
            self.link.closed(1006, "gone")


class Station:
    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.peers: list[Peer] = []
        self.decisions: list[Any] = []

    def connect(self, node: "Node") -> "Deferred[Any]":
        claimed = node.owner.claim(StationFacts(self.name, "station-1", "tenant-1"), V16)

        def decided(answer: Claim | Refused) -> Claim | Refused:
            self.decisions.append(answer)
            if isinstance(answer, Claim):
                self.peers.append(Peer(self.world, node, self, answer))
            return answer

        return claimed.addCallback(decided)

    def send(self) -> None:
        for peer in self.peers:
            if not (peer.is_dead or peer.is_closed):
                peer.node.receive(peer)

    @property
    def open(self) -> list[Peer]:
        return [peer for peer in self.peers if not peer.is_closed]


class Node:
    def __init__(self, world: "World", name: str, policy: str, **rules: Any) -> None:
        self.world, self.name = world, name
        self.clock = Clock()
        self.clock.advance(world.clock.seconds())
        self.metrics = Metrics({"1.6J": ()}, "test")
        self.is_paused = False
        self.is_deaf = False  # to the other nodes
        self._arrived: list[Peer] = []
        self._told: list[Mapping[str, Any]] = []
        double: Any = self
        self.around = Surroundings(self.clock, double, double, self.metrics)
        self.around.commands = NoCommands()  # type: ignore[assignment]
        self.sessions = MemorySessions(world.fleet, name)
        self.topic = f"control.{name}"
        ids = count(1)
        challenges = Challenges(
            name, self.topic, self, self.around.links, self.metrics, self.clock, lambda: f"{name}-{next(ids)}"
        )
        self.forgotten = 0
        self.owner = FleetOwnership(
            OwnershipRules(name, policy, **rules),
            self.sessions,
            challenges,
            self.tell,
            self.around.links,
            self.metrics,
            self.clock,
            world.clock.seconds,
            self._forgotten,
        )
        self.around.owner, self.around.lease = self.owner, self.owner.lease
        self.owner.start()

    def _forgotten(self) -> None:
        self.forgotten += 1

    def tell(self, topic: str, message: Mapping[str, Any]) -> "Deferred[None]":
        """(fleet_ports.Peers) It takes a while."""
        if self.is_deaf:
            return fail(BusError("Kafka is away"))
        self.world.told.append((topic, message))
        return succeed(None)

    def hear(self, message: Mapping[str, Any]) -> None:
        if self.is_paused:
            self._told.append(message)
        elif not self.is_deaf:
            self.owner.control(message)

    def receive(self, peer: Peer) -> None:
        """A message of a station: while the process is paused the kernel keeps it."""
        if self.is_paused:
            self._arrived.append(peer)
        else:
            peer.link.received(b"x")

    def pause(self) -> None:
        self.is_paused = True

    def resume(self, *, messages_first: bool = True) -> None:
        """What came meanwhile is there at once, before or after the timers that are overdue."""
        self.is_paused = False
        arrived, self._arrived = self._arrived, []
        told, self._told = self._told, []
        self.clock.rightNow = max(self.clock.rightNow, self.world.clock.seconds())  # timers have not run yet
        if not messages_first:
            self.catch_up()
        for peer in arrived:
            peer.link.received(b"x")
        self.catch_up()
        for message in told:
            self.owner.control(message)

    def catch_up(self) -> None:
        self.clock.advance(max(0.0, self.world.clock.seconds() - self.clock.seconds()))

    def notes(self, kind: str) -> int:
        for line in self.metrics.exposition().decode().splitlines():
            if line.startswith(f'ocppgw_notes_total{{kind="{kind}"}}'):
                return int(float(line.split()[-1]))
        return 0


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.fleet = MemoryFleet(self.clock)
        self.nodes: list[Node] = []
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.answers: list[tuple[str, int, str]] = []  # station, epoch of the connection, node

    def node(self, name: str, policy: str = "challenge", **rules: Any) -> Node:
        self.nodes.append(Node(self, name, policy, **rules))
        return self.nodes[-1]

    def station(self, name: str = "CP-1") -> Station:
        return Station(self, name)

    def deliver(self) -> None:
        told, self.told = self.told, []
        for topic, message in told:
            for node in self.nodes:
                if node.topic == topic:
                    node.hear(message)

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """In steps: a message between nodes takes one."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until - 1e-9:
            self.clock.advance(min(step, until - self.clock.seconds()))
            self.deliver()
            for node in self.nodes:
                if not node.is_paused:
                    node.catch_up()

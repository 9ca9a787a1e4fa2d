"""Commands in a fleet: to the node that serves the station, once, with one end, whoever dies; or until it connects."""

import json
from collections import Counter
from collections.abc import Mapping
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError, CommandError
from ocppgw.fleet_ports import NodeRow
from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import Dispatched, Record
from ocppgw.ocpp.versions import V16, V201, OcppVersion
from ocppgw.ports import CommandRecord
from ocppgw.routing.commands import Commands
from ocppgw.routing.links import Links
from ocppgw.routing.places import process_of
from ocppgw.routing.requests import MAX_HOPS
from ocppgw.routing.sweeping import GRACE_SECONDS, Sweep
from tests.test_commands import ACCEPTED, NOW, RESET, TERMINAL, FakeLink, FakeOutbox, FakeStore

SHARED = "cpms.command.requests"


class Fleet:
    """What all nodes share: the store, the topics, and where stations are."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.journal: list[Record] = []
        self.store = FakeStore(self.journal)
        self.nodes: dict[str, Node] = {}
        self.places: dict[str, str] = {}  # station -> node
        self.stations: dict[str, str] = {}  # stationId -> station
        self.forwarded: list[tuple[str, Mapping[str, Any]]] = []
        self.fault = ""
        self.offsets = count(1)

    def node(self, name: str) -> "Node":
        self.nodes[name] = Node(self, name)
        return self.nodes[name]

    def deliver(self) -> None:
        """What was handed on reaches its node."""
        forwarded, self.forwarded = self.forwarded, []
        for name, request in forwarded:
            self.nodes[name].read(request, f"{SHARED}.node.{name}")

    def events(self, command_id: str = "c-1") -> list[dict[str, Any]]:
        events = [json.loads(record.value) for record in self.journal]
        return [event for event in events if event["correlationId"] == command_id]

    def kinds(self, command_id: str = "c-1") -> list[str]:
        return [event["eventType"] for event in self.events(command_id)]


class Node:
    """One process; `again` is its successor under the same name."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name, self.incarnation = fleet, name, 0
        self.start()

    def start(self) -> None:
        fleet, numbers = self.fleet, count(1)
        self.incarnation += 1
        self.is_alive = True
        self.links = Links()
        self.metrics = Metrics({"1.6J": ()}, "test")
        self.me = process_of(self.row())
        self.topic = f"{SHARED}.node.{self.name}/"
        store: Any = fleet.store
        outbox: Any = FakeOutbox(fleet.journal)
        self.commands = Commands(
            store,
            outbox,
            self.links,
            self,
            self.metrics,
            fleet.clock,
            self.name,
            15.0,
            new_id=lambda: f"{self.name}-{next(numbers)}",
            new_number=lambda: 4711,
        )
        self.sweeping = Sweep(store, self.commands, self, self.metrics, fleet.clock, is_alone=False)

    def row(self) -> NodeRow:
        topic = f"{SHARED}.node.{self.name}"
        return NodeRow(self.name, topic, f"control.{self.name}", "", "", str(self.incarnation))

    # --- routing.places.Places

    def holder(self, charge_point_id: str) -> "Deferred[NodeRow | None]":
        node = self.fleet.nodes.get(self.fleet.places.get(charge_point_id, ""))
        return succeed(node.row() if node is not None and node.is_alive else None)

    def station(self, station_id: str) -> "Deferred[str | None]":
        return succeed(self.fleet.stations.get(station_id))

    def forward(self, node: NodeRow, request: Mapping[str, Any]) -> "Deferred[None]":
        if self.fleet.fault:
            return fail(BusError(self.fleet.fault))
        self.fleet.forwarded.append((node.node_id, request))
        return succeed(None)

    def alive(self, processes: Any) -> "Deferred[frozenset[str]]":
        return succeed(frozenset(node.me for node in self.fleet.nodes.values() if node.is_alive))

    # --- the test's side

    def read(self, request: Mapping[str, Any], topic: str = SHARED, offset: int | None = None) -> "Deferred[Any]":
        """A record of the bus."""
        return self.commands.submit(request, f"{topic}/0/{offset or next(self.fleet.offsets)}")

    def connect(
        self, charge_point_id: str = "CP-1", version: OcppVersion = V16, *, is_accepted: bool = True
    ) -> FakeLink:
        link: Any = FakeLink(version, charge_point_id)
        link.is_accepted = is_accepted
        self.fleet.places[charge_point_id] = self.name
        self.fleet.stations[link.station.station_id] = charge_point_id
        self.links.register(link)
        self.commands.link_opened(link)
        return link  # type: ignore[no-any-return]

    def lose(self, link: Any, *, waiting: tuple[str, ...] = ()) -> None:
        self.links.unregister(link)
        self.fleet.places.pop(link.station.charge_point_id, None)
        for command_id in waiting:
            self.commands.requeued(command_id)

    def die(self) -> None:
        self.is_alive = False

    def dispatch(self, link: FakeLink) -> None:
        pending = link.calls[-1]
        self.commands.dispatched(
            link,  # type: ignore[arg-type]
            Dispatched(pending.command_id, "m-1", pending.action, pending.payload, self.fleet.clock.seconds()),
        )


class FleetCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.fleet = Fleet()
        self.here, self.there = self.fleet.node("a"), self.fleet.node("b")

    def tearDown(self) -> None:
        """However a test went on: no command has two ends, and none goes out twice."""
        ends = Counter(
            event["correlationId"]
            for event in map(json.loads, (record.value for record in self.fleet.journal))
            if event["eventType"] in TERMINAL
        )
        self.assertEqual([name for name, number in ends.items() if number > 1], [])

    def end(self, command_id: str = "c-1") -> tuple[str, str]:
        (end,) = (event for event in self.fleet.events(command_id) if event["eventType"] in TERMINAL)
        return end["eventType"], end["payload"].get("error", {}).get("code", "")

    def sweep(self, node: Node) -> int:
        return self.successResultOf(node.sweeping.run())

    def record(self, command_id: str = "c-1") -> CommandRecord:
        return self.fleet.store.records[command_id]


class Elsewhere(FleetCase):
    def test_a_command_goes_to_the_node_that_serves_the_station(self) -> None:
        link = self.there.connect()
        self.successResultOf(self.here.read(RESET))
        self.assertEqual((link.calls, self.here.commands.has("c-1")), ([], False))
        self.fleet.deliver()
        self.assertEqual([call.action for call in link.calls], ["Reset"])
        self.assertEqual(self.record().taken_by, "b/1")
        self.there.dispatch(link)
        self.there.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.fleet.kinds(), ["CommandRouted", "CommandDispatched", "CommandAccepted"])

    def test_its_time_limit_counts_from_the_request_on_the_other_node_too(self) -> None:
        link = self.there.connect()
        self.here.read({**RESET, "requestedAt": "2027-01-15T07:59:50Z", "timeoutSec": 30})
        self.fleet.clock.advance(5.0)
        self.fleet.deliver()
        self.assertEqual(link.calls[0].deadline, NOW + 20.0)

    def test_it_is_mapped_to_the_version_there(self) -> None:
        link = self.there.connect(version=V201)
        self.here.read({**RESET, "commandType": "RemoteStart", "connectorId": 1, "payload": {"idTag": "T-1"}})
        self.fleet.deliver()
        self.assertEqual(link.calls[0].action, "RequestStartTransaction")

    def test_what_can_not_be_mapped_there_fails(self) -> None:
        self.there.connect()
        self.here.read({**RESET, "payload": {"type": "Gentle"}})
        self.fleet.deliver()
        self.assertEqual(self.end(), ("CommandFailed", "InvalidCommand"))

    def test_a_station_is_found_by_its_station_id(self) -> None:
        link = self.there.connect()
        request = {**RESET, "stationId": "station-1"}
        del request["chargePointId"]
        self.here.read(request)
        self.fleet.deliver()
        self.assertEqual(len(link.calls), 1)

    def test_handed_on_twice_it_is_sent_once(self) -> None:
        link = self.there.connect()
        self.here.read(RESET)
        ((name, request),) = self.fleet.forwarded
        self.fleet.deliver()
        self.fleet.forwarded.append((name, request))
        self.fleet.deliver()
        self.assertEqual(len(link.calls), 1)

    def test_read_again_it_is_handed_on_again_and_sent_once(self) -> None:
        """The node that read it died before it had committed that."""
        link = self.there.connect()
        self.here.read(RESET, offset=7)
        self.here.die()
        self.fleet.node("c").read(RESET, offset=7)
        self.assertEqual(len(self.fleet.forwarded), 2)
        self.fleet.deliver()
        self.assertEqual((len(link.calls), self.fleet.kinds()), (1, ["CommandRouted"]))

    def test_while_the_bus_is_away_it_is_tried_again(self) -> None:
        link = self.there.connect()
        self.fleet.fault = "Kafka is away"
        routed = self.here.read(RESET)
        self.fleet.clock.pump([1.0] * 5)
        self.assertNoResult(routed)
        self.fleet.fault = ""
        self.fleet.clock.advance(1.0)
        self.successResultOf(routed)
        self.fleet.deliver()
        self.assertEqual(len(link.calls), 1)

    def test_until_its_time_is_over(self) -> None:
        self.there.connect()
        self.fleet.fault = "Kafka is away"
        routed = self.here.read(RESET)
        self.fleet.clock.pump([1.0] * 16)
        self.successResultOf(routed)
        self.assertEqual(self.end(), ("CommandTimeout", "Timeout"))

    def test_it_follows_a_station_that_moves_on(self) -> None:
        first = self.there.connect()
        self.here.read(RESET)
        self.there.lose(first)
        link = self.fleet.node("c").connect()
        self.fleet.deliver()
        self.fleet.deliver()
        self.assertEqual(len(link.calls), 1)

    def test_but_not_for_ever(self) -> None:
        self.fleet.places["CP-1"] = "b"
        self.here.read(RESET)
        for _ in range(MAX_HOPS + 1):
            self.fleet.places["CP-1"] = "a" if self.fleet.places["CP-1"] == "b" else "b"
            self.fleet.deliver()
        self.assertEqual(self.end(), ("CommandFailed", "NotConnected"))

    def test_not_sent_before_its_connection_went_it_follows_the_station(self) -> None:
        first = self.there.connect()
        self.here.read(RESET)
        self.fleet.deliver()
        self.there.lose(first, waiting=("c-1",))
        second = self.here.connect()
        self.fleet.clock.advance(1.0)
        self.fleet.deliver()
        self.assertEqual((len(second.calls), self.record().taken_by), (1, "a/1"))
        self.here.dispatch(second)
        self.here.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.end(), ("CommandAccepted", ""))

    def test_whoever_asked_hears_of_its_end_on_the_other_node(self) -> None:
        self.there.connect()
        self.here.commands.submit(RESET)
        ended = self.here.commands.ended("c-1")
        self.fleet.deliver()
        self.fleet.clock.advance(0.5)
        self.assertNoResult(ended)
        self.there.commands.finished("c-1", ACCEPTED)
        self.fleet.clock.advance(0.5)
        self.assertEqual(self.successResultOf(ended).status, "Accepted")

    def test_what_only_nodes_may_say_is_not_believed_of_a_backend(self) -> None:
        """It would be taken for a command that another node has handed on, and not for a repeat."""
        link = self.here.connect()
        self.here.read(RESET)
        self.here.commands.finished("c-1", ACCEPTED)
        for read in (self.here.read, self.here.commands.submit):
            read({**RESET, "routing": {"viaNodeId": "x", "hops": 1}})
        self.assertEqual(self.fleet.kinds()[-2:], ["CommandDuplicate", "CommandDuplicate"])
        self.assertEqual(len(link.calls), 1)


class Lost(FleetCase):
    def test_a_command_that_redis_lost_before_it_was_taken_is_opened_again(self) -> None:
        link = self.there.connect()
        self.fleet.store.slow = True
        self.there.read(RESET)
        self.fleet.store.records.clear()
        self.fleet.store.slow = False
        self.fleet.store.reply()
        self.assertEqual(len(link.calls), 1)
        self.there.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.end(), ("CommandAccepted", ""))

    def lose_before_its_end(self) -> None:
        """Redis is emptied between a command's last look-up and its end."""
        change, lost = self.fleet.store.change_command, []

        def lose_first(record: CommandRecord, event: Record) -> "Deferred[bool]":
            if not lost:
                lost.append(self.fleet.store.records.pop(record.command_id))
            return change(record, event)

        self.fleet.store.change_command = lose_first  # type: ignore[method-assign]

    def test_one_that_redis_lost_before_it_failed_has_its_end_all_the_same(self) -> None:
        """Nobody had taken it: its station was connected nowhere, or Redis had lost that, too."""
        self.lose_before_its_end()
        self.here.read(RESET)
        self.assertEqual(self.end(), ("CommandFailed", "NotConnected"))
        self.assertEqual(self.record().outcome, "Failed")

    def test_so_has_one_that_a_sweep_was_ending(self) -> None:
        self.here.read(RESET | {"whenOffline": "queue", "timeoutSec": 60})
        self.fleet.clock.advance(61.0)
        self.lose_before_its_end()
        self.sweep(self.there)
        self.assertEqual(self.end(), ("CommandTimeout", "Timeout"))

    def test_whoever_waits_for_it_hears_of_it(self) -> None:
        self.lose_before_its_end()
        ended = self.here.read(RESET).addCallback(lambda record: self.here.commands.ended(record.command_id))
        self.assertEqual(self.successResultOf(ended).outcome, "Failed")

    def test_what_was_sent_is_told_to_an_emptied_redis_again(self) -> None:
        """Else a node that let it wait would put it back, and it would be sent twice."""
        link = self.there.connect()
        self.there.read(RESET)
        self.there.dispatch(link)
        self.fleet.store.records.clear()
        self.there.commands.tell_again()
        self.assertEqual((self.record().taken_by, self.record().status), ("b/1", "Sent"))
        self.assertEqual(self.sweep(self.here), 0)
        self.there.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.end(), ("CommandAccepted", ""))

    def test_an_end_of_a_moment_ago_is_told_again_an_older_one_is_not(self) -> None:
        self.there.connect()
        for name in ("c-1", "c-2"):
            self.there.read({**RESET, "commandId": name})
            self.there.commands.finished(name, ACCEPTED)
            self.fleet.clock.advance(20.0)
        told: list[str] = []

        def change(record: CommandRecord, event: Record) -> "Deferred[bool]":
            told.append(record.command_id)
            return succeed(True)

        self.fleet.store.change_command = change  # type: ignore[method-assign]
        self.there.commands.tell_again()
        self.assertEqual(told, ["c-2"])

    def test_a_station_that_came_while_its_command_was_lost_gets_it_when_it_is_back(self) -> None:
        self.here.read({**RESET, "whenOffline": "queue"})
        lost = dict(self.fleet.store.records)
        self.fleet.store.records.clear()
        link = self.there.connect()
        self.assertEqual(link.calls, [])
        self.fleet.store.records.update(lost)
        self.here.commands.resume("CP-1")
        self.fleet.deliver()
        self.assertEqual(len(link.calls), 1)


class Dead(FleetCase):
    def test_what_a_dead_node_had_sent_ends_as_unknown(self) -> None:
        link = self.there.connect()
        self.here.read(RESET)
        self.fleet.deliver()
        self.there.dispatch(link)
        self.assertEqual(self.sweep(self.here), 0, "it lives")
        self.there.die()
        self.assertEqual(self.sweep(self.here), 1)
        self.assertEqual(self.end(), ("CommandFailed", "GatewayRestarted"))

    def test_its_successor_does_not_send_it_again(self) -> None:
        link = self.there.connect()
        self.here.read(RESET)
        handed = list(self.fleet.forwarded)
        self.fleet.deliver()
        self.there.dispatch(link)
        self.there.start()
        again = self.there.connect()
        self.fleet.forwarded = handed
        self.fleet.deliver()
        self.assertEqual(again.calls, [])
        self.sweep(self.there)
        self.assertEqual(self.end(), ("CommandFailed", "GatewayRestarted"))

    def test_the_first_end_counts(self) -> None:
        """It was only taken for dead."""
        self.there.connect()
        self.here.read(RESET)
        self.fleet.deliver()
        self.there.die()
        self.sweep(self.here)
        self.there.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.end(), ("CommandFailed", "GatewayRestarted"))

    def test_what_was_lost_on_its_way_ends_after_its_time(self) -> None:
        self.there.connect()
        self.here.read(RESET)
        self.fleet.forwarded.clear()
        self.fleet.clock.advance(15.0)
        self.assertEqual(self.sweep(self.here), 0)
        self.fleet.clock.advance(GRACE_SECONDS)
        self.assertEqual([self.sweep(node) for node in (self.here, self.there)], [1, 0])
        self.assertEqual(self.end(), ("CommandTimeout", "Timeout"))

    def test_what_this_node_has_on_its_way_is_not_swept(self) -> None:
        self.here.connect()
        self.here.read(RESET)
        self.fleet.clock.advance(15.0 + GRACE_SECONDS)
        self.assertEqual(self.sweep(self.here), 0)

    def test_a_sweep_that_fails_is_made_again(self) -> None:
        self.there.connect()
        self.here.read(RESET)
        self.fleet.forwarded.clear()
        self.fleet.clock.advance(15.0 + GRACE_SECONDS)
        whole = self.fleet.store.open_commands
        self.patch(self.fleet.store, "open_commands", lambda: fail(BusError("Redis is away")))
        self.assertEqual(self.sweep(self.here), 0)
        self.patch(self.fleet.store, "open_commands", whole)
        self.assertEqual(self.sweep(self.here), 1)


class Offline(FleetCase):
    QUEUED: Mapping[str, Any] = {**RESET, "whenOffline": "queue", "timeoutSec": 3600}

    def test_by_default_it_fails_at_once(self) -> None:
        self.successResultOf(self.here.read(RESET))
        self.assertEqual(self.end(), ("CommandFailed", "NotConnected"))

    def test_it_waits_and_goes_to_the_node_the_station_comes_to(self) -> None:
        self.successResultOf(self.here.read(self.QUEUED))
        self.assertEqual((self.fleet.kinds(), self.here.commands.has("c-1")), (["CommandRouted"], False))
        self.fleet.clock.advance(600.0)
        link = self.there.connect()
        self.assertEqual([call.action for call in link.calls], ["Reset"])
        self.assertEqual((self.record().taken_by, self.record().request), ("b/1", None))
        self.there.dispatch(link)
        self.there.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.end(), ("CommandAccepted", ""))

    def test_a_station_that_is_connected_gets_it_at_once(self) -> None:
        link = self.here.connect()
        self.here.read(self.QUEUED)
        self.assertEqual(len(link.calls), 1)

    def test_it_outlives_the_node_that_took_it(self) -> None:
        self.here.read(self.QUEUED)
        self.here.die()
        self.assertEqual(self.sweep(self.there), 0)
        self.assertEqual(len(self.there.connect().calls), 1)

    def test_its_time_ends(self) -> None:
        self.here.read(self.QUEUED)
        self.fleet.clock.advance(3599.0)
        self.assertEqual(self.sweep(self.there), 0)
        self.fleet.clock.advance(1.0)
        self.assertEqual(self.sweep(self.there), 1)
        self.assertEqual(self.end(), ("CommandTimeout", "Timeout"))
        self.assertEqual(self.there.connect().calls, [])

    def test_several_go_out_in_the_order_they_came_in(self) -> None:
        for name in ("c-1", "c-2", "c-3"):
            self.here.read({**self.QUEUED, "commandId": name})
        link = self.there.connect()
        self.assertEqual([call.command_id for call in link.calls], ["c-1", "c-2", "c-3"])

    def test_a_newer_one_with_the_same_key_replaces_the_older(self) -> None:
        for name, key in (("c-1", "limit"), ("c-2", "other"), ("c-3", "limit"), ("c-4", None)):
            self.here.read({**self.QUEUED, "commandId": name, **({"coalesceKey": key} if key else {})})
        self.assertEqual(self.end("c-1"), ("CommandFailed", "Superseded"))
        link = self.there.connect()
        self.assertEqual([call.command_id for call in link.calls], ["c-2", "c-3", "c-4"])

    def test_a_station_that_comes_while_it_is_stored_gets_it(self) -> None:
        self.fleet.store.slow = True
        read = self.here.read(self.QUEUED)
        self.fleet.store.reply()  # opened
        self.fleet.store.reply()  # who else waits: nobody
        link = self.there.connect()
        self.fleet.store.slow = False
        self.fleet.store.reply()
        self.successResultOf(read)
        self.fleet.deliver()
        self.assertEqual(len(link.calls), 1)

    def test_a_station_whose_boot_is_not_accepted_yet_takes_none(self) -> None:
        """Wherever the command was waiting, or came in meanwhile."""
        self.here.read(self.QUEUED)
        link = self.there.connect(is_accepted=False)
        self.here.read({**self.QUEUED, "commandId": "c-2"})
        self.fleet.deliver()
        self.there.read({**self.QUEUED, "commandId": "c-3"})
        self.assertEqual(link.calls, [])
        link.is_accepted = True
        self.there.commands.accepted(link)  # type: ignore[arg-type]
        self.assertEqual({call.command_id for call in link.calls}, {"c-1", "c-2", "c-3"})

    def test_a_secret_does_not_wait(self) -> None:
        request = {**self.QUEUED, "commandType": "ChangeConfiguration"}
        request["payload"] = {"key": "AuthorizationKey", "value": "s3cret-of-the-station"}
        failure = self.failureResultOf(self.here.read(request), CommandError)
        self.assertIn("a secret can't wait", str(failure.value))
        self.assertEqual(self.fleet.store.records, {})

    def test_it_may_wait_for_a_week_and_no_longer(self) -> None:
        self.successResultOf(self.here.read({**self.QUEUED, "timeoutSec": 604_800}))
        self.failureResultOf(self.here.read({**self.QUEUED, "commandId": "c-2", "timeoutSec": 604_801}), CommandError)
        self.failureResultOf(self.here.read({**RESET, "commandId": "c-3", "timeoutSec": 86_401}), CommandError)

"""Where a station is connected: what commands need to know of the other nodes."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from ocppgw.fleet_ports import NodeRow, Peers, Sessions


class Places(Protocol):
    """`me` is "nodeId/incarnation" of this process, as `CommandRecord.taken_by` has it; `topic` is how the source of a
    record begins that another node handed on."""

    me: str
    topic: str

    def holder(self, charge_point_id: str) -> "Deferred[NodeRow | None]":
        """The node, alive as far as is known, that serves the station; None when nobody does."""

    def station(self, station_id: str) -> "Deferred[str | None]":
        """The chargePointId of a station that is or was connected somewhere."""

    def forward(self, node: NodeRow, request: Mapping[str, Any]) -> "Deferred[None]":
        """Fires when the request is durably on its way to that node."""

    def alive(self, processes: Collection[str]) -> "Deferred[frozenset[str]]":
        """Those of these processes that live; each as in `me`."""


class OneNode:
    """(Places) This process is the whole fleet."""

    topic = "\0"  # no source begins so

    def __init__(self, node_id: str, incarnation: str) -> None:
        self.me = f"{node_id}/{incarnation}"

    def holder(self, charge_point_id: str) -> "Deferred[NodeRow | None]":
        return succeed(None)

    def station(self, station_id: str) -> "Deferred[str | None]":
        return succeed(None)

    def forward(self, node: NodeRow, request: Mapping[str, Any]) -> "Deferred[None]":
        raise AssertionError("there is no other node")  # `holder` never names one

    def alive(self, processes: Collection[str]) -> "Deferred[frozenset[str]]":
        return succeed(frozenset((self.me,)))


class FleetPlaces:
    """(Places) As the sessions in Redis say; requests go by the nodes' command topics."""

    def __init__(self, sessions: Sessions, peers: Peers, node_id: str, incarnation: str, topic: str) -> None:
        self._sessions, self._peers = sessions, peers
        self.me = f"{node_id}/{incarnation}"
        self.topic = f"{topic}/"

    def holder(self, charge_point_id: str) -> "Deferred[NodeRow | None]":
        return self._sessions.owner(charge_point_id).addCallback(lambda found: None if found is None else found[1])

    def station(self, station_id: str) -> "Deferred[str | None]":
        return self._sessions.station(station_id)

    def forward(self, node: NodeRow, request: Mapping[str, Any]) -> "Deferred[None]":
        return self._peers.tell(node.command_topic, request)

    def alive(self, processes: Collection[str]) -> "Deferred[frozenset[str]]":
        node_ids = {process.rpartition("/")[0] for process in processes}
        return self._sessions.living(node_ids).addCallback(lambda nodes: frozenset(map(process_of, nodes)))


def process_of(node: NodeRow) -> str:
    return f"{node.node_id}/{node.incarnation}"

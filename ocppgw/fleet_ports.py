"""The seams between the nodes of a fleet, as typing.Protocol: which node serves which station (Redis), and messages
between nodes (Kafka). The same rules as for `ocppgw.ports`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred


class Claim(msgspec.Struct, frozen=True):
    """A node's right to serve a charger; `epoch` is larger than that of every earlier claim of the same charger.
    `taken_from`: the node, alive as far as is known, that held it until now and hears so with its next beat."""

    charge_point_id: str
    epoch: int
    taken_from: "NodeRow | None" = None


class SessionRow(msgspec.Struct, frozen=True, rename="camel"):
    """An open connection as the fleet sees it (contract.md section 2: sessions). `epoch` 0: not claimed yet."""

    charge_point_id: str
    ocpp_version: str
    node_id: str
    station_id: str
    tenant_id: str
    connected_at: str  # RFC 3339, and the same in milliseconds since the epoch
    connected_at_ms: int
    last_seen_at: str
    last_seen_at_ms: int
    epoch: int = 0


class NodeRow(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A node as the others see it (contract.md section 2: nodes). `incarnation` is another one for each process."""

    node_id: str
    command_topic: str
    session_control_topic: str
    started_at: str
    last_seen_at: str
    incarnation: str = ""
    advertise_url: str | None = None


class Held(msgspec.Struct, frozen=True):
    """Another node's claim, in the way of one's own. `node` is None when that node is dead: its key is gone, or it is
    another incarnation than the one that claimed. `is_stale`: the station was not seen for longer than allowed."""

    session: SessionRow
    node: NodeRow | None
    is_stale: bool


class Beat(msgspec.Struct, frozen=True):
    """What a node's heartbeat brought back: claims that others took from it, and whether the fleet's memory of this
    node was gone (Redis lost its data), so that all it holds has to be told again."""

    lost: Sequence[Claim] = ()
    was_forgotten: bool = False


class Sessions(Protocol):
    """Which node serves which station (Redis). Fails with StoreError when it can't be reached in time."""

    def announce(self) -> "Deferred[None]":
        """Tell the fleet that this node is there, under its incarnation; an earlier incarnation is dead from now on."""

    def beat(self) -> "Deferred[Beat]":
        """One round trip, however many stations there are. Keeps the node's own row alive."""

    def retire(self) -> "Deferred[None]":
        """The node ends in order: its row goes, unless a later incarnation has taken its place."""

    def claim(self, session: SessionRow, over: int = 0) -> "Deferred[Claim | Held]":
        """Take the station (`session.epoch` is not looked at). Granted when nobody holds it, when this node does, when
        the holder is dead or the session stale; and when the claim in the way is that of epoch `over`, which was
        challenged before. A holder that is taken from hears so with its next beat."""

    def refresh(self, sessions: Sequence[SessionRow]) -> "Deferred[Sequence[Claim]]":
        """Keep claims alive; a claim that is missing is put back. Returns those that another node holds now."""

    def release(self, claims: Sequence[Claim]) -> "Deferred[None]":
        """Give claims back; one that has a newer epoch by now stays."""

    def owner(self, charge_point_id: str) -> "Deferred[tuple[SessionRow, NodeRow | None] | None]":
        """Who serves the station: the session and its node (None: dead); None when nobody does."""

    def station(self, station_id: str) -> "Deferred[str | None]":
        """The chargePointId that last claimed with this stationId."""

    def nodes(self) -> "Deferred[Sequence[NodeRow]]":
        """All nodes that are alive. Walks through everything: for people, not for every few seconds."""

    def living(self, node_ids: Collection[str]) -> "Deferred[Sequence[NodeRow]]":
        """Those of these nodes that are alive."""

    def sessions(self) -> "Deferred[Mapping[str, SessionRow]]":
        """All sessions by chargePointId, for the console."""


class Peers(Protocol):
    """Messages between nodes (contract.md section 3: session control)."""

    def tell(self, topic: str, message: Mapping[str, Any]) -> "Deferred[None]":
        """One message, JSON-ready with its `chargePointId`, sent at once and once. Fails with BusError when it did not
        get there in time; it may have all the same."""

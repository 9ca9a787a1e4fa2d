"""Which node serves which station, without Redis: what other tests use in its place (fleet_ports.Sessions).

fleet = MemoryFleet(clock)
here = MemorySessions(fleet, "node-a")       one for each node of the fleet
fleet.fault = "Redis is away"                every call fails with StoreError until it is "" again
fleet.forget()                               it loses its data
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from ocppgw.errors import OcppgwError, StoreError
from ocppgw.fleet_ports import Beat, Claim, Held, NodeRow, SessionRow
from ocppgw.ocpp.timestamps import rfc3339

SECONDS_OF_2020 = 1_577_836_800
MAX_LOSSES = 100_000

T = TypeVar("T")


class Stored(msgspec.Struct):
    row: SessionRow
    incarnation: str
    until: float


class MemoryFleet:
    """What Redis holds. Durations in seconds."""

    def __init__(
        self,
        clock: Clock,
        session_ttl: float = 1800.0,
        session_stale: float = 900.0,
        node_ttl: float = 120.0,
        node_refresh: float = 30.0,
    ) -> None:
        self.clock = clock
        self.session_ttl, self.session_stale = session_ttl, session_stale
        self.node_ttl, self.node_refresh = node_ttl, node_refresh
        self.fault = ""
        self.forget()

    def forget(self) -> None:
        self._sessions: dict[str, Stored] = {}
        self._nodes: dict[str, tuple[NodeRow, float]] = {}
        self.epochs: dict[str, int] = {}
        self.station_ids: dict[str, str] = {}
        self.losses: dict[str, list[Claim]] = {}

    def write_session(self, members: Mapping[str, Any], charge_point_id: str = "CP-1") -> None:
        """As somebody else writes it."""
        row = msgspec.convert({**members, "chargePointId": charge_point_id}, SessionRow)
        self.put_session(row, members.get("incarnation", ""))

    def write_node(self, row: NodeRow) -> None:
        self._nodes[row.node_id] = (row, self.clock.seconds() + self.node_ttl)

    def forget_node(self, node_id: str) -> None:
        """Its time is over."""
        self._nodes.pop(node_id, None)

    def put_session(self, row: SessionRow, incarnation: str) -> None:
        self._sessions[row.charge_point_id] = Stored(row, incarnation, self.clock.seconds() + self.session_ttl)

    def drop_session(self, charge_point_id: str) -> None:
        self._sessions.pop(charge_point_id, None)

    def session(self, charge_point_id: str) -> Stored | None:
        found = self._sessions.get(charge_point_id)
        return found if found is not None and found.until > self.clock.seconds() else None

    def node_row(self, node_id: str) -> NodeRow | None:
        row, until = self._nodes.get(node_id, (None, 0.0))
        return row if until > self.clock.seconds() else None

    def holder(self, held: Stored) -> NodeRow | None:
        """None when the process that claimed it is gone."""
        node = self.node_row(held.row.node_id)
        is_other = node is not None and held.incarnation and held.incarnation != node.incarnation
        return None if is_other else node

    def sessions(self) -> dict[str, SessionRow]:
        return {name: found.row for name in sorted(self._sessions) if (found := self.session(name)) is not None}

    def nodes(self) -> list[NodeRow]:
        return [row for node_id in sorted(self._nodes) if (row := self.node_row(node_id)) is not None]

    def give(self, row: SessionRow, incarnation: str, before: Stored | None) -> None:
        """Write it, and tell the node that it is taken from."""
        self.put_session(row, incarnation)
        self.epochs[row.charge_point_id] = row.epoch
        self.station_ids[row.station_id] = row.charge_point_id
        if before is not None and before.row.node_id != row.node_id:
            losses = self.losses.setdefault(before.row.node_id, [])
            losses.append(Claim(row.charge_point_id, row.epoch))
            del losses[:-MAX_LOSSES]


class MemorySessions:
    """(fleet_ports.Sessions) One node's."""

    def __init__(self, fleet: MemoryFleet, node_id: str = "node-a", incarnation: str = "1") -> None:
        self._fleet, self._node_id, self._incarnation = fleet, node_id, incarnation
        self._started_at = self._now()
        self._is_announced = False
        self._written_at = 0.0

    def announce(self) -> "Deferred[None]":
        return self._do(self._announce)

    def beat(self) -> "Deferred[Beat]":
        return self._do(self._beat)

    def retire(self) -> "Deferred[None]":
        return self._do(self._retire)

    def claim(self, session: SessionRow, over: int = 0) -> "Deferred[Claim | Held]":
        return self._do(lambda: self._claim(session, over))

    def refresh(self, sessions: Sequence[SessionRow]) -> "Deferred[Sequence[Claim]]":
        return self._do(lambda: [lost for session in sessions if (lost := self._refresh(session)) is not None])

    def release(self, claims: Sequence[Claim]) -> "Deferred[None]":
        return self._do(lambda: self._release(claims))

    def owner(self, charge_point_id: str) -> "Deferred[tuple[SessionRow, NodeRow | None] | None]":
        return self._do(lambda: self._owner(charge_point_id))

    def station(self, station_id: str) -> "Deferred[str | None]":
        return self._do(lambda: self._fleet.station_ids.get(station_id))

    def nodes(self) -> "Deferred[Sequence[NodeRow]]":
        return self._do(self._fleet.nodes)

    def living(self, node_ids: Collection[str]) -> "Deferred[Sequence[NodeRow]]":
        return self._do(lambda: [row for row in self._fleet.nodes() if row.node_id in node_ids])

    def sessions(self) -> "Deferred[Mapping[str, SessionRow]]":
        return self._do(self._fleet.sessions)

    def _do(self, action: Callable[[], T]) -> "Deferred[T]":
        if self._fleet.fault:
            return fail(StoreError(self._fleet.fault))
        try:
            return succeed(action())
        except OcppgwError as error:
            return fail(error)

    def _now(self) -> str:
        return rfc3339(self._fleet.clock.seconds()).decode()

    # --- this node

    def _announce(self) -> None:
        self._write()
        self._fleet.losses.pop(self._node_id, None)
        self._is_announced = True

    def _write(self) -> None:
        node, started = self._node_id, self._started_at
        self._fleet.write_node(
            NodeRow(node, f"commands.{node}", f"control.{node}", started, self._now(), self._incarnation)
        )
        self._written_at = self._fleet.clock.seconds()

    def _beat(self) -> Beat:
        if not self._is_announced:
            self._announce()
        self._check()
        was_forgotten = self._fleet.node_row(self._node_id) is None
        if was_forgotten or self._fleet.clock.seconds() - self._written_at >= self._fleet.node_refresh:
            self._write()
        return Beat(tuple(self._fleet.losses.pop(self._node_id, ())), was_forgotten)

    def _check(self) -> None:
        row = self._fleet.node_row(self._node_id)
        if row is not None and row.incarnation != self._incarnation:
            raise OcppgwError(f"another process goes by this node's NODE_ID {self._node_id!r}", code="NodeIdTaken")

    def _retire(self) -> None:
        self._is_announced = False
        row = self._fleet.node_row(self._node_id)
        if row is not None and row.incarnation == self._incarnation:
            self._fleet.forget_node(self._node_id)
            self._fleet.losses.pop(self._node_id, None)

    # --- claims

    def _claim(self, session: SessionRow, over: int) -> Claim | Held:
        if not self._is_announced:
            self._announce()
        self._check()
        fleet, name, now = self._fleet, session.charge_point_id, self._fleet.clock.seconds()
        held, node, epoch = fleet.session(name), None, 0
        if held is not None:
            epoch = held.row.epoch
            if held.row.node_id != self._node_id:
                node = fleet.holder(held)
                is_stale = held.row.last_seen_at_ms < int((now - fleet.session_stale) * 1000)
                if node is not None and not is_stale and not 0 < over == epoch:
                    return Held(held.row, node, is_stale=False)
        epoch = max(epoch, fleet.epochs.get(name, 0), int(now) - SECONDS_OF_2020) + 1
        fleet.give(msgspec.structs.replace(session, epoch=epoch), self._incarnation, held)
        return Claim(name, epoch, node)

    def _refresh(self, session: SessionRow) -> Claim | None:
        fleet, name, epoch = self._fleet, session.charge_point_id, session.epoch
        held, latest = fleet.session(name), fleet.epochs.get(name, 0)
        is_own = is_theirs = False
        if held is not None:
            is_own = held.row.node_id == self._node_id and held.incarnation in ("", self._incarnation)
            if is_own and held.row.epoch > epoch:
                return None  # a newer connection to this node
            if is_own and held.row.epoch == epoch:
                fleet.put_session(session, self._incarnation)
                return None
            is_theirs = not is_own and (held.row.epoch >= epoch or not held.incarnation)
            latest = max(latest, held.row.epoch)
        if is_theirs or latest > epoch:
            return Claim(name, max(latest, epoch + 1))
        fleet.give(session, self._incarnation, held)
        return None

    def _release(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            held = self._fleet.session(claim.charge_point_id)
            if held is not None and (held.row.node_id, held.row.epoch) == (self._node_id, claim.epoch):
                self._fleet.drop_session(claim.charge_point_id)

    def _owner(self, charge_point_id: str) -> tuple[SessionRow, NodeRow | None] | None:
        held = self._fleet.session(charge_point_id)
        return None if held is None else (held.row, self._fleet.holder(held))

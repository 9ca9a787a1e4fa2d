"""Which node serves which station (fleet_ports.Sessions), in Redis, shared by all nodes.

    sessions:{chargePointId}  string  the claim: JSON, with a time to live; `incarnation` beside the contract's members
    nodes:{nodeId}            string  a node that lives: JSON, with a time to live
    epochs                    hash    chargePointId → its highest epoch ever; outlives the sessions
    station-ids               hash    stationId → the chargePointId that last claimed with it
    node-losses:{nodeId}      list    JSON [chargePointId, epoch, nodeId] of claims that other nodes took from it, until
                                      its next beat; the newest MAX_LOSSES, what is beyond shows when it refreshes

An epoch is above all earlier ones of its station, and at least the seconds since 2020: so neither an emptied Redis nor
one that lost its latest writes in a failover gives an epoch twice, and a node that had to admit a station without Redis
can choose one that is above what came before (see `routing.ownership`).
"""

from collections.abc import Collection, Mapping, Sequence

from twisted.internet.defer import Deferred

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.fleet_ports import Beat, Claim, Held, NodeRow, SessionRow
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.replies import Reply
from ocppgw.net.redis.scanning import read_family
from ocppgw.net.redis.session_records import (
    NodeFacts,
    around_epoch,
    encode,
    read_loss,
    read_node,
    read_session,
    stored,
)
from ocppgw.net.redis.session_scripts import BEAT, CLAIM, OWNER, REFRESH, RELEASE, RETIRE
from ocppgw.net.redis.wire import Word
from ocppgw.ocpp.timestamps import rfc3339

SECONDS_OF_2020 = 1_577_836_800
AT_ONCE = 200  # sessions or claims in one step: 2 or 3 ms, in which Redis does nothing else
MAX_LOSSES = 100_000
LOSSES_AT_ONCE = 1000
NODE_ID_TAKEN = "NodeIdTaken"  # an error's code


class RedisSessions:
    """`clock` gives seconds since 1970; the durations are in seconds, too. The key of a session lives for `session_ttl`
    after a claim or refresh, that of this node for `node_ttl`; it is written again every `node_refresh`. A session that
    was not seen for `session_stale` may be taken from a node that lives.

    Fails with an OcppgwError whose code is NODE_ID_TAKEN when another process goes by this node's id.
    """

    def __init__(
        self,
        calls: Connection,
        keys: Keys,
        node: NodeFacts,
        clock: Clock,
        *,
        session_ttl: float,
        session_stale: float,
        node_ttl: float,
        node_refresh: float,
    ) -> None:
        self._calls, self._keys, self._node, self._clock = calls, keys, node, clock
        self._session_stale, self._node_ttl, self._node_refresh = session_stale, node_ttl, node_refresh
        self._own_keys = [keys.node(node.node_id), keys.node_losses(node.node_id)]
        self._claim_keys = [keys.epochs, keys.station_ids]
        self._common: list[Word] = [  # of scripts that claim
            keys.sessions,
            keys.nodes,
            keys.losses,
            node.node_id,
            node.incarnation,
            _milliseconds(session_ttl),
            _milliseconds(max(session_ttl, node_ttl)),
            MAX_LOSSES,
        ]
        self._is_announced = False
        self._written_at = 0.0  # this node's row

    # --- this node

    def announce(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._announce())

    def beat(self) -> "Deferred[Beat]":
        return Deferred.fromCoroutine(self._beat())

    def retire(self) -> "Deferred[None]":
        self._is_announced = False
        retired = self._calls.script(RETIRE, self._own_keys, [self._node.incarnation])
        return retired.addCallback(lambda _: None)

    async def _announce(self) -> None:
        now = self._clock.seconds()
        row, losses = self._own_keys
        life = _milliseconds(self._node_ttl)
        await self._calls.calls([("SET", row, self._row(now), "PX", life), ("DEL", losses)])
        self._written_at = now
        self._is_announced = True

    async def _beat(self) -> Beat:
        """More than one round trip only after very many losses."""
        if not self._is_announced:
            await self._announce()
        state, lost = await self._beat_once()
        more = lost
        while len(more) == LOSSES_AT_ONCE:
            try:
                _, more = await self._beat_once()
            except OcppgwError:  # what was brought so far is not to be had again
                break
            lost = [*lost, *more]
        losses = map(read_loss, lost)
        return Beat(tuple(loss for loss in losses if loss is not None), state == b"forgotten")

    async def _beat_once(self) -> tuple[bytes, list[bytes]]:
        now = self._clock.seconds()
        is_due = not 0 <= now - self._written_at < self._node_refresh
        values: list[Word] = [
            self._node.incarnation,
            self._row(now),
            _milliseconds(self._node_ttl),
            int(is_due),
            LOSSES_AT_ONCE,
        ]
        state, losses = await self._calls.script(BEAT, self._own_keys, values)
        if state == b"another":
            raise self._taken(f", started at {losses.decode('utf-8', 'replace')[:40]}" if losses else "")
        if is_due or state == b"forgotten":
            self._written_at = now
        return state, losses

    def _row(self, now: float) -> bytes:
        return encode(self._node.row(rfc3339(now).decode()))

    def _taken(self, since: str = "") -> OcppgwError:
        return OcppgwError(
            f"another process goes by this node's NODE_ID {self._node.node_id!r}{since}",
            hint="give every process a NODE_ID of its own",
            code=NODE_ID_TAKEN,
        )

    # --- claims

    def claim(self, session: SessionRow, over: int = 0) -> "Deferred[Claim | Held]":
        return Deferred.fromCoroutine(self._claim(session, over))

    def refresh(self, sessions: Sequence[SessionRow]) -> "Deferred[Sequence[Claim]]":
        return Deferred.fromCoroutine(self._refresh(sessions))

    def release(self, claims: Sequence[Claim]) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._release(claims))

    async def _claim(self, session: SessionRow, over: int) -> Claim | Held:
        if not self._is_announced:
            await self._announce()  # else it would be the claim of a dead node
        now, name = self._clock.seconds(), session.charge_point_id
        least = max(int(now) - SECONDS_OF_2020, 0)
        oldest = int((now - self._session_stale) * 1000)
        head, tail = around_epoch(session, self._node.incarnation)
        values: list[Word] = [*self._common, name, session.station_id, head, tail, over, least, oldest]
        state, *answer = await self._calls.script(CLAIM, self._claim_keys, values)
        if state == b"another":
            raise self._taken()
        return self._granted(name, answer) if state == b"granted" else self._held(name, answer)

    def _granted(self, name: str, answer: list[Reply]) -> Claim:
        epoch, holder, row = answer
        return Claim(name, int(epoch), read_node(holder.decode("utf-8", "replace"), row))

    def _held(self, name: str, answer: list[Reply]) -> Held:
        session = read_session(name, answer[0])
        if session is None:  # Lua's JSON takes a little more for granted than Python's
            raise OcppgwError(f"the session of {name} in Redis can't be read", hint="delete it with redis-cli")
        return Held(session, read_node(session.node_id, answer[1]), is_stale=False)

    async def _refresh(self, sessions: Sequence[SessionRow]) -> list[Claim]:
        lost: list[Claim] = []
        for start in range(0, len(sessions), AT_ONCE):
            values = list(self._common)
            for session in sessions[start : start + AT_ONCE]:
                value = stored(session, self._node.incarnation)
                values += [session.charge_point_id, session.station_id, session.epoch, value]
            answer = await self._calls.script(REFRESH, self._claim_keys, values)
            lost += [Claim(name.decode(), int(epoch)) for name, epoch in answer]
        return lost

    async def _release(self, claims: Sequence[Claim]) -> None:
        for start in range(0, len(claims), AT_ONCE):
            values: list[Word] = [self._keys.sessions, self._node.node_id]
            for claim in claims[start : start + AT_ONCE]:
                values += [claim.charge_point_id, claim.epoch]
            await self._calls.script(RELEASE, [], values)

    # --- who has what

    def owner(self, charge_point_id: str) -> "Deferred[tuple[SessionRow, NodeRow | None] | None]":
        return Deferred.fromCoroutine(self._owner(charge_point_id))

    def station(self, station_id: str) -> "Deferred[str | None]":
        asked = self._calls.call("HGET", self._keys.station_ids, station_id)
        return asked.addCallback(lambda raw: None if raw is None else raw.decode("utf-8", "replace"))

    def nodes(self) -> "Deferred[Sequence[NodeRow]]":
        return Deferred.fromCoroutine(self._nodes())

    def living(self, node_ids: Collection[str]) -> "Deferred[Sequence[NodeRow]]":
        return Deferred.fromCoroutine(self._living(sorted(node_ids)))

    def sessions(self) -> "Deferred[Mapping[str, SessionRow]]":
        return Deferred.fromCoroutine(self._sessions())

    async def _owner(self, charge_point_id: str) -> tuple[SessionRow, NodeRow | None] | None:
        answer = await self._calls.script(OWNER, [self._keys.session(charge_point_id)], [self._keys.nodes])
        if not answer:
            return None
        session = read_session(charge_point_id, answer[0])
        return None if session is None else (session, read_node(session.node_id, answer[1]))

    async def _living(self, node_ids: Sequence[str]) -> list[NodeRow]:
        if not node_ids:
            return []
        raws = await self._calls.call("MGET", *map(self._keys.node, node_ids))
        nodes = [read_node(node_id, raw) for node_id, raw in zip(node_ids, raws, strict=True)]
        return [node for node in nodes if node is not None]

    async def _nodes(self) -> list[NodeRow]:
        rows = await read_family(self._calls, self._keys.nodes, self._clock.seconds)
        nodes = [read_node(node_id, raw) for node_id, raw in rows.items()]
        return [node for node in nodes if node is not None]

    async def _sessions(self) -> dict[str, SessionRow]:
        rows = await read_family(self._calls, self._keys.sessions, self._clock.seconds)
        sessions = {name: read_session(name, raw) for name, raw in rows.items()}
        return {name: session for name, session in sessions.items() if session is not None}


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)

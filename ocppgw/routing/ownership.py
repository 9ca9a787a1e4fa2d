"""Which stations this node may serve: claimed before they are let in, kept alive in batches, dropped when taken away.

    claim(station, version)   Claim, or Refused (409: another node serves it, and its connection is alive)
    opened(link), closed(link)
    start(), stop()           a beat every TURN_SECONDS brings back what other nodes took

One socket serves a station at any time:
- a claim is one step in Redis, and every claim of a station has a larger epoch than the one before;
- a node drops a connection as soon as it hears that its claim is gone: with its next beat, or by ForceDisconnect;
- who takes a station from a node that may be alive serves it only SERVE_AFTER_SECONDS later, when that node has heard,
  or is paused and will hear before it does anything else (`lease.Lease`).
A node that reaches neither Redis nor Kafka can't hear. It goes on with the connections it has: that a whole site stands
still for it would cost more (ADR 0017).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as AskedTooLong
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.access.refusals import Reason, Refused
from ocppgw.clock import Clock, rest, within
from ocppgw.errors import OcppgwError, StoreError
from ocppgw.fleet_ports import Beat, Claim, Held, SessionRow, Sessions
from ocppgw.metrics import Metrics
from ocppgw.ocpp.rules import StationFacts
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import OcppVersion
from ocppgw.routing import control
from ocppgw.routing.challenges import Challenges
from ocppgw.routing.claims import Claims
from ocppgw.routing.lease import Lease
from ocppgw.routing.links import Link, Links

log = Logger(namespace="ocppgw.ownership")

TURN_SECONDS = 0.4
SERVE_AFTER_SECONDS = 1.0
SECONDS_OF_2020 = 1_577_836_800
ASKED_SECONDS = 3.0  # what is held waits for Redis' answer; then Redis is away
ASK_AGAIN_SECONDS = 0.05
STALE = "stale"
NODE_ID_TAKEN = "NodeIdTaken"  # code of the error that says so
NEWEST = "newest"


class ClaimStore(Protocol):
    """What is used of the embedded store."""

    def claim(self, charge_point_id: str) -> "Deferred[Claim]": ...


class LocalOwnership:
    """One node alone: whoever proves to be the station gets it."""

    def __init__(self, store: ClaimStore) -> None:
        self._store = store

    def claim(self, station: StationFacts, version: OcppVersion) -> "Deferred[Claim]":
        return self._store.claim(station.charge_point_id)


class OwnershipRules(msgspec.Struct, frozen=True):
    """`policy` when another node serves the station: "challenge" (ask that node), "reject" (409 unless that node is
    dead or the session stale) or "newest" (take it). `admits_unclaimed`: while Redis is away, stations are let in
    without a claim. `refresh_seconds`: in which every claim is refreshed once."""

    node_id: str
    policy: str = "challenge"
    admits_unclaimed: bool = False
    refresh_seconds: float = 60.0


class FleetOwnership:
    """`forgotten` hears that Redis has lost what this node had told it; `settle` has stations' states written."""

    def __init__(
        self,
        rules: OwnershipRules,
        sessions: Sessions,
        challenges: Challenges,
        tell: Callable[[str, Mapping[str, Any]], "Deferred[None]"],
        links: Links,
        metrics: Metrics,
        clock: Clock,
        monotonic: Callable[[], float],
        forgotten: Callable[[], None] = lambda: None,
        settle: "Callable[[], Deferred[None]]" = lambda: succeed(None),
    ) -> None:
        self._rules, self._sessions, self._challenges, self._tell = rules, sessions, challenges, tell
        self._links, self._metrics, self._clock = links, metrics, clock
        self._forgotten = forgotten
        self.lease = Lease(monotonic, self._ask)
        self._claims = Claims(
            sessions, links, monotonic, self._row, self._lost, self._away, rules.refresh_seconds, TURN_SECONDS, settle
        )
        self._turning: IDelayedCall | None = None
        self._is_beating = self._is_away = self._is_displaced = self._is_stopping = False

    # --- from the entrance

    def claim(self, station: StationFacts, version: OcppVersion) -> "Deferred[Claim | Refused]":
        """Fails with StoreError when Redis can't be asked."""
        return Deferred.fromCoroutine(self._claim(station, version))

    async def _claim(self, station: StationFacts, version: OcppVersion) -> Claim | Refused:
        now = self._clock.seconds()
        wanted = session_row(station, version, self._rules.node_id, now, now)
        try:
            answer = await self._sessions.claim(wanted)
        except StoreError:
            if not self._rules.admits_unclaimed:
                raise
            return self._unclaimed(wanted)
        if isinstance(answer, Held):
            return await self._contest(wanted, answer)
        return await self._granted(answer, STALE)

    async def _contest(self, wanted: SessionRow, held: Held) -> Claim | Refused:
        """Another node that is alive has it."""
        state = NEWEST
        if self._rules.policy == "reject":
            return _refused(held)
        if self._rules.policy == "challenge":
            topic = "" if held.node is None else held.node.session_control_topic
            state = await self._challenges.ask(held.session, topic)
            if state == control.ALIVE:
                return _refused(held)
        answer = await self._sessions.claim(wanted, over=held.session.epoch)
        if isinstance(answer, Held):
            return _refused(answer)  # it came to a third node meanwhile
        return await self._granted(answer, state)

    async def _granted(self, claim: Claim, state: str) -> Claim:
        self._claims.granted(claim)
        holder = claim.taken_from
        if holder is None:
            return claim
        self._metrics.note("session-taken-over")
        log.info("taken over from {node}: {state}", node=holder.node_id, state=state, station=claim.charge_point_id)
        if state != control.DEAD:  # else the holder has closed it already
            reason = f"the station connected to another node ({state})"
            message = control.force_disconnect(
                claim, holder.node_id, self._rules.node_id, reason, self._clock.seconds()
            )
            self._tell(holder.session_control_topic, message).addErrback(self._not_told, claim.charge_point_id)
            await rest(self._clock, SERVE_AFTER_SECONDS)
        return claim

    def _unclaimed(self, wanted: SessionRow) -> Claim:
        """Larger than any epoch before, unless the station connected more than once a second on average."""
        self._metrics.note("admitted-unclaimed")
        name, now = wanted.charge_point_id, int(self._clock.seconds()) - SECONDS_OF_2020
        link = self._links.get(name)
        claim = Claim(name, max(now, 0 if link is None else link.epoch + 1))
        self._claims.granted(claim)
        return claim

    # --- from links

    def opened(self, link: Link) -> bool:
        """False: another node has taken it meanwhile, it must not be served."""
        return self._claims.opened(link)

    def closed(self, link: Link) -> None:
        self._claims.closed(link)

    # --- from other nodes

    def control(self, message: Mapping[str, Any]) -> None:
        """A message of this node's session-control topic."""
        kind = message.get("type")
        if kind == control.FORCE_DISCONNECT:
            self._force_disconnect(message)
        elif kind == control.PROVE_SESSION:
            self._challenges.prove(message)
        elif kind == control.SESSION_PROOF:
            self._challenges.proof(message)
        else:
            self._metrics.note("control-message-unknown")

    def _force_disconnect(self, message: Mapping[str, Any]) -> None:
        name, epoch = message.get("chargePointId"), message.get("newEpoch")
        if isinstance(name, str) and isinstance(epoch, int):
            self._lost([Claim(name, epoch)])

    # --- the turns

    def start(self) -> "Deferred[None]":
        """Fires when the fleet knows of this node, or could not be told for now."""
        announced = self._sessions.announce().addErrback(self._away)
        return announced.addCallback(lambda _: self._turn())

    def stop(self) -> "Deferred[None]":
        """Give everything back: stations go to other nodes without a challenge. After all links were closed."""
        self._is_stopping = True
        if self._turning is not None and self._turning.active():
            self._turning.cancel()
        return Deferred.fromCoroutine(self._retire())

    async def _retire(self) -> None:
        try:
            await self._claims.give_all_back()
            await self._sessions.retire()
        except OcppgwError as fault:
            log.warn("sessions were not given back, they end by themselves: {reason}", reason=str(fault))

    def _turn(self) -> None:
        if self._is_stopping:
            return
        self._turning = self._clock.callLater(TURN_SECONDS, self._turn)
        self.lease.turn()
        if not self._is_beating:
            self._is_beating = True
            self._beat().addBoth(self._has_beaten)
        if not self._is_away:
            self._claims.turn()

    def _beat(self) -> "Deferred[bool]":
        """Fires with whether claims may have been lost that no beat tells of."""
        return self._sessions.beat().addCallbacks(self._heard, self._away)

    def _has_beaten(self, result: Any) -> None:
        self._is_beating = False
        if isinstance(result, Failure):
            log.failure("a fault of the gateway itself", failure=result)

    def _ask(self) -> None:
        """The lease's question: asked after the pause, whatever is under way."""
        self._metrics.note("process-was-paused")
        asked = within(self._clock, ASKED_SECONDS, Deferred.fromCoroutine(self._asked()))
        asked.addBoth(self._answered)

    async def _asked(self) -> None:
        """A call that was out when the process was paused is overdue when it wakes up, and that breaks the connection:
        so one failure says nothing of Redis yet."""
        while not self._is_displaced:
            try:
                beat = await self._sessions.beat()
            except OcppgwError:
                self._away(Failure())
                await rest(self._clock, ASK_AGAIN_SECONDS)
                continue
            if self._heard(beat):
                await self._claims.refresh_now()
            return

    def _answered(self, result: Any) -> None:
        if isinstance(result, Failure) and result.check(OcppgwError, AskedTooLong) is None:
            log.failure("a fault of the gateway itself", failure=result)
        self.lease.confirmed()

    def _heard(self, beat: Beat) -> bool:
        is_unsure = self._is_away or beat.was_forgotten
        if self._is_away:
            self._is_away = False
            log.info("Redis confirms this node's sessions again")
            self._claims.refresh_all()  # it may be another primary, which never heard of some of them
        self._lost(beat.lost)
        if beat.was_forgotten:
            self._metrics.note("fleet-forgot-this-node")
            log.warn("Redis has lost its data; telling it of {count} stations again", count=len(self._links))
            self._claims.refresh_all()
            self._forgotten()
        return is_unsure

    def _lost(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self._claims.taken(claim)
            link = self._links.get(claim.charge_point_id)
            if link is not None and link.epoch < claim.epoch:
                self._metrics.note("session-lost")
                log.info("another node serves it now", station=claim.charge_point_id)
                link.withdraw(1012, "the station has connected to another node")

    def _away(self, failure: Failure) -> bool:
        """Until the next beat gets through."""
        failure.trap(OcppgwError)
        if getattr(failure.value, "code", "") == NODE_ID_TAKEN:
            self._displaced(failure.getErrorMessage())
            return False
        self._metrics.note("beat-failed")
        if not self._is_away:
            self._is_away = True
            log.warn(
                "Redis does not confirm this node's sessions, they go on: {reason}", reason=failure.getErrorMessage()
            )
        return False

    def _displaced(self, reason: str) -> None:
        """Another process goes by this node's name: what this one holds is the other's."""
        self._metrics.note("node-id-taken")
        if not self._is_displaced:
            self._is_displaced = True
            log.error("{reason}; all stations of this process are closed", reason=reason)
        for link in self._links:
            link.withdraw(1012, "another process serves this node's stations")

    def _row(self, link: Link) -> SessionRow:
        return session_row(
            link.station, link.version, self._rules.node_id, link.connected_at, link.last_seen_at, link.epoch
        )

    def _not_told(self, failure: Failure, name: str) -> None:
        """It will hear with its next beat."""
        self._metrics.note("peer-not-told")
        log.warn("ForceDisconnect was not sent: {reason}", reason=failure.getErrorMessage(), station=name)


def session_row(
    station: StationFacts, version: OcppVersion, node_id: str, connected_at: float, last_seen_at: float, epoch: int = 0
) -> SessionRow:
    """Times in seconds since the epoch."""
    return SessionRow(
        station.charge_point_id,
        version.name,
        node_id,
        station.station_id,
        station.tenant_id,
        rfc3339(connected_at).decode(),
        int(connected_at * 1000),
        rfc3339(last_seen_at).decode(),
        int(last_seen_at * 1000),
        epoch,
    )


def _refused(held: Held) -> Refused:
    session = held.session
    return Refused(Reason.OWNED_ELSEWHERE, f"node {session.node_id} serves it since {session.connected_at}")

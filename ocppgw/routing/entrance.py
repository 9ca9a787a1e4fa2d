"""The way in: from an HTTP upgrade request to a Welcome, or to the one status that says why not.

Everything is decided before the upgrade (the outside contract, section 1): request, address, identity, credentials,
damping, capacity, then the claim and the station's state. What is cheap and needs no store comes first.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from ocppgw.access.admission import AdmissionRules, Admitted, HandshakeFacts, admit, admit_identity
from ocppgw.access.authenticate import Authenticated, Check, Denied, dummy_check, prepare
from ocppgw.access.identity import Identity, dev_identity, parse_identity
from ocppgw.access.limits import LogCooldown, SwapDamper
from ocppgw.access.refusals import Reason, Refused
from ocppgw.errors import OcppgwError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.session import StationFacts
from ocppgw.ocpp.state import StationState
from ocppgw.ports import Claim, Store
from ocppgw.routing.links import Clock, Links

log = Logger(namespace="ocppgw.entrance")

MAX_HASHING = 8  # scrypt takes 16 MiB and tens of milliseconds each: more at once would only queue for the CPU

InThread = Callable[..., "Deferred[Any]"]


class EntranceRules(msgspec.Struct, frozen=True):
    """The operator's rules. `unknown_tenant`: unknown stations are let in under it, unproved; None: refused."""

    admission: AdmissionRules
    auth_mode: str = "basic"
    unknown_tenant: str | None = None
    max_connections: int = 20_000
    swaps_per_minute: int = 10
    log_cooldown: float = 300.0


class Welcome(msgspec.Struct, frozen=True):
    """All that is known of an admitted station; the one source of its identity on this connection."""

    admitted: Admitted
    station: StationFacts
    claim: Claim
    state: StationState
    address: str


class Entrance:
    """`in_thread(function)` runs it off the reactor; `ready` says "" or why nobody is let in now."""

    def __init__(
        self,
        rules: EntranceRules,
        store: Store,
        links: Links,
        metrics: Metrics,
        clock: Clock,
        in_thread: InThread,
        ready: Callable[[], Reason | None],
    ) -> None:
        self._rules = rules
        self._store = store
        self._links = links
        self._metrics = metrics
        self._clock = clock
        self._in_thread = in_thread
        self._ready = ready
        self._damper = SwapDamper(rules.swaps_per_minute)
        self._cooldown = LogCooldown(rules.log_cooldown)
        self._hashing = 0
        self._admitting = 0

    def decide(self, facts: HandshakeFacts, headers: Mapping[str, str]) -> "Deferred[Welcome | Refused]":
        """`headers`: lower-case names. Never fails: a fault of the store is a refusal, too."""
        self._admitting += 1
        decided: Deferred[Any] = maybeDeferred(self._decide, facts, headers)
        decided.addErrback(self._store_failed)
        return decided.addCallback(self._report, facts)

    def refuse(self, reason: Reason, address: str) -> Refused:
        """Count and log a refusal that was decided elsewhere (a request that never became one)."""
        refused = Refused(reason)
        self._metrics.handshake(reason.code)
        self._log(refused, address, "")
        return refused

    def _decide(self, facts: HandshakeFacts, headers: Mapping[str, str]) -> Any:
        closed = self._ready()
        if closed is not None:
            return Refused(closed)
        admitted = admit(facts, self._rules.admission)
        if isinstance(admitted, Refused):
            return admitted
        if len(self._links) + self._admitting > self._rules.max_connections:
            return Refused(Reason.TOO_MANY_CONNECTIONS)
        found = self._store.identity(admitted.charge_point_id)
        return found.addCallback(self._known, admitted, facts, headers)

    def _known(
        self, record: Mapping[str, Any] | None, admitted: Admitted, facts: HandshakeFacts, headers: Mapping[str, str]
    ) -> Any:
        if record is not None:
            identity = parse_identity(record)
            check = prepare(identity, self._rules.auth_mode, headers)
        elif self._rules.unknown_tenant is not None:
            identity = dev_identity(admitted.charge_point_id, self._rules.unknown_tenant)
            check = prepare(identity, self._rules.auth_mode, headers)
        else:
            return self._unknown(admitted, headers)
        if isinstance(check, Denied):
            return check
        return self._verify(check).addCallback(self._authenticated, identity, admitted, facts)

    def _unknown(self, admitted: Admitted, headers: Mapping[str, str]) -> Any:
        """Where stations prove themselves, an unknown one learns no more than one with a wrong password."""
        check = dummy_check(admitted.charge_point_id, headers, "sha256")
        return check if isinstance(check, Denied) else self._verify(check)

    def _verify(self, check: Check) -> "Deferred[Authenticated | Denied | Refused]":
        if not check.needs_thread:
            return maybeDeferred(check.verify)
        if self._hashing >= MAX_HASHING * 16:  # a bound on what waits for the hashing threads
            return maybeDeferred(Refused, Reason.TOO_MANY_CONNECTIONS, "too many passwords wait to be hashed")
        self._hashing += 1

        def done(result: Any) -> Any:
            self._hashing -= 1
            return result

        return self._in_thread(check.verify).addBoth(done)

    def _authenticated(self, result: Any, identity: Identity, admitted: Admitted, facts: HandshakeFacts) -> Any:
        if not isinstance(result, Authenticated):
            return result
        refused = admit_identity(identity, admitted.version, facts.peer_ip)
        if refused is not None:
            return refused
        now = self._clock.seconds()
        name = identity.charge_point_id
        if self._links.get(name) is not None and not self._damper.allow(name, now):
            return Refused(Reason.DUPLICATE_FLAPPING, retry_after=int(self._damper.wait(name, now)) + 1)
        station = StationFacts(name, identity.station_id, identity.tenant_id, identity.boot_status)
        return self._claim(admitted, station, facts.peer_ip)

    def _claim(self, admitted: Admitted, station: StationFacts, address: str) -> "Deferred[Welcome]":
        def loaded(state: StationState, claim: Claim) -> Welcome:
            return Welcome(admitted, station, claim, state, address)

        def claimed(claim: Claim) -> "Deferred[Welcome]":
            return self._store.load_station(station.charge_point_id).addCallback(loaded, claim)

        return self._store.claim(station.charge_point_id).addCallback(claimed)

    def _store_failed(self, failure: Any) -> Refused:
        self._metrics.note("handshake-fault")
        if failure.check(OcppgwError) is None:
            log.failure("a fault of the gateway itself", failure=failure)
        return Refused(Reason.STORE_UNAVAILABLE, failure.getErrorMessage())

    def _report(self, decision: Welcome | Refused, facts: HandshakeFacts) -> Welcome | Refused:
        self._admitting -= 1
        if isinstance(decision, Refused):
            self._metrics.handshake(decision.reason.code)
            self._log(decision, facts.peer_ip, facts.raw_path)
            return decision
        self._metrics.handshake("admitted")
        log.info(
            "connected with {subprotocol} from {address}",
            subprotocol=decision.admitted.subprotocol,
            address=facts.peer_ip,
            station=decision.station.charge_point_id,
        )
        return decision

    def _log(self, refused: Refused, address: str, path: str) -> None:
        left_out = self._cooldown.left_out(f"{refused.reason.code} {address}", self._clock.seconds())
        if left_out is None:
            self._metrics.log_left_out()
            return
        log.warn(
            "refused {address}: {status} {text}: {detail} {path}; {remedy} ({left_out} like it not logged before)",
            address=address,
            status=refused.status,
            text=refused.text,
            detail=refused.detail,
            path=path.partition("?")[0][:200],  # a query may hold a token
            remedy=refused.reason.remedy,
            left_out=left_out,
        )

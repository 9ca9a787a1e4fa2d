"""The way in: from an HTTP upgrade request to a Welcome, or to the one status that says why not.

Everything is decided before the upgrade (the outside contract, section 1): request, address, identity, credentials,
security profile, damping, capacity, then the claim and the station's state. What is cheap and needs no store comes
first, and each answer to a stranger takes the same work whatever the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from ocppgw.access.admission import (
    AdmissionRules,
    Admitted,
    HandshakeFacts,
    admit,
    admit_identity,
    claimed_id,
    profile_fault,
    security_profile,
)
from ocppgw.access.attempts import Attempt
from ocppgw.access.authenticate import Authenticated
from ocppgw.access.identity import Identity
from ocppgw.access.identity_edits import Kind
from ocppgw.access.limits import SwapDamper
from ocppgw.access.proof import Proof
from ocppgw.access.proxies import ProxyRules, origin
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.turnstile import Turnstile, TurnstileRules
from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.fleet_ports import Claim
from ocppgw.metrics import Metrics
from ocppgw.ocpp.session import StationFacts
from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.versions import OcppVersion
from ocppgw.ports import Known, Store
from ocppgw.routing.handshake_log import HandshakeLog
from ocppgw.routing.links import Links
from ocppgw.routing.proving import Proven, Prover
from ocppgw.routing.visit import Visit, about_certificate

log = Logger(namespace="ocppgw.entrance")

_RATES = frozenset({Reason.TOO_MANY_HANDSHAKES, Reason.TOO_MANY_REFUSALS})
_CLIENTS_FAULT = frozenset({0, 400, 401, 403, 404, 426})  # statuses that count against an address


class EntranceRules(msgspec.Struct, frozen=True):
    """The operator's rules. `denial_quantum` (seconds): a denied station hears so at a multiple of it after its
    request, so that the time it took tells nothing; 0: at once. `decides`: the
    backend is asked for answers; `decided`: which actions' (and those of a tenant's stations instead)."""

    admission: AdmissionRules
    max_connections: int = 20_000
    swaps_per_minute: int = 10
    proxies: ProxyRules = ProxyRules()
    turnstile: TurnstileRules = TurnstileRules()
    min_profile: int = 0
    denial_quantum: float = 0.0
    decides: bool = False
    decided: frozenset[str] = frozenset()
    decided_of_tenants: Mapping[str, frozenset[str]] = {}

    def decided_for(self, identity: Identity) -> frozenset[str]:
        if not self.decides:
            return frozenset()
        if identity.decisions is not None:
            return identity.decisions
        return self.decided_of_tenants.get(identity.tenant_id, self.decided)


class Welcome(msgspec.Struct, frozen=True):
    """All that is known of an admitted station; the one source of its identity on this connection."""

    admitted: Admitted
    station: StationFacts
    claim: Claim
    state: StationState
    address: str
    proof: Proof = Proof("none")


class Owner(Protocol):
    """Who says which node may serve a station (`ocppgw.routing.ownership`)."""

    def claim(self, station: StationFacts, version: OcppVersion) -> "Deferred[Claim] | Deferred[Claim | Refused]": ...


class Renewals(msgspec.Struct, frozen=True):
    """Told when a station used its next secret (id, its kind, the digest), or a certificate that was pending (id,
    fingerprint)."""

    secret_used: Callable[[str, Kind, bytes], Any]
    certificate_seen: Callable[[str, str], Any]


class _Case(msgspec.Struct):
    """One handshake while it is decided."""

    visit: Visit
    facts: HandshakeFacts
    headers: Mapping[str, str]
    admitted: Admitted | None = None
    known: Known = Known()
    is_secure: bool = False
    method: str = ""
    profile: int | None = None
    binding: str = ""


class Entrance:
    """`ready` says None or why nobody is let in now."""

    def __init__(
        self,
        rules: EntranceRules,
        store: Store,
        owner: Owner,
        links: Links,
        prover: Prover,
        handshakes: HandshakeLog,
        metrics: Metrics,
        clock: Clock,
        ready: Callable[[], Reason | None],
        renewals: Renewals,
    ) -> None:
        self._rules = rules
        self._store = store
        self._owner = owner
        self._links = links
        self._prover = prover
        self._handshakes = handshakes
        self._metrics = metrics
        self._clock = clock
        self._ready = ready
        self._renewals = renewals
        self._damper = SwapDamper(rules.swaps_per_minute)
        self._admitting = 0
        self.turnstile = Turnstile(rules.turnstile)
        self.now = clock.seconds

    # --- from accept to decision

    def turned_away(self, peer: str, listener: str, *, is_cut: bool = False) -> Refused | None:
        """Whether an accepted connection is refused for its address alone; None: it is counted, make its `visit`.
        `is_cut`: nobody would tell it why."""
        if self._rules.proxies.is_trusted(peer):
            return None
        reason = self.turnstile.arrive(peer, self.now())
        if reason is None:
            return None
        refused = replace(self._too_much(reason, peer), is_cut=is_cut)
        self._handshakes.refused(refused, Attempt(at=self.now(), outcome="", address=peer, listener=listener))
        return refused

    def visit(self, peer: str, listener: str) -> Visit:
        """For a connection that was not turned away."""
        return Visit(self, peer, listener, self.now(), counted=not self._rules.proxies.is_trusted(peer))

    def decide(self, visit: Visit, facts: HandshakeFacts, headers: Mapping[str, str]) -> "Deferred[Welcome | Refused]":
        """Use `Visit.decide`."""
        self._admitting += 1
        started = self.now()
        case = _Case(visit, facts, headers)
        decided: Deferred[Any] = maybeDeferred(self._decide, case)
        decided.addErrback(self._store_failed)
        decided.addCallback(self._report, case)
        return decided.addCallback(self._in_step, started)

    def report(self, visit: Visit, refused: Refused, attempt: Attempt) -> None:
        """Count, log and keep a refusal."""
        if refused.reason.status in _CLIENTS_FAULT:
            self.turnstile.refused(visit.address, self.now())
        self._handshakes.refused(refused, attempt)

    # --- the steps

    def _decide(self, case: _Case) -> Any:
        closed = self._ready()
        if closed is not None:
            return Refused(closed)
        refused = self._find_origin(case)
        if refused is not None:
            return refused
        admitted = admit(case.facts, self._rules.admission)
        if isinstance(admitted, Refused):
            return admitted
        case.admitted = admitted
        replaces = self._links.get(admitted.charge_point_id) is not None  # then nothing is added
        if not replaces and len(self._links) + self._admitting > self._rules.max_connections:
            return Refused(Reason.TOO_MANY_CONNECTIONS)
        tls = case.facts.tls
        fingerprint = tls.certificate.fingerprint if tls is not None and tls.certificate is not None else ""
        return self._store.look_up(admitted.charge_point_id, fingerprint).addCallback(self._known, case)

    def _find_origin(self, case: _Case) -> Refused | None:
        """Who is behind a listed proxy: that address is judged and counted from here on."""
        found = origin(case.facts.peer_ip, case.headers, self._rules.proxies)
        if isinstance(found, Refused):
            return found
        facts = case.facts
        case.is_secure = facts.tls is not None or found.is_secure
        case.facts = HandshakeFacts(facts.raw_path, facts.subprotocols, found.address, facts.is_websocket, facts.tls)
        reason = case.visit.came_from(found)
        return None if reason is None else self._too_much(reason, found.address)

    def _too_much(self, reason: Reason, address: str) -> Refused:
        """When a rate allows the next one can be told; when a connection ends, nobody knows."""
        return Refused(reason, retry_after=self.turnstile.wait(address, self.now()) if reason in _RATES else None)

    def _known(self, known: Known, case: _Case) -> Any:
        assert case.admitted is not None
        case.known = known
        proven = self._prover.prove(case.admitted.charge_point_id, known, case.facts.tls, case.headers)
        return proven.addCallback(self._proven, case, case.admitted)

    def _proven(self, proven: Proven, case: _Case, admitted: Admitted) -> Any:
        case.binding = proven.binding
        verdict, identity = proven.verdict, proven.identity
        if isinstance(verdict, Refused) or identity is None:
            return verdict
        case.method = verdict.method
        case.profile = profile = security_profile(verdict.method, is_secure=case.is_secure)
        refused = admit_identity(identity, admitted.version, case.facts.peer_ip) or profile_fault(
            profile, case.known.security_profile, identity.auth.lowest_profile, self._rules.min_profile
        )
        if refused is not None:
            return refused
        now, name = self.now(), identity.charge_point_id
        if self._links.get(name) is not None and not self._damper.allow(name, now):
            return Refused(Reason.DUPLICATE_FLAPPING, retry_after=int(self._damper.wait(name, now)) + 1)
        station, proof = _facts(verdict, identity, case, self._rules.decided_for(identity))
        claimed = self._owner.claim(station, admitted.version)

        def load(claim: Claim | Refused) -> Any:
            if isinstance(claim, Refused):
                return claim
            return self._store.load_station(name).addCallback(welcome, claim)

        def welcome(state: StationState, claim: Claim) -> Welcome:
            self._remember(verdict, identity, case)
            return Welcome(admitted, station, claim, state, case.facts.peer_ip, proof)

        return claimed.addCallback(load)

    def _remember(self, verdict: Authenticated, identity: Identity, case: _Case) -> None:
        """What this connection changes for the next ones: nobody waits for it."""
        name, profile = identity.charge_point_id, case.profile or 0
        if profile > case.known.security_profile:
            self._store.remember_profile(name, profile).addErrback(_not_stored, name)
        if verdict.renewed and verdict.method != "mtls":
            kind: Kind = "token" if verdict.method == "token" else "secret"
            self._renewals.secret_used(name, kind, verdict.digest)
        elif verdict.renewed and case.facts.tls is not None and case.facts.tls.certificate is not None:
            self._renewals.certificate_seen(name, case.facts.tls.certificate.fingerprint)

    def _store_failed(self, failure: Any) -> Refused:
        self._metrics.note("handshake-fault")
        if failure.check(OcppgwError) is None:
            log.failure("a fault of the gateway itself", failure=failure)
        return Refused(Reason.STORE_UNAVAILABLE, failure.getErrorMessage())

    # --- telling

    def _report(self, decision: Welcome | Refused, case: _Case) -> Welcome | Refused:
        self._admitting -= 1
        if case.visit.is_refused:
            return decision  # it took too long: the edge has refused it meanwhile, and told
        admitted = case.admitted
        name = claimed_id(case.facts.raw_path) if admitted is None else admitted.charge_point_id
        attempt = case.visit.attempt(case.facts, name)
        tls = case.facts.tls
        shown = attempt.certificate
        if tls is not None and tls.certificate is not None:
            shown = about_certificate(tls.certificate, case.binding)
        attempt = msgspec.structs.replace(attempt, method=case.method, security_profile=case.profile, certificate=shown)
        if isinstance(decision, Refused):
            self.report(case.visit, decision, attempt)
        else:
            self._handshakes.admitted(attempt, decision.admitted.subprotocol)
            for repair in decision.admitted.repairs:
                self._metrics.repaired(repair)
        return decision

    def _in_step(self, decision: Any, started: float) -> Any:
        """Hold back a denial until the next multiple of the quantum."""
        quantum = self._rules.denial_quantum
        if not quantum or not isinstance(decision, Refused) or decision.status != 401:
            return decision
        held: Deferred[Any] = Deferred()
        self._clock.callLater(quantum - (self.now() - started) % quantum, held.callback, decision)
        return held


def _facts(
    verdict: Authenticated, identity: Identity, case: _Case, decided: frozenset[str]
) -> tuple[StationFacts, Proof]:
    tls = case.facts.tls
    certificate = tls.certificate if tls is not None and verdict.method == "mtls" else None
    serial = certificate.common_name if certificate is not None and identity.auth.require_serial_match else None
    station = StationFacts(
        identity.charge_point_id, identity.station_id, identity.tenant_id, identity.boot_status, serial, decided
    )
    return station, Proof(verdict.method, certificate, verdict.digest, case.profile or 0, case.facts.peer_ip)


def _not_stored(failure: Any, name: str) -> None:
    log.error("the security profile was not stored: {reason}", reason=failure.getErrorMessage(), station=name)

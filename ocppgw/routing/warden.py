"""Revocation reaches open connections: what was withdrawn since a station was let in closes it, with 1008.

A station is judged again when its identity changed, when its certificate was put on the denylist, and when new CRLs
came. A CRL that is merely out of date does not cut anybody off: that would take a whole fleet down for a late file; the
next handshakes tell.
"""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from ocppgw.access.admission import admit_identity
from ocppgw.access.attempts import Attempt
from ocppgw.access.authenticate import Authenticated
from ocppgw.access.certificates import ClientCertificate
from ocppgw.access.certify import certificate_fault, certify
from ocppgw.access.identity import NO_AUTH, Identity, IdentityError
from ocppgw.access.proof import Proof
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import CrlFault
from ocppgw.ocpp.versions import OcppVersion
from ocppgw.ports import Known, Store
from ocppgw.routing.handshake_log import HandshakeLog
from ocppgw.routing.links import Link, Links
from ocppgw.routing.proving import ProofRules, stored_identity
from ocppgw.routing.visit import about_certificate

log = Logger(namespace="ocppgw.warden")

POLICY_VIOLATION = 1008


class RevocationLists(Protocol):
    """What is asked of the current CRLs (`ocppgw.net.tls.Crls`)."""

    def fault(self, certificate: ClientCertificate, now: float) -> CrlFault | None: ...


class Warden:
    """(ports.AccessListener) `now` gives seconds since the epoch."""

    def __init__(
        self, store: Store, links: Links, rules: ProofRules, handshakes: HandshakeLog, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._links = links
        self._rules = rules
        self._handshakes = handshakes
        self._now = now

    def identity_changed(self, charge_point_id: str) -> None:
        link = self._links.get(charge_point_id)
        if link is not None:
            self._judge(link)

    def certificate_revoked(self, fingerprint: str) -> None:
        for link in self._links:
            certificate = link.proof.certificate
            if certificate is not None and certificate.fingerprint == fingerprint:
                self._judge(link)

    def crls_changed(self, crls: RevocationLists) -> None:
        now = self._now()
        for link in self._links:
            certificate = link.proof.certificate
            fault = None if certificate is None else crls.fault(certificate, now)
            if fault is not None and fault.kind == "revoked":
                self._close(link, Refused(Reason.CERTIFICATE_REVOKED_BY_CRL, fault.detail))

    def _judge(self, link: Link) -> None:
        certificate = link.proof.certificate
        fingerprint = "" if certificate is None else certificate.fingerprint
        known = self._store.look_up(link.station.charge_point_id, fingerprint)
        known.addCallback(self._known, link).addErrback(self._failed, link)

    def _known(self, known: Known, link: Link) -> None:
        fault = withdrawn(known, link.proof, link.station.charge_point_id, link.version, self._rules, self._now())
        if fault is not None:
            self._close(link, fault)

    def _close(self, link: Link, fault: Refused) -> None:
        certificate = link.proof.certificate
        attempt = Attempt(
            at=self._now(),
            outcome="",
            address=link.address or link.proof.address,
            close_code=POLICY_VIOLATION,
            charge_point_id=link.station.charge_point_id,
            subprotocol=link.subprotocol,
            method=link.proof.method,
            security_profile=link.proof.security_profile,
            certificate=None if certificate is None else about_certificate(certificate, fault.detail),
        )
        self._handshakes.cut(fault, attempt)
        link.withdraw(POLICY_VIOLATION, fault.reason.text or "access withdrawn")

    def _failed(self, failure: Any, link: Link) -> None:
        """Fail closed: a station whose rights can't be read any more comes back through the entrance."""
        log.failure("access rights can't be read", failure=failure, station=link.station.charge_point_id)
        link.withdraw(POLICY_VIOLATION, "access rights can't be checked")


def withdrawn(
    known: Known, proof: Proof, charge_point_id: str, version: OcppVersion, rules: ProofRules, now: float
) -> Refused | None:
    """Why a station that was let in with `proof` would not be let in any more, None when it would.

    A secret is not asked for again: a station keeps its connection when its password is rotated, unless the one it
    used was taken away at once.
    """
    if proof.certificate is not None:
        fault = certificate_fault(proof.certificate, None, known.revocation, now)
        if fault is not None:
            return fault
    if known.identity is None:
        if proof.method == NO_AUTH and rules.unknown_tenant is not None:
            return None
        return Refused(Reason.IDENTITY_DELETED)
    try:
        identity = stored_identity(charge_point_id, known.identity)
    except IdentityError as error:
        return Refused(Reason.IDENTITY_INVALID, "; ".join(error.problems)[:500])
    return _no_proof_any_more(identity, proof, rules, now) or admit_identity(identity, version, proof.address)


def _no_proof_any_more(identity: Identity, proof: Proof, rules: ProofRules, now: float) -> Refused | None:
    if proof.method not in identity.auth.methods(rules.auth_mode):
        return Refused(Reason.CREDENTIALS_TYPE_NOT_ALLOWED, f"{proof.method} is not accepted any more")
    if proof.method == "mtls" and proof.certificate is not None:
        verdict = certify(identity, proof.certificate, now, rules.certificates)
        return None if isinstance(verdict, Authenticated) else verdict
    auth = identity.auth
    pair = (auth.secret, auth.next_secret) if proof.method == "basic" else (auth.token, auth.next_token)
    if all(kept is None or kept.digest != proof.digest for kept in pair):
        return Refused(Reason.CREDENTIALS_WRONG, "the secret it was let in with was taken away")
    return None

"""Is the station who it says it is: from what is stored of it to a proof or a denial, hashing in threads, in bounds."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from ocppgw.access.authenticate import (
    Authenticated,
    Check,
    Denied,
    Hashing,
    dummy_check,
    holds_credentials,
    prepare,
)
from ocppgw.access.certify import CertificateRules, certificate_fault, certify
from ocppgw.access.identity import Identity, IdentityError, StoredSecret, dev_identity, parse_identity
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import TlsFacts
from ocppgw.access.verified import VerifiedSecrets
from ocppgw.ports import Known

MAX_HASHING = 128  # passwords that may wait for the hashing threads
MAX_DETAIL = 500

InThread = Callable[..., "Deferred[Any]"]


class ProofRules(msgspec.Struct, frozen=True):
    """`auth_mode`: how a station proves itself whose identity names no way; `unknown_tenant`: unknown stations are let
    in under it, unproved; None: refused."""

    auth_mode: str = "basic"
    unknown_tenant: str | None = None
    hashing: Hashing = Hashing()
    certificates: CertificateRules = CertificateRules()


class Proven(msgspec.Struct, frozen=True):
    """`identity` is None where there is none that can be used; `binding` says which binding failed, "" for none."""

    verdict: Authenticated | Refused
    identity: Identity | None = None
    binding: str = ""


class Prover:
    """`in_thread(function)` runs it off the reactor; `now` gives seconds since the epoch."""

    def __init__(
        self, rules: ProofRules, in_thread: InThread, verified: VerifiedSecrets, now: Callable[[], float]
    ) -> None:
        self._rules = rules
        self._in_thread = in_thread
        self._verified = verified
        self._now = now
        self._hashing = rules.hashing
        self._waiting = 0

    def prove(self, name: str, known: Known, tls: TlsFacts | None, headers: Mapping[str, str]) -> "Deferred[Proven]":
        """`headers`: lower-case names. Fails only for faults of ours."""
        certificate = None if tls is None else tls.certificate
        if tls is not None and certificate is not None:
            fault = certificate_fault(certificate, tls.crl_fault, known.revocation, self._now())
            if fault is not None:
                return succeed(Proven(fault, binding=fault.detail))
        if known.identity is None and self._rules.unknown_tenant is None:
            return self._unknown(name, tls, headers)
        if known.identity is None:
            return self._of_identity(dev_identity(name, self._rules.unknown_tenant or ""), tls, headers)
        try:
            identity = stored_identity(name, known.identity)
        except IdentityError as error:
            broken = Denied(Reason.IDENTITY_INVALID, "; ".join(error.problems)[:MAX_DETAIL])
            if certificate is not None:
                return succeed(Proven(broken))  # the owner of a good certificate may know
            return self._verified_by(dummy_check(name, headers, self._hashing, broken), None, "")
        return self._of_identity(identity, tls, headers)

    def _unknown(self, name: str, tls: TlsFacts | None, headers: Mapping[str, str]) -> "Deferred[Proven]":
        """Where stations prove themselves, an unknown one learns no more than one with a wrong password; the owner of
        a good certificate may know."""
        if tls is not None and tls.certificate is not None:
            subject = tls.certificate.subject
            return succeed(Proven(Refused(Reason.UNKNOWN_STATION_CERTIFICATE, f"its certificate is {subject!r}")))
        return self._verified_by(dummy_check(name, headers, self._hashing), None, "")

    def _of_identity(self, identity: Identity, tls: TlsFacts | None, headers: Mapping[str, str]) -> "Deferred[Proven]":
        self._learn(identity)
        methods = identity.auth.methods(self._rules.auth_mode)
        binding = ""
        if tls is not None and tls.certificate is not None and "mtls" in methods:
            verdict = certify(identity, tls.certificate, self._now(), self._rules.certificates)
            binding = "" if isinstance(verdict, Authenticated) else verdict.detail
            if not binding or set(methods) <= {"mtls"} or not holds_credentials(headers):
                return succeed(Proven(verdict, identity, binding))
        return self._verified_by(prepare(identity, self._rules.auth_mode, headers, self._hashing), identity, binding)

    def _learn(self, identity: Identity) -> None:
        """Denials cost what the dearest hash in the fleet costs."""
        secrets = (identity.auth.secret, identity.auth.token)
        if self._hashing.algorithm != "scrypt" and any(kept and kept.algorithm == "scrypt" for kept in secrets):
            rules = self._rules.hashing
            self._hashing = Hashing("scrypt", rules.n, rules.r, rules.p, rules.length)

    def _verified_by(self, check: Check | Denied, identity: Identity | None, binding: str) -> "Deferred[Proven]":
        if isinstance(check, Denied):
            return succeed(Proven(check, identity, binding))
        known = check.known(self._is_verified)
        if known is not None or not check.needs_thread:
            return succeed(Proven(known or check.verify(), identity, binding))
        if self._waiting >= MAX_HASHING:
            return succeed(Proven(Refused(Reason.HASHING_OVERLOADED), identity, binding))
        self._waiting += 1
        hashed = self._in_thread(check.verify).addBoth(self._hashed, check)
        return hashed.addCallback(Proven, identity, binding)

    def _is_verified(self, stored: StoredSecret, secret: bytes) -> bool:
        return stored.algorithm == "scrypt" and self._verified.holds(stored, secret, self._now())

    def _hashed(self, result: Any, check: Check) -> Any:
        self._waiting -= 1
        if isinstance(result, Authenticated) and len(check.candidates) == 1:
            for stored in check.stored:
                if stored.digest == result.digest:
                    self._verified.add(stored, check.candidates[0], self._now())
        return result


def stored_identity(name: str, record: Mapping[str, Any]) -> Identity:
    """The identity that is stored under this id. IdentityError when it can't be used, or is another station's: with
    one's own password nobody becomes somebody else."""
    identity = parse_identity(record, lenient=True)
    if identity.charge_point_id != name:
        raise IdentityError(name, ["chargePointId is not the id that it is stored under"])
    return identity

"""Whether a verified client certificate proves that a station is this one (the outside contract, section 2).

The TLS layer has verified the chain, in this handshake or in the one whose session was resumed. What may have changed
since, and what only the identity knows, is judged here, at every upgrade and again for open connections: dates,
revocation (CRL, denylist, the identity's own list), organization, binding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocppgw.access.authenticate import Authenticated, Denied
from ocppgw.access.bindings import find_binding, is_subject
from ocppgw.access.certificates import ClientCertificate
from ocppgw.access.identity import Identity
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import CrlFault
from ocppgw.ocpp.timestamps import rfc3339


@dataclass(frozen=True, slots=True)
class CertificateRules:
    """`require_binding`: an identity without bindings lets no certificate in; else its auth.subject or
    auth.fingerprint must match. `organizations`: one of them must be the certificate's O (A00.FR.404); none: any."""

    require_binding: bool = True
    organizations: tuple[str, ...] = ()


_CRL_REASONS = {
    "revoked": Reason.CERTIFICATE_REVOKED_BY_CRL,
    "expired": Reason.CRL_EXPIRED,
    "missing": Reason.CRL_MISSING,
}


def certificate_fault(
    certificate: ClientCertificate,
    crl_fault: CrlFault | None,
    revocation: Mapping[str, Any] | None,
    now: float,
) -> Denied | None:
    """Why nobody may use this certificate, whoever they are; None when it is good. `revocation`: the denylist's entry
    for it."""
    if revocation is not None:
        reason = revocation.get("reason")
        why = f": {reason[:100]}" if isinstance(reason, str) and reason.isprintable() else ""
        return Denied(Reason.CERTIFICATE_REVOKED, f"fingerprint {certificate.fingerprint} is on the denylist{why}")
    if crl_fault is not None:
        return Denied(_CRL_REASONS[crl_fault.kind], crl_fault.detail)
    if now > certificate.not_after:
        return Denied(Reason.CERTIFICATE_EXPIRED, f"it ended {rfc3339(certificate.not_after).decode()}")
    if now < certificate.not_before:
        return Denied(Reason.CERTIFICATE_NOT_YET_VALID, f"it begins {rfc3339(certificate.not_before).decode()}")
    return None


def certify(
    identity: Identity, certificate: ClientCertificate, now: float, rules: CertificateRules
) -> Authenticated | Denied:
    """Whether the certificate is this station's own. Ask `certificate_fault` before."""
    auth, name = identity.auth, identity.charge_point_id
    if certificate.fingerprint in auth.revoked_fingerprints:
        detail = f"fingerprint {certificate.fingerprint} is in revokedFingerprints"
        return Denied(Reason.CERTIFICATE_REVOKED_BY_IDENTITY, detail)
    if rules.organizations and not set(certificate.organizations) & set(rules.organizations):
        shown = ", ".join(certificate.organizations) or "none"
        return Denied(Reason.CERTIFICATE_ORGANIZATION, f"its organization is {shown}")
    if any(pending.fingerprint == certificate.fingerprint for pending in auth.pending):
        return Authenticated(name, "mtls", renewed=True)
    if auth.certificates:
        found = find_binding(auth.certificates, certificate, name, now)
        return Denied(found.reason, found.detail) if isinstance(found, Refused) else Authenticated(name, "mtls")
    return _without_bindings(identity, certificate, rules)


def _without_bindings(
    identity: Identity, certificate: ClientCertificate, rules: CertificateRules
) -> Authenticated | Denied:
    auth = identity.auth
    if rules.require_binding or not (auth.subject or auth.fingerprint):
        return Denied(
            Reason.CERTIFICATE_NOT_BOUND,
            f"auth.certificates is empty; the certificate sent has fingerprint {certificate.fingerprint}",
        )
    if auth.fingerprint == certificate.fingerprint or is_subject(auth.subject, certificate):
        return Authenticated(identity.charge_point_id, "mtls")
    return Denied(
        Reason.CERTIFICATE_MISMATCH,
        f"fingerprint {certificate.fingerprint[:16]}… and subject {certificate.subject!r} are neither auth.fingerprint "
        "nor auth.subject",
    )

"""Which certificates their CAs have taken back: the CRLs (RFC 5280 section 5) as sets of serial numbers.

The same look-up serves the handshake, a resumed session at its upgrade, and the live stations when a new CRL is loaded.
OpenSSL's own check is left off: it verifies the CRL's signature anew in every handshake, which takes half a millisecond
with 20,000 entries, and it can't look at resumed sessions. Here the signature is verified once, when the file is read,
and a CRL that says more than this look-up understands (delta, indirect, some reasons only) is refused then.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from ocppgw.access.certificates import ClientCertificate, Link, name_text
from ocppgw.access.transport import CrlFault
from ocppgw.net.tls.files import Findings, day, pem_blocks, printable

LEAVES, AUTHORITIES, ALL = "leaves", "authorities", "all"
_MEND = "ask the CA for a complete CRL"


@dataclass(frozen=True, slots=True)
class Crl:
    """One list. `scope` says whose certificates it is about; `part` tells keys and distribution points of the same
    issuer apart; times are seconds since the epoch, `next_update` infinite when the CRL names none."""

    issuer: str
    part: tuple[bytes, str]
    scope: str
    this_update: float
    next_update: float
    serials: frozenset[int]
    path: Path


@dataclass(frozen=True, slots=True)
class CrlRules:
    """`check` is none, leaf or chain; `expired` and `missing` are refuse or accept."""

    check: str = "none"
    expired: str = "refuse"
    missing: str = "refuse"


class Crls:
    """All CRLs with the rules for using them.

    Of several of one issuer, scope and part only the newest counts. An issuer's parts are looked up together: a
    certificate is revoked when one of them names it, and can't be checked while one of them is out of date.
    """

    def __init__(self, crls: Iterable[Crl] = (), rules: CrlRules | None = None) -> None:
        newest: dict[tuple[str, str, tuple[bytes, str]], Crl] = {}
        for crl in crls:
            kept = newest.setdefault((crl.issuer, crl.scope, crl.part), crl)
            if crl.this_update > kept.this_update:
                newest[crl.issuer, crl.scope, crl.part] = crl
        self.crls = tuple(newest.values())
        self.rules = rules or CrlRules()
        self._about_leaves = _by_issuer(crl for crl in self.crls if crl.scope != AUTHORITIES)
        self._about_authorities = _by_issuer(crl for crl in self.crls if crl.scope != LEAVES)

    def fault(self, certificate: ClientCertificate, now: float) -> CrlFault | None:
        """Why the certificate can't pass; None when it can. Of a chain that isn't known the leaf is looked up."""
        if self.rules.check == "none":
            return None
        leaf, *above = certificate.chain or ((certificate.issuer, certificate.serial_number),)
        fault = self._link_fault(leaf, self._about_leaves, now)
        if self.rules.check == "leaf":
            return fault
        faults = [fault, *(self._link_fault(link, self._about_authorities, now) for link in above)]
        return min(filter(None, faults), key=lambda one: one.kind != "revoked", default=None)

    def _link_fault(self, link: Link, by_issuer: dict[str, list[Crl]], now: float) -> CrlFault | None:
        issuer, serial = link
        crls = by_issuer.get(issuer)
        if crls is None:
            accepted = self.rules.missing == "accept"
            return None if accepted else CrlFault("missing", f"there is no CRL of {printable(issuer)}")
        number = int(serial, 16)
        if any(number in crl.serials for crl in crls):
            return CrlFault("revoked", f"serial number {serial} is in the CRL of {printable(issuer)}")
        if self.rules.expired == "accept" or all(crl.this_update <= now <= crl.next_update for crl in crls):
            return None
        return CrlFault("expired", f"the CRL of {printable(issuer)} is out of date")


def read_crls(findings: Findings, paths: Sequence[Path], authorities: Sequence[x509.Certificate]) -> list[Crl]:
    """All usable CRLs of these files (PEM with one or several, or DER)."""
    found = []
    for path in paths:
        for crl in _parsed(findings, path):
            usable = _checked(findings, path, crl, authorities)
            if usable is not None:
                found.append(usable)
    return found


def _parsed(findings: Findings, path: Path) -> list[x509.CertificateRevocationList]:
    data = findings.read(path)
    blocks = pem_blocks(data, b"X509 CRL", b"CRL")
    if blocks:
        return findings.parsed(path, "CRL", x509.load_pem_x509_crl, blocks)
    if data[:1] == b"\x30":
        return findings.parsed(path, "CRL", x509.load_der_x509_crl, [data])
    if data.strip():
        findings.problem(path, "holds no CRL, neither PEM (BEGIN X509 CRL) nor DER (is it the right file?)")
    return []


def _checked(
    findings: Findings, path: Path, crl: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]
) -> Crl | None:
    issuer = name_text(crl.issuer)
    try:
        fault = _signature_fault(crl, authorities) or _kind_fault(crl)
        if not fault:
            _check_dates(findings, path, crl)
            return Crl(issuer, (_key_id(crl), _place(crl)), _scope(crl), *_times(crl), _serials(crl), path)
    except ValueError as error:
        fault = f"can't be parsed: {error} (get it anew)"
    findings.problem(path, f"the CRL of {issuer} {fault}")
    return None


def _signature_fault(crl: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> str:
    issuers = [authority for authority in authorities if authority.subject == crl.issuer]
    if not issuers:
        return "can't be verified: its issuer is not in tls.ca_path (add the certificate of that CA there)"
    signers = [issuer for issuer in issuers if _signed_by(crl, issuer)]
    if not signers:
        return "has a wrong signature (get it anew; check that tls.ca_path has this CA's present certificate)"
    if not any(_may_sign_crls(signer) for signer in signers):
        return "is signed by a CA that may not sign CRLs (its keyUsage lacks cRLSign: let the CA be issued anew)"
    return ""


def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _may_sign_crls(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _kind_fault(crl: x509.CertificateRevocationList) -> str:
    """What forbids reading it as a plain list of all revoked serial numbers of its issuer."""
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            return f"is a delta CRL ({_MEND})"
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl:
                return f"is an indirect CRL, with certificates of other CAs ({_MEND} of each)"
            if value.only_some_reasons or value.only_contains_attribute_certs:
                return f"covers a part only ({_MEND})"
        elif extension.critical:
            return f"has a critical extension that isn't known here ({extension.oid.dotted_string}) ({_MEND})"
    return ""


def _check_dates(findings: Findings, path: Path, crl: x509.CertificateRevocationList) -> None:
    issuer, (this_update, next_update) = name_text(crl.issuer), _times(crl)
    if next_update < findings.now and crl.next_update_utc is not None:
        findings.warn(
            path, f"the CRL of {issuer} is out of date since {day(crl.next_update_utc)}: put a fresh one there"
        )
    elif this_update > findings.now:
        findings.warn(path, f"the CRL of {issuer} is valid from {day(crl.last_update_utc)} only: check the clock")


def _times(crl: x509.CertificateRevocationList) -> tuple[float, float]:
    ends = crl.next_update_utc
    return crl.last_update_utc.timestamp(), float("inf") if ends is None else ends.timestamp()


def _scope(crl: x509.CertificateRevocationList) -> str:
    point = _distribution_point(crl)
    if point is not None and point.only_contains_user_certs:
        return LEAVES
    return AUTHORITIES if point is not None and point.only_contains_ca_certs else ALL


def _place(crl: x509.CertificateRevocationList) -> str:
    point = _distribution_point(crl)
    return "" if point is None else f"{point.full_name}{point.relative_name}"


def _distribution_point(crl: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    try:
        return crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return None


def _key_id(crl: x509.CertificateRevocationList) -> bytes:
    try:
        found = crl.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value
    except x509.ExtensionNotFound:
        return b""
    return getattr(found, "key_identifier", None) or b""


def _serials(crl: x509.CertificateRevocationList) -> frozenset[int]:
    return frozenset(entry.serial_number for entry in crl)


def _by_issuer(crls: Iterator[Crl]) -> dict[str, list[Crl]]:
    found: dict[str, list[Crl]] = {}
    for crl in crls:
        found.setdefault(crl.issuer, []).append(crl)
    return found

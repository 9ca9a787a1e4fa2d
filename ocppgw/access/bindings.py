"""Which certificates are a station's own: the bindings of its identity (the outside contract, section 2).

A binding names a certificate by any of fingerprint, subject, subjectAltName and serial number, and holds inside its own
window. Several with overlapping windows let a station change its certificate without a gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ocppgw.access.certificates import ClientCertificate, normal_serial
from ocppgw.access.refusals import Reason, Refused
from ocppgw.ocpp.timestamps import rfc3339


@dataclass(frozen=True, slots=True)
class Binding:
    """One certificate of a station. Texts are "" and times None where the record has none; `fingerprint` and
    `serial_number` are normalised (`ocppgw.access.certificates`), times are seconds since the epoch."""

    fingerprint: str = ""
    subject: str = ""
    names: tuple[str, ...] = ()
    serial_number: str = ""
    valid_from: float | None = None
    valid_to: float | None = None
    revoked: bool = False
    charge_point_id: str | None = None

    def matches(self, certificate: ClientCertificate) -> bool:
        """Any one criterion is enough; the window is not looked at."""
        return self.names_exactly(certificate) or (
            is_subject(self.subject, certificate) or any(_has_name(certificate, name) for name in self.names)
        )

    def names_exactly(self, certificate: ClientCertificate) -> bool:
        """Matched by what no other certificate of the CA can have."""
        return (self.fingerprint != "" and self.fingerprint == certificate.fingerprint) or (
            self.serial_number != "" and self.serial_number == normal_serial(certificate.serial_number)
        )

    def __str__(self) -> str:
        criteria = (
            self.fingerprint and f"fingerprint {self.fingerprint[:16]}…",
            self.subject and f"subject {self.subject!r}",
            self.names and f"name {', '.join(self.names)}",
            self.serial_number and f"serial number {self.serial_number}",
        )
        return " or ".join(criterion for criterion in criteria if criterion)


def find_binding(
    bindings: Sequence[Binding], certificate: ClientCertificate, charge_point_id: str, now: float
) -> Binding | Refused:
    """The binding that makes this certificate the station's, or why there is none."""
    faults: list[Refused] = []
    found: Binding | None = None
    for number, binding in enumerate(bindings, 1):
        if not binding.matches(certificate):
            continue
        fault = _fault(binding, f"binding {number} ({binding})", charge_point_id, now)
        if fault is None:
            found = found or binding
        elif binding.revoked and binding.names_exactly(certificate):
            return fault  # this very certificate was revoked: no other binding can bring it back
        else:
            faults.append(fault)
    if found is not None:
        return found
    if faults:
        return faults[0]
    shown = "; ".join(f"{number}: {binding}" for number, binding in enumerate(bindings[:5], 1))
    return Refused(
        Reason.CERTIFICATE_MISMATCH,
        f"fingerprint {certificate.fingerprint[:16]}…, subject {certificate.subject!r} and serial number "
        f"{certificate.serial_number} match none of the {len(bindings)} bindings ({shown})",
    )


def is_subject(written: str, certificate: ClientCertificate) -> bool:
    """Whether an operator's spelling of a subject is this certificate's.

    `CP-001` and `CN=CP-001` both mean its common name; a whole name may be written in either order (OpenSSL prints the
    reverse of RFC 4514), with or without blanks.
    """
    if not written.strip():
        return False
    if "=" not in written:
        return written.strip() == certificate.common_name
    parts = _parts(written)
    if len(parts) == 1 and parts[0][0] == "cn":
        return certificate.common_name != "" and parts[0][1] == certificate.common_name
    return sorted(parts) == sorted(_parts(certificate.subject))


def _fault(binding: Binding, what: str, charge_point_id: str, now: float) -> Refused | None:
    if binding.charge_point_id is not None and binding.charge_point_id != charge_point_id:
        return Refused(Reason.CERTIFICATE_OF_ANOTHER_STATION, f"{what} is for {binding.charge_point_id!r}")
    if binding.revoked:
        return Refused(Reason.CERTIFICATE_BINDING_REVOKED, f"{what} is revoked")
    if binding.valid_from is not None and now < binding.valid_from:
        return Refused(Reason.CERTIFICATE_BINDING_NOT_YET, f"{what} begins {rfc3339(binding.valid_from).decode()}")
    if binding.valid_to is not None and now > binding.valid_to:
        return Refused(Reason.CERTIFICATE_BINDING_OVER, f"{what} ended {rfc3339(binding.valid_to).decode()}")
    return None


def _has_name(certificate: ClientCertificate, written: str) -> bool:
    kind, _, value = written.partition(":")
    kind = {"IP ADDRESS": "IP", "IPADDRESS": "IP"}.get(kind.strip().upper(), kind.strip().upper())
    wanted = f"{kind}:{value.strip()}"
    if kind == "DNS":  # RFC 4343: names are compared without case
        return wanted.lower() in {name.lower() for name in certificate.names}
    return wanted in certificate.names


def _parts(name: str) -> list[tuple[str, str]]:
    """A distinguished name as (type in lower case, value) pairs; escapes of RFC 4514 section 2.4 are taken out.

    OpenSSL's other spelling, `/CN=CP-001/O=Operator`, is read too.
    """
    separator = "/" if name.startswith("/") else ","
    parts: list[tuple[str, str]] = []
    for part in _split(name.removeprefix("/"), separator):
        kind, _, value = part.partition("=")
        parts.append((kind.strip().lower(), value.strip().replace("\\", "")))
    return parts


def _split(name: str, separator: str) -> list[str]:
    parts, part, escaped = [], "", False
    for letter in name:
        if letter == separator and not escaped:
            parts.append(part)
            part = ""
        else:
            part += letter
        escaped = letter == "\\" and not escaped
    return [*parts, part] if part.strip() else parts

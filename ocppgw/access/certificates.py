"""A station's client certificate as facts, read once at the handshake; everything is text or seconds from here on.

Spellings are normalised so that what an operator pasted from `openssl x509` compares equal to what a station presents:
fingerprints (SHA-256 of the DER) and serial numbers are upper-case hex without colons, names are RFC 4514 text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtensionOID, NameOID

FINGERPRINT_DIGITS = 64
_HEX = re.compile(r"[0-9A-F]+")

# Short names an operator writes, beyond those RFC 4514 section 3 gives; OpenSSL prints these.
_SHORT_NAMES = {NameOID.EMAIL_ADDRESS: "emailAddress", NameOID.SERIAL_NUMBER: "serialNumber"}

_UNREADABLE = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

Link = tuple[str, str]  # one certificate of a chain: (issuer's RFC 4514 name, serial number)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a verified certificate says.

    `common_name` is "" when the subject has none or several; `names` are subjectAltName entries such as
    `DNS:cp-001.example`, `IP:192.0.2.1`, `URI:urn:cp:1`; times are seconds since the epoch. `chain` names the
    certificate and the intermediates above it (without the root), as they were verified; the certificate alone when a
    TLS session was resumed and its chain is not known.
    """

    fingerprint: str
    subject: str
    common_name: str
    organizations: tuple[str, ...]
    names: tuple[str, ...]
    serial_number: str
    issuer: str
    not_before: float
    not_after: float
    chain: tuple[Link, ...] = ()


def read_certificate(der: bytes, intermediates: Sequence[bytes] = ()) -> ClientCertificate:
    """The facts of a DER certificate and the chain it was verified with. ValueError when it can't be parsed."""
    try:
        return _read(der, intermediates)
    except Exception as error:  # strangers send anything: an unknown version, say, is no ValueError of cryptography's
        raise ValueError(f"the certificate can't be parsed: {error}") from error


def _read(der: bytes, intermediates: Sequence[bytes]) -> ClientCertificate:
    certificate = x509.load_der_x509_certificate(der)
    above = [x509.load_der_x509_certificate(one) for one in intermediates]
    return ClientCertificate(
        fingerprint=certificate.fingerprint(SHA256()).hex().upper(),
        subject=name_text(certificate.subject),
        common_name=_single(certificate.subject, NameOID.COMMON_NAME),
        organizations=_values(certificate.subject, NameOID.ORGANIZATION_NAME),
        names=_alternative_names(certificate),
        serial_number=serial_text(certificate.serial_number),
        issuer=name_text(certificate.issuer),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        chain=tuple((name_text(one.issuer), serial_text(one.serial_number)) for one in (certificate, *above)),
    )


def name_text(name: x509.Name) -> str:
    """RFC 4514 text, most specific part first: `CN=CP-001,O=Operator`."""
    return name.rfc4514_string(_SHORT_NAMES)


def serial_text(number: int) -> str:
    """Upper-case hex without leading zeros."""
    return f"{number:X}"


def normal_serial(text: str) -> str:
    """A serial number as people write it (colons, blanks, 0x, leading zeros), in the spelling used here; "" when it is
    no hexadecimal number."""
    digits = re.sub(r"[\s:]", "", text).upper().removeprefix("0X").lstrip("0") or "0"
    return digits if _HEX.fullmatch(digits) else ""


def normal_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as people write it, as 64 upper-case hex digits. ValueError says what it is not."""
    digits = re.sub(r"[\s:]", "", text.rpartition("=")[2]).upper()  # `openssl x509 -fingerprint` prints a name and =
    if len(digits) != FINGERPRINT_DIGITS or not _HEX.fullmatch(digits):
        raise ValueError(
            f"is no SHA-256 fingerprint ({FINGERPRINT_DIGITS} hex digits, colons allowed): "
            "openssl x509 -in station.pem -noout -fingerprint -sha256 prints it"
        )
    return digits


def _single(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    values = _values(name, oid)
    return values[0] if len(values) == 1 else ""


def _values(name: x509.Name, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    found = (attribute.value for attribute in name.get_attributes_for_oid(oid))
    return tuple(value if isinstance(value, str) else value.decode("utf-8", "replace") for value in found)


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except (x509.ExtensionNotFound, *_UNREADABLE):  # names that can't be read are nobody's
        return ()
    found = []
    for name in extension.value:  # type: ignore[attr-defined]
        match name:
            case x509.DNSName():
                found.append(f"DNS:{name.value}")
            case x509.UniformResourceIdentifier():
                found.append(f"URI:{name.value}")
            case x509.IPAddress():
                found.append(f"IP:{name.value}")
            case x509.RFC822Name():
                found.append(f"EMAIL:{name.value}")
    return tuple(found)

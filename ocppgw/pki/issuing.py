"""The making of certificates (RFC 5280): CAs, servers, stations.

Who signs is given as Credentials; what a certificate may be used for is a row of data (Profile). Keys are RSA 2048 or
P-256 and signatures SHA-256: the least that OCPP allows, and what every station knows.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ocppgw.access.certificates import name_text
from ocppgw.pki.pem import Credentials, PkiError, is_self_signed

DAY = 86400.0
CLOCK_SKEW = 3600.0  # certificates and CRLs begin this much earlier: the clocks of stations are not exact
ROOT_DAYS = 3650.0
ISSUING_DAYS = 1825.0
SERVER_DAYS = 365.0
STATION_DAYS = 365.0
RSA_BITS = 2048
MAX_NAME = 64  # characters of CN and O: RFC 5280 appendix A.1

_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
SerialNumbers = Callable[[], int]


@dataclass(frozen=True)
class Profile:
    """What a kind of certificate may do. `path_length` None: it is no CA; else how many CAs may stand below it."""

    usages: frozenset[str]
    path_length: int | None = None
    purposes: tuple[x509.ObjectIdentifier, ...] = ()


_CA = frozenset({"key_cert_sign", "crl_sign"})
# The TLS_RSA suites, two of the four that OCPP names, encrypt with the server's key.
_END = frozenset({"digital_signature", "key_encipherment"})
ROOT = Profile(_CA, path_length=1)
ISSUING = Profile(_CA, path_length=0)
SERVER = Profile(_END, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))
STATION = Profile(_END, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,))

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def new_key(*, is_rsa: bool = False) -> SigningKey:
    """A new private key: P-256, or RSA 2048."""
    return rsa.generate_private_key(65537, RSA_BITS) if is_rsa else ec.generate_private_key(ec.SECP256R1())


def make_root(
    organization: str,
    now: float,
    *,
    days: float = ROOT_DAYS,
    is_rsa: bool = True,
    serial_number: SerialNumbers = x509.random_serial_number,
) -> Credentials:
    """A root CA. RSA by default: every station can check its signatures, also one that knows no ECDSA."""
    key = new_key(is_rsa=is_rsa)
    subject = name("Development root CA", organization)
    window = (now - CLOCK_SKEW, now + days * DAY)
    itself = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = _builder(ROOT, subject, key.public_key(), subject, itself, window, serial_number())
    return Credentials(builder.sign(key, SHA256()), key)


def make_issuing(
    root: Credentials,
    organization: str,
    now: float,
    *,
    days: float = ISSUING_DAYS,
    is_rsa: bool = True,
    serial_number: SerialNumbers = x509.random_serial_number,
) -> Credentials:
    """A CA below `root` that signs the certificates of servers and stations."""
    key = new_key(is_rsa=is_rsa)
    subject = name("Development issuing CA", organization)
    certificate = issue(root, ISSUING, subject, key.public_key(), now, days=days, serial_number=serial_number())
    return Credentials(certificate, key, chain_below(root))


def make_server(
    issuer: Credentials,
    names: Sequence[str],
    now: float,
    *,
    days: float = SERVER_DAYS,
    is_rsa: bool = False,
    serial_number: SerialNumbers = x509.random_serial_number,
) -> Credentials:
    """A server's certificate for host names and IP addresses; the first of them is its CN, too."""
    if not names:
        raise PkiError("a server's certificate needs a host name or an IP address")
    key = new_key(is_rsa=is_rsa)
    certificate = issue(
        issuer,
        SERVER,
        name(names[0], organization_of(issuer.certificate)),
        key.public_key(),
        now,
        days=days,
        serial_number=serial_number(),
        names=[_server_name(text) for text in names],
    )
    return Credentials(certificate, key, chain_below(issuer))


def make_station(
    issuer: Credentials,
    common_name: str,
    now: float,
    *,
    organization: str | None = None,
    days: float = STATION_DAYS,
    is_rsa: bool = False,
    serial_number: SerialNumbers = x509.random_serial_number,
) -> Credentials:
    """A station's client certificate: CN is its id or its serial number, O the operator's name, by default
    the one in the issuer's certificate."""
    key = new_key(is_rsa=is_rsa)
    operator = organization_of(issuer.certificate) if organization is None else organization
    certificate = issue(
        issuer,
        STATION,
        name(common_name, operator),
        key.public_key(),
        now,
        days=days,
        serial_number=serial_number(),
    )
    return Credentials(certificate, key, chain_below(issuer))


def issue(
    issuer: Credentials,
    profile: Profile,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    now: float,
    *,
    days: float,
    serial_number: int,
    names: Iterable[x509.GeneralName] = (),
) -> x509.Certificate:
    """A certificate of `profile`, signed by `issuer` and never valid longer than the issuer itself."""
    ca, key = issuer.certificate, signing_key(issuer)
    begin = max(now - CLOCK_SKEW, ca.not_valid_before_utc.timestamp())
    end = min(now + days * DAY, ca.not_valid_after_utc.timestamp())
    if end <= now:
        raise PkiError(
            f"the CA {name_text(ca.subject)} ran out on {ca.not_valid_after_utc:%Y-%m-%d}", hint="make a new CA"
        )
    builder = _builder(profile, subject, public_key, ca.subject, key_identifier(ca), (begin, end), serial_number)
    listed = list(names)
    if listed:
        builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    return builder.sign(key, SHA256())


def chain_below(issuer: Credentials) -> tuple[x509.Certificate, ...]:
    """What goes with a certificate that `issuer` signs: the CAs above it, without the root."""
    return () if is_self_signed(issuer.certificate) else (issuer.certificate, *issuer.chain)


def name(common_name: str, organization: str = "") -> x509.Name:
    """CN, and O unless it is empty. PkiError when one is too long for a certificate, or empty."""
    for what, text in (("common name", common_name), ("organization", organization)):
        if len(text) > MAX_NAME:
            raise PkiError(f"the {what} {text!r} is longer than the {MAX_NAME} characters a certificate has for it")
    if not common_name:
        raise PkiError("a certificate needs a common name")
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def organization_of(certificate: x509.Certificate) -> str:
    """The O of its subject, "" without one."""
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else ""


def signing_key(issuer: Credentials) -> SigningKey:
    """The CA's key; PkiError when it is of a kind that OCPP's stations can't check."""
    if not isinstance(issuer.key, SigningKey):
        raise PkiError(f"the key of {name_text(issuer.certificate.subject)} is neither RSA nor ECDSA")
    return issuer.key


def key_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Names the CA's key in what it signs, as the CA's own certificate names it."""
    try:
        own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def moment(seconds: float) -> datetime:
    """Certificates count whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC)


def _server_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if "*" in text:
        raise PkiError(f"{text!r} is a wildcard", hint="OCPP forbids them in server certificates: name each host")
    if not _HOST.fullmatch(text):
        raise PkiError(
            f"{text!r} is neither a host name nor an IP address", hint="write other scripts than ASCII as xn--…"
        )
    return x509.DNSName(text)


def _builder(
    profile: Profile,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    issuer_key: x509.AuthorityKeyIdentifier,
    window: tuple[float, float],
    serial_number: int,
) -> x509.CertificateBuilder:
    is_ca = profile.path_length is not None
    usages = {usage: usage in profile.usages for usage in _USAGES}
    if not isinstance(public_key, rsa.RSAPublicKey):
        usages["key_encipherment"] = False
    builder = (
        x509.CertificateBuilder(issuer, subject, public_key, serial_number, moment(window[0]), moment(window[1]))
        .add_extension(x509.BasicConstraints(is_ca, profile.path_length), critical=True)
        .add_extension(x509.KeyUsage(**usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    if profile.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.purposes), critical=False)
    return builder

"""The gateway's own certificates: chain files and keys, read and checked before anything uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from ocppgw.access.certificates import name_text
from ocppgw.net.tls.files import Findings, day, pem_blocks

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

ENDS_SOON_SECONDS = 14 * 86_400
_MIN_RSA_BITS = 2048  # OpenSSL's security level 2 takes no less
_KEY_LABELS = (b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")


@dataclass(frozen=True, slots=True)
class Credential:
    """A server certificate with its key; `chain` is the leaf and what was in the file above it. `kind` is RSA or EC."""

    kind: str
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey
    path: Path

    def __repr__(self) -> str:
        return f"<Credential {self.kind} {self.path}>"  # never the key


def read_credentials(findings: Findings, name: str, pairs: Sequence[tuple[Path, Path]]) -> tuple[Credential, ...]:
    """The usable ones of these certificate and key files (one file may be both); at most one of each kind."""
    credentials: dict[str, Credential] = {}
    for certificate_path, key_path in pairs:
        credential = _credential(findings, certificate_path, key_path)
        if credential is None:
            continue
        other = credentials.setdefault(credential.kind, credential)
        if other is not credential:
            findings.problem(
                certificate_path,
                f"is a second {credential.kind} certificate beside {other.path} (one RSA and one EC for each name)",
            )
        _check_name(findings, name, credential)
    return tuple(credentials.values())


def alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def public_bytes(key: object) -> bytes:
    """A public key's DER, for comparing."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    """Whether `above` issued `below`: name and signature."""
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _credential(findings: Findings, certificate_path: Path, key_path: Path) -> Credential | None:
    data = findings.read(certificate_path)
    chain = findings.certificates(certificate_path, data)
    if key_path != certificate_path:
        data = findings.read(key_path)
    keys = _keys(findings, key_path, data)
    if not chain or not keys:
        return None
    _check_chain(findings, certificate_path, chain)
    wanted = public_bytes(chain[0].public_key())
    key = next((key for key in keys if public_bytes(key.public_key()) == wanted), None)
    if key is None:
        findings.problem(
            key_path,
            f"holds no key for the certificate {name_text(chain[0].subject)} of {certificate_path} "
            "(give each certificate its own key, the leaf certificate first in its file)",
        )
        return None
    return Credential("RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC", tuple(chain), key, certificate_path)


def _keys(findings: Findings, path: Path, data: bytes) -> list[PrivateKey]:
    """The private keys of a PEM file. Nothing of a key ever gets into a sentence."""
    blocks = pem_blocks(data, *_KEY_LABELS)
    if not blocks and data.strip():
        findings.problem(path, "holds no private key in PEM (BEGIN PRIVATE KEY) (is it the right file?)")
    elif blocks and path in findings.readable_by_others:
        findings.warn(path, f"the key can be read by others (chmod 600 {path})")
    return [key for block in blocks if (key := _key(findings, path, block)) is not None]


def _key(findings: Findings, path: Path, block: bytes) -> PrivateKey | None:
    try:
        key = load_pem_private_key(block, None)
    except TypeError:
        mend = f"decrypt it: openssl pkey -in {path} -out NEW.pem, readable by the gateway alone"
        findings.problem(path, f"the key is encrypted ({mend})")
        return None
    except (ValueError, UnsupportedAlgorithm):
        findings.problem(path, "the key can't be parsed (PKCS #8, PKCS #1 and SEC 1 in PEM can: get it anew)")
        return None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _MIN_RSA_BITS:
        findings.problem(path, f"an RSA key of {key.key_size} bits is too weak (at least {_MIN_RSA_BITS})")
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return key
    findings.problem(path, "the key is neither RSA nor EC (stations know no other)")
    return None


def _check_chain(findings: Findings, path: Path, chain: list[x509.Certificate]) -> None:
    for number, certificate in enumerate(chain, 1):
        check_dates(findings, path, certificate, "" if number == 1 else f"certificate {number} of the chain ")
    for number, (below, above) in enumerate(pairwise(chain), 1):
        if not issued(below, above):
            findings.problem(
                path,
                f"certificate {number + 1} ({name_text(above.subject)}) did not issue certificate {number} "
                f"({name_text(below.subject)}) (the leaf comes first, then each one's issuer)",
            )
    if not _for_servers(chain[0]):
        findings.warn(path, "the certificate isn't for servers (its extendedKeyUsage has no serverAuth): get another")


def check_dates(findings: Findings, path: Path, certificate: x509.Certificate, which: str) -> None:
    """Ended or not begun is a problem, ending soon a doubt."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    what = f"{which}{name_text(certificate.subject)}"
    if ends.timestamp() < findings.now:
        findings.problem(path, f"{what} ended on {day(ends)} (get a new one; check the clock)")
    elif begins.timestamp() > findings.now:
        findings.problem(path, f"{what} is valid from {day(begins)} only (check the clock)")
    elif ends.timestamp() - findings.now < ENDS_SOON_SECONDS:
        findings.warn(path, f"{what} ends on {day(ends)}: get a new one")


def _for_servers(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _check_name(findings: Findings, name: str, credential: Credential) -> None:
    if name and not any(covers(pattern, name) for pattern in alternative_names(credential.chain[0])):
        names = ", ".join(alternative_names(credential.chain[0])) or "none"
        findings.warn(credential.path, f"is not for {name} (its names: {names}): stations that check will refuse it")


def covers(pattern: str, name: str) -> bool:
    """Whether a certificate's DNS name is this one (RFC 6125 section 6.4.3: `*` is the whole leftmost label)."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*.") and not name.startswith("*."):
        return pattern[1:] == name[name.find(".") :] if "." in name else False
    return pattern == name

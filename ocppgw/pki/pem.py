"""PEM text (RFC 7468) ↔ certificates and keys.

Errors name `source` (a file, or what the text is) and the mend; they never quote the text, which may hold a key.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ocppgw.access.certificates import name_text
from ocppgw.errors import OcppgwError


class PkiError(OcppgwError):
    """A certificate, key or CRL can't be used, made or written."""

    code = "PkiUnusable"


@dataclass(frozen=True)
class Credentials:
    """A certificate with its key. `chain` holds the CA certificates above it, issuer first, without the root."""

    certificate: x509.Certificate
    key: PrivateKeyTypes = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def chain_pem(self) -> bytes:
        """The certificate and the chain above it."""
        return certificates_pem((self.certificate, *self.chain))

    @property
    def pem(self) -> bytes:
        """Key, certificate and chain: what a server or a station is given as one file."""
        return key_pem(self.key) + self.chain_pem


def certificates_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Certificates one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def key_pem(key: PrivateKeyTypes) -> bytes:
    """The key in PKCS #8, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_certificates(pem: bytes, source: str) -> list[x509.Certificate]:
    """All certificates in a PEM text, in their order; PkiError when there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise PkiError(
            f"{source} holds no readable certificate",
            hint="PEM is expected: openssl x509 -inform DER -in FILE -out FILE.pem converts a binary one",
        ) from error


def parse_key(pem: bytes, source: str) -> PrivateKeyTypes:
    """The private key in a PEM text, which may hold certificates too."""
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise PkiError(
            f"the private key in {source} is protected by a passphrase",
            hint="nobody is there to type it: openssl pkey -in FILE -out KEY.pem, and keep KEY.pem private",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(
            f"{source} holds no readable private key",
            hint="PEM is expected (-----BEGIN PRIVATE KEY-----), not encrypted",
        ) from error


def parse_credentials(pem: bytes, source: str, key: bytes | None = None, key_source: str = "") -> Credentials:
    """Certificate first, then its chain, from `pem`; the key from `key`, or from `pem` too. PkiError when they don't
    belong together. A root at the chain's end is left out: whoever trusts it has it."""
    certificate, *above = parse_certificates(pem, source)
    where = source if key is None else key_source
    private = parse_key(pem if key is None else key, where)
    if _spki(private.public_key()) != _spki(_public_key(certificate, source)):
        raise PkiError(
            f"the private key in {where} is not that of the first certificate in {source}, "
            f"{name_text(certificate.subject)}",
            hint="the certificate itself comes first, then the CA that signed it, then the one above",
        )
    return Credentials(certificate, private, tuple(one for one in above if not is_self_signed(one)))


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it is its own issuer, as roots are."""
    return is_issued_by(certificate, certificate)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` is named as its issuer and has signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: a key that doesn't sign
        return False
    return True


def _public_key(certificate: x509.Certificate, source: str) -> CertificatePublicKeyTypes:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(f"the first certificate in {source} has a kind of key that can't be read") from error


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

"""Certificates, keys and CRLs for tests, good and bad ones. Keys are kept, because RSA ones take long to make."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = 1_800_000_000.0  # for tests that own the clock; those with real handshakes pass time.time()
DAY = 86_400.0

_serials = itertools.count(0x1000)


@dataclass(frozen=True)
class Made:
    """A certificate with its key, and the certificates above it without the root."""

    certificate: x509.Certificate
    key: Any
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain_pem(self) -> bytes:
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.above))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def pem(self) -> bytes:
        return self.key_pem + self.chain_pem

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(SHA256()).hex().upper()


@functools.cache
def key(kind: str, label: str) -> Any:
    """The same key for the same arguments, in one process. `kind` is ec (P-256), rsa (2048) or rsa1024."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, {"rsa": 2048, "rsa1024": 1024}[kind])


def make_ca(
    name: str, issuer: Made | None = None, *, kind: str = "ec", now: float = NOW, days: float = 3650, **more: Any
) -> Made:
    """A root, or an intermediate of `issuer`."""
    usage = x509.KeyUsage(False, False, False, False, False, True, more.pop("crl_sign", True), False, False)
    extensions = [(x509.BasicConstraints(True, more.pop("path_length", None)), True), (usage, True)]
    return _make(name, issuer, kind, now, days, extensions, **more)


def make_server(issuer: Made, *names: str, kind: str = "ec", now: float = NOW, days: float = 90, **more: Any) -> Made:
    extensions = [
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(name) for name in names or ("localhost",)]), False),
    ]
    return _make(names[0] if names else "localhost", issuer, kind, now, days, extensions, **more)


def make_station(
    issuer: Made | None, station_id: str, *, kind: str = "ec", now: float = NOW, days: float = 90, **more: Any
) -> Made:
    """`usage` other than CLIENT_AUTH makes it unfit for a station."""
    usage = more.pop("usage", ExtendedKeyUsageOID.CLIENT_AUTH)
    return _make(station_id, issuer, kind, now, days, [(x509.ExtendedKeyUsage([usage]), False)], **more)


def make_crl(
    issuer: Made, revoked: Iterable[Made] = (), *, now: float = NOW, days: float = 7, extensions: Sequence[Any] = ()
) -> x509.CertificateRevocationList:
    """`extensions` are pairs of an extension and whether it is critical; negative `days` make it out of date."""
    begins = now - 3600 if days > 0 else now + days * DAY - 3600
    builder = x509.CertificateRevocationListBuilder(
        issuer.certificate.subject, _moment(begins), _moment(now + days * DAY)
    )
    builder = builder.add_extension(_key_id(issuer), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for made in revoked:
        entry = x509.RevokedCertificateBuilder(made.certificate.serial_number, _moment(begins)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, SHA256())


def crl_pem(*crls: x509.CertificateRevocationList) -> bytes:
    return b"".join(crl.public_bytes(Encoding.PEM) for crl in crls)


def write(path: Path, *parts: bytes) -> Path:
    """As an operator writes a key file: for the owner alone."""
    path.write_bytes(b"".join(parts))
    path.chmod(0o600)
    return path


def _make(
    name: str,
    issuer: Made | None,
    kind: str,
    now: float,
    days: float,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    *,
    label: str = "",
    organization: str = "Operator",
    begins: float | None = None,
) -> Made:
    own_key = key(kind, label or name)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    )
    signer = issuer.key if issuer else own_key
    builder = x509.CertificateBuilder(
        issuer.certificate.subject if issuer else subject,
        subject,
        own_key.public_key(),
        next(_serials),
        _moment(now - DAY if begins is None else begins),
        _moment(now + days * DAY),
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()), False)
    if issuer:
        builder = builder.add_extension(_key_id(issuer), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    above = (
        (issuer.certificate, *issuer.above)
        if issuer and issuer.certificate.issuer != issuer.certificate.subject
        else ()
    )
    return Made(builder.sign(signer, SHA256()), own_key, above)


def _key_id(issuer: Made) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)

"""What the TLS listeners are made of: certificates, keys, CAs and CRLs, read and checked as a whole or not at all.

`load` reads disk and verifies signatures: call it in a thread. It finds every fault of every file before it gives up,
so that an operator mends them in one go, and it never changes anything: the old material stays in use until the new
one is whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography import x509

from ocppgw.access.certificates import name_text
from ocppgw.errors import OcppgwError
from ocppgw.net.tls.credentials import Credential, alternative_names, check_dates, issued, read_credentials
from ocppgw.net.tls.crl import CrlRules, Crls, read_crls
from ocppgw.net.tls.files import Findings

DEFAULT = ""  # the name of what is used when a station sends no SNI, or one that isn't in the map

# TLS 1.2: forward secrecy first; the last two are for OCPP 2.0.1 part 2, A00.FR.318, which demands them of everybody.
CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
    )
)


class TlsMaterialError(OcppgwError):
    """The certificates, keys, CAs or CRLs can't be used; the message lists every problem found."""

    code = "TlsMaterialInvalid"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class TlsFiles(msgspec.Struct, frozen=True):
    """Which files, and the rules for using them.

    `key_paths` are as many as `cert_paths`, or none when the certificate files hold their keys; `sni` maps a server
    name (`*.example.com` for a whole domain) to files of key and chain. `crl_check` is none, leaf or chain;
    `crl_expired` and `crl_missing` are refuse or accept; `ciphers` is OpenSSL's list for TLS 1.2; `session_seconds`
    says how long a session may be resumed, 0 for never.
    """

    cert_paths: tuple[Path, ...]
    key_paths: tuple[Path, ...] = ()
    sni: Mapping[str, Sequence[Path]] = {}
    ca_paths: tuple[Path, ...] = ()
    crl_paths: tuple[Path, ...] = ()
    crl_check: str = "none"
    crl_expired: str = "refuse"
    crl_missing: str = "refuse"
    min_version: str = "TLSv1.2"
    ciphers: str = CIPHERS
    session_seconds: int = 3600


class CertificateInfo(NamedTuple):
    """For the status page. `name` is the SNI it is served for, "" for the default; `not_after` in seconds."""

    name: str
    subject: str
    names: tuple[str, ...]
    not_after: float
    key_type: str
    path: str


class CrlInfo(NamedTuple):
    """For the status page. Times are seconds since the epoch, `next_update` infinite when there is none."""

    issuer: str
    this_update: float
    next_update: float
    entries: int
    path: str


@dataclass(frozen=True, slots=True)
class Material:
    """Checked material. `names` has the default under ""; `digest` changes with any file or rule."""

    files: TlsFiles
    names: Mapping[str, tuple[Credential, ...]]
    authorities: tuple[x509.Certificate, ...]
    crls: Crls
    digest: str
    warnings: tuple[str, ...]

    @property
    def certificates(self) -> tuple[CertificateInfo, ...]:
        return tuple(
            CertificateInfo(
                name,
                name_text(one.chain[0].subject),
                alternative_names(one.chain[0]),
                one.chain[0].not_valid_after_utc.timestamp(),
                one.kind,
                str(one.path),
            )
            for name, credentials in self.names.items()
            for one in credentials
        )

    @property
    def revocation_lists(self) -> tuple[CrlInfo, ...]:
        return tuple(
            CrlInfo(crl.issuer, crl.this_update, crl.next_update, len(crl.serials), str(crl.path))
            for crl in self.crls.crls
        )


def load(files: TlsFiles, now: float) -> Material:
    """Read and check everything. Blocks. Errors: TlsMaterialError with all that is wrong."""
    findings = Findings(now)
    names = _read_names(findings, files)
    authorities = _read_authorities(findings, files)
    crls = Crls(read_crls(findings, files.crl_paths, authorities), _crl_rules(files))
    _check_use_of_crls(findings, files)
    if findings.problems:
        raise TlsMaterialError(findings.problems)
    findings.contents.update(repr(files).encode())
    digest = findings.contents.hexdigest()
    return Material(files, names, authorities, crls, digest, tuple(findings.warnings))


def _read_names(findings: Findings, files: TlsFiles) -> dict[str, tuple[Credential, ...]]:
    keys = files.key_paths or files.cert_paths
    if not files.cert_paths:
        findings.problem("tls.cert_path", "names no certificate (give one RSA and one EC certificate, or one of them)")
    if len(keys) != len(files.cert_paths):
        findings.problem("tls.key_path", "must name as many files as tls.cert_path (or none: keys in the same files)")
    names = {DEFAULT: read_credentials(findings, DEFAULT, list(zip(files.cert_paths, keys, strict=False)))}
    for name, paths in files.sni.items():
        if not paths:
            findings.problem(f"tls.sni {name}", "names no file (each is PEM with key and chain)")
        names[name.lower().rstrip(".")] = read_credentials(findings, name, [(path, path) for path in paths])
    return names


def _read_authorities(findings: Findings, files: TlsFiles) -> tuple[x509.Certificate, ...]:
    found: dict[x509.Certificate, None] = {}
    for path in files.ca_paths:
        certificates = findings.certificates(path, findings.read(path))
        authorities = [one for one in certificates if _is_authority(one)]
        if certificates and not authorities:
            findings.problem(path, "holds no CA certificate (put the CA that signs the stations' certificates there)")
        for certificate in certificates:
            _check_authority(findings, path, certificate)
        found.update(dict.fromkeys(authorities))
    return tuple(found)


def _check_authority(findings: Findings, path: Path, certificate: x509.Certificate) -> None:
    if not _is_authority(certificate):
        findings.warn(path, f"{name_text(certificate.subject)} is no CA certificate and is left out")
        return
    dates = Findings(findings.now)
    check_dates(dates, path, certificate, "the CA ")
    findings.warnings += dates.problems + dates.warnings  # one CA that has ended must not shut out the others' stations


def _is_authority(certificate: x509.Certificate) -> bool:
    """A version 1 root has no extension to say so (RFC 5280 section 6.1.4 k): it counts when it signed itself."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.version == x509.Version.v1 and issued(certificate, certificate)
    except ValueError:
        return False


def _crl_rules(files: TlsFiles) -> CrlRules:
    return CrlRules(files.crl_check, files.crl_expired, files.crl_missing)


def _check_use_of_crls(findings: Findings, files: TlsFiles) -> None:
    if files.crl_check != "none" and not files.crl_paths and files.crl_missing == "refuse":
        findings.problem(
            "tls.crl_path",
            f'is empty, but tls.crl_check is "{files.crl_check}": every station would be refused '
            '(add the CRLs, or set tls.crl_check = "none")',
        )
    if files.crl_paths and files.crl_check == "none":
        findings.warn("tls.crl_path", 'is read for nothing while tls.crl_check is "none"')

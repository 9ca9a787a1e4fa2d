"""Real certificates for tests that speak TLS, made once a run, and what a station and a gateway need of them.

A test module takes the fixtures `pki` and `served` from here with

    pytest_plugins = ("tests.integration.certificates",)

The CAs sign with RSA 2048; stations have P-256 keys, or RSA 2048 where a test asks for it. Everything is in files, as
operators have it. (PYTEST_DONT_REWRITE: modules that use it import it before pytest takes it for a plugin.)
"""

import hashlib
import select
import shutil
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ocppgw.pki import Credentials, PkiFolder, make_crl, make_root, make_station
from ocppgw.pki.files import read_credentials

OPERATOR = "Operator"
NAMES = ("localhost", "127.0.0.1")
DAY = 86_400.0
AGE = 20 * DAY  # of the CAs: so a certificate of theirs can have run out already
VERDICT_SECONDS = 2.0  # a gateway without sessions sends no tickets
SALT = "pepper-and-salt"

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Certificate:
    """A station's certificate and its file of key, certificate and chain."""

    path: Path
    credentials: Credentials

    @property
    def fingerprint(self) -> str:
        """SHA-256, upper case, no colons."""
        return fingerprint(self.credentials.certificate)

    @property
    def binding(self) -> JsonObject:
        return {"fingerprint": self.fingerprint, "status": "active"}


class TlsClient(ssl.SSLContext):
    """A station's end of TLS: it verifies the gateway by `root`. After `keep`, its next connections try to resume the
    session of the last one; `resumed` tells whether the last one did."""

    session: ssl.SSLSession | None = None
    resumed = False
    _last: ssl.SSLSocket | ssl.SSLObject

    def __new__(cls, *_arguments: Any) -> "TlsClient":
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, root: Path, certificate: Path | None = None, version: ssl.TLSVersion | None = None) -> None:
        """`version`: this one alone."""
        self.load_verify_locations(root)
        if certificate is not None:
            self.load_cert_chain(certificate)
        if version is not None:
            self.minimum_version = self.maximum_version = version

    def wrap_socket(self, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        self._last = made = super().wrap_socket(*arguments, **{**more, "session": self.session})
        self.resumed = bool(made.session_reused)
        if made.version() == "TLSv1.3":
            _await_verdict(made)
        return made

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """(For asyncio, which shakes hands later.)"""
        self._last = made = super().wrap_bio(*arguments, **{**more, "session": self.session})
        return made

    def keep(self) -> None:
        """While connected; on asyncio after something was received."""
        self.session = self._last.session
        self.resumed = bool(self._last.session_reused)


class Pki:
    """A development PKI in a folder (see `ocppgw.pki.PkiFolder`), and beside it a CA that no gateway knows."""

    def __init__(self, folder: Path) -> None:
        self.files = PkiFolder(folder / "pki")
        self.files.create(OPERATOR, NAMES, time.time() - AGE)
        self.files.refresh_crls(time.time())
        self.issuing = read_credentials(self.files.issuing, self.files.issuing_key)
        self._stations = folder / "stations"
        self._stations.mkdir()
        self._foreign = make_root("Somebody else", time.time(), is_rsa=False)

    def station(self, common_name: str, *, organization: str = OPERATOR, is_rsa: bool = False) -> Certificate:
        made = make_station(self.issuing, common_name, time.time(), organization=organization, is_rsa=is_rsa)
        return self._written(made)

    def expired(self, common_name: str) -> Certificate:
        """It ran out yesterday."""
        return self._written(make_station(self.issuing, common_name, time.time() - 2 * DAY, days=1))

    def foreign(self, common_name: str) -> Certificate:
        """Signed by the CA that no gateway knows, in the operator's name."""
        return self._written(make_station(self._foreign, common_name, time.time(), organization=OPERATOR))

    def client(self, certificate: Certificate | None = None, version: ssl.TLSVersion | None = None) -> TlsClient:
        return TlsClient(self.files.root, certificate and certificate.path, version)

    def tls(self, **more: Any) -> JsonObject:
        """The [tls] table of a gateway whose files stay as they are."""
        return {
            "enabled": True,
            "cert_path": [str(path) for path in self.files.servers],
            "ca_path": [str(self.files.clients)],
            "crl_path": [str(path) for path in self.files.crls],
            "crl_check": "chain",
            "reload_seconds": 0,
            "crl_reload_seconds": 0,
            **more,
        }

    def signing(self) -> JsonObject:
        """The [signing] table of a gateway with a local CA."""
        return {
            "mode": "local",
            "ca_cert_path": str(self.files.issuing),
            "ca_key_path": str(self.files.issuing_key),
        }

    def _written(self, made: Credentials) -> Certificate:
        path = self._stations / f"{fingerprint(made.certificate)}.pem"
        path.write_bytes(made.pem)
        return Certificate(path, made)


class ServedFiles:
    """TLS files of one gateway, to be swapped while it runs: copies in a folder of its own."""

    def __init__(self, folder: Path, pki: Pki) -> None:
        self._pki = pki
        self._folder = folder
        folder.mkdir(parents=True)
        self.servers = [Path(shutil.copy(path, folder)) for path in pki.files.servers]
        self.crls = [Path(shutil.copy(path, folder)) for path in pki.files.crls]

    def tls(self, **more: Any) -> JsonObject:
        """The [tls] table of its gateway."""
        files = {"cert_path": list(map(str, self.servers)), "crl_path": list(map(str, self.crls))}
        return self._pki.tls(**files, **more)

    def revoke(self, *certificates: Certificate) -> None:
        """Put a CRL in place that has these, too. It takes effect with the next reload."""
        path = self.crls[1]  # of the issuing CA
        crl = x509.load_pem_x509_crl(path.read_bytes())
        for certificate in certificates:
            leaf = certificate.credentials.certificate
            crl = make_crl(self._pki.issuing, time.time(), previous=crl, revoke=leaf)
        _replace(path, crl.public_bytes(Encoding.PEM))

    def renew(self) -> list[str]:
        """Put new certificates of the gateway in place; their fingerprints."""
        made = self._pki.files.add_server(NAMES, time.time(), replace=True)
        for old, new in zip(self.servers, made, strict=True):
            _replace(old, new.read_bytes())
        return self.fingerprints()

    def fingerprints(self) -> list[str]:
        return [fingerprint(x509.load_pem_x509_certificate(path.read_bytes())) for path in self.servers]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> ServedFiles:
    return ServedFiles(tmp_path_factory.mktemp("served") / "tls", pki)


# --- identities


def basic_identity(charge_point_id: str, password: str | bytes, **auth: Any) -> JsonObject:
    """An identity of the outside contract, section 2, with a salted SHA-256."""
    octets = password.encode() if isinstance(password, str) else password
    digest = hashlib.sha256(SALT.encode() + octets).hexdigest()
    secret = {"type": "basic", "hashAlgorithm": "sha256", "secretHash": digest, "secretSalt": SALT}
    return identity(charge_point_id, **{**secret, **auth})


def mtls_identity(charge_point_id: str, certificates: Iterable[Certificate] = (), **auth: Any) -> JsonObject:
    """One that binds these certificates by their fingerprints."""
    bindings = [certificate.binding for certificate in certificates]
    return identity(charge_point_id, **{"type": "mtls", "certificates": bindings, **auth})


def identity(charge_point_id: str, **auth: Any) -> JsonObject:
    return {
        "chargePointId": charge_point_id,
        "stationId": f"station-{charge_point_id}",
        "tenantId": "tenant-1",
        "status": "active",
        "auth": auth,
    }


# --- bits and pieces


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex().upper()


def new_request(common_name: str) -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A key and the PEM certificate request that a station sends for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    request = x509.CertificateSigningRequestBuilder(x509.Name(names)).sign(key, SHA256())
    return key, request.public_bytes(Encoding.PEM).decode()


def free_port() -> int:
    """A port nobody has now, for `websocket.more_ports`, which can't leave the choice to the system."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_verdict(peer: ssl.SSLSocket) -> None:
    """TLS 1.3 tells a client only after its own handshake that it is let in (by session tickets) or refused (by an
    alert, raised as SSLError).

    Waited for here, because an alert may be lost when something is written at the same time; and because two threads
    must not be inside OpenSSL when tickets come: `websockets` reads in a thread of its own, and CPython before 3.12.8
    and 3.13.1 has no lock for that. One request in a thousand was never sent.
    """
    limit, wait = peer.gettimeout(), VERDICT_SECONDS
    peer.settimeout(0)
    try:
        while select.select([peer], [], [], wait)[0]:
            wait = 0.0
            with suppress(ssl.SSLWantReadError):
                if not peer.recv(1):
                    raise ConnectionResetError("the gateway closed the connection")
    finally:
        peer.settimeout(limit)


def _replace(path: Path, data: bytes) -> None:
    """At once, as an operator's tool would: a gateway that reads it meanwhile sees the old file or the new one."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.chmod(0o600)
    new.replace(path)

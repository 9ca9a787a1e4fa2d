"""The certificates of the TLS rows: a PKI in the bench's folder, made by what `ocppgw pki` uses.

Every station has a certificate of its own, as in the field. They share a key: making hundreds of RSA keys would take
longer than the bench, and no server compares keys.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ocppgw.pki import Credentials, PkiFolder, new_key
from ocppgw.pki.files import read_credentials, write_private
from ocppgw.pki.issuing import STATION, STATION_DAYS, chain_below, issue, name

P256, RSA_2048 = "P-256", "RSA-2048"
KINDS = (P256, RSA_2048)
SERVER_NAME = "localhost"
GUEST, STRANGER, REVOKED = "READY-1", "READY-2", "REVOKED-1"  # those a server is tried with


class Certificates:
    """Server and stations with keys of this kind, in `folder`, and the CRLs on which the one revoked station is.

    The stations' identities are in `identities`, each bound to its own certificate.
    """

    def __init__(self, folder: Path, kind: str, station_ids: Iterable[str]) -> None:
        is_rsa = kind == RSA_2048
        self._pki = PkiFolder(folder / "pki")
        self._pki.create("Bench", [SERVER_NAME], time.time())
        self._pki.add_station(REVOKED, time.time(), is_rsa=is_rsa)
        self._pki.revoke(REVOKED, time.time())
        self._issuing = read_credentials(self._pki.issuing, self._pki.issuing_key)
        self._key = new_key(is_rsa=is_rsa)
        self.server = self._pki.servers[0 if is_rsa else 1]  # key, certificate and chain
        self.identities = folder / "identities"
        self.identities.mkdir()
        self.root, self.authorities, self.crls = self._pki.root, self._pki.clients, self._pki.crls
        for station_id in (GUEST, STRANGER, *station_ids):
            self._make(station_id)

    def station(self, station_id: str) -> Path:
        """Key, certificate and chain of a station."""
        return self._pki.station_file(station_id)

    def _make(self, station_id: str) -> None:
        certificate = issue(
            self._issuing,
            STATION,
            name(station_id, "Bench"),
            self._key.public_key(),
            time.time(),
            days=STATION_DAYS,
            serial_number=x509.random_serial_number(),
        )
        write_private(self.station(station_id), Credentials(certificate, self._key, chain_below(self._issuing)).pem)
        fingerprint = certificate.fingerprint(SHA256()).hex().upper()
        (self.identities / f"{station_id}.json").write_text(json.dumps(_identity(station_id, fingerprint)))


def _identity(station_id: str, fingerprint: str) -> dict[str, object]:
    """What the gateway is told: this station comes with this certificate, or not at all."""
    binding = {"fingerprint": fingerprint, "chargePointId": station_id, "status": "active"}
    return {
        "chargePointId": station_id,
        "stationId": station_id,
        "tenantId": "bench",
        "status": "active",
        "auth": {"type": "mtls", "certificates": [binding]},
    }

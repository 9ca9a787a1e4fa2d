"""A development PKI in a folder, for `ocppgw pki` and for tests:

    ca/root.pem, root.key, root.crl.pem              the root CA, its key, its CRL
    ca/issuing.pem, issuing.key, issuing.crl.pem     the CA below it, which signs everything else
    ca/clients.pem                                   both CA certificates: what the gateway trusts
    server/rsa.pem, ecdsa.pem, NAME-rsa.pem, …       servers: key, certificate and chain
    stations/CP-001.pem                              stations: key, certificate and chain

Everything here blocks.
"""

import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ocppgw.access.certificates import name_text
from ocppgw.pki.files import read, read_certificates, read_credentials, write_private, write_public
from ocppgw.pki.issuing import SERVER_DAYS, STATION_DAYS, make_issuing, make_root, make_server, make_station
from ocppgw.pki.pem import Credentials, PkiError, certificates_pem, is_issued_by, key_pem
from ocppgw.pki.revocation import CRL_DAYS, make_crl, parse_crl

AUTHORITIES = ("root", "issuing")
KINDS = ("rsa", "ecdsa")


class PkiFolder:
    """The files of one PKI. Nothing is read or written before a method is called; all raise PkiError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "ca" / "root.pem"
        self.issuing = path / "ca" / "issuing.pem"
        self.issuing_key = path / "ca" / "issuing.key"
        self.clients = path / "ca" / "clients.pem"
        self.crls = tuple(path / "ca" / f"{name}.crl.pem" for name in AUTHORITIES)
        self.servers = tuple(path / "server" / f"{kind}.pem" for kind in KINDS)
        self._known: dict[str, Credentials] = {}  # reading an RSA key checks it, which takes a while

    def station_file(self, station_id: str) -> Path:
        """Where a station's certificate is. The id is written as in the station's URL, percent-encoded."""
        return self.path / "stations" / f"{urllib.parse.quote(station_id, safe='')}.pem"

    def server_files(self, host: str) -> tuple[Path, ...]:
        """Where the certificates of one more server are: RSA, ECDSA."""
        name = urllib.parse.quote(host, safe="")
        return tuple(self.path / "server" / f"{name}-{kind}.pem" for kind in KINDS)

    def create(self, organization: str, names: Sequence[str], now: float, *, replace: bool = False) -> None:
        """Both CAs with empty CRLs, and the gateway's own certificates for `names`."""
        if self.root.exists() and not replace:
            raise PkiError(
                f"there is a PKI in {self.path} already",
                hint="nothing was changed; --force makes a new one, and what this one has signed is worthless then",
            )
        root = make_root(organization, now)
        issuing = make_issuing(root, organization, now)
        servers = [make_server(issuing, names, now, is_rsa=kind == "rsa") for kind in KINDS]
        for name, authority in zip(AUTHORITIES, (root, issuing), strict=True):
            self._write_authority(name, authority, now, replace)
        write_public(self.clients, certificates_pem((root.certificate, issuing.certificate)), replace=replace)
        for path, server in zip(self.servers, servers, strict=True):
            write_private(path, server.pem, replace=replace)

    def add_server(
        self, names: Sequence[str], now: float, *, days: float = SERVER_DAYS, replace: bool = False
    ) -> tuple[Path, ...]:
        """One more pair of server certificates, RSA and ECDSA; the files are named after the first name."""
        issuing = self._authority("issuing")
        paths = self.server_files(names[0])
        servers = [make_server(issuing, names, now, days=days, is_rsa=kind == "rsa") for kind in KINDS]
        for path, server in zip(paths, servers, strict=True):
            write_private(path, server.pem, replace=replace)
        return paths

    def add_station(
        self,
        station_id: str,
        now: float,
        *,
        common_name: str | None = None,
        days: float = STATION_DAYS,
        is_rsa: bool = False,
        replace: bool = False,
    ) -> Path:
        """A station's certificate; its CN is `common_name`, by default the id."""
        issuing = self._authority("issuing")
        subject = station_id if common_name is None else common_name
        path = self.station_file(station_id)
        write_private(path, make_station(issuing, subject, now, days=days, is_rsa=is_rsa).pem, replace=replace)
        return path

    def revoke(self, which: str, now: float, *, days: float = CRL_DAYS) -> tuple[x509.Certificate, Path]:
        """Put a certificate on the CRL of the CA that signed it; `which` is a station's id or a PEM file. Returns the
        certificate and the file of the CRL. PkiError with the code ALREADY_REVOKED when it is on it already."""
        certificate = read_certificates(self._certificate_file(which))[0]
        for name, path in zip(AUTHORITIES, self.crls, strict=True):
            authority = self._authority(name)
            if is_issued_by(certificate, authority.certificate):
                self._write_crl(path, authority, now, days, revoke=certificate)
                return certificate, path
        raise PkiError(f"{name_text(certificate.subject)} was not signed by a CA in {self.path}")

    def refresh_crls(self, now: float, *, days: float = CRL_DAYS) -> tuple[Path, ...]:
        """The CRLs of both CAs again, good for `days` from now."""
        for name, path in zip(AUTHORITIES, self.crls, strict=True):
            self._write_crl(path, self._authority(name), now, days)
        return self.crls

    def _certificate_file(self, which: str) -> Path:
        station, given = self.station_file(which), Path(which)
        found = next((path for path in (station, given) if path.is_file()), None)
        if found is None:
            raise PkiError(f"there is neither a station {which} in {self.path} nor a file of that name")
        return found

    def _authority(self, name: str) -> Credentials:
        certificate, key = self.path / "ca" / f"{name}.pem", self.path / "ca" / f"{name}.key"
        if not certificate.exists():
            raise PkiError(f"there is no PKI in {self.path}", hint=f"ocppgw pki init {self.path} makes one")
        if name not in self._known:
            self._known[name] = read_credentials(certificate, key)
        return self._known[name]

    def _write_authority(self, name: str, authority: Credentials, now: float, replace: bool) -> None:
        self._known[name] = authority
        folder = self.path / "ca"
        write_private(folder / f"{name}.key", key_pem(authority.key), replace=replace)
        write_public(folder / f"{name}.pem", authority.chain_pem, replace=replace)
        crl = make_crl(authority, now).public_bytes(Encoding.PEM)
        write_public(folder / f"{name}.crl.pem", crl, replace=replace)

    def _write_crl(
        self, path: Path, authority: Credentials, now: float, days: float, revoke: x509.Certificate | None = None
    ) -> None:
        previous = parse_crl(read(path), str(path), authority) if path.exists() else None
        crl = make_crl(authority, now, days=days, previous=previous, revoke=revoke)
        write_public(path, crl.public_bytes(Encoding.PEM), replace=True)

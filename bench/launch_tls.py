"""The servers of the TLS rows. Before any is measured it must show that it looks at client certificates."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from bench.certificates import GUEST, REVOKED, SERVER_NAME, STRANGER, Certificates
from bench.launch import HOST, Gateway, Server
from bench.load import Load, LoadError, Station
from bench.payloads import Row
from bench.tls_load import TLS_1_2, TLS_1_3, Client, TlsStation, client_context
from ocppgw.config.access_settings import TlsSettings

PROBE_SECONDS = 2.0


class TlsServer(Server):
    """A server that requires client certificates."""

    def __init__(self, core: int, log: Path, certificates: Certificates) -> None:
        super().__init__(core, log)
        self._certificates = certificates

    def client(self, station_id: str, version: str) -> Client:
        """One of its stations."""
        certificates = self._certificates
        return Client(station_id, certificates.station(station_id), certificates.root, version)

    def station(self, load: Load, row: Row, station_id: str) -> Station:
        return TlsStation(load, self.client(station_id, TLS_1_3), row)

    def _try_handshake(self) -> str:
        """What is wrong with the way it treats a good station, one without a certificate and a revoked one."""
        try:
            for version in (TLS_1_2, TLS_1_3):
                self._see_guest(version)
                self._see_refused(version, None)
                self._see_refused(version, self._certificates.station(REVOKED))
        except (OSError, LoadError) as error:
            return str(error)
        return ""

    def _see_guest(self, version: str) -> None:
        """Let in, and known by its certificate; also with a resumed session."""
        load, guest = Load(self.target), self.client(GUEST, version)
        try:
            station = TlsStation(load, guest)
            load.run([(station, station.learn())], 1)
            for resumes in (False, True):
                self._see(load, guest, resumes)
        finally:
            load.abandon()

    def _see(self, load: Load, guest: Client, resumes: bool) -> None:
        """The baselines say whom they see."""
        station = TlsStation(load, guest, resumes=resumes)
        load.run([(station, station.ask())], 1)
        said = json.loads(station.inbox)
        if said != {"station": guest.id, "resumed": resumes}:
            raise LoadError(f"{self.name} saw {said} instead of {guest.id}, resumed: {resumes}")

    def _see_refused(self, version: str, credentials: Path | None) -> None:
        context = client_context(self._certificates.root, version)
        if credentials is not None:
            context.load_cert_chain(credentials)
        with socket.create_connection((HOST, self.port), timeout=PROBE_SECONDS) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=SERVER_NAME) as secured:
                    secured.sendall(b"?\n")
                    refused = secured.recv(100) == b""
            except TimeoutError:
                refused = False  # it waits for more
            except (ssl.SSLError, ConnectionError):
                refused = True
        if not refused:
            who = "a station without a certificate" if credentials is None else "a revoked station"
            raise LoadError(f"{self.name} let in {who} with {version}")


class TlsGateway(TlsServer, Gateway):
    """The gateway, one port that requires certificates; every identity is bound to its own."""

    name = "gateway"

    def __init__(self, core: int, log: Path, certificates: Certificates, profile: Path | None = None) -> None:
        super().__init__(core, log, certificates)
        self._profile = profile

    def _see(self, load: Load, guest: Client, resumes: bool) -> None:
        """Upgraded, which needs the certificate that the identity names."""
        station = TlsStation(load, guest, resumes=resumes)
        load.run([(station, station.open())], 1)
        load.run([(station, station.close())], 1)

    def _see_refused(self, version: str, credentials: Path | None) -> None:
        super()._see_refused(version, credentials)
        load, other = Load(self.target), self.client(STRANGER, version)
        other.id = GUEST  # somebody else's name with one's own certificate
        try:
            station = TlsStation(load, other)
            load.run([(station, station.open())], 1)
        except LoadError as error:
            if "403" not in str(error):
                raise
        else:
            raise LoadError(f"{self.name} let in {STRANGER} as {GUEST}")
        finally:
            load.abandon()

    def _stations(self) -> str:
        certificates = self._certificates
        crls = ", ".join(f'"{path}"' for path in certificates.crls)
        return (
            f'[stations]\nauth_mode = "mtls"\nidentities_dir = "{certificates.identities}"\n'
            f'[tls]\nenabled = true\nclient_auth = "require"\ncert_path = ["{certificates.server}"]\n'
            f'ca_path = ["{certificates.authorities}"]\ncrl_path = [{crls}]\ncrl_check = "chain"'
        )

    def _learn(self, process: subprocess.Popen[str]) -> None:
        self.about = "TLS, identities bound to their certificates"


class _Baseline(TlsServer):
    def _settings(self) -> str:
        certificates = self._certificates
        return json.dumps(
            {
                "credentials": str(certificates.server),
                "authorities": str(certificates.authorities),
                "crls": [str(path) for path in certificates.crls],
                "ciphers": TlsSettings().ciphers,
            }
        )


class PyOpenSsl(_Baseline):
    name = "pyopenssl"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bench.servers.pyopenssl_tls", self._settings()]


class NodeTls(_Baseline):
    name = "node"

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("node") is not None

    def _command(self) -> list[str]:
        return ["node", str(Path(__file__).parent / "servers" / "node_tls.js"), self._settings()]

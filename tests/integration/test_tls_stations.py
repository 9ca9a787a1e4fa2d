"""Rights that are withdrawn: the open connection is closed within two seconds, resumed TLS sessions are no way around.

Two bystanders stay connected while all of this happens, one by certificate and one by password.
"""

import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.certificates import (
    Certificate,
    Pki,
    ServedFiles,
    TlsClient,
    basic_identity,
    identity,
    mtls_identity,
)
from tests.integration.harness import SUBPROTOCOLS, TIME_LIMIT, Gateway, JsonObject, Station, basic, upgrade

pytest_plugins = ("tests.integration.certificates",)

CLOSED_WITHIN = 2.0  # seconds
PASSWORD, NEXT_PASSWORD = "the-first-password", "the-second-password"
TLS_VERSIONS = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, served: ServedFiles) -> Iterator[Gateway]:
    settings = {"tls": served.tls(), "stations": {"unknown": "refuse"}}
    with Gateway(tmp_path_factory.mktemp("tls"), settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def connected_bystanders(gateway: Gateway, pki: Pki) -> Iterator[list[Station]]:
    certificate = pki.station("BYSTANDER-1", is_rsa=True)
    gateway.provision(mtls_identity("BYSTANDER-1", [certificate]), basic_identity("BYSTANDER-2", PASSWORD))
    by_password = basic("BYSTANDER-2", PASSWORD)
    with (
        Station(gateway, "1.6", "BYSTANDER-1", tls=pki.client(certificate)) as one,
        Station(gateway, "2.1", "BYSTANDER-2", tls=pki.client(), headers=by_password) as two,
    ):
        yield [one.booted(), two.booted()]


@pytest.fixture(autouse=True)
def bystanders(connected_bystanders: list[Station]) -> Iterator[None]:
    """They are still there at the end of each test."""
    yield
    for station in connected_bystanders:
        assert "currentTime" in station.call("Heartbeat", {})


class Watch:
    """Waits in a thread for the gateway to close a station's connection: its close code, and when it came."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._code: int | None = None
        self._at = 0.0
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        self._code = self._station.closed_with()
        self._at = time.monotonic()

    def closed(self, begun: float, done: float) -> None:
        """It was closed with 1008, within the limit once that was done which began and was done at these times."""
        self._thread.join(TIME_LIMIT)
        assert not self._thread.is_alive(), "it was not closed"
        assert self._code == 1008
        assert begun < self._at < done + CLOSED_WITHIN, f"closed {self._at - done:.3f} s after it was done"


@dataclass
class Scene:
    """A station with a certificate, and all that can be done to it."""

    gateway: Gateway
    served: ServedFiles
    pki: Pki
    name: str
    certificate: Certificate
    folder: Path

    def provision(self, **auth: object) -> None:
        """By the command line, from a file."""
        path = self.folder / "identity.json"
        path.write_text(json.dumps(identity(self.name, **{"type": "mtls", **auth})))
        self.gateway.run("provision", str(path))

    # --- ways to withdraw its right to be here

    def certificate_revoked_by_file(self) -> None:
        self.gateway.run("revoke-cert", str(self.certificate.path), "--reason", "key lost")

    def certificate_revoked_by_fingerprint(self) -> None:
        digits = self.certificate.fingerprint.lower()
        self.gateway.run("revoke-cert", ":".join(digits[start : start + 2] for start in range(0, 64, 2)))

    def new_crl(self) -> None:
        self.served.revoke(self.certificate)
        self.gateway.hang_up("swapped")

    def disabled(self) -> None:
        self.gateway.run("disable", self.name)

    def deleted(self) -> None:
        self.gateway.run("delete", self.name, "--yes")

    def fingerprint_listed_in_identity(self) -> None:
        revoked = [self.certificate.fingerprint]
        self.provision(certificates=[self.certificate.binding], revokedFingerprints=revoked)

    def binding_revoked(self) -> None:
        self.provision(certificates=[self.certificate.binding | {"status": "revoked"}])

    def binding_removed(self) -> None:
        self.provision(certificates=[self.pki.station(self.name).binding])

    def binding_over(self) -> None:
        self.provision(certificates=[self.certificate.binding | {"validTo": "2020-01-01T00:00:00Z"}])

    def mtls_not_allowed_any_more(self) -> None:
        self.provision(type="basic", secret=PASSWORD, certificates=[self.certificate.binding])


@pytest.fixture
def scene(gateway: Gateway, served: ServedFiles, pki: Pki, tmp_path: Path) -> Scene:
    name = f"CP-{uuid.uuid4().hex[:12]}"
    certificate = pki.station(name)
    gateway.provision(mtls_identity(name, [certificate]))
    return Scene(gateway, served, pki, name, certificate, tmp_path)


# What is done; how the cut is called; what a station meets that comes back: HTTP status and name, 0 for TLS itself.
WITHDRAWALS: list[tuple[Callable[[Scene], None], str, int, str]] = [
    (Scene.certificate_revoked_by_file, "CertificateRevoked", 403, "CertificateRevoked"),
    (Scene.certificate_revoked_by_fingerprint, "CertificateRevoked", 403, "CertificateRevoked"),
    (Scene.new_crl, "CertificateRevokedByCrl", 0, "TlsCertificateRevoked"),
    (Scene.disabled, "IdentityDisabled", 403, "IdentityDisabled"),
    (Scene.deleted, "IdentityDeleted", 404, "UnknownStationCertificate"),
    (Scene.fingerprint_listed_in_identity, "CertificateRevokedByIdentity", 403, "CertificateRevokedByIdentity"),
    (Scene.binding_revoked, "CertificateBindingRevoked", 403, "CertificateBindingRevoked"),
    (Scene.binding_removed, "CertificateMismatch", 403, "CertificateMismatch"),
    (Scene.binding_over, "CertificateBindingOver", 403, "CertificateBindingOver"),
    (Scene.mtls_not_allowed_any_more, "CredentialsTypeNotAllowed", 401, "CredentialsMissing"),
]


@pytest.mark.parametrize(
    ("withdraw", "cut", "status", "outcome"), WITHDRAWALS, ids=[row[0].__name__ for row in WITHDRAWALS]
)
def test_what_is_withdrawn_closes_the_open_connection_and_lets_nobody_back(
    scene: Scene, withdraw: Callable[[Scene], None], cut: str, status: int, outcome: str
) -> None:
    client = scene.pki.client(scene.certificate)
    with Station(scene.gateway, "2.0.1", scene.name, tls=client) as station:
        watch = Watch(station.booted())
        begun = time.monotonic()
        withdraw(scene)
        watch.closed(begun, time.monotonic())
    record = attempt(scene, lambda one: one.get("closeCode") == 1008)
    assert (record["outcome"], record["certificate"]["fingerprint"]) == (cut, scene.certificate.fingerprint)
    assert comes_back(scene, client) == status
    assert attempt(scene, lambda one: one.get("status", 0) == status and "closeCode" not in one)["outcome"] == outcome
    assert scene.gateway.station(scene.name)["connected"] is False


def test_a_disabled_station_comes_back_when_it_is_enabled(scene: Scene) -> None:
    client = scene.pki.client(scene.certificate)
    with Station(scene.gateway, "1.6", scene.name, tls=client) as station:
        watch = Watch(station.booted())
        begun = time.monotonic()
        scene.disabled()
        watch.closed(begun, time.monotonic())
    assert comes_back(scene, client) == 403
    scene.gateway.run("enable", scene.name)
    with Station(scene.gateway, "1.6", scene.name, tls=client) as station:
        assert "currentTime" in station.call("Heartbeat", {})


def test_a_password_that_is_rotated_at_once_cuts_the_connection_by_the_old_one(scene: Scene) -> None:
    name, gateway = scene.name, scene.gateway
    gateway.provision(basic_identity(name, PASSWORD))
    old, new = basic(name, PASSWORD), basic(name, NEXT_PASSWORD)
    client = scene.pki.client()
    with Station(gateway, "2.1", name, tls=client, headers=old) as station:
        gateway.run("rotate-secret", name, "--stdin", stdin=f"{NEXT_PASSWORD}\n")
        assert "currentTime" in station.booted().call("Heartbeat", {}), "a rotation with grace cuts nobody"
        watch = Watch(station)
        begun = time.monotonic()
        gateway.run("rotate-secret", name, "--stdin", "--immediately", stdin=f"{NEXT_PASSWORD}\n")
        watch.closed(begun, time.monotonic())
    assert attempt(scene, lambda one: one.get("closeCode") == 1008)["outcome"] == "CredentialsWrong"
    assert comes_back(scene, client, old) == 401
    assert comes_back(scene, client, new) == 101


def test_a_certificate_opens_no_other_station(scene: Scene) -> None:
    """Both are good and bound: each to its own."""
    other = f"{scene.name}-B"
    certificate = scene.pki.station(other)
    scene.gateway.provision(mtls_identity(other, [certificate]))
    reply, peer = upgrade(scene.gateway, f"/ocpp/1.6/{scene.name}", "ocpp1.6", tls=scene.pki.client(certificate))
    peer.close()
    assert reply.status == 403
    assert attempt(scene, lambda one: one.get("status") == 403)["outcome"] == "CertificateMismatch"
    for name, own in ((scene.name, scene.certificate), (other, certificate)):
        with Station(scene.gateway, "1.6", name, tls=scene.pki.client(own)) as station:
            station.booted()


# --- TLS sessions that are resumed


@pytest.fixture(params=TLS_VERSIONS.values(), ids=TLS_VERSIONS)
def client(request: pytest.FixtureRequest, scene: Scene) -> TlsClient:
    """Of the scene's station; it was connected and will resume its session."""
    client = scene.pki.client(scene.certificate, request.param)
    with Station(scene.gateway, "2.0.1", scene.name, tls=client) as station:
        station.booted()
        assert not client.resumed
        client.keep()
    return client


def test_a_session_is_resumed(scene: Scene, client: TlsClient) -> None:
    version = {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[client.maximum_version.name]
    sample = f'ocppgw_tls_connections_total{{resumed="yes",version="{version}"}}'
    counted = scene.gateway.metric(sample)
    for _ in range(2):
        with Station(scene.gateway, "2.0.1", scene.name, tls=client) as station:
            assert "currentTime" in station.call("Heartbeat", {})
            assert client.resumed
            client.keep()  # a ticket of TLS 1.3 is for one use
    scene.gateway.wait_metric(sample, counted + 2)
    record = attempt(scene, lambda one: one.get("resumed") is True)
    assert (record["outcome"], record["securityProfile"]) == ("Admitted", 3)
    assert record["certificate"]["fingerprint"] == scene.certificate.fingerprint


def test_a_resumed_session_of_a_revoked_certificate_is_refused(scene: Scene, client: TlsClient) -> None:
    scene.certificate_revoked_by_file()
    assert comes_back(scene, client) == 403
    assert client.resumed, "TLS itself did not look at the certificate again"
    record = attempt(scene, lambda one: one.get("status") == 403)
    assert (record["outcome"], record["resumed"]) == ("CertificateRevoked", True)


def test_a_session_from_before_a_new_crl_is_not_resumed(scene: Scene, client: TlsClient) -> None:
    scene.served.revoke(scene.pki.station("SOMEBODY-ELSE"))
    scene.gateway.hang_up("swapped")
    with Station(scene.gateway, "2.0.1", scene.name, tls=client) as station:
        assert "currentTime" in station.call("Heartbeat", {})
        assert not client.resumed


def test_a_session_of_a_certificate_on_the_new_crl_is_no_way_in(scene: Scene, client: TlsClient) -> None:
    scene.new_crl()
    assert comes_back(scene, client) == 0
    record = attempt(scene, lambda one: one["outcome"] == "TlsCertificateRevoked")
    assert record["alert"] == "sent: certificate_revoked"


# --- bits and pieces


def comes_back(scene: Scene, client: TlsClient, headers: JsonObject | None = None) -> int:
    """The HTTP status that the station meets; 0 when TLS refuses it already."""
    path = f"/ocpp/2.0.1/{scene.name}"
    try:
        reply, peer = upgrade(scene.gateway, path, SUBPROTOCOLS["2.0.1"], headers, tls=client)
    except ssl.SSLError as error:
        assert "certificate revoked" in str(error)  # noqa: PT017  the alert is what is asked about
        return 0
    peer.close()
    return reply.status


def attempt(scene: Scene, predicate: Callable[[JsonObject], bool]) -> JsonObject:
    return scene.gateway.wait_attempt(predicate, f"chargePointId={scene.name}")

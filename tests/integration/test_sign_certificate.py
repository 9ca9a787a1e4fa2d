"""Certificates that stations ask for (SignCertificate): signed by the local CA or by the backend, bound when used."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ocppgw.pki import Credentials, Signer, make_root
from ocppgw.pki.pem import key_pem
from tests.integration.certificates import (
    DAY,
    OPERATOR,
    Certificate,
    Pki,
    basic_identity,
    mtls_identity,
    new_request,
)
from tests.integration.harness import Gateway, JsonObject, Station, basic, upgrade

pytest_plugins = ("tests.integration.certificates",)

VERSIONS = ("1.6", "2.0.1", "2.1")
PASSWORD = "the-stations-password"
NOT_SIGNED = 'ocppgw_notes_total{kind="certificate-not-signed"}'


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Gateway]:
    yield from running(tmp_path_factory.mktemp("local"), pki, {**pki.signing(), "valid_days": 30})


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Gateway]:
    yield from running(tmp_path_factory.mktemp("backend"), pki, {"mode": "backend"})


def running(folder: Path, pki: Pki, signing: JsonObject) -> Iterator[Gateway]:
    settings = {
        "tls": pki.tls(),
        "stations": {"unknown": "refuse"},
        "signing": signing,
        "commands": {"default_timeout_seconds": 2},
    }
    with Gateway(folder, settings) as gateway:
        yield gateway


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def name() -> str:
    return f"CP-{uuid4().hex[:12]}"


@pytest.fixture
def old(pki: Pki, name: str) -> Certificate:
    return pki.station(name)


# --- the local CA


def test_what_the_local_ca_signed_is_bound_next_to_the_old_certificate(
    local: Gateway, pki: Pki, version: str, name: str, old: Certificate, tmp_path: Path
) -> None:
    local.provision(mtls_identity(name, [old]))
    with Station(local, version, name, tls=pki.client(old)) as station:
        key, csr = new_request(name)
        assert station.booted().call("SignCertificate", sign_request(version, csr)) == {"status": "Accepted"}
        message_id, chain = handed_over(station)
        new = stored(tmp_path, key, chain)
        leaf = new.credentials.certificate
        assert common_name(leaf) == name
        assert leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == OPERATOR
        assert leaf.not_valid_after_utc.timestamp() - leaf.not_valid_before_utc.timestamp() < 31 * DAY
        assert fingerprints(local, name) == ([old.fingerprint], [new.fingerprint]), "the station may have it already"
        station.reply(message_id, {"status": "Accepted"})
        event = station.wait_event("SignCertificate")
        assert (event["payload"]["payload"]["csr"], event["payload"]["status"]) == (csr, "Accepted")
        station.wait_event("CommandAccepted")
    for certificate in (new, old, new):
        with Station(local, version, name, tls=pki.client(certificate)) as station:
            assert "currentTime" in station.call("Heartbeat", {})
        local.wait_identity(name, lambda identity: "pendingCertificates" not in identity["auth"])
    assert fingerprints(local, name) == ([old.fingerprint, new.fingerprint], [])
    found = changes(local, name, "certificate-seen")
    assert found == ["provisioned", "certificate-added", "certificate-seen"]


def test_a_station_with_a_password_comes_to_its_first_certificate(
    local: Gateway, pki: Pki, version: str, name: str, tmp_path: Path
) -> None:
    local.provision(basic_identity(name, PASSWORD, allowedTypes=["basic", "mtls"]))
    with Station(local, version, name, tls=pki.client(), headers=basic(name, PASSWORD)) as station:
        key, csr = new_request(name)
        assert station.booted().call("SignCertificate", sign_request(version, csr)) == {"status": "Accepted"}
        message_id, chain = handed_over(station)
        station.reply(message_id, {"status": "Accepted"})
    new = stored(tmp_path, key, chain)
    with Station(local, version, name, tls=pki.client(new)) as station:
        assert "currentTime" in station.call("Heartbeat", {})
    local.wait_identity(name, lambda identity: identity["securityProfile"] == 3)
    assert fingerprints(local, name) == ([new.fingerprint], [])


def test_a_certificate_that_the_station_refused_opens_nothing(
    local: Gateway, pki: Pki, version: str, name: str, old: Certificate, tmp_path: Path
) -> None:
    local.provision(mtls_identity(name, [old]))
    with Station(local, version, name, tls=pki.client(old)) as station:
        key, csr = new_request(name)
        station.booted().call("SignCertificate", sign_request(version, csr))
        message_id, chain = handed_over(station)
        station.reply(message_id, {"status": "Rejected"})
        station.wait_event("CommandRejected")
    refused = stored(tmp_path, key, chain)
    local.wait_identity(name, lambda identity: "pendingCertificates" not in identity["auth"])
    assert status(local, pki, version, name, refused) == 403
    assert status(local, pki, version, name, old) == 101
    found = changes(local, name, "certificate-dropped")
    assert found == ["provisioned", "certificate-added", "certificate-dropped"]


def test_a_station_that_does_not_say_whether_it_took_its_certificate_may_use_both(
    local: Gateway, pki: Pki, version: str, name: str, old: Certificate, tmp_path: Path
) -> None:
    local.provision(mtls_identity(name, [old]))
    with Station(local, version, name, tls=pki.client(old)) as station:
        key, csr = new_request(name)
        station.booted().call("SignCertificate", sign_request(version, csr))
        _, chain = handed_over(station)  # and is gone
    new = stored(tmp_path, key, chain)
    assert [status(local, pki, version, name, one) for one in (old, new, old)] == [101, 101, 101]
    local.wait_identity(name, lambda identity: "pendingCertificates" not in identity["auth"])
    assert fingerprints(local, name) == ([old.fingerprint, new.fingerprint], [])


def test_a_request_for_another_stations_name_is_rejected(
    local: Gateway, pki: Pki, version: str, name: str, old: Certificate
) -> None:
    victim = f"{name}-B"
    local.provision(mtls_identity(name, [old]), basic_identity(victim, PASSWORD))
    with Station(local, version, name, tls=pki.client(old)) as station:
        station.booted()
        for csr, fault in (
            (new_request(victim)[1], f"its CN is '{victim}'"),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no readable"),
        ):
            assert station.call("SignCertificate", sign_request(version, csr)) == {"status": "Rejected"}
            station.wait_event("SignCertificate", lambda event, fault=fault: fault in event["payload"]["fault"])
        station.nothing_was_sent()
    assert fingerprints(local, name) == ([old.fingerprint], [])


def test_the_local_ca_signs_for_no_name_that_is_another_stations(
    local: Gateway, pki: Pki, name: str, old: Certificate
) -> None:
    """A station may report any serial number, the id of another one, too."""
    victim = f"{name}-B"
    local.provision(mtls_identity(name, [old]), basic_identity(victim, PASSWORD))
    with Station(local, "2.0.1", name, tls=pki.client(old)) as station:
        boot = {"vendorName": "Vendor", "model": "Model", "serialNumber": victim}
        station.call("BootNotification", {"reason": "PowerUp", "chargingStation": boot})
        before = local.metric(NOT_SIGNED)
        station.call("SignCertificate", sign_request("2.0.1", new_request(victim)[1]))
        local.wait_metric(NOT_SIGNED, before + 1)
        station.nothing_was_sent()
    assert fingerprints(local, name) == ([old.fingerprint], [])


# --- the backend


def test_what_the_backend_signed_is_bound_when_it_is_first_used(
    backend: Gateway, pki: Pki, version: str, name: str, old: Certificate, tmp_path: Path
) -> None:
    backend.provision(mtls_identity(name, [old]))
    with Station(backend, version, name, tls=pki.client(old)) as station:
        key, csr = new_request(name)
        assert station.booted().call("SignCertificate", sign_request(version, csr)) == {"status": "Accepted"}
        asked = station.wait_event("SignCertificate")["payload"]["payload"]["csr"]
        chain = signed(pki, asked)
        command_id = backend.command(name, "CertificateSigned", certificate_signed(version, chain))
        message_id, sent = handed_over(station)
        assert sent == chain
        station.reply(message_id, {"status": "Accepted"})
        assert backend.ended(command_id)["status"] == "Accepted"
    new = stored(tmp_path, key, chain)
    assert [status(backend, pki, version, name, one) for one in (new, old)] == [101, 101]
    backend.wait_identity(name, lambda identity: "pendingCertificates" not in identity["auth"])
    assert fingerprints(backend, name) == ([old.fingerprint, new.fingerprint], [])


def test_what_the_backend_signed_and_the_station_refused_is_dropped(
    backend: Gateway, pki: Pki, version: str, name: str, old: Certificate, tmp_path: Path
) -> None:
    backend.provision(mtls_identity(name, [old]))
    key, csr = new_request(name)
    chain = signed(pki, csr)
    with Station(backend, version, name, tls=pki.client(old)) as station:
        station.booted()
        command_id = backend.command(name, "CertificateSigned", certificate_signed(version, chain))
        message_id, _ = handed_over(station)
        station.reply(message_id, {"status": "Rejected"})
        assert backend.ended(command_id)["status"] == "Rejected"
    refused = stored(tmp_path, key, chain)
    assert [status(backend, pki, version, name, one) for one in (refused, old)] == [403, 101]
    assert fingerprints(backend, name) == ([old.fingerprint], [])


# --- a CA that can't be used


def test_a_request_is_rejected_when_the_local_ca_ran_out(
    tmp_path_factory: pytest.TempPathFactory, pki: Pki, name: str, old: Certificate
) -> None:
    folder = tmp_path_factory.mktemp("run-out")
    ca = make_root("Over", time.time() - 10 * DAY, days=1, is_rsa=False)
    for gateway in running(folder, pki, ca_files(folder, ca)):
        gateway.provision(mtls_identity(name, [old]))
        for version in VERSIONS:
            with Station(gateway, version, name, tls=pki.client(old)) as station:
                csr = new_request(name)[1]
                answer = station.booted().call("SignCertificate", sign_request(version, csr))
                assert answer == {"status": "Rejected"}
                fault = station.wait_event("SignCertificate")["payload"]["fault"]
                assert "the CA's certificate ended" in fault
                station.nothing_was_sent()
        assert fingerprints(gateway, name) == ([old.fingerprint], [])


def test_a_key_that_is_not_the_cas_keeps_the_gateway_from_starting(tmp_path: Path, pki: Pki) -> None:
    files = pki.signing()
    other = tmp_path / "other.key"
    other.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))
    gateway = Gateway(tmp_path / "gateway", {"tls": pki.tls(), "signing": {**files, "ca_key_path": str(other)}})
    assert gateway.run_to_end() == 1
    assert f"the private key in {other} is not that of the first certificate in {files['ca_cert_path']}" in gateway.log
    assert "Traceback" not in gateway.log


# --- bits and pieces


def sign_request(version: str, csr: str) -> JsonObject:
    if version == "1.6":
        return {"csr": csr}
    payload: JsonObject = {"csr": csr, "certificateType": "ChargingStationCertificate"}
    return {**payload, "requestId": 7} if version == "2.1" else payload


def certificate_signed(version: str, chain: str) -> JsonObject:
    payload = sign_request(version, "")
    del payload["csr"]
    return {"certificateChain": chain, **payload}


def handed_over(station: Station) -> tuple[str, str]:
    """The CertificateSigned that the station gets: message id and chain."""
    message_id, _, payload = station.expect_call("CertificateSigned")
    chain = payload["certificateChain"]
    assert payload == certificate_signed(station.version, chain)
    return message_id, chain


def signed(pki: Pki, csr: str) -> str:
    """The backend's CA does the same."""
    signer = Signer(pki.files.issuing.read_bytes(), pki.files.issuing_key.read_bytes(), valid_days=90)
    return signer.sign(csr, time.time()).chain_pem


def stored(folder: Path, key: ec.EllipticCurvePrivateKey, chain: str) -> Certificate:
    """As the station keeps it: its key, and the certificate that was made for it."""
    leaf, *above = x509.load_pem_x509_certificates(chain.encode())
    assert leaf.public_key() == key.public_key()
    made = Credentials(leaf, key, tuple(above))
    path = folder / "station.pem"
    path.write_bytes(made.pem)
    return Certificate(path, made)


def ca_files(folder: Path, ca: Credentials) -> JsonObject:
    (folder / "ca.pem").write_bytes(ca.chain_pem)
    (folder / "ca.key").write_bytes(key_pem(ca.key))
    return {"mode": "local", "ca_cert_path": str(folder / "ca.pem"), "ca_key_path": str(folder / "ca.key")}


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def fingerprints(gateway: Gateway, name: str) -> tuple[list[str], list[str]]:
    """Of the certificates that are bound, and of those that were handed over and not yet seen."""
    auth = gateway.identity(name)["auth"]
    lists = auth.get("certificates", []), auth.get("pendingCertificates", [])
    bound, pending = ([binding["fingerprint"] for binding in bindings] for bindings in lists)
    return bound, pending


def changes(gateway: Gateway, name: str, last: str) -> list[str]:
    """What became of the identity, up to and with the change `last`: events come when they are durable."""

    def told(event: JsonObject) -> str:
        found: str = event["payload"]["change"] if event["eventType"] == "ChargerIdentityUpserted" else ""
        return found

    gateway.wait_event(lambda event: told(event) == last, charge_point_id=name)
    return list(filter(None, map(told, gateway.events(charge_point_id=name))))


def status(gateway: Gateway, pki: Pki, version: str, name: str, certificate: Certificate) -> int:
    reply, peer = upgrade(gateway, f"/ocpp/{version}/{name}", f"ocpp{version}", tls=pki.client(certificate))
    assert isinstance(peer, ssl.SSLSocket)
    peer.close()
    return reply.status

"""B: HTTP Basic authentication before the upgrade, passwords that change, TLS and certificates, security events.

`openssl s_client` is the outside client for the cipher suites and for TLS versions that Python no longer speaks.
"""

import base64
import re
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import InvalidStatus

from tests.conformance.cases import case
from tests.conformance.conftest import PASSWORD, RAW_KEY, UTF8_PASSWORD
from tests.integration.certificates import Certificate, Pki, basic_identity, identity, mtls_identity, new_request
from tests.integration.harness import (
    NOW,
    SUBPROTOCOLS,
    Gateway,
    JsonObject,
    Station,
    basic,
    boot_payload,
    upgrade,
)
from tests.integration.outside import s_client

pytest_plugins = ("tests.integration.certificates",)


def assert_denied(gateway: Gateway, version: str, name: str, headers: dict[str, str]) -> None:
    since = gateway.cursor
    with pytest.raises(InvalidStatus) as refused:
        Station(gateway, version, name, headers=headers).connect()
    response = refused.value.response
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith('Basic realm="')
    assert "StationConnected" not in [event["eventType"] for event in gateway.events(since, name)]


@case(17, "*")
def test_right_user_and_password_are_let_in(strict: Gateway, version: str) -> None:
    name = f"BASIC-{version}"
    with Station(strict, version, name, headers=basic(name, PASSWORD)) as station:
        station.booted()
        event = station.wait_event("StationBooted")
        assert (event["stationId"], event["tenantId"]) == (f"station-{name}", "tenant-1")


@case(18, "*")
def test_another_user_with_the_right_password_is_denied(strict: Gateway, version: str) -> None:
    for user in ("SOMEBODY", f"basic-{version}", ""):
        assert_denied(strict, version, f"BASIC-{version}", basic(user, PASSWORD))


@case(19, "*")
def test_credentials_that_are_wrong_missing_or_no_credentials_are_denied(strict: Gateway, version: str) -> None:
    name = f"BASIC-{version}"
    no_colon = base64.b64encode(name.encode() + PASSWORD.replace(":", "").encode()).decode()
    for headers in (
        basic(name, "wrong horse:staple"),
        basic(name, ""),
        {},
        {"Authorization": "Basic !!! not base64 !!!"},
        {"Authorization": f"Basic {no_colon}"},
        {"Authorization": "Basic"},
        {"Authorization": f"Bearer {PASSWORD}"},
        {"Authorization": "Digest username=x"},
    ):
        assert_denied(strict, version, name, headers)


@case(20, "6")
def test_an_authorization_key_is_octets(strict: Gateway, version: str) -> None:
    assert len(RAW_KEY) == 20
    with Station(strict, version, "RAW", headers=basic("RAW", RAW_KEY)) as station:
        station.booted()


@case(21, "6")
def test_the_key_as_hex_text_needs_the_stations_opt_in(strict: Gateway, version: str) -> None:
    assert_denied(strict, version, "HEX", basic("HEX", RAW_KEY.hex()))
    for secret in (RAW_KEY.hex(), RAW_KEY.hex().upper(), RAW_KEY):
        with Station(strict, version, "HEX-ALLOWED", headers=basic("HEX-ALLOWED", secret)) as station:
            station.booted()
    assert_denied(strict, version, "HEX-ALLOWED", basic("HEX-ALLOWED", bytes(20).hex()))


@case(22, "0 1")
def test_a_password_of_64_utf8_characters_is_let_in(strict: Gateway, version: str) -> None:
    assert len(UTF8_PASSWORD) == 64
    with Station(strict, version, "UTF8", headers=basic("UTF8", UTF8_PASSWORD)) as station:
        station.booted()


# --- a password that a command changes


def change_password(gateway: Gateway, station: Station, new: str, status: str = "", **members: Any) -> JsonObject:
    """Command the station to take a new password and answer with `status`, or not at all; the command's record."""
    if station.version == "1.6":
        action, payload = "ChangeConfiguration", {"key": "AuthorizationKey", "value": new.encode().hex()}
    else:
        where = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
        action, payload = "SetVariables", {"setVariableData": [{**where, "attributeValue": new}]}
    command_id = gateway.command(station.id, action, payload, **members)
    message_id, _, sent = station.expect_call(action)
    assert sent == payload, "the station gets the password as it was given"
    if status and station.version == "1.6":
        station.reply(message_id, {"status": status})
    elif status:
        station.reply(message_id, {"setVariableResult": [{**where, "attributeStatus": status}]})
    return gateway.ended(command_id)


def gets_in(gateway: Gateway, version: str, name: str, password: str) -> bool:
    reply, peer = upgrade(gateway, f"/ocpp/{version}/{name}", SUBPROTOCOLS[version], basic(name, password))
    peer.close()
    assert reply.status in (101, 401), reply
    return reply.status == 101


OLD_PASSWORD, NEW_PASSWORD = "the-old-password-1", "the-new-password-2"


@pytest.fixture
def with_password(strict: Gateway, version: str, new_id: str) -> Iterator[Station]:
    """Booted on `strict` with OLD_PASSWORD."""
    strict.provision(basic_identity(new_id, OLD_PASSWORD))
    with Station(strict, version, new_id, headers=basic(new_id, OLD_PASSWORD)) as station:
        yield station.booted()


@case(23, "0 1")
def test_a_password_that_was_accepted_is_the_only_one(strict: Gateway, version: str, with_password: Station) -> None:
    record = change_password(strict, with_password, NEW_PASSWORD, "Accepted")
    assert record["status"] == "Accepted"
    assert "currentTime" in with_password.call("Heartbeat", {}), "the connection on which it changed goes on"
    assert not gets_in(strict, version, with_password.id, OLD_PASSWORD)
    assert gets_in(strict, version, with_password.id, NEW_PASSWORD)


@case(24, "0 1")
def test_a_password_that_was_rejected_changes_nothing(strict: Gateway, version: str, with_password: Station) -> None:
    record = change_password(strict, with_password, NEW_PASSWORD, "Rejected")
    assert record["status"] == "Rejected"
    assert not gets_in(strict, version, with_password.id, NEW_PASSWORD)
    assert gets_in(strict, version, with_password.id, OLD_PASSWORD)


@case(25, "*")
def test_after_a_timeout_both_passwords_work_until_the_new_one_is_used(
    strict: Gateway, version: str, with_password: Station
) -> None:
    name = with_password.id
    record = change_password(strict, with_password, NEW_PASSWORD, timeoutSec=1.0)
    assert record["status"] == "Timeout"
    assert gets_in(strict, version, name, OLD_PASSWORD)
    assert gets_in(strict, version, name, OLD_PASSWORD), "using the old one does not end it"
    assert gets_in(strict, version, name, NEW_PASSWORD)
    strict.wait_identity(name, lambda stored: "nextSecretHash" not in stored["auth"])
    assert not gets_in(strict, version, name, OLD_PASSWORD)
    assert gets_in(strict, version, name, NEW_PASSWORD)
    for secret in (NEW_PASSWORD, NEW_PASSWORD.encode().hex()):
        assert secret not in str(strict.events(charge_point_id=name)), "events show *** in its place"


# --- TLS


def upgrade_request(version: str, name: str, password: str) -> str:
    return (
        f"GET /ocpp/{version}/{name} HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: websocket\n"
        f"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\n"
        f"Sec-WebSocket-Protocol: {SUBPROTOCOLS[version]}\n"
        f"Authorization: {basic(name, password)['Authorization']}\n\n"
    )


@case(26, "*")
def test_a_client_of_tls_1_1_is_refused_with_an_alert_and_on_record(secure: Gateway, pki: Pki, version: str) -> None:
    counted = secure.metric('ocppgw_handshakes_total{outcome="TlsVersion"}')
    # Level 0: at any other, this OpenSSL does not even offer TLS 1.1.
    refused = s_client(secure, pki, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert refused.status != 0
    assert "alert protocol version" in refused.output
    secure.wait_metric('ocppgw_handshakes_total{outcome="TlsVersion"}', counted + 1)
    attempt = secure.wait_attempt(lambda attempt: attempt["outcome"] == "TlsVersion", "refused=true")
    assert attempt["offeredVersions"] == ["TLSv1.1"]
    assert attempt["alert"] == "sent: protocol_version"
    assert "tls.min_version" in attempt["remedy"]
    secure.wait_log(r"refused 127\.0\.0\.1: TlsVersion: ")


SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": ec.EllipticCurvePublicKey,
    "ECDHE-ECDSA-AES256-GCM-SHA384": ec.EllipticCurvePublicKey,
    "AES128-GCM-SHA256": rsa.RSAPublicKey,
    "AES256-GCM-SHA384": rsa.RSAPublicKey,
}


@case(27, "*")
@pytest.mark.parametrize("suite", SUITES)
def test_each_of_the_four_suites_works_alone(secure: Gateway, pki: Pki, version: str, new_id: str, suite: str) -> None:
    secure.provision(basic_identity(new_id, PASSWORD))
    sends = upgrade_request(version, new_id, PASSWORD)
    outside = s_client(secure, pki, "-tls1_2", "-cipher", suite, sends=sends)
    assert "HTTP/1.1 101" in outside.output
    assert f"Sec-WebSocket-Protocol: {SUBPROTOCOLS[version]}" in outside.output
    assert re.search(rf"Cipher\s*: {suite}\n", outside.output)
    assert isinstance(outside.certificate.public_key(), SUITES[suite])
    attempt = secure.wait_attempt(lambda attempt: attempt["outcome"] == "Admitted", f"chargePointId={new_id}")
    assert (attempt["cipher"], attempt["tlsVersion"], attempt["securityProfile"]) == (suite, "TLSv1.2", 2)


# --- client certificates


def refused_by_tls(gateway: Gateway, version: str, name: str, client: ssl.SSLContext) -> JsonObject:
    """The attempt on record of a connection that does not survive the handshake."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        upgrade(gateway, f"/ocpp/{version}/{name}", SUBPROTOCOLS[version], tls=client)
    return gateway.wait_attempt(lambda attempt: attempt["outcome"].startswith("Tls"), f"chargePointId={name}")


def refused_by_http(gateway: Gateway, version: str, name: str, client: ssl.SSLContext) -> JsonObject:
    """The attempt on record of one that is refused with 403."""
    with pytest.raises(InvalidStatus) as refused:
        Station(gateway, version, name, tls=client).connect()
    assert refused.value.response.status_code == 403
    return gateway.wait_attempt(lambda attempt: attempt.get("status") == 403, f"chargePointId={name}")


@case(28, "*")
@pytest.mark.parametrize("tls_version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_certificates_that_are_not_the_stations_open_nothing(
    secure: Gateway, pki: Pki, version: str, new_id: str, tls_version: ssl.TLSVersion
) -> None:
    own, foreign, expired = pki.station(new_id), pki.foreign(new_id), pki.expired(new_id)
    other_operator, another = pki.station(new_id, organization="Somebody else"), pki.station(f"not-{new_id[:30]}")
    # By subject, as `CN = id` is meant; the fingerprints are bound, too, so that nothing but what is tested is wrong.
    bindings = [one.binding for one in (own, foreign, expired, other_operator)] + [{"subject": f"CN={new_id}"}]
    secure.provision(identity(new_id, type="mtls", certificates=bindings))
    since = secure.cursor

    def client(certificate: Certificate) -> ssl.SSLContext:
        return pki.client(certificate, tls_version)

    attempt = refused_by_tls(secure, version, new_id, client(foreign))
    assert (attempt["outcome"], attempt["alert"]) == ("TlsCertificateUnknownCa", "sent: unknown_ca")
    attempt = refused_by_tls(secure, version, new_id, client(expired))
    assert (attempt["outcome"], attempt["alert"]) == ("TlsCertificateExpired", "sent: certificate_expired")
    attempt = refused_by_http(secure, version, new_id, client(other_operator))
    assert (attempt["outcome"], attempt["detail"]) == (
        "CertificateOrganization",
        "its organization is Somebody else",
    )
    attempt = refused_by_http(secure, version, new_id, client(another))
    assert attempt["outcome"] == "CertificateMismatch"
    assert attempt["certificate"]["commonName"] == f"not-{new_id[:30]}"
    assert secure.events(since, new_id) == [], "no session was opened"
    with Station(secure, version, new_id, tls=client(own)) as station:
        station.booted()


def boot_with_serial(version: str, serial: str) -> JsonObject:
    payload = boot_payload(version)
    payload["chargingStation"]["serialNumber"] = serial
    return payload


@case(29, "0 1")
def test_a_serial_number_that_is_not_the_certificates_closes_the_connection(
    secure: Gateway, pki: Pki, version: str, new_id: str
) -> None:
    serial = f"SN-{new_id[-12:]}"
    certificate = pki.station(serial)
    secure.provision(mtls_identity(new_id, [certificate], requireSerialMatch=True))
    for wrong, reported in ((boot_with_serial(version, "SN-another"), "SN-another"), (boot_payload(version), None)):
        with Station(secure, version, new_id, tls=pki.client(certificate)) as station:
            station.send([2, "boot", "BootNotification", wrong])
            assert station.closed_with() == 1008
            event = station.wait_event(
                "SerialNumberMismatch", lambda event, number=reported: event["payload"]["serialNumber"] == number
            )
            assert event["payload"]["certificateCommonName"] == serial
    with Station(secure, version, new_id, tls=pki.client(certificate)) as station:
        answer = station.call("BootNotification", boot_with_serial(version, serial))
        assert answer["status"] == "Accepted"


@case(30, "*")
def test_a_station_that_used_tls_is_not_let_in_without(
    secure: Gateway, pki: Pki, plain_port: int, version: str, new_id: str
) -> None:
    certificate = pki.station(new_id)
    types = {"type": "mtls", "allowedTypes": ["mtls", "basic"]}
    secure.provision(basic_identity(new_id, PASSWORD, **types, certificates=[certificate.binding]))
    password = basic(new_id, PASSWORD)

    def lowered(**how: Any) -> None:
        since = secure.cursor
        with pytest.raises(InvalidStatus) as refused:
            Station(secure, version, new_id, headers=password, **how).connect()
        assert refused.value.response.status_code == 403
        secure.wait_attempt(lambda attempt: attempt["outcome"] == "SecurityProfileLowered", f"chargePointId={new_id}")
        assert secure.events(since, new_id) == [], "refused before it could boot"

    with Station(secure, version, new_id, headers=password, port=plain_port) as station:
        station.booted()
    with Station(secure, version, new_id, headers=password, tls=pki.client()) as station:
        station.booted()
    secure.wait_identity(new_id, lambda stored: stored["securityProfile"] == 2)
    lowered(port=plain_port)
    with Station(secure, version, new_id, tls=pki.client(certificate)) as station:
        station.booted()
    secure.wait_identity(new_id, lambda stored: stored["securityProfile"] == 3)
    lowered(port=plain_port)
    lowered(tls=pki.client())


# --- certificates that stations ask for


def sign_request(version: str, csr: str) -> JsonObject:
    if version == "1.6":
        return {"csr": csr}
    payload: JsonObject = {"csr": csr, "certificateType": "ChargingStationCertificate"}
    return {**payload, "requestId": 7} if version == "2.1" else payload


def same_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    kind = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*kind) == key.public_key().public_bytes(*kind)


@case(31, "*")
def test_a_request_is_accepted_and_signed_or_rejected_without_a_ca(
    secure: Gateway, strict: Gateway, pki: Pki, version: str, new_id: str
) -> None:
    for gateway in (secure, strict):
        gateway.provision(basic_identity(new_id, PASSWORD))
    key, csr = new_request(new_id)
    with Station(secure, version, new_id, headers=basic(new_id, PASSWORD), tls=pki.client()) as station:
        station.booted()
        assert station.call("SignCertificate", sign_request(version, csr)) == {"status": "Accepted"}
        message_id, _, payload = station.expect_call("CertificateSigned")
        leaf, *above = x509.load_pem_x509_certificates(payload.pop("certificateChain").encode())
        assert same_key(leaf, key)
        assert above == [pki.issuing.certificate]
        leaf.verify_directly_issued_by(pki.issuing.certificate)
        assert payload == {name: value for name, value in sign_request(version, csr).items() if name != "csr"}
        station.reply(message_id, {"status": "Accepted"})
    with Station(strict, version, new_id, headers=basic(new_id, PASSWORD)) as station:
        station.booted()
        assert station.call("SignCertificate", sign_request(version, csr)) == {"status": "Rejected"}
        station.nothing_was_sent()


@case(32, "*")
def test_a_certificate_that_the_station_rejects_leaves_the_old_one_in_use(
    secure: Gateway, pki: Pki, version: str, new_id: str
) -> None:
    old = pki.station(new_id)
    secure.provision(mtls_identity(new_id, [old]))
    with Station(secure, version, new_id, tls=pki.client(old)) as station:
        station.booted()
        assert station.call("SignCertificate", sign_request(version, new_request(new_id)[1])) == {"status": "Accepted"}
        message_id, _, _ = station.expect_call("CertificateSigned")
        station.reply(message_id, {"status": "Rejected"})
        kind = "InvalidChargePointCertificate" if version == "1.6" else "InvalidChargingStationCertificate"
        assert station.call("SecurityEventNotification", {"type": kind, "timestamp": NOW}) == {}
        secure.wait_identity(new_id, lambda stored: "pendingCertificates" not in stored["auth"])
        station.nothing_was_sent()  # no second CertificateSigned
    stored = secure.identity(new_id)
    assert stored["auth"]["certificates"] == [old.binding], "what was handed over and refused is not bound"
    with Station(secure, version, new_id, tls=pki.client(old)) as station:
        station.call("Heartbeat", {})


# --- security events


@case(33, "*")
def test_a_security_event_of_a_type_nobody_knows_is_answered(station: Station, version: str) -> None:
    payload = {"type": "FlyingSaucerSighted", "timestamp": NOW, "techInfo": "over there"}
    assert station.call("SecurityEventNotification", payload) == {}
    assert station.wait_event("SecurityEventNotification")["payload"]["payload"] == payload

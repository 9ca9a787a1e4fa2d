"""B: HTTP Basic authentication before the upgrade, and security events. TLS is not served by this listener."""

import base64

import pytest
from websockets.exceptions import InvalidStatus

from tests.conformance.cases import case
from tests.conformance.conftest import PASSWORD, RAW_KEY, UTF8_PASSWORD
from tests.integration.harness import NOW, Gateway, Station, basic


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


@case(33, "*")
def test_a_security_event_of_a_type_nobody_knows_is_answered(station: Station, version: str) -> None:
    payload = {"type": "FlyingSaucerSighted", "timestamp": NOW, "techInfo": "over there"}
    assert station.call("SecurityEventNotification", payload) == {}
    assert station.wait_event("SecurityEventNotification")["payload"]["payload"] == payload

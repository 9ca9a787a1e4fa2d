"""500 stations with certificates that connect at once: after a power cut, say. Then again, resuming their sessions."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.certificates import Pki, mtls_identity
from tests.integration.fleet import Fleet
from tests.integration.harness import Gateway, boot_payload

pytest_plugins = ("tests.integration.certificates",)

STATIONS = 500
TIME_LIMIT = 40.0  # seconds for all of them; it takes about two on an idle machine
STATION_BYTES = 200 * 1024  # of memory, for an open connection with TLS and all that is known of its station
STORM_BYTES = 32 * 1024 * 1024  # that one more storm may add


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Gateway]:
    settings = {"tls": pki.tls(client_auth="require"), "stations": {"unknown": "refuse"}}
    with Gateway(tmp_path_factory.mktemp("storm"), settings) as gateway:
        yield gateway


def test_a_reconnect_storm_lets_everybody_in_once(gateway: Gateway, pki: Pki) -> None:
    certificates = {f"CP-{number:03d}": pki.station(f"CP-{number:03d}") for number in range(STATIONS)}
    gateway.provision(*(mtls_identity(name, [certificate]) for name, certificate in certificates.items()))
    with Fleet(gateway.websocket_port) as fleet:
        stations = [fleet.add("2.0.1", name, pki.client(certificate)) for name, certificate in certificates.items()]
        at_rest = memory(gateway)

        storm(gateway, fleet, resumed=False)
        first = memory(gateway)
        assert first - at_rest < STATIONS * STATION_BYTES

        fleet.vanish(stations)
        storm(gateway, fleet, resumed=False)
        second = memory(gateway)
        assert second - first < STORM_BYTES

        for station in stations:
            station.keep_session()
        fleet.vanish(stations)
        storm(gateway, fleet, resumed=True)
        assert memory(gateway) - second < STORM_BYTES
    connected = Counter(
        event["chargePointId"] for event in gateway.events() if event["eventType"] == "StationConnected"
    )
    assert connected == dict.fromkeys(certificates, 3), "one a storm"


def storm(gateway: Gateway, fleet: Fleet, *, resumed: bool) -> None:
    """All at once; everybody gets in at the first try, is served, and is counted once."""
    before = handshakes(gateway)
    assert fleet.connect(fleet.stations) < TIME_LIMIT
    assert [station.id for station in fleet.stations if station.resumed != resumed] == []
    fleet.call(fleet.stations, "BootNotification", boot_payload("2.0.1"))
    assert handshakes(gateway) == {**before, "admitted": before.get("admitted", 0) + STATIONS}
    assert gateway.metric('ocppgw_connections{version="2.0.1"}') == STATIONS
    assert gateway.get("/v1/stations?connected=true&limit=1")["total"] == STATIONS


def handshakes(gateway: Gateway) -> dict[str, int]:
    """How many ended how."""
    text = gateway.http("GET", "/metrics").body.decode()
    found = re.findall(r'^ocppgw_handshakes_total\{outcome="(\w+)"\} (\d+)', text, re.MULTILINE)
    return {outcome: int(count) for outcome, count in found}


def memory(gateway: Gateway) -> int:
    """Bytes that the gateway's process has in memory."""
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024

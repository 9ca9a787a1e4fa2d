"""TLS files and identity files that are swapped by SIGHUP under 200 connected stations with traffic.

The first test leaves the gateway's files changed, the second one has identity files of its own.
"""

import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from tests.integration.certificates import (
    Certificate,
    Pki,
    ServedFiles,
    basic_identity,
    fingerprint,
    mtls_identity,
)
from tests.integration.fleet import Fleet, FleetStation
from tests.integration.harness import SUBPROTOCOLS, TIME_LIMIT, Gateway, Station, basic, refusal, upgrade

pytest_plugins = ("tests.integration.certificates",)

STATIONS = 200
CLOSED_WITHIN = 2.0  # seconds
PACE = 0.4  # seconds between two messages of a station
PASSWORD = "the-stations-password"
VERSIONS = ("1.6", "2.0.1", "2.1")
KEPT = "TLS files not taken over, the old ones stay in use: "


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, served: ServedFiles) -> Iterator[Gateway]:
    settings = {"tls": served.tls(), "stations": {"unknown": "refuse"}}
    files = [basic_identity(f"FILE-{number}", PASSWORD) for number in (1, 2)]
    with Gateway(tmp_path_factory.mktemp("reload"), settings, identities=files) as gateway:
        yield gateway


def test_new_certificates_and_crls_drop_nobody_but_the_revoked_station(
    gateway: Gateway, served: ServedFiles, pki: Pki
) -> None:
    old = served.fingerprints()
    assert shown(gateway, pki) == old
    with Fleet(gateway.websocket_port) as fleet:
        victim, certificate = build(fleet, gateway, pki)
        fleet.connect(fleet.stations)
        fleet.start_charging(PACE)
        wait_for_traffic(fleet)

        new = served.renew()
        assert set(new).isdisjoint(old)
        served.revoke(certificate)
        begun = time.monotonic()
        gateway.hang_up("swapped")
        wait_until(lambda: victim.closed_at > 0)
        assert victim.close_code == 1008
        assert begun < victim.closed_at < begun + CLOSED_WITHIN
        assert shown(gateway, pki) == new
        wait_for_traffic(fleet)

        for path, contents, fault in broken_files(served):
            with replaced(path, contents):
                gateway.hang_up("kept")
                gateway.wait_log(re.escape(f"{KEPT}{path}: {fault}"))
                assert shown(gateway, pki) == new
        gateway.hang_up("unchanged")
        wait_for_traffic(fleet)

        fleet.stop_charging()
        assert [station.id for station in fleet.stations if station.closed_at] == [victim.id]
        assert gateway.get("/v1/stations?connected=true&limit=1")["total"] == STATIONS - 1
    nothing_was_lost(gateway, fleet, victim)
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        upgrade(gateway, f"/ocpp/{victim.version}/{victim.id}", SUBPROTOCOLS[victim.version], tls=victim.client)


def test_identity_files_are_read_again(gateway: Gateway, pki: Pki) -> None:
    def client(name: str) -> Station:
        return Station(gateway, "2.0.1", name, tls=pki.client(), headers=basic(name, PASSWORD))

    with client("FILE-1") as kept, client("FILE-2") as removed:
        kept.booted()
        removed.booted()
        assert refused(gateway, pki, "FILE-3") == 401
        gateway.write_identity(basic_identity("FILE-3", PASSWORD))
        (gateway.folder / "identities" / "FILE-2.json").unlink()
        begun = time.monotonic()
        gateway.hang_up("unchanged")
        assert removed.closed_with(CLOSED_WITHIN) == 1008
        assert time.monotonic() - begun < CLOSED_WITHIN
        gateway.wait_log("identity files: 1 changed, 1 removed")
        assert refused(gateway, pki, "FILE-2") == 401
        with client("FILE-3") as added:
            added.booted()

            broken = gateway.folder / "identities" / "FILE-4.json"
            broken.write_text('{"chargePointId": "FILE-4", ')
            (gateway.folder / "identities" / "FILE-3.json").unlink()
            gateway.hang_up("unchanged")
            gateway.wait_log(rf"identity files not taken over: {re.escape(str(broken))}: ")
            for station in (kept, added):
                assert "currentTime" in station.call("Heartbeat", {})
    changes = [
        (event["eventType"], event["chargePointId"], event["payload"]["reason"])
        for event in gateway.events()
        if event.get("chargePointId", "").startswith("FILE-") and event["eventType"].startswith("ChargerIdentity")
    ]
    assert Counter(changes) == {
        ("ChargerIdentityUpserted", "FILE-1", "identity-file"): 1,
        ("ChargerIdentityUpserted", "FILE-2", "identity-file"): 1,
        ("ChargerIdentityUpserted", "FILE-3", "identity-file"): 1,
        ("ChargerIdentityDeleted", "FILE-2", "identity-file"): 1,
    }


# --- the fleet


def build(fleet: Fleet, gateway: Gateway, pki: Pki) -> tuple[FleetStation, Certificate]:
    """Every other station with a certificate, the rest with a password, all three versions. Returns the one that will
    be revoked, and its certificate."""
    anonymous = pki.client()
    identities, certificates = [], {}
    for number in range(STATIONS):
        name, version = f"CP-{number:03d}", VERSIONS[number % 3]
        if number % 2:
            certificates[name] = pki.station(name)
            identities.append(mtls_identity(name, [certificates[name]]))
            fleet.add(version, name, pki.client(certificates[name]))
        else:
            identities.append(basic_identity(name, PASSWORD))
            fleet.add(version, name, anonymous, basic(name, PASSWORD))
    gateway.provision(*identities)
    victim = fleet.stations[77]
    return victim, certificates[victim.id]


def wait_for_traffic(fleet: Fleet) -> None:
    """Until each station that is connected got two answers more."""
    wanted = {station: len(station.answered) + 2 for station in fleet.stations}
    wait_until(lambda: all(len(one.answered) >= most or one.closed_at for one, most in wanted.items()))


def nothing_was_lost(gateway: Gateway, fleet: Fleet, victim: FleetStation) -> None:
    """Every CALL was answered, but for the one that may have been under way when the victim was cut off; and all that
    was answered is in the journal, once."""
    for station in fleet.stations:
        assert station.answered == station.sent[: len(station.answered)]
        assert len(station.sent) - len(station.answered) <= (station is victim)
    answered = {name for station in fleet.stations for action, name in station.answered if action == "MeterValues"}
    kept = Counter(
        event["payload"]["messageId"] for event in gateway.events() if event["eventType"] == "MeterValuesReceived"
    )
    assert answered <= kept.keys()
    assert set(kept.values()) == {1}
    assert len(kept) - len(answered) <= 1


# --- files


def broken_files(served: ServedFiles) -> list[tuple[Path, bytes, str]]:
    """A file, what is wrong with its contents, and how the gateway calls it."""
    rsa, ecdsa = served.servers
    half = rsa.read_bytes()[:-200]
    strangers_key = ecdsa.read_bytes().partition(b"-----BEGIN CERT")[0]
    own = b"-----BEGIN CERT" + rsa.read_bytes().partition(b"-----BEGIN CERT")[2]
    return [
        (rsa, b"", "is empty"),
        (rsa, half, "has a PEM block that doesn't end"),
        (rsa, b"garbage\n", "holds no certificate in PEM"),
        (rsa, own.replace(b"\nMII", b"\nXXX", 1) + strangers_key, "certificate 1 can't be parsed"),
        (rsa, strangers_key + own, "holds no key for the certificate CN=localhost"),
        (served.crls[1], served.crls[1].read_bytes()[:-100], "has a PEM block that doesn't end"),
    ]


@contextmanager
def replaced(path: Path, contents: bytes) -> Iterator[None]:
    """As a careless operator does: the file is written over, and mended later."""
    before = path.read_bytes()
    path.write_bytes(contents)
    try:
        yield
    finally:
        path.write_bytes(before)


# --- what a new connection meets


def shown(gateway: Gateway, pki: Pki) -> list[str]:
    """Fingerprints of the RSA and of the ECDSA certificate that the gateway shows now."""
    found = []
    for kind in ("RSA", "ECDSA"):
        client = pki.client(version=ssl.TLSVersion.TLSv1_2)
        client.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        reply, peer = upgrade(gateway, "/", tls=client, is_websocket=False)
        certificate = peer.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        peer.close()
        assert reply.status == 426
        found.append(fingerprint(x509.load_der_x509_certificate(certificate)))
    return found


def refused(gateway: Gateway, pki: Pki, name: str) -> int:
    headers = basic(name, PASSWORD)
    return refusal(gateway, f"/ocpp/2.0.1/{name}", "ocpp2.0.1", headers=headers, tls=pki.client()).status


def wait_until(is_so: Callable[[], bool]) -> None:
    """Of what happens in the fleet's thread."""
    deadline = time.monotonic() + TIME_LIMIT
    while not is_so():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.01)

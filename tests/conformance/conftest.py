"""The daemons the cases run against, and the table of cases by version at the end of the run.

`gateway` lets everybody in; `strict` wants credentials; `secure` wants them over TLS; `switched` has every protocol
switch the other way; each is started once. A test never shares a station with another one.
"""

import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.cases import VERSIONS
from tests.integration.certificates import OPERATOR, Pki, free_port
from tests.integration.harness import Gateway, JsonObject, Station

SALT = "pepper-and-salt"
RAW_KEY = bytes([0xFF, 0x3A, 0x00, 0x80]) + bytes(range(0x10, 0x20))  # 20 octets, with 0xFF, ':' and NUL
UTF8_PASSWORD = "pä:ß-充电-" + "x" * 56  # 64 characters
PASSWORD = "correct horse:staple"
PENDING, REJECTED = "PENDING", "REJECTED"


def identity(charge_point_id: str, secret: bytes, **members: Any) -> JsonObject:
    """An identity of contract section 2 with a salted SHA-256; `auth` members are added to its own."""
    digest = hashlib.sha256(SALT.encode() + secret).hexdigest()
    auth = {"type": "basic", "hashAlgorithm": "sha256", "secretHash": digest, "secretSalt": SALT}
    return {
        "chargePointId": charge_point_id,
        "stationId": f"station-{charge_point_id}",
        "tenantId": "tenant-1",
        "status": "active",
        **members,
        "auth": auth | members.get("auth", {}),
    }


def _identities() -> list[JsonObject]:
    found = [
        identity("RAW", RAW_KEY),
        identity("HEX", RAW_KEY),
        identity("HEX-ALLOWED", RAW_KEY, auth={"acceptHexSecret": True}),
        identity("UTF8", UTF8_PASSWORD.encode()),
    ]
    for version in VERSIONS:
        found.append(identity(f"BASIC-{version}", PASSWORD.encode()))
        for status in (PENDING, REJECTED):
            # More than one each, so that no test meets what another one did to a station's boot state.
            for number in range(6):
                boot = {"status": status.capitalize()}
                found.append(identity(f"{status}-{version}-{number}", PASSWORD.encode(), boot=boot))
    return found


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "answers": {
            "id_tokens": {"BLOCKED": "Blocked", "INVALID": "Invalid"},
            "data_transfer_vendors": ["com.example"],
        },
        "ocpp": {"bad_frames_window_seconds": 600.0},
    }
    with Gateway(tmp_path_factory.mktemp("open"), settings) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {"stations": {"unknown": "refuse"}, "admission": {"swaps_per_minute": 1000}}
    with Gateway(tmp_path_factory.mktemp("strict"), settings, identities=_identities()) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def plain_port() -> int:
    """Where `secure` speaks no TLS."""
    return free_port()


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory, pki: Pki, plain_port: int) -> Iterator[Gateway]:
    """TLS with client certificates for those who have one, an RSA and an ECDSA certificate of its own, a local CA."""
    settings = {
        "websocket": {"more_ports": {str(plain_port): "plain"}},
        "stations": {"unknown": "refuse", "hash_algorithm": "sha256"},
        "tls": pki.tls(client_organizations=[OPERATOR]),
        "signing": pki.signing(),
    }
    with Gateway(tmp_path_factory.mktemp("secure"), settings) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def switched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "websocket": {"ping_interval_seconds": 0.3},
        "ocpp": {
            "assume_accepted": True,
            "trigger_boot_when_rejected": True,
            "unknown_type_error": True,
            "no_subprotocol_close": True,
        },
    }
    boot = {"status": "Rejected"}
    rejected = [identity(f"{REJECTED}-{version}", PASSWORD.encode(), boot=boot) for version in VERSIONS]
    with Gateway(tmp_path_factory.mktemp("switched"), settings, identities=rejected) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that tests may restart and kill."""
    with Gateway(tmp_path_factory.mktemp("restarted")) as gateway:
        yield gateway


@pytest.fixture
def new_id() -> str:
    return f"CP-{uuid.uuid4()}"


@pytest.fixture
def station(gateway: Gateway, version: str, new_id: str) -> Iterator[Station]:
    """Connected and booted."""
    with Station(gateway, version, new_id) as station:
        yield station.booted()


# --- the table

_results: dict[int, dict[str, str]] = defaultdict(dict)
_chapters: dict[int, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "case(number): the case of the conformance list that a test shows")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    marker = item.get_closest_marker("case")
    if marker is None or not isinstance(item, pytest.Function):
        return
    report = outcome.get_result()
    if report.when == "call" or report.failed:
        number, version = marker.args[0], str(item.callspec.params["version"])
        row = _results[number]
        row[version] = "FAIL" if report.failed or row.get(version) == "FAIL" else "ok"
        chapter = re.match(r"test_([a-z])_(.*?)(_kafka)?$", item.path.stem)
        _chapters[number] = f"{chapter[1].upper()} {chapter[2].replace('_', ' ')}" if chapter else ""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _results:
        return
    terminalreporter.section("conformance: cases by version")
    for chapter in sorted(set(_chapters.values())):
        numbers = sorted(number for number in _results if _chapters[number] == chapter)
        terminalreporter.line(chapter)
        terminalreporter.line("case  " + "".join(f"{number:>5}" for number in numbers))
        for version in VERSIONS:
            cells = (_results[number].get(version, "-") for number in numbers)
            terminalreporter.line(f"{version:<6}" + "".join(f"{cell:>5}" for cell in cells))

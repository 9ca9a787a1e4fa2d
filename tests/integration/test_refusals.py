"""Everybody who is refused, and who is let in although it looks like it, on real sockets: the table of refusals.

A refusal is told in five places: the answer, the log, the metric, `/v1/attempts` and `ocppgw explain`. Nothing else is
stored of it. Attempts are written a moment later, so they are looked at when all rows have had their answers.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ocppgw.access.refusals import Reason
from tests.integration.harness import JsonObject, Station, basic
from tests.integration.knocking import Answer, Caller, Knock, Tls
from tests.integration.refusal_checks import explains, handshakes, is_answer, is_line
from tests.integration.refusal_rows import PASSWORD, TOKEN, Row
from tests.integration.refusal_sites import SETTINGS, Certificates, Site
from tests.integration.refusal_table import CREDENTIALS, REQUESTS, RULES
from tests.integration.refusal_table_outside import BALANCED, COMPANIONS, LIMITS, PROXIED
from tests.integration.refusal_table_tls import CERTIFICATES, HANDSHAKES

ROWS: list[Row] = [*REQUESTS, *CREDENTIALS, *HANDSHAKES, *CERTIFICATES, *RULES, *PROXIED, *BALANCED, *LIMITS]
REFUSED = [row for row in ROWS if row.outcome is not None]
LET_IN = [row for row in ROWS if row.outcome is None]

NO_ROW = {
    Reason.STARTING: "it is not about who comes: test_not_now.py",
    Reason.DRAINING: "it is not about who comes: test_not_now.py",
    Reason.STORE_UNAVAILABLE: "it is not about who comes: test_not_now.py",
    Reason.IDENTITY_DELETED: "it ends an open connection: test_a_deleted_station_is_sent_away",
    Reason.CERTIFICATE_NOT_YET_VALID: "the gateway's clock must be set back: tests/test_access_fuzz.py",
    Reason.HASHING_OVERLOADED: "it takes 128 hashes at once: tests/test_entrance.py",
    Reason.OWNED_ELSEWHERE: "takes two nodes: tests/integration/test_half_open.py",
}


def test_every_reason_has_a_row_or_a_reason_why_not() -> None:
    assert {row.outcome for row in REFUSED}.isdisjoint(NO_ROW)
    assert {row.outcome for row in REFUSED} | set(NO_ROW) == set(Reason)
    assert len(REFUSED) >= 80
    assert len({str(row) for row in ROWS}) == len(ROWS)


# --- the table


@dataclass(frozen=True)
class Told:
    """What came of a row: the client's answer, what was counted and logged, what is stored beside attempts; and when
    that was."""

    answer: Answer
    counted: Counter[str]
    lines: list[str]
    stored_before: Any
    stored_after: Any
    began: float
    ended: float


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    folder = tmp_path_factory.mktemp("refusals")
    certificates = Certificates(folder / "certificates")
    with ExitStack() as running:
        sites = {name: running.enter_context(_site(name, folder / name, certificates)) for name in SETTINGS}
        revoked = {"fingerprint": certificates.made["listed"].fingerprint, "audit": {"reason": "stolen"}}
        assert sites["main"].http("POST", "/v1/revocations", revoked).status == 200
        yield sites


def _site(name: str, folder: Path, certificates: Certificates) -> Site:
    identities = [row.identity for row in ROWS if row.site == name and row.identity is not None and row.is_valid]
    others = [
        {"chargePointId": other, "stationId": other, "tenantId": "tenant-1", "auth": auth}
        for other, auth in COMPANIONS.items()
    ]
    site = Site(name, folder, certificates, [*identities, *others])
    for row in ROWS:
        if row.site == name and row.identity is not None and not row.is_valid:
            site.store_unchecked(row.identity)
    return site


@pytest.fixture(scope="module")
def told(sites: dict[str, Site]) -> Callable[[Row], Told]:
    """Each row is played once, however many tests look at it."""
    known: dict[str, Told] = {}

    def tell(row: Row) -> Told:
        if row.id not in known:
            known[row.id] = _play(sites[row.site], row)
        return known[row.id]

    return tell


def _play(site: Site, row: Row) -> Told:
    with ExitStack() as leaving:
        for knock in row.before:
            caller = site.caller(knock)
            caller.call()
            caller.leave()
        for knock in row.held:
            leaving.callback(_held(site, knock).leave)
        told = _told(site, row)
    site.restore()
    return told


def _held(site: Site, knock: Knock) -> Caller:
    caller = site.caller(knock).connect()
    if not knock.is_silent:
        assert caller.ask().status == 101
    return caller


def _told(site: Site, row: Row) -> Told:
    stored, counted, line = _stored(site, row), handshakes(site), site.log.count("\n")
    began = time.time()
    caller = site.caller(row.knock)
    answer = caller.call()
    site.wait_log(rf"\b{row.code}\b" if row.outcome else "connected with", since=line)
    ended = time.time()
    lines, counted = site.log.splitlines()[line:], handshakes(site) - counted
    told = Told(answer, counted, lines, stored, _stored(site, row), began, ended)
    caller.leave()
    return told


def _stored(site: Site, row: Row) -> Any:
    """The cursor comes last: by then all events are durable that were made before the identities were asked for."""
    identities = site.get("/v1/identities?full=true&limit=1000")
    profile = site.http("GET", f"/v1/identities/{row.id}").json.get("securityProfile")
    return identities, profile, site.cursor


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_the_answer_of(row: Row, told: Callable[[Row], Told]) -> None:
    assert row.outcome is not None
    answer = told(row).answer
    if row.status:
        is_answer(answer, row.outcome)
    else:
        assert answer.status == 0
        if row.knock.raw is None and not row.alert.startswith("received"):
            assert answer.alert.partition("ALERT_")[2] == row.alert.upper()


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_the_log_and_the_metric_of(row: Row, told: Callable[[Row], Told]) -> None:
    seen = told(row)
    assert seen.counted == Counter([row.code])
    assert row.outcome is not None
    is_line(seen.lines, row.outcome, f"refused {row.address}: ", row.detail)
    sent = row.knock.headers.get("Authorization", "").partition(" ")[2]
    for secret in filter(None, (PASSWORD, TOKEN, sent)):
        assert secret not in "".join(seen.lines)


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_nothing_is_stored_of(row: Row, told: Callable[[Row], Told]) -> None:
    assert told(row).stored_before == told(row).stored_after


@pytest.mark.parametrize("row", LET_IN, ids=str)
def test_let_in_is(row: Row, told: Callable[[Row], Told]) -> None:
    seen = told(row)
    assert (seen.answer.status, seen.counted) == (101, Counter(["admitted"]))
    assert seen.answer.headers["sec-websocket-protocol"] in (row.knock.offers or "").split(", ")
    assert not [line for line in seen.lines if "refused " in line]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_attempt_of(row: Row, told: Callable[[Row], Told], sites: dict[str, Site]) -> None:
    seen = told(row)
    attempt = _attempt(sites[row.site], row, seen)
    alert = f"sent: {row.alert}" if row.alert and ":" not in row.alert else row.alert
    assert (attempt["outcome"], attempt.get("status", 0), attempt.get("alert", "")) == (row.code, row.status, alert)
    assert row.detail in attempt.get("detail", "")
    assert attempt["listener"].startswith("plain port" if row.knock.port == "plain" else "TLS port")
    assert ("proxy" in attempt) == (row.address != row.knock.source)
    assert attempt.get("resumed", False) == bool(row.knock.tls and row.knock.tls.resumes)
    if row.outcome is None:
        assert attempt["chargePointId"] == row.id
    else:
        explains(attempt, row.outcome)


def _attempt(site: Site, row: Row, told: Told) -> JsonObject:
    """The only one of this address while the row was played."""

    def is_of_row(attempt: JsonObject) -> bool:
        return told.began - 0.001 <= _seconds(attempt["at"]) <= told.ended

    query = f"address={row.address}"
    site.wait_attempt(is_of_row, query)
    (attempt,) = filter(is_of_row, site.attempts(query))
    return attempt


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


EXPLAINED = [REFUSED[0], CREDENTIALS[7], HANDSHAKES[8], CERTIFICATES[2], PROXIED[3]]


@pytest.mark.parametrize("row", EXPLAINED, ids=str)
def test_the_command_line_explains(row: Row, told: Callable[[Row], Told], sites: dict[str, Site]) -> None:
    assert row.outcome is not None
    site = sites[row.site]
    _attempt(site, row, told(row))
    whose = ("--address", row.address) if row.outcome.status in (0, 400) or row.site == "proxied" else (row.id,)
    explained = site.cli("explain", *whose)
    assert explained.returncode == 0, explained
    first, *more = explained.stdout.splitlines()
    assert first.endswith(f"({row.code}): {row.outcome.remedy}")
    assert [line for line in more if row.code in line and (row.status == 0 or f"HTTP {row.status}" in line)]


@pytest.mark.parametrize(("site", "port"), [("main", "plain"), ("main", "mtls"), ("balanced", "plain")])
def test_a_probe_that_says_nothing_is_not_told(sites: dict[str, Site], site: str, port: str) -> None:
    """A load balancer that looks every second whether the port is open must not fill the log."""
    lines, counted = sites[site].log.count("\n"), handshakes(sites[site])
    sites[site].caller(Knock(port=port, raw=b"", source="127.0.0.1")).connect().vanish()
    sites[site].caller(Knock(port=port, raw=b"\r\n\r\n", source="127.0.0.1")).call()  # a barrier: it is told
    sites[site].wait_log("refused ", since=lines)
    assert (handshakes(sites[site]) - counted).total() == 1


def test_a_missing_proxy_header_on_a_tls_port_is_told_once(sites: dict[str, Site]) -> None:
    site = sites["balanced"]
    counted = handshakes(site)
    caller = site.caller(Knock(port="mtls", tls=Tls("ec"), source="127.0.0.1"))
    assert caller.call().status == 0
    assert handshakes(site) - counted == Counter([Reason.PROXY_PROTOCOL_INVALID.code])


def test_a_deleted_station_is_sent_away(sites: dict[str, Site]) -> None:
    site, name = sites["main"], next(iter(COMPANIONS))
    with Station(site, "1.6", name, headers=basic(name, PASSWORD)) as station:
        line = site.log.count("\n")
        assert site.http("POST", f"/v1/identities/{name}/delete", {}).status == 200
        assert station.closed_with() == 1008
    reason = Reason.IDENTITY_DELETED
    attempt = site.wait_attempt(lambda one: one["outcome"] == reason.code, f"chargePointId={name}")
    assert attempt["closeCode"] == 1008
    explains(attempt, reason)
    assert reason.remedy in site.wait_log(rf"closing {name}: {reason.code}: .*", since=line)[0]

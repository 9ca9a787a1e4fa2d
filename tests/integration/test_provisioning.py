"""`ocppgw provision` and its kin end to end: the real command line, the real daemon, and stations that then get in.

All secrets of these tests are collected; the last one looks for them wherever they must not be.
"""

import json
import secrets
import stat
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.certificates import Certificate, Pki, identity, mtls_identity
from tests.integration.harness import Gateway, JsonObject, basic, upgrade
from tests.integration.traces import ProcessList, Secrets

pytest_plugins = ("tests.integration.certificates",)

AUDIT_TOPIC = "cpms.audit.events"
MANY = 1000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Gateway]:
    settings = {"tls": pki.tls(), "stations": {"unknown": "refuse"}, "logs": {"level": "debug"}}
    with Gateway(tmp_path_factory.mktemp("provisioning"), settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def hidden() -> Secrets:
    return Secrets()


@pytest.fixture(scope="module", autouse=True)
def process_list() -> Iterator[ProcessList]:
    with ProcessList() as watching:
        yield watching


@pytest.fixture
def name() -> str:
    return f"CP-{secrets.token_hex(5)}"


# --- secrets


def test_a_secret_in_a_file_is_hashed_before_it_is_sent(
    gateway: Gateway, pki: Pki, hidden: Secrets, name: str, tmp_path: Path
) -> None:
    secret, token = hidden.new(), hidden.new()
    document = identity(name, type="basic", allowedTypes=["basic", "token"], secret=secret, token=token)
    file = written(tmp_path, document)
    assert "stored" in gateway.run("provision", str(file))
    assert status(gateway, pki, name, basic(name, secret)) == 101
    assert status(gateway, pki, name, {"Authorization": f"Bearer {token}"}) == 101
    assert status(gateway, pki, name, {"X-Api-Key": token}) == 101
    assert status(gateway, pki, name, basic(name, token)) == 401
    stored = gateway.identity(name)["auth"]
    assert stored["hashAlgorithm"] == "scrypt"
    assert not {"secret", "token"} & stored.keys()
    assert "replaced" in gateway.run("provision", "-", stdin=json.dumps(document))


def test_a_secret_from_standard_input(gateway: Gateway, pki: Pki, hidden: Secrets, name: str) -> None:
    secret = hidden.new()
    who = ("--id", name, "--station-id", "s", "--tenant-id", "t")
    gateway.run("provision", *who, "--secret-stdin", stdin=f"{secret}\n")
    assert status(gateway, pki, name, basic(name, secret)) == 101
    octets = bytes([0xFF, 0x3A, 0x00]) + secrets.token_bytes(17)
    hidden.traces.append(octets.hex())
    gateway.run("provision", *who, "--secret-stdin", "--hex", stdin=octets.hex())
    assert status(gateway, pki, name, basic(name, octets)) == 101
    assert status(gateway, pki, name, basic(name, secret)) == 401


def test_a_secret_that_is_made_is_shown_once(gateway: Gateway, pki: Pki, hidden: Secrets, name: str) -> None:
    who = ("--id", name, "--station-id", "s", "--tenant-id", "t")
    made = json.loads(gateway.run("provision", *who, "--generate-secret", "--generate-token", "--json"))
    secret, token = hidden.remember(made["secret"]), hidden.remember(made["token"])
    assert (made["chargePointId"], made["created"]) == (name, True)
    assert made["secretHex"] == secret.encode().hex()
    gateway.run(
        "provision", *who, "--type", "basic", "--type", "token", "--secret-stdin", "--generate-token", stdin=secret
    )
    assert status(gateway, pki, name, basic(name, secret)) == 101
    assert status(gateway, pki, name, {"Authorization": f"Bearer {token}"}) == 401, "another one was made"


def test_what_the_environment_says_fills_in(gateway: Gateway, pki: Pki, hidden: Secrets, name: str) -> None:
    environ = {
        "PROVISION_SECRET": hidden.new(),
        "PROVISION_AUTH_TYPE": "basic",
        "PROVISION_ALLOWED_PROTOCOLS": "1.6J, 2.1",
    }
    gateway.run("provision", "--id", name, "--station-id", "s", "--tenant-id", "t", environ=environ)
    headers = basic(name, environ["PROVISION_SECRET"])
    assert [status(gateway, pki, name, headers, version) for version in ("1.6", "2.0.1", "2.1")] == [101, 403, 101]


def test_a_rotated_secret_replaces_the_old_one_when_it_is_first_used(
    gateway: Gateway, pki: Pki, hidden: Secrets, name: str, tmp_path: Path
) -> None:
    old = hidden.new()
    gateway.run("provision", str(written(tmp_path, identity(name, type="basic", secret=old))))
    new = hidden.remember(json.loads(gateway.run("rotate-secret", name, "--generate", "--json"))["secret"])
    for _ in range(2):
        assert status(gateway, pki, name, basic(name, old)) == 101
    assert status(gateway, pki, name, basic(name, new)) == 101
    gateway.wait_identity(name, lambda stored: "nextSecretHash" not in stored["auth"])
    assert status(gateway, pki, name, basic(name, old)) == 401
    assert status(gateway, pki, name, basic(name, new)) == 101
    last = hidden.new()
    gateway.run("rotate-secret", name, "--stdin", "--immediately", stdin=last)
    assert [status(gateway, pki, name, basic(name, one)) for one in (new, last)] == [401, 101]
    changes = [row["event"]["payload"]["change"] for row in audit(gateway, name)]
    assert changes == ["provisioned", "secret-rotated", "secret-in-use", "secret-rotated"]


def test_the_command_line_takes_no_secret(gateway: Gateway, name: str) -> None:
    for options in (("--secret", "unsafe"), ("--token", "unsafe"), ("--password", "unsafe")):
        done = gateway.cli("provision", "--id", name, "--station-id", "s", "--tenant-id", "t", *options)
        assert done.returncode == 2
        assert "No such option" in done.stderr
    assert gateway.http("GET", f"/v1/identities/{name}").status == 404


# --- what is shown


def test_show_and_list_mask_what_is_secret(gateway: Gateway, hidden: Secrets, name: str, tmp_path: Path) -> None:
    document = identity(name, type="basic", allowedTypes=["basic", "token"], secret=hidden.new(), token=hidden.new())
    gateway.run("provision", str(written(tmp_path, document)))
    gateway.run("rotate-secret", name, "--stdin", stdin=hidden.new())
    stored = gateway.identity(name)["auth"]
    confidential = [value for member, value in stored.items() if member.endswith(("Hash", "Salt"))]
    assert len(confidential) == 5, "two hashes and a salt, and those of the secret to come"
    for output in (
        gateway.run("show", name),
        gateway.run("show", name, "--json"),
        gateway.run("list", "--search", name),
        gateway.run("list", "--search", name, "--json"),
    ):
        assert name in output
        assert not [value for value in confidential if value in output]
    shown = json.loads(gateway.run("show", name, "--json"))
    assert shown["auth"]["secretHash"] == shown["auth"]["tokenHash"] == shown["auth"]["nextSecretHash"] == "***"
    assert (shown["securityProfile"], shown["connected"]) == (0, False)
    assert gateway.cli("provision", "-", stdin=json.dumps(shown)).returncode == 2, "what is masked can't be stored"
    assert gateway.identity(name)["auth"] == stored


def test_bad_input_names_the_member_and_the_mend_and_changes_nothing(
    gateway: Gateway, name: str, tmp_path: Path
) -> None:
    document = identity(name, type="basic", secretHash="abc", certificates=[{"fingerprint": "AA:BB"}]) | {
        "tenantId": ""
    }
    done = gateway.cli("provision", str(written(tmp_path, document)))
    assert done.returncode == 2
    for part in ("tenantId must be", "auth.secretHash must be", "auth.certificates[0].fingerprint"):
        assert part in done.stderr
    reply = gateway.http("POST", "/v1/identities", {"identity": document})
    assert (reply.status, reply.json["code"]) == (400, "IdentityInvalid")
    assert gateway.http("GET", f"/v1/identities/{name}").status == 404
    done = gateway.cli("rotate-secret", name, "--generate")
    assert done.returncode == 1
    assert f"there is no identity '{name}'" in done.stderr


# --- certificates


def test_bindings_with_windows_that_overlap(gateway: Gateway, pki: Pki, name: str) -> None:
    gateway.provision(mtls_identity(name))
    old, new, later, over = (pki.station(name) for _ in range(4))

    def bind(certificate: Certificate, *window: str) -> None:
        gateway.run("add-cert", name, str(certificate.path), *window)

    assert outcome(gateway, pki, name, old) == "CertificateNotBound"
    bind(old, "--to", moment(hours=1))
    bind(new, "--from", moment(hours=-1))
    bind(later, "--from", moment(hours=24))
    bind(over, "--from", moment(hours=-48), "--to", moment(hours=-24))
    assert [outcome(gateway, pki, name, one) for one in (old, new, old)] == ["Admitted"] * 3
    assert outcome(gateway, pki, name, later) == "CertificateBindingNotYet"
    assert outcome(gateway, pki, name, over) == "CertificateBindingOver"
    bind(old, "--from", moment(hours=-2), "--to", moment(hours=-1))  # the rotation ends: the same one, bound anew
    assert outcome(gateway, pki, name, old) == "CertificateBindingOver"
    assert outcome(gateway, pki, name, new) == "Admitted"
    assert len(gateway.identity(name)["auth"]["certificates"]) == 4


# --- many


def test_a_thousand_identities_are_imported_and_exported(
    gateway: Gateway, pki: Pki, hidden: Secrets, name: str, tmp_path: Path
) -> None:
    names = [f"{name}-{number:04d}" for number in range(MANY)]
    plain = {one: hidden.new() for one in names}
    lines = [json.dumps(identity(one, type="basic", secret=secret)) for one, secret in plain.items()]
    fleet, exported = tmp_path / "fleet.jsonl", tmp_path / "exported.jsonl"
    fleet.write_text("\n".join(lines))
    fast = ("--algorithm", "sha256")
    done = json.loads(gateway.run("import", str(fleet), *fast, "--json"))
    assert done == {"stored": MANY, "created": MANY, "updated": 0, "bad": []}
    for one in (names[0], names[MANY // 2], names[-1]):
        assert status(gateway, pki, one, basic(one, plain[one])) == 101

    gateway.run("export", str(exported), "--search", f"{name}-")
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    found = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [one["chargePointId"] for one in found] == names
    assert found[7]["auth"] == gateway.identity(names[7])["auth"]
    for one in names[:2]:
        gateway.run("delete", one, "--yes")
    done = json.loads(gateway.run("import", str(exported), "--json"))
    assert done == {"stored": MANY, "created": 2, "updated": MANY - 2, "bad": []}
    assert status(gateway, pki, names[0], basic(names[0], plain[names[0]])) == 101

    bad = [*lines[:3], "{", json.dumps(identity(f"{name}-NEW", type="basic"))]
    fleet.write_text("\n".join(bad))
    done = gateway.cli("import", str(fleet), *fast)
    assert done.returncode == 2
    assert "line 4: is not JSON" in done.stderr
    assert f"line 5 ({name}-NEW): auth.secretHash is needed" in done.stderr
    assert "Nothing was imported" in done.stderr
    stored = [event["chargePointId"] for event in gateway.events() if event["eventType"] == "ChargerIdentityUpserted"]
    assert Counter(one for one in stored if one.startswith(name)) == dict.fromkeys(names, 2), "once an import"


# --- audit


def test_every_change_is_an_audit_event_with_actor_type_address_and_reason(
    gateway: Gateway, pki: Pki, hidden: Secrets, name: str, tmp_path: Path
) -> None:
    certificate = pki.station(name)
    by_flags = ("--actor-id", "alice", "--actor-type", "user", "--actor-ip", "192.0.2.7", "--reason", "moved house")
    by_environment = {
        "PROVISION_ACTOR_ID": "deployment-7",
        "PROVISION_ACTOR_TYPE": "pipeline",
        "PROVISION_ACTOR_IP": "2001:db8::7",
        "PROVISION_REASON": "roll-out",
    }
    since = gateway.cursor
    document = identity(name, type="basic", allowedTypes=["basic", "mtls"], secret=hidden.new())
    gateway.run("provision", str(written(tmp_path, document)), *by_flags)
    gateway.run("rotate-secret", name, "--stdin", *by_flags, stdin=hidden.new())
    gateway.run("add-cert", name, str(certificate.path), environ=by_environment)
    gateway.run("disable", name, environ=by_environment)
    gateway.run("disable", name, environ=by_environment)  # it is already: no event
    gateway.run("enable", name, "--reason", "paid", environ=by_environment)
    gateway.run("revoke-cert", str(certificate.path), *by_flags)
    gateway.run("delete", name, "--yes")

    alice = {"actorId": "alice", "actorType": "user", "ip": "192.0.2.7", "reason": "moved house"}
    pipeline = {"actorId": "deployment-7", "actorType": "pipeline", "ip": "2001:db8::7", "reason": "roll-out"}
    nobody = {"actorId": "unknown", "actorType": "system", "ip": "127.0.0.1", "reason": "manual-provision"}
    rows = [row for row in gateway.rows(since) if row["topic"] == AUDIT_TOPIC]
    told = [(row["key"], row["event"]["eventType"], row["event"]["payload"].get("change")) for row in rows]
    assert told == [
        (name, "ChargerIdentityUpserted", "provisioned"),
        (name, "ChargerIdentityUpserted", "secret-rotated"),
        (name, "ChargerIdentityUpserted", "certificate-added"),
        (name, "ChargerIdentityUpserted", "disabled"),
        (name, "ChargerIdentityUpserted", "enabled"),
        (certificate.fingerprint, "ChargerCertificateRevoked", None),
        (name, "ChargerIdentityDeleted", None),
    ]
    audits = [{member: row["event"]["payload"][member] for member in alice} for row in rows]
    assert audits == [alice, alice, pipeline, pipeline, {**pipeline, "reason": "paid"}, alice, nobody]
    for row in rows[:5]:
        assert (row["event"]["stationId"], row["event"]["tenantId"]) == (f"station-{name}", "tenant-1")
    revoked = gateway.get("/v1/revocations")["revocations"]
    assert [(one["fingerprint"], one["actorId"], one["reason"]) for one in revoked] == [
        (certificate.fingerprint, "alice", "moved house")
    ]


def test_nothing_secret_is_left_anywhere(gateway: Gateway, hidden: Secrets, process_list: ProcessList) -> None:
    """The last test of this module: of all that the others did."""
    for command in ("provision", "rotate-secret", "import", "add-cert"):
        assert [line for line in process_list.seen if f"/ocppgw {command} " in line], "it was watched"
    stored = gateway.get("/v1/identities?full=true&limit=1000")["identities"]
    hashes = [value for one in stored for member, value in one["auth"].items() if member.endswith("Hash")][:100]
    assert len(hashes) == 100
    assert found(hidden.traces, "\n".join(process_list.seen)) == []
    confidential = [*hidden.traces, *hashes]
    assert found(confidential, gateway.log) == []
    assert found(confidential, json.dumps(gateway.rows())) == []
    assert found(confidential, json.dumps(gateway.get("/v1/identities?limit=1000"))) == []
    assert found(confidential, json.dumps(gateway.attempts())) == []
    kept = [path for path in gateway.state_dir.rglob("*") if path.is_file()]
    assert found([hashes[0]], "".join(map(text_of, kept))) == [hashes[0]], "this is where they are"
    for path in kept:
        assert found(hidden.traces, text_of(path)) == [], f"{path} holds a plain secret"


# --- bits and pieces


def found(traces: list[str], text: str) -> list[str]:
    return [trace for trace in traces if trace in text]


def text_of(path: Path) -> str:
    return path.read_bytes().decode("latin-1")


def written(folder: Path, document: JsonObject) -> Path:
    path = folder / "identity.json"
    path.write_text(json.dumps(document))
    return path


def status(gateway: Gateway, pki: Pki, name: str, headers: dict[str, str], version: str = "2.0.1") -> int:
    """What a station meets that comes over TLS with these headers."""
    reply, peer = upgrade(gateway, f"/ocpp/{version}/{name}", f"ocpp{version}", headers, tls=pki.client())
    peer.close()
    return reply.status


def outcome(gateway: Gateway, pki: Pki, name: str, certificate: Certificate) -> str:
    """What becomes of a station that comes with this certificate, by its name."""
    before = time.time()
    _, peer = upgrade(gateway, f"/ocpp/2.0.1/{name}", "ocpp2.0.1", tls=pki.client(certificate))
    peer.close()
    attempt = gateway.wait_attempt(
        lambda one: datetime.fromisoformat(one["at"]).timestamp() >= before - 0.001, f"chargePointId={name}"
    )
    assert attempt["certificate"]["fingerprint"] == certificate.fingerprint
    told: str = attempt["outcome"]
    return told


def moment(*, hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def audit(gateway: Gateway, name: str) -> list[JsonObject]:
    return [row for row in gateway.rows(charge_point_id=name) if row["topic"] == AUDIT_TOPIC]

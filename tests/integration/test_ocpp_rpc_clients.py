"""Charging stations made of the npm package `ocpp-rpc` in strict mode, which nobody here wrote, against the daemon.

Every action of a version goes over the wire, up and down, and the library holds it against schemas of its own.
`make install-test-programs` installs it.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocppgw.ocpp.outcomes import outcome_of_result
from ocppgw.ocpp.schemas import load_schema
from ocppgw.ocpp.versions import V16, V21, V201, OcppVersion
from tests.integration.harness import SUBPROTOCOLS, TIME_LIMIT, Gateway, JsonObject, boot_payload
from tests.test_schemas_differential import Generator

FOLDER = Path(__file__).resolve().parent.parent / "npm"
VERSIONS = {"1.6": V16, "2.0.1": V201, "2.1": V21}


class WholeNumbers(Generator):
    """The library computes multipleOf with binary fractions and refuses 8.1 as a multiple of 0.1."""

    def _number(self, node: dict[str, Any], share: float) -> int | float:
        return self.random.randint(0, 1000) if "multipleOf" in node else super()._number(node, share)


def generated(version: OcppVersion, action: str, share: float, *, response: bool = False) -> JsonObject:
    schema = load_schema(version, action, response=response)
    return WholeNumbers(schema, f"ocpp-rpc {version.name} {action} {response}").payload(share)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("ocpp-rpc")) as gateway:
        yield gateway


class RpcStation:
    """A station in a process of its own; `told` is what it said until now."""

    def __init__(self, gateway: Gateway, version: str, name: str, calls: list[Any], answers: JsonObject) -> None:
        if not (FOLDER / "node_modules" / "ocpp-rpc").is_dir():
            pytest.fail("ocpp-rpc is not installed: run `make install-test-programs`")
        plan = {
            "url": f"{gateway.websocket_url}/{version}",
            "identity": name,
            "protocol": SUBPROTOCOLS[version],
            "calls": calls,
            "answers": answers,
        }
        self.told: list[JsonObject] = []
        self._process = subprocess.Popen(
            ["node", "station.js"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(plan) + "\n")
        self._process.stdin.flush()

    def until(self, kind: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.append(json.loads(line))
            if self.told[-1]["kind"] == kind:
                return
        raise AssertionError(f"it ended: {self.told[-3:]}")

    def leave(self) -> None:
        """Disconnect; what it still had to say is in `told`."""
        rest, _ = self._process.communicate(timeout=2 * TIME_LIMIT)
        self.told += map(json.loads, rest.splitlines())
        assert self._process.returncode == 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def troubles(self) -> list[JsonObject]:
        return self.of_kind("invalid") + self.of_kind("refused")

    def of_kind(self, kind: str) -> list[JsonObject]:
        return [one for one in self.told if one["kind"] == kind]


@pytest.mark.parametrize(("name", "version"), VERSIONS.items())
def test_every_action_passes_the_librarys_own_schemas(gateway: Gateway, name: str, version: OcppVersion) -> None:
    up = sorted(action for action in version.up if not version.actions[action].is_send)
    calls = [("BootNotification", boot_payload(name))]
    calls += [(action, generated(version, action, share)) for action in up for share in (0.0, 0.6)]
    answers = {action: generated(version, action, 0.6, response=True) for action in sorted(version.down)}
    station = RpcStation(gateway, name, f"RPC-{name}", calls, answers)
    try:
        station.until("served")
        assert station.troubles() == []
        assert [one["action"] for one in station.of_kind("answered")] == [action for action, _ in calls]
        for action, answer in answers.items():
            payload = generated(version, action, 0.6)
            record = gateway.submit(f"RPC-{name}", action, payload, wait=10).json
            outcome, status = outcome_of_result(version, action, answer)
            assert record["outcome"] == outcome.value, (action, answer, record)
            station.until("called")
            assert station.told[-1] == {"kind": "called", "action": action, "payload": payload}
            assert status is None or answer.get("status", status) == status
        station.leave()
    finally:
        station.stop()
    assert station.troubles() == []
    assert station.of_kind("closed") == [{"kind": "closed", "code": 1000}]

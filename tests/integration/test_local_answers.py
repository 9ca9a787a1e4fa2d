"""Answers of the gateway's own rules: known tokens from a file that SIGHUP reads again, models that may boot."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Gateway, Station, boot_payload


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps([{"idToken": "CARD", "status": "Blocked"}]))
    return path


@pytest.fixture
def gateway(tmp_path: Path, tokens: Path) -> Iterator[Gateway]:
    settings = {
        "answers": {"id_token_status": "Invalid", "id_tokens_file": str(tokens)},
        "ocpp": {"boot_models": ["Vendor/*"], "boot_unknown_model": "Rejected"},
    }
    with Gateway(tmp_path / "gateway", settings) as gateway:
        yield gateway


def test_a_hangup_reads_the_tokens_again_and_keeps_them_when_they_are_broken(gateway: Gateway, tokens: Path) -> None:
    assert gateway.process is not None
    with Station(gateway, "1.6", "CP-1") as station:
        boot = {**boot_payload("1.6"), "chargePointVendor": "Vendor"}
        assert station.call("BootNotification", boot)["status"] == "Accepted"
        assert station.call("Authorize", {"idTag": "card"}) == {"idTagInfo": {"status": "Blocked"}}
        tokens.write_text(json.dumps([{"idToken": "CARD"}, {"idToken": "OTHER", "parent": "GROUP"}]))
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_log("known tokens: 2, 1 before")
        assert station.call("Authorize", {"idTag": "CARD"}) == {"idTagInfo": {"status": "Accepted"}}
        assert station.call("Authorize", {"idTag": "OTHER"})["idTagInfo"]["parentIdTag"] == "GROUP"
        tokens.write_text('[{"idToken": "CARD", "status": "Fine"}]')
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_log(r"known tokens not taken over: .*entry 0: status 'Fine' is none of")
        assert station.call("Authorize", {"idTag": "CARD"}) == {"idTagInfo": {"status": "Accepted"}}
    with Station(gateway, "1.6", "CP-2") as station:
        assert station.call("BootNotification", {**boot, "chargePointVendor": "Nobody"})["status"] == "Rejected"

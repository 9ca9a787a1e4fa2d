"""A quirk profile in a folder: it mends messages of its stations, is shown and counted, and is read again on SIGHUP."""

import signal
import subprocess
from pathlib import Path

from tests.integration.daemon import BIN
from tests.integration.harness import Gateway, Station, boot_payload
from tests.integration.knocking import Caller, Knock

PROFILE = 'repairs = ["enum-spelling", "time-spelling"]\n[match]\nvendor = "{vendor}"\n[options]\nzone = "+02:00"\n'
BENT = {"connectorId": 1, "errorCode": "NoError", "status": "suspended_ev", "timestamp": "2026-11-25T10:00:00"}


def test_handshakes_are_mended_for_the_stations_of_a_profile(tmp_path: Path) -> None:
    folder = tmp_path / "quirks.d"
    folder.mkdir()
    repairs = '["url-spelling", "subprotocol-spelling", "no-subprotocol"]'
    (folder / "bent.toml").write_text(f'repairs = {repairs}\n[match]\ncharge_point_id = "BENT*"\n')
    with Gateway(tmp_path / "gateway", {"quirks": {"dir": str(folder)}}) as gateway:
        assert gateway.process is not None
        for path, offers, subprotocol in (
            ("/ocpp/1.6//BENT-1/BENT-1", "ocpp1.6", "ocpp1.6"),
            ("/ocpp/1.6/BENT-1", "ocpp16", "ocpp16"),
            ("/ocpp/1.6/BENT-1/", None, None),
        ):
            assert upgrade(gateway, path, offers) == (101, subprotocol)
            assert upgrade(gateway, path.replace("BENT", "CP"), offers)[0] in {400, 404}
        assert upgrade(gateway, "/ocpp/1.6/CP-1", ",ocpp1.6") == (101, "ocpp1.6")  # an empty offer is none
        gateway.wait_log("connected with no subprotocol from 127.0.0.1")
        assert gateway.metric('ocppgw_repairs_total{repair="url-spelling"}') == 2
        assert gateway.metric('ocppgw_repairs_total{repair="subprotocol-spelling"}') == 1
        assert gateway.metric('ocppgw_repairs_total{repair="no-subprotocol"}') == 1
        with Station(gateway, "1.6", "BENT-2", path="/ocpp//1.6/BENT-2") as station:
            station.booted()
            shown = gateway.get("/v1/stations/BENT-2")["quirks"]
            assert shown == {"profiles": ["bent"], "repairs": {"url-spelling": 1}}
            (folder / "bent.toml").unlink()
            gateway.process.send_signal(signal.SIGHUP)
            gateway.wait_log("quirk profiles: 0, 1 before")
            assert upgrade(gateway, "/ocpp//1.6/BENT-2", "ocpp1.6")[0] == 404
            station.call("Heartbeat", {})


def upgrade(gateway: Gateway, path: str, offers: str | None) -> tuple[int, str | None]:
    """Status and subprotocol of the answer."""
    caller = Caller(Knock(path=path, offers=offers), {"plain": gateway.websocket_port}, gateway.folder)
    answer = caller.call()
    caller.leave()
    return answer.status, answer.headers.get("sec-websocket-protocol")


def test_from_the_folder_to_the_event(tmp_path: Path) -> None:
    folder = tmp_path / "quirks.d"
    folder.mkdir()
    (folder / "loose.toml").write_text(PROFILE.format(vendor="Acme*"))
    with Gateway(tmp_path / "gateway", {"quirks": {"dir": str(folder)}}) as gateway:
        assert gateway.process is not None
        with Station(gateway, "1.6", "CP-1") as station:
            station.call("BootNotification", {**boot_payload("1.6"), "chargePointVendor": "ACME Ltd"})
            station.call("StatusNotification", BENT)
            told = station.wait_event("ConnectorStatusChanged")["payload"]
            assert told["payload"]["timestamp"] == "2026-11-25T10:00:00+02:00"
            assert told["payload"]["status"] == "SuspendedEV"
            assert (told["original"], told["repairs"]) == (BENT, ["enum-spelling", "time-spelling"])
            shown = gateway.get("/v1/stations/CP-1")["quirks"]
            assert shown == {"profiles": ["loose"], "repairs": {"enum-spelling": 1, "time-spelling": 1}}
            assert gateway.metric('ocppgw_repairs_total{repair="enum-spelling"}') == 1
        with Station(gateway, "1.6", "CP-2") as station:
            station.call("BootNotification", {**boot_payload("1.6"), "chargePointVendor": "Other"})
            assert station.refused("StatusNotification", BENT) == "PropertyConstraintViolation"
        (folder / "loose.toml").write_text(PROFILE.format(vendor="Other"))
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_log("quirk profiles: 1, 1 before")
        with Station(gateway, "1.6", "CP-2") as station:
            station.call("StatusNotification", BENT)
        (folder / "loose.toml").write_text("repairs = []")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_log(r"quirk profiles not taken over: .*loose\.toml: repairs must name at least one")
    settings = tmp_path / "checked.toml"
    settings.write_text(f'[quirks]\ndir = "{folder}"\n')
    checked = subprocess.run(
        [BIN / "ocppgw", "check-config", "-c", settings], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1
    assert "loose.toml" in checked.stdout

"""What can break under the daemon: the disk, the database file, the ports. Said clearly, nothing lost."""

import resource
import socket
from pathlib import Path

import pytest

from tests.integration.harness import NOW, Gateway, Station, boot_payload

DATABASE = "ocppgw.sqlite3"
STOP = {"transactionId": 0, "meterStop": 5, "timestamp": NOW}


def limit_files(gateway: Gateway, size: int) -> None:
    """Files of the daemon can't grow beyond `size` from now on: what a full disk is to SQLite."""
    _, hard = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_is_said_and_nothing_answered_is_lost(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, Station(gateway, "1.6", "CP-1") as station:
        station.booted()
        station.call("Heartbeat", {})
        limit_files(gateway, 1)
        assert station.refused("Heartbeat", {}) == "InternalError"
        ready = gateway.http("GET", "/ready")
        assert ready.status == 503
        assert ready.json["reason"]
        assert gateway.station("CP-1")["connected"], "reading goes on"

        station.send_text(f'[2,"stop-1","StopTransaction",{{"transactionId":0,"meterStop":5,"timestamp":"{NOW}"}}]')
        assert station.closed_with() == 1011, "a transaction message is left to the charger to send again"

        limit_files(gateway, resource.RLIM_INFINITY)
        gateway.wait_ready()
        with Station(gateway, "1.6", "CP-1") as again:
            again.call("StopTransaction", STOP)
            again.call("Heartbeat", {})
        stops = [e for e in gateway.events() if e["eventType"] == "SessionStopped"]
        assert len(stops) == 1
        assert sum(e["eventType"] == "StationHeartbeat" for e in gateway.events()) == 2


@pytest.mark.parametrize("damage", ["no database", "overwritten", "cut off"])
def test_a_damaged_database_stops_the_start_and_stays_as_it_is(tmp_path: Path, damage: str) -> None:
    gateway = Gateway(tmp_path)
    with gateway, Station(gateway, "2.0.1", "CP-1") as station:
        for number in range(40):
            station.call(
                "BootNotification", boot_payload("2.0.1") | {"customData": {"vendorId": "v" * 200, "n": number}}
            )
    path = gateway.state_dir / DATABASE
    whole = path.read_bytes()
    damaged = {
        "no database": b"these are not the bytes you are looking for" * 400,
        "overwritten": whole[:9000] + b"\xa5" * 20_000 + whole[29_000:],
        "cut off": whole[: len(whole) // 2],
    }[damage]
    path.write_bytes(damaged)
    assert gateway.run_to_end() == 1
    assert "is damaged" in gateway.log
    assert "restore it from a backup" in gateway.log
    assert "Traceback" not in gateway.log
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("listener", ["websocket", "operations"])
def test_a_port_in_use_is_named(tmp_path: Path, listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        gateway = Gateway(tmp_path, {listener: {"port": port}})
        assert gateway.run_to_end() == 1
    assert f"can't listen on 127.0.0.1:{port}" in gateway.log
    assert "change the port in the configuration" in gateway.log
    assert "Traceback" not in gateway.log


def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with Gateway(tmp_path / "one") as first:
        second = Gateway(tmp_path / "two", {"state_dir": str(first.state_dir)})
        assert second.run_to_end() == 1
        assert "in use by another ocppgw process" in second.log
        assert "Traceback" not in second.log
        with Station(first, "1.6", "CP-1") as station:
            station.booted()


def test_a_state_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    gateway = Gateway(tmp_path)
    assert gateway.run_to_end() == 1
    assert "the state directory" in gateway.log
    assert "OCPPGW_STATE_DIR" in gateway.log
    assert "Traceback" not in gateway.log


def test_sigterm_tells_the_stations_and_ends_cleanly(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, Station(gateway, "2.1", "CP-1") as station:
        station.booted()
        gateway.stop()
        assert station.closed_with() == 1001
    with gateway:
        gone = [e for e in gateway.events() if e["eventType"] == "StationDisconnected"]
        assert [event["payload"]["code"] for event in gone] == [1001]


def test_sigterm_ends_each_open_command_once(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, Station(gateway, "1.6", "CP-1") as station:
        station.booted()
        sent = gateway.command("CP-1", "Reset", {"type": "Soft"}, timeoutSec=600)
        queued = gateway.command("CP-1", "ClearCache", timeoutSec=600)
        station.expect_call("Reset")
        gateway.stop()
        assert station.closed_with() == 1001
    with gateway:
        for command_id in (sent, queued):
            record = gateway.ended(command_id)
            (event,) = gateway.terminal_events(command_id)
            assert (event["eventType"], event["payload"]["outcome"]) == ("CommandFailed", "Unknown")
            assert event["payload"]["error"] == record["error"]


def test_state_files_are_nobody_elses_to_read(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, Station(gateway, "1.6", "CP-1") as station:
        station.booted()
        modes = {path.name: path.stat().st_mode & 0o077 for path in gateway.state_dir.iterdir()}
    assert set(modes.values()) == {0}, modes

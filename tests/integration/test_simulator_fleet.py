"""`ocppgw simulate` against the real daemon: a mixed fleet boots, charges, obeys a command and leaves."""

import json
import subprocess
from collections import Counter
from pathlib import Path

from tests.integration.daemon import BIN
from tests.integration.harness import Gateway

STATIONS = 6  # two of each version
LIMIT = 60.0


def simulate(gateway: Gateway, *options: str) -> "subprocess.Popen[str]":
    command = [str(BIN / "ocppgw"), "simulate", "--url", gateway.websocket_url, "--ramp", "100", *options]
    return subprocess.Popen(command, env=gateway.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_mixed_fleet_charges_once_and_leaves_everything_in_the_journal(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        fleet = simulate(gateway, "--count", str(STATIONS), "--speed", "1500", "--sessions", "1")
        output, _ = fleet.communicate(timeout=LIMIT)
        assert fleet.returncode == 0, output

        stations = gateway.get("/v1/stations")["stations"]
        assert [row["chargePointId"] for row in stations] == [f"SIM-{number:05d}" for number in range(1, STATIONS + 1)]
        assert Counter(row["ocppVersion"] for row in stations) == {"1.6J": 2, "2.0.1": 2, "2.1": 2}
        assert not any(row["connected"] or row["transactions"] for row in stations)
        for row in stations:
            events = gateway.events(charge_point_id=row["chargePointId"])
            kinds = Counter(event["eventType"] for event in events)
            assert kinds["StationBooted"] == kinds["SessionStarted"] == kinds["SessionStopped"] == 1
            assert kinds["ConnectorStatusChanged"] > 0
            assert kinds["MeterValuesReceived" if row["ocppVersion"] == "1.6J" else "SessionEvent"] > 0
            assert not any(event["payload"].get("orphaned") for event in events)
            transactions = {
                event["payload"].get("transactionId") for event in events if "Session" in event["eventType"]
            }
            assert len(transactions) == 1
            assert len({event["eventId"] for event in events}) == len(events)
        call_errors = [
            line for line in gateway.http("GET", "/metrics").body.decode().splitlines() if "call_errors" in line
        ]
        assert all(line.startswith("#") for line in call_errors), call_errors


def test_stations_of_a_fleet_obey_commands(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        fleet = simulate(gateway, "--count", "3", "--speed", "1")
        try:
            for number in (1, 2, 3):
                name = f"SIM-{number:05d}"
                gateway.wait_station(name, lambda row: row["bootStatus"] == "Accepted" and bool(row["connectors"]))
                done = gateway.cli(
                    "command", name, "TriggerMessage", "--payload", '{"requestedMessage": "Heartbeat"}', "--json"
                )
                assert done.returncode == 0, done
                record = json.loads(done.stdout)
                assert (record["status"], record["responsePayload"]) == ("Accepted", {"status": "Accepted"})
                gateway.wait_event(lambda event: event["eventType"] == "StationHeartbeat", charge_point_id=name)
                assert len(gateway.terminal_events(record["commandId"])) == 1
        finally:
            fleet.terminate()
            fleet.communicate(timeout=LIMIT)

"""E: who may say what before, between and after BootNotifications. The boot state belongs to the station's id."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import case
from tests.conformance.conftest import PASSWORD, identity
from tests.integration.harness import NOW, Gateway, JsonObject, Station, basic, boot_payload, status_payload

TRIGGER_BOOT = {"requestedMessage": "BootNotification"}
RESET = {"1.6": {"type": "Soft"}, "2.0.1": {"type": "OnIdle"}, "2.1": {"type": "OnIdle"}}


def held(strict: Gateway, version: str, status: str, number: int) -> Station:
    """A connected station that the gateway answers with `status`; `number` tells the tests' stations apart."""
    name = f"{status.upper()}-{version}-{number}"
    station = Station(strict, version, name, headers=basic(name, PASSWORD)).connect()
    answer = station.call("BootNotification", boot_payload(version))
    assert answer["status"] == status
    assert answer["interval"] > 0
    return station


def report(number: int, more: bool) -> JsonObject:
    return {"requestId": 1, "generatedAt": NOW, "seqNo": number, "tbc": more}


def refused_locally(gateway: Gateway, station: Station, command_type: str, payload: Any) -> None:
    reply = gateway.submit(station.id, command_type, payload, wait=10)
    assert (reply.json["status"], reply.json["error"]["code"]) == ("Rejected", "NotAccepted"), reply
    assert len(gateway.terminal_events(reply.json["commandId"])) == 1
    station.nothing_was_sent()


@case(60, "*")
def test_a_boot_is_accepted_and_opens_the_gate(gateway: Gateway, version: str, new_id: str) -> None:
    with Station(gateway, version, new_id) as station:
        answer = station.call("BootNotification", boot_payload(version))
        assert answer.keys() == {"status", "currentTime", "interval"}
        assert answer["status"] == "Accepted"
        assert answer["interval"] > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", answer["currentTime"])
        for connector in (0, 1, 2) if version == "1.6" else (1, 2):
            assert station.call("StatusNotification", status_payload(version, connector)) == {}
        assert gateway.station(new_id)["vendor"] == "Vendor"


@case(61, "*")
def test_nothing_is_served_before_the_first_boot(
    gateway: Gateway, switched: Gateway, version: str, new_id: str
) -> None:
    with Station(gateway, version, new_id) as station:
        assert station.refused("Heartbeat", {}) == "SecurityError"
        assert station.refused("StatusNotification", status_payload(version)) == "SecurityError"
        refused_locally(gateway, station, "Reset", RESET[version])
        trigger = gateway.command(new_id, "TriggerMessage", TRIGGER_BOOT)
        station.reply(station.expect_call("TriggerMessage")[0], {"status": "Accepted"})
        assert gateway.ended(trigger)["status"] == "Accepted"
        station.booted().call("Heartbeat", {})
    with Station(switched, version, new_id) as assumed:
        assert "currentTime" in assumed.call("Heartbeat", {})


@case(62, "*")
def test_pending_refuses_before_it_looks_at_the_payload(strict: Gateway, version: str) -> None:
    with held(strict, version, "Pending", 0) as station:
        assert station.refused("StatusNotification", status_payload(version)) == "SecurityError"
        assert station.refused("StatusNotification", {"nonsense": True}) == "SecurityError"
        assert station.refused("Heartbeat", {}) == "SecurityError"
        assert station.events("ConnectorStatusChanged", "StationHeartbeat") == []
        assert station.call("BootNotification", boot_payload(version))["status"] == "Pending"


@case(64, "0 1")
def test_pending_lets_the_reports_in_that_were_asked_for(strict: Gateway, version: str) -> None:
    with held(strict, version, "Pending", 1) as station:
        assert station.refused("NotifyReport", report(0, False)) == "SecurityError"
        command_id = strict.command(station.id, "GetBaseReport", {"requestId": 1, "reportBase": "FullInventory"})
        station.reply(station.expect_call("GetBaseReport")[0], {"status": "Accepted"})
        for number, more in enumerate((True, True, False)):
            assert station.call("NotifyReport", report(number, more)) == {}
        assert station.refused("NotifyReport", report(3, False)) == "SecurityError"
        parts = station.events("NotifyReport")
        assert [event["payload"]["commandId"] for event in parts] == [command_id] * 3
        whole = station.wait_event("ReportCompleted")
        assert (whole["correlationId"], whole["payload"]["complete"]) == (command_id, True)
        assert whole["payload"]["parts"] == [event["payload"]["payload"] for event in parts]


@case(65, "*")
def test_pending_allows_no_remote_start_or_stop(strict: Gateway, version: str) -> None:
    with held(strict, version, "Pending", 2) as station:
        refused_locally(strict, station, "RemoteStart", {"idTag": "TAG", "connectorId": 1})
        refused_locally(strict, station, "RemoteStop", {"transactionId": "1"})
        allowed = "GetConfiguration" if version == "1.6" else "GetBaseReport"
        payload: JsonObject = {} if version == "1.6" else {"requestId": 1, "reportBase": "SummaryInventory"}
        strict.command(station.id, allowed, payload)
        station.expect_call(allowed)


@case(66, "*")
def test_rejected_allows_nothing_in_either_direction(strict: Gateway, version: str) -> None:
    with held(strict, version, "Rejected", 0) as station:
        assert station.refused("StatusNotification", status_payload(version)) == "SecurityError"
        assert station.refused("Heartbeat", {}) == "SecurityError"
        refused_locally(strict, station, "Reset", RESET[version])
        assert station.call("BootNotification", boot_payload(version))["status"] == "Rejected"


@case(67, "0 1")
def test_a_boot_may_be_triggered_while_pending_and_by_switch_while_rejected(
    strict: Gateway, switched: Gateway, version: str
) -> None:
    with held(strict, version, "Pending", 3) as station:
        strict.command(station.id, "TriggerMessage", TRIGGER_BOOT)
        station.expect_call("TriggerMessage")
    with held(strict, version, "Rejected", 1) as station:
        refused_locally(strict, station, "TriggerMessage", TRIGGER_BOOT)
    name = f"REJECTED-{version}"
    with Station(switched, version, name, headers=basic(name, PASSWORD)) as station:
        assert station.call("BootNotification", boot_payload(version))["status"] == "Rejected"
        switched.command(name, "TriggerMessage", TRIGGER_BOOT)
        station.reply(station.expect_call("TriggerMessage")[0], {"status": "Accepted"})
        heartbeat = switched.submit(name, "TriggerMessage", {"requestedMessage": "Heartbeat"}, wait=10)
        assert heartbeat.json["error"]["code"] == "NotAccepted"


@case(67, "*")
def test_what_was_triggered_while_pending_is_served_once(strict: Gateway, version: str) -> None:
    with held(strict, version, "Pending", 4) as station:
        strict.command(station.id, "TriggerMessage", {"requestedMessage": "Heartbeat"})
        message_id, _, _ = station.expect_call("TriggerMessage")
        assert "currentTime" in station.call("Heartbeat", {})  # even before it answers the trigger
        station.reply(message_id, {"status": "Accepted"})
        assert station.refused("Heartbeat", {}) == "SecurityError"


@case(68, "*")
def test_an_early_second_boot_is_answered_and_opens_the_gate_once_accepted(tmp_path: Path, version: str) -> None:
    pending = identity("CP-1", PASSWORD.encode(), boot={"status": "Pending"})
    with Gateway(tmp_path, identities=[pending]) as gateway:
        station = Station(gateway, version, "CP-1", headers=basic("CP-1", PASSWORD)).connect()
        for _ in range(2):
            assert station.call("BootNotification", boot_payload(version))["status"] == "Pending"
        assert station.refused("Heartbeat", {}) == "SecurityError"
        gateway.write_identity(identity("CP-1", PASSWORD.encode()))
        gateway.restart()
        station.connect()
        assert station.refused("Heartbeat", {}) == "SecurityError"
        station.booted()
        assert station.call("StatusNotification", status_payload(version)) == {}
        station.close()


@case(69, "*")
def test_the_boot_state_outlives_the_socket(gateway: Gateway, version: str, new_id: str) -> None:
    with Station(gateway, version, new_id) as station:
        station.booted()
    with Station(gateway, version, new_id) as station:
        assert station.call("StatusNotification", status_payload(version)) == {}


@case(70, "*")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_boot_state_outlives_the_gateway(restarted: Gateway, version: str, new_id: str, end: str) -> None:
    station = Station(restarted, version, new_id).connect().booted()
    if end == "kill":
        restarted.kill()
        assert station.closed_with() is None
    else:
        restarted.stop()
        assert station.closed_with() == 1001
    restarted.start()
    with station:
        assert station.call("StatusNotification", status_payload(version)) == {}


@case(71, "*")
def test_a_boot_does_not_end_transactions(gateway: Gateway, station: Station, version: str) -> None:
    if version == "1.6":
        start = {"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": NOW}
        transaction_id = station.call("StartTransaction", start)["transactionId"]
    else:
        transaction_id = "tx-1"
        start = {
            "eventType": "Started",
            "timestamp": NOW,
            "triggerReason": "CablePluggedIn",
            "seqNo": 0,
            "transactionInfo": {"transactionId": transaction_id},
        }
        assert station.call("TransactionEvent", start) == {}
    station.booted()
    (running,) = gateway.station(station.id)["openTransactions"]
    assert running["transactionId"] == str(transaction_id)
    assert station.events("SessionStopped") == []
    if version == "1.6":
        stop = {"transactionId": transaction_id, "meterStop": 1, "timestamp": NOW}
        assert station.call("StopTransaction", stop) == {}
    else:
        assert station.call("TransactionEvent", {**start, "eventType": "Ended", "seqNo": 1}) == {}
    (stopped,) = station.events("SessionStopped")
    assert "orphaned" not in stopped["payload"]
    assert gateway.station(station.id)["openTransactions"] == []

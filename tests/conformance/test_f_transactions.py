"""F: transactions. Their messages are answered whatever state they meet, recorded once, and orphans are flagged."""

import itertools
from typing import Any

from tests.conformance.cases import case
from tests.integration.harness import NOW, Gateway, JsonObject, Station, status_payload

METER = [{"timestamp": NOW, "sampledValue": [{"value": "1"}]}]


def start(**members: Any) -> JsonObject:
    return {"connectorId": 1, "idTag": "TAG", "meterStart": 100, "timestamp": NOW, **members}


def stop(transaction_id: int, **members: Any) -> JsonObject:
    return {"transactionId": transaction_id, "meterStop": 200, "timestamp": NOW, **members}


def event(kind: str, number: int, transaction_id: str = "tx-1", **members: Any) -> JsonObject:
    reasons = {"Started": "CablePluggedIn", "Updated": "MeterValuePeriodic", "Ended": "EVDeparted"}
    return {
        "eventType": kind,
        "timestamp": NOW,
        "triggerReason": reasons[kind],
        "seqNo": number,
        "transactionInfo": {"transactionId": transaction_id},
        **members,
    }


TOKEN = {"idToken": "TAG", "type": "ISO14443"}


@case(72, "6")
def test_start_meter_values_and_stop(gateway: Gateway, station: Station, version: str) -> None:
    started = station.call("StartTransaction", start())
    number = started["transactionId"]
    assert 0 < number < 2**31
    assert started["idTagInfo"] == {"status": "Accepted"}
    assert gateway.station(station.id)["transactions"] == 1
    assert station.call("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": METER}) == {}
    assert station.call("StopTransaction", stop(number, idTag="TAG")) == {"idTagInfo": {"status": "Accepted"}}
    events = station.events("SessionStarted", "MeterValuesReceived", "SessionStopped")
    assert [found["payload"]["transactionId"] for found in events] == [number] * 3
    assert all("orphaned" not in found["payload"] for found in events)
    assert gateway.station(station.id)["transactions"] == 0


@case(73, "6")
def test_a_tag_that_is_not_good_still_gets_its_transaction(station: Station, version: str) -> None:
    ids = set()
    for connector, (tag, status) in enumerate((("BLOCKED", "Blocked"), ("INVALID", "Invalid"), ("TAG", "Accepted")), 1):
        answer = station.call("StartTransaction", start(connectorId=connector, idTag=tag))
        assert answer["idTagInfo"] == {"status": status}
        ids.add(answer["transactionId"])
        assert station.call("Authorize", {"idTag": tag}) == {"idTagInfo": {"status": status}}
    assert len(ids) == 3
    assert min(ids) > 0


@case(74, "6")
def test_a_start_that_is_sent_again_is_the_same_transaction(station: Station, version: str) -> None:
    first = station.call("StartTransaction", start())
    assert station.call("StartTransaction", start()) == first
    station.vanish()
    station.connect()
    assert station.call("StartTransaction", start()) == first
    assert len(station.events("SessionStarted")) == 1
    another = station.call("StartTransaction", start(timestamp="2026-11-24T08:00:01Z"))
    assert another["transactionId"] != first["transactionId"]


@case(75, "6")
def test_a_stop_of_a_transaction_nobody_knows_is_kept_as_an_orphan(station: Station, version: str) -> None:
    for number in (-1, 0, 2_000_000_000):
        assert station.call("StopTransaction", stop(number)) == {}
        assert station.call("StopTransaction", stop(number)) == {}  # again, as after a lost answer
    stops = [found["payload"] for found in station.events("SessionStopped")]
    assert [found["transactionId"] for found in stops] == [-1, 0, 2_000_000_000]
    assert all(found["orphaned"] for found in stops)
    other = station.call("StopTransaction", stop(0, meterStop=201, idTag="BLOCKED"))
    assert other == {"idTagInfo": {"status": "Blocked"}}
    assert len(station.events("SessionStopped")) == 4


@case(77, "6")
def test_odd_meter_values_and_meter_stops_are_answered(station: Station, version: str) -> None:
    assert station.call("MeterValues", {"connectorId": 0, "meterValue": METER}) == {}
    assert station.call("MeterValues", {"connectorId": 1, "transactionId": 0, "meterValue": METER}) == {}
    number = station.call("StartTransaction", start(meterStart=500))["transactionId"]
    assert station.call("StopTransaction", stop(number, meterStop=10)) == {}
    assert station.events("SessionStopped")[0]["payload"]["payload"]["meterStop"] == 10
    outside, orphan = station.events("MeterValuesReceived")
    assert "orphaned" not in outside["payload"]
    assert orphan["payload"]["orphaned"] is True


@case(78, "0 1")
def test_started_updated_ended(gateway: Gateway, station: Station, version: str) -> None:
    started = event("Started", 0, idToken=TOKEN, evse={"id": 1, "connectorId": 1})
    assert station.call("TransactionEvent", started) == {"idTokenInfo": {"status": "Accepted"}}
    assert gateway.station(station.id)["transactions"] == 1
    assert station.call("TransactionEvent", event("Updated", 1)) == {}
    blocked = event("Updated", 2, idToken={"idToken": "BLOCKED", "type": "ISO14443"})
    assert station.call("TransactionEvent", blocked) == {"idTokenInfo": {"status": "Blocked"}}
    assert station.call("TransactionEvent", event("Ended", 3)) == {}
    found = station.events("SessionStarted", "SessionEvent", "SessionStopped")
    assert [row["eventType"] for row in found] == ["SessionStarted", "SessionEvent", "SessionEvent", "SessionStopped"]
    assert {row["payload"]["transactionId"] for row in found} == {"tx-1"}
    assert all("orphaned" not in row["payload"] for row in found)


@case(78, "0 1")
def test_an_event_that_is_sent_again_is_recorded_once(station: Station, version: str) -> None:
    events = [event("Started", 0, idToken=TOKEN), event("Updated", 1), event("Ended", 2)]
    for payload in events:
        first = station.call("TransactionEvent", payload)
        assert station.call("TransactionEvent", payload) == first
    station.vanish()
    station.connect()
    for payload in events:
        station.call("TransactionEvent", payload)
    assert len(station.events("SessionStarted", "SessionEvent", "SessionStopped")) == 3


@case(80, "0 1")
def test_any_sequence_and_any_transaction_is_answered(station: Station, version: str) -> None:
    assert station.call("TransactionEvent", event("Ended", 7, "nobody-knows")) == {}
    (orphan,) = station.events("SessionStopped")
    assert orphan["payload"]["orphaned"] is True
    assert station.call("TransactionEvent", event("Started", 40, "high")) == {}
    assert station.call("TransactionEvent", event("Updated", 0, "high")) == {}
    assert station.call("TransactionEvent", event("Ended", 41, "high")) == {}
    (stopped,) = (row for row in station.events("SessionStopped") if row["payload"]["transactionId"] == "high")
    assert "orphaned" not in stopped["payload"]


@case(80, "0 1")
def test_gaps_in_the_sequence_are_told(station: Station, version: str) -> None:
    for kind, number in (("Started", 3), ("Updated", 6), ("Updated", 4), ("Ended", 7)):
        assert station.call("TransactionEvent", event(kind, number)) == {}
    found = [row["payload"] for row in station.events("SessionStarted", "SessionEvent", "SessionStopped")]
    assert [row.get("expectedSeqNo") for row in found] == [None, 4, None, None]
    assert [row.get("outOfOrder", False) for row in found] == [False, False, True, False]


@case(81, "0 1")
def test_offline_events_are_stored_and_move_nothing_live(gateway: Gateway, station: Station, version: str) -> None:
    station.call("StatusNotification", status_payload(version))
    before = gateway.station(station.id)["connectors"]
    for kind, number in (("Started", 0), ("Updated", 1), ("Ended", 2)):
        payload = event(kind, number, offline=True, evse={"id": 1, "connectorId": 1})
        assert station.call("TransactionEvent", payload) == {}
    found = station.events("SessionStarted", "SessionEvent", "SessionStopped")
    assert [row["payload"]["payload"]["offline"] for row in found] == [True] * 3
    assert gateway.station(station.id)["connectors"] == before


@case(82, "0 1")
def test_a_transactions_status_comes_back_with_both_flags(gateway: Gateway, station: Station, version: str) -> None:
    for payload, (waiting, ongoing) in zip(
        ({"transactionId": "tx-1"}, {"transactionId": "tx-2"}, {}),
        itertools.product((True, False), (True, False)),
        strict=False,
    ):
        command_id = gateway.command(station.id, "GetTransactionStatus", payload)
        message_id, _, sent = station.expect_call("GetTransactionStatus")
        assert sent == payload
        answer: JsonObject = {"messagesInQueue": waiting}
        if payload:
            answer["ongoingIndicator"] = ongoing
        station.reply(message_id, answer)
        record = gateway.ended(command_id)
        assert (record["status"], record["responsePayload"]) == ("Accepted", answer)
        (terminal,) = gateway.terminal_events(command_id)
        assert terminal["payload"]["response"] == answer

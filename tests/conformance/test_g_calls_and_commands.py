"""G: one CALL in flight each way, repeated CALLs, and what a station's answer to a command means."""

import struct
from typing import Any

from tests.conformance.cases import case
from tests.integration.harness import NOW, Gateway, JsonObject, Station

RESET = {"1.6": {"type": "Soft"}, "2.0.1": {"type": "OnIdle"}, "2.1": {"type": "OnIdle"}}
ENDS = {
    "Accepted": "Accepted",
    "Scheduled": "Accepted",
    "AcceptedEmpty": "Accepted",
    "Partial": "Accepted",
    "Rejected": "Rejected",
    "NotSupported": "Rejected",
    "Failed": "Failed",
}


def outcome(gateway: Gateway, station: Station, action: str, payload: JsonObject, answer: Any) -> str:
    """Send a command, let the station answer with a CALLRESULT payload or with the tail of a CALLERROR."""
    command_id = gateway.command(station.id, action, payload)
    message_id, _, sent = station.expect_call(action)
    assert sent == payload
    station.send([4, message_id, *answer] if isinstance(answer, list) else [3, message_id, answer])
    record = gateway.ended(command_id)
    (event,) = gateway.terminal_events(command_id)
    assert event["payload"]["outcome"] == record["outcome"]
    assert record["status"] == ENDS[record["outcome"]]
    assert event["eventType"] == f"Command{record['status']}"
    found: str = record["outcome"]
    return found


@case(84, "*")
def test_the_second_command_waits_for_the_firsts_answer_or_timeout(
    gateway: Gateway, station: Station, version: str
) -> None:
    first = gateway.command(station.id, "ClearCache")
    second = gateway.command(station.id, "Reset", RESET[version], timeoutSec=0.4)
    third = gateway.command(station.id, "ClearCache")
    message_id, _, _ = station.expect_call("ClearCache")
    station.nothing_was_sent()
    station.reply(message_id, {"status": "Accepted"})
    station.expect_call("Reset")  # left unanswered
    station.reply(station.expect_call("ClearCache")[0], {"status": "Accepted"})
    assert [gateway.ended(name)["status"] for name in (first, second, third)] == ["Accepted", "Timeout", "Accepted"]


@case(85, "*")
def test_a_stations_call_is_answered_while_ours_is_outstanding(
    gateway: Gateway, station: Station, version: str
) -> None:
    command_id = gateway.command(station.id, "ClearCache")
    message_id, _, _ = station.expect_call("ClearCache")
    for _ in range(3):
        assert "currentTime" in station.call("Heartbeat", {})
    assert gateway.terminal_events(command_id) == []
    station.reply(message_id, {"status": "Accepted"})
    assert gateway.ended(command_id)["status"] == "Accepted"


@case(87, "*")
def test_a_repeated_call_is_executed_once_and_answered_the_same(
    gateway: Gateway, station: Station, version: str
) -> None:
    first = station.request("Heartbeat", {}, "again")
    assert station.request("Heartbeat", {}, "again") == first
    station.close()
    station.connect()
    assert station.request("Heartbeat", {}, "again") == first
    assert len(station.events("StationHeartbeat")) == 1

    frame = [2, "twice", "DataTransfer", {"vendorId": "com.example", "data": "1"}]
    station.send(frame)
    station.send(frame)  # in flight or answered by now: both are right, a second execution is not
    assert station.answer_to("twice")[2] == {"status": "Accepted"}
    other = station.request("DataTransfer", {"vendorId": "org.nobody"}, "twice")  # a new request, as its payload says
    while other[2] == {"status": "Accepted"}:
        other = station.answer_to("twice")
    assert other[2] == {"status": "UnknownVendorId"}
    sent = [event["payload"]["payload"]["vendorId"] for event in station.events("DataTransferReceived")]
    assert sent == ["com.example", "org.nobody"]


@case(90, "*")
def test_a_station_that_resets_in_the_middle_of_a_frame_is_welcome_again(
    gateway: Gateway, station: Station, version: str
) -> None:
    payload = {"type": "Hard" if version == "1.6" else "Immediate"}
    command_id = gateway.command(station.id, "Reset", payload)
    station.reply(station.expect_call("Reset")[0], {"status": "Accepted"})
    assert gateway.ended(command_id)["status"] == "Accepted"
    half = b'[2,"half","StopTransaction",{"transac'
    station.socket.socket.sendall(struct.pack("!BBH4x", 0x81, 0xFE, 300) + half)
    station.vanish()
    station.wait_event("StationDisconnected")
    assert gateway.wait_station(station.id, lambda row: not row["connected"])["bootStatus"] == "Accepted"
    station.connect().booted()
    assert station.events("SessionStopped") == []


@case(91, "*")
def test_outcomes_of_a_reset(gateway: Gateway, station: Station, version: str) -> None:
    for status in ("Accepted", "Rejected", *(() if version == "1.6" else ("Scheduled",))):
        assert outcome(gateway, station, "Reset", RESET[version], {"status": status}) == status


@case(92, "*")
def test_outcomes_of_an_unlock(gateway: Gateway, station: Station, version: str) -> None:
    payload = {"connectorId": 1} if version == "1.6" else {"evseId": 1, "connectorId": 1}
    meanings = {"Unlocked": "Accepted", "UnlockFailed": "Rejected"}
    if version == "1.6":
        meanings["NotSupported"] = "NotSupported"
    else:
        meanings |= {"OngoingAuthorizedTransaction": "Rejected", "UnknownConnector": "Rejected"}
    for status, meaning in meanings.items():
        assert outcome(gateway, station, "UnlockConnector", payload, {"status": status}) == meaning


@case(93, "6")
def test_outcomes_of_configuration(gateway: Gateway, station: Station, version: str) -> None:
    change = {"key": "HeartbeatInterval", "value": "60"}
    for status, meaning in (
        ("Accepted", "Accepted"),
        ("Rejected", "Rejected"),
        ("RebootRequired", "Scheduled"),
        ("NotSupported", "NotSupported"),
    ):
        assert outcome(gateway, station, "ChangeConfiguration", change, {"status": status}) == meaning
    known = [{"key": "A", "readonly": True, "value": "1"}]
    for answer, meaning in (
        ({"configurationKey": known}, "Accepted"),
        ({"unknownKey": ["B"]}, "Rejected"),
        ({"configurationKey": known, "unknownKey": ["B"]}, "Partial"),
    ):
        assert outcome(gateway, station, "GetConfiguration", {"key": ["A", "B"]}, answer) == meaning


@case(96, "*")
def test_outcomes_of_a_local_list(gateway: Gateway, station: Station, version: str) -> None:
    number = "listVersion" if version == "1.6" else "versionNumber"
    payload = {number: 2, "updateType": "Differential"}
    meanings = {"Accepted": "Accepted", "Failed": "Rejected", "VersionMismatch": "Rejected"}
    if version == "1.6":
        meanings["NotSupported"] = "NotSupported"
    for status, meaning in meanings.items():
        assert outcome(gateway, station, "SendLocalList", payload, {"status": status}) == meaning


@case(95, "0 1")
def test_more_variables_than_the_station_takes_at_once(gateway: Gateway, station: Station, version: str) -> None:
    names = [f"V{number}" for number in range(5)]
    wanted = [{"component": {"name": "C"}, "variable": {"name": name}} for name in names]
    command_id = gateway.command(station.id, "GetVariables", {"getVariableData": wanted})
    sizes = []
    while sum(size for size in sizes if size <= 2) < len(names):
        message_id, _, sent = station.expect_call("GetVariables")
        items = sent["getVariableData"]
        sizes.append(len(items))
        if len(items) > 2:
            station.send([4, message_id, "OccurrenceConstraintViolation", "at most two", {}])
            continue
        rows = [{**item, "attributeStatus": "Accepted", "attributeValue": "1"} for item in items]
        station.reply(message_id, {"getVariableResult": rows})
    record = gateway.ended(command_id)
    assert (sizes, record["status"]) == ([5, 2, 2, 1], "Accepted")
    assert [row["variable"]["name"] for row in record["responsePayload"]["getVariableResult"]] == names
    types = [event["eventType"] for event in gateway.command_events(command_id)]
    assert types == ["CommandRouted", "CommandDispatched", "CommandAccepted"]


@case(95, "0 1")
def test_one_variable_that_is_too_many_fails(gateway: Gateway, station: Station, version: str) -> None:
    error = ["OccurrenceConstraintViolation", "none", {}]
    assert outcome(gateway, station, "GetVariables", {"getVariableData": [COMPONENT]}, error) == "Failed"
    assert errors(gateway, station) == [{"code": "OccurrenceConstraintViolation", "description": "none"}]


@case(97, "*")
def test_a_second_log_request_cancels_the_first(gateway: Gateway, station: Station, version: str) -> None:
    for request_id, status in ((1, "Accepted"), (2, "AcceptedCanceled")):
        log = {"remoteLocation": "https://logs.example/up"}
        payload = {"logType": "DiagnosticsLog", "requestId": request_id, "log": log}
        assert outcome(gateway, station, "GetLog", payload, {"status": status, "filename": "a.log"}) == "Accepted"
    cancellation = station.wait_event("OperationCancelled")
    first, second = cancellation["correlationId"], cancellation["payload"]["cancelledBy"]
    assert (cancellation["payload"]["requestId"], len({first, second})) == (1, 2)
    cancelled = "UploadFailure" if version == "1.6" else "AcceptedCanceled"  # 1.6 has no word of its own for it
    for request_id, status in ((1, cancelled), (2, "Uploading"), (2, "Uploaded")):
        assert station.call("LogStatusNotification", {"status": status, "requestId": request_id}) == {}
    told = [event["payload"]["payload"] for event in station.events("LogStatusNotification")]
    assert [(row["requestId"], row["status"]) for row in told] == [
        (1, cancelled),
        (2, "Uploading"),
        (2, "Uploaded"),
    ]
    named = [event["payload"]["commandId"] for event in station.events("LogStatusNotification")]
    assert named == [first, second, second]


@case(99, "*")
def test_outcomes_of_a_callerror(gateway: Gateway, station: Station, version: str) -> None:
    for code, meaning in (
        ("NotImplemented", "NotSupported"),
        ("NotSupported", "NotSupported"),
        ("SecurityError", "Rejected"),
        ("GenericError", "Failed"),
        ("OccurenceConstraintViolation", "Failed"),
        ("OccurrenceConstraintViolation", "Failed"),
        ("MadeUpError", "Failed"),
    ):
        assert outcome(gateway, station, "ClearCache", {}, [code, "why", {}]) == meaning
    assert len({error["code"] for error in errors(gateway, station)}) == 7
    assert {error["description"] for error in errors(gateway, station)} == {"why"}


def errors(gateway: Gateway, station: Station) -> list[JsonObject]:
    events = gateway.events(charge_point_id=station.id)
    return [event["payload"]["error"] for event in events if "error" in event["payload"]]


COMPONENT = {"component": {"name": "C"}, "variable": {"name": "V"}}
SAMPLE: list[tuple[str, str, JsonObject, JsonObject, str]] = [
    ("*", "TriggerMessage", {"requestedMessage": "Heartbeat"}, {"status": "NotImplemented"}, "NotSupported"),
    ("6", "ChangeAvailability", {"connectorId": 1, "type": "Operative"}, {"status": "Scheduled"}, "Scheduled"),
    ("01", "ChangeAvailability", {"operationalStatus": "Operative"}, {"status": "Scheduled"}, "Scheduled"),
    ("*", "CancelReservation", {"reservationId": 1}, {"status": "Rejected"}, "Rejected"),
    ("6", "ClearChargingProfile", {}, {"status": "Unknown"}, "Rejected"),
    ("6", "GetDiagnostics", {"location": "ftp://x.example"}, {}, "AcceptedEmpty"),
    ("6", "UpdateFirmware", {"location": "ftp://x.example", "retrieveDate": NOW}, {}, "Accepted"),
    ("6", "GetLocalListVersion", {}, {"listVersion": -1}, "NotSupported"),
    ("01", "GetLocalListVersion", {}, {"versionNumber": 0}, "Accepted"),
    ("*", "DataTransfer", {"vendorId": "v"}, {"status": "UnknownMessageId"}, "NotSupported"),
    (
        "01",
        "GetBaseReport",
        {"requestId": 1, "reportBase": "FullInventory"},
        {"status": "EmptyResultSet"},
        "AcceptedEmpty",
    ),
    (
        "01",
        "GetVariables",
        {"getVariableData": [COMPONENT, COMPONENT]},
        {
            "getVariableResult": [
                {"attributeStatus": "Accepted", "attributeValue": "1", **COMPONENT},
                {"attributeStatus": "UnknownVariable", **COMPONENT},
            ]
        },
        "Partial",
    ),
    ("01", "GetDisplayMessages", {"requestId": 1}, {"status": "Unknown"}, "AcceptedEmpty"),
    ("01", "ClearDisplayMessage", {"id": 1}, {"status": "Unknown"}, "Rejected"),
    ("1", "GetTariffs", {"evseId": 1}, {"status": "NoTariff"}, "AcceptedEmpty"),
    ("1", "GetDERControl", {"requestId": 1}, {"status": "NotFound"}, "AcceptedEmpty"),
    ("1", "ClearDERControl", {"isDefault": True}, {"status": "NotFound"}, "Rejected"),
]


@case(100, "*")
def test_a_sample_of_the_table_of_outcomes(gateway: Gateway, station: Station, version: str) -> None:
    letter = {"1.6": "6", "2.0.1": "0", "2.1": "1"}[version]
    for letters, action, payload, answer, meaning in SAMPLE:
        if letters == "*" or letter in letters:
            assert outcome(gateway, station, action, payload, answer) == meaning, action

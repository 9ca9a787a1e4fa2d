"""Commands against the real daemon: whatever happens, a commandId ends in exactly one terminal event."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.harness import Gateway, JsonObject, Station

VERSIONS = ("1.6", "2.0.1", "2.1")
RESET = {"1.6": {"type": "Soft"}, "2.0.1": {"type": "OnIdle"}, "2.1": {"type": "OnIdle"}}
SHORT = 0.3  # seconds: for commands that are meant to time out

every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("commands")) as gateway:
        yield gateway


@pytest.fixture
def station(gateway: Gateway, version: str) -> Iterator[Station]:
    with Station(gateway, version, f"CP-{uuid.uuid4()}") as station:
        yield station.booted()


def the_end(gateway: Gateway, command_id: str) -> JsonObject:
    """The one terminal event of a command, after it ended."""
    record = gateway.ended(command_id)
    (event,) = gateway.terminal_events(command_id)
    assert event["eventType"] == f"Command{record['status']}"
    assert event["correlationId"] == command_id
    assert event["payload"]["outcome"] == record["outcome"]
    assert event["payload"].get("error") == record.get("error")
    assert event["payload"].get("response") == record.get("responsePayload")
    return event


def kinds(gateway: Gateway, command_id: str) -> list[str]:
    return [event["eventType"] for event in gateway.command_events(command_id)]


@every_version
def test_accepted(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version])
    message_id, _, payload = station.expect_call("Reset")
    assert payload == RESET[version]
    assert uuid.UUID(message_id).version == 4
    station.reply(message_id, {"status": "Accepted"})
    event = the_end(gateway, command_id)
    assert (event["eventType"], event["payload"]["status"]) == ("CommandAccepted", "Accepted")
    assert event["payload"]["response"] == {"status": "Accepted"}
    assert (event["chargePointId"], event["tenantId"]) == (station.id, "dev")
    assert kinds(gateway, command_id) == ["CommandRouted", "CommandDispatched", "CommandAccepted"]
    assert gateway.ended(command_id)["uniqueId"] == message_id


@every_version
def test_rejected_by_a_valid_answer(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version])
    station.reply(station.expect_call("Reset")[0], {"status": "Rejected"})
    event = the_end(gateway, command_id)
    assert (event["eventType"], event["payload"]["outcome"]) == ("CommandRejected", "Rejected")


@every_version
def test_not_supported(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version])
    message_id, _, _ = station.expect_call("Reset")
    station.send([4, message_id, "NotSupported", "not here", {"why": "old"}])
    event = the_end(gateway, command_id)
    assert (event["eventType"], event["payload"]["outcome"]) == ("CommandRejected", "NotSupported")
    assert event["payload"]["error"] == {
        "code": "NotSupported",
        "description": "not here",
        "details": {"why": "old"},
    }


@every_version
def test_an_answer_the_schema_does_not_know_fails_the_command(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version])
    message_id, _, _ = station.expect_call("Reset")
    station.reply(message_id, {"status": "Perhaps"})
    if version == "2.1":
        assert station.recv()[:3] == [5, message_id, "PropertyConstraintViolation"]
    station.nothing_was_sent()
    event = the_end(gateway, command_id)
    assert (event["eventType"], event["payload"]["outcome"]) == ("CommandFailed", "Failed")


@every_version
def test_a_timeout_is_the_end_and_a_late_answer_only_a_report(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version], timeoutSec=SHORT)
    message_id, _, _ = station.expect_call("Reset")
    event = the_end(gateway, command_id)
    assert (event["eventType"], event["payload"]["outcome"]) == ("CommandTimeout", "Unknown")
    station.reply(message_id, {"status": "Accepted"})
    late = gateway.wait_event(
        lambda event: event["eventType"] == "CommandLateResult" and event["correlationId"] == command_id
    )
    assert late["payload"]["status"] == "Accepted"
    assert the_end(gateway, command_id) == event

    following = gateway.command(station.id, "ClearCache")
    station.reply(station.expect_call("ClearCache")[0], {"status": "Accepted"})
    assert the_end(gateway, following)["eventType"] == "CommandAccepted"


@every_version
def test_the_station_vanishes(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version])
    station.expect_call("Reset")
    station.vanish()
    event = the_end(gateway, command_id)
    assert (event["eventType"], event["payload"]["outcome"]) == ("CommandFailed", "Unknown")
    assert event["payload"]["error"]["code"] == "ConnectionLost"


@every_version
def test_what_waits_when_the_station_vanishes_is_sent_when_it_is_back(
    gateway: Gateway, station: Station, version: str
) -> None:
    first = gateway.command(station.id, "Reset", RESET[version])
    second = gateway.command(station.id, "ClearCache")
    station.expect_call("Reset")
    station.vanish()
    assert the_end(gateway, first)["payload"]["outcome"] == "Unknown"
    station.connect()
    station.reply(station.expect_call("ClearCache")[0], {"status": "Accepted"})
    assert the_end(gateway, second)["eventType"] == "CommandAccepted"


@every_version
def test_what_waits_is_not_sent_to_a_station_that_comes_back_with_another_version(
    gateway: Gateway, station: Station, version: str
) -> None:
    gateway.command(station.id, "ClearCache")
    second = gateway.command(station.id, "Reset", RESET[version])
    station.expect_call("ClearCache")
    station.vanish()
    other = next(name for name in VERSIONS if name != version)
    with Station(gateway, other, station.id) as changed:
        event = the_end(gateway, second)
        assert (event["eventType"], event["payload"]["error"]["code"]) == ("CommandFailed", "OtherVersion")
        changed.nothing_was_sent()


@every_version
def test_what_waits_for_a_station_that_never_comes_back_times_out(
    gateway: Gateway, station: Station, version: str
) -> None:
    gateway.command(station.id, "Reset", RESET[version])
    second = gateway.command(station.id, "ClearCache", timeoutSec=2 * SHORT)
    station.expect_call("Reset")
    station.vanish()
    assert the_end(gateway, second)["eventType"] == "CommandTimeout"
    station.connect()
    station.nothing_was_sent()


@every_version
def test_a_newer_connection_ends_what_the_older_was_asked(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version])
    message_id, _, _ = station.expect_call("Reset")
    with Station(gateway, version, station.id) as newer:
        assert the_end(gateway, command_id)["payload"]["outcome"] == "Unknown"
        newer.reply(message_id, {"status": "Accepted"})
        newer.nothing_was_sent()
        assert the_end(gateway, command_id)["payload"]["outcome"] == "Unknown"


@every_version
def test_two_commands_at_once_go_one_after_the_other(gateway: Gateway, station: Station, version: str) -> None:
    first = gateway.command(station.id, "Reset", RESET[version])
    second = gateway.command(station.id, "ClearCache")
    message_id, _, _ = station.expect_call("Reset")
    station.nothing_was_sent()
    assert kinds(gateway, second) == ["CommandRouted"]
    station.reply(message_id, {"status": "Accepted"})
    station.reply(station.expect_call("ClearCache")[0], {"status": "Rejected"})
    assert the_end(gateway, first)["eventType"] == "CommandAccepted"
    assert the_end(gateway, second)["eventType"] == "CommandRejected"


@every_version
def test_a_call_of_the_station_is_answered_while_ours_is_outstanding(
    gateway: Gateway, station: Station, version: str
) -> None:
    command_id = gateway.command(station.id, "Reset", RESET[version])
    message_id, _, _ = station.expect_call("Reset")
    assert "currentTime" in station.call("Heartbeat", {})
    assert gateway.terminal_events(command_id) == []
    station.reply(message_id, {"status": "Accepted"})
    assert the_end(gateway, command_id)["eventType"] == "CommandAccepted"


@every_version
def test_a_repeated_command_id_is_not_sent_again(gateway: Gateway, station: Station, version: str) -> None:
    command_id = f"id-{uuid.uuid4()}"
    assert gateway.command(station.id, "Reset", RESET[version], commandId=command_id) == command_id
    message_id, _, _ = station.expect_call("Reset")
    again = gateway.submit(station.id, "Reset", RESET[version], commandId=command_id)
    assert (again.status, again.json["status"]) == (200, "Sent")
    station.nothing_was_sent()
    station.reply(message_id, {"status": "Accepted"})
    the_end(gateway, command_id)
    again = gateway.submit(station.id, "ClearCache", commandId=command_id)
    assert (again.status, again.json["status"], again.json["commandType"]) == (200, "Accepted", "Reset")
    station.nothing_was_sent()
    gateway.wait_event(
        lambda event: (
            (event["eventType"], event.get("correlationId"), event["payload"].get("status"))
            == ("CommandDuplicate", command_id, "Accepted")
        )
    )
    assert sorted(kinds(gateway, command_id)) == [
        "CommandAccepted",
        "CommandDispatched",
        "CommandDuplicate",
        "CommandDuplicate",
        "CommandRouted",
    ]
    assert len({event["eventId"] for event in gateway.command_events(command_id)}) == 5


def test_a_station_that_is_not_connected_fails_the_command(gateway: Gateway) -> None:
    reply = gateway.submit("CP-NOBODY", "Reset", {"type": "Soft"}, wait=5)
    assert (reply.status, reply.json["status"], reply.json["error"]["code"]) == (200, "Failed", "NotConnected")
    assert the_end(gateway, reply.json["commandId"])["eventType"] == "CommandFailed"


@every_version
@pytest.mark.parametrize(
    ("body", "code", "names"),
    [
        ({"commandType": "Reset", "payload": {"type": "Sideways"}}, "InvalidCommand", "type"),
        ({"commandType": "Reset", "payload": {}}, "InvalidCommand", "type"),
        ({"commandType": "Explode", "payload": {}}, "UnsupportedCommand", "Explode"),
        ({"commandType": "Heartbeat", "payload": {}}, "UnsupportedCommand", "Heartbeat"),
        ({"payload": {}}, "InvalidCommand", "commandType"),
        ({"commandType": "Reset", "payload": "Soft"}, "InvalidCommand", "payload"),
        ({"commandType": "ClearCache", "timeoutSec": -1}, "InvalidCommand", "timeoutSec"),
        ({"commandType": "ClearCache", "commandId": "x" * 200}, "InvalidCommand", "commandId"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name_and_stored_nowhere(
    gateway: Gateway, station: Station, version: str, body: JsonObject, code: str, names: str
) -> None:
    before = gateway.cursor
    reply = gateway.http("POST", "/v1/commands", {"chargePointId": station.id, **body})
    assert (reply.status, reply.json["code"]) == (400, code), reply
    assert names in reply.json["message"]
    station.nothing_was_sent()
    assert gateway.events(before) == []


INTENTS: list[tuple[str, JsonObject, JsonObject, str, JsonObject]] = [
    # commandType, members of the request, its payload, action that goes out, its payload
    ("1.6", {"commandType": "Reset"}, {"type": "Hard"}, "Reset", {"type": "Hard"}),
    ("2.x", {"commandType": "Reset"}, {"type": "Hard"}, "Reset", {"type": "Immediate"}),
    (
        "1.6",
        {"commandType": "RemoteStart", "connectorId": 1},
        {"idTag": "TAG"},
        "RemoteStartTransaction",
        {"connectorId": 1, "idTag": "TAG"},
    ),
    (
        "2.x",
        {"commandType": "RemoteStart", "connectorId": 1},
        {"idTag": "TAG", "remoteStartId": 7},
        "RequestStartTransaction",
        {"evseId": 1, "idToken": {"idToken": "TAG", "type": "Central"}, "remoteStartId": 7},
    ),
    ("1.6", {"commandType": "RemoteStop"}, {"sessionId": "12"}, "RemoteStopTransaction", {"transactionId": 12}),
    ("2.x", {"commandType": "RemoteStop"}, {"sessionId": "tx"}, "RequestStopTransaction", {"transactionId": "tx"}),
    ("1.6", {"commandType": "UnlockConnector", "connectorId": 2}, {}, "UnlockConnector", {"connectorId": 2}),
    (
        "2.x",
        {"commandType": "UnlockConnector", "connectorId": 2},
        {},
        "UnlockConnector",
        {"evseId": 2, "connectorId": 1},
    ),
    (
        "1.6",
        {"commandType": "ChangeConfiguration"},
        {"key": "HeartbeatInterval", "value": 60},
        "ChangeConfiguration",
        {"key": "HeartbeatInterval", "value": "60"},
    ),
    (
        "2.x",
        {"commandType": "ChangeConfiguration"},
        {"key": "OCPPCommCtrlr.HeartbeatInterval", "value": 60},
        "SetVariables",
        {
            "setVariableData": [
                {
                    "attributeValue": "60",
                    "component": {"name": "OCPPCommCtrlr"},
                    "variable": {"name": "HeartbeatInterval"},
                }
            ]
        },
    ),
    (
        "1.6",
        {"commandType": "TriggerMessage"},
        {"requestedMessage": "Heartbeat"},
        "TriggerMessage",
        {"requestedMessage": "Heartbeat"},
    ),
    (
        "2.x",
        {"commandType": "TriggerMessage"},
        {"requestedMessage": "Heartbeat"},
        "TriggerMessage",
        {"requestedMessage": "Heartbeat"},
    ),
]
ACCEPTED: dict[str, JsonObject] = {
    "UnlockConnector": {"status": "Unlocked"},
    "SetVariables": {
        "setVariableResult": [
            {
                "attributeStatus": "Accepted",
                "component": {"name": "OCPPCommCtrlr"},
                "variable": {"name": "HeartbeatInterval"},
            }
        ]
    },
}


@pytest.mark.parametrize(
    ("version", "request_members", "payload", "action", "sent"),
    [(version, *rest) for family, *rest in INTENTS for version in (("1.6",) if family == "1.6" else ("2.0.1", "2.1"))],
)
def test_an_intent_becomes_the_call_of_the_stations_version(
    gateway: Gateway,
    station: Station,
    request_members: JsonObject,
    payload: JsonObject,
    action: str,
    sent: JsonObject,
) -> None:
    members: dict[str, Any] = dict(request_members)
    command_id = gateway.command(station.id, members.pop("commandType"), payload, **members)
    message_id, _, received = station.expect_call(action)
    assert received == sent
    station.reply(message_id, ACCEPTED.get(action, {"status": "Accepted"}))
    assert the_end(gateway, command_id)["eventType"] == "CommandAccepted"


def test_a_command_may_name_the_station_id_instead(gateway: Gateway) -> None:
    with Station(gateway, "1.6", f"CP-{uuid.uuid4()}") as station:
        station.booted()
        body = {"stationId": gateway.station(station.id)["stationId"], "commandType": "ClearCache"}
        command_id = gateway.http("POST", "/v1/commands", body).json["commandId"]
        station.reply(station.expect_call("ClearCache")[0], {"status": "Accepted"})
        assert the_end(gateway, command_id)["chargePointId"] == station.id


def test_too_many_commands_for_one_station_are_refused_not_piled_up(gateway: Gateway) -> None:
    with Station(gateway, "1.6", f"CP-{uuid.uuid4()}") as station:
        station.booted()
        ids = [gateway.command(station.id, "ClearCache") for _ in range(22)]
        event = the_end(gateway, ids[-1])
        assert (event["eventType"], event["payload"]["error"]["code"]) == ("CommandFailed", "Overloaded")
        for command_id in ids[:-1]:
            station.reply(station.expect_call("ClearCache")[0], {"status": "Accepted"})
            assert the_end(gateway, command_id)["eventType"] == "CommandAccepted"


@every_version
def test_a_daemon_killed_in_between_ends_its_commands_when_it_is_back(
    tmp_path_factory: pytest.TempPathFactory, version: str
) -> None:
    with Gateway(tmp_path_factory.mktemp("killed")) as gateway:
        station = Station(gateway, version, "CP-1").connect().booted()
        ended = gateway.command(station.id, "ClearCache")
        station.reply(station.expect_call("ClearCache")[0], {"status": "Accepted"})
        before = the_end(gateway, ended)
        sent = gateway.command(station.id, "Reset", RESET[version])
        waiting = gateway.command(station.id, "ClearCache")
        station.expect_call("Reset")
        gateway.kill()
        assert station.closed_with() is None
        gateway.start()
        for command_id in (sent, waiting):
            event = the_end(gateway, command_id)
            assert (event["eventType"], event["payload"]["outcome"]) == ("CommandFailed", "Unknown")
            assert event["payload"]["error"]["code"] == "GatewayRestarted"
        assert the_end(gateway, ended) == before
        station.connect()
        station.nothing_was_sent()
        gateway.restart()
        assert [len(gateway.terminal_events(command_id)) for command_id in (ended, sent, waiting)] == [1, 1, 1]

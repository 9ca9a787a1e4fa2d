"""C: frames that are broken, foreign, of another version or too many."""

from typing import Any

from tests.conformance.cases import case
from tests.integration.harness import NOW, Gateway, Station, boot_payload

UNREADABLE = ("{not json", "[]", "{}", "7", '"text"', "[2]", '[2,7,"Heartbeat",{}]', '[2,"","Heartbeat",{}]')
STREAM = {"id": 1, "pending": 0, "basetime": NOW, "data": [{"t": 0.5, "v": "230"}]}


def bad_frames(gateway: Gateway, version: str, kind: str) -> float:
    name = "1.6J" if version == "1.6" else version
    return gateway.metric(f'ocppgw_bad_frames_total{{kind="{kind}",version="{name}"}}')


@case(34, "0 1")
def test_what_is_unreadable_is_answered_with_the_id_minus_one(station: Station, version: str) -> None:
    for text in UNREADABLE:
        station.send_text(text)
        kind, message_id, code, description, details = station.recv()
        assert (kind, message_id, code, details) == (4, "-1", "RpcFrameworkError", {})
        assert "not json" not in description
    assert "currentTime" in station.call("Heartbeat", {})


@case(35, "6")
def test_what_is_unreadable_is_counted_and_not_answered(gateway: Gateway, station: Station, version: str) -> None:
    before = bad_frames(gateway, version, "unreadable")
    for text in UNREADABLE:
        station.send_text(text)
    station.nothing_was_sent()
    assert bad_frames(gateway, version, "unreadable") == before + len(UNREADABLE)
    assert gateway.station(station.id)["badFrames"] == len(UNREADABLE)


@case(37, "*")
def test_a_call_of_the_wrong_shape_is_answered_under_its_id(station: Station, version: str) -> None:
    code = "FormationViolation" if version == "1.6" else "RpcFrameworkError"
    shapes: tuple[list[Any], ...] = (
        [2, "a", "Heartbeat"],
        [2, "a", 7, {}],
        [2, "a", "Heartbeat", []],
        [2, "a", "Heartbeat", {}, {}],
        [2, "a", None, {}],
    )
    for frame in shapes:
        station.send(frame)
        answer = station.recv()
        assert (answer[:3], answer[4]) == ([4, "a", code], {}), frame
    station.send([2, "null", "Heartbeat", None])  # tolerated: 1.6J section 4.2.1
    assert station.recv()[:2] == [3, "null"]


@case(39, "*")
def test_an_id_may_have_36_characters_and_comes_back_as_it_is(station: Station, version: str) -> None:
    code = "FormationViolation" if version == "1.6" else "RpcFrameworkError"
    for message_id in ("i" * 36, "ä" * 36, '"\\/\u2028\u0007', "\U0001f50c", "-1"):
        assert station.request("Heartbeat", {}, message_id)[:2] == [3, message_id]
    for message_id in ("i" * 37, "ä" * 37):
        assert station.request("Heartbeat", {}, message_id)[:3] == [4, message_id, code]


@case(40, "*")
def test_an_unknown_message_type_is_ignored(gateway: Gateway, station: Station, version: str) -> None:
    before = bad_frames(gateway, version, "unknown-type")
    for kind in (9, 0, -2, 2.5, "2", None, True):
        station.send([kind, "a", {}])
    station.nothing_was_sent()
    assert bad_frames(gateway, version, "unknown-type") == before + 7


@case(40, "*")
def test_an_unknown_message_type_is_answered_on_201_where_the_operator_wants_it(
    switched: Gateway, version: str, new_id: str
) -> None:
    with Station(switched, version, new_id) as station:
        station.send([9, "a", {}])
        if version == "2.0.1":
            assert station.recv()[:3] == [4, "a", "MessageTypeNotSupported"]
        station.nothing_was_sent()


@case(41, "6 0")
def test_send_is_an_unknown_type_before_21(gateway: Gateway, station: Station, version: str) -> None:
    before = bad_frames(gateway, version, "unknown-type")
    station.send([6, "a", "NotifyPeriodicEventStream", STREAM])
    station.nothing_was_sent()
    assert bad_frames(gateway, version, "unknown-type") == before + 1
    assert station.events("NotifyPeriodicEventStream") == []


@case(42, "1")
def test_send_becomes_an_event_and_is_never_answered(station: Station, version: str) -> None:
    station.send([6, "a", "NotifyPeriodicEventStream", STREAM])
    event = station.wait_event("NotifyPeriodicEventStream")
    assert event["payload"]["payload"] == STREAM
    for payload in ({"id": "one"}, {}, {**STREAM, "t": "2026"}):
        station.send([6, "b", "NotifyPeriodicEventStream", payload])
    for action in ("NoSuchStream", "Heartbeat"):
        station.send([6, "c", action, {}])
    station.nothing_was_sent()
    assert len(station.events("NotifyPeriodicEventStream")) == 1
    assert station.refused("NotifyPeriodicEventStream", STREAM) == "NotSupported"  # it is no CALL


@case(45, "6 0")
def test_an_answer_that_is_invalid_fails_the_command_and_is_not_answered(
    gateway: Gateway, station: Station, version: str
) -> None:
    for answer in ({"status": "Perhaps"}, {}, {"status": 1}):
        command_id = gateway.command(station.id, "ClearCache")
        station.reply(station.expect_call("ClearCache")[0], answer)
        assert gateway.ended(command_id)["outcome"] == "Failed"
        station.nothing_was_sent()
        assert len(gateway.terminal_events(command_id)) == 1


@case(46, "1")
def test_an_error_about_our_answer_is_noted_and_not_answered(gateway: Gateway, station: Station, version: str) -> None:
    sample = 'ocppgw_notes_total{kind="our-answer-not-understood"}'
    before = gateway.metric(sample)
    station.request("Heartbeat", {}, "heart")
    for message_id in ("heart", "nobody-knows"):
        station.send([5, message_id, "FormatViolation", "can't read it", {}])
    station.nothing_was_sent()
    assert gateway.metric(sample) == before + 2


@case(47, "*")
def test_a_foreign_answer_leaves_the_waiting_command_alone(gateway: Gateway, station: Station, version: str) -> None:
    command_id = gateway.command(station.id, "ClearCache")
    message_id, _, _ = station.expect_call("ClearCache")
    station.reply("nobody-knows", {"status": "Accepted"})
    station.send([4, "nobody-knows", "GenericError", "", {}])
    station.nothing_was_sent()
    assert gateway.terminal_events(command_id) == []
    station.reply(message_id, {"status": "Rejected"})
    assert gateway.ended(command_id)["status"] == "Rejected"
    station.reply(message_id, {"status": "Accepted"})  # a second answer to the same id is foreign, too
    station.nothing_was_sent()
    assert len(gateway.terminal_events(command_id)) == 1


@case(49, "*")
def test_a_binary_frame_closes_with_1003(station: Station, version: str) -> None:
    station.socket.send(b"\x00\x01")
    assert station.closed_with() == 1003


@case(49, "*")
def test_invalid_utf8_closes_with_1007(station: Station, version: str) -> None:
    station.send_text(b'[2,"a\xff","Heartbeat",{}]')
    assert station.closed_with() == 1007


@case(49, "*")
def test_twenty_bad_frames_close_with_1002(gateway: Gateway, station: Station, version: str) -> None:
    for _ in range(19):
        station.send_text("{not json")
    assert "currentTime" in station.call("Heartbeat", {})
    station.send_text("{not json")
    assert station.closed_with() == 1002
    with Station(gateway, version, station.id) as again:
        assert again.call("BootNotification", boot_payload(version))["status"] == "Accepted"


@case(50, "0 1")
def test_a_signed_call_is_unpacked_and_answered(station: Station, version: str) -> None:
    signed = {"payload": "e30", "protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "c2lnbmF0dXJl"}
    assert "currentTime" in station.call("Heartbeat-Signed", signed)
    assert len(station.events("StationHeartbeat")) == 1

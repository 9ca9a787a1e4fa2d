"""One connection, from the station's side: every text in, every frame out."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.effects import Close, Publish
from ocppgw.ocpp.session import SessionRules, StationFacts
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS
from tests.build_session import Station, build_session
from tests.test_transactions import METER_VALUE, START, event

SENT = {"id": 1, "pending": 0, "basetime": "2027-01-15T08:00:00Z", "data": [{"t": 0.0, "v": "1"}]}
TWO_X = (V201, V21)


def envelope_code(station: Station) -> str:
    return station.version.codes.envelope


def closes(station: Station) -> list[int]:
    return [close.code for close in station.of_type(Close)]


class Frames(SynchronousTestCase):
    def test_text_without_readable_id_is_answered_on_2_x_only(self) -> None:
        for text in (
            b"{not json",
            b"7",
            b"[]",
            b'[2,"","Heartbeat",{}]',
            b"[2]",
            b'[2,"a","X",{"n":NaN}]',
            b"[" * 10_000,
        ):
            silent = build_session(V16)
            self.assertEqual(silent.receive(text), [], text)
            self.assertEqual((silent.session.bad_frames, closes(silent)), (1, []))
            for version in TWO_X:
                station = build_session(version)
                sent = station.receive(text)
                self.assertEqual([frame[:3] for frame in sent], [[4, "-1", "RpcFrameworkError"]], text)
                self.assertEqual(sent[0][4], {})
                self.assertEqual((station.session.bad_frames, closes(station)), (1, []))

    def test_malformed_call_gets_the_envelope_code(self) -> None:
        long = "x" * 37
        for version in VERSIONS:
            for text, message_id in (
                (b'[2,"a","Heartbeat"]', "a"),
                (b'[2,"a",7,{}]', "a"),
                (b'[2,"a","Heartbeat",[]]', "a"),
                (b'[2,"a","Heartbeat",{},{"extension":1}]', "a"),
                (b'[2,"a","DataTransfer",{"vendorId":"v","data":1e999}]', "a"),
                (f'[2,"{long}","Heartbeat",{{}}]'.encode(), long),
            ):
                station = build_session(version)
                sent = station.receive(text)
                self.assertEqual([frame[:3] for frame in sent], [[4, message_id, envelope_code(station)]], text)
                self.assertEqual(station.events, [])

    def test_id_of_36_characters_is_echoed_verbatim(self) -> None:
        message_id = '"\\é😀' + "x" * 32
        for version in VERSIONS:
            self.assertEqual(build_session(version).call(message_id, "Heartbeat", {})[0][:2], [3, message_id])

    def test_null_payload_is_served(self) -> None:
        for version in VERSIONS:
            self.assertEqual(build_session(version).call("a", "Heartbeat", None)[0][:2], [3, "a"])

    def test_unknown_type_is_ignored_and_counted(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            self.assertEqual(station.receive([9, "a", {}]), [])
            self.assertEqual((station.session.bad_frames, closes(station)), (1, []))

    def test_unknown_type_error_is_a_switch_of_2_0_1(self) -> None:
        rules = SessionRules(unknown_type_error=True)
        sent = build_session(V201, rules=rules).receive([9, "a", {}])
        self.assertEqual([frame[:3] for frame in sent], [[4, "a", "MessageTypeNotSupported"]])
        for version in (V16, V21):
            self.assertEqual(build_session(version, rules=rules).receive([9, "a", {}]), [])

    def test_answers_are_never_answered(self) -> None:
        texts: list[Any] = [
            [3, "foreign", {}],
            [3, "foreign"],
            [3, "", {}],
            [3],
            [4, "foreign", "GenericError", "", {}],
            [4, "foreign"],
            [4, "-1", "RpcFrameworkError", "", {}],
            [4, None, "RpcFrameworkError", "", {}],
            [5, "foreign", "GenericError", "", {}],
            [5, "foreign"],
            [5, None],
        ]
        for version in VERSIONS:
            for text in texts:
                self.assertEqual(build_session(version).receive(text), [], f"{version.name} {text}")

    def test_complaint_about_our_answer_is_noted_on_2_1(self) -> None:
        station = build_session(V21)
        station.receive([5, "a", "FormatViolation", "", {}])
        self.assertEqual(station.notes(), ["our-answer-not-understood"])
        for version in (V16, V201):
            station = build_session(version)
            station.receive([5, "a", "FormatViolation", "", {}])
            self.assertEqual((station.notes(), station.session.bad_frames), (["bad-frame"], 1))

    def test_invalid_utf8_closes_1007(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            self.assertEqual(station.receive(b'[2,"a","Heartbeat",{"t":"\xff"}]'), [])
            self.assertEqual(closes(station), [1007])

    def test_binary_closes_1003(self) -> None:
        effects = build_session().session.receive_binary()
        self.assertEqual([effect.code for effect in effects if isinstance(effect, Close)], [1003])

    def test_twentieth_bad_frame_within_a_minute_closes_1002(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            for _ in range(19):
                station.receive(b"{not json")
                station.now += 3
            self.assertEqual(closes(station), [])
            station.receive(b"{not json")
            self.assertEqual(closes(station), [1002])

    def test_rare_bad_frames_are_borne(self) -> None:
        station = build_session(V16)
        for _ in range(100):
            station.receive(b"{not json")
            station.now += 4
        self.assertEqual((closes(station), station.session.bad_frames), ([], 100))

    def test_ignored_types_do_not_count_towards_the_limit(self) -> None:
        station = build_session(V201)
        for _ in range(50):
            station.receive([6, "a", "NotifyPeriodicEventStream", {}])
        self.assertEqual((closes(station), station.session.bad_frames), ([], 50))


class Serving(SynchronousTestCase):
    def test_unknown_action_is_not_implemented(self) -> None:
        for version in VERSIONS:
            for action in ("Foo", "heartbeat", "", "HeartbeatRequest"):
                sent = build_session(version).call("a", action, {})
                self.assertEqual([frame[:3] for frame in sent], [[4, "a", "NotImplemented"]])

    def test_wrong_direction_is_not_supported(self) -> None:
        for version in VERSIONS:
            sent = build_session(version).call("a", "Reset", {"type": "Soft"})
            self.assertEqual([frame[:3] for frame in sent], [[4, "a", "NotSupported"]])

    def test_send_action_in_a_call_is_not_supported(self) -> None:
        sent = build_session(V21).call("a", "NotifyPeriodicEventStream", SENT)
        self.assertEqual([frame[:3] for frame in sent], [[4, "a", "NotSupported"]])

    def test_invalid_payload_gets_the_versions_code(self) -> None:
        boot_16 = {"chargePointVendor": "v", "chargePointModel": "m"}
        cases: list[tuple[Any, dict[str, Any], str]] = [
            (V16, {"chargePointModel": "m"}, "OccurenceConstraintViolation"),
            (V16, {**boot_16, "chargePointVendor": 7}, "TypeConstraintViolation"),
            (V16, {**boot_16, "chargePointVendor": "v" * 21}, "PropertyConstraintViolation"),
            (V16, {**boot_16, "extra": 1}, "FormationViolation"),
            (V201, {"reason": "PowerUp"}, "OccurrenceConstraintViolation"),
            (V201, {"reason": "PowerUp", "chargingStation": 1}, "TypeConstraintViolation"),
            (V21, {"reason": "X", "chargingStation": {"model": "m", "vendorName": "v"}}, "PropertyConstraintViolation"),
            (
                V21,
                {"reason": "PowerUp", "chargingStation": {"model": "m", "vendorName": "v"}, "x": 1},
                "FormatViolation",
            ),
        ]
        for version, payload, code in cases:
            station = build_session(version, boot_status=None)
            sent = station.call("a", "BootNotification", payload)
            self.assertEqual([frame[:3] for frame in sent], [[4, "a", code]], payload)
            self.assertEqual((station.events, station.state.boot_status), ([], None))

    def test_invalid_transaction_message_is_recorded_before_it_is_refused(self) -> None:
        station = build_session(V16, journal_waits=True)
        self.assertEqual(station.call("a", "StopTransaction", {"transactionId": 1}), [])
        self.assertEqual(station.commit()[0][:3], [4, "a", "OccurenceConstraintViolation"])
        recorded = station.last_event()
        self.assertEqual(recorded["eventType"], "InvalidMessageReceived")
        self.assertEqual(recorded["payload"]["error"]["code"], "OccurenceConstraintViolation")
        self.assertEqual(recorded["payload"]["payload"], {"transactionId": 1})

    def test_of_equal_member_names_the_checked_one_is_published(self) -> None:
        station = build_session(V16)
        sent = station.receive(b'[2,"a","DataTransfer",{"vendorId":7,"vendorId":"x"}]')
        self.assertEqual(sent[0][:2], [3, "a"])
        self.assertEqual(station.last_event()["payload"]["payload"], {"vendorId": "x"})
        sent = station.receive(b'[2,"b","DataTransfer",{"vendorId":"x","vendorId":7}]')
        self.assertEqual(sent[0][:3], [4, "b", "TypeConstraintViolation"])
        self.assertEqual(len(station.events), 1)

    def test_big_integers_and_nul_reach_the_event_unchanged(self) -> None:
        station = build_session(V201)
        station.receive(b'[2,"a","DataTransfer",{"vendorId":"v","data":[123456789012345678901234567890,"\\u0000"]}]')
        data = station.last_event()["payload"]["payload"]["data"]
        self.assertEqual(data, [123456789012345678901234567890, "\0"])

    def test_custom_data_is_kept_at_every_level(self) -> None:
        custom = {"vendorId": "v", "own": [1, {"x": None}]}
        station = build_session(V201)
        payload = event("Started", 0, customData=custom)
        payload["transactionInfo"]["customData"] = custom
        self.assertEqual(station.call("a", "TransactionEvent", payload), [[3, "a", {}]])
        self.assertEqual(station.last_event()["payload"]["payload"], payload)

    def test_deep_custom_data_never_breaks_the_session(self) -> None:
        """Around the depth at which the decoder gives up, whatever the stack left over then."""
        for depth in (*range(200, 1000, 50), *range(900, 1010)):
            deep = b"[" * depth + b"]" * depth
            custom = b'"customData":{"vendorId":"v","deep":%b}' % deep
            head = json.dumps(event("Started", 0)).encode()[:-1]
            for action, payload in (
                (b"DataTransfer", b'{"vendorId":"v","data":%b}' % deep),
                (b"TransactionEvent", b"%b,%b}" % (head, custom)),
            ):
                station = build_session(V201, journal_waits=True)
                text = b'[2,"a","%b",%b]' % (action, payload)
                sent = station.receive(text) + station.receive(text) + station.commit()
                self.assertIn(sent[0][0], (3, 4), depth)

    def test_counted_by_version_and_action(self) -> None:
        station = build_session(V21)
        station.call("a", "Heartbeat", {})
        station.receive([6, "b", "NotifyPeriodicEventStream", SENT])
        self.assertEqual(station.counted, [("2.1", "Heartbeat"), ("2.1", "NotifyPeriodicEventStream")])

    def test_connector_states_are_kept_for_the_console(self) -> None:
        station = build_session(V16)
        station.call("a", "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Charging"})
        self.assertEqual(station.state.connectors, {"1": "Charging"})
        station = build_session(V201)
        status = {"timestamp": "2027-01-15T08:00:00Z", "connectorStatus": "Occupied", "evseId": 2, "connectorId": 1}
        station.call("a", "StatusNotification", status)
        self.assertEqual(station.state.connectors, {"2.1": "Occupied"})


class Durability(SynchronousTestCase):
    def test_nothing_is_answered_before_it_is_durable(self) -> None:
        for version in VERSIONS:
            station = build_session(version, journal_waits=True)
            self.assertEqual(station.call("a", "Heartbeat", {}), [])
            self.assertEqual(station.commit()[0][:2], [3, "a"])

    def test_what_can_not_be_stored_is_an_internal_error(self) -> None:
        for version in VERSIONS:
            station = build_session(version, journal_waits=True)
            station.call("a", "Heartbeat", {})
            self.assertEqual([frame[:3] for frame in station.refuse()], [[4, "a", "InternalError"]])
            self.assertEqual(closes(station), [])

    def test_after_a_refusal_the_same_call_is_served_anew(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.refuse()
        station.call("a", "Heartbeat", {})
        self.assertEqual(station.commit()[0][:2], [3, "a"])

    def test_what_is_never_refused_gets_no_answer_and_the_socket_is_closed(self) -> None:
        security = {"type": "X", "timestamp": "2027-01-15T08:00:00Z"}
        cases: list[tuple[Any, str, dict[str, Any]]] = [
            (V16, "StartTransaction", START),
            (V16, "StopTransaction", {"transactionId": 1, "meterStop": 1, "timestamp": "2027-01-15T08:00:00Z"}),
            (V16, "MeterValues", {"connectorId": 1, "meterValue": METER_VALUE}),
            (V16, "SecurityEventNotification", security),
            (V16, "StopTransaction", {"rubbish": 1}),
            (V201, "TransactionEvent", event("Ended", 1)),
            (V21, "SecurityEventNotification", security),
        ]
        for version, action, payload in cases:
            station = build_session(version, journal_waits=True)
            station.call("a", action, payload)
            self.assertEqual(station.refuse(), [], action)
            self.assertEqual(closes(station), [1011], action)

    def test_answer_after_the_loss_is_kept_for_the_next_connection(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.lose()
        self.assertEqual(station.commit(), [])
        station.connect()
        self.assertEqual(station.call("a", "Heartbeat", {})[0][:2], [3, "a"])
        self.assertEqual(station.event_types(), ["StationHeartbeat", "StationDisconnected"])

    def test_refusal_after_the_loss_says_nothing(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.lose()
        self.assertEqual(station.refuse(), [])

    def test_store_that_answers_after_the_loss_changes_nothing(self) -> None:
        station = build_session(V16, store_waits=True)
        station.call("a", "StartTransaction", START)
        station.lose()
        self.assertEqual(station.store_replies(), [])
        self.assertEqual(station.event_types(), ["StationDisconnected"])

    def test_foreign_tokens_are_ignored(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        self.assertEqual(station.session.durable(99, station.now), [])
        self.assertEqual(station.session.refused(0, station.now), [])
        self.assertEqual(len(station.commit()), 1)


class OneAtATime(SynchronousTestCase):
    def test_pipelined_calls_are_served_in_order(self) -> None:
        station = build_session(V16, journal_waits=True)
        for number in range(5):
            station.call(f"m{number}", "Heartbeat", {})
        self.assertEqual(station.waiting_records, 1)
        answered = []
        for _ in range(5):
            answered += [frame[1] for frame in station.commit(1)]
        self.assertEqual(answered, ["m0", "m1", "m2", "m3", "m4"])

    def test_pipelined_errors_keep_their_place(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.call("b", "Foo", {})
        station.call("c", "Heartbeat", {})
        sent = station.commit(1)
        self.assertEqual([frame[:2] for frame in sent], [[3, "a"], [4, "b"]])
        self.assertEqual([frame[:2] for frame in station.commit(1)], [[3, "c"]])

    def test_refused_call_lets_the_next_one_pass(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.call("b", "Heartbeat", {})
        self.assertEqual([frame[:2] for frame in station.refuse(1)], [[4, "a"]])
        self.assertEqual([frame[:2] for frame in station.commit()], [[3, "b"]])

    def test_many_pipelined_repeats_of_a_transaction_message(self) -> None:
        station = build_session(V16, rules=SessionRules(pending_messages=2000))
        station.call("start", "StartTransaction", START)
        station.journal_waits = True
        station.call("a", "Heartbeat", {})
        for number in range(2000):
            station.call(f"m{number}", "StartTransaction", START)
        sent = station.commit()
        self.assertEqual([frame[1] for frame in sent], ["a", *(f"m{number}" for number in range(2000))])

    def test_queue_is_bounded(self) -> None:
        station = build_session(V16, journal_waits=True, rules=SessionRules(pending_messages=3))
        for number in range(4):
            station.call(f"m{number}", "Heartbeat", {})
        self.assertEqual(closes(station), [])
        station.call("m4", "Heartbeat", {})
        self.assertEqual(closes(station), [1013])

    def test_call_is_answered_while_ours_is_outstanding(self) -> None:
        station = build_session(V16)
        station.command("ClearCache", {})
        self.assertEqual(station.call("a", "Heartbeat", {})[0][:2], [3, "a"])

    def test_store_is_asked_and_the_next_waits(self) -> None:
        station = build_session(V16, store_waits=True)
        station.call("a", "StartTransaction", START)
        station.call("b", "Heartbeat", {})
        self.assertEqual([frame[1] for frame in station.store_replies()], ["a", "b"])

    def test_repeat_that_the_store_knows_lets_the_next_one_pass(self) -> None:
        station = build_session(V16)
        station.call("a", "StartTransaction", START)
        station.restart()
        station.store_waits = True
        station.call("b", "StartTransaction", START)
        station.call("c", "Authorize", {"idTag": "TAG"})
        self.assertEqual([frame[1] for frame in station.store_replies()], ["b", "c"])


class Repeats(SynchronousTestCase):
    def test_repeat_in_flight_is_executed_and_answered_once(self) -> None:
        for version in VERSIONS:
            station = build_session(version, journal_waits=True)
            station.call("a", "Heartbeat", {})
            station.call("a", "Heartbeat", {})
            self.assertEqual([frame[:2] for frame in station.commit()], [[3, "a"]])
            self.assertEqual(len(station.events), 1)

    def test_repeat_of_a_waiting_call_is_answered_once(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.call("b", "Heartbeat", {})
        station.call("b", "Heartbeat", {})
        self.assertEqual([frame[1] for frame in station.commit(1) + station.commit()], ["a", "b"])

    def test_repeat_after_the_answer_gets_the_same_answer(self) -> None:
        station = build_session(V16)
        first = station.call("a", "Heartbeat", {})
        station.now += 5
        self.assertEqual(station.call("a", "Heartbeat", {}), first)
        station.lose()
        station.connect()
        self.assertEqual(station.call("a", "Heartbeat", {}), first)
        self.assertEqual(station.event_types().count("StationHeartbeat"), 1)

    def test_same_id_with_other_payload_or_action_is_a_new_request(self) -> None:
        station = build_session(V16)
        station.call("a", "DataTransfer", {"vendorId": "x"})
        station.call("a", "DataTransfer", {"vendorId": "y"})
        station.call("a", "Heartbeat", {})
        self.assertEqual(len(station.events), 3)

    def test_same_id_with_other_payload_in_flight_is_a_new_request(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "DataTransfer", {"vendorId": "x"})
        station.call("a", "DataTransfer", {"vendorId": "y"})
        self.assertEqual([frame[1] for frame in station.commit(1) + station.commit()], ["a", "a"])
        self.assertEqual(len(station.events), 2)

    def test_answer_is_kept_for_its_time_only(self) -> None:
        station = build_session(V16, rules=SessionRules(replay_seconds=10))
        station.call("a", "Heartbeat", {})
        station.now += 10.5
        station.call("a", "Heartbeat", {})
        self.assertEqual(len(station.events), 2)

    def test_kept_answers_are_bounded(self) -> None:
        station = build_session(V16)
        for number in range(100):
            station.call(f"m{number}", "Heartbeat", {})
        self.assertLessEqual(len(station.state.recent), 8)

    def test_refusals_are_not_kept(self) -> None:
        station = build_session(V16, boot_status="Pending")
        station.call("a", "Heartbeat", {})
        station.call("b", "BootNotification", {"chargePointVendor": "v", "chargePointModel": "m"})
        self.assertEqual(station.call("a", "Heartbeat", {})[0][0], 3)


class Sends(SynchronousTestCase):
    def test_valid_send_becomes_an_event_and_is_not_answered(self) -> None:
        station = build_session(V21)
        self.assertEqual(station.receive([6, "a", "NotifyPeriodicEventStream", SENT]), [])
        self.assertEqual(station.last_event()["payload"]["payload"], SENT)

    def test_send_is_never_answered_whatever_it_is(self) -> None:
        texts: list[Any] = [
            [6, "a", "NotifyPeriodicEventStream", {"id": "x"}],
            [6, "a", "NotifyPeriodicEventStream", []],
            [6, "a", "NotifyPeriodicEventStream"],
            [6, "a", "NotifyPeriodicEventStream", SENT, {}],
            [6, "a", 7, SENT],
            [6, "x" * 37, "NotifyPeriodicEventStream", SENT],
            [6, "", "NotifyPeriodicEventStream", SENT],
            [6, 7, "NotifyPeriodicEventStream", SENT],
            [6, "a", "Heartbeat", {}],
            [6, "a", "Foo", {}],
            [6],
            b'[6,"a","NotifyPeriodicEventStream",{"id":1e999}]',
        ]
        for text in texts:
            for version in VERSIONS:
                station = build_session(version)
                self.assertEqual(station.receive(text), [], f"{version.name} {text!r}")
                self.assertEqual(station.events, [], f"{version.name} {text!r}")

    def test_send_is_an_unknown_type_before_2_1(self) -> None:
        for version in (V16, V201):
            station = build_session(version)
            self.assertEqual(station.receive([6, "a", "NotifyPeriodicEventStream", SENT]), [])
            self.assertEqual((station.events, station.session.bad_frames), ([], 1))

    def test_send_waits_for_the_boot(self) -> None:
        station = build_session(V21, boot_status="Pending")
        self.assertEqual(station.receive([6, "a", "NotifyPeriodicEventStream", SENT]), [])
        self.assertEqual(station.events, [])

    def test_send_passes_a_call_that_is_being_served(self) -> None:
        station = build_session(V21, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.receive([6, "b", "NotifyPeriodicEventStream", SENT])
        self.assertEqual([frame[:2] for frame in station.commit()], [[3, "a"]])
        self.assertEqual(station.event_types(), ["StationHeartbeat", "NotifyPeriodicEventStream"])

    def test_deep_send_never_breaks_the_session(self) -> None:
        for depth in range(900, 1010):
            custom = b'"customData":{"vendorId":"v","deep":%b%b}' % (b"[" * depth, b"]" * depth)
            text = b'[6,"a","NotifyPeriodicEventStream",%b,%b}]' % (json.dumps(SENT).encode()[:-1], custom)
            sent = build_session(V21).receive(text)
            self.assertIn([frame[:2] for frame in sent], ([], [[4, "-1"]]), depth)


BOOT_16 = {"chargePointVendor": "v", "chargePointModel": "m"}
FIRST = StationFacts("CP-001", "station-1", "tenant-1", required_serial="SN-1")


def boot_2x(**station: str) -> dict[str, Any]:
    return {"reason": "PowerUp", "chargingStation": {"vendorName": "v", "model": "m", **station}}


class SerialNumbers(SynchronousTestCase):
    """B01.FR.12: where the identity asks for it, the reported serial number is the certificate's common name."""

    def assert_closed(self, station: Station, boot: dict[str, Any], reported: str | None) -> None:
        self.assertEqual(station.call("a", "BootNotification", boot), [])
        self.assertEqual((closes(station), station.notes()), ([1008], ["serial-number-mismatch"]))
        self.assertEqual(station.event_types(), ["SerialNumberMismatch"])
        payload = station.last_event()["payload"]
        self.assertEqual((payload["certificateCommonName"], payload["serialNumber"]), ("SN-1", reported))
        self.assertIsNone(station.state.boot_status)

    def assert_accepted(self, station: Station, boot: dict[str, Any]) -> None:
        self.assertEqual(station.call("a", "BootNotification", boot)[0][2]["status"], "Accepted")
        self.assertEqual((closes(station), station.event_types()), ([], ["StationBooted"]))

    def test_another_one_closes_without_an_answer(self) -> None:
        for version in TWO_X:
            self.assert_closed(
                build_session(version, boot_status=None, facts=FIRST), boot_2x(serialNumber="SN-2"), "SN-2"
            )
        boot = {**BOOT_16, "chargePointSerialNumber": "SN-2", "chargeBoxSerialNumber": "SN-3"}
        self.assert_closed(build_session(V16, boot_status=None, facts=FIRST), boot, "SN-2, SN-3")

    def test_none_at_all_closes_too(self) -> None:
        for version, boot in ((V16, BOOT_16), (V201, boot_2x()), (V21, boot_2x())):
            self.assert_closed(build_session(version, boot_status=None, facts=FIRST), boot, None)

    def test_spelled_in_another_case_it_is_another(self) -> None:
        self.assert_closed(build_session(V201, boot_status=None, facts=FIRST), boot_2x(serialNumber="sn-1"), "sn-1")

    def test_the_certificates_own_is_accepted(self) -> None:
        for version in TWO_X:
            self.assert_accepted(build_session(version, boot_status=None, facts=FIRST), boot_2x(serialNumber="SN-1"))

    def test_either_of_the_two_fields_of_1_6_will_do(self) -> None:
        for fields in (
            {"chargePointSerialNumber": "SN-1"},
            {"chargeBoxSerialNumber": "SN-1"},
            {"chargePointSerialNumber": "SN-2", "chargeBoxSerialNumber": "SN-1"},
        ):
            self.assert_accepted(build_session(V16, boot_status=None, facts=FIRST), {**BOOT_16, **fields})

    def test_a_certificate_without_a_common_name_fits_no_serial_number(self) -> None:
        nameless = StationFacts("CP-001", "station-1", "tenant-1", required_serial="")
        station = build_session(V201, boot_status=None, facts=nameless)
        self.assertEqual(station.call("a", "BootNotification", boot_2x(serialNumber="SN-1")), [])
        self.assertEqual(closes(station), [1008])

    def test_an_earlier_boot_stays_as_it_was(self) -> None:
        station = build_session(V201, boot_status="Pending", facts=FIRST)
        station.call("a", "BootNotification", boot_2x(serialNumber="SN-2"))
        self.assertEqual((station.state.boot_status, station.store.boot), ("Pending", None))

    def test_what_comes_behind_it_is_not_served(self) -> None:
        station = build_session(V201, facts=FIRST)
        station.call("a", "BootNotification", boot_2x(serialNumber="SN-2"))
        self.assertEqual(station.call("b", "Heartbeat", {}), [])
        self.assertEqual(station.event_types(), ["SerialNumberMismatch"])

    def test_a_repeated_boot_is_judged_by_the_connection_it_comes_on(self) -> None:
        station = build_session(V201)
        station.call("a", "BootNotification", boot_2x(serialNumber="SN-2"))
        station.facts = FIRST
        for again in (station.connect, station.restart):
            again()
            self.assertEqual(station.call("a", "BootNotification", boot_2x(serialNumber="SN-2")), [])
            self.assertEqual(station.event_types()[-1], "SerialNumberMismatch")
        self.assertEqual(closes(station), [1008, 1008])

    def test_nobody_asks_where_the_identity_does_not(self) -> None:
        self.assert_accepted(build_session(V201, boot_status=None), boot_2x(serialNumber="SN-2"))


class SecurityEvents(SynchronousTestCase):
    def test_an_unknown_type_is_answered_like_a_known_one(self) -> None:
        for kind in ("InvalidChargingStationCertificate", "SomethingNobodyHasHeardOf"):
            for version in VERSIONS:
                station = build_session(version)
                security = {"type": kind, "timestamp": "2027-01-15T08:00:00Z"}
                self.assertEqual(station.call("a", "SecurityEventNotification", security), [[3, "a", {}]])
                self.assertEqual(station.last_event()["payload"]["payload"]["type"], kind)


class Ends(SynchronousTestCase):
    def test_opening_and_losing_are_events(self) -> None:
        station = build_session(V16)
        station.perform(station.session.opened(station.now, {"address": "192.0.2.1"}))
        station.lose()
        self.assertEqual(station.event_types(), ["StationConnected", "StationDisconnected"])
        gone = station.last_event()["payload"]
        self.assertEqual((gone["code"], gone["reason"], gone["epoch"]), (1006, "gone", 1))

    def test_calls_that_waited_are_dropped_with_the_connection(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "Heartbeat", {})
        station.call("b", "Heartbeat", {})
        station.lose()
        self.assertEqual(station.commit(), [])
        self.assertEqual(station.event_types(), ["StationHeartbeat", "StationDisconnected"])

    def test_records_carry_a_growing_token(self) -> None:
        station = build_session(V16)
        for number in range(3):
            station.call(f"m{number}", "Heartbeat", {})
        tokens = [publish.token for publish in station.of_type(Publish)]
        self.assertEqual(tokens, sorted(set(tokens)))

"""What stations tell after they have answered: matched to the command, reports put together into one event."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp import followups
from ocppgw.ocpp.effects import WakeAt
from ocppgw.ocpp.followups import BYTES, PARTS, REPORT_SECONDS, REPORTS_OPEN
from ocppgw.ocpp.memory import COMMANDS_KEPT
from ocppgw.ocpp.versions import V16, V21, V201
from tests import record_watch
from tests.build_session import Station, build_session

NOW = "2027-01-15T08:00:00Z"
ACCEPTED = {"status": "Accepted"}
LOG = {"remoteLocation": "https://logs.example/up"}


def part(number: int, *, more: bool = True, request_id: int = 7, **members: Any) -> dict[str, Any]:
    return {"requestId": request_id, "generatedAt": NOW, "seqNo": number, "tbc": more, **members}


class Reports(SynchronousTestCase):
    def setUp(self) -> None:
        self.station = build_session(V201)
        self.contract = record_watch.contract()
        self.ids = 0

    def tearDown(self) -> None:
        for event in self.station.events:
            self.assertEqual(self.contract.fault("ocpp.station.events", event["stationId"], event), "")

    def ask(self, action: str, payload: dict[str, Any], answer: Any = None, command_id: str = "command-1") -> None:
        ((_, message_id, sent, _),) = self.station.command(action, payload, command_id)
        self.assertEqual(sent, action)
        self.station.receive([3, message_id, answer or ACCEPTED])

    def base_report(self, request_id: int = 7, command_id: str = "command-1", answer: Any = None) -> None:
        self.ask("GetBaseReport", {"requestId": request_id, "reportBase": "FullInventory"}, answer, command_id)

    def send(self, action: str, payload: dict[str, Any]) -> None:
        self.ids += 1
        sent = self.station.call(f"m-{self.ids}", action, payload)
        self.assertEqual([frame[:2] for frame in sent if frame[0] != 2], [[3, f"m-{self.ids}"]])

    def completed(self) -> list[dict[str, Any]]:
        return [event for event in self.station.events if event["eventType"] == "ReportCompleted"]

    def test_parts_become_one_event_beside_their_own(self) -> None:
        self.base_report()
        parts = [part(0), part(1), part(2, more=False)]
        for one in parts:
            self.send("NotifyReport", one)
        self.assertEqual(self.station.event_types(), ["NotifyReport"] * 3 + ["ReportCompleted"])
        self.assertEqual([event["payload"]["commandId"] for event in self.station.events[:3]], ["command-1"] * 3)
        (event,) = self.completed()
        self.assertEqual(event["correlationId"], "command-1")
        told = event["payload"]
        self.assertEqual((told["action"], told["requestId"], told["complete"]), ("GetBaseReport", 7, True))
        self.assertEqual(told["parts"], parts)
        self.assertNotIn("reason", told)

    def test_a_part_that_comes_before_the_answer_and_one_that_comes_twice_count_once(self) -> None:
        ((_, message_id, *_),) = self.station.command("GetReport", {"requestId": 7})
        self.send("NotifyReport", part(0))
        self.send("NotifyReport", part(0))
        self.station.receive([3, message_id, ACCEPTED])
        self.send("NotifyReport", part(1, more=False))
        self.assertEqual(self.completed()[0]["payload"]["parts"], [part(0), part(1, more=False)])

    def test_parts_stand_in_the_order_of_their_numbers(self) -> None:
        self.base_report()
        for one in (part(1), part(0), part(2, more=False)):
            self.send("NotifyReport", one)
        self.assertEqual([row["seqNo"] for row in self.completed()[0]["payload"]["parts"]], [0, 1, 2])

    def test_numbers_may_be_written_with_a_point_or_beyond_all_measure(self) -> None:
        self.base_report()
        self.send("NotifyReport", {**part(0), "requestId": 7.0, "seqNo": 0.0})
        self.send("NotifyReport", {**part(1, more=False), "requestId": 7.0, "seqNo": 1.0})
        self.assertEqual([event["payload"]["complete"] for event in self.completed()], [True])
        self.base_report(1e300, "large")  # type: ignore[arg-type]
        self.base_report(8, "then")
        self.send("NotifyReport", {**part(0), "requestId": 8, "seqNo": 1e300})
        self.send("NotifyReport", {**part(0, more=False), "requestId": 8, "seqNo": 3.0})
        told = self.completed()[-1]
        self.assertEqual((told["correlationId"], told["payload"]["complete"]), ("then", False))

    def test_a_hole_is_told(self) -> None:
        self.base_report()
        self.send("NotifyReport", part(0))
        self.send("NotifyReport", part(3, more=False))
        told = self.completed()[0]["payload"]
        self.assertEqual((told["complete"], told["reason"], told["missing"]), (False, "MissingParts", [1, 2]))
        self.assertEqual(len(told["parts"]), 2)

    def test_an_invented_number_makes_no_long_list(self) -> None:
        self.base_report()
        self.send("NotifyReport", part(2**31 - 1, more=False))
        self.assertEqual(self.completed()[0]["payload"]["missing"], [0])

    def test_a_report_that_stays_away_ends_after_its_time(self) -> None:
        self.base_report()
        self.send("NotifyReport", part(0))
        self.station.wait(REPORT_SECONDS - 1)
        self.assertEqual(self.completed(), [])
        self.send("NotifyReport", part(1))  # the time runs from the last part
        self.station.wait(REPORT_SECONDS - 1)
        self.assertEqual(self.completed(), [])
        wake = self.station.of_type(WakeAt)[-1].at
        self.assertAlmostEqual(wake, self.station.now + 1)
        self.station.wait(1)
        told = self.completed()[0]["payload"]
        self.assertEqual((told["complete"], told["reason"], len(told["parts"])), (False, "Timeout", 2))
        self.send("NotifyReport", part(2, more=False))  # too late, but still the command's
        self.assertEqual(len(self.completed()), 1)
        self.assertEqual(self.station.last_event()["payload"]["commandId"], "command-1")

    def test_a_report_breaks_off_with_the_connection(self) -> None:
        self.base_report()
        self.send("NotifyReport", part(0))
        self.station.lose()
        self.assertEqual(self.station.event_types()[-2:], ["ReportCompleted", "StationDisconnected"])
        self.assertEqual(self.completed()[0]["payload"]["reason"], "Disconnected")

    def test_a_part_that_is_not_durable_is_not_in_the_report(self) -> None:
        self.base_report()
        self.station.journal_waits = True
        self.station.call("a", "NotifyReport", part(0, more=False))
        self.station.refuse()
        self.assertEqual(self.station.events, [])
        self.station.call("b", "NotifyReport", part(0, more=False))
        self.station.commit()
        self.station.commit()
        self.assertEqual(self.station.event_types(), ["NotifyReport", "ReportCompleted"])

    def test_nothing_is_waited_for_after_a_refusal(self) -> None:
        for answer in ({"status": "Rejected"}, {"status": "NotSupported"}, {"status": "EmptyResultSet"}):
            self.base_report(answer=answer)
        self.station.lose()
        self.assertEqual(self.completed(), [])

    def test_no_part_is_expected_when_customer_data_is_only_cleared(self) -> None:
        self.ask("CustomerInformation", {"requestId": 7, "report": False, "clear": True})
        self.station.lose()
        self.assertEqual(self.completed(), [])

    def test_reports_side_by_side_are_kept_apart(self) -> None:
        self.base_report(1, "command-1")
        self.base_report(2, "command-2")
        self.send("NotifyReport", part(0, request_id=2))
        self.send("NotifyReport", part(0, request_id=1, more=False))
        self.send("NotifyReport", part(1, request_id=2, more=False))
        ends = [(event["correlationId"], len(event["payload"]["parts"])) for event in self.completed()]
        self.assertEqual(ends, [("command-1", 1), ("command-2", 2)])

    def test_the_same_number_again_ends_the_first_report(self) -> None:
        self.base_report(7, "command-1")
        self.base_report(7, "command-2")
        self.send("NotifyReport", part(0, more=False))
        ends = [(event["correlationId"], event["payload"].get("reason")) for event in self.completed()]
        self.assertEqual(ends, [("command-1", "Superseded"), ("command-2", None)])

    def test_open_reports_are_bounded(self) -> None:
        for number in range(REPORTS_OPEN + 1):
            self.base_report(number, f"command-{number}")
        (event,) = self.completed()
        self.assertEqual((event["correlationId"], event["payload"]["reason"]), ("command-0", "Superseded"))

    def test_a_report_is_bounded_in_parts(self) -> None:
        self.patch(followups, "PARTS", 2)
        self.base_report()
        for number in range(4):
            self.send("NotifyReport", part(number, more=number < 3))
        told = self.completed()[0]["payload"]
        self.assertEqual((told["reason"], told["leftOut"], len(told["parts"])), ("TooLarge", 2, 2))
        self.assertEqual(self.station.event_types().count("NotifyReport"), 4)

    def test_a_report_is_bounded_in_bytes(self) -> None:
        self.assertLess(BYTES + PARTS, 1_000_000)
        self.patch(followups, "BYTES", 300)
        self.base_report()
        for number in range(3):
            self.send("NotifyReport", part(number, more=number < 2, customData={"vendorId": "v" * 100}))
        told = self.completed()[0]["payload"]
        self.assertEqual((told["complete"], told["leftOut"]), (False, 2))

    def test_a_report_nobody_asked_for_is_an_event_only(self) -> None:
        self.send("NotifyReport", part(0, more=False))
        self.base_report(8)
        self.send("NotifyReport", part(0, more=False))
        self.assertEqual(self.station.event_types(), ["NotifyReport"] * 2)
        self.assertNotIn("commandId", self.station.last_event()["payload"])

    def test_every_kind_of_report(self) -> None:
        self.station = build_session(V21)
        messages = {
            "messageInfo": [{"id": 1, "priority": "AlwaysFront", "message": {"format": "UTF8", "content": "x"}}]
        }
        profiles = {"chargingLimitSource": "EMS", "evseId": 1, "chargingProfile": [profile()]}
        for action, payload, message, told in (
            ("GetMonitoringReport", {}, "NotifyMonitoringReport", {"seqNo": 0, "generatedAt": NOW}),
            (
                "CustomerInformation",
                {"report": True, "clear": False},
                "NotifyCustomerInformation",
                {"data": "d", "seqNo": 0, "generatedAt": NOW},
            ),
            ("GetDisplayMessages", {}, "NotifyDisplayMessages", messages),
            ("GetChargingProfiles", {"chargingProfile": {}}, "ReportChargingProfiles", profiles),
            ("GetDERControl", {}, "ReportDERControl", {}),
        ):
            self.ask(action, {"requestId": 7, **payload}, command_id=action)
            self.send(message, {"requestId": 7, "tbc": True, **told})
            self.send(message, {"requestId": 7, **told, **({"seqNo": 1} if "seqNo" in told else {})})
            event = self.completed()[-1]
            self.assertEqual((event["correlationId"], event["payload"]["action"]), (action, action))
            self.assertEqual((event["payload"]["complete"], len(event["payload"]["parts"])), (True, 2))


def profile() -> dict[str, Any]:
    period = {"startPeriod": 0, "limit": 16.0}
    schedule = {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [period]}
    return {
        "id": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": [schedule],
    }


class Progress(SynchronousTestCase):
    def ask(self, station: Station, action: str, payload: dict[str, Any], command_id: str, answer: Any = None) -> None:
        ((_, message_id, *_),) = station.command(action, payload, command_id)
        station.receive([3, message_id, ACCEPTED if answer is None else answer])

    def named(self, station: Station, action: str, payload: dict[str, Any]) -> str | None:
        self.assertEqual(station.call(f"p-{len(station.events)}", action, payload)[0][0], 3)
        command_id: str | None = station.last_event()["payload"].get("commandId")
        return command_id

    def get_log(self, station: Station, number: int, status: str = "Accepted") -> None:
        payload = {"logType": "DiagnosticsLog", "requestId": number, "log": LOG}
        self.ask(station, "GetLog", payload, f"log-{number}", {"status": status, "filename": "a.log"})

    def test_a_log_upload_names_its_command_and_a_second_one_cancels_it(self) -> None:
        for version in (V16, V201, V21):
            station = build_session(version)
            self.get_log(station, 1)
            self.assertEqual(
                self.named(station, "LogStatusNotification", {"status": "Uploading", "requestId": 1}), "log-1"
            )
            self.get_log(station, 2, "AcceptedCanceled")
            event = station.last_event()
            self.assertEqual((event["eventType"], event["correlationId"]), ("OperationCancelled", "log-1"))
            told = event["payload"]
            self.assertEqual((told["action"], told["requestId"], told["cancelledBy"]), ("GetLog", 1, "log-2"))
            self.assertEqual(record_watch.contract().fault("ocpp.station.events", "station-1", event), "")
            self.assertEqual(
                self.named(station, "LogStatusNotification", {"status": "Uploaded", "requestId": 2}), "log-2"
            )
            self.assertIsNone(self.named(station, "LogStatusNotification", {"status": "Idle"}))

    def test_a_first_log_cancels_nothing(self) -> None:
        station = build_session(V201)
        self.get_log(station, 1, "AcceptedCanceled")
        self.assertEqual(station.events, [])

    def test_messages_of_1_6_without_a_number_belong_to_the_last_command(self) -> None:
        station = build_session(V16)
        self.ask(station, "GetDiagnostics", {"location": "ftp://x.example"}, "d-1", {"fileName": "a"})
        self.ask(station, "UpdateFirmware", {"location": "ftp://x.example", "retrieveDate": NOW}, "u-1", {})
        self.assertEqual(self.named(station, "DiagnosticsStatusNotification", {"status": "Uploading"}), "d-1")
        self.assertEqual(self.named(station, "FirmwareStatusNotification", {"status": "Downloading"}), "u-1")

    def test_firmware_and_battery_swaps_name_their_command(self) -> None:
        station = build_session(V21)
        firmware = {"location": "https://x.example", "retrieveDateTime": NOW}
        self.ask(station, "UpdateFirmware", {"requestId": 3, "firmware": firmware}, "u-1")
        self.assertEqual(
            self.named(station, "FirmwareStatusNotification", {"status": "Installed", "requestId": 3}), "u-1"
        )
        token = {"idToken": "T", "type": "Central"}
        self.ask(station, "RequestBatterySwap", {"requestId": 4, "idToken": token}, "s-1")
        battery = {"evseId": 1, "serialNumber": "B", "soC": 80, "soH": 97}
        swap = {"requestId": 4, "eventType": "BatteryOut", "idToken": token, "batteryData": [battery]}
        self.assertEqual(self.named(station, "BatterySwap", swap), "s-1")

    def test_a_command_is_known_again_on_the_next_connection(self) -> None:
        station = build_session(V201)
        self.get_log(station, 1)
        station.lose()
        station.connect()
        self.assertEqual(self.named(station, "LogStatusNotification", {"status": "Uploaded", "requestId": 1}), "log-1")

    def test_only_so_many_commands_are_remembered(self) -> None:
        station = build_session(V201)
        for number in range(COMMANDS_KEPT + 1):
            self.get_log(station, number)
        memory = station.state.memory
        assert memory is not None
        self.assertEqual(len(memory.commands), COMMANDS_KEPT)
        self.assertIsNone(self.named(station, "LogStatusNotification", {"status": "Uploaded", "requestId": 0}))


class Streams(SynchronousTestCase):
    def test_a_send_of_a_stream_that_is_not_open_is_flagged(self) -> None:
        station = build_session(V21)
        send = {"id": 4, "pending": 0, "basetime": NOW, "data": [{"t": 0, "v": "1"}]}
        stream = {"constantStreamData": {"id": 4, "variableMonitoringId": 1, "params": {}}}

        def flagged() -> bool:
            self.assertEqual(station.receive([6, "s", "NotifyPeriodicEventStream", send]), [])
            self.assertEqual(station.last_event()["eventType"], "NotifyPeriodicEventStream")
            found: bool = station.last_event()["payload"].get("unopened", False)
            return found

        self.assertTrue(flagged())
        station.call("a", "OpenPeriodicEventStream", stream)
        self.assertFalse(flagged())
        station.lose()
        station.connect()
        self.assertFalse(flagged())
        station.call("b", "ClosePeriodicEventStream", {"id": 4})
        self.assertTrue(flagged())

"""The simulated station: everything it says and answers fits the official schemas, and it behaves as OCPP asks."""

import json
import random
import tempfile
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.cli import main, simulate
from ocppgw.errors import ConfigError
from ocppgw.pki import PkiError, make_issuing, make_root, make_station
from ocppgw.simulator.connection import BackOff
from ocppgw.simulator.fleet import DIALECTS, read_tls
from ocppgw.simulator.options import SimulatorOptions
from ocppgw.simulator.outbox import MAX_WAITING, Outbox, Outgoing
from ocppgw.simulator.vehicle import AC_22KW, Vehicle
from tests.simulator_support import NOW, TIMESTAMP, Driver, PayloadMaker, assert_valid, booted, schema

VERSIONS = ("1.6", "2.0.1", "2.1")
NEWER = ("2.0.1", "2.1")
# How many actions a CSMS may send: the down actions of the version and DataTransfer
COMMAND_COUNTS = {"1.6": 26, "2.0.1": 40, "2.1": 55}


def start_action(version: str) -> str:
    return "StartTransaction" if version == "1.6" else "TransactionEvent"


class CommandTests(SynchronousTestCase):
    def test_every_command_of_every_version_is_known(self) -> None:
        for version in VERSIONS:
            self.assertEqual(COMMAND_COUNTS[version], len(DIALECTS[version].commands), version)

    def test_any_valid_command_gets_a_schema_valid_result(self) -> None:
        for version in VERSIONS:
            for action in DIALECTS[version].commands:
                rng = random.Random(action)
                for fullness in (0.0, 0.3, 0.6, 1.0, 1.0):
                    driver = booted(version, connectors=2)
                    payload = PayloadMaker(schema(version, action, response=False), rng, fullness).make()
                    assert_valid(version, action, payload, response=False)
                    answer = driver.command(action, payload)
                    self.assertEqual(3, answer[0], f"{version} {action} {payload} -> {answer}")
                    driver.run_for(20.0)  # follow-ups are checked against their schemas too
                    self.assertEqual(0, driver.statistics.call_errors)

    def test_commands_in_any_order_on_one_station_keep_it_valid(self) -> None:
        for version in VERSIONS:
            driver, rng = booted(version, connectors=2), random.Random(version)
            for _ in range(300):
                action = rng.choice(list(DIALECTS[version].commands))
                if not driver.station.online:
                    driver.connect()
                payload = PayloadMaker(schema(version, action, response=False), rng, 0.7).make()
                self.assertEqual(3, driver.command(action, payload)[0], f"{version} {action} {payload}")
                driver.run_for(rng.uniform(0.0, 5.0))
            self.assertEqual([], list(driver.statistics.errors))

    def test_unknown_action_is_not_implemented(self) -> None:
        for version in VERSIONS:
            answer = booted(version).command("Foo", {})
            self.assertEqual([4, "NotImplemented"], [answer[0], answer[2]])

    def test_payload_of_the_wrong_shape_is_a_formation_violation(self) -> None:
        for version, code in (("1.6", "FormationViolation"), ("2.0.1", "FormatViolation"), ("2.1", "FormatViolation")):
            self.assertEqual(code, booted(version).command("Reset", {})[2])

    def test_configuration_is_read_written_and_protected(self) -> None:
        driver = booted("1.6")
        self.assertEqual(
            "Accepted", driver.command("ChangeConfiguration", {"key": "ConnectionTimeOut", "value": "90"})[2]["status"]
        )
        self.assertEqual(
            "Rejected", driver.command("ChangeConfiguration", {"key": "NumberOfConnectors", "value": "9"})[2]["status"]
        )
        self.assertEqual(
            "Rejected", driver.command("ChangeConfiguration", {"key": "ConnectionTimeOut", "value": "x"})[2]["status"]
        )
        self.assertEqual(
            "NotSupported", driver.command("ChangeConfiguration", {"key": "Nope", "value": "1"})[2]["status"]
        )
        driver.command("ChangeConfiguration", {"key": "AuthorizationKey", "value": "00112233445566778899"})
        answer = driver.command("GetConfiguration", {"key": ["ConnectionTimeOut", "Nope", "AuthorizationKey"]})[2]
        self.assertEqual(["Nope"], answer["unknownKey"])
        self.assertIn({"key": "ConnectionTimeOut", "readonly": False, "value": "90"}, answer["configurationKey"])
        self.assertNotIn("0011", str(answer))

    def test_variables_are_read_and_written(self) -> None:
        for version in NEWER:
            driver = booted(version)
            item = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "OfflineThreshold"}}
            answer = driver.command("SetVariables", {"setVariableData": [{**item, "attributeValue": "7"}]})[2]
            self.assertEqual("Accepted", answer["setVariableResult"][0]["attributeStatus"])
            unknown = {"component": {"name": "Foo"}, "variable": {"name": "Bar"}}
            rows = driver.command("GetVariables", {"getVariableData": [item, unknown]})[2]["getVariableResult"]
            self.assertEqual("7", rows[0]["attributeValue"])
            self.assertEqual("UnknownComponent", rows[1]["attributeStatus"])

    def test_base_report_comes_in_parts_after_the_answer(self) -> None:
        for version in NEWER:
            driver = booted(version)
            answer = driver.command("GetBaseReport", {"requestId": 5, "reportBase": "FullInventory"})
            reports = driver.payloads("NotifyReport")
            self.assertEqual("Accepted", answer[2]["status"])
            self.assertEqual([0, 1, 2, 3], [report["seqNo"] for report in reports])
            self.assertEqual([True, True, True, False], [report["tbc"] for report in reports])
            self.assertEqual(len(driver.station.settings), sum(len(report["reportData"]) for report in reports))
            first = next(i for i, frame in enumerate(driver.frames) if frame[2] == "NotifyReport")
            self.assertLess(driver.frames.index(answer), first)

    def test_triggered_message_is_sent(self) -> None:
        driver = booted("1.6")
        driver.sent.clear()
        self.assertEqual("Accepted", driver.command("TriggerMessage", {"requestedMessage": "Heartbeat"})[2]["status"])
        self.assertEqual(["Heartbeat"], driver.actions())

    def test_firmware_update_reboots_and_reports_installed(self) -> None:
        for version in VERSIONS:
            driver = booted(version, speed=3600.0)
            driver.station.cancel("arrive-1")
            payload = {"location": "http://127.0.0.1/fw", "retrieveDate": TIMESTAMP}
            if version != "1.6":
                payload = {"requestId": 3, "firmware": {"location": "x", "retrieveDateTime": TIMESTAMP}}
            driver.command("UpdateFirmware", payload)
            driver.run_until(lambda driver=driver: bool(driver.disconnects))
            driver.disconnect()
            driver.connect()
            statuses = [payload["status"] for payload in driver.payloads("FirmwareStatusNotification")]
            self.assertEqual(["Idle", "Downloading", "Downloaded", "Installing", "Installed"], statuses)
            self.assertEqual(2, len(driver.payloads("BootNotification")))

    def test_reset_answers_then_disconnects_and_boots_again(self) -> None:
        for version in VERSIONS:
            driver = booted(version)
            answer = driver.command("Reset", {"type": "Hard" if version == "1.6" else "Immediate"})
            self.assertEqual("Accepted", answer[2]["status"])
            self.assertEqual([], driver.disconnects)
            driver.run_until(lambda driver=driver: bool(driver.disconnects))
            self.assertIsNotNone(driver.disconnects[0].reconnect_after)
            driver.disconnect()
            driver.connect()
            self.assertEqual(2, driver.actions().count("BootNotification"))

    def test_reset_on_idle_waits_for_the_session(self) -> None:
        for version in NEWER:
            driver = booted(version, sessions=1)
            driver.run_until(lambda driver=driver: driver.station.charging == 1)
            self.assertEqual("Scheduled", driver.command("Reset", {"type": "OnIdle"})[2]["status"])
            self.assertEqual([], driver.disconnects)
            driver.run_until(lambda driver=driver: bool(driver.disconnects))
            self.assertEqual("Ended", driver.payloads("TransactionEvent")[-1]["eventType"])
            self.assertIsNotNone(driver.disconnects[0].reconnect_after)

    def test_immediate_and_resume_keeps_the_transaction(self) -> None:
        driver = booted("2.1")
        driver.run_until(lambda: driver.station.charging == 1)
        driver.command("Reset", {"type": "ImmediateAndResume"})
        driver.run_until(lambda: bool(driver.disconnects))
        driver.disconnect()
        driver.connect()
        driver.run_for(1.0)
        events = driver.payloads("TransactionEvent")
        self.assertIn("TxResumed", [event["triggerReason"] for event in events])
        self.assertNotIn("Ended", [event["eventType"] for event in events])
        self.assertEqual(1, len({event["transactionInfo"]["transactionId"] for event in events}))

    def test_remote_start_and_stop(self) -> None:
        for version in VERSIONS:
            driver = booted(version)
            if version == "1.6":
                driver.command("RemoteStartTransaction", {"connectorId": 1, "idTag": "REMOTE"})
            else:
                token = {"idToken": "REMOTE", "type": "Central"}
                driver.command("RequestStartTransaction", {"evseId": 1, "idToken": token, "remoteStartId": 42})
            driver.run_until(lambda driver=driver: driver.station.charging == 1, limit=5.0)
            started = driver.payloads(start_action(version))[0]
            connector = driver.station.connectors[1]
            assert connector.session is not None
            stop = "RemoteStopTransaction" if version == "1.6" else "RequestStopTransaction"
            self.assertEqual(
                "Rejected", driver.command(stop, {"transactionId": 7 if version == "1.6" else "7"})[2]["status"]
            )
            answer = driver.command(stop, {"transactionId": connector.session.transaction_id})
            self.assertEqual("Accepted", answer[2]["status"])
            self.assertEqual(0, driver.station.charging)
            if version == "1.6":
                self.assertEqual("REMOTE", started["idTag"])
                self.assertEqual("Remote", driver.payloads("StopTransaction")[0]["reason"])
            else:
                self.assertEqual(42, started["transactionInfo"]["remoteStartId"])
                self.assertEqual("RemoteStop", driver.payloads("TransactionEvent")[-1]["triggerReason"])

    def test_availability_changes_now_or_after_the_session(self) -> None:
        driver = booted("1.6")
        answer = driver.command("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"})
        self.assertEqual("Accepted", answer[2]["status"])
        self.assertEqual("Unavailable", driver.payloads("StatusNotification")[-1]["status"])
        driver.command("ChangeAvailability", {"connectorId": 0, "type": "Operative"})
        driver.run_until(lambda: driver.station.charging == 1)
        answer = driver.command("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"})
        self.assertEqual("Scheduled", answer[2]["status"])
        driver.run_until(lambda: driver.payloads("StatusNotification")[-1]["status"] == "Unavailable")

    def test_reservation_expires(self) -> None:
        driver = booted("2.0.1")
        token = {"idToken": "HOLDER", "type": "Central"}
        driver.station.cancel("arrive-1")
        reservation = {"id": 9, "expiryDateTime": TIMESTAMP, "idToken": token, "evseId": 1}
        self.assertEqual("Accepted", driver.command("ReserveNow", reservation)[2]["status"])
        driver.run_for(10.0)
        self.assertEqual("Expired", driver.payloads("ReservationStatusUpdate")[0]["reservationUpdateStatus"])
        statuses = [payload["connectorStatus"] for payload in driver.payloads("StatusNotification")]
        self.assertEqual(["Available", "Reserved", "Available"], statuses)

    def test_charging_profile_limits_the_power(self) -> None:
        driver = booted("1.6")
        periods = [{"startPeriod": 0, "limit": 1000.0}]
        profile = {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": {"chargingRateUnit": "W", "chargingSchedulePeriod": periods},
        }
        driver.command("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": profile})
        driver.run_until(lambda: len(driver.payloads("MeterValues")) == 2)
        samples = driver.payloads("MeterValues")[-1]["meterValue"][0]["sampledValue"]
        power = next(sample for sample in samples if sample["measurand"] == "Power.Active.Import")
        self.assertEqual("1000", power["value"])
        schedule = driver.command("GetCompositeSchedule", {"connectorId": 1, "duration": 60})[2]["chargingSchedule"]
        self.assertEqual(1000.0, schedule["chargingSchedulePeriod"][0]["limit"])


class SessionTests(SynchronousTestCase):
    def test_boot_is_followed_by_statuses_security_event_and_firmware_status(self) -> None:
        for version in VERSIONS:
            actions = booted(version, connectors=2).actions()
            statuses = 3 if version == "1.6" else 2  # 1.6 reports connector 0 as well
            rest = ["SecurityEventNotification", "FirmwareStatusNotification"]
            self.assertEqual(["BootNotification", *["StatusNotification"] * statuses, *rest], actions)

    def test_whole_sessions_run_and_then_the_station_leaves(self) -> None:
        for version in VERSIONS:
            driver = booted(version, sessions=2)
            driver.run_until(lambda driver=driver: bool(driver.disconnects))
            self.assertIsNone(driver.disconnects[0].reconnect_after)
            self.assertEqual(2, driver.statistics.sessions_completed)
            self.assertEqual(2, driver.actions().count("Authorize"))
            self.assertIn("DataTransfer", driver.actions())
            self.assertEqual(0, driver.statistics.call_errors)

    def test_16_transaction_carries_the_id_the_csms_gave_and_rising_energy(self) -> None:
        driver = booted("1.6", sessions=1)
        driver.run_until(lambda: bool(driver.disconnects))
        start, stop = driver.payloads("StartTransaction")[0], driver.payloads("StopTransaction")[0]
        samples = driver.payloads("MeterValues")
        self.assertEqual({101}, {payload["transactionId"] for payload in (stop, *samples)})
        energies = [int(payload["meterValue"][0]["sampledValue"][0]["value"]) for payload in samples]
        self.assertEqual(sorted(energies), energies)
        self.assertGreater(len(energies), 5)
        self.assertLess(start["meterStart"], energies[0])
        self.assertLessEqual(energies[-1], stop["meterStop"])

    def test_2x_transaction_counts_from_zero_and_ends(self) -> None:
        for version in NEWER:
            driver = booted(version, sessions=1)
            driver.run_until(lambda driver=driver: bool(driver.disconnects))
            events = driver.payloads("TransactionEvent")
            self.assertEqual(list(range(len(events))), [event["seqNo"] for event in events])
            self.assertEqual(["Started", "Updated", "Ended"], [events[i]["eventType"] for i in (0, 1, -1)])
            self.assertFalse(any("offline" in event for event in events))

    def test_withdrawn_token_ends_the_transaction(self) -> None:
        driver = booted("1.6", sessions=1)
        driver.csms.override["StartTransaction"] = {"transactionId": 5, "idTagInfo": {"status": "Blocked"}}
        driver.run_until(lambda: bool(driver.disconnects))
        self.assertEqual("DeAuthorized", driver.payloads("StopTransaction")[0]["reason"])

    def test_refused_token_starts_nothing(self) -> None:
        driver = booted("2.1", sessions=1)
        driver.csms.override["Authorize"] = {"idTokenInfo": {"status": "Blocked"}}
        driver.run_until(lambda: bool(driver.disconnects))
        self.assertEqual([], driver.payloads("TransactionEvent"))

    def test_driver_authorized_while_the_station_goes_down_or_leaves_starts_nothing(self) -> None:
        for version in VERSIONS:
            for leaving in (False, True):
                driver = booted(version)
                driver.csms.override["Authorize"] = None
                driver.run_until(lambda driver=driver: "Authorize" in driver.actions())
                if leaving:
                    driver.perform(driver.station.wind_down(driver.now))
                else:
                    driver.command("Reset", {"type": "Soft" if version == "1.6" else "Immediate"})
                message_id = next(frame[1] for frame in driver.frames if frame[2] == "Authorize")
                info = "idTagInfo" if version == "1.6" else "idTokenInfo"
                answer = json.dumps([3, message_id, {info: {"status": "Accepted"}}]).encode()
                driver.perform(driver.station.received(answer, driver.now))
                driver.run_until(lambda driver=driver: bool(driver.disconnects))
                self.assertEqual([], driver.payloads(start_action(version)))

    def test_authorize_cut_off_by_a_hard_reboot_starts_nothing(self) -> None:
        driver = booted("1.6")
        driver.csms.override["Authorize"] = None
        driver.run_until(lambda: "Authorize" in driver.actions())
        driver.command("Reset", {"type": "Hard"})
        driver.run_until(lambda: bool(driver.disconnects))
        self.assertEqual((0, 0), (driver.station.charging, len(driver.station.outbox)))

    def test_vehicle_takes_less_when_nearly_full_and_nothing_when_full(self) -> None:
        vehicle = Vehicle(40_000.0, 22_000.0, 50.0)
        self.assertEqual(11_000.0, vehicle.power(11_000.0))
        taken = vehicle.charge(4 * 3600.0, AC_22KW.max_power)
        self.assertTrue(19_900.0 < taken <= 20_000.0, taken)
        self.assertLess(Vehicle(40_000.0, 22_000.0, 95.0).power(22_000.0), 10_000.0)
        self.assertEqual(0.0, Vehicle(40_000.0, 22_000.0, 100.0).power(22_000.0))


class BootTests(SynchronousTestCase):
    def test_pending_and_rejected_boots_wait_for_the_interval_and_send_nothing_else(self) -> None:
        for version in VERSIONS:
            for status in ("Pending", "Rejected"):
                driver = Driver(version)
                driver.csms.override["BootNotification"] = {"status": status, "currentTime": TIMESTAMP, "interval": 20}
                driver.connect()
                driver.run_for(19.0)
                self.assertEqual(["BootNotification"], driver.actions())
                del driver.csms.override["BootNotification"]
                driver.run_for(2.0)
                self.assertEqual(["BootNotification", "BootNotification", "StatusNotification"], driver.actions()[:3])

    def test_triggered_boot_is_sent_while_pending_only(self) -> None:
        driver = booted("2.0.1")
        self.assertEqual(
            "Rejected", driver.command("TriggerMessage", {"requestedMessage": "BootNotification"})[2]["status"]
        )
        driver.station.boot_status = "Pending"
        self.assertEqual(
            "Accepted", driver.command("TriggerMessage", {"requestedMessage": "BootNotification"})[2]["status"]
        )
        self.assertEqual("Triggered", driver.payloads("BootNotification")[1]["reason"])

    def test_plain_reconnect_reports_statuses_and_does_not_boot(self) -> None:
        driver = booted("1.6")
        driver.disconnect()
        driver.sent.clear()
        driver.connect()
        self.assertEqual(["StatusNotification", "StatusNotification"], driver.actions())

    def test_pending_station_that_was_offline_when_its_boot_was_due_boots_on_reconnect(self) -> None:
        driver = Driver("2.0.1")
        driver.csms.override["BootNotification"] = {"status": "Pending", "currentTime": TIMESTAMP, "interval": 20}
        driver.connect()
        driver.disconnect()
        driver.run_for(30.0)
        self.assertEqual(1, driver.actions().count("BootNotification"))
        driver.connect()
        self.assertEqual(2, driver.actions().count("BootNotification"))

    def test_csms_that_forgot_the_station_gets_a_boot(self) -> None:
        driver = booted("1.6")
        driver.csms.override["Heartbeat"] = ("SecurityError", "boot first")
        driver.perform(driver.station.tick(driver.now))
        driver.station.heartbeat(driver.now)
        driver.perform(driver.station.tick(driver.now))
        driver.run_for(6.0)
        self.assertEqual(2, driver.actions().count("BootNotification"))

    def test_heartbeats_follow_the_interval_of_the_csms(self) -> None:
        driver = booted("2.1")
        driver.station.connectors[1].set_operative(False, driver.now)
        driver.station.plan = type(driver.station.plan)(speed=1.0, heartbeat=True)
        driver.command(
            "SetVariables",
            {
                "setVariableData": [
                    {
                        "component": {"name": "OCPPCommCtrlr"},
                        "variable": {"name": "HeartbeatInterval"},
                        "attributeValue": "10",
                    }
                ]
            },
        )
        driver.run_for(35.0)
        self.assertEqual(3, driver.actions().count("Heartbeat"))


class OfflineTests(SynchronousTestCase):
    def test_transaction_messages_wait_and_are_sent_in_order_after_reconnect(self) -> None:
        for version in VERSIONS:
            driver = booted(version, sessions=1)
            driver.run_until(lambda driver=driver: driver.station.charging == 1)
            driver.disconnect()
            driver.sent.clear()
            driver.run_until(lambda driver=driver: driver.station.charging == 0)
            self.assertEqual([], driver.sent)
            driver.connect()
            driver.run_for(1.0)
            if version == "1.6":
                self.assertEqual("StopTransaction", [a for a in driver.actions() if a.endswith("Transaction")][-1])
                self.assertEqual({101}, {payload["transactionId"] for payload in driver.payloads("MeterValues")})
            else:
                events = driver.payloads("TransactionEvent")
                self.assertTrue(all(event["offline"] for event in events))
                self.assertEqual("Ended", events[-1]["eventType"])
                numbers = [event["seqNo"] for event in events]
                self.assertEqual(list(range(numbers[0], numbers[0] + len(numbers))), numbers)

    def test_unanswered_transaction_message_is_repeated_unchanged_after_reconnect(self) -> None:
        for version in VERSIONS:
            driver = booted(version)
            driver.csms.override[start_action(version)] = None
            driver.run_until(lambda driver=driver, version=version: bool(driver.payloads(start_action(version))))
            driver.disconnect()
            del driver.csms.override[start_action(version)]
            driver.connect()
            driver.run_for(0.1)
            first, second = driver.payloads(start_action(version))[:2]
            self.assertEqual(first, second)

    def test_samples_before_the_start_is_answered_get_its_id(self) -> None:
        driver = booted("1.6")
        driver.csms.override["StartTransaction"] = None
        driver.run_until(lambda: bool(driver.payloads("StartTransaction")))
        driver.run_for(3.0)
        driver.disconnect()
        del driver.csms.override["StartTransaction"]
        driver.connect()
        driver.run_for(0.1)
        ids = {payload["transactionId"] for payload in driver.payloads("MeterValues")}
        self.assertEqual({driver.csms.next_transaction}, ids)

    def test_callerror_to_a_transaction_message_is_retried_three_times_then_given_up(self) -> None:
        driver = booted("2.0.1", sessions=1)
        driver.csms.override["TransactionEvent"] = ("InternalError", "later")
        driver.run_until(lambda: driver.station.charging == 1)
        driver.run_for(35.0)
        attempts = [event for event in driver.payloads("TransactionEvent") if event["seqNo"] == 0]
        self.assertEqual(3, len(attempts))
        self.assertEqual(1, driver.station.outbox.discarded)

    def test_only_one_call_is_in_flight_and_it_times_out(self) -> None:
        driver = booted("1.6")
        driver.csms.override["Heartbeat"] = None
        for _ in range(3):
            driver.station.heartbeat(driver.now)
        driver.perform(driver.station.tick(driver.now))
        self.assertEqual(1, driver.actions().count("Heartbeat"))
        driver.run_for(30.0)
        self.assertEqual(2, driver.actions().count("Heartbeat"))
        self.assertEqual(1, driver.statistics.call_errors)

    def test_foreign_answers_are_ignored(self) -> None:
        driver = booted("1.6")
        driver.csms.override["Heartbeat"] = None
        driver.station.heartbeat(driver.now)
        driver.perform(driver.station.tick(driver.now))
        driver.perform(driver.station.received(b'[3,"foreign",{}]', driver.now))
        driver.perform(driver.station.received(b"{not json", driver.now))
        self.assertEqual(1, len(driver.station.outbox))
        self.assertEqual(2, len(driver.statistics.errors))

    def test_full_queue_drops_samples_before_anything_else(self) -> None:
        outbox = Outbox(random.Random(1))
        outbox.add(Outgoing("MeterValues", {}, transactional=True, intermediate=True), NOW)
        for _ in range(MAX_WAITING):
            outbox.add(Outgoing("StopTransaction", {}, transactional=True), NOW)
        self.assertEqual((MAX_WAITING, 1), (len(outbox), outbox.discarded))
        taken = outbox.take(NOW, transactional=True)
        assert taken is not None
        self.assertIn(b"StopTransaction", taken)

    def test_back_off_grows_with_jitter_and_restarts_after_success(self) -> None:
        back_off = BackOff(random.Random(3))
        waits = [back_off.wait() for _ in range(20)]
        for number, wait in enumerate(waits):
            factor = 2 ** min(number, 6)
            self.assertTrue(factor <= wait <= 2 * factor, waits)
        back_off.reset()
        self.assertLessEqual(back_off.wait(), 2.0)


class OptionsTests(SynchronousTestCase):
    def test_url_gets_the_version_and_the_encoded_id(self) -> None:
        options = SimulatorOptions("ws://h:1/ocpp/{version}", version="mixed", count=3, prefix="A/B ")
        urls = [options.station_url(index) for index in range(3)]
        self.assertEqual("ws://h:1/ocpp/1.6/A%2FB%2000001", urls[0])
        self.assertEqual("ws://h:1/ocpp/2.1/A%2FB%2000003", urls[2])

    def test_all_problems_are_named_at_once_and_the_password_is_not_shown(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            SimulatorOptions("http://user:secret@h", version="3", count=0, speed=0, password="hush")
        message = str(caught.exception)
        for word in ("url", "version", "count", "speed"):
            self.assertIn(word, message)
        self.assertNotIn("secret", message)
        self.assertNotIn("hush", repr(SimulatorOptions("ws://h", password="hush")))

    def test_certificates_are_named_after_their_stations_as_in_the_url(self) -> None:
        options = SimulatorOptions(
            "wss://h/ocpp", prefix="A/B ", certificate="pki/{id}.pem", key="keys/{id}.key", ca_file=Path("ca.pem")
        )
        self.assertEqual(Path("pki/A%2FB%2000002.pem"), options.station_certificate(1))
        self.assertEqual(Path("keys/A%2FB%2000002.key"), options.station_key(1))
        shared = SimulatorOptions("wss://h/ocpp", certificate="all.pem")
        self.assertEqual((Path("all.pem"), None), (shared.station_certificate(7), shared.station_key(7)))

    def test_certificates_want_wss_and_a_key_wants_its_certificate(self) -> None:
        for values in ({"ca_file": Path("ca.pem")}, {"certificate": "a.pem"}):
            with self.assertRaisesRegex(ConfigError, "certificates are for wss://"):
                SimulatorOptions("ws://h/ocpp", **values)
        with self.assertRaisesRegex(ConfigError, "key has no certificate"):
            SimulatorOptions("wss://h/ocpp", key="a.key")
        self.assertTrue(SimulatorOptions("WSS://h/ocpp", certificate="a.pem", key="a.key").secure)


class CertificateTests(SynchronousTestCase):
    def setUp(self) -> None:
        # Not mktemp(): under pytest that is the current directory, and nobody clears it.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        root = make_root("Operator", NOW)
        self.authority = make_issuing(root, "Operator", NOW)
        self.ca_file = self.folder / "ca.pem"
        self.ca_file.write_bytes(root.chain_pem)

    def station(self, station_id: str) -> None:
        pem = make_station(self.authority, station_id, NOW).pem
        (self.folder / f"{station_id}.pem").write_bytes(pem)

    def options(self, certificate: str | None, count: int = 2) -> SimulatorOptions:
        return SimulatorOptions("wss://h/ocpp", count=count, ca_file=self.ca_file, certificate=certificate)

    def test_stations_without_certificates_of_their_own_share_one_creator(self) -> None:
        self.station("all")
        for certificate in (None, str(self.folder / "all.pem")):
            creators = read_tls(self.options(certificate, count=50))
            self.assertEqual((50, 1), (len(creators), len(set(creators))))

    def test_each_host_is_checked_by_its_own_name(self) -> None:
        options = SimulatorOptions("wss://v{version}.example.com/ocpp", count=3, ca_file=self.ca_file)
        names = {creator.clientConnectionForTLS(None).get_servername() for creator in read_tls(options)}
        self.assertEqual({b"v1.6.example.com", b"v2.0.1.example.com", b"v2.1.example.com"}, names)

    def test_a_missing_certificate_is_named_before_anybody_connects(self) -> None:
        self.station("SIM-00001")
        with self.assertRaisesRegex(PkiError, "SIM-00002.pem does not exist"):
            read_tls(self.options(str(self.folder / "{id}.pem")))

    def test_command_takes_a_folder_a_pattern_or_a_file(self) -> None:
        common = ["simulate", "--url", "wss://h/ocpp", "--ca-file", str(self.ca_file)]
        for given, expected in (
            (str(self.folder), str(self.folder / "{id}.pem")),
            ("pki/{id}-cert.pem", "pki/{id}-cert.pem"),
            ("all.pem", "all.pem"),
        ):
            with patch.object(simulate, "run_fleet", return_value=0) as run_fleet:
                result = CliRunner().invoke(main, [*common, "--cert", given, "--key", "k/{id}.key"])
            self.assertEqual(0, result.exit_code, result.output)
            options = run_fleet.call_args.args[0]
            self.assertEqual(
                (expected, "k/{id}.key", self.ca_file), (options.certificate, options.key, options.ca_file)
            )
        self.assertEqual(2, CliRunner().invoke(main, ["simulate", "--cert", "a.pem"]).exit_code)

"""The boot gate, seen from both sides of the wire, row by row of its table."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.session import SessionRules, StationFacts
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS, OcppVersion
from tests.build_session import NOW, Station, build_session

BOOT_16 = {"chargePointVendor": "v", "chargePointModel": "m"}
BOOT_2X = {"reason": "PowerUp", "chargingStation": {"vendorName": "v", "model": "m"}}
STATUS_16 = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
STATUS_2X = {"timestamp": "2027-01-15T08:00:00Z", "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
STOP_16 = {"meterStop": 5, "timestamp": "2027-01-15T08:00:00Z", "transactionId": 7}
METER_16 = {"connectorId": 1, "meterValue": [{"timestamp": "2027-01-15T08:00:00Z", "sampledValue": [{"value": "1"}]}]}
EVENT_2X = {
    "eventType": "Ended",
    "timestamp": "2027-01-15T08:00:00Z",
    "triggerReason": "EVDeparted",
    "seqNo": 3,
    "transactionInfo": {"transactionId": "t-1"},
}
SECURITY = {"type": "SomethingNew", "timestamp": "2027-01-15T08:00:00Z"}
REPORT = {"requestId": 1, "generatedAt": "2027-01-15T08:00:00Z", "seqNo": 0}


def boot_payload(version: OcppVersion) -> dict[str, Any]:
    return BOOT_16 if version is V16 else BOOT_2X


def status_payload(version: OcppVersion) -> dict[str, Any]:
    return STATUS_16 if version is V16 else STATUS_2X


class GateCase(SynchronousTestCase):
    def assert_served(self, sent: list[Any]) -> None:
        self.assertEqual([frame[0] for frame in sent], [3], sent)

    def assert_security_error(self, sent: list[Any]) -> None:
        self.assertEqual([(frame[0], frame[2]) for frame in sent], [(4, "SecurityError")], sent)

    def assert_not_sent(self, station: Station, action: str, payload: dict[str, Any]) -> None:
        self.assertEqual(station.command(action, payload, "refused"), [])
        result = station.ends()["refused"]
        self.assertEqual((result.outcome, result.error_code), (Outcome.REJECTED, "NotAccepted"))

    def assert_sent(self, station: Station, action: str, payload: dict[str, Any]) -> None:
        sent = station.command(action, payload, f"sent-{len(station.effects)}")
        self.assertEqual([(frame[0], frame[2]) for frame in sent], [(2, action)])
        station.receive([4, sent[0][1], "GenericError", "", {}])  # frees the slot


class NeverBooted(GateCase):
    def test_first_message_other_than_boot_is_a_security_error(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status=None)
            self.assert_security_error(station.call("a", "Heartbeat", {}))
            self.assertEqual(station.events, [])

    def test_boot_opens_the_gate(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status=None)
            sent = station.call("a", "BootNotification", boot_payload(version))
            self.assertEqual((sent[0][2]["status"], sent[0][2]["interval"]), ("Accepted", 300))
            self.assert_served(station.call("b", "StatusNotification", status_payload(version)))
            self.assertEqual(station.event_types(), ["StationBooted", "ConnectorStatusChanged"])

    def test_gate_opens_only_when_the_boot_is_durable(self) -> None:
        station = build_session(V16, boot_status=None, journal_waits=True)
        self.assertEqual(station.call("a", "BootNotification", BOOT_16), [])
        self.assertIsNone(station.state.boot_status)
        station.refuse()
        self.assertIsNone(station.state.boot_status)
        self.assert_security_error(station.call("b", "Heartbeat", {}))

    def test_assumed_accepted_is_served(self) -> None:
        station = build_session(V16, boot_status=None, rules=SessionRules(assume_accepted=True))
        self.assert_served(station.call("a", "Heartbeat", {}))
        self.assert_sent(station, "Reset", {"type": "Soft"})

    def test_only_a_boot_trigger_goes_out_and_only_once(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status=None)
            self.assert_not_sent(station, "ClearCache", {})
            self.assert_not_sent(station, "TriggerMessage", {"requestedMessage": "Heartbeat"})
            self.assert_sent(station, "TriggerMessage", {"requestedMessage": "BootNotification"})
            self.assert_not_sent(station, "TriggerMessage", {"requestedMessage": "BootNotification"})
            station.connect()
            self.assert_sent(station, "TriggerMessage", {"requestedMessage": "BootNotification"})


class NeverRefused(GateCase):
    def test_transaction_and_security_messages_pass_in_every_state(self) -> None:
        messages_16 = {
            "StopTransaction": STOP_16,
            "MeterValues": METER_16,
            "StartTransaction": {"connectorId": 1, "idTag": "T", "meterStart": 0, "timestamp": SECURITY["timestamp"]},
            "SecurityEventNotification": SECURITY,
        }
        messages_2x = {"TransactionEvent": EVENT_2X, "SecurityEventNotification": SECURITY}
        for version, messages in ((V16, messages_16), (V201, messages_2x), (V21, messages_2x)):
            for status in (None, "Pending", "Rejected", "Accepted"):
                for action, payload in messages.items():
                    station = build_session(version, boot_status=status)
                    self.assert_served(station.call("a", action, payload))
                    self.assertEqual(len(station.events), 1)


class Pending(GateCase):
    def test_gate_comes_before_the_schema(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status="Pending")
            self.assert_security_error(station.call("a", "StatusNotification", {"rubbish": 1}))

    def test_unknown_action_is_not_implemented_all_the_same(self) -> None:
        sent = build_session(V16, boot_status="Pending").call("a", "Foo", {})
        self.assertEqual(sent[0][2], "NotImplemented")

    def test_1_6_sends_all_but_remote_start_and_stop(self) -> None:
        station = build_session(V16, boot_status="Pending")
        self.assert_not_sent(station, "RemoteStartTransaction", {"idTag": "T"})
        self.assert_not_sent(station, "RemoteStopTransaction", {"transactionId": 1})
        self.assert_sent(station, "Reset", {"type": "Soft"})
        self.assert_sent(station, "GetConfiguration", {})

    def test_2_x_sends_what_b02_lists(self) -> None:
        for version in (V201, V21):
            station = build_session(version, boot_status="Pending")
            self.assert_not_sent(station, "RequestStartTransaction", {})
            self.assert_not_sent(station, "Reset", {"type": "Immediate"})
            self.assert_sent(station, "GetBaseReport", {"requestId": 1, "reportBase": "FullInventory"})
            self.assert_sent(station, "TriggerMessage", {"requestedMessage": "Heartbeat"})
            self.assert_sent(station, "GetVariables", {"getVariableData": []})

    def test_trigger_lets_its_message_in_once(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status="Pending")
            station.command("TriggerMessage", {"requestedMessage": "StatusNotification"})
            self.assert_served(station.call("a", "StatusNotification", status_payload(version)))
            self.assert_security_error(station.call("b", "StatusNotification", status_payload(version)))

    def test_exemption_opens_before_the_trigger_is_answered(self) -> None:
        station = build_session(V201, boot_status="Pending")
        sent = station.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
        self.assert_served(station.call("a", "Heartbeat", {}))
        self.assertEqual(station.receive([3, sent[0][1], {"status": "Accepted"}]), [])

    def test_exemption_of_a_waiting_trigger_opens_when_it_is_sent(self) -> None:
        station = build_session(V201, boot_status="Pending")
        first = station.command("GetVariables", {"getVariableData": []}, "first")
        station.command("TriggerMessage", {"requestedMessage": "Heartbeat"}, "second")
        self.assert_security_error(station.call("a", "Heartbeat", {}))
        station.receive([4, first[0][1], "GenericError", "", {}])
        self.assert_served(station.call("b", "Heartbeat", {}))

    def test_exemption_is_for_its_message_alone(self) -> None:
        station = build_session(V201, boot_status="Pending")
        station.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
        self.assert_security_error(station.call("a", "StatusNotification", STATUS_2X))

    def test_exemption_ends_after_its_time(self) -> None:
        station = build_session(V201, boot_status="Pending")
        station.command("TriggerMessage", {"requestedMessage": "Heartbeat"})
        station.now = NOW + 301
        self.assert_security_error(station.call("a", "Heartbeat", {}))

    def test_extended_trigger_names_the_signed_firmware_status_differently(self) -> None:
        station = build_session(V16, boot_status="Pending")
        station.command("ExtendedTriggerMessage", {"requestedMessage": "FirmwareStatusNotification"})
        self.assert_served(station.call("a", "SignedFirmwareStatusNotification", {"status": "Idle"}))

    def test_certificate_trigger_lets_the_request_in(self) -> None:
        for version, target in ((V16, "SignChargePointCertificate"), (V201, "SignChargingStationCertificate")):
            station = build_session(version, boot_status="Pending")
            trigger = "ExtendedTriggerMessage" if version is V16 else "TriggerMessage"
            station.command(trigger, {"requestedMessage": target})
            self.assert_served(station.call("a", "SignCertificate", {"csr": "x"}))

    def test_report_is_let_in_until_its_last_part(self) -> None:
        for version in (V201, V21):
            for request in ("GetBaseReport", "GetReport"):
                station = build_session(version, boot_status="Pending")
                self.assert_security_error(station.call("0", "NotifyReport", REPORT))
                station.command(request, {"requestId": 1})
                self.assert_served(station.call("1", "NotifyReport", {**REPORT, "tbc": True}))
                self.assert_served(station.call("2", "NotifyReport", {**REPORT, "seqNo": 1, "tbc": True}))
                self.assert_served(station.call("3", "NotifyReport", {**REPORT, "seqNo": 2, "tbc": False}))
                self.assert_security_error(station.call("4", "NotifyReport", {**REPORT, "seqNo": 3}))

    def test_report_without_tbc_is_the_last_part(self) -> None:
        station = build_session(V201, boot_status="Pending")
        station.command("GetBaseReport", {"requestId": 1})
        self.assert_served(station.call("1", "NotifyReport", REPORT))
        self.assert_security_error(station.call("2", "NotifyReport", REPORT))

    def test_early_second_boot_is_answered_and_may_open_the_gate(self) -> None:
        station = build_session(V16, boot_status="Pending")
        self.assertEqual(station.call("a", "BootNotification", BOOT_16)[0][2]["status"], "Accepted")
        self.assert_served(station.call("b", "Heartbeat", {}))


class Rejected(GateCase):
    def test_nothing_but_boot_and_what_is_never_refused(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status="Rejected")
            self.assert_security_error(station.call("a", "StatusNotification", status_payload(version)))
            self.assert_served(station.call("b", "BootNotification", boot_payload(version)))

    def test_nothing_goes_out(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status="Rejected")
            self.assert_not_sent(station, "Reset", {"type": "Soft"})
            self.assert_not_sent(station, "TriggerMessage", {"requestedMessage": "BootNotification"})

    def test_switch_lets_the_boot_trigger_out(self) -> None:
        rules = SessionRules(trigger_boot_when_rejected=True)
        for version in VERSIONS:
            station = build_session(version, boot_status="Rejected", rules=rules)
            self.assert_sent(station, "TriggerMessage", {"requestedMessage": "BootNotification"})
            self.assert_not_sent(station, "TriggerMessage", {"requestedMessage": "Heartbeat"})
            self.assert_not_sent(station, "Reset", {"type": "Soft"})


class Given(GateCase):
    def test_command_that_waited_is_held_back_when_the_next_boot_is_not_accepted(self) -> None:
        station = build_session(V16, facts=StationFacts("CP-001", "s", "t", boot_status="Rejected"))
        first = station.command("ClearCache", {}, "first")
        station.command("Reset", {"type": "Soft"}, "second")
        station.call("a", "BootNotification", BOOT_16)
        self.assertEqual(station.receive([3, first[0][1], {"status": "Accepted"}]), [])
        self.assertEqual(station.ends()["first"].outcome, Outcome.ACCEPTED)
        self.assertEqual(station.ends()["second"].error_code, "NotAccepted")

    def test_status_of_the_identity_wins_over_the_rules(self) -> None:
        facts = StationFacts("CP-001", "s", "t", boot_status="Pending")
        station = build_session(V16, boot_status=None, facts=facts)
        sent = station.call("a", "BootNotification", BOOT_16)
        self.assertEqual((sent[0][2]["status"], sent[0][2]["interval"]), ("Pending", 60))
        self.assertEqual(station.last_event()["payload"]["status"], "Pending")
        self.assert_security_error(station.call("b", "Heartbeat", {}))

    def test_state_belongs_to_the_charger_and_not_to_the_socket(self) -> None:
        for version in VERSIONS:
            station = build_session(version, boot_status=None)
            station.call("a", "BootNotification", boot_payload(version))
            station.lose()
            station.connect()
            self.assert_served(station.call("b", "StatusNotification", status_payload(version)))

    def test_state_survives_a_restart(self) -> None:
        station = build_session(V16, boot_status=None)
        station.call("a", "BootNotification", BOOT_16)
        station.restart()
        self.assert_served(station.call("b", "StatusNotification", STATUS_16))

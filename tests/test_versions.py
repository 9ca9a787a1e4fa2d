"""The tables of versions: counts and check hashes are those of the official action lists."""

from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.versions import (
    SESSION,
    STATION,
    V16,
    V21,
    V201,
    VERSIONS,
    Direction,
    OcppVersion,
    by_name,
    by_path_name,
    by_subprotocol,
    normalise_code,
)


def check_hash(version: OcppVersion, direction: Direction) -> str:
    specs = version.actions.values()
    names = sorted(spec.name for spec in specs if spec.direction is direction and not spec.is_send)
    return sha256("\n".join(names).encode()).hexdigest()[:12]


class ActionTables(SynchronousTestCase):
    def test_each_version_has_its_number_of_actions(self) -> None:
        counts = [(len(version.actions), len(version.up), len(version.down)) for version in VERSIONS]
        self.assertEqual(counts, [(39, 14, 26), (64, 25, 40), (91, 37, 55)])

    def test_names_agree_with_the_check_hashes_of_the_official_lists(self) -> None:
        hashes = [(check_hash(version, Direction.UP), check_hash(version, Direction.DOWN)) for version in VERSIONS]
        expected = [
            ("0786d5785c57", "62ceef91658f"),
            ("8889a9827b93", "ae3abace93e7"),
            ("a505ee7b9f17", "f1db0db7804e"),
        ]
        self.assertEqual(hashes, expected)

    def test_only_data_transfer_goes_both_ways(self) -> None:
        for version in VERSIONS:
            self.assertEqual(version.up & version.down, {"DataTransfer"})

    def test_the_one_send_belongs_to_2_1_and_comes_from_the_charger(self) -> None:
        sends = {(v.name, spec.name) for v in VERSIONS for spec in v.actions.values() if spec.is_send}
        self.assertEqual(sends, {("2.1", "NotifyPeriodicEventStream")})
        self.assertIn("NotifyPeriodicEventStream", V21.up)
        self.assertEqual([version.has_send for version in VERSIONS], [False, False, True])

    def test_transaction_messages_and_security_events_are_never_refused(self) -> None:
        def never_refused(version: OcppVersion) -> set[str]:
            return {spec.name for spec in version.actions.values() if spec.never_refused}

        always = {"MeterValues", "SecurityEventNotification"}
        self.assertEqual(never_refused(V16), always | {"StartTransaction", "StopTransaction"})
        self.assertEqual(never_refused(V201), always | {"TransactionEvent"})
        self.assertEqual(never_refused(V21), always | {"TransactionEvent"})

    def test_events_have_the_names_of_the_contract(self) -> None:
        expected = {
            "BootNotification": "StationBooted",
            "Heartbeat": "StationHeartbeat",
            "StatusNotification": "ConnectorStatusChanged",
            "DataTransfer": "DataTransferReceived",
            "StartTransaction": "SessionStarted",
            "StopTransaction": "SessionStopped",
            "MeterValues": "MeterValuesReceived",
            "FirmwareStatusNotification": "FirmwareStatusNotification",
            "SecurityEventNotification": "SecurityEventNotification",
        }
        self.assertEqual({name: V16.actions[name].event_type for name in expected}, expected)
        self.assertEqual(V201.actions["TransactionEvent"].event_type, "SessionEvent")

    def test_every_message_of_a_charger_has_an_event_and_no_other_has(self) -> None:
        for version in VERSIONS:
            with_event = {spec.name for spec in version.actions.values() if spec.event_type}
            self.assertEqual(with_event, version.up)

    def test_transaction_data_goes_to_the_session_topic(self) -> None:
        for version in VERSIONS:
            session = {spec.name for spec in version.actions.values() if spec.topic == SESSION}
            known = {"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"}
            self.assertEqual(session, known & version.actions.keys())
            self.assertEqual({spec.topic for spec in version.actions.values()}, {SESSION, STATION})


class BootRules(SynchronousTestCase):
    def test_pending_1_6_charger_may_be_asked_all_but_remote_start_and_stop(self) -> None:
        self.assertEqual(V16.down - V16.pending_down, {"RemoteStartTransaction", "RemoteStopTransaction"})

    def test_pending_2_x_charger_may_be_configured_and_given_certificates(self) -> None:
        expected = {
            *("GetVariables", "SetVariables", "GetBaseReport", "GetReport", "TriggerMessage"),
            *("CertificateSigned", "InstallCertificate"),
        }
        self.assertEqual(V201.pending_down, expected)
        self.assertEqual(V21.pending_down, expected)

    def test_every_trigger_is_answered_by_messages_the_charger_may_send(self) -> None:
        for version in VERSIONS:
            for actions in version.trigger_reply_actions.values():
                self.assertLessEqual(actions, version.up)

    def test_certificate_triggers_are_answered_by_sign_certificate(self) -> None:
        for version, trigger in ((V16, "SignChargePointCertificate"), (V21, "SignV2G20Certificate")):
            self.assertEqual(version.trigger_reply_actions[trigger], {"SignCertificate"})

    def test_1_6_firmware_trigger_may_bring_the_signed_message(self) -> None:
        expected = {"FirmwareStatusNotification", "SignedFirmwareStatusNotification"}
        self.assertEqual(V16.trigger_reply_actions["FirmwareStatusNotification"], expected)

    def test_reports_come_as_notify_report_in_2_x(self) -> None:
        self.assertEqual(dict(V201.report_actions), {"GetBaseReport": "NotifyReport", "GetReport": "NotifyReport"})
        self.assertEqual(dict(V16.report_actions), {})


class Names(SynchronousTestCase):
    def test_subprotocols_are_found_in_any_case(self) -> None:
        found = [by_subprotocol(name) for name in ("ocpp1.6", "OCPP1.6J", "ocpp2.0.1", "Ocpp2.1")]
        self.assertEqual(found, [V16, V16, V201, V21])

    def test_ocpp_2_0_is_not_taken_for_2_0_1(self) -> None:
        self.assertIsNone(by_subprotocol("ocpp2.0"))
        self.assertIsNone(by_path_name("2.0"))

    def test_path_names_are_found_in_any_case(self) -> None:
        found = [by_path_name(name) for name in ("1.6", "1.6J", "1.6j", "2.0.1", "2.1")]
        self.assertEqual(found, [V16, V16, V16, V201, V21])

    def test_versions_are_found_by_the_name_events_carry(self) -> None:
        self.assertEqual([by_name(name) for name in ("1.6J", "2.0.1", "2.1", "1.6")], [V16, V201, V21, None])


class Codes(SynchronousTestCase):
    def test_1_6_keeps_its_misspelt_codes(self) -> None:
        self.assertEqual(V16.codes.occurrence, "OccurenceConstraintViolation")
        self.assertEqual((V16.codes.formation, V16.codes.envelope), ("FormationViolation", "FormationViolation"))

    def test_2_x_has_its_own_envelope_code(self) -> None:
        self.assertEqual(V201.codes.occurrence, "OccurrenceConstraintViolation")
        self.assertEqual((V21.codes.formation, V21.codes.envelope), ("FormatViolation", "RpcFrameworkError"))

    def test_both_spellings_are_one_code(self) -> None:
        self.assertEqual(normalise_code("FormationViolation"), "FormatViolation")
        self.assertEqual(normalise_code("OccurenceConstraintViolation"), "OccurrenceConstraintViolation")

    def test_unknown_codes_are_kept(self) -> None:
        self.assertEqual(normalise_code("VendorSaysNo"), "VendorSaysNo")

    def test_unreadable_texts_are_answered_from_2_0_1_on(self) -> None:
        self.assertEqual([version.answers_unreadable for version in VERSIONS], [False, True, True])
        self.assertEqual([version.has_call_result_error for version in VERSIONS], [False, False, True])
        self.assertEqual([version.has_signed for version in VERSIONS], [False, True, True])

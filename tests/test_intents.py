"""Commands as an operator writes them, and the CALLs each version gets."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import CommandError
from ocppgw.ocpp.intents import MappedCommand, map_command
from ocppgw.ocpp.versions import V16, V21, V201, OcppVersion

NEW_ID = 4711


def mapped(
    version: OcppVersion, command_type: str, payload: dict[str, Any], connector_id: int | None = None
) -> MappedCommand:
    return map_command(version, command_type, payload, connector_id, lambda: NEW_ID)


class IntentCase(SynchronousTestCase):
    def assert_mapped(
        self,
        version: OcppVersion,
        command_type: str,
        payload: dict[str, Any],
        action: str,
        expected: dict[str, Any],
        *,
        connector_id: int | None = None,
    ) -> None:
        self.assertEqual(mapped(version, command_type, payload, connector_id), (action, expected))

    def refused(
        self, version: OcppVersion, command_type: str, payload: dict[str, Any], connector_id: int | None = None
    ) -> CommandError:
        error: CommandError = self.assertRaises(CommandError, mapped, version, command_type, payload, connector_id)
        return error


class Reset(IntentCase):
    def test_soft_and_hard_have_the_words_of_the_version(self) -> None:
        for word_16, word_2x in (("Soft", "OnIdle"), ("Hard", "Immediate")):
            self.assert_mapped(V16, "Reset", {"type": word_16}, "Reset", {"type": word_16})
            self.assert_mapped(V16, "Reset", {"type": word_2x}, "Reset", {"type": word_16})
            self.assert_mapped(V201, "Reset", {"type": word_16}, "Reset", {"type": word_2x})
            self.assert_mapped(V21, "Reset", {"type": word_2x}, "Reset", {"type": word_2x})

    def test_a_connector_is_an_evse_in_2_x(self) -> None:
        expected = {"type": "OnIdle", "evseId": 2}
        self.assert_mapped(V201, "Reset", {"type": "Soft", "connectorId": 2}, "Reset", expected)
        self.assert_mapped(V201, "Reset", {"type": "OnIdle"}, "Reset", expected, connector_id=2)

    def test_connector_0_is_the_whole_station(self) -> None:
        self.assert_mapped(V201, "Reset", {"type": "Soft"}, "Reset", {"type": "OnIdle"}, connector_id=0)

    def test_a_type_of_another_version_is_refused(self) -> None:
        error = self.refused(V201, "Reset", {"type": "ImmediateAndResume"})
        self.assertEqual(error.code, "InvalidCommand")
        self.assertIn("type: the value must be one of", str(error))
        self.assert_mapped(V21, "Reset", {"type": "ImmediateAndResume"}, "Reset", {"type": "ImmediateAndResume"})


class RemoteStart(IntentCase):
    def test_1_6(self) -> None:
        expected = {"idTag": "TAG", "connectorId": 1}
        self.assert_mapped(V16, "RemoteStart", {"idTag": "TAG", "connectorId": 1}, "RemoteStartTransaction", expected)
        self.assert_mapped(V16, "RemoteStart", {"idTag": "TAG"}, "RemoteStartTransaction", expected, connector_id=1)
        self.assert_mapped(V16, "RemoteStart", {"idTag": "TAG"}, "RemoteStartTransaction", {"idTag": "TAG"})

    def test_1_6_takes_the_tag_out_of_an_id_token(self) -> None:
        payload = {"idToken": {"idToken": "TAG", "type": "ISO14443"}}
        self.assert_mapped(V16, "RemoteStart", payload, "RemoteStartTransaction", {"idTag": "TAG"})

    def test_2_x_makes_a_central_token_and_a_remote_start_id(self) -> None:
        expected = {"idToken": {"idToken": "TAG", "type": "Central"}, "remoteStartId": NEW_ID, "evseId": 1}
        payload = {"idTag": "TAG", "connectorId": 1}
        for version in (V201, V21):
            self.assert_mapped(version, "RemoteStart", payload, "RequestStartTransaction", expected)

    def test_2_x_keeps_what_the_request_has(self) -> None:
        token = {"idToken": "04A1", "type": "ISO14443"}
        payload = {"idToken": token, "remoteStartId": 7, "evseId": 3}
        self.assert_mapped(V201, "RemoteStart", payload, "RequestStartTransaction", payload)

    def test_without_a_tag_it_is_refused(self) -> None:
        self.assertIn("idTag is missing", str(self.refused(V16, "RemoteStart", {"connectorId": 1})))
        self.assertIn("idToken is missing", str(self.refused(V21, "RemoteStart", {"connectorId": 1})))


class RemoteStop(IntentCase):
    def test_session_id_is_the_transaction_id(self) -> None:
        self.assert_mapped(V16, "RemoteStop", {"sessionId": 42}, "RemoteStopTransaction", {"transactionId": 42})
        self.assert_mapped(V201, "RemoteStop", {"sessionId": "t-1"}, "RequestStopTransaction", {"transactionId": "t-1"})

    def test_the_id_has_the_type_of_the_version(self) -> None:
        self.assert_mapped(V16, "RemoteStop", {"transactionId": "42"}, "RemoteStopTransaction", {"transactionId": 42})
        self.assert_mapped(V21, "RemoteStop", {"transactionId": 42}, "RequestStopTransaction", {"transactionId": "42"})

    def test_text_is_no_transaction_id_in_1_6(self) -> None:
        error = self.refused(V16, "RemoteStop", {"transactionId": "t-1"})
        self.assertIn("transactionId: string found, integer expected", str(error))

    def test_without_an_id_it_is_refused(self) -> None:
        self.assertIn("transactionId is missing", str(self.refused(V21, "RemoteStop", {})))


class UnlockConnector(IntentCase):
    def test_a_connector_is_connector_1_of_its_evse_in_2_x(self) -> None:
        self.assert_mapped(V16, "UnlockConnector", {"connectorId": 2}, "UnlockConnector", {"connectorId": 2})
        expected = {"evseId": 2, "connectorId": 1}
        self.assert_mapped(V201, "UnlockConnector", {"connectorId": 2}, "UnlockConnector", expected)
        self.assert_mapped(V21, "UnlockConnector", {}, "UnlockConnector", expected, connector_id=2)
        self.assert_mapped(V16, "UnlockConnector", {}, "UnlockConnector", {"connectorId": 2}, connector_id=2)

    def test_the_chargers_own_numbers_are_kept(self) -> None:
        payload = {"evseId": 1, "connectorId": 2}
        self.assert_mapped(V201, "UnlockConnector", payload, "UnlockConnector", payload, connector_id=1)

    def test_without_a_connector_it_is_refused(self) -> None:
        self.assertIn("connectorId is missing", str(self.refused(V16, "UnlockConnector", {})))


class ChangeConfiguration(IntentCase):
    def variable(self, component: str, name: str, value: str) -> dict[str, Any]:
        data = {"component": {"name": component}, "variable": {"name": name}, "attributeValue": value}
        return {"setVariableData": [data]}

    def test_1_6(self) -> None:
        payload = {"key": "HeartbeatInterval", "value": "300"}
        self.assert_mapped(V16, "ChangeConfiguration", payload, "ChangeConfiguration", payload)
        payload_with_number = {"key": "HeartbeatInterval", "value": 300}
        self.assert_mapped(V16, "ChangeConfiguration", payload_with_number, "ChangeConfiguration", payload)

    def test_2_x_key_names_component_and_variable(self) -> None:
        expected = self.variable("OCPPCommCtrlr", "HeartbeatInterval", "300")
        payload = {"key": "OCPPCommCtrlr.HeartbeatInterval", "value": "300"}
        for version in (V201, V21):
            self.assert_mapped(version, "ChangeConfiguration", payload, "SetVariables", expected)

    def test_2_x_component_and_variable_may_be_given_apart(self) -> None:
        payload = {"component": "AuthCtrlr", "variable": "Enabled", "value": True}
        expected = self.variable("AuthCtrlr", "Enabled", "true")
        self.assert_mapped(V201, "ChangeConfiguration", payload, "SetVariables", expected)

    def test_2_x_instances_and_evses_pass(self) -> None:
        component = {"name": "Connector", "evse": {"id": 1, "connectorId": 1}}
        payload = {"component": component, "variable": "Available", "value": "true"}
        result = mapped(V21, "ChangeConfiguration", payload)
        self.assertEqual(result.payload["setVariableData"][0]["component"], component)

    def test_2_x_own_payload_passes(self) -> None:
        payload = self.variable("A", "B", "1")
        self.assert_mapped(V201, "ChangeConfiguration", payload, "SetVariables", payload)

    def test_2_x_key_without_a_component_is_refused_with_an_example(self) -> None:
        error = self.refused(V201, "ChangeConfiguration", {"key": "HeartbeatInterval", "value": "300"})
        self.assertEqual(error.code, "InvalidCommand")
        self.assertIn("OCPPCommCtrlr.HeartbeatInterval", error.hint)

    def test_a_value_is_never_repeated_in_the_refusal(self) -> None:
        payload = {"key": "AuthorizationKey", "value": "s3cret" * 100}
        self.assertNotIn("s3cret", str(self.refused(V16, "ChangeConfiguration", payload)))


class TriggerMessage(IntentCase):
    def test_1_6_core_message(self) -> None:
        expected = {"requestedMessage": "StatusNotification", "connectorId": 2}
        self.assert_mapped(V16, "TriggerMessage", expected, "TriggerMessage", expected)
        payload = {"requestedMessage": "StatusNotification"}
        self.assert_mapped(V16, "TriggerMessage", payload, "TriggerMessage", expected, connector_id=2)

    def test_1_6_security_messages_go_by_the_extended_trigger(self) -> None:
        for asked in ("SignChargePointCertificate", "SignChargingStationCertificate"):
            expected = {"requestedMessage": "SignChargePointCertificate"}
            self.assert_mapped(V16, "TriggerMessage", {"requestedMessage": asked}, "ExtendedTriggerMessage", expected)
        log = {"requestedMessage": "LogStatusNotification"}
        self.assert_mapped(V16, "TriggerMessage", log, "ExtendedTriggerMessage", log)

    def test_2_x_connector_is_an_evse(self) -> None:
        payload = {"requestedMessage": "MeterValues", "connectorId": 2}
        expected = {"requestedMessage": "MeterValues", "evse": {"id": 2}}
        self.assert_mapped(V201, "TriggerMessage", payload, "TriggerMessage", expected)

    def test_2_x_status_needs_a_connector_of_the_evse(self) -> None:
        expected = {"requestedMessage": "StatusNotification", "evse": {"id": 2, "connectorId": 1}}
        payload = {"requestedMessage": "StatusNotification"}
        self.assert_mapped(V21, "TriggerMessage", payload, "TriggerMessage", expected, connector_id=2)

    def test_2_x_has_other_names_for_diagnostics_and_certificate(self) -> None:
        for asked, name in (
            ("DiagnosticsStatusNotification", "LogStatusNotification"),
            ("SignChargePointCertificate", "SignChargingStationCertificate"),
        ):
            expected = {"requestedMessage": name}
            self.assert_mapped(V201, "TriggerMessage", {"requestedMessage": asked}, "TriggerMessage", expected)

    def test_without_a_message_it_is_refused(self) -> None:
        for version in (V16, V201):
            error = self.refused(version, "TriggerMessage", {"connectorId": 1})
            self.assertIn("requestedMessage is missing", str(error))


class UpdateFirmware(IntentCase):
    at = "2026-11-24T02:00:00Z"
    location = "https://example.org/fw.bin"

    def test_1_6(self) -> None:
        expected = {"location": self.location, "retrieveDate": self.at, "retries": 3}
        self.assert_mapped(V16, "UpdateFirmware", expected, "UpdateFirmware", expected)
        payload = {"requestId": 1, "firmware": {"location": self.location, "retrieveDateTime": self.at}, "retries": 3}
        self.assert_mapped(V16, "UpdateFirmware", payload, "UpdateFirmware", expected)

    def test_1_6_signed_firmware_goes_by_the_signed_message(self) -> None:
        signed = {"location": self.location, "retrieveDateTime": self.at, "signingCertificate": "C", "signature": "S"}
        expected = {"requestId": NEW_ID, "firmware": signed}
        self.assert_mapped(V16, "UpdateFirmware", signed, "SignedUpdateFirmware", expected)

    def test_2_x_nests_the_firmware_and_adds_a_request_id(self) -> None:
        payload = {"location": self.location, "retrieveDate": self.at, "retries": 3, "retryInterval": 60}
        firmware = {"location": self.location, "retrieveDateTime": self.at}
        expected = {"requestId": NEW_ID, "firmware": firmware, "retries": 3, "retryInterval": 60}
        for version in (V201, V21):
            self.assert_mapped(version, "UpdateFirmware", payload, "UpdateFirmware", expected)

    def test_2_x_own_payload_passes(self) -> None:
        payload = {"requestId": 5, "firmware": {"location": self.location, "retrieveDateTime": self.at}}
        self.assert_mapped(V201, "UpdateFirmware", payload, "UpdateFirmware", payload, connector_id=1)

    def test_without_a_date_it_is_refused(self) -> None:
        self.assertIn("retrieveDate is missing", str(self.refused(V16, "UpdateFirmware", {"location": self.location})))


class Actions(IntentCase):
    def test_every_action_to_the_charger_is_a_command_with_its_own_payload(self) -> None:
        payload = {"vendorId": "V", "data": "x"}
        self.assert_mapped(V16, "DataTransfer", payload, "DataTransfer", payload)
        self.assert_mapped(V16, "ClearCache", {}, "ClearCache", {})
        report = {"requestId": 1, "reportBase": "FullInventory"}
        self.assert_mapped(V201, "GetBaseReport", report, "GetBaseReport", report)
        self.assert_mapped(V21, "ClearTariffs", {}, "ClearTariffs", {}, connector_id=3)

    def test_actions_of_other_versions_are_unsupported(self) -> None:
        for version, command_type in ((V16, "GetVariables"), (V201, "ClearTariffs"), (V21, "GetConfiguration")):
            self.assertEqual(self.refused(version, command_type, {}).code, "UnsupportedCommand")

    def test_a_request_id_that_is_left_out_is_the_gateways(self) -> None:
        log = {"logType": "DiagnosticsLog", "log": {"remoteLocation": "https://x"}}
        for version, action, payload in (
            (V16, "GetLog", log),
            (V201, "GetLog", log),
            (V201, "GetBaseReport", {"reportBase": "FullInventory"}),
            (V201, "GetReport", {}),
            (V201, "GetMonitoringReport", {}),
            (V201, "CustomerInformation", {"report": True, "clear": False}),
            (V201, "GetDisplayMessages", {}),
            (V201, "GetChargingProfiles", {"chargingProfile": {}}),
            (V201, "PublishFirmware", {"location": "https://x", "checksum": "0" * 32}),
            (V21, "GetDERControl", {}),
            (V21, "RequestBatterySwap", {"idToken": {"idToken": "T", "type": "Central"}}),
        ):
            self.assert_mapped(version, action, payload, action, {**payload, "requestId": NEW_ID})
            self.assert_mapped(version, action, {**payload, "requestId": 7}, action, {**payload, "requestId": 7})

    def test_a_misspelt_command_is_answered_with_the_near_one(self) -> None:
        error = self.refused(V16, "Rest", {"type": "Soft"})
        self.assertEqual((error.code, error.hint), ("UnsupportedCommand", "did you mean Reset?"))

    def test_a_message_of_the_charger_is_no_command(self) -> None:
        error = self.refused(V16, "StatusNotification", {})
        self.assertEqual(error.code, "UnsupportedCommand")
        self.assertIn("sent by the charger", str(error))

    def test_an_invalid_payload_names_action_fault_and_version(self) -> None:
        error = self.refused(V16, "ChangeAvailability", {"connectorId": 1})
        self.assertEqual(error.code, "InvalidCommand")
        expected = "ChangeAvailability: type is missing (the payload must suit ChangeAvailability of OCPP 1.6J)"
        self.assertEqual(str(error), expected)

    def test_a_payload_no_json_can_hold_is_refused(self) -> None:
        self.assertEqual(self.refused(V16, "DataTransfer", {"vendorId": "V", 1: 2}).code, "InvalidCommand")

    def test_the_callers_payload_is_left_alone(self) -> None:
        payload = {"idTag": "TAG", "connectorId": 1}
        mapped(V201, "RemoteStart", payload)
        self.assertEqual(payload, {"idTag": "TAG", "connectorId": 1})
        firmware = {"location": "ftp://x/y", "retrieveDateTime": UpdateFirmware.at}
        nested = {"requestId": 1, "firmware": firmware}
        mapped(V16, "UpdateFirmware", nested)
        self.assertEqual(nested, {"requestId": 1, "firmware": firmware})

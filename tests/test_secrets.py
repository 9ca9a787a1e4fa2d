"""Secrets in commands: found where they are set, judged by the charger's answer, and shown to nobody."""

from copy import deepcopy
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import CommandError
from ocppgw.ocpp.calls import CONNECTION_LOST, NOT_SENT, TIMED_OUT
from ocppgw.ocpp.effects import CommandResult
from ocppgw.ocpp.intents import map_command
from ocppgw.ocpp.outcomes import Outcome, outcome_of_error, outcome_of_result
from ocppgw.ocpp.secrets import (
    certificate_verdict,
    hidden_texts,
    new_password,
    password_verdict,
    redacted,
    scrubbed,
)
from ocppgw.ocpp.versions import V16, V21, V201, OcppVersion
from ocppgw.routing.results import RESTARTED, shown

OCTETS = bytes(range(236, 256))
TWO_X = (V201, V21)
SECRET = "s3cret-of-the-station"


def variable(
    value: str = SECRET, component: str = "SecurityCtrlr", name: str = "BasicAuthPassword", **more: Any
) -> dict[str, Any]:
    return {"component": {"name": component}, "variable": {"name": name}, "attributeValue": value, **more}


def result_of(version: OcppVersion, action: str, payload: dict[str, Any]) -> CommandResult:
    """As the session makes it of a valid CALLRESULT."""
    outcome, status = outcome_of_result(version, action, payload)
    return CommandResult(outcome, status, payload)


def answered(status: str, component: str = "SecurityCtrlr", name: str = "BasicAuthPassword") -> dict[str, Any]:
    return {"attributeStatus": status, "component": {"name": component}, "variable": {"name": name}}


class NewPasswords(SynchronousTestCase):
    def test_a_1_6_key_is_hex_of_its_octets_or_else_text(self) -> None:
        for value, octets in (
            (OCTETS.hex(), OCTETS),
            (OCTETS.hex().upper(), OCTETS),
            (OCTETS[:16].hex(), OCTETS[:16]),
            ("0" * 33, b"0" * 33),
            ("0" * 30, b"0" * 30),
            ("0" * 42, b"0" * 42),
            ("g" * 40, b"g" * 40),
            ("pässword-of-the-station", "pässword-of-the-station".encode()),
        ):
            payload = {"key": "AuthorizationKey", "value": value}
            self.assertEqual(new_password(V16, "ChangeConfiguration", payload), octets, value)

    def test_names_are_compared_without_case(self) -> None:
        payload = {"key": "authorizationKEY", "value": SECRET}
        self.assertEqual(new_password(V16, "ChangeConfiguration", payload), SECRET.encode())
        for version in TWO_X:
            items = [variable(component="securityctrlr", name="BASICAUTHPASSWORD")]
            self.assertEqual(new_password(version, "SetVariables", {"setVariableData": items}), SECRET.encode())

    def test_a_2_x_password_is_utf_8_and_never_hex(self) -> None:
        for value in ("pässword ✓ of:the station", OCTETS.hex()):
            payload = {"setVariableData": [variable("300", "OCPPCommCtrlr", "HeartbeatInterval"), variable(value)]}
            for version in TWO_X:
                self.assertEqual(new_password(version, "SetVariables", payload), value.encode())

    def test_only_the_value_in_use_counts(self) -> None:
        cases = [("Actual", SECRET.encode()), ("Target", None), ("MaxSet", None)]
        for attribute, password in cases:
            payload = {"setVariableData": [variable(attributeType=attribute)]}
            self.assertEqual(new_password(V201, "SetVariables", payload), password)

    def test_the_intent_of_every_version_sets_it(self) -> None:
        asked: list[tuple[OcppVersion, dict[str, Any]]] = [
            (V16, {"key": "AuthorizationKey", "value": SECRET}),
            (V201, {"key": "SecurityCtrlr.BasicAuthPassword", "value": SECRET}),
            (V21, {"component": "SecurityCtrlr", "variable": "BasicAuthPassword", "value": SECRET}),
        ]
        for version, payload in asked:
            mapped = map_command(version, "ChangeConfiguration", payload, None, lambda: 1)
            self.assertEqual(new_password(version, mapped.action, mapped.payload), SECRET.encode())

    def test_other_commands_set_none(self) -> None:
        others: list[tuple[OcppVersion, str, dict[str, Any]]] = [
            (V16, "ChangeConfiguration", {"key": "HeartbeatInterval", "value": "300"}),
            (V16, "Reset", {"type": "Soft"}),
            (V201, "SetVariables", {"setVariableData": [variable(component="NetworkConfiguration")]}),
            (V201, "SetVariables", {"setVariableData": [variable(name="Identity")]}),
            (V21, "GetVariables", {"getVariableData": [variable()]}),
        ]
        for version, action, payload in others:
            self.assertIsNone(new_password(version, action, payload))

    def test_one_that_could_not_be_known_afterwards_is_refused(self) -> None:
        twice = {"setVariableData": [variable(), variable(SECRET + "2")]}
        error = self.assertRaises(CommandError, new_password, V201, "SetVariables", twice)
        self.assertNotIn(SECRET, str(error))
        self.assertRaises(CommandError, new_password, V201, "SetVariables", {"setVariableData": [variable("")]})
        empty = {"key": "AuthorizationKey", "value": ""}
        self.assertRaises(CommandError, new_password, V16, "ChangeConfiguration", empty)


class Verdicts(SynchronousTestCase):
    def test_the_answer_decides(self) -> None:
        for status, verdict in (
            ("Accepted", "accepted"),
            ("RebootRequired", "both"),
            ("Rejected", "rejected"),
            ("NotSupported", "rejected"),
        ):
            result = result_of(V16, "ChangeConfiguration", {"status": status})
            self.assertEqual(password_verdict(V16, result), verdict)
        for status, verdict in (
            ("Accepted", "accepted"),
            ("RebootRequired", "both"),
            ("Rejected", "rejected"),
            ("UnknownComponent", "rejected"),
            ("UnknownVariable", "rejected"),
            ("NotSupportedAttributeType", "rejected"),
        ):
            for version in TWO_X:
                result = result_of(version, "SetVariables", {"setVariableResult": [answered(status)]})
                self.assertEqual(password_verdict(version, result), verdict)

    def test_of_many_variables_only_the_passwords_own_status_counts(self) -> None:
        others = [answered("Rejected", "OCPPCommCtrlr", "HeartbeatInterval"), answered("Accepted", name="Identity")]
        for status, verdict in (("Accepted", "accepted"), ("Rejected", "rejected")):
            result = result_of(V201, "SetVariables", {"setVariableResult": [*others, answered(status)]})
            self.assertEqual(password_verdict(V201, result), verdict)

    def test_an_answer_that_leaves_it_out_says_nothing(self) -> None:
        result = result_of(V201, "SetVariables", {"setVariableResult": [answered("Accepted", name="Identity")]})
        self.assertEqual(password_verdict(V201, result), "both")

    def test_a_callerror_is_a_refusal(self) -> None:
        for code in ("NotSupported", "NotImplemented", "SecurityError", "GenericError", "InternalError"):
            result = CommandResult(outcome_of_error(code), error_code=code, error_description="no")
            for version in (V16, *TWO_X):
                self.assertEqual(password_verdict(version, result), "rejected", code)
                self.assertEqual(certificate_verdict(version, result), "rejected", code)

    def test_what_nobody_knows_is_either(self) -> None:
        unknown = [TIMED_OUT, NOT_SENT, CONNECTION_LOST, RESTARTED]
        invalid = CommandResult(Outcome.FAILED, response={"status": 7}, error_code="TypeConstraintViolation")
        for version in (V16, *TWO_X):
            malformed = CommandResult(Outcome.FAILED, error_code=version.codes.envelope)
            for result in (*unknown, invalid, malformed):
                self.assertEqual(password_verdict(version, result), "both", result)
                self.assertEqual(certificate_verdict(version, result), "both", result)

    def test_a_certificate_is_accepted_or_rejected(self) -> None:
        for version in (V16, *TWO_X):
            for status, verdict in (("Accepted", "accepted"), ("Rejected", "rejected")):
                result = result_of(version, "CertificateSigned", {"status": status})
                self.assertEqual(certificate_verdict(version, result), verdict)


class Redaction(SynchronousTestCase):
    def test_every_way_to_write_one_is_covered(self) -> None:
        profile = {
            "configurationSlot": 1,
            "connectionData": {
                "basicAuthPassword": SECRET,
                "ocppCsmsUrl": "wss://csms.example",
                "apn": {"apn": "internet", "apnPassword": SECRET, "simPin": 4711},
                "vpn": {"server": "vpn.example", "user": "u", "password": SECRET, "key": SECRET, "type": "IKEv2"},
            },
        }
        payloads: list[dict[str, Any]] = [
            {"key": "AuthorizationKey", "value": SECRET},
            {"key": "authorizationkey", "value": 4711},
            {"Key": "AuthorizationKey", "Value": SECRET},
            {"key": "WifiPassword", "value": SECRET},
            {"key": "SecurityCtrlr.BasicAuthPassword", "value": SECRET},
            {"component": "SecurityCtrlr", "variable": "BasicAuthPassword", "value": SECRET},
            {"component": {"name": "X"}, "variable": {"name": "VpnKey"}, "attributeValue": SECRET},
            {"setVariableData": [variable(), variable(name="SimPin", value="4711")]},
            {"getVariableResult": [{"attributeStatus": "Accepted", **variable()}]},
            {"configurationKey": [{"key": "AuthorizationKey", "readonly": False, "value": SECRET}]},
            profile,
        ]
        for payload in payloads:
            before = deepcopy(payload)
            hidden = redacted(payload)
            self.assertNotIn(SECRET, str(hidden))
            self.assertNotIn("4711", str(hidden))
            self.assertIn("***", str(hidden))
            self.assertEqual(payload, before, "the CALL on the wire has the real one")

    def test_everything_else_stays(self) -> None:
        payloads: list[Any] = [
            None,
            {},
            {"key": "HeartbeatInterval", "value": "300"},
            {"key": ["AuthorizationKey"]},
            {"setVariableData": "junk", "connectionData": [], "configurationKey": [7, None]},
            {"setVariableData": [variable("300", "OCPPCommCtrlr", "HeartbeatInterval")]},
            {"vendorId": "v", "data": {"value": "x"}},
            {"certificateChain": "-----BEGIN CERTIFICATE-----"},
        ]
        for payload in payloads:
            self.assertEqual(redacted(payload), payload)

    def test_the_neighbours_of_a_secret_stay(self) -> None:
        heartbeat = variable("300", "OCPPCommCtrlr", "HeartbeatInterval")
        hidden = redacted({"setVariableData": [heartbeat, variable()]})
        self.assertEqual(hidden["setVariableData"], [heartbeat, variable("***")])

    def test_a_charger_that_quotes_its_password_is_not_quoted(self) -> None:
        request = {"setVariableData": [variable()]}
        quoting = CommandResult(
            Outcome.REJECTED,
            "Rejected",
            {
                "setVariableResult": [
                    {
                        **answered("Rejected"),
                        "attributeStatusInfo": {"reasonCode": "X", "additionalInfo": f"<{SECRET}>"},
                    }
                ]
            },
            error_description=f"{SECRET} is too weak",
            error_details={"value": [SECRET]},
        )
        told = shown(quoting, request)
        self.assertNotIn(SECRET, str(told))
        self.assertEqual((told.outcome, told.status), (Outcome.REJECTED, "Rejected"))
        self.assertEqual(told.error_description, "*** is too weak")

    def test_what_is_nested_too_deeply_to_be_searched_is_left_out(self) -> None:
        deep: Any = SECRET
        for _ in range(100_000):
            deep = [deep]
        told = shown(CommandResult(Outcome.FAILED, response={"deep": deep}), {"setVariableData": [variable()]})
        self.assertIsNone(told.response)

    def test_short_texts_are_not_looked_for(self) -> None:
        self.assertEqual(hidden_texts({"key": "AuthorizationKey", "value": "a"}), [])
        self.assertEqual(
            scrubbed({"status": "Accepted"}, hidden_texts({"key": "k", "value": "Accepted"})), {"status": "Accepted"}
        )

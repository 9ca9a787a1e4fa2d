"""What answers mean: the table is checked against every status of the official schemas."""

from collections.abc import Iterator, Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.outcomes import (
    ITEM_STATUSES,
    OVERRIDES,
    STATUS_OUTCOMES,
    Outcome,
    event_type,
    outcome_of_error,
    outcome_of_result,
    terminal_status,
)
from ocppgw.ocpp.schemas import load_schema
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS, OcppVersion


def resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref")
    return schema["definitions"][reference.rpartition("/")[2]] if reference else node


def statuses(version: OcppVersion, action: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every status the action's response may have, with a payload that carries it."""
    schema = load_schema(version, action, response=True)
    if action in ITEM_STATUSES:
        list_name, status_name = ITEM_STATUSES[action]
        item = resolved(schema, resolved(schema, schema["properties"][list_name])["items"])
        for status in resolved(schema, item["properties"][status_name])["enum"]:
            yield status, {list_name: [{status_name: status}]}
    elif "status" in schema["properties"]:
        for status in resolved(schema, schema["properties"]["status"])["enum"]:
            yield status, {"status": status}


class OfficialStatuses(SynchronousTestCase):
    def test_every_status_of_every_command_is_in_the_table(self) -> None:
        seen = set()
        for version in VERSIONS:
            for action in version.down:
                for status, payload in statuses(version, action):
                    expected = OVERRIDES.get((action, status), STATUS_OUTCOMES.get(status))
                    self.assertIsNotNone(expected, f"{version.name} {action} {status}")
                    self.assertEqual(outcome_of_result(version, action, payload), (expected, status))
                    seen.add(status)
        self.assertEqual(STATUS_OUTCOMES.keys() - seen, set(), "statuses that no schema has")

    def test_every_response_that_lists_statuses_is_read_item_by_item(self) -> None:
        for version in VERSIONS:
            for action in version.down:
                schema = load_schema(version, action, response=True)
                lists = [name for name, node in schema["properties"].items() if name.endswith("Result")]
                self.assertEqual(bool(lists), action in ITEM_STATUSES, action)

    def test_responses_without_a_status_are_accepted(self) -> None:
        without = {(v.name, action) for v in VERSIONS for action in v.down if not list(statuses(v, action))}
        expected = {
            *(("1.6J", name) for name in ("GetConfiguration", "GetDiagnostics", "GetLocalListVersion")),
            ("1.6J", "UpdateFirmware"),
            *((v, name) for v in ("2.0.1", "2.1") for name in ("CostUpdated", "GetLocalListVersion")),
            *((v, "GetTransactionStatus") for v in ("2.0.1", "2.1")),
            *(("2.1", name) for name in ("GetPeriodicEventStream", "NotifyWebPaymentStarted")),
        }
        self.assertEqual(without, expected)
        for version, action in without - {("1.6J", "GetDiagnostics")}:
            self.assertEqual(outcome_of_result(version, action, {}), (Outcome.ACCEPTED, None))


class Deviations(SynchronousTestCase):
    def assert_outcome(self, version: OcppVersion, action: str, payload: dict[str, Any], outcome: Outcome) -> None:
        self.assertEqual(outcome_of_result(version, action, payload)[0], outcome)

    def test_a_question_that_found_nothing_is_accepted_empty(self) -> None:
        for version, action, status in (
            (V201, "GetDisplayMessages", "Unknown"),
            (V16, "GetInstalledCertificateIds", "NotFound"),
            (V21, "GetDERControl", "NotFound"),
            (V201, "GetReport", "EmptyResultSet"),
            (V21, "GetTariffs", "NoTariff"),
        ):
            self.assert_outcome(version, action, {"status": status}, Outcome.ACCEPTED_EMPTY)

    def test_the_same_words_elsewhere_are_a_refusal(self) -> None:
        for action, status in (("ClearDisplayMessage", "Unknown"), ("DeleteCertificate", "NotFound")):
            self.assert_outcome(V201, action, {"status": status}, Outcome.REJECTED)

    def test_get_diagnostics_without_a_file_name_has_nothing_to_upload(self) -> None:
        self.assert_outcome(V16, "GetDiagnostics", {}, Outcome.ACCEPTED_EMPTY)
        self.assert_outcome(V16, "GetDiagnostics", {"fileName": "log.zip"}, Outcome.ACCEPTED)

    def test_local_list_version_minus_one_means_unsupported_in_1_6(self) -> None:
        self.assert_outcome(V16, "GetLocalListVersion", {"listVersion": -1}, Outcome.NOT_SUPPORTED)
        self.assert_outcome(V16, "GetLocalListVersion", {"listVersion": 0}, Outcome.ACCEPTED)
        self.assert_outcome(V201, "GetLocalListVersion", {"versionNumber": 0}, Outcome.ACCEPTED)

    def test_unknown_configuration_keys_are_refused_key_by_key(self) -> None:
        known = [{"key": "HeartbeatInterval", "readonly": False, "value": "300"}]
        self.assert_outcome(V16, "GetConfiguration", {"configurationKey": known}, Outcome.ACCEPTED)
        self.assert_outcome(V16, "GetConfiguration", {"configurationKey": known, "unknownKey": ["A"]}, Outcome.PARTIAL)
        self.assert_outcome(V16, "GetConfiguration", {"configurationKey": [], "unknownKey": ["A"]}, Outcome.REJECTED)

    def test_items_that_differ_are_partial(self) -> None:
        items = [{"attributeStatus": "Accepted"}, {"attributeStatus": "UnknownVariable"}]
        self.assertEqual(outcome_of_result(V201, "SetVariables", {"setVariableResult": items}), (Outcome.PARTIAL, None))

    def test_items_with_one_meaning_have_one_outcome(self) -> None:
        items = [{"attributeStatus": "UnknownComponent"}, {"attributeStatus": "UnknownVariable"}]
        self.assertEqual(
            outcome_of_result("2.1", "GetVariables", {"getVariableResult": items}), (Outcome.REJECTED, None)
        )
        alike = [{"status": "Accepted"}, {"status": "Accepted"}]
        self.assertEqual(
            outcome_of_result("2.1", "ClearTariffs", {"clearTariffsResult": alike}), (Outcome.ACCEPTED, "Accepted")
        )

    def test_an_unknown_status_is_a_failure_with_its_text(self) -> None:
        self.assertEqual(outcome_of_result(V16, "Reset", {"status": "Maybe"}), (Outcome.FAILED, "Maybe"))

    def test_an_answer_that_is_no_answer_is_a_failure(self) -> None:
        self.assertEqual(outcome_of_result(V16, "Reset", {"status": 7}), (Outcome.FAILED, None))
        for items in ([], "Accepted", [None]):
            payload = {"getVariableResult": items}
            self.assertEqual(outcome_of_result(V201, "GetVariables", payload), (Outcome.FAILED, None))


class Errors(SynchronousTestCase):
    def test_call_error_codes(self) -> None:
        for code, outcome in {
            "NotImplemented": Outcome.NOT_SUPPORTED,
            "NotSupported": Outcome.NOT_SUPPORTED,
            "SecurityError": Outcome.REJECTED,
            "GenericError": Outcome.FAILED,
            "OccurenceConstraintViolation": Outcome.FAILED,
            "VendorSaysNo": Outcome.FAILED,
        }.items():
            self.assertEqual(outcome_of_error(code), outcome, code)


class Ends(SynchronousTestCase):
    def test_every_outcome_ends_in_one_terminal_status_and_event(self) -> None:
        expected = {
            Outcome.ACCEPTED: "Accepted",
            Outcome.SCHEDULED: "Accepted",
            Outcome.ACCEPTED_EMPTY: "Accepted",
            Outcome.PARTIAL: "Accepted",
            Outcome.REJECTED: "Rejected",
            Outcome.NOT_SUPPORTED: "Rejected",
            Outcome.FAILED: "Failed",
            Outcome.UNKNOWN: "Failed",
        }
        self.assertEqual({outcome: terminal_status(outcome) for outcome in Outcome}, expected)
        self.assertEqual(
            {outcome: event_type(outcome) for outcome in Outcome},
            {outcome: f"Command{status}" for outcome, status in expected.items()},
        )

    def test_a_timeout_is_its_own_end(self) -> None:
        self.assertEqual(terminal_status(Outcome.UNKNOWN, timed_out=True), "Timeout")
        self.assertEqual(event_type(Outcome.UNKNOWN, timed_out=True), "CommandTimeout")

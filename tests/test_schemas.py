"""Validation with the official schemas: which code and words a charger gets for a bad payload."""

import json
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.schemas import MAX_NODES, Violation, reference_validator, schema_set
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS, OcppVersion

BOOT_201: dict[str, Any] = {"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}}


def explain(version: OcppVersion, action: str, payload: dict[str, Any]) -> Violation:
    return schema_set(version).requests[action].explain(payload)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def sampled(values: list[Any]) -> dict[str, Any]:
    return {"connectorId": 1, "meterValue": [{"timestamp": "2026-11-23T23:07:07Z", "sampledValue": values}]}


class SchemaSets(SynchronousTestCase):
    def test_every_action_has_a_request_and_all_but_the_send_a_response(self) -> None:
        counts = [(len(schema_set(v).requests), len(schema_set(v).responses)) for v in VERSIONS]
        self.assertEqual(counts, [(39, 39), (64, 64), (91, 90)])

    def test_schemas_are_compiled_once(self) -> None:
        self.assertIs(schema_set(V16), schema_set(V16))


class Codes(SynchronousTestCase):
    def assert_codes(self, code_16: str, code_2x: str, payload_16: dict[str, Any], payload_2x: dict[str, Any]) -> None:
        self.assertFalse(schema_set(V16).requests["BootNotification"].is_valid(payload_16))
        self.assertEqual(explain(V16, "BootNotification", payload_16).code, code_16)
        for version in (V201, V21):
            self.assertFalse(schema_set(version).requests["BootNotification"].is_valid(payload_2x))
            self.assertEqual(explain(version, "BootNotification", payload_2x).code, code_2x)

    def test_missing_field_is_an_occurrence_violation(self) -> None:
        without_vendor = {"reason": "PowerUp", "chargingStation": {"model": "M"}}
        codes = ("OccurenceConstraintViolation", "OccurrenceConstraintViolation")
        self.assert_codes(*codes, {"chargePointModel": "M"}, without_vendor)

    def test_number_for_a_string_is_a_type_violation(self) -> None:
        codes = ("TypeConstraintViolation", "TypeConstraintViolation")
        station = {"model": "M", "vendorName": 5}
        self.assert_codes(
            *codes, {"chargePointModel": "M", "chargePointVendor": 5}, {"reason": "PowerUp", "chargingStation": station}
        )

    def test_too_long_a_string_is_a_property_violation(self) -> None:
        codes = ("PropertyConstraintViolation", "PropertyConstraintViolation")
        station = {"model": "M" * 21, "vendorName": "V"}
        self.assert_codes(
            *codes,
            {"chargePointModel": "M" * 21, "chargePointVendor": "V"},
            {"reason": "PowerUp", "chargingStation": station},
        )

    def test_unknown_field_is_a_formation_violation(self) -> None:
        codes = ("FormationViolation", "FormatViolation")
        self.assert_codes(
            *codes, {"chargePointModel": "M", "chargePointVendor": "V", "colour": "red"}, {**BOOT_201, "colour": "red"}
        )

    def test_bad_enum_value_is_a_property_violation(self) -> None:
        payload = {"connectorId": 1, "errorCode": "NoError", "status": "Asleep"}
        self.assertEqual(explain(V16, "StatusNotification", payload).code, "PropertyConstraintViolation")
        self.assertEqual(
            explain(V201, "BootNotification", {**BOOT_201, "reason": "Boredom"}).code, "PropertyConstraintViolation"
        )

    def test_bad_timestamp_is_a_property_violation(self) -> None:
        payload = {"connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": "yesterday"}
        self.assertFalse(schema_set(V16).requests["StatusNotification"].is_valid(payload))
        self.assertEqual(explain(V16, "StatusNotification", payload).code, "PropertyConstraintViolation")

    def test_too_few_items_are_an_occurrence_violation(self) -> None:
        self.assertEqual(explain(V201, "GetVariables", {"getVariableData": []}).code, "OccurrenceConstraintViolation")

    def test_bad_uri_is_a_property_violation(self) -> None:
        self.assertEqual(explain(V16, "GetDiagnostics", {"location": "no uri"}).code, "PropertyConstraintViolation")

    def test_several_violations_give_the_code_of_the_first_in_precedence(self) -> None:
        payload: dict[str, Any] = {"idTag": 1, "meterStart": 0, "colour": "red", "timestamp": "yesterday"}
        self.assertEqual(explain(V16, "StartTransaction", payload).code, "TypeConstraintViolation")
        payload["idTag"] = "A" * 21
        self.assertEqual(explain(V16, "StartTransaction", payload).code, "OccurenceConstraintViolation")
        payload["connectorId"] = 1
        self.assertEqual(explain(V16, "StartTransaction", payload).code, "FormationViolation")
        del payload["colour"]
        self.assertEqual(explain(V16, "StartTransaction", payload).path, "idTag")

    def test_enum_precedes_the_other_constraints(self) -> None:
        payload = {"connectorId": 1, "errorCode": "None", "status": "Available", "info": "x" * 51}
        self.assertEqual(explain(V16, "StatusNotification", payload).path, "errorCode")


class Words(SynchronousTestCase):
    def test_description_names_the_path_and_the_fault(self) -> None:
        cases: list[tuple[OcppVersion, str, dict[str, Any], str]] = [
            (V16, "BootNotification", {"chargePointModel": "M"}, "chargePointVendor is missing"),
            (V16, "Authorize", {"idTag": "x" * 27}, "idTag: 27 characters, at most 20 allowed"),
            (V16, "Authorize", {"idTag": True}, "idTag: boolean found, string expected"),
            (V16, "Heartbeat", {"b": 1, "a": 2}, "a is not a field of this message"),
            (V16, "MeterValues", sampled([{}]), "meterValue[0].sampledValue[0].value is missing"),
            (V201, "GetVariables", {"getVariableData": []}, "getVariableData: 0 items, at least 1 needed"),
            (
                V16,
                "Reset",
                {"type": "Medium"},
                "type: the value must be one of Hard, Soft",
            ),
        ]
        for version, action, payload, description in cases:
            self.assertEqual(explain(version, action, payload).description, description)

    def test_values_are_never_repeated(self) -> None:
        secret = "s3cret" * 300
        cases: list[dict[str, Any]] = [{"key": secret, "value": "v"}, {"key": "AuthorizationKey", "value": secret}]
        cases += [{"key": "k", "value": [secret]}, {"key": "k", "value": {"inner": secret}}]
        for payload in cases:
            violation = explain(V16, "ChangeConfiguration", payload)
            self.assertNotIn("s3cret", violation.description)

    def test_description_stays_within_255_characters(self) -> None:
        self.assertLessEqual(len(explain(V16, "Heartbeat", {"x" * 5000: 1}).description), 255)
        measurand = explain(V16, "MeterValues", sampled([{"value": "1", "measurand": "Mood"}]))
        self.assertEqual(len(measurand.description), 255)

    def test_member_order_does_not_change_the_answer(self) -> None:
        payload = {"idTag": 1, "meterStart": "x", "timestamp": 3, "connectorId": "y", "z": 1, "y": 2}
        backwards = dict(reversed(payload.items()))
        self.assertEqual(explain(V16, "StartTransaction", payload), explain(V16, "StartTransaction", backwards))


class Hostile(SynchronousTestCase):
    def test_deep_custom_data_is_valid(self) -> None:
        payload = {**BOOT_201, "customData": {"vendorId": "x", "deep": nested(1000)}}
        self.assertTrue(schema_set(V201).requests["BootNotification"].is_valid(payload))

    def test_fault_beside_deep_custom_data_is_explained(self) -> None:
        payload = {**BOOT_201, "reason": 5, "customData": {"vendorId": "x", "deep": nested(1000)}}
        self.assertFalse(schema_set(V201).requests["BootNotification"].is_valid(payload))
        self.assertEqual(explain(V201, "BootNotification", payload).code, "TypeConstraintViolation")

    def test_deep_value_in_the_wrong_place_is_a_formation_violation(self) -> None:
        for payload in ({**BOOT_201, "reason": nested(1000)}, {**BOOT_201, "colour": nested(1000)}):
            self.assertFalse(schema_set(V201).requests["BootNotification"].is_valid(payload))
            self.assertEqual(explain(V201, "BootNotification", payload).code, "FormatViolation")

    def test_thousands_of_faults_are_answered_quickly_and_alike(self) -> None:
        payload = sampled([{"value": 1, "colour": "red"} for _ in range(100_000)])
        started = time.process_time()
        violations = {explain(V16, "MeterValues", payload) for _ in range(5)}
        self.assertLess(time.process_time() - started, 1.0)  # listing all of them takes seconds
        self.assertEqual(len(violations), 1)
        self.assertIn(violations.pop().code, ("TypeConstraintViolation", "FormationViolation"))

    def test_payload_just_below_the_bound_is_explained_in_full(self) -> None:
        values: list[Any] = [{"value": "1", "colour": "red"} for _ in range(MAX_NODES // 4)]
        violation = explain(V16, "MeterValues", sampled([*values, {"value": 1}]))
        self.assertEqual(violation.code, "TypeConstraintViolation")

    def test_integers_beyond_64_bits_are_integers(self) -> None:
        payload = {**sampled([{"value": "1"}]), "transactionId": 2**80}
        self.assertTrue(schema_set(V16).requests["MeterValues"].is_valid(payload))


class Numbers(SynchronousTestCase):
    def composite(self, limit: float, start: float = 0) -> dict[str, Any]:
        period = {"startPeriod": start, "limit": limit}
        return {"status": "Accepted", "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [period]}}

    def test_all_limits_with_one_decimal_are_multiples_of_a_tenth(self) -> None:
        validator = schema_set(V16).responses["GetCompositeSchedule"]
        refused = [
            tenths for tenths in range(401) if not validator.is_valid(self.composite(json.loads(f"{tenths / 10}")))
        ]
        self.assertEqual(refused, [])

    def test_two_decimals_are_refused(self) -> None:
        validator = schema_set(V16).responses["GetCompositeSchedule"]
        violation = validator.explain(self.composite(8.15))
        self.assertEqual(violation.code, "PropertyConstraintViolation")
        self.assertTrue(violation.description.endswith("limit: not a multiple of 0.1"), violation.description)

    def test_a_float_without_fraction_is_an_integer_in_2_x_and_not_in_the_1_6_core(self) -> None:
        self.assertFalse(schema_set(V16).responses["GetCompositeSchedule"].is_valid(self.composite(8.1, start=1.0)))
        answer = {"currentTime": "2026-11-23T23:07:07Z", "interval": 300.0, "status": "Accepted"}
        self.assertTrue(schema_set(V201).responses["BootNotification"].is_valid(answer))


class KnownDifferences(SynchronousTestCase):
    """Where the fast validator deliberately differs from the reference."""

    def differs(self, text: str) -> bool:
        payload = {"currentTime": text}
        reference = reference_validator(V201, "Heartbeat", response=True)
        fast = schema_set(V201).responses["Heartbeat"]
        return bool(fast.is_valid(payload)) and not reference.is_valid(payload)

    def test_a_leap_second_is_a_date_time(self) -> None:
        self.assertTrue(self.differs("2016-12-31T23:59:60Z"))

    def test_the_year_0_is_a_date_time(self) -> None:
        self.assertTrue(self.differs("0000-01-01T00:00:00Z"))

    def test_only_the_fast_one_checks_uris(self) -> None:
        payload = {"location": "no uri"}
        self.assertTrue(reference_validator(V16, "GetDiagnostics", response=False).is_valid(payload))
        self.assertFalse(schema_set(V16).requests["GetDiagnostics"].is_valid(payload))

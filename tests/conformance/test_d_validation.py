"""D: actions and payloads against the official schemas, in both directions."""

from typing import Any

from tests.conformance.cases import case
from tests.integration.harness import NOW, Gateway, Station, boot_payload, status_payload


def occurrence(version: str) -> str:
    return "OccurenceConstraintViolation" if version == "1.6" else "OccurrenceConstraintViolation"


@case(51, "*")
def test_an_unknown_action_is_not_implemented_and_case_matters(station: Station, version: str) -> None:
    for action in ("Foo", "heartbeat", "HeartbeatRequest", ""):
        assert station.refused(action, {}) == "NotImplemented", action


@case(52, "*")
def test_an_action_of_the_other_direction_is_not_supported(station: Station, version: str) -> None:
    for action in ("Reset", "UnlockConnector", "ClearCache", "TriggerMessage"):
        assert station.refused(action, {}) == "NotSupported", action


@case(53, "*")
def test_a_missing_member_is_an_occurrence_violation(station: Station, version: str) -> None:
    payload = boot_payload(version)
    if version == "1.6":
        del payload["chargePointVendor"]
    else:
        del payload["chargingStation"]["vendorName"]
    assert station.refused("BootNotification", payload) == occurrence(version)


@case(54, "*")
def test_each_kind_of_violation_has_its_code(station: Station, version: str) -> None:
    valid: dict[str, Any] = status_payload(version)
    enum_member = "status" if version == "1.6" else "connectorStatus"
    formation = "FormationViolation" if version == "1.6" else "FormatViolation"
    long = boot_payload(version)
    if version == "1.6":
        long["chargePointVendor"] = "v" * 21
    else:
        long["chargingStation"]["vendorName"] = "v" * 51
    for action, payload, code in (
        ("StatusNotification", {**valid, enum_member: 7}, "TypeConstraintViolation"),
        ("StatusNotification", {**valid, "connectorId": "1"}, "TypeConstraintViolation"),
        ("StatusNotification", {**valid, enum_member: "Sleeping"}, "PropertyConstraintViolation"),
        ("BootNotification", long, "PropertyConstraintViolation"),
        ("StatusNotification", {**valid, "mood": "fine"}, formation),
        ("StatusNotification", {**valid, enum_member: None}, "TypeConstraintViolation"),
    ):
        assert station.refused(action, payload) == code, payload
    assert station.call("StatusNotification", valid) == {}
    assert len(station.events("ConnectorStatusChanged")) == 1


@case(56, "6")
def test_one_decimal_is_a_multiple_of_a_tenth_in_both_directions(
    gateway: Gateway, station: Station, version: str
) -> None:
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 8.1}]}
    profile = {
        "connectorId": 1,
        "csChargingProfiles": {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": schedule,
        },
    }
    command_id = gateway.command(station.id, "SetChargingProfile", profile)
    message_id, _, payload = station.expect_call("SetChargingProfile")
    assert payload == profile
    station.reply(message_id, {"status": "Accepted"})
    assert gateway.ended(command_id)["status"] == "Accepted"

    command_id = gateway.command(station.id, "GetCompositeSchedule", {"connectorId": 1, "duration": 60})
    answer = {
        "status": "Accepted",
        "connectorId": 1,
        "scheduleStart": NOW,
        "chargingSchedule": {**schedule, "duration": 60},
    }
    station.reply(station.expect_call("GetCompositeSchedule")[0], answer)
    assert gateway.ended(command_id)["status"] == "Accepted"
    (event,) = gateway.terminal_events(command_id)
    assert event["payload"]["response"] == answer

    refused = gateway.submit(station.id, "SetChargingProfile", _with_limit(profile, 8.15))
    assert refused.status == 400


def _with_limit(profile: dict[str, Any], limit: float) -> dict[str, Any]:
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}]}
    return {**profile, "csChargingProfiles": {**profile["csChargingProfiles"], "chargingSchedule": schedule}}


@case(57, "*")
def test_a_timestamp_has_to_be_one(station: Station, version: str) -> None:
    valid = status_payload(version)
    for timestamp in ("yesterday", "2026-13-01T00:00:00Z", "2026-11-24", ""):
        code = station.refused("StatusNotification", {**valid, "timestamp": timestamp})
        assert code == "PropertyConstraintViolation", timestamp
    for timestamp in (NOW, "2026-11-24T08:00:00.123Z", "2026-11-24T08:00:00+01:00"):
        assert station.call("StatusNotification", {**valid, "timestamp": timestamp}) == {}, timestamp


@case(58, "0 1")
def test_custom_data_goes_through_at_any_depth(station: Station, version: str) -> None:
    custom = {"vendorId": "com.example", "deep": {"er": [1, {"est": "ü"}]}, "n": 1.5}
    payload = boot_payload(version)
    payload["customData"] = custom
    payload["chargingStation"]["customData"] = custom
    payload["chargingStation"]["modem"] = {"iccid": "1", "customData": custom}
    assert station.call("BootNotification", payload)["status"] == "Accepted"
    event = station.wait_event("StationBooted", lambda event: "customData" in event["payload"]["payload"])
    assert event["payload"]["payload"] == payload
    del payload["customData"]["vendorId"]
    assert station.refused("BootNotification", payload) == occurrence(version)


@case(59, "*")
def test_data_transfer_of_an_unknown_vendor_is_told_so(station: Station, version: str) -> None:
    assert station.call("DataTransfer", {"vendorId": "org.nobody", "messageId": "m"}) == {"status": "UnknownVendorId"}
    assert station.call("DataTransfer", {"vendorId": "com.example", "messageId": "m"}) == {"status": "Accepted"}
    vendors = [event["payload"]["payload"]["vendorId"] for event in station.events("DataTransferReceived")]
    assert vendors == ["org.nobody", "com.example"]

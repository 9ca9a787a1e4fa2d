"""The view that is the same for all versions: equal situations look equal, units are fixed, nothing is guessed."""

import json
from typing import Any

from jsonschema_rs import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.neutral import normalised
from ocppgw.ocpp.readings import readings
from ocppgw.ocpp.schemas import load_schema
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS, OcppVersion
from tests.asyncapi import Contract, closed
from tests.build_session import build_session
from tests.test_schemas_differential import Generator
from tests.test_transactions import START, event, stop

AT = "2027-01-15T08:00:00Z"
ON = SessionRules(normalises=True)
SEEN = ("BootNotification", "Authorize", "StatusNotification", "MeterValues", "TransactionEvent")


def view(version: OcppVersion, action: str, payload: dict[str, Any], transaction_id: int | None = None) -> Any:
    return normalised(version.name, action, payload, transaction_id)


def wh(value: Any, **more: Any) -> dict[str, Any]:
    """A sampled value of 1.6."""
    return {"value": value, **more}


def read_one(*samples: dict[str, Any]) -> dict[str, Any]:
    [reading] = readings([{"timestamp": AT, "sampledValue": list(samples)}])
    return {name: value for name, value in reading.items() if name not in ("at", "context")}


class Equal(SynchronousTestCase):
    def test_a_connector(self) -> None:
        old = {"connectorId": 2, "errorCode": "NoError", "status": "Available", "timestamp": AT}
        new = {"evseId": 2, "connectorId": 1, "connectorStatus": "Available", "timestamp": AT}
        seen = {
            "kind": "status",
            "evseId": 2,
            "connectorId": 1,
            "state": "available",
            "detail": "Available",
            "at": AT,
        }
        self.assertEqual(view(V16, "StatusNotification", old), seen)
        for version in (V201, V21):
            self.assertEqual(view(version, "StatusNotification", new), seen)

    def test_a_meter(self) -> None:
        old = [wh("1.5", unit="kWh"), wh("7.4", unit="kW", measurand="Power.Active.Import")]
        kilo = {"unit": "Wh", "multiplier": 3}
        new = [
            {"value": 1.5, "unitOfMeasure": kilo},
            {"value": 7.4, "unitOfMeasure": {"unit": "kW"}, "measurand": "Power.Active.Import"},
        ]
        seen = {
            "kind": "meter",
            "evseId": 1,
            "readings": [{"at": AT, "context": "Sample.Periodic", "energyImportWh": 1500.0, "powerImportW": 7400.0}],
        }
        found = view(V16, "MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": AT, "sampledValue": old}]})
        self.assertEqual(found, {**seen, "connectorId": 1})
        found = view(V201, "MeterValues", {"evseId": 1, "meterValue": [{"timestamp": AT, "sampledValue": new}]})
        self.assertEqual(found, seen)

    def test_a_transaction_from_begin_to_end(self) -> None:
        def register(value: float, context: str) -> list[Any]:
            return [{"timestamp": AT, "sampledValue": [{"value": value, "context": context}]}]

        token = {"idToken": "TAG", "type": "Central"}
        evse = {"id": 1, "connectorId": 1}
        begun = event("Started", 0, "7", evse=evse, idToken=token, meterValue=register(100, "Transaction.Begin"))
        ended = event("Ended", 9, "7", idToken=token, meterValue=register(200, "Transaction.End"))
        ended["transactionInfo"]["stoppedReason"] = "Local"
        shared = ("kind", "phase", "transactionId", "at", "meterWh", "evseId", "connectorId", "reason")
        for old, new in (
            (view(V16, "StartTransaction", START, 7), view(V201, "TransactionEvent", begun)),
            (view(V16, "StopTransaction", stop(7, idTag="TAG", reason="Local")), view(V21, "TransactionEvent", ended)),
        ):
            self.assertEqual({name: old.get(name) for name in shared}, {name: new.get(name) for name in shared})
            self.assertEqual(old["idToken"]["value"], new["idToken"]["value"])

    def test_a_boot_and_a_token(self) -> None:
        old = {
            "chargePointVendor": "V",
            "chargePointModel": "M",
            "chargePointSerialNumber": "1",
            "firmwareVersion": "2",
        }
        new = {"vendorName": "V", "model": "M", "serialNumber": "1", "firmwareVersion": "2"}
        seen = {"kind": "boot", "vendor": "V", "model": "M", "serialNumber": "1", "firmwareVersion": "2"}
        self.assertEqual(view(V16, "BootNotification", old), seen)
        found = view(V201, "BootNotification", {"reason": "PowerUp", "chargingStation": new})
        self.assertEqual(found, {**seen, "reason": "PowerUp"})
        self.assertEqual(view(V16, "Authorize", {"idTag": "A"})["idToken"], {"value": "A"})


class Details(SynchronousTestCase):
    def test_what_1_6_tells_more_of_a_connector_stays(self) -> None:
        payload = {"connectorId": 1, "errorCode": "HighTemperature", "status": "SuspendedEV"}
        found = view(V16, "StatusNotification", payload)
        self.assertEqual(
            (found["state"], found["detail"], found["error"]), ("occupied", "SuspendedEV", "HighTemperature")
        )
        self.assertNotIn("at", found)

    def test_connector_0_is_the_station(self) -> None:
        found = view(V16, "StatusNotification", {"connectorId": 0, "errorCode": "NoError", "status": "Unavailable"})
        self.assertEqual(found, {"kind": "status", "state": "unavailable", "detail": "Unavailable"})

    def test_a_button_is_no_token(self) -> None:
        found = view(V201, "TransactionEvent", event("Started", 0, idToken={"idToken": "", "type": "NoAuthorization"}))
        self.assertNotIn("idToken", found)

    def test_other_actions_have_no_view(self) -> None:
        self.assertIsNone(view(V16, "Heartbeat", {}))
        self.assertIsNone(view(V201, "NotifyReport", {}))


class Readings(SynchronousTestCase):
    def test_decimals_stay_what_they_are(self) -> None:
        self.assertEqual(read_one(wh("2.3", unit="kWh")), {"energyImportWh": 2300.0})
        self.assertEqual(read_one({"value": 2.3, "unitOfMeasure": {"unit": "kWh"}}), {"energyImportWh": 2300.0})

    def test_what_is_no_number_is_counted(self) -> None:
        for text in ("", "n/a", "NaN", "inf", "1_000", "1,5", "0x10"):
            self.assertEqual(read_one(wh(text)), {"unparsed": 1}, text)
        self.assertEqual(read_one(wh("1", unit="VA")), {"unparsed": 1}, "of energy there is no VA")
        odd = {"value": 1, "unitOfMeasure": {"unit": "Wh", "multiplier": 400}}
        self.assertEqual(read_one(odd), {"unparsed": 1})

    def test_phases_stay_apart_and_are_not_added_up(self) -> None:
        power = {"measurand": "Power.Active.Import", "unit": "W"}
        found = read_one(*(wh(str(1000 + place), phase=f"L{place}", **power) for place in (1, 2, 3)))
        self.assertEqual(found, {"byPhase": {"powerImportW": {"L1": 1001.0, "L2": 1002.0, "L3": 1003.0}}})

    def test_what_is_measured_in_the_vehicle_is_left_out_but_for_its_state_of_charge(self) -> None:
        self.assertEqual(read_one(wh("5", location="EV"), wh("1", location="Outlet")), {"energyImportWh": 1.0})
        self.assertEqual(read_one(wh("55", measurand="SoC", unit="Percent", location="EV")), {"socPercent": 55.0})

    def test_signed_data_is_for_others_to_read(self) -> None:
        self.assertEqual(read_one(wh("AB12", format="SignedData"), wh("1")), {"signed": 1, "energyImportWh": 1.0})
        signed = {"signedMeterData": "x", "signingMethod": "", "encodingMethod": "", "publicKey": ""}
        self.assertEqual(read_one({"value": 1, "signedMeterValue": signed}), {"signed": 1, "energyImportWh": 1.0})

    def test_contexts_are_readings_of_their_own(self) -> None:
        samples = [wh("1", context="Transaction.Begin"), wh("2", context="Transaction.End"), wh("3")]
        found = readings([{"timestamp": AT, "sampledValue": samples}])
        self.assertEqual([each["energyImportWh"] for each in found], [1.0, 2.0, 3.0])
        self.assertEqual(
            [each["context"] for each in found], ["Transaction.Begin", "Transaction.End", "Sample.Periodic"]
        )


class Events(SynchronousTestCase):
    def setUp(self) -> None:
        whole, _ = Contract().resolved("domain-event.schema.json")
        self.schema = Draft202012Validator(closed(whole, "/$defs/normalised"), validate_formats=True)

    def test_every_valid_message_has_a_valid_view(self) -> None:
        count = 0
        for version in VERSIONS:
            for action in version.actions.keys() & {*SEEN, "StartTransaction", "StopTransaction"}:
                generator = Generator(load_schema(version, action, response=False), f"neutral {version.name} {action}")
                for share in (0.0, 1.0, *[0.5] * 20):
                    payload = generator.payload(share)
                    found = json.loads(json.dumps(view(version, action, payload, 7)))
                    faults = [error.message for error in self.schema.iter_errors(found)]
                    self.assertEqual(faults, [], f"{version.name} {action} {payload}")
                    count += 1
        self.assertGreater(count, 300)

    def test_it_stands_in_the_event_beside_the_payload(self) -> None:
        station = build_session(V16, rules=ON)
        number = station.call("a", "StartTransaction", START)[0][2]["transactionId"]
        told = station.last_event()["payload"]
        self.assertEqual((told["payload"], told["normalised"]["transactionId"]), (START, str(number)))
        station.call("b", "Heartbeat", {})
        self.assertNotIn("normalised", station.last_event()["payload"])

    def test_by_default_there_is_none(self) -> None:
        station = build_session(V16)
        station.call("a", "Authorize", {"idTag": "TAG"})
        self.assertNotIn("normalised", station.last_event()["payload"])

    def test_the_event_id_is_the_same_with_and_without(self) -> None:
        """Switched on while a station repeats a message, the event is still the same."""
        ids = []
        for rules in (SessionRules(), ON):
            station = build_session(V201, rules=rules)
            station.call("a", "TransactionEvent", event("Updated", 1))
            ids.append(station.last_event()["eventId"])
        self.assertEqual(ids[0], ids[1])

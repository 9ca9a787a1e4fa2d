"""After a crash: what was recorded but not answered comes again, is answered and is not recorded twice."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.recovery import recover
from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.versions import V16, V201, VERSIONS
from tests.build_session import NOW, Station, build_session
from tests.test_transactions import METER_VALUE, START, event, start, stop


class Crash(SynchronousTestCase):
    def crash_between(self, station: Station, action: str, payload: dict[str, Any]) -> list[Any]:
        """Record it, die before the answer, and let the station send it again; the answers it gets then."""
        before = len(station.events)
        station.journal_waits = True
        self.assertEqual(station.call("m", action, payload), [])
        station.session.lost(station.now, 1006, "killed")  # no answer can be sent any more
        station.commit(1)
        station.restart()
        station.journal_waits = False
        sent = station.call("m", action, payload)
        self.assertEqual(len(station.events), before + 1, f"{action} was recorded twice")
        return sent

    def test_heartbeat(self) -> None:
        for version in VERSIONS:
            sent = self.crash_between(accepted(version), "Heartbeat", {})
            self.assertEqual(sent, [[3, "m", {"currentTime": "2027-01-15T08:00:00.000Z"}]])

    def test_boot(self) -> None:
        payload = {"chargePointVendor": "v", "chargePointModel": "m"}
        sent = self.crash_between(accepted(V16), "BootNotification", payload)
        self.assertEqual(sent[0][2]["status"], "Accepted")

    def test_meter_values_of_1_6(self) -> None:
        station = accepted(V16)
        number = start(station)
        meter = {"connectorId": 1, "transactionId": number, "meterValue": METER_VALUE}
        self.assertEqual(self.crash_between(station, "MeterValues", meter), [[3, "m", {}]])

    def test_meter_values_without_transaction(self) -> None:
        for version, payload in (
            (V16, {"connectorId": 1, "meterValue": METER_VALUE}),
            (
                V201,
                {"evseId": 1, "meterValue": [{"timestamp": "2027-01-15T08:00:00Z", "sampledValue": [{"value": 1.0}]}]},
            ),
        ):
            self.assertEqual(self.crash_between(accepted(version), "MeterValues", payload), [[3, "m", {}]])

    def test_start(self) -> None:
        sent = self.crash_between(accepted(V16), "StartTransaction", START)
        self.assertEqual(sent, [[3, "m", {"transactionId": 1, "idTagInfo": {"status": "Accepted"}}]])

    def test_stop(self) -> None:
        station = accepted(V16)
        number = start(station)
        self.assertEqual(self.crash_between(station, "StopTransaction", stop(number)), [[3, "m", {}]])

    def test_transaction_events(self) -> None:
        station = accepted(V201)
        for number, kind in enumerate(("Started", "Updated", "Ended")):
            self.assertEqual(self.crash_between(station, "TransactionEvent", event(kind, number)), [[3, "m", {}]])

    def test_other_payload_under_the_same_id_is_a_new_message(self) -> None:
        station = accepted(V16)
        station.call("m", "DataTransfer", {"vendorId": "a"})
        station.restart()
        station.call("m", "DataTransfer", {"vendorId": "b"})
        self.assertEqual(station.event_types().count("DataTransferReceived"), 2)

    def test_exact_numbers_are_known_again(self) -> None:
        station = accepted(V201)
        payload = {"vendorId": "v", "data": {"big": 2**70, "one": 1.0, "tiny": 1e-7, "text": "\0é"}}
        self.crash_between(station, "DataTransfer", payload)


class OtherEvents(SynchronousTestCase):
    def test_what_came_of_no_call_changes_nothing(self) -> None:
        state = StationState()
        others: list[dict[str, Any]] = [
            {},
            {"payload": {}},
            {"payload": {"address": "192.0.2.1", "sequence": 1}},
            {"payload": {"action": "X", "payload": None, "messageId": "m"}},
            {"payload": {"action": "X", "payload": {}, "messageId": 7}},
        ]
        for foreign in others:
            recover(state, foreign, NOW)
        self.assertEqual(state, StationState())

    def test_invalid_message_is_judged_again(self) -> None:
        station = accepted(V16)
        first = station.call("m", "StopTransaction", {"transactionId": 1})
        station.restart()
        self.assertEqual(station.call("m", "StopTransaction", {"transactionId": 1}), first)


def accepted(version: Any) -> Station:
    """A station that has booted, so that its state survives a restart."""
    station = build_session(version, boot_status=None)
    payload = (
        {"chargePointVendor": "v", "chargePointModel": "m"}
        if version is V16
        else {"reason": "PowerUp", "chargingStation": {"vendorName": "v", "model": "m"}}
    )
    station.call("boot", "BootNotification", payload)
    return station

"""Transactions: recorded once, answered always, orphans flagged, never guessed."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.answers import AnswerRules
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.versions import V16, V21, V201
from tests.build_session import Station, build_session

AT = "2027-01-15T08:00:00Z"
START = {"connectorId": 1, "idTag": "TAG", "meterStart": 100, "timestamp": AT}
METER_VALUE = [{"timestamp": AT, "sampledValue": [{"value": "1"}]}]
BLOCKED = SessionRules(answers=AnswerRules(id_token_status="Blocked"))


def stop(transaction_id: int, **changes: Any) -> dict[str, Any]:
    return {"transactionId": transaction_id, "meterStop": 200, "timestamp": AT, **changes}


def event(kind: str, number: int, transaction_id: str = "t-1", **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": AT,
        "triggerReason": "Trigger",
        "seqNo": number,
        "transactionInfo": {"transactionId": transaction_id},
        **more,
    }


def start(station: Station, message_id: str = "start", **changes: Any) -> int:
    sent = station.call(message_id, "StartTransaction", {**START, **changes})
    transaction_id: int = sent[0][2]["transactionId"]
    return transaction_id


class Started16(SynchronousTestCase):
    def test_start_meter_values_stop(self) -> None:
        station = build_session(V16)
        number = start(station)
        self.assertGreater(number, 0)
        self.assertLess(number, 2**31)
        meter = {"connectorId": 1, "transactionId": number, "meterValue": METER_VALUE}
        self.assertEqual(station.call("m", "MeterValues", meter), [[3, "m", {}]])
        self.assertEqual(station.call("s", "StopTransaction", stop(number)), [[3, "s", {}]])
        self.assertEqual(station.event_types(), ["SessionStarted", "MeterValuesReceived", "SessionStopped"])
        for recorded in station.events:
            self.assertEqual(recorded["payload"]["transactionId"], number)
            self.assertNotIn("orphaned", recorded["payload"])

    def test_ids_differ(self) -> None:
        station = build_session(V16)
        numbers = {start(station, f"m-{meter}", meterStart=meter) for meter in range(20)}
        self.assertEqual(len(numbers), 20)

    def test_same_start_is_the_same_transaction(self) -> None:
        station = build_session(V16)
        number = start(station)
        self.assertEqual(start(station), number)  # same message id: replayed
        self.assertEqual(start(station, "other"), number)
        station.lose()
        station.connect()
        self.assertEqual(start(station, "third"), number)
        station.restart()
        self.assertEqual(start(station, "fourth"), number)
        self.assertEqual(station.event_types().count("SessionStarted"), 1)

    def test_start_repeated_before_it_was_durable_elsewhere_is_asked_of_the_store(self) -> None:
        """The first connection goes before the record is on disk; the journal finishes it, and the repeat finds it."""
        station = build_session(V16, journal_waits=True)
        self.assertEqual(station.call("a", "StartTransaction", START), [])
        station.lose()
        station.commit()
        station.connect()
        self.assertEqual(station.call("b", "StartTransaction", START)[0][2]["transactionId"], 1)
        self.assertEqual(station.event_types().count("SessionStarted"), 1)

    def test_other_tag_time_meter_or_connector_is_another_transaction(self) -> None:
        station = build_session(V16)
        changes: list[dict[str, Any]] = [
            {},
            {"connectorId": 2},
            {"idTag": "X"},
            {"meterStart": 7},
            {"timestamp": "2027-01-15T08:00:01Z"},
        ]
        numbers = {start(station, f"m-{index}", **change) for index, change in enumerate(changes)}
        self.assertEqual(len(numbers), len(changes))

    def test_blocked_tag_still_gets_an_id(self) -> None:
        station = build_session(V16, rules=BLOCKED)
        sent = station.call("a", "StartTransaction", START)
        self.assertEqual(sent, [[3, "a", {"transactionId": 1, "idTagInfo": {"status": "Blocked"}}]])
        self.assertEqual(station.event_types(), ["SessionStarted"])

    def test_refused_record_leaves_no_transaction_and_no_answer(self) -> None:
        station = build_session(V16, journal_waits=True)
        station.call("a", "StartTransaction", START)
        self.assertEqual(station.refuse(), [])
        self.assertEqual(station.state.transactions, {})
        station.connect()
        station.journal_waits = False
        self.assertEqual(start(station, "b"), 2)  # the id of the refused one is never given again


class Stopped16(SynchronousTestCase):
    def test_unknown_zero_and_negative_ids_are_orphans(self) -> None:
        station = build_session(V16)
        for number in (0, -1, 4711):
            sent = station.call(f"m{number}", "StopTransaction", stop(number))
            self.assertEqual(sent, [[3, f"m{number}", {}]])
            body = station.last_event()["payload"]
            self.assertEqual((body["transactionId"], body["orphaned"]), (number, True))
        self.assertEqual(station.event_types(), ["SessionStopped"] * 3)

    def test_tag_is_answered_only_where_there_is_one(self) -> None:
        station = build_session(V16, rules=BLOCKED)
        self.assertEqual(station.call("a", "StopTransaction", stop(1)), [[3, "a", {}]])
        sent = station.call("b", "StopTransaction", stop(2, idTag="TAG"))
        self.assertEqual(sent, [[3, "b", {"idTagInfo": {"status": "Blocked"}}]])

    def test_repeated_stop_is_answered_and_recorded_once(self) -> None:
        station = build_session(V16)
        number = start(station)
        for message_id in ("a", "b"):
            self.assertEqual(station.call(message_id, "StopTransaction", stop(number)), [[3, message_id, {}]])
        station.restart()
        self.assertEqual(station.call("c", "StopTransaction", stop(number)), [[3, "c", {}]])
        self.assertEqual(station.event_types(), ["SessionStarted", "SessionStopped"])

    def test_repeated_orphan_stop_is_recorded_once(self) -> None:
        station = build_session(V16)
        station.call("a", "StopTransaction", stop(-1))
        station.call("b", "StopTransaction", stop(-1))
        self.assertEqual(station.event_types(), ["SessionStopped"])

    def test_second_stop_with_other_content_is_recorded_and_flagged(self) -> None:
        station = build_session(V16)
        number = start(station)
        station.call("a", "StopTransaction", stop(number))
        self.assertNotIn("idempotent", station.last_event()["payload"])
        self.assertEqual(station.call("b", "StopTransaction", stop(number, meterStop=201)), [[3, "b", {}]])
        self.assertIs(station.last_event()["payload"]["idempotent"], True)
        self.assertEqual(station.event_types().count("SessionStopped"), 2)

    def test_two_orphans_of_one_id_are_no_repeats_of_each_other(self) -> None:
        station = build_session(V16)
        station.call("a", "StopTransaction", stop(-1))
        station.call("b", "StopTransaction", stop(-1, meterStop=999))
        bodies = [recorded["payload"] for recorded in station.events]
        self.assertEqual([(body["orphaned"], "idempotent" in body) for body in bodies], [(True, False)] * 2)

    def test_stop_below_the_start_and_days_late_is_taken(self) -> None:
        station = build_session(V16)
        number = start(station)
        late = stop(number, meterStop=1, timestamp="2026-01-01T00:00:00Z")
        self.assertEqual(station.call("a", "StopTransaction", late), [[3, "a", {}]])
        self.assertNotIn("orphaned", station.last_event()["payload"])

    def test_event_id_follows_from_the_content_alone(self) -> None:
        ids = []
        for epoch in (1, 2):
            station = build_session(V16)
            station.epoch = epoch
            station.connect()
            station.call(f"m{epoch}", "StopTransaction", stop(5))
            ids.append(station.last_event()["eventId"])
        self.assertEqual(ids[0], ids[1])

    def test_end_is_stored(self) -> None:
        station = build_session(V16)
        number = start(station)
        station.call("a", "StopTransaction", stop(number))
        row = station.store.rows[str(number)]
        self.assertEqual((row.started_at, row.ended_at), (station.now, station.now))


class MeterValues16(SynchronousTestCase):
    def test_without_a_transaction(self) -> None:
        station = build_session(V16)
        sent = station.call("a", "MeterValues", {"connectorId": 0, "meterValue": METER_VALUE})
        self.assertEqual(sent, [[3, "a", {}]])
        self.assertEqual(station.store.asked, [])
        self.assertNotIn("transactionId", station.last_event()["payload"])

    def test_unknown_transaction_is_an_orphan_and_the_store_is_asked_once(self) -> None:
        station = build_session(V16)
        meter = {"connectorId": 1, "transactionId": 99, "meterValue": METER_VALUE}
        for message_id in ("a", "b", "c"):
            self.assertEqual(station.call(message_id, "MeterValues", meter), [[3, message_id, {}]])
            self.assertIs(station.last_event()["payload"]["orphaned"], True)
        self.assertEqual(len(station.store.asked), 1)

    def test_transaction_of_before_a_restart_is_known(self) -> None:
        station = build_session(V16)
        number = start(station)
        station.restart()
        station.call("a", "MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": METER_VALUE})
        self.assertNotIn("orphaned", station.last_event()["payload"])


class Events2x(SynchronousTestCase):
    def test_whole_transaction(self) -> None:
        token = {"idToken": "TAG", "type": "ISO14443"}
        for version in (V201, V21):
            station = build_session(version)
            first = station.call("0", "TransactionEvent", event("Started", 0, idToken=token))
            self.assertEqual(first, [[3, "0", {"idTokenInfo": {"status": "Accepted"}}]])
            self.assertEqual(station.call("1", "TransactionEvent", event("Updated", 1)), [[3, "1", {}]])
            self.assertEqual(station.call("2", "TransactionEvent", event("Ended", 2)), [[3, "2", {}]])
            self.assertEqual(station.event_types(), ["SessionStarted", "SessionEvent", "SessionStopped"])
            for recorded in station.events:
                self.assertEqual(recorded["payload"]["transactionId"], "t-1")
                self.assertNotIn("orphaned", recorded["payload"])
            row = station.store.rows["t-1"]
            self.assertEqual((row.started_at, row.ended_at), (station.now, station.now))

    def test_repeat_under_a_new_id_is_answered_and_recorded_once(self) -> None:
        station = build_session(V201)
        messages = [event("Started", 0), event("Updated", 1), event("Ended", 2)]
        for number, message in enumerate(messages):
            station.call(f"first-{number}", "TransactionEvent", message)
        for number, message in enumerate(messages):
            sent = station.call(f"again-{number}", "TransactionEvent", message)
            self.assertEqual(sent, [[3, f"again-{number}", {}]])
        self.assertEqual(len(station.events), 3)

    def test_repeat_after_a_restart_is_recorded_once(self) -> None:
        station = build_session(V201)
        messages = [event("Started", 0), event("Updated", 1), event("Ended", 2)]
        for number, message in enumerate(messages):
            station.call(f"first-{number}", "TransactionEvent", message)
            station.restart()
            station.call(f"again-{number}", "TransactionEvent", message)
        self.assertEqual(station.event_types(), ["SessionStarted", "SessionEvent", "SessionStopped"])

    def test_same_number_with_other_content_is_recorded_and_flagged(self) -> None:
        station = build_session(V201)
        station.call("a", "TransactionEvent", event("Started", 0))
        station.call("b", "TransactionEvent", event("Updated", 1))
        station.call("c", "TransactionEvent", event("Updated", 1, timestamp="2027-01-15T09:00:00Z"))
        self.assertEqual(["idempotent" in one["payload"] for one in station.events], [False, False, True])

    def test_order_of_arrival_does_not_matter(self) -> None:
        station = build_session(V201)
        for number, kind in ((2, "Ended"), (1, "Updated"), (0, "Started")):
            self.assertEqual(
                station.call(f"m{number}", "TransactionEvent", event(kind, number)), [[3, f"m{number}", {}]]
            )
        self.assertEqual(station.event_types(), ["SessionStopped", "SessionEvent", "SessionStarted"])
        self.assertEqual(["orphaned" in one["payload"] for one in station.events], [True, True, False])
        row = station.store.rows["t-1"]
        self.assertEqual((row.started_at, row.ended_at), (station.now, station.now))

    def test_unknown_transaction_is_an_orphan(self) -> None:
        station = build_session(V201)
        for kind, name in (("Ended", "t-8"), ("Updated", "t-9")):
            self.assertEqual(station.call(name, "TransactionEvent", event(kind, 40, name)), [[3, name, {}]])
            self.assertIs(station.last_event()["payload"]["orphaned"], True)

    def test_numbers_may_start_anywhere_and_go_back(self) -> None:
        station = build_session(V201)
        for message_id, message in (("a", event("Started", 40)), ("b", event("Updated", 0))):
            self.assertEqual(station.call(message_id, "TransactionEvent", message), [[3, message_id, {}]])
        self.assertEqual(["orphaned" in one["payload"] for one in station.events], [False, False])

    def order(self, station: Station) -> list[tuple[int | None, bool]]:
        bodies = [one["payload"] for one in station.events]
        return [(body.get("expectedSeqNo"), body.get("outOfOrder", False)) for body in bodies]

    def test_a_gap_is_flagged_once_and_what_comes_late_is_out_of_order(self) -> None:
        station = build_session(V201)
        for number, kind in ((40, "Started"), (41, "Updated"), (44, "Updated"), (45, "Updated"), (42, "Updated")):
            station.call(f"m{number}", "TransactionEvent", event(kind, number))
        station.call("end", "TransactionEvent", event("Ended", 50))
        self.assertEqual(
            self.order(station), [(None, False), (None, False), (42, False), (None, False), (None, True), (46, False)]
        )

    def test_an_end_before_its_start_is_no_gap(self) -> None:
        station = build_session(V21)
        station.call("a", "TransactionEvent", event("Ended", 7))
        station.call("b", "TransactionEvent", event("Started", 5))
        station.call("c", "TransactionEvent", event("Updated", 6))
        station.call("d", "TransactionEvent", event("Updated", 8))
        self.assertEqual(self.order(station), [(None, False), (None, True), (None, True), (None, False)])

    def test_what_the_store_knows_only_in_part_makes_no_gap(self) -> None:
        station = build_session(V201)
        for number, kind in ((0, "Started"), (1, "Updated"), (2, "Updated")):
            station.call(f"m{number}", "TransactionEvent", event(kind, number))
        station.state.transactions.clear()  # another node: the store was not told of the updates
        station.call("next", "TransactionEvent", event("Updated", 3))
        station.call("gap", "TransactionEvent", event("Updated", 5))
        self.assertEqual(self.order(station)[3:], [(None, False), (4, False)])

    def test_blocked_token_is_told_by_status_and_not_by_an_error(self) -> None:
        station = build_session(V201, rules=BLOCKED)
        message = event("Started", 0, idToken={"idToken": "TAG", "type": "ISO14443"})
        sent = station.call("a", "TransactionEvent", message)
        self.assertEqual(sent, [[3, "a", {"idTokenInfo": {"status": "Blocked"}}]])

    def test_offline_event_moves_no_live_state(self) -> None:
        station = build_session(V201)
        station.call("a", "TransactionEvent", event("Started", 0, offline=True, evse={"id": 1, "connectorId": 1}))
        self.assertEqual(station.state.connectors, {})
        self.assertIs(station.last_event()["payload"]["payload"]["offline"], True)

    def test_connector_of_the_evse_is_the_events_connector(self) -> None:
        station = build_session(V201)
        station.call("a", "TransactionEvent", event("Started", 0, evse={"id": 1, "connectorId": 2}))
        self.assertEqual(station.last_event()["connectorId"], 2)

    def test_event_id_follows_from_the_content_alone(self) -> None:
        ids = set()
        for message_id in ("a", "b"):
            station = build_session(V201)
            station.call("boot", "Heartbeat", {})
            station.call(message_id, "TransactionEvent", event("Started", 0))
            ids.add(station.last_event()["eventId"])
        self.assertEqual(len(ids), 1)

    def test_memory_of_an_endless_transaction_is_bounded(self) -> None:
        station = build_session(V201)
        station.call("s", "TransactionEvent", event("Started", 0))
        for number in range(1, 100):
            station.call(f"u{number}", "TransactionEvent", event("Updated", number))
        self.assertLessEqual(len(station.state.transactions["t-1"].records), 16)

    def test_many_transactions_are_forgotten_here_and_found_in_the_store(self) -> None:
        station = build_session(V201)
        for number in range(200):
            station.call(f"s{number}", "TransactionEvent", event("Started", 0, f"t-{number}"))
        self.assertLessEqual(len(station.state.transactions), 64)
        station.call("e", "TransactionEvent", event("Ended", 1, "t-0"))
        self.assertNotIn("orphaned", station.last_event()["payload"])

"""The auditor of the fault runs finds what it is there to find."""

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.chaos.auditor import Answered, audit

STATUS = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
STATION_EVENTS, SESSION_EVENTS = "ocpp.station.events", "ocpp.session.events"


def start(meter: int = 0) -> dict[str, Any]:
    return {"connectorId": 1, "idTag": "T", "meterStart": meter, "timestamp": "2026-11-25T08:00:00Z"}


def call(message_id: str, at: float, action: str = "StatusNotification", **members: Any) -> Answered:
    """Answered at `at`, half a second after it was sent."""
    facts: dict[str, Any] = {
        "station": "CP-1",
        "payload": start() if action == "StartTransaction" else STATUS,
        "transaction_id": None,
        "connection": 1,
        "first_sent_at": at - 0.5,
        "sent_at": at - 0.5,
        **members,
    }
    return Answered(message_id=message_id, action=action, answered_at=at, **facts)


def stored(of: Answered, **members: Any) -> dict[str, Any]:
    """What Kafka should hold of a CALL."""
    payload = {"action": of.action, "payload": of.payload, "messageId": of.message_id, "nodeId": "n", "epoch": 1}
    if of.action == "StartTransaction":
        payload["transactionId"] = of.transaction_id
    return {
        "topic": SESSION_EVENTS if of.action == "StartTransaction" else STATION_EVENTS,
        "eventId": f"event-{of.station}-{of.message_id}",
        "eventType": "SomethingHappened",
        "chargePointId": of.station,
        "payload": payload,
        **members,
    }


def ended(command_id: str, event_type: str = "CommandAccepted", event_id: str = "") -> dict[str, Any]:
    return {
        "topic": "ocpp.command.events",
        "eventId": event_id or f"{command_id}-{event_type}",
        "eventType": event_type,
        "correlationId": command_id,
        "chargePointId": "CP-1",
        "payload": {"commandType": "Reset"},
    }


class AuditorCase(SynchronousTestCase):
    def assert_found(
        self, pattern: str, calls: Sequence[Answered], records: Sequence[dict[str, Any]], commands: Sequence[str] = ()
    ) -> None:
        """One violation, which is this one."""
        [violation] = audit(calls, commands, records).violations
        self.assertRegex(violation, pattern)

    def assert_clean(
        self, calls: Sequence[Answered], records: Sequence[dict[str, Any]], commands: Sequence[str] = ()
    ) -> None:
        self.assertEqual(audit(calls, commands, records).violations, [])


class AnsweredCalls(AuditorCase):
    def setUp(self) -> None:
        self.calls = [call("a", 1.0), call("b", 2.0), call("c", 3.0)]
        self.records = [stored(each) for each in self.calls]

    def test_all_is_well(self) -> None:
        self.assert_clean(self.calls, self.records)

    def test_one_that_is_lost(self) -> None:
        del self.records[1]
        self.assert_found(
            "CP-1: StatusNotification b, answered at 2.000, is in Kafka 0 times", self.calls, self.records
        )

    def test_the_last_one_is_lost(self) -> None:
        self.assert_found("c, .* is in Kafka 0 times", self.calls, self.records[:2])

    def test_another_stations_record_does_not_count(self) -> None:
        self.records[1]["chargePointId"] = "CP-2"
        self.assert_found("b, .* is in Kafka 0 times", self.calls, self.records)

    def test_one_that_is_there_twice_under_two_event_ids(self) -> None:
        again = stored(self.calls[1], eventId="another")
        self.assert_found("b, .* is in Kafka 2 times", self.calls, [*self.records, again])

    def test_repeats_with_the_same_event_id_are_dropped_wherever_they_are(self) -> None:
        records = [*self.records, *self.records[:2]]
        self.assert_clean(self.calls, records)
        self.assertEqual(audit(self.calls, [], records).duplicates, 2)

    def test_one_event_id_for_two_events(self) -> None:
        self.records[2]["eventId"] = self.records[1]["eventId"]
        found = audit(self.calls, [], self.records).violations
        self.assertRegex(found[0], "eventId event-CP-1-b is of two different events")
        self.assertRegex(found[1], "c, .* is in Kafka 0 times")

    def test_a_wrong_order(self) -> None:
        first, second, third = self.records
        self.assert_found(
            "holds StatusNotification b, answered at 2.000, behind StatusNotification c, answered at 3.000",
            self.calls,
            [first, third, second],
        )

    def test_where_two_nodes_had_events_their_epochs_and_sequences_are_the_order(self) -> None:
        first, second, third = (stored(each) for each in self.calls[:3])
        for record, place in ((first, (1, 7)), (second, (1, 8)), (third, (2, 1))):
            record["payload"]["epoch"], record["payload"]["sequence"] = place
        records = [third, first, second]
        self.assertNotEqual(audit(self.calls[:3], [], records).violations, [])
        self.assertEqual(audit(self.calls[:3], [], records, as_sorted=True).violations, [])
        second["payload"]["sequence"] = 6
        self.assertEqual(len(audit(self.calls[:3], [], records, as_sorted=True).violations), 1)

    def test_the_order_of_answers_counts_and_not_that_of_the_log(self) -> None:
        self.assert_clean(self.calls[::-1], self.records)

    def test_stations_and_topics_have_orders_of_their_own(self) -> None:
        other, begun = call("d", 1.5, station="CP-2"), call("e", 1.7, "StartTransaction", transaction_id=7)
        self.assert_clean([*self.calls, other, begun], [stored(begun), *self.records, stored(other)])

    def test_one_that_was_stored_and_never_answered_may_be_there(self) -> None:
        unanswered = call("x", 9.0)
        self.assert_clean(self.calls, [self.records[0], stored(unanswered), *self.records[1:]])

    def test_other_content(self) -> None:
        self.records[1]["payload"]["payload"] = {**STATUS, "status": "Faulted"}
        self.assert_found("b, .* is in Kafka as .*Faulted", self.calls, self.records)

    def test_the_slowest_is_counted_from_the_first_attempt(self) -> None:
        late = call("d", 9.0, first_sent_at=4.0)
        self.assertEqual(audit([*self.calls, late], [], [*self.records, stored(late)]).slowest, 5.0)


class Transactions(AuditorCase):
    def assert_starts(self, pattern: str, *starts: Answered) -> None:
        self.assert_found(pattern, starts, [stored(each) for each in starts])

    def start(self, message_id: str, at: float, number: int, **members: Any) -> Answered:
        return call(message_id, at, "StartTransaction", transaction_id=number, **members)

    def test_each_has_its_own_id(self) -> None:
        starts = [self.start("a", 1.0, 1), self.start("b", 2.0, 2, payload=start(5)), call("c", 3.0)]
        self.assert_clean(starts, [stored(each) for each in starts])

    def test_one_id_for_two_of_a_station(self) -> None:
        self.assert_starts(
            "transactionId 1 was given to 2 transactions",
            self.start("a", 1.0, 1),
            self.start("b", 2.0, 1, payload=start(5)),
        )

    def test_one_id_for_two_stations(self) -> None:
        self.assert_starts(
            "transactionId 1 was given to 2", self.start("a", 1.0, 1), self.start("b", 2.0, 1, station="CP-2")
        )

    def test_two_ids_for_one(self) -> None:
        self.assert_starts(
            r"CP-1: one StartTransaction got the ids \[1, 2\]", self.start("a", 1.0, 1), self.start("b", 2.0, 2)
        )

    def test_an_id_that_only_kafka_knows(self) -> None:
        """Its answer never arrived; the id is given all the same."""
        answered, lost = self.start("a", 1.0, 1), self.start("b", 2.0, 1, payload=start(5))
        self.assert_found("transactionId 1 was given to 2", [answered], [stored(answered), stored(lost)])

    def test_another_id_in_kafka(self) -> None:
        begun = self.start("a", 1.0, 1)
        record = stored(begun)
        record["payload"]["transactionId"] = 2
        found = audit([begun], [], [record]).violations
        self.assertRegex(found[0], "a, .* got the id 1 and is in Kafka with 2")
        self.assertRegex(found[1], r"one StartTransaction got the ids \[1, 2\]")


class Connections(AuditorCase):
    def assert_connections(self, pattern: str, *calls: Answered) -> None:
        records = [stored(each) for each in calls]
        if pattern:
            self.assert_found(pattern, calls, records)
        else:
            self.assert_clean(calls, records)

    def test_one_after_the_other(self) -> None:
        self.assert_connections("", call("a", 1.0), call("b", 2.0, connection=2), call("c", 3.0, connection=3))

    def test_the_older_one_answers_what_was_sent_after_the_newer_one_had_answered(self) -> None:
        self.assert_connections(
            "connection 1 answered c, sent at 2.500, though connection 2 had answered at 2.000",
            call("a", 1.0),
            call("b", 2.0, connection=2),
            call("c", 3.0, connection=1, is_probe=True),
        )

    def test_an_answer_that_was_under_way_meanwhile_proves_nothing(self) -> None:
        self.assert_connections(
            "",
            call("a", 1.0),
            call("b", 2.0, connection=2),
            call("c", 3.0, connection=1, sent_at=1.9, is_probe=True),
        )

    def test_another_stations_connections_are_its_own(self) -> None:
        self.assert_connections("", call("b", 2.0, connection=2), call("c", 3.0, station="CP-2"))

    def test_answered_probes_are_in_kafka_too_in_any_order(self) -> None:
        first, probe, last = call("a", 1.0), call("p", 1.5, is_probe=True), call("b", 2.0)
        self.assert_clean([first, probe, last], [stored(first), stored(last), stored(probe)])
        self.assert_found("p, .* is in Kafka 0 times", [first, probe, last], [stored(first), stored(last)])


class Commands(AuditorCase):
    def test_each_ends_once(self) -> None:
        routed = {**ended("k-1"), "eventType": "CommandRouted", "eventId": "routed"}
        self.assert_clean([], [routed, ended("k-1"), ended("k-1"), ended("k-2", "CommandTimeout")], ["k-1", "k-2"])

    def test_one_without_an_end(self) -> None:
        duplicate = {**ended("k-2"), "eventType": "CommandDuplicate"}
        self.assert_found("command k-2 has 0 terminal events", [], [ended("k-1"), duplicate], ["k-1", "k-2"])

    def test_two_ends(self) -> None:
        self.assert_found(
            "command k-1 has 2 terminal events", [], [ended("k-1"), ended("k-1", "CommandTimeout")], ["k-1"]
        )

    def test_the_same_end_twice_under_two_event_ids(self) -> None:
        self.assert_found(
            "command k-1 has 2 terminal events", [], [ended("k-1"), ended("k-1", event_id="other")], ["k-1"]
        )

    def test_two_ends_of_one_that_was_not_written_for_certain(self) -> None:
        self.assert_found("command k-9 has 2", [], [ended("k-9"), ended("k-9", "CommandFailed")])

    def test_written_twice_it_counts_once(self) -> None:
        self.assertEqual(audit([], ["k-1", "k-1"], [ended("k-1")]).commands, 1)

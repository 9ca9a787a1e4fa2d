"""Events as their readers see them: whole JSON documents, with ids that are the same for the same thing."""

import uuid
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.events import EventWriter, command_event, name_based_id
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import COMMAND, SESSION, STATION

NOW = 1_800_000_000.5


def writer(epoch: int = 3, charge_point_id: str = "CP-1") -> EventWriter:
    return EventWriter(charge_point_id, 'station "1"', "tenant-é", "2.0.1", "node-1", epoch)


def document(record: Record) -> Any:
    return msgspec.json.decode(record.value)


class CallEvents(SynchronousTestCase):
    def test_whole_event(self) -> None:
        record = writer().call(
            STATION,
            "ConnectorStatusChanged",
            NOW,
            "StatusNotification",
            b'{"connectorId":2}',
            b'"m\\"1"',
            connector_id=2,
            extra=b',"status":"Available"',
        )
        self.assertEqual((record.topic, record.key), (STATION, 'station "1"'))
        event = document(record)
        self.assertEqual(uuid.UUID(event.pop("eventId")).version, 8)
        self.assertEqual(
            event,
            {
                "eventType": "ConnectorStatusChanged",
                "source": "ocpp-gateway",
                "occurredAt": "2027-01-15T08:00:00.500Z",
                "stationId": 'station "1"',
                "tenantId": "tenant-é",
                "chargePointId": "CP-1",
                "ocppVersion": "2.0.1",
                "connectorId": 2,
                "payload": {
                    "action": "StatusNotification",
                    "payload": {"connectorId": 2},
                    "messageId": 'm"1',
                    "status": "Available",
                    "nodeId": "node-1",
                    "epoch": 3,
                    "sequence": 1,
                },
            },
        )

    def test_without_a_connector_there_is_no_such_member(self) -> None:
        event = document(writer().call(STATION, "StationHeartbeat", NOW, "Heartbeat", b"{}", b'"m"'))
        self.assertNotIn("connectorId", event)

    def test_connector_zero_is_a_connector(self) -> None:
        record = writer().call(STATION, "X", NOW, "X", b"{}", b'"m"', connector_id=0)
        self.assertEqual(document(record)["connectorId"], 0)

    def test_sequence_counts_the_records_of_a_connection(self) -> None:
        events = writer()
        sequences = [
            document(events.call(STATION, "X", NOW, "X", b"{}", b'"m"'))["payload"]["sequence"] for _ in range(3)
        ]
        self.assertEqual(sequences, [1, 2, 3])

    def test_ids_follow_from_charger_epoch_and_sequence(self) -> None:
        def ids(events: EventWriter) -> list[str]:
            return [document(events.call(STATION, "X", NOW, "X", b"{}", b'"m"'))["eventId"] for _ in range(3)]

        self.assertEqual(ids(writer()), ids(writer()))
        every = ids(writer()) + ids(writer(epoch=4)) + ids(writer(charge_point_id="CP-2"))
        self.assertEqual(len(set(every)), 9)

    def test_given_event_id_is_taken(self) -> None:
        events = writer()
        content = events.content_id("StopTransaction", b"{}")
        record = events.call(SESSION, "SessionStopped", NOW, "StopTransaction", b"{}", b'"m"', event_id=content)
        self.assertEqual(document(record)["eventId"], content)


class ContentIds(SynchronousTestCase):
    def test_same_content_has_the_same_id_on_every_connection(self) -> None:
        self.assertEqual(writer(1).content_id("X", b'{"a":1}'), writer(2).content_id("X", b'{"a":1}'))

    def test_charger_action_and_content_make_the_id(self) -> None:
        ids = {
            writer().content_id("X", b'{"a":1}'),
            writer().content_id("X", b'{"a":2}'),
            writer().content_id("Y", b'{"a":1}'),
            writer(charge_point_id="CP-2").content_id("X", b'{"a":1}'),
        }
        self.assertEqual(len(ids), 4)

    def test_it_is_a_uuid_of_version_8(self) -> None:
        made = uuid.UUID(writer().content_id("X", b"{}"))
        self.assertEqual((made.version, made.variant), (8, uuid.RFC_4122))

    def test_parts_are_kept_apart(self) -> None:
        self.assertNotEqual(name_based_id("ab", "c"), name_based_id("a", "bc"))


class OwnEvents(SynchronousTestCase):
    def test_members_and_position(self) -> None:
        event = document(writer().own("StationConnected", NOW, {"address": "192.0.2.1"}))
        self.assertEqual(event["eventType"], "StationConnected")
        self.assertEqual(event["payload"], {"address": "192.0.2.1", "nodeId": "node-1", "epoch": 3, "sequence": 1})

    def test_without_members_it_is_still_a_document(self) -> None:
        self.assertEqual(document(writer().own("StationConnected", NOW, {}))["payload"]["sequence"], 1)

    def test_own_and_call_events_share_one_sequence(self) -> None:
        events = writer()
        first = document(events.own("StationConnected", NOW, {"a": 1}))
        second = document(events.call(STATION, "X", NOW, "X", b"{}", b'"m"'))
        self.assertEqual((first["payload"]["sequence"], second["payload"]["sequence"]), (1, 2))
        self.assertNotEqual(first["eventId"], second["eventId"])


class CommandEvents(SynchronousTestCase):
    COMMAND: dict[str, Any] = {  # noqa: RUF012  read only
        "commandId": "c-1",
        "commandType": "Reset",
        "chargePointId": "CP-1",
        "stationId": "station-1",
        "tenantId": None,
    }

    def test_whole_event(self) -> None:
        record = command_event("CommandAccepted", self.COMMAND, NOW, {"status": "Accepted"}, "node-1")
        self.assertEqual((record.topic, record.key), (COMMAND, "CP-1"))
        event = document(record)
        self.assertEqual(event["correlationId"], "c-1")
        self.assertEqual(event["payload"], {"commandType": "Reset", "status": "Accepted", "nodeId": "node-1"})
        self.assertNotIn("tenantId", event)

    def test_id_follows_from_command_and_type(self) -> None:
        def event_id(event_type: str, repeat: str = "") -> str:
            record = command_event(event_type, self.COMMAND, NOW, {}, "node-1", repeat=repeat)
            made: str = document(record)["eventId"]
            return made

        self.assertEqual(event_id("CommandAccepted"), event_id("CommandAccepted"))
        ids = {event_id("CommandAccepted"), event_id("CommandFailed"), event_id("CommandDuplicate", "2")}
        self.assertEqual(len(ids), 3)


class Timestamps(SynchronousTestCase):
    def test_utc_with_milliseconds(self) -> None:
        self.assertEqual(rfc3339(NOW), b"2027-01-15T08:00:00.500Z")
        self.assertEqual(rfc3339(0.0), b"1970-01-01T00:00:00.000Z")

    def test_milliseconds_never_reach_the_next_second(self) -> None:
        self.assertEqual(rfc3339(1_800_000_000.9999), b"2027-01-15T08:00:00.999Z")

    def test_seconds_may_come_in_any_order(self) -> None:
        self.assertEqual(
            [rfc3339(second) for second in (10.0, 5.0, 10.25)],
            [b"1970-01-01T00:00:10.000Z", b"1970-01-01T00:00:05.000Z", b"1970-01-01T00:00:10.250Z"],
        )

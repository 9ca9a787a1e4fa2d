"""schemas/: the AsyncAPI document and the JSON Schemas it leads to, against each other and against the code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from jsonschema import Draft7Validator, Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.config import Settings
from ocppgw.errors import CommandError
from ocppgw.fleet_ports import Claim, NodeRow, SessionRow
from ocppgw.ocpp.audit import Audit, identity_event, revocation_event
from ocppgw.ocpp.deadletters import command_letter, event_letter
from ocppgw.ocpp.effects import CommandResult, Record
from ocppgw.ocpp.events import EventWriter, command_event
from ocppgw.ocpp.outcomes import Outcome, event_type
from ocppgw.ocpp.versions import SESSION, STATION, VERSIONS
from ocppgw.ports import CommandRecord
from ocppgw.routing import control
from ocppgw.routing.requests import CommandRequest
from ocppgw.routing.results import payload_of
from tests import record_watch
from tests.asyncapi import DOCUMENT, SCHEMAS, Contract, JsonObject, at, channel_of, closed, kinds_in

NOW = 1_795_593_600.5
KEY = "station-1"
STATIONS, SESSIONS, COMMANDS = "ocpp.station.events", "ocpp.session.events", "ocpp.command.events"
AUDITS, LETTERS, CONTROL = "cpms.audit.events", "cpms.command.dead_letters", "ocpp.session.control.node.node-1"
PREFIX = "urn:ocppgw:schema:"
ROOT_MEMBERS = {"asyncapi", "id", "info", "defaultContentType", "servers", "channels", "operations", "components"}
CHANNEL_MEMBERS = {"address", "title", "description", "parameters", "messages", "x-topic-setting"}


def schema_files() -> list[Path]:
    return sorted(SCHEMAS.glob("*.schema.json"))


def load(name: str) -> JsonObject:
    loaded: JsonObject = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return loaded


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from references(one)


class Document(SynchronousTestCase):
    def setUp(self) -> None:
        self.document: JsonObject = json.loads(DOCUMENT.read_text())
        self.contract = Contract(self.document)

    def test_has_the_shape_of_asyncapi_3(self) -> None:
        self.assertEqual(self.document["asyncapi"], "3.0.0")
        self.assertEqual(self.document.keys() - ROOT_MEMBERS, set())
        self.assertTrue({"title", "version"} <= self.document["info"].keys())
        for name, channel in self.document["channels"].items():
            self.assertEqual(channel.keys() - CHANNEL_MEMBERS, set(), name)
            named = set(channel.get("parameters", {}))
            self.assertEqual({part[:-1] for part in channel["address"].split("{")[1:]}, named, name)

    def test_every_reference_leads_somewhere(self) -> None:
        for reference in references(self.document):
            self.assertIsInstance(at(*self.contract.resolved(reference)), dict, reference)
        for path in schema_files():
            whole = json.loads(path.read_text())
            for reference in references(whole):
                self.assertEqual(reference[:2], "#/", path)  # tools that load one file need no other
                self.assertIsInstance(at(whole, reference[1:]), dict, f"{path}: {reference}")

    def test_every_operation_is_about_a_channel_and_every_channel_has_one(self) -> None:
        used = {operation["channel"]["$ref"] for operation in self.document["operations"].values()}
        self.assertEqual(used, {f"#/channels/{name}" for name in self.document["channels"]})
        actions = {operation["action"] for operation in self.document["operations"].values()}
        self.assertEqual(actions, {"send", "receive"})

    def test_every_message_stands_on_a_channel_and_has_a_schema_of_a_file(self) -> None:
        messages = self.document["components"]["messages"]
        channels = self.document["channels"].values()
        used = {message["$ref"] for channel in channels for message in channel["messages"].values()}
        self.assertEqual(used, {f"#/components/messages/{name}" for name in messages})
        for name, message in messages.items():
            self.assertEqual(message["payload"]["$ref"][:2], "./", name)

    def test_every_topic_of_the_configuration_is_a_channel_under_its_default_name(self) -> None:
        kafka = Settings().kafka
        named = {name: getattr(kafka, name) for name in type(kafka).model_fields if name.startswith("topic_")}
        shown: dict[str, set[str]] = {}
        for channel in self.document["channels"].values():
            setting = channel["x-topic-setting"].removeprefix("kafka.")
            shown.setdefault(setting, set()).add(channel["address"].removesuffix(".node.{nodeId}"))
        self.assertEqual(shown["topic_session_control"], {"ocpp.session.control"})
        for setting, name in named.items():
            self.assertEqual(shown[setting], {name})

    def test_every_channel_is_found_by_its_default_name(self) -> None:
        for name, channel in self.document["channels"].items():
            # What backends write is not held against anything.
            wanted = "" if name in ("commandRequests", "callResponses") else name
            self.assertEqual(channel_of(channel["address"].replace("{nodeId}", "node-1")), wanted)

    def test_no_two_messages_of_a_channel_have_the_same_kind(self) -> None:
        for name, channel in self.document["channels"].items():
            schemas = [at(*self.contract.resolved(one["$ref"])) for one in channel["messages"].values()]
            parts = [at(*self.contract.resolved(one["payload"]["$ref"])) for one in schemas]
            kinds = [kind for part in parts for kind in kinds_in(part) if kind]
            self.assertEqual(len(kinds), len(set(kinds)), name)


class SchemaFiles(SynchronousTestCase):
    def test_are_valid_schemas_named_like_their_files(self) -> None:
        for path in schema_files():
            schema = json.loads(path.read_text())
            Draft202012Validator.check_schema(schema)
            if path.name != "configuration.schema.json":
                self.assertEqual(schema["$id"], PREFIX + path.name.removesuffix(".schema.json"))

    def test_those_of_records_mean_the_same_to_tools_that_know_draft_7_only(self) -> None:
        """AsyncAPI's own schema language is draft 7's."""
        for name in ("domain-event", "session-control", "dead-letter", "command-request", "call-request"):
            schema = load(name)
            old = {member: value for member, value in schema.items() if member != "$schema"}
            Draft7Validator.check_schema(old)
            for example in schema["examples"]:
                self.assertTrue(Draft7Validator(old).is_valid(example), example)
                self.assertFalse(Draft7Validator(old).is_valid({**example, "chargePointId": 7, "record": 7}), name)

    def test_examples_are_valid_and_hold_described_members_only(self) -> None:
        for path in schema_files():
            schema = json.loads(path.read_text())
            for example in schema.get("examples", ()):
                Draft202012Validator(closed(schema)).validate(example)

    def test_every_member_is_described_or_speaks_for_itself(self) -> None:
        """A $ref beside it counts; this finds the empty schema that was forgotten."""
        for path in schema_files():
            whole = json.loads(path.read_text())
            parts = {"": whole, **whole.get("$defs", {})}
            empty = [(n, m) for n, part in parts.items() for m, s in part.get("properties", {}).items() if s == {}]
            self.assertEqual(empty, [], path)


class Records(SynchronousTestCase):
    """What the code writes, held against the document."""

    def setUp(self) -> None:
        self.contract = record_watch.contract()
        self.writer = EventWriter("CP-1", KEY, "tenant", "1.6J", "node-1", 217_642_600)

    def assert_right(self, topic: str, record: Record) -> None:
        self.assertEqual(self.contract.fault(topic, record.key, json.loads(record.value)), "")

    def test_every_event_type_of_the_versions_is_in_its_channel_and_no_other(self) -> None:
        specs = [spec for version in VERSIONS for spec in version.actions.values() if spec.event_type]
        own = {"StationConnected", "StationDisconnected", "SerialNumberMismatch", "InvalidMessageReceived"}
        own |= {"ReportCompleted", "OperationCancelled"}
        wanted = {spec.event_type for spec in specs if spec.topic == STATION}
        self.assertEqual(self.contract.kinds("stationEvents"), wanted | own)
        wanted = {spec.event_type for spec in specs if spec.topic == SESSION}
        started = {"SessionStarted", "SessionStopped", "InvalidMessageReceived"}
        self.assertEqual(self.contract.kinds("sessionEvents"), wanted | started)

    def test_messages_of_stations(self) -> None:
        for extra in (b"", b',"status":"Pending"', b',"status":"Rejected","fault":"no"'):
            record = self.writer.call(STATION, "StationBooted", NOW, "BootNotification", b"{}", b'"1"', extra=extra)
            self.assert_right(STATIONS, record)
        extra = b',"transactionId":7,"orphaned":true,"idempotent":true'
        record = self.writer.call(
            SESSION, "SessionStopped", NOW, "StopTransaction", b"{}", b'"1"', extra=extra, connector_id=1
        )
        self.assert_right(SESSIONS, record)

    def test_the_gateways_own_events(self) -> None:
        facts = {"address": "127.0.0.1", "subprotocol": "ocpp1.6"}
        self.assert_right(STATIONS, self.writer.own("StationConnected", NOW, facts))
        for code in (1000, None):
            record = self.writer.own("StationDisconnected", NOW, {"code": code, "reason": "gone"})
            self.assert_right(STATIONS, record)

    def test_every_end_of_a_command(self) -> None:
        results = [CommandResult(outcome, "Status", {"status": "Status"}, "Code", "why", {}) for outcome in Outcome]
        for result in results:
            self.assert_right(COMMANDS, self.command_event(event_type(result.outcome), payload_of(result)))
            self.assert_right(COMMANDS, self.command_event("CommandLateResult", payload_of(result)))
        timeout = CommandResult(Outcome.UNKNOWN, error_code="Timeout", error_description="no answer")
        self.assert_right(COMMANDS, self.command_event(event_type(Outcome.UNKNOWN, True), payload_of(timeout)))

    def test_a_commands_progress(self) -> None:
        self.assert_right(COMMANDS, self.command_event("CommandRouted", {}))
        self.assert_right(COMMANDS, self.command_event("CommandDispatched", {"action": "Reset", "messageId": "1"}))
        self.assert_right(COMMANDS, self.command_event("CommandDuplicate", {"status": "Sent"}))

    def command_event(self, kind: str, payload: JsonObject) -> Record:
        command = {"commandId": "c-1", "commandType": "Reset", "chargePointId": "CP-1", "ocppVersion": "2.1"}
        return command_event(kind, command, NOW, payload, "node-1")

    def test_audit_events(self) -> None:
        identity = {"chargePointId": "CP-1", "stationId": KEY, "tenantId": "tenant"}
        payload = {"change": "secret-rotated", "status": "active", "kind": "secret", "immediately": True}
        record = identity_event("ChargerIdentityUpserted", identity, payload, Audit(), NOW, "node-1", "u")
        self.assert_right(AUDITS, record)
        self.assert_right(AUDITS, identity_event("ChargerIdentityDeleted", identity, {}, Audit(), NOW, "node-1", "u"))
        self.assert_right(AUDITS, revocation_event("AB" * 32, Audit(), NOW, "node-1", "u"))

    def test_dead_letters(self) -> None:
        fault = CommandError("the record is no JSON object", hint="send one", code="BadJson")
        password = b'{"password": "secret"}'
        for value in (b"[]", b"\xff", b"x" * 200_000, password):
            letter = command_letter(fault, "t", 0, 7, b"CP-1", value, {}, NOW, "node-1")
            self.assert_right(LETTERS, letter)
            written = event_letter(fault, "t", KEY, 9, value, NOW)
            self.assertEqual(self.contract.fault(LETTERS, KEY, json.loads(written)), "")

    def test_messages_between_nodes(self) -> None:
        row = SessionRow("CP-1", "2.1", "node-1", KEY, "tenant", "", 0, "", 0, 217_642_600)
        prove = control.prove_session(row, "challenge", "node-2", "control.node.node-2", NOW)
        proofs = [control.session_proof(prove, "node-1", state, NOW) for state in ("asking", "alive", "dead")]
        force = control.force_disconnect(Claim("CP-1", 5), "node-1", "node-2", "moved", NOW)
        for message in (prove, force, *proofs):
            self.assertEqual(self.contract.fault(CONTROL, "CP-1", message), "")

    def test_a_command_that_is_handed_on(self) -> None:
        request = {"commandId": "c-1", "commandType": "Reset", "chargePointId": "CP-1", "known": "to the backend"}
        handed = {**request, "routing": {"viaNodeId": "node-1", "hops": 1}}
        topic = "cpms.command.requests.node.node-2"
        self.assertEqual(self.contract.fault(topic, "CP-1", handed), "")
        self.assertIn("hops", self.contract.fault(topic, "CP-1", {**handed, "routing": {"viaNodeId": "node-1"}}))
        self.assertIn("its key", self.contract.fault(topic, "", handed))


class WrongRecords(SynchronousTestCase):
    """The watch finds what is wrong: a watch that finds nothing would always be content."""

    def setUp(self) -> None:
        self.contract = record_watch.contract()
        writer = EventWriter("CP-1", KEY, "tenant", "1.6J", "node-1", 1)
        record = writer.call(STATION, "StationHeartbeat", NOW, "Heartbeat", b"{}", b'"1"')
        self.event: JsonObject = json.loads(record.value)

    def changed(self, **members: Any) -> str:
        return self.contract.fault(STATIONS, KEY, {**self.event, **members})

    def test_a_right_one_has_no_fault(self) -> None:
        self.assertEqual(self.changed(), "")

    def test_members_that_are_wrong_missing_or_not_described(self) -> None:
        self.assertIn("eventId", self.changed(eventId="1"))
        self.assertIn("occurredAt", self.changed(occurredAt="2026-11-25 08:00:00"))
        self.assertIn("surprise", self.changed(surprise=1))
        self.assertIn("surprise", self.changed(payload={**self.event["payload"], "surprise": 1}))
        self.assertIn("sequence", self.changed(payload={**self.event["payload"], "sequence": "1"}))
        self.assertIn(
            "messageId", self.changed(payload={k: v for k, v in self.event["payload"].items() if k[0] != "m"})
        )

    def test_an_event_on_another_topic_or_under_another_key(self) -> None:
        self.assertIn("no message 'StationHeartbeat'", self.contract.fault(SESSIONS, KEY, self.event))
        self.assertIn("its key is 'CP-1'", self.contract.fault(STATIONS, "CP-1", self.event))

    def test_what_is_no_object_or_of_no_known_kind(self) -> None:
        for value in (None, [], "x"):
            self.assertIn("no JSON object", self.contract.fault(STATIONS, KEY, value))
        self.assertIn("no message 'Novelty'", self.changed(eventType="Novelty"))
        self.assertIn("no message", self.changed(eventType=7))

    def test_an_outcome_that_does_not_suit_its_event(self) -> None:
        command = {"commandId": "c", "commandType": "Reset", "chargePointId": "CP-1"}
        wrong = payload_of(CommandResult(Outcome.REJECTED))
        event = command_event("CommandAccepted", command, NOW, wrong, "node-1")
        self.assertIn("outcome", self.contract.fault(COMMANDS, "CP-1", json.loads(event.value)))

    def test_rows_that_a_test_read(self) -> None:
        row = {"topic": STATIONS, "key": KEY, "event": {**self.event, "surprise": 1}}
        with self.assertRaisesRegex(AssertionError, "surprise"):
            record_watch.seen([row])
        with self.assertRaisesRegex(AssertionError, "surprise"):  # told again: it was not taken for looked at
            record_watch.seen([row])

    def test_only_what_the_gateway_wrote_is_looked_at(self) -> None:
        def looked_at(topic: str, value: bytes, *headers: tuple[str, bytes]) -> bool:
            return record_watch.is_gateways(topic, value, headers)

        self.assertTrue(looked_at(STATIONS, b"{not json"))
        self.assertFalse(looked_at(STATIONS, b"{not json", record_watch.BY_TEST))
        self.assertFalse(looked_at("t.requests.node.n", b'{"commandType": 7}'))
        self.assertTrue(looked_at("t.requests.node.n", b'{"commandType": 7, "routing": null}'))
        self.assertFalse(looked_at(CONTROL, b"[]"))
        self.assertTrue(looked_at(CONTROL, b'{"type": "Novelty", "ownerNodeId": "n"}'))


class StoredRecords(SynchronousTestCase):
    """What is stored in Redis and shown by HTTP: its schema has the members of the code's struct, and some more."""

    def members(self, struct: type[msgspec.Struct]) -> set[str]:
        return {field.encode_name for field in msgspec.structs.fields(struct)}

    def assert_right(self, name: str, record: JsonObject) -> None:
        contract = record_watch.contract()
        self.assertEqual(contract.stored_fault(name, record), "")
        self.assertIn("surprise", contract.stored_fault(name, {**record, "surprise": 1}))

    def test_sessions(self) -> None:
        self.assertEqual(load("session")["properties"].keys() - self.members(SessionRow), {"incarnation"})
        self.assertEqual(self.members(SessionRow) - load("session")["properties"].keys(), set())
        at = "2026-11-25T08:00:00.000Z"
        row = SessionRow("CP-1", "2.1", "node-1", KEY, "tenant", at, 1, at, 1, 217_642_600)
        self.assert_right("session", msgspec.to_builtins(row))

    def test_nodes(self) -> None:
        self.assertEqual(set(load("node")["properties"]), self.members(NodeRow))
        at = "2026-11-25T08:00:00.000Z"
        self.assert_right("node", msgspec.to_builtins(NodeRow("node-1", "t.node-1", "c.node-1", at, at, "1")))

    def test_commands(self) -> None:
        self.assertEqual(set(load("command-audit")["properties"]), self.members(CommandRecord))
        ended = CommandRecord(
            "c-1", "Reset", "CP-1", "Failed", "2026-11-25T08:00:00.000Z", error={"code": "Timeout", "description": ""}
        )
        queued = CommandRecord(
            "c-1", "Reset", "CP-1", "Queued", "2026-11-25T08:00:00.000Z", source="", request={"commandId": "c-1"}
        )
        for record in (ended, queued):
            self.assert_right("command-audit", msgspec.to_builtins(record))

    def test_requests(self) -> None:
        described = set(load("command-request")["properties"])
        self.assertEqual(self.members(CommandRequest) - described, set())

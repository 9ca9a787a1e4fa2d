"""The intake: every record of the bus becomes a command that is stored, or a dead letter; none holds up the others."""

import base64
import json
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import CommandError, StoreError
from ocppgw.ocpp.session import Session, SessionRules, StationFacts
from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import V16, V201, OcppVersion
from ocppgw.ports import Message
from ocppgw.routing import relay
from ocppgw.routing.commands import Commands
from ocppgw.routing.intake import AT_ONCE, CommandIntake
from ocppgw.routing.links import Link, Surroundings
from ocppgw.routing.outbox import Outbox
from ocppgw.routing.places import OneNode
from ocppgw.routing.relay import Relay
from ocppgw.routing.sweeping import Sweep
from tests.build_embedded import DISK_FULL, Embedded, build_embedded
from tests.memory_bus import MemoryBroker, MemoryBus
from tests.test_relay import TOPICS

TOPIC = "cpms.command.requests"
RESET = {"commandType": "Reset", "commandId": "c-1", "chargePointId": "CP-1", "payload": {"type": "Soft"}}
TERMINAL = {"CommandAccepted", "CommandRejected", "CommandFailed", "CommandTimeout"}
GATEWAY_FAULT = "a fault of the gateway itself; its log has it"


def message(value: Any, offset: int = 0, key: bytes | None = b"CP-1", partition: int = 0) -> Message:
    return Message(TOPIC, partition, offset, key, value if isinstance(value, bytes) else json.dumps(value).encode())


class Socket:
    address = "192.0.2.1"

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send_text(self, text: bytes) -> None:
        self.sent.append(json.loads(text))

    def close(self, code: int, reason: str) -> None:
        self.sent.append(("close", code))


class Node:
    """One gateway process without its sockets: store, journal, outbox, links and commands are the real ones."""

    def __init__(self, embedded: Embedded) -> None:
        self.embedded = embedded
        self.starts = 0
        self.start()

    def start(self) -> None:
        embedded, numbers = self.embedded, count(1)
        self.starts += 1
        self.places = OneNode("node-1", str(self.starts))
        self.outbox = Outbox(embedded.journal, embedded.metrics, 10_000, 10_000_000, 10.0)
        self.around = Surroundings(embedded.reactor, embedded.store, self.outbox, embedded.metrics)
        self.commands = Commands(
            embedded.store,
            self.outbox,
            self.around.links,
            self.places,
            embedded.metrics,
            embedded.reactor,
            "node-1",
            15.0,
            new_id=lambda: f"new-{next(numbers)}",
            new_number=lambda: 4711,
        )
        self.around.commands = self.commands
        self.sweep = Sweep(
            embedded.store, self.commands, self.places, embedded.metrics, embedded.reactor, is_alone=True
        )
        self.intake = CommandIntake(self.commands, self.outbox, embedded.reactor, "node-1", embedded.metrics)

    def connect(self, charge_point_id: str = "CP-1", version: OcppVersion = V16) -> Socket:
        """A station that was accepted."""
        socket, ids = Socket(), count(1)
        session = Session(
            version,
            StationFacts(charge_point_id, "station-" + charge_point_id, "tenant-1"),
            StationState(boot_status="Accepted"),
            SessionRules(),
            "node-1",
            1,
            new_id=lambda: f"m-{next(ids)}",
            count=lambda version, action: None,
        )
        self.link = Link(session, socket, version, version.subprotocols[0], self.around)
        self.link.opened()
        return socket

    def handle(self, *messages: Message) -> None:
        self.embedded.wait(self.intake.handle(messages))
        self.embedded.settle()

    def events(self, kind: str) -> list[dict[str, Any]]:
        events = self.embedded.wait(self.embedded.journal.read(0, 10_000))
        return [json.loads(event.value) for event in events if event.topic == kind]

    def letters(self) -> list[dict[str, Any]]:
        return self.events("dead")

    def kinds(self, command_id: str = "c-1") -> list[str]:
        return [event["eventType"] for event in self.events("command") if event["correlationId"] == command_id]

    def outcomes(self) -> dict[str, int]:
        lines = self.embedded.metrics.exposition().decode().splitlines()
        rows = [line for line in lines if line.startswith("ocppgw_intake_records_total{")]
        return {row.split('"')[1]: int(float(row.rsplit(" ", 1)[1])) for row in rows}


class IntakeCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        embedded = build_embedded(Path(folder.name) / "state")
        self.addCleanup(embedded.close)
        self.node = Node(embedded)

    def letter(self) -> dict[str, Any]:
        """The one dead letter."""
        letters = self.node.letters()
        self.assertEqual(len(letters), 1, letters)
        return letters[0]


class GoodRecords(IntakeCase):
    def test_a_record_becomes_a_command(self) -> None:
        socket = self.node.connect()
        self.node.handle(message(RESET))
        self.assertEqual(socket.sent, [[2, "m-1", "Reset", {"type": "Soft"}]])
        self.assertEqual(self.node.kinds(), ["CommandRouted", "CommandDispatched"])
        self.assertEqual((self.node.letters(), self.node.outcomes()), ([], {"stored": 1}))

    def test_a_repeated_command_id_is_done_and_not_sent_again(self) -> None:
        socket = self.node.connect()
        self.node.handle(message(RESET, 1), message(RESET, 2))
        self.assertEqual(len(socket.sent), 1)
        self.assertEqual(self.node.kinds().count("CommandDuplicate"), 1)
        self.assertEqual(self.node.letters(), [])

    def test_it_is_done_when_it_is_stored_and_not_before(self) -> None:
        embedded = self.node.embedded
        embedded.disk.hold()
        handled = self.node.intake.handle([message(RESET)])
        embedded.reactor.advance(0)
        self.assertTrue(embedded.disk.reached.wait(10))
        self.assertNoResult(handled)
        embedded.disk.release()
        embedded.wait(handled)
        self.assertIsNotNone(embedded.wait(embedded.store.command("c-1")))

    def test_members_of_later_releases_are_tolerated(self) -> None:
        self.node.connect()
        request = {**RESET, "priority": 7, "ocppVersion": "1.6J", "requestedBy": {"userId": "u-1", "team": "north"}}
        self.node.handle(message(request))
        self.assertEqual(self.node.outcomes(), {"stored": 1})

    def test_another_key_than_the_station_is_noted_and_no_more(self) -> None:
        socket = self.node.connect()
        self.node.handle(message(RESET, key=b"CP-2"))
        self.assertEqual((len(socket.sent), self.node.letters()), (1, []))
        self.assertIn(b'{kind="command-key-differs"} 1.0', self.node.embedded.metrics.exposition())

    def test_the_stations_own_key_or_none_is_not_noted(self) -> None:
        self.node.connect()
        self.node.handle(message(RESET, 1), message({**RESET, "commandId": "c-2"}, 2, key=None))
        self.assertNotIn(b"command-key-differs", self.node.embedded.metrics.exposition())

    def test_without_a_command_id_it_has_the_same_one_when_it_is_read_again(self) -> None:
        socket = self.node.connect()
        request = {name: value for name, value in RESET.items() if name != "commandId"}
        self.node.handle(message(request, 7))
        self.node.handle(message(request, 7))
        self.assertEqual(len(socket.sent), 1)
        self.node.handle(message(request, 8))
        self.assertEqual(len(self.node.embedded.wait(self.node.embedded.store.open_commands())), 2)

    def test_an_empty_batch_is_done(self) -> None:
        self.node.handle()
        self.assertEqual(self.node.outcomes(), {})


class Expired(IntakeCase):
    def expired(self) -> dict[str, Any]:
        """A command whose time was over a minute ago."""
        requested_at = rfc3339(self.node.embedded.reactor.seconds() - 90).decode()
        return {**RESET, "requestedAt": requested_at, "timeoutSec": 30}

    def test_it_is_never_sent_and_ends_once_as_a_timeout(self) -> None:
        socket = self.node.connect()
        self.node.handle(message(self.expired()))
        self.assertEqual((socket.sent, self.node.letters()), ([], []))
        self.assertEqual(self.node.kinds(), ["CommandRouted", "CommandTimeout"])

    def test_without_a_station_it_ends_once_as_failed(self) -> None:
        self.node.handle(message(self.expired()))
        self.assertEqual(self.node.kinds(), ["CommandRouted", "CommandFailed"])

    def test_read_again_it_does_not_end_again(self) -> None:
        socket = self.node.connect()
        expired = message(self.expired())
        self.node.handle(expired)
        self.node.handle(expired)
        self.assertEqual(socket.sent, [])
        self.assertEqual(self.node.kinds(), ["CommandRouted", "CommandTimeout"], "the bus repeats it, not the backend")

    def test_it_does_not_wait_behind_a_command_in_flight(self) -> None:
        socket = self.node.connect()
        self.node.handle(message(RESET, 1), message({**self.expired(), "commandId": "c-2"}, 2))
        self.assertEqual(len(socket.sent), 1)
        self.node.embedded.reactor.advance(0.1)
        self.node.embedded.settle()
        self.assertEqual(self.node.kinds("c-2"), ["CommandRouted", "CommandTimeout"])

    def test_one_whose_time_is_not_over_is_sent(self) -> None:
        socket = self.node.connect()
        requested_at = rfc3339(self.node.embedded.reactor.seconds() - 20).decode()
        self.node.handle(message({**RESET, "requestedAt": requested_at, "timeoutSec": 30}))
        self.assertEqual(len(socket.sent), 1)


class BadRecords(IntakeCase):
    def test_a_letter_tells_what_where_and_the_mend_and_keeps_the_key(self) -> None:
        self.node.handle(Message(TOPIC, 3, 41, b"CP-9", b'{"commandType": "Reset"}'))
        letter = self.letter()
        self.assertEqual(letter["code"], "InvalidCommand")
        self.assertEqual(letter["reason"], "neither chargePointId nor stationId is given")
        self.assertEqual(letter["hint"], "name the station")
        self.assertEqual((letter["topic"], letter["partition"], letter["offset"]), (TOPIC, 3, 41))
        self.assertEqual(letter["record"], '{"commandType": "Reset"}')
        self.assertEqual(letter["at"], rfc3339(self.node.embedded.reactor.seconds()).decode())
        self.assertEqual(letter["nodeId"], "node-1")
        stored = self.node.embedded.wait(self.node.embedded.journal.read(0, 10))
        self.assertEqual([(event.topic, event.key) for event in stored], [("dead", "CP-9")])
        self.assertEqual(self.node.outcomes(), {"dead-letter": 1})

    def test_each_kind_has_its_code(self) -> None:
        deep = b'{"commandType":"Reset","chargePointId":"CP-1","payload":' + b'{"a":' * 400 + b"1" + b"}" * 401
        kinds: list[tuple[bytes, str, str]] = [
            (b"{", "BadJson", "isn't JSON"),
            (b"", "BadJson", "isn't JSON"),
            (b'{"a": NaN}', "BadJson", "isn't JSON"),
            (b"[1]", "BadJson", "no JSON object"),
            (b'"text"', "BadJson", "no JSON object"),
            (b"null", "BadJson", "no JSON object"),
            (deep, "BadJson", "nested too deeply"),
            (b"[" * 3000, "BadJson", "isn't JSON"),
            (b'{"a": "\xff"}', "BadEncoding", "byte 7"),
            (b"{}", "InvalidCommand", "commandType"),
            (b'{"commandType": 7, "chargePointId": "CP-1"}', "InvalidCommand", "commandType"),
            (b'{"commandType": "Reset", "chargePointId": ["CP-1"]}', "InvalidCommand", "chargePointId"),
            (b'{"commandType": "Reset", "chargePointId": "CP-1", "commandId": 7}', "InvalidCommand", "commandId"),
            (b'{"commandType": "Reset", "stationId": "nobody"}', "InvalidCommand", "nobody"),
            (b'{"commandType": "Rest", "chargePointId": "CP-1"}', "UnsupportedCommand", "Rest"),
            (b'{"commandType": "Reset", "chargePointId": "CP-1", "payload": 1}', "InvalidCommand", "payload"),
            (b'{"commandType": "Reset", "chargePointId": "CP-1", "timeoutSec": -1}', "InvalidCommand", "timeoutSec"),
            (b'{"commandType": "Reset", "chargePointId": "CP-1", "requestedAt": "noon", "payload": {"type": "Soft"}}',
             "InvalidCommand", "requestedAt"),
        ]  # fmt: skip
        socket = self.node.connect()
        self.node.handle(*[message(value, offset) for offset, (value, *_) in enumerate(kinds)])
        letters = sorted(self.node.letters(), key=lambda letter: letter["offset"])
        self.assertEqual(len(letters), len(kinds))
        for letter, (value, code, reason) in zip(letters, kinds, strict=True):
            self.assertEqual(letter["code"], code, value)
            self.assertIn(reason, letter["reason"])
            self.assertTrue(letter["hint"], value)
        self.assertEqual(socket.sent, [])

    def test_what_is_no_text_is_kept_as_base64(self) -> None:
        self.node.handle(message(b"\x00\xff\xfe"))
        letter = self.letter()
        self.assertEqual((letter["encoding"], base64.b64decode(letter["record"])), ("base64", b"\x00\xff\xfe"))

    def test_a_record_without_a_key_or_with_one_that_is_no_text_gets_its_letter(self) -> None:
        self.node.handle(message(b"{", 1, key=None), message(b"{", 2, key=b"CP\xff"))
        stored = self.node.embedded.wait(self.node.embedded.journal.read(0, 10))
        self.assertEqual(sorted(event.key for event in stored), ["", "CP\N{REPLACEMENT CHARACTER}"])

    def test_of_a_huge_record_only_the_beginning_is_kept(self) -> None:
        value = b'{"x": "' + "€".encode() * 200_000 + b'"}'
        self.node.handle(message(value))
        letter = self.letter()
        self.assertEqual(letter["bytes"], len(value))
        self.assertTrue(value.decode().startswith(letter["record"]))
        self.assertLess(len(letter["record"].encode()), 132_000)

    def test_a_bad_record_holds_up_nobody(self) -> None:
        socket = self.node.connect()
        self.node.handle(message(b"{", 1), message(RESET, 2), message(b"[]", 3))
        self.assertEqual((len(socket.sent), len(self.node.letters())), (1, 2))
        self.assertEqual(self.node.outcomes(), {"dead-letter": 2, "stored": 1})

    def test_a_record_read_again_makes_the_same_letter(self) -> None:
        self.node.handle(message(b"{", 7))
        self.node.handle(message(b"{", 7))
        self.node.handle(message(b"{", 8))
        ids = [letter["eventId"] for letter in self.node.letters()]
        self.assertEqual((ids[0], len(set(ids))), (ids[1], 2))

    def test_a_letter_is_durable_before_its_record_is_done(self) -> None:
        embedded = self.node.embedded
        embedded.disk.hold()
        handled = self.node.intake.handle([message(b"{")])
        embedded.reactor.advance(0)
        self.assertTrue(embedded.disk.reached.wait(10))
        self.assertNoResult(handled)
        embedded.disk.release()
        embedded.wait(handled)

    def test_a_flood_of_them_is_one_line_in_the_log(self) -> None:
        with capturedLogs() as logs:
            self.node.handle(*[message(b"{", offset) for offset in range(50)])
        self.assertEqual(len([event for event in logs if event["log_namespace"] == "ocppgw.intake"]), 1)
        self.assertEqual(len(self.node.letters()), 50)

    def test_a_fault_of_the_gateway_costs_this_record_only(self) -> None:
        self.node.connect()
        submit = self.node.commands.submit

        def sometimes(request: Any, source: str = "") -> Any:
            if request["commandId"] == "c-1":
                raise ZeroDivisionError
            return fail(KeyError("x")) if request["commandId"] == "c-2" else submit(request, source)

        self.patch(self.node.commands, "submit", sometimes)
        self.node.handle(*[message({**RESET, "commandId": f"c-{number}"}, number) for number in (1, 2, 3)])
        self.assertEqual(
            [(letter["code"], letter["reason"]) for letter in self.node.letters()],
            [("InternalError", GATEWAY_FAULT)] * 2,
        )
        self.assertEqual(self.node.kinds("c-3")[0], "CommandRouted")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError, KeyError)), 2)

    def test_the_journal_with_letters_in_it_is_read_back_at_a_restart(self) -> None:
        self.node.handle(message(b"{"))
        self.node.embedded.reopen()
        self.node.start()
        self.assertEqual(len(self.node.letters()), 1)


class Secrets(IntakeCase):
    PASSWORD = "0123456789abcdef0123456789abcdef"

    def test_a_password_does_not_reach_the_letter(self) -> None:
        self.node.connect()
        change = {"key": "AuthorizationKey", "value": self.PASSWORD}
        for offset, request in enumerate(
            (
                {**RESET, "commandType": "ChangeConfiguratio", "payload": change},
                {**RESET, "commandType": "ChangeConfiguration", "payload": {**change, "value": self.PASSWORD * 100}},
                {"commandType": "ChangeConfiguration", "chargePointId": "CP-1", **change},
                {**RESET, "commandType": "Rest", "payload": {"deep": {"deeper": change}}},
            )
        ):
            self.node.handle(message(request, offset))
        self.node.handle(message(json.dumps(change).encode()[:-1], 10))
        letters = self.node.letters()
        self.assertEqual(len(letters), 5)
        for letter in letters:
            self.assertNotIn(self.PASSWORD, json.dumps(letter))
            self.assertIs(letter["redacted"], True)
        self.assertEqual(json.loads(letters[0]["record"])["payload"], {"key": "AuthorizationKey", "value": "***"})
        self.assertEqual(json.loads(letters[0]["record"])["commandId"], "c-1")
        self.assertEqual(letters[3]["record"], "***")

    def test_a_reason_that_quotes_it_is_scrubbed(self) -> None:
        fault = CommandError(f"value {self.PASSWORD!r} is too long", hint=f"not {self.PASSWORD}")
        self.patch(self.node.commands, "submit", lambda _request, _source: fail(fault))
        change = {"key": "AuthorizationKey", "value": self.PASSWORD}
        self.node.handle(message({**RESET, "commandType": "ChangeConfiguration", "payload": change}))
        self.assertEqual((self.letter()["reason"], self.letter()["hint"]), ("value '***' is too long", "not ***"))

    def test_what_names_no_secret_is_kept_byte_for_byte(self) -> None:
        self.node.handle(message(b'{ "commandType" : "Rest" }'))
        self.assertEqual(self.letter()["record"], '{ "commandType" : "Rest" }')
        self.assertNotIn("redacted", self.letter())


class Redelivery(IntakeCase):
    def handle_in_vain(self, *messages: Message) -> None:
        with self.assertRaises(StoreError):
            self.node.embedded.wait(self.node.intake.handle(messages))

    def test_a_store_that_fails_is_no_dead_letter_and_the_batch_comes_again(self) -> None:
        socket = self.node.connect()
        self.node.embedded.settle()
        self.node.embedded.disk.fault = DISK_FULL
        self.handle_in_vain(message(RESET))
        self.assertEqual(socket.sent, [])
        self.node.embedded.disk.fault = ""
        self.node.handle(message(RESET))
        self.assertEqual((len(socket.sent), self.node.letters()), (1, []))
        self.assertEqual(self.node.kinds(), ["CommandRouted", "CommandDispatched"])
        self.assertEqual(self.node.outcomes(), {"failed": 1, "stored": 1})

    def test_a_letter_that_can_not_be_stored_is_not_done(self) -> None:
        self.node.embedded.disk.fault = DISK_FULL
        self.handle_in_vain(message(b"{"))
        self.node.embedded.disk.fault = ""
        self.node.handle(message(b"{"))
        self.letter()

    def test_what_was_done_of_a_batch_is_not_done_again(self) -> None:
        socket = self.node.connect()
        submit, broken = self.node.commands.submit, True

        def sometimes(request: Any, source: str = "") -> Any:
            return (
                fail(StoreError("gone")) if broken and request["chargePointId"] == "CP-2" else submit(request, source)
            )

        self.patch(self.node.commands, "submit", sometimes)
        batch = (
            message(RESET, 1),
            message({**RESET, "commandId": "c-2", "chargePointId": "CP-2"}, 2, b"CP-2"),
            message(b"{", 3),
        )
        self.handle_in_vain(*batch)
        self.handle_in_vain(*batch)
        self.assertEqual((len(socket.sent), len(self.node.letters())), (1, 1))
        broken = False
        self.node.handle(*batch)
        self.assertEqual(
            (self.node.kinds("c-1"), len(self.node.letters())), (["CommandRouted", "CommandDispatched"], 1)
        )
        self.assertEqual(self.node.kinds("c-2"), ["CommandRouted", "CommandFailed"])

    def test_after_a_crash_a_stored_command_is_known_and_not_sent_again(self) -> None:
        self.node.connect()
        self.node.handle(message(RESET))
        self.node.embedded.reopen()
        self.node.start()
        self.node.embedded.wait(self.node.sweep.run())
        socket = self.node.connect()
        self.node.handle(message(RESET))
        self.assertEqual(socket.sent, [])
        ends = [kind for kind in self.node.kinds() if kind in TERMINAL]
        self.assertEqual((ends, self.node.kinds()[-1]), (["CommandFailed"], "CommandFailed"))

    def test_a_known_command_is_no_dead_letter_although_its_station_is_gone(self) -> None:
        """By its stationId only a connected charger is found."""
        request = {"commandType": "Reset", "commandId": "c-1", "stationId": "station-CP-1", "payload": {"type": "Soft"}}
        self.node.connect()
        self.node.handle(message(request))
        self.node.link.closed(1006, "gone")
        self.node.handle(message(request))
        self.assertEqual((self.node.letters(), self.node.kinds()[-1]), ([], "CommandDuplicate"))
        self.assertEqual(self.node.outcomes(), {"stored": 1, "repeated": 1})

    def test_a_known_command_is_no_dead_letter_although_the_version_is_another(self) -> None:
        request = {**RESET, "commandType": "RemoteStartTransaction", "payload": {"idTag": "A"}}
        self.node.connect()
        self.node.handle(message(request))
        self.node.connect(version=V201)
        self.node.handle(message(request))
        self.assertEqual((self.node.letters(), self.node.kinds()[-1]), ([], "CommandDuplicate"))

    def test_while_records_are_refused_no_commands_are_taken(self) -> None:
        self.node.outbox.fault = "Kafka has yet to take 7 bytes of events"
        with self.assertRaisesRegex(StoreError, "Kafka has yet to take"):
            self.node.embedded.wait(self.node.intake.handle([message(RESET), message(b"{", 1)]))
        self.assertEqual((self.node.kinds(), self.node.letters()), ([], []))
        self.node.outbox.fault = ""
        self.node.handle(message(RESET), message(b"{", 1))
        self.assertEqual((self.node.kinds()[0], len(self.node.letters())), ("CommandRouted", 1))


class FakeCommands:
    """Keeps what is submitted until the test says what becomes of it."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.open: dict[str, Deferred[Any]] = {}

    def submit(self, request: Any, source: str) -> "Deferred[Any]":
        self.submitted.append(request["commandId"])
        self.open[request["commandId"]] = Deferred()
        return self.open[request["commandId"]]

    def command(self, command_id: str) -> "Deferred[Any]":
        found: Deferred[Any] = Deferred()
        found.callback(None)
        return found


class Order(IntakeCase):
    def setUp(self) -> None:
        super().setUp()
        self.commands, self.offsets = FakeCommands(), count()
        node = self.node
        self.intake = CommandIntake(
            self.commands,  # type: ignore[arg-type]
            node.outbox,
            node.embedded.reactor,
            "node-1",
            node.embedded.metrics,
        )

    def command(self, station: str, number: int, key: bytes | None = None) -> Message:
        request = {**RESET, "chargePointId": station, "commandId": f"{station}-{number}"}
        return message(request, next(self.offsets), key or station.encode())

    def test_commands_for_a_station_go_one_after_the_other_for_others_at_once(self) -> None:
        handled = self.intake.handle([self.command("A", 1), self.command("A", 2), self.command("B", 1)])
        self.assertEqual(self.commands.submitted, ["A-1", "B-1"])
        self.commands.open["A-1"].callback(None)
        self.assertEqual(self.commands.submitted, ["A-1", "B-1", "A-2"])
        self.commands.open["A-2"].callback(None)
        self.assertNoResult(handled)
        self.commands.open["B-1"].callback(None)
        self.successResultOf(handled)

    def test_the_station_counts_and_not_the_key(self) -> None:
        self.intake.handle([self.command("A", 1, b"x"), self.command("A", 2, b"y")])
        self.assertEqual(self.commands.submitted, ["A-1"])

    def test_a_bounded_number_of_stations_is_served_at_once(self) -> None:
        handled = self.intake.handle([self.command(f"S{number}", 1) for number in range(AT_ONCE + 50)])
        self.assertEqual(len(self.commands.submitted), AT_ONCE)
        self.commands.open["S0-1"].callback(None)
        self.assertEqual(len(self.commands.submitted), AT_ONCE + 1)
        for number in range(1, AT_ONCE + 50):
            self.commands.open[f"S{number}-1"].callback(None)
        self.successResultOf(handled)

    def test_after_a_failure_nothing_overtakes_it(self) -> None:
        handled = self.intake.handle([self.command("A", 1), self.command("A", 2), self.command("B", 1)])
        self.commands.open["A-1"].errback(StoreError("gone"))
        self.assertEqual(self.commands.submitted, ["A-1", "B-1"])
        self.assertNoResult(handled)  # something of it is still under way
        self.commands.open["B-1"].callback(None)
        self.failureResultOf(handled, StoreError)

    def test_a_refused_command_does_not_keep_the_next_one_back(self) -> None:
        handled = self.intake.handle([self.command("A", 1), self.command("A", 2)])
        self.commands.open["A-1"].errback(CommandError("no"))
        self.node.embedded.settle()
        self.assertEqual(self.commands.submitted, ["A-1", "A-2"])
        self.commands.open["A-2"].callback(None)
        self.successResultOf(handled)


class OnABus(IntakeCase):
    """Commands in, events and dead letters out: intake and relay of one node on one bus."""

    GROUP = "ocppgw"

    def setUp(self) -> None:
        super().setUp()
        self.patch(relay, "DAWDLE_SECONDS", 0.0)
        self.broker = MemoryBroker()
        self.join()

    def join(self) -> None:
        embedded = self.node.embedded
        self.bus = MemoryBus(self.broker, embedded.reactor)
        self.bus.consume([TOPIC], self.GROUP, self.node.intake.handle)
        self.bus.start()
        self.relay = Relay(embedded.journal, self.bus, TOPICS, embedded.metrics, embedded.reactor)
        self.relay.start()

    def put(self, value: Any) -> None:
        self.broker.put(TOPIC, "CP-1", message(value).value)

    def until_committed(self, offset: int) -> None:
        self.node.embedded.reactor.run_until(lambda: self.broker.committed[self.GROUP, TOPIC] == offset)

    def shipped(self, topic: str) -> list[Any]:
        """All that ends up there, once nothing is to be shipped any more."""
        self.node.embedded.settle()
        self.node.embedded.reactor.run_until(lambda: self.relay.lag()[0] == 0)
        return [json.loads(value) for _, value in self.broker.topics[topic]]

    def test_each_record_ends_as_an_event_or_as_a_dead_letter(self) -> None:
        socket = self.node.connect()
        self.put(RESET)
        self.put(b"{")
        self.put({**RESET, "chargePointId": "CP-2", "commandId": "c-2"})
        self.until_committed(3)
        self.node.link.received(b'[3, "m-1", {"status": "Accepted"}]')
        events = [(event["correlationId"], event["eventType"]) for event in self.shipped("ocpp.command.events")]
        self.assertEqual([kind for name, kind in events if name == "c-1"][-1], "CommandAccepted")
        self.assertEqual([kind for name, kind in events if name == "c-2"], ["CommandRouted", "CommandFailed"])
        self.assertEqual([letter["offset"] for letter in self.shipped("cpms.command.dead_letters")], [1])
        self.assertEqual(socket.sent, [[2, "m-1", "Reset", {"type": "Soft"}]])

    def test_a_full_disk_delays_commands_and_loses_none(self) -> None:
        socket = self.node.connect()
        self.node.embedded.settle()
        self.node.embedded.disk.fault = DISK_FULL
        self.put(RESET)
        self.put(b"{")
        for _ in range(30):
            self.node.embedded.reactor.advance(0.1)
            self.node.embedded.settle()
        self.assertEqual((socket.sent, self.broker.committed[self.GROUP, TOPIC]), ([], 0))
        self.assertTrue(self.flushLoggedErrors(StoreError))
        self.node.embedded.disk.fault = ""
        for _ in range(20):
            self.node.embedded.reactor.advance(0.1)
            self.node.embedded.settle()
        self.until_committed(2)
        self.assertEqual((len(socket.sent), len(self.shipped("cpms.command.dead_letters"))), (1, 1))

    def test_after_a_crash_before_the_commit_a_command_still_ends_once(self) -> None:
        self.node.connect()
        self.put(RESET)
        embedded = self.node.embedded
        embedded.reactor.run_until(lambda: embedded.journal.last_cursor() > 0)
        self.bus.abandon()
        embedded.reopen()
        self.node.start()
        embedded.wait(self.node.sweep.run())
        self.broker.committed[self.GROUP, TOPIC] = 0
        socket = self.node.connect()
        self.join()
        self.until_committed(1)
        events = {event["eventId"]: event["eventType"] for event in self.shipped("ocpp.command.events")}
        self.assertEqual([kind for kind in events.values() if kind in TERMINAL], ["CommandFailed"])
        self.assertEqual(socket.sent, [])

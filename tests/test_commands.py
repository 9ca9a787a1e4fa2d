"""Commands between store and links: whatever comes together, a command has exactly one end."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import CommandError, StoreError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.calls import CONNECTION_LOST, NOT_SENT, TIMED_OUT, PendingCall
from ocppgw.ocpp.effects import CommandResult, Dispatched, Record
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.session import StationFacts
from ocppgw.ocpp.versions import V16, V201, OcppVersion
from ocppgw.ports import CommandRecord
from ocppgw.routing.command_ends import RETRY_SECONDS
from ocppgw.routing.commands import Commands
from ocppgw.routing.credentials import Credentials
from ocppgw.routing.links import UNPROVED, Links
from ocppgw.routing.places import OneNode, Places
from ocppgw.routing.sweeping import Sweep

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
RESET = {"commandType": "Reset", "commandId": "c-1", "chargePointId": "CP-1", "payload": {"type": "Soft"}}
ACCEPTED = CommandResult(Outcome.ACCEPTED, "Accepted", {"status": "Accepted"})
REJECTED = CommandResult(Outcome.REJECTED, "Rejected", {"status": "Rejected"})
TERMINAL = {"CommandAccepted", "CommandRejected", "CommandFailed", "CommandTimeout"}


class FakeStore:
    """Commands in memory, compare-and-set as the contract wants it. `broken`: writes fail; `slow`: replies wait."""

    def __init__(self, journal: list[Record]) -> None:
        self.records: dict[str, CommandRecord] = {}
        self.journal = journal
        self.broken = False
        self.slow = False
        self._replies: list[Callable[[], None]] = []

    def reply(self) -> None:
        replies, self._replies = self._replies, []
        for reply in replies:
            reply()

    def open_command(self, record: CommandRecord, event: Record) -> "Deferred[Any]":
        def open_() -> CommandRecord | None:
            existing = self.records.get(record.command_id)
            if existing is None:
                self.records[record.command_id] = record
                self.journal.append(event)
            return existing

        return self._write(open_)

    def change_command(self, record: CommandRecord, event: Record) -> "Deferred[Any]":
        def change() -> bool:
            existing = self.records.get(record.command_id)
            if existing is None or existing.outcome is not None:
                return False
            self.records[record.command_id] = record
            self.journal.append(event)
            return True

        return self._write(change)

    def take_command(self, record: CommandRecord, held_by: str | None = None) -> "Deferred[Any]":
        def take() -> bool:
            existing = self.records.get(record.command_id)
            if existing is None or existing.outcome is not None:
                return False
            if existing.taken_by not in (None, record.taken_by, held_by):
                return False
            self.records[record.command_id] = record
            return True

        return self._write(take)

    def waiting_commands(self, charge_point_id: str) -> "Deferred[Any]":
        waiting = [
            record
            for record in self.records.values()
            if record.charge_point_id == charge_point_id
            and record.outcome is None
            and record.taken_by is None
            and record.request is not None
        ]
        return self._replied(waiting)

    def publish_unpublished(self) -> "Deferred[Any]":
        return self._replied(0)

    def command(self, command_id: str) -> "Deferred[Any]":
        return self._replied(self.records.get(command_id))

    def open_commands(self) -> "Deferred[Any]":
        return self._replied([record for record in self.records.values() if record.outcome is None])

    def _write(self, run: Callable[[], Any]) -> "Deferred[Any]":
        return self._replied(StoreError("the disk is full") if self.broken else run())

    def _replied(self, result: Any) -> "Deferred[Any]":
        replied: Deferred[Any] = Deferred()
        fire = replied.errback if isinstance(result, StoreError) else replied.callback
        self._replies.append(lambda: fire(result))
        if not self.slow:
            self.reply()
        return replied


class FakeOutbox:
    def __init__(self, journal: list[Record]) -> None:
        self.journal = journal

    def publish(self, record: Record, _changes: Any, _waiter: Any, _token: int) -> None:
        self.journal.append(record)


class FakeLink:
    """Keeps what it is to send; the test says what becomes of it."""

    def __init__(self, version: OcppVersion = V16, charge_point_id: str = "CP-1") -> None:
        self.version = version
        self.station = StationFacts(charge_point_id, "station-1", "tenant-1")
        self.calls: list[PendingCall] = []
        self.proof = UNPROVED
        self.is_accepted = True

    def call(self, pending: PendingCall) -> None:
        self.calls.append(pending)


class CommandsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.journal: list[Record] = []
        self.store = self.new_store()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.links = Links()
        self.metrics = Metrics({"1.6J": ()}, "test")
        self.commands = self.process()

    def new_store(self) -> FakeStore:
        return FakeStore(self.journal)

    def new_credentials(self) -> Credentials | None:
        """Those of a new process; None where stations prove nothing."""
        return None

    def process(self) -> Commands:
        """A gateway process; a second one knows what is stored, and nothing else."""
        numbers = count(1)
        self.credentials = self.new_credentials()
        self.places = self.new_places()
        commands = Commands(
            self.store,  # type: ignore[arg-type]
            FakeOutbox(self.journal),  # type: ignore[arg-type]
            self.links,
            self.places,
            self.metrics,
            self.clock,
            "node-1",
            15.0,
            new_id=lambda: f"new-{next(numbers)}",
            new_number=lambda: 4711,
            credentials=self.credentials,
        )
        self.sweeping = Sweep(
            self.store,  # type: ignore[arg-type]
            commands,
            self.places,
            self.metrics,
            self.clock,
            is_alone=True,
        )
        return commands

    def new_places(self) -> Places:
        self.incarnations = getattr(self, "incarnations", 0) + 1
        return OneNode("node-1", str(self.incarnations))

    def sweep(self) -> "Deferred[int]":
        return self.sweeping.run()

    def connect(self, version: OcppVersion = V16, charge_point_id: str = "CP-1") -> FakeLink:
        link: Any = FakeLink(version, charge_point_id)
        self.links.register(link)
        self.commands.link_opened(link)
        self.addCleanup(self.links.unregister, link)
        return link  # type: ignore[no-any-return]

    def lost(self, link: Any, *, waiting: tuple[str, ...] = ()) -> None:
        self.links.unregister(link)
        for command_id in waiting:
            self.commands.requeued(command_id)

    def submit(self, **members: Any) -> CommandRecord:
        record: CommandRecord = self.successResultOf(self.commands.submit({**RESET, **members}))
        return record

    def dispatch(self, link: Any, message_id: str = "m-1") -> None:
        pending = link.calls[-1]
        effect = Dispatched(pending.command_id, message_id, pending.action, pending.payload, self.clock.seconds())
        self.commands.dispatched(link, effect)

    def events(self, command_id: str = "c-1") -> list[dict[str, Any]]:
        events = [json.loads(record.value) for record in self.journal]
        return [event for event in events if event["correlationId"] == command_id]

    def kinds(self, command_id: str = "c-1") -> list[str]:
        return [event["eventType"] for event in self.events(command_id)]

    def end(self, command_id: str = "c-1") -> dict[str, Any]:
        """The one terminal event."""
        ends = [event for event in self.events(command_id) if event["eventType"] in TERMINAL]
        self.assertEqual(len(ends), 1, ends)
        return ends[0]


class Submitting(CommandsCase):
    def test_it_is_stored_before_it_is_sent(self) -> None:
        link = self.connect()
        self.store.slow = True
        submitted = self.commands.submit(RESET)
        self.assertEqual(link.calls, [])
        self.assertNoResult(submitted)
        self.store.reply()
        record = self.successResultOf(submitted)
        self.assertEqual(link.calls, [], "not before it is taken")
        self.store.reply()
        self.assertEqual(link.calls, [PendingCall("c-1", "Reset", {"type": "Soft"}, NOW + 15.0)])
        self.assertEqual(self.store.records["c-1"].taken_by, "node-1/1")
        self.assertEqual((record.status, record.action, record.ocpp_version), ("Queued", "Reset", "1.6J"))
        self.assertEqual((record.station_id, record.tenant_id, record.node_id), ("station-1", "tenant-1", "node-1"))
        self.assertEqual(self.kinds(), ["CommandRouted"])

    def test_what_can_not_be_stored_is_neither_accepted_nor_sent(self) -> None:
        link = self.connect()
        self.store.broken = True
        self.failureResultOf(self.commands.submit(RESET), StoreError)
        self.assertEqual((link.calls, self.journal), ([], []))

    def test_an_unconnected_station_fails_the_command_at_once(self) -> None:
        self.assertEqual(self.submit().status, "Queued")
        end = self.end()
        self.assertEqual((end["eventType"], end["payload"]["error"]["code"]), ("CommandFailed", "NotConnected"))
        self.assertEqual(self.store.records["c-1"].status, "Failed")

    def test_a_station_that_comes_while_it_is_stored_gets_it(self) -> None:
        self.store.slow = True
        self.commands.submit(RESET)
        link = self.connect(V201)
        self.store.slow = False
        self.store.reply()
        self.assertEqual([(call.action, call.payload) for call in link.calls], [("Reset", {"type": "OnIdle"})])
        self.assertEqual(self.store.records["c-1"].ocpp_version, "2.0.1")

    def test_a_station_that_goes_while_it_is_stored_fails_the_command(self) -> None:
        link = self.connect()
        self.store.slow = True
        self.commands.submit(RESET)
        self.lost(link)
        self.store.slow = False
        self.store.reply()
        self.assertEqual(link.calls, [])
        self.assertEqual(self.end()["payload"]["error"]["code"], "NotConnected")

    def test_a_repeated_id_is_told_what_became_of_the_first(self) -> None:
        link = self.connect()
        self.submit()
        self.dispatch(link)
        self.commands.finished("c-1", ACCEPTED)
        again = self.submit(payload={"type": "Hard"})
        self.assertEqual((again.status, again.request_payload), ("Accepted", {"type": "Soft"}))
        self.assertEqual(len(link.calls), 1)
        self.assertEqual(self.kinds()[-1], "CommandDuplicate")
        self.end()

    def test_repeats_have_event_ids_of_their_own(self) -> None:
        self.connect()
        self.submit()
        self.submit()
        self.submit()
        ids = [event["eventId"] for event in self.events()]
        self.assertEqual(self.kinds(), ["CommandRouted", "CommandDuplicate", "CommandDuplicate"])
        self.assertEqual(len(set(ids)), 3)

    def test_a_station_can_be_named_by_its_station_id(self) -> None:
        link = self.connect()
        record = self.submit(chargePointId=None, stationId="station-1")
        self.assertEqual((record.charge_point_id, len(link.calls)), ("CP-1", 1))

    def test_an_id_is_made_where_none_is_given(self) -> None:
        self.connect()
        self.assertEqual(self.submit(commandId="").command_id, "new-1")

    def test_the_time_limit_counts_from_the_request(self) -> None:
        link = self.connect()
        self.submit(requestedAt="2027-01-15T07:59:50Z", timeoutSec=30)
        self.assertEqual(link.calls[0].deadline, NOW + 20.0)

    def test_an_intent_becomes_the_action_of_the_stations_version(self) -> None:
        link = self.connect(V201)
        self.submit(commandType="RemoteStart", connectorId=1, payload={"idTag": "T-1"})
        self.assertEqual(link.calls[0].action, "RequestStartTransaction")
        self.assertEqual(link.calls[0].payload["remoteStartId"], 4711)

    def test_bad_requests_store_nothing_and_say_what_is_wrong(self) -> None:
        self.connect()
        cases: list[tuple[dict[str, Any], str]] = [
            ({"chargePointId": None}, "neither chargePointId nor stationId"),
            ({"chargePointId": None, "stationId": "nobody"}, "no connected charger belongs to stationId 'nobody'"),
            ({"chargePointId": 7}, "chargePointId"),
            ({"commandType": 7}, "commandType"),
            ({"commandType": "MakeCoffee"}, "MakeCoffee"),
            ({"payload": []}, "payload"),
            ({"payload": {"type": "Gentle"}}, "type"),
            ({"commandId": "x" * 129}, "commandId is longer"),
            ({"timeoutSec": 0}, "timeoutSec is out of range"),
            ({"timeoutSec": -1}, "timeoutSec is out of range"),
            ({"timeoutSec": 86_401}, "timeoutSec is out of range"),
            ({"timeoutSec": float("nan")}, "timeoutSec is out of range"),
            ({"requestedAt": "yesterday"}, "requestedAt 'yesterday' is no RFC 3339 time"),
            ({"requestedAt": "2027-01-15T08:00:00"}, "requestedAt has no time zone"),
        ]
        for members, reason in cases:
            failure = self.failureResultOf(self.commands.submit({**RESET, **members}), CommandError)
            self.assertIn(reason, str(failure.value), members)
        self.assertEqual((self.store.records, self.journal), ({}, []))


class Secrets(CommandsCase):
    """No password but in the CALL itself; see also test_credentials."""

    KEY = "s3cret-of-the-station"
    CHANGE: ClassVar[dict[str, Any]] = {
        "commandType": "ChangeConfiguration",
        "payload": {"key": "AuthorizationKey", "value": KEY},
    }

    def assert_nothing_tells(self) -> None:
        for record in self.store.records.values():
            self.assertNotIn(self.KEY, str(msgspec.to_builtins(record)))
        for event in self.journal:
            self.assertNotIn(self.KEY.encode(), event.value)

    def test_the_call_has_it_the_record_and_the_events_have_not(self) -> None:
        link = self.connect()
        record = self.submit(**self.CHANGE)
        self.assertEqual(link.calls[0].payload["value"], self.KEY)
        self.assertEqual(record.request_payload, {"key": "AuthorizationKey", "value": "***"})
        self.dispatch(link)
        self.commands.finished("c-1", ACCEPTED)
        self.submit(**self.CHANGE)
        self.assertEqual(self.kinds()[-2:], ["CommandAccepted", "CommandDuplicate"])
        self.assert_nothing_tells()

    def test_a_station_that_is_not_there_changes_nothing_of_that(self) -> None:
        self.submit(**self.CHANGE)
        self.submit(commandId="c-2", **{**self.CHANGE, "commandType": "changeconfiguration"})
        self.assertEqual(self.store.records["c-2"].status, "Failed")
        self.assert_nothing_tells()

    def test_a_charger_that_tells_its_password_is_not_passed_on(self) -> None:
        setting = {"key": "AuthorizationKey", "readonly": False, "value": self.KEY}
        answer = CommandResult(Outcome.ACCEPTED, None, {"configurationKey": [setting]})
        self.connect()
        self.submit(commandType="GetConfiguration", payload={})
        self.commands.finished("c-1", answer)
        self.commands.late("c-1", answer)
        self.assertEqual(self.kinds()[-2:], ["CommandAccepted", "CommandLateResult"])
        self.assertEqual(self.end()["payload"]["response"]["configurationKey"][0]["value"], "***")
        self.assert_nothing_tells()

    def test_a_charger_that_quotes_it_in_its_refusal_is_not_quoted(self) -> None:
        self.connect()
        self.submit(**self.CHANGE)
        refusal = CommandResult(
            Outcome.FAILED,
            error_code="GenericError",
            error_description=f"{self.KEY} is too short",
            error_details={"value": self.KEY},
        )
        self.commands.finished("c-1", refusal)
        self.assertEqual(self.end()["payload"]["error"]["description"], "*** is too short")
        self.assert_nothing_tells()


class Ending(CommandsCase):
    def test_an_answer_ends_it(self) -> None:
        link = self.connect()
        self.submit()
        self.dispatch(link)
        self.assertEqual((self.store.records["c-1"].status, self.store.records["c-1"].unique_id), ("Sent", "m-1"))
        self.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.kinds(), ["CommandRouted", "CommandDispatched", "CommandAccepted"])
        record = self.store.records["c-1"]
        self.assertEqual((record.status, record.outcome, record.unique_id), ("Accepted", "Accepted", "m-1"))
        self.assertEqual(record.response_payload, {"status": "Accepted"})
        self.assertIn(b'ocppgw_commands_total{outcome="Accepted"} 1.0', self.metrics.exposition())

    def test_each_outcome_has_its_event(self) -> None:
        cases = [
            (ACCEPTED, "CommandAccepted"),
            (CommandResult(Outcome.SCHEDULED, "Scheduled"), "CommandAccepted"),
            (REJECTED, "CommandRejected"),
            (CommandResult(Outcome.NOT_SUPPORTED, error_code="NotSupported"), "CommandRejected"),
            (CommandResult(Outcome.FAILED, error_code="GenericError"), "CommandFailed"),
            (CONNECTION_LOST, "CommandFailed"),
            (TIMED_OUT, "CommandTimeout"),
        ]
        for number, (result, kind) in enumerate(cases):
            name = f"c-{number}"
            self.connect()
            self.submit(commandId=name)
            self.commands.finished(name, result)
            self.assertEqual(self.end(name)["eventType"], kind)
            self.assertEqual(self.end(name)["payload"]["outcome"], result.outcome.value)

    def test_of_two_ends_the_first_counts(self) -> None:
        self.connect()
        self.submit()
        self.store.slow = True
        self.commands.finished("c-1", ACCEPTED)
        self.commands.finished("c-1", CONNECTION_LOST)
        self.store.reply()
        self.commands.finished("c-1", TIMED_OUT)
        self.store.reply()
        self.assertEqual(self.end()["eventType"], "CommandAccepted")
        self.assertIn(b'ocppgw_commands_total{outcome="Accepted"} 1.0', self.metrics.exposition())

    def test_the_end_of_a_command_nobody_knows_is_nothing(self) -> None:
        self.commands.finished("c-9", ACCEPTED)
        self.assertEqual(self.journal, [])

    def test_who_waits_is_told_when_the_end_is_stored(self) -> None:
        self.connect()
        self.submit()
        waiting = [self.commands.ended("c-1"), self.commands.ended("c-1")]
        self.store.slow = True
        self.commands.finished("c-1", REJECTED)
        self.assertNoResult(waiting[0])
        self.store.reply()
        for one in waiting:
            self.assertEqual(self.successResultOf(one), self.store.records["c-1"])
        self.store.slow = False
        self.assertEqual(self.successResultOf(self.commands.ended("c-1")), self.store.records["c-1"])
        self.assertIsNone(self.successResultOf(self.commands.ended("c-9")))

    def test_who_no_longer_waits_is_not_told(self) -> None:
        self.connect()
        self.submit()
        gone, there = self.commands.ended("c-1"), self.commands.ended("c-1")
        gone.addErrback(lambda failure: None)
        gone.cancel()
        self.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.successResultOf(there), self.store.records["c-1"])

    def test_an_end_the_disk_refuses_is_tried_until_it_is_stored(self) -> None:
        link = self.connect()
        self.submit()
        self.dispatch(link)
        waiting = self.commands.ended("c-1")
        self.store.broken = True
        self.commands.finished("c-1", ACCEPTED)
        for _ in range(5):
            self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.kinds(), ["CommandRouted", "CommandDispatched"])
        self.assertNoResult(waiting)
        self.store.broken = False
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.end()["eventType"], "CommandAccepted")
        self.assertEqual(self.successResultOf(waiting), self.store.records["c-1"])
        self.assertEqual(self.clock.getDelayedCalls(), [], "nothing more is tried")

    def test_two_ends_while_the_disk_refuses_are_one_end(self) -> None:
        self.connect()
        self.submit()
        waiting = self.commands.ended("c-1")
        self.store.broken = True
        self.commands.finished("c-1", ACCEPTED)
        self.commands.finished("c-1", CONNECTION_LOST)
        self.clock.advance(RETRY_SECONDS)
        self.store.broken = False
        self.clock.pump([RETRY_SECONDS] * 3)
        self.assertEqual(self.successResultOf(waiting), self.store.records["c-1"])
        self.assertEqual(self.end()["eventType"], f"Command{self.store.records['c-1'].status}")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_dispatch_the_disk_refuses_does_not_keep_it_from_its_end(self) -> None:
        link = self.connect()
        self.submit()
        self.store.broken = True
        self.dispatch(link)
        self.store.broken = False
        self.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.kinds(), ["CommandRouted", "CommandAccepted"])
        self.assertEqual(self.store.records["c-1"].unique_id, "m-1")

    def test_a_late_answer_is_reported_and_the_end_stands(self) -> None:
        self.connect()
        self.submit()
        self.commands.finished("c-1", TIMED_OUT)
        self.commands.late("c-1", ACCEPTED)
        self.commands.late("c-9", ACCEPTED)
        self.assertEqual(self.kinds()[-1], "CommandLateResult")
        self.assertEqual(self.events()[-1]["payload"]["status"], "Accepted")
        self.assertEqual(self.end()["eventType"], "CommandTimeout")
        self.assertEqual(self.store.records["c-1"].status, "Timeout")


class BetweenConnections(CommandsCase):
    def test_what_was_not_sent_goes_out_on_the_next_connection(self) -> None:
        first = self.connect()
        self.submit()
        self.lost(first, waiting=("c-1",))
        self.clock.advance(5)
        second = self.connect()
        self.assertEqual(second.calls, first.calls)
        self.clock.advance(60)
        self.assertEqual(self.kinds(), ["CommandRouted"], "from here on its deadline is the link's affair")
        self.commands.finished("c-1", ACCEPTED)
        self.assertEqual(self.end()["eventType"], "CommandAccepted")

    def test_it_goes_out_in_order_and_only_once(self) -> None:
        first = self.connect()
        for name in ("c-1", "c-2"):
            self.submit(commandId=name)
        self.lost(first, waiting=("c-1", "c-2"))
        second = self.connect()
        third = self.connect()
        self.assertEqual([pending.command_id for pending in second.calls], ["c-1", "c-2"])
        self.assertEqual(third.calls, [])

    def test_another_station_does_not_get_it(self) -> None:
        first = self.connect()
        self.submit()
        self.lost(first, waiting=("c-1",))
        self.assertEqual(self.connect(charge_point_id="CP-2").calls, [])

    def test_it_may_wait_over_several_connections(self) -> None:
        for _ in range(3):
            link = self.connect()
            if not self.store.records:
                self.submit()
            self.assertEqual(len(link.calls), 1)
            self.lost(link, waiting=("c-1",))
        self.clock.advance(15)
        self.assertEqual(self.end()["eventType"], "CommandTimeout")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_its_deadline_ends_it(self) -> None:
        first = self.connect()
        self.submit()
        self.lost(first, waiting=("c-1",))
        self.clock.advance(14.9)
        self.assertEqual(self.kinds(), ["CommandRouted"])
        self.clock.advance(0.1)
        end = self.end()
        self.assertEqual((end["eventType"], end["payload"]["outcome"]), ("CommandTimeout", "Unknown"))
        self.assertEqual(end["payload"]["error"]["description"], NOT_SENT.error_description)
        self.assertEqual(self.connect().calls, [])

    def test_a_station_that_comes_back_with_another_version_does_not_get_it(self) -> None:
        first = self.connect(V16)
        self.submit()
        self.lost(first, waiting=("c-1",))
        second = self.connect(V201)
        self.assertEqual(second.calls, [])
        self.assertEqual(self.end()["payload"]["error"]["code"], "OtherVersion")
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AfterACrash(CommandsCase):
    def left_open(self) -> None:
        link = self.connect()
        self.submit()
        self.submit(commandId="c-2")
        self.dispatch(link)
        self.submit(commandId="c-3")
        self.commands.finished("c-3", ACCEPTED)
        self.lost(link)
        self.commands = self.process()

    def test_what_was_open_ends_as_unknown(self) -> None:
        self.left_open()
        self.assertEqual(self.successResultOf(self.sweep()), 2)
        for name in ("c-1", "c-2"):
            end = self.end(name)
            self.assertEqual((end["eventType"], end["payload"]["outcome"]), ("CommandFailed", "Unknown"))
            self.assertEqual(end["payload"]["error"]["code"], "GatewayRestarted")
        self.assertEqual(self.end("c-3")["eventType"], "CommandAccepted")
        self.assertEqual(self.store.records["c-2"].unique_id, "m-1", "what was known stays")

    def test_a_second_sweep_finds_nothing(self) -> None:
        self.left_open()
        self.sweep()
        self.assertEqual(self.successResultOf(self.sweep()), 0)
        self.end("c-1")

    def test_a_crash_during_the_sweep_is_swept_again(self) -> None:
        self.left_open()
        self.store.broken = True
        self.sweep()
        self.commands = self.process()
        self.store.broken = False
        self.assertEqual(self.successResultOf(self.sweep()), 2)
        self.end("c-1")

    def test_the_sweep_goes_on_when_the_disk_is_mended(self) -> None:
        self.left_open()
        self.store.broken = True
        self.sweep()
        self.clock.advance(RETRY_SECONDS)
        self.store.broken = False
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.end("c-1")["eventType"], "CommandFailed")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_end_has_the_same_event_id_whoever_stores_it(self) -> None:
        """So that a consumer can drop a repeat (ADR 0009)."""
        self.left_open()
        copy = dict(self.store.records)
        self.sweep()
        first = self.end("c-1")["eventId"]
        self.journal.clear()
        self.store.records = copy
        self.sweep()
        self.assertEqual(self.end("c-1")["eventId"], first)

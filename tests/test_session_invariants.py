"""Random conversations never break what a session promises, whatever the station sends and the journal does."""

import json
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.effects import Dispatched, Finished, Late
from ocppgw.ocpp.versions import V16, VERSIONS, OcppVersion
from tests.build_session import Station, build_session
from tests.test_transactions import METER_VALUE, START, event, stop

ACTIONS: list[tuple[str, Any]] = [
    ("Heartbeat", {}),
    ("Heartbeat", None),
    ("Heartbeat", {"unknown": 1}),
    ("BootNotification", {"chargePointVendor": "v", "chargePointModel": "m"}),
    ("BootNotification", {"reason": "PowerUp", "chargingStation": {"vendorName": "v", "model": "m"}}),
    ("StartTransaction", START),
    ("StopTransaction", stop(1)),
    ("StopTransaction", stop(-1)),
    ("StopTransaction", {}),
    ("MeterValues", {"connectorId": 1, "transactionId": 1, "meterValue": METER_VALUE}),
    ("TransactionEvent", event("Started", 0)),
    ("TransactionEvent", event("Updated", 1)),
    ("TransactionEvent", event("Ended", 2)),
    ("NotifyReport", {"requestId": 1, "generatedAt": "2027-01-15T08:00:00Z", "seqNo": 0, "tbc": True}),
    ("NotifyReport", {"requestId": 1, "generatedAt": "2027-01-15T08:00:00Z", "seqNo": 1}),
    ("LogStatusNotification", {"status": "Uploading", "requestId": 1}),
    ("Reset", {}),
    ("Foo", {}),
    ("NotifyPeriodicEventStream", {"id": 1, "pending": 0, "basetime": "2027-01-15T08:00:00Z", "data": []}),
]
VARIABLE = {"component": {"name": "C"}, "variable": {"name": "V"}}
COMMANDS: list[tuple[str, Any]] = [
    ("Reset", {}),
    ("ClearCache", {}),
    ("TriggerMessage", {"requestedMessage": "Heartbeat"}),
    ("GetLog", {"requestId": 1}),
]
COMMANDS_2X = [
    ("GetBaseReport", {"requestId": 1}),
    ("GetVariables", {"getVariableData": [VARIABLE, VARIABLE, VARIABLE]}),
]
IDS = ["a", "b", "c", "our-1", "our-2", "our-3"]
GARBAGE: list[bytes] = [
    b"",
    b"[]",
    b"{not json",
    b"[2]",
    b"[9,1]",
    b'[2,"",7]',
    b"[" * 3000,
    b'[6,"a"]',
    b"[4,null]",
    b"[3]",
]


class Conversation(RuleBasedStateMachine):
    """What the station sent is counted by message id, and so are the answers that came back."""

    station: Station

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.commands = 0
        self.unreadable = 0

    @initialize(version=st.sampled_from(VERSIONS), boot_status=st.sampled_from([None, "Accepted", "Pending"]))
    def connected(self, version: OcppVersion, boot_status: str | None) -> None:
        self.station = build_session(version, boot_status=boot_status, journal_waits=True, store_waits=True)

    @rule(message_id=st.sampled_from(IDS), action=st.sampled_from(ACTIONS))
    def station_calls(self, message_id: str, action: tuple[str, Any]) -> None:
        self.asked[message_id] += 1
        self.station.call(message_id, *action)

    @rule(message_id=st.sampled_from(IDS), rest=st.lists(st.sampled_from(["Heartbeat", {}, 7, None]), max_size=4))
    def station_calls_oddly(self, message_id: str, rest: list[Any]) -> None:
        self.asked[message_id] += 1
        self.station.receive([2, message_id, *rest])

    @rule(message_id=st.sampled_from(IDS), action=st.sampled_from(ACTIONS))
    def station_sends(self, message_id: str, action: tuple[str, Any]) -> None:
        sent = self.station.receive([6, message_id, *action])
        assert sent == []

    @rule(
        kind=st.sampled_from([3, 4, 5, 7]),
        message_id=st.sampled_from(IDS),
        rest=st.sampled_from(
            [
                *([], [{}], [{"status": "Accepted"}], ["NotSupported", "", {}], [None], [1, 2, 3]),
                ["OccurrenceConstraintViolation", "too many", {}],
                [{"getVariableResult": [{**VARIABLE, "attributeStatus": "Accepted"}]}],
                [{"status": "AcceptedCanceled"}],
            ]
        ),
    )
    def station_answers(self, kind: int, message_id: str, rest: list[Any]) -> None:
        sent = self.station.receive([kind, message_id, *rest])
        assert all(frame[0] in (2, 5) for frame in sent), sent  # the next command, or a complaint: no answer

    @rule(text=st.sampled_from(GARBAGE))
    def station_sends_garbage(self, text: bytes) -> None:
        for frame in self.station.receive(text):
            assert frame[:2] == [4, "-1"], frame
            self.unreadable += 1

    @rule(number=st.integers(0, 5), within=st.sampled_from([0.0, 5.0, 100.0]))
    def backend_commands(self, number: int, within: float) -> None:
        known = COMMANDS if self.station.version is V16 else COMMANDS + COMMANDS_2X
        action, payload = known[number % len(known)]
        self.commands += 1
        self.station.command(action, payload, f"command-{self.commands}", within)

    @rule(seconds=st.sampled_from([0.1, 6.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.station.wait(seconds)

    @rule(records=st.integers(1, 3))
    def journal_commits(self, records: int) -> None:
        self.station.commit(records)

    @rule()
    def journal_refuses(self) -> None:
        self.station.refuse(1)

    @rule()
    def store_replies(self) -> None:
        self.station.store_replies()

    def answers(self) -> Counter[str]:
        return Counter(frame[1] for frame in self.station.sent if frame[0] in (3, 4) and frame[1] != "-1")

    @invariant()
    def no_call_is_answered_twice(self) -> None:
        if hasattr(self, "station"):
            assert self.answers() <= self.asked

    @invariant()
    def at_most_one_of_our_calls_is_out(self) -> None:
        if hasattr(self, "station"):
            out = {effect.command_id for effect in self.station.of_type(Dispatched)} - self.station.ends().keys()
            assert len(out) <= 1

    @invariant()
    def every_report_ends_at_most_once(self) -> None:
        if hasattr(self, "station"):
            ends = [one["correlationId"] for one in self.station.events if one["eventType"] == "ReportCompleted"]
            assert len(ends) == len(set(ends))

    @invariant()
    def every_command_ends_at_most_once(self) -> None:
        if hasattr(self, "station"):
            ends = Counter(effect.command_id for effect in self.station.of_type(Finished))
            assert all(times == 1 for times in ends.values())
            assert {late.command_id for late in self.station.of_type(Late)} <= ends.keys()

    @invariant()
    def what_is_sent_is_no_send_and_suits_the_version(self) -> None:
        if hasattr(self, "station"):
            kinds = {frame[0] for frame in self.station.sent}
            assert kinds <= ({2, 3, 4, 5} if self.station.version.has_call_result_error else {2, 3, 4})
            if self.station.version is V16:
                assert self.unreadable == 0

    def teardown(self) -> None:
        """Once journal and store have caught up, a new CALL is answered, and every command has ended."""
        if not hasattr(self, "station"):
            return
        for _ in range(300):
            self.station.store_replies()
            if not self.station.waiting_records:
                break
            self.station.commit()
        assert len(self.station.call("last", "Foo", {})) == 1
        for _ in range(self.commands):
            self.station.wait(100)
        assert len(self.station.ends()) == self.commands


class Exactly(RuleBasedStateMachine):
    """With a journal that takes everything, every distinct CALL is answered exactly once, in order."""

    station: Station

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    @initialize(version=st.sampled_from(VERSIONS), status=st.sampled_from([None, "Accepted", "Pending", "Rejected"]))
    def connected(self, version: OcppVersion, status: str | None) -> None:
        self.station = build_session(version, boot_status=status, journal_waits=True, store_waits=True)

    @rule(action=st.sampled_from(ACTIONS))
    def station_calls(self, action: tuple[str, Any]) -> None:
        self.asked.append(f"m-{len(self.asked)}")
        self.station.receive(json.dumps([2, self.asked[-1], *action]).encode())

    @rule(records=st.integers(1, 2))
    def journal_commits(self, records: int) -> None:
        self.station.commit(records)

    @rule()
    def store_replies(self) -> None:
        self.station.store_replies()

    def teardown(self) -> None:
        if not hasattr(self, "station"):
            return
        for _ in range(300):
            self.station.store_replies()
            self.station.commit()
        assert [frame[1] for frame in self.station.sent] == self.asked


BRIEFLY = settings(max_examples=60, stateful_step_count=40, deadline=None)
Conversation.TestCase.settings = BRIEFLY
Exactly.TestCase.settings = BRIEFLY


class Invariants(SynchronousTestCase):
    def test_random_conversations(self) -> None:
        Conversation.TestCase("runTest").debug()

    def test_every_call_is_answered_once_and_in_order(self) -> None:
        Exactly.TestCase("runTest").debug()

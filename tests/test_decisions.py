"""Who asks the backend, and what comes of it: one end for each question, whatever the backend and the bus do."""

import json
from collections.abc import Mapping
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import BusError, CommandError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import Decide
from ocppgw.ocpp.rules import StationFacts
from ocppgw.ocpp.versions import V16
from ocppgw.ports import Message
from ocppgw.routing import decisions as module
from ocppgw.routing.decision_inbox import DecisionInbox
from ocppgw.routing.decisions import DecisionRules, Decisions, UnknownCall
from ocppgw.routing.outbox import Outbox
from tests.test_outbox import FakeJournal

NOW = 1_790_000_000.0
ACCEPTED = {"idTagInfo": {"status": "Accepted"}}
BLOCKED = {"idTagInfo": {"status": "Blocked"}}


class FakeLink:
    """What a question came to: (token, answer, is_refused)."""

    def __init__(self, name: str = "CP-1") -> None:
        self.station = StationFacts(name, "station-1", "tenant-1")
        self.version = V16
        self.told: list[tuple[int, Any, bool]] = []

    def decided(self, token: int, answer: Mapping[str, Any] | None, *, is_refused: bool = False) -> None:
        self.told.append((token, answer, is_refused))


def judge(answer: Mapping[str, Any]) -> str:
    return "" if "idTagInfo" in answer else "idTagInfo is missing"


def authorize(token: int = 1, tag: str = "TAG") -> Decide:
    return Decide(token, "Authorize", "m-1", b'{"idTag":"%b"}' % tag.encode(), f"Authorize {tag}", judge)


class DecisionsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.metrics, self.link = Clock(), Metrics({}, "test"), FakeLink()
        self.clock.rightNow = NOW
        self.requests: list[dict[str, Any]] = []
        self.fault: BusError | None = None

    def build(self, *, has_bus: bool = True, **rules: Any) -> Decisions:
        numbers = count(1)
        reply_to = "responses.node.a" if has_bus else ""
        ask = self.ask if has_bus else None
        settings = DecisionRules(**{"timeout": 5.0, **rules})
        return Decisions(settings, ask, reply_to, self.metrics, self.clock, lambda: f"q-{next(numbers)}")

    def ask(self, request: Mapping[str, Any]) -> "Deferred[None]":
        self.requests.append(json.loads(module.msgspec.json.encode(request)))
        return succeed(None) if self.fault is None else fail(self.fault)

    def metric(self, action: str, outcome: str) -> float:
        name = f'ocppgw_decisions_total{{action="{action}",outcome="{outcome}"}}'
        lines = self.metrics.exposition().decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)

    def note(self, kind: str) -> bool:
        return f'ocppgw_notes_total{{kind="{kind}"}} 1.0'.encode() in self.metrics.exposition()


class Asking(DecisionsCase):
    def test_the_backend_is_told_all_it_needs(self) -> None:
        self.build().ask(self.link, authorize())
        self.assertEqual(
            self.requests,
            [
                {
                    "correlationId": "q-1",
                    "replyTo": "responses.node.a",
                    "requestedAt": "2026-09-21T14:13:20.000Z",
                    "deadline": "2026-09-21T14:13:25.000Z",
                    "chargePointId": "CP-1",
                    "stationId": "station-1",
                    "tenantId": "tenant-1",
                    "ocppVersion": "1.6J",
                    "action": "Authorize",
                    "messageId": "m-1",
                    "payload": {"idTag": "TAG"},
                }
            ],
        )

    def test_its_answer_goes_to_the_station(self) -> None:
        decisions = self.build()
        decisions.ask(self.link, authorize(7))
        decisions.reply({"correlationId": "q-1", "payload": BLOCKED})
        self.assertEqual(self.link.told, [(7, BLOCKED, False)])
        self.assertEqual((self.metric("Authorize", "backend"), self.clock.getDelayedCalls()), (1, []))

    def test_the_first_answer_counts(self) -> None:
        decisions = self.build()
        decisions.ask(self.link, authorize())
        decisions.reply({"correlationId": "q-1", "payload": BLOCKED})
        with self.assertRaises(UnknownCall):
            decisions.reply({"correlationId": "q-1", "payload": ACCEPTED})
        self.assertEqual(len(self.link.told), 1)
        self.assertTrue(self.note("decision-late"))

    def test_one_that_can_not_be_sent_says_why_and_another_may_follow(self) -> None:
        decisions = self.build()
        decisions.ask(self.link, authorize())
        for reply in ({"payload": {}}, {"payload": None}, {}, {"error": "no"}):
            with self.assertRaises(CommandError):
                decisions.reply({"correlationId": "q-1", **reply})
        self.assertEqual(self.link.told, [])
        decisions.reply({"correlationId": "q-1", "payload": ACCEPTED})
        self.assertEqual(self.link.told, [(1, ACCEPTED, False)])

    def test_it_may_refuse(self) -> None:
        decisions = self.build()
        decisions.ask(self.link, authorize())
        decisions.reply({"correlationId": "q-1", "error": {"code": "InternalError", "description": "no database"}})
        self.assertEqual((self.link.told, self.metric("Authorize", "error")), ([(1, None, True)], 1))

    def test_answers_find_their_stations(self) -> None:
        decisions, other = self.build(), FakeLink("CP-2")
        decisions.ask(self.link, authorize(1))
        decisions.ask(other, authorize(2))
        decisions.reply({"correlationId": "q-2", "payload": BLOCKED})
        self.assertEqual((self.link.told, other.told), ([], [(2, BLOCKED, False)]))


class FallingBack(DecisionsCase):
    def test_after_its_time_the_fallback_goes_out_once(self) -> None:
        decisions = self.build()
        decisions.ask(self.link, authorize())
        self.clock.advance(4.9)
        self.assertEqual(self.link.told, [])
        with capturedLogs() as logs:
            self.clock.advance(0.2)
        self.assertEqual((self.link.told, self.metric("Authorize", "timeout")), ([(1, None, False)], 1))
        self.assertEqual([(log["why"], log["station"]) for log in logs], [("timeout", "CP-1")])
        with self.assertRaises(UnknownCall):
            decisions.reply({"correlationId": "q-1", "payload": BLOCKED})
        self.assertEqual(len(self.link.told), 1)

    def test_at_once_when_the_bus_does_not_take_the_question(self) -> None:
        self.fault = BusError("no broker answers")
        self.build().ask(self.link, authorize())
        self.assertEqual((self.link.told, self.metric("Authorize", "not-asked")), ([(1, None, False)], 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once_when_too_many_are_open(self) -> None:
        self.patch(module, "MOST_OPEN", 1)
        decisions = self.build()
        decisions.ask(FakeLink(), authorize())
        decisions.ask(self.link, authorize())
        self.assertEqual((self.link.told, self.metric("Authorize", "overloaded")), ([(1, None, False)], 1))

    def test_an_error_where_that_is_wanted(self) -> None:
        decisions = self.build(fallback="local", fallbacks={"Authorize": "error"})
        decisions.ask(self.link, authorize())
        self.clock.advance(5.0)
        self.assertEqual(self.link.told, [(1, None, True)])

    def test_what_the_backend_last_said_of_that_token_of_that_station(self) -> None:
        decisions, other = self.build(fallbacks={"Authorize": "last"}), FakeLink("CP-2")
        decisions.ask(self.link, authorize(1, "A"))
        decisions.reply({"correlationId": "q-1", "payload": BLOCKED})
        for link, token, tag in ((self.link, 2, "A"), (self.link, 3, "B"), (other, 4, "A")):
            decisions.ask(link, authorize(token, tag))
        self.clock.advance(5.0)
        self.assertEqual(self.link.told[1:], [(2, BLOCKED, False), (3, None, False)])
        self.assertEqual(other.told, [(4, None, False)])

    def test_a_last_answer_of_another_ocpp_version_is_not_given_again(self) -> None:
        """A station may change its version with its firmware; its cards stay the same."""
        decisions = self.build(fallbacks={"BootNotification": "last"})
        before = Decide(1, "BootNotification", "m-1", b"{}", "BootNotification ", lambda answer: "")
        decisions.ask(self.link, before)
        decisions.reply({"correlationId": "q-1", "payload": {"status": "Accepted", "interval": 60}})
        after = Decide(2, "BootNotification", "m-2", b"{}", "BootNotification ", lambda answer: "not of this version")
        decisions.ask(self.link, after)
        self.clock.advance(5.0)
        self.assertEqual(self.link.told[1:], [(2, None, False)])

    def test_a_last_answer_is_not_given_again_when_its_time_is_over(self) -> None:
        decisions = self.build(fallbacks={"Authorize": "last"})
        for member, name, until, is_given in (
            ("idTagInfo", "expiryDate", "2026-09-21T16:13:30+02:00", True),
            ("idTagInfo", "expiryDate", "2026-09-21T14:13:21Z", False),
            ("idTokenInfo", "cacheExpiryDateTime", "2026-09-21T14:13:21", False),
            ("idTokenInfo", "cacheExpiryDateTime", "soon", False),
        ):
            self.clock.rightNow, link = NOW, FakeLink()
            asked = Decide(1, "Authorize", "m-1", b"{}", f"Authorize {until}", lambda answer: "")
            decisions.ask(link, asked)
            answer = {member: {"status": "Accepted", name: until}}
            decisions.reply({"correlationId": self.requests[-1]["correlationId"], "payload": answer})
            decisions.ask(link, asked)
            self.clock.advance(5.0)
            self.assertEqual(link.told[1:], [(1, answer if is_given else None, False)], until)

    def test_an_old_time_is_not_given_again(self) -> None:
        decisions = self.build(fallbacks={"BootNotification": "last"})
        boot = Decide(1, "BootNotification", "m-1", b"{}", "BootNotification ", lambda answer: "")
        decisions.ask(self.link, boot)
        accepted = {"status": "Accepted", "interval": 60}
        decisions.reply({"correlationId": "q-1", "payload": {**accepted, "currentTime": "2026-09-21T14:13:20Z"}})
        decisions.ask(self.link, boot)
        self.clock.advance(5.0)
        self.assertEqual(self.link.told[1], (1, accepted, False))

    def test_the_newest_of_them_and_no_more_than_there_is_room_for(self) -> None:
        self.patch(module, "MOST_REMEMBERED", 1)
        decisions = self.build(fallbacks={"Authorize": "last"})
        for number, (tag, answer) in enumerate((("A", BLOCKED), ("A", ACCEPTED), ("B", BLOCKED)), 1):
            decisions.ask(self.link, authorize(number, tag))
            decisions.reply({"correlationId": f"q-{number}", "payload": answer})
        decisions.ask(self.link, authorize(8, "A"))
        decisions.ask(self.link, authorize(9, "B"))
        self.clock.advance(5.0)
        self.assertEqual(self.link.told[3:], [(8, None, False), (9, BLOCKED, False)])


class WithoutBus(DecisionsCase):
    def test_those_that_wait_are_shown_until_they_are_answered(self) -> None:
        decisions = self.build(has_bus=False)
        asked = decisions.until_asked(30.0)
        self.assertNoResult(asked)
        decisions.ask(self.link, authorize())
        self.successResultOf(asked)
        self.assertEqual([call["correlationId"] for call in decisions.open_calls()], ["q-1"])
        decisions.reply({"correlationId": "q-1", "payload": ACCEPTED})
        self.assertEqual(decisions.open_calls(), [])

    def test_no_more_wait_than_may(self) -> None:
        self.patch(module, "MOST_WAITING", 1)
        decisions = self.build(has_bus=False)
        first = decisions.until_asked(30.0)
        self.successResultOf(decisions.until_asked(30.0))
        self.assertNoResult(first)
        self.clock.advance(30.0)
        self.successResultOf(first)

    def test_who_waits_for_one_waits_a_bounded_time(self) -> None:
        asked = self.build(has_bus=False).until_asked(30.0)
        self.clock.advance(30.0)
        self.successResultOf(asked)


class Inbox(DecisionsCase):
    def setUp(self) -> None:
        super().setUp()
        self.journal = FakeJournal()
        self.decisions = self.build()
        outbox = Outbox(self.journal, self.metrics, 10, 100_000, 10.0)  # type: ignore[arg-type]
        self.inbox = DecisionInbox(self.decisions.reply, outbox, self.metrics, self.clock, "node-1")

    def handle(self, *values: Any) -> None:
        raw = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
        messages = [Message("responses.node.a", 0, offset, b"CP-1", value) for offset, value in enumerate(raw)]
        self.assertIsNone(self.successResultOf(self.inbox.handle(messages)))

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(record.value) for record in self.journal.appended]

    def test_what_can_not_be_used_becomes_a_dead_letter_and_the_next_is_handled(self) -> None:
        self.decisions.ask(self.link, authorize())
        empty, blocked = ({"correlationId": "q-1", "payload": answer} for answer in ({}, BLOCKED))
        self.handle(b"{not json", [1], empty, blocked)
        self.assertEqual(self.link.told, [(1, BLOCKED, False)])
        self.assertEqual([letter["code"] for letter in self.letters()], ["BadJson", "BadJson", "InvalidAnswer"])
        self.assertIn("idTagInfo is missing", self.letters()[2]["reason"])

    def test_one_that_nobody_waits_for_is_counted_and_no_letter(self) -> None:
        self.handle({"correlationId": "of-a-process-before", "payload": BLOCKED})
        self.assertEqual(self.letters(), [])
        self.assertTrue(self.note("decision-late"))

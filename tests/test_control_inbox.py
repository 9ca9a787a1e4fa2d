"""What other nodes tell this one: handled at once, put aside when it can't be read, left out when it is of the past."""

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.metrics import Metrics
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import Message
from ocppgw.routing.control_inbox import MAX_AGE_SECONDS, ControlInbox
from ocppgw.routing.outbox import Outbox
from tests.test_outbox import FakeJournal

NOW = 1_790_000_000.0
TOPIC = "ocpp.session.control.node.node-1"


def message(value: Any, offset: int = 0) -> Message:
    return Message(TOPIC, 0, offset, b"CP-1", value if isinstance(value, bytes) else json.dumps(value).encode())


class ControlInboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.journal, self.metrics = Clock(), FakeJournal(), Metrics({}, "test")
        self.clock.rightNow = NOW
        self.handled: list[Mapping[str, Any]] = []
        self.fault: Exception | None = None
        outbox = Outbox(self.journal, self.metrics, 10, 100_000, 10.0)  # type: ignore[arg-type]
        self.inbox = ControlInbox(self.control, outbox, self.metrics, self.clock, "node-1")

    def control(self, told: Mapping[str, Any]) -> None:
        self.handled.append(told)
        if self.fault is not None:
            raise self.fault

    def told(self, age: float = 0.0, **more: Any) -> dict[str, Any]:
        requested_at = rfc3339(NOW - age).decode()
        return {"type": "ForceDisconnect", "chargePointId": "CP-1", "requestedAt": requested_at, **more}

    def note(self, kind: str) -> bool:
        return f'ocppgw_notes_total{{kind="{kind}"}} 1.0'.encode() in self.metrics.exposition()

    def handle(self, *messages: Message) -> None:
        self.assertIsNone(self.successResultOf(self.inbox.handle(messages)))

    def test_messages_are_handled_in_their_order(self) -> None:
        messages = [self.told(epoch=epoch) for epoch in (1, 2, 3)]
        self.handle(*map(message, messages))
        self.assertEqual(self.handled, messages)

    def test_one_of_the_past_is_left_out_and_counted(self) -> None:
        with capturedLogs() as logs:
            self.handle(message(self.told(MAX_AGE_SECONDS + 1)), message(self.told(MAX_AGE_SECONDS - 1)))
        self.assertEqual(self.handled, [self.told(MAX_AGE_SECONDS - 1)])
        self.assertTrue(self.note("control-message-old"))
        self.assertEqual([event["age"] for event in logs], [MAX_AGE_SECONDS + 1])

    def test_without_a_time_that_can_be_read_it_is_handled(self) -> None:
        for requested_at in ({}, {"requestedAt": "yesterday"}, {"requestedAt": None}, {"requestedAt": 7}):
            self.handle(message({"type": "ForceDisconnect", **requested_at}))
        self.assertEqual(len(self.handled), 4)

    def test_what_is_no_object_is_put_aside_and_holds_up_nothing(self) -> None:
        for number, value in enumerate((b"\xff\xfe", b"{", b"[1]", b"null", b"")):
            self.handle(message(value, number), message(self.told(number=number)))
        self.assertEqual(len(self.handled), 5)
        letters = [json.loads(record.value) for record in self.journal.appended]
        self.assertEqual([record.topic for record in self.journal.appended], ["dead"] * 5)
        self.assertEqual([letter["offset"] for letter in letters], [0, 1, 2, 3, 4])
        self.assertEqual({(letter["topic"], letter["code"]) for letter in letters}, {(TOPIC, "BadJson")})

    def test_a_fault_of_ours_is_logged_and_the_next_one_is_handled(self) -> None:
        self.fault = ZeroDivisionError()
        self.handle(message(self.told(epoch=1)), message(self.told(epoch=2)))
        self.assertEqual((len(self.handled), len(self.flushLoggedErrors(ZeroDivisionError))), (2, 2))
        self.assertEqual(self.journal.appended, [])

"""Links: effects in order, the newest connection wins, late clean-up touches nobody, faults stay where they are."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.proof import Proof
from ocppgw.ocpp.calls import PendingCall
from ocppgw.ocpp.effects import (
    Ask,
    Close,
    CommandResult,
    Dispatched,
    Finished,
    Late,
    Note,
    Publish,
    Record,
    Requeue,
    Send,
    SignRequest,
    WakeAt,
)
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.session import StationFacts
from ocppgw.ocpp.state import StationState, TransactionFound
from ocppgw.ocpp.versions import V16
from ocppgw.routing.links import Link, Surroundings
from tests.build_edge import METRICS, NOW

RESULT = CommandResult(Outcome.ACCEPTED)
RECORD = Record("station", "station-1", b"{}")


class ScriptedSession:
    """A session that answers every input with what the test put into `script`, and remembers the inputs."""

    def __init__(self, charge_point_id: str) -> None:
        self.station = StationFacts(charge_point_id, "station-" + charge_point_id, "tenant-1")
        self.state = StationState()
        self.latency = 0.0
        self.inputs: list[tuple[Any, ...]] = []
        self.script: dict[str, Any] = {}

    def _act(self, name: str, *given: Any) -> Any:
        self.inputs.append((name, *given))
        effects = self.script.get(name, [])
        if isinstance(effects, Exception):
            raise effects
        return effects

    def opened(self, now: float, facts: Any) -> Any:
        return self._act("opened", facts)

    def lost(self, now: float, code: int | None, reason: str) -> Any:
        return self._act("lost", code)

    def receive(self, text: bytes, now: float) -> Any:
        return self._act("receive", text)

    def receive_binary(self) -> Any:
        return self._act("binary")

    def durable(self, token: int, now: float) -> Any:
        return self._act("durable", token)

    def refused(self, token: int, now: float) -> Any:
        return self._act("refused", token)

    def answered(self, token: int, found: Any, now: float) -> Any:
        return self._act("answered", token, found)

    def call(self, pending: Any, now: float) -> Any:
        return self._act("call", pending.command_id)

    def tick(self, now: float) -> Any:
        return self._act("tick", now)

    def names(self) -> list[str]:
        return [name for name, *_ in self.inputs]


class Around:
    """Outbox, store, commands and sockets in one: `events` is all that happened, in order."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.asked: Deferred[TransactionFound] = Deferred()

    def publish(self, record: Any, changes: Any, waiter: Any, token: int) -> None:
        self.events.append(("publish", token))

    def find_transaction(self, charge_point_id: str, key: str, transaction_id: str) -> Deferred[TransactionFound]:
        self.events.append(("ask", charge_point_id, key))
        return self.asked

    def dispatched(self, link: Link, effect: Dispatched) -> None:
        self.events.append(("dispatched", effect.command_id))

    def finished(self, command_id: str, result: CommandResult) -> None:
        self.events.append(("finished", command_id))

    def late(self, command_id: str, result: CommandResult) -> None:
        self.events.append(("late", command_id))

    def requeued(self, command_id: str) -> None:
        self.events.append(("requeued", command_id))

    def link_opened(self, link: Link) -> None:
        self.events.append(("link opened", link.station.charge_point_id))

    def accepted(self, link: Link) -> None:
        self.events.append(("accepted", link.station.charge_point_id))

    def request(self, link: Link, wanted: SignRequest) -> None:
        self.events.append(("sign", link.station.charge_point_id, wanted.csr))


class FakeSocket:
    def __init__(self, name: str, events: list[Any]) -> None:
        self.address = "192.0.2.1"
        self.name = name
        self._events = events

    def send_text(self, text: bytes) -> None:
        self._events.append((self.name, text))

    def close(self, code: int, reason: str) -> None:
        self._events.append((self.name, "close", code))


class LinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.around = Around()
        self.events = self.around.events
        double: Any = self.around
        self.surroundings = Surroundings(self.clock, double, double, METRICS)
        self.surroundings.commands = self.surroundings.signing = self.around
        self.links = self.surroundings.links
        self.link = self.open("first")

    def session(self, link: Link) -> ScriptedSession:
        session: Any = link.session
        assert isinstance(session, ScriptedSession)
        return session

    def open(self, name: str, charge_point_id: str = "CP-001") -> Link:
        session: Any = ScriptedSession(charge_point_id)
        link = Link(session, FakeSocket(name, self.events), V16, "ocpp1.6", self.surroundings)
        link.opened()
        return link

    def play(self, *effects: Any) -> list[Any]:
        """What happens when a message makes the session return `effects`."""
        del self.events[:]
        self.session(self.link).script["receive"] = list(effects)
        self.link.received(b"x")
        return self.events

    def test_opening_registers_tells_the_session_and_then_the_commands(self) -> None:
        self.assertIs(self.links.get("CP-001"), self.link)
        self.assertEqual(
            self.session(self.link).inputs, [("opened", {"address": "192.0.2.1", "subprotocol": "ocpp1.6"})]
        )
        self.assertEqual(self.events, [("link opened", "CP-001")])

    def test_effects_are_performed_in_order(self) -> None:
        happened = self.play(
            Send(b"one"),
            Publish(RECORD, 7),
            Dispatched("c1", "m1", "Reset", {}, NOW),
            Finished("c2", RESULT),
            Late("c3", RESULT),
            Requeue("c4"),
            Note("call-error", "FormationViolation"),
            Send(b"two"),
            Close(1002, "enough"),
        )
        self.assertEqual(
            happened,
            [
                ("first", b"one"),
                ("publish", 7),
                ("dispatched", "c1"),
                ("finished", "c2"),
                ("late", "c3"),
                ("requeued", "c4"),
                ("first", b"two"),
                ("first", "close", 1002),
            ],
        )
        self.assertEqual((self.link.messages, self.link.sent), (1, 2))

    def test_a_certificate_request_is_signed_after_its_answer(self) -> None:
        self.session(self.link).script["durable"] = [Send(b"answer"), SignRequest("csr")]
        self.link.durable(3)
        self.assertEqual(self.events[1:], [("first", b"answer"), ("sign", "CP-001", "csr")])

    def test_what_it_proved_itself_with_is_kept(self) -> None:
        session: Any = ScriptedSession("CP-002")
        proof = Proof("basic", digest=b"a digest", security_profile=2, address="192.0.2.9")
        link = Link(session, FakeSocket("proved", self.events), V16, "ocpp1.6", self.surroundings, proof)
        self.assertIs(link.proof, proof)
        self.assertNotIn("a digest", repr(proof))
        self.assertEqual(self.link.proof.method, "none")

    def test_the_journals_word_comes_back_to_the_session(self) -> None:
        self.session(self.link).script = {"durable": [Send(b"answer")], "refused": [Send(b"error")]}
        self.link.durable(3)
        self.link.refused(4, "the disk is full")
        self.assertEqual(self.session(self.link).inputs[1:], [("durable", 3), ("refused", 4)])
        self.assertEqual(self.events[1:], [("first", b"answer"), ("first", b"error")])

    def test_once_its_boot_is_accepted_commands_are_told(self) -> None:
        session = self.session(self.link)
        self.link.durable(3)
        session.state.boot_status = "Accepted"
        self.link.durable(4)
        self.link.durable(5)
        self.assertEqual(self.events[1:], [("accepted", "CP-001")])

    def test_the_stores_reply_to_a_question_comes_back(self) -> None:
        self.session(self.link).script["answered"] = [Send(b"answer")]
        self.assertEqual(self.play(Ask(5, "CP-001", key="k")), [("ask", "CP-001", "k")])
        found = TransactionFound(None, 1)
        self.around.asked.callback(found)
        self.assertEqual(self.session(self.link).inputs[-1], ("answered", 5, found))
        self.assertEqual(self.events[-1], ("first", b"answer"))

    def test_a_question_the_store_can_not_answer_is_a_refusal(self) -> None:
        self.play(Ask(5, "CP-001", key="k"))
        self.around.asked.errback(RuntimeError("the disk is full"))
        self.assertEqual(self.session(self.link).inputs[-1], ("refused", 5))

    def test_a_wake_up_falls_due_once_and_the_last_one_counts(self) -> None:
        self.play(WakeAt(NOW + 5), WakeAt(NOW + 9))
        self.clock.advance(8)
        self.assertNotIn("tick", self.session(self.link).names())
        self.clock.advance(1)
        self.clock.advance(100)
        self.assertEqual(self.session(self.link).names().count("tick"), 1)

    def test_a_closed_link_never_wakes_again(self) -> None:
        self.session(self.link).script["lost"] = [WakeAt(NOW + 7)]
        self.play(WakeAt(NOW + 5))
        self.link.closed(1006, "gone")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_command_reaches_the_session(self) -> None:
        self.session(self.link).script["call"] = [Send(b"call")]
        self.link.call(PendingCall("c1", "Reset", {}, NOW + 30))
        self.assertEqual(self.session(self.link).inputs[-1], ("call", "c1"))
        self.assertEqual(self.events[-1], ("first", b"call"))

    def test_closing_twice_tells_the_session_once(self) -> None:
        self.link.closed(1006, "gone")
        self.link.closed(1006, "gone")
        self.assertEqual(self.session(self.link).names(), ["opened", "lost"])
        self.assertIsNone(self.links.get("CP-001"))

    def test_what_is_withdrawn_is_gone_at_once_even_if_the_peer_never_answers(self) -> None:
        self.link.withdraw(1008, "the identity is disabled")
        self.assertIsNone(self.links.get("CP-001"))
        self.assertEqual(self.events[-1], ("first", "close", 1008))
        self.assertEqual(self.session(self.link).inputs[-1], ("lost", 1008))
        self.link.received(b"late")
        self.link.closed(1006, "its socket is gone at last")
        self.assertEqual(self.session(self.link).names(), ["opened", "lost"])

    # --- the newest connection wins

    def test_a_newer_connection_displaces_the_older_with_1012(self) -> None:
        self.session(self.link).script["lost"] = [Requeue("c1")]
        newer = self.open("second")
        self.assertIs(self.links.get("CP-001"), newer)
        self.assertEqual(self.session(self.link).inputs[-1], ("lost", 1012))
        # What was queued on the old one is free again before the new one asks for it.
        self.assertEqual(self.events[1:], [("first", "close", 1012), ("requeued", "c1"), ("link opened", "CP-001")])

    def test_the_late_clean_up_of_a_displaced_link_never_touches_its_successor(self) -> None:
        newer = self.open("second")
        self.link.closed(1006, "its socket is gone at last")
        self.assertIs(self.links.get("CP-001"), newer)
        self.links.unregister(self.link)
        self.assertIs(self.links.get("CP-001"), newer)
        self.assertEqual(self.session(self.link).names().count("lost"), 1)

    def test_a_displaced_link_neither_receives_nor_sends(self) -> None:
        self.open("second")
        del self.events[:]
        self.link.received(b"late")
        self.link.received_binary()
        self.session(self.link).script["durable"] = [Send(b"late answer")]
        self.link.durable(1)
        self.link.close(1001, "draining")
        self.assertEqual(self.events, [])
        self.assertEqual(self.session(self.link).names(), ["opened", "lost", "durable"])

    # --- faults

    def test_a_fault_in_one_waiter_closes_that_link_and_no_other(self) -> None:
        other = self.open("other", "CP-002")
        self.session(other).script["durable"] = [Send(b"answer")]
        for name in ("durable", "refused"):
            self.session(self.link).script[name] = ValueError("a fault of ours")
        self.link.durable(1)
        other.durable(1)
        self.link.refused(2, "full")
        self.assertEqual(self.events[2:], [("first", "close", 1011), ("other", b"answer"), ("first", "close", 1011)])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_a_fault_while_the_stores_reply_is_handled_closes_the_link(self) -> None:
        self.session(self.link).script["answered"] = ValueError("a fault of ours")
        self.play(Ask(5, "CP-001", key="k"))
        self.around.asked.callback(TransactionFound(None, 1))
        self.assertEqual(self.events[-1], ("first", "close", 1011))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_fault_in_a_wake_up_closes_the_link(self) -> None:
        self.session(self.link).script["tick"] = ValueError("a fault of ours")
        self.play(WakeAt(NOW + 5))
        self.clock.advance(5)
        self.assertEqual(self.events[-1], ("first", "close", 1011))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    # --- the registry

    def test_links_are_found_counted_and_listed(self) -> None:
        other = self.open("other", "CP-002")
        self.assertEqual((len(self.links), self.links.counts()), (2, {"1.6J": 2}))
        self.assertIs(self.links.of_station("station-CP-002"), other)
        self.assertIsNone(self.links.of_station("station-CP-003"))
        for link in self.links:  # may end while the others are still to come
            link.closed(1001, "draining")
        self.assertEqual((len(self.links), self.links.counts()), (0, {}))

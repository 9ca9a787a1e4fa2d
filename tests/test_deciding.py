"""Answers that the backend gives, in a session: asked once, durable before they go out; none: the gateway's own."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.answers import AnswerRules
from ocppgw.ocpp.deciding import DECIDABLE, NOBODY, answer_key
from ocppgw.ocpp.effects import Decide, Publish
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS, OcppVersion
from tests.build_session import FACTS, Station, build_session
from tests.test_transactions import START, event, stop

BOOT_16 = {"chargePointVendor": "Vendor", "chargePointModel": "Model"}
BOOT_2X = {"reason": "PowerUp", "chargingStation": {"vendorName": "Vendor", "model": "Model"}}
RULES = SessionRules(answers=AnswerRules(heartbeat_interval=300, boot_retry_interval=60))
TOKEN = {"idToken": "TAG", "type": "Central"}


def asked(version: OcppVersion, *actions: str, **settings: Any) -> Station:
    """A station whose answers to these actions the backend gives."""
    facts = msgspec.structs.replace(FACTS, decided=frozenset(actions))
    return build_session(version, facts=facts, rules=RULES, **settings)


def question(station: Station) -> Decide:
    decide: Decide = station.of_type(Decide)[-1]
    return decide


def decide(station: Station, answer: Any, *, is_refused: bool = False) -> list[Any]:
    """The frames that were sent."""
    token = question(station).token

    def act() -> None:
        station.perform(station.session.decided(token, answer, station.now, is_refused=is_refused))

    sent: list[Any] = station._sending(act)
    return sent


class Authorizing(SynchronousTestCase):
    def test_the_answer_is_the_backends(self) -> None:
        for version, payload, answer, key in (
            (V16, {"idTag": "TAG"}, {"idTagInfo": {"status": "Blocked", "parentIdTag": "P"}}, "Authorize TAG"),
            (V201, {"idToken": TOKEN}, {"idTokenInfo": {"status": "NoCredit"}}, "Authorize TAG Central"),
            (V21, {"idToken": TOKEN}, {"idTokenInfo": {"status": "Accepted"}}, "Authorize TAG Central"),
        ):
            station = asked(version, "Authorize")
            self.assertEqual(station.call("a", "Authorize", payload), [])
            wanted = question(station)
            self.assertEqual((wanted.action, wanted.message_id, wanted.key), ("Authorize", "a", key))
            self.assertEqual(msgspec.json.decode(wanted.payload), payload)
            self.assertEqual(decide(station, answer), [[3, "a", answer]])
            self.assertEqual(len(station.events), 1)

    def test_others_are_answered_here_and_nobody_is_asked(self) -> None:
        station = asked(V16, "Authorize")
        self.assertEqual(len(station.call("a", "Heartbeat", {})), 1)
        self.assertEqual(station.of_type(Decide), [])

    def test_it_waits_for_the_journal_whatever_comes_first(self) -> None:
        answer = {"idTagInfo": {"status": "Expired"}}
        station = asked(V16, "Authorize", journal_waits=True)
        station.call("a", "Authorize", {"idTag": "TAG"})
        self.assertEqual(decide(station, answer), [])
        self.assertEqual(station.commit(), [[3, "a", answer]])

    def test_without_a_decision_the_answer_is_the_gateways(self) -> None:
        station = asked(V16, "Authorize")
        station.call("a", "Authorize", {"idTag": "TAG"})
        self.assertEqual(decide(station, None), [[3, "a", {"idTagInfo": {"status": "Accepted"}}]])

    def test_or_a_call_error_that_is_not_kept(self) -> None:
        station = asked(V16, "Authorize")
        station.call("a", "Authorize", {"idTag": "TAG"})
        self.assertEqual(decide(station, None, is_refused=True), [[4, "a", "InternalError", NOBODY, {}]])
        self.assertEqual(station.call("a", "Authorize", {"idTag": "TAG"}), [], "sent again it is asked again")
        self.assertEqual(len(station.of_type(Decide)), 2)

    def test_a_repeated_call_gets_the_same_answer_without_asking(self) -> None:
        answer = {"idTagInfo": {"status": "Blocked"}}
        station = asked(V16, "Authorize")
        station.call("a", "Authorize", {"idTag": "TAG"})
        decide(station, answer)
        self.assertEqual(station.call("a", "Authorize", {"idTag": "TAG"}), [[3, "a", answer]])
        self.assertEqual(len(station.of_type(Decide)), 1)

    def test_calls_behind_it_wait(self) -> None:
        station = asked(V16, "Authorize")
        station.call("a", "Authorize", {"idTag": "TAG"})
        self.assertEqual(station.call("b", "DataTransfer", {"vendorId": "v"}), [])
        sent = decide(station, {"idTagInfo": {"status": "Accepted"}})
        self.assertEqual([frame[:2] for frame in sent], [[3, "a"], [3, "b"]])

    def test_a_second_decision_changes_nothing(self) -> None:
        station = asked(V16, "Authorize")
        station.call("a", "Authorize", {"idTag": "TAG"})
        decide(station, {"idTagInfo": {"status": "Accepted"}})
        self.assertEqual(decide(station, {"idTagInfo": {"status": "Blocked"}}), [])

    def test_a_decision_for_a_connection_that_is_gone_is_kept_for_the_next(self) -> None:
        answer = {"idTagInfo": {"status": "Blocked"}}
        station = asked(V16, "Authorize")
        station.call("a", "Authorize", {"idTag": "TAG"})
        station.lose()
        self.assertEqual(decide(station, answer), [])
        station.connect()
        self.assertEqual(station.call("a", "Authorize", {"idTag": "TAG"}), [[3, "a", answer]])

    def test_what_is_not_stored_is_refused_though_it_was_decided(self) -> None:
        station = asked(V16, "Authorize", journal_waits=True)
        station.call("a", "Authorize", {"idTag": "TAG"})
        decide(station, {"idTagInfo": {"status": "Accepted"}})
        self.assertEqual(station.refuse()[0][:3], [4, "a", "InternalError"])

    def test_an_invalid_call_is_not_asked_about(self) -> None:
        station = asked(V16, "Authorize")
        self.assertEqual(station.call("a", "Authorize", {"idTag": 7})[0][0], 4)
        self.assertEqual(station.of_type(Decide), [])


class Judging(SynchronousTestCase):
    def fault(self, version: OcppVersion, action: str, payload: Any, answer: Any) -> str:
        station = asked(version, action)
        station.call("a", action, payload)
        return question(station).judge(answer)

    def test_an_answer_has_to_be_one_of_its_version(self) -> None:
        authorize = {"idTag": "TAG"}
        self.assertEqual(self.fault(V16, "Authorize", authorize, {"idTagInfo": {"status": "Accepted"}}), "")
        self.assertIn("status", self.fault(V16, "Authorize", authorize, {"idTagInfo": {"status": "NoCredit"}}))
        self.assertIn("idTagInfo", self.fault(V16, "Authorize", authorize, {}))

    def test_one_that_is_nested_too_deeply_to_be_sent_is_none(self) -> None:
        """The schemas let anything into customData."""
        deep: Any = "bottom"
        for _ in range(300):
            deep = [deep]
        custom = {"customData": {"vendorId": "v", "deep": deep}}
        authorize = {"idToken": TOKEN}
        for version in (V201, V21):
            answer = {"idTokenInfo": {"status": "Accepted"}, **custom}
            self.assertIn("nested too deeply", self.fault(version, "Authorize", authorize, answer))
            boot = {"status": "Accepted", **custom}
            self.assertIn("nested too deeply", self.fault(version, "BootNotification", BOOT_2X, boot))

    def test_what_only_the_gateway_knows_may_be_left_out(self) -> None:
        self.assertEqual(self.fault(V16, "StartTransaction", START, {"idTagInfo": {"status": "Accepted"}}), "")
        self.assertEqual(self.fault(V201, "BootNotification", BOOT_2X, {"status": "Pending"}), "")
        self.assertIn("status", self.fault(V201, "BootNotification", BOOT_2X, {}))

    def test_every_up_action_but_the_heartbeat_can_be_decided(self) -> None:
        self.assertNotIn("Heartbeat", DECIDABLE)
        self.assertNotIn("Reset", DECIDABLE)
        self.assertNotIn("NotifyPeriodicEventStream", DECIDABLE, "a SEND has no answer")
        for version in VERSIONS:
            self.assertIn("Authorize", version.actions.keys() & DECIDABLE)


class Booting(SynchronousTestCase):
    def test_the_status_is_the_backends_in_answer_event_and_store(self) -> None:
        for version, boot in ((V16, BOOT_16), (V201, BOOT_2X)):
            station = asked(version, "BootNotification")
            self.assertEqual(station.call("b", "BootNotification", boot), [])
            self.assertEqual(station.events, [], "the event tells the decided status")
            [[kind, name, answer]] = decide(station, {"status": "Pending", "interval": 7})
            self.assertEqual((kind, name, answer["status"], answer["interval"]), (3, "b", "Pending", 7))
            self.assertEqual(answer["currentTime"], "2027-01-15T08:00:00.000Z")
            self.assertEqual(station.last_event()["payload"]["status"], "Pending")
            assert station.store.boot is not None
            self.assertEqual((station.store.boot.status, station.state.boot_status), ("Pending", "Pending"))
            self.assertEqual(station.call("h", "Heartbeat", {})[0][2], "SecurityError")

    def test_without_an_interval_it_gets_the_gateways(self) -> None:
        for status, interval in (("Accepted", 300), ("Rejected", 60)):
            station = asked(V16, "BootNotification")
            station.call("b", "BootNotification", BOOT_16)
            self.assertEqual(decide(station, {"status": status})[0][2]["interval"], interval)

    def test_without_a_decision_it_is_answered_as_ever(self) -> None:
        station = asked(V16, "BootNotification")
        station.call("b", "BootNotification", BOOT_16)
        self.assertEqual(decide(station, None)[0][2]["status"], "Accepted")

    def test_refused_it_is_no_boot(self) -> None:
        station = asked(V16, "BootNotification", boot_status=None)
        before = station.state.boot_status
        station.call("b", "BootNotification", BOOT_16)
        self.assertEqual(decide(station, None, is_refused=True)[0][:3], [4, "b", "InternalError"])
        self.assertEqual((station.events, station.state.boot_status), ([], before))
        self.assertEqual(station.call("c", "BootNotification", BOOT_16), [])

    def test_of_a_connection_that_is_gone_nothing_is_recorded(self) -> None:
        station = asked(V16, "BootNotification")
        station.call("b", "BootNotification", BOOT_16)
        station.lose()
        published = len(station.of_type(Publish))
        self.assertEqual(decide(station, {"status": "Accepted"}), [])
        self.assertEqual(len(station.of_type(Publish)), published)


class Transactions(SynchronousTestCase):
    def test_the_number_is_the_gateways_whatever_the_backend_says(self) -> None:
        station = asked(V16, "StartTransaction")
        station.call("a", "StartTransaction", START)
        [[_, _, answer]] = decide(station, {"idTagInfo": {"status": "ConcurrentTx"}, "transactionId": 4711})
        self.assertEqual(answer["idTagInfo"], {"status": "ConcurrentTx"})
        self.assertEqual(answer["transactionId"], station.last_event()["payload"]["transactionId"])
        self.assertNotEqual(answer["transactionId"], 4711)

    def test_a_decision_before_the_number_is_known_waits_for_it(self) -> None:
        station = asked(V16, "StartTransaction", store_waits=True)
        station.call("a", "StartTransaction", START)
        self.assertEqual(decide(station, {"idTagInfo": {"status": "Blocked"}}), [])
        [[_, _, answer]] = station.store_replies()
        self.assertEqual(answer, {"transactionId": 1, "idTagInfo": {"status": "Blocked"}})

    def test_a_repeated_start_is_decided_again_and_recorded_once(self) -> None:
        station = asked(V16, "StartTransaction")
        station.call("a", "StartTransaction", START)
        number = decide(station, {"idTagInfo": {"status": "Accepted"}})[0][2]["transactionId"]
        self.assertEqual(station.call("b", "StartTransaction", START), [])
        sent = decide(station, {"idTagInfo": {"status": "Blocked"}})
        self.assertEqual(sent, [[3, "b", {"transactionId": number, "idTagInfo": {"status": "Blocked"}}]])
        self.assertEqual(station.event_types(), ["SessionStarted"])

    def test_they_are_recorded_and_answered_also_when_the_backend_refuses(self) -> None:
        for action, version, payload in (
            ("StartTransaction", V16, START),
            ("StopTransaction", V16, stop(7)),
            ("TransactionEvent", V201, event("Ended", 3)),
        ):
            station = asked(version, action)
            station.call("a", action, payload)
            self.assertEqual(len(station.events), 1, "before the backend says anything")
            self.assertEqual([frame[:2] for frame in decide(station, None, is_refused=True)], [[3, "a"]])

    def test_the_cost_of_a_2x_transaction(self) -> None:
        station = asked(V201, "TransactionEvent")
        station.call("a", "TransactionEvent", event("Updated", 1))
        self.assertEqual(decide(station, {"totalCost": 1.25}), [[3, "a", {"totalCost": 1.25}]])


class Keys(SynchronousTestCase):
    def test_an_answer_holds_for_the_token_it_was_given_for(self) -> None:
        self.assertEqual(answer_key("Authorize", {"idTag": "A"}), "Authorize A")
        self.assertEqual(
            answer_key("Authorize", {"idToken": {"idToken": "A", "type": "Central"}}), "Authorize A Central"
        )
        self.assertEqual(answer_key("BootNotification", BOOT_16), "BootNotification ")

    def test_a_key_code_is_not_the_card_with_the_same_number(self) -> None:
        keys = {
            answer_key("Authorize", {"idToken": {"idToken": "1234", "type": kind}}) for kind in ("ISO14443", "KeyCode")
        }
        self.assertEqual(len(keys), 2)

"""Every action a station may send is answered by a payload that its own version's schema allows."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.answers import AnswerRules, answer, boot
from ocppgw.ocpp.schemas import load_schema, schema_set
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS, OcppVersion
from tests.build_session import NOW, build_session
from tests.test_schemas_differential import Generator

# The most talkative settings: whatever an operator writes, an answer stays valid.
STATUSES = (
    *("Accepted", "Blocked", "ConcurrentTx", "Expired", "Invalid", "NoCredit", "NotAllowedTypeEVSE"),
    *("NotAtThisLocation", "NotAtThisTime", "Unknown"),
)


def payloads(version: OcppVersion, action: str) -> list[dict[str, Any]]:
    """Valid requests of this action: the smallest, the fullest, and some between."""
    generator = Generator(load_schema(version, action, response=False), f"answer {version.name} {action}")
    return [generator.payload(share) for share in (0.0, 1.0, 0.5, 0.5)]


def answered(version: OcppVersion, action: str, payload: dict[str, Any], rules: AnswerRules | None = None) -> Any:
    return json.loads(answer(version, action, rules or AnswerRules(), payload, NOW))


class EveryAction(SynchronousTestCase):
    def check(self, version: OcppVersion, rules: SessionRules) -> None:
        station = build_session(version, rules=rules)
        responses = schema_set(version).responses
        number = 0
        for action in sorted(name for name in version.up if not version.actions[name].is_send):
            for payload in payloads(version, action):
                number += 1
                sent = station.call(f"m-{number}", action, payload)
                self.assertEqual([frame[:2] for frame in sent], [[3, f"m-{number}"]], f"{action}: {payload}: {sent}")
                self.assertTrue(responses[action].is_valid(sent[0][2]), f"{version.name} {action}: {sent}")

    def test_is_answered_validly(self) -> None:
        for version in VERSIONS:
            self.check(version, SessionRules())

    def test_is_answered_validly_under_any_rules(self) -> None:
        for version in VERSIONS:
            for status in STATUSES:
                rules = AnswerRules(id_token_status=status, heartbeat_interval=0, boot_retry_interval=0)
                self.check(version, SessionRules(answers=rules))

    def test_makes_exactly_one_event(self) -> None:
        for version in VERSIONS:
            for action in sorted(name for name in version.up if not version.actions[name].is_send):
                station = build_session(version)
                payload = payloads(version, action)[0]
                station.call("m", action, payload)
                self.assertEqual(len(station.events), 1, action)
                body = station.last_event()["payload"]
                self.assertEqual((body["action"], body["payload"], body["messageId"]), (action, payload, "m"))


class Boot(SynchronousTestCase):
    def test_interval_depends_on_the_status(self) -> None:
        rules = AnswerRules(heartbeat_interval=300, boot_retry_interval=60)
        for status, interval in (("Accepted", 300), ("Pending", 60), ("Rejected", 60)):
            self.assertEqual(
                json.loads(boot(rules, status, NOW)),
                {"status": status, "currentTime": "2027-01-15T08:00:00.000Z", "interval": interval},
            )


class Statuses(SynchronousTestCase):
    def test_heartbeat_tells_the_time_in_utc(self) -> None:
        self.assertEqual(answered(V16, "Heartbeat", {}), {"currentTime": "2027-01-15T08:00:00.000Z"})

    def test_token_that_is_named_has_its_own_status(self) -> None:
        rules = AnswerRules(id_tokens={"LOST": "Blocked"})
        for tag, status in (("LOST", "Blocked"), ("OTHER", "Accepted")):
            self.assertEqual(answered(V16, "Authorize", {"idTag": tag}, rules), {"idTagInfo": {"status": status}})
            payload = {"idToken": {"idToken": tag, "type": "ISO14443"}}
            self.assertEqual(answered(V201, "Authorize", payload, rules), {"idTokenInfo": {"status": status}})

    def test_status_that_1_6_has_no_word_for_is_invalid(self) -> None:
        rules = AnswerRules(id_token_status="NoCredit")
        self.assertEqual(answered(V16, "Authorize", {"idTag": "X"}, rules), {"idTagInfo": {"status": "Invalid"}})

    def test_button_is_accepted_whatever_tokens_are(self) -> None:
        payload = {"idToken": {"idToken": "", "type": "NoAuthorization"}}
        info = answered(V201, "Authorize", payload, AnswerRules(id_token_status="Blocked"))
        self.assertEqual(info, {"idTokenInfo": {"status": "Accepted"}})

    def test_data_transfer_of_an_unknown_and_of_a_known_vendor(self) -> None:
        rules = AnswerRules(data_transfer_vendors=frozenset({"com.example"}))
        for vendor, status in (("com.example", "Accepted"), ("org.other", "UnknownVendorId")):
            for version in VERSIONS:
                self.assertEqual(answered(version, "DataTransfer", {"vendorId": vendor}, rules), {"status": status})

    def test_what_nobody_here_can_do_is_not_promised(self) -> None:
        self.assertEqual(answered(V16, "SignCertificate", {"csr": "x"}), {"status": "Rejected"})
        self.assertEqual(answered(V201, "GetCertificateStatus", {}), {"status": "Failed"})
        self.assertEqual(answered(V201, "NotifyEVChargingNeeds", {}), {"status": "Rejected"})
        self.assertEqual(answered(V21, "NotifyEVChargingNeeds", {}), {"status": "NoChargingProfile"})
        self.assertEqual(answered(V21, "VatNumberValidation", {"vatNumber": "DE1"})["status"], "Rejected")

    def test_each_chain_status_request_gets_its_own_answer(self) -> None:
        hashes = [{"serialNumber": str(number)} for number in range(3)]
        requests = [{"certificateHashData": one, "source": "OCSP", "urls": ["https://x"]} for one in hashes]
        answers = answered(V21, "GetCertificateChainStatus", {"certificateStatusRequests": requests})
        self.assertEqual([one["certificateHashData"] for one in answers["certificateStatus"]], hashes)
        self.assertEqual({one["status"] for one in answers["certificateStatus"]}, {"Failed"})

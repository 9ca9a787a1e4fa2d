"""Tokens that the gateway knows by itself: what a file may hold, and what stations are told of them."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.answers import AnswerRules, answer
from ocppgw.ocpp.schemas import schema_set
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.tokens import KnownToken, TokenBook, TokenFileError, parse_tokens
from ocppgw.ocpp.versions import V16, V21, V201, OcppVersion
from tests.build_session import NOW, build_session
from tests.test_deciding import BOOT_2X, BOOT_16
from tests.test_transactions import START, event

FILE = [
    {"idToken": "B4F62CEF", "expiryDate": "2027-02-01T00:00:00Z", "parent": "FLEET-7"},
    {"idToken": "OLD", "expiryDate": "2027-01-15T08:00:00Z"},
    {"idToken": "DE*ABC*C12", "type": "eMAID", "status": "NoCredit"},
    {"idToken": "LOST", "status": "Blocked"},
]
RULES = AnswerRules(id_token_status="Invalid", tokens=TokenBook(parse_tokens(FILE)))


def told(version: OcppVersion, token: str, kind: str = "Central", rules: AnswerRules = RULES) -> Any:
    """The info of the answer to Authorize, which has to be valid."""
    payload = {"idTag": token} if version is V16 else {"idToken": {"idToken": token, "type": kind}}
    found = json.loads(answer(version, "Authorize", rules, payload, NOW))
    assert schema_set(version).responses["Authorize"].is_valid(found), found
    [info] = found.values()
    return info


class Answers(SynchronousTestCase):
    def test_status_end_and_parent_in_the_words_of_each_version(self) -> None:
        until = "2027-02-01T00:00:00.000Z"
        self.assertEqual(told(V16, "B4F62CEF"), {"status": "Accepted", "expiryDate": until, "parentIdTag": "FLEET-7"})
        for version in (V201, V21):
            group = {"idToken": "FLEET-7", "type": "Central"}
            self.assertEqual(
                told(version, "B4F62CEF"), {"status": "Accepted", "cacheExpiryDateTime": until, "groupIdToken": group}
            )

    def test_case_does_not_count(self) -> None:
        self.assertEqual(told(V16, "lost"), {"status": "Blocked"})
        self.assertEqual(told(V201, "Lost"), {"status": "Blocked"})

    def test_one_whose_time_is_over_is_expired(self) -> None:
        self.assertEqual(told(V16, "OLD")["status"], "Expired")
        self.assertEqual(told(V201, "OLD")["status"], "Expired")

    def test_a_type_has_to_be_the_one_that_is_known(self) -> None:
        self.assertEqual(told(V201, "DE*ABC*C12", "eMAID"), {"status": "NoCredit"})
        self.assertEqual(told(V201, "DE*ABC*C12", "Central"), {"status": "Invalid"})
        self.assertEqual(told(V16, "DE*ABC*C12"), {"status": "Invalid"}, "1.6 has no types, and no such status")

    def test_the_configurations_own_tokens_count_before(self) -> None:
        rules = AnswerRules(id_tokens={"LOST": "Accepted"}, tokens=RULES.tokens)
        self.assertEqual(told(V16, "LOST", rules=rules), {"status": "Accepted"})

    def test_transactions_are_told_the_same(self) -> None:
        rules = SessionRules(answers=RULES)
        sent = build_session(V16, rules=rules).call("a", "StartTransaction", {**START, "idTag": "LOST"})
        self.assertEqual(sent[0][2]["idTagInfo"], {"status": "Blocked"})
        token = {"idToken": "B4F62CEF", "type": "ISO14443"}
        sent = build_session(V201, rules=rules).call("a", "TransactionEvent", event("Started", 0, idToken=token))
        self.assertEqual(sent[0][2]["idTokenInfo"]["groupIdToken"]["idToken"], "FLEET-7")

    def test_other_pages_count_at_once(self) -> None:
        book = TokenBook()
        rules = AnswerRules(tokens=book)
        self.assertEqual(told(V16, "X", rules=rules), {"status": "Accepted"})
        book.put({"x": KnownToken("Blocked")})
        self.assertEqual(told(V16, "X", rules=rules), {"status": "Blocked"})


class Files(SynchronousTestCase):
    def test_every_bad_entry_is_named(self) -> None:
        for document, words in (
            ({}, "must be a JSON list"),
            ([7], "entry 0: it must be a JSON object"),
            ([{}], "entry 0: idToken is missing"),
            ([{"idToken": ""}], "idToken must be a text"),
            ([{"idToken": "A", "status": "Fine"}], "status 'Fine' is none of Accepted"),
            ([{"idToken": "A", "expiryDate": "2027-01-01"}], "expiryDate must be an RFC 3339 time with its zone"),
            ([{"idToken": "A", "expiryDate": 7}], "expiryDate must be"),
            ([{"idToken": "A", "parent": "x" * 21}], "parent must be a text of 1 to 20"),
            ([{"idToken": "A", "until": "x"}], "no member 'until'"),
            ([{"idToken": "A"}, {"idToken": "a"}], "entry 1: 'a' is there twice"),
        ):
            with self.assertRaises(TokenFileError) as caught:
                parse_tokens(document)
            self.assertIn(words, str(caught.exception))

    def test_all_of_them_at_once_up_to_a_bound(self) -> None:
        with self.assertRaises(TokenFileError) as caught:
            parse_tokens([{}] * 12)
        self.assertIn("entry 9: idToken is missing; and 2 more", str(caught.exception))


class Models(SynchronousTestCase):
    RULES = SessionRules(boot_models=("vendor/mod*", "other/*"), boot_unknown_model="Pending")

    def status(self, version: OcppVersion, payload: dict[str, Any], rules: SessionRules = RULES) -> Any:
        return build_session(version, boot_status=None, rules=rules).call("b", "BootNotification", payload)[0][2][
            "status"
        ]

    def test_those_that_are_named_are_accepted_others_wait(self) -> None:
        self.assertEqual(self.status(V16, BOOT_16), "Accepted")
        self.assertEqual(self.status(V201, BOOT_2X), "Accepted")
        self.assertEqual(self.status(V16, {**BOOT_16, "chargePointModel": "Other"}), "Pending")
        station = {"vendorName": "OTHER", "model": "any"}
        self.assertEqual(self.status(V21, {**BOOT_2X, "chargingStation": station}), "Accepted")

    def test_without_names_all_are(self) -> None:
        self.assertEqual(self.status(V16, {**BOOT_16, "chargePointVendor": "?"}, SessionRules()), "Accepted")

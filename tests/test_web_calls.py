"""Calls that the backend is to answer, over HTTP."""

from twisted.trial.unittest import SynchronousTestCase

from tests.fake_gateway import build_web
from tests.test_decisions import ACCEPTED, FakeLink, authorize


class Calls(SynchronousTestCase):
    def setUp(self):
        self.web, gateway, self.clock = build_web()
        self.calls, self.link = gateway.calls, FakeLink()

    def test_those_that_wait_are_listed_until_they_are_answered(self):
        self.assertEqual(self.web.get("/v1/calls").json(), {"calls": []})
        self.calls.ask(self.link, authorize(7))
        [call] = self.web.get("/v1/calls").json()["calls"]
        self.assertEqual(
            (call["correlationId"], call["action"], call["payload"]), ("q-1", "Authorize", {"idTag": "TAG"})
        )
        self.assertEqual(self.web.post("/v1/calls/q-1", {"payload": ACCEPTED}).status, 200)
        self.assertEqual(self.link.told, [(7, ACCEPTED, False)])
        self.assertEqual(self.web.get("/v1/calls").json(), {"calls": []})

    def test_who_waits_for_one_hears_of_it_at_once(self):
        waiting = self.web.request("GET", "/v1/calls?wait=30")
        self.calls.ask(self.link, authorize())
        self.assertEqual(len(waiting.answer().json()["calls"]), 1)

    def test_or_of_none_after_the_time(self):
        waiting = self.web.request("GET", "/v1/calls?wait=30")
        self.clock.advance(30)
        self.assertEqual(waiting.answer().json(), {"calls": []})

    def test_an_answer_that_can_not_be_sent_is_told_why(self):
        self.calls.ask(self.link, authorize())
        answer = self.web.post("/v1/calls/q-1", {"payload": {}})
        self.assertEqual((answer.status, answer.json()["code"]), (400, "InvalidAnswer"))
        self.assertIn("idTagInfo is missing", answer.json()["message"])
        self.assertEqual(self.web.post("/v1/calls/q-1", {"answer": {}}).json()["code"], "BadMember")
        self.assertEqual(self.web.post("/v1/calls/q-1", {"error": {"code": "InternalError"}}).status, 200)
        self.assertEqual(self.link.told, [(1, None, True)])

    def test_one_that_nobody_waits_for_is_not_found(self):
        answer = self.web.post("/v1/calls/q-9", {"payload": ACCEPTED})
        self.assertEqual((answer.status, answer.json()["code"]), (404, "UnknownCall"))

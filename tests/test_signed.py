"""Signed wrappers of 2.x are unpacked and served like what is in them."""

import base64
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.versions import V16, V21, V201
from tests.build_session import build_session
from tests.test_transactions import event


def wrapped(payload: Any) -> dict[str, str]:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    encoded = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
    return {"payload": encoded, "protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "c2ln"}


class Signed(SynchronousTestCase):
    def test_it_is_served_as_what_is_in_it(self) -> None:
        for version in (V201, V21):
            station = build_session(version)
            sent = station.call("a", "Heartbeat-Signed", wrapped({}))
            self.assertEqual(sent, [[3, "a", {"currentTime": "2027-01-15T08:00:00.000Z"}]])
            self.assertEqual(station.call("b", "TransactionEvent-Signed", wrapped(event("Started", 0))), [[3, "b", {}]])
            body = station.last_event()["payload"]
            self.assertEqual((body["action"], body["payload"]), ("TransactionEvent", event("Started", 0)))

    def test_padding_is_tolerated(self) -> None:
        self.assertEqual(build_session(V201).call("a", "Heartbeat-Signed", {"payload": "e30="})[0][0], 3)

    def test_what_is_in_it_is_checked(self) -> None:
        station = build_session(V201)
        for action, payload, code in (
            ("Heartbeat", {"x": 1}, "FormatViolation"),
            ("Foo", {}, "NotImplemented"),
            ("Reset", {}, "NotSupported"),
            ("Heartbeat-Signed", {}, "NotImplemented"),
        ):
            sent = station.call("a", f"{action}-Signed", wrapped(payload))
            self.assertEqual([frame[:3] for frame in sent], [[4, "a", code]], action)
        self.assertEqual(
            build_session(V201, boot_status=None).call("a", "Heartbeat-Signed", wrapped({}))[0][2], "SecurityError"
        )

    def test_what_can_not_be_unpacked_is_a_format_violation(self) -> None:
        broken: list[dict[str, Any]] = [
            {},
            {"payload": 7},
            {"payload": "e"},
            {"payload": "e3 0"},
            {"payload": "é30"},
            wrapped([]),
            wrapped(b"{not json"),
            wrapped(b"\xff"),
            wrapped(b"[" * 10_000),
        ]
        for payload in broken:
            sent = build_session(V201).call("a", "Heartbeat-Signed", payload)
            self.assertEqual([frame[:3] for frame in sent], [[4, "a", "FormatViolation"]], payload)

    def test_1_6_has_no_such_messages(self) -> None:
        self.assertEqual(build_session(V16).call("a", "Heartbeat-Signed", wrapped({}))[0][2], "NotImplemented")

    def test_repeat_gets_the_same_answer(self) -> None:
        station = build_session(V201)
        first = station.call("a", "Heartbeat-Signed", wrapped({}))
        station.now += 1
        self.assertEqual(station.call("a", "Heartbeat-Signed", wrapped({})), first)
        self.assertEqual(len(station.events), 1)

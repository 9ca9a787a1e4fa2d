"""The log: what an operator reads, and what a peer can't make him read."""

import io
import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.logs import Cooldown, RateLimitedLog, observer, printable, redact


def build_log(style="text", level="info", namespace="ocppgw.net.websocket"):
    """(logger, stream): what the logger says goes through the observer into the stream."""
    stream = io.StringIO()
    publisher = LogPublisher(observer(style, level, stream))
    return Logger(namespace=namespace, observer=publisher), stream


class TextTests(SynchronousTestCase):
    def test_event_is_one_line_with_its_fields(self):
        log, stream = build_log()
        log.info("Boot accepted", station="CP-001", node="n1", connection=7, message_id="19")
        line = stream.getvalue()
        self.assertEqual(line.count("\n"), 1)
        self.assertIn("info     [net.websocket] Boot accepted station=CP-001 node=n1 connection=7 messageId=19", line)
        self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")

    def test_field_in_the_sentence_is_not_repeated(self):
        log, stream = build_log()
        log.info("{station} is back", station="CP-001")
        self.assertTrue(stream.getvalue().endswith("CP-001 is back\n"))

    def test_field_can_not_pass_for_another_field(self):
        log, stream = build_log()
        log.info("hello", station='x" node="forged', node="n1")
        self.assertTrue(stream.getvalue().endswith(r'station="x\" node=\"forged" node=n1' + "\n"))

    def test_level_filters(self):
        log, stream = build_log(level="warn")
        log.info("quiet")
        log.warn("loud")
        self.assertNotIn("quiet", stream.getvalue())
        self.assertIn("loud", stream.getvalue())

    def test_autobahn_and_twisted_web_are_silent_below_warning(self):
        for namespace in ("autobahn.twisted.websocket", "txaio.tx", "twisted.web.http"):
            log, stream = build_log(level="debug", namespace=namespace)
            log.info("chatter")
            log.warn("trouble")
            self.assertNotIn("chatter", stream.getvalue())
            self.assertIn("trouble", stream.getvalue())

    def test_error_level_also_holds_for_the_quiet_namespaces(self):
        log, stream = build_log(level="error", namespace="autobahn.websocket")
        log.warn("trouble")
        self.assertEqual(stream.getvalue(), "")

    def test_newline_in_a_peers_value_makes_no_second_line(self):
        log, stream = build_log()
        log.info("Refused {path}", path="/x\n2026-01-01T00:00:00.000Z critical forged\r\x1b[2J\u2028\u202e")
        self.assertEqual(stream.getvalue().count("\n"), 1)
        self.assertIn(r"/x\n2026-01-01T00:00:00.000Z critical forged\r\x1b[2J\u2028\u202e", stream.getvalue())

    def test_failure_shows_its_traceback_behind_bars(self):
        log, stream = build_log()
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            log.failure("Commit failed", failure=Failure())
        first, *rest = stream.getvalue().splitlines()
        self.assertIn(r"critical [net.websocket] Commit failed: ValueError: first\nsecond", first)
        self.assertTrue(rest)
        self.assertTrue(all(line.startswith("    | ") for line in rest))

    def test_event_without_a_sentence_is_no_line(self):
        log, stream = build_log()
        log.emit(LogLevel.info, None)
        self.assertEqual(stream.getvalue(), "")

    def test_unknown_format_or_level_is_refused(self):
        with self.assertRaisesRegex(ValueError, "log format 'xml' is none of text, json"):
            observer("xml", "info", io.StringIO())
        with self.assertRaisesRegex(ValueError, "log level 'loud' is none of debug"):
            observer("text", "loud", io.StringIO())


class JsonTests(SynchronousTestCase):
    def test_event_is_one_json_object(self):
        log, stream = build_log("json")
        log.warn("{station} said {words}", station="CP-001", words="a\nb", message_id="19")
        line = json.loads(stream.getvalue())
        self.assertEqual(stream.getvalue().count("\n"), 1)
        self.assertEqual(line.pop("time")[-1], "Z")
        expected = {"level": "warn", "logger": "ocppgw.net.websocket", "text": r"CP-001 said a\nb"}
        self.assertEqual(line, {**expected, "station": "CP-001", "messageId": "19"})

    def test_failure_carries_its_traceback(self):
        log, stream = build_log("json")
        log.failure("Commit failed", failure=Failure(OSError("disk full")))
        line = json.loads(stream.getvalue())
        self.assertEqual(line["text"], "Commit failed: OSError: disk full")
        self.assertIn("disk full", line["traceback"])

    def test_lone_surrogates_do_not_break_the_line(self):
        log, stream = build_log("json")
        log.info("got {text}", text="\udcff")
        self.assertEqual(json.loads(stream.getvalue())["text"], r"got \udcff")


class SecretsTests(SynchronousTestCase):
    def test_credentials_are_masked(self):
        for text in (
            "redis://:hunter22@host:6379/0",
            "redis://user:hunter22@host",
            "Authorization: Basic aHVudGVyMjI6aHVudGVyMjI=",
            "authorization: Bearer hunter22hunter22",
            "b'Authorization': b'Basic hunter22hunter22'",
            "x-api-key: hunter22",
            '{"password": "hunter22"}',
            "GET /x?token=hunter22&a=1",
        ):
            self.assertNotIn("hunter22", redact(text))
            self.assertNotIn("aHVudGVyMjI", redact(text))

    def test_the_rest_is_left_alone(self):
        for text in ("ws://host:8080/ocpp/1.6/CP-001", "token is missing", "a: b"):
            self.assertEqual(redact(text), text)

    def test_secret_in_a_failure_is_masked(self):
        log, stream = build_log()
        log.failure("Can't connect", failure=Failure(OSError("redis://:hunter22@host")))
        self.assertNotIn("hunter22", stream.getvalue())

    def test_secret_in_a_field_is_masked(self):
        log, stream = build_log("json")
        log.info("hello", connection="ws://u:hunter22@h/")
        self.assertNotIn("hunter22", stream.getvalue())


class PrintableTests(SynchronousTestCase):
    @given(st.text())
    def test_nothing_unprintable_survives(self, text):
        shown = printable(text)
        self.assertEqual(shown.splitlines() or [""], [shown])
        shown.encode()  # no lone surrogate either

    def test_long_text_is_cut(self):
        self.assertEqual(printable("x" * 10, 4), "xxxx… (6 more)")


class RateLimitTests(SynchronousTestCase):
    def test_repeats_are_left_out_and_counted_in_the_next_line(self):
        said, left_out = [], []
        log = Logger(observer=lambda event: said.append(formatEvent(event)))
        limited = RateLimitedLog(log, 300, lambda: left_out.append(1))
        for now in (0.0, 1.0, 299.9, 300.0, 301.0):
            limited.warn("flood", now, "Refused {address}", address="10.0.0.1")
        limited.warn("other", 301.0, "Refused {address}", address="10.0.0.2")
        more = "Refused 10.0.0.1 (2 more were left out since the last such line)"
        self.assertEqual(said, ["Refused 10.0.0.1", more, "Refused 10.0.0.2"])
        self.assertEqual(len(left_out), 3)

    def test_invented_causes_are_bounded(self):
        cooldown = Cooldown(10, capacity=2)
        admitted = [cooldown.admit(cause, 0.0) for cause in range(5)]
        self.assertEqual(admitted, [0, 0, None, None, None])
        self.assertEqual(cooldown.left_out, 3)
        self.assertEqual(cooldown.admit(9, 10.0), 0)

"""Every kind of text a station may send, and what it is read as; what the gateway writes."""

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.frames import (
    BadFrame,
    Call,
    CallError,
    CallResult,
    Frame,
    Send,
    call,
    call_error,
    call_result,
    dumps,
    parse,
)


def kind_of(text: bytes) -> str:
    frame = parse(text)
    return frame.kind if isinstance(frame, BadFrame) else type(frame).__name__


class ReadingCalls(SynchronousTestCase):
    def test_call(self) -> None:
        self.assertEqual(parse(b'[2,"a","Heartbeat",{}]'), Call("a", "Heartbeat", {}))

    def test_whitespace_between_the_elements_is_fine(self) -> None:
        self.assertEqual(parse(b' [ 2 ,\n"a" , "Heartbeat" , { } ] '), Call("a", "Heartbeat", {}))

    def test_null_payload_is_taken_for_an_empty_one(self) -> None:
        self.assertEqual(parse(b'[2,"a","Heartbeat",null]'), Call("a", "Heartbeat", {}))

    def test_id_may_have_36_characters(self) -> None:
        message_id = "é" * 36
        self.assertEqual(parse(f'[2,"{message_id}","Heartbeat",{{}}]'.encode()), Call(message_id, "Heartbeat", {}))

    def test_id_of_37_characters_is_malformed_and_kept_verbatim(self) -> None:
        frame = parse(b'[2,"%b","Heartbeat",{}]' % (b"x" * 37))
        self.assertEqual(
            frame,
            BadFrame("malformed", "the message id has 37 characters, at most 36 are allowed", "x" * 37),
        )

    def test_malformed_calls_tell_their_fault(self) -> None:
        cases = {
            b'[2,"a"]': "a CALL has 4 elements, this one has 2",
            b'[2,"a","Heartbeat"]': "a CALL has 4 elements, this one has 3",
            b'[2,"a","Heartbeat",{},{}]': "a CALL has 4 elements, this one has 5",
            b'[2,"a",7,{}]': "the action is not a string",
            b'[2,"a",null,{}]': "the action is not a string",
            b'[2,"a","Heartbeat",[]]': "the payload is not a JSON object",
            b'[2,"a","Heartbeat","{}"]': "the payload is not a JSON object",
            b'[2,"a","Heartbeat",false]': "the payload is not a JSON object",
        }
        for text, reason in cases.items():
            self.assertEqual(parse(text), BadFrame("malformed", reason, "a"), text)

    def test_number_out_of_range_spoils_the_payload_and_not_the_id(self) -> None:
        for number in (b"1e999", b"-1e999", b"9" * 5000):
            frame = parse(b'[2,"a","DataTransfer",{"vendorId":"v","data":%b}]' % number)
            assert isinstance(frame, BadFrame)
            self.assertEqual((frame.kind, frame.message_id), ("malformed", "a"))

    def test_lone_surrogate_is_no_unicode_text(self) -> None:
        for text in (b'[2,"\\ud800","Heartbeat",{}]', b'[2,"a","DataTransfer",{"vendorId":"\\ud800"}]'):
            self.assertEqual(kind_of(text), "unreadable", text)

    def test_surrogate_pair_is_one_character(self) -> None:
        self.assertEqual(parse(b'[2,"a","X",{"t":"\\ud83d\\ude00"}]'), Call("a", "X", {"t": "😀"}))

    def test_big_integers_stay_exact(self) -> None:
        for number in (2**63, -(2**64) - 1, 123456789012345678901234567890):
            frame = parse(f'[2,"a","X",{{"n":{number}}}]'.encode())
            assert isinstance(frame, Call)
            self.assertEqual(dumps(frame.payload), b'{"n":%d}' % number)

    def test_of_equal_member_names_the_last_one_counts(self) -> None:
        self.assertEqual(parse(b'[2,"a","X",{"n":1,"n":2}]'), Call("a", "X", {"n": 2}))

    def test_nul_escape_is_text(self) -> None:
        frame = parse(b'[2,"a","X",{"t":"\\u0000"}]')
        self.assertEqual(frame, Call("a", "X", {"t": "\0"}))
        assert isinstance(frame, Call)
        self.assertEqual(dumps(frame.payload), b'{"t":"\\u0000"}')


class ReadingAnswers(SynchronousTestCase):
    def test_call_result(self) -> None:
        self.assertEqual(parse(b'[3,"a",{"status":"Accepted"}]'), CallResult("a", {"status": "Accepted"}))

    def test_null_result_is_taken_for_an_empty_one(self) -> None:
        self.assertEqual(parse(b'[3,"a",null]'), CallResult("a", {}))

    def test_call_error(self) -> None:
        frame = parse(b'[4,"a","NotSupported","no",{"why":1}]')
        self.assertEqual(frame, CallError("a", "NotSupported", "no", {"why": 1}))

    def test_call_error_without_details(self) -> None:
        self.assertEqual(parse(b'[4,"a","GenericError",""]'), CallError("a", "GenericError", "", {}))

    def test_call_result_error(self) -> None:
        frame = parse(b'[5,"a","FormatViolation","",{}]')
        self.assertEqual(frame, CallError("a", "FormatViolation", "", {}, about_result=True))

    def test_malformed_answers_keep_their_id(self) -> None:
        cases = {
            "malformed-result": (b'[3,"a"]', b'[3,"a",[]]', b'[3,"a",{},{}]', b'[3,"a",{"n":1e999}]'),
            "malformed-error": (b'[4,"a"]', b'[4,"a","X"]', b'[4,"a",1,"",{}]', b'[4,"a","X",null,{}]'),
            "malformed-result-error": (b'[5,"a"]', b'[5,"a","X","",{},{}]'),
        }
        for kind, texts in cases.items():
            for text in texts:
                frame = parse(text)
                assert isinstance(frame, BadFrame), text
                self.assertEqual((frame.kind, frame.message_id), (kind, "a"), text)

    def test_answers_without_a_readable_id_are_told_apart_from_calls(self) -> None:
        """A CALL without id may be answered; an answer never is, or two peers would answer each other for ever."""
        for text in (b"[3]", b'[3,"",{}]', b"[3,1,{}]", b"[3,null,{}]"):
            self.assertEqual(kind_of(text), "malformed-result", text)
        self.assertEqual(kind_of(b'[4,null,"X","",{}]'), "malformed-error")
        self.assertEqual(kind_of(b'[5,"","X","",{}]'), "malformed-result-error")
        self.assertEqual(kind_of(b'[6,7,"NotifyPeriodicEventStream",{}]'), "malformed-send")


class ReadingSends(SynchronousTestCase):
    def test_send(self) -> None:
        frame = parse(b'[6,"a","NotifyPeriodicEventStream",{"id":1}]')
        self.assertEqual(frame, Send("a", "NotifyPeriodicEventStream", {"id": 1}))

    def test_malformed_send_is_no_malformed_call(self) -> None:
        for text in (b'[6,"a"]', b'[6,"a","X"]', b'[6,"a",1,{}]', b'[6,"a","X",[]]', b'[6,"a","X",{"n":1e999}]'):
            self.assertEqual(kind_of(text), "malformed-send", text)
        self.assertEqual(kind_of(b'[6,"%b","X",{}]' % (b"x" * 37)), "malformed-send")


class ReadingGarbage(SynchronousTestCase):
    def test_what_is_no_message_array_is_unreadable(self) -> None:
        for text in (b"", b" ", b"{not json", b"hello", b"null", b"7", b'"a"', b"{}", b"[]", b"[2]", b"[[2]]", b"\x00"):
            self.assertEqual(kind_of(text), "unreadable", text)

    def test_missing_or_odd_id_is_unreadable(self) -> None:
        for text in (b'[2,1,"Heartbeat",{}]', b'[2,"","Heartbeat",{}]', b'[2,null,"Heartbeat",{}]', b'[2,{},"X",{}]'):
            self.assertEqual(parse(text), BadFrame("unreadable", "the message id is missing or not a string"), text)

    def test_unknown_type_numbers(self) -> None:
        for text in (
            b'[9,"a",{}]',
            b'[0,"a"]',
            b'[-2,"a"]',
            b'[2.0,"a","X",{}]',
            b'["2","a","X",{}]',
            b'[true,"a"]',
            b'[null,"a"]',
            b'[7,"a",{"n":1e999}]',
        ):
            frame = parse(text)
            assert isinstance(frame, BadFrame), text
            self.assertEqual((frame.kind, frame.message_id), ("unknown-type", "a"), text)

    def test_not_quite_json(self) -> None:
        for text in (
            b'[2,"a","X",{}',
            b'[2,"a","X",{}]]',
            b'[2,"a","X",{},]',
            b"[2,'a','X',{}]",
            b'[2,"a","X",{"n":NaN}]',
            b'[2,"a","X",{"n":01}]',
            b'\xef\xbb\xbf[2,"a","X",{}]',
            b'[2,"a","X",{"t":"\x00"}]',
        ):
            self.assertEqual(kind_of(text), "unreadable", text)

    def test_ten_thousand_levels(self) -> None:
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            deep = opening * 10_000 + b"1" + closing * 10_000
            self.assertEqual(kind_of(deep), "unreadable")
            self.assertEqual(kind_of(b'[2,"a","DataTransfer",{"vendorId":"v","data":%b}]' % deep), "unreadable")
            self.assertEqual(kind_of(opening * 10_000), "unreadable")

    def test_invalid_utf8(self) -> None:
        for broken in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xc3"):
            self.assertEqual(kind_of(b'[2,"a","X",{"t":"%b"}]' % broken), "not-utf8", broken)
            self.assertEqual(kind_of(b'[2,"a","X",{"%b":1}]' % broken), "not-utf8", broken)
            self.assertEqual(kind_of(b'[2,"%b","X",{}]' % broken), "not-utf8", broken)
            self.assertEqual(kind_of(broken), "not-utf8", broken)

    def test_reason_never_repeats_the_text(self) -> None:
        for text in (b'[2,"a","X","s3cret"]', b"s3cret", b'[3,"a","s3cret"]', b'[2,"a","X",{"s3cret":1e999}]'):
            frame = parse(text)
            assert isinstance(frame, BadFrame), text
            self.assertNotIn("s3cret", frame.reason)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=60))
    def test_any_bytes_are_read_as_something(self, text: bytes) -> None:
        self.assertIsInstance(parse(text), Frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


class AnyArray(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.sampled_from([2, 3, 4, 5, 6, "a", "Heartbeat", {}, None]) | JSON, max_size=6))
    def test_any_json_array_is_read_as_something(self, array: list[Any]) -> None:
        self.assertIsInstance(parse(json.dumps(array).encode()), Frame)

    @settings(max_examples=100, deadline=None)
    @given(st.dictionaries(st.text(max_size=6), JSON, max_size=4))
    def test_what_is_written_is_read_again(self, payload: dict[str, Any]) -> None:
        self.assertEqual(parse(call("a", "X", payload)), Call("a", "X", payload))


class Writing(SynchronousTestCase):
    def test_frames_are_compact(self) -> None:
        self.assertEqual(call('i"d', "Reset", {"type": "Soft"}), b'[2,"i\\"d","Reset",{"type":"Soft"}]')
        self.assertEqual(call_result(b'"a"', b"{}"), b'[3,"a",{}]')
        self.assertEqual(call_error("a", "NotSupported", "é"), '[4,"a","NotSupported","é",{}]'.encode())
        self.assertEqual(call_error("a", "X", "", about_result=True), b'[5,"a","X","",{}]')

    def test_description_is_cut_to_255_characters(self) -> None:
        self.assertEqual(json.loads(call_error("a", "X", "é" * 300))[3], "é" * 255)

    def test_levels_that_are_written(self) -> None:
        for inner in (b"1", b"%d" % 2**70):
            deepest = b"[" * 253 + b"[%b]" % inner + b"]" * 253
            self.assertEqual(dumps(msgspec.json.decode(deepest)), deepest)
            self.assertRaises(ValueError, dumps, msgspec.json.decode(b"[%b]" % deepest))
            self.assertRaises(ValueError, dumps, msgspec.json.decode(b'{"a":%b}' % deepest))
            self.assertRaises(ValueError, dumps, [2**70, msgspec.json.decode(b"[" * 254 + b"]" * 254)])
            self.assertEqual(dumps(msgspec.json.decode(b"[[],{},%b]" % inner)), b"[[],{},%b]" % inner)

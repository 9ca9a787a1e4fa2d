"""The fast lane by itself, and beside Autobahn's own lane: the same bytes in, the same messages, bytes and end."""

import socket
from itertools import pairwise
from typing import Any

import txaio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.fast_lane import text_frame, whole_text_frame, write_now
from tests.build_edge import BINARY, CLOSE, CONTINUATION, PING, PONG, build_edge, close_frame, frame, frames_of, request

LIMIT = 70_000
HEARTBEAT = b'[2,"%d","Heartbeat",{}]'


class WholeTextFrameTests(SynchronousTestCase):
    def test_every_length_up_to_64_kib_is_unmasked(self) -> None:
        for length in (0, 1, 2, 3, 4, 5, 57, 124, 125, 126, 127, 335, 945, 65_535):
            payload = bytes(place % 251 for place in range(length))
            self.assertEqual(whole_text_frame(frame(payload), LIMIT), payload)

    def test_the_size_limit_is_inclusive(self) -> None:
        for length in (100, 1000):
            self.assertEqual(whole_text_frame(frame(b"x" * length), length), b"x" * length)
            self.assertIsNone(whole_text_frame(frame(b"x" * (length + 1)), length))

    def test_everything_else_is_left_to_autobahn(self) -> None:
        text = b"hello"
        others = {
            "nothing": b"",
            "half a header": frame(text)[:5],
            "all but the last byte": frame(text)[:-1],
            "one byte more": frame(text) + b"\x81",
            "unmasked": frame(text, mask=None),
            "unmasked, of a masked one's size": b"\x81\x05" + b"m" * 4 + text,
            "unmasked and long": frame(text * 40, mask=None),
            "not final": frame(text, fin=False),
            "compressed": frame(text, rsv=4),
            "reserved bit": frame(text, rsv=1),
            "binary": frame(text, BINARY),
            "continuation": frame(text, CONTINUATION),
            "ping": frame(text, PING),
            "length not minimal": frame(text, length_bytes=2),
            "length not minimal, 8 bytes": frame(text * 40, length_bytes=8),
            "64 KiB": frame(b"x" * 65_536),
            "half a long header": b"\x81\xfe\x01",
        }
        for name, data in others.items():
            self.assertIsNone(whole_text_frame(data, LIMIT), name)

    def test_what_is_written_is_one_unmasked_text_frame(self) -> None:
        for length in (0, 125, 126, 65_535, 65_536):
            self.assertEqual(frames_of(text_frame(b"x" * length)), [(1, b"x" * length)])


class Transport:
    """What `write_now` touches of a TCP transport: its buffers and the slow way."""

    def __init__(self) -> None:
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class WriteNowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.transport = Transport()

    def test_an_idle_connection_is_written_to_at_once(self) -> None:
        write_now(self.transport, self.ours.send, b"answer")
        self.assertEqual(self.theirs.recv(100), b"answer")
        self.assertEqual(self.transport.written, [])

    def test_nothing_overtakes_what_waits_in_a_buffer(self) -> None:
        for buffer in ("dataBuffer", "_tempDataBuffer"):
            transport = Transport()
            setattr(transport, buffer, [b"earlier"] if buffer == "_tempDataBuffer" else b"earlier")
            write_now(transport, self.ours.send, b"later")
            self.assertEqual(transport.written, [b"later"])
        self.theirs.setblocking(False)
        self.assertRaises(BlockingIOError, self.theirs.recv, 100)

    def test_what_the_kernel_does_not_take_goes_the_usual_way(self) -> None:
        sent: list[int] = []

        def send_half(data: bytes) -> int:
            sent.append(len(data))
            return self.ours.send(data[: len(data) // 2])

        write_now(self.transport, send_half, b"abcdef")
        self.assertEqual((self.theirs.recv(100), self.transport.written), (b"abc", [b"def"]))

    def test_a_full_socket_leaves_all_of_it_to_the_transport(self) -> None:
        with self.assertRaises(BlockingIOError):
            while True:
                self.ours.send(b"x" * 65_536)
        write_now(self.transport, self.ours.send, b"answer")
        self.assertEqual(self.transport.written, [b"answer"])

    def test_an_error_is_left_to_the_transport(self) -> None:
        self.theirs.close()
        write_now(self.transport, self.ours.send, b"answer")
        self.assertEqual(self.transport.written, [b"answer"])


def _call(number: int, size: int) -> bytes:
    head = b'[2,"%d","DataTransfer",{"vendorId":"v","data":"' % number
    return head + b"x" * max(0, size - len(head) - 3) + b'"}]'


# What a station, or an attacker, sends: each item is a list of pieces that belong together.
_numbers = st.integers(0, 9)
_sizes = st.sampled_from([60, 125, 126, 127, 335, 5000])
_payloads = st.one_of(
    _numbers.map(lambda number: HEARTBEAT % number),
    st.builds(_call, _numbers, _sizes),
    st.sampled_from(
        [b"", b"pong", b"{}", b'[2,"a","Heartbeat",{}', b'[3,"unknown",{}]', '[2,"ü","Heartbeat",{}]'.encode()]
    ),
)
_bad_texts = st.sampled_from(
    [b"\xff", b'[2,"a","Heartbeat",{}]\xc3', b'[2,"\xed\xa0\x80","Heartbeat",{}]', b"{{{\xf4\x90\x80\x80", b"\xc0\x80"]
)
_masks = st.binary(min_size=4, max_size=4)
_texts = st.builds(lambda payload, mask: [frame(payload, mask=mask)], _payloads, _masks)
_controls = st.sampled_from(
    [frame(b"are you there", PING), frame(b"", PING), frame(b"", PONG), frame(b"x" * 125, PING), frame(b"late", PONG)]
)


@st.composite
def _fragments(draw: st.DrawFn) -> list[bytes]:
    payload = draw(st.one_of(_payloads, _bad_texts))
    at = draw(st.integers(0, len(payload)))
    pieces = [frame(payload[:at], fin=False), frame(payload[at:], CONTINUATION)]
    if draw(st.booleans()):
        pieces.insert(1, draw(_controls))
    return pieces


_closes = st.sampled_from(
    [
        frame(b"", CLOSE),
        close_frame(1000, b"bye"),
        close_frame(1001),
        close_frame(3000),
        close_frame(999),
        close_frame(1005),
        close_frame(5000),
        close_frame(1000, b"\xff"),
        frame(b"\x03", CLOSE),
    ]
)
_violations = st.sampled_from(
    [
        frame(b"unmasked", mask=None),
        frame(b"reserved", rsv=1),
        frame(b"not negotiated", rsv=4),
        frame(b"short", length_bytes=2),
        frame(b"x" * 300, length_bytes=8),
        frame(b"x" * (LIMIT + 1)),
        frame(b"binary", BINARY),
        frame(b"", BINARY),
        frame(b"unknown", 3),
        frame(b"unknown", 11),
        frame(b"x" * 126, PING),
        frame(b"fragmented", PING, fin=False),
        frame(b"continues nothing", CONTINUATION),
        frame(b"never ends", fin=False),
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + b"m" * 4,
        b"GET / HTTP/1.1\r\n\r\n",
    ]
)
_items = st.one_of(
    _texts,
    _texts,
    _fragments(),
    _controls.map(lambda piece: [piece]),
    st.one_of(_closes, _violations, _bad_texts.map(frame), st.binary(max_size=20)).map(lambda piece: [piece]),
)


@st.composite
def _streams(draw: st.DrawFn) -> list[bytes]:
    """Pieces as they arrive: mostly at frame boundaries, since only there the fast lane has its part, else anywhere."""
    pieces = [piece for item in draw(st.lists(_items, min_size=1, max_size=8)) for piece in item]
    if draw(st.booleans()):
        return pieces
    whole = b"".join(pieces)
    places = sorted(draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=8)))
    edges = [0, *places, len(whole)]
    return [whole[start:end] for start, end in pairwise(edges)]


def _outcome(pieces: list[bytes], fast_lane: bool) -> dict[str, Any]:
    """What the outside sees of one connection: frames, journal, and how the connection ends."""
    before = txaio.config.loop
    edge = build_edge(real=True, fast_lane=fast_lane, max_message_bytes=LIMIT, close_timeout=3.0)
    try:
        peer = edge.connect()
        peer.send(request())
        status, _, _ = peer.answer()
        assert status.startswith("HTTP/1.1 101")
        for piece in pieces:
            if piece:
                peer.send(piece)
        ended = peer.wire.end
        edge.clock.advance(4)
        seen = {"frames": peer.frames(), "ended": ended, "ended later": peer.wire.end}
        peer.gone()
        seen["journal"] = edge.outbox.events
        return seen
    finally:
        txaio.config.loop = before


class DifferentialTests(SynchronousTestCase):
    @settings(max_examples=500, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(_streams())
    @example([frame(_call(1, 65_535))])
    @example([frame(_call(1, 65_536)), frame(_call(2, 100))])
    @example([frame(b'[2,"a","Heartbeat",{}]\xff'), frame(HEARTBEAT % 1)])
    @example([frame(b"\xff"), close_frame(1007)])
    @example([frame(b"x" * LIMIT), frame(b"x" * (LIMIT + 1)), frame(HEARTBEAT % 1)])
    def test_both_lanes_look_the_same_from_outside(self, pieces: list[bytes]) -> None:
        self.assertEqual(_outcome(pieces, fast_lane=True), _outcome(pieces, fast_lane=False))

    def test_whole_frames_do_not_reach_autobahns_frame_machine(self) -> None:
        edge = build_edge(self)
        peer = edge.connect().upgrade()
        peer.send(frame(b"one"))
        self.assertEqual(peer.protocol.trafficStats.incomingWebSocketFrames, 0)
        peer.send(frame(b"two")[:3])
        peer.send(frame(b"two")[3:])
        self.assertEqual(peer.protocol.trafficStats.incomingWebSocketFrames, 1)
        self.assertEqual(edge.links[0].texts, [b"one", b"two"])

    def test_invalid_utf8_is_closed_with_1007_on_both_lanes(self) -> None:
        for fast_lane in (True, False):
            peer = build_edge(self, real=True, fast_lane=fast_lane).connect().upgrade()
            peer.send(frame(b'[2,"a","Heartbeat",{}]\xff'))
            self.assertEqual(peer.close_code(), 1007)

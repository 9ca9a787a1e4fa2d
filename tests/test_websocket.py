"""The WebSocket edge: the handshake and its refusals, Autobahn's traps, liveness, compression, the brake, closing."""

import struct
import tracemalloc
import zlib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.refusals import Reason, Refused
from ocppgw.net.opening import MAX_HELD_BYTES, MAX_REQUEST_BYTES
from ocppgw.net.websocket import SWEEPS_PER_INTERVAL
from tests.build_edge import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Edge,
    Peer,
    build_edge,
    close_frame,
    frame,
    request,
)

PEERS_TEXT = "<script>"


class HandshakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge = build_edge(self)
        self.peer = self.edge.connect()

    def refusal(self, data: bytes) -> tuple[str, dict[str, str], bytes]:
        """The answer to a request that must be refused; nothing of what the peer sent may be in it."""
        peer = self.edge.connect()
        peer.send(data)
        _, headers, body = answer = peer.answer()
        self.assertEqual(peer.wire.end, "lost")
        self.assertEqual(int(headers["content-length"]), len(body))
        self.assertNotIn(PEERS_TEXT, repr(answer))
        self.assertEqual(self.edge.links, [])
        return answer

    def test_an_admitted_station_gets_its_own_spelling_of_the_subprotocol(self) -> None:
        self.peer.send(request(subprotocol="ocpp0.1, OCPP1.6"))
        status, headers, _ = self.peer.answer()
        self.assertEqual(status, "HTTP/1.1 101 Switching Protocols")
        self.assertEqual(headers["sec-websocket-protocol"], "OCPP1.6")
        self.assertEqual(headers["sec-websocket-accept"].encode(), ACCEPT)
        self.assertEqual(self.edge.links[0].calls, ["opened"])

    def test_the_request_may_arrive_byte_by_byte(self) -> None:
        for octet in request():
            self.peer.send(bytes([octet]))
        self.assertIn("101", self.peer.answer()[0])
        self.assertEqual(len(self.edge.links), 1)

    def test_an_absolute_form_target_is_served(self) -> None:
        self.peer.send(request("http://gateway:8080/ocpp/CP-001"))
        self.assertIn("101", self.peer.answer()[0])
        self.assertEqual(self.edge.links[0].station.charge_point_id, "CP-001")

    def test_refusals_are_constants(self) -> None:
        """Autobahn's reasons and our own: none holds what the peer sent."""
        key = "Sec-WebSocket-Key: "
        text = PEERS_TEXT.encode()
        good = request()
        cases = {
            request(subprotocol=PEERS_TEXT): "400 No served subprotocol offered",
            request(subprotocol=None): "400 Sec-WebSocket-Protocol required",
            request(f"/{PEERS_TEXT}/x"): "404 Unknown path",
            request(f"/ocpp/{PEERS_TEXT}"): "400 Malformed charge point id",
            request(f"/.env/{PEERS_TEXT}"): "404 Not found",
            good.replace(b"GET", text, 1): "400 Malformed request",
            good.replace(b"HTTP/1.1", b"HTTP/" + text, 1): "400 Malformed request",
            good.replace(b"GET /", b"GET " + text + b" /", 1): "400 Malformed request",
            good.replace(b"Host: gateway", b"Host: gateway:" + text): "400 Malformed request",
            good.replace(b"Upgrade: websocket", b"Upgrade: " + text): "400 Malformed request",
            good.replace(b"Connection: Upgrade", b"Connection: " + text): "400 Malformed request",
            good.replace(b"Version: 13", b"Version: " + text): "400 Malformed request",
            good.replace(key.encode(), key.encode() + text): "400 Malformed request",
            request("/ocpp/CP-001#" + PEERS_TEXT): "400 Malformed request",
            text + b"\r\n\r\n": "400 Malformed request",
        }
        for data, expected in cases.items():
            status, headers, body = self.refusal(data)
            self.assertEqual(status, f"HTTP/1.1 {expected}", data)
            self.assertEqual(body, expected[4:].encode() + b"\n")
            self.assertEqual(headers["connection"], "close")

    def test_the_entrances_refusal_is_sent_with_its_headers(self) -> None:
        challenge = {"www-authenticate": 'Basic realm="ocpp", charset="UTF-8"'}
        cases: list[tuple[Refused, str, dict[str, str]]] = [
            (Refused(Reason.CREDENTIALS_WRONG), "401 Credentials refused", challenge),
            (Refused(Reason.IDENTITY_DISABLED), "403 Station disabled", {}),
            (Refused(Reason.DUPLICATE_FLAPPING, retry_after=7), "429 Too many reconnects", {"retry-after": "7"}),
            (Refused(Reason.DRAINING), "503 Draining", {"retry-after": "5"}),
        ]
        for refused, expected, extra in cases:
            self.edge.entrance.refusal = refused
            status, headers, _ = self.refusal(request())
            self.assertEqual(status, f"HTTP/1.1 {expected}")
            self.assertEqual({**headers, **extra}, headers)

    def test_a_plain_get_is_told_to_upgrade(self) -> None:
        status, headers, _ = self.refusal(b"GET /ocpp/CP-001 HTTP/1.1\r\nHost: gateway\r\n\r\n")
        self.assertEqual(status, "HTTP/1.1 426 WebSocket upgrade required")
        self.assertEqual((headers["upgrade"], headers["connection"]), ("websocket", "upgrade, close"))

    def test_a_scanners_plain_get_is_not_told_what_lives_here(self) -> None:
        status, _, _ = self.refusal(b"GET /.env HTTP/1.1\r\nHost: gateway\r\n\r\n")
        self.assertEqual(status, "HTTP/1.1 404 Not found")

    def test_headers_beyond_16_kib_are_refused_before_they_end(self) -> None:
        endless = b"GET /ocpp/CP-001 HTTP/1.1\r\nX: " + b"x" * MAX_REQUEST_BYTES
        self.assertIn("400", self.refusal(endless)[0])

    def test_headers_beyond_16_kib_are_refused_in_one_packet_too(self) -> None:
        self.assertIn("400", self.refusal(request("/ocpp/CP-001", "X: " + "x" * MAX_REQUEST_BYTES))[0])

    def test_headers_of_16_kib_are_served_with_a_frame_behind_them(self) -> None:
        padding = MAX_REQUEST_BYTES - len(request("/ocpp/CP-001", "X: "))
        whole = request("/ocpp/CP-001", "X: " + "x" * padding)
        self.assertEqual(len(whole), MAX_REQUEST_BYTES)
        self.peer.send(whole + frame(b"hello"))
        self.assertEqual(self.edge.links[0].texts, [b"hello"])

    def test_a_request_that_does_not_end_is_cut_after_the_timeout(self) -> None:
        self.peer.send(b"GET /ocpp/CP-001 HTTP/1.1\r\n")
        for _ in range(9):
            self.edge.clock.advance(0.9)
            self.peer.send(b"X: y\r\n")
        self.assertEqual(self.peer.wire.end, "")
        self.edge.clock.advance(3)
        self.assertEqual(self.peer.wire.end, "lost")
        self.assertEqual(self.edge.entrance.refused, [Reason.HANDSHAKE_TIMEOUT])
        self.assertEqual(self.flushWarnings(), [])

    def test_a_header_can_not_be_smuggled_in_the_value_of_another(self) -> None:
        for end in ("\x85", "\x1c", "\x0b", "\r", "\n"):
            peer = self.edge.connect()
            status, _, _ = peer.upgrade("/ocpp/CP-001", f"X: y{end}X-Forwarded-For: 10.0.0.1").last
            self.assertEqual(status, "HTTP/1.1 400 Malformed request", repr(end))
        self.assertEqual(self.edge.entrance.asked, [])

    def test_tls_on_a_plain_port_is_told_apart(self) -> None:
        hello = bytes.fromhex("160301000a") + bytes(10)
        self.peer.send(hello)
        self.assertEqual(self.peer.wire.end, "aborted")
        (failure,) = self.edge.entrance.failures
        self.assertEqual((failure.kind, failure.hello), ("TlsOnPlainPort", hello))

    def test_a_connection_leaves_the_entrance_once_however_it_ends(self) -> None:
        self.peer.upgrade()
        refused, silent = self.edge.connect(), self.edge.connect()
        refused.upgrade("/nowhere")
        self.assertEqual(self.edge.entrance.inside, 3)
        for peer in (self.peer, refused, silent):
            peer.gone()
        self.assertEqual((self.edge.entrance.inside, self.edge.factory.half_open), (0, 0))

    def test_a_timeout_of_half_a_second_is_not_rounded_to_none(self) -> None:
        peer = build_edge(self, handshake_timeout=0.5).connect()
        edge_clock = peer.protocol.factory.reactor
        edge_clock.advance(0.49)
        self.assertEqual(peer.wire.end, "")
        edge_clock.advance(0.02)
        self.assertEqual(peer.wire.end, "lost")

    def test_a_silent_connection_is_cut_after_the_timeout(self) -> None:
        self.edge.clock.advance(11)
        self.assertEqual(self.peer.wire.end, "lost")

    def test_an_open_connection_outlives_the_handshake_timeout(self) -> None:
        self.peer.upgrade()
        self.edge.clock.advance(3600)
        self.assertEqual(self.peer.wire.end, "")

    def test_half_open_connections_are_bounded(self) -> None:
        edge = build_edge(self, max_half_open=2)
        first, second, third = (edge.connect() for _ in range(3))
        self.assertEqual([peer.wire.end for peer in (first, second, third)], ["", "", "aborted"])
        self.assertEqual(edge.entrance.refused, [Reason.TOO_MANY_CONNECTIONS])
        third.gone()
        first.upgrade()
        self.assertEqual(edge.connect().wire.end, "")
        second.gone()
        self.assertEqual(edge.connect().wire.end, "")
        self.assertEqual(edge.connect().wire.end, "aborted")

    def test_half_open_places_are_all_given_back(self) -> None:
        for data in (b"", request(), request("/x"), b"x" * 20_000, b"\r\n\r\n"):
            peer = self.edge.connect()
            peer.send(data)
            peer.gone()
        self.peer.gone()
        self.assertEqual(self.edge.factory.half_open, 0)

    def test_without_subprotocol_the_alternative_mode_upgrades_and_closes(self) -> None:
        edge = build_edge(self, no_subprotocol_close=True)
        for offered in (None, "ocpp0.1"):
            peer = edge.connect()
            peer.send(request(subprotocol=offered))
            status, headers, _ = peer.answer()
            self.assertIn("101", status)
            self.assertNotIn("sec-websocket-protocol", headers)
            self.assertEqual(peer.close_code(), 1002)
            peer.send(frame(b"hello"))
            edge.clock.advance(4)
            self.assertEqual(peer.wire.end, "aborted")
        self.assertEqual(edge.links, [])

    def test_the_alternative_mode_refuses_everything_else_as_before(self) -> None:
        peer = build_edge(self, no_subprotocol_close=True).connect()
        peer.send(request("/nowhere"))
        self.assertIn("404", peer.answer()[0])

    def test_a_link_that_can_not_be_opened_closes_the_connection(self) -> None:
        def broken(_welcome: Any, _socket: Any) -> Any:
            raise ValueError("a fault of ours")

        self.edge.factory.open_link = broken
        self.peer.upgrade()
        self.assertEqual(self.peer.close_code(), 1011)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class DecisionTests(SynchronousTestCase):
    """What may happen while the entrance decides."""

    def setUp(self) -> None:
        self.edge = build_edge(self)
        self.edge.entrance.waits = True
        self.peer = self.edge.connect()

    def test_reading_stops_until_it_is_decided(self) -> None:
        self.peer.send(request())
        self.assertEqual(self.peer.wire.producerState, "paused")
        self.edge.entrance.decide_now()
        self.assertEqual(self.peer.wire.producerState, "producing")

    def test_frames_behind_the_request_are_served_after_admission_not_before(self) -> None:
        self.peer.send(request() + frame(b"one"))
        self.peer.protocol.dataReceived(frame(b"two") + frame(b"three")[:4])  # read before the pause took effect
        self.assertEqual(self.edge.links, [])
        self.edge.entrance.decide_now()
        self.peer.send(frame(b"three")[4:])
        self.assertEqual(self.edge.links[0].texts, [b"one", b"two", b"three"])

    def test_a_second_pipelined_request_can_not_change_the_identity(self) -> None:
        self.peer.send(request("/ocpp/CP-001"))
        self.peer.protocol.dataReceived(request("/ocpp/CP-002"))
        self.assertEqual([facts.raw_path for facts in self.edge.entrance.asked], ["/ocpp/CP-001"])
        self.edge.entrance.decide_now()
        self.assertEqual([link.station.charge_point_id for link in self.edge.links], ["CP-001"])
        self.assertEqual(self.edge.links[0].texts, [])

    def test_what_arrives_before_the_decision_is_bounded(self) -> None:
        self.peer.send(request())
        for _ in range(9):
            self.peer.protocol.dataReceived(b"x" * (MAX_HELD_BYTES // 8))
        self.assertEqual(self.peer.wire.end, "aborted")

    def test_a_peer_that_goes_while_it_is_decided_leaves_no_ghost(self) -> None:
        self.peer.send(request())
        self.peer.gone()
        self.edge.entrance.decide_now()
        self.assertEqual(self.edge.links, [])
        self.assertEqual((self.edge.factory.open_count, self.edge.factory.half_open), (0, 0))

    def test_a_decision_that_takes_too_long_is_a_503(self) -> None:
        self.peer.send(request())
        self.edge.clock.advance(11)
        status, headers, _ = self.peer.answer()
        self.assertEqual(status, "HTTP/1.1 503 Store unavailable")
        self.assertEqual(headers["retry-after"], "10")
        self.edge.entrance.decide_now()
        self.assertEqual((self.peer.take(), self.edge.links), (b"", []))

    def test_a_late_refusal_is_sent(self) -> None:
        self.edge.entrance.refusal = Refused(Reason.CREDENTIALS_WRONG)
        self.peer.send(request() + frame(b"too early"))
        self.edge.entrance.decide_now()
        self.assertIn("401", self.peer.answer()[0])
        self.assertEqual(self.edge.links, [])


def _open(case: SynchronousTestCase, **rules: Any) -> tuple[Edge, Peer]:
    edge = build_edge(case, **rules)
    return edge, edge.connect().upgrade()


class MessageTests(SynchronousTestCase):
    def test_binary_messages_are_told_apart(self) -> None:
        edge, peer = _open(self)
        peer.send(frame(b"\x00\x01", BINARY))
        self.assertEqual((edge.links[0].texts, edge.links[0].calls), ([], ["opened", "binary"]))

    def test_a_binary_message_is_closed_with_1003_by_the_session(self) -> None:
        _, peer = _open(self, real=True)
        peer.send(frame(b"[]", BINARY))
        self.assertEqual(peer.close_code(), 1003)

    def test_twenty_bad_frames_are_closed_with_1002(self) -> None:
        _, peer = _open(self, real=True)
        for _ in range(19):
            peer.send(frame(b"not JSON"))
        self.assertIsNone(peer.close_code())
        peer.send(frame(b"not JSON"))
        self.assertEqual(peer.close_code(), 1002)

    def test_a_fault_while_a_message_is_handled_costs_that_connection(self) -> None:
        edge, peer = _open(self)
        edge.links[0].fault = ValueError("a fault of ours")
        peer.send(frame(b"hello"))
        self.assertEqual(peer.close_code(), 1011)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_pings_are_answered(self) -> None:
        _, peer = _open(self)
        peer.send(frame(b"there?", PING))
        self.assertEqual(peer.frames(), [(PONG, b"there?")])

    def test_answers_of_every_size_leave_as_one_text_frame(self) -> None:
        for fast_lane in (True, False):
            edge, peer = _open(self, fast_lane=fast_lane)
            for size in (0, 125, 126, 65_535, 65_536):
                edge.links[0].socket.send_text(b"x" * size)
                self.assertEqual(peer.frames(), [(TEXT, b"x" * size)])

    def test_a_message_over_the_limit_is_closed_with_1009(self) -> None:
        for fast_lane in (True, False):
            edge, peer = _open(self, fast_lane=fast_lane, max_message_bytes=1000)
            peer.send(frame(b"x" * 1000))
            peer.send(frame(b"x" * 1001))
            self.assertEqual(peer.close_code(), 1009)
            self.assertEqual(edge.links[0].texts, [b"x" * 1000])

    def test_fragments_over_the_limit_are_closed_with_1009(self) -> None:
        edge, peer = _open(self, max_message_bytes=1000)
        peer.send(frame(b"x" * 600, fin=False) + frame(b"x" * 600, CONTINUATION))
        self.assertEqual((peer.close_code(), edge.links[0].texts), (1009, []))

    def test_a_frame_that_announces_too_much_is_not_waited_for(self) -> None:
        _, peer = _open(self)
        peer.send(frame(b"", length_bytes=8)[:2] + (1 << 40).to_bytes(8, "big") + b"mask")
        self.assertEqual(peer.close_code(), 1009)

    def test_messages_after_our_close_frame_are_not_handled(self) -> None:
        edge, peer = _open(self)
        edge.links[0].socket.close(1011, "not stored")
        peer.send(frame(b"later"))
        self.assertEqual(edge.links[0].texts, [])


class BrakeTests(SynchronousTestCase):
    def test_a_peer_that_does_not_read_is_not_read_from(self) -> None:
        edge, peer = _open(self)
        edge.links[0].reply = b"answer"
        peer.wire.producer.pauseProducing()  # what a transport does when its buffer is full
        peer.send(frame(b"one"))
        self.assertEqual(edge.links[0].texts, [])
        peer.wire.producer.resumeProducing()
        peer.deliver()
        self.assertEqual(edge.links[0].texts, [b"one"])

    def test_a_connection_that_ends_is_no_producer_any_more(self) -> None:
        edge, peer = _open(self)
        edge.links[0].socket.close(1001, "draining")
        peer.send(close_frame(1001))
        self.assertIsNone(peer.wire.producer)


class LivenessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge, self.peer = _open(self)

    def interval(self) -> None:
        self.edge.sweeps(SWEEPS_PER_INTERVAL)

    def test_a_silent_peer_is_pinged_after_one_interval(self) -> None:
        self.edge.sweeps(SWEEPS_PER_INTERVAL - 1)
        self.assertEqual(self.peer.frames(), [])
        self.edge.sweeps(1)
        self.assertEqual(self.peer.frames(), [(PING, b"")])

    def test_a_peer_that_misses_two_pongs_is_dropped(self) -> None:
        self.edge.sweeps(3 * SWEEPS_PER_INTERVAL - 1)
        self.assertEqual((self.peer.frames(), self.peer.wire.end), ([(PING, b"")] * 2, ""))
        self.edge.sweeps(1)
        self.assertEqual(self.peer.wire.end, "aborted")
        self.peer.gone()
        _, (ended, code, reason) = self.edge.links[0].calls
        self.assertEqual((ended, code), ("closed", 1006))
        self.assertIn("no answer to 2 pings", reason)

    def test_pongs_keep_a_connection_alive(self) -> None:
        for _ in range(10):
            self.interval()
            self.peer.send(frame(b"", PONG))
        self.assertEqual((self.peer.frames(), self.peer.wire.end), ([(PING, b"")] * 10, ""))

    def test_any_inbound_byte_counts_on_either_lane(self) -> None:
        for data in (frame(b"whole"), frame(b"half")[:3], frame(b"half")[3:], frame(b"", PING)):
            self.peer.send(data)
            self.edge.sweeps(SWEEPS_PER_INTERVAL - 1)
        self.assertEqual(self.peer.frames(), [(PONG, b"")])

    def test_a_busy_peer_is_not_pinged(self) -> None:
        for _ in range(5):
            self.peer.send(frame(b"hello"))
            self.edge.sweeps(SWEEPS_PER_INTERVAL - 1)
        self.assertEqual(self.peer.frames(), [])

    def test_one_dead_peer_does_not_touch_the_others(self) -> None:
        other = self.edge.connect().upgrade("/ocpp/CP-002")
        for _ in range(3):
            other.send(frame(b"hello"))
            self.interval()
        self.assertEqual((self.peer.wire.end, other.wire.end), ("aborted", ""))


DEFLATE = "permessage-deflate"


def _deflated(text: bytes) -> bytes:
    """RFC 7692 section 7.2.1."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _bomb(megabytes: int) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    packed = b"".join(compressor.compress(bytes(1_000_000)) for _ in range(megabytes))
    return (packed + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _inflated(payload: bytes, window_bits: int = 15) -> bytes:
    return zlib.decompressobj(wbits=-window_bits).decompress(payload + b"\x00\x00\xff\xff")


class CompressionTests(SynchronousTestCase):
    def negotiated(self, offer: str, **rules: Any) -> tuple[Edge, Peer, str | None]:
        edge = build_edge(self, **rules)
        peer = edge.connect()
        peer.send(request(extensions=offer))
        status, headers, _ = peer.answer()
        self.assertIn("101", status)
        return edge, peer, headers.get("sec-websocket-extensions")

    def test_compressed_and_fragmented_messages_are_served(self) -> None:
        edge, peer, agreed = self.negotiated(DEFLATE)
        self.assertTrue(agreed is not None and agreed.startswith(DEFLATE))
        packed = _deflated(b"hello " * 50)
        peer.send(frame(packed, rsv=4))
        peer.send(frame(packed[:3], rsv=4, fin=False) + frame(b"", PING) + frame(packed[3:], CONTINUATION))
        peer.send(frame(b"plain"))
        self.assertEqual(edge.links[0].texts, [b"hello " * 50] * 2 + [b"plain"])

    def test_answers_are_compressed_each_by_itself(self) -> None:
        edge, peer, agreed = self.negotiated(DEFLATE)
        self.assertIn("client_no_context_takeover", agreed or "")
        for _ in range(2):
            edge.links[0].socket.send_text(b"hello " * 50)
        for opcode, payload in peer.frames():
            self.assertEqual((opcode, _inflated(payload)), (0x41, b"hello " * 50))

    def test_a_smaller_window_for_our_frames_is_honoured(self) -> None:
        edge, peer, agreed = self.negotiated(DEFLATE + "; server_max_window_bits=9")
        self.assertIn("server_max_window_bits=9", agreed or "")
        text = b"".join(b"%d," % number for number in range(1000))
        edge.links[0].socket.send_text(text * 2)
        ((_, payload),) = peer.frames()
        self.assertEqual(_inflated(payload, 9), text * 2)

    def test_offers_that_can_not_be_honoured_are_declined_and_the_client_is_served(self) -> None:
        for parameter in ("server_max_window_bits=8", "server_max_window_bits=16", "unknown", "server_max_window_bits"):
            edge, peer, agreed = self.negotiated(f"{DEFLATE}; {parameter}")
            self.assertIsNone(agreed, parameter)
            peer.send(frame(b"plain"))
            self.assertEqual(edge.links[0].texts, [b"plain"])

    def test_the_next_offer_is_taken_when_the_first_is_declined(self) -> None:
        _, _, agreed = self.negotiated(f"x-unknown; a=b, {DEFLATE}; server_max_window_bits=8, {DEFLATE}")
        self.assertTrue(agreed is not None and agreed.startswith(DEFLATE))

    def test_compression_can_be_switched_off(self) -> None:
        self.assertIsNone(self.negotiated(DEFLATE, compression=False)[2])

    def test_compression_that_was_not_negotiated_is_a_violation(self) -> None:
        _, peer = _open(self)
        peer.send(frame(_deflated(b"hello"), rsv=4))
        self.assertEqual(peer.close_code(), 1002)

    def test_a_compression_bomb_is_closed_with_1009(self) -> None:
        bomb = _bomb(100)
        edge, peer, _ = self.negotiated(DEFLATE)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        peer.send(frame(bomb, rsv=4))
        self.assertEqual(peer.close_code(), 1009)
        self.assertLess(tracemalloc.get_traced_memory()[1], 10_000_000)
        self.assertEqual(edge.links[0].texts, [])

    def test_a_bomb_in_fragments_is_closed_with_1009(self) -> None:
        _, peer, _ = self.negotiated(DEFLATE)
        bomb = _bomb(3)
        half = len(bomb) // 2
        peer.send(frame(bomb[:half], rsv=4, fin=False) + frame(bomb[half:], CONTINUATION))
        self.assertEqual(peer.close_code(), 1009)

    def test_damaged_compressed_data_is_closed_with_1007(self) -> None:
        _, peer, _ = self.negotiated(DEFLATE)
        peer.send(frame(b"\xff" * 20, rsv=4))
        self.assertEqual(peer.close_code(), 1007)


class ClosingTests(SynchronousTestCase):
    def test_our_codes_are_sent_as_they_are(self) -> None:
        for code in (1001, 1008, 1009, 1011, 1012, 1013):
            edge, peer = _open(self)
            edge.links[0].socket.close(code, "because")
            self.assertEqual(peer.frames(), [(CLOSE, struct.pack("!H", code) + b"because")])
            peer.send(close_frame(code))
            self.assertEqual(peer.wire.end, "aborted")
            peer.gone()
            self.assertEqual(edge.links[0].calls, ["opened", ("closed", code, "because")])

    def test_a_peer_that_never_answers_the_close_is_dropped(self) -> None:
        edge, peer = _open(self, close_timeout=3.0)
        edge.links[0].socket.close(1001, "draining")
        edge.clock.advance(1.9)
        self.assertEqual(peer.wire.end, "")
        edge.clock.advance(1.2)
        self.assertEqual(peer.wire.end, "aborted")

    def test_nothing_is_sent_after_our_close_frame(self) -> None:
        edge, peer = _open(self)
        socket = edge.links[0].socket
        socket.close(1008, "disabled")
        socket.send_text(b"late")
        socket.close(1001, "again")
        self.assertEqual(peer.frames(), [(CLOSE, b"\x03\xf0disabled")])

    def test_a_long_reason_is_cut_between_characters(self) -> None:
        edge, peer = _open(self)
        edge.links[0].socket.close(1008, "€" * 50)
        ((_, payload),) = peer.frames()
        self.assertLessEqual(len(payload), 125)
        self.assertEqual(payload[2:].decode(), "€" * 41)

    def test_the_peers_own_code_and_reason_are_reported(self) -> None:
        edge, peer = _open(self)
        peer.send(close_frame(1001, b"going to sleep"))
        self.assertEqual((peer.close_code(), peer.wire.end), (1000, "lost"))
        peer.gone()
        self.assertEqual(edge.links[0].calls[1:], [("closed", 1001, "going to sleep")])

    def test_a_peer_that_just_vanishes_is_reported_as_1006(self) -> None:
        edge, peer = _open(self)
        peer.gone()
        ((ended, code, reason),) = edge.links[0].calls[1:]
        self.assertEqual((ended, code, type(reason)), ("closed", 1006, str))

    def test_a_violation_is_reported_with_the_code_that_was_sent(self) -> None:
        edge, peer = _open(self)
        peer.send(frame(b"hello", mask=None))
        self.assertEqual(peer.close_code(), 1002)
        peer.gone()
        ((_, code, reason),) = edge.links[0].calls[1:]
        self.assertEqual((code, type(reason)), (1002, str))

    def test_draining_closes_every_open_connection(self) -> None:
        edge = build_edge(self)
        peers = [edge.connect().upgrade(f"/ocpp/CP-{number}") for number in range(3)]
        for protocol in edge.factory.all_open():
            protocol.close(1001, "shutting down")
        self.assertEqual([peer.close_code() for peer in peers], [1001] * 3)
        for peer in peers:
            peer.gone()
        self.assertEqual(edge.factory.open_count, 0)

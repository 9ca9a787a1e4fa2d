"""The TLS transport: what is no TLS, what comes in pieces, what an idle connection keeps, and how it ends."""

import gc
import weakref
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.tls import REQUIRE, StationTls, TlsFactory
from ocppgw.net.tls.handshake import First, first_bytes
from ocppgw.net.tls.listener import HTTP_ANSWER
from tests.build_tls import Client, Listener, Pki
from tests.make_certificates import make_station


class ListenerCase(SynchronousTestCase):
    def setUp(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        self.pki = Pki(folder)
        self.listener = Listener(self.pki.files())
        self.station = make_station(self.pki.issuing, "CP-001", now=self.pki.now)

    def connected(self, version="TLSv1.3"):
        client = Client(self.station, version=version)
        accepted = self.listener.connect(client)
        self.assertTrue(accepted.done)
        return accepted, client


class FirstBytesTests(ListenerCase):
    def assert_refused(self, kind, *pieces, answer=b""):
        accepted = self.listener.accept()
        sent = b"".join(accepted.receive(piece) for piece in pieces)
        self.assertEqual(sent, answer)
        self.assertTrue(accepted.tcp.disconnecting)
        self.assertEqual(accepted.edge.received, b"")
        found = accepted.lose()
        self.assertEqual((found.kind, found.hello, found.version, found.server_name), (kind, b"", "", ""))

    def test_plain_http_is_told_that_tls_is_required(self):
        self.assertEqual(HTTP_ANSWER.split(b"\r\n")[0], b"HTTP/1.1 400 TLS required")
        for request in (b"GET /ocpp/1.6/CP-001 HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n"):
            self.assert_refused("TlsPlainHttp", request, answer=HTTP_ANSWER)

    def test_plain_http_in_pieces_is_recognised(self):
        self.assert_refused("TlsPlainHttp", b"G", b"E", b"T", b" ", answer=HTTP_ANSWER)

    def test_what_is_no_tls_in_pieces_is_recognised(self):
        self.assert_refused("TlsNotTls", b"\x16", b"\x01", b"\x00")

    def test_answer_is_sent_once(self):
        self.assert_refused("TlsPlainHttp", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", answer=HTTP_ANSWER)

    def test_password_in_plain_http_is_not_kept(self):
        accepted = self.listener.accept()
        accepted.receive(b"GET / HTTP/1.1\r\nAuthorization: Basic Q1AtMDAxOnNlY3JldA==\r\n\r\n")
        self.assertNotIn("Q1AtMDAxOnNlY3JldA", repr(accepted.lose()))

    def test_anything_else_is_cut_off_without_a_word(self):
        for data in (
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x00",
            b"\x16\x01\x00",
            b"\x15\x03\x03",
            b"get / http/1.1\r\n",
            b"PROXY TCP4 \r\n",
        ):
            self.assert_refused("TlsNotTls", data)

    def test_hello_byte_by_byte_is_tls(self):
        accepted = self.listener.accept()
        client = Client(self.station)
        hello = client.step()
        answer = b"".join(accepted.receive(bytes([byte])) for byte in hello)
        client.take(answer)
        accepted.talk(client)
        self.assertEqual(accepted.tls.tls_facts().hello, hello)

    def test_openssl_is_not_asked_before_the_first_byte(self):
        accepted = self.listener.accept()
        self.assertIsNone(accepted.tls.getHandle())
        accepted.receive(b"\x16\x03")
        self.assertIsNotNone(accepted.tls.getHandle())

    def test_hello_that_never_ends_is_not_kept_beyond_16_kib(self):
        accepted = self.listener.accept()
        for _ in range(8):
            accepted.receive(b"\x16\x03\x01\x40\x00\x01\x01\xff\xff" + bytes(16_380))
        self.assertLessEqual(len(accepted.tls._handshake.hello if accepted.tls._handshake else b""), 16_384)

    @given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
    @settings(deadline=None)
    def test_any_bytes_end_without_an_exception_and_never_reach_the_edge(self, data, size):
        accepted = self.listener.accept()
        edge = accepted.edge
        for place in range(0, len(data), size):
            accepted.receive(data[place : place + size])
        self.assertIsNotNone(accepted.lose())
        self.assertEqual(edge.received, b"")

    @given(st.data())
    @settings(deadline=None, max_examples=60)
    def test_a_hello_with_changed_bytes_ends_without_an_exception(self, data):
        hello = bytearray(Client(self.station).step())
        for _ in range(data.draw(st.integers(1, 5))):
            hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
        accepted = self.listener.accept()
        accepted.receive(bytes(hello))
        self.assertIsNotNone(accepted.lose())

    def test_kind_of_first_bytes_does_not_change_its_mind(self):
        for whole in (b"GET /", b"\x16\x03\x01", b"\x80\x2e\x01\x03\x01", b"\x80\x2e\x09\x03", b"GOT", b"\x15\x03"):
            kinds = [first_bytes(whole[:size]) for size in range(1, len(whole) + 1)]
            decided = [kind for kind in kinds if kind is not First.UNDECIDED]
            self.assertEqual(len(set(decided)), 1, (whole, kinds))
            self.assertEqual(kinds[len(kinds) - len(decided) :], decided)


class TransportTests(ListenerCase):
    def test_edge_is_connected_with_tcp_and_gets_what_was_decrypted(self):
        accepted = self.listener.accept()
        self.assertTrue(accepted.edge.connected)
        client = Client(self.station)
        accepted.talk(client)
        accepted.receive(client.records(b"GET / HTTP/1.1\r\n\r\n")[0])
        self.assertEqual(accepted.edge.received, b"GET / HTTP/1.1\r\n\r\n")

    def test_what_the_edge_writes_is_encrypted(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            accepted, client = self.connected(version)
            for text in (b"small", b"x" * 100_000):
                accepted.tls.write(text)
                sent = accepted.sent()
                self.assertNotIn(text[:5], sent)
                client.received = b""
                client.take(sent)
                self.assertEqual(client.received, text)

    def test_write_sequence_is_one_record(self):
        accepted, client = self.connected()
        accepted.tls.writeSequence([b"a", b"b", b"c"])
        client.take(accepted.sent())
        self.assertEqual(client.received, b"abc")

    def test_application_data_right_behind_the_handshake_is_not_lost(self):
        """The station has the last word in TLS 1.3, and in TLS 1.2 when a session is resumed."""
        for version in ("TLSv1.2", "TLSv1.3"):
            _, client = self.connected(version)
            client.keep_session()
            client.begin()
            accepted = self.listener.accept()
            client.take(accepted.receive(client.step()))
            last = client.step()
            self.assertTrue(client.done)
            accepted.receive(last + client.records(b"GET /")[0])
            self.assertEqual(accepted.edge.received, b"GET /")
            self.assertTrue(accepted.tls.tls_facts().resumed)

    @given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.lists(st.integers(1, 20_000), max_size=12))
    @settings(deadline=None, max_examples=60)
    def test_records_are_read_however_tcp_cuts_them(self, sizes, cuts):
        accepted, client = self.connected()
        texts = [bytes([number]) * size for number, size in enumerate(sizes)]
        wire = b"".join(client.records(*texts))
        for cut in cuts:
            piece, wire = wire[:cut], wire[cut:]
            if piece:
                accepted.receive(piece)
        if wire:
            accepted.receive(wire)
        self.assertEqual(accepted.edge.received, b"".join(texts))

    def test_what_is_written_before_the_handshake_waits_for_its_end(self):
        accepted = self.listener.accept()
        accepted.tls.write(b"early")
        self.assertEqual(accepted.sent(), b"")
        client = Client(self.station)
        accepted.talk(client)
        self.assertEqual(client.received, b"early")

    def test_damaged_record_ends_the_connection(self):
        accepted, client = self.connected()
        record = bytearray(client.records(b"GET /")[0])
        record[-1] ^= 1
        accepted.receive(bytes(record))
        self.assertTrue(accepted.tcp.disconnecting)
        self.assertEqual(accepted.edge.received, b"")
        self.assertIsNone(accepted.lose())

    def test_after_the_end_nothing_is_read(self):
        accepted, client = self.connected()
        first, second = client.records(b"one", b"two")
        accepted.receive(first)
        accepted.tls.abortConnection()
        accepted.receive(second)
        self.assertEqual(accepted.edge.received, b"one")

    def test_facts_of_a_connection(self):
        accepted, _ = self.connected()
        facts = accepted.tls.tls_facts()
        self.assertEqual((facts.version, facts.cipher), ("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
        self.assertEqual((facts.server_name, facts.resumed, facts.asked), ("localhost", False, True))
        self.assertEqual(facts.certificate.common_name, "CP-001")

    def test_edge_that_refuses_a_connection_gets_none(self):
        class Refusing(Factory):
            def buildProtocol(self, addr):  # noqa: N802
                return None

        self.assertIsNone(TlsFactory(self.listener.creator, REQUIRE, Refusing(), Clock()).buildProtocol(None))


class SlimTests(ListenerCase):
    def test_slim_connection_works_on_and_knows_its_certificate(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            accepted, client = self.connected(version)
            accepted.receive(client.records(b"GET /")[0])
            accepted.tls.tls_slim()
            accepted.tls.write(b"HTTP/1.1 101\r\n")
            client.take(accepted.sent())
            self.assertEqual(client.received, b"HTTP/1.1 101\r\n")
            for record in client.records(b"one", b"two"):
                accepted.receive(record)
            self.assertEqual(accepted.edge.received, b"GET /onetwo")
            facts = accepted.tls.tls_facts()
            self.assertEqual((facts.hello, facts.certificate.common_name), (b"", "CP-001"))
            self.assertIsNone(accepted.lose())

    def test_slimming_in_the_middle_of_a_record_loses_nothing(self):
        accepted, client = self.connected()
        first, second = client.records(b"one", b"two")
        edge = accepted.edge
        edge.dataReceived = lambda data: (edge.transport.tls_slim(), type(edge).dataReceived(edge, data))
        accepted.receive(first + second[:7])
        accepted.receive(second[7:])
        self.assertEqual(edge.received, b"onetwo")

    def test_handshake_is_let_go_of(self):
        accepted, _ = self.connected()
        self.assertIsNotNone(accepted.tls._handshake)
        accepted.tls.tls_slim()
        self.assertIsNone(accepted.tls._handshake)
        self.assertIsNone(accepted.tls.getHandle().get_app_data())


class EndTests(ListenerCase):
    def test_station_that_closes_is_answered_and_tcp_closed(self):
        accepted, client = self.connected()
        client.tls.shutdown()
        answer = accepted.receive(client.step())
        self.assertTrue(accepted.tcp.disconnecting)
        client.take(answer)
        self.assertEqual(client.error, "ZeroReturnError")
        self.assertIsNone(accepted.lose())

    def test_edge_that_closes_says_so_and_waits_for_the_station(self):
        accepted, client = self.connected()
        accepted.tls.loseConnection()
        client.take(accepted.sent())
        self.assertEqual(client.error, "ZeroReturnError")
        self.assertFalse(accepted.tcp.disconnecting)
        client.error = ""
        client.tls.shutdown()
        accepted.receive(client.step())
        self.assertTrue(accepted.tcp.disconnecting)

    def test_abort_before_the_first_byte_and_within_the_handshake(self):
        for pieces in ([], [b"G"], [Client().step()]):
            accepted = self.listener.accept()
            for piece in pieces:
                accepted.receive(piece)
            accepted.tls.abortConnection()
            self.assertTrue(accepted.tcp.disconnected)
            self.assertEqual(accepted.lose().kind, "TlsBrokenOff")

    def test_close_before_the_handshake_is_done_is_an_abort(self):
        accepted = self.listener.accept()
        accepted.tls.loseConnection()
        self.assertTrue(accepted.tcp.disconnected)

    def test_lost_connection_is_freed(self):
        accepted, _ = self.connected()
        accepted.tls.tls_slim()
        references = [weakref.ref(accepted.tls), weakref.ref(accepted.tls.getHandle())]
        gc.disable()
        self.addCleanup(gc.enable)
        accepted.lose()
        self.assertNotIn(accepted.tls, self.listener.factory.protocols)
        del accepted
        self.assertEqual([reference() for reference in references], [None, None])

    def test_failure_is_none_once_the_connection_is_gone(self):
        accepted = self.listener.accept()
        tls = accepted.tls
        accepted.lose()
        self.assertIsInstance(tls, StationTls)
        self.assertIsNone(tls.tls_failure())


class SwapTests(ListenerCase):
    def test_live_connections_go_on_after_a_swap(self):
        connections = [self.connected(version) for version in ("TLSv1.2", "TLSv1.3")]
        self.listener.load()
        gc.collect()
        for accepted, client in connections:
            accepted.receive(client.records(b"still here")[0])
            accepted.tls.write(b"so am I")
            client.take(accepted.sent())
            self.assertEqual((accepted.edge.received, client.received), (b"still here", b"so am I"))

    def test_handshake_that_began_before_a_swap_ends_after_it(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            client = Client(self.station, version=version)
            accepted = self.listener.accept()
            client.take(accepted.receive(client.step()))
            self.listener.load()
            gc.collect()
            accepted.talk(client)
            self.assertEqual(accepted.tls.tls_facts().certificate.common_name, "CP-001")

    def test_old_contexts_are_freed_with_their_last_connection(self):
        accepted, _ = self.connected()
        context = weakref.ref(self.listener.creator.generation.contexts[REQUIRE])
        self.listener.load()
        gc.collect()
        self.assertIsNotNone(context())
        accepted.lose()
        del accepted
        gc.collect()
        self.assertIsNone(context())

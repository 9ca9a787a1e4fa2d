"""What a station offered is read from the raw bytes, whatever bytes they are."""

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.hello import Hello, hello_size, read_hello

SERVER_NAME, SUPPORTED_VERSIONS = 0, 43


def vector(data, size):
    return len(data).to_bytes(size) + data


def extension(kind, data):
    return kind.to_bytes(2) + vector(data, 2)


def sni(name, kind=0):
    return extension(SERVER_NAME, vector(bytes([kind]) + vector(name, 2), 2))


def supported(*versions):
    return extension(SUPPORTED_VERSIONS, vector(b"".join(one.to_bytes(2) for one in versions), 1))


def message(version=0x0303, ciphers=(0x1301, 0xC02B), extensions=b"", session=b""):
    body = version.to_bytes(2) + bytes(32) + vector(session, 1)
    body += vector(b"".join(one.to_bytes(2) for one in ciphers), 2) + b"\x01\x00"
    if extensions is not None:
        body += vector(extensions, 2)
    return b"\x01" + vector(body, 3)


def records(content, size=16_384):
    pieces = [content[place : place + size] for place in range(0, len(content), size)]
    return b"".join(b"\x16\x03\x01" + vector(piece, 2) for piece in pieces)


def openssl_hello(version, ciphers=b"DEFAULT"):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    context.set_cipher_list(ciphers)
    connection = SSL.Connection(context)
    connection.set_tlsext_host_name(b"ocpp.example.com")
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return connection.bio_read(65_536)


class HelloTests(SynchronousTestCase):
    def test_hello_of_a_tls13_client(self):
        hello = read_hello(openssl_hello(SSL.TLS1_3_VERSION))
        self.assertEqual(hello.versions, ("TLSv1.3", "TLSv1.2"))
        self.assertIn("TLS_AES_128_GCM_SHA256", hello.ciphers)
        self.assertEqual(hello.server_name, "ocpp.example.com")

    def test_hello_of_a_tls12_client_names_its_highest_version(self):
        hello = read_hello(openssl_hello(SSL.TLS1_2_VERSION, b"ECDHE-ECDSA-AES128-GCM-SHA256:AES256-GCM-SHA384"))
        self.assertEqual(hello.versions, ("TLSv1.2",))
        self.assertEqual(hello.ciphers[:2], ("ECDHE-ECDSA-AES128-GCM-SHA256", "AES256-GCM-SHA384"))

    def test_every_name_of_a_cipher_is_openssls_own(self):
        known = SSL.Connection(_all_ciphers()).get_cipher_list()
        hello = read_hello(openssl_hello(SSL.TLS1_3_VERSION, b"ALL:COMPLEMENTOFALL:@SECLEVEL=0"))
        named = [name for name in hello.ciphers if not name.startswith(("0x", "TLS_EMPTY"))]
        self.assertGreater(len(named), 40)
        self.assertEqual([name for name in named if name not in known], [])

    def test_hello_without_extensions_is_read(self):
        hello = read_hello(records(message(version=0x0301, ciphers=(0x002F, 0x000A), extensions=None)))
        self.assertEqual(hello, Hello(("TLSv1",), ("AES128-SHA", "DES-CBC3-SHA"), ""))

    def test_numbers_without_a_name_are_hexadecimal_and_grease_is_left_out(self):
        offered = message(ciphers=(0x0A0A, 0x1301, 0xFAFA, 0xC0FF), extensions=supported(0x3A3A, 0x0304, 0x7F1C))
        hello = read_hello(records(offered))
        self.assertEqual(hello.ciphers, ("TLS_AES_128_GCM_SHA256", "0xC0FF"))
        self.assertEqual(hello.versions, ("TLSv1.3", "0x7F1C"))

    def test_server_name_that_cannot_be_printed_is_escaped(self):
        hello = read_hello(records(message(extensions=sni(b"a\r\nb\xff c"))))
        self.assertEqual(hello.server_name, r"a\x0d\x0ab\xff\x20c")

    def test_server_name_of_another_kind_is_none(self):
        self.assertEqual(read_hello(records(message(extensions=sni(b"x", kind=1)))).server_name, "")

    def test_hello_in_several_records_is_joined(self):
        whole = message(extensions=sni(b"ocpp.example.com"))
        for size in (10, 50, 100):
            with self.subTest(size=size):
                self.assertEqual(read_hello(records(whole, size)).server_name, "ocpp.example.com")

    def test_hello_whose_header_is_in_pieces_is_joined(self):
        whole = message()
        self.assertEqual(read_hello(records(whole[:2]) + records(whole[2:])), read_hello(records(whole)))

    def test_hello_in_very_many_records_is_not_read(self):
        self.assertIsNone(read_hello(records(message(), 1)))

    def test_bytes_behind_it_do_not_matter(self):
        first = records(message())
        self.assertEqual(read_hello(first + b"\x17\x03\x03\x00\x05hello"), read_hello(first))
        self.assertEqual(hello_size(first + b"more"), len(first))

    def test_other_messages_are_no_hello(self):
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", records(b"\x02" + message()[1:]), b"\x15\x03\x01\x00\x02\x02\x28"):
            self.assertIsNone(read_hello(data))

    def test_hello_that_announces_more_than_it_holds_is_none(self):
        body = message()[4:]
        broken = body[:34] + b"\xff" + body[35:]  # a session id longer than all that follows
        self.assertIsNone(read_hello(records(b"\x01" + vector(broken, 3))))

    def test_no_part_of_a_hello_is_one(self):
        data = openssl_hello(SSL.TLS1_3_VERSION)
        self.assertTrue(all(read_hello(data[:size]) is None for size in range(len(data))))
        self.assertTrue(all(hello_size(data[:size]) == 0 for size in range(len(data))))


class AnyBytesTests(SynchronousTestCase):
    @given(st.binary(max_size=600))
    def test_any_bytes_are_read_without_an_exception(self, data):
        self.assertIsInstance(read_hello(data), Hello | None)
        self.assertLessEqual(hello_size(data), len(data))

    @given(st.binary(max_size=400), st.integers(1, 200))
    def test_any_content_of_a_hello_is_read_without_an_exception(self, body, size):
        self.assertIsInstance(read_hello(records(b"\x01" + vector(body, 3), size)), Hello | None)

    @given(st.data())
    def test_a_hello_with_changed_bytes_is_read_without_an_exception(self, data):
        hello = bytearray(records(message(extensions=sni(b"ocpp.example.com") + supported(0x0304, 0x0303))))
        for _ in range(data.draw(st.integers(1, 8))):
            hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
        found = read_hello(bytes(hello))
        self.assertIsInstance(found, Hello | None)
        if found is not None:
            self.assertTrue(found.server_name.isprintable())

    @given(
        st.lists(st.sampled_from((0x0301, 0x0302, 0x0303, 0x0304)), max_size=6),
        st.lists(st.integers(0, 0xFFFF), max_size=50),
        st.from_regex(r"[a-z0-9.-]{1,60}", fullmatch=True),
        st.integers(16, 400),
    )
    def test_what_was_written_is_what_is_read(self, versions, ciphers, name, size):
        extensions = extension(5, b"\x01\x00\x00\x00\x00") + sni(name.encode()) + supported(*versions)
        hello = read_hello(records(message(ciphers=ciphers, extensions=extensions), size))
        self.assertEqual(hello.server_name, name)
        self.assertEqual(len(hello.versions), len(versions))
        grease = [one for one in ciphers if one & 0x0F0F == 0x0A0A and one >> 8 == one & 0xFF]
        self.assertEqual(len(hello.ciphers), len(ciphers) - len(grease))


def _all_ciphers():
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    context.set_tls13_ciphersuites(
        b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256"
    )
    return context

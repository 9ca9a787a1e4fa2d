"""Whatever strangers and proxies send: nobody is let in who should not be, nothing breaks or leaks."""

import base64
from urllib.parse import unquote

from hypothesis import example, given
from hypothesis import strategies as st

from ocppgw.access.addresses import parse_address, parse_network
from ocppgw.access.proxies import ProxyRules
from ocppgw.errors import StoreError
from ocppgw.routing.entrance import Welcome
from tests.build_access_fuzz import ADDRESS, GOOD, PASSWORD, TOKEN, AccessFuzz, House, basic, often
from tests.build_edge import request

# --- what strangers send

LATIN_1 = st.characters(max_codepoint=255)
SEGMENTS = ["ocpp", "1.6", "1.6J", "2.0.1", "CP-001", "%43P-001", "CP-2", "..", ".", "%2e%2e", "%2F", "%00", "%", "%zz"]
SEGMENTS += ["admin", ".env", "select", "from", "etc", "passwd", "é", "%C3%A9", ":", "CP:3", "\\", "a" * 60, ""]
ANY_PATH = st.lists(st.sampled_from(SEGMENTS) | st.text(LATIN_1, max_size=4), max_size=6).map(
    lambda parts: "/" + "/".join(parts)
)
IDS = ["/CP-001", "/%43P-001", "/CP%2D001", "/CP-001/", "/CP-001.", "/CP-001%00", "/%2543P-001", "/cp-001", "//CP-001"]
GOOD_PATH = st.tuples(
    st.sampled_from(["", "/x", "/admin", "/..", "/.env/y"]),
    st.sampled_from(["/ocpp", "/ocpp/1.6", "/ocpp/1.6j", "/ocpp/2.0.1", "/OCPP/1.6", "/ocpp/../1.6"]),
    st.sampled_from(IDS),
).map("".join)
QUERIES = st.sampled_from(["", "", "?", "?a=/ocpp/CP-001", "#x", "?#", "%3F"])
CREDENTIALS = [
    basic("CP-001"),
    basic("CP-2"),
    basic("user-3"),
    basic("CP-001", "guess"),
    f"Authorization: Bearer {TOKEN}",
]
CREDENTIALS += [
    f"X-Api-Key: {TOKEN}",
    "Authorization: Basic !",
    "Authorization: Basic Q1A=",
    "authorization: ",
    "X-Api-Key:",
]
HEADERS = [
    "Host: x",
    "Connection: close",
    "Upgrade: h2c",
    "Sec-WebSocket-Key: x",
    "Sec-WebSocket-Version: 8",
    "Origin: null",
]
HEADERS += [
    "Sec-WebSocket-Protocol: ocpp2.0.1",
    "Sec-WebSocket-Protocol: é,,;",
    "Content-Length: 5",
    "Transfer-Encoding: x",
]
HEADERS += ["Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99", "no colon", ": no name", "é: é"]
HEADER = st.sampled_from(HEADERS + CREDENTIALS) | st.text(LATIN_1, max_size=30)


def proves(welcome: Welcome, sent: bytes) -> bool:
    """Whether what was sent holds the secret of the station that was let in."""
    right = {
        "CP-001": [b"CP-001:" + PASSWORD.encode()],
        "CP-2": [],
        "CP:3": [name + b":" + PASSWORD.encode() for name in (b"CP:3", b"user-3")],
    }[welcome.station.charge_point_id]
    words = sent.split()
    return TOKEN.encode() in sent if not right else any(_decoded(word) in right for word in words)


def _decoded(word: bytes) -> bytes:
    try:
        return base64.b64decode(word, validate=True)
    except ValueError:
        return b""


@st.composite
def pieces_of(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """The bytes as they may arrive."""
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good request with some bytes replaced, inserted or left out."""
    data = bytearray(draw(st.sampled_from(REQUESTS)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.sampled_from([0, 0, 1, 2, 30]))] = draw(
            st.sampled_from(SCRAPS) | st.binary(max_size=4)
        )
    return bytes(data)


REQUESTS = [GOOD, request("/ocpp/1.6/CP-2", f"X-Api-Key: {TOKEN}"), request("/ocpp/1.6/CP:3", basic("user-3"))]
REQUESTS += [request("/ocpp/2.0.1/CP-001", basic("CP-001"), subprotocol="ocpp2.0.1"), request("/ocpp/CP-4")]
SCRAPS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"\x0b",
    b"\x85",
    b":",
    b" ",
    b"\t",
    b",",
    b"GET ",
    GOOD,
    b"A" * 17_000,
    b"\x16\x03\x01",
]


class StrangersTests(AccessFuzz):
    @often
    @given(ANY_PATH | GOOD_PATH, QUERIES, st.sampled_from(["ocpp1.6", "ocpp2.0.1", "x", "", "é, ocpp1.6"]))
    def test_any_path(self, path: str, query: str, offers: str) -> None:
        house = House()
        attempt, welcome = house.come(request(path + query, basic("CP-001"), subprotocol=offers))
        if welcome is not None:
            self.assertEqual(welcome.station.charge_point_id, "CP-001")
            self.assertIn("/ocpp/", path)
            self.assertNotIn("/../", path)
            self.assertEqual(unquote(path.rpartition("/")[2]), "CP-001")
            self.assertIn(attempt.subprotocol, offers)
        self.is_well(house)

    @often
    @given(
        st.sampled_from(["/ocpp/CP-001", "/ocpp/CP-2", "/ocpp/CP:3", "/ocpp/CP-4", "/ocpp/CP-404"]),
        st.lists(HEADER, max_size=5),
    )
    def test_any_headers(self, target: str, headers: list[str]) -> None:
        house = House()
        sent = request(target, *headers)
        _, welcome = house.come(sent)
        if welcome is not None:
            self.assertEqual(welcome.station.charge_point_id, target.rpartition("/")[2])
            self.assertTrue(proves(welcome, sent))
        self.is_well(house)

    @often
    @example([GOOD, b"x" * 70_000], True)
    @example([GOOD, GOOD], True)
    @given(pieces_of(mutated() | st.binary(max_size=100)), st.booleans())
    def test_any_bytes(self, pieces: list[bytes], is_slow: bool) -> None:
        house = House(is_slow=is_slow)
        _, welcome = house.come(*pieces)
        if welcome is not None:
            self.assertTrue(proves(welcome, b"".join(pieces)))
        self.is_well(house)

    @often
    @given(
        st.sampled_from(["look_up", "claim", "load_station"]),
        st.sampled_from(REQUESTS),
        st.sampled_from([StoreError("full"), KeyError("x")]),
    )
    def test_a_store_that_fails_is_a_503_and_lets_nobody_in(self, method: str, sent: bytes, fault: Exception) -> None:
        house = House()
        house.store.fails_at, house.store.fault = method, fault
        attempt, _ = house.come(sent)
        self.assertIn(attempt.outcome, ("StoreUnavailable", "ClientCertificateMissing"))
        ours = isinstance(fault, KeyError) and attempt.outcome == "StoreUnavailable"
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), ours)
        self.is_well(house)


# --- what proxies say

PROXY = "10.0.0.1"
ADDRESSES = [
    "198.51.100.7",
    "10.0.0.2",
    "198.51.100.7:4711",
    "[2001:db8::7]:4711",
    "2001:db8::7",
    "unknown",
    "_hidden",
    "",
]
FORWARDED_FOR = st.lists(st.sampled_from(ADDRESSES) | st.text(LATIN_1, max_size=8), max_size=25).map(", ".join)
ELEMENTS = ["for=", 'for="', "For=[", "]", '"', ";", ",", "proto=https", "by=x", "host=", "\\", "=", " "]
FORWARDED = st.lists(st.sampled_from(ELEMENTS + ADDRESSES) | st.text(LATIN_1, max_size=4), max_size=12).map("".join)


class ProxyTests(AccessFuzz):
    @often
    @given(FORWARDED_FOR, st.sampled_from(["", "https", "http, https", "é"]), st.booleans())
    def test_any_x_forwarded_for(self, value: str, proto: str, is_listed: bool) -> None:
        headers = [f"X-Forwarded-For: {value}", f"X-Forwarded-Proto: {proto}"]
        self.names_an_address_or_is_refused("x-forwarded-for", headers, is_listed)

    @often
    @given(FORWARDED, st.booleans())
    def test_any_forwarded(self, value: str, is_listed: bool) -> None:
        self.names_an_address_or_is_refused("forwarded", [f"Forwarded: {value}"], is_listed)

    def names_an_address_or_is_refused(self, header: str, headers: list[str], is_listed: bool) -> None:
        house = House(proxies=ProxyRules((parse_network("10.0.0.0/8"),), header))
        peer = PROXY if is_listed else ADDRESS
        attempt, welcome = house.come(request("/ocpp/CP-001", basic("CP-001"), *headers), address=peer)
        if attempt.outcome in ("ProxyHeaderInvalid", "MalformedRequest"):
            self.assertTrue(is_listed or attempt.outcome == "MalformedRequest")
            self.assertEqual(attempt.address, peer)
        else:
            assert welcome is not None
            self.assertIsNotNone(parse_address(attempt.address))
            self.assertEqual(attempt.proxy, peer if is_listed else "")
            self.assertTrue(is_listed or welcome.proof.security_profile == 1)
        self.is_well(house)

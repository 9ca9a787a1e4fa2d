"""Whatever comes, from sockets or out of the store: nobody is let in who should not be, nothing breaks or leaks.

Strangers' bytes go through the real edge (`ChargerProtocol`) and the real entrance over a fake store and a fake
transport. Every connection is checked for all that `House.come` promises.
"""

import base64
import contextlib
import copy
import string
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

import txaio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.addresses import parse_address, parse_network
from ocppgw.access.admission import AdmissionRules
from ocppgw.access.attempts import ADMITTED, Attempt
from ocppgw.access.authenticate import hash_secret
from ocppgw.access.certificates import ClientCertificate, normal_serial, read_certificate
from ocppgw.access.certify import CertificateRules, certificate_fault
from ocppgw.access.proxies import ProxyRules
from ocppgw.access.refusals import BY_CODE, Reason, Refused
from ocppgw.access.transport import TlsFacts, TlsFailure
from ocppgw.access.turnstile import TurnstileRules
from ocppgw.access.verified import KEY_BYTES, VerifiedSecrets
from ocppgw.errors import StoreError
from ocppgw.net.opening import answer
from ocppgw.net.websocket import ChargerFactory, WebSocketRules
from ocppgw.ocpp.versions import V16
from ocppgw.ports import Known
from ocppgw.routing.attempt_log import AttemptLog
from ocppgw.routing.entrance import Entrance, EntranceRules, Renewals, Welcome
from ocppgw.routing.handshake_log import HandshakeLog
from ocppgw.routing.links import Links
from ocppgw.routing.proving import ProofRules, Prover
from ocppgw.routing.warden import withdrawn
from tests.build_edge import METRICS, NOW, FakeLink, Wire, request
from tests.test_entrance import FakeStore, Threads

ANSWERS = {answer(Refused(reason)) for reason in Reason if reason.status}
PASSWORD, TOKEN, SALT = "correct horse: battery", "a-token-of-some-length", "0123456789abcdef"
ADDRESS = "192.0.2.1"
FINGERPRINT = "AB" * 32
YEAR = 365 * 86_400.0

often = settings(
    max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def digest(secret: str) -> str:
    return hash_secret(secret.encode(), SALT.encode(), "sha256").hex()


def identity(name: str, **auth: Any) -> dict[str, Any]:
    return {
        "chargePointId": name,
        "stationId": "station-1",
        "tenantId": "tenant-1",
        "auth": {"secretSalt": SALT, **auth},
    }


def basic(user: str, password: str = PASSWORD) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


IDENTITIES = [
    identity("CP-001", type="basic", secretHash=digest(PASSWORD)),
    identity("CP-2", type="token", tokenHash=digest(TOKEN)),
    identity("CP:3", type="basic", username="user-3", secretHash=digest(PASSWORD)),
    identity("CP-4", type="mtls", certificates=[{"fingerprint": FINGERPRINT}]),
]
GOOD = request("/ocpp/CP-001", basic("CP-001"))


class SecureWire(Wire):
    """A TLS connection with these facts."""

    def __init__(self, facts: TlsFacts, **options: Any) -> None:
        super().__init__(**options)
        self.tls_facts = lambda: facts

    def tls_failure(self) -> TlsFailure | None:
        return None

    def tls_slim(self) -> None:
        pass


class Store(FakeStore):
    """Answers at once, or `later`: when that has been called."""

    def __init__(self) -> None:
        super().__init__()
        self.later: Callable[[Callable[[], Any]], Any] | None = None

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> Deferred[Any]:
        known = super().look_up(charge_point_id, fingerprint)
        if self.later is None:
            return known
        waiting: Deferred[Any] = Deferred()
        self.later(lambda: known.addBoth(waiting.callback))
        return waiting


class House:
    """The edge, the entrance and what is behind it. There is one place for each address, and one in all: whoever is not
    let go of keeps the next one out."""

    def __init__(self, *identities: Any, is_slow: bool = False, **rules: Any) -> None:
        txaio.config.loop = self.clock = Clock()  # Autobahn's timers follow this
        self.clock.advance(NOW)
        self.store: Any = Store()
        self.store.identities = {one["chargePointId"]: one for one in identities or IDENTITIES}
        if is_slow:
            self.store.later = lambda answer: self.clock.callLater(1.0, answer)
        self._attempts = AttemptLog(self.store, METRICS, self.clock)
        proofs = ProofRules(certificates=CertificateRules(organizations=rules.pop("organizations", ())))
        self.entrance = Entrance(
            EntranceRules(AdmissionRules(), 1, turnstile=TurnstileRules(1, 1, 0, 0), **rules),
            self.store,
            Links(),
            Prover(proofs, Threads().run, VerifiedSecrets(bytes(KEY_BYTES), 300.0), self.clock.seconds),
            HandshakeLog(METRICS, self._attempts, self.clock, 0.0),
            METRICS,
            self.clock,
            lambda: None,
            Renewals(lambda *_: None, lambda *_: None),
        )
        self.factory = ChargerFactory(WebSocketRules(max_half_open=1), self.entrance, self._open, self.clock)
        self._welcome: Welcome | None = None

    def _open(self, welcome: Welcome, socket: Any) -> Any:
        self._welcome = welcome
        return FakeLink(welcome, socket)

    def come(
        self, *pieces: bytes, tls: TlsFacts | None = None, address: str = ADDRESS
    ) -> tuple[Attempt, Welcome | None]:
        """One connection from its beginning to its end: the one attempt that is kept of it, and who was let in.

        What was sent is the 101 or the constant answer of the attempt's reason; a 5xx means that the store failed.
        """
        assert self.entrance.turned_away(address, "plain port 8080") is None, "the one before is still counted"
        peer = IPv4Address("TCP", address, 50_000)
        wire = Wire(peerAddress=peer) if tls is None else SecureWire(tls, peerAddress=peer)
        self._welcome = None
        protocol: Any = self.factory.buildProtocol(None)
        protocol.makeConnection(wire)
        for piece in pieces:
            if piece and not wire.end:
                protocol.dataReceived(piece)
        self.clock.advance(self.factory.rules.handshake_timeout + 1)
        protocol.connectionLost(Failure(ConnectionDone()))
        self._attempts.flush()
        (attempt,) = self.store.attempts
        self.store.attempts.clear()
        self._check(wire.value(), attempt)
        return attempt, self._welcome

    def _check(self, sent: bytes, attempt: Attempt) -> None:
        if attempt.outcome == ADMITTED:
            assert sent.startswith(b"HTTP/1.1 101 "), sent
            assert self._welcome is not None
            assert self._welcome.station.charge_point_id == attempt.charge_point_id
        else:
            assert sent == (answer(Refused(BY_CODE[attempt.outcome])) if attempt.status else b"")
            assert self._welcome is None
        assert attempt.status < 500 or self.store.fault is not None, attempt


class AccessFuzz(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(setattr, txaio.config, "loop", txaio.config.loop)

    def is_well(self, house: House) -> None:
        """Nothing was logged as a fault, and everybody was let go of: the next one is let in."""
        self.assertEqual(self.flushLoggedErrors(), [])
        house.store.identities["CP-001"], house.store.fault = IDENTITIES[0], None
        house.store.revoked, house.store.profiles = {}, {}
        for address in (ADDRESS, "192.0.2.2"):
            attempt, _ = house.come(GOOD, address=address)
            self.assertEqual(attempt.outcome, ADMITTED)
        self.assertEqual(house.factory.half_open, 0)


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


# --- what the store holds

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
TEXTS = [
    "",
    "x",
    "CP-001",
    "CN=CP-001",
    "basic",
    "mtls",
    "none",
    "active",
    "disabled",
    "revoked",
    "scrypt",
    "scrypt$",
    "1.6",
]
TEXTS += ["10.0.0.0/8", "192.0.2.1", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2027-01-01T00:00:00Z"]
TEXTS += [FINGERPRINT, f"scrypt${'ab' * 32}", "ab" * 64, "\ud800", "DNS:", ":", "=", "\\", "a" * 2000]
JSON = st.recursive(
    SCALARS | st.sampled_from(TEXTS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FULL = {
    "chargePointId": "CP-001",
    "stationId": "station-1",
    "tenantId": "tenant-1",
    "status": "active",
    "allowedProtocols": ["1.6"],
    "allowedIps": ["192.0.2.1"],
    "allowedCidrs": ["192.0.2.0/24"],
    "boot": {"status": "Accepted"},
    "auth": {
        "type": "basic",
        "allowedTypes": ["basic", "token", "mtls"],
        "username": "CP-001",
        "hashAlgorithm": "sha256",
        "secretHash": digest(PASSWORD),
        "secretSalt": SALT,
        "tokenHash": digest(TOKEN),
        "nextSecretHash": digest("next"),
        "nextSecretSalt": SALT,
        "certificates": [
            {
                "fingerprint": FINGERPRINT,
                "subject": "CN=CP-001",
                "subjectAltName": "DNS:cp-001.example",
                "serialNumber": "01",
                "validFrom": "2026-01-01T00:00:00Z",
                "validTo": "2028-01-01T00:00:00Z",
                "status": "active",
                "chargePointId": "CP-001",
            }
        ],
        "pendingCertificates": [{"fingerprint": FINGERPRINT}],
        "subject": "CN=CP-001",
        "fingerprint": FINGERPRINT,
        "revokedFingerprints": ["CD" * 32],
        "requireSerialMatch": True,
        "lowestProfile": 1,
        "acceptHexSecret": True,
    },
}


@st.composite
def records(draw: st.DrawFn) -> Any:
    """An identity with some members replaced, left out or added."""
    record: Any = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 2))):
        place = record
        while True:
            name = draw(st.sampled_from(sorted(place))) if isinstance(place, dict) and place else 0
            inner = place[name] if place else None
            if not inner or not isinstance(inner, dict | list) or draw(st.integers(0, 3)) == 0:
                break
            place = inner
        if isinstance(place, dict) and draw(st.booleans()):
            place.pop(name, None)
        elif place:
            place[name] = draw(st.sampled_from(TEXTS) | JSON)
    return record


def certificate(**members: Any) -> ClientCertificate:
    known = {
        "fingerprint": FINGERPRINT,
        "subject": "CN=CP-001,O=Operator",
        "common_name": "CP-001",
        "serial_number": "1",
    }
    dates = {"issuer": "CN=CA", "not_before": NOW - YEAR, "not_after": NOW + YEAR}
    return ClientCertificate(**{**known, **dates, "organizations": ("Operator",), "names": (), **members})


def over_tls(found: ClientCertificate | None = None) -> TlsFacts:
    return TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", asked=True, certificate=found)


STRANGER = certificate(fingerprint="EE" * 32, subject="CN=X", common_name="X", serial_number="EE")
COMERS = {
    "password": (request("/ocpp/CP-001", basic("CP-001")), None),
    "next password": (request("/ocpp/CP-001", basic("CP-001", "next")), None),
    "token": (request("/ocpp/CP-001", f"X-Api-Key: {TOKEN}"), over_tls()),
    "certificate": (request("/ocpp/CP-001"), over_tls(certificate())),
    "nothing": (request("/ocpp/CP-001"), None),
    "wrong password": (request("/ocpp/CP-001", basic("CP-001", "guess")), None),
    "wrong certificate": (request("/ocpp/CP-001", basic("CP-001", "guess")), over_tls(STRANGER)),
}
WHO = [*COMERS, "password", "next password", "token", "certificate"]
NEEDED = {"password": digest(PASSWORD), "next password": digest("next"), "token": digest(TOKEN)}


class RecordTests(AccessFuzz):
    @often
    @example({**FULL, "chargePointId": "CP-2"}, "password")
    @given(records() | records() | st.dictionaries(st.sampled_from(sorted(FULL)), JSON), st.sampled_from(WHO))
    def test_any_record(self, record: Any, comer: str) -> None:
        house = House()
        house.store.identities["CP-001"] = record
        sent, tls = COMERS[comer]
        _, welcome = house.come(sent, tls=tls)
        if welcome is not None:
            self.assertNotIn(comer, ("nothing", "wrong password", "wrong certificate"))
            self.assertEqual((record["chargePointId"], record.get("status", "active")), ("CP-001", "active"))
            self.assertIn(NEEDED.get(comer, ""), repr(record["auth"]))
            self.assertEqual(
                (welcome.station.station_id, welcome.station.tenant_id), (record["stationId"], record["tenantId"])
            )
        self.is_well(house)

    @often
    @given(records(), st.sampled_from(["password", "token", "certificate"]))
    def test_who_would_be_let_in_again_is_not_thrown_out(self, record: Any, comer: str) -> None:
        house, (sent, tls) = House(FULL), COMERS[comer]
        _, welcome = house.come(sent, tls=tls)
        assert welcome is not None
        house.store.identities["CP-001"] = record
        fault = withdrawn(Known(record), welcome.proof, "CP-001", V16, ProofRules(), house.clock.seconds())
        attempt, _ = house.come(sent, tls=tls)
        self.assertTrue(fault is None or attempt.outcome != ADMITTED)
        self.is_well(house)

    @often
    @given(JSON, JSON)
    def test_any_entry_of_the_denylist_refuses(self, entry: Any, reason: Any) -> None:
        house = House(FULL)
        for found in ({"reason": reason}, entry if isinstance(entry, dict) else {"x": entry}):
            house.store.revoked[FINGERPRINT] = found
            attempt, _ = house.come(COMERS["certificate"][0], tls=over_tls(certificate()))
            self.assertEqual(attempt.outcome, "CertificateRevoked")
        self.is_well(house)


# --- certificates

NAMES = [
    "CP-001",
    "cp-001",
    "CP-001 ",
    "CN=CP-001",
    "CN = CP-001, O=Operator",
    "/O=Operator/CN=CP-001",
    "X",
    "=",
    "CN=",
    ",",
]
NAME = st.sampled_from(NAMES) | st.text(max_size=8)
SERIALS = st.sampled_from(["1", "01", "0x1", "00:01", "EE", "", "-1"]) | st.text(string.hexdigits, max_size=4)
ALTERNATIVES = (
    st.sampled_from(["DNS:cp-001.example", "DNS:CP-001.Example", "dns: cp-001.example", "IP:192.0.2.1", "URI:x"]) | NAME
)
FINGERPRINTS = st.sampled_from([FINGERPRINT, FINGERPRINT.lower(), ":".join(["AB"] * 32), "EE" * 32, "AB" * 20, ""])
BINDINGS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "fingerprint": FINGERPRINTS,
            "subject": NAME,
            "subjectAltName": st.lists(ALTERNATIVES, max_size=2).map(",".join),
            "serialNumber": SERIALS,
            "validFrom": st.sampled_from(["2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]),
            "validTo": st.sampled_from(["2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]),
            "status": st.sampled_from(["active", "revoked"]),
            "chargePointId": st.sampled_from(["CP-001", "CP-2"]),
        },
    ),
    max_size=3,
)
CERTIFICATES = st.builds(
    certificate,
    fingerprint=st.sampled_from([FINGERPRINT, "EE" * 32]),
    subject=NAME,
    common_name=NAME,
    serial_number=SERIALS.map(lambda text: normal_serial(text) or "1"),
    names=st.lists(ALTERNATIVES, max_size=2).map(tuple),
    organizations=st.sampled_from([("Operator",)] * 3 + [("X", "Operator"), ("O\n",), ()]),
)


def may_bind(binding: dict[str, Any], found: ClientCertificate) -> bool:
    """Whether a binding could name this certificate at all, judged more freely than it should be."""
    if binding.get("status") == "revoked" or binding.get("chargePointId", "CP-001") != "CP-001":
        return False
    if binding.get("validFrom", "").startswith("2999") or binding.get("validTo", "2999")[:4] != "2999":
        return False

    def plain(text: str) -> list[str]:
        return sorted(text.casefold().replace("/", ",").replace(" ", "").strip(",").split(","))

    subject, names = binding.get("subject", ""), binding.get("subjectAltName", "")
    return (
        binding.get("fingerprint", "").replace(":", "").upper() == found.fingerprint
        or normal_serial(binding.get("serialNumber", "")) == normal_serial(found.serial_number)
        or subject.strip() == found.common_name
        or subject.replace(" ", "").removeprefix("CN=") == found.common_name.replace(" ", "")
        or plain(subject) == plain(found.subject)
        or any(plain(name) in map(plain, found.names) for name in names.split(","))
    )


KEY = ec.generate_private_key(ec.SECP256R1())
KINDS = [NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.USER_ID]
ENCODABLE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
DRAWN_NAMES = st.lists(st.builds(x509.NameAttribute, st.sampled_from(KINDS), ENCODABLE), max_size=4).map(x509.Name)
ALTERNATIVE_NAMES = (
    st.text(string.printable, max_size=20).map(x509.DNSName)
    | st.text(string.printable, max_size=20).map(x509.UniformResourceIdentifier)
    | st.ip_addresses().map(x509.IPAddress)
    | DRAWN_NAMES.map(x509.DirectoryName)
    | st.just(x509.RegisteredID(x509.ObjectIdentifier("1.2.3")))
    | st.binary(max_size=9).map(
        lambda data: x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x04%c" % len(data) + data)
    )
)


def der_certificate(subject: x509.Name, names: Sequence[x509.GeneralName]) -> bytes:
    begins, ends = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, begins, ends)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)


SAMPLE = der_certificate(
    x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CP-001"), x509.NameAttribute(NameOID.COUNTRY_NAME, "NL")]),
    [x509.DNSName("cp-001.example"), x509.IPAddress(ip_address("192.0.2.1"))],
)
VERSION_AT = SAMPLE.index(b"\xa0\x03\x02\x01\x02") + 4


class CertificateTests(AccessFuzz):
    @often
    @given(BINDINGS, CERTIFICATES)
    def test_any_binding(self, bindings: list[dict[str, Any]], found: ClientCertificate) -> None:
        house = House(identity("CP-001", type="mtls", certificates=bindings), organizations=("Operator",))
        _, welcome = house.come(request("/ocpp/CP-001"), tls=over_tls(found))
        if welcome is not None:
            self.assertTrue(any(may_bind(binding, found) for binding in bindings))
            self.assertIn("Operator", found.organizations)
            self.assertEqual(welcome.proof.security_profile, 3)
        self.is_well(house)

    @often
    @given(DRAWN_NAMES, st.lists(ALTERNATIVE_NAMES, max_size=4))
    def test_any_subject_and_alternative_names(self, subject: x509.Name, names: list[x509.GeneralName]) -> None:
        found = read_certificate(der_certificate(subject, names))
        common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.assertEqual(found.common_name, common[0].value if len(common) == 1 else "")
        self.assertLessEqual(len(found.names), len(names))
        house = House(FULL)
        attempt, _ = house.come(request("/ocpp/CP-001"), tls=over_tls(found))
        assert attempt.certificate is not None
        self.assertEqual(attempt.certificate.fingerprint, found.fingerprint)
        self.is_well(house)

    @often
    @example([(VERSION_AT, 5)])
    @given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def test_a_damaged_certificate_is_read_or_a_value_error(self, changes: list[tuple[int, int]]) -> None:
        data = bytearray(SAMPLE)
        for place, octet in changes:
            data[place] = octet
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(ValueError):
            found = read_certificate(bytes(data))
            house = House(FULL)
            house.come(request("/ocpp/CP-001"), tls=over_tls(found))
            self.is_well(house)

    def test_a_clock_that_was_set_back_is_told(self) -> None:
        fault = certificate_fault(certificate(), None, None, NOW - 2 * YEAR)
        assert fault is not None
        self.assertIs(fault.reason, Reason.CERTIFICATE_NOT_YET_VALID)
        self.assertIn("it begins 2026-", fault.detail)
        self.assertIsNone(certificate_fault(certificate(), None, None, NOW))

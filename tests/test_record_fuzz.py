"""Whatever the store and certificates hold: nobody is let in who should not be, nothing breaks or leaks."""

import contextlib
import copy
import string
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from ocppgw.access.attempts import ADMITTED
from ocppgw.access.certificates import ClientCertificate, normal_serial, read_certificate
from ocppgw.access.certify import certificate_fault
from ocppgw.access.refusals import Reason
from ocppgw.access.transport import TlsFacts
from ocppgw.ocpp.versions import V16
from ocppgw.ports import Known
from ocppgw.routing.proving import ProofRules
from ocppgw.routing.warden import withdrawn
from tests.build_access_fuzz import (
    FINGERPRINT,
    PASSWORD,
    SALT,
    TOKEN,
    YEAR,
    AccessFuzz,
    House,
    basic,
    digest,
    identity,
    often,
)
from tests.build_edge import NOW, request

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

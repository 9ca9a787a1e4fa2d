"""Identity records: what is read, what is refused, and that secrets stay out of sight."""

import copy
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.addresses import parse_network
from ocppgw.access.identity import Identity, IdentityError, dev_identity, parse_identity
from ocppgw.errors import OcppgwError

SCHEMA = json.loads((Path(__file__).parent.parent / "schemas" / "identity.schema.json").read_text())
HASH = "ab" * 32
SALT = "0123456789abcdef"
BASIC = {"type": "basic", "secretHash": HASH, "secretSalt": SALT}


def identity_json(**members):
    """A valid identity; a member given as None is left out."""
    whole = {"chargePointId": "CP-001", "stationId": "station-123", "tenantId": "tenant-abc", "auth": dict(BASIC)}
    whole.update(members)
    return {name: value for name, value in whole.items() if value is not None}


def auth_json(**members):
    return identity_json(auth={**BASIC, **members})


FINGERPRINT = ":".join(["AB"] * 32)

CONTRACT_EXAMPLE = {
    "chargePointId": "CP-001",
    "stationId": "station-123",
    "tenantId": "tenant-abc",
    "status": "active",
    "allowedProtocols": ["1.6J", "2.0.1", "2.1"],
    "allowedIps": [],
    "allowedCidrs": ["10.0.0.0/8"],
    "auth": {
        "type": "mtls",
        "allowedTypes": ["mtls"],
        "hashAlgorithm": "sha256",
        "username": "CP-001",
        "secretHash": HASH,
        "secretSalt": SALT,
        "tokenHash": HASH,
        "certificates": [
            {
                "fingerprint": FINGERPRINT,
                "subject": "CN=CP-001",
                "validFrom": "2026-01-01T00:00:00Z",
                "validTo": "2027-01-01T00:00:00Z",
                "status": "active",
                "chargePointId": "CP-001",
            }
        ],
        "subject": "CN=CP-001",
        "fingerprint": FINGERPRINT,
        "revokedFingerprints": [],
    },
}

GOOD = (
    identity_json(),
    CONTRACT_EXAMPLE,
    identity_json(status="disabled", boot={"status": "Pending"}, allowedIps=["2001:db8::1", "::ffff:10.0.0.1"]),
    identity_json(allowedProtocols=["1.6", "1.6j"], somethingElse={"a": 1}),
    identity_json(auth={}),
    identity_json(auth={"type": "mtls"}),
    identity_json(auth={"allowedTypes": ["token"], "tokenHash": HASH, "secretSalt": SALT}),
    auth_json(secretHash=f"scrypt${HASH}"),
    auth_json(hashAlgorithm="scrypt", secretHash="ab" * 64),
    auth_json(acceptHexSecret=True, username="station"),
    auth_json(tokenHash=HASH, tokenSalt="another salt", tokenHashAlgorithm="scrypt"),
    auth_json(nextSecretHash=HASH, nextSecretSalt="the next salt", nextHashAlgorithm="scrypt"),
    auth_json(certificates=[{"subject": "CP-001"}, {"serialNumber": "0A:1b"}, {"subjectAltName": "DNS:a, URI:urn:b"}]),
    auth_json(pendingCertificates=[{"fingerprint": "ab" * 32, "validTo": "2027-01-01T00:00:00+01:00"}]),
    auth_json(revokedFingerprints=[FINGERPRINT], requireSerialMatch=True, lowestProfile=2),
)

# Each with the member an error must name.
BAD = (
    (identity_json(chargePointId=None), "chargePointId"),
    (identity_json(chargePointId="A" * 49), "chargePointId"),
    (identity_json(chargePointId=7), "chargePointId"),
    (identity_json(stationId=None), "stationId"),
    (identity_json(stationId=""), "stationId"),
    (identity_json(tenantId=None), "tenantId"),
    (identity_json(auth=None), "auth"),
    (identity_json(auth="basic"), "auth"),
    (identity_json(status="Active"), "status"),
    (identity_json(allowedProtocols=["1.5"]), "allowedProtocols"),
    (identity_json(allowedProtocols="1.6J"), "allowedProtocols"),
    (identity_json(allowedCidrs=[7]), "allowedCidrs"),
    (identity_json(boot={"status": "Maybe"}), "boot.status"),
    (identity_json(boot="Accepted"), "boot"),
    (auth_json(type="none"), "auth.type"),
    (auth_json(type="token"), "auth.tokenHash"),
    (auth_json(type="basic", allowedTypes=["mtls"]), "auth.type"),
    (auth_json(allowedTypes=["basic", "oauth"]), "auth.allowedTypes"),
    (auth_json(hashAlgorithm="md5"), "auth.hashAlgorithm"),
    (auth_json(secretHash="hunter2"), "auth.secretHash"),
    (auth_json(secretHash=HASH[:-2]), "auth.secretHash"),
    (auth_json(secretHash=HASH + "ab"), "auth.secretHash"),
    (auth_json(secretHash="zz" * 32), "auth.secretHash"),
    (auth_json(secretSalt="short"), "auth.secretSalt"),
    (identity_json(auth={"type": "basic", "secretHash": HASH}), "auth.secretSalt"),
    (identity_json(auth={"type": "basic", "secretSalt": SALT}), "auth.secretHash"),
    (auth_json(acceptHexSecret="yes"), "auth.acceptHexSecret"),
    (auth_json(username=""), "auth.username"),
    (auth_json(fingerprint="AA:BB"), "auth.fingerprint"),
    (auth_json(revokedFingerprints=["AA"]), "auth.revokedFingerprints"),
    (auth_json(revokedFingerprints=FINGERPRINT), "auth.revokedFingerprints"),
    (auth_json(certificates={}), "auth.certificates"),
    (auth_json(certificates=["CN=CP-001"]), "auth.certificates"),
    (auth_json(certificates=[{}]), "auth.certificates[0].fingerprint"),
    (auth_json(certificates=[{"subject": "a"}, {"fingerprint": "AB:CD"}]), "auth.certificates[1].fingerprint"),
    (auth_json(certificates=[{"serialNumber": "12 monkeys"}]), "auth.certificates[0].serialNumber"),
    (auth_json(certificates=[{"subjectAltName": "cp-001.example"}]), "auth.certificates[0].subjectAltName"),
    (auth_json(certificates=[{"subject": "a", "status": "lost"}]), "auth.certificates[0].status"),
    (auth_json(certificates=[{"subject": "a", "validTo": "tomorrow"}]), "auth.certificates[0].validTo"),
    (auth_json(certificates=[{"subject": "a", "validFrom": "2026-01-01T00:00:00"}]), "auth.certificates[0].validFrom"),
    (auth_json(pendingCertificates=[{}]), "auth.pendingCertificates[0].fingerprint"),
    (auth_json(requireSerialMatch=1), "auth.requireSerialMatch"),
    (auth_json(lowestProfile=4), "auth.lowestProfile"),
    (auth_json(lowestProfile=True), "auth.lowestProfile"),
    (auth_json(nextSecretHash=HASH, nextSecretSalt="short"), "auth.nextSecretSalt"),
    (auth_json(tokenHash=HASH, tokenSalt="short"), "auth.tokenSalt"),
)


class ParseIdentityTests(SynchronousTestCase):
    def error(self, mapping):
        return self.assertRaises(IdentityError, parse_identity, mapping)

    def test_the_example_of_the_contract_is_read(self):
        identity = parse_identity(CONTRACT_EXAMPLE)
        self.assertEqual(
            (identity.charge_point_id, identity.station_id, identity.tenant_id, identity.status),
            ("CP-001", "station-123", "tenant-abc", "active"),
        )
        self.assertEqual(identity.allowed_protocols, ("1.6J", "2.0.1", "2.1"))
        self.assertEqual(identity.allowed_networks, (parse_network("10.0.0.0/8"),))
        self.assertEqual(identity.auth.methods("basic"), ("mtls",))
        self.assertIsNone(identity.boot_status)

    def test_what_is_left_out_restricts_nothing(self):
        identity = parse_identity(identity_json())
        self.assertEqual((identity.status, identity.allowed_protocols, identity.allowed_networks), ("active", (), ()))

    def test_protocols_are_read_in_every_spelling_once(self):
        identity = parse_identity(identity_json(allowedProtocols=["1.6", "1.6j", "1.6J", "2.1"]))
        self.assertEqual(identity.allowed_protocols, ("1.6J", "2.1"))

    def test_addresses_and_networks_are_one_list(self):
        identity = parse_identity(identity_json(allowedIps=["::ffff:10.0.0.1"], allowedCidrs=["2001:db8::/32"]))
        self.assertEqual(identity.allowed_networks, (parse_network("10.0.0.1"), parse_network("2001:db8::/32")))

    def test_boot_status_is_read(self):
        self.assertEqual(parse_identity(identity_json(boot={"status": "Pending"})).boot_status, "Pending")

    def test_decisions_are_read_and_checked(self):
        self.assertIsNone(parse_identity(identity_json()).decisions)
        self.assertEqual(parse_identity(identity_json(decisions=["Authorize"])).decisions, {"Authorize"})
        self.assertEqual(parse_identity(identity_json(decisions=[])).decisions, frozenset())
        for wrong in (["Reset"], ["Heartbeat"], "Authorize", [7]):
            with self.assertRaisesRegex(IdentityError, "decisions"):
                parse_identity(identity_json(decisions=wrong))
        stored = parse_identity(identity_json(decisions=["Authorize", "OfTomorrow"]), lenient=True)
        self.assertEqual(stored.decisions, {"Authorize"})

    def test_the_listeners_default_stands_in_for_a_missing_type(self):
        auth = parse_identity(identity_json(auth={"secretHash": HASH, "secretSalt": SALT})).auth
        self.assertEqual(auth.methods("token"), ("token",))

    def test_scrypt_is_marked_by_prefix_or_member(self):
        for members in ({"secretHash": f"scrypt${HASH}"}, {"hashAlgorithm": "scrypt"}):
            self.assertEqual(parse_identity(auth_json(**members)).auth.secret.algorithm, "scrypt")
        self.assertEqual(parse_identity(auth_json()).auth.secret.algorithm, "sha256")

    def test_each_bad_member_is_named(self):
        for mapping, member in BAD:
            problems = self.error(mapping).problems
            self.assertTrue(any(text.startswith(f"{member} ") for text in problems), (member, problems))

    def test_all_bad_members_are_named_at_once(self):
        mapping = identity_json(tenantId=None, status="off", allowedCidrs=["10.0.0.7/8"], auth={"type": "basic"})
        error = self.error(mapping)
        self.assertEqual(len(error.problems), 4)
        for word in ("CP-001", "tenantId", "status", "allowedCidrs", "10.0.0.0/8", "auth.secretHash"):
            self.assertIn(word, str(error))

    def test_the_error_has_a_stable_code(self):
        error = self.error({})
        self.assertIsInstance(error, OcppgwError)
        self.assertEqual(error.code, "IdentityInvalid")

    def test_anything_but_an_object_is_refused(self):
        for value in (None, [], "CP-001", 7):
            self.error(value)

    def test_a_stored_record_with_an_unreadable_certificate_still_serves_its_password(self):
        mapping = auth_json(
            certificates=[{"fingerprint": "AA:BB"}, {"subject": "CP-001"}], fingerprint="AA", revokedFingerprints=["B"]
        )
        identity = parse_identity(mapping, lenient=True)
        self.assertIsNotNone(identity.auth.secret)
        self.assertEqual([str(binding) for binding in identity.auth.certificates], ["subject 'CP-001'"])
        with self.assertRaises(IdentityError):
            parse_identity(mapping)

    def test_secrets_are_in_no_repr_and_no_error(self):
        shown = repr(parse_identity(CONTRACT_EXAMPLE))
        self.assertNotIn(SALT, shown)
        self.assertNotIn(HASH, shown)
        self.assertNotIn(repr(bytes.fromhex(HASH)), shown)
        self.assertNotIn("hunter2", str(self.error(auth_json(secretHash="hunter2"))))
        self.assertNotIn("pepper", str(self.error(auth_json(secretSalt="pepper"))))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["auth", "status", "type", "secretHash", "allowedIps"]), inner, max_size=4
                )
            ),
        )
    )
    def test_no_json_makes_it_raise_anything_else(self, value):
        for mapping in (value, identity_json(auth=value), identity_json(boot=value), identity_json(allowedIps=value)):
            try:
                self.assertIsInstance(parse_identity(mapping), Identity)
            except IdentityError as error:
                self.assertTrue(error.problems)


class DevIdentityTests(SynchronousTestCase):
    def test_an_unprovisioned_station_is_its_own_station_in_the_tenant(self):
        identity = dev_identity("CP-9", "dev")
        self.assertEqual((identity.charge_point_id, identity.station_id, identity.tenant_id), ("CP-9", "CP-9", "dev"))
        self.assertEqual((identity.status, identity.auth.methods("basic")), ("active", ("none",)))


class SchemaTests(SynchronousTestCase):
    def test_the_schema_is_a_schema(self):
        Draft202012Validator.check_schema(SCHEMA)

    def test_schema_and_parser_accept_the_same(self):
        for mapping in GOOD:
            self.assertEqual([error.message for error in Draft202012Validator(SCHEMA).iter_errors(mapping)], [])
            parse_identity(copy.deepcopy(mapping))

    def test_schema_and_parser_refuse_the_same(self):
        for mapping, member in BAD:
            self.assertFalse(Draft202012Validator(SCHEMA).is_valid(mapping), (member, mapping))

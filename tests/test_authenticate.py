"""Basic and token credentials against an identity; the numbers are those of the protocol's case list."""

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.authenticate import Authenticated, Check, Denied, dummy_check, hash_secret, prepare
from ocppgw.access.identity import dev_identity, parse_identity
from ocppgw.access.refusals import Reason

SALT = "0123456789abcdef"
PASSWORD = b"correct horse battery"
KEY = bytes([0xFF, 0x3A, 0x00, 0x80]) + bytes(range(1, 17))  # 20 octets with ':' and 0xFF


def sha256(secret):
    return hashlib.sha256(SALT.encode() + secret).hexdigest()


def scrypt(secret, length=32):
    return hashlib.scrypt(secret, salt=SALT.encode(), n=16384, r=8, p=1, dklen=length).hex()


def station(**auth):
    auth = auth or {"type": "basic", "secretHash": sha256(PASSWORD)}
    return parse_identity(
        {"chargePointId": "CP-001", "stationId": "s", "tenantId": "t", "auth": {"secretSalt": SALT, **auth}}
    )


def basic(user, password, scheme="Basic"):
    return {"authorization": f"{scheme} {base64.b64encode(user + b':' + password).decode()}"}


def decide(identity, headers, default="basic"):
    plan = prepare(identity, default, headers)
    return plan.verify() if isinstance(plan, Check) else plan


class AuthenticateCase(SynchronousTestCase):
    def assert_let_in(self, answer, method):
        self.assertEqual(answer, Authenticated("CP-001", method))

    def assert_denied(self, answer, reason=Reason.CREDENTIALS_WRONG):
        self.assertIsInstance(answer, Denied)
        self.assertIs(answer.reason, reason)


class BasicTests(AuthenticateCase):
    def test_case_17_right_user_and_password_are_let_in(self):
        self.assert_let_in(decide(station(), basic(b"CP-001", PASSWORD)), "basic")

    def test_scheme_is_read_in_any_case_and_blanks_are_no_matter(self):
        for scheme in ("basic", "BASIC", "Basic  "):
            self.assert_let_in(decide(station(), basic(b"CP-001", PASSWORD, scheme)), "basic")

    def test_user_name_may_be_the_configured_one_or_the_id(self):
        identity = station(type="basic", secretHash=sha256(PASSWORD), username="fleet")
        for user in (b"fleet", b"CP-001"):
            self.assert_let_in(decide(identity, basic(user, PASSWORD)), "basic")

    def test_case_18_another_user_is_refused_although_the_password_is_right(self):
        for user in (b"CP-002", b"", b"cp-001", b"CP-001\x00", b"\xff"):
            self.assert_denied(decide(station(), basic(user, PASSWORD)))

    def test_case_19_wrong_password_is_refused(self):
        for password in (b"", PASSWORD[:-1], PASSWORD + b" ", PASSWORD.upper(), sha256(PASSWORD).encode()):
            self.assert_denied(decide(station(), basic(b"CP-001", password)))

    def test_case_19_missing_header_is_asked_for(self):
        for headers in ({}, {"authorization": ""}, {"authorization": "  ", "x-api-key": ""}):
            self.assert_denied(decide(station(), headers), Reason.CREDENTIALS_MISSING)

    def test_case_19_what_is_not_basic_credentials_is_refused(self):
        for value in (
            "Basic",
            "Basic !!!",
            "Basic Q1A",
            "Basic é",
            "Basic " + base64.b64encode(b"no colon").decode(),
            "Digest username=CP-001",
            "Bearer",
            "Basic" + base64.b64encode(b"CP-001:" + PASSWORD).decode(),
        ):
            self.assert_denied(decide(station(), {"authorization": value}))

    def test_case_20_a_key_of_arbitrary_octets_is_let_in(self):
        identity = station(type="basic", secretHash=sha256(KEY))
        self.assert_let_in(decide(identity, basic(b"CP-001", KEY)), "basic")

    def test_case_21_the_key_as_hex_text_is_refused_unless_opted_in(self):
        headers = basic(b"CP-001", KEY.hex().encode())
        self.assert_denied(decide(station(type="basic", secretHash=sha256(KEY)), headers))
        identity = station(type="basic", secretHash=sha256(KEY), acceptHexSecret=True)
        self.assert_let_in(decide(identity, headers), "basic")

    def test_case_21_opting_in_still_takes_the_octets_and_nothing_else(self):
        identity = station(type="basic", secretHash=sha256(KEY), acceptHexSecret=True)
        self.assert_let_in(decide(identity, basic(b"CP-001", KEY)), "basic")
        self.assert_denied(decide(identity, basic(b"CP-001", KEY.hex()[:-2].encode())))
        self.assert_denied(decide(identity, basic(b"CP-002", KEY.hex().encode())))

    def test_case_22_a_long_utf8_password_is_let_in(self):
        password = ("pässwörd-⚡" * 7)[:64].encode()
        identity = station(type="basic", secretHash=sha256(password))
        self.assert_let_in(decide(identity, basic(b"CP-001", password)), "basic")

    @given(st.binary(max_size=64))
    def test_every_secret_is_let_in_by_its_own_hash(self, secret):
        identity = station(type="basic", secretHash=sha256(secret))
        self.assert_let_in(decide(identity, basic(b"CP-001", secret)), "basic")
        self.assert_denied(decide(identity, basic(b"CP-001", secret + b"\x00")))

    @given(st.text(), st.text())
    def test_no_headers_make_it_raise(self, authorization, key):
        for prefix in ("", "Basic ", "Bearer "):
            answer = decide(station(), {"authorization": prefix + authorization, "x-api-key": key})
            self.assertIsInstance(answer, Denied)


class ScryptTests(AuthenticateCase):
    def test_scrypt_is_checked_away_from_the_reactor(self):
        identity = station(type="basic", secretHash=f"scrypt${scrypt(PASSWORD)}")
        plan = prepare(identity, "basic", basic(b"CP-001", PASSWORD))
        self.assertTrue(plan.needs_thread)
        self.assert_let_in(plan.verify(), "basic")
        self.assert_denied(decide(identity, basic(b"CP-001", b"wrong")))

    def test_sha256_is_checked_in_place(self):
        self.assertFalse(prepare(station(), "basic", basic(b"CP-001", PASSWORD)).needs_thread)

    def test_longer_digests_are_derived_in_full(self):
        identity = station(type="basic", hashAlgorithm="scrypt", secretHash=scrypt(PASSWORD, 64))
        self.assert_let_in(decide(identity, basic(b"CP-001", PASSWORD)), "basic")

    def test_hashes_made_here_are_the_contracts(self):
        salt = SALT.encode()
        self.assertEqual(hash_secret(PASSWORD, salt, "sha256").hex(), sha256(PASSWORD))
        self.assertEqual(hash_secret(PASSWORD, salt, "scrypt").hex(), scrypt(PASSWORD))


class TokenTests(AuthenticateCase):
    def setUp(self):
        self.identity = station(type="token", tokenHash=sha256(b"t0ken"))

    def test_a_token_is_taken_from_either_header(self):
        for headers in ({"authorization": "Bearer t0ken"}, {"authorization": "bearer  t0ken "}, {"x-api-key": "t0ken"}):
            self.assert_let_in(decide(self.identity, headers), "token")

    def test_a_wrong_token_is_refused(self):
        for headers in ({"authorization": "Bearer other"}, {"x-api-key": "t0ken2"}, {"x-api-key": "t\u0160"}):
            self.assert_denied(decide(self.identity, headers))

    def test_a_type_that_is_not_allowed_is_refused_although_the_secret_is_right(self):
        self.assert_denied(decide(self.identity, basic(b"CP-001", b"t0ken")))
        self.assert_denied(decide(station(), {"x-api-key": PASSWORD.decode()}))

    def test_each_allowed_type_is_compared_with_its_own_hash(self):
        identity = station(
            type="basic", allowedTypes=["basic", "token"], secretHash=sha256(PASSWORD), tokenHash=sha256(b"t0ken")
        )
        self.assert_let_in(decide(identity, basic(b"CP-001", PASSWORD)), "basic")
        self.assert_let_in(decide(identity, {"x-api-key": "t0ken"}), "token")
        self.assert_denied(decide(identity, basic(b"CP-001", b"t0ken")))
        self.assert_denied(decide(identity, {"x-api-key": PASSWORD.decode()}))

    def test_the_listeners_default_stands_in_for_a_missing_type(self):
        identity = station(secretHash=sha256(PASSWORD), tokenHash=sha256(b"t0ken"))
        self.assert_let_in(decide(identity, {"x-api-key": "t0ken"}, default="token"), "token")
        self.assert_denied(decide(identity, {"x-api-key": "t0ken"}, default="basic"))


class OtherStationsTests(AuthenticateCase):
    def test_certificate_stations_are_told_that_tls_is_not_served(self):
        for identity, default in ((station(type="mtls"), "basic"), (station(secretHash=sha256(PASSWORD)), "mtls")):
            answer = decide(identity, basic(b"CP-001", PASSWORD), default)
            self.assert_denied(answer, Reason.CLIENT_CERTIFICATE_REQUIRED)
            self.assertIn("TLS is not served by this listener", answer.detail)
            self.assertEqual(answer.status, 403)

    def test_an_unprovisioned_station_that_was_admitted_proves_nothing(self):
        for headers in ({}, basic(b"anybody", b"anything")):
            plan = prepare(dev_identity("CP-001", "dev"), "basic", headers)
            self.assertFalse(plan.needs_thread)
            self.assert_let_in(plan.verify(), "none")

    def test_case_7_an_unknown_id_looks_like_a_wrong_password(self):
        for headers in ({}, {"authorization": "Basic !"}, basic(b"CP-001", b"wrong"), {"x-api-key": "wrong"}):
            unknown = dummy_check("CP-001", headers, "sha256")
            unknown = unknown.verify() if isinstance(unknown, Check) else unknown
            known = decide(station(), headers)
            self.assertEqual((unknown.status, unknown.text, unknown.headers), (known.status, known.text, known.headers))

    def test_case_7_an_unknown_id_costs_what_a_known_one_costs(self):
        for algorithm, digest in (("sha256", sha256(PASSWORD)), ("scrypt", f"scrypt${scrypt(PASSWORD)}")):
            identity = station(type="basic", secretHash=digest)
            for headers in (basic(b"CP-001", b"wrong"), {"x-api-key": "wrong"}):
                known = prepare(identity, "basic", headers)
                unknown = dummy_check("CP-001", headers, algorithm)
                self.assertEqual(unknown.needs_thread, known.needs_thread)
                self.assertEqual(known.needs_thread, algorithm == "scrypt")

    def test_a_check_made_without_a_stored_secret_lets_nobody_in(self):
        self.assert_denied(Check("CP-001", "basic", None, (b"",), is_user=True).verify())

    def test_secrets_are_in_no_repr(self):
        plan = prepare(station(), "basic", basic(b"CP-001", PASSWORD))
        self.assertNotIn(PASSWORD.decode(), repr(plan))
        self.assertNotIn(PASSWORD.decode(), repr(decide(station(), basic(b"CP-002", PASSWORD))))

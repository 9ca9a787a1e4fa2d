"""Basic and token credentials against an identity; the numbers are those of the protocol's case list."""

import base64
import hashlib
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.authenticate import Authenticated, Check, Denied, Hashing, dummy_check, hash_secret, prepare
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


def hashes(verify):
    """The dear hashes that a verification makes."""
    made = []
    original = hashlib.scrypt
    with patch.object(hashlib, "scrypt", lambda *args, **kept: made.append("scrypt") or original(*args, **kept)):
        verify()
    return made


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
            self.assert_denied(decide(station(), basic(user, PASSWORD)), Reason.USER_NAME_WRONG)

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
            self.assert_denied(decide(station(), {"authorization": value}), Reason.CREDENTIALS_MALFORMED)

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
        self.assert_denied(decide(identity, basic(b"CP-002", KEY.hex().encode())), Reason.USER_NAME_WRONG)

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
        for headers in ({"authorization": "Bearer other"}, {"x-api-key": "t0ken2"}):
            self.assert_denied(decide(self.identity, headers))
        self.assert_denied(decide(self.identity, {"x-api-key": "t\u0160"}), Reason.CREDENTIALS_MALFORMED)

    def test_a_type_that_is_not_allowed_is_refused_although_the_secret_is_right(self):
        refused = Reason.CREDENTIALS_TYPE_NOT_ALLOWED
        self.assert_denied(decide(self.identity, basic(b"CP-001", b"t0ken")), refused)
        self.assert_denied(decide(station(), {"x-api-key": PASSWORD.decode()}), refused)

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
        answer = decide(identity, {"x-api-key": "t0ken"}, default="basic")
        self.assert_denied(answer, Reason.CREDENTIALS_TYPE_NOT_ALLOWED)

    def test_a_token_may_have_a_salt_and_an_algorithm_of_its_own(self):
        salt = b"another salt"
        digest = hashlib.scrypt(b"t0ken", salt=salt, n=16384, r=8, p=1, dklen=32).hex()
        own = {"tokenHash": digest, "tokenSalt": salt.decode(), "tokenHashAlgorithm": "scrypt"}
        identity = station(type="basic", allowedTypes=["basic", "token"], secretHash=sha256(PASSWORD), **own)
        self.assert_let_in(decide(identity, {"x-api-key": "t0ken"}), "token")
        self.assert_let_in(decide(identity, basic(b"CP-001", PASSWORD)), "basic")


class RotationTests(AuthenticateCase):
    """Case 25: both secrets are good until the next one is first used."""

    def setUp(self):
        next_salt = "the next salt"
        digest = hashlib.sha256(next_salt.encode() + b"next").hexdigest()
        renewal = {"nextSecretHash": digest, "nextSecretSalt": next_salt, "nextHashAlgorithm": "sha256"}
        self.identity = station(type="basic", secretHash=sha256(PASSWORD), **renewal)

    def test_the_old_secret_is_let_in_and_is_no_renewal(self):
        self.assertEqual(decide(self.identity, basic(b"CP-001", PASSWORD)), Authenticated("CP-001", "basic"))

    def test_the_next_secret_is_let_in_and_known_as_such(self):
        answer = decide(self.identity, basic(b"CP-001", b"next"))
        self.assertEqual(answer, Authenticated("CP-001", "basic", renewed=True))

    def test_any_other_is_denied(self):
        self.assert_denied(decide(self.identity, basic(b"CP-001", b"neither")))

    def test_what_was_verified_lately_is_not_hashed_again(self):
        plan = prepare(self.identity, "basic", basic(b"CP-001", b"next"))
        digest = self.identity.auth.next_secret.digest
        known = plan.known(lambda stored, secret: stored.digest == digest and secret == b"next")
        self.assertEqual(known, Authenticated("CP-001", "basic", renewed=True))
        self.assertIsNone(plan.known(lambda stored, secret: False))

    def test_another_users_verified_secret_is_not_known(self):
        plan = prepare(self.identity, "basic", basic(b"CP-002", PASSWORD))
        self.assertIsNone(plan.known(lambda stored, secret: True))


class OtherStationsTests(AuthenticateCase):
    def test_a_station_that_needs_a_certificate_looks_like_any_other_without_one(self):
        for identity, default in ((station(type="mtls"), "basic"), (station(secretHash=sha256(PASSWORD)), "mtls")):
            for headers, reason in (
                (basic(b"CP-001", PASSWORD), Reason.CLIENT_CERTIFICATE_REQUIRED),
                ({}, Reason.CLIENT_CERTIFICATE_MISSING),
                ({"authorization": "Basic !"}, Reason.CREDENTIALS_MALFORMED),
            ):
                answer = decide(identity, headers, default)
                self.assert_denied(answer, reason)
                other = decide(station(), headers if headers != basic(b"CP-001", PASSWORD) else basic(b"CP-001", b"x"))
                self.assertEqual((answer.status, answer.text, answer.headers), (401, other.text, other.headers))

    def test_an_unprovisioned_station_that_was_admitted_proves_nothing(self):
        for headers in ({}, basic(b"anybody", b"anything")):
            plan = prepare(dev_identity("CP-001", "dev"), "basic", headers)
            self.assertFalse(plan.needs_thread)
            self.assert_let_in(plan.verify(), "none")

    def test_case_7_an_unknown_id_looks_like_a_wrong_password(self):
        for headers in ({}, {"authorization": "Basic !"}, basic(b"CP-001", b"wrong"), {"x-api-key": "wrong"}):
            unknown = dummy_check("CP-001", headers)
            unknown = unknown.verify() if isinstance(unknown, Check) else unknown
            known = decide(station(), headers)
            self.assertEqual((unknown.status, unknown.text, unknown.headers), (known.status, known.text, known.headers))

    def test_case_7_an_unknown_id_costs_what_a_known_one_costs(self):
        for algorithm, digest in (("sha256", sha256(PASSWORD)), ("scrypt", f"scrypt${scrypt(PASSWORD)}")):
            identity = station(type="basic", secretHash=digest)
            for headers in (basic(b"CP-001", b"wrong"), {"x-api-key": "wrong"}):
                known = prepare(identity, "basic", headers, Hashing(algorithm))
                unknown = dummy_check("CP-001", headers, Hashing(algorithm))
                self.assertEqual(hashes(unknown.verify), hashes(known.verify))
                self.assertEqual(unknown.needs_thread, algorithm == "scrypt")

    def test_case_7_a_denial_is_as_dear_as_the_dearest_of_the_fleet(self):
        cheap = station(type="basic", secretHash=sha256(PASSWORD))
        in_vain = prepare(cheap, "basic", basic(b"CP-001", b"wrong"), Hashing("scrypt"))
        unknown = dummy_check("CP-001", basic(b"CP-001", b"wrong"), Hashing("scrypt"))
        self.assertTrue(in_vain.needs_thread)
        self.assertEqual([hashes(in_vain.verify), hashes(unknown.verify)], [["scrypt"], ["scrypt"]])

    def test_a_check_made_without_a_stored_secret_lets_nobody_in(self):
        self.assert_denied(Check("CP-001", "basic", Hashing(), (), (b"",), is_user=True).verify())

    def test_secrets_are_in_no_repr(self):
        plan = prepare(station(), "basic", basic(b"CP-001", PASSWORD))
        self.assertNotIn(PASSWORD.decode(), repr(plan))
        self.assertNotIn(PASSWORD.decode(), repr(decide(station(), basic(b"CP-002", PASSWORD))))

"""Secrets that take turns, certificates that are bound, and what may be shown of an identity."""

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.identity import StoredSecret, parse_identity
from ocppgw.access.identity_edits import (
    MASK,
    MAX_CERTIFICATES,
    add_certificate,
    add_pending,
    bind_pending,
    drop_next,
    masked,
    promote_next,
    set_next,
    set_now,
    unhashed,
)

OLD, NEW, NEWER = "aa" * 32, "bb" * 32, "cc" * 32
SALT, NEW_SALT, NEWER_SALT = "the old salt", "the new salt", "the newer salt"
FINGERPRINT, OTHER = "AB" * 32, "CD" * 32


def identity(**auth):
    return {"chargePointId": "CP-1", "stationId": "s", "tenantId": "t", "auth": auth}


def basic(**more):
    return identity(type="basic", secretHash=OLD, secretSalt=SALT, **more)


def token(**more):
    return identity(type="token", tokenHash=OLD, secretSalt=SALT, **more)


def both(**more):
    return identity(allowedTypes=["basic", "token"], secretHash=OLD, tokenHash=OLD, secretSalt=SALT, **more)


def hashed(digits, salt, algorithm="sha256"):
    return StoredSecret(algorithm, bytes.fromhex(digits), salt.encode())


class SecretTests(SynchronousTestCase):
    def secrets(self, record):
        """What the parser reads, as (secret, token, next secret, next token)."""
        auth = parse_identity(record).auth
        return auth.secret, auth.token, auth.next_secret, auth.next_token

    def test_the_next_secret_stands_beside_the_one_in_use(self):
        for record, kind in ((basic(), "secret"), (token(), "token")):
            set_next(record, kind, NEW, NEW_SALT, "scrypt")
            now, following = hashed(OLD, SALT), hashed(NEW, NEW_SALT, "scrypt")
            expected = (now, None, following, None) if kind == "secret" else (None, now, None, following)
            self.assertEqual(self.secrets(record), expected)

    def test_another_rotation_replaces_the_next_secret(self):
        record = basic()
        set_next(record, "secret", NEW, NEW_SALT, "scrypt")
        set_next(record, "secret", NEWER, NEWER_SALT, "sha256")
        self.assertEqual(self.secrets(record), (hashed(OLD, SALT), None, hashed(NEWER, NEWER_SALT), None))

    def test_its_first_use_makes_it_the_one_in_use(self):
        for record, kind in ((basic(), "secret"), (token(), "token")):
            set_next(record, kind, NEW, NEW_SALT, "scrypt")
            self.assertTrue(promote_next(record, kind, bytes.fromhex(NEW)))
            now = hashed(NEW, NEW_SALT, "scrypt")
            expected = (now, None, None, None) if kind == "secret" else (None, now, None, None)
            self.assertEqual(self.secrets(record), expected)
            self.assertEqual([name for name in record["auth"] if name.startswith(("next", "tokenS", "tokenHashA"))], [])

    def test_an_identity_with_one_kind_keeps_the_members_every_reader_knows(self):
        record = token()
        set_next(record, "token", NEW, NEW_SALT, "sha256")
        self.assertLessEqual({"nextTokenHash", "nextSecretSalt", "nextHashAlgorithm"}, set(record["auth"]))
        promote_next(record, "token")
        self.assertEqual(set(record["auth"]), {"type", "tokenHash", "secretSalt", "hashAlgorithm"})

    def test_a_rotated_secret_leaves_the_token_its_salt(self):
        record = both(hashAlgorithm="scrypt")
        set_now(record, "secret", NEW, NEW_SALT, "sha256")
        self.assertEqual(self.secrets(record)[:2], (hashed(NEW, NEW_SALT), hashed(OLD, SALT, "scrypt")))
        set_next(record, "secret", NEWER, NEWER_SALT, "scrypt")
        promote_next(record, "secret")
        self.assertEqual(
            self.secrets(record), (hashed(NEWER, NEWER_SALT, "scrypt"), hashed(OLD, SALT, "scrypt"), None, None)
        )

    def test_a_rotated_token_leaves_the_secret_its_salt(self):
        record = both()
        set_next(record, "token", NEW, NEW_SALT, "scrypt")
        promote_next(record, "token")
        self.assertEqual(self.secrets(record), (hashed(OLD, SALT), hashed(NEW, NEW_SALT, "scrypt"), None, None))

    def test_both_kinds_may_wait_for_their_first_use(self):
        record = both()
        set_next(record, "token", NEW, NEW_SALT, "scrypt")
        set_next(record, "secret", NEWER, NEWER_SALT, "sha256")
        following = (hashed(NEWER, NEWER_SALT), hashed(NEW, NEW_SALT, "scrypt"))
        self.assertEqual(self.secrets(record), (hashed(OLD, SALT), hashed(OLD, SALT), *following))
        promote_next(record, "secret")
        self.assertEqual(self.secrets(record), (following[0], hashed(OLD, SALT), None, following[1]))
        promote_next(record, "token")
        self.assertEqual(self.secrets(record), (*following, None, None))

    def test_secrets_that_share_a_salt_again_share_its_member(self):
        record = both()
        set_now(record, "secret", NEW, NEW_SALT, "sha256")
        set_now(record, "token", NEWER, NEW_SALT, "sha256")
        self.assertNotIn("tokenSalt", record["auth"])
        self.assertEqual(self.secrets(record)[:2], (hashed(NEW, NEW_SALT), hashed(NEWER, NEW_SALT)))

    def test_a_secret_replaced_at_once_drops_the_next_one_of_its_kind(self):
        record = both()
        set_next(record, "secret", NEW, NEW_SALT, "sha256")
        set_next(record, "token", NEW, NEW_SALT, "sha256")
        set_now(record, "secret", NEWER, NEWER_SALT, "sha256")
        self.assertEqual(
            self.secrets(record), (hashed(NEWER, NEWER_SALT), hashed(OLD, SALT), None, hashed(NEW, NEW_SALT))
        )

    def test_a_dropped_next_secret_leaves_the_one_in_use(self):
        record = basic()
        untouched = basic()
        drop_next(record, "secret")
        self.assertEqual(record, untouched)
        set_next(record, "secret", NEW, NEW_SALT, "sha256")
        drop_next(record, "secret")
        self.assertEqual(record, untouched)

    def test_only_what_was_used_is_promoted(self):
        record = basic()
        self.assertFalse(promote_next(record, "secret"))
        self.assertFalse(promote_next(record, "token"))
        set_next(record, "secret", f"scrypt${NEWER}", NEWER_SALT, "sha256")
        self.assertFalse(promote_next(record, "secret", bytes.fromhex(NEW)), "another rotation came in between")
        self.assertIn("nextSecretHash", record["auth"])
        self.assertTrue(promote_next(record, "secret", bytes.fromhex(NEWER)))
        self.assertEqual(self.secrets(record)[0], hashed(NEWER, NEWER_SALT, "scrypt"))


class CertificateTests(SynchronousTestCase):
    def bound(self, record, member="certificates"):
        return [binding["fingerprint"] for binding in record["auth"].get(member, [])]

    def test_a_certificate_is_bound_next_to_the_others(self):
        record = identity(type="mtls")
        for fingerprint in (FINGERPRINT, OTHER):
            add_certificate(record, {"fingerprint": fingerprint})
        self.assertEqual(self.bound(record), [FINGERPRINT, OTHER])

    def test_a_certificate_bound_again_replaces_its_binding(self):
        record = identity(type="mtls", certificates=[{"fingerprint": FINGERPRINT.lower()}, {"subject": "CN=CP-1"}])
        add_certificate(record, {"fingerprint": FINGERPRINT, "status": "revoked"})
        self.assertEqual(
            record["auth"]["certificates"], [{"subject": "CN=CP-1"}, {"fingerprint": FINGERPRINT, "status": "revoked"}]
        )
        add_certificate(record, {"subject": "CN=CP-1"})
        self.assertEqual(len(record["auth"]["certificates"]), 3, "what has no fingerprint can't be told apart")

    def test_a_pending_certificate_is_bound_when_it_is_seen(self):
        record = identity(type="mtls", certificates=[{"fingerprint": OTHER}])
        add_pending(record, {"fingerprint": FINGERPRINT, "validTo": "2027-01-01T00:00:00Z"})
        self.assertFalse(bind_pending(record, OTHER))
        self.assertEqual((self.bound(record), self.bound(record, "pendingCertificates")), ([OTHER], [FINGERPRINT]))
        self.assertTrue(bind_pending(record, FINGERPRINT))
        self.assertEqual(self.bound(record), [OTHER, FINGERPRINT])
        self.assertNotIn("pendingCertificates", record["auth"])
        self.assertFalse(bind_pending(record, FINGERPRINT))
        self.assertEqual(len(parse_identity(record).auth.certificates), 2)

    def test_other_pending_certificates_go_on_waiting(self):
        record = identity(type="mtls")
        for fingerprint in (FINGERPRINT, OTHER, FINGERPRINT.lower()):
            add_pending(record, {"fingerprint": fingerprint})
        self.assertTrue(bind_pending(record, FINGERPRINT))
        self.assertEqual(self.bound(record, "pendingCertificates"), [OTHER])

    def test_renewals_for_years_keep_the_latest_and_what_is_revoked(self):
        first = {"fingerprint": OTHER, "status": "revoked"}
        record = identity(type="mtls", certificates=[first])
        for number in range(2 * MAX_CERTIFICATES):
            add_pending(record, {"fingerprint": f"{number:064X}"})
            self.assertTrue(bind_pending(record, f"{number:064X}"))
        kept = record["auth"]["certificates"]
        self.assertEqual((len(kept), kept[0]), (MAX_CERTIFICATES, first))
        self.assertEqual(kept[-1]["fingerprint"], f"{2 * MAX_CERTIFICATES - 1:064X}")
        self.assertEqual(kept[1]["fingerprint"], f"{MAX_CERTIFICATES + 1:064X}")

    def test_bindings_nobody_can_read_are_left_alone(self):
        odd = [{"fingerprint": "AA:BB"}, {"fingerprint": None}, {}]
        record = identity(type="mtls", pendingCertificates=list(odd))
        self.assertFalse(bind_pending(record, FINGERPRINT))
        self.assertEqual(record["auth"]["pendingCertificates"], odd)


class ShownTests(SynchronousTestCase):
    def test_hashes_and_salts_are_masked_and_the_record_is_not_touched(self):
        record = both()
        for kind, digits, salt in (("token", NEW, NEW_SALT), ("secret", NEWER, NEWER_SALT)):
            set_next(record, kind, digits, salt, "scrypt")
        set_now(record, "token", NEWER, NEWER_SALT, "sha256")
        set_next(record, "token", NEW, NEW_SALT, "scrypt")
        shown = masked({**record, "auth": {**record["auth"], "secret": "plain", "certificates": [{"subject": "a"}]}})
        for secret in (OLD, NEW, NEWER, SALT, NEW_SALT, NEWER_SALT, "plain"):
            self.assertNotIn(secret, str(shown))
        self.assertEqual(shown["auth"]["secretHash"], MASK)
        self.assertEqual((shown["auth"]["certificates"], shown["stationId"]), ([{"subject": "a"}], "s"))
        self.assertEqual(record["auth"]["secretHash"], OLD)

    def test_an_odd_record_is_shown_as_it_is(self):
        for record in ({}, {"auth": "x"}, {"auth": None}):
            self.assertEqual(masked(record), record)

    def test_plain_secrets_are_named_with_their_mend_and_without_their_value(self):
        problems = unhashed(basic(secret="hunter2", token="hunter3", password="hunter4"))
        self.assertEqual([problem.split()[0] for problem in problems], ["auth.secret", "auth.token", "auth.password"])
        self.assertNotIn("hunter", str(problems))
        self.assertIn("ocppgw provision", problems[0])

    def test_masked_members_are_named_with_their_mend(self):
        problems = unhashed(masked(basic()))
        self.assertEqual([problem.split()[0] for problem in problems], ["auth.secretHash", "auth.secretSalt"])
        self.assertIn("?full=true", problems[0])

    def test_hashed_secrets_are_no_problem_and_other_shapes_are_left_to_the_parser(self):
        for record in (both(), {}, {"auth": 7}, [], None):
            self.assertEqual(unhashed(record), [])


class StandInTests(SynchronousTestCase):
    def test_the_first_binding_takes_along_what_stood_in_for_one(self) -> None:
        identity = {"chargePointId": "CP-1", "auth": {"type": "mtls", "subject": "CN=CP-1"}}
        add_certificate(identity, {"fingerprint": "AB" * 32})
        add_certificate(identity, {"fingerprint": "CD" * 32})
        self.assertEqual(
            identity["auth"]["certificates"],
            [{"subject": "CN=CP-1", "chargePointId": "CP-1"}, {"fingerprint": "AB" * 32}, {"fingerprint": "CD" * 32}],
        )

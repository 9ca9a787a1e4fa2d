"""Provisioning over the real store: what is stored, what is refused, and what the audit topic tells."""

import json

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.identity import IdentityError, parse_identity
from ocppgw.access.identity_edits import MASK, MAX_CERTIFICATES
from ocppgw.errors import StoreError
from ocppgw.ocpp.audit import Audit
from ocppgw.routing.provisioning import (
    AT_ONCE,
    MAX_IDENTITIES,
    NewSecret,
    Provisioning,
    ProvisioningError,
    UnknownIdentity,
    check_identity,
)
from tests.inline_store import build_inline_store

HASH, NEW_HASH = "ab" * 32, "cd" * 32
SALT, NEW_SALT = "0123456789abcdef", "fedcba9876543210"
FINGERPRINT = "EF" * 32
OPS = Audit("alice", "user", "192.0.2.7", "ticket 12")
NOW = 1_800_000_000.0


def identity(charge_point_id="CP-1", auth=None, **members):
    auth = {"type": "basic", "secretHash": HASH, "secretSalt": SALT} if auth is None else auth
    return {"chargePointId": charge_point_id, "stationId": "s-1", "tenantId": "t-1", "auth": auth, **members}


class ProvisioningCase(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = build_inline_store(self.clock)
        self.ids = 0
        self.provisioning = Provisioning(self.store, self.clock, "node-1", self.new_id)

    def new_id(self):
        self.ids += 1
        return f"id-{self.ids}"

    def upsert(self, *identities):
        return self.successResultOf(self.provisioning.upsert(list(identities), OPS))

    def stored(self, charge_point_id="CP-1"):
        return self.successResultOf(self.store.look_up(charge_point_id)).identity

    def events(self):
        return self.store.database.events()

    def last(self):
        """(event type, payload) of the latest audit event."""
        event = self.events()[-1]
        return event["eventType"], event["payload"]


class UpsertTests(ProvisioningCase):
    def test_new_and_known_identities_are_stored_and_counted(self):
        self.assertEqual(self.upsert(identity("CP-1"), identity("CP-2")), {"stored": 2, "created": 2, "updated": 0})
        self.assertEqual(self.upsert(identity("CP-2"), identity("CP-3")), {"stored": 2, "created": 1, "updated": 1})
        self.assertEqual(self.stored("CP-3"), identity("CP-3"))

    def test_an_identity_is_replaced_as_a_whole(self):
        self.upsert(identity(allowedCidrs=["10.0.0.0/8"]))
        mtls = identity(auth={"type": "mtls", "certificates": [{"fingerprint": FINGERPRINT}]})
        self.upsert(mtls)
        self.assertEqual(self.stored(), mtls)

    def test_the_audit_event_tells_who_and_why_and_no_hash(self):
        self.upsert(identity(status="disabled"))
        (event,) = self.events()
        self.assertEqual(event["eventType"], "ChargerIdentityUpserted")
        self.assertEqual((event["chargePointId"], event["stationId"], event["tenantId"]), ("CP-1", "s-1", "t-1"))
        self.assertEqual(
            event["payload"],
            {
                "change": "provisioned",
                "status": "disabled",
                "actorId": "alice",
                "actorType": "user",
                "ip": "192.0.2.7",
                "reason": "ticket 12",
                "nodeId": "node-1",
            },
        )
        self.assertNotIn(HASH, str(event))
        (record,) = self.store.database.records
        self.assertEqual((record.topic, record.key), ("audit", "CP-1"))

    def test_events_of_two_changes_have_two_ids(self):
        self.upsert(identity(), identity("CP-2"))
        self.upsert(identity())
        self.assertEqual(len({event["eventId"] for event in self.events()}), 3)

    def test_bad_members_are_named_and_nothing_is_stored(self):
        bad = identity("CP-4", {"type": "basic"}, tenantId="")
        asked = self.provisioning.upsert([identity("CP-1"), identity("CP-2", status="off"), bad, 7], OPS)
        error = self.failureResultOf(asked, ProvisioningError).value
        self.assertEqual(error.code, "IdentityInvalid")
        for word in ("identity CP-2", "status", "identity CP-4", "tenantId", "auth.secretHash", "(unnamed)"):
            self.assertIn(word, str(error))
        self.assertIsNone(self.stored("CP-1"))
        self.assertEqual(self.events(), [])

    def test_one_bad_identity_is_its_own_error(self):
        error = self.failureResultOf(self.provisioning.upsert([identity(status="off")], OPS), IdentityError).value
        self.assertEqual(error.code, "IdentityInvalid")
        self.assertIn("CP-1", str(error))

    def test_many_bad_identities_are_named_in_part(self):
        asked = self.provisioning.upsert([identity(f"CP-{number}", status="off") for number in range(30)], OPS)
        error = self.failureResultOf(asked, ProvisioningError).value
        self.assertIn("CP-19 ", str(error))
        self.assertNotIn("CP-20 ", str(error))
        self.assertIn("and 10 more", str(error))

    def test_plain_and_masked_secrets_are_refused_with_the_mend(self):
        for auth, member in (
            ({"type": "basic", "secret": "hunter2"}, "auth.secret "),
            ({"type": "token", "tokenHash": HASH, "secretSalt": SALT, "token": "hunter2"}, "auth.token "),
            ({"type": "mtls", "password": "hunter2"}, "auth.password "),
            ({"type": "basic", "secretHash": MASK, "secretSalt": MASK}, "auth.secretHash "),
        ):
            error = self.failureResultOf(self.provisioning.upsert([identity(auth=auth)], OPS), IdentityError).value
            self.assertIn(member, str(error))
            self.assertNotIn("hunter2", str(error))
        self.assertIsNone(self.stored())

    def test_an_identity_given_twice_is_refused(self):
        asked = self.provisioning.upsert([identity(), identity("CP-2"), identity(tenantId="other")], OPS)
        self.assertIn("CP-1", str(self.failureResultOf(asked, ProvisioningError).value))
        self.assertIsNone(self.stored("CP-2"))

    def test_the_number_is_bounded(self):
        for count in (0, MAX_IDENTITIES + 1):
            asked = self.provisioning.upsert([identity(f"CP-{number}") for number in range(count)], OPS)
            self.assertIn(f"1 to {MAX_IDENTITIES}", str(self.failureResultOf(asked, ProvisioningError).value))

    def test_many_are_stored_with_pauses_for_the_stations(self):
        pauses = []
        call_later = self.clock.callLater
        self.clock.callLater = lambda delay, *call: pauses.append(delay) or call_later(delay, *call)
        asked = self.provisioning.upsert([identity(f"CP-{number}") for number in range(MAX_IDENTITIES)], OPS)
        self.assertNoResult(asked)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(asked)["created"], MAX_IDENTITIES)
        self.assertEqual(len(pauses), 2 * (MAX_IDENTITIES // AT_ONCE - 1), "to check them, and to store them")

    def test_what_is_only_shown_is_not_stored(self):
        self.upsert(identity())
        shown = self.successResultOf(self.provisioning.show("CP-1", full=True))
        self.upsert({**shown, "connected": True})
        self.assertEqual(self.stored(), identity())

    def test_a_failing_store_is_the_callers_error(self):
        self.store.database.fault = "disk full"
        asked = self.provisioning.upsert([identity("CP-1"), identity("CP-2")], OPS)
        self.assertIn("disk full", str(self.failureResultOf(asked, StoreError).value))
        self.assertIsNone(self.stored())


class RotationTests(ProvisioningCase):
    def rotate(self, kind="secret", digits=NEW_HASH, salt=NEW_SALT, algorithm="sha256", **more):
        return self.provisioning.rotate_secret("CP-1", NewSecret(kind, digits, salt, algorithm, **more), OPS)

    def digests(self):
        auth = parse_identity(self.stored()).auth
        pairs = (auth.secret, auth.next_secret, auth.token, auth.next_token)
        return [kept and kept.digest.hex() for kept in pairs]

    def test_old_and_new_are_good_until_the_new_one_is_used(self):
        self.upsert(identity())
        shown = self.successResultOf(self.rotate())
        self.assertEqual(self.digests(), [HASH, NEW_HASH, None, None])
        self.assertEqual((shown["auth"]["secretHash"], shown["auth"]["nextSecretHash"]), (MASK, MASK))
        event_type, payload = self.last()
        self.assertEqual(event_type, "ChargerIdentityUpserted")
        self.assertEqual(
            (payload["change"], payload["status"], payload["kind"], payload["immediately"], payload["actorId"]),
            ("secret-rotated", "active", "secret", False, "alice"),
        )
        for secret in (HASH, NEW_HASH, SALT, NEW_SALT):
            self.assertNotIn(secret, json.dumps([shown, payload]))

    def test_immediately_the_old_one_is_refused(self):
        self.upsert(identity())
        self.successResultOf(self.rotate(digits="11" * 32))
        self.successResultOf(self.rotate(immediately=True))
        self.assertEqual(self.digests(), [NEW_HASH, None, None, None])

    def test_a_token_is_rotated_by_itself(self):
        auth = {"allowedTypes": ["basic", "token"], "secretHash": HASH, "tokenHash": HASH, "secretSalt": SALT}
        self.upsert(identity(auth=auth))
        self.successResultOf(self.rotate("token", immediately=True))
        self.assertEqual(self.digests(), [HASH, None, NEW_HASH, None])

    def test_a_kind_the_station_does_not_use_is_refused(self):
        self.upsert(identity())
        error = self.failureResultOf(self.rotate("token"), ProvisioningError).value
        self.assertEqual(error.code, "AuthTypeNotAllowed")
        self.assertIn("basic", str(error))
        self.upsert(identity(auth={"secretHash": HASH, "secretSalt": SALT}))
        self.successResultOf(self.rotate("secret"))

    def test_a_bad_hash_is_named_and_changes_nothing(self):
        self.upsert(identity())
        for members, member in (
            ({"digits": "hunter2"}, "auth.nextSecretHash "),
            ({"salt": "short"}, "auth.nextSecretSalt "),
            ({"algorithm": "md5"}, "auth.nextHashAlgorithm "),
            ({"digits": "hunter2", "immediately": True}, "auth.secretHash "),
        ):
            error = self.failureResultOf(self.rotate(**members), IdentityError).value
            self.assertIn(member, str(error))
            self.assertNotIn("hunter2", str(error))
        self.assertEqual((self.stored(), len(self.events())), (identity(), 1))

    def test_an_old_slip_of_the_record_is_no_obstacle(self):
        slip = identity(allowedCidrs=["10.0.0.7/8"])
        self.successResultOf(self.store.put_identity(slip))
        self.store.put_identity(identity(auth={**identity()["auth"], "fingerprint": "AA:BB"}))
        self.successResultOf(self.rotate())
        self.assertEqual(self.stored()["auth"]["nextSecretHash"], NEW_HASH)

    def test_an_unknown_identity_is_told(self):
        error = self.failureResultOf(self.rotate(), UnknownIdentity).value
        self.assertEqual(error.code, "UnknownIdentity")
        self.assertIn("CP-1", str(error))

    def test_a_new_secret_shows_no_secret(self):
        self.assertNotIn(NEW_HASH, repr(NewSecret("secret", NEW_HASH, NEW_SALT)))
        self.assertNotIn(NEW_SALT, repr(NewSecret("secret", NEW_HASH, NEW_SALT)))


class CertificateTests(ProvisioningCase):
    def add(self, **binding):
        return self.provisioning.add_certificate("CP-1", binding, OPS)

    def setUp(self):
        super().setUp()
        self.upsert(identity(auth={"type": "mtls", "certificates": [{"subject": "CN=CP-1"}]}))

    def test_a_certificate_is_bound_next_to_the_others(self):
        shown = self.successResultOf(self.add(fingerprint=FINGERPRINT, validTo="2027-01-01T00:00:00Z"))
        self.assertEqual(len(shown["auth"]["certificates"]), 2)
        self.assertEqual(self.stored(), shown)
        self.assertEqual(self.last()[1]["change"], "certificate-added")

    def test_a_bad_binding_is_named_and_changes_nothing(self):
        before = self.stored()
        for binding, member in (
            ({}, "certificates[1].fingerprint "),
            ({"fingerprint": "AA:BB"}, "certificates[1].fingerprint "),
            ({"subject": "CN=CP-1", "validTo": "soon"}, "certificates[1].validTo "),
        ):
            self.assertIn(member, str(self.failureResultOf(self.add(**binding), IdentityError).value))
        self.assertEqual((self.stored(), len(self.events())), (before, 1))

    def test_their_number_is_bounded(self):
        for number in range(MAX_CERTIFICATES - 1):
            self.successResultOf(self.add(fingerprint=f"{number:064X}"))
        error = self.failureResultOf(self.add(fingerprint=FINGERPRINT), ProvisioningError).value
        self.assertIn(str(MAX_CERTIFICATES), str(error))
        self.assertEqual(len(self.stored()["auth"]["certificates"]), MAX_CERTIFICATES)


class StatusTests(ProvisioningCase):
    def test_a_station_is_disabled_and_enabled(self):
        self.upsert(identity())
        for status, change in (("disabled", "disabled"), ("active", "enabled")):
            self.assertEqual(self.successResultOf(self.provisioning.set_status("CP-1", status, OPS))["status"], status)
            self.assertEqual(self.stored()["status"], status)
            self.assertEqual((self.last()[1]["change"], self.last()[1]["status"]), (change, status))

    def test_what_is_so_already_is_no_change(self):
        self.upsert(identity())
        shown = self.successResultOf(self.provisioning.set_status("CP-1", "active", OPS))
        self.assertEqual(shown["auth"]["secretHash"], MASK)
        self.assertEqual((self.stored(), len(self.events())), (identity(), 1))

    def test_a_deleted_identity_is_gone_and_told(self):
        self.upsert(identity())
        self.assertIsNone(self.successResultOf(self.provisioning.delete("CP-1", OPS)))
        self.assertIsNone(self.stored())
        event_type, payload = self.last()
        self.assertEqual((event_type, payload["reason"]), ("ChargerIdentityDeleted", "ticket 12"))
        self.assertEqual(self.events()[-1]["stationId"], "s-1")

    def test_an_unknown_identity_is_told(self):
        for asked in (
            self.provisioning.set_status("CP-9", "disabled", OPS),
            self.provisioning.delete("CP-9", OPS),
            self.provisioning.add_certificate("CP-9", {"fingerprint": FINGERPRINT}, OPS),
            self.provisioning.show("CP-9", full=False),
        ):
            self.assertIn("CP-9", str(self.failureResultOf(asked, UnknownIdentity).value))
        self.assertEqual(self.events(), [])


class RevocationTests(ProvisioningCase):
    def test_a_revoked_certificate_is_on_the_denylist_and_told(self):
        written = ":".join(FINGERPRINT[at : at + 2].lower() for at in range(0, 64, 2))
        entry = self.successResultOf(self.provisioning.revoke(written, OPS))
        self.assertEqual(
            entry,
            {
                "fingerprint": FINGERPRINT,
                "revokedAt": "2027-01-15T08:00:00.000Z",
                "actorId": "alice",
                "actorType": "user",
                "ip": "192.0.2.7",
                "reason": "ticket 12",
            },
        )
        self.assertEqual(self.successResultOf(self.store.look_up("CP-1", FINGERPRINT)).revocation, entry)
        event_type, payload = self.last()
        self.assertEqual((event_type, payload["fingerprint"]), ("ChargerCertificateRevoked", FINGERPRINT))
        self.assertEqual(self.store.database.records[-1].key, FINGERPRINT)

    def test_the_denylist_shows_the_newest_first(self):
        for number in (1, 3, 2):
            self.successResultOf(self.provisioning.revoke(f"{number:064X}", OPS))
            self.clock.advance(1)
        listed = self.successResultOf(self.provisioning.revocations())
        self.assertEqual([int(row["fingerprint"], 16) for row in listed], [2, 3, 1])

    def test_what_is_no_fingerprint_is_refused_with_the_mend(self):
        error = self.failureResultOf(self.provisioning.revoke("AA:BB", OPS), ProvisioningError).value
        self.assertEqual(error.code, "FingerprintInvalid")
        self.assertIn("openssl", str(error))
        self.assertEqual(self.events(), [])


class ReadingTests(ProvisioningCase):
    def test_pages_are_masked_unless_asked_for_in_full(self):
        self.upsert(identity("CP-1"), identity("CP-2"))
        masked = self.successResultOf(self.provisioning.page("", 1, 10, full=False))
        self.assertEqual((masked.total, masked.identities[0]["auth"]["secretHash"]), (2, MASK))
        self.assertNotIn(HASH, str(masked))
        full = self.successResultOf(self.provisioning.page("cp-2", 0, 10, full=True))
        self.assertEqual(full.identities, [identity("CP-2")])

    def test_one_identity_shows_its_security_profile(self):
        self.upsert(identity())
        self.successResultOf(self.store.remember_profile("CP-1", 2))
        shown = self.successResultOf(self.provisioning.show("CP-1", full=False))
        self.assertEqual((shown["securityProfile"], shown["auth"]["secretHash"]), (2, MASK))
        full = self.successResultOf(self.provisioning.show("CP-1", full=True))
        self.assertEqual(full, {**identity(), "securityProfile": 2})

    def test_an_identity_file_is_told_as_such(self):
        self.successResultOf(self.store.sync_files({"CP-1": (identity(), "a")}, self.provisioning.file_event))
        event_type, payload = self.last()
        self.assertEqual(
            (event_type, payload["change"], payload["status"], payload["actorType"], payload["reason"]),
            ("ChargerIdentityUpserted", "file", "active", "system", "identity-file"),
        )
        self.successResultOf(self.store.sync_files({}, self.provisioning.file_event))
        self.assertEqual(self.last()[0], "ChargerIdentityDeleted")

    def test_an_identity_is_checked_as_for_provisioning(self):
        self.assertEqual(check_identity(identity()).charge_point_id, "CP-1")
        for bad in (None, [], identity(status="off"), identity(auth={"secret": "hunter2"})):
            with self.assertRaises(IdentityError):
                check_identity(bad)

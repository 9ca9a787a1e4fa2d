"""Provisioning and attempts over HTTP, as their clients see them. What is behind is the real provisioning and store."""

import json

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.identity_edits import MASK
from ocppgw.net.web.request import MAX_BODY_BYTES, MAX_IMPORT_BYTES
from ocppgw.ports import AttemptQuery
from tests.fake_gateway import build_web

HASH, NEW_HASH = "ab" * 32, "cd" * 32
SALT, NEW_SALT = "0123456789abcdef", "fedcba9876543210"
FINGERPRINT = "EF" * 32
ROTATION = {"kind": "secret", "hash": NEW_HASH, "salt": NEW_SALT, "algorithm": "sha256"}


def identity(charge_point_id="CP-001", **members):
    auth = {"type": "basic", "secretHash": HASH, "secretSalt": SALT}
    return {"chargePointId": charge_point_id, "stationId": "s-1", "tenantId": "t-1", "auth": auth, **members}


class IdentityCase(SynchronousTestCase):
    def setUp(self):
        self.web, self.gateway, self.clock = build_web()

    def provision(self, *identities):
        answer = self.web.post("/v1/identities", {"identities": list(identities)})
        self.assertEqual(answer.status, 200, answer.body)

    def stored(self, charge_point_id="CP-001"):
        return self.successResultOf(self.gateway.store.look_up(charge_point_id)).identity

    def events(self):
        return self.gateway.store.database.events()

    def refused(self, answer, status, code):
        self.assertEqual((answer.status, answer.json()["code"]), (status, code), answer.body)
        return answer.json()["message"]


class StoreTests(IdentityCase):
    def test_one_identity_is_stored(self):
        answer = self.web.post("/v1/identities", {"identity": identity()})
        self.assertEqual((answer.status, answer.json()), (200, {"stored": 1, "created": 1, "updated": 0}))
        self.assertEqual(self.stored(), identity())

    def test_many_identities_are_stored(self):
        self.provision(identity("CP-1"))
        answer = self.web.post("/v1/identities", {"identities": [identity(f"CP-{number}") for number in range(40)]})
        self.assertEqual((answer.status, answer.json()), (200, {"stored": 40, "created": 39, "updated": 1}))

    def test_bad_members_are_named_and_nothing_is_stored(self):
        answer = self.web.post("/v1/identities", {"identities": [identity(), identity("CP-002", status="off")]})
        message = self.refused(answer, 400, "IdentityInvalid")
        self.assertIn("CP-002", message)
        self.assertIn("status must be active or disabled", message)
        self.assertIsNone(self.stored())
        plain = identity(auth={"type": "basic", "secret": "hunter2"})
        answer = self.web.post("/v1/identities", {"identity": plain})
        self.assertIn("auth.secret is a plain secret", self.refused(answer, 400, "IdentityInvalid"))
        self.assertNotIn(b"hunter2", answer.body)

    def test_a_body_of_another_shape_is_refused(self):
        for body in (
            {},
            {"identity": identity(), "identities": [identity()]},
            {"identities": identity()},
            {"identitys": [identity()]},
            {"identity": identity(), "audit": "alice"},
            {"identity": identity(), "audit": {"actor": "alice"}},
            {"identity": identity(), "audit": {"actorId": ""}},
            {"identity": identity(), "audit": {"reason": "a\nb"}},
            {"identity": identity(), "audit": {"reason": "x" * 256}},
            {"identity": identity(), "audit": {"ip": 7}},
        ):
            self.refused(self.web.post("/v1/identities", body), 400, "BadMember")
        self.refused(self.web.post("/v1/identities", b"["), 400, "BadJson")
        self.refused(self.web.post("/v1/identities", {"identities": []}), 400, "IdentityInvalid")
        self.refused(self.web.post("/v1/identities", {"identity": None}), 400, "IdentityInvalid")
        self.assertEqual(self.events(), [])

    def test_the_audit_event_tells_who_and_why(self):
        audit = {"actorId": "alice", "actorType": "user", "ip": "198.51.100.1", "reason": "ticket 12"}
        self.web.post("/v1/identities", {"identity": identity(), "audit": audit})
        self.assertLessEqual(audit.items(), self.events()[0]["payload"].items())

    def test_who_says_nothing_is_told_by_where_the_request_came_from(self):
        self.web.post("/v1/identities", {"identity": identity(), "audit": {"reason": "why not"}})
        payload = self.events()[0]["payload"]
        self.assertEqual((payload["actorId"], payload["actorType"]), ("unknown", "system"))
        self.assertEqual((payload["ip"], payload["reason"]), ("192.168.1.1", "why not"))

    def test_an_import_may_be_larger_than_other_bodies(self):
        large = [identity(f"CP-{number}", comment="x" * 10_000) for number in range(40)]
        answer = self.web.post("/v1/identities", {"identities": large})
        self.assertEqual((answer.status, answer.json()["stored"]), (200, 40))
        for path, most in (("/v1/identities", MAX_IMPORT_BYTES), ("/v1/revocations", MAX_BODY_BYTES)):
            body = b'{"x": "' + b"x" * most + b'"}'
            self.refused(self.web.request("POST", path, body).answer(), 413, "TooLarge")

    def test_a_failing_disk_is_a_503(self):
        self.gateway.store.database.fault = "disk full"
        answer = self.web.post("/v1/identities", {"identity": identity()})
        self.assertIn("disk full", self.refused(answer, 503, "StoreUnavailable"))

    def test_a_client_that_leaves_in_the_middle_is_forgotten(self):
        many = {"identities": [identity(f"CP-{number}") for number in range(120)]}
        connection = self.web.request("POST", "/v1/identities", json.dumps(many).encode())
        self.assertEqual(connection.transport.value(), b"")
        connection.protocol.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])


class ReadTests(IdentityCase):
    def test_identities_come_in_pages_and_masked(self):
        self.provision(identity("CP-001"), identity("CP-002"), identity("XX-003"))
        answer = self.web.get("/v1/identities?search=cp&offset=1&limit=1")
        body = answer.json()
        self.assertEqual([one["chargePointId"] for one in body["identities"]], ["CP-002"])
        self.assertEqual((body["total"], body["offset"], body["limit"]), (2, 1, 1))
        self.assertEqual(body["identities"][0]["auth"], {"type": "basic", "secretHash": MASK, "secretSalt": MASK})
        for secret in (HASH, SALT):
            self.assertNotIn(secret.encode(), self.web.get("/v1/identities").body)

    def test_an_export_has_hashes_and_salts(self):
        self.provision(identity())
        self.assertEqual(self.web.get("/v1/identities?full=true").json()["identities"], [identity()])
        self.assertEqual(self.web.get("/v1/identities/CP-001?full=true").json()["auth"], identity()["auth"])

    def test_one_identity_shows_its_profile_and_whether_it_is_connected(self):
        self.provision(identity("CP-001"), identity("CP-002"), identity("CP/3"))
        self.successResultOf(self.gateway.store.remember_profile("CP-001", 2))
        shown = self.web.get("/v1/identities/CP-001").json()
        self.assertEqual((shown["securityProfile"], shown["connected"]), (2, True))
        self.assertEqual((shown["stationId"], shown["auth"]["secretHash"]), ("s-1", MASK))
        self.assertIs(self.web.get("/v1/identities/CP-002").json()["connected"], False)
        self.assertIs(self.web.get("/v1/identities/CP%2F3").json()["connected"], False)

    def test_an_unknown_identity_is_a_404(self):
        message = self.refused(self.web.get("/v1/identities/CP-9"), 404, "UnknownIdentity")
        self.assertIn("CP-9", message)
        for path, body in (
            ("rotate-secret", ROTATION),
            ("certificates", {"certificate": {"fingerprint": FINGERPRINT}}),
            ("enable", {}),
            ("disable", {}),
            ("delete", {}),
        ):
            self.refused(self.web.post(f"/v1/identities/CP-9/{path}", body), 404, "UnknownIdentity")

    def test_wrong_parameters_are_named(self):
        for query, named in (("limit=0", "limit"), ("full=maybe", "full"), ("offset=-1", "offset"), ("q=1", "'q'")):
            message = self.refused(self.web.get(f"/v1/identities?{query}"), 400, "BadQuery")
            self.assertIn(named, message)

    def test_all_of_it_is_behind_the_guard(self):
        web, gateway, _ = build_web(token="s3cret-token")
        for path in ("/v1/identities", "/v1/identities/CP-001", "/v1/revocations", "/v1/attempts"):
            self.assertEqual(web.get(path).status, 401)
        self.assertEqual(web.post("/v1/identities", {"identity": identity()}).status, 401)
        self.assertEqual(self.web.get("/v1/identities", host="evil.example").status, 403)
        answer = self.web.post("/v1/identities", {"identity": identity()}, origin="http://evil.example")
        self.assertEqual(answer.status, 403)
        self.assertIsNone(self.stored())
        self.assertEqual(gateway.store.database.records, [])

    def test_changes_are_posts_only(self):
        self.provision(identity())
        for method, path in (("GET", "/v1/identities/CP-001/delete"), ("DELETE", "/v1/identities/CP-001")):
            self.assertIn(self.web.request(method, path).answer().status, (404, 405))
        self.assertEqual(self.stored(), identity())


class ChangeTests(IdentityCase):
    def setUp(self):
        super().setUp()
        self.provision(identity())

    def change(self, path, body):
        return self.web.post(f"/v1/identities/CP-001/{path}", body)

    def test_a_secret_is_rotated(self):
        answer = self.change("rotate-secret", ROTATION)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json()["auth"]["nextSecretHash"], MASK)
        auth = self.stored()["auth"]
        self.assertEqual(
            (auth["secretHash"], auth["nextSecretHash"], auth["nextSecretSalt"]), (HASH, NEW_HASH, NEW_SALT)
        )
        self.assertEqual(self.change("rotate-secret", {**ROTATION, "immediately": True}).status, 200)
        auth = self.stored()["auth"]
        self.assertEqual((auth["secretHash"], auth["secretSalt"]), (NEW_HASH, NEW_SALT))
        self.assertNotIn("nextSecretHash", auth)

    def test_a_rotation_with_a_slip_is_refused(self):
        for changed, code in (
            ({"kind": "password"}, "BadMember"),
            ({"kind": None}, "BadMember"),
            ({"hash": None}, "BadMember"),
            ({"salt": 7}, "BadMember"),
            ({"immediately": "yes"}, "BadMember"),
            ({"imediately": True}, "BadMember"),
            ({"hash": "hunter2"}, "IdentityInvalid"),
            ({"algorithm": "md5"}, "IdentityInvalid"),
            ({"kind": "token"}, "AuthTypeNotAllowed"),
        ):
            answer = self.change("rotate-secret", {**ROTATION, **changed})
            self.refused(answer, 400, code)
            self.assertNotIn(b"hunter2", answer.body)
        self.assertEqual((self.stored(), len(self.events())), (identity(), 1))

    def test_a_certificate_is_bound(self):
        answer = self.change("certificates", {"certificate": {"fingerprint": FINGERPRINT}})
        self.assertEqual((answer.status, answer.json()["auth"]["certificates"]), (200, [{"fingerprint": FINGERPRINT}]))
        for bad, code in (
            ({}, "BadMember"),
            ({"certificate": FINGERPRINT}, "BadMember"),
            ({"certificate": {"fingerprint": "AA:BB"}}, "IdentityInvalid"),
        ):
            self.refused(self.change("certificates", bad), 400, code)
        self.assertEqual(len(self.stored()["auth"]["certificates"]), 1)

    def test_a_station_is_disabled_enabled_and_deleted(self):
        audit = {"actorId": "alice", "reason": "stolen"}
        for path, status in (("disable", "disabled"), ("enable", "active")):
            answer = self.change(path, {"audit": audit})
            self.assertEqual((answer.status, answer.json()["status"]), (200, status))
            self.assertEqual(self.stored()["status"], status)
        answer = self.change("delete", {"audit": audit})
        self.assertEqual((answer.status, answer.json()), (200, {"deleted": True}))
        self.assertIsNone(self.stored())
        told = [(event["eventType"], event["payload"].get("change")) for event in self.events()[1:]]
        self.assertEqual(
            told,
            [
                ("ChargerIdentityUpserted", "disabled"),
                ("ChargerIdentityUpserted", "enabled"),
                ("ChargerIdentityDeleted", None),
            ],
        )
        self.assertEqual({event["payload"]["actorId"] for event in self.events()[1:]}, {"alice"})


class RevocationTests(IdentityCase):
    def test_a_certificate_is_revoked_and_listed(self):
        body = {"fingerprint": FINGERPRINT.lower(), "audit": {"actorId": "alice", "reason": "stolen"}}
        answer = self.web.post("/v1/revocations", body)
        self.assertEqual((answer.status, answer.json()["fingerprint"]), (200, FINGERPRINT))
        (row,) = self.web.get("/v1/revocations").json()["revocations"]
        self.assertEqual(row, answer.json())
        self.assertEqual((row["actorId"], row["reason"], row["ip"]), ("alice", "stolen", "192.168.1.1"))
        self.assertEqual(row["revokedAt"], "2027-01-15T08:00:00.000Z")

    def test_what_is_no_fingerprint_is_refused(self):
        self.refused(self.web.post("/v1/revocations", {"fingerprint": "AA:BB"}), 400, "FingerprintInvalid")
        self.refused(self.web.post("/v1/revocations", {"fingerprint": 7}), 400, "BadMember")
        self.refused(self.web.post("/v1/revocations", {}), 400, "BadMember")
        self.assertEqual(self.web.get("/v1/revocations").json(), {"revocations": []})


class AttemptTests(SynchronousTestCase):
    def asked(self, query=""):
        web, gateway, _ = build_web()
        gateway.told_attempts = [{"outcome": "TlsUnknownCa"}]
        answer = web.get(f"/v1/attempts{query}")
        return answer, gateway.queries

    def test_attempts_are_asked_for_and_told(self):
        answer, queries = self.asked()
        self.assertEqual((answer.status, answer.json()), (200, {"attempts": [{"outcome": "TlsUnknownCa"}]}))
        self.assertEqual(queries, [AttemptQuery(limit=20)])

    def test_filters(self):
        written = FINGERPRINT.lower()
        _, queries = self.asked(f"?chargePointId=CP-1&address=2001:db8::1&fingerprint={written}&refused=true&limit=200")
        self.assertEqual(queries, [AttemptQuery("CP-1", ("2001:db8::1",), (FINGERPRINT,), (), True, 200)])
        self.assertEqual(self.asked("?refused=false")[1], [AttemptQuery(limit=20)])

    def test_wrong_parameters_are_named(self):
        for query, named in (
            ("limit=201", "limit"),
            ("address=here", "address='here'"),
            ("fingerprint=AA", "fingerprint='AA'"),
            ("refused=maybe", "refused"),
            ("station=CP-1", "'station'"),
        ):
            answer, queries = self.asked(f"?{query}")
            self.assertEqual((answer.status, answer.json()["code"]), (400, "BadQuery"))
            self.assertIn(named, answer.json()["message"])
            self.assertEqual(queries, [])

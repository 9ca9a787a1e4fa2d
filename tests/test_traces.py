"""Which attempts are shown for a station: its own, and those that it left no name with."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.attempts import Attempt
from ocppgw.metrics import Metrics
from ocppgw.ports import AttemptQuery
from ocppgw.routing.attempt_log import AttemptLog
from ocppgw.routing.gateway import Gateway
from tests.contract_access import FINGERPRINT, OTHER, attempt
from tests.inline_store import build_inline_store


def identity(*bindings, pending=(), **auth):
    auth = {"type": "mtls", "certificates": list(bindings), "pendingCertificates": list(pending), **auth}
    return {"chargePointId": "CP-1", "stationId": "s", "tenantId": "t", "auth": auth}


class TraceTests(SynchronousTestCase):
    def setUp(self):
        self.store = build_inline_store(Clock())
        self.log = AttemptLog(self.store, Metrics({}, "test"), Clock())
        self.gateway = Gateway("node-1", {}, None, self.store, None, None, None, self.log, Clock())

    def save(self, *attempts):
        self.successResultOf(self.store.save_attempts(attempts))

    def provision(self, record):
        self.successResultOf(self.store.put_identity(record))

    def shown(self, **members):
        return self.successResultOf(self.gateway.attempts(AttemptQuery(**members)))

    def outcomes(self, charge_point_id="CP-1", **members):
        return [one["outcome"] for one in self.shown(charge_point_id=charge_point_id, **members)]

    def tls(self, outcome, address="198.51.100.9", **certificate):
        return attempt(2.0, "", address, outcome, **certificate)

    def test_an_attempt_of_this_moment_is_shown_too(self):
        self.log.add(Attempt(0.0, "CredentialsWrong", "192.0.2.1", charge_point_id="CP-1"))
        self.assertEqual(self.outcomes(), ["CredentialsWrong"])

    def test_attempts_are_shown_as_people_read_them(self):
        self.save(attempt(0.0, "CP-1", outcome="CredentialsWrong"))
        (shown,) = self.shown()
        self.assertEqual((shown["at"], shown["chargePointId"]), ("1970-01-01T00:00:00.000Z", "CP-1"))
        self.assertTrue(shown["remedy"])
        self.assertNotIn("matchedBy", shown)

    def test_without_a_station_every_attempt_is_shown(self):
        self.save(attempt(1.0, "CP-1"), attempt(2.0, "CP-2"), self.tls("TlsFailed"))
        self.assertEqual(len(self.shown()), 3)
        self.assertEqual(len(self.shown(addresses=("198.51.100.9",))), 1)
        self.assertNotIn("matchedBy", self.shown(addresses=("198.51.100.9",))[0])

    def test_tls_failures_are_found_by_the_certificates_of_the_identity(self):
        self.save(
            self.tls("ByFingerprint", fingerprint=FINGERPRINT),
            self.tls("ByPending", fingerprint=OTHER),
            self.tls("BySubject", common_name="pole 7"),
            self.tls("ByWholeName", common_name="pole, 8"),
            self.tls("ById", common_name="CP-1"),
            self.tls("Stranger", fingerprint="12" * 32, common_name="pole 9"),
        )
        self.provision(
            identity(
                {"fingerprint": FINGERPRINT},
                {"subject": "pole 7"},
                {"subject": "O=Operator, CN=pole\\, 8"},
                pending=[{"fingerprint": OTHER}],
            )
        )
        self.assertEqual(self.outcomes(), ["ById", "ByWholeName", "BySubject", "ByPending", "ByFingerprint"])
        self.assertFalse([one for one in self.shown(charge_point_id="CP-1") if "matchedBy" in one])

    def test_the_subject_and_fingerprint_of_an_identity_without_bindings_count_too(self):
        self.save(self.tls("ByFingerprint", fingerprint=FINGERPRINT), self.tls("BySubject", common_name="pole 7"))
        self.provision(identity(subject="/O=Operator/CN=pole 7", fingerprint=FINGERPRINT))
        self.assertEqual(self.outcomes(), ["BySubject", "ByFingerprint"])

    def test_a_stations_certificate_under_another_id_is_its_trace(self):
        self.save(attempt(1.0, "CP-2", outcome="CertificateMismatch", fingerprint=FINGERPRINT))
        self.provision(identity({"fingerprint": FINGERPRINT}))
        self.assertEqual(self.outcomes(), ["CertificateMismatch"])

    def test_tls_failures_from_its_latest_addresses_are_marked(self):
        self.save(
            attempt(1.0, "CP-1", "192.0.2.1", "Admitted"),
            self.tls("FromThere", "192.0.2.1"),
            self.tls("FromElsewhere", "192.0.2.2"),
            attempt(3.0, "CP-2", "192.0.2.1", "NeighboursOwn"),
        )
        shown = self.shown(charge_point_id="CP-1")
        self.assertEqual([one["outcome"] for one in shown], ["FromThere", "Admitted"])
        self.assertEqual([one.get("matchedBy") for one in shown], ["address", None])

    def test_an_unknown_station_is_found_by_its_id_and_by_that_name_in_a_certificate(self):
        self.save(attempt(1.0, "CP-1", outcome="UnknownStation"), self.tls("ById", common_name="CP-1"))
        self.assertEqual(self.outcomes(), ["ById", "UnknownStation"])

    def test_a_broken_identity_does_not_hide_the_stations_attempts(self):
        self.save(attempt(1.0, "CP-1", outcome="IdentityInvalid"))
        self.provision({"chargePointId": "CP-1", "stationId": "s", "tenantId": "t"})
        self.assertEqual(self.outcomes(), ["IdentityInvalid"])

    def test_refused_ones_alone_and_up_to_a_limit(self):
        self.save(attempt(1.0), attempt(2.0, outcome="Admitted"), attempt(3.0), attempt(4.0))
        self.assertEqual(len(self.shown(charge_point_id="CP-1", refused_only=True, limit=2)), 2)
        self.assertNotIn("Admitted", self.outcomes(refused_only=True))

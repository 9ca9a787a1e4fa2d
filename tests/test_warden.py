"""Rights that are withdrawn close the open connection, and nobody else's."""

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.authenticate import hash_secret
from ocppgw.access.proof import Proof
from ocppgw.access.refusals import Reason
from ocppgw.access.transport import CrlFault
from ocppgw.errors import StoreError
from ocppgw.ocpp.session import StationFacts
from ocppgw.ocpp.versions import V16
from ocppgw.ports import Known
from ocppgw.routing.links import Links
from ocppgw.routing.proving import ProofRules
from ocppgw.routing.warden import Warden
from tests.build_edge import NOW
from tests.test_bindings import CERTIFICATE, FINGERPRINT

SALT = "0123456789abcdef"
DIGEST = hash_secret(b"secret", SALT.encode(), "sha256")
BASIC = {"type": "basic", "secretHash": DIGEST.hex(), "secretSalt": SALT}
MTLS = {"type": "mtls", "certificates": [{"fingerprint": FINGERPRINT}]}
BY_PASSWORD = Proof("basic", None, DIGEST, 2, "192.0.2.1")
BY_CERTIFICATE = Proof("mtls", CERTIFICATE, b"", 3, "192.0.2.1")


class OpenLink:
    version, subprotocol, address = V16, "ocpp1.6", "192.0.2.1"

    def __init__(self, name: str, proof: Proof) -> None:
        self.station = StationFacts(name, f"station-{name}", "tenant")
        self.proof = proof
        self.closed: list[tuple[int, str]] = []

    def withdraw(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


class WardenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.known: dict[str, Known] = {}
        self.fault: Exception | None = None
        self.told: list[Any] = []
        self.links = Links()
        self.build()

    def build(self, **rules: Any) -> None:
        store: Any = self
        handshakes: Any = self
        self.warden = Warden(store, self.links, ProofRules(**rules), handshakes, lambda: NOW)

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> Deferred[Known]:
        return succeed(self.known[charge_point_id]) if self.fault is None else fail(self.fault)

    def cut(self, refused: Any, attempt: Any) -> None:
        self.told.append((refused.reason, attempt.charge_point_id, attempt.close_code))

    def station(self, proof: Proof, auth: dict[str, Any], name: str = "CP-001") -> OpenLink:
        link = OpenLink(name, proof)
        self.links.register(link)  # type: ignore[arg-type]
        self.store(auth, name)
        return link

    def store(self, auth: dict[str, Any] | None, name: str = "CP-001", **members: Any) -> None:
        identity = {"chargePointId": name, "stationId": "s", "tenantId": "t", "auth": auth, **members}
        self.known[name] = Known(identity if auth is not None else None)

    def assert_closed(self, link: OpenLink, reason: Reason) -> None:
        self.assertEqual(([code for code, _ in link.closed], self.told), ([1008], [(reason, "CP-001", 1008)]))

    def test_a_change_that_withdraws_nothing_closes_nothing(self) -> None:
        link = self.station(BY_PASSWORD, BASIC)
        self.store(BASIC, status="active", allowedProtocols=["1.6"], boot={"status": "Pending"})
        self.warden.identity_changed("CP-001")
        self.warden.identity_changed("CP-404")
        self.assertEqual(link.closed, [])

    def test_disabled_deleted_and_narrowed_identities_close_their_connection(self) -> None:
        for members, reason in (
            ({"status": "disabled"}, Reason.IDENTITY_DISABLED),
            ({"allowedProtocols": ["2.1"]}, Reason.PROTOCOL_NOT_ALLOWED),
            ({"allowedIps": ["198.51.100.1"]}, Reason.ADDRESS_NOT_ALLOWED_FOR_STATION),
            ({"auth": MTLS}, Reason.CREDENTIALS_TYPE_NOT_ALLOWED),
            ({"stationId": ""}, Reason.IDENTITY_INVALID),
        ):
            self.told.clear()
            link = self.station(BY_PASSWORD, BASIC)
            self.store(**{"auth": BASIC, **members})
            self.warden.identity_changed("CP-001")
            self.assert_closed(link, reason)
        self.told.clear()
        link = self.station(BY_PASSWORD, BASIC)
        self.store(None)
        self.warden.identity_changed("CP-001")
        self.assert_closed(link, Reason.IDENTITY_DELETED)

    def test_a_secret_that_was_taken_away_closes_and_one_that_is_being_rotated_does_not(self) -> None:
        link = self.station(BY_PASSWORD, BASIC)
        self.store({**BASIC, "nextSecretHash": "ab" * 32, "nextSecretSalt": SALT})
        self.warden.identity_changed("CP-001")
        self.assertEqual(link.closed, [])
        self.store({**BASIC, "secretHash": "ab" * 32})
        self.warden.identity_changed("CP-001")
        self.assert_closed(link, Reason.CREDENTIALS_WRONG)

    def test_a_certificate_that_lost_its_binding_closes(self) -> None:
        link = self.station(BY_CERTIFICATE, MTLS)
        self.store({**MTLS, "certificates": [{"fingerprint": FINGERPRINT, "status": "revoked"}]})
        self.warden.identity_changed("CP-001")
        self.assert_closed(link, Reason.CERTIFICATE_BINDING_REVOKED)

    def test_a_certificate_on_the_denylist_closes_its_stations_connection_only(self) -> None:
        link = self.station(BY_CERTIFICATE, MTLS)
        other = self.station(
            replace(BY_CERTIFICATE, certificate=replace(CERTIFICATE, fingerprint="CD" * 32)), MTLS, "B"
        )
        self.known["CP-001"] = Known(self.known["CP-001"].identity, {"reason": "stolen"})
        self.warden.certificate_revoked(FINGERPRINT)
        self.assert_closed(link, Reason.CERTIFICATE_REVOKED)
        self.assertEqual(other.closed, [])

    def test_new_crls_close_what_they_revoke_and_nothing_that_is_merely_out_of_date(self) -> None:
        link = self.station(BY_CERTIFICATE, MTLS)
        self.station(BY_PASSWORD, BASIC, "B")
        for kind in ("expired", "missing"):
            self.warden.crls_changed(_Crls(CrlFault(kind, "")))
        self.assertEqual(link.closed, [])
        self.warden.crls_changed(_Crls(CrlFault("revoked", "")))
        self.assert_closed(link, Reason.CERTIFICATE_REVOKED_BY_CRL)

    def test_an_unprovisioned_station_goes_once_it_is_provisioned(self) -> None:
        self.build(unknown_tenant="dev")
        link = self.station(Proof("none"), BASIC)
        self.store(None)
        self.warden.identity_changed("CP-001")
        self.assertEqual(link.closed, [])
        self.store(BASIC)
        self.warden.identity_changed("CP-001")
        self.assert_closed(link, Reason.CREDENTIALS_TYPE_NOT_ALLOWED)

    def test_rights_that_can_not_be_read_fail_closed(self) -> None:
        link = self.station(BY_PASSWORD, BASIC)
        self.fault = StoreError("away")
        self.warden.identity_changed("CP-001")
        self.assertEqual([code for code, _ in link.closed], [1008])
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)


class _Crls:
    def __init__(self, fault: CrlFault) -> None:
        self._fault = fault

    def fault(self, certificate: Any, now: float) -> CrlFault:
        return self._fault

"""The way in: who is let in, who is refused with which status, and that nothing leaks on the way."""

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.addresses import parse_network
from ocppgw.access.admission import AdmissionRules, HandshakeFacts
from ocppgw.access.attempts import ADMITTED, Attempt
from ocppgw.access.authenticate import Denied, hash_secret
from ocppgw.access.certificates import ClientCertificate
from ocppgw.access.certify import CertificateRules
from ocppgw.access.proxies import Origin, ProxyRules
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import CrlFault, TlsFacts, TlsFailure
from ocppgw.access.turnstile import TurnstileRules
from ocppgw.access.verified import KEY_BYTES, VerifiedSecrets
from ocppgw.errors import StoreError
from ocppgw.fleet_ports import Claim
from ocppgw.metrics import Metrics
from ocppgw.ocpp.state import StationState
from ocppgw.ports import Known
from ocppgw.routing.attempt_log import AttemptLog
from ocppgw.routing.entrance import Entrance, EntranceRules, Renewals, Welcome
from ocppgw.routing.handshake_log import HandshakeLog
from ocppgw.routing.links import Links
from ocppgw.routing.ownership import LocalOwnership
from ocppgw.routing.proving import MAX_HASHING, ProofRules, Prover
from tests.build_edge import NOW

PASSWORD = "correct horse battery"
SALT = "0123456789abcdef"
ADDRESS = "192.0.2.1"


def _identity(charge_point_id: str = "CP-001", algorithm: str = "sha256", **members: Any) -> dict[str, Any]:
    digest = hash_secret(PASSWORD.encode(), SALT.encode(), algorithm).hex()
    auth = {"type": "basic", "hashAlgorithm": algorithm, "secretHash": digest, "secretSalt": SALT}
    return {
        "chargePointId": charge_point_id,
        "stationId": "station-1",
        "tenantId": "tenant-1",
        "auth": auth,
        **members,
    }


def _basic(password: str = PASSWORD, user: str = "CP-001") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class FakeStore:
    def __init__(self) -> None:
        self.identities: dict[str, Any] = {"CP-001": _identity()}
        self.revoked: dict[str, Any] = {}
        self.profiles: dict[str, int] = {}
        self.attempts: list[Attempt] = []
        self.fault: Exception | None = None
        self.fails_at = "look_up"
        self.claimed: list[str] = []
        self.asked = 0

    def _reply(self, method: str, result: Any) -> Deferred[Any]:
        return fail(self.fault) if self.fault is not None and self.fails_at == method else succeed(result)

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> Deferred[Any]:
        self.asked += 1
        known = Known(
            self.identities.get(charge_point_id), self.revoked.get(fingerprint), self.profiles.get(charge_point_id, 0)
        )
        return self._reply("look_up", known)

    def remember_profile(self, charge_point_id: str, security_profile: int) -> Deferred[Any]:
        self.profiles[charge_point_id] = security_profile
        return succeed(None)

    def save_attempts(self, attempts: Any) -> Deferred[Any]:
        self.attempts += [msgspec.json.decode(kept.body, type=Attempt) for kept in attempts]
        return succeed(None)

    def claim(self, charge_point_id: str) -> Deferred[Any]:
        self.claimed.append(charge_point_id)
        return self._reply("claim", Claim(charge_point_id, len(self.claimed)))

    def load_station(self, charge_point_id: str) -> Deferred[Any]:
        return self._reply("load_station", StationState())


class Threads:
    """`in_thread`: at once, or when the test says so."""

    def __init__(self) -> None:
        self.waits = False
        self.used = 0
        self._waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        self.used += 1
        if not self.waits:
            return succeed(function())
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((waiting, function))
        return waiting

    def answer_all(self, result: Any) -> None:
        """Spare the test the hashing."""
        while self._waiting:
            self._waiting.pop(0)[0].callback(result)

    def finish(self) -> None:
        while self._waiting:
            waiting, function = self._waiting.pop(0)
            waiting.callback(function())


class EntranceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = FakeStore()
        self.threads = Threads()
        self.links = Links()
        self.closed_for: Reason | None = None
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self._log)
        self.addCleanup(globalLogPublisher.removeObserver, self._log)
        self.build()

    def _log(self, event: Any) -> None:
        if event.get("log_namespace") == "ocppgw.entrance":
            self.logged.append(event)

    def warnings(self) -> list[str]:
        return [event["log_format"].format(**event) for event in self.logged if event["log_level"] >= LogLevel.warn]

    def build(self, **rules: Any) -> None:
        admission = rules.pop("admission", AdmissionRules())
        cooldown = rules.pop("log_cooldown", 300.0)
        known = ("auth_mode", "unknown_tenant", "hashing", "certificates")
        proofs = ProofRules(**{name: rules.pop(name) for name in known if name in rules})
        self.metrics = Metrics({"1.6J": ()}, "test")
        self.renewed: list[tuple[str, ...]] = []
        store: Any = self.store
        attempts = AttemptLog(store, self.metrics, self.clock)
        self.flush = attempts.flush
        self.entrance = Entrance(
            EntranceRules(admission, **rules),
            store,
            LocalOwnership(store),
            self.links,
            Prover(proofs, self.threads.run, VerifiedSecrets(bytes(KEY_BYTES), 300.0), self.clock.seconds),
            HandshakeLog(self.metrics, attempts, self.clock, cooldown),
            self.metrics,
            self.clock,
            lambda: self.closed_for,
            Renewals(
                lambda name, kind, digest: self.renewed.append((name, kind)),
                lambda name, fingerprint: self.renewed.append((name, fingerprint)),
            ),
        )

    def knock(
        self,
        headers: dict[str, str] | None = None,
        path: str = "/ocpp/CP-001",
        *offers: str,
        address: str = ADDRESS,
        tls: TlsFacts | None = None,
    ) -> "Deferred[Welcome | Refused]":
        facts = HandshakeFacts(path, offers or ("ocpp1.6",), address, tls=tls)
        turned_away = self.entrance.turned_away(address, "plain port 8080")
        if turned_away is not None:
            return succeed(turned_away)
        visit = self.entrance.visit(address, "plain port 8080")
        decided = visit.decide(facts, _basic() if headers is None else headers)
        visit.upgraded()
        return decided.addCallback(lambda decision: (visit.left(), decision)[1])

    def attempts(self) -> list[Attempt]:
        self.flush()
        return self.store.attempts

    def welcome(self, *args: Any, **options: Any) -> Welcome:
        decision = self.successResultOf(self.knock(*args, **options))
        assert isinstance(decision, Welcome), decision
        return decision

    def refusal(self, *args: Any, **options: Any) -> Refused:
        decision = self.successResultOf(self.knock(*args, **options))
        assert isinstance(decision, Refused), decision
        return decision

    # --- who gets in

    def test_a_known_station_with_the_right_password_is_welcome(self) -> None:
        welcome = self.welcome()
        self.assertEqual(
            (welcome.station.charge_point_id, welcome.station.station_id, welcome.station.tenant_id),
            ("CP-001", "station-1", "tenant-1"),
        )
        self.assertEqual((welcome.claim, welcome.address), (Claim("CP-001", 1), ADDRESS))

    def test_an_unknown_station_is_refused_just_like_a_wrong_password(self) -> None:
        for headers in (_basic("wrong"), _basic(), {}, {"authorization": "Basic !"}, {"x-api-key": "guess"}):
            unknown = self.refusal(headers, "/ocpp/CP-404")
            known = self.refusal(_basic("wrong") if headers == _basic() else headers)
            self.assertEqual((unknown.text, unknown.headers), (known.text, known.headers), headers)
            self.assertEqual(unknown.status, 401)
        self.assertEqual(self.store.claimed, [])

    def test_a_password_for_another_user_is_refused(self) -> None:
        self.assertEqual(self.refusal(_basic(user="CP-002")).reason, Reason.USER_NAME_WRONG)

    def test_where_the_operator_says_so_unknown_stations_are_admitted(self) -> None:
        self.build(unknown_tenant="dev")
        welcome = self.welcome({}, "/ocpp/CP-404")
        self.assertEqual((welcome.station.charge_point_id, welcome.station.tenant_id), ("CP-404", "dev"))

    def test_known_stations_prove_themselves_even_then(self) -> None:
        self.build(unknown_tenant="dev")
        self.assertEqual(self.refusal({}).status, 401)

    def test_a_disabled_station_is_told_so_only_with_its_password(self) -> None:
        self.store.identities["CP-001"] = _identity(status="disabled")
        self.assertEqual(self.refusal().reason, Reason.IDENTITY_DISABLED)
        self.assertEqual(self.refusal(_basic("wrong")).reason, Reason.CREDENTIALS_WRONG)

    def test_the_stations_own_protocols_and_addresses_hold(self) -> None:
        self.store.identities["CP-001"] = _identity(allowedProtocols=["2.0.1"])
        self.assertEqual(self.refusal().reason, Reason.PROTOCOL_NOT_ALLOWED)
        self.welcome(None, "/ocpp/CP-001", "ocpp2.0.1")
        self.store.identities["CP-001"] = _identity(allowedCidrs=["10.0.0.0/8"])
        self.assertEqual(self.refusal().reason, Reason.ADDRESS_NOT_ALLOWED_FOR_STATION)
        self.welcome(address="10.1.2.3")

    def test_the_listeners_addresses_are_checked_before_anything_is_looked_up(self) -> None:
        self.build(admission=AdmissionRules(allowed=(parse_network("10.0.0.0/8"),)))
        self.store.fault = StoreError("must not be asked")
        self.assertEqual(self.refusal().reason, Reason.ADDRESS_NOT_ALLOWED)

    # --- not now

    def test_nobody_is_let_in_while_draining(self) -> None:
        self.closed_for = Reason.DRAINING
        refused = self.refusal()
        self.assertEqual((refused.status, dict(refused.headers)["Retry-After"]), (503, "5"))

    def test_a_failing_store_is_a_503_wherever_it_fails(self) -> None:
        self.store.fault = StoreError("the disk is full")
        for method in ("look_up", "claim", "load_station"):
            self.store.fails_at = method
            refused = self.refusal()
            self.assertEqual((refused.reason, refused.status), (Reason.STORE_UNAVAILABLE, 503))

    def test_a_failing_store_is_logged_once_in_the_cooldown_not_once_a_handshake(self) -> None:
        self.store.fault = StoreError("the disk is full")
        for _ in range(5):
            self.refusal()
        (warning,) = self.warnings()
        self.assertIn("the disk is full", warning)

    def test_a_damaged_identity_is_refused_like_a_wrong_password_and_the_log_says_what_is_wrong(self) -> None:
        self.store.identities["CP-001"] = _identity(stationId="")
        refused = self.refusal()
        self.assertEqual((refused.reason, refused.text), (Reason.IDENTITY_INVALID, Reason.CREDENTIALS_WRONG.text))
        self.assertIn("stationId", self.warnings()[0])

    def test_a_fault_of_our_own_is_a_503_with_a_traceback_in_the_log(self) -> None:
        self.store.fault = ZeroDivisionError("a fault of ours")
        self.assertEqual(self.refusal().status, 503)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_connections_are_bounded_and_places_never_leak(self) -> None:
        self.build(max_connections=1)
        self.store.identities["CP-002"] = _identity("CP-002", "scrypt")
        self.threads.waits = True
        slow = self.knock(_basic(user="CP-002"), "/ocpp/CP-002")
        self.assertEqual(self.refusal().reason, Reason.TOO_MANY_CONNECTIONS)
        self.threads.finish()
        self.threads.waits = False
        self.assertIsInstance(self.successResultOf(slow), Welcome)
        for fault in (StoreError("full"), None):
            self.store.fault = fault
            self.refusal(_basic("wrong"))
        self.refusal(path="/nowhere")
        self.closed_for = Reason.DRAINING
        self.refusal()
        self.closed_for = None
        self.welcome()

    # --- hashing

    def test_scrypt_runs_in_a_thread_and_sha256_does_not(self) -> None:
        self.welcome()
        self.assertEqual(self.threads.used, 0)
        self.store.identities["CP-001"] = _identity(algorithm="scrypt")
        self.welcome()
        self.refusal(_basic("wrong"))
        self.assertEqual(self.threads.used, 2)

    def test_passwords_that_wait_to_be_hashed_are_bounded(self) -> None:
        self.store.identities["CP-001"] = _identity(algorithm="scrypt")
        self.threads.waits = True
        waiting = [self.knock(_basic("wrong")) for _ in range(MAX_HASHING)]
        self.assertEqual(self.refusal().reason, Reason.HASHING_OVERLOADED)
        self.assertEqual(self.threads.used, MAX_HASHING)
        self.threads.answer_all(Denied(Reason.CREDENTIALS_WRONG))
        self.assertEqual({self.successResultOf(one).status for one in waiting}, {401})
        self.assertNoResult(self.knock())  # there is room again

    # --- flapping

    def test_a_station_that_is_replaced_too_often_gets_429_with_a_time(self) -> None:
        self.build(swaps_per_minute=2)
        self.links.register(_Open("CP-001"))  # type: ignore[arg-type]
        self.welcome()
        self.clock.advance(10)
        self.welcome()
        refused = self.refusal()
        self.assertEqual((refused.status, dict(refused.headers)["Retry-After"]), (429, "51"))
        self.clock.advance(51)
        self.welcome()

    def test_reconnecting_without_a_live_connection_is_never_damped(self) -> None:
        self.build(swaps_per_minute=1)
        for _ in range(5):
            self.welcome()

    def test_bad_credentials_can_not_use_up_a_stations_swaps(self) -> None:
        self.build(swaps_per_minute=1)
        self.links.register(_Open("CP-001"))  # type: ignore[arg-type]
        for _ in range(5):
            self.assertEqual(self.refusal(_basic("wrong")).status, 401)
        self.welcome()

    # --- what is counted and logged

    def test_every_decision_is_counted(self) -> None:
        self.welcome()
        self.refusal(_basic("wrong"))
        self.entrance.visit(ADDRESS, "plain port 8080").refuse(Reason.MALFORMED_REQUEST)
        text = self.metrics.exposition().decode()
        for outcome in ("admitted", "CredentialsWrong", "MalformedRequest"):
            self.assertIn(f'ocppgw_handshakes_total{{outcome="{outcome}"}} 1.0', text)

    def test_refusals_are_logged_once_in_the_cooldown_with_the_count_left_out(self) -> None:
        self.build(log_cooldown=300.0)
        for _ in range(4):
            self.refusal(path="/.env")
        self.assertEqual(len(self.warnings()), 1)
        self.clock.advance(301)
        self.refusal(path="/.env")
        self.assertIn("3 like it not logged before", self.warnings()[1])

    def test_another_address_and_another_reason_are_logged_on_their_own(self) -> None:
        self.refusal(path="/.env")
        self.refusal(path="/.env", address="192.0.2.2")
        self.refusal(path="/nowhere")
        self.assertEqual(len(self.warnings()), 3)

    def test_no_secret_reaches_the_log(self) -> None:
        self.refusal(_basic("hunter2-hunter2"), "/ocpp/CP-001?token=hunter2-hunter2")
        self.refusal({"x-api-key": "hunter2-hunter2"}, "/ocpp/CP-404?token=hunter2-hunter2", address="192.0.2.2")
        self.welcome(None, "/ocpp/CP-001?token=hunter2-hunter2")
        self.assertNotIn("hunter2", repr(self.logged))
        self.assertNotIn(PASSWORD, repr(self.logged))

    # --- certificates

    def test_a_bound_certificate_is_enough(self) -> None:
        self.store.identities["CP-001"] = _mtls()
        welcome = self.welcome({}, tls=_tls())
        self.assertEqual((welcome.proof.method, welcome.proof.security_profile), ("mtls", 3))
        self.assertEqual(self.store.profiles, {"CP-001": 3})

    def test_the_good_certificate_of_a_stranger_opens_nothing(self) -> None:
        self.store.identities["CP-001"] = _mtls()
        self.assertIs(self.refusal({}, tls=_tls(fingerprint="CD" * 32)).reason, Reason.CERTIFICATE_MISMATCH)
        self.assertIs(self.refusal({}, "/ocpp/CP-404", tls=_tls()).reason, Reason.UNKNOWN_STATION_CERTIFICATE)

    def test_a_revoked_certificate_is_refused_whatever_else_was_sent(self) -> None:
        self.store.identities["CP-001"] = _identity()
        self.store.revoked[FINGERPRINT] = {"reason": "stolen"}
        refused = self.refusal(tls=_tls())
        self.assertIs(refused.reason, Reason.CERTIFICATE_REVOKED)
        self.assertIn("stolen", refused.detail)
        self.store.revoked.clear()
        for kind, reason in (
            ("revoked", Reason.CERTIFICATE_REVOKED_BY_CRL),
            ("expired", Reason.CRL_EXPIRED),
            ("missing", Reason.CRL_MISSING),
        ):
            self.assertIs(self.refusal(tls=_tls(crl_fault=CrlFault(kind, "so it is"))).reason, reason)

    def test_a_resumed_session_of_an_expired_certificate_is_refused(self) -> None:
        self.store.identities["CP-001"] = _mtls()
        self.clock.advance(400 * 86_400)
        self.assertIs(self.refusal({}, tls=_tls(resumed=True)).reason, Reason.CERTIFICATE_EXPIRED)

    def test_a_password_stands_in_where_both_are_allowed(self) -> None:
        both = _mtls(allowedTypes=["mtls", "basic"])
        self.store.identities["CP-001"] = both
        self.assertEqual(self.welcome(tls=None).proof.security_profile, 1)
        proof = self.welcome(tls=_tls(fingerprint="CD" * 32)).proof
        self.assertEqual((proof.method, proof.security_profile), ("basic", 2))

    def test_a_pending_certificate_is_let_in_and_reported_as_seen(self) -> None:
        self.store.identities["CP-001"] = _mtls(pendingCertificates=[{"fingerprint": "CD" * 32}])
        self.welcome({}, tls=_tls(fingerprint="CD" * 32))
        self.assertEqual(self.renewed, [("CP-001", "CD" * 32)])

    def test_the_next_secret_is_reported_as_used(self) -> None:
        self.store.identities["CP-001"]["auth"] |= {
            "nextSecretHash": hash_secret(b"new secret", SALT.encode(), "sha256").hex(),
            "nextSecretSalt": SALT,
        }
        self.welcome()
        self.assertEqual(self.renewed, [])
        self.welcome(_basic("new secret"))
        self.assertEqual(self.renewed, [("CP-001", "secret")])

    def test_the_serial_number_is_asked_for_where_the_identity_says_so(self) -> None:
        self.store.identities["CP-001"] = _mtls(requireSerialMatch=True)
        self.assertEqual(self.welcome({}, tls=_tls()).station.required_serial, "CP-001")
        self.store.identities["CP-001"] = _mtls()
        self.assertIsNone(self.welcome({}, tls=_tls()).station.required_serial)

    def test_the_organization_is_the_operators(self) -> None:
        self.build(certificates=CertificateRules(organizations=("Operator",)))
        self.store.identities["CP-001"] = _mtls()
        self.welcome({}, tls=_tls())
        self.build(certificates=CertificateRules(organizations=("Another",)))
        self.assertIs(self.refusal({}, tls=_tls()).reason, Reason.CERTIFICATE_ORGANIZATION)

    # --- security profiles

    def test_case_30_a_profile_is_never_lowered(self) -> None:
        self.welcome(tls=_tls(certificate=None))
        self.assertEqual(self.store.profiles, {"CP-001": 2})
        self.assertIs(self.refusal().reason, Reason.SECURITY_PROFILE_LOWERED)

    def test_the_identity_may_permit_it_down_to_a_profile(self) -> None:
        self.store.profiles["CP-001"] = 3
        for lowest, reason in ((3, Reason.SECURITY_PROFILE_LOWERED), (2, Reason.SECURITY_PROFILE_LOWERED), (1, None)):
            self.store.identities["CP-001"]["auth"]["lowestProfile"] = lowest
            decision = self.successResultOf(self.knock())
            self.assertIs(decision.reason if isinstance(decision, Refused) else None, reason, lowest)
        self.assertEqual(self.store.profiles, {"CP-001": 3})

    def test_the_operator_may_ask_for_a_profile_of_everybody(self) -> None:
        self.build(min_profile=2)
        self.assertIs(self.refusal().reason, Reason.SECURITY_PROFILE_TOO_LOW)
        self.welcome(tls=_tls(certificate=None))

    # --- proxies and limits

    def test_behind_a_listed_proxy_the_stations_own_address_is_judged(self) -> None:
        proxies = ProxyRules((parse_network("10.0.0.0/8"),), "x-forwarded-for")
        self.store.identities["CP-001"] = _identity(allowedIps=["198.51.100.7"])
        self.build(proxies=proxies)
        welcome = self.welcome({**_basic(), "x-forwarded-for": "198.51.100.7"}, address="10.0.0.1")
        self.assertEqual(welcome.address, "198.51.100.7")
        self.assertEqual((self.attempts()[-1].address, self.attempts()[-1].proxy), ("198.51.100.7", "10.0.0.1"))
        spoofed = {**_basic(), "x-forwarded-for": "198.51.100.7"}
        self.assertIs(self.refusal(spoofed).reason, Reason.ADDRESS_NOT_ALLOWED_FOR_STATION)
        self.assertIs(self.refusal(address="10.0.0.1").reason, Reason.PROXY_HEADER_INVALID)

    def test_a_proxy_that_ends_tls_makes_it_profile_2(self) -> None:
        self.build(proxies=ProxyRules((parse_network("10.0.0.0/8"),), "forwarded"))
        welcome = self.welcome({**_basic(), "forwarded": "for=198.51.100.7;proto=https"}, address="10.0.0.1")
        self.assertEqual(welcome.proof.security_profile, 2)

    def test_limits_hold_for_stations_behind_a_proxy_not_for_the_proxy(self) -> None:
        self.build(
            proxies=ProxyRules((parse_network("10.0.0.0/8"),), "x-forwarded-for"),
            turnstile=TurnstileRules(handshakes_per_minute=2),
        )
        for station, outcomes in (("198.51.100.7", [True, True, False]), ("198.51.100.8", [True, True, False])):
            headers = {**_basic(), "x-forwarded-for": station}
            found = [self.successResultOf(self.knock(headers, address="10.0.0.1")) for _ in outcomes]
            self.assertEqual([isinstance(decision, Welcome) for decision in found], outcomes)
            self.assertIs(found[-1].reason, Reason.TOO_MANY_HANDSHAKES)

    def test_behind_the_proxy_protocol_the_stations_address_is_counted_before_anything_is_read(self) -> None:
        self.build(proxies=ProxyRules((parse_network("10.0.0.0/8"),)), turnstile=TurnstileRules(max_half_open=1))
        first, second, other = (self.entrance.visit("10.0.0.1", "TLS port 8443") for _ in range(3))
        self.assertIsNone(first.came_from(Origin("198.51.100.7")))
        self.assertIs(second.came_from(Origin("198.51.100.7")), Reason.TOO_MANY_HALF_OPEN_FROM_ADDRESS)
        self.assertIsNone(other.came_from(Origin("198.51.100.8")))
        first.left()
        self.assertIsNone(self.entrance.visit("10.0.0.1", "TLS port 8443").came_from(Origin("198.51.100.7")))

    def test_a_station_that_replaces_its_own_dead_connection_needs_no_new_place(self) -> None:
        self.build(max_connections=1)
        self.links.register(_Open("CP-001"))  # type: ignore[arg-type]
        self.welcome()
        self.store.identities["CP-002"] = _identity("CP-002")
        self.assertIs(self.refusal(_basic(user="CP-002"), "/ocpp/CP-002").reason, Reason.TOO_MANY_CONNECTIONS)

    def test_an_address_that_is_refused_too_often_is_turned_away_without_a_look(self) -> None:
        self.build(turnstile=TurnstileRules(refusals_per_minute=5))
        for _ in range(5):
            self.refusal(_basic("wrong"))
        asked = self.store.asked
        refused = self.refusal()
        self.assertEqual((refused.reason, refused.status), (Reason.TOO_MANY_REFUSALS, 429))
        self.assertEqual(self.store.asked, asked)
        self.welcome(address="192.0.2.2")
        self.clock.advance(13)
        self.welcome()

    def test_a_denial_comes_in_step_whatever_it_took(self) -> None:
        self.build(denial_quantum=0.1)
        self.threads.waits = True
        self.store.identities["CP-001"] = _identity(algorithm="scrypt")
        hashed, unknown = self.knock(_basic("wrong")), self.knock(_basic("wrong"), "/ocpp/CP-404")
        self.clock.advance(0.03)
        self.threads.finish()
        for denied in (hashed, unknown):
            self.assertNoResult(denied)
        self.clock.advance(0.069)
        for denied in (hashed, unknown):
            self.assertNoResult(denied)
        self.clock.advance(0.002)
        for denied in (hashed, unknown):
            self.assertEqual(self.successResultOf(denied).status, 401)

    # --- verified secrets

    def test_a_reconnecting_station_is_not_hashed_again_for_a_while(self) -> None:
        self.store.identities["CP-001"] = _identity(algorithm="scrypt")
        for _ in range(3):
            self.welcome()
        self.assertEqual(self.threads.used, 1)
        self.clock.advance(301)
        self.welcome()
        self.assertEqual(self.threads.used, 2)

    def test_a_changed_secret_is_noticed_at_once(self) -> None:
        self.store.identities["CP-001"] = _identity(algorithm="scrypt")
        self.welcome()
        self.store.identities["CP-001"]["auth"]["secretHash"] = "ab" * 32
        self.assertIs(self.refusal().reason, Reason.CREDENTIALS_WRONG)

    # --- what is kept for explain

    def test_every_decision_is_kept_as_an_attempt(self) -> None:
        self.welcome(None, "/ocpp/CP-001?token=hunter2", "ocpp1.6")
        self.refusal(_basic("wrong"))
        self.refusal(path="/.env")
        good, wrong, probe = self.attempts()
        self.assertEqual((good.outcome, good.status, good.charge_point_id), (ADMITTED, 101, "CP-001"))
        self.assertEqual((good.url, good.subprotocols, good.method), ("/ocpp/CP-001?…", ("ocpp1.6",), "basic"))
        self.assertEqual((wrong.outcome, wrong.status, wrong.address), ("CredentialsWrong", 401, ADDRESS))
        self.assertEqual((probe.outcome, probe.charge_point_id, probe.url), ("SuspiciousPath", "", "/.env"))

    def test_an_attempt_without_a_usable_subprotocol_is_still_the_stations(self) -> None:
        self.refusal(None, "/ocpp/CP-001", "ocpp9")
        self.refusal(None, "/ocpp/CP%00", "ocpp9")
        self.assertEqual([attempt.charge_point_id for attempt in self.attempts()], ["CP-001", ""])

    def test_the_binding_that_failed_is_kept(self) -> None:
        self.store.identities["CP-001"] = _mtls()
        self.refusal({}, tls=_tls(fingerprint="CD" * 32))
        (attempt,) = self.attempts()
        assert attempt.certificate is not None
        self.assertEqual(attempt.certificate.fingerprint, "CD" * 32)
        self.assertIn("match none of the 1 bindings", attempt.certificate.binding)

    def test_a_failed_tls_handshake_is_an_attempt_too(self) -> None:
        visit = self.entrance.visit(ADDRESS, "TLS port 8443")
        failure = TlsFailure("TlsCertificateUnknownCa", "self-signed", "sent: unknown_ca", certificate=_certificate())
        visit.gone(failure)
        visit.gone(failure)  # told twice, kept once
        (attempt,) = self.attempts()
        self.assertEqual((attempt.outcome, attempt.status), ("TlsCertificateUnknownCa", 0))
        self.assertEqual((attempt.alert, attempt.listener), ("sent: unknown_ca", "TLS port 8443"))
        self.assertIn("TlsCertificateUnknownCa", self.warnings()[0])

    def test_a_probe_that_says_nothing_is_no_attempt(self) -> None:
        visit = self.entrance.visit(ADDRESS, "plain port 8080")
        visit.gone(None)
        visit.left()
        self.assertEqual(self.attempts(), [])


FINGERPRINT = "AB" * 32


def _mtls(**auth: Any) -> dict[str, Any]:
    identity = _identity()
    identity["auth"] |= {"type": "mtls", "certificates": [{"fingerprint": FINGERPRINT}], **auth}
    return identity


def _certificate(fingerprint: str = FINGERPRINT) -> ClientCertificate:
    subject, year = "CN=CP-001,O=Operator", 365 * 86_400.0
    return ClientCertificate(
        fingerprint, subject, "CP-001", ("Operator",), (), "1", "CN=CA", NOW - year, NOW + year, (("CN=CA", "1"),)
    )


def _tls(fingerprint: str = FINGERPRINT, **facts: Any) -> TlsFacts:
    facts = {"certificate": _certificate(fingerprint), "asked": True, **facts}
    return TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", **facts)


class _Open:
    """A live connection, as far as the registry looks at it."""

    def __init__(self, charge_point_id: str) -> None:
        self.station = _Named(charge_point_id)


class _Named:
    def __init__(self, charge_point_id: str) -> None:
        self.charge_point_id = charge_point_id

"""The way in: who is let in, who is refused with which status, and that nothing leaks on the way."""

import base64
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.addresses import parse_network
from ocppgw.access.admission import AdmissionRules, HandshakeFacts
from ocppgw.access.authenticate import Denied, hash_secret
from ocppgw.access.refusals import Reason, Refused
from ocppgw.errors import StoreError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.state import StationState
from ocppgw.ports import Claim
from ocppgw.routing.entrance import MAX_HASHING, Entrance, EntranceRules, Welcome
from ocppgw.routing.links import Links
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
        self.fault: Exception | None = None
        self.fails_at = "identity"
        self.claimed: list[str] = []

    def _reply(self, method: str, result: Any) -> Deferred[Any]:
        return fail(self.fault) if self.fault is not None and self.fails_at == method else succeed(result)

    def identity(self, charge_point_id: str) -> Deferred[Any]:
        return self._reply("identity", self.identities.get(charge_point_id))

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
        self.metrics = Metrics({"1.6J": ()}, "test")
        store: Any = self.store
        self.entrance = Entrance(
            EntranceRules(admission, **rules),
            store,
            self.links,
            self.metrics,
            self.clock,
            self.threads.run,
            lambda: self.closed_for,
        )

    def knock(
        self, headers: dict[str, str] | None = None, path: str = "/ocpp/CP-001", *offers: str, address: str = ADDRESS
    ) -> "Deferred[Welcome | Refused]":
        facts = HandshakeFacts(path, offers or ("ocpp1.6",), address)
        return self.entrance.decide(facts, _basic() if headers is None else headers)

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
            self.assertEqual((unknown.reason, unknown.headers), (known.reason, known.headers), headers)
            self.assertEqual(unknown.status, 401)
        self.assertEqual(self.store.claimed, [])

    def test_a_password_for_another_user_is_refused(self) -> None:
        self.assertEqual(self.refusal(_basic(user="CP-002")).reason, Reason.CREDENTIALS_WRONG)

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
        for method in ("identity", "claim", "load_station"):
            self.store.fails_at = method
            refused = self.refusal()
            self.assertEqual((refused.reason, refused.status), (Reason.STORE_UNAVAILABLE, 503))

    def test_a_failing_store_is_logged_once_in_the_cooldown_not_once_a_handshake(self) -> None:
        self.store.fault = StoreError("the disk is full")
        for _ in range(5):
            self.refusal()
        (warning,) = self.warnings()
        self.assertIn("the disk is full", warning)

    def test_a_damaged_identity_is_a_503_and_says_what_is_wrong(self) -> None:
        self.store.identities["CP-001"] = _identity(stationId="")
        self.assertEqual(self.refusal().status, 503)
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
        most = MAX_HASHING * 16
        waiting = [self.knock(_basic("wrong")) for _ in range(most)]
        self.assertEqual(self.refusal().reason, Reason.TOO_MANY_CONNECTIONS)
        self.assertEqual(self.threads.used, most)
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
        self.entrance.refuse(Reason.MALFORMED_REQUEST, ADDRESS)
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


class _Open:
    """A live connection, as far as the registry looks at it."""

    def __init__(self, charge_point_id: str) -> None:
        self.station = _Named(charge_point_id)


class _Named:
    def __init__(self, charge_point_id: str) -> None:
        self.charge_point_id = charge_point_id

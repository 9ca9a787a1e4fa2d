"""A house with a door: strangers' bytes through the real edge (`ChargerProtocol`) and the real entrance.

The store and the transport are made up. Every connection is checked for all that `House.come` promises.
"""

import base64
from collections.abc import Callable
from typing import Any

import txaio
from hypothesis import HealthCheck, settings
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.admission import AdmissionRules
from ocppgw.access.attempts import ADMITTED, Attempt
from ocppgw.access.authenticate import hash_secret
from ocppgw.access.certify import CertificateRules
from ocppgw.access.refusals import BY_CODE, Reason, Refused
from ocppgw.access.transport import TlsFacts, TlsFailure
from ocppgw.access.turnstile import TurnstileRules
from ocppgw.access.verified import KEY_BYTES, VerifiedSecrets
from ocppgw.net.opening import answer
from ocppgw.net.websocket import ChargerFactory, WebSocketRules
from ocppgw.routing.attempt_log import AttemptLog
from ocppgw.routing.entrance import Entrance, EntranceRules, Renewals, Welcome
from ocppgw.routing.handshake_log import HandshakeLog
from ocppgw.routing.links import Links
from ocppgw.routing.ownership import LocalOwnership
from ocppgw.routing.proving import ProofRules, Prover
from tests.build_edge import METRICS, NOW, FakeLink, Wire, request
from tests.test_entrance import FakeStore, Threads

ANSWERS = {answer(Refused(reason)) for reason in Reason if reason.status}
PASSWORD, TOKEN, SALT = "correct horse: battery", "a-token-of-some-length", "0123456789abcdef"
ADDRESS = "192.0.2.1"
FINGERPRINT = "AB" * 32
YEAR = 365 * 86_400.0

often = settings(
    max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def digest(secret: str) -> str:
    return hash_secret(secret.encode(), SALT.encode(), "sha256").hex()


def identity(name: str, **auth: Any) -> dict[str, Any]:
    return {
        "chargePointId": name,
        "stationId": "station-1",
        "tenantId": "tenant-1",
        "auth": {"secretSalt": SALT, **auth},
    }


def basic(user: str, password: str = PASSWORD) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


IDENTITIES = [
    identity("CP-001", type="basic", secretHash=digest(PASSWORD)),
    identity("CP-2", type="token", tokenHash=digest(TOKEN)),
    identity("CP:3", type="basic", username="user-3", secretHash=digest(PASSWORD)),
    identity("CP-4", type="mtls", certificates=[{"fingerprint": FINGERPRINT}]),
]
GOOD = request("/ocpp/CP-001", basic("CP-001"))


class SecureWire(Wire):
    """A TLS connection with these facts."""

    def __init__(self, facts: TlsFacts, **options: Any) -> None:
        super().__init__(**options)
        self.tls_facts = lambda: facts

    def tls_failure(self) -> TlsFailure | None:
        return None

    def tls_slim(self) -> None:
        pass


class Store(FakeStore):
    """Answers at once, or `later`: when that has been called."""

    def __init__(self) -> None:
        super().__init__()
        self.later: Callable[[Callable[[], Any]], Any] | None = None

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> Deferred[Any]:
        known = super().look_up(charge_point_id, fingerprint)
        if self.later is None:
            return known
        waiting: Deferred[Any] = Deferred()
        self.later(lambda: known.addBoth(waiting.callback))
        return waiting


class House:
    """The edge, the entrance and what is behind it. There is one place for each address, and one in all: whoever is not
    let go of keeps the next one out."""

    def __init__(self, *identities: Any, is_slow: bool = False, **rules: Any) -> None:
        txaio.config.loop = self.clock = Clock()  # Autobahn's timers follow this
        self.clock.advance(NOW)
        self.store: Any = Store()
        self.store.identities = {one["chargePointId"]: one for one in identities or IDENTITIES}
        if is_slow:
            self.store.later = lambda answer: self.clock.callLater(1.0, answer)
        self._attempts = AttemptLog(self.store, METRICS, self.clock)
        proofs = ProofRules(certificates=CertificateRules(organizations=rules.pop("organizations", ())))
        self.entrance = Entrance(
            EntranceRules(AdmissionRules(), 1, turnstile=TurnstileRules(1, 1, 0, 0), **rules),
            self.store,
            LocalOwnership(self.store),
            Links(),
            Prover(proofs, Threads().run, VerifiedSecrets(bytes(KEY_BYTES), 300.0), self.clock.seconds),
            HandshakeLog(METRICS, self._attempts, self.clock, 0.0),
            METRICS,
            self.clock,
            lambda: None,
            Renewals(lambda *_: None, lambda *_: None),
        )
        self.factory = ChargerFactory(WebSocketRules(max_half_open=1), self.entrance, self._open, self.clock)
        self._welcome: Welcome | None = None

    def _open(self, welcome: Welcome, socket: Any) -> Any:
        self._welcome = welcome
        return FakeLink(welcome, socket)

    def come(
        self, *pieces: bytes, tls: TlsFacts | None = None, address: str = ADDRESS
    ) -> tuple[Attempt, Welcome | None]:
        """One connection from its beginning to its end: the one attempt that is kept of it, and who was let in.

        What was sent is the 101 or the constant answer of the attempt's reason; a 5xx means that the store failed.
        """
        assert self.entrance.turned_away(address, "plain port 8080") is None, "the one before is still counted"
        peer = IPv4Address("TCP", address, 50_000)
        wire = Wire(peerAddress=peer) if tls is None else SecureWire(tls, peerAddress=peer)
        self._welcome = None
        protocol: Any = self.factory.buildProtocol(None)
        protocol.makeConnection(wire)
        for piece in pieces:
            if piece and not wire.end:
                protocol.dataReceived(piece)
        self.clock.advance(self.factory.rules.handshake_timeout + 1)
        protocol.connectionLost(Failure(ConnectionDone()))
        self._attempts.flush()
        (attempt,) = self.store.attempts
        self.store.attempts.clear()
        self._check(wire.value(), attempt)
        return attempt, self._welcome

    def _check(self, sent: bytes, attempt: Attempt) -> None:
        if attempt.outcome == ADMITTED:
            assert sent.startswith(b"HTTP/1.1 101 "), sent
            assert self._welcome is not None
            assert self._welcome.station.charge_point_id == attempt.charge_point_id
        else:
            assert sent == (answer(Refused(BY_CODE[attempt.outcome])) if attempt.status else b"")
            assert self._welcome is None
        assert attempt.status < 500 or self.store.fault is not None, attempt


class AccessFuzz(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(setattr, txaio.config, "loop", txaio.config.loop)

    def is_well(self, house: House) -> None:
        """Nothing was logged as a fault, and everybody was let go of: the next one is let in."""
        self.assertEqual(self.flushLoggedErrors(), [])
        house.store.identities["CP-001"], house.store.fault = IDENTITIES[0], None
        house.store.revoked, house.store.profiles = {}, {}
        for address in (ADDRESS, "192.0.2.2"):
            attempt, _ = house.come(GOOD, address=address)
            self.assertEqual(attempt.outcome, ADMITTED)
        self.assertEqual(house.factory.half_open, 0)

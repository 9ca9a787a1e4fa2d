"""SignCertificate from both ends: the session that promises, and the local CA that keeps the promise."""

from collections.abc import Collection
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.internet.defer import fail, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.certificates import ClientCertificate, read_certificate
from ocppgw.access.proof import Proof
from ocppgw.errors import StoreError
from ocppgw.ocpp.answers import AnswerRules
from ocppgw.ocpp.effects import Send, SignRequest
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS, OcppVersion
from ocppgw.pki import PkiError, Signer, make_issuing, make_root
from ocppgw.pki.pem import key_pem
from ocppgw.routing.signing import PROMISE_SECONDS, REST_SECONDS, Signing
from tests.build_session import Station, build_session
from tests.test_commands import ACCEPTED, NOW, REJECTED, FakeLink
from tests.test_credentials import CredentialsCase, identity_of


class CertificateRequests(SynchronousTestCase):
    """The session's part: what is answered, and when the signature is asked for."""

    def local(self, version: Any = V201, fault: str = "", **how: Any) -> Station:
        """A gateway with a CA of its own, which finds this fault with every request."""
        self.judged: list[tuple[str, Any]] = []

        def judge(charge_point_id: str, payload: Any) -> str:
            self.judged.append((charge_point_id, payload))
            return fault

        return build_session(version, rules=SessionRules(signing_judge=judge, assume_accepted=True), **how)

    def test_the_backend_is_handed_them_by_the_event(self) -> None:
        rules = SessionRules(answers=AnswerRules(sign_certificate="Accepted"))
        for version in VERSIONS:
            station = build_session(version, rules=rules)
            self.assertEqual(station.call("a", "SignCertificate", {"csr": "x"}), [[3, "a", {"status": "Accepted"}]])
            self.assertEqual(station.last_event()["payload"]["payload"], {"csr": "x"})
            self.assertEqual(station.of_type(SignRequest), [])

    def test_the_local_ca_signs_once_the_answer_is_out(self) -> None:
        asked: list[tuple[Any, dict[str, Any], SignRequest]] = [
            (V16, {"csr": "x"}, SignRequest("x")),
            (V201, {"csr": "x"}, SignRequest("x")),
            (
                V201,
                {"csr": "x", "certificateType": "ChargingStationCertificate"},
                SignRequest("x", "ChargingStationCertificate"),
            ),
            (V21, {"csr": "x", "requestId": 7}, SignRequest("x", None, 7)),
        ]
        for version, payload, wanted in asked:
            station = self.local(version, journal_waits=True)
            self.assertEqual(station.call("a", "SignCertificate", payload), [])
            self.assertEqual(station.of_type(SignRequest), [])
            self.assertEqual(station.commit(), [[3, "a", {"status": "Accepted"}]])
            self.assertEqual([type(effect) for effect in station.effects[-2:]], [Send, SignRequest])
            self.assertEqual(station.effects[-1], wanted)
            self.assertEqual(self.judged, [("CP-001", payload)])
            self.assertEqual(station.last_event()["payload"]["status"], "Accepted")

    def test_what_it_will_not_sign_is_rejected_and_the_event_says_why(self) -> None:
        for version in VERSIONS:
            station = self.local(version, fault="its CN is someone else's")
            self.assertEqual(station.call("a", "SignCertificate", {"csr": "x"}), [[3, "a", {"status": "Rejected"}]])
            self.assertEqual(station.of_type(SignRequest), [])
            payload = station.last_event()["payload"]
            self.assertEqual((payload["status"], payload["fault"]), ("Rejected", "its CN is someone else's"))

    def test_without_a_record_nothing_is_signed(self) -> None:
        station = self.local(journal_waits=True)
        station.call("a", "SignCertificate", {"csr": "x"})
        self.assertEqual(station.refuse()[0][:3], [4, "a", "InternalError"])
        station.journal_waits = False
        station.call("b", "Heartbeat", {})
        self.assertEqual(station.of_type(SignRequest), [])

    def test_calls_behind_it_wait_their_turn(self) -> None:
        station = self.local(journal_waits=True)
        station.call("a", "SignCertificate", {"csr": "x"})
        station.call("b", "Heartbeat", {})
        self.assertEqual([frame[1] for frame in station.commit(1) + station.commit()], ["a", "b"])
        self.assertEqual(len(station.of_type(SignRequest)), 1)

    def test_a_station_that_went_without_its_answer_is_served_anew(self) -> None:
        station = self.local(journal_waits=True)
        station.call("a", "SignCertificate", {"csr": "x"})
        station.lose()
        station.commit()
        self.assertEqual(station.of_type(SignRequest), [])
        station.connect()
        station.journal_waits = False
        self.assertEqual(station.call("a", "SignCertificate", {"csr": "x"}), [[3, "a", {"status": "Accepted"}]])
        self.assertEqual(len(station.of_type(SignRequest)), 1)

    def test_after_a_crash_it_is_signed_all_the_same(self) -> None:
        """The record was on disk, the promise only in memory."""
        station = self.local()
        station.call("a", "SignCertificate", {"csr": "x"})
        station.restart()
        self.assertEqual(station.call("a", "SignCertificate", {"csr": "x"}), [[3, "a", {"status": "Accepted"}]])
        self.assertEqual(len(station.of_type(SignRequest)), 2)

    def test_after_a_crash_the_backend_is_not_told_twice(self) -> None:
        rules = SessionRules(answers=AnswerRules(sign_certificate="Accepted"), assume_accepted=True)
        station = build_session(V201, rules=rules)
        station.call("a", "SignCertificate", {"csr": "x"})
        station.restart()
        self.assertEqual(station.call("a", "SignCertificate", {"csr": "x"}), [[3, "a", {"status": "Accepted"}]])
        self.assertEqual(station.event_types(), ["SignCertificate"])


ROOT = make_root("Operator", NOW, is_rsa=False)
CA = make_issuing(ROOT, "Operator", NOW, is_rsa=False)


def csr(name: str = "CP-1") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


class WatchedSigner(Signer):
    """The real one; the test sees how often it signs, and can break it."""

    def __init__(self) -> None:
        super().__init__(CA.chain_pem, key_pem(CA.key), valid_days=30)
        self.signed = 0
        self.fault: Exception | None = None
        self.names: list[Collection[str]] = []

    def check(self, csr_pem: str, allowed_names: Collection[str]) -> str:
        self.names.append(allowed_names)
        return super().check(csr_pem, allowed_names)

    def sign(self, csr_pem: str, now: float) -> Any:
        if self.fault is not None:
            raise self.fault
        self.signed += 1
        return super().sign(csr_pem, now)


class LocalCa(CredentialsCase):
    def setUp(self) -> None:
        super().setUp()
        self.signer = WatchedSigner()
        self.signing = self.new_signing()

    def new_signing(self, most: int = 100) -> Signing:
        return Signing(
            self.signer,
            self.commands,
            self.links,
            self.store,  # type: ignore[arg-type]
            self.metrics,
            self.clock,
            self.in_thread_or_fail,
            most,
        )

    def in_thread_or_fail(self, function: Any) -> Any:
        """Like a thread, it hands exceptions back."""
        if self.thread_waits:
            return self.in_thread(function)
        return maybeDeferred(function)

    def station(self, version: OcppVersion = V201, name: str = "CP-1", boot: bytes = b"") -> FakeLink:
        link: Any = self.connect(version, name)
        link.session = SessionOf(boot)
        return link  # type: ignore[no-any-return]

    def ask(self, link: Any, request: str, **members: Any) -> str:
        """The station asks; once it is answered Accepted ("" is returned), the signature is asked for."""
        payload = {"csr": request, **members}
        fault = self.signing.judge(link.station.charge_point_id, payload)
        if not fault:
            wanted = SignRequest(request, members.get("certificateType"), members.get("requestId"))
            self.signing.request(link, wanted)
        return fault

    def end_calls(self, link: FakeLink, result: Any = ACCEPTED) -> None:
        """The station answers CertificateSigned."""
        self.dispatch(link)
        self.commands.finished(link.calls[-1].command_id, result)

    # --- case 31

    def test_accepted_and_the_certificate_follows(self) -> None:
        link = self.station()
        self.assertEqual(self.ask(link, csr()), "")
        [call] = link.calls
        self.assertEqual((call.action, sorted(call.payload)), ("CertificateSigned", ["certificateChain"]))
        leaf, issuing = x509.load_pem_x509_certificates(call.payload["certificateChain"].encode())
        self.assertEqual((leaf.issuer, issuing.subject), (CA.certificate.subject, CA.certificate.subject))
        self.assertEqual(read_certificate(leaf.public_bytes(Encoding.DER)).common_name, "CP-1")

    def test_it_is_good_before_it_is_sent(self) -> None:
        link = self.station()
        self.ask(link, csr())
        leaf = x509.load_pem_x509_certificates(link.calls[0].payload["certificateChain"].encode())[0]
        [pending] = self.store.identities["CP-1"]["auth"]["pendingCertificates"]
        self.assertEqual(pending["fingerprint"], leaf.fingerprint(SHA256()).hex().upper())

    def test_type_and_request_id_go_back_to_the_station(self) -> None:
        kind = {"certificateType": "ChargingStationCertificate"}
        asked: list[tuple[OcppVersion, dict[str, Any]]] = [
            (V16, {}),
            (V201, kind),
            (V21, {"requestId": 7}),
            (V21, {**kind, "requestId": 0}),
        ]
        for version, members in asked:
            link = self.station(version)
            self.ask(link, csr(), **members)
            sent = {name: value for name, value in link.calls[0].payload.items() if name != "certificateChain"}
            self.assertEqual(sent, members)
            self.end_calls(link)

    def test_other_certificates_are_not_this_cas(self) -> None:
        link = self.station(V21)
        for kind in ("V2GCertificate", "V2G20Certificate"):
            self.assertIn(kind, self.ask(link, csr(), certificateType=kind))
        self.assertEqual((link.calls, self.signer.signed), ([], 0))

    def test_what_the_ca_finds_wrong_is_said(self) -> None:
        link = self.station()
        for request in ("", "rubbish", csr("CP-2")):
            self.assertNotEqual(self.ask(link, request), "")
        self.assertEqual((link.calls, self.signer.signed), ([], 0))
        self.assertIn(b'ocppgw_notes_total{kind="certificate-request-refused"} 3', self.metrics.exposition())

    # --- names

    def test_the_names_of_a_station(self) -> None:
        """Its id, its serial number, the name in the certificate it uses now."""
        link: Any = self.station(boot=b'{"chargingStation":{"serialNumber":"SN-1","model":"m","vendorName":"v"}}')
        link.proof = Proof("mtls", certificate_named("CN-1"))
        for name in ("CP-1", "SN-1", "CN-1"):
            self.assertEqual(self.ask(link, csr(name)), "")
            self.end_calls(link)
        self.assertNotEqual(self.ask(link, csr("SN-2")), "")
        self.assertEqual(self.signer.signed, 3)

    def test_both_serial_numbers_of_1_6(self) -> None:
        boot = b'{"chargePointVendor":"v","chargePointSerialNumber":"SN-1","chargeBoxSerialNumber":"SN-2"}'
        link = self.station(V16, boot=boot)
        for name in ("SN-1", "SN-2"):
            self.assertEqual(self.ask(link, csr(name)), "")
            self.end_calls(link)

    def test_a_certificate_that_proved_nothing_gives_no_name(self) -> None:
        link: Any = self.station()
        link.proof = Proof("basic", certificate_named("CN-1"))
        self.assertNotEqual(self.ask(link, csr("CN-1")), "")

    def test_a_station_that_calls_itself_by_another_ones_id_gets_nothing(self) -> None:
        self.store.identities["CP-2"] = {**identity_of(), "chargePointId": "CP-2"}
        link = self.station(boot=b'{"chargingStation":{"serialNumber":"CP-2"}}')
        self.ask(link, csr("CP-2"))
        self.assertEqual((link.calls, self.signer.signed), ([], 0))
        self.assertEqual(self.ask(link, csr("CP-1")), "")
        self.assertEqual(self.signer.signed, 1)

    # --- bounds

    def test_one_request_of_a_station_at_a_time(self) -> None:
        self.thread_waits = True
        link = self.station()
        self.assertEqual(self.ask(link, csr()), "")
        self.assertIn("under way", self.ask(link, csr()))
        self.run_thread()
        self.assertIn("under way", self.ask(link, csr()), "until its CertificateSigned has ended")
        self.end_calls(link)
        self.assertEqual(self.ask(link, csr()), "")
        self.run_thread()
        self.assertEqual(self.signer.signed, 2)

    def test_the_same_request_again_is_signed_once(self) -> None:
        self.thread_waits = True
        link = self.station()
        request = csr()
        self.assertEqual([self.ask(link, request), self.ask(link, request)], ["", ""])
        self.run_thread()
        self.assertEqual((self.signer.signed, len(link.calls)), (1, 1))

    def test_many_stations_at_once_are_too_many(self) -> None:
        self.thread_waits = True
        self.signing = self.new_signing(most=2)
        links = [self.station(name=f"CP-{number}") for number in range(3)]
        asked = [self.ask(link, csr(link.station.charge_point_id)) for link in links]
        self.assertEqual(asked[:2], ["", ""])
        self.assertIn("too many", asked[2])
        self.run_thread()
        self.end_calls(links[0])
        self.assertEqual(self.ask(links[2], csr("CP-2")), "")

    def test_a_promise_nobody_comes_back_to_is_forgotten(self) -> None:
        """The event could not be stored, so the answer never went out."""
        self.signing = self.new_signing(most=1)
        first, second = self.station(), self.station(name="CP-2")
        self.assertEqual(self.signing.judge("CP-1", {"csr": csr()}), "")
        self.assertIn("too many", self.ask(second, csr("CP-2")))
        self.clock.advance(PROMISE_SECONDS)
        self.assertEqual(self.ask(second, csr("CP-2")), "")
        self.end_calls(second)
        self.assertEqual(self.ask(first, csr()), "")

    # --- faults

    def test_a_ca_that_can_not_sign_is_not_promised_again_for_a_while(self) -> None:
        link = self.station()
        self.signer.fault = PkiError("the CA ran out")
        self.assertEqual(self.ask(link, csr()), "")
        self.assertEqual(link.calls, [])
        self.assertIn("the CA ran out", self.ask(link, csr()))
        self.signer.fault = None
        self.clock.advance(REST_SECONDS)
        self.assertEqual(self.ask(link, csr()), "")
        self.assertEqual(len(link.calls), 1)

    def test_a_fault_of_ours_is_logged_and_ends_the_promise(self) -> None:
        link = self.station()
        self.signer.fault = ValueError("a fault of ours")
        self.ask(link, csr())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.signer.fault = None
        self.assertEqual(self.ask(link, csr()), "")
        self.assertEqual(len(link.calls), 1)

    def test_a_store_that_does_not_answer_ends_the_promise(self) -> None:
        link = self.station(boot=b'{"chargingStation":{"serialNumber":"SN-1"}}')
        self.store.look_up = lambda *_: fail(StoreError("the disk is full"))  # type: ignore[method-assign]
        self.ask(link, csr())
        self.assertEqual((link.calls, self.signer.signed), ([], 0))
        self.assertIn(b'ocppgw_notes_total{kind="certificate-not-signed"} 1', self.metrics.exposition())
        self.assertEqual(self.signing.judge("CP-1", {"csr": csr()}), "")

    def test_a_station_that_went_is_sent_nothing_and_may_ask_again(self) -> None:
        self.thread_waits = True
        link = self.station()
        self.ask(link, csr())
        self.lost(link)
        self.run_thread()
        self.assertEqual(link.calls, [])
        self.assertNotEqual(self.signing.judge("CP-1", {"csr": csr()}), "")
        again = self.station()
        self.assertEqual(self.ask(again, csr()), "")

    def test_rejected_by_the_station_it_is_not_sent_again(self) -> None:
        """Protocol facts, case 32."""
        link = self.station()
        self.ask(link, csr())
        self.end_calls(link, REJECTED)
        self.assertEqual(len(link.calls), 1)
        self.assertNotIn("pendingCertificates", self.store.identities["CP-1"]["auth"])


class SessionOf:
    """What the CA is told of a session: the last BootNotification."""

    def __init__(self, boot: bytes) -> None:
        self.state = StationState(boot=boot)


def certificate_named(common_name: str) -> ClientCertificate:
    return ClientCertificate("A" * 64, f"CN={common_name}", common_name, (), (), "1", "CN=CA", 0.0, 0.0)

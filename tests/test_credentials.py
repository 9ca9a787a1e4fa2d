"""Passwords and certificates that commands give to stations: what lets the station in, before, during and after."""

import base64
import json
from collections.abc import Callable
from copy import deepcopy
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import globalLogPublisher

from ocppgw.access.authenticate import Authenticated, Check, Hashing, hash_secret, prepare
from ocppgw.access.certificates import ClientCertificate, read_certificate
from ocppgw.access.certify import CertificateRules, certify
from ocppgw.access.identity import parse_identity
from ocppgw.access.identity_edits import set_next
from ocppgw.access.proof import Proof
from ocppgw.errors import StoreError
from ocppgw.ocpp.calls import CONNECTION_LOST, NOT_SENT, QUEUE_FULL, TIMED_OUT
from ocppgw.ocpp.effects import CommandResult
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.versions import V16, V21, V201, OcppVersion
from ocppgw.pki import make_root, make_station
from ocppgw.ports import Edit, Known
from ocppgw.routing.credentials import MAX_PENDING_CERTIFICATES, Credentials
from tests.test_commands import ACCEPTED, NOW, REJECTED, CommandsCase, FakeLink, FakeStore

OLD, NEW, NEWER = b"the-old-password", b"the-new-password", b"the-newest-password"
TOKEN = b"a-token-of-the-station"
SALT = "salt-of-the-identity"
REBOOT = CommandResult(Outcome.SCHEDULED, "RebootRequired", {"status": "RebootRequired"})
CALLERROR = CommandResult(Outcome.FAILED, error_code="GenericError", error_description="no")


def identity_of(**auth: Any) -> dict[str, Any]:
    secret = {"type": "basic", "secretSalt": SALT, "secretHash": hash_secret(OLD, SALT.encode(), "sha256").hex()}
    return {"chargePointId": "CP-1", "stationId": "station-1", "tenantId": "tenant-1", "auth": {**secret, **auth}}


class IdentityStore(FakeStore):
    """With identities. `refusing`: changes of identities fail; `held`, when it is a list: they wait in it."""

    def __init__(self, journal: list[Any]) -> None:
        super().__init__(journal)
        self.identities: dict[str, dict[str, Any]] = {"CP-1": identity_of()}
        self.refusing = False
        self.held: list[Callable[[], None]] | None = None

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> "Deferred[Known]":
        return succeed(Known(self.identities.get(charge_point_id)))

    def edit_identity(self, charge_point_id: str, edit: Callable[[Any], Edit | None]) -> "Deferred[Any]":
        if self.refusing:
            return fail(StoreError("the disk is full"))
        changed = edit(deepcopy(self.identities.get(charge_point_id)))
        if changed is not None:
            assert changed.identity is not None
            assert changed.event is not None
            parse_identity(changed.identity)
            self.identities[charge_point_id] = deepcopy(dict(changed.identity))
            self.journal.append(changed.event)
        stored: Deferred[Any] = Deferred()
        if self.held is None:
            stored.callback(self.identities.get(charge_point_id))
        else:
            self.held.append(lambda: stored.callback(None))
        return stored


class CredentialsCase(CommandsCase):
    store: IdentityStore
    credentials: Credentials

    def setUp(self) -> None:
        self.threaded: list[Callable[[], Any]] = []
        self.thread_waits = False
        self.hashing = Hashing()
        super().setUp()

    def new_store(self) -> IdentityStore:
        return IdentityStore(self.journal)

    def new_credentials(self) -> Credentials:
        ids = count(1)
        return Credentials(
            self.store,  # type: ignore[arg-type]
            self.links,
            self.clock,
            "node-1",
            lambda: f"unique-{next(ids)}",
            self.in_thread,
            self.hashing,
        )

    def in_thread(self, function: Callable[[], Any]) -> "Deferred[Any]":
        ran: Deferred[Any] = Deferred()
        self.threaded.append(lambda: ran.callback(function()))
        if not self.thread_waits:
            self.run_thread()
        return ran

    def run_thread(self) -> None:
        waiting, self.threaded = self.threaded, []
        for run in waiting:
            run()

    # --- the story

    def change(self, password: bytes = NEW, version: OcppVersion = V16, command_id: str = "c-1") -> FakeLink:
        """A command for the password is submitted; its CALL may be out then."""
        link: Any = self.links.get("CP-1") or self.connect(version)
        payload: dict[str, Any] = {"key": "AuthorizationKey", "value": password.decode()}
        if version is not V16:
            payload["key"] = "SecurityCtrlr.BasicAuthPassword"
        self.submit(commandType="ChangeConfiguration", commandId=command_id, payload=payload)
        return link  # type: ignore[no-any-return]

    def changed(self, result: CommandResult, password: bytes = NEW, command_id: str = "c-1") -> None:
        """The whole of it: CALL sent, command ended."""
        self.dispatch(self.change(password, command_id=command_id))
        self.commands.finished(command_id, result)

    def verdict(self, password: bytes, user: bytes | None = b"CP-1") -> Any:
        """What the entrance makes of this password (user None: token)."""
        identity = parse_identity(self.store.identities["CP-1"])
        sent = "Bearer " + password.decode() if user is None else ""
        basic = "Basic " + base64.b64encode(b"%b:%b" % (user or b"", password)).decode()
        check = prepare(identity, "basic", {"authorization": sent or basic}, self.hashing)
        return check.verify() if isinstance(check, Check) else check

    def lets_in(self, password: bytes) -> bool:
        """Logging in as the station, with what follows from it."""
        verdict = self.verdict(password)
        if isinstance(verdict, Authenticated) and verdict.renewed:
            self.credentials.first_used("CP-1", "secret", verdict.digest)
        return isinstance(verdict, Authenticated)

    def assert_good(self, *passwords: bytes) -> None:
        """Exactly these passwords would let the station in now."""
        good = [one for one in (OLD, NEW, NEWER) if isinstance(self.verdict(one), Authenticated)]
        self.assertEqual(good, list(passwords))

    def audits(self) -> list[str]:
        """What was done to identities."""
        return [json.loads(record.value)["payload"]["change"] for record in self.journal if record.topic == "audit"]

    def events(self, command_id: str = "c-1") -> list[dict[str, Any]]:
        journal, self.journal = self.journal, [record for record in self.journal if record.topic != "audit"]
        try:
            return super().events(command_id)
        finally:
            self.journal = journal


class Passwords(CredentialsCase):
    """Protocol facts, cases 23 to 25."""

    def test_both_are_good_before_the_call_goes_out(self) -> None:
        self.thread_waits = True
        link = self.change()
        self.assertEqual(link.calls, [])
        self.assert_good(OLD)
        self.run_thread()
        self.assertEqual(link.calls[0].payload, {"key": "AuthorizationKey", "value": NEW.decode()})
        self.assert_good(OLD, NEW)

    def test_accepted_the_old_one_is_refused_from_then_on(self) -> None:
        self.changed(ACCEPTED)
        self.assert_good(NEW)
        self.assertEqual(self.end()["eventType"], "CommandAccepted")
        self.assertEqual(self.audits(), ["secret-rotated", "secret-in-use"])

    def test_the_end_is_told_when_the_old_one_is_refused_already(self) -> None:
        self.changed(ACCEPTED)
        kinds = [record.topic for record in self.journal]
        self.assertLess(len(kinds) - 1 - kinds[::-1].index("audit"), len(kinds) - 1)
        self.assertIn(b"CommandAccepted", self.journal[-1].value)

    def test_refused_the_new_one_is_good_for_nothing(self) -> None:
        not_supported = CommandResult(Outcome.NOT_SUPPORTED, "NotSupported", {"status": "NotSupported"})
        for number, result in enumerate((REJECTED, not_supported, CALLERROR)):
            self.changed(result, command_id=f"c-{number}")
            self.assert_good(OLD)
        self.assertEqual(self.audits(), ["secret-rotated", "secret-dropped"] * 3)
        self.assertNotIn("nextSecretHash", self.store.identities["CP-1"]["auth"])

    def test_each_item_of_set_variables_speaks_for_itself(self) -> None:
        for status, good in (("Rejected", [OLD]), ("Accepted", [NEW])):
            link = self.change(version=V201, command_id=f"c-{status}")
            self.dispatch(link)
            items = [
                {"attributeStatus": "Accepted", "component": {"name": "X"}, "variable": {"name": "Y"}},
                {
                    "attributeStatus": status,
                    "component": {"name": "SecurityCtrlr"},
                    "variable": {"name": "BasicAuthPassword"},
                },
            ]
            answer = CommandResult(Outcome.PARTIAL, None, {"setVariableResult": items})
            self.commands.finished(f"c-{status}", answer)
            self.assert_good(*good)

    def test_at_the_next_start_both_are_good_until_the_new_one_is_used(self) -> None:
        self.changed(REBOOT)
        self.assert_good(OLD, NEW)
        self.assertTrue(self.lets_in(OLD))
        self.assert_good(OLD, NEW)
        self.assertTrue(self.lets_in(NEW))
        self.assert_good(NEW)
        self.assertEqual(self.audits(), ["secret-rotated", "secret-in-use"])

    def test_without_an_answer_both_are_good_until_the_new_one_is_used(self) -> None:
        for result in (TIMED_OUT, CONNECTION_LOST):
            self.store.identities["CP-1"] = identity_of()
            self.changed(result, command_id=f"c-{result.error_code}")
            self.assert_good(OLD, NEW)
            self.assertTrue(self.lets_in(NEW))
            self.assertFalse(self.lets_in(OLD))

    def test_after_a_restart_both_are_good_until_the_new_one_is_used(self) -> None:
        self.dispatch(self.change())
        self.commands = self.process()
        self.assertEqual(self.successResultOf(self.sweep()), 1)
        self.assertEqual(self.end()["payload"]["error"]["code"], "GatewayRestarted")
        self.assert_good(OLD, NEW)
        self.assertTrue(self.lets_in(NEW))
        self.assert_good(NEW)

    def test_a_station_that_is_quicker_than_its_answer_has_the_new_one(self) -> None:
        self.dispatch(self.change())
        self.assertTrue(self.lets_in(NEW))
        self.commands.finished("c-1", ACCEPTED)
        self.assert_good(NEW)
        self.assertEqual(self.audits(), ["secret-rotated", "secret-in-use"])

    def test_what_never_went_out_changes_nothing(self) -> None:
        link = self.change()
        self.commands.finished("c-1", QUEUE_FULL)
        self.assert_good(OLD)
        self.change(command_id="c-2")
        self.lost(link, waiting=("c-2",))
        self.clock.advance(16)
        self.assertEqual(self.end("c-2")["payload"]["error"]["description"], NOT_SENT.error_description)
        self.assert_good(OLD)

    def test_what_waits_for_the_next_connection_stays_announced(self) -> None:
        self.lost(self.change(), waiting=("c-1",))
        self.assert_good(OLD, NEW)
        link = self.connect()
        self.dispatch(link)
        self.commands.finished("c-1", ACCEPTED)
        self.assert_good(NEW)

    def test_a_station_that_goes_while_its_password_is_hashed(self) -> None:
        self.thread_waits = True
        link = self.change()
        self.lost(link)
        self.run_thread()
        self.assertEqual(link.calls, [])
        self.clock.pump([1.0] * 16)  # its time is over, and it is not back
        self.assertEqual(self.end()["eventType"], "CommandTimeout")
        self.assert_good(OLD)

    def test_the_octets_of_a_1_6_key_are_the_password(self) -> None:
        octets = bytes(range(240, 256))
        self.changed(ACCEPTED, octets.hex().encode())
        self.assertIsInstance(self.verdict(octets), Authenticated)
        self.assertNotIsInstance(self.verdict(octets.hex().encode()), Authenticated)

    def test_it_is_hashed_as_configured_off_the_reactor(self) -> None:
        self.hashing = Hashing("scrypt", n=16, length=64)
        self.commands = self.process()
        self.changed(ACCEPTED)
        self.assertEqual(self.store.identities["CP-1"]["auth"]["hashAlgorithm"], "scrypt")
        self.assert_good(NEW)

    def test_the_token_of_the_station_stays_good(self) -> None:
        digest = hash_secret(TOKEN, SALT.encode(), "sha256").hex()
        self.store.identities["CP-1"] = identity_of(tokenHash=digest, allowedTypes=["basic", "token"])
        self.changed(ACCEPTED)
        self.assertIsInstance(self.verdict(TOKEN, user=None), Authenticated)
        self.assert_good(NEW)

    def test_the_connection_it_was_changed_on_is_proved_by_the_new_one(self) -> None:
        """Else the old secret's end would cut it."""
        link: Any = self.connect()
        link.proof = Proof("basic", digest=b"of the old one", security_profile=2)
        self.changed(ACCEPTED)
        self.assertEqual(link.proof.digest.hex(), self.store.identities["CP-1"]["auth"]["secretHash"])
        self.assertEqual(link.proof.security_profile, 2)

    def test_a_station_without_identity_is_sent_it_all_the_same(self) -> None:
        del self.store.identities["CP-1"]
        self.changed(ACCEPTED)
        self.assertEqual(self.end()["eventType"], "CommandAccepted")
        self.assertEqual((self.store.identities, self.audits()), ({}, []))

    def test_nothing_that_is_stored_or_logged_tells_it(self) -> None:
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        for number, result in enumerate((ACCEPTED, REJECTED, TIMED_OUT, CALLERROR)):
            self.changed(result, command_id=f"c-{number}")
        self.store.refusing = True
        self.change(NEWER, command_id="c-9")
        self.assertEqual(self.end("c-9")["eventType"], "CommandFailed")
        for secret in (NEW.decode(), NEWER.decode()):
            self.assertNotIn(secret, str(self.journal) + str(self.store.records) + str(self.store.identities))
            self.assertNotIn(secret, str(logged))


class Faults(CredentialsCase):
    def test_what_can_not_be_stored_is_not_sent(self) -> None:
        self.store.refusing = True
        link = self.change()
        self.assertEqual(link.calls, [])
        end = self.end()
        self.assertEqual((end["eventType"], end["payload"]["error"]["code"]), ("CommandFailed", "StoreUnavailable"))
        self.assertIn("the disk is full", end["payload"]["error"]["description"])
        self.store.refusing = False
        self.changed(ACCEPTED, command_id="c-2")
        self.assert_good(NEW)

    def test_a_fault_of_ours_sends_nothing_and_is_logged(self) -> None:
        self.credentials._in_thread = lambda function: fail(ValueError("a fault of ours"))
        link = self.change()
        self.assertEqual((link.calls, self.end()["payload"]["error"]["code"]), ([], "InternalError"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_an_end_that_can_not_be_settled_leaves_both_good(self) -> None:
        for result in (ACCEPTED, REJECTED):
            self.store.identities["CP-1"] = identity_of()
            self.dispatch(self.change(command_id=f"c-{result.status}"))
            self.store.refusing = True
            self.commands.finished(f"c-{result.status}", result)
            self.store.refusing = False
            self.assertEqual(self.end(f"c-{result.status}")["eventType"], f"Command{result.status}")
            self.assert_good(OLD, NEW)

    def test_the_end_waits_for_its_consequence_and_the_first_counts(self) -> None:
        self.dispatch(self.change())
        self.store.held = []
        self.commands.finished("c-1", ACCEPTED)
        self.commands.finished("c-1", CONNECTION_LOST)
        self.assertEqual(self.kinds()[-1], "CommandDispatched")
        self.store.held.pop()()
        self.assertEqual(self.end()["eventType"], "CommandAccepted")

    def test_a_use_that_can_not_be_stored_is_stored_the_next_time(self) -> None:
        self.changed(TIMED_OUT)
        self.store.refusing = True
        self.assertTrue(self.lets_in(NEW))
        self.assert_good(OLD, NEW)
        self.store.refusing = False
        self.assertTrue(self.lets_in(NEW))
        self.assert_good(NEW)


class ManyChanges(CredentialsCase):
    def test_a_second_one_waits_for_the_end_of_the_first(self) -> None:
        link = self.change()
        self.dispatch(link)
        self.change(NEWER, command_id="c-2")
        self.assertEqual(self.end("c-2")["payload"]["error"]["code"], "PasswordChangeUnderWay")
        self.assertEqual(len(link.calls), 1)
        self.commands.finished("c-1", ACCEPTED)
        self.assert_good(NEW)
        self.changed(ACCEPTED, NEWER, "c-3")
        self.assert_good(NEWER)

    def test_stations_do_not_wait_for_each_other(self) -> None:
        self.store.identities["CP-2"] = {**identity_of(), "chargePointId": "CP-2"}
        self.change()
        other = self.connect(charge_point_id="CP-2")
        self.submit(
            commandType="ChangeConfiguration",
            commandId="c-2",
            chargePointId="CP-2",
            payload={"key": "AuthorizationKey", "value": NEWER.decode()},
        )
        self.assertEqual(len(other.calls), 1)

    def test_refused_the_one_before_is_still_in_doubt(self) -> None:
        self.changed(TIMED_OUT)
        self.changed(REJECTED, NEWER, "c-2")
        self.assert_good(OLD, NEW)

    def test_accepted_the_one_before_is_in_doubt_no_more(self) -> None:
        self.changed(TIMED_OUT)
        self.changed(ACCEPTED, NEWER, "c-2")
        self.assert_good(NEWER)

    def rotated_meanwhile(self, result: CommandResult) -> None:
        """An operator sets a next secret while the command is under way."""
        self.dispatch(self.change())
        self.operator_rotates()
        self.commands.finished("c-1", result)

    def operator_rotates(self) -> None:
        digest = hash_secret(NEWER, b"operators-salt", "sha256").hex()
        set_next(self.store.identities["CP-1"], "secret", digest, "operators-salt", "sha256")

    def test_what_an_operator_sets_meanwhile_stays_the_next_one(self) -> None:
        self.rotated_meanwhile(ACCEPTED)
        self.assert_good(NEW, NEWER)

    def test_a_refusal_takes_nothing_of_an_operators(self) -> None:
        self.rotated_meanwhile(REJECTED)
        self.assert_good(OLD, NEWER)

    def test_the_use_of_one_does_not_promote_another(self) -> None:
        self.dispatch(self.change())
        digest = bytes.fromhex(self.store.identities["CP-1"]["auth"]["nextSecretHash"])
        self.operator_rotates()
        self.successResultOf(self.credentials.first_used("CP-1", "secret", digest))
        self.assert_good(OLD, NEWER)

    def test_a_used_token_takes_the_old_ones_place(self) -> None:
        old, new = (hash_secret(one, SALT.encode(), "sha256").hex() for one in (b"old-token", TOKEN))
        self.store.identities["CP-1"] = identity_of(type="token", tokenHash=old, nextTokenHash=new, nextSecretSalt=SALT)
        self.successResultOf(self.credentials.first_used("CP-1", "token"))
        self.assertIsInstance(self.verdict(TOKEN, user=None), Authenticated)
        self.assertNotIsInstance(self.verdict(b"old-token", user=None), Authenticated)

    def test_nothing_to_promote_is_no_fault(self) -> None:
        self.successResultOf(self.credentials.first_used("CP-1", "secret"))
        self.successResultOf(self.credentials.first_used("CP-9", "secret"))
        self.assertEqual(self.audits(), [])


ROOT = make_root("Operator", NOW, is_rsa=False)
FIRST, SECOND = (make_station(ROOT, "CP-1", NOW) for _ in range(2))


def facts_of(credentials: Any) -> ClientCertificate:
    return read_certificate(credentials.certificate.public_bytes(Encoding.DER))


class Certificates(CredentialsCase):
    """Protocol facts, cases 31 and 32."""

    def setUp(self) -> None:
        super().setUp()
        bound = {"fingerprint": facts_of(FIRST).fingerprint}
        self.store.identities["CP-1"]["auth"] = {"type": "mtls", "certificates": [bound]}

    def hand_over(self, version: OcppVersion = V201, command_id: str = "c-1", **members: Any) -> FakeLink:
        link: Any = self.links.get("CP-1") or self.connect(version)
        payload = {"certificateChain": SECOND.chain_pem.decode() + ROOT.chain_pem.decode(), **members}
        self.submit(commandType="CertificateSigned", commandId=command_id, payload=payload)
        return link  # type: ignore[no-any-return]

    def handed_over(self, result: CommandResult, command_id: str = "c-1") -> None:
        self.dispatch(self.hand_over(command_id=command_id))
        self.commands.finished(command_id, result)

    def is_good(self, credentials: Any) -> bool:
        identity = parse_identity(self.store.identities["CP-1"])
        return isinstance(certify(identity, facts_of(credentials), NOW, CertificateRules()), Authenticated)

    def test_both_are_good_before_the_call_goes_out(self) -> None:
        before = deepcopy(self.store.identities["CP-1"])
        for version in (V16, V201, V21):
            self.store.identities["CP-1"] = deepcopy(before)
            self.assertFalse(self.is_good(SECOND))
            link = self.connect(version)
            self.hand_over(command_id=f"c-{version.name}")
            self.assertEqual(len(link.calls), 1)
            self.assertTrue(self.is_good(FIRST))
            self.assertTrue(self.is_good(SECOND))
        self.assertEqual(self.audits(), ["certificate-added"] * 3)

    def test_named_by_its_type_it_is_the_same(self) -> None:
        self.hand_over(certificateType="ChargingStationCertificate")
        self.assertTrue(self.is_good(SECOND))

    def test_on_first_sight_it_is_bound_next_to_the_old_one(self) -> None:
        self.handed_over(ACCEPTED)
        self.successResultOf(self.credentials.certificate_seen("CP-1", facts_of(SECOND).fingerprint))
        auth = self.store.identities["CP-1"]["auth"]
        self.assertEqual(
            [one["fingerprint"] for one in auth["certificates"]],
            [facts_of(FIRST).fingerprint, facts_of(SECOND).fingerprint],
        )
        self.assertNotIn("pendingCertificates", auth)
        self.assertTrue(self.is_good(FIRST))
        self.assertTrue(self.is_good(SECOND))
        self.assertEqual(self.audits(), ["certificate-added", "certificate-seen"])

    def test_it_is_bound_by_its_fingerprint_alone(self) -> None:
        """A third certificate with the same subject is not the station's."""
        self.handed_over(ACCEPTED)
        self.credentials.certificate_seen("CP-1", facts_of(SECOND).fingerprint)
        self.assertFalse(self.is_good(make_station(ROOT, "CP-1", NOW)))

    def test_rejected_only_the_old_one_stays(self) -> None:
        for number, result in enumerate((REJECTED, CALLERROR)):
            self.handed_over(result, f"c-{number}")
            self.assertTrue(self.is_good(FIRST))
            self.assertFalse(self.is_good(SECOND))
        self.assertEqual(len(self.links.get("CP-1").calls), 2)  # type: ignore[union-attr]  and none sent again
        self.assertEqual(self.audits(), ["certificate-added", "certificate-dropped"] * 2)

    def test_without_an_answer_it_stays_pending(self) -> None:
        self.handed_over(TIMED_OUT)
        self.assertTrue(self.is_good(SECOND))

    def test_one_that_never_went_out_is_taken_back(self) -> None:
        for number, result in enumerate((QUEUE_FULL, NOT_SENT)):
            self.hand_over(command_id=f"c-{number}")
            self.commands.finished(f"c-{number}", result)
            self.assertFalse(self.is_good(SECOND))

    def test_a_known_one_is_not_taken_back_when_it_is_refused_later(self) -> None:
        self.handed_over(ACCEPTED)
        self.handed_over(REJECTED, "c-2")
        self.assertTrue(self.is_good(SECOND))
        self.credentials.certificate_seen("CP-1", facts_of(SECOND).fingerprint)
        self.handed_over(REJECTED, "c-3")
        self.assertTrue(self.is_good(SECOND))
        self.assertEqual(self.audits(), ["certificate-added", "certificate-seen"])

    def test_what_can_not_be_stored_is_not_sent(self) -> None:
        self.store.refusing = True
        self.assertEqual(self.hand_over().calls, [])
        self.assertEqual(self.end()["payload"]["error"]["code"], "StoreUnavailable")

    def test_a_certificate_for_vehicles_is_not_the_stations(self) -> None:
        self.assertEqual(len(self.hand_over(certificateType="V2GCertificate").calls), 1)
        self.assertFalse(self.is_good(SECOND))

    def test_one_that_nobody_can_read_is_sent_and_not_bound(self) -> None:
        for number, chain in enumerate(
            ("", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        ):
            self.hand_over(command_id=f"c-{number}", certificateChain=chain)
        self.assertEqual(len(self.links.get("CP-1").calls), 3)  # type: ignore[union-attr]
        self.assertEqual(self.audits(), [])

    def test_pending_ones_are_bounded(self) -> None:
        binding = {"chargePointId": "CP-1", "status": "active"}
        for number in range(MAX_PENDING_CERTIFICATES + 1):
            one = {**binding, "fingerprint": f"{number:064X}"}
            self.assertTrue(self.successResultOf(self.credentials.hand_over("CP-1", one)))
        pending = self.store.identities["CP-1"]["auth"]["pendingCertificates"]
        self.assertEqual(len(pending), MAX_PENDING_CERTIFICATES)
        self.assertEqual(pending[-1]["fingerprint"], f"{MAX_PENDING_CERTIFICATES:064X}")

    def test_one_that_was_never_pending_is_not_bound(self) -> None:
        self.successResultOf(self.credentials.certificate_seen("CP-1", "0" * 64))
        self.successResultOf(self.credentials.certificate_seen("CP-9", "0" * 64))
        self.assertEqual(self.audits(), [])

    def test_odd_bindings_are_in_nobodys_way(self) -> None:
        auth = self.store.identities["CP-1"]["auth"]
        auth["certificates"] += [
            {"subject": "CN=CP-1"},
            {"fingerprint": auth["certificates"][0]["fingerprint"].lower()},
        ]
        self.handed_over(ACCEPTED)
        self.assertEqual(self.audits(), ["certificate-added"])

"""What every implementation of `ports.Store` has to do about who may connect. Part of `StoreContract`."""

import abc
import json
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ocppgw.access.attempts import Attempt, Certificate, StoredAttempt, stored
from ocppgw.errors import OcppgwError
from ocppgw.ocpp.effects import Record
from ocppgw.ports import AttemptQuery, Edit, Journal, Known, Store

IDENTITY = {"chargePointId": "CP-1", "stationId": "station-1", "tenantId": "tenant-1", "auth": {"type": "basic"}}
FINGERPRINT, OTHER = "AB" * 32, "CD" * 32
REVOKED = {"fingerprint": FINGERPRINT, "revokedAt": "2026-11-24T08:00:00.000Z", "actorId": "ops", "reason": "stolen"}


class Built(Protocol):
    """A store and its journal with their surroundings; see `contract_journal.Built`."""

    @property
    def store(self) -> Store: ...
    @property
    def journal(self) -> Journal: ...
    def wait(self, deferred: "Deferred[Any]") -> Any: ...
    def settle(self) -> None: ...
    def reopen(self) -> None: ...


class Listener:
    """A ports.AccessListener: `told` holds what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def identity_changed(self, charge_point_id: str) -> None:
        self.told.append(charge_point_id)

    def certificate_revoked(self, fingerprint: str) -> None:
        self.told.append(fingerprint)


def audit_event(name: str = "ChargerIdentityUpserted", key: str = "CP-1") -> Record:
    return Record("audit", key, json.dumps({"eventType": name}).encode())


def identity(charge_point_id: str, **members: Any) -> dict[str, Any]:
    return {**IDENTITY, "chargePointId": charge_point_id, **members}


def attempt(
    at: float = 1.0,
    charge_point_id: str = "CP-1",
    address: str = "192.0.2.1",
    outcome: str = "CredentialsWrong",
    fingerprint: str = "",
    common_name: str = "",
) -> StoredAttempt:
    certificate = Certificate("CN=x", fingerprint, common_name) if fingerprint or common_name else None
    return stored(Attempt(at, outcome, address, charge_point_id=charge_point_id, certificate=certificate))


class AccessContract(abc.ABC):
    """Mix into a `SynchronousTestCase`, and give `build()`."""

    @abc.abstractmethod
    def build(self) -> Built:
        """An empty store; whatever it leaves running is cleaned up with the test."""

    def setUp(self) -> None:
        self.built = self.build()

    @property
    def store(self) -> Store:
        return self.built.store

    def event_types(self) -> list[str]:
        events = self.built.wait(self.built.journal.read(0, 1000))
        return [json.loads(event.value)["eventType"] for event in events]

    def look_up(self, charge_point_id: str = "CP-1", fingerprint: str = "") -> Known:
        known: Known = self.built.wait(self.store.look_up(charge_point_id, fingerprint))
        return known

    def put(self, *identities: dict[str, Any]) -> None:
        for one in identities:
            self.built.wait(self.store.put_identity(one))

    def edit(self, edit: Any, charge_point_id: str = "CP-1") -> Any:
        return self.built.wait(self.store.edit_identity(charge_point_id, edit))

    def listen(self) -> Listener:
        listener = Listener()
        self.store.on_access_change(listener)
        return listener

    # --- identities

    def test_nothing_is_known_of_a_stranger(self) -> None:
        assert self.look_up() == Known(None, None, 0)
        assert self.look_up("CP-1", FINGERPRINT) == Known(None, None, 0)

    def test_an_identity_is_found_again_also_after_a_restart(self) -> None:
        self.put(IDENTITY)
        assert self.look_up().identity == IDENTITY
        self.built.reopen()
        assert self.look_up().identity == IDENTITY
        assert self.look_up("CP-2").identity is None

    def test_a_newer_identity_replaces_the_older(self) -> None:
        self.put(IDENTITY | {"status": "disabled"}, IDENTITY | {"tenantId": "tenant-2"})
        self.built.reopen()
        assert self.look_up().identity == IDENTITY | {"tenantId": "tenant-2"}

    def test_an_identity_goes_with_its_audit_event(self) -> None:
        self.put(IDENTITY)
        assert self.event_types() == []
        self.built.wait(self.store.put_identity(IDENTITY, audit_event()))
        assert self.event_types() == ["ChargerIdentityUpserted"]

    def test_an_edit_gets_what_is_stored_and_gives_what_to_store(self) -> None:
        self.put(IDENTITY)

        def disable(current: Any) -> Edit:
            assert current == IDENTITY
            current["auth"]["type"] = "mtls"
            return Edit(current, audit_event())

        assert self.edit(disable)["auth"] == {"type": "mtls"}
        assert self.event_types() == ["ChargerIdentityUpserted"]
        self.built.reopen()
        assert self.look_up().identity == IDENTITY | {"auth": {"type": "mtls"}}

    def test_an_edit_may_make_an_identity(self) -> None:
        made = self.edit(lambda current: Edit(IDENTITY) if current is None else None)
        assert made == IDENTITY == self.look_up().identity

    def test_an_edit_that_wants_nothing_changes_nothing(self) -> None:
        self.put(IDENTITY)

        def only_look(current: Any) -> None:
            current["auth"]["type"] = "token"

        assert self.edit(only_look) == IDENTITY
        assert self.look_up().identity == IDENTITY
        assert self.edit(lambda current: None, "CP-2") is None

    def test_an_edit_may_refuse(self) -> None:
        self.put(IDENTITY)

        def refuse(current: Any) -> Edit:
            current["auth"]["type"] = "token"
            raise OcppgwError("not like this", code="Refused")

        code = ""
        try:
            self.edit(refuse)
        except OcppgwError as error:
            code = error.code
        assert code == "Refused"
        assert self.look_up().identity == IDENTITY

    def test_edits_of_one_identity_at_the_same_time_all_count(self) -> None:
        self.put(identity("CP-1", count=0))

        def add_one(current: Any) -> Edit:
            return Edit(current | {"count": current["count"] + 1})

        for edited in [self.store.edit_identity("CP-1", add_one) for _ in range(5)]:
            self.built.wait(edited)
        assert (self.look_up().identity or {})["count"] == 5

    def test_a_deleted_identity_is_gone_with_its_security_profile(self) -> None:
        self.put(IDENTITY)
        self.built.wait(self.store.remember_profile("CP-1", 2))
        assert self.edit(lambda current: Edit(None, audit_event("ChargerIdentityDeleted"))) is None
        assert self.event_types() == ["ChargerIdentityDeleted"]
        assert self.look_up() == Known(None, None, 0)
        self.built.reopen()
        assert self.look_up() == Known(None, None, 0)

    def page(self, search: str = "", offset: int = 0, limit: int = 100) -> tuple[list[str], int]:
        page = self.built.wait(self.store.identities(search, offset, limit))
        return [one["chargePointId"] for one in page.identities], page.total

    def test_identities_come_in_pages_by_their_ids(self) -> None:
        assert self.page() == ([], 0)
        self.put(*(identity(name) for name in ("CP-3", "CP-1", "CP-2")))
        assert self.page() == (["CP-1", "CP-2", "CP-3"], 3)
        assert self.page(offset=1, limit=1) == (["CP-2"], 3)
        assert self.page(offset=3) == ([], 3)

    def test_identities_are_searched_by_parts_of_their_names_in_any_case(self) -> None:
        self.put(identity("CP-1", stationId="North"), identity("CP-2", tenantId="NORDIC"), identity("nor-3"))
        assert self.page("NOR") == (["CP-1", "CP-2", "nor-3"], 3)
        assert self.page("cp-2") == (["CP-2"], 1)
        assert self.page("basic") == ([], 0)
        assert self.page("nor", offset=1, limit=1) == (["CP-2"], 3)

    # --- security profiles

    def test_the_highest_security_profile_is_remembered(self) -> None:
        self.put(IDENTITY)
        for profile, highest in ((0, 0), (2, 2), (1, 2), (3, 3), (0, 3)):
            self.built.wait(self.store.remember_profile("CP-1", profile))
            assert self.look_up().security_profile == highest
        self.built.reopen()
        assert self.look_up().security_profile == 3
        assert self.look_up("CP-2").security_profile == 0

    def test_a_changed_identity_keeps_its_security_profile(self) -> None:
        self.put(IDENTITY)
        self.built.wait(self.store.remember_profile("CP-1", 2))
        self.put(IDENTITY | {"tenantId": "tenant-2"})
        self.built.reopen()
        assert self.look_up().security_profile == 2

    # --- the denylist

    def revoke(self, fingerprint: str = FINGERPRINT, **members: Any) -> None:
        event = audit_event("ChargerCertificateRevoked", fingerprint)
        self.built.wait(self.store.revoke_certificate(fingerprint, {**REVOKED, **members}, event))

    def test_a_revoked_certificate_is_found_whoever_shows_it(self) -> None:
        self.revoke()
        for _ in range(2):
            assert self.look_up("CP-1", FINGERPRINT).revocation == REVOKED
            assert self.look_up("CP-2", FINGERPRINT).revocation == REVOKED
            assert self.look_up("CP-1", OTHER).revocation is None
            assert self.look_up("CP-1").revocation is None
            self.built.reopen()
        assert self.event_types() == ["ChargerCertificateRevoked"]

    def test_the_denylist_shows_each_certificate_once(self) -> None:
        assert dict(self.built.wait(self.store.revocations())) == {}
        self.revoke()
        self.revoke(OTHER)
        self.revoke(reason="lost")
        assert set(self.built.wait(self.store.revocations())) == {FINGERPRINT, OTHER}
        assert self.built.wait(self.store.revocations())[FINGERPRINT]["reason"] == "lost"

    # --- who is told

    def test_listeners_are_told_of_every_change(self) -> None:
        first, second = self.listen(), self.listen()
        self.put(IDENTITY)
        self.edit(lambda current: Edit(current | {"status": "disabled"}))
        self.edit(lambda current: Edit(None))
        self.revoke()
        assert first.told == second.told == ["CP-1", "CP-1", "CP-1", FINGERPRINT]

    def test_listeners_are_not_told_of_what_changes_nothing(self) -> None:
        self.put(IDENTITY)
        listener = self.listen()
        self.edit(lambda current: None)
        self.built.wait(self.store.remember_profile("CP-1", 2))
        self.save(attempt())
        assert listener.told == []

    # --- attempts

    def save(self, *attempts: StoredAttempt) -> None:
        self.built.wait(self.store.save_attempts(attempts))

    def times(self, **members: Any) -> list[float]:
        found = self.built.wait(self.store.attempts(AttemptQuery(**members)))
        return [one.at for one in found]

    def test_attempts_come_back_as_they_were_newest_first(self) -> None:
        kept = [
            attempt(1.0),
            attempt(2.0, "", "2001:db8::1", "TlsUnknownCa", FINGERPRINT, "CP-1"),
            attempt(3.0, "CP-2", outcome="Admitted"),
        ]
        self.save(kept[0], kept[1])
        self.save(kept[2])
        self.save()
        for _ in range(2):
            assert list(self.built.wait(self.store.attempts(AttemptQuery()))) == kept[::-1]
            self.built.reopen()

    def test_attempts_are_found_by_any_of_their_marks(self) -> None:
        self.save(
            attempt(1.0, "CP-1", "192.0.2.1"),
            attempt(2.0, "CP-2", "192.0.2.2", fingerprint=FINGERPRINT),
            attempt(3.0, "", "192.0.2.2", fingerprint=OTHER, common_name="CP-3"),
            attempt(4.0, "", "192.0.2.4"),
        )
        assert self.times(charge_point_id="CP-1") == [1.0]
        assert self.times(addresses=("192.0.2.2",)) == [3.0, 2.0]
        assert self.times(addresses=("192.0.2.1", "192.0.2.4")) == [4.0, 1.0]
        assert self.times(fingerprints=(FINGERPRINT, OTHER)) == [3.0, 2.0]
        assert self.times(common_names=("CP-3",)) == [3.0]
        assert self.times(charge_point_id="CP-1", addresses=("192.0.2.4",), fingerprints=(OTHER,)) == [4.0, 3.0, 1.0]
        assert self.times(charge_point_id="CP-9", fingerprints=("", "EF" * 32), addresses=("",)) == []

    def test_beside_a_station_names_and_addresses_find_only_what_no_station_claims(self) -> None:
        self.save(
            attempt(1.0, "CP-1", "192.0.2.1"),
            attempt(2.0, "CP-2", "192.0.2.1", fingerprint=FINGERPRINT, common_name="shared"),
            attempt(3.0, "", "192.0.2.1"),
            attempt(4.0, "", "192.0.2.9", common_name="shared"),
        )
        shared = {"addresses": ("192.0.2.1",), "common_names": ("shared",)}
        assert self.times(charge_point_id="CP-1", **shared) == [4.0, 3.0, 1.0]
        assert self.times(**shared) == [4.0, 3.0, 2.0, 1.0]
        assert self.times(charge_point_id="CP-1", fingerprints=(FINGERPRINT,)) == [2.0, 1.0]

    def test_refused_attempts_alone(self) -> None:
        self.save(attempt(1.0), attempt(2.0, outcome="Admitted"), attempt(3.0))
        assert self.times(refused_only=True) == [3.0, 1.0]
        assert self.times(charge_point_id="CP-1", refused_only=True) == [3.0, 1.0]

    def test_the_newest_attempts_up_to_a_limit(self) -> None:
        self.save(*(attempt(float(number)) for number in range(1, 6)))
        assert self.times(limit=2) == [5.0, 4.0]
        assert self.times(charge_point_id="CP-1", limit=3) == [5.0, 4.0, 3.0]

    def test_attempts_of_one_station_are_bounded(self) -> None:
        for number in range(300):
            self.save(attempt(float(number)))
        kept = self.times(limit=1000)
        assert 10 <= len(kept) < 300
        assert kept == [float(number) for number in range(299, 299 - len(kept), -1)], "the oldest go"

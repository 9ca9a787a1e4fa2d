"""Who may connect, on SQLite: what shows when, what a failing disk takes back, what is bounded; the older layout."""

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import Overloaded, StoreError
from ocppgw.net.embedded import schema
from ocppgw.net.embedded.attempts import PER_STATION
from ocppgw.net.embedded.database import Database
from ocppgw.net.embedded.identities import FILES_AT_ONCE
from ocppgw.net.embedded.turns import MAX_WAITING
from ocppgw.ports import AttemptQuery, Edit, Known
from tests.build_embedded import DISK_FULL, Embedded, ThreadedReactor, build_embedded
from tests.contract_access import FINGERPRINT, IDENTITY, OTHER, REVOKED, Listener, attempt, audit_event, identity

DISABLED = IDENTITY | {"status": "disabled"}
DAY = 86_400.0


class AccessCase(SynchronousTestCase):
    def new_path(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name) / "state"

    def open(self, path: Path | None = None, **settings: Any) -> Embedded:
        embedded = build_embedded(path or self.new_path(), **settings)
        self.addCleanup(embedded.close)
        return embedded

    def known(self, embedded: Embedded, charge_point_id: str = "CP-1", fingerprint: str = "") -> Known:
        """As it shows now, whatever waits for the disk."""
        known: Known = self.successResultOf(embedded.store.look_up(charge_point_id, fingerprint))
        return known

    def listen(self, embedded: Embedded) -> Listener:
        listener = Listener()
        embedded.store.on_access_change(listener)
        return listener

    def event_types(self, embedded: Embedded) -> list[str]:
        return [json.loads(value)["eventType"] for value in embedded.values()]


class Visibility(AccessCase):
    def test_a_change_shows_at_once_and_is_told_when_it_is_durable(self) -> None:
        embedded = self.open()
        listener = self.listen(embedded)
        embedded.disk.hold()
        stored = embedded.store.put_identity(IDENTITY)
        revoked = embedded.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event("ChargerCertificateRevoked"))
        profile = embedded.store.remember_profile("CP-2", 2)
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT), Known(IDENTITY, REVOKED, 0))
        self.assertEqual(self.known(embedded, "CP-2").security_profile, 2)
        embedded.reactor.advance(0)
        self.assertTrue(embedded.disk.reached.wait(10))
        for deferred in (stored, revoked, profile):
            self.assertNoResult(deferred)
        self.assertEqual(listener.told, [])
        embedded.disk.release()
        embedded.settle()
        self.assertEqual(listener.told, ["CP-1", FINGERPRINT])

    def test_what_can_not_be_stored_is_taken_back_and_nobody_is_told(self) -> None:
        embedded = self.open()
        embedded.wait(embedded.store.put_identity(IDENTITY))
        embedded.wait(embedded.store.remember_profile("CP-1", 1))
        listener = self.listen(embedded)
        embedded.disk.fault = DISK_FULL
        for change, shown in (
            (lambda: embedded.store.put_identity(DISABLED, audit_event()), Known(DISABLED, None, 1)),
            (lambda: embedded.store.edit_identity("CP-1", lambda _: Edit(None, audit_event())), Known(None, None, 0)),
            (lambda: embedded.store.remember_profile("CP-1", 3), Known(IDENTITY, None, 3)),
            (
                lambda: embedded.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()),
                Known(IDENTITY, REVOKED, 1),
            ),
        ):
            failed = change()
            self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT), shown)
            embedded.settle()
            self.assertIn(DISK_FULL, str(self.failureResultOf(failed, StoreError).value))
            self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT), Known(IDENTITY, None, 1))
        self.assertEqual((listener.told, embedded.values()), ([], []))
        embedded.disk.fault = ""
        embedded.reopen()
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT), Known(IDENTITY, None, 1))

    def test_an_identity_that_can_not_be_stored_leaves_no_trace(self) -> None:
        embedded = self.open()
        embedded.disk.fault = DISK_FULL
        failed = embedded.store.put_identity(IDENTITY)
        embedded.settle()
        self.failureResultOf(failed, StoreError)
        self.assertEqual(self.known(embedded), Known())
        self.assertEqual(embedded.wait(embedded.store.identities()).total, 0)

    def test_a_revocation_that_can_not_be_renewed_stays_as_it_was(self) -> None:
        embedded = self.open()
        embedded.wait(embedded.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
        embedded.disk.fault = DISK_FULL
        failed = embedded.store.revoke_certificate(FINGERPRINT, {"reason": "again"}, audit_event())
        embedded.settle()
        self.failureResultOf(failed, StoreError)
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT).revocation, REVOKED)


class OneAtATime(AccessCase):
    def add(self, word: str) -> Any:
        return lambda current: Edit(current | {"words": [*current.get("words", []), word]}, audit_event(word))

    def test_a_change_is_made_on_top_of_what_was_stored_not_of_what_failed(self) -> None:
        embedded = self.open()
        embedded.wait(embedded.store.put_identity(IDENTITY))
        embedded.disk.fault = DISK_FULL
        first = embedded.store.edit_identity("CP-1", self.add("first"))
        second = embedded.store.edit_identity("CP-1", self.add("second"))
        other = embedded.store.edit_identity("CP-2", lambda _: Edit(identity("CP-2")))
        embedded.reactor.advance(0)
        self.assertIsNotNone(self.known(embedded, "CP-2").identity, "other stations don't wait")
        embedded.reactor.run_until(lambda: self.known(embedded, "CP-2").identity is None)
        embedded.disk.fault = ""
        embedded.settle()
        self.failureResultOf(first, StoreError)
        self.failureResultOf(other, StoreError)
        self.assertEqual(self.successResultOf(second)["words"], ["second"])
        self.assertEqual(self.event_types(embedded), ["second"])

    def test_changes_of_one_identity_that_wait_are_bounded(self) -> None:
        embedded = self.open()
        embedded.wait(embedded.store.put_identity(IDENTITY))
        changes = [embedded.store.edit_identity("CP-1", self.add(str(number))) for number in range(MAX_WAITING + 2)]
        self.assertIn("CP-1", str(self.failureResultOf(changes.pop(), Overloaded).value))
        for change in changes:
            embedded.wait(change)
        self.assertEqual(len(embedded.wait(embedded.store.edit_identity("CP-1", self.add("last")))["words"]), 102)

    def test_who_loses_interest_takes_nothing_back(self) -> None:
        embedded = self.open()
        stored = embedded.store.put_identity(IDENTITY)
        revoked = embedded.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event())
        for deferred in (stored, revoked):
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
        embedded.settle()
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT), Known(IDENTITY, REVOKED, 0))
        embedded.reopen()
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT), Known(IDENTITY, REVOKED, 0))

    def test_a_listener_that_fails_keeps_no_other_from_being_told(self) -> None:
        class Broken(Listener):
            def identity_changed(self, charge_point_id: str) -> None:
                raise RuntimeError(charge_point_id)

        embedded = self.open()
        embedded.store.on_access_change(Broken())
        listener = self.listen(embedded)
        embedded.wait(embedded.store.put_identity(IDENTITY))
        self.assertEqual(listener.told, ["CP-1"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class Revocations(AccessCase):
    def revoke(self, embedded: Embedded, fingerprint: str = FINGERPRINT) -> None:
        embedded.wait(embedded.store.revoke_certificate(fingerprint, REVOKED, audit_event()))

    def rows(self, embedded: Embedded) -> int:
        count: int = embedded.wait(
            embedded.database.read(lambda c: c.execute("SELECT count(*) FROM revoked_certificates").fetchone()[0])
        )
        return count

    def test_without_a_ttl_they_stay_for_ever(self) -> None:
        embedded = self.open()
        self.revoke(embedded)
        embedded.reopen()
        embedded.reactor.rightNow += 10_000 * DAY
        embedded.wait(embedded.store.tend(DAY))
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT).revocation, REVOKED)

    def test_with_a_ttl_they_end_and_are_forgotten(self) -> None:
        embedded = self.open(revoked_ttl=100.0)
        self.revoke(embedded)
        embedded.reactor.rightNow += 50
        self.revoke(embedded, OTHER)
        embedded.reactor.rightNow += 49
        self.assertEqual(set(embedded.wait(embedded.store.revocations())), {FINGERPRINT, OTHER})
        embedded.reactor.rightNow += 1
        self.assertIsNone(self.known(embedded, "CP-1", FINGERPRINT).revocation)
        self.assertEqual(set(embedded.wait(embedded.store.revocations())), {OTHER})
        self.assertEqual(self.rows(embedded), 2)
        embedded.wait(embedded.store.tend(DAY))
        self.assertEqual(self.rows(embedded), 1)
        self.assertEqual(self.known(embedded, "CP-1", OTHER).revocation, REVOKED)

    def test_a_ttl_counts_from_the_latest_revocation(self) -> None:
        embedded = self.open(revoked_ttl=100.0)
        self.revoke(embedded)
        embedded.reactor.rightNow += 99
        self.revoke(embedded)
        embedded.reactor.rightNow += 99
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT).revocation, REVOKED)


class Attempts(AccessCase):
    def times(self, embedded: Embedded, **members: Any) -> list[float]:
        found = embedded.wait(embedded.store.attempts(AttemptQuery(limit=10_000, **members)))
        return [one.at for one in found]

    def test_each_station_keeps_its_latest(self) -> None:
        embedded = self.open()
        for number in range(30):
            embedded.wait(embedded.store.save_attempts([attempt(number, "CP-1"), attempt(number, "CP-2")]))
        latest = [float(number) for number in range(29, 29 - PER_STATION, -1)]
        for name in ("CP-1", "CP-2"):
            self.assertEqual(self.times(embedded, charge_point_id=name), latest)

    def test_a_large_batch_is_bounded_too(self) -> None:
        embedded = self.open(attempts_kept=100)
        embedded.wait(embedded.store.save_attempts([attempt(number, f"CP-{number % 40}") for number in range(2000)]))
        kept = self.times(embedded)
        self.assertLessEqual(len(kept), 100)
        self.assertEqual(kept, [float(number) for number in range(1999, 1999 - len(kept), -1)])

    def test_an_address_that_names_no_station_keeps_its_latest(self) -> None:
        embedded = self.open()
        batch = [attempt(number, "", address) for number in range(30) for address in ("192.0.2.1", "192.0.2.2")]
        embedded.wait(embedded.store.save_attempts(batch))
        for address in ("192.0.2.1", "192.0.2.2"):
            self.assertEqual(len(self.times(embedded, addresses=(address,))), PER_STATION)

    def test_there_are_never_more_than_asked_for(self) -> None:
        embedded = self.open(attempts_kept=50)
        for number in range(200):
            embedded.wait(embedded.store.save_attempts([attempt(number, f"CP-{number}", f"198.51.100.{number}")]))
            self.assertLessEqual(len(self.times(embedded)), 50)
        self.assertGreaterEqual(len(self.times(embedded)), 45)
        self.assertEqual(self.times(embedded)[0], 199.0)

    def test_none_are_kept_where_none_are_wanted(self) -> None:
        embedded = self.open(attempts_kept=0)
        embedded.wait(embedded.store.save_attempts([attempt()]))
        self.assertEqual(self.times(embedded), [])

    def test_a_flood_of_invented_ids_pushes_out_nobody_else(self) -> None:
        embedded = self.open(attempts_kept=100)
        for number in range(20):
            embedded.wait(embedded.store.save_attempts([attempt(number, f"CP-{number}", f"192.0.2.{number}")]))
        for number in range(50):
            flood = [attempt(1000 + number, f"X-{number}-{one}", "203.0.113.66") for one in range(50)]
            embedded.wait(embedded.store.save_attempts(flood))
        for number in range(20):
            self.assertEqual(self.times(embedded, charge_point_id=f"CP-{number}"), [float(number)])
        self.assertLessEqual(len(self.times(embedded)), 100)

    def test_one_subscribers_ipv6_network_is_one_origin(self) -> None:
        embedded = self.open(attempts_kept=40)
        embedded.wait(embedded.store.save_attempts([attempt(1.0, "CP-1", "2001:db8:1::7")]))
        flood = [attempt(2.0, f"X-{number}", f"2001:db8:2::{number:x}") for number in range(500)]
        embedded.wait(embedded.store.save_attempts(flood))
        self.assertEqual(self.times(embedded, charge_point_id="CP-1"), [1.0])

    def test_a_flood_under_a_stations_id_leaves_half_to_the_station(self) -> None:
        embedded = self.open()
        for number in range(15):
            embedded.wait(embedded.store.save_attempts([attempt(number, "CP-1", "192.0.2.1")]))
        for number in range(100):
            embedded.wait(embedded.store.save_attempts([attempt(1000 + number, "CP-1", "203.0.113.66")]))
        own = self.times(embedded, addresses=("192.0.2.1",))
        self.assertEqual(own, [float(number) for number in range(14, 14 - PER_STATION // 2, -1)])


class Files(AccessCase):
    """What `stations.identities_dir` holds, as the store follows it."""

    def setUp(self) -> None:
        self.embedded = self.open()
        self.store = self.embedded.store

    def sync(self, **files: tuple[dict[str, Any], str]) -> tuple[int, int]:
        named = {name.replace("_", "-"): file for name, file in files.items()}
        counts: tuple[int, int] = self.embedded.wait(
            self.store.sync_files(named, lambda kind, one: audit_event(f"{kind} {one['chargePointId']}"))
        )
        return counts

    def test_new_and_changed_files_are_taken_and_told(self) -> None:
        listener = self.listen(self.embedded)
        self.assertEqual(self.sync(CP_1=(IDENTITY, "a"), CP_2=(identity("CP-2"), "b")), (2, 0))
        self.assertEqual(self.sync(CP_1=(DISABLED, "a2"), CP_2=(identity("CP-2"), "b")), (1, 0))
        self.assertEqual(self.known(self.embedded).identity, DISABLED)
        self.assertEqual(listener.told, ["CP-1", "CP-2", "CP-1"])
        self.assertEqual(
            self.event_types(self.embedded),
            ["ChargerIdentityUpserted CP-1", "ChargerIdentityUpserted CP-2", "ChargerIdentityUpserted CP-1"],
        )

    def test_unchanged_files_touch_nothing_also_after_a_restart(self) -> None:
        self.sync(CP_1=(IDENTITY, "a"))
        self.embedded.reopen()
        self.store = self.embedded.store
        self.assertEqual(self.sync(CP_1=(IDENTITY, "a")), (0, 0))
        self.assertEqual(len(self.embedded.values()), 1)

    def test_what_was_changed_by_other_means_stays_until_its_file_changes(self) -> None:
        self.sync(CP_1=(IDENTITY, "a"))
        self.embedded.wait(self.store.put_identity(DISABLED))
        self.embedded.reopen()
        self.store = self.embedded.store
        self.assertEqual(self.sync(CP_1=(IDENTITY, "a")), (0, 0))
        self.assertEqual(self.known(self.embedded).identity, DISABLED)
        self.assertEqual(self.sync(CP_1=(IDENTITY, "b")), (1, 0))
        self.assertEqual(self.known(self.embedded).identity, IDENTITY)

    def test_what_was_deleted_by_other_means_stays_so_until_its_file_changes(self) -> None:
        self.sync(CP_1=(IDENTITY, "a"))
        self.embedded.wait(self.store.edit_identity("CP-1", lambda _: Edit(None)))
        self.embedded.reopen()
        self.store = self.embedded.store
        self.assertEqual(self.sync(CP_1=(IDENTITY, "a")), (0, 0))
        self.assertIsNone(self.known(self.embedded).identity)
        self.assertEqual(self.sync(CP_1=(IDENTITY, "b")), (1, 0))
        self.assertEqual(self.known(self.embedded).identity, IDENTITY)

    def test_the_identity_of_a_file_that_is_gone_is_deleted(self) -> None:
        self.embedded.wait(self.store.put_identity(identity("CP-3")))
        self.sync(CP_1=(IDENTITY, "a"), CP_2=(identity("CP-2"), "b"))
        self.embedded.wait(self.store.edit_identity("CP-2", lambda _: Edit(None)))
        self.embedded.wait(self.store.remember_profile("CP-1", 2))
        self.assertEqual(self.sync(), (0, 1))
        self.assertEqual(self.event_types(self.embedded)[2:], ["ChargerIdentityDeleted CP-1"])
        self.assertEqual(self.known(self.embedded), Known())
        self.assertIsNotNone(self.known(self.embedded, "CP-3").identity, "it came from no file")
        self.embedded.reopen()
        self.store = self.embedded.store
        self.assertEqual(self.sync(), (0, 0))

    def test_a_file_that_says_what_is_stored_changes_nothing_but_is_followed_from_then_on(self) -> None:
        self.embedded.wait(self.store.put_identity(IDENTITY))
        self.assertEqual(self.sync(CP_1=(IDENTITY, "a")), (0, 0))
        self.assertEqual(self.embedded.values(), [])
        self.assertEqual(self.sync(), (0, 1))

    def test_many_files_are_taken_in_several_transactions(self) -> None:
        files = {f"CP-{number}": (identity(f"CP-{number}"), "a") for number in range(2 * FILES_AT_ONCE + 1)}
        before = self.embedded.disk.commits
        synced = self.store.sync_files(files, lambda kind, one: audit_event(kind))
        self.assertEqual(self.embedded.wait(synced), (len(files), 0))
        self.assertEqual(self.embedded.disk.commits, before + 3)
        self.assertEqual(self.embedded.wait(self.store.identities(limit=1)).total, len(files))

    def test_a_failing_disk_is_told_and_the_next_time_does_the_rest(self) -> None:
        self.embedded.disk.fault = DISK_FULL
        with self.assertRaisesRegex(StoreError, DISK_FULL):
            self.sync(CP_1=(IDENTITY, "a"), CP_2=(identity("CP-2"), "b"))
        self.assertIsNone(self.known(self.embedded).identity)
        self.embedded.disk.fault = ""
        self.assertEqual(self.sync(CP_1=(IDENTITY, "a"), CP_2=(identity("CP-2"), "b")), (2, 0))


LAYOUT_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (last INTEGER PRIMARY KEY, first INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE identities (charge_point_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE stations (
    charge_point_id TEXT PRIMARY KEY, station_id TEXT NOT NULL, tenant_id TEXT NOT NULL,
    version TEXT NOT NULL, boot_status TEXT NOT NULL, boot BLOB NOT NULL, at REAL
    NOT NULL
) WITHOUT ROWID;
CREATE TABLE transactions (
    charge_point_id TEXT NOT NULL, transaction_id TEXT NOT NULL, version TEXT NOT NULL, key TEXT NOT NULL,
    started_at REAL, ended_at REAL, records BLOB NOT NULL, PRIMARY KEY (charge_point_id, transaction_id)
) WITHOUT ROWID;
CREATE INDEX transactions_key ON transactions (charge_point_id, key) WHERE key <> '';
CREATE INDEX transactions_ended ON transactions (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE commands (command_id TEXT PRIMARY KEY, ended_at REAL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX commands_open ON commands (command_id) WHERE ended_at IS NULL;
CREATE INDEX commands_ended ON commands (ended_at) WHERE ended_at IS NOT NULL;
"""


class OlderLayout(AccessCase):
    """A state directory of the release before this one."""

    def made(self, *statements: str) -> Path:
        folder = self.new_path()
        folder.mkdir()
        connection = sqlite3.connect(folder / schema.FILE_NAME, isolation_level=None)
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {LAYOUT_1} PRAGMA user_version = 1; COMMIT;")
        connection.execute("INSERT INTO identities VALUES ('CP-1', ?)", (json.dumps(IDENTITY).encode(),))
        connection.execute("INSERT INTO meta VALUES ('starts', 4)")
        for statement in statements:
            connection.execute(statement)
        connection.close()
        return folder

    def layout(self, folder: Path) -> tuple[int, set[str]]:
        connection = sqlite3.connect(folder / schema.FILE_NAME)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL")}
        connection.close()
        return version, names

    def test_it_is_brought_to_this_one_with_all_it_holds(self) -> None:
        folder = self.made("INSERT INTO stations VALUES ('CP-2', 's', 't', '1.6J', 'Accepted', x'7b7d', 1.0)")
        embedded = self.open(folder)
        self.assertEqual(self.known(embedded), Known(IDENTITY, None, 0))
        self.assertEqual(embedded.wait(embedded.store.load_station("CP-2")).boot_status, "Accepted")
        self.assertEqual(embedded.wait(embedded.store.claim("CP-2")).epoch, 5 * 10**9 + 1)
        embedded.wait(embedded.store.revoke_certificate(FINGERPRINT, REVOKED, audit_event()))
        embedded.wait(embedded.store.save_attempts([attempt()]))
        embedded.reopen()
        self.assertEqual(self.known(embedded, "CP-1", FINGERPRINT), Known(IDENTITY, REVOKED, 0))
        self.assertEqual(len(embedded.wait(embedded.store.attempts(AttemptQuery()))), 1)

    def test_afterwards_it_is_like_a_new_one(self) -> None:
        old, new = self.made(), self.new_path()
        for folder in (old, new):
            self.open(folder).close()
        self.assertEqual(self.layout(old), self.layout(new))
        self.assertEqual(self.layout(new)[0], schema.USER_VERSION)

    def test_when_it_fails_half_way_the_file_stays_as_it_was(self) -> None:
        folder = self.made("CREATE TABLE attempts (in_the_way TEXT)")
        before = self.layout(folder)
        with self.assertRaisesRegex(StoreError, "table attempts already exists"):
            Database(folder, ThreadedReactor())
        self.assertEqual(self.layout(folder), before)
        self.assertEqual(before[0], 1)

"""The SQLite file: its tables, how it is opened, and what is said when it can't be.

A file that is damaged is never replaced or repaired silently: it holds billing data. One that an earlier release wrote
is brought to the layout of this one, in one transaction: it is of the one layout or of the other, whatever happens.
"""

import fcntl
import os
import sqlite3
from pathlib import Path

from ocppgw.errors import StoreDamaged, StoreError

FILE_NAME = "ocppgw.sqlite3"
LOCK_NAME = "ocppgw.lock"

_LAYOUT_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- One row a group commit: events `first` to `last`, packed (msgpack) as [topic, key, value] each.
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

_LAYOUT_2 = """
-- What was last taken from identity files; a row stays when the identity is changed or deleted by other means.
CREATE TABLE identity_files (charge_point_id TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE security_profiles (charge_point_id TEXT PRIMARY KEY, profile INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE revoked_certificates (
    fingerprint TEXT PRIMARY KEY, expires_at REAL NOT NULL, body BLOB NOT NULL  -- expires_at: Infinity for never
) WITHOUT ROWID;
-- `number` counts up as attempts come in; `origin` is whom an attempt is charged to (attempts.py).
CREATE TABLE attempts (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, charge_point_id TEXT NOT NULL, address TEXT NOT NULL,
    origin TEXT NOT NULL, fingerprint TEXT NOT NULL, common_name TEXT NOT NULL, refused INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX attempts_station ON attempts (charge_point_id, origin);
CREATE INDEX attempts_origin ON attempts (origin);
CREATE INDEX attempts_address ON attempts (address);
CREATE INDEX attempts_fingerprint ON attempts (fingerprint) WHERE fingerprint <> '';
CREATE INDEX attempts_common_name ON attempts (common_name) WHERE common_name <> '';
"""

_LAYOUT_3 = """
ALTER TABLE commands ADD COLUMN waiting_for TEXT;  -- the station it waits for, NULL when it does not wait
CREATE INDEX commands_waiting ON commands (waiting_for) WHERE waiting_for IS NOT NULL;
"""

_LAYOUT_4 = """
-- With Redis: the stations whose identity files this node had when it last read them.
CREATE TABLE fleet_files (charge_point_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""

_LAYOUTS = (_LAYOUT_1, _LAYOUT_2, _LAYOUT_3, _LAYOUT_4)  # each brings a file from the layout before it to its own
USER_VERSION = len(_LAYOUTS)


def lock(folder: Path) -> int:
    """Take the state directory for this process; returns the open file descriptor that holds the lock.

    Two processes on one journal would number events twice. Errors: StoreError when it is taken or can't be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"the state directory {folder} can't be used: {error.strerror}",
            hint="make it writable for the daemon's user, or set state_dir / OCPPGW_STATE_DIR",
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise StoreError(
            f"the state directory {folder} is in use by another ocppgw process",
            hint="stop that process, or give this one a state_dir of its own",
        ) from None
    return held


def connect(folder: Path) -> sqlite3.Connection:
    """Open (make, when it isn't there) and check the database. Errors: StoreDamaged, StoreError."""
    path = folder / FILE_NAME
    connection = None
    try:
        path.touch(mode=0o600)  # customers' ids and hashed secrets: for nobody else to read (-wal and -shm follow it)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        _prepare(connection, path)
    except (OSError, sqlite3.DatabaseError, StoreError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StoreError):
            raise
        raise _unusable(path, error) from error
    return connection


def lay_out(connection: sqlite3.Connection, version: int = 0) -> None:
    """Bring a database from layout `version` (0: empty) to this release's, in one transaction."""
    steps = "".join(_LAYOUTS[version:])
    connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {USER_VERSION}; COMMIT;")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # Looked at before anything is set: some settings write, and a damaged file has to stay as it is.
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _damaged(path, found)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 0 <= version <= USER_VERSION:
        raise StoreError(
            f"{path} has layout {version}, this release knows {USER_VERSION}",
            hint="run the release that wrote it, or give this one a state_dir of its own",
        )
    if version == 0:
        # Half the per-page work of the default 4096 for event batches, still small for a row of state.
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # in WAL mode: an fsync of the log at every commit
    connection.execute("PRAGMA wal_autocheckpoint = 2000")
    if version < USER_VERSION:
        lay_out(connection, version)


def _unusable(path: Path, error: OSError | sqlite3.DatabaseError) -> StoreError:
    if isinstance(error, OSError):
        return StoreError(f"{path} can't be opened: {error.strerror}", hint="check the rights of the file")
    if _is_damage(error):
        return _damaged(path, str(error))
    return StoreError(f"{path} can't be opened: {error}", hint="check the disk's free space and the rights")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _damaged(path: Path, found: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is damaged: {found}",
        hint="nothing was changed; restore it from a backup, or move it away (with -wal and -shm) to start anew",
    )

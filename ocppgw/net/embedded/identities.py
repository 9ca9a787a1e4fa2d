"""Identities, the files they came from, and the stations' security profiles: kept in memory, written through.

A change shows at once, because a station that connects in between must not be judged by what was withdrawn, nor pass
for an unknown one. It is taken back when it can't be stored; listeners are told when it is durable.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed
from twisted.python.failure import Failure

from ocppgw.net.embedded.database import Database
from ocppgw.net.embedded.turns import Turns
from ocppgw.ocpp.effects import Record
from ocppgw.ports import Edit, IdentityPage
from ocppgw.routing.access_listeners import AccessListeners

Identity = Mapping[str, Any]
Decide = Callable[[dict[str, Any] | None], Edit | None]
FileEvent = Callable[[str, Identity], Record]  # (event type, identity)

FILES_AT_ONCE = 200  # changes of identity files in one transaction
_SEARCHED = ("chargePointId", "stationId", "tenantId")

_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


class Kept(msgspec.Struct, frozen=True):
    """What is known of one station. `file`: the digest of the identity file that was last taken, "" for none."""

    identity: dict[str, Any] | None = None
    profile: int = 0
    file: str = ""


NOTHING = Kept()


class Identities:
    def __init__(self, database: Database, listeners: AccessListeners) -> None:
        self._database = database
        self._listeners = listeners
        self._turns = Turns()
        self._kept: dict[str, Kept] = _load(database.connection)

    def get(self, charge_point_id: str) -> Kept:
        return self._kept.get(charge_point_id, NOTHING)

    def all(self) -> list[Identity]:
        return [kept.identity for kept in self._kept.values() if kept.identity is not None]

    def page(self, search: str, offset: int, limit: int) -> "Deferred[IdentityPage]":
        found = self.all()
        # In the thread: sorting a hundred thousand of them takes longer than a station should wait for its answer.
        return self._database.read(lambda _connection: _page(found, search, offset, limit))

    def edit(self, charge_point_id: str, decide: Decide) -> "Deferred[Identity | None]":
        """See `ports.Store.edit_identity`."""
        return self._turns.take(charge_point_id, lambda: self._edit(charge_point_id, decide))

    def remember_profile(self, charge_point_id: str, profile: int) -> "Deferred[None]":
        if profile <= self.get(charge_point_id).profile:
            return succeed(None)
        return self._turns.take(charge_point_id, lambda: self._raise_profile(charge_point_id, profile))

    def sync_files(self, files: Mapping[str, tuple[Identity, str]], event: FileEvent) -> "Deferred[tuple[int, int]]":
        """See `SqliteStore.sync_files`."""
        return Deferred.fromCoroutine(self._sync_files(files, event))

    # --- inside

    def _edit(self, name: str, decide: Decide, file: str | None = None) -> "Deferred[Identity | None]":
        """`file`: the digest to remember beside the change, None for the one that is known."""
        before = self.get(name)
        edit = decide(deepcopy(before.identity))
        after = before if file is None else msgspec.structs.replace(before, file=file)
        if edit is not None:
            identity = None if edit.identity is None else _decode(_encode(edit.identity))
            after = Kept(identity, before.profile if identity is not None else 0, after.file)
        elif after == before:
            return succeed(before.identity)
        stored = self._store(name, before, after, None if edit is None else edit.event)
        return stored.addCallback(self._edited, name, after, told=edit is not None)

    def _edited(self, _result: None, name: str, after: Kept, *, told: bool) -> Identity | None:
        if told:
            self._listeners.identity_changed(name)
        return after.identity

    def _raise_profile(self, name: str, profile: int) -> "Deferred[None]":
        before = self.get(name)
        if profile <= before.profile:
            return succeed(None)
        return self._store(name, before, msgspec.structs.replace(before, profile=profile))

    def _store(self, name: str, before: Kept, after: Kept, event: Record | None = None) -> "Deferred[None]":
        def write(connection: sqlite3.Connection, records: list[Record]) -> None:
            _write(connection, name, before, after)
            if event is not None:
                records.append(event)

        self._show(name, after)
        return self._database.write(write).addErrback(self._take_back, name, before)

    def _take_back(self, failure: Failure, name: str, before: Kept) -> Failure:
        self._show(name, before)
        return failure

    def _show(self, name: str, kept: Kept) -> None:
        if kept == NOTHING:
            self._kept.pop(name, None)
        else:
            self._kept[name] = kept

    async def _sync_files(self, files: Mapping[str, tuple[Identity, str]], event: FileEvent) -> tuple[int, int]:
        changed = [name for name, (_, digest) in files.items() if self.get(name).file != digest]
        gone = [name for name, kept in self._kept.items() if kept.file and name not in files]
        stored = await self._each(changed, lambda name: self._take_file(name, *files[name], event))
        removed = await self._each(gone, lambda name: self._drop_file(name, event))
        return stored, removed

    async def _each(self, names: Sequence[str], change: Callable[[str], "Deferred[bool]"]) -> int:
        """How many of the changes had something to change. Fails with the first failure."""
        count = 0
        for start in range(0, len(names), FILES_AT_ONCE):
            batch = [change(name) for name in names[start : start + FILES_AT_ONCE]]
            try:
                count += sum(await gatherResults(batch, consumeErrors=True))
            except FirstError as error:
                error.subFailure.raiseException()
        return count

    def _take_file(self, name: str, identity: Identity, digest: str, event: FileEvent) -> "Deferred[bool]":
        def decide(current: dict[str, Any] | None) -> Edit | None:
            if current == identity:
                return None
            return Edit(identity, event("ChargerIdentityUpserted", identity))

        return self._follow_file(name, digest, decide)

    def _drop_file(self, name: str, event: FileEvent) -> "Deferred[bool]":
        def decide(current: dict[str, Any] | None) -> Edit | None:
            return None if current is None else Edit(None, event("ChargerIdentityDeleted", current))

        return self._follow_file(name, "", decide)

    def _follow_file(self, name: str, digest: str, decide: Decide) -> "Deferred[bool]":
        made: list[Edit | None] = []

        def noted(current: dict[str, Any] | None) -> Edit | None:
            made.append(decide(current))
            return made[0]

        done = self._turns.take(name, lambda: self._edit(name, noted, digest))
        return done.addCallback(lambda _: made[0] is not None)


def _load(connection: sqlite3.Connection) -> dict[str, Kept]:
    rows = connection.execute(
        "SELECT charge_point_id, identities.body, coalesce(profile, 0), coalesce(digest, '') FROM "
        "(SELECT charge_point_id FROM identities UNION SELECT charge_point_id FROM security_profiles "
        "UNION SELECT charge_point_id FROM identity_files) "
        "LEFT JOIN identities USING (charge_point_id) LEFT JOIN security_profiles USING (charge_point_id) "
        "LEFT JOIN identity_files USING (charge_point_id)"
    )
    return {name: Kept(_decode(body) if body else None, profile, file) for name, body, profile, file in rows}


def _write(connection: sqlite3.Connection, name: str, before: Kept, after: Kept) -> None:
    for table, column, old, new in (
        ("identities", "body", before.identity, after.identity),
        ("security_profiles", "profile", before.profile, after.profile),
        ("identity_files", "digest", before.file, after.file),
    ):
        if old == new:
            continue
        if new:
            value = _encode(new) if isinstance(new, dict) else new
            statement = f"INSERT OR REPLACE INTO {table} (charge_point_id, {column}) VALUES (?, ?)"  # noqa: S608
            connection.execute(statement, (name, value))
        else:
            connection.execute(f"DELETE FROM {table} WHERE charge_point_id = ?", (name,))  # noqa: S608


def _page(found: Iterable[Identity], search: str, offset: int, limit: int) -> IdentityPage:
    wanted = search.casefold()
    matching = [identity for identity in found if not wanted or _matches(identity, wanted)]
    matching.sort(key=lambda identity: str(identity["chargePointId"]))
    return IdentityPage(matching[offset : offset + limit], len(matching))


def _matches(identity: Identity, wanted: str) -> bool:
    return any(wanted in str(identity.get(member, "")).casefold() for member in _SEARCHED)

"""Identity files of nodes, taken over into Redis: once for all nodes that have the same file."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet_keys import FleetKeys
from ocppgw.ocpp.effects import Record
from ocppgw.ports import Edit

FileEvent = Callable[[str, Mapping[str, Any]], Record]


class Identities(Protocol):
    def edit_identity(
        self, charge_point_id: str, edit: Callable[[dict[str, Any] | None], Edit | None]
    ) -> "Deferred[Mapping[str, Any] | None]": ...


class Disk(Protocol):
    """This node's own: the stations whose files it had when it last read them."""

    def fleet_files(self) -> "Deferred[frozenset[str]]": ...
    def set_fleet_files(self, names: Iterable[str]) -> "Deferred[None]": ...


class IdentityFiles:
    """A file is taken when its digest is another than the one that was taken last: what was changed or deleted by other
    means meanwhile stays so until then. A file that this node had, and that is gone, also since before a restart, takes
    its identity with it; another node that still has it brings it back when it reads its files again."""

    def __init__(self, identities: Identities, calls: Connection, keys: FleetKeys, disk: Disk) -> None:
        self._identities, self._calls, self._key, self._disk = identities, calls, keys.identity_files, disk
        self._own: frozenset[str] | None = None  # of this node's files, so that other nodes' are left alone

    def sync(self, files: Mapping[str, tuple[Mapping[str, Any], str]], event: FileEvent) -> "Deferred[tuple[int, int]]":
        """Fires with how many identities were changed, and how many deleted."""
        return Deferred.fromCoroutine(self._sync(files, event))

    async def _sync(self, files: Mapping[str, tuple[Mapping[str, Any], str]], event: FileEvent) -> tuple[int, int]:
        changed = removed = 0
        if self._own is None:
            self._own = await self._disk.fleet_files()
        if files or self._own:
            fields = await self._calls.call("HGETALL", self._key)
            taken = {name.decode(): digest.decode() for name, digest in zip(fields[::2], fields[1::2], strict=True)}
            for name, (identity, digest) in files.items():
                if taken.get(name) != digest:
                    changed += await self._take(name, identity, digest, event)
            for name in self._own - set(files):
                removed += await self._drop(name, event)
        if self._own != set(files):
            self._own = frozenset(files)
            await self._disk.set_fleet_files(self._own)
        return changed, removed

    async def _take(self, name: str, identity: Mapping[str, Any], digest: str, event: FileEvent) -> int:
        count = 0

        def decide(current: dict[str, Any] | None) -> Edit | None:
            nonlocal count
            count = int(current != identity)
            return Edit(identity, event("ChargerIdentityUpserted", identity)) if count else None

        await self._identities.edit_identity(name, decide)
        await self._calls.call("HSET", self._key, name, digest)
        return count

    async def _drop(self, name: str, event: FileEvent) -> int:
        count = 0

        def decide(current: dict[str, Any] | None) -> Edit | None:
            nonlocal count
            count = int(current is not None)
            return None if current is None else Edit(None, event("ChargerIdentityDeleted", current))

        await self._identities.edit_identity(name, decide)
        await self._calls.call("HDEL", self._key, name)
        return count

"""A family of keys, in pieces: SCAN walks through every key of the database, and never holds Redis up."""

from collections.abc import Callable, Iterator

from ocppgw.errors import Overloaded, StoreError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import pattern

SCANNED_AT_ONCE = 1000
READ_AT_ONCE = 500
MAX_NAMES = 500_000
MAX_SECONDS = 30.0


class Family:
    """The keys that begin with `front`, each by its name: what follows that. Everything that is read from one Family
    has MAX_SECONDS together, by the clock `seconds`; then it fails with StoreError."""

    def __init__(self, calls: Connection, front: str, seconds: Callable[[], float]) -> None:
        self._calls, self._front, self._seconds = calls, front, seconds
        self._until = seconds() + MAX_SECONDS

    async def names(self) -> list[str]:
        """Sorted."""
        names: set[str] = set()  # SCAN may give a key twice
        cursor: bytes = b"0"
        while True:
            scan = ("SCAN", cursor, "MATCH", pattern(self._front), "COUNT", SCANNED_AT_ONCE)
            cursor, keys = await self._calls.call(*scan)
            names.update(key.decode("utf-8", "replace").removeprefix(self._front) for key in keys)
            if len(names) > MAX_NAMES:
                raise Overloaded(
                    f"there are more than {MAX_NAMES} keys {self._front}…", hint="list them with redis-cli"
                )
            if cursor == b"0":
                return sorted(names)
            self._check()

    async def strings(self, names: list[str]) -> dict[str, bytes]:
        """What stands under these names, in their order; what was deleted meanwhile is left out."""
        found: dict[str, bytes] = {}
        for some in self._pieces(names):
            values = await self._calls.call("MGET", *(self._front + name for name in some))
            found.update((name, value) for name, value in zip(some, values, strict=True) if value is not None)
        return found

    async def fields(self, names: list[str], field: str) -> dict[str, bytes]:
        """The same for one field of hashes."""
        found: dict[str, bytes] = {}
        for some in self._pieces(names):
            values = await self._calls.calls([("HGET", self._front + name, field) for name in some])
            found.update((name, value) for name, value in zip(some, values, strict=True) if isinstance(value, bytes))
        return found

    def _pieces(self, names: list[str]) -> Iterator[list[str]]:
        for start in range(0, len(names), READ_AT_ONCE):
            self._check()
            yield names[start : start + READ_AT_ONCE]

    def _check(self) -> None:
        if self._seconds() > self._until:
            raise StoreError(
                f"the keys {self._front}… could not be read in {MAX_SECONDS:.0f} seconds", hint="Redis is too slow"
            )


async def read_family(calls: Connection, front: str, seconds: Callable[[], float]) -> dict[str, bytes]:
    """All strings of a family, sorted by their names."""
    family = Family(calls, front, seconds)
    return await family.strings(await family.names())


async def read_hashes(calls: Connection, front: str, field: str, seconds: Callable[[], float]) -> dict[str, bytes]:
    """One field of all hashes of a family, sorted by their names."""
    family = Family(calls, front, seconds)
    return await family.fields(await family.names(), field)

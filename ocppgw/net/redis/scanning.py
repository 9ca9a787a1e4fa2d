"""A family of keys, in pieces: SCAN walks through every key of the database, and never holds Redis up."""

from collections.abc import Callable

from ocppgw.errors import Overloaded, StoreError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import pattern

SCANNED_AT_ONCE = 1000
READ_AT_ONCE = 500
MAX_NAMES = 500_000
MAX_SECONDS = 30.0


async def read_family(calls: Connection, front: str, seconds: Callable[[], float]) -> dict[str, bytes]:
    """The strings whose keys begin with `front`: by what follows it, sorted."""
    until = seconds() + MAX_SECONDS
    names = await _names(calls, front, seconds, until)
    found: dict[str, bytes] = {}
    for start in range(0, len(names), READ_AT_ONCE):
        _check(front, seconds, until)
        some = names[start : start + READ_AT_ONCE]
        values = await calls.call("MGET", *(front + name for name in some))
        found.update((name, value) for name, value in zip(some, values, strict=True) if value is not None)
    return found


async def _names(calls: Connection, front: str, seconds: Callable[[], float], until: float) -> list[str]:
    names: set[str] = set()  # SCAN may give a key twice
    cursor: bytes = b"0"
    while True:
        cursor, keys = await calls.call("SCAN", cursor, "MATCH", pattern(front), "COUNT", SCANNED_AT_ONCE)
        names.update(key.decode("utf-8", "replace").removeprefix(front) for key in keys)
        if len(names) > MAX_NAMES:
            raise Overloaded(f"there are more than {MAX_NAMES} keys {front}…", hint="list them with redis-cli")
        if cursor == b"0":
            return sorted(names)
        _check(front, seconds, until)


def _check(front: str, seconds: Callable[[], float], until: float) -> None:
    if seconds() > until:
        raise StoreError(f"the keys {front}… could not be read in {MAX_SECONDS:.0f} seconds", hint="Redis is too slow")


async def read_hashes(calls: Connection, front: str, field: str, seconds: Callable[[], float]) -> dict[str, bytes]:
    """One field of the hashes whose keys begin with `front`: by what follows it, sorted."""
    until = seconds() + MAX_SECONDS
    names = await _names(calls, front, seconds, until)
    found: dict[str, bytes] = {}
    for start in range(0, len(names), READ_AT_ONCE):
        _check(front, seconds, until)
        some = names[start : start + READ_AT_ONCE]
        values = await calls.calls([("HGET", front + name, field) for name in some])
        found.update((name, value) for name, value in zip(some, values, strict=True) if value is not None)
    return found

"""Changes to what is kept in memory and on disk: one at a time for each key.

A change shows in memory at once and is taken back when the disk refuses it. Were a second change of the same key made
on top of the first before that one is settled, taking back the first would leave half of the second: so it waits.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, fail

from ocppgw.errors import Overloaded

MAX_WAITING = 100  # changes of one key


class Turns:
    """Changes of different keys don't wait for each other."""

    def __init__(self) -> None:
        self._locks: dict[str, DeferredLock] = {}

    def take(self, key: str, change: Callable[[], "Deferred[Any]"]) -> "Deferred[Any]":
        """Call `change` when all earlier changes of `key` are settled: at once when there are none."""
        lock = self._locks.setdefault(key, DeferredLock())
        if len(lock.waiting) >= MAX_WAITING:
            return fail(Overloaded(f"{MAX_WAITING} changes of {key} wait for the disk", hint="try again later"))
        # A Deferred of its own: who loses interest and cancels it must not take back what the disk has or will have.
        done: Deferred[Any] = Deferred()
        lock.run(change).addBoth(self._settled, key, lock).chainDeferred(done)
        return done

    def _settled(self, result: Any, key: str, lock: DeferredLock) -> Any:
        if not lock.locked and self._locks.get(key) is lock:
            del self._locks[key]
        return result

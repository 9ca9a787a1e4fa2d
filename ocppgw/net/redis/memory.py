"""What Redis last said of stations, kept for when it is away and stations are to be let in all the same.

An entry is as old as the last moment at which it is known to have been right: while Redis tells of changes and told of
none, or a sweep found no other value, it grows no older. An entry that changed is dropped: what it changed to may be a
disabled identity or a revoked certificate. What Redis never said is not made up: who is not in here stays out.

Bounded: at most MAX_REMEMBERED, whoever was looked up longest ago goes first. Only what exists in Redis is kept, and
certificates of stations that exist, so that inventing ids pushes nobody out.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ocppgw.ports import Known

MAX_REMEMBERED = 50_000  # identities and fingerprints


class Remembered(msgspec.Struct):
    value: Any
    at: float  # when it was right


class Memory:
    """`clock` gives seconds; `seconds`: how old an entry may be, 0 keeps none. Goes by the names of keys in Redis."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self._entries: OrderedDict[str, Remembered] = OrderedDict()
        self._tracked_since: float | None = None

    def put(self, keys: Sequence[str], known: Known) -> None:
        """`keys`: the identity's, and if a certificate was asked about, its revocation's."""
        if not self._seconds or known.identity is None:
            return
        self._keep(keys[0], (known.identity, known.security_profile))
        for key in keys[1:]:
            self._keep(key, known.revocation)

    def get(self, keys: Sequence[str]) -> Known | None:
        """None when any of the `keys` is not known any more, or never was."""
        found = [entry.value for key in keys if (entry := self._right(key)) is not None]
        if len(found) < len(keys):
            return None
        identity, profile = found[0]
        return Known(identity, found[1] if len(found) > 1 else None, profile)

    def raise_profile(self, identity_key: str, security_profile: int) -> None:
        entry = self._entries.get(identity_key)
        if entry is not None:
            identity, profile = entry.value
            entry.value = (identity, max(profile, security_profile))

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)

    def confirm(self, key: str) -> None:
        """Redis holds the same still."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.at = self._clock()

    def track(self, *, on: bool) -> None:
        """From now on Redis tells of changes, or does not any more."""
        now, since = self._clock(), self._tracked_since
        self._tracked_since = now if on else None
        if since is not None:
            for entry in self._entries.values():
                if entry.at >= since:
                    entry.at = now

    # --- inside

    def _keep(self, key: str, value: Any) -> None:
        self._entries[key] = Remembered(value, self._clock())
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)

    def _right(self, key: str) -> Remembered | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        is_tracked = self._tracked_since is not None and entry.at >= self._tracked_since
        return entry if is_tracked or now - entry.at <= self._seconds else None

"""What was looked up, for a few seconds, and a mark of what was last given out, for longer. Both are bounded.

The marks are what a sweep compares with: whoever was let in was let in on the strength of the value with that mark.
Reactor thread only; entries go by the names of keys in Redis.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

MAX_ENTRIES = 10_000
MAX_MARKS = 100_000
UNTRACKED_SECONDS = 1.0  # entries are good for, while Redis does not tell of changes


class Entry(msgspec.Struct):
    value: Any
    at: float


class Mark(msgspec.Struct):
    digest: bytes
    at: float  # when it was last given out


class Cache:
    """`seconds`: how long an entry is good for while `is_tracked`: while Redis tells of every change."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._marks: OrderedDict[str, Mark] = OrderedDict()
        self.is_tracked = False

    def get(self, key: str) -> Entry | None:
        """What is good still. It counts as given out."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        seconds = self._seconds if self.is_tracked else min(self._seconds, UNTRACKED_SECONDS)
        if now - entry.at >= seconds:
            del self._entries[key]
            return None
        mark = self._marks.get(key)
        if mark is not None:
            mark.at = now
        return entry

    def put(self, key: str, value: Any, digest: bytes) -> None:
        now = self._clock()
        self._entries[key] = Entry(value, now)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        self.mark(key, digest, now)

    def mark(self, key: str, digest: bytes, at: float) -> None:
        self._marks[key] = Mark(digest, at)
        self._marks.move_to_end(key)
        if len(self._marks) > MAX_MARKS:
            self._marks.popitem(last=False)

    def drop(self, key: str) -> None:
        """The mark stays."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """The marks stay."""
        self._entries.clear()

    def forget_old(self) -> None:
        """Called every second or so, so that what is out of date takes no memory."""
        oldest = self._clock() - self._seconds
        while self._entries and next(iter(self._entries.values())).at <= oldest:
            self._entries.popitem(last=False)

    def marked(self, key: str) -> bytes | None:
        mark = self._marks.get(key)
        return None if mark is None else mark.digest

    def given_out(self, key: str) -> float:
        """When it last was; minus infinity when that is not known."""
        mark = self._marks.get(key)
        return float("-inf") if mark is None else mark.at

    def present(self) -> list[str]:
        """Keys whose value was there when it was last given out."""
        return [key for key, mark in self._marks.items() if mark.digest]

    def is_different(self, key: str, digest: bytes) -> bool:
        """From what was given out last, as far as is known."""
        return self.marked(key) != digest

"""The newest events once more in memory: the relay reads them within milliseconds, and spares the disk a query for each
batch. Bounded in events and bytes, whole commits go, oldest first; what isn't here is read from the disk.
"""

from collections import deque
from collections.abc import Sequence

from ocppgw.ocpp.effects import Record
from ocppgw.ports import StoredEvent

MOST_RECORDS = 4000
MOST_BYTES = 4 * 1024 * 1024


class Tail:
    """Commits follow each other without gaps, or `clear` comes between."""

    def __init__(self, most_records: int = MOST_RECORDS, most_bytes: int = MOST_BYTES) -> None:
        self._most_records, self._most_bytes = most_records, most_bytes
        self._commits: deque[tuple[int, Sequence[Record], int]] = deque()  # (first cursor, records, bytes)
        self._records = self._bytes = 0

    def add(self, last: int, records: Sequence[Record]) -> None:
        size = sum([len(record.value) for record in records])
        self._commits.append((last - len(records) + 1, records, size))
        self._records += len(records)
        self._bytes += size
        while self._commits and (self._records > self._most_records or self._bytes > self._most_bytes):
            _first, dropped, fewer = self._commits.popleft()
            self._records -= len(dropped)
            self._bytes -= fewer

    def clear(self) -> None:
        self._commits.clear()
        self._records = self._bytes = 0

    def read(self, since: int, limit: int) -> list[StoredEvent] | None:
        """The events behind cursor `since`; None when not all of them are here."""
        if not self._commits or self._commits[0][0] > since + 1:
            return None
        wanted: list[tuple[int, Sequence[Record], int]] = []
        for commit in reversed(self._commits):
            if commit[0] + len(commit[1]) <= since + 1:
                break
            wanted.append(commit)
        events: list[StoredEvent] = []
        for first, records, _size in reversed(wanted):
            for cursor, record in enumerate(records, first):
                if cursor > since:
                    events.append(StoredEvent(cursor, record.topic, record.key, record.value))
            if len(events) >= limit:
                break
        return events[:limit]

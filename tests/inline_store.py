"""The real embedded store without thread and file: every job runs at once, in memory. For tests of what is above it.

store = build_inline_store(clock)
store.database.records                what was journaled
store.database.fault = "disk full"    every change fails from here on
"""

import json
import sqlite3
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from ocppgw.errors import StoreError
from ocppgw.net.embedded import SqliteStore
from ocppgw.net.embedded.schema import lay_out
from ocppgw.ocpp.effects import Record


class InlineDatabase:
    """What the store uses of `Database`."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        lay_out(self.connection)
        self.records: list[Record] = []
        self.fault = ""

    def read(self, run: Any) -> "Deferred[Any]":
        return maybeDeferred(run, self.connection)

    def write(self, run: Any) -> "Deferred[Any]":
        return maybeDeferred(self._write, run)

    def _write(self, run: Any) -> Any:
        if self.fault:
            raise StoreError(f"not stored: {self.fault}")
        return run(self.connection, self.records)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(record.value) for record in self.records]


class InlineStore(SqliteStore):
    def __init__(self, clock: IReactorTime, **settings: Any) -> None:
        self.database = InlineDatabase()
        super().__init__(self.database, clock.seconds, 86_400.0, **settings)  # type: ignore[arg-type]


def build_inline_store(clock: IReactorTime, **settings: Any) -> InlineStore:
    return InlineStore(clock, **settings)

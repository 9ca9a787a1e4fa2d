"""Revoked certificates: kept in memory, because every handshake asks, and written through."""

import math
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ocppgw.net.embedded.database import Database
from ocppgw.net.embedded.turns import Turns
from ocppgw.ocpp.effects import Record
from ocppgw.routing.access_listeners import AccessListeners

_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


class Revocation(msgspec.Struct, frozen=True):
    entry: dict[str, Any]
    expires_at: float  # seconds since the epoch, infinite for never


class Denylist:
    """`ttl`: seconds an entry stays, 0 for ever. It shows at once and is taken back when it can't be stored."""

    def __init__(self, database: Database, listeners: AccessListeners, clock: Callable[[], float], ttl: float) -> None:
        self._database = database
        self._listeners = listeners
        self._clock = clock
        self._ttl = ttl
        self._turns = Turns()
        rows = database.connection.execute("SELECT fingerprint, body, expires_at FROM revoked_certificates")
        self._revoked = {fingerprint: Revocation(_decode(body), expires_at) for fingerprint, body, expires_at in rows}

    def find(self, fingerprint: str) -> Mapping[str, Any] | None:
        found = self._revoked.get(fingerprint)
        return found.entry if found is not None and self._clock() < found.expires_at else None

    def all(self) -> dict[str, Mapping[str, Any]]:
        now = self._clock()
        return {name: revoked.entry for name, revoked in self._revoked.items() if now < revoked.expires_at}

    def add(self, fingerprint: str, entry: Mapping[str, Any], event: Record) -> "Deferred[None]":
        return self._turns.take(fingerprint, lambda: self._add(fingerprint, entry, event))

    def forget_expired(self, connection: sqlite3.Connection, now: float) -> None:
        """In the writing thread."""
        connection.execute("DELETE FROM revoked_certificates WHERE expires_at <= ?", (now,))

    def forgotten(self, now: float) -> None:
        """In the reactor thread, after `forget_expired`."""
        self._revoked = {name: revoked for name, revoked in self._revoked.items() if now < revoked.expires_at}

    def _add(self, fingerprint: str, entry: Mapping[str, Any], event: Record) -> "Deferred[None]":
        body = _encode(entry)
        before = self._revoked.get(fingerprint)
        revoked = Revocation(_decode(body), self._clock() + self._ttl if self._ttl else math.inf)
        self._revoked[fingerprint] = revoked

        def write(connection: sqlite3.Connection, records: list[Record]) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO revoked_certificates (fingerprint, expires_at, body) VALUES (?, ?, ?)",
                (fingerprint, revoked.expires_at, body),
            )
            records.append(event)

        written = self._database.write(write)
        return written.addCallbacks(self._added, self._take_back, (fingerprint,), {}, (fingerprint, before), {})

    def _added(self, _result: None, fingerprint: str) -> None:
        self._listeners.certificate_revoked(fingerprint)

    def _take_back(self, failure: Failure, fingerprint: str, before: Revocation | None) -> Failure:
        if before is None:
            self._revoked.pop(fingerprint, None)
        else:
            self._revoked[fingerprint] = before
        return failure

"""SIGHUP and the timers: files are read again while stations stay connected; what can't be used changes nothing.

Certificates, keys, CAs and CRLs (`ocppgw.net.tls.TlsReloader`), and the identity files. The configuration itself is
read at the start only.
"""

import signal
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocppgw.errors import OcppgwError
from ocppgw.net.tls import TlsReloader
from ocppgw.ocpp.effects import Record

log = Logger(namespace="ocppgw.reload")

FileEvent = Callable[[str, Mapping[str, Any]], Record]
IdentityFiles = Mapping[str, tuple[Mapping[str, Any], str]]


class FileStore(Protocol):
    """What is used of the store."""

    def sync_files(
        self, files: Mapping[str, tuple[Mapping[str, Any], str]], event: FileEvent
    ) -> "Deferred[tuple[int, int]]": ...


class Reloading:
    """`tls` is None where no port speaks TLS. `read_identities` reads the identity files (disk; in a thread),
    `file_event` makes the audit event of what came of one."""

    def __init__(
        self,
        tls: TlsReloader | None,
        store: FileStore,
        read_identities: Callable[[], IdentityFiles],
        file_event: FileEvent,
        in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"],
        reactor: Any,
    ) -> None:
        self._tls = tls
        self._store = store
        self._read_identities = read_identities
        self._file_event = file_event
        self._in_thread = in_thread
        self._reactor = reactor

    def listen_to_hangups(self) -> None:
        """twistd has no handler of its own, and the default one ends the process."""
        signal.signal(signal.SIGHUP, lambda _number, _frame: self._reactor.callFromThread(self.hang_up))

    def hang_up(self) -> None:
        log.info("SIGHUP: reading certificates, CRLs and identity files again")
        if self._tls is not None:
            self._tls.reload("SIGHUP")
        self._in_thread(self._read_identities).addCallback(self.sync).addErrback(self._identities_kept)

    def look(self) -> None:
        """A timer's turn: have the TLS files changed?"""
        if self._tls is not None:
            self._tls.reload("timer")

    def sync(self, files: IdentityFiles) -> "Deferred[None]":
        """Let the store have what the files say."""

        def told(counts: tuple[int, int]) -> None:
            changed, removed = counts
            if changed or removed:
                log.info("identity files: {changed} changed, {removed} removed", changed=changed, removed=removed)

        return self._store.sync_files(files, self._file_event).addCallback(told)

    def _identities_kept(self, failure: Any) -> None:
        if failure.check(OcppgwError) is None:
            log.failure("the identity files could not be read", failure=failure)
        else:
            log.error("identity files not taken over: {fault}", fault=str(failure.value))

"""SIGHUP and the timers: files are read again while stations stay connected; what can't be used changes nothing.

Certificates, keys, CAs and CRLs (`ocppgw.net.tls.TlsReloader`), the identity files, known tokens and quirk
profiles. The configuration itself is read at the start only.
"""

import signal
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, NamedTuple, Protocol

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


class Pages(Protocol):
    """What a book holds at the moment."""

    def __len__(self) -> int: ...
    def put(self, pages: Any) -> None: ...


class Book(NamedTuple):
    """`read` its files (disk; in a thread); what is found is put into `pages`."""

    what: str
    read: Callable[[], Sized]
    pages: Pages


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
        books: Sequence[Book],
    ) -> None:
        self._books = books
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
        log.info("SIGHUP: reading certificates, CRLs, identity files, known tokens and quirk profiles again")
        if self._tls is not None:
            self._tls.reload("SIGHUP")
        self._in_thread(self._read_identities).addCallback(self.sync).addErrback(self._kept, "identity files")
        for book in self._books:
            self._in_thread(book.read).addCallback(self._take, book).addErrback(self._kept, book.what)

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

    def _take(self, pages: Sized, book: Book) -> None:
        before = len(book.pages)
        book.pages.put(pages)
        if before or len(pages):
            log.info("{what}: {count}, {before} before", what=book.what, count=len(pages), before=before)

    def _kept(self, failure: Any, what: str) -> None:
        if failure.check(OcppgwError) is None:
            log.failure("{what} could not be read", failure=failure, what=what)
        else:
            log.error("{what} not taken over: {fault}", what=what, fault=str(failure.value))

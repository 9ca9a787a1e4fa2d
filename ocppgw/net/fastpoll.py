"""One reader for thousands of sockets: the receiving half of the fast lane, on Linux and plain TCP.

Twisted takes five calls and a logging context from "readable" to `dataReceived`, for every message: a third of what a
small one costs here. `FastPoll` is a single reader to the reactor: an epoll of its own (epoll file descriptors nest)
with the sockets of open, upgraded connections. It receives and hands the bytes to the protocol; it does nothing else.
Whatever is not plain data (end of stream, errors, hang-up) is given back: the transport reads again, and Twisted sees
what happened.
"""

import select
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

log = Logger(namespace="ocppgw.fastpoll")

RECEIVE_BYTES = 16_384
EVENTS_AT_ONCE = 256  # then the reactor gets its turn: timers and new connections must not starve


class Transport(Protocol):
    """What is used of `twisted.internet.tcp.Server`."""

    def getHandle(self) -> socket.socket: ...  # noqa: N802
    def stopReading(self) -> None: ...  # noqa: N802
    def startReading(self) -> None: ...  # noqa: N802


class _Reader:
    __slots__ = ("receive", "received", "transport")

    def __init__(self, transport: Transport, received: Callable[[bytes], None]) -> None:
        self.transport = transport
        self.receive = transport.getHandle().recv
        self.received = received


@implementer(IReadDescriptor)
class FastPoll:
    """Use from the reactor thread only. `adopt` and `pause` take a connection by its file descriptor."""

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._readers: dict[int, _Reader] = {}

    def start(self) -> None:
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Give every connection back to Twisted."""
        for number in list(self._readers):
            self.give_back(number)
        self._reactor.removeReader(self)
        self._epoll.close()

    def adopt(self, transport: Transport, received: Callable[[bytes], None]) -> int:
        """Read this plain TCP transport from here on; returns its file descriptor."""
        reader = _Reader(transport, received)
        number = transport.getHandle().fileno()
        transport.stopReading()
        self._readers[number] = reader
        self._epoll.register(number, select.EPOLLIN)
        return number

    def pause(self, number: int) -> None:
        if number in self._readers:
            self._epoll.modify(number, 0)

    def resume(self, number: int) -> None:
        if number in self._readers:
            self._epoll.modify(number, select.EPOLLIN)

    def forget(self, number: int) -> None:
        """The connection is gone, or Twisted is about to close it."""
        if self._readers.pop(number, None) is not None:
            try:
                self._epoll.unregister(number)
            except (OSError, ValueError):
                """Closed already, and with that out of the epoll."""

    def give_back(self, number: int) -> None:
        """Let Twisted read again: it knows what to do at the end of a stream."""
        reader = self._readers.get(number)
        if reader is not None:
            self.forget(number)
            reader.transport.startReading()

    def __len__(self) -> int:
        return len(self._readers)

    # --- IReadDescriptor

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:  # noqa: N802
        return "fastpoll"

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """The reactor is going down."""

    def doRead(self) -> None:  # noqa: N802
        readers = self._readers
        for number, event in self._epoll.poll(0, EVENTS_AT_ONCE):
            reader = readers.get(number)
            if reader is None:  # closed by what an earlier connection of this round did
                continue
            if event != select.EPOLLIN:
                self.give_back(number)
                continue
            try:
                data = reader.receive(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self.give_back(number)
                continue
            try:
                reader.received(data)
            except Exception:  # as Twisted does: log it, and cut that one connection
                log.failure("a connection's protocol failed")
                self._cut(number, reader)

    def _cut(self, number: int, reader: _Reader) -> None:
        self.forget(number)
        abort = getattr(reader.transport, "abortConnection", None)
        if abort is not None:
            abort()

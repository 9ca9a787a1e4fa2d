"""Thread pools for what would hold up the reactor: hashes and files."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

HASHING_THREADS = 4
READING_THREADS = 2  # files that are read again, certificates that are signed


class Threads:
    """Two pools, so that a storm of passwords does not hold up the reading of a CRL."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._hashing = ThreadPool(1, HASHING_THREADS, name="ocppgw-hashing")
        self._reading = ThreadPool(0, READING_THREADS, name="ocppgw-reading")

    def start(self) -> None:
        self._hashing.start()
        self._reading.start()

    def stop(self) -> None:
        self._hashing.stop()
        self._reading.stop()

    def hash(self, function: Callable[[], Any]) -> "Deferred[Any]":
        return deferToThreadPool(self._reactor, self._hashing, function)

    def read(self, function: Callable[[], Any]) -> "Deferred[Any]":
        return deferToThreadPool(self._reactor, self._reading, function)

"""Stores of who may connect, on a Redis that runs: what tests of one node or several, on one Redis, begin with.

Fixtures: `pytest_plugins = ("tests.integration.redis_nodes", "tests.services.fixtures")`.
"""

import functools
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from greenlet import greenlet
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from ocppgw.errors import StoreError
from ocppgw.net.redis import RedisAccessStore, RedisAddress, RedisSettings, parse_url
from ocppgw.ocpp.effects import Record
from ocppgw.ports import Known, StoredEvent
from tests.contract_access import Listener
from tests.services import RedisServer

TIME_LIMIT = 10.0
CHANGE_SECONDS = 2.0  # within which every node hears of a change
BACK_SECONDS = 3.0  # a test machine is slow; without load it is below one
CALL_SECONDS = 0.5
UNHEARD_RULES = ("reset", "on", ">unheard", "~*", "+@all")  # no channel: Redis tells it of no changes


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4()}"


class Journal:
    """Takes the audit events."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.fault = ""

    def publish(self, record: Record) -> "Deferred[None]":
        if self.fault:
            return fail(StoreError(self.fault))
        self.records.append(record)
        return succeed(None)

    def read(self, since: int, limit: int) -> "Deferred[list[StoredEvent]]":
        events = [StoredEvent(number, r.topic, r.key, r.value) for number, r in enumerate(self.records, 1)]
        return succeed([event for event in events if event.cursor > since][:limit])


class Node:
    """A store as one node has it. `is_heard`: Redis tells it of changes."""

    def __init__(self, redis: RedisServer, prefix: str, is_heard: bool = True, **settings: Any) -> None:
        address = parse_url(redis.url())
        if not is_heard:
            redis.call("ACL", "SETUSER", "unheard", *UNHEARD_RULES)
            address = RedisAddress(address.host, address.port, 0, "unheard", "unheard")
        defaults = {"address": address, "prefix": prefix, "call_timeout": CALL_SECONDS}
        self.redis, self.prefix, self.is_heard = redis, prefix, is_heard
        self.settings = RedisSettings(**{**defaults, **settings})
        self.journal = Journal()
        self.notes: list[str] = []
        self.ids: list[str] = []  # of connected stations
        self.fingerprints: list[str] = []
        self.tls: Any = None
        self.start()

    def start(self) -> None:
        self.listener = Listener()
        self.store: Any = RedisAccessStore(self.settings, reactor, self.journal.publish, self.tls, self.notes.append)
        self.store.watch(lambda: (self.ids, self.fingerprints))
        self.store.on_access_change(self.listener)
        self.store.start()

    def wait(self, deferred: "Deferred[Any]") -> Any:
        return pytest_twisted.blockon(deferred.addTimeout(TIME_LIMIT, reactor))

    def settle(self) -> None:
        self.wait(self.store.look_up("nobody"))

    def reopen(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        self.store.stop()

    def ready(self) -> "Node":
        """Connected, and what is to be told from now on is told."""
        until(lambda: self.store.status()[0] and self.store.hears_of_changes == self.is_heard)
        return self

    def look_up(self, charge_point_id: str = "CP-1", fingerprint: str = "") -> Known:
        known: Known = self.wait(self.store.look_up(charge_point_id, fingerprint))
        return known

    def key(self, rest: str) -> str:
        return f"{self.prefix}:{rest}" if self.prefix else rest

    def cli(self, *words: str) -> str:
        return self.redis.cli(*words)

    def cli_set(self, record: dict[str, Any], charge_point_id: str = "CP-1") -> None:
        assert self.cli("SET", self.key(f"chargers:{charge_point_id}"), json.dumps(record)) == "OK"


def until(done: Callable[[], object], seconds: float = TIME_LIMIT) -> float:
    """Let the reactor run until `done`; the seconds it took."""
    begin = time.monotonic()
    while not done():
        assert time.monotonic() - begin < seconds, f"not within {seconds} seconds"
        pytest_twisted.blockon(deferLater(reactor, 0.01))  # type: ignore[arg-type]
    return time.monotonic() - begin


def failure_of(call: "Deferred[Any]") -> tuple[StoreError, float]:
    """A call that must fail: with what, and after how many seconds."""
    begin = time.monotonic()
    with pytest.raises(StoreError) as caught:
        pytest_twisted.blockon(call.addTimeout(TIME_LIMIT, reactor))
    return caught.value, time.monotonic() - begin


def blocking(test: Callable[..., None]) -> Callable[..., "Deferred[None]"]:
    """Lets a test wait with `Node.wait` and `until`. As it stands pytest-twisted runs it in the reactor's own greenlet,
    where nothing can be waited for: it gets one of its own."""

    @functools.wraps(test)
    def run(*values: Any, **named: Any) -> "Deferred[None]":
        done: Deferred[None] = Deferred()

        def body() -> None:
            try:
                test(*values, **named)
            except BaseException:
                reactor.callLater(0, done.errback, Failure())  # type: ignore[attr-defined]
            else:
                reactor.callLater(0, done.callback, None)  # type: ignore[attr-defined]

        greenlet(body).switch()
        return done

    return run

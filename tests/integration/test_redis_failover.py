"""A real master, replica and Sentinels: whoever the master is, this node talks to it and to nobody else."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ocppgw.errors import OcppgwError
from ocppgw.net.outgoing import TlsClient
from ocppgw.net.redis import RedisSettings, parse_url
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.endpoints import endpoint_of
from ocppgw.net.redis.health import Trouble
from tests.integration.certificates import Pki
from tests.integration.redis_nodes import blocking
from tests.services import RedisSentinels, RedisServer, RedisUser, free_ports
from tests.services.sentinels import SERVICE, Sentinel

pytest_plugins = ("tests.integration.certificates", "tests.services.fixtures")

TIME_LIMIT = 30.0
FAILOVER_SECONDS = 12.0  # of the Sentinels, who need one for finding out, on a machine that others use, too
BACK_SECONDS = 4.0  # of this node, from the new master on
ADMIN = RedisUser("admin", "an admin's password")


class Client:
    """A connection, and what it told."""

    def __init__(self, pair: RedisSentinels, url: str = "", tls: Any = None, **settings: Any) -> None:
        self.settings = RedisSettings(
            **{
                "address": parse_url(url or "redis://not-used.example"),
                "call_timeout": 1.0,
                "sentinels": tuple(pair.addresses),
                "sentinel_master": SERVICE,
                **settings,
            }
        )
        self.troubles: list[Trouble | None] = []
        self.changes = 0
        place = endpoint_of(self.settings, reactor, tls)
        self.connection = Connection(
            self.settings,
            reactor,
            place,
            lambda: 0.5,
            self.troubles.append,
            self._changed,  # type: ignore[arg-type]
        )
        self.connection.start()

    def call(self, *words: str) -> Any:
        return wait(self.connection.call(*words))

    def tried(self, *words: str) -> Any:
        try:
            return self.call(*words)
        except OcppgwError:
            return None

    @property
    def port(self) -> int:
        wire = self.connection.wire
        return 0 if wire is None or wire.place is None else wire.place[1]

    def _changed(self) -> None:
        self.changes += 1


def wait(deferred: "Deferred[Any]") -> Any:
    return pytest_twisted.blockon(deferred.addTimeout(TIME_LIMIT, reactor))  # type: ignore[arg-type]


def until(condition: Callable[[], object], seconds: float = TIME_LIMIT) -> float:
    """Turns the reactor; the seconds it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it did not happen in time"
        wait(deferLater(reactor, 0.02, lambda: None))  # type: ignore[arg-type]
    return time.monotonic() - begin


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[RedisSentinels]:
    with RedisSentinels(tmp_path) as sentinels:
        yield sentinels


@pytest.fixture
def build(pair: RedisSentinels) -> Iterator[Callable[..., Client]]:
    built: list[Client] = []

    def client(**settings: Any) -> Client:
        built.append(Client(pair, **settings))
        return built[-1]

    yield client
    for each in built:
        each.connection.stop()


@blocking
def test_calls_go_on_after_the_master_was_killed(pair: RedisSentinels, build: Callable[..., Client]) -> None:
    client = build()
    old, new = pair.primary, pair.replica
    assert client.call("SET", "ocpp:a", "1") == b"OK"
    assert client.port == old.port
    assert old.call("WAIT", 1, 5000) == 1
    old.kill()
    until(lambda: pair_names(pair, new), FAILOVER_SECONDS)
    assert until(lambda: client.tried("SET", "ocpp:a", "2") == b"OK", BACK_SECONDS) < BACK_SECONDS
    assert client.port == new.port
    assert new.call("GET", "ocpp:a") == b"2"
    pair.rejoin()
    assert client.call("GET", "ocpp:a") == b"2"


@blocking
def test_a_master_that_stood_still_and_comes_back_is_not_written_to(
    pair: RedisSentinels, build: Callable[..., Client]
) -> None:
    client = build()
    old, new = pair.primary, pair.replica
    assert client.call("SET", "ocpp:a", "before") == b"OK"
    assert old.call("WAIT", 1, 5000) == 1
    old.pause()
    until(lambda: pair_names(pair, new), FAILOVER_SECONDS)
    until(lambda: client.tried("SET", "ocpp:b", "0") == b"OK", BACK_SECONDS)
    old.resume()
    number = 0
    with contextlib.suppress(OSError):  # it leaves its clients when it learns that it is a replica
        while old.info("replication")["role"] == "master":
            number += 1
            assert client.call("SET", "ocpp:b", str(number)) == b"OK"
            assert client.port == new.port
            assert old.call("GET", "ocpp:b") is None
    assert number > 0
    assert new.call("GET", "ocpp:b") == str(number).encode()


@blocking
def test_a_master_that_only_the_sentinels_cannot_reach_is_left(
    pair: RedisSentinels, build: Callable[..., Client]
) -> None:
    """It takes writes still, which will be lost."""
    client = build()
    old, new = pair.primary, pair.replica
    assert client.call("SET", "ocpp:a", "1") == b"OK"
    replace(pair, new)
    until(lambda: client.port == new.port, BACK_SECONDS)
    assert client.call("SET", "ocpp:a", "2") == b"OK"
    assert new.call("GET", "ocpp:a") == b"2"
    assert old.call("GET", "ocpp:a") == b"1"
    assert old.info("replication")["role"] == "master"
    assert "replaced" in {trouble.kind for trouble in client.troubles if trouble is not None}


@blocking
def test_a_master_that_became_a_replica_is_left_though_nothing_is_written(
    pair: RedisSentinels, build: Callable[..., Client]
) -> None:
    client = build()
    new = pair.replica
    assert client.call("PING") == b"PONG"
    with pair.sentinels[0].connect() as connection:
        connection.call("SENTINEL", "FAILOVER", SERVICE)
    until(lambda: client.port == new.port, FAILOVER_SECONDS)
    assert client.connection.wire is not None


@blocking
def test_sentinels_that_are_gone_or_stand_still_do_not_matter_while_one_answers(
    pair: RedisSentinels, build: Callable[..., Client]
) -> None:
    pair.sentinels[0].kill()
    pair.sentinels[1].pause()
    try:
        client = build(call_timeout=3.0)
        assert client.call("PING") == b"PONG"
        assert client.port == pair.servers[0].port
    finally:
        pair.sentinels[1].resume()


@blocking
def test_that_no_sentinel_knows_the_master_is_told(pair: RedisSentinels, build: Callable[..., Client]) -> None:
    client = build(sentinel_master="another")
    until(lambda: client.troubles)
    trouble = client.troubles[0]
    assert trouble is not None
    assert trouble.kind == "sentinels"
    assert "'another'" in trouble.reason
    assert "knows no such master" in trouble.reason


@blocking
def test_user_password_and_tls_to_redis_and_to_sentinels(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, certificate = Sentinel._lines, pki.files.servers[1]
    ports: list[int] = []

    def with_tls(sentinel: Sentinel) -> Iterator[str]:
        ports.append(free_ports(1)[0])
        yield from lines(sentinel)
        yield from (f"tls-port {ports[-1]}", f"tls-cert-file {certificate}", f"tls-key-file {certificate}")
        yield "tls-auth-clients no"

    monkeypatch.setattr(Sentinel, "_lines", with_tls)
    with RedisSentinels(tmp_path, users=(ADMIN,), tls=pki.files) as pair:
        tls = functools.partial(tls_to, pki.files.root)
        sentinels = tuple(("127.0.0.1", port) for port in ports)
        client = Client(pair, pair.primary.url(ADMIN), tls, sentinels=sentinels, sentinel_tls=True)
        try:
            assert client.call("SET", "ocpp:a", "1") == b"OK"
            assert client.call("ACL", "WHOAMI") == b"admin"
            new = pair.replica
            pair.primary.kill()
            until(lambda: pair_names(pair, new), FAILOVER_SECONDS)
            until(lambda: client.tried("SET", "ocpp:a", "2") == b"OK", BACK_SECONDS)
        finally:
            client.connection.stop()


def replace(pair: RedisSentinels, server: RedisServer) -> None:
    """The Sentinels take `server` for the master from now on; the old one, cut off from them, stays one."""
    server.call("REPLICAOF", "NO", "ONE")
    for sentinel in pair.sentinels:
        with sentinel.connect() as connection:
            connection.call("SENTINEL", "REMOVE", SERVICE)
            connection.call("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", server.port, 2)


def tls_to(root: Path, host: str) -> Any:
    return TlsClient(host, root).creator()


def pair_names(pair: RedisSentinels, server: RedisServer) -> bool:
    return all(sentinel.primary_port() == server.port for sentinel in pair.sentinels)

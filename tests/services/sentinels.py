"""A primary, a replica, and Sentinels that make the replica the primary when the primary is gone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.services.process import ServiceProcess, free_ports, wait_until
from tests.services.redis import HOST, RedisServer, RedisUser, quoted
from tests.services.resp import RedisConnection, RedisReplyError, Reply

if TYPE_CHECKING:
    from ocppgw.pki import PkiFolder

SERVICE = "ocppgw"  # what the Sentinels call the pair
DOWN_MILLISECONDS = 1000  # without an answer, until a Sentinel holds the primary for dead
FAILOVER_MILLISECONDS = 3000
# How often a Sentinel asks and tells; milliseconds. Its own PING-PERIOD of a second is too long for DOWN_MILLISECONDS:
# servers that live were found dead. With its own periods of 10 and 2 seconds for the rest, a primary that comes back
# stays a primary for 10 seconds, beside the new one; with these for 1 to 4.
PERIODS = ("PING-PERIOD", 200, "INFO-PERIOD", 1000, "PUBLISH-PERIOD", 500)


class Sentinel(ServiceProcess):
    """One Sentinel, on a plain port. It is told of the others, whom it would else find only after seconds."""

    clean_statuses = frozenset({0})

    def __init__(self, folder: Path, primary: RedisServer, replica: RedisServer, quorum: int) -> None:
        self.name = folder.name
        super().__init__(folder)
        self.port = free_ports(1)[0]
        self.sentinel_id = secrets.token_hex(20)
        self.others: list[Sentinel] = []
        self.config_path = self.folder / "sentinel.conf"
        self._primary, self._replica, self._quorum = primary, replica, quorum

    def connect(self) -> RedisConnection:
        return RedisConnection(self.port)

    def primary_port(self) -> int:
        """Who the primary is, as this Sentinel would tell a client."""
        with self.connect() as connection:
            reply = connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        assert isinstance(reply, list)
        assert isinstance(reply[1], bytes)
        return int(reply[1])

    def _command(self) -> list[str]:
        return ["redis-server", str(self.config_path), "--sentinel"]

    def _write_config(self) -> None:
        """Sentinel keeps its state in this file."""
        self.config_path.touch(mode=0o600)
        self.config_path.write_text("\n".join(self._lines()) + "\n")

    def _lines(self) -> Iterable[str]:
        yield from (f"port {self.port}", f"bind {HOST}", f"dir {self.data}", f"sentinel myid {self.sentinel_id}")
        yield f"sentinel monitor {SERVICE} {HOST} {self._primary.port} {self._quorum}"
        yield f"sentinel down-after-milliseconds {SERVICE} {DOWN_MILLISECONDS}"
        yield f"sentinel failover-timeout {SERVICE} {FAILOVER_MILLISECONDS}"
        if self._primary.users:
            user = self._primary.users[0]
            yield f"sentinel auth-user {SERVICE} {user.name}"
            yield f"sentinel auth-pass {SERVICE} {quoted(user.password)}"
        if self._primary.tls:
            yield from ("tls-replication yes", f"tls-ca-cert-file {self._primary.tls.clients}")
        yield f"sentinel known-replica {SERVICE} {HOST} {self._replica.port}"
        for other in self.others:
            yield f"sentinel known-sentinel {SERVICE} {HOST} {other.port} {other.sentinel_id}"

    def _is_ready(self) -> bool:
        """It knows the others, and reaches the primary and the replica."""
        try:
            with self.connect() as connection:
                connection.call("SENTINEL", "DEBUG", *PERIODS)
                connection.call("SENTINEL", "CKQUORUM", SERVICE)
                (primary,) = _tables(connection.call("SENTINEL", "MASTERS"))
                replicas = _tables(connection.call("SENTINEL", "REPLICAS", SERVICE))
        except (OSError, RedisReplyError):  # nobody listens yet; `NOQUORUM …`
            return False
        in_sync = [each["flags"] == "slave" and each["master-link-status"] == "ok" for each in replicas]
        return primary["flags"] == "master" and any(in_sync)


def _tables(reply: Reply) -> list[dict[str, str]]:
    """A list of servers, each a flat list of names and values."""
    assert isinstance(reply, list)
    words = [[word.decode() for word in each if isinstance(word, bytes)] for each in reply if isinstance(each, list)]
    return [dict(zip(each[::2], each[1::2], strict=True)) for each in words]


class RedisSentinels:
    """Started and ended as one. `primary` and `replica` say who is which now."""

    def __init__(
        self, folder: Path, *, count: int = 3, users: Sequence[RedisUser] = (), tls: PkiFolder | None = None
    ) -> None:
        first = RedisServer(folder / "redis-1", users=users, tls=tls)
        second = RedisServer(folder / "redis-2", users=users, tls=tls, replica_of=first)
        self.servers = (first, second)
        self.sentinels = [
            Sentinel(folder / f"sentinel-{n}", first, second, count // 2 + 1) for n in range(1, count + 1)
        ]
        for sentinel in self.sentinels:
            sentinel.others = [other for other in self.sentinels if other is not sentinel]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of the Sentinels: what a client is configured with, beside SERVICE."""
        return [(HOST, sentinel.port) for sentinel in self.sentinels]

    @property
    def primary(self) -> RedisServer:
        """As the running Sentinels tell it. AssertionError while they differ."""
        ports = {sentinel.primary_port() for sentinel in self.sentinels if not sentinel.has_ended()}
        assert len(ports) == 1, f"the Sentinels name different primaries: {ports}"
        return self._server(ports.pop())

    @property
    def replica(self) -> RedisServer:
        primary = self.primary
        return next(server for server in self.servers if server is not primary)

    def start(self) -> Self:
        for process in (*self.servers, *self.sentinels):
            process.start()
        self.wait_in_sync()
        return self

    def fail_over(self, how: Callable[[RedisServer], None] = RedisServer.kill) -> float:
        """Take the primary away, by default with SIGKILL; the seconds until all Sentinels name the other one and it
        takes writes. `RedisServer.pause` is the primary that hangs and comes back later."""
        old, new = self.primary, self.replica
        how(old)

        def is_over() -> bool:
            named = all(sentinel.primary_port() == new.port for sentinel in self.sentinels)
            return named and new.info("replication")["role"] == "master"

        return wait_until(is_over, "the Sentinels to make the replica the primary")

    def rejoin(self) -> float:
        """Bring back the server that was taken away; the seconds until it is a replica in sync."""
        self.replica.ensure_running()
        return self.wait_in_sync()

    def wait_in_sync(self) -> float:
        def in_sync() -> bool:
            seen = self.replica.info("replication")
            return seen["role"] == "slave" and seen["master_link_status"] == "up"

        return wait_until(in_sync, "the replica to be in sync")

    def end(self) -> None:
        for process in (*self.sentinels, *self.servers):
            process.end()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, *_failure: object) -> None:
        self.end()

    def _server(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

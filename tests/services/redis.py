"""A real Redis server: append-only file, on request TLS and ACL users, or a replica of another one."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.process import ROOT, ServiceProcess, free_ports
from tests.services.resp import RedisConnection, RedisReplyError, Reply

if TYPE_CHECKING:
    from ocppgw.pki import PkiFolder

BASE = ROOT / "services" / "redis.conf"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class RedisUser:
    """An ACL user; `rules` in the language of ACL SETUSER."""

    name: str
    password: str = field(repr=False)
    rules: str = "~* &* +@all"

    @property
    def line(self) -> str:
        return f"user {self.name} on #{hashlib.sha256(self.password.encode()).hexdigest()} {self.rules}"


class RedisServer(ServiceProcess):
    """`port` 0: one that is free. `settings` are further directives of redis.conf.

    With `users` a connection must authenticate: the default user is off, and the first user, who must be allowed all,
    is the one that this class uses itself. With `tls` there is no plain port, and the certificate is the PKI's ECDSA
    one. With `client_certificate` clients must show one, and this class shows that one.
    """

    name = "redis"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        users: Sequence[RedisUser] = (),
        tls: PkiFolder | None = None,
        client_certificate: Path | None = None,
        replica_of: RedisServer | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.port = port or free_ports(1)[0]
        self.users = tuple(users)
        self.tls = tls
        self.client_certificate = client_certificate
        self._replica_of = replica_of
        self._settings = dict(settings or {})
        self.config_path = self.folder / "redis.conf"

    # --- talking to it

    def url(self, user: RedisUser | None = None) -> str:
        """For REDIS_URL."""
        words = [urllib.parse.quote(word, safe="") for word in (user.name, user.password)] if user else []
        account = ":".join(words) + "@" if words else ""
        return f"{'rediss' if self.tls else 'redis'}://{account}{HOST}:{self.port}/0"

    def connect(self, user: RedisUser | None = None, time_limit: float = 5.0) -> RedisConnection:
        """As `user`; without one nobody is authenticated."""
        name, password = (user.name, user.password) if user else (None, None)
        return RedisConnection(
            self.port, user=name, password=password, tls=self.client_context(), time_limit=time_limit
        )

    def call(self, *words: str | bytes | int, time_limit: float = 5.0) -> Reply:
        """One command as the first user, on a connection of its own."""
        with self.connect(self.users[0] if self.users else None, time_limit) as connection:
            return connection.call(*words)

    def info(self, section: str) -> dict[str, str]:
        reply = self.call("INFO", section)
        assert isinstance(reply, bytes)
        return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)

    def cli(self, *words: str) -> str:
        """What `redis-cli` prints, as for an operator at a terminal. AssertionError when it fails."""
        command = ["redis-cli", "-h", HOST, "-p", str(self.port)]
        environ = {"PATH": "/usr/bin:/bin"}
        if self.users:
            command += ["--user", self.users[0].name]
            environ["REDISCLI_AUTH"] = self.users[0].password  # not on the command line: any process can read that
        if self.tls:
            command += ["--tls", "--cacert", str(self.tls.root)]
        if self.client_certificate:
            command += ["--cert", str(self.client_certificate), "--key", str(self.client_certificate)]
        done = subprocess.run([*command, *words], env=environ, capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 0, f"redis-cli {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout.rstrip("\n")

    def client_context(self) -> ssl.SSLContext | None:
        if self.tls is None:
            return None
        context = ssl.create_default_context(cafile=str(self.tls.root))
        if self.client_certificate:
            context.load_cert_chain(self.client_certificate)
        return context

    # --- the process

    def _command(self) -> list[str]:
        return ["redis-server", str(self.config_path)]

    def _write_config(self) -> None:
        """The file may be rewritten by Redis itself later (CONFIG REWRITE, Sentinel)."""
        lines = [
            f"include {BASE}",
            f"dir {self.data}",
            *self._port_lines(),
            *self._user_lines(),
            *self._replica_lines(),
        ]
        lines += [f"{name} {value}" for name, value in self._settings.items()]
        self.config_path.touch(mode=0o600)
        self.config_path.write_text("\n".join(lines) + "\n")

    def _is_ready(self) -> bool:
        try:
            return self.call("PING") == b"PONG"
        except (OSError, RedisReplyError):  # nobody listens yet; `LOADING …`
            return False

    def _port_lines(self) -> list[str]:
        if self.tls is None:
            return [f"port {self.port}"]
        ecdsa = self.tls.servers[1]
        return [
            "port 0",
            f"tls-port {self.port}",
            f"tls-cert-file {ecdsa}",
            f"tls-key-file {ecdsa}",
            f"tls-ca-cert-file {self.tls.clients}",
            f"tls-auth-clients {'yes' if self.client_certificate else 'no'}",
            "tls-replication yes",
        ]

    def _user_lines(self) -> list[str]:
        return ["user default off", *(user.line for user in self.users)] if self.users else []

    def _replica_lines(self) -> list[str]:
        """Both ends of a pair may become the primary: so the primary, too, knows how to log in at the other."""
        login: list[str] = []
        if self.users:
            login = [f"masteruser {self.users[0].name}", f"masterauth {quoted(self.users[0].password)}"]
        primary = self._replica_of
        return login + ([f"replicaof {HOST} {primary.port}"] if primary else [])


def quoted(text: str) -> str:
    """A word of a configuration file of Redis or Sentinel."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

"""What is configured about Redis."""

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from ocppgw.errors import ConfigError

DEFAULT_PORT = 6379
SCHEMES = {"redis": False, "rediss": True}  # and whether it is TLS
FORM = "redis://user:password@host:6379/0, or rediss:// for TLS"


class RedisAddress(msgspec.Struct, frozen=True):
    """Where Redis is, and as whom. `username` "" is Redis' default user."""

    host: str
    port: int = DEFAULT_PORT
    db: int = 0
    username: str = ""
    password: str = ""
    tls: bool = False

    def __repr__(self) -> str:
        return f"RedisAddress({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _without_secrets(self, "password")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.db}"


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `prefix` stands in front of every key, "" for none; `cache_seconds`: how long what was looked
    up is good for, unless Redis tells of a change first; `revoked_ttl`: how long a revoked certificate stays on the
    denylist, 0 for ever; `attempts_kept`: connection attempts, of all nodes together.

    `sentinels`: hosts and ports to ask who the master of the name `sentinel_master` is; none: it is `address`.
    `cached_admission`: how old what this node last read of a station may be, to let it in while Redis is away; 0: no
    station is let in then.
    """

    address: RedisAddress
    prefix: str = "ocpp"
    identity_prefix: str = "chargers"
    revoked_prefix: str = "revoked-certs"
    connect_timeout: float = 5.0
    call_timeout: float = 2.0
    cache_seconds: float = 5.0
    revoked_ttl: float = 0.0
    attempts_kept: int = 5000
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_master: str = ""
    sentinel_tls: bool = False
    sentinel_username: str = ""
    sentinel_password: str = ""
    cached_admission: float = 0.0

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.sentinel_master!r} (by its Sentinels)" if self.sentinels else str(self.address)

    def __repr__(self) -> str:
        return f"RedisSettings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _without_secrets(self, "sentinel_password")


def parse_url(url: str) -> RedisAddress:
    """REDIS_URL. ConfigError when it can't be used; what it says never repeats the URL, which holds a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("the Redis URL has an invalid host or port", hint=f"write {FORM}") from None
    if parts.scheme not in SCHEMES:
        raise ConfigError("the Redis URL must begin with redis:// or rediss://", hint=f"write {FORM}")
    if not parts.hostname:
        raise ConfigError(
            "the Redis URL names no host", hint=f"write {FORM}; '/', '?', '#' and '@' in a password as %XX"
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            "the Redis URL goes on after the number of the database",
            hint="write '?' and '#' in a password as %3F and %23",
        )
    if parts.username and not parts.password:
        raise ConfigError("the Redis URL names a user without a password", hint=f"write {FORM}")
    return RedisAddress(
        parts.hostname,
        DEFAULT_PORT if port is None else port,
        _db(parts),
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        SCHEMES[parts.scheme],
    )


def _without_secrets(struct: msgspec.Struct, secret: str) -> list[tuple[str, Any]]:
    fields = [(name, getattr(struct, name)) for name in struct.__struct_fields__]
    return [(name, "***" if name == secret and value else value) for name, value in fields]


def _db(parts: SplitResult) -> int:
    number = parts.path.removeprefix("/")
    if not number:
        return 0
    if not (number.isascii() and number.isdigit()):
        raise ConfigError("the Redis URL must end with the number of the database, or nothing", hint=f"write {FORM}")
    return int(number)

"""Settings of Redis: what the nodes of one fleet share."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from ocppgw.config.kinds import KeyPrefix, Sentinels
from ocppgw.config.section import Section, env

REDIS_URL_FORM = "redis://user:password@host:6379/0, or rediss:// for TLS"

# The first part of keys that hold something else than identities and revoked certificates.
RESERVED_KEYS = frozenset(
    {
        "attempts",
        "command-audit",
        "epochs",
        "fleet",
        "identity-files",
        "log",
        "node-losses",
        "nodes",
        "open-commands",
        "open-transactions",
        "rate",
        "security-profiles",
        "sessions",
        "station-ids",
        "station-state",
        "transaction",
        "transaction-ids",
        "transaction-key",
        "unpublished-commands",
        "waiting-commands",
    }
)


class RedisSettings(Section):
    """Redis: identities, sessions, station states and commands, shared by all nodes of a fleet. Needs Kafka."""

    enabled: bool = Field(
        default=False,
        description="Use Redis; off, this node keeps all of it in its state folder and is the only one.",
        json_schema_extra=env("REDIS_ENABLED"),
    )
    required: bool = Field(
        default=False,
        description="/ready says no while Redis is away.",
        json_schema_extra=env("REQUIRE_REDIS"),
    )
    url: SecretStr = Field(
        default=SecretStr(""),
        description="redis://user:password@host:6379/0, or rediss:// for TLS. Better set by environment than in this "
        "file. With sentinels its host and port are not used.",
        json_schema_extra=env("REDIS_URL"),
    )
    prefix: KeyPrefix = Field(
        default="ocpp",
        description="Stands in front of every key, followed by a colon; empty: nothing does.",
        json_schema_extra=env("REDIS_PREFIX"),
    )
    identity_prefix: KeyPrefix = Field(
        default="chargers",
        min_length=1,
        description="Keys of identities: {prefix}:{identity_prefix}:{chargePointId}.",
        json_schema_extra=env("OCPP_IDENTITY_PREFIX"),
    )
    revoked_prefix: KeyPrefix = Field(
        default="revoked-certs",
        min_length=1,
        description="Keys of revoked certificates: {prefix}:{revoked_prefix}:{fingerprint}.",
        json_schema_extra=env("OCPP_REVOKED_PREFIX"),
    )
    connect_timeout_ms: int = Field(
        default=5000,
        ge=100,
        le=300_000,
        description="Time a connection may take, milliseconds.",
        json_schema_extra=env("REDIS_CONNECT_TIMEOUT_MS"),
    )
    call_timeout_seconds: float = Field(
        default=2.0, ge=0.1, le=60, description="Time Redis has to answer, seconds; then the connection is made anew."
    )
    cache_seconds: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="How long an identity that was read is good for, seconds, unless Redis tells of a change first.",
    )
    when_away: Literal["refuse", "cached"] = Field(
        default="refuse",
        description="New connections while Redis is away: refuse answers 503, cached goes by what this node last read "
        "of the station. A station this node never read is refused in any case.",
    )
    cached_admission_seconds: float = Field(
        default=3600.0, gt=0, le=86_400, description="Oldest age of what cached goes by, seconds."
    )
    tls_ca_path: str = Field(
        default="",
        description="PEM file of the CAs that the certificates of Redis and its sentinels may come from; empty: the "
        "system's. Relative paths, here and below, are relative to the folder of this file.",
    )
    tls_cert_path: str = Field(default="", description="PEM file of the client's certificate and chain; empty: none.")
    tls_key_path: str = Field(default="", description="PEM file of its key; empty: the certificate's file holds it.")
    sentinels: Sentinels = Field(
        default=(),
        strict=False,
        description="Sentinels to ask which Redis is the master, host:port; empty: it is always the one of the URL.",
        json_schema_extra=env("REDIS_SENTINELS"),
    )
    sentinel_master: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,200}$",
        description="Name of the master among the sentinels.",
        json_schema_extra=env("REDIS_SENTINEL_MASTER"),
    )
    sentinel_tls: bool = Field(default=False, description="Speak TLS to the sentinels, too; their names are verified.")
    sentinel_username: str = Field(default="", max_length=500, description="User name; empty: the default user.")
    sentinel_password: SecretStr = Field(
        default=SecretStr(""),
        description="Password of the sentinels; empty: they ask for none. Better set by environment than in this file.",
        json_schema_extra=env("REDIS_SENTINEL_PASSWORD"),
    )
    session_ttl_seconds: int = Field(
        default=1800,
        ge=2,
        le=604_800,
        description="How long the entry of a station's session outlives its last refresh, seconds.",
        json_schema_extra=env("SESSION_TTL_SECONDS"),
    )
    session_stale_seconds: int = Field(
        default=900,
        ge=1,
        le=604_800,
        description="Age from which another node's session entry counts as left behind, seconds.",
        json_schema_extra=env("SESSION_STALE_SECONDS"),
    )
    transactions_kept_days: float = Field(
        default=14.0, gt=0, le=3650, description="How long a transaction is kept after its end, days."
    )
    response_cache: bool = Field(
        default=True,
        description="Share the answers to stations' messages, so that one repeated on another node gets the same.",
        json_schema_extra=env("OCPP_RESPONSE_CACHE_REDIS"),
    )
    duplicate_policy: Literal["challenge", "reject", "newest"] = Field(
        default="challenge",
        description="A station connects while another node holds it: challenge asks that node whether the connection "
        "is alive, reject goes by the age of its entry only, newest takes it over.",
    )


def url_fault(url: str) -> str:
    """What is wrong with a Redis URL, "" for nothing; never quotes it, for it holds a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "has an invalid host or port"
    if parts.scheme not in ("redis", "rediss"):
        return "must begin with redis:// or rediss://"
    if not parts.hostname or port == 0:
        return "names no host or port 0"
    if parts.query or parts.fragment:
        return "goes on after the number of the database"
    if parts.username and not parts.password:
        return "names a user without a password"
    number = parts.path.removeprefix("/")
    return "" if not number or (number.isascii() and number.isdigit()) else "must end with the number of the database"


def uses_tls(url: str) -> bool:
    return url.startswith("rediss://")

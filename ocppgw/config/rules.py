"""Rules that span several settings: combinations that are unsafe are errors, ones that can't help are warnings."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ocppgw.config.kinds import unique_node_id
from ocppgw.config.problems import did_you_mean
from ocppgw.config.redis_settings import REDIS_URL_FORM, RESERVED_KEYS, url_fault, uses_tls
from ocppgw.config.settings import Settings
from ocppgw.ocpp.versions import VERSIONS


@dataclass(frozen=True)
class Finding:
    """`key`: the setting to mend; `needs`: the other settings the verdict rests on."""

    key: str
    message: str
    hint: str
    needs: tuple[str, ...] = ()
    error: bool = True


def is_loopback(host: str) -> bool:
    """Only this machine can reach a listener on `host` (an IP address or localhost)."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def findings(settings: Settings) -> Iterator[Finding]:
    """What the rules find, in the order of the tree."""
    for rule in _RULES:
        yield from rule(settings)


def _token_beyond_loopback(settings: Settings) -> Iterator[Finding]:
    operations = settings.operations
    if not operations.token.get_secret_value() and not is_loopback(operations.host):
        yield Finding(
            "operations.token",
            f"is required because operations.host = {operations.host} can be reached by other machines",
            'set HEALTH_METRICS_AUTH_TOKEN, or operations.host = "127.0.0.1"',
            ("operations.host",),
        )


def _unknown_beyond_loopback(settings: Settings) -> Iterator[Finding]:
    stations, host = settings.stations, settings.websocket.host
    if stations.unknown == "admit" and not stations.admit_unknown_anywhere and not is_loopback(host):
        yield Finding(
            "stations.unknown",
            f'"admit" on websocket.host = {host} lets in anybody who can reach the port',
            'set stations.unknown = "refuse" or websocket.host = "127.0.0.1"; '
            "if it is really meant, stations.admit_unknown_anywhere = true",
            ("stations.admit_unknown_anywhere", "websocket.host"),
        )


def _distinct_ports(settings: Settings) -> Iterator[Finding]:
    websocket, operations = settings.websocket, settings.operations
    if websocket.port and websocket.port == operations.port:
        yield Finding(
            "operations.port",
            f"is {operations.port}, which websocket.port has already",
            "give the two listeners different ports",
            ("websocket.port",),
        )
    for port in websocket.more_ports:
        if int(port) in (websocket.port, operations.port):
            yield Finding(
                "websocket.more_ports",
                f"names {port}, which another listener has already",
                "give each listener its own port",
                ("websocket.port", "operations.port"),
            )


def _inflated_below_wire(settings: Settings) -> Iterator[Finding]:
    websocket = settings.websocket
    if websocket.compression and websocket.max_inflated_bytes < websocket.max_message_bytes:
        yield Finding(
            "websocket.max_inflated_bytes",
            "is below websocket.max_message_bytes: a message may be refused only because it was compressed",
            f"set it to at least {websocket.max_message_bytes}",
            ("websocket.max_message_bytes", "websocket.compression"),
            error=False,
        )


def speaks_tls(settings: Settings) -> bool:
    """Whether any port speaks TLS."""
    return settings.tls.enabled or any(kind != "plain" for kind in settings.websocket.more_ports.values())


def _certificates_without_tls(settings: Settings) -> Iterator[Finding]:
    if settings.stations.auth_mode == "mtls" and not speaks_tls(settings):
        yield Finding(
            "stations.auth_mode",
            '"mtls" refuses every station whose identity names no other way: no port speaks TLS',
            "set basic or token, or tls.enabled = true",
            ("tls.enabled", "websocket.more_ports"),
            error=False,
        )


def _tls_files(settings: Settings) -> Iterator[Finding]:
    tls = settings.tls
    if speaks_tls(settings) and not tls.cert_path:
        yield Finding(
            "tls.cert_path",
            "is required by a port that speaks TLS",
            "name the certificate's PEM file, or set OCPP_TLS_CERT_PATH",
            ("tls.enabled", "websocket.more_ports"),
        )
    if tls.key_path and len(tls.key_path) != len(tls.cert_path):
        yield Finding(
            "tls.key_path",
            f"names {len(tls.key_path)} files, tls.cert_path {len(tls.cert_path)}",
            "name one key for each certificate, in the same order, or none when the certificate files hold them",
            ("tls.cert_path",),
        )


def _client_certificates(settings: Settings) -> Iterator[Finding]:
    tls, kinds = settings.tls, settings.websocket.more_ports.values()
    if not tls.ca_path and ((tls.enabled and tls.client_auth == "require") or "mtls" in kinds):
        yield Finding(
            "tls.ca_path",
            "is required where client certificates are",
            "name the PEM file of the CAs that sign stations' certificates, or set OCPP_TLS_CA_PATH",
            ("tls.client_auth", "tls.enabled", "websocket.more_ports"),
        )
    if tls.crl_path and not tls.ca_path:
        yield Finding("tls.crl_path", "has no effect without tls.ca_path", "name the CAs too", ("tls.ca_path",))


def _believing_nobody(settings: Settings) -> Iterator[Finding]:
    admission = settings.admission
    if admission.trusted_proxies:
        return
    for key, is_on in (
        ("admission.proxy_header", admission.proxy_header != "none"),
        ("websocket.proxy_protocol", settings.websocket.proxy_protocol),
    ):
        if is_on:
            yield Finding(
                key,
                "has no effect: admission.trusted_proxies names no proxy, so nobody is believed",
                "list the proxies there",
                ("admission.trusted_proxies",),
                error=False,
            )


def _kafka(settings: Settings) -> Iterator[Finding]:
    kafka = settings.kafka
    if kafka.enabled and settings.node.id == unique_node_id():
        yield Finding(
            "node.id",
            f"is {settings.node.id}, new with each start, and so is the topic that commands for this node come from",
            "set NODE_ID to a name that stays",
            ("kafka.enabled",),
            error=False,
        )
    if kafka.required and not kafka.enabled:
        yield Finding(
            "kafka.required", "is set, but kafka.enabled is not", "set KAFKA_ENABLED = true", ("kafka.enabled",)
        )
    known = {action for version in VERSIONS for action in version.actions} | {"*"}
    for action in kafka.acknowledged_actions:
        if action not in known:
            yield Finding(
                "kafka.acknowledged_actions",
                f"{action!r} is no action of OCPP 1.6, 2.0.1 or 2.1",
                did_you_mean(action, sorted(known), "names are written as in OCPP, without Request"),
                ("kafka.enabled",),
            )
    if kafka.sasl_mechanism != "none" and not (kafka.sasl_username and kafka.sasl_password.get_secret_value()):
        yield Finding(
            "kafka.sasl_mechanism",
            f"{kafka.sasl_mechanism} needs a user name and a password",
            "set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
            ("kafka.sasl_username", "kafka.sasl_password"),
        )
    if kafka.sasl_mechanism == "PLAIN" and not kafka.tls:
        yield Finding(
            "kafka.sasl_mechanism",
            "PLAIN sends the password in the clear",
            "set kafka.tls = true",
            ("kafka.tls",),
            error=False,
        )


def _decisions(settings: Settings) -> Iterator[Finding]:
    decisions = settings.decisions
    if (decisions.backend or decisions.tenants) and not decisions.enabled:
        yield Finding(
            "decisions.backend",
            "has no effect: decisions.enabled is not set",
            "set decisions.enabled = true",
            ("decisions.enabled",),
            error=False,
        )


def _redis(settings: Settings) -> Iterator[Finding]:
    redis = settings.redis
    if redis.required and not redis.enabled:
        yield Finding(
            "redis.required", "is set, but redis.enabled is not", "set REDIS_ENABLED = true", ("redis.enabled",)
        )
    if not redis.enabled:
        return
    if not settings.kafka.enabled:
        yield Finding(
            "redis.enabled",
            "needs Kafka: nodes that share a fleet in Redis talk to each other over it",
            "set KAFKA_ENABLED = true and KAFKA_BROKERS, or REDIS_ENABLED = false for a single node",
            ("kafka.enabled",),
        )
    url = redis.url.get_secret_value()
    fault = url_fault(url) if url else "is required by redis.enabled"
    if fault:
        yield Finding("redis.url", fault, f"set REDIS_URL to {REDIS_URL_FORM}", ("redis.enabled",))


def _redis_tls(settings: Settings) -> Iterator[Finding]:
    redis = settings.redis
    if redis.tls_key_path and not redis.tls_cert_path:
        yield Finding(
            "redis.tls_key_path", "needs redis.tls_cert_path", "name the certificate", ("redis.tls_cert_path",)
        )
    if redis.enabled and (redis.tls_ca_path or redis.tls_cert_path) and not uses_tls(redis.url.get_secret_value()):
        yield Finding(
            "redis.url",
            "speaks no TLS, though redis.tls_ca_path or redis.tls_cert_path is set",
            "write rediss://",
            ("redis.tls_ca_path", "redis.tls_cert_path"),
            error=False,
        )


def _redis_keys(settings: Settings) -> Iterator[Finding]:
    redis = settings.redis
    one, other = f"{redis.identity_prefix}:", f"{redis.revoked_prefix}:"
    if one.startswith(other) or other.startswith(one):
        yield Finding(
            "redis.revoked_prefix",
            "can't be told apart from redis.identity_prefix",
            "let neither begin with the other",
            ("redis.identity_prefix",),
        )
    for name, prefix in (("identity_prefix", one), ("revoked_prefix", other)):
        if prefix.partition(":")[0] in RESERVED_KEYS:
            yield Finding(f"redis.{name}", "is the name of other keys of the gateway", "choose another")


def _redis_sentinels(settings: Settings) -> Iterator[Finding]:
    redis = settings.redis
    if redis.sentinels and not redis.sentinel_master:
        yield Finding(
            "redis.sentinel_master",
            "is required by redis.sentinels",
            "name the master as the sentinels do",
            ("redis.sentinels",),
        )
    for name, is_set in (
        ("sentinel_master", redis.sentinel_master),
        ("sentinel_username", redis.sentinel_username),
        ("sentinel_password", redis.sentinel_password.get_secret_value()),
    ):
        if is_set and not redis.sentinels:
            yield Finding(
                f"redis.{name}", "has no effect without redis.sentinels", "list the sentinels", ("redis.sentinels",)
            )

    if redis.sentinel_tls and not uses_tls(redis.url.get_secret_value()):
        yield Finding("redis.sentinel_tls", "needs a redis.url with rediss://", "write rediss://", ("redis.url",))


def _lives(settings: Settings) -> Iterator[Finding]:
    node, redis = settings.node, settings.redis
    if redis.session_stale_seconds >= redis.session_ttl_seconds:
        yield Finding(
            "redis.session_stale_seconds",
            f"is not below redis.session_ttl_seconds = {redis.session_ttl_seconds}: no entry would ever be stale",
            "set SESSION_STALE_SECONDS below SESSION_TTL_SECONDS, to half of it for example",
            ("redis.session_ttl_seconds",),
        )
    if node.heartbeat_seconds * 2 >= node.ttl_seconds:
        yield Finding(
            "node.heartbeat_seconds",
            f"is not below half of node.ttl_seconds = {node.ttl_seconds}: one late refresh would end this node",
            "set NODE_HEARTBEAT_SECONDS below half of NODE_TTL_SECONDS, to a quarter of it for example",
            ("node.ttl_seconds",),
        )


def _local_ca(settings: Settings) -> Iterator[Finding]:
    signing = settings.signing
    if signing.mode == "local":
        for name, value in (("ca_cert_path", signing.ca_cert_path), ("ca_key_path", signing.ca_key_path)):
            if not value:
                yield Finding(
                    f"signing.{name}", 'is required by signing.mode = "local"', "name its PEM file", ("signing.mode",)
                )


def _scrypt(settings: Settings) -> Iterator[Finding]:
    n = settings.stations.scrypt_n
    if n & (n - 1):
        yield Finding("stations.scrypt_n", f"is {n}, which is no power of 2", "set it to 16384")


_RULES: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _inflated_below_wire,
    _distinct_ports,
    _token_beyond_loopback,
    _unknown_beyond_loopback,
    _certificates_without_tls,
    _tls_files,
    _client_certificates,
    _believing_nobody,
    _kafka,
    _decisions,
    _redis,
    _redis_tls,
    _redis_keys,
    _redis_sentinels,
    _lives,
    _local_ca,
    _scrypt,
)

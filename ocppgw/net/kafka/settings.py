"""What is configured about Kafka, and the options of the client library that follow from it.

The producer's settings are the lossless ones: all replicas acknowledge, one request in flight, no idempotence. (The
library's idempotent producer wedges after a batch that is given up, and one record above the topic's limit makes every
later one fail.) Repeats are possible; events have deterministic ids, so consumers can drop them.
"""

import ssl
from collections.abc import Iterator
from typing import Any

import msgspec

from ocppgw.errors import BusError

RECONNECT_SECONDS = 1.0  # at most between two attempts; with the library's 30 a restarted broker is found late
LINGER_SECONDS = 600.0  # never waited for: a flush sends, so that each partition gets one batch of a chunk
BATCH_BYTES = 1_048_576  # above a chunk (shipping.CHUNK_BYTES): what is full is sent before the flush
BLOCK_SECONDS = 1.0  # at most in one call for a topic's partitions
FETCH_BYTES = 4 * 1_048_576
MAX_POLL_SECONDS = 60.0  # without a poll, until the group goes on without this member

SECRET = "sasl_password"  # noqa: S105


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `brokers` are host:port; `sasl_mechanism` none, PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""

    brokers: tuple[str, ...]
    client_id: str = "ocppgw"
    tls: bool = False
    tls_ca_path: str = ""  # "": the system's certificate authorities
    tls_cert_path: str = ""  # the client's certificate and chain, "" for none
    tls_key_path: str = ""  # "": the certificate's file holds it
    sasl_mechanism: str = "none"
    sasl_username: str = ""
    sasl_password: str = ""
    connection_timeout: float = 5.0
    request_timeout: float = 5.0
    ship_timeout: float = 30.0  # a batch is acknowledged by then, or failed
    stop_timeout: float = 5.0
    session_timeout: float = 10.0  # after this the group gives the partitions of a dead node to others
    retry_pause: float = 1.0  # before a batch that was not handled comes again; doubled each time
    max_record_bytes: int = 1_000_000  # of key and value; brokers take 1,048,588 bytes with all around it by default
    max_poll_records: int = 500
    offset_reset: str = "earliest"  # where a group begins that has committed nothing yet

    def __repr__(self) -> str:
        return f"KafkaSettings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, "***" if name == SECRET and value else value) for name, value in self._fields()]

    @property
    def where(self) -> str:
        return ", ".join(self.brokers)

    @property
    def uses_sasl(self) -> bool:
        return self.sasl_mechanism not in ("", "none")

    @property
    def security_protocol(self) -> str:
        return ("SASL_" if self.uses_sasl else "") + ("SSL" if self.tls else "PLAINTEXT")

    def _fields(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.__struct_fields__)


def producer_options(settings: KafkaSettings) -> dict[str, Any]:
    """Reads the TLS files: BusError when they can't be used."""
    return {
        **_client_options(settings),
        "acks": "all",
        "enable_idempotence": False,
        "max_in_flight_requests_per_connection": 1,
        "delivery_timeout_ms": float("inf"),  # the library never gives one batch up and sends the next
        "linger_ms": _ms(LINGER_SECONDS),
        "batch_size": BATCH_BYTES,
        "max_block_ms": _ms(BLOCK_SECONDS),
        "max_request_size": max(BATCH_BYTES, settings.max_record_bytes + 1000),
    }


def consumer_options(settings: KafkaSettings, group: str, member: str = "") -> dict[str, Any]:
    """As `producer_options`. Nothing is committed unless the bus says so. `member` makes it a static one (KIP-345)."""
    return {
        **_client_options(settings),
        "group_id": group,
        "group_instance_id": member or None,
        "enable_auto_commit": False,
        "auto_offset_reset": settings.offset_reset,
        "max_poll_records": settings.max_poll_records,
        "max_poll_interval_ms": _ms(MAX_POLL_SECONDS),
        "session_timeout_ms": _ms(settings.session_timeout),
        "heartbeat_interval_ms": _ms(settings.session_timeout / 4),
        "fetch_max_wait_ms": _ms(min(0.5, settings.request_timeout / 2)),
        "fetch_max_bytes": FETCH_BYTES,
        "metadata_max_age_ms": 60_000,
    }


def _client_options(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.brokers),
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": _ms(settings.connection_timeout),
        "request_timeout_ms": _ms(settings.request_timeout),
        "reconnect_backoff_max_ms": _ms(RECONNECT_SECONDS),
        "metrics_enabled": False,
        "security_protocol": settings.security_protocol,
    }
    if settings.tls:
        options["ssl_context"] = _tls_context(settings)
    if settings.uses_sasl:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password
    return options


def _tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_path or None)
    except OSError as fault:  # ssl.SSLError is one
        raise _unusable("CA file", settings.tls_ca_path, fault) from fault
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_cert_path:
        try:
            context.load_cert_chain(settings.tls_cert_path, settings.tls_key_path or None)
        except OSError as fault:
            files = " or ".join(path for path in (settings.tls_cert_path, settings.tls_key_path) if path)
            raise _unusable("certificate or key", files, fault) from fault
    return context


def _unusable(what: str, path: str, fault: OSError) -> BusError:
    return BusError(f"the {what} for Kafka can't be used: {path}: {fault.strerror or fault}")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

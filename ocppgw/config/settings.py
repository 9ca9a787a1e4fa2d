"""The settings tree: every knob of the gateway, its default, its bounds and the environment name that overrides it.

Frozen pydantic models, one per table of `etc/ocppgw.toml`. `Settings()` is a complete set of defaults. Durations are in
seconds and sizes in bytes, and the names say so. Environment names are those of the outside contract (section 4);
what they carry is text, so `ocppgw.config.environment` converts it first: the models themselves are strict.
Rules that span several settings are in `ocppgw.config.rules`.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from ocppgw.config.access_settings import AdmissionSettings, SigningSettings, StationsSettings, TlsSettings
from ocppgw.config.decision_settings import DecisionsSettings
from ocppgw.config.kafka_settings import KafkaSettings
from ocppgw.config.kinds import (
    BootStatus,
    Host,
    Listeners,
    Names,
    Port,
    TokenStatus,
    TokenStatuses,
    Versions,
    unique_node_id,
)
from ocppgw.config.redis_settings import RedisSettings
from ocppgw.config.section import Section, env


class NodeSettings(Section):
    """This process among its peers."""

    id: str = Field(
        default="",
        validate_default=True,
        pattern=r"^[A-Za-z0-9._-]{0,200}$",
        description="Name of this process, unique among all nodes; letters, digits, '.', '_' and '-'. "
        'Empty: host name and process id, "{hostname}-{pid}".',
        json_schema_extra=env("NODE_ID"),
    )
    service_name: str = Field(
        default="ocppgw",
        min_length=1,
        max_length=200,
        description="Name of the service in logs and health reports.",
        json_schema_extra=env("SERVICE_NAME"),
    )
    advertise_url: str = Field(
        default="",
        max_length=2000,
        pattern=r"^([A-Za-z][A-Za-z0-9+.-]*://\S+)?$",
        description="URL under which others reach this node; the other nodes and the backend read it in Redis. "
        "Empty: none.",
        json_schema_extra=env("NODE_ADVERTISE_URL"),
    )
    ttl_seconds: int = Field(
        default=120,
        ge=3,
        le=86_400,
        description="How long this node's entry in Redis outlives its last refresh, seconds.",
        json_schema_extra=env("NODE_TTL_SECONDS"),
    )
    heartbeat_seconds: int = Field(
        default=30,
        ge=1,
        le=43_200,
        description="Time between refreshes of this node's entry in Redis, seconds.",
        json_schema_extra=env("NODE_HEARTBEAT_SECONDS"),
    )

    @field_validator("id")
    @classmethod
    def _fill_in(cls, value: str) -> str:
        return value or unique_node_id()


class WebSocketSettings(Section):
    """The listener that stations connect to."""

    host: Host = Field(default="0.0.0.0", description="IP address to listen on; 0.0.0.0 or :: for all.")  # noqa: S104
    port: Port = Field(
        default=8080,
        description="TCP port stations connect to; 0 lets the system choose.",
        json_schema_extra=env("WEBSOCKET_OCPP_PORT"),
    )
    backlog: int = Field(
        default=1024, ge=1, le=65535, description="Connections the kernel may hold before they are accepted."
    )
    max_message_bytes: int = Field(
        default=262_144,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Largest message on the wire, bytes; a larger one closes the connection with 1009.",
        json_schema_extra=env("OCPP_MAX_PAYLOAD_BYTES"),
    )
    max_inflated_bytes: int = Field(
        default=1_048_576,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Largest compressed message once inflated, bytes; a larger one closes the connection with 1009.",
    )
    max_connections: int = Field(
        default=20_000, ge=1, le=1_000_000, description="Connections open at once; further ones are turned away."
    )
    max_half_open: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Connections that have not finished their handshake; further ones are turned away.",
    )
    handshake_timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=300, description="Time a connection has for its handshake, seconds."
    )
    ping_interval_seconds: float = Field(
        default=30.0, ge=0.1, le=3600, description="Time between pings to a station, seconds."
    )
    ping_misses: int = Field(
        default=2, ge=1, le=100, description="Unanswered pings in a row after which a station's connection is dropped."
    )
    drain_per_second: float = Field(
        default=500.0,
        ge=1,
        le=100_000,
        description="Stations closed a second when the gateway stops, so that they don't all come to another node at "
        "once; more, when drain_seconds would not do.",
    )
    drain_seconds: float = Field(
        default=15.0, ge=0.1, le=3600, description="Time within which all of them are closed, seconds."
    )
    reuse_port: bool = Field(
        default=False,
        description="Share the ports for stations with other processes of this host (SO_REUSEPORT): each is a node "
        "of its own, with its own node.id, state_dir and operations.port.",
    )
    more_ports: Listeners = Field(
        default={},
        description="Further ports of websocket.host and what they speak: plain, tls (asks for no client certificate), "
        "mtls (requires one) or mtls-optional. Those other than plain need the certificates of [tls].",
    )
    proxy_protocol: bool = Field(
        default=False,
        description="Expect the PROXY protocol, version 1 or 2, from the proxies in admission.trusted_proxies; nobody "
        "else may send it.",
    )
    compression: bool = Field(default=True, description="Accept permessage-deflate when a station offers it.")
    fast_lane: bool = Field(
        default=True,
        description="Handle whole small text frames directly; off sends everything through Autobahn's own lane.",
    )


class OperationsSettings(Section):
    """The HTTP listener for health, metrics, stations, commands and events."""

    host: Host = Field(
        default="127.0.0.1",
        description="IP address to listen on; an address that is not loopback requires operations.token.",
    )
    port: Port = Field(default=3001, description="TCP port; 0 lets the system choose.", json_schema_extra=env("PORT"))
    token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token every request must carry; empty: none. Better set by environment than in this file.",
        json_schema_extra=env("HEALTH_METRICS_AUTH_TOKEN"),
    )


class OcppSettings(Section):
    """The protocol."""

    versions: Versions = Field(
        default=("1.6J", "2.0.1", "2.1"),
        min_length=1,
        strict=False,
        description="Versions served.",
    )
    boot_status: BootStatus = Field(
        default="Accepted",
        description="Answer to BootNotification when the station's identity names none: Accepted, Pending or Rejected.",
    )
    boot_models: Names = Field(
        default=(),
        strict=False,
        description="Vendor/model of the stations that get boot_status, with * for any text, such as Vendor/Model*; "
        "all others, unless their identity says otherwise, get boot_unknown_model. Empty: all get boot_status.",
    )
    boot_unknown_model: Literal["Pending", "Rejected"] = Field(
        default="Pending",
        description="Answer to BootNotification of a vendor or model that boot_models does not name.",
    )
    heartbeat_interval_seconds: int = Field(
        default=300, ge=1, le=86_400, description="Heartbeat interval given to accepted stations, seconds."
    )
    boot_retry_interval_seconds: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="Wait before the next BootNotification given to pending and rejected stations, seconds.",
    )
    assume_accepted: bool = Field(
        default=False,
        description="Treat a station that never booted here as accepted: for stations known before a store was lost.",
    )
    trigger_boot_when_rejected: bool = Field(
        default=False, description="Allow TriggerMessage(BootNotification) to a rejected station."
    )
    unknown_type_error: bool = Field(
        default=False,
        description="Answer an unknown message type on 2.0.1 with MessageTypeNotSupported instead of ignoring it.",
    )
    no_subprotocol_close: bool = Field(
        default=False,
        description="Accept the upgrade of a client without a usable subprotocol and close it at once, instead of "
        "answering 400.",
    )
    call_timeout_seconds: float = Field(
        default=30.0, ge=0.1, le=3600, description="Time a station has to answer a CALL, seconds."
    )
    pending_message_limit: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Messages of one station that may wait at once; a station above it is not read from.",
        json_schema_extra=env("OCPP_PENDING_MESSAGE_LIMIT"),
    )
    response_cache_ttl_seconds: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How long an answer is kept for a repeated CALL, seconds.",
        json_schema_extra=env("OCPP_RESPONSE_CACHE_TTL_SECONDS"),
    )
    bad_frames_limit: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Unreadable frames within bad_frames_window_seconds after which the connection is closed.",
    )
    bad_frames_window_seconds: float = Field(
        default=60.0, ge=0.1, le=86_400, description="Window in which unreadable frames are counted, seconds."
    )


class AnswersSettings(Section):
    """What the gateway answers on its own."""

    id_token_status: TokenStatus = Field(
        default="Accepted", description="Authorization status of every token that answers.id_tokens does not name."
    )
    id_tokens: TokenStatuses = Field(
        default={},
        description="Table of token and authorization status, such as Blocked or Expired.",
    )
    id_tokens_file: str = Field(
        default="",
        max_length=4096,
        description="JSON file of known tokens with their status, type, end and parent; read again on SIGHUP. Those of "
        "answers.id_tokens count before it. Relative to the folder of this file. Empty: none.",
    )
    data_transfer_vendors: Names = Field(
        default=(),
        strict=False,
        description="vendorId whose DataTransfer is answered Accepted; any other is answered UnknownVendorId.",
    )


class QuirksSettings(Section):
    """Stations that bend the standard."""

    dir: str = Field(
        default="",
        max_length=4096,
        description="Folder of quirk profiles (*.toml; etc/quirks.d/README.md), read again on SIGHUP. Relative to the "
        "folder of this file. Empty: none, every message has to follow its schema.",
    )


class EventsSettings(Section):
    """What events hold."""

    normalised: bool = Field(
        default=False,
        description="Beside the original payload a view of it that is the same for all OCPP versions, in fixed units: "
        "payload.normalised.",
    )


class JournalSettings(Section):
    """The event journal on disk."""

    retention_days: float = Field(default=7.0, gt=0, le=3650, description="Events older than this are deleted, days.")
    retention_bytes: int = Field(
        default=1_073_741_824,
        ge=1_048_576,
        description="Size above which the oldest events are deleted, bytes.",
    )
    max_waiting_records: int = Field(
        default=20_000, ge=1, le=10_000_000, description="Events waiting for the disk; above it new ones are refused."
    )
    max_waiting_bytes: int = Field(
        default=67_108_864, ge=65_536, description="Bytes waiting for the disk; above it new events are refused."
    )
    timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=3600, description="Time an event may wait for the disk before it is refused, seconds."
    )


class CommandsSettings(Section):
    """Commands to stations."""

    default_timeout_seconds: float = Field(
        default=15.0, ge=0.1, le=86_400, description="Time limit of a command that names none, seconds."
    )
    queue_per_station: int = Field(
        default=20, ge=1, le=10_000, description="Commands that may wait for one station; further ones are refused."
    )
    audit_ttl_seconds: int = Field(
        default=86_400,
        ge=1,
        description="How long the record of an ended command is kept, seconds.",
        json_schema_extra=env("COMMAND_AUDIT_TTL_SECONDS"),
    )


class LogsSettings(Section):
    """Log output."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged: debug, info, warning or error."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="text for people, json for programs (one object a line)."
    )


class Settings(Section):
    """The whole tree."""

    state_dir: Path = Field(
        default=Path("var"),
        strict=False,
        description="Folder that holds all state; a relative path is relative to the current directory.",
        json_schema_extra=env("OCPPGW_STATE_DIR"),
    )
    node: NodeSettings = Field(default_factory=NodeSettings)
    websocket: WebSocketSettings = Field(default_factory=WebSocketSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    operations: OperationsSettings = Field(default_factory=OperationsSettings)
    stations: StationsSettings = Field(default_factory=StationsSettings)
    ocpp: OcppSettings = Field(default_factory=OcppSettings)
    answers: AnswersSettings = Field(default_factory=AnswersSettings)
    quirks: QuirksSettings = Field(default_factory=QuirksSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    decisions: DecisionsSettings = Field(default_factory=DecisionsSettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    commands: CommandsSettings = Field(default_factory=CommandsSettings)
    admission: AdmissionSettings = Field(default_factory=AdmissionSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    signing: SigningSettings = Field(default_factory=SigningSettings)
    logs: LogsSettings = Field(default_factory=LogsSettings)

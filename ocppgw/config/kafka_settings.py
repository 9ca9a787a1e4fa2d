"""Settings of Kafka: events out, commands in."""

from typing import Literal

from pydantic import Field, SecretStr

from ocppgw.config.kinds import Brokers, Names, TopicName
from ocppgw.config.section import Section, env


class KafkaSettings(Section):
    """Kafka: events of the journal are shipped to it, commands are read from it. A station's answer waits for the
    journal, never for Kafka."""

    enabled: bool = Field(default=False, description="Use Kafka.", json_schema_extra=env("KAFKA_ENABLED"))
    required: bool = Field(
        default=False,
        description="/ready says no while Kafka is away. Events are kept in the journal in any case.",
        json_schema_extra=env("REQUIRE_KAFKA"),
    )
    brokers: Brokers = Field(
        default=("localhost:9092",),
        min_length=1,
        strict=False,
        description="Brokers to begin with, host:port.",
        json_schema_extra=env("KAFKA_BROKERS"),
    )
    client_id: str = Field(
        default="ocppgw",
        min_length=1,
        max_length=200,
        description="Name this client goes by in the brokers' logs.",
        json_schema_extra=env("KAFKA_CLIENT_ID"),
    )
    group_id: str = Field(
        default="ocpp-gateway",
        min_length=1,
        max_length=200,
        description="Consumer group that shares the command topic.",
        json_schema_extra=env("KAFKA_GROUP_ID"),
    )
    connection_timeout_ms: int = Field(
        default=5000,
        ge=100,
        le=300_000,
        description="Time a connection may take, milliseconds.",
        json_schema_extra=env("KAFKA_CONNECTION_TIMEOUT_MS"),
    )
    request_timeout_ms: int = Field(
        default=5000,
        ge=100,
        le=300_000,
        description="Time a request may take, milliseconds.",
        json_schema_extra=env("KAFKA_REQUEST_TIMEOUT_MS"),
    )
    ship_timeout_seconds: float = Field(
        default=30.0, ge=1, le=3600, description="Time a batch of events may take before it is sent again, seconds."
    )
    acknowledged_actions: Names = Field(
        default=("*",),
        strict=False,
        description="Messages whose answer waits until Kafka has the event; those of all other actions wait for the "
        'journal on this node only. ["*"]: all of them.',
    )
    acknowledgement_timeout_ms: int = Field(
        default=3000,
        ge=10,
        le=20_000,
        description="How long such an answer waits for Kafka before the journal is enough, milliseconds; it does not "
        "wait at all while Kafka is away.",
    )
    tls: bool = Field(default=False, description="Speak TLS to the brokers; their names are verified.")
    tls_ca_path: str = Field(
        default="",
        description="PEM file of the CAs that the brokers' certificates may come from; empty: the system's. Relative "
        "paths, here and below, are relative to the folder of this file.",
    )
    tls_cert_path: str = Field(default="", description="PEM file of the client's certificate and chain; empty: none.")
    tls_key_path: str = Field(default="", description="PEM file of its key; empty: the certificate's file holds it.")
    sasl_mechanism: Literal["none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="none", description="How the gateway logs in."
    )
    sasl_username: str = Field(
        default="", max_length=500, description="User name.", json_schema_extra=env("KAFKA_SASL_USERNAME")
    )
    sasl_password: SecretStr = Field(
        default=SecretStr(""),
        description="Password. Better set by environment than in this file.",
        json_schema_extra=env("KAFKA_SASL_PASSWORD"),
    )
    topic_command_requests: TopicName = Field(
        default="cpms.command.requests",
        description="Topic commands are read from, shared by all nodes; .node.{node.id} is added for this node's own.",
    )
    topic_station_events: TopicName = Field(default="ocpp.station.events", description="Topic of station events.")
    topic_session_events: TopicName = Field(default="ocpp.session.events", description="Topic of session events.")
    topic_command_events: TopicName = Field(default="ocpp.command.events", description="Topic of command events.")
    topic_audit_events: TopicName = Field(default="cpms.audit.events", description="Topic of audit events.")
    topic_session_control: TopicName = Field(
        default="ocpp.session.control",
        description="Topic on which nodes talk to each other; .node.{node.id} is added for each. Used with Redis only.",
    )
    topic_call_requests: TopicName = Field(
        default="cpms.call.requests", description="Topic of calls that the backend is to answer ([decisions])."
    )
    topic_call_responses: TopicName = Field(
        default="cpms.call.responses",
        description="Topic of its answers; .node.{node.id} is added for each node. Read only with [decisions].",
    )
    topic_dead_letters: TopicName = Field(
        default="cpms.command.dead_letters", description="Topic of commands that can't be used, with the reason."
    )

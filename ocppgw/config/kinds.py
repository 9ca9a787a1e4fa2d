"""The kinds of values settings have, beyond pydantic's own: hosts, networks, expressions, names of the protocol.

A kind's ValueError completes a sentence about the setting ("must be ...", "names ..."); it never quotes the value.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

Version = Literal["1.6J", "2.0.1", "2.1"]
BootStatus = Literal["Accepted", "Pending", "Rejected"]
TokenStatus = Literal[
    "Accepted",
    "Blocked",
    "ConcurrentTx",
    "Expired",
    "Invalid",
    "NoCredit",
    "NotAllowedTypeEVSE",
    "NotAtThisLocation",
    "NotAtThisTime",
    "Unknown",
]


def _host(text: str) -> str:
    if text != "localhost":
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError("must be an IP address of this machine, 0.0.0.0 or :: for all, or localhost") from None
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError("must be a network such as 10.0.0.0/8 or fd00::/8") from None


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return text


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("names the same value twice")
    return values


def unique_node_id() -> str:
    """Host name and process id: no two processes that run at the same time share it."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "node"
    return f"{host[:100]}-{os.getpid()}"


def _listeners(ports: Mapping[str, str]) -> Mapping[str, str]:
    for port in ports:
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
            raise ValueError('must name ports from 1 to 65535, such as { "8444" = "mtls" }')
    return ports


def _client_auth(value: Any) -> Any:
    """The existing gateway's variable is a boolean."""
    if isinstance(value, str):
        return {"true": "require", "false": "none"}.get(value.lower(), value)
    return value


def _server_names(names: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    for name, files in names.items():
        if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", name):
            raise ValueError('must name hosts, such as { "ocpp.example.com" = ["cert.pem"] }')
        if not files:
            raise ValueError("must name at least one file for each host")
    return names


def _host_and_port(text: str, example: str) -> str:
    host, _, port = text.strip().rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) <= 65535):
        raise ValueError(f"must be host:port, such as {example}")
    return text.strip()


def _broker(text: str) -> str:
    return _host_and_port(text, "kafka-1.example:9092")


def _sentinel(text: str) -> str:
    return _host_and_port(text, "sentinel-1.example:26379")


Brokers = tuple[Annotated[str, AfterValidator(_broker)], ...]
Sentinels = Annotated[tuple[Annotated[str, AfterValidator(_sentinel)], ...], AfterValidator(_distinct)]
KeyPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{0,200}$")]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]  # Kafka allows 249: a node's id is added to one
ListenerKind = Literal["plain", "tls", "mtls", "mtls-optional"]
Listeners = Annotated[Mapping[str, ListenerKind], AfterValidator(_listeners)]
ClientAuth = Annotated[Literal["none", "request", "require"], BeforeValidator(_client_auth)]
Paths = tuple[str, ...]
ServerNames = Annotated[Mapping[str, Annotated[tuple[str, ...], Field(strict=False)]], AfterValidator(_server_names)]
Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=0, le=65535)]
Addresses = tuple[Annotated[str, AfterValidator(_address)], ...]
Networks = tuple[Annotated[str, AfterValidator(_network)], ...]
TokenStatuses = Mapping[str, TokenStatus]
Versions = Annotated[tuple[Version, ...], AfterValidator(_distinct)]
Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]
RegularExpression = Annotated[str, AfterValidator(_regular_expression)]

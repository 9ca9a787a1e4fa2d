"""Rules that span several settings: combinations that are unsafe are errors, ones that can't help are warnings."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ocppgw.config.settings import Settings


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


def _two_ports(settings: Settings) -> Iterator[Finding]:
    websocket, operations = settings.websocket, settings.operations
    if websocket.port and websocket.port == operations.port:
        yield Finding(
            "operations.port",
            f"is {operations.port}, which websocket.port has already",
            "give the two listeners different ports",
            ("websocket.port",),
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


def _certificates_without_tls(settings: Settings) -> Iterator[Finding]:
    if settings.stations.auth_mode == "mtls":
        yield Finding(
            "stations.auth_mode",
            '"mtls" refuses every station whose identity names no other way: this version has no TLS listener',
            "set basic or token",
            error=False,
        )


_RULES: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _inflated_below_wire,
    _two_ports,
    _token_beyond_loopback,
    _unknown_beyond_loopback,
    _certificates_without_tls,
)

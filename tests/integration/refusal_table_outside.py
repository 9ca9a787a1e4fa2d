"""Who is refused and why, and who is let in: proxies in front, and what an address may cost (see `refusal_rows`)."""

from collections.abc import Sequence
from typing import Any

from ocppgw.access.refusals import Reason
from tests.integration.knocking import client_hello
from tests.integration.refusal_rows import (
    KNOWN,
    OVER_TLS,
    PASSWORD,
    Overrides,
    bound_to,
    mtls,
    password_hash,
    row,
)
from tests.integration.station import basic

# --- behind a reverse proxy


def proxied(names: str = "", address: str = "127.0.0.1", proto: str = "https", **more: Any) -> dict[str, Any]:
    """By way of the listed proxy, which names this; `address` is the one it comes down to."""
    headers = {"X-Forwarded-For": names, "X-Forwarded-Proto": proto} if names else {}
    return {"site": "proxied", "source": "127.0.0.1", "headers": headers, "address": address, **KNOWN, **more}


def from_station(address: str, **more: Any) -> dict[str, Any]:
    return proxied(address, address, **more)


PROXIED = [
    row("a proxy that names nobody", Reason.PROXY_HEADER_INVALID, **proxied(), detail="x-forwarded-for is missing"),
    row("a proxy that names no address", Reason.PROXY_HEADER_INVALID, **proxied("unknown"), detail="entry 1"),
    row("an endless list", Reason.PROXY_HEADER_INVALID, **proxied("198.51.100.7," * 21), detail="more than 20"),
    row("the station's address, not allowed", Reason.ADDRESS_NOT_ALLOWED, **from_station("203.0.113.5")),
    row("an address made up", Reason.ADDRESS_NOT_ALLOWED, **proxied("198.51.100.7, 203.0.113.6", "203.0.113.6")),
    row(
        "no listed proxy, whatever it says",
        Reason.ADDRESS_NOT_ALLOWED,
        **proxied("198.51.100.7", source="127.0.0.2", address="127.0.0.2"),
    ),
    row(
        "a station that came without TLS",
        Reason.SECURITY_PROFILE_TOO_LOW,
        **from_station("198.51.100.8", proto="http"),
        detail="min_security_profile is 2",
    ),
    row("a scanner", Reason.SUSPICIOUS_PATH, **from_station("198.51.100.9", path="/.env")),
    row("the station's address", **from_station("198.51.100.10")),
    row("its address with a port", **proxied("198.51.100.11:4711", "198.51.100.11")),
    row("an IPv6 address", **proxied("[2001:db8::7]:4711", "2001:db8::7")),
    row("what the proxy was sent", **proxied("203.0.113.1, 198.51.100.12", "198.51.100.12")),
]

# --- behind a load balancer


def balanced(peer: str = "", **more: Any) -> dict[str, Any]:
    """By way of the listed load balancer, which sends a PROXY header with this peer ("": sends none)."""
    header = f"PROXY TCP4 {peer} 192.0.2.1 4711 8443\r\n".encode() if peer else b""
    known = {} if "stored" in more else KNOWN
    address = peer or "127.0.0.1"
    return {"site": "balanced", "source": "127.0.0.1", "preface": header, "address": address, **known, **more}


V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([198, 51, 100, 40, 192, 0, 2, 1]) + b"\x12\x67\x20\xfb"
NO_HEADER = b"PROXY TCP4 here there 1 2\r\n"
SECOND_PROXY = "198.51.100.200"  # it is listed, and stands behind the load balancer

BALANCED = [
    row("no PROXY header", Reason.PROXY_PROTOCOL_INVALID, **balanced()),
    row("a PROXY header that is none", Reason.PROXY_PROTOCOL_INVALID, **balanced(preface=NO_HEADER)),
    row(
        "a PROXY header from anybody else",
        Reason.MALFORMED_REQUEST,
        **balanced("198.51.100.30", source="127.0.0.2", address="127.0.0.2"),
    ),
    row("a wrong password behind it", Reason.CREDENTIALS_WRONG, **balanced("198.51.100.31", password="guess")),
    row("a second proxy that names nobody", Reason.PROXY_HEADER_INVALID, **balanced(SECOND_PROXY)),
    row("plain HTTP", Reason.TLS_PLAIN_HTTP, **balanced("198.51.100.32", port="mtls")),
    row(
        "a revoked certificate behind it",
        Reason.TLS_CERTIFICATE_REVOKED,
        **balanced("198.51.100.33", certificate="revoked"),
        alert="certificate_revoked",
    ),
    row("a request without end", Reason.HANDSHAKE_TIMEOUT, **balanced("198.51.100.34", raw=b"GET / HTTP/1.1\r\n")),
    row(
        "a TLS handshake without end",
        Reason.TLS_TIMEOUT,
        **balanced("198.51.100.35", port="mtls", raw=client_hello()[:50]),
    ),
    row("PROXY, version 1", **balanced("198.51.100.36")),
    row("PROXY, version 2", **balanced(preface=V2, address="198.51.100.40")),
    row("its certificate", **balanced("198.51.100.37", stored=bound_to("ec"), certificate="ec")),
    row(
        "a second proxy that names it",
        **balanced(SECOND_PROXY, headers={"Forwarded": 'for="203.0.113.9:80";proto=https'}, address="203.0.113.9"),
    ),
    row("no load balancer, and no header", **balanced(source="127.0.0.3", address="127.0.0.3")),
]

# --- too much

# Other stations, known everywhere.
COMPANIONS = {f"COMPANION-{number}": password_hash(lowestProfile=1) for number in range(1, 5)}


def companions(count: int, **more: Any) -> list[Overrides]:
    """Connections of other stations."""
    names = list(COMPANIONS)[:count]
    return [{"path": f"/ocpp/1.6/{name}", "headers": basic(name, PASSWORD), **more} for name in names]


SILENT = {"raw": b""}
WRONG = {"headers": {}}
TIGHT = {"site": "narrow", **KNOWN}


def elsewhere(others: Sequence[Overrides]) -> list[Overrides]:
    """Each from an address of its own."""
    return [{**other, "source": f"127.5.0.{number}"} for number, other in enumerate(others, 1)]


LIMITS = [
    row("a fourth connection", Reason.TOO_MANY_FROM_ADDRESS, held=companions(3), **TIGHT),
    row("a fourth connection, TLS", Reason.TOO_MANY_FROM_ADDRESS, held=companions(3), is_cut=True, **OVER_TLS, **TIGHT),
    row("a third that says nothing", Reason.TOO_MANY_HALF_OPEN_FROM_ADDRESS, held=[SILENT] * 2, **TIGHT),
    row("after three refusals", Reason.TOO_MANY_REFUSALS, before=[WRONG] * 3, **TIGHT),
    row("a sixth handshake", Reason.TOO_MANY_HANDSHAKES, before=[{}] * 5, **TIGHT),
    row("a fifth station", Reason.TOO_MANY_CONNECTIONS, held=elsewhere(companions(4)), **TIGHT),
    row(
        "a fifth that says nothing",
        Reason.TOO_MANY_CONNECTIONS,
        held=elsewhere([SILENT] * 4),
        is_cut=True,
        detail="too many handshakes are not finished",
        **TIGHT,
    ),
    row("a third connection", held=companions(2), **TIGHT),
    row("after two refusals", before=[WRONG] * 2, **TIGHT),
    row("when another address has all it may", held=companions(3, source="127.5.0.9"), **TIGHT),
    row(
        "a wrong subject, where it may stand in",
        Reason.CERTIFICATE_MISMATCH,
        site="narrow",
        stored=mtls(subject="CN=OTHER"),
        certificate="ec",
        port="request",
    ),
    row(
        "its subject, where it may stand in",
        site="narrow",
        stored=mtls(subject="CN=P-256"),
        certificate="ec",
        port="request",
    ),
]

"""The station's own address behind reverse proxies, believed only from proxies that are listed.

    X-Forwarded-For: client, proxy1, proxy2          (de facto)
    Forwarded: for=client;proto=https, for=proxy1    (RFC 7239)

Each proxy appends the peer it saw, so only the end of the list can be trusted: it is read from the right, past every
listed proxy, and the first address that is none of them is the station's. What stands left of it was sent by the
station itself and proves nothing. The headers of anybody else are not even looked at.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ocppgw.access.addresses import Network, parse_address
from ocppgw.access.refusals import Reason, Refused

MAX_HOPS = 20
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s";,]*)\s*(?:;|$)')
_ELEMENT = re.compile(r'\s*((?:[^",]|"(?:[^"\\]|\\.)*")*)(?:,|$)')


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """`header` is none, x-forwarded-for or forwarded; `trusted` the proxies that are believed."""

    trusted: tuple[Network, ...] = ()
    header: str = "none"

    def is_trusted(self, address: str) -> bool:
        if not self.trusted:
            return False
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self.trusted)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from: the station's `address`, the `proxy` it came through ("" for none), and whether the
    proxy says that the station's side is TLS."""

    address: str
    proxy: str = ""
    is_secure: bool = False


def origin(peer: str, headers: Mapping[str, str], rules: ProxyRules) -> Origin | Refused:
    """The origin of a request from `peer` (an address as text); `headers` have lower-case names, repeated ones joined
    by commas. A listed proxy that names no usable address is refused: its own would stand in for every station's."""
    if rules.header == "none" or not rules.is_trusted(peer):
        return Origin(peer)
    hops = _hops(headers, rules.header)
    if not hops or len(hops) > MAX_HOPS:
        fault = f"{rules.header} is missing" if not hops else f"{rules.header} names more than {MAX_HOPS} addresses"
        return Refused(Reason.PROXY_HEADER_INVALID, fault)
    secure = False
    for number, hop in enumerate(reversed(hops)):
        address = _address(hop.address)
        if address is None:
            return Refused(Reason.PROXY_HEADER_INVALID, f"entry {len(hops) - number} of {rules.header} is no address")
        secure = hop.is_secure
        if not rules.is_trusted(address) or number == len(hops) - 1:
            return Origin(address, peer, secure)
    raise AssertionError("the loop returns")


@dataclass(frozen=True, slots=True)
class _Hop:
    address: str
    is_secure: bool


def _hops(headers: Mapping[str, str], header: str) -> list[_Hop]:
    if header == "forwarded":
        elements = (found[1] for found in _ELEMENT.finditer(headers.get("forwarded", "")) if found[1].strip())
        return [_forwarded(element) for element in elements]
    proto = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    texts = [text.strip() for text in headers.get("x-forwarded-for", "").split(",")]
    return [_Hop(text, proto in ("https", "wss")) for text in texts] if texts != [""] else []


def _forwarded(element: str) -> _Hop:
    pairs = {found[1].lower(): found[2].strip('"').replace("\\", "") for found in _PAIR.finditer(element)}
    return _Hop(pairs.get("for", ""), pairs.get("proto", "").lower() in ("https", "wss"))


def _address(text: str) -> str | None:
    """An address, with or without a port, brackets or quotes: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = parse_address(text)
    return None if address is None else str(address)

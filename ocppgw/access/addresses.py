"""IP addresses and networks as operators write them, and one way to compare them.

An IPv4 peer of a dual-stack socket shows up as `::ffff:10.1.2.3` (RFC 4291 section 2.5.5.2); both spellings mean the
same peer, so addresses and networks are brought to IPv4 before they meet.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")


@lru_cache(maxsize=4096)  # a connection asks several times
def parse_address(text: str) -> Address | None:
    """The address in `text` (IPv4, IPv6, v4-mapped, with or without a zone), None when it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=4096)
def subscriber(text: str) -> str:
    """Who an address belongs to, for counting: itself, or for IPv6 its /64, the smallest network a subscriber gets
    (RFC 6177): one machine has more addresses there than could ever be remembered."""
    address = parse_address(text)
    if isinstance(address, IPv6Address):
        return f"{int(address) >> 64:x}/64"
    return text if address is None else str(address)


def parse_network(text: str) -> Network:
    """The network in `text`: an address alone or CIDR (RFC 4632). ValueError, with a mending hint, when it is neither.

    Host bits are refused rather than cleared: `10.0.0.7/8` is more often a slip than a wish for sixteen million peers.
    """
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(_mend(text)) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((low, network.prefixlen - 96))
    return network


def _mend(text: str) -> str:
    try:
        return f"{text!r} has bits set right of the mask: write {ip_network(text, strict=False)}"
    except ValueError:
        return f"{text!r} is neither an IP address nor a CIDR range: write for example 10.1.2.3 or 10.0.0.0/8"


def is_allowed(peer_ip: str, networks: Iterable[Network]) -> bool:
    """Whether the peer is inside one of the networks; no networks at all means everybody is allowed.

    A peer whose address can't be read is outside of every network.
    """
    ranges = tuple(networks)
    if not ranges:
        return True
    address = parse_address(peer_ip)
    return address is not None and any(address in network for network in ranges)

"""The ports stations connect to: what each speaks, built from the inside out, and opened."""

import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from ocppgw.access.proxies import ProxyRules
from ocppgw.access.refusals import Reason
from ocppgw.errors import AddressInUse
from ocppgw.net.door import Door
from ocppgw.net.opening import answer
from ocppgw.net.tls import TlsCreator, TlsFactory
from ocppgw.net.websocket import ChargerFactory
from ocppgw.routing.entrance import Entrance

PLAIN = "plain"
_SPOKEN = {
    PLAIN: "stations at ws",
    "none": "stations at wss",
    "request": "stations at wss (client certificates welcome)",
    "require": "stations at wss (client certificates required)",
}


class Ports:
    """Listening ports, opened before privileges are dropped; `open` ends the process when one is taken."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._open: list[tuple[IListeningPort, str]] = []

    def open(
        self, port: int, factory: Any, host: str, backlog: int, purpose: str, *, is_shared: bool = False
    ) -> IListeningPort:
        """`is_shared`: other processes of this host may have the same port (SO_REUSEPORT)."""
        try:
            opened: IListeningPort
            if is_shared:
                opened = self._share(port, factory, host, backlog)
            else:
                opened = self._reactor.listenTCP(port, factory, backlog=backlog, interface=host)
        except (CannotListenError, OSError) as taken:
            error = getattr(taken, "socketError", taken)
            reason = getattr(error, "strerror", None) or error
            fault = AddressInUse(
                f"can't listen on {host}:{port}: {reason}",
                hint="another process has the port: find it with `ss -ltnp`, or change the port in the configuration",
            )
            print(f"ocppgw can't start: {fault}", file=sys.stderr)
            raise SystemExit(1) from None
        self._open.append((opened, purpose))
        return opened

    def _share(self, port: int, factory: Any, host: str, backlog: int) -> IListeningPort:
        """Twisted's own sockets can't be shared: the option has to be set before they are bound."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as shared:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind((host, port))
            shared.listen(backlog)
            shared.setblocking(False)  # else the reactor's accept waits for the next connection
            opened: IListeningPort = self._reactor.adoptStreamPort(shared.fileno(), family, factory)  # it duplicates it
        return opened

    def addresses(self) -> list[tuple[str, str, int]]:
        """(purpose, host, port) of each, as opened."""
        found = []
        for port, purpose in self._open:
            address: Any = port.getHost()
            found.append((purpose, address.host, address.port))
        return found

    def close(self) -> "Deferred[Any]":
        return DeferredList([_stopped(port.stopListening()) for port, _ in self._open])


class StationPorts:
    """`kinds`: port and what it speaks (see `rules_from_settings.listeners`)."""

    def __init__(
        self,
        kinds: list[tuple[int, str]],
        host: str,
        backlog: int,
        chargers: ChargerFactory,
        entrance: Entrance,
        creator: TlsCreator | None,
        proxies: ProxyRules | None,
        accepts_per_second: int,
        reactor: Any,
        *,
        is_shared: bool = False,
    ) -> None:
        """`proxies`: those that speak the PROXY protocol, None for nobody. `is_shared`: see `Ports.open`."""
        self._kinds = kinds
        self._host = host
        self._backlog = backlog
        self._chargers = chargers
        self._entrance = entrance
        self._creator = creator
        self._proxies = proxies
        self._accepts_per_second = accepts_per_second
        self._reactor = reactor
        self._is_shared = is_shared

    def open(self, ports: Ports) -> None:
        for number, kind in self._kinds:
            door = self._door(number, kind)
            opened = ports.open(number, door, self._host, self._backlog, _SPOKEN[kind], is_shared=self._is_shared)
            door.port = opened  # type: ignore[assignment]

    def _door(self, number: int, kind: str) -> Door:
        name = f"{PLAIN if kind == PLAIN else 'TLS'} port {number}"
        inner: Any = self._chargers
        if kind != PLAIN:
            assert self._creator is not None, "the configuration's rules ask for certificates"
            inner = TlsFactory(self._creator, kind, self._chargers, self._reactor)
        proxies = self._proxies

        def proxy_fault(address: str) -> None:
            self._entrance.visit(address, name).refuse(Reason.PROXY_PROTOCOL_INVALID)

        return Door(
            inner,
            self._entrance,
            name,
            self._reactor,
            answer if kind == PLAIN else None,
            proxies.is_trusted if proxies is not None else lambda _address: False,
            proxy_fault,
            self._accepts_per_second,
        )


def tls_ends(creator: TlsCreator) -> list[tuple[str, str, float]]:
    """The TLS files in use, for metrics: (certificate or crl; whose; when it ends, seconds since the epoch)."""
    generation = creator.generation
    if generation is None:
        return []
    material = generation.material
    certificates = [
        ("certificate", f"{one.name or 'default'} {one.key_type}", one.not_after) for one in material.certificates
    ]
    return [*certificates, *(("crl", one.issuer, one.next_update) for one in material.revocation_lists)]


def _stopped(result: Any) -> "Deferred[Any]":
    return result if isinstance(result, Deferred) else succeed(result)

"""The TLS rows: full and resumed handshakes of mutual TLS, at servers that do the same work.

The figure that counts is the server's CPU time for each handshake: it does not depend on how fast the load is. All
servers of one kind of key stay up together and take turns, as in the other rows.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.certificates import KINDS, P256, Certificates
from bench.launch_tls import NodeTls, PyOpenSsl, TlsGateway, TlsServer
from bench.load import Load, Script
from bench.measure import AT_ONCE, Memory, Speed, Stopwatch, idle_memory, idle_names
from bench.tls_load import TLS_1_2, TLS_1_3, Client, TlsStation

SERVERS: dict[str, type[TlsServer]] = {one.name: one for one in (TlsGateway, PyOpenSsl, NodeTls)}
UPGRADED = "gateway, to WebSocket"
WSS = "gateway, wss"
STATIONS = 50
FULL_HANDSHAKES, RESUMED_HANDSHAKES = 150, 300  # of one stretch, unless time is up
STRETCH_LIMIT = 1.0  # seconds: a busy machine makes the figures rougher, not the bench endless

Took = Callable[[str, str, Speed], None]  # row, server, its speed


@dataclass(frozen=True)
class Handshakes:
    """What one row measures."""

    kind: str
    version: str
    resumes: bool

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.version}, {'resumed' if self.resumes else 'full'}"


@dataclass(frozen=True)
class TlsRun:
    """One run of all rows. Keys and certificates go to `folder`, the servers' logs and profiles to `out`."""

    core: int
    folder: Path
    out: Path
    servers: Sequence[str]
    rounds: int
    is_profiled: bool = False

    def speeds(self, took: Took) -> dict[str, str]:
        """All rows; returns what the servers say of themselves."""
        about: dict[str, str] = {}
        for kind in KINDS:
            names = [f"TLS-{number:04}" for number in range(STATIONS)]
            certificates = Certificates(self.folder / kind, kind, names)
            profile = self.out / f"tls-{kind}.prof" if self.is_profiled else None
            with ExitStack() as running:
                servers = [running.enter_context(self._build(name, certificates, profile)) for name in self._present()]
                about |= {server.name: server.about for server in servers}
                for version in (TLS_1_2, TLS_1_3):
                    known = [(server, _known_clients(server, names, version)) for server in servers]
                    self._rows(kind, version, known, took)
        return about

    def memory(self, connections: int) -> Memory:
        """Of the gateway's wss connections, each authenticated by a certificate of its own."""
        certificates = Certificates(self.folder / "idle", P256, idle_names(connections))
        with self._build(TlsGateway.name, certificates) as server:
            return idle_memory(server, connections)

    def missing(self) -> list[str]:
        """Servers that can't be measured on this machine."""
        return [name for name in self.servers if name == NodeTls.name and not NodeTls.is_installed()]

    def _present(self) -> list[str]:
        return [name for name in SERVERS if name in self.servers and name not in self.missing()]

    def _build(self, name: str, certificates: Certificates, profile: Path | None = None) -> TlsServer:
        log = self.out / f"{name}-tls.log"
        if name == TlsGateway.name:
            return TlsGateway(self.core, log, certificates, profile)
        return SERVERS[name](self.core, log, certificates)

    def _rows(self, kind: str, version: str, servers: list[tuple[TlsServer, list[Client]]], took: Took) -> None:
        for resumes in (False, True):
            row = Handshakes(kind, version, resumes)
            for _ in range(self.rounds):
                for server, clients in servers:
                    took(row.name, server.name, self._stretch(server, clients, resumes, _shake))
                    if isinstance(server, TlsGateway):
                        took(row.name, UPGRADED, self._stretch(server, clients, resumes, _visit))

    def _stretch(
        self, server: TlsServer, clients: list[Client], resumes: bool, life: Callable[[TlsStation], Script]
    ) -> Speed:
        load = Load(server.target)
        latencies: list[float] = []
        end = time.perf_counter() + STRETCH_LIMIT

        def timed(station: TlsStation) -> Script:
            started = time.perf_counter()
            yield from life(station)
            latencies.append(time.perf_counter() - started)

        def lives() -> Iterator[tuple[TlsStation, Script]]:
            for number in range(RESUMED_HANDSHAKES if resumes else FULL_HANDSHAKES):
                if time.perf_counter() > end:
                    return
                station = TlsStation(load, clients[number % len(clients)], resumes=resumes)
                yield station, timed(station)

        try:
            watch = Stopwatch(server)
            return watch.speed(load.run(lives(), AT_ONCE), latencies, load.mismatches)
        finally:
            load.abandon()


def _shake(station: TlsStation) -> Script:
    return station.shake()


def _visit(station: TlsStation) -> Script:
    """Let in by the certificate, and closed as WebSockets are."""
    yield from station.open()
    yield from station.close()


def _known_clients(server: TlsServer, names: list[str], version: str) -> list[Client]:
    """Stations that were here before, each with a session to resume."""
    load = Load(server.target)
    try:
        clients = [server.client(name, version) for name in names]
        stations = [TlsStation(load, client) for client in clients]
        load.run(((station, station.learn()) for station in stations), AT_ONCE)
        return clients
    finally:
        load.abandon()

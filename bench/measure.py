"""The measurements: one stretch of load against one running server each."""

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench import process
from bench.launch import Server
from bench.load import Load, Script, Station
from bench.payloads import ROWS, Row

AT_ONCE = 20  # connections opened, booted or closed at a time: well below any listen backlog
WARM_UP = 0.5  # seconds of the same load before a speed is taken
WARMING = 10  # stations that come and go before memory is looked at
SETTLE_STEP, SETTLE_LIMIT, SETTLED_KIB = 0.5, 15.0, 64


@dataclass(frozen=True)
class Speed:
    """Messages (or set-ups) of one stretch. Times: cpu in µs of the server per message, latencies in ms."""

    per_second: float
    cpu_us: float
    server_busy: float  # share of one core, 0 to 1
    load_busy: float
    p50_ms: float
    p99_ms: float
    mismatches: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    kib_per_connection: float
    connections: int
    base_kib: int
    mismatches: tuple[str, ...]


class Stopwatch:
    """Wall time, the server's CPU and the load's own CPU between two moments."""

    def __init__(self, server: Server) -> None:
        self._pids = server.pids
        self._start = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), sum(map(process.cpu_seconds, self._pids)), time.process_time()

    def speed(self, messages: int, latencies: list[float], mismatches: list[str]) -> Speed:
        wall, server, load = (after - before for before, after in zip(self._start, self._now(), strict=True))
        ordered = sorted(latencies) or [0.0]
        return Speed(
            per_second=messages / wall,
            cpu_us=server / max(messages, 1) * 1e6,
            server_busy=server / wall,
            load_busy=load / wall,
            p50_ms=ordered[len(ordered) // 2] * 1e3,
            p99_ms=ordered[len(ordered) * 99 // 100] * 1e3,
            mismatches=tuple(mismatches),
        )


def speed(server: Server, row: Row, connections: int, seconds: float) -> Speed:
    """One CALL in flight on each of `connections` booted stations, for `seconds` after a warm-up."""
    load = Load(server.target)
    try:
        stations = [server.station(load, row, f"{row.prefix}-{number:04}") for number in range(connections)]
        load.run(((station, station.start()) for station in stations), AT_ONCE)
        gc.collect()
        gc.disable()
        load.drive(min(WARM_UP, seconds))
        watch = Stopwatch(server)
        sample = load.drive(seconds)
        result = watch.speed(sample.messages, sample.latencies, load.mismatches)
        gc.enable()
        load.run(((station, station.finish()) for station in stations), connections)
    finally:
        gc.enable()
        load.abandon()
    return replace(result, mismatches=tuple(load.mismatches))


def setups(server: Server, seconds: float) -> Speed:
    """Connect, upgrade and close, `AT_ONCE` at a time, for `seconds`."""
    load = Load(server.target)
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    def life(station: Station) -> Script:
        started = time.perf_counter()
        yield from station.open()
        yield from station.close()
        latencies.append(time.perf_counter() - started)

    def lives() -> Iterator[tuple[Station, Script]]:
        number = 0
        while time.perf_counter() < end:
            station = server.station(load, ROWS[0], f"SET-{number % 1000:04}")
            number += 1
            yield station, life(station)

    try:
        watch = Stopwatch(server)
        done = load.run(lives(), AT_ONCE)
        return watch.speed(done, latencies, load.mismatches)
    finally:
        load.abandon()


def idle_memory(server: Server, connections: int) -> Memory:
    """Growth of a fresh server's resident memory over `connections` booted, idle stations, once it has settled."""
    load = Load(server.target)
    row = ROWS[0]
    try:
        # A few stations first, so that what a server loads with its first message isn't counted per connection.
        warm = [server.station(load, row, name) for name in idle_names(connections)[:WARMING]]
        load.run(((station, station.start()) for station in warm), AT_ONCE)
        load.run(((station, station.close()) for station in warm), AT_ONCE)
        base = _settled_kib(load, server)
        stations = [server.station(load, row, name) for name in idle_names(connections)[WARMING:]]
        load.run(((station, station.start()) for station in stations), AT_ONCE)
        grown = _settled_kib(load, server) - base
        return Memory(grown / connections, connections, base, tuple(load.mismatches))
    finally:
        load.abandon()


def idle_names(connections: int) -> list[str]:
    """The ids of all stations of `idle_memory`, the few first ones ahead."""
    return [f"WARM-{number:04}" for number in range(WARMING)] + [f"IDLE-{number:04}" for number in range(connections)]


def _settled_kib(load: Load, server: Server) -> int:
    """Resident memory after it has held still for three looks, or SETTLE_LIMIT seconds."""
    looks: list[int] = []
    end = time.perf_counter() + SETTLE_LIMIT
    while time.perf_counter() < end:
        load.idle(SETTLE_STEP)
        looks = [*looks[-2:], process.resident_kib(server.pid)]
        if len(looks) == 3 and max(looks) - min(looks) <= SETTLED_KIB:
            break
    return looks[-1]

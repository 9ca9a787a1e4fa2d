"""The results as one JSON-ready tree and as Markdown: what was measured, on what, and which targets are reached."""

import os
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from bench import process
from bench.measure import Memory, Speed
from bench.tls_rows import FULL_HANDSHAKES, RESUMED_HANDSHAKES, STATIONS
from bench.workers import NAME

PACKAGES = (
    "twisted",
    "autobahn",
    "orjson",
    "msgspec",
    "jsonschema-rs",
    "ocpp",
    "websockets",
    "jsonschema",
    "uvloop",
    "pyopenssl",
)
TARGETS = {"echo": 1.2, "ocpp": 3.0}  # the gateway's messages/s over this server's, on every row
TLS_TARGET = 0.8  # a bare pyOpenSSL server's CPU for a handshake over the gateway's
# A full node's messages for a second of CPU over the PyPI `ocpp` server's, and how long an answer may take: p99, ms.
FULL_ROWS = {"Heartbeat": 1.5, "StatusNotification": 2.0, "MeterValues": 4.0}
FULL_P99_MS = 50.0
WORKER_ROWS = ("Heartbeat", "MeterValues")
WORKERS_TARGET = 1.8  # two workers over one, a core for each
IDLE_TARGET_KIB = {"gateway": 16.0, "gateway, wss": 60.0}
SETUPS = "connection set-ups"
_LOAD_SATURATED = 0.9


@dataclass
class Results:
    """speeds[row][server] and tls[row][server] have one `Speed` per round, memory[server] one figure."""

    options: dict[str, Any]
    servers: dict[str, str] = field(default_factory=dict)  # name: about
    speeds: dict[str, dict[str, list[Speed]]] = field(default_factory=dict)
    tls: dict[str, dict[str, list[Speed]]] = field(default_factory=dict)
    tls_missing: list[str] = field(default_factory=list)  # servers that aren't installed
    memory: dict[str, Memory] = field(default_factory=dict)

    def add_speed(self, row: str, server: str, speed: Speed) -> None:
        self.speeds.setdefault(row, {}).setdefault(server, []).append(speed)

    def add_tls(self, row: str, server: str, speed: Speed) -> None:
        self.tls.setdefault(row, {}).setdefault(server, []).append(speed)

    def mismatches(self) -> list[str]:
        """Every wrong answer of the run; a run with any has failed."""
        speeds = [
            speed for row in (*self.speeds.values(), *self.tls.values()) for rounds in row.values() for speed in rounds
        ]
        taken: list[Speed | Memory] = [*speeds, *self.memory.values()]
        return [text for one in taken for text in one.mismatches]


@dataclass(frozen=True)
class Verdict:
    what: str
    measured: float
    by_cpu: float | None  # a ratio taken from CPU µs
    target: float
    reached: bool


def verdicts(results: Results) -> list[Verdict]:
    """One per row and baseline, by messages/s, handshakes by CPU; then idle connections. Empty without the gateway."""
    found = []
    for row, by_server in results.speeds.items():
        gateway = by_server.get("gateway")
        if NAME in by_server:
            twice = 2 * _by_cpu(by_server[NAME], by_server["gateway"])
            found.append(Verdict(f"{row}: two / one, by CPU", twice, twice, WORKERS_TARGET, twice >= WORKERS_TARGET))
            continue
        if gateway is None or row == SETUPS:
            continue
        for baseline, target in TARGETS.items():
            if baseline in by_server:
                found.append(_ratio(f"{row}, gateway / {baseline}", gateway, by_server[baseline], target))
    for row, by_server in results.tls.items():
        if {"gateway", "pyopenssl"} <= by_server.keys():
            found.append(_cpu_ratio(f"{row}, gateway / pyopenssl", by_server["gateway"], by_server["pyopenssl"]))
    found += _full_node(results)
    for server, target in IDLE_TARGET_KIB.items():
        if server in results.memory:
            kib = results.memory[server].kib_per_connection
            found.append(Verdict(f"KiB per idle connection, {server}", kib, None, target, kib <= target))
    return found


def _full_node(results: Results) -> list[Verdict]:
    found = []
    for row, target in FULL_ROWS.items():
        by_server = results.speeds.get(f"{row}, full node", {})
        if {"full node", "ocpp"} <= by_server.keys():
            by_cpu = _by_cpu(by_server["full node"], by_server["ocpp"])
            found.append(Verdict(f"{row}, full node / ocpp, by CPU", by_cpu, by_cpu, target, by_cpu >= target))
        for name, rounds in results.speeds.items():
            if name.startswith(f"{row}, full node,"):
                p99 = median(one.p99_ms for one in rounds["full node"])
                found.append(Verdict(f"{name}: p99 ms", p99, None, FULL_P99_MS, p99 <= FULL_P99_MS))
    return found


def _ratio(what: str, gateway: list[Speed], baseline: list[Speed], target: float) -> Verdict:
    """Round by round, then the median: neighbours in time saw the same noise of a shared machine."""
    rounds = list(zip(gateway, baseline, strict=True))
    by_rate = median(ours.per_second / theirs.per_second for ours, theirs in rounds)
    return Verdict(what, by_rate, _by_cpu(gateway, baseline), target, by_rate >= target)


def _cpu_ratio(what: str, gateway: list[Speed], baseline: list[Speed]) -> Verdict:
    by_cpu = _by_cpu(gateway, baseline)
    return Verdict(what, by_cpu, by_cpu, TLS_TARGET, by_cpu >= TLS_TARGET)


def _by_cpu(gateway: list[Speed], baseline: list[Speed]) -> float:
    rounds = zip(gateway, baseline, strict=True)
    return median(theirs.cpu_us / max(ours.cpu_us, 1e-9) for ours, theirs in rounds)


def environment(state: Path) -> dict[str, Any]:
    """What the figures depend on; `state` is the directory the gateway journals to."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: _version(name) for name in PACKAGES},
        "journal_filesystem": process.filesystem(state),
        "fsync_ms": round(_fsync_ms(state), 3),
    }


def as_json(results: Results, about: dict[str, Any]) -> dict[str, Any]:
    return {"environment": about, **asdict(results), "verdicts": [asdict(one) for one in verdicts(results)]}


def as_markdown(results: Results, about: dict[str, Any]) -> str:
    blocks = [_head(results, about), *(_speed_table(row, found) for row, found in results.speeds.items())]
    if results.tls:
        blocks.append(_tls_table(results))
    if results.memory:
        blocks.append(_memory_table(results.memory))
    blocks.append(_verdict_table(verdicts(results)))
    blocks.extend(_warnings(results, about))
    return "\n\n".join(blocks) + "\n"


def _head(results: Results, about: dict[str, Any]) -> str:
    options = results.options
    libraries = ", ".join(f"{name} {number}" for name, number in about["libraries"].items() if number)
    lines = [
        "# Bench",
        "",
        f"{about['date']}; {about['cpu']}, {about['cores']} cores; Linux {about['kernel']}; {about['python']}.",
        f"{libraries}.",
        f"Journal on {about['journal_filesystem']}, write + fsync of 4 KiB takes {about['fsync_ms']} ms (median).",
        f"Server on core {options['server_core']}, load on core {options['load_core']}; "
        f"{options['connections']} connections, one CALL in flight each; medians of {options['rounds']} interleaved "
        f"rounds of {options['seconds']:g} s.",
        "",
        *(f"- {name}: {said}" for name, said in results.servers.items()),
    ]
    return "\n".join(lines)


def _speed_table(row: str, found: dict[str, list[Speed]]) -> str:
    unit = "set-ups/s" if row == SETUPS else "messages/s"
    lines = [
        f"## {row}",
        "",
        f"| server | {unit} | CPU µs each | server busy | p50 ms | p99 ms | load busy | lowest to highest {unit} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for server, rounds in found.items():
        rate, cpu = median(one.per_second for one in rounds), median(one.cpu_us for one in rounds)
        busy, load = median(one.server_busy for one in rounds), median(one.load_busy for one in rounds)
        p50, p99 = median(one.p50_ms for one in rounds), median(one.p99_ms for one in rounds)
        low, high = min(one.per_second for one in rounds), max(one.per_second for one in rounds)
        lines.append(
            f"| {server} | {rate:,.0f} | {cpu:.1f} | {busy:.0%} | {p50:.1f} | {p99:.1f} | {load:.0%} "
            f"| {low:,.0f} to {high:,.0f} |"
        )
    return "\n".join(lines)


def _tls_table(results: Results) -> str:
    lines = [
        "## TLS handshakes",
        "",
        f"Mutual: client and server have certificates; {STATIONS} stations, {FULL_HANDSHAKES} full or "
        f"{RESUMED_HANDSHAKES} resumed handshakes a round, each connection closed after its own.",
        "",
        "| keys, version, handshake | server | handshakes per CPU second | CPU µs each | handshakes/s | server busy "
        "| load busy | lowest to highest CPU µs |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row, by_server in results.tls.items():
        lines += [_tls_line(row, server, rounds) for server, rounds in by_server.items()]
        lines += [f"| {row} | {server} | not installed | | | | | |" for server in results.tls_missing]
    return "\n".join(lines)


def _tls_line(row: str, server: str, rounds: list[Speed]) -> str:
    costs = [one.cpu_us for one in rounds]
    cpu, rate = median(costs), median(one.per_second for one in rounds)
    busy, load = median(one.server_busy for one in rounds), median(one.load_busy for one in rounds)
    return (
        f"| {row} | {server} | {1e6 / cpu:,.0f} | {cpu:,.0f} | {rate:,.0f} | {busy:.0%} | {load:.0%} "
        f"| {min(costs):,.0f} to {max(costs):,.0f} |"
    )


def _memory_table(found: dict[str, Memory]) -> str:
    lines = [
        "## Idle connections",
        "",
        "| server | connections | KiB each | resident before, MiB |",
        "|---|--:|--:|--:|",
    ]
    for server, memory in found.items():
        base = memory.base_kib / 1024
        lines.append(f"| {server} | {memory.connections:,} | {memory.kib_per_connection:.1f} | {base:.1f} |")
    return "\n".join(lines)


def _verdict_table(found: list[Verdict]) -> str:
    if not found:
        return "## Targets\n\nThe gateway was not measured."
    lines = ["## Targets", "", "| what | measured | by CPU µs | target | |", "|---|--:|--:|--:|---|"]
    for one in found:
        by_cpu = "" if one.by_cpu is None else f"{one.by_cpu:.2f}x"
        times = "" if one.by_cpu is None else "x"
        sign = "≤" if one.by_cpu is None else "≥"
        said = "reached" if one.reached else "NOT REACHED"
        lines.append(f"| {one.what} | {one.measured:.2f}{times} | {by_cpu} | {sign} {one.target:g}{times} | {said} |")
    return "\n".join(lines)


def _warnings(results: Results, about: dict[str, Any]) -> list[str]:
    found = []
    for row, by_server in results.speeds.items():
        for server, rounds in by_server.items():
            if row != SETUPS and median(one.load_busy for one in rounds) > _LOAD_SATURATED:
                found.append(f"WARNING: {row}, {server}: the load generator was the limit; trust the CPU µs only.")
    if about["journal_filesystem"] == "tmpfs":
        found.append("WARNING: the journal was on tmpfs, where fsync costs nothing.")
    mismatches = results.mismatches()
    if mismatches:
        found.append(f"FAILED: {len(mismatches)} wrong answers, the first ones:\n" + "\n".join(mismatches[:5]))
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _fsync_ms(state: Path) -> float:
    """The median of 20 appends of 4 KiB, each followed by fsync."""
    probe, taken = state / "fsync.probe", []
    with probe.open("wb", buffering=0) as file:
        for _ in range(20):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - started) * 1e3)
    probe.unlink()
    return median(taken)

"""The bench: `python -m bench.run`. One run measures the gateway and its baselines side by side.

Speeds: all servers stay up on the server core; for each row the rounds go gateway, echo, ocpp, gateway, echo, ocpp and
so on, so that a noisy stretch of a shared machine hits all of them. Memory: a fresh process of each server in turn.
TLS (`--rows tls`): handshakes with client certificates, beside a bare pyOpenSSL server and Node's, and wss memory.
"""

import argparse
import json
import os
import pstats
import resource
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import measure, report
from bench.full_node import FullNode, Services
from bench.launch import REPOSITORY, AutobahnEcho, Gateway, OcppCentralSystem, Server, ServerError
from bench.load import LoadError
from bench.measure import Memory, Speed
from bench.payloads import ROWS
from bench.report import FULL_ROWS, WORKER_ROWS
from bench.tls_rows import WSS, TlsRun
from bench.workers import Workers

SERVERS = ("gateway", "echo", "ocpp")
SERVER_CHOICES = (*SERVERS, "pyopenssl", "node")  # the last two in the TLS rows only
ROW_CHOICES = (*(row.name for row in ROWS), "setups", "memory", "tls", "full", "workers")
FEW = 10  # stations that leave a full node time to spare, to see how long an answer takes then
OUT = REPOSITORY / "bench" / "out"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure the gateway and its baselines.")
    parser.add_argument("--rows", nargs="+", choices=ROW_CHOICES, default=list(ROW_CHOICES), help="what to measure")
    parser.add_argument(
        "--servers", nargs="+", choices=SERVER_CHOICES, default=list(SERVER_CHOICES), help="which servers to measure"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one stretch of load (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="stretches per server and row (default 3)")
    parser.add_argument("--connections", type=int, default=100, help="stations under load (default 100)")
    parser.add_argument("--idle", type=int, default=2000, help="idle stations for the memory row (default 2000)")
    parser.add_argument("--server-core", type=int, default=0, help="core of the servers (default 0)")
    parser.add_argument("--load-core", type=int, default=1, help="core of the load (default 1)")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, 500 idle stations: a smoke test")
    parser.add_argument("--profile", action="store_true", help="run the gateway under cProfile and print its top")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.rounds, options.idle = 1.0, 1, 500
    if min(options.seconds, options.rounds, options.connections, options.idle) <= 0:
        parser.error("--seconds, --rounds, --connections and --idle must be above 0")
    cores = os.sched_getaffinity(0)
    if not {options.server_core, options.load_core} <= cores:
        parser.error(f"this process may use the cores {sorted(cores)}; choose --server-core and --load-core among them")
    return options


class Bench:
    """One run: which servers there are, and what becomes of their figures."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._profile = OUT / "gateway.prof" if options.profile else None
        for old in OUT.glob("*.prof"):
            old.unlink()
        self.results = report.Results(vars(options))

    def run(self) -> None:
        rows = [row for row in ROWS if row.name in self._options.rows]
        if rows or "setups" in self._options.rows:
            with ExitStack() as running:
                servers = [running.enter_context(self._build(name)) for name in self._servers()]
                self.results.servers = {server.name: server.about for server in servers}
                for row in rows:
                    self._rounds(row.name, servers, lambda server, row=row: self._speed(server, row))
                if "setups" in self._options.rows:
                    self._rounds(report.SETUPS, servers, lambda server: measure.setups(server, self._options.seconds))
        if "memory" in self._options.rows:
            for name in self._servers():
                self._memory(name)
        if "tls" in self._options.rows:
            self._tls()
        if "full" in self._options.rows:
            self._full()
        if "workers" in self._options.rows:
            self._workers()

    def _full(self) -> None:
        """A node of a fleet beside the PyPI `ocpp` server, which stores nothing."""
        options = self._options
        with ExitStack() as running:
            services = running.enter_context(Services(options.load_core))
            servers: list[Server] = [
                FullNode(options.server_core, OUT / "full.log", services, "*", self._profile),
                FullNode(options.server_core, OUT / "full-journal.log", services, ""),
                OcppCentralSystem(options.server_core, OUT / "ocpp.log"),
            ]
            for row in (row for row in ROWS if row.name in FULL_ROWS):
                for server in servers:
                    with server:  # two nodes with one name can't be up together
                        self.results.servers.setdefault(server.name, server.about)
                        for _ in range(options.rounds):
                            self._took(f"{row.name}, full node", server, self._speed(server, row))
                        if server.name == "full node":
                            few = measure.speed(server, row, FEW, options.seconds)
                            self._took(f"{row.name}, full node, {FEW} stations", server, few)

    def _workers(self) -> None:
        """One gateway, and two with twice the stations, in turn."""
        options = self._options
        with ExitStack() as running:
            one = running.enter_context(Gateway(options.server_core, OUT / "one.log"))
            two = running.enter_context(Workers(options.server_core, OUT / "two.log"))
            self.results.servers.setdefault(two.name, two.about)
            for row in (row for row in ROWS if row.name in WORKER_ROWS):
                for _ in range(options.rounds):
                    for server, stations in ((one, options.connections), (two, 2 * options.connections)):
                        speed = measure.speed(server, row, stations, options.seconds)
                        self._took(f"{row.name}, workers", server, speed)

    def _took(self, row: str, server: Server, speed: Speed) -> None:
        self.results.add_speed(row, server.name, speed)
        progress(f"{row}, {server.name}: {speed.per_second:,.0f}/s, {speed.cpu_us:.1f} µs, p99 {speed.p99_ms:.1f} ms")

    def _servers(self) -> list[str]:
        return [name for name in SERVERS if name in self._options.servers]

    def _build(self, name: str, *, profile: bool = True) -> Server:
        core, log = self._options.server_core, OUT / f"{name}.log"
        if name == "gateway":
            return Gateway(core, log, self._profile if profile else None)
        return {"echo": AutobahnEcho, "ocpp": OcppCentralSystem}[name](core, log)

    def _speed(self, server: Server, row: Any) -> Speed:
        return measure.speed(server, row, self._options.connections, self._options.seconds)

    def _rounds(self, row: str, servers: list[Server], take: Any) -> None:
        for number in range(self._options.rounds):
            for server in servers:
                speed = take(server)
                self.results.add_speed(row, server.name, speed)
                progress(f"{row}, round {number + 1}, {server.name}: {speed.per_second:,.0f}/s, {speed.cpu_us:.1f} µs")

    def _memory(self, name: str) -> None:
        with self._build(name, profile=False) as server:
            self.results.servers.setdefault(name, server.about)
            memory: Memory = measure.idle_memory(server, self._options.idle)
        self.results.memory[name] = memory
        progress(f"memory, {name}: {memory.kib_per_connection:.1f} KiB per idle connection")

    def _tls(self) -> None:
        options, results = self._options, self.results
        with tempfile.TemporaryDirectory(prefix="tls-", dir=OUT) as folder:
            run = TlsRun(
                options.server_core,
                Path(folder),
                OUT,
                options.servers,
                options.rounds,
                is_profiled=options.profile,
            )
            results.tls_missing = run.missing()
            results.servers |= dict.fromkeys(results.tls_missing, "not installed")
            for name, about in run.speeds(self._took_tls).items():
                results.servers.setdefault(name, about)
            if "gateway" in options.servers:
                memory = results.memory[WSS] = run.memory(options.idle)
                progress(f"memory, {WSS}: {memory.kib_per_connection:.1f} KiB per idle connection")

    def _took_tls(self, row: str, server: str, speed: Speed) -> None:
        self.results.add_tls(row, server, speed)
        progress(f"{row}, {server}: {speed.cpu_us:.0f} µs, {speed.per_second:,.0f}/s")

    def top(self) -> str:
        """The dearest functions of all profiles, or nothing when there is none."""
        profiles = [str(profile) for profile in OUT.glob("*.prof")]
        if not profiles:
            return ""
        path = OUT / "gateway-profile.txt"
        with path.open("w") as stream:
            pstats.Stats(*profiles, stream=stream).sort_stats("tottime").print_stats(40)
        return path.read_text()


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """0 when everything was measured, 1 when a server failed or gave a wrong answer; targets are only reported."""
    options = parse(arguments)
    OUT.mkdir(parents=True, exist_ok=True)
    about = report.environment(OUT)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it
    os.sched_setaffinity(0, {options.load_core})
    bench = Bench(options)
    try:
        bench.run()
    except (ServerError, LoadError) as error:
        progress(f"bench: {error}\nThe servers' logs are in {OUT}.")
        return 1
    markdown = report.as_markdown(bench.results, about)
    (OUT / "bench.md").write_text(markdown)
    (OUT / "bench.json").write_text(json.dumps(report.as_json(bench.results, about), indent=1))
    print(markdown + bench.top())
    return 1 if bench.results.mismatches() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

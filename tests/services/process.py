"""One process of a service: its folder, its signals, its log."""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 30.0  # seconds for anything that is expected to happen
POLL_SECONDS = 0.02
PORTS_BELOW_EPHEMERAL = 16_384
TAIL_LINES = 30
TAIL_WIDTH = 240


class ServiceProcess:
    """A service with its own folder; its data outlives `kill` and `restart`, its ports never change.

    A kind of service says how it is started (`_command`), what must be written before (`_write_config`,
    `_prepare_data`) and how it shows that it serves (`_is_ready`).
    """

    name = "service"
    clean_statuses = frozenset({0})  # exit statuses after SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log_path = self.folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._is_configured = False
        self._log_begin = 0  # of this life of the process

    # --- what a kind of service says

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _write_config(self) -> None:
        """Before the first start, and before each one with empty data."""
        raise NotImplementedError

    def _prepare_data(self) -> None:
        """Before each start; the data folder is there."""

    def _is_ready(self) -> bool:
        raise NotImplementedError

    # --- the process

    def start(self) -> Self:
        """Returns once it serves. AssertionError with the log when it ends instead, or takes too long."""
        assert self.process is None, f"{self.name} runs already"
        self.data.mkdir(parents=True, exist_ok=True)
        if not self._is_configured:
            self._write_config()
            self._is_configured = True
        self._prepare_data()
        self._launch()
        try:
            self.wait(self._is_ready, "it to be ready")
        except BaseException:
            self.end(0.0)
            raise
        return self

    def stop(self, time_limit: float = TIME_LIMIT) -> None:
        """SIGTERM; it must end by itself, cleanly."""
        process = self._running()
        process.terminate()
        try:
            status = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.said(f"did not end within {time_limit} seconds")) from None
        self.process = None
        assert status in self.clean_statuses, self.said(f"ended with status {status}")

    def kill(self) -> None:
        """SIGKILL, as a crash would be; its ports are free when this returns."""
        process = self._running()
        process.kill()
        process.wait()
        self.process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers. All threads stand still when this returns."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        changed = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert changed is not None
        assert changed.si_code == os.CLD_STOPPED, self.said("ended instead of pausing")

    def resume(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def restart(self, *, empty: bool = False) -> Self:
        """Stop (unless it was stopped or killed before) and start again on the same ports, with its data or without."""
        if self.process is not None:
            self.stop()
        if empty:
            shutil.rmtree(self.data, ignore_errors=True)
            self._is_configured = False
        return self.start()

    def ensure_running(self) -> Self:
        """Bring it back when it was killed or paused, and wait until it serves."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.wait(self._is_ready, "it to be ready")
            return self
        self.process = None
        return self.start()

    def end(self, time_limit: float = TIME_LIMIT) -> None:
        """SIGTERM, and SIGKILL when that takes too long; nothing when it has ended. For clearing away."""
        process, self.process = self.process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        try:
            process.wait(time_limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_failure: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._running().pid

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _launch(self) -> None:
        self._log_begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder
            )

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, f"{self.name} does not run"
        assert self.process.poll() is None, self.said(f"ended by itself with status {self.process.returncode}")
        return self.process

    # --- waiting and telling

    def wait(self, condition: Callable[[], object], what: str, time_limit: float = TIME_LIMIT) -> float:
        """Until `condition` holds, while it runs; the seconds that took."""

        def holds() -> object:
            self._running()
            return condition()

        try:
            return wait_until(holds, what, time_limit)
        except TimeoutError as e:
            raise AssertionError(self.said(str(e))) from None

    @property
    def log(self) -> str:
        """All output so far, of all its lives."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_of_this_life(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_begin)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        return "\n".join(line[:TAIL_WIDTH] for line in self.log.splitlines()[-lines:])

    def said(self, what: str) -> str:
        return f"{self.name} {what}; the end of {self.log_path}:\n{self.log_tail()}"


def wait_until(condition: Callable[[], object], what: str, time_limit: float = TIME_LIMIT) -> float:
    """Poll until `condition` holds; the seconds that took. TimeoutError names `what`."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > time_limit:
            raise TimeoutError(f"waited {time_limit} seconds for {what}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - begin


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 where nobody listens, below those that the system gives to clients.

    A client that tries again and again to reach a stopped service could else be given the service's own port as its
    end, connect to itself, and keep the service from coming back.
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(max(1024, first_ephemeral - PORTS_BELOW_EPHEMERAL), first_ephemeral)
    found = list(itertools.islice(filter(is_free, random.sample(candidates, len(candidates))), count))
    if len(found) < count:
        raise RuntimeError(f"there are no {count} free ports from {candidates.start} to {candidates.stop - 1}")
    return found


def is_free(port: int) -> bool:
    """Can a service listen there?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the services do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

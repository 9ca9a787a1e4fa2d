"""The servers under test: each starts on one pinned core, says where it listens, and is stopped by its own pid."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Self

from bench.load import Load, LoadError, Station, Target
from bench.payloads import ROWS, Row

REPOSITORY = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_LIMIT = 30.0  # seconds until a server must have answered a WebSocket handshake
STOP_LIMIT = 20.0
# The limits are counted as ever, but not reached: all stations of the bench come from one address.
NO_LIMITS = "handshakes_per_minute_per_address = 1000000\naccepts_per_second = 100000"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")


class ServerError(Exception):
    """A server did not start; the message ends with the last lines of its log."""


class Server:
    """A server process; use as a context manager. `about` is one line for the report, known once it runs."""

    name = ""
    echo = False

    def __init__(self, core: int, log: Path) -> None:
        self._core, self._log = core, log
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.about = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """Of all its processes."""
        return [self.pid]

    @property
    def target(self) -> Target:
        return Target(HOST, self.port, self.echo)

    def station(self, load: Load, row: Row, station_id: str) -> Station:
        """A station that speaks what this server does."""
        return Station(load, row, station_id)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until a WebSocket handshake succeeds; ServerError after START_LIMIT seconds."""
        with self._log.open("w") as log:
            self._process = self._spawn(self._command(), log)
        try:
            self._learn(self._process)
            self._wait_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after STOP_LIMIT seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _learn(self, process: subprocess.Popen[str]) -> None:
        """Fill in port and about: the baselines print them as their first line."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ServerError(f"{self.name} ended before it listened:\n{self._tail()}")
        said = json.loads(line)
        self.port, self.about = said["port"], said["about"]

    def _spawn(self, command: list[str], log: IO[str]) -> subprocess.Popen[str]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})  # inherited by the child and by every thread it starts
        try:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**environment, "AUTOBAHN_USE_NVX": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=self._stdout(log),
                stderr=log,
                text=True,
            )
        finally:
            os.sched_setaffinity(0, before)

    def _stdout(self, log: IO[str]) -> IO[str] | int:
        return subprocess.PIPE

    def _wait_ready(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + START_LIMIT
        while True:
            if process.poll() is not None:
                raise ServerError(f"{self.name} ended with status {process.returncode}:\n{self._tail()}")
            refusal = self._try_handshake()
            if not refusal:
                return
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} isn't ready after {START_LIMIT:.0f} s ({refusal}):\n{self._tail()}")
            time.sleep(0.1)

    def _try_handshake(self) -> str:
        """Connect, upgrade, close; "" or why not."""
        load = Load(self.target)
        station = self.station(load, ROWS[0], "READY-1")
        try:
            load.run([(station, station.open())], 1)
            load.run([(station, station.close())], 1)
        except LoadError as error:
            return str(error)
        finally:
            load.abandon()
        return ""

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])


class AutobahnEcho(Server):
    name = "echo"
    echo = True

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bench.servers.autobahn_echo"]


class OcppCentralSystem(Server):
    name = "ocpp"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bench.servers.ocpp_central_system"]


class Gateway(Server):
    """The gateway as an operator starts it, with a fresh state directory on the repository's disk.

    `profile`: where cProfile's statistics of the reactor thread go when the gateway ends. It slows the gateway, so such
    a run's figures compare with nothing.
    """

    name = "gateway"

    def __init__(self, core: int, log: Path, profile: Path | None = None) -> None:
        super().__init__(core, log)
        self._profile = profile
        self._state: Path | None = None

    def start(self) -> None:
        self._state = Path(tempfile.mkdtemp(prefix="state-", dir=self._log.parent))
        super().start()

    def stop(self) -> None:
        super().stop()
        if self._state is not None:
            shutil.rmtree(self._state)
            self._state = None

    def _command(self) -> list[str]:
        # twistd's own option: it ends by the signal that stopped it, before `python -m cProfile` could write its file.
        profiler = ["--profiler=cprofile", "--savestats", f"--profile={self._profile}"] if self._profile else []
        twistd = [str(Path(sys.executable).parent / "twistd"), "--nodaemon", "--pidfile=", *profiler]
        return [sys.executable, *twistd, "ocppgw", "-c", str(self._write_settings())]

    def _write_settings(self) -> Path:
        assert self._state is not None
        self.port, operations = self._choose_port(), free_port()
        settings = self._state / "bench.toml"
        settings.write_text(
            f'state_dir = "{self._state}"\n'
            f'[websocket]\nhost = "{HOST}"\nport = {self.port}\n{self._more_websocket()}'
            f'[operations]\nhost = "{HOST}"\nport = {operations}\n'
            f"[admission]\n{NO_LIMITS}\n"
            f"{self._stations()}\n"
        )
        return settings

    def _choose_port(self) -> int:
        return free_port()

    def _more_websocket(self) -> str:
        """More lines of that table."""
        return ""

    def _stations(self) -> str:
        """The tables of the configuration that say who is let in."""
        return '[stations]\nunknown = "admit"'

    def _learn(self, process: subprocess.Popen[str]) -> None:
        self.about = "validating, journaling before the answer" + (", under cProfile" if self._profile else "")

    def _stdout(self, log: IO[str]) -> IO[str] | int:
        return log


def free_port() -> int:
    """A TCP port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port

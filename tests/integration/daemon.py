"""The real daemon as a subprocess: started, stopped and killed, its configuration written and its output read."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

TIME_LIMIT = 15.0  # seconds for anything that is expected to happen
BIN = Path(sys.executable).parent
DEFAULTS: dict[str, Any] = {
    "websocket": {"host": "127.0.0.1", "port": 0},
    "operations": {"host": "127.0.0.1", "port": 0},
    "stations": {"unknown": "admit"},
}


class Daemon:
    """One daemon with its own folder (configuration, state, identities); its state outlives `kill` and `restart`.

    `settings` are the tables of the configuration file, laid over DEFAULTS; `identities` are written to
    `stations.identities_dir`; `environ` is added to a bare environment. The ports are chosen by the system at the
    first start and kept from then on, so that stations find a restarted gateway where it was.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        identities: Sequence[Mapping[str, Any]] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.config_path = folder / "ocppgw.toml"
        self.settings = _merged({"state_dir": str(self.state_dir)}, DEFAULTS, settings or {})
        self.environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        self.environ |= environ or {}
        self.process: subprocess.Popen[str] | None = None
        self.websocket_port = 0
        self.http_port = 0
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader: threading.Thread | None = None
        for identity in identities:
            self.write_identity(identity)

    # --- the process

    def start(self) -> Self:
        """Returns once both listeners are open. AssertionError with the log when the daemon ends instead."""
        since = self._launch()
        stations = self.wait_log(r"stations at wss?(?: \([a-z ]+\))?://127\.0\.0\.1:(\d+)", since=since)
        operations = self.wait_log(r"operations at http://127\.0\.0\.1:(\d+)", since=since)
        self.websocket_port, self.http_port = int(stations[1]), int(operations[1])
        self.settings["websocket"]["port"] = self.websocket_port
        self.settings["operations"]["port"] = self.http_port
        return self

    def run_to_end(self, time_limit: float = TIME_LIMIT) -> int:
        """Start a daemon that is expected to give up by itself; its exit status."""
        self._launch()
        return self._ended(time_limit)

    def stop(self, time_limit: float = TIME_LIMIT) -> None:
        """SIGTERM; it must end by itself, cleanly, and have logged no traceback."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self._ended(time_limit)
        # Twisted shuts down and then sends itself the signal again, so that its parent sees why it ended.
        assert status == -signal.SIGTERM, f"exit status {status}\n{self.log}"
        assert "Server Shut Down." in self.log, self.log
        assert "Traceback" not in self.log, self.log

    def kill(self) -> None:
        """SIGKILL, as a crash would be; its ports are free when this returns."""
        assert self.process is not None
        self.process.kill()
        self._ended(TIME_LIMIT)

    def restart(self) -> Self:
        """Stop (unless it was stopped or killed before) and start again on the same state and ports."""
        if self.process is not None:
            self.stop()
        return self.start()

    def signal(self, number: int) -> None:
        """Send a signal, as SIGSTOP for a daemon that hangs."""
        assert self.process is not None
        self.process.send_signal(number)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, _value: object, _traceback: object) -> None:
        if self.process is None:
            return
        if kind is None:
            self.stop()
        else:
            self.kill()  # the test has failed already: its own error is the one to be seen

    def _launch(self) -> int:
        assert self.process is None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(toml(self.settings))
        since = len(self._lines)
        self.process = subprocess.Popen(
            [str(BIN / "twistd"), "--nodaemon", "--pidfile=", "ocppgw", "-c", str(self.config_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self.environ,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        return since

    def _read(self, output: Iterator[str]) -> None:
        """Keeps reading, so that the daemon never blocks on a full pipe."""
        for line in output:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._lines.append("(end of output)\n")
            self._changed.notify_all()

    def _ended(self, time_limit: float) -> int:
        process, reader = self.process, self._reader
        assert process is not None
        assert reader is not None
        try:
            status = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the daemon did not end within {time_limit} seconds\n{self.log}") from None
        finally:
            self.process = None
        reader.join(TIME_LIMIT)
        assert process.stdout is not None
        process.stdout.close()
        return status

    # --- its log

    @property
    def log(self) -> str:
        """All output so far, of all its lives."""
        with self._changed:
            return "".join(self._lines)

    def wait_log(self, pattern: str, *, since: int = 0, time_limit: float = TIME_LIMIT) -> re.Match[str]:
        """Until a line after the first `since` lines matches. AssertionError when the output ends without one."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + time_limit
        with self._changed:
            while True:
                for line in self._lines[since:]:
                    match = wanted.search(line)
                    if match:
                        return match
                ended = "(end of output)\n" in self._lines[since:]
                if ended or not self._changed.wait(deadline - time.monotonic()):
                    why = "the daemon ended" if ended else "it did not come in time"
                    raise AssertionError(f"no log line matches {pattern!r}: {why}\n{''.join(self._lines)}")

    # --- its configuration

    def write_identity(self, identity: Mapping[str, Any]) -> None:
        """Read at the next start."""
        self.settings["stations"].setdefault("identities_dir", "identities")
        folder = self.folder / "identities"
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w-]", "_", str(identity["chargePointId"]))
        (folder / f"{name}.json").write_text(json.dumps(identity))


def toml(settings: Mapping[str, Any]) -> str:
    """Settings as a TOML document: scalars and lists first, then one table for each nested mapping."""
    plain = [f"{key} = {_toml_value(value)}" for key, value in settings.items() if not isinstance(value, Mapping)]
    for name, table in settings.items():
        if isinstance(table, Mapping):
            plain.append(f"\n[{name}]")
            plain += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(plain) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value)


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win, table by table."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    return merged

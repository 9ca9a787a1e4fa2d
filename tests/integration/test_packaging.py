"""What is published works: sdist and wheel are built from the tree, the wheel is installed where nothing else is.

Slow (a build and an installation), so that all of it is made once and looked at from several sides.
"""

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv*", "var", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "dropin.cache", "_trial*"
)
LIMIT_SECONDS = 300
START_SECONDS = 30


@dataclass(frozen=True)
class Installed:
    """`bin` of an environment that holds the wheel and its dependencies, and a folder outside the tree."""

    bin: Path
    site_packages: Path
    elsewhere: Path


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ocppgw packaging ") as name:  # a blank: paths with spaces have to do
        yield Path(name)


@pytest.fixture(scope="module")
def dist(folder: Path) -> Path:
    """Built from a copy, so that nothing stale gets in and nothing is left in the tree; the wheel from the sdist."""
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, ignore=NOT_SOURCE)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=source)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(folder: Path, wheel: Path) -> Installed:
    environment = folder / "environment"
    venv.create(environment)
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "-c", REPOSITORY / "constraints.txt", wheel, cwd=folder)
    (site_packages,) = (environment / "lib").glob("python*/site-packages")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Installed(environment / "bin", site_packages, elsewhere)


def test_every_package_of_the_tree_is_listed() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    there = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in REPOSITORY.glob("ocppgw/**/__init__.py")}
    assert listed == there | {"twisted.plugins"}


def test_the_wheel_holds_the_whole_program_and_nothing_of_twisted(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("ocppgw/**/*.py")}
    code = {name for name in names if ".dist-info/" not in name}
    assert code == sources | {"twisted/plugins/ocppgw_plugin.py"}


def test_the_sdist_holds_what_an_operator_needs(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "CHANGELOG.md", "constraints.txt", "docs/operators.md"} <= names
    assert {"etc/ocppgw.toml", "etc/ocppgw.dev.toml", "etc/systemd/ocppgw.service"} <= names


def test_twistd_knows_the_plugin_and_keeps_it_in_its_cache(installed: Installed) -> None:
    help_text = run(installed.bin / "twistd", "ocppgw", "--help", cwd=installed.elsewhere)
    assert "--config=" in help_text
    assert b"ocppgw_plugin" in (installed.site_packages / "twisted" / "plugins" / "dropin.cache").read_bytes()


def test_the_command_line_is_there(installed: Installed) -> None:
    version = run(installed.bin / "ocppgw", "--version", cwd=installed.elsewhere)
    assert re.fullmatch(r"ocppgw, version \d+\.\d+\.\d+\n", version)
    for command in ("check-config", "command", "events", "simulate", "station", "stations"):
        assert "Usage: ocppgw" in run(installed.bin / "ocppgw", command, "--help", cwd=installed.elsewhere)


def test_the_gateway_starts_elsewhere_and_answers(installed: Installed) -> None:
    config = installed.elsewhere / "ocppgw.dev.toml"
    shutil.copy(REPOSITORY / "etc" / "ocppgw.dev.toml", config)
    environment = os.environ | {
        "WEBSOCKET_OCPP_PORT": "0",
        "PORT": "0",
        "OCPPGW_STATE_DIR": str(installed.elsewhere / "state"),
    }
    command = [str(installed.bin / "twistd"), "--nodaemon", "--pidfile=", "ocppgw", "-c", str(config)]
    log = installed.elsewhere / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=installed.elsewhere, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as gateway,
    ):
        try:
            with urllib.request.urlopen(f"{operations_url(gateway, log)}/health", timeout=START_SECONDS) as answer:
                health = json.load(answer)
        finally:
            gateway.terminate()
            gateway.wait(START_SECONDS)
    assert health["status"] == "ok"
    assert gateway.returncode == -signal.SIGTERM  # after an orderly stop twistd ends by the signal it was sent
    assert "Server Shut Down" in log.read_text()
    assert (installed.elsewhere / "state" / "ocppgw.sqlite3").exists()


def operations_url(gateway: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where the gateway says it serves operations, read from its log as it grows."""
    for _ in range(START_SECONDS * 10):
        found = re.search(r"operations at (http://\S+)", log.read_text())
        if found:
            return found[1]
        try:
            gateway.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"the gateway did not start:\n{log.read_text()}")

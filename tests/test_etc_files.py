"""What is shipped in etc/ and schemas/ agrees with the code that reads it."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import SecretStr
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.identity import parse_identity
from ocppgw.config import Settings, check, load
from ocppgw.config.environment import env_name, fields
from ocppgw.config.schema import schema_text
from ocppgw.drain import CLOSING_SECONDS, COMMANDS_SECONDS
from ocppgw.net.embedded.database import CLOSE_SECONDS
from ocppgw.routing.relay import STOP_SECONDS

ROOT = Path(__file__).resolve().parent.parent
PRODUCTION = ROOT / "etc/ocppgw.toml"
DEVELOPMENT = ROOT / "etc/ocppgw.dev.toml"
TLS_DEVELOPMENT = ROOT / "etc/ocppgw.tls-dev.toml"
UNIT = ROOT / "etc/systemd/ocppgw.service"
WORKER_UNIT = ROOT / "etc/systemd/ocppgw@.service"
LARGEST_EXPOSURE = 2.0  # of 10, as systemd-analyze security counts


def leaves(table: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in table.items():
        found |= leaves(value, (*above, key)) if value and isinstance(value, dict) else {(*above, key): value}
    return found


def plain(value: Any) -> Any:
    """A default as TOML would give it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


class EtcTestCase(SynchronousTestCase):
    def folder(self) -> Path:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return Path(folder)


class ProductionFile(EtcTestCase):
    def uncommented(self) -> str:
        return re.sub(r"(?m)^#(?=[a-z])", "", PRODUCTION.read_text())

    def test_loads_without_a_warning(self) -> None:
        report = check(PRODUCTION, {})
        self.assertEqual((report.ok, report.errors, report.warnings), (True, [], []))

    def test_changes_nothing_as_shipped(self) -> None:
        self.assertEqual(load(PRODUCTION, {}).settings, Settings())

    def test_shows_every_setting_with_its_default_and_nothing_else(self) -> None:
        shown = leaves(tomllib.loads(self.uncommented()))
        self.assertEqual(shown, {path: plain(field.default) for path, field in fields()})

    def test_every_shown_value_is_accepted(self) -> None:
        path = self.folder() / "ocppgw.toml"
        path.write_text(self.uncommented())
        report = check(path, {})
        self.assertEqual((report.errors, report.warnings), ([], []))

    def test_names_every_environment_variable_beside_its_setting(self) -> None:
        named: dict[tuple[str, ...], str | None] = {}
        table: tuple[str, ...] = ()
        for paragraph in PRODUCTION.read_text().split("\n\n")[1:]:
            *prose, last = paragraph.splitlines()
            if last.startswith("["):
                table = (last.strip("[]"),)
                continue
            variable = re.fullmatch(r"# Environment: (\w+)", prose[-1])
            named[(*table, last[1:].split(" =")[0])] = variable and variable.group(1)
        self.assertEqual(named, {path: env_name(field) for path, field in fields()})


class DevelopmentFile(SynchronousTestCase):
    def test_loads_without_a_warning(self) -> None:
        report = check(DEVELOPMENT, {})
        self.assertEqual((report.ok, report.errors, report.warnings), (True, [], []))

    def test_admits_unknown_stations_as_tenant_dev_on_loopback_only(self) -> None:
        settings = load(DEVELOPMENT, {}).settings
        self.assertEqual((settings.stations.unknown, settings.stations.unknown_tenant), ("admit", "dev"))
        self.assertEqual((settings.websocket.host, settings.operations.host), ("127.0.0.1", "127.0.0.1"))
        self.assertFalse(settings.stations.admit_unknown_anywhere)


class TlsDevelopmentFile(SynchronousTestCase):
    def test_loads_without_a_warning_on_loopback_only(self) -> None:
        report = check(TLS_DEVELOPMENT, {})
        self.assertEqual((report.ok, report.errors, report.warnings), (True, [], []))
        settings = load(TLS_DEVELOPMENT, {}).settings
        self.assertEqual((settings.websocket.host, settings.operations.host), ("127.0.0.1", "127.0.0.1"))
        self.assertEqual(settings.stations.unknown, "refuse")


class Identities(SynchronousTestCase):
    def test_the_example_is_a_valid_identity(self) -> None:
        example = json.loads((ROOT / "etc/identities/CP-EXAMPLE.json.example").read_text())
        self.assertEqual(parse_identity(example).charge_point_id, "CP-EXAMPLE")


class Schema(SynchronousTestCase):
    def test_is_in_step_with_the_tree(self) -> None:
        shipped = (ROOT / "schemas/configuration.schema.json").read_text()
        self.assertEqual(shipped, schema_text(), "python -m ocppgw.config.schema > schemas/configuration.schema.json")

    def test_accepts_the_shipped_files_and_refuses_a_wrong_port(self) -> None:
        schema = json.loads(schema_text())
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema)
        for path in (PRODUCTION, DEVELOPMENT, TLS_DEVELOPMENT):
            self.assertEqual(list(validator.iter_errors(tomllib.loads(path.read_text()))), [])
        self.assertFalse(validator.is_valid({"websocket": {"port": 70000}}))

    def test_every_setting_is_described(self) -> None:
        self.assertEqual([path for path, field in fields() if not field.description], [])


class SystemdUnit(EtcTestCase):
    unit = UNIT
    folder_of_state = "ocppgw"

    def analyze(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = shutil.which("systemd-analyze")
        if program is None:
            self.fail("systemd-analyze is missing: install the package systemd (apt-get install systemd)")
        environment = {"PATH": os.environ.get("PATH", ""), "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
        )

    def unit_with_programs_that_exist(self) -> str:
        copy = self.folder() / self.unit.name.replace("@", "@1")
        text, replaced = re.subn(
            r"(?m)^(ExecStart(?:Pre)?=)/\S+", rf"\g<1>{shutil.which('true')}", self.unit.read_text()
        )
        self.assertEqual(replaced, 2)
        copy.write_text(text)
        return str(copy)

    def setting(self, name: str) -> list[str]:
        return re.findall(rf"(?m)^{name}=(.*)$", self.unit.read_text())

    def test_systemd_finds_nothing_wrong(self) -> None:
        result = self.analyze("verify", self.unit_with_programs_that_exist())
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_is_hardened(self) -> None:
        result = self.analyze("security", "--offline=true", "--no-pager", self.unit_with_programs_that_exist())
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
        assert found is not None, result.stdout + result.stderr
        self.assertLessEqual(float(found.group(1)), LARGEST_EXPOSURE)

    def test_checks_the_configuration_it_starts_with(self) -> None:
        (before,), (start,) = self.setting("ExecStartPre"), self.setting("ExecStart")
        self.assertTrue(before.endswith("/ocppgw check-config -c /etc/ocppgw/ocppgw.toml"))
        self.assertTrue(start.endswith("/twistd --nodaemon --pidfile= ocppgw -c /etc/ocppgw/ocppgw.toml"))

    def test_state_is_where_systemd_makes_the_folder(self) -> None:
        self.assertIn(f"OCPPGW_STATE_DIR=/var/lib/{self.folder_of_state}", self.setting("Environment"))
        self.assertEqual(self.setting("StateDirectory"), [self.folder_of_state])
        self.assertEqual(self.setting("WorkingDirectory"), [f"/var/lib/{self.folder_of_state}"])

    def test_leaves_time_for_an_orderly_end(self) -> None:
        (limit,) = self.setting("TimeoutStopSec")
        drain = COMMANDS_SECONDS + Settings().websocket.drain_seconds + CLOSING_SECONDS
        self.assertGreater(int(limit), drain + STOP_SECONDS + CLOSE_SECONDS)

    def test_a_reload_is_a_hangup_which_the_daemon_listens_to(self) -> None:
        self.assertEqual(self.setting("ExecReload"), ["/bin/kill -HUP $MAINPID"])

    def test_allows_a_descriptor_for_every_connection(self) -> None:
        (limit,) = self.setting("LimitNOFILE")
        self.assertGreater(int(limit), Settings().websocket.max_connections * 2)


class WorkerUnit(SystemdUnit):
    """One of several processes of a host."""

    unit = WORKER_UNIT
    folder_of_state = "ocppgw/%i"

    def test_differs_from_the_other_in_what_is_its_own(self) -> None:
        own = {"Description", "Environment", "EnvironmentFile", "StateDirectory", "WorkingDirectory"}
        lines = [
            [
                line
                for line in unit.read_text().splitlines()
                if line and line[0] != "#" and line.split("=")[0] not in own
            ]
            for unit in (UNIT, WORKER_UNIT)
        ]
        self.assertEqual(*lines)
        self.assertIn("NODE_ID=%H-%i", self.setting("Environment"))
        self.assertEqual(self.setting("EnvironmentFile"), ["-/etc/ocppgw/.env", "/etc/ocppgw/worker-%i.env"])

"""`ocppgw check-config`: all that is wrong with a configuration and the files it names, at once."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from ocppgw import config
from ocppgw.cli.output import console, print_json
from ocppgw.config import Problem
from ocppgw.errors import OcppgwError
from ocppgw.logs import printable
from ocppgw.net.tls import TlsCreator, TlsMaterialError, load
from ocppgw.rules_from_settings import (
    listeners,
    local_signer,
    read_identities,
    read_profiles,
    read_tokens,
    redis_tls,
    tls_files,
)
from ocppgw.station_ports import PLAIN

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("check-config")
@click.option(
    "-c", "--config", "path", type=_FILE, help="Configuration file; without it, the environment alone is checked."
)
@click.option("--env-file", type=_FILE, help="File of NAME=value lines, below the environment.")
@click.option("--json", "as_json", is_flag=True, help="Print {ok, errors, warnings} as one JSON object.")
def check_config(path: Path | None, env_file: Path | None, as_json: bool) -> None:
    """Check a configuration without starting anything: the settings, then the certificates, keys, CRLs and identity
    files they name.

    \b
    ocppgw check-config -c etc/ocppgw.toml
    ocppgw check-config -c etc/ocppgw.toml --env-file .env

    Exit code: 0 usable (there may be warnings), 1 errors.
    """
    report = config.check(path, os.environ, env_file)
    if report.ok:
        errors, warnings = look_at_files(path, env_file)
        report = config.CheckReport(not errors, [*report.errors, *errors], [*report.warnings, *warnings])
    if as_json:
        problems = {"errors": report.errors, "warnings": report.warnings}
        listed = {name: [asdict(problem) for problem in found] for name, found in problems.items()}
        print_json({"ok": report.ok, **listed})
    else:
        _show(report)
    sys.exit(0 if report.ok else 1)


def look_at_files(path: Path | None, env_file: Path | None) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings about what the settings name: TLS files, the signing CA, identities."""
    settings = config.load(path, os.environ, env_file).settings
    folder = path.parent if path is not None else Path()
    errors: list[Problem] = []
    warnings: list[Problem] = []
    try:
        files = tls_files(settings, folder)
        if files is not None:
            material = load(files, time.time())
            warnings += [Problem(None, None, "tls", warning) for warning in material.warnings]
            TlsCreator({kind for _, kind in listeners(settings)} - {PLAIN}, time.time).prepare(material)
    except TlsMaterialError as error:
        errors += [Problem(None, None, "tls", problem) for problem in error.problems]
    named: list[tuple[str, Callable[[config.Settings, Path], object]]] = [
        ("signing", local_signer),
        ("stations.identities_dir", read_identities),
        ("answers.id_tokens_file", read_tokens),
        ("quirks.dir", read_profiles),
    ]
    if settings.redis.enabled:
        named.append(("redis", redis_tls))
    for key, read in named:
        try:
            read(settings, folder)
        except OcppgwError as error:
            errors.append(Problem(None, None, key, str(error.args[0]), error.hint))
    return errors, warnings


def _show(report: config.CheckReport) -> None:
    screen = console()
    for style, word, problems in (("red", "error", report.errors), ("yellow", "warning", report.warnings)):
        for problem in problems:
            screen.print(Text.assemble((word, style), f": {printable(str(problem))}"), soft_wrap=True)
    if report.ok:
        warnings = f", {len(report.warnings)} warnings" if report.warnings else ""
        screen.print(Text.assemble(("The configuration is usable", "green"), f"{warnings}."), soft_wrap=True)

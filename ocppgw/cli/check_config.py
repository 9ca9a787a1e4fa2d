"""`ocppgw check-config`: all that is wrong with a configuration, at once."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from ocppgw import config
from ocppgw.cli.output import console, print_json
from ocppgw.logs import printable

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("check-config")
@click.option(
    "-c", "--config", "path", type=_FILE, help="Configuration file; without it, the environment alone is checked."
)
@click.option("--env-file", type=_FILE, help="File of NAME=value lines, below the environment.")
@click.option("--json", "as_json", is_flag=True, help="Print {ok, errors, warnings} as one JSON object.")
def check_config(path: Path | None, env_file: Path | None, as_json: bool) -> None:
    """Check a configuration without starting anything.

    \b
    ocppgw check-config -c etc/ocppgw.toml
    ocppgw check-config -c etc/ocppgw.toml --env-file .env

    Exit code: 0 usable (there may be warnings), 1 errors.
    """
    report = config.check(path, os.environ, env_file)
    if as_json:
        problems = {"errors": report.errors, "warnings": report.warnings}
        listed = {name: [asdict(problem) for problem in found] for name, found in problems.items()}
        print_json({"ok": report.ok, **listed})
    else:
        _show(report)
    sys.exit(0 if report.ok else 1)


def _show(report: config.CheckReport) -> None:
    screen = console()
    for style, word, problems in (("red", "error", report.errors), ("yellow", "warning", report.warnings)):
        for problem in problems:
            screen.print(Text.assemble((word, style), f": {printable(str(problem))}"), soft_wrap=True)
    if report.ok:
        warnings = f", {len(report.warnings)} warnings" if report.warnings else ""
        screen.print(Text.assemble(("The configuration is usable", "green"), f"{warnings}."), soft_wrap=True)

"""--url, --token-file and OCPPGW_TOKEN, the same for every command that talks to a running gateway."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ocppgw.cli.client import OperationsClient, Refused
from ocppgw.errors import OcppgwError

DEFAULT_URL = "http://127.0.0.1:3001"
NOT_REACHABLE = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def with_client(function: Callable[..., None]) -> Callable[..., None]:
    """Pass an OperationsClient as first argument; print failures as one sentence and exit 1, Ctrl-C quietly 130."""

    @click.option(
        "--url", envvar="OCPPGW_URL", default=DEFAULT_URL, show_default=True, help="Operations HTTP. [OCPPGW_URL]"
    )
    @click.option(
        "--token-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with the operations token; without it, OCPPGW_TOKEN is used.",
    )
    @wraps(function)
    def wrapped(url: str, token_file: Path | None, **arguments: Any) -> None:
        try:
            client = OperationsClient(url, _token(token_file))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from error
        try:
            function(client, **arguments)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except OcppgwError as error:
            raise failure(error) from error

    return wrapped


class _Failed(click.ClickException):
    exit_code = NOT_REACHABLE


def failure(error: OcppgwError) -> click.ClickException:
    """The error as click prints it, with exit code 1."""
    hint = error.hint
    if isinstance(error, Refused) and error.code == "Unauthorized":
        hint = "set OCPPGW_TOKEN or give --token-file"
    message = str(error.args[0])
    return _Failed(f"{message}\n{hint}" if hint else message)


def _token(token_file: Path | None) -> str | None:
    if token_file is None:
        return os.environ.get("OCPPGW_TOKEN") or None
    token = token_file.read_text().strip()
    if not token or not token.isascii() or not token.isprintable():
        raise click.BadParameter(
            f"{token_file} holds no token: one line of ASCII is expected", param_hint="--token-file"
        )
    return token

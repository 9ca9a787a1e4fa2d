"""What the operator hands over: files, `-` for standard input. What is wrong with it is said without the usage lines,
which are about the command line."""

import sys
from pathlib import Path

import click

STDIN = "-"
FILE_OR_STDIN = click.Path(dir_okay=False, allow_dash=True, path_type=str)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # what editors on Windows put in front of UTF-8


class BadInput(click.ClickException):
    """What was handed over can't be used."""

    exit_code = 2


def read_file(path: str) -> bytes:
    """All of it. BadInput when it can't be read."""
    try:
        data = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{file_name(path)} can't be read: {error.strerror}") from error
    return data.removeprefix(_BYTE_ORDER_MARK)


def is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def file_name(path: str) -> str:
    """How messages call it."""
    return "standard input" if path == STDIN else path

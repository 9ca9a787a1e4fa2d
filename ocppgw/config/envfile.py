"""`.env` files: lines of `NAME=value`.

    # a comment                      export NAME=value       (the word export is passed over)
    NAME=value # a comment           the comment needs a space before it
    NAME='as it stands'              no escapes, may span lines
    NAME="with \n \t \\ \" escapes"   may span lines

Nothing is interpolated: `$` is an ordinary character. The last of several lines with one name wins.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ocppgw.config.problems import Problem

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r"[^\r\n]*")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*$")
_REST = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=[\r\n]|\Z)")
_BLANK = re.compile(r"[ \t]*(?:#[^\r\n]*)?\r?(?:\n|\Z)")
_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Variable:
    """A value and the line (from 1) it stands on."""

    value: str
    line: int


def parse_env(text: str, file: str) -> tuple[Mapping[str, Variable], list[Problem]]:
    """The variables of a `.env` text and what can't be read in it; values never appear in the problems."""
    variables: dict[str, Variable] = {}
    problems: list[Problem] = []
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
            continue
        line = text.count("\n", 0, at) + 1
        name, value, end = _assignment(text, at)
        if value is None:
            problems.append(_unreadable(file, line, name))
            end = _end_of_line(text, at)
        else:
            variables[name] = Variable(value, line)
        at = end
    return variables, problems


def _assignment(text: str, at: int) -> tuple[str, str | None, int]:
    """Name, value (None: unreadable) and where the assignment ends."""
    head = _NAME.match(text, at)
    if head is None:
        return "", None, at
    name, start = head.group(1), head.end()
    if text[start : start + 1] not in {"'", '"'}:
        plain = _PLAIN.match(text, start)
        end = plain.end() if plain else start
        return name, _COMMENT.sub("", text[start:end]).strip(), end
    quoted = (_SINGLE if text[start] == "'" else _DOUBLE).match(text, start)
    rest = _REST.match(text, quoted.end()) if quoted else None
    if quoted is None or rest is None:
        return name, None, at
    value = quoted.group(1)
    return name, _unescape(value) if text[start] == '"' else value, rest.end()


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found.group(1), found.group(1)), value)


def _end_of_line(text: str, at: int) -> int:
    line = _LINE.match(text, at)
    return line.end() if line else len(text)


def _unreadable(file: str, line: int, name: str) -> Problem:
    if name:
        return Problem(file, line, name, "the quoted value has no end, or text after it", "close the quote")
    return Problem(file, line, "", "is not NAME=value", "write NAME=value, or put # before a comment")

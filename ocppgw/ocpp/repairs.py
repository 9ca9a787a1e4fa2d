"""Payloads that bend the schema in ways that are known of some stations, mended: each repair has a name.

    number-for-text     a number or true/false where a text is wanted: its text
    text-for-number     the text of a number or of true/false where that is wanted: the value
    null-member         null for a member that may be left out: left out
    unknown-member      a member the schema does not have: left out
    enum-spelling       a word of an enumeration in other case, or with spaces, - or _: the word
    long-text           a text above its greatest length: cut
    time-spelling       a time without zone, or with one like +02 or +0200, or a space for the T: as RFC 3339 has it

A repair changes what is wrong and nothing else, so a valid payload is never touched; and it makes nothing up: a zone
that is missing is the one that the operator says the station means. What was changed stands beside its original in the
event.
"""

import re
from collections.abc import Callable, Collection, Iterable
from copy import deepcopy
from typing import Any

from jsonschema_rs import ValidationErrorKind

from ocppgw.ocpp.schemas import Validator

MAX_ROUNDS = 10  # one repair may show the next fault: a text that was a number may be too long

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?) ?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}

Mend = Callable[[Any, Any, str], Any]  # kind of the error, value, zone -> the new value, or _NOT


class _Not:
    """It is not for this repair."""


class _Gone:
    """The member goes."""


_NOT, _GONE = _Not(), _Gone()


def repaired(
    payload: dict[str, Any], validator: Validator, allowed: Collection[str], zone: str = "Z"
) -> tuple[dict[str, Any], list[str]] | None:
    """A copy that the schema lets pass, and the repairs that made it so; None when these do not do. `zone`: of times
    without one, as Z or +02:00."""
    try:
        mended, done = deepcopy(payload), set[str]()
        for _ in range(MAX_ROUNDS):
            errors = validator.errors(mended)
            if not errors:
                return mended, sorted(done)
            names = {name for error in errors if (name := _mend(mended, error, allowed, zone))}
            if not names:
                return None
            done |= names
    except Exception:  # nested too deeply, or whatever else stops the validator: refused, as without repairs
        return None
    return None


def _mend(payload: dict[str, Any], error: Any, allowed: Collection[str], zone: str) -> str:
    """The repair that was made, "" for none."""
    if isinstance(error.kind, ValidationErrorKind.AdditionalProperties):
        return _without(payload, error, allowed)
    *path, last = error.instance_path or [None]
    parent = _at(payload, path)
    if last is None or (isinstance(parent, dict) and last not in parent):  # gone since, for another fault of it
        return ""
    for name, mend in REPAIRS.items():
        if name not in allowed:
            continue
        value = mend(error.kind, parent[last], zone)
        if value is _GONE and isinstance(parent, dict):
            del parent[last]
            return name
        if value is not _NOT and value is not _GONE:
            parent[last] = value
            return name
    return ""


def _without(payload: dict[str, Any], error: Any, allowed: Collection[str]) -> str:
    if "unknown-member" not in allowed:
        return ""
    parent = _at(payload, error.instance_path)
    for member in error.kind.unexpected:
        parent.pop(member, None)
    return "unknown-member"


def _at(payload: Any, path: Iterable[Any]) -> Any:
    for part in path:
        payload = payload[part]
    return payload


def _number_for_text(kind: Any, value: Any, _zone: str) -> Any:
    if not _wants(kind, "string") or not isinstance(value, int | float):
        return _NOT
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text_for_number(kind: Any, value: Any, _zone: str) -> Any:
    if not isinstance(value, str):
        return _NOT
    text = value.strip()
    if _wants(kind, "integer") and _INTEGER.fullmatch(text):
        return int(text)
    if _wants(kind, "number") and _NUMBER.fullmatch(text):
        return float(text)
    return _BOOLEANS.get(text.lower(), _NOT) if _wants(kind, "boolean") else _NOT


def _null_member(kind: Any, value: Any, _zone: str) -> Any:
    return _GONE if value is None and isinstance(kind, ValidationErrorKind.Type) else _NOT


def _enum_spelling(kind: Any, value: Any, _zone: str) -> Any:
    if not isinstance(kind, ValidationErrorKind.Enum) or not isinstance(value, str):
        return _NOT
    found = [option for option in kind.options if isinstance(option, str) and _letters(option) == _letters(value)]
    return found[0] if len(found) == 1 else _NOT


def _long_text(kind: Any, value: Any, _zone: str) -> Any:
    return value[: kind.limit] if isinstance(kind, ValidationErrorKind.MaxLength) else _NOT


def _time_spelling(kind: Any, value: Any, zone: str) -> Any:
    if not isinstance(kind, ValidationErrorKind.Format) or kind.format != "date-time" or not isinstance(value, str):
        return _NOT
    match = _TIME.fullmatch(value.strip())
    if match is None:
        return _NOT
    date, time, offset = match.groups()
    offset = offset or zone
    if offset != "Z":
        digits = offset[1:].replace(":", "").ljust(4, "0")
        offset = f"{offset[0]}{digits[:2]}:{digits[2:]}"
    return f"{date}T{time}{offset}"


def _wants(kind: Any, name: str) -> bool:
    return isinstance(kind, ValidationErrorKind.Type) and name in kind.types


def _letters(text: str) -> str:
    return re.sub(r"[ _.-]", "", text).casefold()


REPAIRS: dict[str, Mend] = {
    "null-member": _null_member,
    "number-for-text": _number_for_text,
    "text-for-number": _text_for_number,
    "enum-spelling": _enum_spelling,
    "long-text": _long_text,
    "time-spelling": _time_spelling,
}
PAYLOAD_REPAIRS = frozenset({*REPAIRS, "unknown-member"})

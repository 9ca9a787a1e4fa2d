"""Query parameters, checked: a wrong one is a 400 that names it."""

from collections.abc import Mapping

from ocppgw.net.web.replies import HttpError
from ocppgw.net.web.request import OperationsRequest

MAX_WAIT_SECONDS = 600.0
_MAX = 2**63 - 1  # what the journal's cursors go up to
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def parameters(request: OperationsRequest, *names: str) -> dict[str, str]:
    """The query parameters; each at most once, none but `names`."""
    query: dict[str, str] = {}
    for raw, values in (request.args or {}).items():
        name = raw.decode("utf-8", "replace")
        if name not in names or len(values) > 1:
            raise HttpError(400, "BadQuery", f"{name!r} isn't asked for here, or twice.", f"Known: {', '.join(names)}")
        query[name] = values[0].decode("utf-8", "replace")
    return query


def integer(query: Mapping[str, str], name: str, default: int, least: int = -_MAX, most: int = _MAX) -> int:
    """A whole number of `least` to `most`, both included."""
    text = query.get(name)
    if text is None:
        return default
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) < 20 and least <= int(text) <= most:
        return int(text)
    raise HttpError(400, "BadQuery", f"{name}={text!r} isn't a whole number from {least} to {most}.")


def boolean(query: Mapping[str, str], name: str) -> bool | None:
    """True, False, or None when it isn't given."""
    if name not in query:
        return None
    value = _BOOLEANS.get(query[name].lower())
    if value is None:
        raise HttpError(400, "BadQuery", f"{name}={query[name]!r} is neither true nor false.")
    return value


def seconds(query: Mapping[str, str], name: str) -> float:
    """A duration of at most MAX_WAIT_SECONDS, 0 when it isn't given."""
    try:
        value = float(query.get(name, "0"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_WAIT_SECONDS:
        raise HttpError(400, "BadQuery", f"{name}={query[name]!r} isn't a time of 0 to {MAX_WAIT_SECONDS:g} seconds.")
    return value

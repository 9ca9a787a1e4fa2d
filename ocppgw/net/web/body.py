"""JSON bodies, checked: a wrong member is a 400 that names it."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from ocppgw.net.web.replies import HttpError
from ocppgw.net.web.request import OperationsRequest

MAX_TEXT = 255


def json_object(request: OperationsRequest, hint: str = "") -> dict[str, Any]:
    """The body, which has to be a JSON object."""
    try:
        body = orjson.loads(request.body())
    except orjson.JSONDecodeError as error:
        raise HttpError(400, "BadJson", f"The body isn't JSON: {error}.") from None
    if not isinstance(body, dict):
        raise HttpError(400, "BadJson", "The body must be a JSON object.", hint)
    return body


def only(members: Mapping[str, Any], known: Collection[str], where: str = "The body") -> None:
    """A member with a slip in its name must not pass for one that was left out."""
    for name in members:
        if name not in known:
            raise HttpError(400, "BadMember", f"{where} has a member {name[:60]!r}.", f"Known: {', '.join(known)}")


def text(members: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text of 1 to MAX_TEXT printable characters; without a default it is required."""
    value = members.get(name, default)
    if isinstance(value, str) and (value == default or (0 < len(value) <= MAX_TEXT and value.isprintable())):
        return value
    raise HttpError(400, "BadMember", f"{name} must be a text of 1 to {MAX_TEXT} printable characters.")


def flag(members: Mapping[str, Any], name: str) -> bool:
    """True or False, False when it isn't given."""
    value = members.get(name, False)
    if not isinstance(value, bool):
        raise HttpError(400, "BadMember", f"{name} must be true or false.")
    return value


def part(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object, empty when it isn't given."""
    value = members.get(name, {})
    if not isinstance(value, dict):
        raise HttpError(400, "BadMember", f"{name} must be a JSON object.")
    return value

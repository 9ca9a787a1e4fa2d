"""The operator's sentences for what pydantic and tomllib find. Values of secrets are never quoted."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

_MAX_QUOTED = 60

_TYPES = {
    "int_type": ("must be a whole number", "write it without quotes"),
    "float_type": ("must be a number", "write it without quotes"),
    "finite_number": ("must be a finite number", ""),
    "bool_type": ("must be true or false", "write true or false without quotes"),
    "string_type": ("must be text", "put it in quotes"),
    "path_type": ("must be text", "put it in quotes"),
    "tuple_type": ("must be a list", 'write a list such as ["a", "b"]'),
    "mapping_type": ("must be a table", 'write a table such as {"04AA" = "Blocked"}'),
    "dict_type": ("must be a table", 'write a table such as {"04AA" = "Blocked"}'),
}

_BOUNDS = {
    "greater_than": ("must be more than {gt}", "gt"),
    "greater_than_equal": ("must be at least {ge}", "ge"),
    "less_than": ("must be less than {lt}", "lt"),
    "less_than_equal": ("must be at most {le}", "le"),
    "string_too_short": ("must have at least {min_length} characters", "min_length"),
    "string_too_long": ("must have at most {max_length} characters", "max_length"),
    "too_short": ("must have at least {min_length} elements", "min_length"),
    "literal_error": ("must be {expected}", "expected"),
    "string_pattern_mismatch": ("must match {pattern}", "pattern"),
}

_TOML_HINTS = {
    "Cannot overwrite a value": "a key stands twice, or a key and a table have one name: keep one",
    "Cannot declare": "a table stands twice: merge them",
    "Expected '=' after a key": "write key = value",
    "Invalid value": 'put text in quotes: key = "value"',
    "Invalid statement": "write key = value, or put # before a comment",
    "Expected newline or end of document": "put one setting on a line; text with blanks needs quotes",
    "Unclosed array": "close the list with ]",
    "Unterminated string": "close the quote",
    "Illegal character": "close the quote on the same line, and remove control characters",
    "Unescaped '\\' in a string": "write \\\\ for a backslash, or use single quotes",
}


def wording(detail: ErrorDetails) -> tuple[str, str]:
    """Message and hint for one pydantic error."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _TYPES:
        return _TYPES[kind]
    quoted = _quoted(detail["input"])
    if kind == "value_error":
        return f"{context['error']}{quoted}", ""
    if kind in _BOUNDS:
        sentence, name = _BOUNDS[kind]
        return f"{sentence.format_map({name: context[name]})}{quoted}", _bound_hint(kind, context)
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}", ""


def toml_hint(message: str) -> str:
    """How to mend a TOML syntax error."""
    return next((hint for start, hint in _TOML_HINTS.items() if message.startswith(start)), "check the line's syntax")


def _quoted(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return f", but is {value}"
    if isinstance(value, str):
        shown = value if len(value) <= _MAX_QUOTED else f"{value[:_MAX_QUOTED]}…"
        return f", but is {shown!r}"
    return ""


def _bound_hint(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "literal_error":
        return "choose one of these; upper and lower case count"
    if kind.startswith(("greater", "less")):
        return f"set it to {next(iter(context.values()))} or {'more' if kind.startswith('greater') else 'less'}"
    return ""

"""The official OCPP schemas, compiled: is a payload valid, and if not, which error code and words does the sender get.

    schema_set(version).requests["Authorize"].is_valid(payload)      about 1 µs
    schema_set(version).requests["Authorize"].explain(payload)       only for an invalid one: Violation

The files come with the PyPI package `ocpp`. 1.6: draft 4 (the core, where 1.0 is no integer) and draft 6 (the security
extension); 2.x: draft 6. Formats are checked. jsonschema-rs decides; `reference_validator` is what it is compared with.

A violation's code follows from its keyword (1.6 and 2.x spell some of them differently). The specifications leave that
open except for wrong types, bad enum values (PropertyConstraintViolation) and too many elements (B06.FR.16):

    type                             TypeConstraintViolation
    required, minItems, maxItems     OccurrenceConstraintViolation
    additionalProperties             FormatViolation
    enum, lengths, ranges, format    PropertyConstraintViolation
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema_rs import Draft4Validator, Draft6Validator, ValidationError, ValidationErrorKind

from ocppgw.errors import ConfigError
from ocppgw.ocpp.versions import ErrorCodes, OcppVersion

MAX_DESCRIPTION_LENGTH = 255  # of a CALLERROR, 2.x part 4 section 4.2.3
MAX_NAME_LENGTH = 50  # of a foreign member name, as quoted in a description
MAX_NODES = 1000  # listing every violation costs about 10 µs for each; of a larger payload only the first is looked for

# With several violations the first of these wins, then all other keywords alike; then the path in alphabetical order.
_PRECEDENCE = {"type": 0, "required": 1, "additionalProperties": 2, "falseSchema": 2, "enum": 3}
_LAST = len(_PRECEDENCE)
_TYPE_NAMES = {
    bool: "boolean",
    dict: "object",
    list: "array",
    str: "string",
    int: "integer",
    float: "number",
    type(None): "null",
}


class Violation(NamedTuple):
    """Why a payload is refused: the version's error code, a sentence (at most 255 characters) and the JSON path.

    The sentence never repeats a string of the payload: it may be a secret. The path of the payload itself is "".
    """

    code: str
    description: str
    path: str


class Validator:
    """One compiled schema. `is_valid(payload)` is the compiled method itself; payload is a dict decoded from JSON."""

    __slots__ = ("_codes", "_compiled", "is_valid")

    def __init__(self, schema: dict[str, Any], codes: ErrorCodes) -> None:
        draft = Draft4Validator if "draft-04" in schema["$schema"] else Draft6Validator
        self._compiled = draft(schema, validate_formats=True)
        self._codes = codes
        self.is_valid: Callable[[object], bool] = self._compiled.is_valid

    def explain(self, payload: dict[str, Any]) -> Violation:
        """What is wrong with an invalid payload; always the same for the same payload. Never raises.

        Takes 20 µs as a rule, 10 ms for a thousand violations, and up to 50 ms for a fault at the top of 1 MB.
        A value of the wrong type that is nested too deeply to be reported (254 levels) counts as a formation violation.
        """
        try:
            error = min(self._errors(payload), key=_precedence)
        except Exception:  # whatever stops the validator, the sender gets its answer
            return Violation(self._codes.formation, "the payload is nested too deeply or can't be checked", "")
        path, description = _describe(error)
        return Violation(self._code(error.kind.name), description[:MAX_DESCRIPTION_LENGTH], path)

    def errors(self, payload: dict[str, Any]) -> list[ValidationError]:
        """All that is wrong; [] when nothing is. Of a payload with more than MAX_NODES values only the first."""
        return list(self._errors(payload))

    def _errors(self, payload: dict[str, Any]) -> Iterable[ValidationError]:
        if _nodes(payload, MAX_NODES) <= MAX_NODES:
            return self._compiled.iter_errors(payload)
        try:
            self._compiled.validate(payload)
        except ValidationError as error:
            return (error,)
        return ()

    def _code(self, keyword: str) -> str:
        match keyword:
            case "type":
                return self._codes.type_constraint
            case "required" | "minItems" | "maxItems":
                return self._codes.occurrence
            case "additionalProperties" | "falseSchema":
                return self._codes.formation
        return self._codes.property_constraint


def _nodes(payload: object, limit: int) -> int:
    """How many values the payload has; counting ends soon after `limit`."""
    count, waiting = 0, [payload]
    while waiting and count <= limit:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            children: Iterable[object] = value.values()
        elif isinstance(value, list):
            children = value
        else:
            continue
        if len(waiting) + len(value) > limit:
            return limit + 1
        waiting.extend(children)
    return count


def _precedence(error: ValidationError) -> tuple[int, list[tuple[bool, int | str]], str, str]:
    keyword = error.kind.name
    path = [(isinstance(part, str), part) for part in error.instance_path]
    return _PRECEDENCE.get(keyword, _LAST), path, keyword, getattr(error.kind, "property", "")


def _describe(error: ValidationError) -> tuple[str, str]:
    """The JSON path of what is wrong, and the sentence."""
    path = _path(error.instance_path)
    match error.kind:
        case ValidationErrorKind.Required(property=name):
            path = _path([*error.instance_path, name])
            return path, f"{path} is missing"
        case ValidationErrorKind.AdditionalProperties(unexpected=names):
            path = _path([*error.instance_path, min(names)])
            return path, f"{path} is not a field of this message"
        case ValidationErrorKind.FalseSchema():
            return path, f"{path} is not a field of this message"
    return path, f"{path or 'the payload'}: {_fault(error)}"


def _fault(error: ValidationError) -> str:
    value: Any = error.instance
    match error.kind:
        case ValidationErrorKind.Type(types=types):
            found = _TYPE_NAMES.get(type(value), "number")
            return f"{found} found, {' or '.join(types)} expected"
        case ValidationErrorKind.Enum(options=options):
            return f"the value must be one of {', '.join(map(str, options))}"
        case ValidationErrorKind.MaxLength(limit=limit):
            return f"{len(value)} characters, at most {limit} allowed"
        case ValidationErrorKind.MinLength(limit=limit):
            return f"{len(value)} characters, at least {limit} needed"
        case ValidationErrorKind.MaxItems(limit=limit):
            return f"{len(value)} items, at most {limit} allowed"
        case ValidationErrorKind.MinItems(limit=limit):
            return f"{len(value)} items, at least {limit} needed"
        case ValidationErrorKind.Maximum(limit=limit):
            return f"more than {limit}"
        case ValidationErrorKind.Minimum(limit=limit):
            return f"less than {limit}"
        case ValidationErrorKind.MultipleOf(multiple_of=step):
            return f"not a multiple of {step}"
        case ValidationErrorKind.Format(format="date-time"):
            return "no date-time as in 2026-01-31T23:59:59Z (RFC 3339)"
        case ValidationErrorKind.Format(format=name):
            return f"no valid {name}"
    return f"against the schema's {error.kind.name}"


def _path(parts: Iterable[str | int]) -> str:
    text = ""
    for part in parts:
        name = f"[{part}]" if isinstance(part, int) else part[:MAX_NAME_LENGTH]
        text += name if isinstance(part, int) or not text else f".{name}"
    return text


@dataclass(frozen=True, slots=True)
class SchemaSet:
    """The validators of one version by action; a SEND has a request and no response."""

    requests: Mapping[str, Validator]
    responses: Mapping[str, Validator]


@cache
def schema_set(version: OcppVersion) -> SchemaSet:
    """Compile all schemas of a version (about 50 ms, once). Raises ConfigError when the files are not there."""
    requests = {action: _validator(version, action, response=False) for action in version.actions}
    answered = (action for action, spec in version.actions.items() if not spec.is_send)
    return SchemaSet(requests, {action: _validator(version, action, response=True) for action in answered})


def _validator(version: OcppVersion, action: str, *, response: bool) -> Validator:
    return Validator(load_schema(version, action, response=response), version.codes)


def load_schema(version: OcppVersion, action: str, *, response: bool) -> dict[str, Any]:
    """The official schema of a request or response as parsed JSON. Raises ConfigError when the file is not there."""
    file = _folder() / version.schema_package / "schemas" / _file_name(version, action, response=response)
    try:
        schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"no schema for {version.name} {action}: {error}", hint=_REINSTALL) from error
    return schema


_REINSTALL = "install the Python package ocpp 2.1 or newer, which brings the official schemas"


@cache
def _folder() -> Path:
    spec = find_spec("ocpp")  # finds the folder without importing the package, which is slow and of no use here
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the official OCPP schemas are missing", hint=_REINSTALL)
    return Path(next(iter(spec.submodule_search_locations)))


def _file_name(version: OcppVersion, action: str, *, response: bool) -> str:
    if response:
        return f"{action}Response.json"
    suffix = "" if version.schema_package == "v16" or version.actions[action].is_send else "Request"
    return f"{action}{suffix}.json"


def reference_validator(version: OcppVersion, action: str, *, response: bool) -> Any:
    """The slow validator (`jsonschema`) of the same file: the reference the fast one is tested against.

    Its multipleOf is exact here, because the original computes with binary fractions and refuses 8.1 as a multiple of
    0.1. Known differences, by decision of the fast one: a leap second (23:59:60Z) and the year 0000 are date-times for
    it and not for the reference, and only it checks the format `uri`.
    """
    from jsonschema import FormatChecker, ValidationError, validators  # noqa: PLC0415  slow to import, for tests only

    def multiple_of(_validator: Any, step: float, instance: Any, _schema: Any) -> Iterable[ValidationError]:
        is_number = isinstance(instance, int | float) and not isinstance(instance, bool)
        if is_number and Decimal(str(instance)) % Decimal(str(step)):
            yield ValidationError(f"not a multiple of {step}")

    schema = load_schema(version, action, response=response)
    plain = validators.validator_for(schema)
    return validators.extend(plain, {"multipleOf": multiple_of})(schema, format_checker=FormatChecker(["date-time"]))

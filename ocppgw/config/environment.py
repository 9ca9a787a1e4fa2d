"""Environment variables: which setting each name overrides, and what becomes of the names without a setting.

The outside contract (section 4) promises that an existing `.env` can stay. So each name it lists is known here: it is a
setting (`Field(json_schema_extra=env(...))` in the tree), or it belongs to a feature this version does not have: those
merely tune, and are warned about. One that asks for protection or durability which would then be missing would have to
be an error: the gateway must not run looking safer than it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from ocppgw.config.problems import Problem, did_you_mean
from ocppgw.config.section import Section
from ocppgw.config.settings import Settings

_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_OWN_PREFIXES = ("OCPP_", "OCPPGW_")
_OF_THE_CLI = frozenset({"OCPPGW_URL", "OCPPGW_TOKEN", "OCPPGW_SIMULATOR_PASSWORD"})

# Names that are right as long as they have this value, and what to say otherwise.
_EXPECTED: dict[str, tuple[bool, str, str]] = {
    "OCPP_ALLOW_PLAINTEXT_SECRETS": (False, "is never honoured: secrets are stored hashed", "store hashes"),
    "OCPP_STATE_STRICT": (
        True,
        "has no effect: the boot gate can't be switched off",
        "ocpp.assume_accepted = true accepts stations that never booted here",
    ),
}

# The existing gateway's switch for what is a choice of headers here; it believed any peer.
_TRUST_PROXY = "OCPP_TRUST_PROXY"
_PROXY_HEADER = ("admission", "proxy_header")

_ADDITIONAL_ACTIONS = "OCPP_SCHEMA_ALLOW_ADDITIONAL_ACTIONS"

# The rest of the contract's names: they tune features of later versions, or of the reference gateway only.
_WITHOUT_EFFECT = (
    "KAFKA_RETRY_*",
    "KAFKA_CIRCUIT_*",
    "REDIS_RETRY_*",
    "REDIS_MAX_RETRIES_PER_REQUEST",
    "REDIS_CIRCUIT_*",
    "OCPP_RATE_LIMIT_WINDOW_SECONDS",
    "OCPP_RATE_LIMIT_PER_CP",
    "OCPP_RATE_LIMIT_GLOBAL",
    "COMMAND_IDEMPOTENCY_TTL_SECONDS",
    "METRICS_ALERT_*",
    "METRICS_RATE_WINDOW_SECONDS",
)


@dataclass(frozen=True)
class Given:
    """A variable's text, and where it is set: a file with its line, or the "environment"."""

    name: str
    value: str
    file: str
    line: int | None = None

    def problem(self, message: str, hint: str = "", key: str = "") -> Problem:
        """A problem at this place; `key` names the setting when the message alone does not."""
        return Problem(self.file, self.line, key or self.name, message, hint)


def fields(
    section: type[Section] = Settings, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every setting of the tree: path and field, in the order they are written."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from fields(kind, (*above, name))
        else:
            yield (*above, name), field


def env_name(field: FieldInfo) -> str | None:
    """The variable that overrides this setting."""
    extra = field.json_schema_extra
    return str(extra["x-env"]) if isinstance(extra, dict) and "x-env" in extra else None


OVERRIDES: Mapping[str, tuple[tuple[str, ...], FieldInfo]] = {
    name: (path, field) for path, field in fields() if (name := env_name(field))
}


def overrides(given: Mapping[str, Given]) -> tuple[dict[tuple[str, ...], tuple[Any, Given]], list[Problem]]:
    """Values of the settings that variables override, by path, and the texts that can't be converted.

    An empty variable counts as not set, so that `NAME=` in a `.env` never widens what the file narrows.
    """
    values: dict[tuple[str, ...], tuple[Any, Given]] = {}
    problems: list[Problem] = []
    for name, (path, field) in OVERRIDES.items():
        variable = given.get(name)
        if variable is None or not variable.value.strip():
            continue
        try:
            values[path] = (_convert(variable.value.strip(), field.annotation), variable)
        except ValueError as error:
            problems.append(variable.problem(f"{name} {error}", _form(field.annotation), ".".join(path)))
    trust = given.get(_TRUST_PROXY)
    if trust is not None and _WORDS.get(trust.value.strip().lower()) is True:
        values[_PROXY_HEADER] = ("x-forwarded-for", trust)
    return values, problems


def judge(given: Mapping[str, Given]) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings about variables that are no settings; those of other programs are none of our business."""
    errors: list[Problem] = []
    warnings: list[Problem] = []
    for variable in given.values():
        if variable.name in OVERRIDES or not variable.value.strip():
            continue
        if variable.name == _TRUST_PROXY:
            if variable.value.strip().lower() not in _WORDS:
                errors.append(variable.problem("is neither true nor false", "write true or false"))
            continue
        warnings.extend(_noticed(variable))
    return errors, warnings


def _noticed(variable: Given) -> Iterator[Problem]:
    name, value = variable.name, variable.value.strip()
    if name in _EXPECTED:
        expected, message, hint = _EXPECTED[name]
        if _WORDS.get(value.lower()) is not expected:
            yield variable.problem(message, hint)
    elif name == _ADDITIONAL_ACTIONS:
        if {part.strip() for part in value.split(",")} - {"DataTransfer", ""}:
            yield variable.problem("has no effect: only DataTransfer is open in its content", "set it to DataTransfer")
    elif any(fnmatchcase(name, pattern) for pattern in _WITHOUT_EFFECT):
        yield variable.problem("has no effect in this version", "remove it, or leave it for a later version")
    elif name.startswith(_OWN_PREFIXES) and name not in _OF_THE_CLI:
        yield variable.problem("is not a variable of the gateway", did_you_mean(name, _KNOWN, "remove it"))


_KNOWN = [
    *OVERRIDES,
    *_EXPECTED,
    _TRUST_PROXY,
    _ADDITIONAL_ACTIONS,
    *(name for name in _WITHOUT_EFFECT if not name.endswith("*")),
]


def _convert(text: str, kind: Any) -> Any:
    """The value a setting of this type wants; ValueError tells what the text is not, without quoting it."""
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("is not a whole number") from None
    if kind is float:
        try:
            return float(text)
        except ValueError:
            raise ValueError("is not a number") from None
    if kind is bool:
        if text.lower() not in _WORDS:
            raise ValueError("is neither true nor false")
        return _WORDS[text.lower()]
    if get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _form(kind: Any) -> str:
    return {int: "write digits only", float: "write a number such as 300", bool: "write true or false"}.get(kind, "")

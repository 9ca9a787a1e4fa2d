"""From a TOML file, a `.env` file and the environment to a checked `Settings`, with every problem found on the way.

Precedence, lowest first: default, file, env-file, process environment. Nothing stops at the first error: whatever can't
be used is set aside, and the rest is still checked.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ocppgw.config.envfile import parse_env
from ocppgw.config.environment import Given, fields, judge, overrides
from ocppgw.config.keylines import KeyPath, key_lines
from ocppgw.config.messages import toml_hint, wording
from ocppgw.config.problems import InvalidConfigurationError, Problem, did_you_mean
from ocppgw.config.rules import findings
from ocppgw.config.section import Section
from ocppgw.config.settings import Settings

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True)
class Loaded:
    """`sources`: dotted key of each setting → "file:line", "environment NAME" or "default"."""

    settings: Settings
    warnings: list[Problem]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class CheckReport:
    """All that is wrong (`errors`) and all that is doubtful (`warnings`) with a configuration; `ok`: it can be used."""

    ok: bool
    errors: list[Problem]
    warnings: list[Problem]


def load(path: Path | None, environ: Mapping[str, str], env_file: Path | None = None) -> Loaded:
    """The settings of this file (None: defaults) under this environment.

    Raises `InvalidConfigurationError`, a `ConfigError`, that carries all errors at once. `stations.identities_dir`
    is absolute in the result.
    """
    loading = _Loading(path)
    loading.read_file()
    loading.read_environment(environ, env_file)
    settings = loading.settle()
    if loading.errors:
        raise InvalidConfigurationError(loading.errors, loading.warnings)
    return Loaded(settings, loading.warnings, loading.sources())


def check(path: Path | None, environ: Mapping[str, str], env_file: Path | None = None) -> CheckReport:
    """What `load` would say, as a report instead of an exception."""
    try:
        loaded = load(path, environ, env_file)
    except InvalidConfigurationError as error:
        return CheckReport(False, error.problems, error.warnings)
    return CheckReport(True, [], loaded.warnings)


@dataclass
class _Loading:
    path: Path | None
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    given: dict[KeyPath, Given] = field(default_factory=dict)
    set_aside: set[str] = field(default_factory=set)  # dotted keys whose value can't be used

    def read_file(self) -> None:
        if self.path is None:
            return
        text = self._text(self.path)
        if text is None:
            return
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.errors.append(_syntax_problem(str(self.path), text, error))
            return
        except RecursionError:
            self.errors.append(Problem(str(self.path), None, "", "is nested too deeply", "no setting is that deep"))
            return
        self.lines = key_lines(text)
        self._pick_known(Settings, self.data, ())

    def read_environment(self, environ: Mapping[str, str], env_file: Path | None) -> None:
        given: dict[str, Given] = {}
        text = None if env_file is None else self._text(env_file)
        if text is not None:
            variables, unreadable = parse_env(text, str(env_file))
            self.errors.extend(unreadable)
            given = {name: Given(name, found.value, str(env_file), found.line) for name, found in variables.items()}
        given |= {name: Given(name, value, "environment") for name, value in environ.items() if value.strip()}
        errors, warnings = judge(given)
        values, unconvertible = overrides(given)
        self.errors.extend(errors + unconvertible)
        self.warnings.extend(warnings)
        self.set_aside.update(problem.key for problem in unconvertible)
        for path, (value, variable) in values.items():
            self.given[path] = variable
            _put(self.data, path, value)

    def settle(self) -> Settings:
        """Validate, set aside what is wrong, and judge the rest by the rules."""
        try:
            settings = Settings.model_validate(self.data)
        except ValidationError as error:
            for detail in _innermost(error.errors()):
                path = tuple(str(part) for part in detail["loc"])
                message, hint = wording(detail)
                self.errors.append(self._problem(path, message, hint))
                self.set_aside.add(_drop(self.data, path))
            settings = Settings.model_validate(self.data)
        settings = self._with_identities(settings)
        for found in findings(settings):
            if self.set_aside.isdisjoint((found.key, *found.needs)):
                problem = self._problem(tuple(found.key.split(".")), found.message, found.hint)
                (self.errors if found.error else self.warnings).append(problem)
        return settings

    def sources(self) -> dict[str, str]:
        return {".".join(path): self._source(path) for path, _ in fields()}

    def _source(self, path: KeyPath) -> str:
        if variable := self.given.get(path):
            place = f"{variable.file}:{variable.line}" if variable.line else variable.file
            return f"{place} {variable.name}"
        line = self.lines.get(path)
        return f"{self.path}:{line}" if line else "default"

    def _problem(self, path: KeyPath, message: str, hint: str) -> Problem:
        """A problem at the place that gave the setting, or the closest thing to it."""
        key = ".".join(path)
        for length in range(len(path), 0, -1):
            if variable := self.given.get(path[:length]):
                return variable.problem(f"{variable.name} {message}", hint, key)
            if line := self.lines.get(path[:length]):
                return Problem(str(self.path), line, key, message, hint)
        return Problem(None if self.path is None else str(self.path), None, key, message, hint)

    def _pick_known(self, section: type[Section], table: dict[str, Any], above: KeyPath) -> None:
        """Take keys nobody knows out of the table, with a warning, and things that should be tables, with an error."""
        for key in list(table):
            path = (*above, key)
            known = section.model_fields.get(key)
            if known is None:
                self.warnings.append(self._problem(path, "is not a setting; it is ignored", _suggestion(section, key)))
                del table[key]
            elif isinstance(known.annotation, type) and issubclass(known.annotation, Section):
                self._pick_table(known.annotation, table, path)

    def _pick_table(self, section: type[Section], table: dict[str, Any], path: KeyPath) -> None:
        inner = table[path[-1]]
        if isinstance(inner, dict):
            self._pick_known(section, inner, path)
            return
        self.errors.append(self._problem(path, "must be a table", f"write [{path[-1]}] and its settings below"))
        self.set_aside.update(".".join((*path, name)) for name in section.model_fields)
        del table[path[-1]]

    def _with_identities(self, settings: Settings) -> Settings:
        """The same settings with an absolute identities_dir; the folder must be there to be read."""
        written = settings.stations.identities_dir
        if not written:
            return settings
        folder = ((self.path.parent if self.path else Path()) / written).absolute()
        if not folder.is_dir():
            path = ("stations", "identities_dir")
            self.errors.append(self._problem(path, f"{folder} is not a folder", 'create it, or set "" for none'))
        stations = settings.stations.model_copy(update={"identities_dir": str(folder)})
        return settings.model_copy(update={"stations": stations})

    def _text(self, path: Path) -> str | None:
        try:
            return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except OSError as error:
            reason = (error.strerror or "it can't be opened").lower()
            self.errors.append(
                Problem(str(path), None, "", f"can't be read: {reason}", "check the path and its rights")
            )
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self.errors.append(Problem(str(path), line, "", "is not UTF-8 text", "save the file as UTF-8"))
        return None


def _innermost(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without those about a list that is too short only because its elements are wrong."""
    around = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    return [detail for detail in details if detail["loc"] not in around]


def _syntax_problem(file: str, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    """tomllib's message with the place taken out of it; it may quote a key but never a value."""
    sentence = str(error)
    place = _TOML_PLACE.search(sentence)
    line = None
    if place:
        line = int(place.group(1)) if place.group(1) else text.count("\n", 0, len(text.rstrip())) + 1
        sentence = sentence[: place.start()]
    return Problem(file, line, "", f"is not TOML: {sentence[:1].lower()}{sentence[1:]}", toml_hint(sentence))


def _suggestion(section: type[Section], key: str) -> str:
    """The setting that may have been meant: of this table, else one of that name in another table."""
    elsewhere = [".".join(path) for path, _ in fields() if path[-1] == key]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return did_you_mean(key, list(section.model_fields), "remove it")


def _put(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        data = data.setdefault(part, {})
    data[path[-1]] = value


def _drop(data: dict[str, Any], path: KeyPath) -> str:
    """Take the setting that `path` leads into out of the data; its dotted key."""
    known = {key for key, _ in fields()}
    setting = next((path[:length] for length in (1, 2) if path[:length] in known), path)
    for part in setting[:-1]:
        data = data.get(part, {})
    data.pop(setting[-1], None)
    return ".".join(setting)

"""Reads the members of a JSON object and collects all that is wrong with them; a bad member reads as an absent one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

MAX_TIME_LENGTH = 255


class Members:
    """The members of one object. `path` is its place, as "auth.", and `problems` is shared by all parts of a document.
    `lenient` is for whoever reads them to decide by."""

    def __init__(
        self, members: Mapping[str, Any], path: str = "", problems: list[str] | None = None, *, lenient: bool = False
    ) -> None:
        self._members = members
        self._path = path
        self.problems: list[str] = [] if problems is None else problems
        self.lenient = lenient

    def problem(self, name: str, text: str) -> None:
        self.problems.append(f"{self._path}{name} {text}")

    def part(self, name: str, *, required: bool = False) -> "Members":
        value = self._members.get(name)
        if not isinstance(value, Mapping):
            if required or name in self._members:
                self.problem(name, "must be a JSON object")
            value = {}
        return Members(value, f"{self._path}{name}.", self.problems, lenient=self.lenient)

    def text(self, name: str, longest: int, *, required: bool = False) -> str:
        value = self._members.get(name)
        if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable():
            return value
        if required or name in self._members:
            self.problem(name, f"must be a text of 1 to {longest} printable characters")
        return ""

    def flag(self, name: str) -> bool:
        value = self._members.get(name, False)
        if not isinstance(value, bool):
            self.problem(name, "must be true or false")
        return value is True

    def has(self, name: str) -> bool:
        return name in self._members

    def peek(self, name: str) -> str:
        """A text that was checked before, "" when it is none."""
        value = self._members.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str, allowed: range) -> int | None:
        value = self._members.get(name)
        if type(value) is int and value in allowed:
            return value
        if name in self._members:
            self.problem(name, f"must be a whole number from {allowed.start} to {allowed.stop - 1}")
        return None

    def time(self, name: str) -> float | None:
        """Seconds since the epoch of an RFC 3339 time; one without a zone is refused: nobody could say when it is."""
        text = self.text(name, MAX_TIME_LENGTH)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.timestamp()
        except (ValueError, OverflowError):
            pass
        self.problem(name, "must be an RFC 3339 time with its zone, such as 2027-01-01T00:00:00Z")
        return None

    def parts(self, name: str) -> "list[Members]":
        """The objects of a list, each with a reader and problems of its own."""
        value = self._members.get(name, [])
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            return [Members(item, f"{self._path}{name}[{number}].", []) for number, item in enumerate(value)]
        self.problem(name, "must be a list of JSON objects")
        return []

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self._members.get(name)
        if isinstance(value, str) and value in choices:
            return value
        if name in self._members:
            self.problem(name, f"must be {' or '.join(choices)}")
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._members.get(name, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.problem(name, "must be a list of texts")
        return ()

"""What is wrong with a configuration, as data: one `Problem` for each thing an operator has to mend or should know."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ocppgw.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """`file`: path of the file, "environment", or None; `line`: from 1; `key`: dotted key or variable name, may be "".

    `message` says what is wrong, `hint` how to mend it ("" when there is nothing to add). Neither holds a secret.
    """

    file: str | None
    line: int | None
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part)
        sentence = ": ".join(part for part in (where, self.key, self.message) if part)
        return f"{sentence} ({self.hint})" if self.hint else sentence


class InvalidConfigurationError(ConfigError):
    """The configuration can't be used: `problems` holds every error found, `warnings` what else was noticed."""

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        self.problems = list(problems)
        self.warnings = list(warnings)
        count = "1 error" if len(self.problems) == 1 else f"{len(self.problems)} errors"
        super().__init__("\n".join([f"the configuration has {count}:", *(f"  {problem}" for problem in self.problems)]))


def render_report(problems: Sequence[Problem]) -> list[str]:
    """One line of text for each problem."""
    return [str(problem) for problem in problems]


def did_you_mean(word: str, known: Sequence[str], otherwise: str = "") -> str:
    """A hint that names the known word closest to `word`, or `otherwise` when none is close."""
    close = get_close_matches(word, known, n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else otherwise

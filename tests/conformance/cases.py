"""The numbered cases of the OCPP-J conformance list: a marker that also says for which versions a case holds."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

VERSIONS = ("1.6", "2.0.1", "2.1")
LETTERS = {"6": "1.6", "0": "2.0.1", "1": "2.1"}

Test = TypeVar("Test", bound=Callable[..., Any])


def case(number: int, versions: str) -> Callable[[Test], Test]:
    """The test is case `number`; it runs once for each version of `versions`: "6" 1.6, "0" 2.0.1, "1" 2.1, "*" all."""
    names = VERSIONS if versions == "*" else tuple(LETTERS[letter] for letter in versions.split())

    def mark(test: Test) -> Test:
        marked: Test = pytest.mark.case(number)(pytest.mark.parametrize("version", names)(test))
        return marked

    return mark

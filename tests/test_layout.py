"""The unit tests are run by trial alone, which sees only what is written for it."""

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).parent


class UnitTests(SynchronousTestCase):
    def test_none_is_a_plain_function_that_trial_would_leave_out(self) -> None:
        left_out = [
            f"{path.name}: {part.name}"
            for path in sorted(TESTS.glob("test_*.py"))
            for part in ast.parse(path.read_text()).body
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name.startswith("test_")
        ]
        self.assertEqual(left_out, [])

"""Tests that trial runs, run by pytest."""

import unittest
from pathlib import Path

import pytest

# Modules with fixtures from which tests import other things, too: their assertions are to tell values as well.
pytest.register_assert_rewrite("tests.integration.redis_nodes", "tests.integration.store_nodes")


@pytest.fixture(scope="session")
def trial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(autouse=True)
def _in_trial_folder(request: pytest.FixtureRequest, trial_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial runs them in a folder of its own: `mktemp` would leave what it makes in the project's."""
    if isinstance(request.instance, unittest.TestCase):
        monkeypatch.chdir(trial_folder)

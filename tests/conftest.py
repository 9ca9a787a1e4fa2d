"""Tests that trial runs, run by pytest."""

import unittest
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(autouse=True)
def _in_trial_folder(request: pytest.FixtureRequest, trial_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial runs them in a folder of its own: `mktemp` would leave what it makes in the project's."""
    if isinstance(request.instance, unittest.TestCase):
        monkeypatch.chdir(trial_folder)

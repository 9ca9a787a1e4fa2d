"""The configuration: one frozen, documented, fully checked settings tree (file < env-file < environment)."""

from ocppgw.config.loading import CheckReport, Loaded, check, load
from ocppgw.config.problems import InvalidConfigurationError, Problem, render_report
from ocppgw.config.settings import Settings

__all__ = [
    "CheckReport",
    "InvalidConfigurationError",
    "Loaded",
    "Problem",
    "Settings",
    "check",
    "load",
    "render_report",
]

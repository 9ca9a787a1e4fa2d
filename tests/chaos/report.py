"""What the runs showed: a line for each while they go on, and a table of all at the end."""

import time
from collections.abc import Callable, Iterable, Sequence

from tests.chaos.run import Outcome

SHOWN = 10  # violations of a run
SHOWN_CHARACTERS = 400

Column = tuple[str, Callable[[Sequence[Outcome]], str]]

COLUMNS: list[Column] = [
    ("runs", lambda rows: str(len(rows))),
    ("CALLs answered", lambda rows: f"{sum(row.audit.answered for row in rows):,}"),
    ("attempts repeated", lambda rows: f"{sum(row.repeated for row in rows):,}"),
    ("connections refused", lambda rows: f"{sum(row.refused for row in rows):,}"),
    ("commands", lambda rows: f"{sum(row.audit.commands for row in rows):,}"),
    ("duplicates dropped", lambda rows: f"{sum(row.audit.duplicates for row in rows):,}"),
    ("probes answered", lambda rows: f"{sum(row.probes for row in rows):,}"),
    ("slowest answer, s", lambda rows: f"{max(row.audit.slowest for row in rows):.1f}"),
    ("violations", lambda rows: f"{sum(len(row.audit.violations) for row in rows):,}"),
]


def line(outcome: Outcome) -> str:
    """With what is wrong, and where to look."""
    found = outcome.audit
    text = (
        f"{time.strftime('%H:%M:%S')} {outcome.fault}, seed {outcome.seed}: {found.answered} answered, "
        f"{outcome.repeated} repeated, {found.commands} commands, {len(found.violations)} violations, "
        f"{outcome.seconds:.0f} s"
    )
    if not found.violations:
        return text
    shown = [f"    {violation[:SHOWN_CHARACTERS]}" for violation in found.violations[:SHOWN]]
    return "\n".join([text, *shown, f"    logs, answers and records: {outcome.folder}"])


def table(outcomes: Sequence[Outcome], faults: Iterable[str]) -> str:
    names = [name for name, _ in COLUMNS]
    lines = ["| fault | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    for fault in faults:
        rows = [outcome for outcome in outcomes if outcome.fault == fault]
        if rows:
            lines.append(f"| {fault} | " + " | ".join(column(rows) for _, column in COLUMNS) + " |")
    return "\n".join(lines)

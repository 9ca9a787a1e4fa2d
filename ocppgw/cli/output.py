"""How results are shown: tables and coloured words on a terminal, plain text elsewhere, JSON for programs.

Much of what is shown was sent by stations: it is escaped, and never read as markup. rich honours NO_COLOR.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ocppgw.logs import printable

PLAIN_WIDTH = 1000  # off a terminal nothing is wrapped or cut

STYLES = {
    **dict.fromkeys(("Accepted", "yes", "Available", "CommandAccepted", "active"), "green"),
    **dict.fromkeys(("Rejected", "Pending", "Timeout", "CommandRejected", "CommandTimeout", "Unavailable"), "yellow"),
    **dict.fromkeys(("Failed", "CommandFailed", "Faulted", "disabled", "revoked"), "red"),
    "no": "dim",
}


def console() -> Console:
    """The console on today's stdout."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, emoji=False)


def cell(value: Any) -> Text:
    """One value: None as a dash, booleans as yes and no, structures as JSON."""
    if value is None or value == "":
        return Text("-", style="dim")
    if isinstance(value, bool):
        value = "yes" if value else "no"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return Text(printable(text), style=STYLES.get(text, ""))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows under headings."""
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(cell, row))
    print_block(table)


def grid() -> Table:
    """Two columns without lines; what is long is wrapped in the second."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one pair a line; a long value is wrapped, never cut."""
    table = grid()
    for name, value in fields:
        table.add_row(Text(name, style="bold"), cell(value))
    print_block(table)


def print_line(*parts: Any) -> None:
    """Values on one line, shown at once."""
    line = Text(" ").join(cell(part) for part in parts)
    console().print(line, soft_wrap=True)
    sys.stdout.flush()


def print_block(*blocks: RenderableType) -> None:
    """What rich can lay out, one block below the other."""
    screen = console()
    with screen.capture() as capture:
        for block in blocks:
            screen.print(block)
    # rich fills cells up to the column's width; nobody wants those blanks in a file.
    lines = capture.get().splitlines()
    sys.stdout.write("".join((line if screen.is_terminal else line.rstrip()) + "\n" for line in lines))


def print_json(document: Any) -> None:
    """One JSON document on one line, shown at once."""
    sys.stdout.write(orjson.dumps(document).decode() + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A word to the operator beside the result: on stderr, harmless whatever is in it."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in text.splitlines()))
    sys.stderr.flush()


def progress() -> Progress:
    """Bars on a terminal's stderr, nothing elsewhere."""
    screen = Console(file=sys.stderr, highlight=False, emoji=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=screen, transient=True, disable=not sys.stderr.isatty())

"""`ocppgw import` and `ocppgw export`: many identities as JSON lines, one identity a line."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson

from ocppgw.cli.audit import with_audit
from ocppgw.cli.client import OperationsClient
from ocppgw.cli.connection import with_client
from ocppgw.cli.documents import FILE_OR_STDIN, STDIN, BadInput, file_name, read_file
from ocppgw.cli.drafts import Draft, faults, oddities, read_draft, sealed
from ocppgw.cli.hashing import Hasher, with_hasher
from ocppgw.cli.identities import PAGE
from ocppgw.cli.output import note, print_fields, print_json, progress
from ocppgw.errors import OcppgwError

MAX_BODY_BYTES = 256 * 1024  # what the gateway reads of a request
MAX_BATCH = 500
MAX_REPORTED = 50
BATCH_SECONDS = 60.0
PRIVATE = 0o600


@dataclass(slots=True)
class _Line:
    """One line of the file: its number and its identity, with all that is wrong with it, and what only looks odd."""

    number: int
    draft: Draft
    problems: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)

    def about(self, sentences: Iterable[str]) -> list[str]:
        name = f" ({self.draft.name})" if self.draft.name else ""
        return [f"  line {self.number}{name}: {sentence}" for sentence in sentences]


@dataclass(slots=True)
class _Tally:
    """What has been stored so far."""

    created: int = 0
    updated: int = 0

    @property
    def stored(self) -> int:
        return self.created + self.updated

    def add(self, answer: Mapping[str, Any]) -> None:
        self.created += answer["created"]
        self.updated += answer["updated"]


@click.command("import")
@click.argument("file", metavar="FILE.jsonl|-", type=FILE_OR_STDIN)
@click.option("--skip-bad", is_flag=True, help="Leave out lines that can't be stored, and import the others.")
@click.option("--json", "as_json", is_flag=True, help="Print {stored, created, updated, bad} as one JSON object.")
@with_hasher
@with_audit
@with_client
def import_identities(
    client: OperationsClient,
    *,
    file: str,
    skip_bad: bool,
    as_json: bool,
    hasher: Hasher,
    audit: Mapping[str, str],
) -> None:
    """Store many identities from JSON lines. Each line is one identity, as ocppgw export writes it. One that is there
    already is replaced as a whole; importing a file twice does no harm.

    \b
    ocppgw import stations.jsonl
    ocppgw export | ocppgw import - --url http://other:3001

    Every line is looked at first; when one is bad, it is reported with its number, member and mend, and nothing is
    imported. Plain secrets (auth.secret, auth.secretHex, auth.token) are hashed here, and only hashes are sent.

    \b
    Exit code: 0 imported, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage or bad lines (without --skip-bad).
    """
    lines = list(_read(read_file(file), hasher))
    bad = [line for line in lines if line.problems]
    good = [line.draft for line in lines if not line.problems]
    _warn(lines, file)
    if bad and not skip_bad:
        end = "Nothing was imported. Mend them, or leave them out with --skip-bad."
        raise BadInput(_report(bad, lines, file, end))
    tally = _Tally()
    try:
        _store(client, good, hasher, audit, tally)
    except (OcppgwError, KeyboardInterrupt):
        note(f"{tally.stored} of {len(good)} identities are stored; importing the file again does no harm.")
        raise
    _show(tally, bad, lines, file, as_json)


def _read(data: bytes, hasher: Hasher) -> Iterator[_Line]:
    seen: dict[str, int] = {}
    for number, text in enumerate(data.splitlines(), 1):
        if text.strip():
            line = _parse(number, text, hasher)
            first = seen.setdefault(line.draft.name, number)
            if first != number and line.draft.name:
                line.problems.append(f"chargePointId is on line {first} already: keep one of them")
            yield line


def _parse(number: int, text: bytes, hasher: Hasher) -> _Line:
    try:
        draft = read_draft(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        return _Line(number, Draft(), [f"is not JSON: {error}; each line holds one whole object"])
    problems = faults(draft, hasher)
    if len(orjson.dumps(draft.members)) > MAX_BODY_BYTES // 2:
        problems = [*problems, f"is too large: {MAX_BODY_BYTES // 2} bytes are the most for one identity"]
    return _Line(number, draft, problems, list(oddities(draft)))


def _report(bad: Sequence[_Line], lines: Sequence[_Line], file: str, end: str) -> str:
    count = "1 line" if len(bad) == 1 else f"{len(bad)} lines"
    found = [text for line in bad for text in line.about(line.problems)]
    if any("Hash is needed" in text for text in found):
        end = f"A plain secret may stand there, as auth.secret or auth.token: it is hashed here.\n{end}"
    return "\n".join([f"{file_name(file)}: {count} of {len(lines)} can't be stored:", *_first(found), end])


def _warn(lines: Sequence[_Line], file: str) -> None:
    found = [text for line in lines for text in line.about(line.oddities)]
    if found:
        note("\n".join([f"Warning: in {file_name(file)}", *_first(found)]))


def _first(sentences: Sequence[str]) -> list[str]:
    more = len(sentences) - MAX_REPORTED
    return [*sentences[:MAX_REPORTED], *([f"  … and {more} more"] if more > 0 else [])]


def _store(
    client: OperationsClient, drafts: Sequence[Draft], hasher: Hasher, audit: Mapping[str, str], tally: _Tally
) -> None:
    with progress() as bars:
        hashed = bars.add_task("hashed", total=len(drafts))
        stored = bars.add_task("stored", total=len(drafts))
        for batch in _batches(_sealed(drafts, hasher, partial(bars.advance, hashed)), len(orjson.dumps(audit))):
            body = {"identities": batch, "audit": audit}
            tally.add(client.change("identities", body=body, seconds=BATCH_SECONDS))
            bars.update(stored, completed=tally.stored)


def _sealed(drafts: Sequence[Draft], hasher: Hasher, tick: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Identities ready to be sent, in their order; hashed ahead by as many threads as there are processors."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for identity in pool.map(partial(sealed, hasher=hasher), drafts):
            tick()
            yield identity
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(identities: Iterable[dict[str, Any]], audit_bytes: int) -> Iterator[list[dict[str, Any]]]:
    """As many identities as one request may hold."""
    batch: list[dict[str, Any]] = []
    room = MAX_BODY_BYTES - audit_bytes - len('{"identities":[],"audit":}')
    size = 0
    for identity in identities:
        length = len(orjson.dumps(identity)) + 1
        if batch and (size + length > room or len(batch) == MAX_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(identity)
        size += length
    if batch:
        yield batch


def _show(tally: _Tally, bad: Sequence[_Line], lines: Sequence[_Line], file: str, as_json: bool) -> None:
    counts = {"stored": tally.stored, "created": tally.created, "updated": tally.updated}
    if as_json:
        left_out = [{"line": one.number, "chargePointId": one.draft.name, "problems": one.problems} for one in bad]
        print_json({**counts, "bad": left_out})
    else:
        print_fields([*counts.items(), ("left out", len(bad))] if bad else counts.items())
    if bad and not as_json:
        note(_report(bad, lines, file, "They were left out."))


@click.command()
@click.argument("file", metavar="[FILE]", type=FILE_OR_STDIN, default=STDIN)
@click.option("--search", metavar="TEXT", help="Only identities with this text in id, station id or tenant id.")
@click.option("--force", is_flag=True, help="Replace FILE when there is one.")
@with_client
def export(client: OperationsClient, file: str, search: str | None, force: bool) -> None:
    """Write all identities as JSON lines. They come with hashes and salts, for ocppgw import; without FILE they go to
    standard output.

    \b
    ocppgw export stations.jsonl
    ocppgw export --search acme | wc -l

    FILE is readable by its owner only (mode 0600): a weak secret can be guessed from its hash. It is written whole or
    not at all.

    \b
    Exit code: 0 written, 1 refused by the gateway, not reachable or changed meanwhile,
    2 wrong usage.
    """
    with _output(file, force) as stream:
        count = _write(client, stream, search)
    note(f"identities exported: {count}")


class Changed(OcppgwError):
    """Identities were added or removed while they were read page by page."""

    code = "Changed"


def _write(client: OperationsClient, stream: BinaryIO, search: str | None) -> int:
    count = 0
    with progress() as bars:
        task = bars.add_task("exported", total=None)
        for identities, total in _pages(client, search):
            stream.writelines(orjson.dumps(identity) + b"\n" for identity in identities)
            count += len(identities)
            bars.update(task, total=total, completed=count)
    return count


def _pages(client: OperationsClient, search: str | None) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """(identities, how many there are in all). Pages overlap by one, to see whether they have shifted: then one could
    be missing without anybody noticing."""
    offset, last = 0, None
    while True:
        page = client.get("identities", search=search, full="true", offset=offset, limit=PAGE)
        found = page["identities"]
        if last is not None and (not found or found[0]["chargePointId"] != last):
            raise Changed("Identities were added or removed meanwhile.", hint="Export them again.")
        yield found if last is None else found[1:], page["total"]
        offset += len(found)
        if offset >= page["total"] or not found:
            return
        offset, last = offset - 1, found[-1]["chargePointId"]


@contextmanager
def _output(file: str, force: bool) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    path = Path(file)
    if path.exists() and not force:
        raise BadInput(f"{file} is there already: --force replaces it")
    try:
        with _whole(path) as stream:
            yield stream
    except OSError as error:
        raise BadInput(f"{file} can't be written: {error.strerror}") from error


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path` that takes its place when all went well."""
    target = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    stream = os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb")
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        target.replace(path)
    except BaseException:
        target.unlink(missing_ok=True)
        raise

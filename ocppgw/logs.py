"""What an operator reads: one line per event, as text or JSON, with nothing in it that could harm the reader.

Events come from `twisted.logger`; the fields `station`, `node`, `connection` and `message_id` of an event are shown
beside its sentence. Much of what is logged was written by a peer, so control characters are escaped (one event can't
forge another line or move a terminal's cursor), long texts are cut, and whatever looks like a credential is masked.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import orjson
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warn", "error", "critical")
FIELDS = {"station": "station", "node": "node", "connection": "connection", "message_id": "messageId"}  # event → shown
QUIET = ("autobahn", "txaio", "twisted.web")  # chatty below warning, about things counted elsewhere

MAX_TEXT = 4000  # characters of a sentence
MAX_FIELD = 200
MAX_TRACEBACK = 20_000
MAX_CAUSES = 1024

# C0, DEL, C1, the line and paragraph separators, and what turns the reading direction of the rest of a line.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_USERINFO = re.compile(r"(?<=://)[^\s/@?#]+(?=@)")
_SCHEME_CREDENTIALS = re.compile(r"\b(Basic|Bearer)(\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_NAMED_SECRET = re.compile(
    r"""\b((?:x-)?api-?key|authorization|password|passwd|secret|token|access_token)(["']?\s*[:=]\s*b?["']?)"""
    r"""(?!(?:Basic|Bearer)\b)[^\s"'&;,]+""",
    re.IGNORECASE,
)


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """`text` on one line: unprintable characters as escapes, and at most `limit` characters of it."""
    cut = len(text) - limit
    shown = _UNPRINTABLE.sub(_escape, text[:limit])
    return f"{shown}… ({cut} more)" if cut > 0 else shown


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if short:
        return short
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def redact(text: str) -> str:
    """`text` with credentials masked: in URLs, in Authorization values, and after names such as `password=`."""
    text = _USERINFO.sub("***", text)
    text = _SCHEME_CREDENTIALS.sub(r"\1\2***", text)
    return _NAMED_SECRET.sub(r"\1\2***", text)


def observer(format: str, level: str, stream: TextIO) -> ILogObserver:  # noqa: A002
    """The observer that writes events of at least `level` (one of LEVELS) to `stream` in `format` (one of FORMATS).

    Raises ValueError for another format or level.
    """
    if format not in FORMATS:
        raise ValueError(f"log format {format!r} is none of {', '.join(FORMATS)}")
    write = FileLogObserver(stream, format_json if format == "json" else format_text)
    return cast(ILogObserver, FilteringLogObserver(write, [level_filter(level)]))


def level_filter(level: str) -> LogLevelFilterPredicate:
    """The filter: `level` for everybody, at least `warn` for the namespaces of QUIET."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    threshold = LogLevel.levelWithName(level)
    predicate = LogLevelFilterPredicate(defaultLogLevel=threshold)
    for namespace in QUIET:
        predicate.setLogLevelForNamespace(namespace, max(threshold, LogLevel.warn, key=_rank))
    return predicate


def _rank(level: Any) -> int:
    return LEVELS.index(level.name)


def format_text(event: LogEvent) -> str | None:
    """For people: `2026-11-23T23:05:01.123Z info     [net.websocket] sentence station=CP-001`; None: nothing to say.

    A failure adds its traceback, each line of it behind a bar, so that none can pass for an event of its own.
    """
    sentence = _sentence(event)
    if not sentence:
        return None
    lines = [f"{_time(event)} {_level(event):<8} [{_logger(event)}] {sentence}{_trailing_fields(event)}"]
    lines += [f"    | {line}" for line in _traceback(event).splitlines()]
    return "\n".join(lines) + "\n"


def format_json(event: LogEvent) -> str | None:
    """For programs: one JSON object a line: time, level, logger, text, FIELDS where present, and traceback."""
    sentence = _sentence(event)
    if not sentence:
        return None
    line = {
        "time": _time(event),
        "level": _level(event),
        "logger": printable(str(event.get("log_namespace") or "-")),
        "text": sentence,
        **{FIELDS[name]: value for name, value in _fields(event).items()},
    }
    traceback = _traceback(event)
    if traceback:
        line["traceback"] = traceback
    return orjson.dumps(line).decode() + "\n"


def _time(event: LogEvent) -> str:
    when = datetime.fromtimestamp(event.get("log_time") or 0.0, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return level.name if level else "info"


def _logger(event: LogEvent) -> str:
    name = str(event.get("log_namespace") or "-").removeprefix("ocppgw.")
    return printable(name)


def _sentence(event: LogEvent) -> str:
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.type.__name__}: {failure.getErrorMessage()}".lstrip(": ")
    return printable(redact(text))


def _fields(event: LogEvent) -> dict[str, str]:
    present = {name: event[name] for name in FIELDS if event.get(name) is not None}
    return {name: printable(redact(str(value)), MAX_FIELD) for name, value in present.items()}


def _trailing_fields(event: LogEvent) -> str:
    """The fields the sentence doesn't mention already, as ` name=value`."""
    template = str(event.get("log_format") or "")
    return "".join(
        f" {FIELDS[name]}={_quoted(value)}" for name, value in _fields(event).items() if "{" + name not in template
    )


def _quoted(value: str) -> str:
    """The value as it is, or in quotes where it could be taken for more than one field."""
    if value and not set(' "=') & set(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is None:
        return ""
    text = redact(failure.getTraceback())[:MAX_TRACEBACK]
    # Keep the traceback's own line breaks; everything else unprintable goes.
    return "\n".join(printable(line) for line in text.splitlines())


class Cooldown:
    """Lets one occurrence per cause through in `seconds`, and counts the others.

    At most `capacity` causes are remembered; while that many are cooling down, a new cause is left out too: a peer that
    invents causes can't make the log longer than that.
    """

    def __init__(self, seconds: float, capacity: int = MAX_CAUSES) -> None:
        self._seconds, self._capacity = seconds, capacity
        self._causes: OrderedDict[Hashable, list[float]] = OrderedDict()  # cause → [since, left out], oldest first
        self.left_out = 0

    def admit(self, cause: Hashable, now: float) -> int | None:
        """How many of this cause were left out since its last one, or None when this one is to be left out too."""
        entry = self._causes.get(cause)
        if entry is not None and now - entry[0] < self._seconds:
            entry[1] += 1
        elif entry is not None or self._room(now):
            self._causes[cause] = [now, 0]
            self._causes.move_to_end(cause)
            return int(entry[1]) if entry is not None else 0
        self.left_out += 1
        return None

    def _room(self, now: float) -> bool:
        if len(self._causes) >= self._capacity:
            oldest = next(iter(self._causes))
            if now - self._causes[oldest][0] < self._seconds:
                return False
            del self._causes[oldest]
        return True


class RateLimitedLog:
    """A logger for what peers can cause at will: one line per cause in `seconds`, with the number of those left out.

    `on_left_out` is called for each line kept back (the metrics count them).
    """

    def __init__(self, log: Logger, seconds: float, on_left_out: Callable[[], None]) -> None:
        self._log, self._on_left_out = log, on_left_out
        self._cooldown = Cooldown(seconds)

    def warn(self, cause: Hashable, now: float, template: str, **fields: object) -> None:
        """Log `template` (with `fields`, as `Logger.warn`) unless `cause` was logged less than `seconds` before."""
        left_out = self._cooldown.admit(cause, now)
        if left_out is None:
            self._on_left_out()
            return
        if left_out:
            template += " ({left_out} more were left out since the last such line)"
        self._log.warn(template, left_out=left_out, **fields)

"""On which line each key of a TOML text stands, which `tomllib` does not tell.

Only for text that `tomllib` has accepted: the scan relies on the syntax being right and looks no further than it must
(TOML 1.0: comments, four kinds of strings, arrays over several lines, inline tables, dotted and quoted keys).
"""

import re
import tomllib

KeyPath = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' r"|'''(?:[^']|'(?!''))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_KEY = re.compile(r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[ \t]*\.[ \t]*)+""")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of each key, table header and array element, by path; an array element's last part is its index.

    A table that is written in several places has the line of the first.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # up to where line breaks are counted

    def document(self) -> None:
        table: KeyPath = ()
        self._blank()
        while self._at < len(self._text):
            if self._peek("["):
                table = self._header()
            else:
                self._pair(table)
            self._blank()

    def _header(self) -> KeyPath:
        brackets = 2 if self._peek("[[") else 1
        self._at += brackets
        self._blank()
        path = self._key(())
        self._blank()
        self._at += brackets
        return path

    def _pair(self, table: KeyPath) -> None:
        path = self._key(table)
        self._blank()
        self._at += 1  # =
        self._blank()
        self._value(path)

    def _key(self, table: KeyPath) -> KeyPath:
        """Read a key; it and the tables it opens get this line."""
        written = self._take(_KEY).strip()
        path = table + _parts(written)
        line = self._line_here()
        for length in range(len(table) + 1, len(path) + 1):
            self.lines.setdefault(path[:length], line)
        return path

    def _value(self, path: KeyPath) -> None:
        if self._peek("["):
            self._array(path)
        elif self._peek("{"):
            self._inline_table(path)
        elif not self._take(_STRING):
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while not self._closed("]"):
            element = (*path, str(index))
            self.lines.setdefault(element, self._line_here())
            self._value(element)
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while not self._closed("}"):
            self._pair(path)

    def _closed(self, bracket: str) -> bool:
        """Pass blanks and a comma; True when the bracket came and was passed too."""
        self._blank()
        if self._peek(","):
            self._at += 1
            self._blank()
        if self._peek(bracket) or self._at >= len(self._text):
            self._at += 1
            return True
        return False

    def _peek(self, sign: str) -> bool:
        return self._text.startswith(sign, self._at)

    def _blank(self) -> None:
        self._take(_BLANK)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _parts(written: str) -> KeyPath:
    """The parts of a key as written: `a."b.c"` is ("a", "b.c"). tomllib itself does the unquoting."""
    node = tomllib.loads(f"{written} = 0")
    parts: list[str] = []
    while isinstance(node, dict):
        (part,) = node
        parts.append(part)
        node = node[part]
    return tuple(parts)

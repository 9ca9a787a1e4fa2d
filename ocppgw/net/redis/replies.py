"""What Redis answers (RESP 2), as it comes in pieces.

The client library's own parser takes a turn of the reactor for every string in an answer, and copies what is left of
the input each time: an answer with 500 identities takes 500 turns. This one takes none.
"""

from typing import Any

from txredisapi import InvalidData, ResponseError

Reply = Any  # bytes, int, list of replies, None, or a ResponseError

MAX_LINE = 65_536
MAX_BULK = 64 * 1_048_576
MAX_ITEMS = 1_048_576
MAX_DEPTH = 8


class ReplyReader:
    """`feed` gives the answers that are complete. InvalidData: this is not Redis, or nothing to keep in memory."""

    def __init__(self) -> None:
        self._buffer = b""
        self._open: list[tuple[list[Reply], int]] = []  # arrays that lack items, with their lengths

    def feed(self, data: bytes) -> list[Reply]:
        buffer = self._buffer + data if self._buffer else data
        replies: list[Reply] = []
        at = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            kind, line = buffer[at : at + 1], buffer[at + 1 : end]
            after = end + 2
            if kind == b"$" and (length := _number(line, MAX_BULK)) >= 0:
                if len(buffer) < after + length + 2:
                    break
                self._take(buffer[after : after + length], replies)
                at = after + length + 2
                continue
            at = after
            if kind == b"*" and (count := _number(line, MAX_ITEMS)) > 0:
                self._enter(count)
            else:
                self._take(_simple(kind, line), replies)
        self._buffer = buffer[at:]
        if len(self._buffer) > MAX_LINE and b"\r\n" not in self._buffer[:MAX_LINE]:
            raise InvalidData("a line of the answer is too long")
        return replies

    def _enter(self, count: int) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise InvalidData("the answer is nested too deep")
        self._open.append(([], count))

    def _take(self, value: Reply, replies: list[Reply]) -> None:
        while self._open:
            items, count = self._open[-1]
            items.append(value)
            if len(items) < count:
                return
            self._open.pop()
            value = items
        replies.append(value)


def _simple(kind: bytes, line: bytes) -> Reply:
    if kind == b"+":
        return line
    if kind == b"-":
        return ResponseError(line.decode("utf-8", "replace"))
    if kind == b":":
        return _number(line, None)
    if kind == b"$":
        return None
    if kind == b"*":
        return [] if line == b"0" else None
    raise InvalidData("the answer is not Redis'")


def _number(line: bytes, most: int | None) -> int:
    try:
        number = int(line)
    except ValueError:
        raise InvalidData("the answer has no number where one belongs") from None
    if most is not None and number > most:
        raise InvalidData("the answer is too long")
    return number

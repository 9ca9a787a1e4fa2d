"""RFC 3339 timestamps in UTC with milliseconds and a plain `Z`, the one spelling every charger reads."""

import time

_last: tuple[int, bytes] = (-1, b"")  # the second rendered last: thousands of messages share it


def rfc3339(now: float) -> bytes:
    """`now` (seconds since the epoch) as `2026-11-23T23:07:07.123Z`, ASCII bytes without quotes."""
    global _last  # noqa: PLW0603  a cache of one entry, replaced whole
    second = int(now)
    cached, text = _last
    if cached != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode("ascii")
        _last = (second, text)
    return b"%b.%03dZ" % (text, int((now - second) * 1000))

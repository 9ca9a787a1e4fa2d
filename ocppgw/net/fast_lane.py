"""The fast lane's frames (RFC 6455 section 5.2): one whole text frame to its payload and back, without a frame machine.

Everything a station normally sends fits in one masked, unfragmented text frame that arrives in one piece. Only that
shape is known here; every other byte sequence is left to Autobahn.
"""

from collections.abc import Callable
from typing import Any

# Measured at 945 bytes: 0.2 µs in C (without a wheel: its own fallback); a big-integer XOR takes 2.6, Autobahn's native
# masker 3.5, most of it in the call.
from websockets.frames import apply_mask  # type: ignore[attr-defined]

TEXT_FIN = 0x81


def whole_text_frame(data: bytes, limit: int) -> bytes | None:
    """The unmasked payload when `data` is exactly one masked, unfragmented, uncompressed text frame of at most `limit`
    bytes; None for everything else, payloads of 64 KiB and more included (no single read returns those whole)."""
    size = len(data)
    if size < 6 or data[0] != TEXT_FIN:
        return None
    length = data[1] - 0x80  # negative without the mask bit
    if length < 126:
        start = 6
    elif length == 126 and size >= 8:
        length = data[2] << 8 | data[3]
        if length < 126:  # not the shortest encoding
            return None
        start = 8
    else:
        return None
    if size != start + length or length < 0 or length > limit:
        return None
    return apply_mask(data[start:], data[start - 4 : start])


def text_frame(text: bytes) -> bytes:
    """A server's frame: unmasked, unfragmented."""
    length = len(text)
    if length < 126:
        return b"\x81%c%b" % (length, text)
    if length < 65_536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), text)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), text)


def write_now(transport: Any, send: Callable[[bytes], int], frame: bytes) -> None:
    """Write to the socket at once where Twisted holds nothing back; what the kernel does not take goes the usual way.

    `transport` is a plain TCP one and `send` its socket's. `transport.write` alone always waits for the next turn of
    the loop and costs two epoll_ctl calls. An error is left to the usual way, too: the reactor then meets it outside
    of this call.
    """
    if not transport.dataBuffer and not transport._tempDataBuffer:
        try:
            sent = send(frame)
        except OSError:  # full, or gone
            sent = 0
        if sent == len(frame):
            return
        frame = frame[sent:]
    transport.write(frame)

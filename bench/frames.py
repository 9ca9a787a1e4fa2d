"""The client's side of RFC 6455, as little as the load needs: masked frames out, unmasked frames in."""

MASK = b"\x37\xfa\x21\x3d"  # any fixed key will do: the servers unmask it like every other
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA

_BIGGEST = 65535
_MASKS = int.from_bytes(MASK * (_BIGGEST // 4 + 1), "big")
_MASK_BITS = (_BIGGEST // 4 + 1) * 32

# The mask of a payload of n bytes as an integer: cached, since a row has only a handful of lengths.
_masks: dict[int, int] = {}


def encode(opcode: int, payload: bytes) -> bytes:
    """One whole masked frame (section 5.2); ValueError above 65,535 bytes."""
    size = len(payload)
    mask = _masks.get(size)
    if mask is None:
        if size > _BIGGEST:
            raise ValueError(f"a payload of {size} bytes: the load generator sends at most {_BIGGEST}")
        mask = _masks[size] = _MASKS >> (_MASK_BITS - 8 * size)
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size)) + MASK + masked
    return bytes((0x80 | opcode, 0xFE, size >> 8, size & 0xFF)) + MASK + masked


def take(inbox: bytearray) -> tuple[int, bytes] | None:
    """Cut the first whole frame off `inbox`: (opcode, payload), or None when it isn't there yet.

    Raises ValueError for what no server here has a reason to send: fragments, reserved bits, masked frames.
    """
    if len(inbox) < 2:
        return None
    if not inbox[0] & 0x80 or inbox[0] & 0x70 or inbox[1] & 0x80:
        raise ValueError(f"unexpected frame header {bytes(inbox[:2]).hex()}")
    size, start = inbox[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(inbox[2:start], "big")
    if len(inbox) < start or len(inbox) < start + size:
        return None
    opcode, payload = inbox[0] & 0x0F, bytes(inbox[start : start + size])
    del inbox[: start + size]
    return opcode, payload


def text_of(data: bytes) -> bytes | None:
    """The payload when `data` is exactly one unfragmented, unmasked text frame below 64 KiB; else None."""
    if len(data) < 2 or data[0] != 0x81:
        return None
    size = data[1]
    if size < 126:
        return data[2:] if len(data) == 2 + size else None
    if size == 126 and len(data) == 4 + (data[2] << 8 | data[3]):
        return data[4:]
    return None

"""What a station offered in its TLS ClientHello: read from the raw bytes, for `ocppgw explain`.

    record (RFC 8446 section 5.1)           type 22, version (2), length (2), fragment of a handshake message
    handshake message (section 4)           type 1, length (3), ClientHello
    ClientHello (section 4.1.2)             version (2), random (32), session id <1>, cipher suites <2>,
                                            compression methods <1>, extensions <2>
    extension (section 4.2)                 type (2), data <2>
    server_name (0, RFC 6066 section 3)     list <2> of: type 0, host name <2>
    supported_versions (43, section 4.2.1)  list <1> of: version (2)

(<n> is a vector with a length of n bytes before it.) The bytes come from anybody, often from a handshake that failed
because of them: reading never raises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_RECORD_HEADER = 5
_HANDSHAKE_HEADER = 4
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_MAX_RECORDS = 16  # it may come in pieces, but not so that looking at it becomes work
_SERVER_NAME, _SUPPORTED_VERSIONS = 0, 43
_GREASE = frozenset(0x0A0A + 0x1010 * number for number in range(16))  # RFC 8701: values that mean nothing

_VERSIONS = {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}

# OpenSSL's names, so that what was offered and what was chosen read alike.
_CIPHERS = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x1304: "TLS_AES_128_CCM_SHA256",
    0x1305: "TLS_AES_128_CCM_8_SHA256",
    0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256",
    0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384",
    0xC02F: "ECDHE-RSA-AES128-GCM-SHA256",
    0xC030: "ECDHE-RSA-AES256-GCM-SHA384",
    0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305",
    0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305",
    0xCCAA: "DHE-RSA-CHACHA20-POLY1305",
    0xC0AC: "ECDHE-ECDSA-AES128-CCM",
    0xC0AD: "ECDHE-ECDSA-AES256-CCM",
    0xC0AE: "ECDHE-ECDSA-AES128-CCM8",
    0xC0AF: "ECDHE-ECDSA-AES256-CCM8",
    0xC009: "ECDHE-ECDSA-AES128-SHA",
    0xC00A: "ECDHE-ECDSA-AES256-SHA",
    0xC013: "ECDHE-RSA-AES128-SHA",
    0xC014: "ECDHE-RSA-AES256-SHA",
    0xC023: "ECDHE-ECDSA-AES128-SHA256",
    0xC024: "ECDHE-ECDSA-AES256-SHA384",
    0xC027: "ECDHE-RSA-AES128-SHA256",
    0xC028: "ECDHE-RSA-AES256-SHA384",
    0xC008: "ECDHE-ECDSA-DES-CBC3-SHA",
    0xC012: "ECDHE-RSA-DES-CBC3-SHA",
    0xC007: "ECDHE-ECDSA-RC4-SHA",
    0xC011: "ECDHE-RSA-RC4-SHA",
    0xC02D: "ECDH-ECDSA-AES128-GCM-SHA256",
    0xC02E: "ECDH-ECDSA-AES256-GCM-SHA384",
    0xC031: "ECDH-RSA-AES128-GCM-SHA256",
    0xC032: "ECDH-RSA-AES256-GCM-SHA384",
    0x009C: "AES128-GCM-SHA256",
    0x009D: "AES256-GCM-SHA384",
    0xC09C: "AES128-CCM",
    0xC09D: "AES256-CCM",
    0xC0A0: "AES128-CCM8",
    0xC0A1: "AES256-CCM8",
    0x002F: "AES128-SHA",
    0x0035: "AES256-SHA",
    0x003C: "AES128-SHA256",
    0x003D: "AES256-SHA256",
    0x000A: "DES-CBC3-SHA",
    0x0004: "RC4-MD5",
    0x0005: "RC4-SHA",
    0x0009: "DES-CBC-SHA",
    0x0001: "NULL-MD5",
    0x0002: "NULL-SHA",
    0x003B: "NULL-SHA256",
    0x009E: "DHE-RSA-AES128-GCM-SHA256",
    0x009F: "DHE-RSA-AES256-GCM-SHA384",
    0x0033: "DHE-RSA-AES128-SHA",
    0x0039: "DHE-RSA-AES256-SHA",
    0x0067: "DHE-RSA-AES128-SHA256",
    0x006B: "DHE-RSA-AES256-SHA256",
    0x0016: "DHE-RSA-DES-CBC3-SHA",
    0x0041: "CAMELLIA128-SHA",
    0x0084: "CAMELLIA256-SHA",
    0x008C: "PSK-AES128-CBC-SHA",
    0x008D: "PSK-AES256-CBC-SHA",
    0x00A8: "PSK-AES128-GCM-SHA256",
    0x00A9: "PSK-AES256-GCM-SHA384",
    0xC0A8: "PSK-AES128-CCM8",
    0x00FF: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",  # these two are signals, not ciphers (RFC 5746, RFC 7507)
    0x5600: "TLS_FALLBACK_SCSV",
}


@dataclass(frozen=True, slots=True)
class Hello:
    """What was offered, in the station's order.

    `versions` as "TLSv1.3"; a station that lists none (TLS 1.2 and older) has its highest here. Ciphers and versions
    that aren't known by name are hexadecimal ("0xC0FF"); `server_name` is the SNI, "" without.
    """

    versions: tuple[str, ...]
    ciphers: tuple[str, ...]
    server_name: str


def read_hello(data: bytes) -> Hello | None:
    """The ClientHello at the start of `data` (TLS records). None when there is none, or not the whole of it."""
    message = _message(data)
    try:
        return None if message is None else _read(_Reader(message))
    except _Short:
        return None


def hello_size(data: bytes) -> int:
    """How many bytes the records of the ClientHello at the start of `data` take; 0 while it isn't whole."""
    message = b""
    for start, end in islice(_records(data), _MAX_RECORDS):
        message += data[start:end]
        if len(message) >= _HANDSHAKE_HEADER + int.from_bytes(message[1:_HANDSHAKE_HEADER].ljust(3, b"\xff")):
            return end
    return 0


class _Short(Exception):
    """The bytes end before what they announce."""


class _Reader:
    """Takes fields off the front of some bytes. _Short when there are not enough."""

    __slots__ = ("_data", "_place")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._place : self._place + size]
        if len(taken) < size:
            raise _Short
        self._place += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        """What follows its own length of `size` bytes."""
        return self.take(self.number(size))

    @property
    def left(self) -> int:
        return len(self._data) - self._place


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each whole handshake record's content."""
    place = 0
    while len(data) - place >= _RECORD_HEADER and data[place] == _HANDSHAKE and data[place + 1] == 3:
        start = place + _RECORD_HEADER
        place = start + int.from_bytes(data[place + 3 : start])
        if start == place or place > len(data):
            return
        yield start, place


def _message(data: bytes) -> bytes | None:
    size = hello_size(data)
    joined = b"".join(data[start:end] for start, end in _records(data[:size]))
    return joined[_HANDSHAKE_HEADER:] if joined[:1] == bytes((_CLIENT_HELLO,)) else None


def _read(hello: _Reader) -> Hello:
    version = hello.number(2)
    hello.take(32)
    hello.vector(1)
    ciphers = _numbers(hello.vector(2))
    hello.vector(1)
    versions, server_name = [version], ""
    for kind, content in _extensions(hello.vector(2) if hello.left else b""):
        if kind == _SUPPORTED_VERSIONS:
            versions = _numbers(_Reader(content).vector(1))
        elif kind == _SERVER_NAME:
            server_name = _host_name(_Reader(_Reader(content).vector(2)))
    return Hello(_named(versions, _VERSIONS), _named(ciphers, _CIPHERS), server_name)


def _extensions(block: bytes) -> Iterator[tuple[int, bytes]]:
    reader = _Reader(block)
    while reader.left:
        yield reader.number(2), reader.vector(2)


def _host_name(names: _Reader) -> str:
    """The host name of a server_name list. It is the station's: what can't be printed is escaped."""
    while names.left:
        kind, name = names.number(1), names.vector(2)
        if kind == 0:
            return "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}" for byte in name)
    return ""


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[place : place + 2]) for place in range(0, len(data) - 1, 2)]


def _named(numbers: list[int], names: dict[int, str]) -> tuple[str, ...]:
    return tuple(names.get(number, f"0x{number:04X}") for number in numbers if number not in _GREASE)

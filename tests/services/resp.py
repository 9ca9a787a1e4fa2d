"""A Redis connection on a plain socket: RESP 2 as far as tests need it. It knows no client library of the gateway."""

import socket
import ssl
from typing import Self

Reply = bytes | int | list["Reply"] | None


class RedisReplyError(Exception):
    """Redis answered with an error: `NOAUTH …`, `WRONGPASS …`."""


class RedisConnection:
    """Blocking; TimeoutError when an answer takes longer than `time_limit`."""

    def __init__(
        self,
        port: int,
        *,
        user: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        time_limit: float = 5.0,
    ) -> None:
        plain = socket.create_connection(("127.0.0.1", port), time_limit)
        self._socket = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls is not None else plain
        self._input = self._socket.makefile("rb")
        if password is not None:
            self.call("AUTH", *([user] if user else []), password)

    def call(self, *words: str | bytes | int) -> Reply:
        """Send one command and wait for its answer."""
        self.send(*words)
        return self.receive()

    def send(self, *words: str | bytes | int) -> None:
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)]
        self._socket.sendall(b"".join(parts))

    def receive(self) -> Reply:
        line = self._input.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, text = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisReplyError(text.decode())
        if kind == b"+":
            return text
        if kind == b":":
            return int(text)
        length = int(text)
        if length < 0:
            return None
        if kind == b"*":
            return [self.receive() for _ in range(length)]
        return self._input.read(length + 2)[:-2]

    def close(self) -> None:
        self._input.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

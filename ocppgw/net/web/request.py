"""One request: its bounded body, and the typed face of what Twisted leaves untyped."""

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request

MAX_BODY_BYTES = 256 * 1024
MAX_IMPORT_BYTES = 1024 * 1024  # of the one route that takes many records at once: 500 identities of 2 KiB each
CUT_BYTES = 64 * MAX_BODY_BYTES  # a sender who is still sending by then doesn't listen for the answer


class OperationsRequest(Request):
    """A request that keeps at most MAX_IMPORT_BYTES of its body; `body_bytes` tells how many there were.

    The guard refuses what is more than the route takes. What is too much here is read and forgotten, so that the
    sender, busy sending, gets to read the 413.
    """

    body_bytes = 0
    channel: Any  # an HTTPChannel; None once the connection is lost

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        # Twisted would put a long body into a temporary file: disk I/O in the reactor thread.
        self._body = self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        self.body_bytes += len(data)
        if self.body_bytes <= MAX_IMPORT_BYTES:
            self._body.write(data)
        elif self.body_bytes > CUT_BYTES:
            self.abort()

    def header_values(self, name: str) -> list[str]:
        """The values of a request header; bytes beyond ASCII come out as Latin-1, so that no value raises."""
        values = self.requestHeaders.getRawHeaders(name.encode()) or []
        return [value.decode("latin-1") for value in values]

    def header(self, name: str) -> str | None:
        """The first of them."""
        return next(iter(self.header_values(name)), None)

    def peer_address(self) -> str:
        """Where the request comes from, "" for a socket without addresses."""
        return getattr(self.getClientAddress(), "host", "")

    def body(self) -> bytes:
        """The body, or the beginning of one that is too large."""
        return self._body.getvalue()

    def set_header(self, name: str, value: str) -> None:
        """Set a header of the answer."""
        self.responseHeaders.setRawHeaders(name, [value])

    def send(self, data: bytes) -> None:
        """Write a piece of the answer; the first one, also an empty one, sends the headers."""
        self.write(data)

    def start_producing(self, producer: IPushProducer) -> None:
        """Let the connection pause and resume `producer` as its buffer fills and empties."""
        self.registerProducer(producer, True)

    def stop_producing(self) -> None:
        """Undo `start_producing`; does nothing when the connection is gone."""
        if self.channel is not None:
            self.unregisterProducer()

    def abort(self) -> None:
        """Drop the connection without waiting for what is buffered."""
        if self.channel is not None:
            self.channel.transport.abortConnection()

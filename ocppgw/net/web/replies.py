"""Answers of the operations HTTP."""

from collections.abc import Callable
from typing import Any

import msgspec

from ocppgw.net.web.request import OperationsRequest

Route = tuple[str, str, Callable[..., Any]]  # path with werkzeug's placeholders, method, handler


class HttpError(Exception):
    """A request that is answered with this HTTP status and {"code", "message", "hint"}."""

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.hint, self.headers = status, code, hint, headers


def reply(request: OperationsRequest, status: int, body: Any) -> bytes:
    """`body` as the JSON answer: sets status and headers, returns the bytes to write."""
    return reply_bytes(request, status, "application/json", msgspec.json.encode(body) + b"\n")


def reply_bytes(request: OperationsRequest, status: int, content_type: str, body: bytes) -> bytes:
    """The same for bytes that are ready."""
    request.setResponseCode(status)
    request.set_header("Content-Type", content_type)
    request.set_header("Content-Length", str(len(body)))
    return body


def reply_error(request: OperationsRequest, error: HttpError) -> bytes:
    """The answer to a request that failed."""
    for name, value in error.headers:
        request.set_header(name, value)
    return reply(request, error.status, {"code": error.code, "message": str(error), "hint": error.hint})

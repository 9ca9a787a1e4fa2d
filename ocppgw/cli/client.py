"""The operations HTTP as a client sees it: blocking, every call with a time limit, no proxies, no redirects."""

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from ocppgw.errors import OcppgwError

CALL_SECONDS = 10.0
STREAM_SECONDS = 45.0  # three keep-alives missed
MAX_LINE_BYTES = 16 * 1024 * 1024


class NotReachable(OcppgwError):
    """Nobody answers at the URL, or what answers doesn't speak HTTP."""

    code = "NotReachable"


class Refused(OcppgwError):
    """The gateway answered with an error; `status` is the HTTP status."""

    code = "Refused"

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class Stream:
    """An open event stream: iterate over its lines. `cursor` is where it starts."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response
        self.cursor = int(response.headers.get("Ocppgw-Cursor", "0"))

    def __iter__(self) -> Iterator[bytes]:
        """Lines as they come, blank keep-alive lines left out; ends, or raises OSError, when the connection does."""
        try:
            while line := self._response.readline(MAX_LINE_BYTES):
                if line.strip() and line.endswith(b"\n"):
                    yield line
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            self._connection.close()


class OperationsClient:
    """Calls the operations HTTP at `url` (http:// or https://), with a bearer token when there is one.

    Raises NotReachable and Refused; ValueError for a URL that can't be used.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"{url.rpartition('@')[2]!r} is no URL like http://127.0.0.1:3001")
        self.url = url.rstrip("/")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def get(self, *path: str, **query: Any) -> Any:
        """GET /v1/path...; parameters that are None are left out. Returns the JSON."""
        return self._call("GET", _path(path, query), None, CALL_SECONDS)

    def post(self, *path: str, body: Mapping[str, Any], wait: float = 0.0) -> Any:
        """POST /v1/path... with ?wait= when it isn't 0. Returns the JSON."""
        return self._call("POST", _path(path, {"wait": wait or None}), body, CALL_SECONDS + wait)

    def change(self, *path: str, body: Mapping[str, Any], seconds: float = CALL_SECONDS) -> Any:
        """POST /v1/path... what may be sent twice: when the answer is lost, the failure says so. Returns the JSON."""
        try:
            return self._call("POST", _path(path, {}), body, seconds)
        except NotReachable as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                raise
            again = "It may be done all the same: repeat it, which does no harm"
            raise NotReachable(str(error.args[0]), hint=f"{error.hint}\n{again}") from error

    def follow(self, **query: Any) -> Stream:
        """Open the event stream."""
        connection, response = self._send("GET", _path(("events",), {"follow": 1, **query}), None, STREAM_SECONDS)
        if response.status != http.client.OK:
            raise self._refused(connection, response)
        return Stream(connection, response)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> Any:
        connection, response = self._send(method, path, body, seconds)
        if response.status >= http.client.BAD_REQUEST:
            raise self._refused(connection, response)
        try:
            return json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._not_reachable(error) from error
        except ValueError as error:
            raise self._not_reachable("what answers there is no ocppgw") from error
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=seconds)
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            connection.request(method, self._base + path, None if body is None else orjson.dumps(body), headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._not_reachable(error) from error

    def _not_reachable(self, reason: object) -> NotReachable:
        why = "no answer in time" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
        return NotReachable(f"No gateway answers at {self.url}: {why}", hint="Is it running? `make run`, or give --url")

    def _refused(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> OcppgwError:
        try:
            problem = json.loads(response.read(MAX_LINE_BYTES))
            return Refused(response.status, problem["code"], problem["message"], problem.get("hint", ""))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return self._not_reachable(f"HTTP status {response.status} from something that is no ocppgw")
        finally:
            connection.close()


def _path(parts: tuple[str, ...], query: Mapping[str, Any]) -> str:
    path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path

"""The gate before all routes: well-formed, authorised, and not sent by somebody else's web page.

A browser on an operator's machine can reach a loopback port for any page it shows. Two rules keep such a page out:
a POST must be JSON (a form can't send that without a CORS preflight, which is never granted) and must not carry a
foreign Origin (RFC 6454); and without a token the Host must not be a name unknown to us (DNS rebinding).
"""

import hmac
import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from twisted.web.resource import Resource

from ocppgw.net.web.replies import HttpError, reply_error
from ocppgw.net.web.request import MAX_BODY_BYTES, MAX_IMPORT_BYTES, OperationsRequest

METHODS = (b"GET", b"HEAD", b"POST")
IMPORTS = frozenset({b"/v1/identities", b"/v1/identities/"})

_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"(?P<name>{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]{{2,45}}\])(?::\d{{1,5}})?")


class Guard(Resource):
    """Refuses what no route should see, and passes the rest on to `routes` (a klein resource).

    `token`: demanded as bearer token on every path when set. `hosts`: names this server goes by, beside IP addresses
    and localhost.
    """

    isLeaf = True  # noqa: N815

    def __init__(self, routes: Resource, token: str | None, hosts: Collection[str]) -> None:
        super().__init__()
        self._routes = routes
        self._token = token.encode() if token else None
        self._hosts = {"localhost", *(host.lower() for host in hosts)}

    def render(self, request: OperationsRequest) -> bytes | int:
        request.responseHeaders.removeHeader(b"Server")
        request.set_header("Cache-Control", "no-store")
        request.set_header("X-Content-Type-Options", "nosniff")
        try:
            host = _well_formed(request)
            if self._token is not None:
                _authorised(request, self._token)
            elif request.path.startswith(b"/v1/"):
                self._known_host(host)
            if request.method == b"POST":
                _own_post(request)
        except HttpError as error:
            return reply_error(request, error)
        return self._routes.render(request)  # type: ignore[no-any-return]

    def _known_host(self, host: str) -> None:
        name = (_HOST.fullmatch(host) or {"name": ""})["name"].lower().rstrip(".")
        if host and name not in self._hosts and not _is_address(name.strip("[]")):
            raise HttpError(403, "UnknownHost", "This server doesn't go by that name.", _HOST_HINT)


_HOST_HINT = "Ask by IP address or as localhost, or configure a token for the operations port."


def _well_formed(request: OperationsRequest) -> str:
    """The Host header ("" when there is none, as in HTTP/1.0). Klein would log a traceback for what is refused here."""
    if request.method not in METHODS:
        allowed = ", ".join(method.decode() for method in METHODS)
        raise HttpError(405, "MethodNotAllowed", f"Only {allowed} are served here.", headers=(("Allow", allowed),))
    hosts = request.header_values("Host") or [""]
    if len(hosts) > 1 or (hosts[0] and not _HOST.fullmatch(hosts[0])):
        raise HttpError(400, "BadHost", "The Host header isn't one host name with an optional port.")
    try:
        b"/".join(request.postpath or []).decode()
    except UnicodeDecodeError:
        raise HttpError(400, "BadPath", "The path isn't UTF-8.") from None
    return hosts[0]


def _authorised(request: OperationsRequest, token: bytes) -> None:
    scheme, _, given = (request.header("Authorization") or "").partition(" ")
    # Compared even under a wrong scheme, and in constant time: how long it takes tells nothing about the token.
    if not hmac.compare_digest(given.strip().encode("latin-1"), token) or scheme.lower() != "bearer":
        challenge = (("WWW-Authenticate", 'Bearer realm="ocppgw"'),)
        hint = "Send the operations token as `Authorization: Bearer TOKEN`."
        raise HttpError(401, "Unauthorized", "A valid token is required.", hint, challenge)


def _own_post(request: OperationsRequest) -> None:
    origin = request.header("Origin")
    if origin is not None and _netloc(origin) != (request.header("Host") or "").lower():
        raise HttpError(403, "ForeignOrigin", "Requests of other sites' pages are refused.")
    content_type = (request.header("Content-Type") or "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HttpError(415, "NotJson", "The body must be JSON.", "Send `Content-Type: application/json`.")
    most = MAX_IMPORT_BYTES if request.path in IMPORTS else MAX_BODY_BYTES
    if request.body_bytes > most:
        hint = "Send fewer identities at once." if request.path in IMPORTS else "Send a smaller payload."
        raise HttpError(413, "TooLarge", f"The body is larger than {most} bytes.", hint)


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

"""Every way a handshake can be refused: one table, from the name in logs and metrics to the HTTP answer.

The phrase is a constant because it goes raw into the HTTP status line: nothing a peer sent may ever get there.
"""

from dataclasses import dataclass
from enum import Enum

Headers = tuple[tuple[str, str], ...]

# RFC 7617 section 2.1: the charset parameter tells the client to send UTF-8.
_FIXED_HEADERS: dict[int, Headers] = {
    401: (("WWW-Authenticate", 'Basic realm="ocpp", charset="UTF-8"'),),
    426: (("Upgrade", "websocket"),),
}


class Reason(Enum):
    """`code` for logs and metrics, HTTP `status`, constant `text` for the peer, `remedy` for the operator.

    `retry_after` is the default of the Retry-After header in seconds, 0 for none; `headers` are
    the fixed ones of its status.
    """

    code: str
    status: int
    text: str
    remedy: str
    retry_after: int
    headers: Headers

    MALFORMED_REQUEST = (
        "MalformedRequest",
        400,
        "Malformed request",
        "The request isn't a valid HTTP/1.1 upgrade; check what stands between the station and the gateway.",
    )
    SUSPICIOUS_PATH = (
        "SuspiciousPath",
        404,
        "Not found",
        "A scanner is probing the listener; block the address in front of the gateway if it goes on.",
    )
    NOT_WEBSOCKET = (
        "NotWebSocket",
        426,
        "WebSocket upgrade required",
        "Point the station here with ws://; browsers and health checks belong on the operations port.",
    )
    ADDRESS_NOT_ALLOWED = (
        "AddressNotAllowed",
        403,
        "Address not allowed",
        "Add the station's address to allowed_ips or allowed_cidrs of the listener.",
    )
    UNKNOWN_PATH = (
        "UnknownPath",
        404,
        "Unknown path",
        "Set the station's URL to ws://host:port/ocpp/{version}/{chargePointId} with version 1.6, 2.0.1 or 2.1.",
    )
    MALFORMED_ID = (
        "MalformedId",
        400,
        "Malformed charge point id",
        "Give the station an id of at most 48 characters that matches the id pattern (no ':' on OCPP 2.x).",
    )
    NO_SUBPROTOCOL = (
        "NoSubprotocol",
        400,
        "Sec-WebSocket-Protocol required",
        "The station must offer its OCPP version as WebSocket subprotocol: ocpp1.6, ocpp2.0.1 or ocpp2.1.",
    )
    SUBPROTOCOL_NOT_SERVED = (
        "SubprotocolNotServed",
        400,
        "No served subprotocol offered",
        "Switch the station to an OCPP version that is served here: ocpp1.6, ocpp2.0.1 or ocpp2.1.",
    )
    SUBPROTOCOL_MISMATCH = (
        "SubprotocolMismatch",
        400,
        "Subprotocol does not match the path",
        "Make the version in the station's URL and its subprotocol agree, or leave the version out of the URL.",
    )
    CREDENTIALS_MISSING = (
        "CredentialsMissing",
        401,
        "Credentials required",
        "Set the station's password (1.6 AuthorizationKey, 2.x BasicAuthPassword) or give it its token.",
    )
    CREDENTIALS_WRONG = (
        "CredentialsWrong",
        401,
        "Credentials refused",
        "Compare the station's user name and password or token with its identity; provision it if it is unknown.",
    )
    CLIENT_CERTIFICATE_REQUIRED = (
        "ClientCertificateRequired",
        403,
        "Client certificate required",
        "TLS is not served by this listener: give the identity auth type basic or token.",
    )
    IDENTITY_DISABLED = (
        "IdentityDisabled",
        403,
        "Station disabled",
        "Set the identity's status to active to let the station in.",
    )
    ADDRESS_NOT_ALLOWED_FOR_STATION = (
        "AddressNotAllowedForStation",
        403,
        "Address not allowed for this station",
        "Add the address to allowedIps or allowedCidrs of the station's identity.",
    )
    PROTOCOL_NOT_ALLOWED = (
        "ProtocolNotAllowed",
        403,
        "OCPP version not allowed for this station",
        "Add the version to allowedProtocols of the station's identity, or empty that list to allow all.",
    )
    DUPLICATE_FLAPPING = (
        "DuplicateFlapping",
        429,
        "Too many reconnects",
        "Two stations share this id, or one reconnects in a loop: give each its own id, look at the station's link.",
        60,
    )
    TOO_MANY_CONNECTIONS = (
        "TooManyConnections",
        503,
        "Too many connections",
        "Raise the connection limit of the listener (and the process's file limit), or add a node.",
        30,
    )
    DRAINING = (
        "Draining",
        503,
        "Draining",
        "The gateway is shutting down; stations come back once it runs again.",
        5,
    )
    STORE_UNAVAILABLE = (
        "StoreUnavailable",
        503,
        "Store unavailable",
        "The store or the journal can't be used; /ready on the operations port says why.",
        10,
    )

    def __init__(self, code: str, status: int, text: str, remedy: str, retry_after: int = 0) -> None:
        self.code = code
        self.status = status
        self.text = text
        self.remedy = remedy
        self.retry_after = retry_after
        self.headers = _FIXED_HEADERS.get(status, ())


@dataclass(frozen=True, slots=True)
class Refused:
    """The HTTP answer instead of the 101.

    `detail` says for the log what exactly was wrong; it is never sent and never holds anything the peer sent.
    `retry_after` overrides the reason's own Retry-After, in whole seconds.
    """

    reason: Reason
    detail: str = ""
    retry_after: int | None = None

    @property
    def status(self) -> int:
        """HTTP status code (RFC 9110 section 15)."""
        return self.reason.status

    @property
    def text(self) -> str:
        """Constant phrase for status line and body."""
        return self.reason.text

    @property
    def headers(self) -> Headers:
        """Headers this answer needs beside the usual ones: the challenge, Upgrade or Retry-After."""
        seconds = self.reason.retry_after if self.retry_after is None else self.retry_after
        return (*self.reason.headers, ("Retry-After", str(seconds))) if seconds else self.reason.headers

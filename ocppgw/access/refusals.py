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

    `retry_after` is the default of the Retry-After header in seconds, 0 for none; `headers` are the fixed ones of its
    status. Status 0: the connection never got as far as HTTP. Reasons that a stranger must not tell apart share their
    text, so that an unknown id, a wrong user name and a wrong password are one and the same answer.
    """

    code: str
    status: int
    text: str
    remedy: str
    retry_after: int
    headers: Headers

    # --- the request

    MALFORMED_REQUEST = (
        "MalformedRequest",
        400,
        "Malformed request",
        "The request isn't a valid HTTP/1.1 upgrade; check what stands between the station and the gateway.",
    )
    HANDSHAKE_TIMEOUT = (
        "HandshakeTimeout",
        400,
        "Malformed request",
        "The request did not end in time: look at the station's link, or raise websocket.handshake_timeout_seconds.",
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
        "Point the station here with ws:// or wss://; browsers and health checks belong on the operations port.",
    )
    ADDRESS_NOT_ALLOWED = (
        "AddressNotAllowed",
        403,
        "Address not allowed",
        "Add the station's address to admission.allowed_ips or admission.allowed_cidrs.",
    )
    PROXY_HEADER_INVALID = (
        "ProxyHeaderInvalid",
        400,
        "Malformed request",
        "A listed proxy sent no usable client address: let it set the header that admission.proxy_header names.",
    )
    PROXY_PROTOCOL_INVALID = (
        "ProxyProtocolInvalid",
        0,
        "",
        "A listed proxy sent no PROXY protocol header: switch it on there, or websocket.proxy_protocol off here.",
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

    # --- passwords and tokens

    CREDENTIALS_MISSING = (
        "CredentialsMissing",
        401,
        "Credentials required",
        "Set the station's password (1.6 AuthorizationKey, 2.x BasicAuthPassword) or give it its token.",
    )
    CREDENTIALS_MALFORMED = (
        "CredentialsMalformed",
        401,
        "Credentials refused",
        "The Authorization header can't be read: after Basic comes base64 of id:password, after Bearer the token.",
    )
    CREDENTIALS_WRONG = (
        "CredentialsWrong",
        401,
        "Credentials refused",
        "The user name is right, the secret is not: set the station's password or token anew (ocppgw rotate-secret).",
    )
    USER_NAME_WRONG = (
        "UserNameWrong",
        401,
        "Credentials refused",
        "Let the station send its id (the last part of its URL) as user name, or set auth.username of its identity.",
    )
    CREDENTIALS_TYPE_NOT_ALLOWED = (
        "CredentialsTypeNotAllowed",
        401,
        "Credentials refused",
        "The identity accepts another kind of proof: change auth.type or auth.allowedTypes, or what the station sends.",
    )
    UNKNOWN_STATION = (
        "UnknownStation",
        401,
        "Credentials refused",
        "No identity has this id: provision the station (ocppgw provision), or mend the id in its URL.",
    )
    IDENTITY_INVALID = (
        "IdentityInvalid",
        401,
        "Credentials refused",
        "The stored identity can't be used: the detail names each bad member; store it again (ocppgw provision).",
    )

    # --- client certificates

    CLIENT_CERTIFICATE_REQUIRED = (
        "ClientCertificateRequired",
        401,
        "Credentials refused",
        "The identity wants a client certificate: install one in the station and use wss, or allow basic or token.",
    )
    CLIENT_CERTIFICATE_MISSING = (
        "ClientCertificateMissing",
        401,
        "Credentials required",
        "The identity wants a client certificate: install one in the station and use wss, or allow basic or token.",
    )
    UNKNOWN_STATION_CERTIFICATE = (
        "UnknownStationCertificate",
        404,
        "Unknown station",
        "The certificate is good, but no identity has this id: provision the station, or mend the id in its URL.",
    )
    CERTIFICATE_NOT_BOUND = (
        "CertificateNotBound",
        403,
        "Client certificate refused",
        "The identity names no certificate: bind this one (ocppgw add-cert).",
    )
    CERTIFICATE_MISMATCH = (
        "CertificateMismatch",
        403,
        "Client certificate refused",
        "The certificate is none of the identity's: bind it (ocppgw add-cert), or install the station's own.",
    )
    CERTIFICATE_OF_ANOTHER_STATION = (
        "CertificateOfAnotherStation",
        403,
        "Client certificate refused",
        "The matching binding is for another id: install this station's own certificate.",
    )
    CERTIFICATE_BINDING_NOT_YET = (
        "CertificateBindingNotYet",
        403,
        "Client certificate refused",
        "The binding's window has not begun: move its validFrom, or use the old certificate until then.",
    )
    CERTIFICATE_BINDING_OVER = (
        "CertificateBindingOver",
        403,
        "Client certificate refused",
        "The binding's window is over: install the new certificate in the station, or move validTo.",
    )
    CERTIFICATE_BINDING_REVOKED = (
        "CertificateBindingRevoked",
        403,
        "Client certificate revoked",
        "The binding is marked revoked: install a new certificate in the station and bind it.",
    )
    CERTIFICATE_REVOKED = (
        "CertificateRevoked",
        403,
        "Client certificate revoked",
        "The certificate is on the denylist: install a new one in the station and bind it (ocppgw add-cert).",
    )
    CERTIFICATE_REVOKED_BY_IDENTITY = (
        "CertificateRevokedByIdentity",
        403,
        "Client certificate revoked",
        "The certificate is in the identity's revokedFingerprints: install a new one and bind it (ocppgw add-cert).",
    )
    CERTIFICATE_REVOKED_BY_CRL = (
        "CertificateRevokedByCrl",
        403,
        "Client certificate revoked",
        "The CA has revoked the certificate (CRL): install a new one in the station and bind it.",
    )
    CRL_EXPIRED = (
        "CrlExpired",
        403,
        "Client certificate not checkable",
        'Put a fresh CRL in tls.crl_path; tls.crl_expired = "accept" lets stations in without one.',
    )
    CRL_MISSING = (
        "CrlMissing",
        403,
        "Client certificate not checkable",
        'Add the CRL of the certificate\'s issuer to tls.crl_path, or set tls.crl_missing = "accept".',
    )
    CERTIFICATE_EXPIRED = (
        "CertificateExpired",
        403,
        "Client certificate expired",
        "The certificate ran out: install a new one in the station; check the gateway's clock if it should be valid.",
    )
    CERTIFICATE_NOT_YET_VALID = (
        "CertificateNotYetValid",
        403,
        "Client certificate not yet valid",
        "The certificate is not valid yet: check the gateway's clock and the certificate's dates.",
    )
    CERTIFICATE_ORGANIZATION = (
        "CertificateOrganization",
        403,
        "Client certificate refused",
        "The certificate's organization (O) is not in tls.client_organizations: use one made for this operator.",
    )

    # --- the station's own rules

    IDENTITY_DISABLED = (
        "IdentityDisabled",
        403,
        "Station disabled",
        "Let the station in again with ocppgw enable.",
    )
    IDENTITY_DELETED = (
        "IdentityDeleted",
        401,
        "Credentials refused",
        "The station's identity was deleted while it was connected: provision it again to let it in.",
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
    SECURITY_PROFILE_LOWERED = (
        "SecurityProfileLowered",
        403,
        "Security profile lower than before",
        "The station was connected more securely before: restore that, or set auth.lowestProfile of its identity.",
    )
    SECURITY_PROFILE_TOO_LOW = (
        "SecurityProfileTooLow",
        403,
        "Security profile too low",
        "Raise the station's security profile, or lower admission.min_security_profile.",
    )

    OWNED_ELSEWHERE = (
        "OwnedElsewhere",
        409,
        "Connected elsewhere",
        "Another node serves this id and its connection is alive: two stations share the id, or one has two links.",
    )

    # --- too much

    DUPLICATE_FLAPPING = (
        "DuplicateFlapping",
        429,
        "Too many reconnects",
        "Two stations share this id, or one reconnects in a loop: give each its own id, look at the station's link.",
        60,
    )
    TOO_MANY_FROM_ADDRESS = (
        "TooManyFromAddress",
        429,
        "Too many connections",
        "Raise admission.max_connections_per_address if many stations share this address.",
        30,
    )
    TOO_MANY_HALF_OPEN_FROM_ADDRESS = (
        "TooManyHalfOpenFromAddress",
        429,
        "Too many connections",
        "Many handshakes of this address do not finish: block it, or raise admission.max_half_open_per_address.",
        10,
    )
    TOO_MANY_HANDSHAKES = (
        "TooManyHandshakes",
        429,
        "Too many handshakes",
        "Raise admission.handshakes_per_minute_per_address if many stations share this address.",
        30,
    )
    TOO_MANY_REFUSALS = (
        "TooManyRefusals",
        429,
        "Too many refused handshakes",
        "Mend the stations of this address that are refused over and over (ocppgw explain --address), or block it.",
        60,
    )
    TOO_MANY_CONNECTIONS = (
        "TooManyConnections",
        503,
        "Too many connections",
        "Raise the connection limit of the listener (and the process's file limit), or add a node.",
        30,
    )
    HASHING_OVERLOADED = (
        "HashingOverloaded",
        503,
        "Too many connections",
        "More passwords wait to be hashed than can be in time: it passes; add nodes if it happens at every restart.",
        5,
    )
    STARTING = (
        "Starting",
        503,
        "Starting",
        "The gateway is still reading the identity files; stations get in once it has.",
        2,
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

    # --- before HTTP: TLS (`ocppgw.access.transport.TlsFailure.kind`)

    TLS_ON_PLAIN_PORT = (
        "TlsOnPlainPort",
        0,
        "",
        "The station speaks TLS to a port that does not: use ws:// in its URL, or the port of the TLS listener.",
    )
    TLS_PLAIN_HTTP = (
        "TlsPlainHttp",
        400,
        "TLS required",
        "The station speaks plain HTTP to a TLS port: use wss:// in its URL, or the port of the plain listener.",
    )
    TLS_NOT_TLS = (
        "TlsNotTls",
        0,
        "",
        "What was sent to the TLS port is not TLS: a scanner, or a station with a wrong port in its URL.",
    )
    TLS_VERSION = (
        "TlsVersion",
        0,
        "",
        "The station offers no TLS version that is served: update its firmware, or lower tls.min_version.",
    )
    TLS_NO_COMMON_CIPHER = (
        "TlsNoCommonCipher",
        0,
        "",
        "The station offers no cipher suite that is served: extend tls.ciphers; have an RSA and an ECDSA certificate.",
    )
    TLS_CERTIFICATE_MISSING = (
        "TlsCertificateMissing",
        0,
        "",
        "The listener demands a client certificate and the station has none: install one, or use a profile 2 port.",
    )
    TLS_CERTIFICATE_UNKNOWN_CA = (
        "TlsCertificateUnknownCa",
        0,
        "",
        "No CA in tls.ca_path signed the station's certificate: add its CA (and the intermediates) there.",
    )
    TLS_CERTIFICATE_EXPIRED = (
        "TlsCertificateExpired",
        0,
        "",
        "The station's certificate ran out: install a new one; check the gateway's clock if it should be valid.",
    )
    TLS_CERTIFICATE_NOT_YET_VALID = (
        "TlsCertificateNotYetValid",
        0,
        "",
        "The station's certificate is not valid yet: check the gateway's clock and the certificate's dates.",
    )
    TLS_CERTIFICATE_REVOKED = (
        "TlsCertificateRevoked",
        0,
        "",
        "The CA has revoked the station's certificate (CRL): install a new one and bind it (ocppgw add-cert).",
    )
    TLS_CRL_EXPIRED = (
        "TlsCrlExpired",
        0,
        "",
        'Put a fresh CRL in tls.crl_path; tls.crl_expired = "accept" lets stations in without one.',
    )
    TLS_CRL_MISSING = (
        "TlsCrlMissing",
        0,
        "",
        'Add the CRL of the certificate\'s issuer to tls.crl_path, or set tls.crl_missing = "accept".',
    )
    TLS_CERTIFICATE_INVALID = (
        "TlsCertificateInvalid",
        0,
        "",
        "The station's certificate can't be used (weak key or signature, wrong purpose, chain): issue a new one.",
    )
    TLS_REFUSED_BY_STATION = (
        "TlsRefusedByStation",
        0,
        "",
        "The station refuses this gateway: give it the CA of the gateway's certificate, and a URL with the name in it.",
    )
    TLS_BROKEN_OFF = (
        "TlsBrokenOff",
        0,
        "",
        "The station gave up during the TLS handshake: look at its link and its log; often it distrusts the gateway.",
    )
    TLS_TIMEOUT = (
        "TlsTimeout",
        0,
        "",
        "The TLS handshake did not end in time: look at the station's link, or at a load balancer's probes.",
    )
    TLS_FAILED = (
        "TlsFailed",
        0,
        "",
        "The TLS handshake failed; the detail is OpenSSL's own word for it.",
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
    `retry_after` overrides the reason's own Retry-After, in whole seconds. `is_cut`: the connection is only cut off,
    because it is too early or too dear to answer.
    """

    reason: Reason
    detail: str = ""
    retry_after: int | None = None
    is_cut: bool = False

    @property
    def status(self) -> int:
        """HTTP status code (RFC 9110 section 15), 0 when none is sent."""
        return 0 if self.is_cut else self.reason.status

    @property
    def text(self) -> str:
        """Constant phrase for status line and body."""
        return self.reason.text

    @property
    def headers(self) -> Headers:
        """Headers this answer needs beside the usual ones: the challenge, Upgrade or Retry-After."""
        seconds = self.reason.retry_after if self.retry_after is None else self.retry_after
        return (*self.reason.headers, ("Retry-After", str(seconds))) if seconds else self.reason.headers


BY_CODE = {reason.code: reason for reason in Reason}

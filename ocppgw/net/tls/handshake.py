"""What is noted of one TLS handshake while it runs, so that its end can be explained."""

from enum import Enum
from typing import Final

from OpenSSL.SSL import Error

from ocppgw.access.certificates import ClientCertificate
from ocppgw.access.hello import hello_size
from ocppgw.access.transport import CrlFault

MAX_HELLO_BYTES = 16_384
CLOSE_NOTIFY = 0

# RFC 8446 section 6, with those of TLS 1.2 and older that stations still send.
ALERTS: Final = {
    CLOSE_NOTIFY: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}


class First(Enum):
    """What the first bytes of a connection are."""

    UNDECIDED = "undecided"
    TLS = "tls"
    OLD_TLS = "old tls"
    HTTP = "http"
    OTHER = "other"


_METHODS = tuple(
    method + b" "
    for method in (b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"PATCH", b"CONNECT", b"TRACE", b"PRI")
)


def first_bytes(data: bytes) -> First:
    """TLS begins with 22, 3; a hello of SSL 2 (RFC 5246 appendix E.2) with its length, then 1 and a version."""
    if data[0] == 22:
        return First.UNDECIDED if len(data) == 1 else First.TLS if data[1] == 3 else First.OTHER
    if data.startswith(_METHODS):
        return First.HTTP
    if any(method.startswith(data) for method in _METHODS):
        return First.UNDECIDED
    if not data[0] & 0x80:
        return First.OTHER
    if len(data) < 4:
        return First.UNDECIDED
    return First.OLD_TLS if data[2] == 1 and data[3] in (0, 2, 3) else First.OTHER


class Handshake:
    """One handshake: its first bytes, the ClientHello among them, the first alert, and the faults found.

    `certificate` is the client's once its chain is verified, `leaf` the DER of one that was refused; `fault` is
    OpenSSL's number for the refusal (X509_V_ERR_*), `depth` where in the chain it is and `issuer` the issuer's name
    there, `crl_fault` what the CRLs say; `errors` are OpenSSL's words for the end.
    """

    __slots__ = (
        "alert",
        "alert_received",
        "certificate",
        "crl_fault",
        "depth",
        "errors",
        "fault",
        "first",
        "hello",
        "issuer",
        "leaf",
        "whole",
    )

    def __init__(self) -> None:
        self.first = First.UNDECIDED
        self.hello = b""
        self.whole = False
        self.alert: int | None = None
        self.alert_received = False
        self.certificate: ClientCertificate | None = None
        self.leaf = b""
        self.fault = 0
        self.depth = 0
        self.issuer = ""
        self.crl_fault: CrlFault | None = None
        self.errors: tuple[str, ...] = ()

    def received(self, data: bytes) -> None:
        """Keep what belongs to the ClientHello, until it is whole or too long."""
        self.hello = (self.hello + data)[:MAX_HELLO_BYTES]
        size = hello_size(self.hello)
        if size:
            self.hello = self.hello[:size]
        self.whole = bool(size) or len(self.hello) == MAX_HELLO_BYTES

    def alerted(self, received: bool, alert: int) -> None:
        """The first alert explains the end; a close before or after it does not."""
        if self.alert is None or self.alert == CLOSE_NOTIFY:
            self.alert, self.alert_received = alert, received

    @property
    def alert_text(self) -> str:
        """As in "sent: unknown_ca"; "" when there was none."""
        if self.alert is None:
            return ""
        return f"{'received' if self.alert_received else 'sent'}: {ALERTS.get(self.alert, self.alert)}"

    def failed(self, error: Error) -> None:
        """OpenSSL gave up: keep the reasons in its queue."""
        queue = error.args[0] if error.args and isinstance(error.args[0], list) else ()
        self.errors = tuple(reason for _, _, reason in queue if reason)


def note_alert(handshake: Handshake | None, received: bool, alert: int) -> None:
    """(openssl.on_alert) After the handshake nobody is interested."""
    if handshake is not None:
        handshake.alerted(received, alert)

"""Why a TLS handshake failed: from what was noted of it to the reason an operator reads, by tables."""

from typing import Final

from OpenSSL.SSL import X509VerificationCodes

from ocppgw.access.certificates import ClientCertificate, read_certificate
from ocppgw.access.hello import read_hello
from ocppgw.access.refusals import Reason
from ocppgw.access.transport import TlsFailure
from ocppgw.net.tls.files import printable
from ocppgw.net.tls.handshake import ALERTS, First, Handshake
from ocppgw.net.tls.openssl import error_text

_FIRST: Final = {
    First.HTTP: (Reason.TLS_PLAIN_HTTP, "an HTTP request"),
    First.OTHER: (Reason.TLS_NOT_TLS, "the first bytes are neither TLS nor HTTP"),
    First.OLD_TLS: (Reason.TLS_VERSION, "a hello in the format of SSL 2"),
}

_VERIFY: Final = {
    X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT: Reason.TLS_CERTIFICATE_UNKNOWN_CA,
    X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: Reason.TLS_CERTIFICATE_UNKNOWN_CA,
    X509VerificationCodes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: Reason.TLS_CERTIFICATE_UNKNOWN_CA,
    X509VerificationCodes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: Reason.TLS_CERTIFICATE_UNKNOWN_CA,
    X509VerificationCodes.ERR_SELF_SIGNED_CERT_IN_CHAIN: Reason.TLS_CERTIFICATE_UNKNOWN_CA,
    X509VerificationCodes.ERR_CERT_UNTRUSTED: Reason.TLS_CERTIFICATE_UNKNOWN_CA,
    X509VerificationCodes.ERR_CERT_HAS_EXPIRED: Reason.TLS_CERTIFICATE_EXPIRED,
    X509VerificationCodes.ERR_CERT_NOT_YET_VALID: Reason.TLS_CERTIFICATE_NOT_YET_VALID,
    X509VerificationCodes.ERR_CERT_REVOKED: Reason.TLS_CERTIFICATE_REVOKED,
    X509VerificationCodes.ERR_CRL_HAS_EXPIRED: Reason.TLS_CRL_EXPIRED,
    X509VerificationCodes.ERR_UNABLE_TO_GET_CRL: Reason.TLS_CRL_MISSING,
}

_RECEIVED: Final = {
    "close_notify": Reason.TLS_BROKEN_OFF,
    "user_canceled": Reason.TLS_BROKEN_OFF,
    "protocol_version": Reason.TLS_VERSION,
    "unknown_ca": Reason.TLS_REFUSED_BY_STATION,
    "bad_certificate": Reason.TLS_REFUSED_BY_STATION,
    "certificate_unknown": Reason.TLS_REFUSED_BY_STATION,
    "certificate_expired": Reason.TLS_REFUSED_BY_STATION,
    "certificate_revoked": Reason.TLS_REFUSED_BY_STATION,
    "unsupported_certificate": Reason.TLS_REFUSED_BY_STATION,
    "bad_certificate_status_response": Reason.TLS_REFUSED_BY_STATION,
    "access_denied": Reason.TLS_REFUSED_BY_STATION,
}

# OpenSSL's reason strings.
_ERRORS: Final = {
    "unsupported protocol": Reason.TLS_VERSION,
    "wrong version number": Reason.TLS_VERSION,
    "version too low": Reason.TLS_VERSION,
    "inappropriate fallback": Reason.TLS_VERSION,
    "no shared cipher": Reason.TLS_NO_COMMON_CIPHER,
    "no suitable signature algorithm": Reason.TLS_NO_COMMON_CIPHER,
    "no shared signature algorithms": Reason.TLS_NO_COMMON_CIPHER,
    "no suitable key share": Reason.TLS_NO_COMMON_CIPHER,
    "no suitable groups": Reason.TLS_NO_COMMON_CIPHER,
    "no shared groups": Reason.TLS_NO_COMMON_CIPHER,
    "peer did not return a certificate": Reason.TLS_CERTIFICATE_MISSING,
    "certificate verify failed": Reason.TLS_CERTIFICATE_INVALID,
    "bad signature": Reason.TLS_CERTIFICATE_INVALID,
}


def failure(handshake: Handshake, version: str) -> TlsFailure:
    """Of a handshake that ended without success. `version` is OpenSSL's: the client's highest until one is agreed."""
    reason, detail = _reason(handshake)
    agreed = handshake.whole and reason not in (Reason.TLS_VERSION, Reason.TLS_NO_COMMON_CIPHER)
    hello = read_hello(handshake.hello) if handshake.first is First.TLS else None
    return TlsFailure(
        kind=reason.code,
        detail=detail,
        alert=handshake.alert_text,
        version=version if agreed else "",
        server_name=hello.server_name if hello else "",
        certificate=_certificate(handshake),
        hello=handshake.hello if hello else b"",  # what is no TLS may hold a password
        is_silent=handshake.first is First.UNDECIDED and not handshake.hello,
    )


def _reason(handshake: Handshake) -> tuple[Reason, str]:
    if handshake.first in _FIRST:
        return _FIRST[handshake.first]
    if handshake.fault:
        return _VERIFY.get(handshake.fault, Reason.TLS_CERTIFICATE_INVALID), _verify_detail(handshake)
    if handshake.alert_received and handshake.alert is not None:
        name = ALERTS.get(handshake.alert, "")
        return _RECEIVED.get(name, Reason.TLS_FAILED), f"the station sent the alert {name or handshake.alert}"
    if handshake.errors:
        known = (_ERRORS[word] for word in handshake.errors if word in _ERRORS)
        return next(known, Reason.TLS_FAILED), f"OpenSSL says: {'; '.join(handshake.errors)}"
    return Reason.TLS_BROKEN_OFF, _where_it_ended(handshake)


def _verify_detail(handshake: Handshake) -> str:
    if handshake.crl_fault is not None:
        return handshake.crl_fault.detail
    words = f"{error_text(handshake.fault)} ({handshake.fault})"
    if handshake.depth:
        words += f", {handshake.depth} above the station's own"
    return f"{words}; issued by {printable(handshake.issuer)}" if handshake.issuer else words


def _where_it_ended(handshake: Handshake) -> str:
    if not handshake.hello:
        return "closed before a byte was sent"
    return "closed after the gateway's first answer" if handshake.whole else "closed before the ClientHello was whole"


def _certificate(handshake: Handshake) -> ClientCertificate | None:
    if handshake.certificate is not None or not handshake.leaf:
        return handshake.certificate
    try:
        return read_certificate(handshake.leaf)
    except ValueError:
        return None

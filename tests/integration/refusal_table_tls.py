"""Who is refused and why, and who is let in: TLS handshakes and client certificates (see `refusal_rows`)."""

import ssl

from ocppgw.access.refusals import Reason
from tests.integration.knocking import ANY_CIPHER, Tls, client_hello
from tests.integration.refusal_rows import (
    KNOWN,
    PASSWORD,
    V12,
    V13,
    bound_to,
    fingerprint,
    mtls,
    password_hash,
    row,
)

OLD_VERSION = Tls(version=ssl.TLSVersion.TLSv1_1, ciphers=ANY_CIPHER)
OLD_CIPHERS = Tls(version=V12, ciphers="AES128-SHA:ECDHE-RSA-AES256-SHA")
SSL_2 = b"\x80\x1c\x01\x03\x01\x00\x03\x00\x00"
REMOTE_DESKTOP = b"\x03\x00\x00\x13\x0e\xe0\x00\x00"
APPLICATION_DATA = b"\x17\x03\x03\x00\x02hi"


def only(ciphers: str) -> Tls:
    return Tls(version=V12, ciphers=ciphers)


HANDSHAKES = [
    row("TLS on a plain port", Reason.TLS_ON_PLAIN_PORT, tls=Tls(), detail="ClientHello"),
    row("plain HTTP on a TLS port", Reason.TLS_PLAIN_HTTP, port="request", **KNOWN),
    row("neither TLS nor HTTP", Reason.TLS_NOT_TLS, port="tls", raw=REMOTE_DESKTOP),
    row("TLS 1.1", Reason.TLS_VERSION, port="request", tls=OLD_VERSION, alert="protocol_version"),
    row("SSL 2", Reason.TLS_VERSION, port="tls", raw=SSL_2, detail="SSL 2"),
    row("old ciphers", Reason.TLS_NO_COMMON_CIPHER, port="tls", tls=OLD_CIPHERS, alert="handshake_failure"),
    row("no certificate", Reason.TLS_CERTIFICATE_MISSING, port="mtls", tls=Tls(), alert="certificate_required"),
    row(
        "no certificate, TLS 1.2",
        Reason.TLS_CERTIFICATE_MISSING,
        port="mtls",
        tls=Tls(version=V12),
        alert="handshake_failure",
    ),
    row(
        "a foreign CA",
        Reason.TLS_CERTIFICATE_UNKNOWN_CA,
        certificate="foreign",
        alert="unknown_ca",
        detail="Foreign CA",
    ),
    row(
        "a foreign CA, needlessly",
        Reason.TLS_CERTIFICATE_UNKNOWN_CA,
        certificate="foreign",
        port="request",
        alert="unknown_ca",
    ),
    row("its own signature", Reason.TLS_CERTIFICATE_UNKNOWN_CA, certificate="self-signed", alert="unknown_ca"),
    row("an expired certificate", Reason.TLS_CERTIFICATE_EXPIRED, certificate="expired", alert="certificate_expired"),
    row("a certificate for later", Reason.TLS_CERTIFICATE_NOT_YET_VALID, certificate="early", alert="bad_certificate"),
    row(
        "a revoked certificate",
        Reason.TLS_CERTIFICATE_REVOKED,
        certificate="revoked",
        alert="certificate_revoked",
        detail="in the CRL of O=Operator,CN=Operator CA",
    ),
    row(
        "a revoked certificate, needlessly, TLS 1.2",
        Reason.TLS_CERTIFICATE_REVOKED,
        port="request",
        tls=Tls("revoked", V12),
        alert="certificate_revoked",
    ),
    row(
        "a revoked CA",
        Reason.TLS_CERTIFICATE_REVOKED,
        certificate="fallen",
        alert="certificate_revoked",
        detail="Root CA",
    ),
    row("an old CRL", Reason.TLS_CRL_EXPIRED, certificate="late", alert="certificate_expired", detail="Late CA"),
    row("no CRL", Reason.TLS_CRL_MISSING, certificate="silent", alert="unknown_ca", detail="Silent CA"),
    row(
        "a server's certificate",
        Reason.TLS_CERTIFICATE_INVALID,
        certificate="server's",
        alert="unsupported_certificate",
    ),
    row(
        "a key of 1024 bits",
        Reason.TLS_CERTIFICATE_INVALID,
        port="mtls",
        tls=Tls("weak", ciphers=ANY_CIPHER),
        alert="bad_certificate",
        detail="key too weak",
    ),
    row(
        "a certificate that can't be read",
        Reason.TLS_CERTIFICATE_INVALID,
        certificate="unreadable",
        alert="decrypt_error",
    ),
    row(
        "a station that distrusts the gateway",
        Reason.TLS_REFUSED_BY_STATION,
        port="tls",
        tls=Tls(trusts=False),
        alert="received: unknown_ca",
    ),
    row("half a hello, and away", Reason.TLS_BROKEN_OFF, port="tls", raw=client_hello()[:50], hangs_up=True),
    row("a hello, and away", Reason.TLS_BROKEN_OFF, port="tls", raw=client_hello(), hangs_up=True),
    row(
        "data too early",
        Reason.TLS_FAILED,
        port="tls",
        raw=client_hello() + APPLICATION_DATA,
        alert="unexpected_message",
    ),
    row("TLS 1.2, RSA", port="tls", tls=only("ECDHE-RSA-AES128-GCM-SHA256"), **KNOWN),
    row("TLS 1.2, P-256", port="tls", tls=only("ECDHE-ECDSA-AES256-GCM-SHA384"), **KNOWN),
    row("TLS 1.2 without forward secrecy", port="tls", tls=only("AES128-GCM-SHA256"), **KNOWN),
    row("TLS 1.3", port="request", tls=Tls(version=V13), **KNOWN),
    row("a foreign CA where nobody asks", port="tls", tls=Tls("foreign"), **KNOWN),
]

LISTED = bound_to("listed")

CERTIFICATES = [
    row("a good certificate of nobody", Reason.UNKNOWN_STATION_CERTIFICATE, certificate="ec"),
    row(
        "the same with a password", Reason.UNKNOWN_STATION_CERTIFICATE, port="request", tls=Tls("ec"), password=PASSWORD
    ),
    row("an identity that binds none", Reason.CERTIFICATE_NOT_BOUND, stored=mtls(), certificate="ec"),
    row(
        "another station's certificate",
        Reason.CERTIFICATE_MISMATCH,
        stored=bound_to("rsa"),
        certificate="ec",
        detail="match none of the 1 bindings",
    ),
    row(
        "a damaged identity, but a good certificate",
        Reason.IDENTITY_INVALID,
        stored=mtls(fingerprint("ec", validTo="tomorrow"), username=""),
        is_valid=False,
        certificate="ec",
        detail="auth.username must be a text",
    ),
    row("a common name alone", Reason.CERTIFICATE_MISMATCH, id="P-256", stored=bound_to("rsa"), certificate="ec"),
    row("a subject in other case", Reason.CERTIFICATE_MISMATCH, stored=mtls({"subject": "CN=p-256"}), certificate="ec"),
    row(
        "a binding for another id",
        Reason.CERTIFICATE_OF_ANOTHER_STATION,
        stored=mtls(fingerprint("ec", chargePointId="CP-1")),
        certificate="ec",
        detail="is for 'CP-1'",
    ),
    row(
        "a binding for later",
        Reason.CERTIFICATE_BINDING_NOT_YET,
        stored=mtls(fingerprint("ec", validFrom="2999-01-01T00:00:00Z")),
        certificate="ec",
        detail="begins 2999-01-01",
    ),
    row(
        "a binding that is over",
        Reason.CERTIFICATE_BINDING_OVER,
        stored=mtls(fingerprint("ec", validTo="2020-01-01T00:30:00+01:00")),
        certificate="ec",
        detail="ended 2019-12-31T23:30:00",
    ),
    row(
        "a revoked binding",
        Reason.CERTIFICATE_BINDING_REVOKED,
        stored=mtls(fingerprint("ec", status="revoked")),
        certificate="ec",
        detail="is revoked",
    ),
    row(
        "a revoked binding beside a wide one",
        Reason.CERTIFICATE_BINDING_REVOKED,
        stored=mtls({"subject": "P-256"}, fingerprint("ec", status="revoked")),
        certificate="ec",
    ),
    row("the denylist", Reason.CERTIFICATE_REVOKED, stored=LISTED, certificate="listed", detail="denylist: stolen"),
    row("the denylist, password or not", Reason.CERTIFICATE_REVOKED, port="request", tls=Tls("listed"), **KNOWN),
    row(
        "the denylist, in a resumed session",
        Reason.CERTIFICATE_REVOKED,
        stored=LISTED,
        port="mtls",
        tls=Tls("listed", V12, resumes=True),
    ),
    row(
        "the identity's own list",
        Reason.CERTIFICATE_REVOKED_BY_IDENTITY,
        stored={**bound_to("ec"), "revokedFingerprints": ["fingerprint of ec"]},
        certificate="ec",
        detail="revokedFingerprints",
    ),
    row(
        "another operator's certificate",
        Reason.CERTIFICATE_ORGANIZATION,
        stored=bound_to("stranger's"),
        certificate="stranger's",
        detail="its organization is Stranger",
    ),
    row(
        "a certificate that runs out after the handshake",
        Reason.CERTIFICATE_EXPIRED,
        stored=mtls({"subject": "BRIEF"}),
        certificate="brief",
        before_request="it runs out",
    ),
    row(
        "a new CRL after the handshake",
        Reason.CERTIFICATE_REVOKED_BY_CRL,
        stored=bound_to("ec"),
        certificate="ec",
        before_request="a CRL revokes it",
    ),
    row(
        "a CRL that is old after the handshake",
        Reason.CRL_EXPIRED,
        stored=bound_to("ec"),
        certificate="ec",
        before_request="the CRL gets old",
    ),
    row(
        "no CRL after the handshake",
        Reason.CRL_MISSING,
        stored=bound_to("ec"),
        certificate="ec",
        before_request="the CRL is gone",
    ),
    row("its own certificate, P-256", stored=bound_to("ec"), certificate="ec"),
    row("its own certificate, RSA 2048, TLS 1.2", stored=bound_to("rsa"), port="mtls", tls=Tls("rsa", V12)),
    row("its own certificate, needlessly", stored=bound_to("ec"), port="request", tls=Tls("ec")),
    row(
        "its own certificate, in a resumed session",
        stored=bound_to("ec"),
        port="mtls",
        tls=Tls("ec", V12, resumes=True),
    ),
    row("the new one of two", stored=bound_to("rsa", "ec"), certificate="ec"),
    row(
        "a binding that is over beside one that is not",
        stored=mtls(fingerprint("ec", validTo="2020-01-01T00:00:00Z"), {"subject": "CN=P-256"}),
        certificate="ec",
    ),
    row("its serial number", stored=mtls({"serialNumber": "serial number of ec"}), certificate="ec"),
    row("its whole subject in OpenSSL's order", stored=mtls({"subject": "CN=P-256, O=Operator"}), certificate="ec"),
    row(
        "its subjectAltName in other case", stored=mtls({"subjectAltName": "DNS:CP-NAMED.Example"}), certificate="named"
    ),
    row("the other organization allowed", stored=bound_to("partner's"), certificate="partner's"),
    row(
        "a certificate handed out and not yet seen",
        stored=mtls(pendingCertificates=[fingerprint("ec")]),
        certificate="ec",
    ),
    row(
        "a password beside somebody else's certificate",
        stored=password_hash(allowedTypes=["mtls", "basic"], certificates=[{"subject": "OTHER"}]),
        password=PASSWORD,
        port="request",
        tls=Tls("ec"),
    ),
    row("a certificate that it needs not", port="request", tls=Tls("ec"), **KNOWN),
]

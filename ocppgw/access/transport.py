"""How a station's connection is secured, as the TLS layer saw it: facts for the decision and for `ocppgw explain`."""

from dataclasses import dataclass

from ocppgw.access.certificates import ClientCertificate


@dataclass(frozen=True, slots=True)
class CrlFault:
    """Why a certificate can't pass the revocation check: `kind` is revoked, expired (the CRL) or missing (there is no
    CRL of its issuer); `detail` is one sentence."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """One TLS connection.

    `version` as in "TLSv1.3"; `server_name` the SNI ("" without); `certificate` only when its chain was verified, in
    this handshake or in the one whose session is resumed; `hello` the raw ClientHello (TLS records, RFC 8446 section
    4.1.2), read when somebody asks. `asked` tells whether this listener asks for client certificates at all.
    """

    version: str
    cipher: str
    server_name: str = ""
    resumed: bool = False
    asked: bool = False
    certificate: ClientCertificate | None = None
    crl_fault: CrlFault | None = None
    hello: bytes = b""


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """A TLS handshake that did not finish.

    `kind` is a constant (see `ocppgw.access.refusals`: the reasons whose code starts with Tls); `alert` the alert's
    name with its direction, as "sent: unknown_ca" ("" without); `certificate` the one that was presented, verified or
    not, None when there was none or it can't be read. `is_silent`: not a byte came, as of a load balancer's probe.
    """

    kind: str
    detail: str
    alert: str = ""
    version: str = ""
    server_name: str = ""
    certificate: ClientCertificate | None = None
    hello: bytes = b""
    is_silent: bool = False

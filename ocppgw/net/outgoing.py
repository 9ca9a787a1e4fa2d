"""TLS of the connections that are opened from here: who is at the other end is proved, or nothing is sent.

A server's chain must end at a trusted root, and its subjectAltName must have the host that was asked for, a name or an
IP address (RFC 9525; service-identity). Twisted's `optionsForClientTLS` has the same aim, but as of Twisted 26.10 a
certificate without any subjectAltName passes for every host: its verify callback logs service-identity's
CertificateError and then accepts. Here only what was found good is good, and a refusal says why.
"""

import ipaddress
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509
from OpenSSL.SSL import X509VerificationCodes as Codes
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from ocppgw.access.certificates import name_text, read_certificate
from ocppgw.errors import ConfigError
from ocppgw.pki.files import read_certificates, read_credentials
from ocppgw.pki.pem import Credentials, PkiError

MAX_NAMES_SHOWN = 5
_ALERT = re.compile(r"\balert (.+)$")
_UNKNOWN_CA = {
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
    Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
}

Chain = tuple[x509.Certificate, ...]
Service = DNS_ID | IPAddress_ID


class UntrustedServer(SSL.Error):
    """The server's certificate is refused; the message says why.

    Twisted hands it to `connectionLost`, as it does with every SSL.Error. `args` has the shape of OpenSSL's error
    queue, which Twisted and Autobahn take apart.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__([("", "", sentence)])
        self._sentence = sentence

    def __str__(self) -> str:
        return self._sentence


def client_tls(
    host: str, trust: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> IOpenSSLClientConnectionCreator:
    """What `wrapClientTLS` and `startTLS` want, for connections to `host`. See TlsClient."""
    return TlsClient(host, trust).creator(certificate, key)


class TlsClient:
    """TLS ≥ 1.2 to one host, with any number of client certificates (a fleet of stations, each with its own).

    `trust`: a PEM file of CA certificates; None: the system's, or those of SSL_CERT_FILE. Reads files, so make it at
    start or in a thread. Raises an OcppgwError that names the file, or the host, and what is wrong with it.
    """

    def __init__(self, host: str, trust: Path | None = None) -> None:
        self._service = _service(host)
        self._trusted = "the system" if trust is None else str(trust)
        self._roots: Any = platformTrust() if trust is None else _roots(trust)
        self._contexts: dict[Chain, SSL.Context] = {}  # the system's roots take a megabyte: not one for each station

    def creator(self, certificate: Path | None = None, key: Path | None = None) -> IOpenSSLClientConnectionCreator:
        """Makes connections that present the certificate of a PEM file with its chain, and its key from that file or
        from one of its own; without a certificate they present none."""
        if certificate is None:
            return _Creator(self._context(()), self._service, self._trusted, None)
        credentials = read_credentials(certificate, key)
        creator = _Creator(self._context(credentials.chain), self._service, self._trusted, credentials)
        try:
            creator.connection()
        except SSL.Error as error:
            raise PkiError(f"OpenSSL can't use the certificate in {certificate}: {tls_fault(error)}") from error
        return creator

    def _context(self, chain: Chain) -> SSL.Context:
        if chain not in self._contexts:
            options = CertificateOptions(trustRoot=self._roots, raiseMinimumTo=TLSVersion.TLSv1_2)
            context = options.getContext()
            for certificate in chain:
                context.add_extra_chain_cert(certificate)
            self._contexts[chain] = context
        return self._contexts[chain]


def tls_fault(error: BaseException | None) -> str:
    """Why TLS failed, from what `connectionLost` was given; "" when it was not TLS that failed."""
    if isinstance(error, UntrustedServer):
        return str(error)
    queue = error.args[0] if isinstance(error, SSL.Error) and error.args else None
    if not isinstance(queue, list) or not queue:
        return ""
    reason = queue[-1][2]
    alert = _ALERT.search(reason)
    return f"the server ended TLS with the alert {alert[1]!r}" if alert else f"TLS failed: {reason}"


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, context: SSL.Context, service: Service, trusted: str, credentials: Credentials | None) -> None:
        self._context = context
        self._service = service
        self._trusted = trusted
        self._credentials = credentials

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803
        return self.connection()

    def connection(self) -> SSL.Connection:
        connection = _Connection(self._context, self._service, self._trusted)
        if isinstance(self._service, DNS_ID):  # RFC 6066 section 3: no IP addresses in SNI
            connection.set_tlsext_host_name(self._service.hostname)
        if self._credentials is not None:
            connection.use_certificate(self._credentials.certificate)
            connection.use_privatekey(self._credentials.key)  # type: ignore[arg-type]
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _accept)
        return connection


class _Connection(SSL.Connection):
    """Ends a refused handshake with the reason, where OpenSSL only says "certificate verify failed"; the server is told
    by OpenSSL's alert all the same."""

    def __init__(self, context: SSL.Context, service: Service, trusted: str) -> None:
        super().__init__(context, None)
        self.service = service
        self.trusted = trusted
        self.fault = ""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except SSL.Error as error:
            if self.fault:
                raise UntrustedServer(self.fault) from error
            raise


def _accept(connection: SSL.Connection, certificate: X509, error: int, depth: int, chain_is_good: int) -> bool:
    """OpenSSL asks for each certificate of the chain, from the root down; an exception here means no, too."""
    assert isinstance(connection, _Connection)
    shown = certificate.to_cryptography()
    if not chain_is_good:
        fault = _chain_fault(shown, error, depth, connection.trusted)
    else:
        fault = _name_fault(shown, connection.service) if depth == 0 else ""
    connection.fault = connection.fault or fault
    return not fault


def _name_fault(certificate: x509.Certificate, service: Service) -> str:
    try:
        verify_service_identity(extract_patterns(certificate), [service], [])
    except (VerificationError, CertificateError, ValueError):
        names = read_certificate(certificate.public_bytes(Encoding.DER)).names
        holder = ", ".join(names[:MAX_NAMES_SHOWN]) or "no host at all (it has no subjectAltName)"
        return f"the server's certificate is for {holder}, not for {_host(service)}"
    return ""


def _chain_fault(certificate: x509.Certificate, error: int, depth: int, trusted: str) -> str:
    whose = "the server's certificate" if depth == 0 else f"the CA certificate {name_text(certificate.subject)}"
    if error in _UNKNOWN_CA:
        return f"{whose} was signed by {name_text(certificate.issuer)}, which is not among the CAs of {trusted}"
    if error == Codes.ERR_CERT_HAS_EXPIRED:
        return f"{whose} expired on {_date(certificate.not_valid_after_utc)}"
    if error == Codes.ERR_CERT_NOT_YET_VALID:
        return f"{whose} is not valid before {_date(certificate.not_valid_before_utc)}"
    if error == Codes.ERR_INVALID_PURPOSE:
        return f"{whose} is not made for {'a server' if depth == 0 else 'a CA'}"
    return f"{whose} can't be used (X.509 verification error {error})"


def _service(host: str) -> Service:
    try:
        return IPAddress_ID(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return DNS_ID(host)
    except ValueError as error:
        raise ConfigError(f"{host!r} is neither a host name nor an IP address") from error


def _host(service: Service) -> str:
    return service.hostname.decode() if isinstance(service, DNS_ID) else str(service.ip)


def _roots(trust: Path) -> Any:
    return trustRootFromCertificates([Certificate(X509.from_cryptography(one)) for one in read_certificates(trust)])


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

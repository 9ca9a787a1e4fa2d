"""Which client certificates are let in: OpenSSL verifies the chain, the CRLs are asked here."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from OpenSSL.SSL import Connection, X509VerificationCodes

from ocppgw.access.certificates import ClientCertificate, read_certificate
from ocppgw.access.transport import CrlFault
from ocppgw.net.tls import openssl
from ocppgw.net.tls.crl import Crls
from ocppgw.net.tls.handshake import Handshake

CERTIFICATES_KEPT = 20_000  # about 30 MB

# The error decides which alert OpenSSL sends to the station.
CRL_ERRORS: Final = {
    "revoked": X509VerificationCodes.ERR_CERT_REVOKED,
    "expired": X509VerificationCodes.ERR_CRL_HAS_EXPIRED,
    "missing": X509VerificationCodes.ERR_UNABLE_TO_GET_CRL,
}


class Verifier:
    """Judges the client certificates of one generation of contexts, and remembers those it verified.

    It remembers them with their whole chain, because of a resumed session OpenSSL knows the leaf alone; and a station
    that comes again with a full handshake isn't parsed anew. `crls` gives the newest ones: a handshake that began
    before a swap ends by the new CRLs.
    """

    def __init__(self, crls: Callable[[], Crls], clock: Callable[[], float], kept: int = CERTIFICATES_KEPT) -> None:
        self._crls = crls
        self._clock = clock
        self._kept = kept
        self._known: OrderedDict[bytes, tuple[tuple[bytes, ...], ClientCertificate]] = OrderedDict()

    def judge(self, handshake: Handshake, asked: openssl.Verification) -> int:
        """(openssl.Judge) OpenSSL found a fault, or has come to the leaf and found none."""
        error = asked.error
        if not error:
            handshake.certificate = self._verified(asked)
            handshake.crl_fault = self.crl_fault(handshake.certificate)
            if handshake.crl_fault is None:
                return 0
            error = CRL_ERRORS[handshake.crl_fault.kind]
        elif not handshake.leaf:
            handshake.leaf = asked.leaf()
            handshake.issuer = _issuer(asked.at_fault())
        handshake.fault, handshake.depth = error, asked.depth
        return error

    def crl_fault(self, certificate: ClientCertificate) -> CrlFault | None:
        """What the newest CRLs say now."""
        return self._crls().fault(certificate, self._clock())

    def recall(self, connection: Connection) -> ClientCertificate | None:
        """The certificate of a resumed session: with its chain if that is still known."""
        leaf = openssl.peer(connection)
        if leaf is None:
            return None
        fingerprint, der = leaf
        known = self._known.get(fingerprint)
        return read_certificate(der()) if known is None else known[1]

    def forget(self) -> None:
        """After a swap: live connections keep their old contexts, which need not keep this."""
        self._known.clear()

    def _verified(self, asked: openssl.Verification) -> ClientCertificate:
        prints = asked.fingerprints()
        known = self._known.pop(prints[0], None)
        if known is None or known[0] != prints:
            leaf, *above = asked.chain()
            known = (prints, read_certificate(leaf, above))
        self._known[prints[0]] = known
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return known[1]


def _issuer(der: bytes) -> str:
    """Who issued a certificate that was refused; "" when it can't be read."""
    try:
        return read_certificate(der).issuer
    except ValueError:
        return ""

"""Certificate revocation lists (RFC 5280 section 5): complete ones, one a CA, each with the next number."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256

from ocppgw.access.certificates import name_text, serial_text
from ocppgw.pki.issuing import CLOCK_SKEW, DAY, key_identifier, moment, signing_key
from ocppgw.pki.pem import Credentials, PkiError, is_issued_by

CRL_DAYS = 30.0
ALREADY_REVOKED = "AlreadyRevoked"


def make_crl(
    issuer: Credentials,
    now: float,
    *,
    days: float = CRL_DAYS,
    previous: x509.CertificateRevocationList | None = None,
    revoke: x509.Certificate | None = None,
) -> x509.CertificateRevocationList:
    """The CRL that follows `previous`: the same revocations and `revoke`, good for `days` from now."""
    begin, end = moment(now - CLOCK_SKEW), moment(now + days * DAY)
    number = x509.CRLNumber(1 if previous is None else _number(previous) + 1)
    known = [] if previous is None else list(previous)
    builder = (
        x509.CertificateRevocationListBuilder(issuer.certificate.subject, begin, end, revoked_certificates=known)
        .add_extension(number, critical=False)
        .add_extension(key_identifier(issuer.certificate), critical=False)
    )
    if revoke is not None:
        builder = builder.add_revoked_certificate(_entry(issuer, previous, revoke, now))
    return builder.sign(signing_key(issuer), SHA256())


def parse_crl(pem: bytes, source: str, issuer: Credentials) -> x509.CertificateRevocationList:
    """The CRL in a PEM text; PkiError unless `issuer` signed it."""
    try:
        crl = x509.load_pem_x509_crl(pem)
        genuine = crl.is_signature_valid(_public_key(issuer.certificate))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{source} holds no readable CRL") from error
    if not genuine:
        raise PkiError(f"{source} is not a CRL of {name_text(issuer.certificate.subject)}")
    return crl


def _entry(
    issuer: Credentials, previous: x509.CertificateRevocationList | None, certificate: x509.Certificate, now: float
) -> x509.RevokedCertificate:
    number, subject = certificate.serial_number, name_text(certificate.subject)
    if not is_issued_by(certificate, issuer.certificate):
        raise PkiError(f"{subject} was not signed by {name_text(issuer.certificate.subject)}")
    if previous is not None and previous.get_revoked_certificate_by_serial_number(number) is not None:
        raise PkiError(f"{subject} (serial number {serial_text(number)}) is revoked already", code=ALREADY_REVOKED)
    return x509.RevokedCertificateBuilder(number, moment(now)).build()


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _public_key(certificate: x509.Certificate) -> CertificateIssuerPublicKeyTypes:
    return certificate.public_key()  # type: ignore[return-value]  # a CA's key signs

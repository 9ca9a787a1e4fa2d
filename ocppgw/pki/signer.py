"""A local CA that signs stations' certificate requests: SignCertificate in, the chain of CertificateSigned out.

The request is a stranger's text: `check` says what is wrong with it, and only its public key and its name reach the
certificate. What it asks to be allowed (another CA, a longer life) is not looked at.
"""

from collections.abc import Collection
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ocppgw.access.certificates import read_certificate
from ocppgw.pki.issuing import RSA_BITS, STATION, SerialNumbers, chain_below, issue, name, organization_of, signing_key
from ocppgw.pki.pem import Credentials, PkiError, certificates_pem, parse_credentials

MIN_EC_BITS = 224
MAX_SHOWN = 64  # characters of a name in the request that are repeated in a fault


@dataclass(frozen=True)
class Issued:
    """A certificate that was signed: `chain_pem` has it first, then the CAs above it without the root. The spellings
    are those of `ocppgw.access.certificates`, the times seconds since the epoch."""

    chain_pem: str
    fingerprint: str
    subject: str
    serial_number: str
    not_before: float
    not_after: float


class _Unfit(Exception):
    """The request can't be signed; the message is the fault."""


class Signer:
    """Signs with one CA.

    - `ca_certificate_pem`: the CA's certificate, then the CAs above it (the root may be left out)
    - `ca_key_pem`: its key, not encrypted
    - `organization`: O of the certificates; by default the O of the CA's own subject

    Raises PkiError when they can't be used, with `source` in its message.
    """

    def __init__(
        self,
        ca_certificate_pem: bytes,
        ca_key_pem: bytes,
        *,
        valid_days: float,
        organization: str | None = None,
        source: str = "the signing CA's certificate file",
        key_source: str = "the signing CA's key file",
        serial_number: SerialNumbers = x509.random_serial_number,
    ) -> None:
        self._ca = parse_credentials(ca_certificate_pem, source, ca_key_pem, key_source)
        _check_ca(self._ca, source)
        own = organization_of(self._ca.certificate)
        self._organization = own if organization is None else organization
        self._valid_days = valid_days
        self._serial_number = serial_number

    def own_fault(self, now: float) -> str:
        """Why the CA itself can't sign now, "" when it can; `now` in seconds since the epoch."""
        end = self._ca.certificate.not_valid_after_utc
        return f"the CA's certificate ended {end:%Y-%m-%d %H:%M} UTC" if now >= end.timestamp() else ""

    def check(self, csr_pem: str, allowed_names: Collection[str]) -> str:
        """What keeps the request from being signed, in one sentence; "" when nothing does.

        `allowed_names`: the station's id and its serial number, if known. CN must be one of them, and so must be every
        name in subjectAltName.
        """
        try:
            request = _request(csr_pem)
            _check_names(_common_name(request), _alternative_names(request), allowed_names)
        except _Unfit as fault:
            return str(fault)
        return ""

    def sign(self, csr_pem: str, now: float) -> Issued:
        """The certificate for a request that `check` found nothing wrong with. PkiError when the CA has run out, or
        when the request is not a sound one."""
        try:
            request = _request(csr_pem)
            subject = name(_common_name(request), self._organization)
            names = _alternative_names(request)
        except _Unfit as fault:
            raise PkiError(f"the certificate request can't be signed: {fault}") from fault
        certificate = issue(
            self._ca,
            STATION,
            subject,
            _public_key(request),
            now,
            days=self._valid_days,
            serial_number=self._serial_number(),
            names=names,
        )
        return _issued(certificate, chain_below(self._ca))


def _issued(certificate: x509.Certificate, above: tuple[x509.Certificate, ...]) -> Issued:
    facts = read_certificate(certificate.public_bytes(Encoding.DER))
    return Issued(
        chain_pem=certificates_pem((certificate, *above)).decode(),
        fingerprint=facts.fingerprint,
        subject=facts.subject,
        serial_number=facts.serial_number,
        not_before=facts.not_before,
        not_after=facts.not_after,
    )


def _check_ca(ca: Credentials, source: str) -> None:
    signing_key(ca)
    try:
        constraints = ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = ca.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise PkiError(f"{source} is no CA certificate: it lacks basicConstraints or keyUsage") from error
    if not (constraints.ca and usage.key_cert_sign):
        raise PkiError(f"{source} is no CA certificate", hint="it may not sign others: use an issuing CA's")


def _request(csr_pem: str) -> x509.CertificateSigningRequest:
    """The request, its signature and its key checked."""
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        genuine = request.is_signature_valid
    except (ValueError, x509.InvalidVersion) as error:
        raise _Unfit("it is no readable PEM certificate request") from error
    except UnsupportedAlgorithm as error:
        raise _Unfit("its key or signature is of an unknown kind: RSA or ECDSA with SHA-256 is expected") from error
    if not genuine:
        raise _Unfit("its signature is wrong: it was not made with the key it names")
    _check_key(key)
    return request


def _check_key(key: object) -> None:
    match key:
        case rsa.RSAPublicKey():
            if key.key_size < RSA_BITS:
                raise _Unfit(f"its RSA key has {key.key_size} bits: at least {RSA_BITS} are needed")
        case ec.EllipticCurvePublicKey():
            if key.curve.key_size < MIN_EC_BITS:
                raise _Unfit(f"its key is on the curve {key.curve.name}: at least P-224 is needed, P-256 is usual")
        case _:
            raise _Unfit("its key is neither RSA nor ECDSA")


def _check_names(common_name: str, names: list[x509.GeneralName], allowed: Collection[str]) -> None:
    if common_name not in allowed:
        raise _Unfit(f"its CN is {_shown(common_name)}, which is neither the station's id nor its serial number")
    folded = {text.casefold() for text in allowed}
    for other in names:
        text = str(other.value)
        known = text.casefold() in folded if isinstance(other, x509.DNSName) else text in allowed
        if not known:
            raise _Unfit(f"it asks for the name {_shown(text)}: neither the station's id nor its serial number")


def _common_name(request: x509.CertificateSigningRequest) -> str:
    try:
        found = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise _Unfit("its subject can't be read") from error
    if len(found) != 1:
        raise _Unfit("its subject needs one CN, the station's id or serial number" + (", not several" if found else ""))
    value = found[0].value
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _Unfit("its extensions can't be read") from error


def _public_key(request: x509.CertificateSigningRequest) -> CertificatePublicKeyTypes:
    return request.public_key()


def _shown(text: str) -> str:
    return repr(text[:MAX_SHOWN]) + ("…" if len(text) > MAX_SHOWN else "")

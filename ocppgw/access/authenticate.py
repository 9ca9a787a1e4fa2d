"""Whether a station is who it says it is: HTTP Basic (RFC 7617) or a token (RFC 6750, `x-api-key`), by its identity.

    Authorization: Basic base64(chargePointId ":" password)       password: any octets, ':' included
    Authorization: Bearer token                                   or   X-Api-Key: token

The work is split in two because scrypt takes tens of milliseconds: `prepare` reads the headers on the reactor,
`Check.verify` hashes and compares, in a thread where `needs_thread` says so. Everything compared is bytes: a 1.6
AuthorizationKey is 16 to 20 arbitrary octets (OCPP-J 1.6 section 6.2.2), a 2.x password UTF-8.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from ocppgw.access.identity import NO_AUTH, Auth, Identity, StoredSecret
from ocppgw.access.refusals import Reason, Refused

SCRYPT_N, SCRYPT_R, SCRYPT_P = 16384, 8, 1
_SCRYPT_MEMORY = 64 * 1024 * 1024  # OpenSSL's own ceiling of 32 MiB is close to what N=16384, r=8 takes
_DUMMY_SALT = b"an unknown station"


class Denied(Refused):
    """Refused for its credentials."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The station proved itself. `method` is basic, token or none (an unprovisioned station that was let in)."""

    charge_point_id: str
    method: str


@dataclass(frozen=True, slots=True)
class Check:
    """Credentials that were read and still have to be compared; secrets are not in its repr.

    `candidates` are the readings of the secret sent, `stored` what one of them must hash to, `is_user` whether the user
    name is this station's, `fault` the detail of a denial. Only with method "none" there is nothing to prove.
    """

    charge_point_id: str
    method: str
    stored: StoredSecret | None = field(default=None, repr=False)
    candidates: tuple[bytes, ...] = field(default=(), repr=False)
    is_user: bool = False
    fault: str = "user name or secret is wrong"

    @property
    def needs_thread(self) -> bool:
        """Whether `verify` takes too long for the reactor."""
        return self.stored is not None and self.stored.algorithm == "scrypt"

    def verify(self) -> Authenticated | Denied:
        """Hash and compare. A wrong user name costs as much as a wrong password and looks the same."""
        matches = self.stored is not None and _matches(self.stored, self.candidates)
        if self.method == NO_AUTH or (matches and self.is_user):
            return Authenticated(self.charge_point_id, self.method)
        return Denied(Reason.CREDENTIALS_WRONG, self.fault)


def prepare(identity: Identity, default_method: str, headers: Mapping[str, str]) -> Denied | Check:
    """Read the credentials `headers` (lower-case names; latin-1 decoded values) hold, as the identity wants them.

    `default_method` (basic, token or mtls) stands in where the identity names no type.
    """
    auth = identity.auth
    if auth.type == NO_AUTH:
        return Check(identity.charge_point_id, NO_AUTH)
    methods = auth.methods(default_method)
    if set(methods) <= {"mtls"}:
        return Denied(Reason.CLIENT_CERTIFICATE_REQUIRED, "TLS is not served by this listener")
    credentials = _read_credentials(headers)
    if isinstance(credentials, Denied):
        return credentials
    stored = auth.secret if credentials.method == "basic" else auth.token
    if credentials.method not in methods or stored is None:
        # Hashed all the same: an early answer would tell this station from one that doesn't exist.
        kept = auth.secret or auth.token
        algorithm = kept.algorithm if kept else "sha256"
        return _hopeless(identity.charge_point_id, credentials, algorithm, "this type of credentials is not accepted")
    is_user = credentials.user is None or _is_user(credentials.user, identity)
    candidates = _candidates(credentials, auth)
    return Check(identity.charge_point_id, credentials.method, stored, candidates, is_user)


def dummy_check(charge_point_id: str, headers: Mapping[str, str], algorithm: str) -> Denied | Check:
    """For an id without identity: the same answers at the same cost as a wrong password has, and never success.

    `algorithm` (sha256 or scrypt) is the one most of the fleet's hashes are made with.
    """
    credentials = _read_credentials(headers)
    if isinstance(credentials, Denied):
        return credentials
    return _hopeless(charge_point_id, credentials, algorithm, "the charge point id is unknown")


def hash_secret(secret: bytes, salt: bytes, algorithm: str, length: int = 32) -> bytes:
    """The digest an identity stores: SHA-256(salt | secret), or scrypt with N 16384, r 8, p 1 and `length` bytes."""
    if algorithm == "scrypt":
        return hashlib.scrypt(
            secret, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=_SCRYPT_MEMORY, dklen=length
        )
    return hashlib.sha256(salt + secret).digest()


def _matches(stored: StoredSecret, candidates: tuple[bytes, ...]) -> bool:
    """Whether one of the candidates is the stored secret; all are hashed, also after a match."""
    matches = False
    for candidate in candidates:
        digest = hash_secret(candidate, stored.salt, stored.algorithm, len(stored.digest))
        matches |= hmac.compare_digest(digest, stored.digest)
    return matches


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What was sent; `user` is None for a token."""

    method: str
    secret: bytes = field(repr=False)
    user: bytes | None = None


def _read_credentials(headers: Mapping[str, str]) -> _Credentials | Denied:
    authorization = headers.get("authorization", "").strip()
    api_key = headers.get("x-api-key", "").strip()
    if not authorization and not api_key:
        return Denied(Reason.CREDENTIALS_MISSING, "neither Authorization nor X-Api-Key was sent")
    if not authorization:
        return _token(api_key)
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "basic":  # RFC 9110 section 11.1: schemes are compared case-insensitively
        return _basic(rest.strip())
    if scheme.lower() == "bearer" and rest.strip():
        return _token(rest.strip())
    return Denied(Reason.CREDENTIALS_WRONG, "Authorization is neither Basic nor Bearer with a token")


def _token(text: str) -> _Credentials | Denied:
    try:
        return _Credentials("token", text.encode("latin-1"))
    except UnicodeEncodeError:
        return Denied(Reason.CREDENTIALS_WRONG, "the token holds characters no HTTP header can hold")


def _basic(text: str) -> _Credentials | Denied:
    try:
        user, colon, password = base64.b64decode(text, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return Denied(Reason.CREDENTIALS_WRONG, "Basic credentials are not base64")
    if not colon:
        return Denied(Reason.CREDENTIALS_WRONG, "Basic credentials hold no ':' between user name and password")
    return _Credentials("basic", password, user)


def _hopeless(charge_point_id: str, credentials: _Credentials, algorithm: str, fault: str) -> Check:
    """A check that costs what a real one costs and always ends in a denial, because `is_user` is False."""
    nothing = StoredSecret(algorithm, digest=bytes(32), salt=_DUMMY_SALT)
    return Check(charge_point_id, credentials.method, nothing, (credentials.secret,), is_user=False, fault=fault)


def _is_user(user: bytes, identity: Identity) -> bool:
    is_id = hmac.compare_digest(user, identity.charge_point_id.encode())
    return is_id | hmac.compare_digest(user, (identity.auth.username or identity.charge_point_id).encode())


def _candidates(credentials: _Credentials, auth: Auth) -> tuple[bytes, ...]:
    """The secret as sent and, where the identity opts in, the octets its hex text stands for."""
    if credentials.method == "basic" and auth.accept_hex_secret:
        try:
            return (credentials.secret, bytes.fromhex(credentials.secret.decode("ascii")))
        except ValueError:
            pass
    return (credentials.secret,)

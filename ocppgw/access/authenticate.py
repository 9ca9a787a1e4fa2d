"""Whether a station is who it says it is: HTTP Basic (RFC 7617), a token (RFC 6750, `x-api-key`), or its certificate.

    Authorization: Basic base64(chargePointId ":" password)       password: any octets, ':' included
    Authorization: Bearer token                                   or   X-Api-Key: token
    TLS client certificate                                        verified by the TLS layer, bound by the identity

The work is split in two because scrypt takes tens of milliseconds: `prepare` reads what was sent on the reactor,
`Check.verify` hashes and compares, in a thread where `needs_thread` says so. Everything compared is bytes: a 1.6
AuthorizationKey is 16 to 20 arbitrary octets (OCPP-J 1.6 section 6.2.2), a 2.x password UTF-8.

A stranger without a certificate learns nothing from the answers: whether an id exists, wants a certificate or has
another password, each denial is the same 401 after the same work (one hash of the dearest algorithm in use).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ocppgw.access.identity import NO_AUTH, Auth, Identity, StoredSecret
from ocppgw.access.refusals import Reason, Refused

_SCRYPT_MEMORY = 64 * 1024 * 1024  # OpenSSL's own ceiling of 32 MiB is close to what N=16384, r=8 takes
_DUMMY_SALT = b"an unknown station"


class Denied(Refused):
    """Refused for its credentials."""


@dataclass(frozen=True, slots=True)
class Hashing:
    """How secrets are hashed (contract section 2): `algorithm` of new ones and of checks that must fail; scrypt's
    parameters (RFC 7914) and the length of its digest in bytes."""

    algorithm: str = "sha256"
    n: int = 16384
    r: int = 8
    p: int = 1
    length: int = 32

    def digest(self, secret: bytes, salt: bytes, algorithm: str, length: int | None = None) -> bytes:
        """SHA-256(salt | secret), or scrypt(secret, salt)."""
        if algorithm == "scrypt":
            memory = max(_SCRYPT_MEMORY, 256 * self.n * self.r)
            return hashlib.scrypt(
                secret, salt=salt, n=self.n, r=self.r, p=self.p, maxmem=memory, dklen=length or self.length
            )
        return hashlib.sha256(salt + secret).digest()


DEFAULT_HASHING = Hashing()


def hash_secret(secret: bytes, salt: bytes, algorithm: str, length: int = 32) -> bytes:
    """The digest an identity stores, with the contract's own parameters."""
    return DEFAULT_HASHING.digest(secret, salt, algorithm, length)


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The station proved itself. `method` is basic, token, mtls or none (an unprovisioned station that was let in);
    `digest` what its secret hashed to; `renewed` that it was the next secret or a pending certificate."""

    charge_point_id: str
    method: str
    digest: bytes = field(default=b"", repr=False, compare=False)
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """Credentials that were read and still have to be compared; secrets are not in its repr.

    `candidates` are the readings of the secret sent, `stored` what one of them must hash to (the current secret, then
    the next one), `is_user` whether the user name is this station's; `fault` is what a denial says. Only with method
    "none" there is nothing to prove.
    """

    charge_point_id: str
    method: str
    hashing: Hashing
    stored: tuple[StoredSecret, ...] = field(default=(), repr=False)
    candidates: tuple[bytes, ...] = field(default=(), repr=False)
    is_user: bool = False
    fault: Denied = field(default_factory=lambda: Denied(Reason.CREDENTIALS_WRONG, "the secret is wrong"))

    @property
    def needs_thread(self) -> bool:
        """Whether `verify` takes too long for the reactor."""
        return self.hashing.algorithm == "scrypt" or any(kept.algorithm == "scrypt" for kept in self.stored)

    def verify(self) -> Authenticated | Denied:
        """Hash and compare. A wrong user name costs as much as a wrong password and looks the same."""
        if self.method == NO_AUTH:
            return Authenticated(self.charge_point_id, NO_AUTH)
        found = self._find(self._digest)
        if found is not None and self.is_user:
            return found
        if self.hashing.algorithm == "scrypt" and all(kept.algorithm != "scrypt" for kept in self.stored):
            self.hashing.digest(self.candidates[0], _DUMMY_SALT, "scrypt")  # as dear as everybody else's denial
        return self.fault

    def known(self, is_verified: Callable[[StoredSecret, bytes], bool]) -> Authenticated | None:
        """The result without hashing, where `is_verified(stored, candidate)` remembers that the two fit."""
        if not self.is_user:
            return None

        def remembered(kept: StoredSecret, candidate: bytes) -> bytes:
            return kept.digest if is_verified(kept, candidate) else b""

        return self._find(remembered)

    def _find(self, digest: Callable[[StoredSecret, bytes], bytes]) -> Authenticated | None:
        """All are compared, also after a match."""
        found: Authenticated | None = None
        for number, kept in enumerate(self.stored):
            for candidate in self.candidates:
                if hmac.compare_digest(digest(kept, candidate), kept.digest) and found is None:
                    found = Authenticated(self.charge_point_id, self.method, kept.digest, renewed=number > 0)
        return found

    def _digest(self, kept: StoredSecret, candidate: bytes) -> bytes:
        return self.hashing.digest(candidate, kept.salt, kept.algorithm, len(kept.digest))


def prepare(
    identity: Identity, default_method: str, headers: Mapping[str, str], hashing: Hashing = DEFAULT_HASHING
) -> Denied | Check:
    """Read the credentials `headers` (lower-case names; latin-1 decoded values) hold, as the identity wants them.

    `default_method` (basic, token or mtls) stands in where the identity names no type. Certificates are judged
    before, by `ocppgw.access.certify`.
    """
    auth = identity.auth
    if auth.type == NO_AUTH:
        return Check(identity.charge_point_id, NO_AUTH, hashing)
    methods = auth.methods(default_method)
    credentials = _read_credentials(headers)
    if set(methods) <= {"mtls"}:
        fault = Denied(
            Reason.CLIENT_CERTIFICATE_REQUIRED, "the identity accepts a client certificate only; none was sent"
        )
        if isinstance(credentials, Denied):
            # The same words as for a station that wants a password: only the log tells.
            return Denied(Reason.CLIENT_CERTIFICATE_MISSING, fault.detail) if _is_missing(credentials) else credentials
        return _hopeless(identity.charge_point_id, credentials, hashing, fault)
    if isinstance(credentials, Denied):
        return credentials
    kept = _kept(auth, credentials.method)
    if credentials.method not in methods or not kept:
        sent = "HTTP Basic" if credentials.method == "basic" else "a token"
        fault = Denied(
            Reason.CREDENTIALS_TYPE_NOT_ALLOWED, f"{sent} was sent, the identity accepts {' or '.join(methods)}"
        )
        return _hopeless(identity.charge_point_id, credentials, hashing, fault)
    is_user = credentials.user is None or _is_user(credentials.user, identity)
    fault = (
        Denied(Reason.CREDENTIALS_WRONG, "the secret is wrong")
        if is_user
        else Denied(Reason.USER_NAME_WRONG, "the user name is neither the station's id nor its auth.username")
    )
    return Check(
        identity.charge_point_id, credentials.method, hashing, kept, _candidates(credentials, auth), is_user, fault
    )


def dummy_check(
    charge_point_id: str, headers: Mapping[str, str], hashing: Hashing = DEFAULT_HASHING, fault: Denied | None = None
) -> Denied | Check:
    """For an id without a usable identity: the same answers at the same cost as a wrong password has, never success."""
    credentials = _read_credentials(headers)
    if isinstance(credentials, Denied):
        return credentials
    unknown = Denied(Reason.UNKNOWN_STATION, "no identity has this id")
    return _hopeless(charge_point_id, credentials, hashing, fault or unknown)


def holds_credentials(headers: Mapping[str, str]) -> bool:
    """Whether a password or token was sent at all, readable or not."""
    return not _is_missing(_read_credentials(headers))


def _is_missing(credentials: "_Credentials | Denied") -> bool:
    return isinstance(credentials, Denied) and credentials.reason is Reason.CREDENTIALS_MISSING


def _kept(auth: Auth, method: str) -> tuple[StoredSecret, ...]:
    pair = (auth.secret, auth.next_secret) if method == "basic" else (auth.token, auth.next_token)
    return tuple(kept for kept in pair if kept is not None) if pair[0] is not None else ()


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
    return Denied(Reason.CREDENTIALS_MALFORMED, "Authorization is neither Basic nor Bearer with a token")


def _token(text: str) -> _Credentials | Denied:
    try:
        return _Credentials("token", text.encode("latin-1"))
    except UnicodeEncodeError:
        return Denied(Reason.CREDENTIALS_MALFORMED, "the token holds characters no HTTP header can hold")


def _basic(text: str) -> _Credentials | Denied:
    try:
        user, colon, password = base64.b64decode(text, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return Denied(Reason.CREDENTIALS_MALFORMED, "what follows Basic is not base64")
    if not colon:
        return Denied(Reason.CREDENTIALS_MALFORMED, "what follows Basic has no ':' between user name and password")
    return _Credentials("basic", password, user)


def _hopeless(charge_point_id: str, credentials: _Credentials, hashing: Hashing, fault: Denied) -> Check:
    """A check that costs what a real one costs and always ends in a denial, because `is_user` is False."""
    nothing = StoredSecret(hashing.algorithm, digest=bytes(32), salt=_DUMMY_SALT)
    return Check(charge_point_id, credentials.method, hashing, (nothing,), (credentials.secret,), fault=fault)


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

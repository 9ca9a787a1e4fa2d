"""Changes to an identity's JSON: secrets that take turns, certificates that are bound, and what may be shown of it.

`secretHash` and `tokenHash` share `secretSalt` and `hashAlgorithm` (the outside contract, section 2). Rotating one of
them gives it a salt that the other does not have: only then the token gets `tokenSalt` and `tokenHashAlgorithm` of its
own, so that an identity with one kind of secret keeps the form that every reader of the contract knows. The secrets to
come, in the members that begin with `next`, are kept in the same way.

The functions change the dict they are given; its `auth` is an object.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ocppgw.access.certificates import normal_fingerprint
from ocppgw.access.identity import SCRYPT_PREFIX

Kind = Literal["secret", "token"]

MASK = "***"
MAX_CERTIFICATES = 50  # bindings of one identity: more than any rotation needs
_PLAIN = ("secret", "token", "password", "nextSecret", "nextToken", "apiKey")


@dataclass(frozen=True, slots=True)
class Hashed:
    """A secret as it is stored."""

    digits: str = field(repr=False)
    salt: str = field(repr=False)
    algorithm: str


@dataclass(frozen=True, slots=True)
class _Members:
    """The names of a pair of secrets: those in use, or those to come."""

    secret: str
    token: str
    salt: str
    algorithm: str
    token_salt: str
    token_algorithm: str

    def read(self, auth: Mapping[str, Any]) -> dict[Kind, Hashed]:
        salt, algorithm = auth.get(self.salt, ""), auth.get(self.algorithm, "sha256")
        found: dict[Kind, Hashed] = {}
        if self.secret in auth:
            found["secret"] = Hashed(auth[self.secret], salt, algorithm)
        if self.token in auth:
            own = auth.get(self.token_salt, salt), auth.get(self.token_algorithm, algorithm)
            found["token"] = Hashed(auth[self.token], *own)
        return found

    def write(self, auth: dict[str, Any], hashes: Mapping[Kind, Hashed]) -> None:
        for name in (self.secret, self.token, self.salt, self.algorithm, self.token_salt, self.token_algorithm):
            auth.pop(name, None)
        secret, token = hashes.get("secret"), hashes.get("token")
        shared = secret or token
        if shared is not None:
            auth[self.salt], auth[self.algorithm] = shared.salt, shared.algorithm
        if secret is not None:
            auth[self.secret] = secret.digits
        if token is not None:
            auth[self.token] = token.digits
            if (token.salt, token.algorithm) != (auth[self.salt], auth[self.algorithm]):
                auth[self.token_salt], auth[self.token_algorithm] = token.salt, token.algorithm


_CURRENT = _Members("secretHash", "tokenHash", "secretSalt", "hashAlgorithm", "tokenSalt", "tokenHashAlgorithm")
_NEXT = _Members(
    "nextSecretHash", "nextTokenHash", "nextSecretSalt", "nextHashAlgorithm", "nextTokenSalt", "nextTokenHashAlgorithm"
)


def set_next(identity: dict[str, Any], kind: Kind, digits: str, salt: str, algorithm: str) -> None:
    """Let a secret in beside the one in use; it replaces one that was waiting for its first use."""
    auth = identity["auth"]
    _NEXT.write(auth, {**_NEXT.read(auth), kind: Hashed(digits, salt, algorithm)})


def set_now(identity: dict[str, Any], kind: Kind, digits: str, salt: str, algorithm: str) -> None:
    """Replace the secret in use, and drop the one to come: the old ones are refused from now on."""
    auth = identity["auth"]
    _CURRENT.write(auth, {**_CURRENT.read(auth), kind: Hashed(digits, salt, algorithm)})
    drop_next(identity, kind)


def promote_next(identity: dict[str, Any], kind: Kind, digest: bytes | None = None) -> bool:
    """Make the secret to come the one in use; False when there is none, or, with `digest`, when it is another one
    than was used: it was replaced in between, and the station may not have the newest yet."""
    new = _NEXT.read(identity["auth"]).get(kind)
    if new is None or digest not in (None, bytes.fromhex(new.digits.removeprefix(SCRYPT_PREFIX))):
        return False
    set_now(identity, kind, new.digits, new.salt, new.algorithm)
    return True


def drop_next(identity: dict[str, Any], kind: Kind) -> None:
    auth = identity["auth"]
    hashes = _NEXT.read(auth)
    if hashes.pop(kind, None) is not None:
        _NEXT.write(auth, hashes)


def add_certificate(identity: dict[str, Any], binding: Mapping[str, Any]) -> None:
    """Bind a certificate next to the others; an older binding of the same fingerprint is replaced.

    What stood in for bindings (`auth.subject`, `auth.fingerprint`) is not looked at once there is one: the first
    binding takes it along, so that the certificate the station still uses stays good.
    """
    auth = identity["auth"]
    stand_in = {name: auth[name] for name in ("subject", "fingerprint") if auth.get(name)}
    if stand_in and not auth.get("certificates"):
        auth["certificates"] = [{**stand_in, "chargePointId": identity["chargePointId"]}]
    _add(auth, "certificates", binding)


def add_pending(identity: dict[str, Any], binding: Mapping[str, Any]) -> None:
    """Let a certificate in that was handed to the station; it is bound when it is first seen."""
    _add(identity["auth"], "pendingCertificates", binding)


def bind_pending(identity: dict[str, Any], fingerprint: str) -> bool:
    """Bind the pending certificate of this (normalised) fingerprint; False when there is none.

    Beyond MAX_CERTIFICATES the oldest bindings go, but not what says that a certificate is revoked.
    """
    auth = identity["auth"]
    pending = auth.get("pendingCertificates", [])
    seen = [binding for binding in pending if _fingerprint(binding) == fingerprint]
    if not seen:
        return False
    auth["pendingCertificates"] = [binding for binding in pending if binding not in seen]
    if not auth["pendingCertificates"]:
        del auth["pendingCertificates"]
    add_certificate(identity, seen[-1])
    surplus = len(auth["certificates"]) - MAX_CERTIFICATES
    oldest = [binding for binding in auth["certificates"] if binding.get("status") != "revoked"][: max(0, surplus)]
    auth["certificates"] = [binding for binding in auth["certificates"] if binding not in oldest]
    return True


def masked(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity without what its secrets could be guessed from."""
    auth = identity.get("auth")
    if not isinstance(auth, Mapping):
        return dict(identity)
    shown = {name: MASK if name.endswith(("Hash", "Salt")) or name in _PLAIN else auth[name] for name in auth}
    return {**identity, "auth": shown}


def unhashed(identity: Mapping[str, Any]) -> list[str]:
    """What is wrong with the secrets in an identity that is to be stored: plain ones, and masked ones; with the mend.

    The parser would pass over both: members that it doesn't know are other people's.
    """
    auth = identity.get("auth") if isinstance(identity, Mapping) else None
    if not isinstance(auth, Mapping):
        return []
    plain = [name for name in _PLAIN if name in auth]
    problems = [
        f"auth.{name} is a plain secret, which is never stored: send its salted hash in its place, or let "
        "`ocppgw provision` hash it"
        for name in plain
    ]
    hidden = [name for name, value in auth.items() if value == MASK and name not in plain]
    return problems + [f"auth.{name} is masked: take the identity as it is shown with ?full=true" for name in hidden]


def _add(auth: dict[str, Any], member: str, binding: Mapping[str, Any]) -> None:
    fingerprint = _fingerprint(binding)
    kept = [known for known in auth.get(member, []) if not fingerprint or _fingerprint(known) != fingerprint]
    auth[member] = [*kept, dict(binding)]


def _fingerprint(binding: Mapping[str, Any]) -> str:
    """Normalised; "" where there is none that can be read."""
    try:
        return normal_fingerprint(binding.get("fingerprint", ""))
    except (ValueError, TypeError, AttributeError):
        return ""

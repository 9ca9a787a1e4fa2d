"""Identities on their way to the gateway: plain secrets are taken out at once, and every bad member is named.

A file may give plain what only a hash is stored of:

    auth.secret       text: the password of HTTP Basic, hashed as UTF-8
    auth.secretHex    hex digits: a 1.6 AuthorizationKey that is no text
    auth.token        text: a bearer token
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ocppgw.access.identity import IdentityError, parse_identity
from ocppgw.access.identity_edits import MASK, Kind, set_now
from ocppgw.cli.hashing import Hasher, Placeholder
from ocppgw.cli.new_secrets import hex_fault, shortness, token_fault
from ocppgw.config.problems import did_you_mean

_PLAIN = ("secret", "secretHex", "token")
_PLAIN_BY_OTHER_NAMES = ("password", "basicAuthPassword", "authorizationKey", "apiKey", "nextSecret", "nextToken")

_ABOUT_SECRETS = ("auth.secretHash", "auth.secretSalt", "auth.token", "auth.next")

_MEMBERS = ("chargePointId", "stationId", "tenantId", "status", "allowedProtocols", "allowedIps", "allowedCidrs")
_MEMBERS_OF_AUTH = (
    *("type", "allowedTypes", "username", "secretHash", "secretSalt", "hashAlgorithm", "tokenHash", "tokenSalt"),
    *("tokenHashAlgorithm", "nextSecretHash", "nextSecretSalt", "nextHashAlgorithm", "nextTokenHash", "nextTokenSalt"),
    *("nextTokenHashAlgorithm", "acceptHexSecret", "certificates", "pendingCertificates", "subject", "fingerprint"),
    *("revokedFingerprints", "requireSerialMatch", "lowestProfile"),
)
_MEMBERS_OF_BINDING = ("fingerprint", "subject", "subjectAltName", "serialNumber", "validFrom", "validTo", "status")


@dataclass(slots=True)
class Draft:
    """An identity that is not stored yet. `members` is its JSON without plain secrets, `secret` and `token` are those,
    still to be hashed. Its repr shows neither, nor a hash."""

    members: dict[str, Any] = field(default_factory=dict, repr=False)
    secret: bytes | None = field(default=None, repr=False)
    token: bytes | None = field(default=None, repr=False)
    problems: list[str] = field(default_factory=list)
    is_object: bool = True

    @property
    def name(self) -> str:
        """Its id, "" when it has none."""
        name = self.members.get("chargePointId")
        return name if isinstance(name, str) else ""

    @property
    def auth(self) -> dict[str, Any]:
        """Its member auth, which is an object of its own where it is one at all."""
        auth = self.members.get("auth")
        return auth if isinstance(auth, dict) else {}

    def accepts(self, method: str) -> bool:
        """Whether the station may prove itself by basic, token or mtls; with neither type nor allowedTypes, by any."""
        allowed, named = self.auth.get("allowedTypes"), self.auth.get("type")
        return method in allowed if isinstance(allowed, list) and allowed else named in (None, method)


def read_draft(document: object) -> Draft:
    """The draft of an identity as a file holds it; what is wrong with its plain secrets is among its problems."""
    if not isinstance(document, Mapping):
        return Draft(problems=["it must be a JSON object"], is_object=False)
    draft = Draft(dict(document))
    auth = document.get("auth", {})
    if not isinstance(auth, Mapping):
        draft.problems.append("auth must be a JSON object")
    if "auth" in document:
        draft.members["auth"] = dict(auth) if isinstance(auth, Mapping) else {}
    draft.problems += _misplaced(draft.members, "", (*_PLAIN, *_PLAIN_BY_OTHER_NAMES))
    draft.problems += _misplaced(draft.auth, "auth.", _PLAIN_BY_OTHER_NAMES)
    draft.secret = _secret(draft)
    draft.token = _token(draft)
    return draft


def faults(draft: Draft, hasher: Hasher) -> list[str]:
    """All that keeps the draft from being stored, each with its mend; nothing is hashed for it."""
    if not draft.is_object:
        return draft.problems
    identity = sealed(draft, Placeholder(hasher.hashing, hasher.asked))
    problems = [*draft.problems, *_masked(identity.get("auth") or {})]
    try:
        parse_identity(identity)
    except IdentityError as error:
        # A secret that can't be used is missing, too, which need not be said.
        problems += [one for one in error.problems if not (problems and one.startswith(_ABOUT_SECRETS))]
    return problems


def oddities(draft: Draft) -> Iterator[str]:
    """What looks like a slip. Unknown members are ignored by the gateway: other programs keep theirs there; but a
    misspelt `allowedCidrs` would protect nothing."""
    if draft.secret is not None and shortness(draft.secret):
        yield f"the secret {shortness(draft.secret)}"
    yield from _unknown(draft.members, "", (*_MEMBERS, "auth", "boot"))
    yield from _unknown(draft.auth, "auth.", _MEMBERS_OF_AUTH)
    for member in ("certificates", "pendingCertificates"):
        bindings = draft.auth.get(member)
        for number, binding in enumerate(bindings if isinstance(bindings, list) else ()):
            known = (*_MEMBERS_OF_BINDING, "chargePointId")
            yield from _unknown(binding if isinstance(binding, Mapping) else {}, f"auth.{member}[{number}].", known)


def sealed(draft: Draft, hasher: Hasher) -> dict[str, Any]:
    """The identity as it is sent: its plain secrets hashed. What came hashed is left as it is."""
    if draft.secret is None and draft.token is None:
        return draft.members
    identity = {**draft.members, "auth": dict(draft.auth)}
    salt, algorithm = hasher.salt(), hasher.algorithm(draft.auth.get("hashAlgorithm"))
    given: tuple[tuple[Kind, bytes | None], ...] = (("secret", draft.secret), ("token", draft.token))
    for kind, octets in given:
        if octets is not None:
            hashed = hasher.hash(octets, algorithm, salt)
            set_now(identity, kind, hashed.digits, hashed.salt, hashed.algorithm)
    return identity


def _misplaced(members: dict[str, Any], path: str, names: tuple[str, ...]) -> Iterator[str]:
    """Plain secrets where nobody looks for them would be stored as they are: taken out, and told."""
    for name in names:
        if members.pop(name, None) is not None:
            yield f"{path}{name} is no member: write a plain secret as auth.secret, auth.secretHex or auth.token"


def _masked(auth: Mapping[str, Any]) -> Iterator[str]:
    for name, value in auth.items():
        if value == MASK:
            yield f"auth.{name} is masked: take the identity from `ocppgw export`, or give a new secret"


def _secret(draft: Draft) -> bytes | None:
    text, digits = draft.auth.pop("secret", None), draft.auth.pop("secretHex", None)
    given = (("secretHash", draft.auth.get("secretHash")), ("secret", text), ("secretHex", digits))
    names = [name for name, value in given if value is not None]
    if len(names) > 1:
        draft.problems.append(f"auth.{' and auth.'.join(names)} are given: keep one")
        return None
    if digits is not None:
        fault = hex_fault(digits) if isinstance(digits, str) else "must be a text"
        if fault:
            draft.problems.append(f"auth.secretHex {fault}")
        return None if fault else bytes.fromhex(digits)
    return _octets(draft, "secret", text)


def _token(draft: Draft) -> bytes | None:
    octets = _octets(draft, "token", draft.auth.pop("token", None))
    if octets is None:
        return None
    if "tokenHash" in draft.auth:
        draft.problems.append("auth.tokenHash and auth.token are given: keep one")
    elif fault := token_fault(octets):
        draft.problems.append(f"auth.token {fault}")
    return octets


def _octets(draft: Draft, name: str, text: object) -> bytes | None:
    if text is None:
        return None
    if isinstance(text, str) and text:
        return text.encode()
    draft.problems.append(f"auth.{name} must be a text that is not empty")
    return None


def _unknown(members: Mapping[str, Any], path: str, known: tuple[str, ...]) -> Iterator[str]:
    for name in members:
        meant = "" if name in known else did_you_mean(name, known)
        if meant:
            yield f"{path}{name} is no member of an identity and is ignored: {meant}"

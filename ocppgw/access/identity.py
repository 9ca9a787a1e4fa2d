"""A station's identity: who it is, whether and from where it may come, and what proves that it is the one.

The JSON is the outside contract's (see schemas/identity.schema.json); the certificate members of `auth` are left alone
here, because no listener serves TLS. Members that aren't known are ignored: provisioning tools add their own.
Secrets come salted and hashed and never show up in a repr, a log or an error.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ocppgw.access.addresses import Network, parse_network
from ocppgw.errors import OcppgwError
from ocppgw.ocpp.versions import VERSIONS

STATUSES = ("active", "disabled")
BOOT_STATUSES = ("Accepted", "Pending", "Rejected")
AUTH_TYPES = ("basic", "token", "mtls")
HASH_ALGORITHMS = ("sha256", "scrypt")
SCRYPT_PREFIX = "scrypt$"
MIN_HASH_DIGITS = 64
MAX_HASH_DIGITS = 128
MIN_SALT_LENGTH = 8
MAX_ID_LENGTH = 48
MAX_NAME_LENGTH = 255

NO_AUTH = "none"  # never parsed: only dev_identity makes such a record

_PROTOCOLS = {name.lower(): version.name for version in VERSIONS for name in (version.name, *version.path_names)}


class IdentityError(OcppgwError):
    """An identity can't be used; the message and `problems` name every bad member and its mend."""

    code = "IdentityInvalid"

    def __init__(self, charge_point_id: str, problems: list[str]) -> None:
        super().__init__(f"identity {charge_point_id} is not valid: {'; '.join(problems)}")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A salted hash: SHA-256(salt | secret), or scrypt(secret, salt) of the digest's length (RFC 7914)."""

    algorithm: str
    digest: bytes = field(repr=False)
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """How the station proves itself. `type` None: the listener's default; `allowed_types` empty: that type alone.

    `accept_hex_secret`: a station that sends its 1.6 AuthorizationKey as hex text instead of as octets is let in too.
    """

    type: str | None = None
    allowed_types: tuple[str, ...] = ()
    username: str | None = None
    secret: StoredSecret | None = None
    token: StoredSecret | None = None
    accept_hex_secret: bool = False

    def methods(self, default: str) -> tuple[str, ...]:
        """The types of proof that are accepted from this station."""
        return self.allowed_types or (self.type or default,)


@dataclass(frozen=True, slots=True)
class Identity:
    """One station. Empty `allowed_protocols` (names of OcppVersion) or `allowed_networks` mean no restriction;
    `boot_status` is what BootNotification is answered with, None for the gateway's default."""

    charge_point_id: str
    station_id: str
    tenant_id: str
    auth: Auth
    status: str = "active"
    allowed_protocols: tuple[str, ...] = ()
    allowed_networks: tuple[Network, ...] = ()
    boot_status: str | None = None


def dev_identity(charge_point_id: str, tenant: str) -> Identity:
    """The identity of a station nobody provisioned, where the configuration admits such stations: no proof asked."""
    return Identity(charge_point_id, station_id=charge_point_id, tenant_id=tenant, auth=Auth(type=NO_AUTH))


def parse_identity(mapping: Mapping[str, Any]) -> Identity:
    """The record of an identity JSON object (already decoded). IdentityError names all its bad members at once."""
    if not isinstance(mapping, Mapping):
        raise IdentityError("(unnamed)", ["it must be a JSON object"])
    reader = _Reader(mapping)
    auth = reader.part("auth", required=True)
    identity = Identity(
        charge_point_id=reader.text("chargePointId", MAX_ID_LENGTH, required=True),
        station_id=reader.text("stationId", MAX_NAME_LENGTH, required=True),
        tenant_id=reader.text("tenantId", MAX_NAME_LENGTH, required=True),
        status=reader.choice("status", STATUSES) or "active",
        allowed_protocols=_protocols(reader),
        allowed_networks=(*_networks(reader, "allowedIps"), *_networks(reader, "allowedCidrs")),
        auth=_auth(auth),
        boot_status=reader.part("boot").choice("status", BOOT_STATUSES),
    )
    if reader.problems:
        raise IdentityError(identity.charge_point_id or "(unnamed)", reader.problems)
    return identity


class _Reader:
    """Reads members of one JSON object and collects what is wrong; a bad member reads as an absent one.

    `path` is the object's place, as "auth.", and `problems` is shared by all parts of one identity.
    """

    def __init__(self, members: Mapping[str, Any], path: str = "", problems: list[str] | None = None) -> None:
        self._members = members
        self._path = path
        self.problems: list[str] = [] if problems is None else problems

    def problem(self, name: str, text: str) -> None:
        self.problems.append(f"{self._path}{name} {text}")

    def part(self, name: str, *, required: bool = False) -> "_Reader":
        value = self._members.get(name)
        if not isinstance(value, Mapping):
            if required or name in self._members:
                self.problem(name, "must be a JSON object")
            value = {}
        return _Reader(value, f"{self._path}{name}.", self.problems)

    def text(self, name: str, longest: int, *, required: bool = False) -> str:
        value = self._members.get(name)
        if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable():
            return value
        if required or name in self._members:
            self.problem(name, f"must be a text of 1 to {longest} printable characters")
        return ""

    def flag(self, name: str) -> bool:
        value = self._members.get(name, False)
        if not isinstance(value, bool):
            self.problem(name, "must be true or false")
        return value is True

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self._members.get(name)
        if isinstance(value, str) and value in choices:
            return value
        if name in self._members:
            self.problem(name, f"must be {' or '.join(choices)}")
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._members.get(name, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.problem(name, "must be a list of texts")
        return ()


def _protocols(reader: _Reader) -> tuple[str, ...]:
    names = []
    for text in reader.texts("allowedProtocols"):
        name = _PROTOCOLS.get(text.lower())
        if name is None:
            reader.problem("allowedProtocols", f"holds {_shown(text)}: write {', '.join(v.name for v in VERSIONS)}")
        elif name not in names:
            names.append(name)
    return tuple(names)


def _networks(reader: _Reader, member: str) -> list[Network]:
    networks = []
    for text in reader.texts(member):
        try:
            networks.append(parse_network(text))
        except ValueError as error:
            reader.problem(member, f"holds a bad entry: {error}")
    return networks


def _auth(reader: _Reader) -> Auth:
    salt = reader.text("secretSalt", MAX_NAME_LENGTH)
    algorithm = reader.choice("hashAlgorithm", HASH_ALGORITHMS) or "sha256"
    auth = Auth(
        type=reader.choice("type", AUTH_TYPES),
        allowed_types=_allowed_types(reader),
        username=reader.text("username", MAX_NAME_LENGTH) or None,
        secret=_stored_secret(reader, "secretHash", algorithm, salt),
        token=_stored_secret(reader, "tokenHash", algorithm, salt),
        accept_hex_secret=reader.flag("acceptHexSecret"),
    )
    if (auth.secret or auth.token) and len(salt) < MIN_SALT_LENGTH:
        reader.problem("secretSalt", f"must be given with a hash, as a text of at least {MIN_SALT_LENGTH} characters")
    _check_proofs(reader, auth)
    return auth


def _allowed_types(reader: _Reader) -> tuple[str, ...]:
    types = reader.texts("allowedTypes")
    for text in types:
        if text not in AUTH_TYPES:
            reader.problem("allowedTypes", f"holds {_shown(text)}: write {', '.join(AUTH_TYPES)}")
    return types


def _check_proofs(reader: _Reader, auth: Auth) -> None:
    """Every accepted type needs what it is compared with; a record that can let nobody in is a slip, not a wish."""
    if auth.type and auth.allowed_types and auth.type not in auth.allowed_types:
        reader.problem("type", f"is {auth.type}, which allowedTypes leaves out: add it there or drop allowedTypes")
    methods = auth.methods("")
    if "basic" in methods and auth.secret is None:
        reader.problem("secretHash", "is needed for basic: hash the password with a salt and store the hex digits")
    if "token" in methods and auth.token is None:
        reader.problem("tokenHash", "is needed for token: hash the token with the salt and store the hex digits")


def _stored_secret(reader: _Reader, member: str, algorithm: str, salt: str) -> StoredSecret | None:
    text = reader.text(member, MAX_HASH_DIGITS + len(SCRYPT_PREFIX))
    if not text:
        return None
    if text.startswith(SCRYPT_PREFIX):
        algorithm = "scrypt"
    digits = text.removeprefix(SCRYPT_PREFIX)
    longest = MAX_HASH_DIGITS if algorithm == "scrypt" else MIN_HASH_DIGITS
    is_hex = all(digit in string.hexdigits for digit in digits) and len(digits) % 2 == 0
    if not is_hex or not MIN_HASH_DIGITS <= len(digits) <= longest:
        wanted = f"{MIN_HASH_DIGITS} to {longest}" if longest > MIN_HASH_DIGITS else f"{MIN_HASH_DIGITS}"
        reader.problem(member, f"must be {wanted} hex digits of {algorithm}, an even number; plain secrets are refused")
        return None
    return StoredSecret(algorithm, digest=bytes.fromhex(digits), salt=salt.encode())


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")

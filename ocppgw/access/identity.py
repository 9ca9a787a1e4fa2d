"""A station's identity: who it is, whether and from where it may come, and what proves that it is the one.

The JSON is the outside contract's (see schemas/identity.schema.json). Members that aren't known are ignored:
provisioning tools add their own. Secrets come salted and hashed and never show up in a repr, a log or an error.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ocppgw.access.addresses import Network, parse_network
from ocppgw.access.bindings import Binding
from ocppgw.access.certificates import normal_fingerprint, normal_serial
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
MAX_SUBJECT_LENGTH = 1000
BINDING_STATUSES = ("active", "revoked")
HIGHEST_PROFILE = 3

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

    `next_secret` and `next_token` are good too, and take the place of `secret` and `token` when they are first used.
    `accept_hex_secret`: a station that sends its 1.6 AuthorizationKey as hex text instead of as octets is let in too.
    `certificates` are its bindings, `pending` those of certificates that were handed to it and not yet seen; `subject`
    and `fingerprint` stand in for bindings where the gateway's rules let them. `require_serial_match`: the
    certificate's common name must be the serial number in BootNotification. `lowest_profile`: the security profile
    the station may fall back to, None for never below the highest it has used.
    """

    type: str | None = None
    allowed_types: tuple[str, ...] = ()
    username: str | None = None
    secret: StoredSecret | None = None
    token: StoredSecret | None = None
    next_secret: StoredSecret | None = None
    next_token: StoredSecret | None = None
    accept_hex_secret: bool = False
    certificates: tuple[Binding, ...] = ()
    pending: tuple[Binding, ...] = ()
    subject: str = ""
    fingerprint: str = ""
    revoked_fingerprints: frozenset[str] = frozenset()
    require_serial_match: bool = False
    lowest_profile: int | None = None

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


def parse_identity(mapping: Mapping[str, Any], *, lenient: bool = False) -> Identity:
    """The record of an identity JSON object (already decoded). IdentityError names all its bad members at once.

    `lenient` is for records that are stored already: a certificate nobody can read (a shortened fingerprint, say)
    must not keep out a station that proves itself by password; it just matches nothing.
    """
    if not isinstance(mapping, Mapping):
        raise IdentityError("(unnamed)", ["it must be a JSON object"])
    reader = _Reader(mapping, lenient=lenient)
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
        raise IdentityError(identity.charge_point_id or "(unnamed)", list(dict.fromkeys(reader.problems)))
    return identity


class _Reader:
    """Reads members of one JSON object and collects what is wrong; a bad member reads as an absent one.

    `path` is the object's place, as "auth.", and `problems` is shared by all parts of one identity.
    """

    def __init__(
        self, members: Mapping[str, Any], path: str = "", problems: list[str] | None = None, *, lenient: bool = False
    ) -> None:
        self._members = members
        self._path = path
        self.problems: list[str] = [] if problems is None else problems
        self.lenient = lenient

    def problem(self, name: str, text: str) -> None:
        self.problems.append(f"{self._path}{name} {text}")

    def part(self, name: str, *, required: bool = False) -> "_Reader":
        value = self._members.get(name)
        if not isinstance(value, Mapping):
            if required or name in self._members:
                self.problem(name, "must be a JSON object")
            value = {}
        return _Reader(value, f"{self._path}{name}.", self.problems, lenient=self.lenient)

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

    def has(self, name: str) -> bool:
        return name in self._members

    def peek(self, name: str) -> str:
        """A text that was checked before, "" when it is none."""
        value = self._members.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str, allowed: range) -> int | None:
        value = self._members.get(name)
        if type(value) is int and value in allowed:
            return value
        if name in self._members:
            self.problem(name, f"must be a whole number from {allowed.start} to {allowed.stop - 1}")
        return None

    def time(self, name: str) -> float | None:
        """Seconds since the epoch of an RFC 3339 time; one without a zone is refused: nobody could say when it is."""
        text = self.text(name, MAX_NAME_LENGTH)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.timestamp()
        except (ValueError, OverflowError):
            pass
        self.problem(name, "must be an RFC 3339 time with its zone, such as 2027-01-01T00:00:00Z")
        return None

    def parts(self, name: str) -> "list[_Reader]":
        """The objects of a list, each with a reader and problems of its own."""
        value = self._members.get(name, [])
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            return [_Reader(item, f"{self._path}{name}[{number}].", []) for number, item in enumerate(value)]
        self.problem(name, "must be a list of JSON objects")
        return []

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
    auth = Auth(
        type=reader.choice("type", AUTH_TYPES),
        allowed_types=_allowed_types(reader),
        username=reader.text("username", MAX_NAME_LENGTH) or None,
        secret=_hash(reader, "secretHash", "secretSalt", "hashAlgorithm"),
        token=_hash(reader, "tokenHash", "tokenSalt", "tokenHashAlgorithm"),
        next_secret=_hash(reader, "nextSecretHash", "nextSecretSalt", "nextHashAlgorithm"),
        next_token=_hash(reader, "nextTokenHash", "nextTokenSalt", "nextTokenHashAlgorithm"),
        accept_hex_secret=reader.flag("acceptHexSecret"),
        certificates=_bindings(reader, "certificates"),
        pending=_bindings(reader, "pendingCertificates"),
        subject=reader.text("subject", MAX_SUBJECT_LENGTH),
        fingerprint=_fingerprint(reader, "fingerprint", reader.text("fingerprint", MAX_NAME_LENGTH)),
        revoked_fingerprints=frozenset(
            _fingerprint(reader, "revokedFingerprints", text) for text in reader.texts("revokedFingerprints")
        ),
        require_serial_match=reader.flag("requireSerialMatch"),
        lowest_profile=reader.number("lowestProfile", range(HIGHEST_PROFILE + 1)),
    )
    _check_proofs(reader, auth)
    return auth


# What a token's hash falls back to.
_SHARED = {
    "tokenHash": ("secretSalt", "hashAlgorithm"),
    "nextTokenHash": ("nextSecretSalt", "nextHashAlgorithm"),
}


def _hash(reader: "_Reader", member: str, salt_member: str, algorithm_member: str) -> StoredSecret | None:
    """A hash with the salt and algorithm it was made with; a token without its own shares the secret's."""
    shared_salt, shared_algorithm = _SHARED.get(member, ("", ""))
    if shared_salt and not reader.has(salt_member):
        salt_member = shared_salt
    if shared_algorithm and not reader.has(algorithm_member):
        algorithm_member = shared_algorithm
    salt = reader.text(salt_member, MAX_NAME_LENGTH)
    algorithm = reader.choice(algorithm_member, HASH_ALGORITHMS) or "sha256"
    found = _stored_secret(reader, member, algorithm, salt)
    if found is not None and len(salt) < MIN_SALT_LENGTH:
        reader.problem(salt_member, f"must be given with a hash, as a text of at least {MIN_SALT_LENGTH} characters")
    return found


def _bindings(reader: "_Reader", member: str) -> tuple[Binding, ...]:
    """Bindings with a slip are problems, or where the reader is lenient left out: they then match no certificate."""
    found = []
    for part in reader.parts(member):
        binding = _binding(part)
        if not part.problems:
            found.append(binding)
        elif not reader.lenient:
            reader.problems.extend(part.problems)
    return tuple(found)


def _binding(reader: "_Reader") -> Binding:
    serial = reader.text("serialNumber", MAX_NAME_LENGTH)
    names = reader.text("subjectAltName", MAX_SUBJECT_LENGTH)
    binding = Binding(
        fingerprint=_fingerprint(reader, "fingerprint", reader.text("fingerprint", MAX_NAME_LENGTH)),
        subject=reader.text("subject", MAX_SUBJECT_LENGTH),
        names=tuple(name.strip() for name in names.split(",") if name.strip()),
        serial_number=normal_serial(serial) if serial else "",
        valid_from=reader.time("validFrom"),
        valid_to=reader.time("validTo"),
        revoked=reader.choice("status", BINDING_STATUSES) == "revoked",
        charge_point_id=reader.text("chargePointId", MAX_ID_LENGTH) or None,
    )
    if serial and not binding.serial_number:
        reader.problem("serialNumber", "must be hexadecimal, as `openssl x509 -noout -serial` prints it")
    if any(":" not in name for name in binding.names):
        reader.problem("subjectAltName", "must be written with its kind, such as DNS:cp-001.example")
    if not str(binding) and not reader.problems:
        reader.problem(
            "fingerprint", "or subject, subjectAltName or serialNumber must be given: it names no certificate"
        )
    return binding


_OF_OLD_RECORDS = ("fingerprint", "revokedFingerprints")


def _fingerprint(reader: "_Reader", member: str, text: str) -> str:
    if not text:
        return ""
    try:
        return normal_fingerprint(text)
    except ValueError as error:
        if not (reader.lenient and member in _OF_OLD_RECORDS):
            reader.problem(member, str(error))
        return ""


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

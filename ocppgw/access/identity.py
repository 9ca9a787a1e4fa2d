"""A station's identity: who it is, whether and from where it may come, and what proves that it is the one.

The JSON is the outside contract's (see schemas/identity.schema.json). Members that aren't known are ignored:
provisioning tools add their own. Secrets come salted and hashed and never show up in a repr, a log or an error.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ocppgw.access.addresses import Network, parse_network
from ocppgw.access.bindings import Binding
from ocppgw.access.certificates import normal_fingerprint, normal_serial
from ocppgw.access.members import Members
from ocppgw.errors import OcppgwError
from ocppgw.ocpp.deciding import DECIDABLE
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
    `boot_status` is what BootNotification is answered with, None for the gateway's default; `decisions` are the actions
    whose answer the backend gives, None for those of the tenant."""

    charge_point_id: str
    station_id: str
    tenant_id: str
    auth: Auth
    status: str = "active"
    allowed_protocols: tuple[str, ...] = ()
    allowed_networks: tuple[Network, ...] = ()
    boot_status: str | None = None
    decisions: frozenset[str] | None = None


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
    members = Members(mapping, lenient=lenient)
    auth = members.part("auth", required=True)
    identity = Identity(
        charge_point_id=members.text("chargePointId", MAX_ID_LENGTH, required=True),
        station_id=members.text("stationId", MAX_NAME_LENGTH, required=True),
        tenant_id=members.text("tenantId", MAX_NAME_LENGTH, required=True),
        status=members.choice("status", STATUSES) or "active",
        allowed_protocols=_protocols(members),
        allowed_networks=(*_networks(members, "allowedIps"), *_networks(members, "allowedCidrs")),
        auth=_auth(auth),
        boot_status=members.part("boot").choice("status", BOOT_STATUSES),
        decisions=_decisions(members),
    )
    if members.problems:
        raise IdentityError(identity.charge_point_id or "(unnamed)", list(dict.fromkeys(members.problems)))
    return identity


def _decisions(members: Members) -> frozenset[str] | None:
    if not members.has("decisions"):
        return None
    actions = frozenset(members.texts("decisions"))
    unknown = sorted(actions - DECIDABLE)
    if unknown and not members.lenient:  # of another release: no reason to keep a station out
        members.problem("decisions", f"names {unknown[0]!r}, which is no action that a backend answers")
    return actions & DECIDABLE


def _protocols(members: Members) -> tuple[str, ...]:
    names = []
    for text in members.texts("allowedProtocols"):
        name = _PROTOCOLS.get(text.lower())
        if name is None:
            members.problem("allowedProtocols", f"holds {_shown(text)}: write {', '.join(v.name for v in VERSIONS)}")
        elif name not in names:
            names.append(name)
    return tuple(names)


def _networks(members: Members, member: str) -> list[Network]:
    networks = []
    for text in members.texts(member):
        try:
            networks.append(parse_network(text))
        except ValueError as error:
            members.problem(member, f"holds a bad entry: {error}")
    return networks


def _auth(members: Members) -> Auth:
    auth = Auth(
        type=members.choice("type", AUTH_TYPES),
        allowed_types=_allowed_types(members),
        username=members.text("username", MAX_NAME_LENGTH) or None,
        secret=_hash(members, "secretHash", "secretSalt", "hashAlgorithm"),
        token=_hash(members, "tokenHash", "tokenSalt", "tokenHashAlgorithm"),
        next_secret=_hash(members, "nextSecretHash", "nextSecretSalt", "nextHashAlgorithm"),
        next_token=_hash(members, "nextTokenHash", "nextTokenSalt", "nextTokenHashAlgorithm"),
        accept_hex_secret=members.flag("acceptHexSecret"),
        certificates=_bindings(members, "certificates"),
        pending=_bindings(members, "pendingCertificates"),
        subject=members.text("subject", MAX_SUBJECT_LENGTH),
        fingerprint=_fingerprint(members, "fingerprint", members.text("fingerprint", MAX_NAME_LENGTH)),
        revoked_fingerprints=frozenset(
            _fingerprint(members, "revokedFingerprints", text) for text in members.texts("revokedFingerprints")
        ),
        require_serial_match=members.flag("requireSerialMatch"),
        lowest_profile=members.number("lowestProfile", range(HIGHEST_PROFILE + 1)),
    )
    _check_proofs(members, auth)
    return auth


# What a token's hash falls back to.
_SHARED = {
    "tokenHash": ("secretSalt", "hashAlgorithm"),
    "nextTokenHash": ("nextSecretSalt", "nextHashAlgorithm"),
}


def _hash(members: Members, member: str, salt_member: str, algorithm_member: str) -> StoredSecret | None:
    """A hash with the salt and algorithm it was made with; a token without its own shares the secret's."""
    shared_salt, shared_algorithm = _SHARED.get(member, ("", ""))
    if shared_salt and not members.has(salt_member):
        salt_member = shared_salt
    if shared_algorithm and not members.has(algorithm_member):
        algorithm_member = shared_algorithm
    salt = members.text(salt_member, MAX_NAME_LENGTH)
    algorithm = members.choice(algorithm_member, HASH_ALGORITHMS) or "sha256"
    found = _stored_secret(members, member, algorithm, salt)
    if found is not None and len(salt) < MIN_SALT_LENGTH:
        members.problem(salt_member, f"must be given with a hash, as a text of at least {MIN_SALT_LENGTH} characters")
    return found


def _bindings(members: Members, member: str) -> tuple[Binding, ...]:
    """Bindings with a slip are problems, or left out where `members` is lenient: they then match no certificate."""
    found = []
    for part in members.parts(member):
        binding = _binding(part)
        if not part.problems:
            found.append(binding)
        elif not members.lenient:
            members.problems.extend(part.problems)
    return tuple(found)


def _binding(members: Members) -> Binding:
    serial = members.text("serialNumber", MAX_NAME_LENGTH)
    names = members.text("subjectAltName", MAX_SUBJECT_LENGTH)
    binding = Binding(
        fingerprint=_fingerprint(members, "fingerprint", members.text("fingerprint", MAX_NAME_LENGTH)),
        subject=members.text("subject", MAX_SUBJECT_LENGTH),
        names=tuple(name.strip() for name in names.split(",") if name.strip()),
        serial_number=normal_serial(serial) if serial else "",
        valid_from=members.time("validFrom"),
        valid_to=members.time("validTo"),
        revoked=members.choice("status", BINDING_STATUSES) == "revoked",
        charge_point_id=members.text("chargePointId", MAX_ID_LENGTH) or None,
    )
    if serial and not binding.serial_number:
        members.problem("serialNumber", "must be hexadecimal, as `openssl x509 -noout -serial` prints it")
    if any(":" not in name for name in binding.names):
        members.problem("subjectAltName", "must be written with its kind, such as DNS:cp-001.example")
    if not str(binding) and not members.problems:
        members.problem(
            "fingerprint", "or subject, subjectAltName or serialNumber must be given: it names no certificate"
        )
    return binding


_OF_OLD_RECORDS = ("fingerprint", "revokedFingerprints")


def _fingerprint(members: Members, member: str, text: str) -> str:
    if not text:
        return ""
    try:
        return normal_fingerprint(text)
    except ValueError as error:
        if not (members.lenient and member in _OF_OLD_RECORDS):
            members.problem(member, str(error))
        return ""


def _allowed_types(members: Members) -> tuple[str, ...]:
    types = members.texts("allowedTypes")
    for text in types:
        if text not in AUTH_TYPES:
            members.problem("allowedTypes", f"holds {_shown(text)}: write {', '.join(AUTH_TYPES)}")
    return types


def _check_proofs(members: Members, auth: Auth) -> None:
    """Every accepted type needs what it is compared with; a record that can let nobody in is a slip, not a wish."""
    if auth.type and auth.allowed_types and auth.type not in auth.allowed_types:
        members.problem("type", f"is {auth.type}, which allowedTypes leaves out: add it there or drop allowedTypes")
    methods = auth.methods("")
    if "basic" in methods and auth.secret is None:
        members.problem("secretHash", "is needed for basic: hash the password with a salt and store the hex digits")
    if "token" in methods and auth.token is None:
        members.problem("tokenHash", "is needed for token: hash the token with the salt and store the hex digits")


def _stored_secret(members: Members, member: str, algorithm: str, salt: str) -> StoredSecret | None:
    text = members.text(member, MAX_HASH_DIGITS + len(SCRYPT_PREFIX))
    if not text:
        return None
    if text.startswith(SCRYPT_PREFIX):
        algorithm = "scrypt"
    digits = text.removeprefix(SCRYPT_PREFIX)
    longest = MAX_HASH_DIGITS if algorithm == "scrypt" else MIN_HASH_DIGITS
    is_hex = all(digit in string.hexdigits for digit in digits) and len(digits) % 2 == 0
    if not is_hex or not MIN_HASH_DIGITS <= len(digits) <= longest:
        wanted = f"{MIN_HASH_DIGITS} to {longest}" if longest > MIN_HASH_DIGITS else f"{MIN_HASH_DIGITS}"
        members.problem(
            member, f"must be {wanted} hex digits of {algorithm}, an even number; plain secrets are refused"
        )
        return None
    return StoredSecret(algorithm, digest=bytes.fromhex(digits), salt=salt.encode())


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")

"""Whether a handshake may become a session, as far as the request itself tells: path, id, address, subprotocol.

    GET {prefix}/ocpp/{version}/{chargePointId}?{ignored}     version 1.6, 1.6j, 2.0.1 or 2.1 in any case
    GET {prefix}/ocpp/{chargePointId}?{ignored}               the subprotocol alone decides the version
    Sec-WebSocket-Protocol: ocpp1.6, ocpp2.0.1                in the client's order of preference

`{prefix}` is whatever reverse proxies put in front. The id is the last segment of the raw path, percent-decoded once
(OCPP-J 1.6 section 3.1.1; 2.1 part 4 section 3.1.1). A version name alone, as in `/ocpp/1.6`, is a URL that lacks its
id, not a station called "1.6"; such a station is reached as `/ocpp/1.6/1.6`.

Every check is linear in the path's length at worst, because strangers choose it. Stations that are known to bend these
rules are mended where a quirk profile says so: see `ocppgw.access.handshake_repairs`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ocppgw.access.addresses import Network, is_allowed
from ocppgw.access.handshake_repairs import meant_subprotocol, plain_paths
from ocppgw.access.identity import MAX_ID_LENGTH, Identity
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import TlsFacts
from ocppgw.ocpp.quirks import NO_SUBPROTOCOL, SUBPROTOCOL_SPELLING, URL_SPELLING
from ocppgw.ocpp.versions import VERSIONS, OcppVersion

__all__ = [
    "IDENTIFIER_STRING",
    "AdmissionRules",
    "Admitted",
    "HandshakeFacts",
    "Reason",
    "Refused",
    "admit",
    "admit_identity",
    "choose_subprotocol",
]

IDENTIFIER_STRING = re.compile(r"[A-Za-z0-9*\-_=:+|@.]+")  # OCPP 2.x part 2, identifierString; ':' is refused on 2.x
MAX_TARGET_LENGTH = 8192
_MAX_ENCODED_ID = MAX_ID_LENGTH * 4 * 3  # four UTF-8 bytes a character, three characters an escaped byte

_VISIBLE = re.compile(r"[!-~]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PROBED_NAMES = frozenset({"admin", "login", "wp-admin", "phpmyadmin", "xmlrpc"})


@dataclass(frozen=True, slots=True)
class HandshakeFacts:
    """What the socket's edge read. `raw_path` is the request target with its query, still percent-encoded;
    `subprotocols` the client's list in its order; `peer_ip` the peer's address as text, without port; `tls` the facts
    of its TLS connection, None on a plain one."""

    raw_path: str
    subprotocols: Sequence[str]
    peer_ip: str
    is_websocket: bool = True
    tls: TlsFacts | None = None


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """The operator's rules. `id_pattern` must match the whole decoded id; no `allowed` networks means all are allowed;
    `versions` are those served; `repairs_of` names the repairs that are made for an id, None when none are for any."""

    id_pattern: re.Pattern[str] = IDENTIFIER_STRING
    allowed: tuple[Network, ...] = ()
    versions: tuple[OcppVersion, ...] = VERSIONS
    repairs_of: Callable[[str], Collection[str]] | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request is in order. `subprotocol` is the client's own spelling, to be echoed (RFC 6455 section 4.2.2), ""
    when it offers none and that was mended; `repairs` are those that were made."""

    charge_point_id: str
    version: OcppVersion
    subprotocol: str
    repairs: tuple[str, ...] = ()


def claimed_id(raw_path: str) -> str:
    """The id that a request claims, for the record of a refused one; "" when it is none a station could have."""
    if len(raw_path) > MAX_TARGET_LENGTH or not _VISIBLE.fullmatch(raw_path):
        return ""
    place = _split(raw_path.partition("#")[0].partition("?")[0])
    name = _decode_id(place.encoded_id, IDENTIFIER_STRING) if place is not None else ""
    return name if isinstance(name, str) else ""


def admit(request: HandshakeFacts, rules: AdmissionRules) -> Admitted | Refused:
    """Decide on a handshake before anything is looked up. Never raises, whatever the peer sent.

    Scanners are named first, since they hardly ever upgrade; then strangers, who learn nothing about paths and ids.
    """
    target = request.raw_path
    if len(target) > MAX_TARGET_LENGTH or not _VISIBLE.fullmatch(target):
        return Refused(Reason.MALFORMED_REQUEST, "the request target is empty, too long or not visible ASCII")
    path = target.partition("#")[0].partition("?")[0]
    place = _split(path)
    repairs: tuple[str, ...] = ()
    if place is None and rules.repairs_of is not None:
        place, repairs = _mended_place(path, rules)
    if place is None and _is_suspicious(path):
        return Refused(Reason.SUSPICIOUS_PATH)
    if not request.is_websocket:
        return Refused(Reason.NOT_WEBSOCKET)
    if not is_allowed(request.peer_ip, rules.allowed):
        return Refused(Reason.ADDRESS_NOT_ALLOWED)
    if place is None:
        return Refused(Reason.UNKNOWN_PATH)
    return _admit_station(place, request.subprotocols, rules, repairs)


@dataclass(frozen=True, slots=True)
class _Place:
    """A path of the right shape: the version it names, if any, and the id as it was written."""

    version: OcppVersion | None
    encoded_id: str


def _admit_station(
    place: _Place, offers: Sequence[str], rules: AdmissionRules, repairs: tuple[str, ...]
) -> Admitted | Refused:
    charge_point_id = _decode_id(place.encoded_id, rules.id_pattern)
    if isinstance(charge_point_id, Refused):
        return charge_point_id
    chosen = choose_subprotocol(offers, place.version, rules.versions)
    if isinstance(chosen, Refused):
        mended = _mended_choice(chosen.reason, charge_point_id, place.version, offers, rules)
        if mended is None:
            return chosen
        version, subprotocol, repair = mended
        repairs = (*repairs, repair)
    else:
        version, subprotocol = chosen
    if ":" in charge_point_id and version.name.startswith("2"):
        return Refused(Reason.MALFORMED_ID, "':' is not allowed in an id on OCPP 2.x")
    return Admitted(charge_point_id, version, subprotocol, repairs)


def _mended_place(path: str, rules: AdmissionRules) -> tuple[_Place | None, tuple[str, ...]]:
    """What is meant by a path of another shape, when that is known of the id in it."""
    for plain in plain_paths(path):
        place = _split(plain)
        if place is not None:
            name = _decode_id(place.encoded_id, rules.id_pattern)
            is_known = isinstance(name, str) and URL_SPELLING in _repairs_of(name, rules)
            return (place, (URL_SPELLING,)) if is_known else (None, ())
    return None, ()


def _mended_choice(
    reason: Reason, name: str, path_version: OcppVersion | None, offers: Sequence[str], rules: AdmissionRules
) -> tuple[OcppVersion, str, str] | None:
    """The version, the subprotocol to be echoed, and the repair, for a station of which that is known."""
    repairs = _repairs_of(name, rules)
    if reason is Reason.NO_SUBPROTOCOL and NO_SUBPROTOCOL in repairs and path_version in rules.versions:
        assert path_version is not None
        return path_version, "", NO_SUBPROTOCOL
    if reason is Reason.SUBPROTOCOL_NOT_SERVED and SUBPROTOCOL_SPELLING in repairs:
        meant = meant_subprotocol(offers, path_version, rules.versions)
        return None if meant is None else (*meant, SUBPROTOCOL_SPELLING)
    return None


def _repairs_of(name: str, rules: AdmissionRules) -> Collection[str]:
    return () if rules.repairs_of is None else rules.repairs_of(name)


def _split(path: str) -> _Place | None:
    """The version and the id in a path of the right shape, None for every other path."""
    before, _, encoded_id = path.rpartition("/")
    before, _, parent = before.rpartition("/")
    # Dot segments are the path's grammar (RFC 3986 section 5.2.4), so neither can be an id nor stand in a prefix.
    if encoded_id in {"", ".", ".."} or "/../" in f"/{before}/":
        return None
    if parent == "ocpp":
        return None if _version_in_path(encoded_id) else _Place(None, encoded_id)
    version = _version_in_path(parent)
    if version is not None and before.rpartition("/")[2] == "ocpp":
        return _Place(version, encoded_id)
    return None


def _version_in_path(segment: str) -> OcppVersion | None:
    name = segment.lower()
    return next((version for version in VERSIONS if name in version.path_names), None)


def _is_suspicious(path: str) -> bool:
    """Whether a path that no station uses looks like a scanner's (the list is the outside contract's)."""
    text = path.lower().replace("%2e", ".").replace("%2f", "/")
    if "/etc/passwd" in text:
        return True
    selects = text.find("select")
    if selects >= 0 and text.find("from", selects) >= 0:
        return True
    return any(_is_probe(segment) for segment in text.split("/"))


def _is_probe(segment: str) -> bool:
    return segment == ".." or segment.startswith(".env") or segment.partition(".")[0] in _PROBED_NAMES


def _decode_id(encoded: str, pattern: re.Pattern[str]) -> str | Refused:
    """The id, percent-decoded once (RFC 3986 section 2.1)."""
    if len(encoded) > _MAX_ENCODED_ID:
        return Refused(Reason.MALFORMED_ID, "the id is longer than 48 characters")
    if _BAD_ESCAPE.search(encoded):
        return Refused(Reason.MALFORMED_ID, "the id holds a '%' that starts no escape")
    try:
        charge_point_id = unquote_to_bytes(encoded).decode("utf-8")
    except UnicodeDecodeError:
        return Refused(Reason.MALFORMED_ID, "the id is not valid UTF-8 after percent-decoding")
    fault = _fault_of_id(charge_point_id, pattern)
    return Refused(Reason.MALFORMED_ID, fault) if fault else charge_point_id


def _fault_of_id(charge_point_id: str, pattern: re.Pattern[str]) -> str:
    """What is wrong with a decoded id, "" when nothing is. The first three hold whatever pattern is configured."""
    if len(charge_point_id) > MAX_ID_LENGTH:
        return "the id is longer than 48 characters"
    if "/" in charge_point_id or charge_point_id in {".", ".."}:
        return "the id holds '/' or is a dot segment"
    if not charge_point_id.isprintable():
        return "the id holds control characters"
    if not pattern.fullmatch(charge_point_id):
        return "the id does not match the id pattern"
    return ""


def choose_subprotocol(
    offers: Iterable[str], path_version: OcppVersion | None, served: Sequence[OcppVersion]
) -> tuple[OcppVersion, str] | Refused:
    """The first offer that is served, and that agrees with the path's version when the path has one."""
    spellings = [offer.strip() for offer in offers if offer.strip()]
    if not spellings:
        return Refused(Reason.NO_SUBPROTOCOL)
    known = {name.lower(): version for version in served for name in version.subprotocols}
    possible = [(known[spelling.lower()], spelling) for spelling in spellings if spelling.lower() in known]
    if not possible:
        return Refused(Reason.SUBPROTOCOL_NOT_SERVED)
    for version, spelling in possible:
        if path_version is None or version is path_version:
            return version, spelling
    return Refused(Reason.SUBPROTOCOL_MISMATCH)


def security_profile(method: str, *, is_secure: bool) -> int:
    """The OCPP security profile of a connection: 0 no proof, 1 password or token in the clear, 2 the same over TLS,
    3 client certificate (1.6 security whitepaper section 2.2; 2.x part 2, A00)."""
    if method == "mtls":
        return 3
    if method == "none":
        return 0
    return 2 if is_secure else 1


def profile_fault(profile: int, highest: int, lowest_allowed: int | None, least: int) -> Refused | None:
    """A station never falls back below the `highest` profile it has used (A05.FR.07), unless its identity allows it
    down to `lowest_allowed`; and nobody may use one below `least`."""
    if profile < least:
        return Refused(Reason.SECURITY_PROFILE_TOO_LOW, f"profile {profile}; admission.min_security_profile is {least}")
    if profile < highest and (lowest_allowed is None or profile < lowest_allowed):
        return Refused(Reason.SECURITY_PROFILE_LOWERED, f"profile {profile}; it has used profile {highest}")
    return None


def admit_identity(identity: Identity, version: OcppVersion, peer_ip: str) -> Refused | None:
    """What the station's own record forbids, None when nothing; ask after the credentials were found right, so that
    only the station itself learns why."""
    if identity.status != "active":
        return Refused(Reason.IDENTITY_DISABLED)
    if not is_allowed(peer_ip, identity.allowed_networks):
        return Refused(Reason.ADDRESS_NOT_ALLOWED_FOR_STATION)
    if identity.allowed_protocols and version.name not in identity.allowed_protocols:
        return Refused(Reason.PROTOCOL_NOT_ALLOWED)
    return None

"""Tokens (RFID cards, key codes, accounts) that the gateway itself knows, from a file that is read again on demand.

    [{"idToken": "B4F62CEF", "status": "Accepted", "expiryDate": "2027-01-01T00:00:00Z", "parent": "FLEET-7"},
     {"idToken": "DE*ABC*C12", "type": "eMAID", "status": "Blocked"}]

Tokens are compared without regard to case (1.6 CiString20Type; 2.x identifierString, part 2 section 3.1). A token whose
time is over is Expired, whatever its status. `parent` groups tokens: 1.6 parentIdTag, 2.x groupIdToken.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ocppgw.errors import OcppgwError

MAX_TOKEN = 255  # of 2.1; 1.6 has 20, 2.0.1 has 36
MAX_PARENT = 20  # so that 1.6 can have it, too
STATUSES = frozenset(
    {
        *("Accepted", "Blocked", "ConcurrentTx", "Expired", "Invalid", "NoCredit", "NotAllowedTypeEVSE"),
        *("NotAtThisLocation", "NotAtThisTime", "Unknown"),
    }
)
MEMBERS = ("idToken", "type", "status", "expiryDate", "parent")
EXPIRED = "Expired"


class TokenFileError(OcppgwError):
    """A token file can't be used; the message lists what is wrong with which entry."""

    code = "TokensInvalid"


class KnownToken(msgspec.Struct, frozen=True):
    """`kind`: the 2.x type it has to have, None for any; `expires_at` in seconds since the epoch."""

    status: str = "Accepted"
    kind: str | None = None
    expires_at: float | None = None
    parent: str | None = None

    def status_at(self, now: float) -> str:
        return EXPIRED if self.expires_at is not None and self.expires_at <= now else self.status


class TokenBook:
    """What is known at the moment; sessions keep the book, a reload puts other pages into it."""

    def __init__(self, tokens: Mapping[str, KnownToken] | None = None) -> None:
        self._tokens: Mapping[str, KnownToken] = tokens or {}

    def __len__(self) -> int:
        return len(self._tokens)

    def put(self, tokens: Mapping[str, KnownToken]) -> None:
        self._tokens = tokens

    def find(self, token: str, kind: str | None = None) -> KnownToken | None:
        """`kind`: the type the station says it is (2.x)."""
        known = self._tokens.get(token.casefold())
        if known is None or None in (kind, known.kind) or known.kind == kind:
            return known
        return None


def parse_tokens(document: Any) -> dict[str, KnownToken]:
    """The tokens of a decoded file, by their names in lower case. TokenFileError names every bad entry."""
    if not isinstance(document, list):
        raise TokenFileError("it must be a JSON list of tokens")
    tokens: dict[str, KnownToken] = {}
    faults: list[str] = []
    for place, entry in enumerate(document):
        try:
            name, token = _token(entry)
            if name in tokens:
                raise ValueError(f"{entry['idToken']!r} is there twice")
            tokens[name] = token
        except ValueError as fault:
            faults.append(f"entry {place}: {fault}")
    if faults:
        shown = "; ".join(faults[:10])
        raise TokenFileError(shown if len(faults) <= 10 else f"{shown}; and {len(faults) - 10} more")
    return tokens


def _token(entry: Any) -> tuple[str, KnownToken]:
    if not isinstance(entry, dict):
        raise ValueError("it must be a JSON object")
    unknown = [name for name in entry if name not in MEMBERS]
    if unknown:
        raise ValueError(f"there is no member {unknown[0]!r}; known: {', '.join(MEMBERS)}")
    name = _text(entry, "idToken", MAX_TOKEN)
    if name is None:
        raise ValueError("idToken is missing")
    status = _text(entry, "status", MAX_TOKEN) or "Accepted"
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(sorted(STATUSES))}")
    token = KnownToken(status, _text(entry, "type", 20), _time(entry), _text(entry, "parent", MAX_PARENT))
    return name.casefold(), token


def _text(entry: Mapping[str, Any], name: str, longest: int) -> str | None:
    value = entry.get(name)
    if value is None or (isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()):
        return value
    raise ValueError(f"{name} must be a text of 1 to {longest} printable characters")


def _time(entry: Mapping[str, Any]) -> float | None:
    text = entry.get("expiryDate")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError("expiryDate must be an RFC 3339 time with its zone, such as 2027-01-01T00:00:00Z")

"""What stands in Redis, read and written. Anybody may have written it: what can't be read is never an exception."""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
encode = msgspec.json.Encoder().encode

_SEARCHED = ("chargePointId", "stationId", "tenantId")


def read_identity(raw: bytes | None) -> dict[str, Any] | None:
    """{} for what is not a JSON object: an identity that lets nobody in."""
    return None if raw is None else _object(raw) or {}


def read_revocation(fingerprint: str, raw: bytes | None) -> Mapping[str, Any] | None:
    """Whatever stands there, the certificate is revoked: `1`, or the audit entry."""
    return None if raw is None else _object(raw) or {"fingerprint": fingerprint}


def read_profile(raw: bytes | None) -> int:
    return int(raw) if raw is not None and raw in (b"1", b"2", b"3") else 0


def read_with_id(charge_point_id: str, raw: bytes | None) -> dict[str, Any] | None:
    """With an id in any case, for those who change or list identities: if need be the one it is stored under."""
    if raw is None:
        return None
    identity = _object(raw) or {}
    if isinstance(identity.get("chargePointId"), str):
        return identity
    return {**identity, "chargePointId": charge_point_id}


def matches(identity: Mapping[str, Any], wanted: str) -> bool:
    return any(wanted in str(identity.get(member, "")).casefold() for member in _SEARCHED)


def digest(raw: bytes | None) -> bytes:
    return b"" if raw is None else blake2b(raw, digest_size=16).digest()


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        return _decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None

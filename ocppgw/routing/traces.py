"""Which connection attempts are a station's, also of those that never came to tell its id.

An attempt that fails in TLS names no station. It is found by what it left: a certificate that the station's identity is
bound to, one with the station's id as its common name, or the address that the station used lately. An address may be
shared by many stations, so what only it speaks for is marked `"matchedBy": "address"`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ocppgw.access.attempts import StoredAttempt, shown
from ocppgw.access.bindings import Binding
from ocppgw.access.identity import Auth, IdentityError, parse_identity
from ocppgw.ports import AttemptQuery, Store

LATEST = 20  # own attempts whose addresses are believed to be the station's

_COMMON_NAME = re.compile(r"(?:^|[,/])\s*CN\s*=\s*((?:\\.|[^,/\\])+)", re.IGNORECASE)


async def find_attempts(store: Store, query: AttemptQuery) -> list[dict[str, Any]]:
    """See `ports.GatewayApi.attempts`."""
    if query.charge_point_id:
        known = await store.look_up(query.charge_point_id)
        own = await store.attempts(AttemptQuery(charge_point_id=query.charge_point_id, limit=LATEST))
        query = widened(query, known.identity, own)
    return [_shown(kept, query) for kept in await store.attempts(query)]


def widened(query: AttemptQuery, identity: Mapping[str, Any] | None, own: Sequence[StoredAttempt]) -> AttemptQuery:
    """The query for a station, with all that its attempts may be known by."""
    auth = _auth(identity)
    bindings = (*auth.certificates, *auth.pending, Binding(auth.fingerprint, auth.subject))
    return msgspec.structs.replace(
        query,
        fingerprints=_distinct(*query.fingerprints, *(binding.fingerprint for binding in bindings)),
        common_names=_distinct(*query.common_names, query.charge_point_id, *_common_names(bindings)),
        addresses=_distinct(*query.addresses, *(kept.address for kept in own)),
    )


def _auth(identity: Mapping[str, Any] | None) -> Auth:
    try:
        return Auth() if identity is None else parse_identity(identity, lenient=True).auth
    except IdentityError:
        return Auth()


def _common_names(bindings: Sequence[Binding]) -> Iterator[str]:
    """`CP-001`, `CN=CP-001` and a whole name all tell the common name."""
    for subject in (binding.subject.strip() for binding in bindings):
        found = _COMMON_NAME.search(subject)
        if found:
            yield found[1].strip().replace("\\", "")
        elif "=" not in subject:
            yield subject


def _distinct(*texts: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


def _shown(kept: StoredAttempt, query: AttemptQuery) -> dict[str, Any]:
    told = shown(kept)
    by_certificate = kept.fingerprint in query.fingerprints or kept.common_name in query.common_names
    if query.charge_point_id and kept.charge_point_id != query.charge_point_id and not by_certificate:
        told["matchedBy"] = "address"
    return told

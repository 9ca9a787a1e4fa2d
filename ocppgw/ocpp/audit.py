"""Audit events: who changed which station's rights, when and why (the outside contract, section 3).

    {"eventId", "eventType", "source": "ocpp-gateway", "occurredAt", "stationId"?, "tenantId"?, "chargePointId"?,
     "payload": {…, "actorId", "actorType", "ip", "reason", "nodeId"}}

They stand on the audit topic under the charge point id, or under the fingerprint for a certificate that was revoked.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.events import SOURCE, name_based_id
from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import AUDIT


class Audit(msgspec.Struct, frozen=True, rename="camel"):
    """Who does it, from where and why; the defaults are the contract's."""

    actor_id: str = "unknown"
    actor_type: str = "system"
    ip: str = ""
    reason: str = "manual-provision"


def by_gateway(node_id: str, reason: str) -> Audit:
    """The gateway itself did it, as part of a flow of the protocol."""
    return Audit(node_id, "gateway", "", reason)


def identity_event(
    event_type: str,
    identity: Mapping[str, Any],
    payload: Mapping[str, Any],
    audit: Audit,
    now: float,
    node_id: str,
    unique: str,
) -> Record:
    """ChargerIdentityUpserted or ChargerIdentityDeleted of this identity; `unique` is a fresh UUID."""
    key = identity["chargePointId"]
    members = {name: identity[name] for name in ("stationId", "tenantId", "chargePointId") if name in identity}
    return _record(event_type, key, members, payload, audit, now, node_id, unique)


def revocation_event(fingerprint: str, audit: Audit, now: float, node_id: str, unique: str) -> Record:
    """ChargerCertificateRevoked."""
    payload = {"fingerprint": fingerprint}
    return _record("ChargerCertificateRevoked", fingerprint, {}, payload, audit, now, node_id, unique)


def _record(
    event_type: str,
    key: str,
    members: Mapping[str, Any],
    payload: Mapping[str, Any],
    audit: Audit,
    now: float,
    node_id: str,
    unique: str,
) -> Record:
    event = {
        "eventId": name_based_id("audit", event_type, key, unique),
        "eventType": event_type,
        "source": SOURCE,
        "occurredAt": rfc3339(now).decode(),
        **members,
        "payload": {**payload, **msgspec.to_builtins(audit), "nodeId": node_id},
    }
    return Record(AUDIT, key, dumps(event))

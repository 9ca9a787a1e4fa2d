"""Provisioning over HTTP. Every change says who made it and why:

    "audit": {"actorId"?, "actorType"?, "ip"?, "reason"?}      defaults: unknown, system, the peer's address,
                                                               manual-provision

Identities in answers are masked; ?full=true shows them with their hashes and salts, for an export.
"""

from typing import Any

from ocppgw.access.identity_edits import Kind
from ocppgw.net.web.body import flag, json_object, only, part, text
from ocppgw.net.web.query import boolean, integer, parameters
from ocppgw.net.web.replies import HttpError, Route, reply
from ocppgw.net.web.request import OperationsRequest
from ocppgw.ocpp.audit import Audit
from ocppgw.ports import GatewayApi
from ocppgw.routing.provisioning import NewSecret, ProvisioningApi

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_KINDS: dict[str, Kind] = {"secret": "secret", "token": "token"}
_STATUSES = {"enable": "active", "disable": "disabled"}


class IdentityRoutes:
    """The handlers over `ProvisioningApi`; `api` knows who is connected."""

    def __init__(self, provisioning: ProvisioningApi, api: GatewayApi) -> None:
        self._provisioning, self._api = provisioning, api

    def table(self) -> tuple[Route, ...]:
        one = "/v1/identities/<path:charge_point_id>"
        return (
            ("/v1/identities", "GET", self.list),
            ("/v1/identities", "POST", self.store),
            (one, "GET", self.show),
            (f"{one}/rotate-secret", "POST", self.rotate_secret),
            (f"{one}/certificates", "POST", self.add_certificate),
            (f"{one}/<any(enable, disable):change>", "POST", self.set_status),
            (f"{one}/delete", "POST", self.delete),
            ("/v1/revocations", "GET", self.revocations),
            ("/v1/revocations", "POST", self.revoke),
        )

    async def list(self, request: OperationsRequest) -> bytes:
        """Identities by id: ?search=, ?offset=, ?limit=, ?full=true."""
        query = parameters(request, "search", "offset", "limit", "full")
        limit, offset = integer(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT), integer(query, "offset", 0, 0)
        full = boolean(query, "full") is True
        page = await self._provisioning.page(query.get("search", ""), offset, limit, full=full)
        shown = {"identities": page.identities, "total": page.total, "offset": offset, "limit": limit}
        return reply(request, 200, shown)

    async def show(self, request: OperationsRequest, charge_point_id: str) -> bytes:
        """One identity, its security profile, and whether it is connected: ?full=true."""
        full = boolean(parameters(request, "full"), "full") is True
        shown = await self._provisioning.show(charge_point_id, full=full)
        station = await self._api.station(charge_point_id)
        return reply(request, 200, {**shown, "connected": station is not None and station["connected"] is True})

    async def store(self, request: OperationsRequest) -> bytes:
        """Store one `identity`, or several `identities`: all of them, or none when one of them is not valid."""
        body = _body(request, "identity", "identities")
        if ("identity" in body) == ("identities" in body):
            raise HttpError(400, "BadMember", "The body must have either identity or identities.")
        identities = body.get("identities", [body.get("identity")])
        if not isinstance(identities, list):
            raise HttpError(400, "BadMember", "identities must be a list.")
        return reply(request, 200, await self._provisioning.upsert(identities, _audit(request, body)))

    async def rotate_secret(self, request: OperationsRequest, charge_point_id: str) -> bytes:
        """Give it a new secret or token: {"kind", "hash", "salt", "algorithm"?, "immediately"?}."""
        body = _body(request, "kind", "hash", "salt", "algorithm", "immediately")
        new = _new_secret(body)
        shown = await self._provisioning.rotate_secret(charge_point_id, new, _audit(request, body))
        return reply(request, 200, shown)

    async def add_certificate(self, request: OperationsRequest, charge_point_id: str) -> bytes:
        """Bind a certificate next to those that are bound: {"certificate": {…}}."""
        body = _body(request, "certificate")
        if not body.get("certificate"):
            raise HttpError(400, "BadMember", "certificate must be a JSON object that names a certificate.")
        binding = part(body, "certificate")
        return reply(
            request, 200, await self._provisioning.add_certificate(charge_point_id, binding, _audit(request, body))
        )

    async def set_status(self, request: OperationsRequest, charge_point_id: str, change: str) -> bytes:
        """Let it in again, or cut it off."""
        audit = _audit(request, _body(request))
        return reply(request, 200, await self._provisioning.set_status(charge_point_id, _STATUSES[change], audit))

    async def delete(self, request: OperationsRequest, charge_point_id: str) -> bytes:
        """Delete it, and cut it off."""
        await self._provisioning.delete(charge_point_id, _audit(request, _body(request)))
        return reply(request, 200, {"deleted": True})

    async def revocations(self, request: OperationsRequest) -> bytes:
        """The denylist, newest first."""
        parameters(request)
        return reply(request, 200, {"revocations": await self._provisioning.revocations()})

    async def revoke(self, request: OperationsRequest) -> bytes:
        """Put a certificate on the denylist, and cut off who uses it: {"fingerprint"}."""
        body = _body(request, "fingerprint")
        return reply(request, 200, await self._provisioning.revoke(text(body, "fingerprint"), _audit(request, body)))


def _body(request: OperationsRequest, *known: str) -> dict[str, Any]:
    body = json_object(request)
    only(body, (*known, "audit"))
    return body


def _audit(request: OperationsRequest, body: dict[str, Any]) -> Audit:
    audit = part(body, "audit")
    only(audit, ("actorId", "actorType", "ip", "reason"), "audit")
    default = Audit(ip=request.peer_address())
    return Audit(
        text(audit, "actorId", default.actor_id),
        text(audit, "actorType", default.actor_type),
        text(audit, "ip", default.ip),
        text(audit, "reason", default.reason),
    )


def _new_secret(body: dict[str, Any]) -> NewSecret:
    """What the hash must look like is the identity's matter; it names what is wrong with it."""
    kind = _KINDS.get(text(body, "kind"))
    if kind is None:
        raise HttpError(400, "BadMember", "kind must be secret or token.")
    return NewSecret(
        kind,
        text(body, "hash"),
        text(body, "salt"),
        text(body, "algorithm", "sha256"),
        flag(body, "immediately"),
    )

"""Provisioning: who may connect is changed here, each change checked first and stored together with its audit event.

What comes in is the JSON of the outside contract (section 2) with salted hashes; a plain secret is refused. What goes
out is masked unless it is asked for in full.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, FirstError, gatherResults

from ocppgw.access.certificates import normal_fingerprint
from ocppgw.access.identity import Identity, IdentityError, parse_identity
from ocppgw.access.identity_edits import (
    MAX_CERTIFICATES,
    Kind,
    add_certificate,
    masked,
    set_next,
    set_now,
    unhashed,
)
from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.ocpp.audit import Audit, identity_event, revocation_event
from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import Edit, IdentityPage, Known, Store

MAX_IDENTITIES = 500  # in one request
AT_ONCE = 50  # then the reactor has its turn: checking or storing one takes about 50 µs
MAX_PROBLEMS = 20  # named in one answer
FILE_AUDIT = Audit(actor_id="unknown", actor_type="system", ip="", reason="identity-file")

_METHODS: Mapping[Kind, str] = {"secret": "basic", "token": "token"}
_SHOWN_ONLY = ("securityProfile", "connected")  # what `show` adds is not stored when somebody sends it back


class ProvisioningError(OcppgwError):
    """What is asked for can't be done as it stands; nothing was stored."""

    code = "IdentityInvalid"


class UnknownIdentity(OcppgwError):
    """There is no identity with this id."""

    code = "UnknownIdentity"

    def __init__(self, charge_point_id: str) -> None:
        super().__init__(f"there is no identity {charge_point_id!r}", hint="ocppgw list shows those that there are")


class NewSecret(msgspec.Struct, frozen=True):
    """A salted hash as the contract has it; `immediately`: the old secret is refused from now on, else both are good
    until the new one is first used."""

    kind: Kind
    digits: str
    salt: str
    algorithm: str = "sha256"
    immediately: bool = False

    def __repr__(self) -> str:
        return f"NewSecret({self.kind!r})"


class ProvisioningApi(Protocol):
    """What the operations HTTP offers of it. Identities that come back are masked unless `full`; dicts are JSON-ready.

    Errors: IdentityError, ProvisioningError (code IdentityInvalid, or one of its own), UnknownIdentity, and those of
    the store.
    """

    def upsert(self, identities: Sequence[Any], audit: Audit) -> "Deferred[dict[str, int]]":
        """Store these identities whole, in place of those with the same ids: {"stored", "created", "updated"}."""

    def rotate_secret(self, charge_point_id: str, new: NewSecret, audit: Audit) -> "Deferred[dict[str, Any]]": ...

    def add_certificate(
        self, charge_point_id: str, binding: Mapping[str, Any], audit: Audit
    ) -> "Deferred[dict[str, Any]]": ...

    def set_status(self, charge_point_id: str, status: str, audit: Audit) -> "Deferred[dict[str, Any]]":
        """active or disabled; nothing happens when it is so already."""

    def delete(self, charge_point_id: str, audit: Audit) -> "Deferred[None]": ...

    def revoke(self, fingerprint: str, audit: Audit) -> "Deferred[dict[str, Any]]":
        """Put a certificate on the denylist; fires with its entry. `fingerprint` in any spelling."""

    def revocations(self) -> "Deferred[list[dict[str, Any]]]":
        """The denylist, newest first."""

    def page(self, search: str, offset: int, limit: int, *, full: bool) -> "Deferred[IdentityPage]": ...

    def show(self, charge_point_id: str, *, full: bool) -> "Deferred[dict[str, Any]]":
        """The identity and the highest security profile it has used."""


class Provisioning:
    """(ProvisioningApi) `new_id` makes UUIDs."""

    def __init__(self, store: Store, clock: Clock, node_id: str, new_id: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._node_id = node_id
        self._new_id = new_id

    def upsert(self, identities: Sequence[Any], audit: Audit) -> "Deferred[dict[str, int]]":
        return Deferred.fromCoroutine(self._upsert(identities, audit))

    async def _upsert(self, identities: Sequence[Any], audit: Audit) -> dict[str, int]:
        await self._check_all(identities)
        stored: list[Deferred[bool]] = []
        async for some in self._slices(identities):
            stored += [self._put(identity, audit) for identity in some]
        try:
            is_new = await gatherResults(stored, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        return {"stored": len(is_new), "created": sum(is_new), "updated": len(is_new) - sum(is_new)}

    def _put(self, identity: Mapping[str, Any], audit: Audit) -> "Deferred[bool]":
        is_new = False
        record = {name: value for name, value in identity.items() if name not in _SHOWN_ONLY}

        def put(current: dict[str, Any] | None) -> Edit:
            nonlocal is_new
            is_new = current is None
            return Edit(record, self._upserted(record, "provisioned", audit))

        return self._store.edit_identity(record["chargePointId"], put).addCallback(lambda _: is_new)

    def rotate_secret(self, charge_point_id: str, new: NewSecret, audit: Audit) -> "Deferred[dict[str, Any]]":
        def rotate(identity: dict[str, Any]) -> str:
            methods = parse_identity(identity, lenient=True).auth.methods("")
            if methods != ("",) and _METHODS[new.kind] not in methods:
                raise ProvisioningError(
                    f"{charge_point_id} doesn't prove itself by a {new.kind}, but by {' or '.join(methods)}",
                    hint=f"provision it with {_METHODS[new.kind]} in auth.type or auth.allowedTypes",
                    code="AuthTypeNotAllowed",
                )
            change = set_now if new.immediately else set_next
            change(identity, new.kind, new.digits, new.salt, new.algorithm)
            return "secret-rotated"

        return self._change(charge_point_id, rotate, audit, kind=new.kind, immediately=new.immediately)

    def add_certificate(
        self, charge_point_id: str, binding: Mapping[str, Any], audit: Audit
    ) -> "Deferred[dict[str, Any]]":
        def bind(identity: dict[str, Any]) -> str:
            add_certificate(identity, binding)
            if len(identity["auth"]["certificates"]) > MAX_CERTIFICATES:
                raise ProvisioningError(
                    f"{charge_point_id} has {MAX_CERTIFICATES} certificates already",
                    hint="provision it anew without those that are over",
                )
            return "certificate-added"

        return self._change(charge_point_id, bind, audit)

    def set_status(self, charge_point_id: str, status: str, audit: Audit) -> "Deferred[dict[str, Any]]":
        def set_(identity: dict[str, Any]) -> str:
            if identity.get("status", "active") == status:
                return ""
            identity["status"] = status
            return "enabled" if status == "active" else "disabled"

        return self._change(charge_point_id, set_, audit)

    def delete(self, charge_point_id: str, audit: Audit) -> "Deferred[None]":
        def delete(identity: dict[str, Any] | None) -> Edit:
            if identity is None:
                raise UnknownIdentity(charge_point_id)
            return Edit(None, self._event("ChargerIdentityDeleted", identity, {}, audit))

        return self._store.edit_identity(charge_point_id, delete).addCallback(lambda _: None)

    def revoke(self, fingerprint: str, audit: Audit) -> "Deferred[dict[str, Any]]":
        return Deferred.fromCoroutine(self._revoke(fingerprint, audit))

    async def _revoke(self, fingerprint: str, audit: Audit) -> dict[str, Any]:
        try:
            normal = normal_fingerprint(fingerprint)
        except ValueError as error:
            raise ProvisioningError(f"fingerprint {error}", code="FingerprintInvalid") from None
        now = self._clock.seconds()
        entry = {"fingerprint": normal, "revokedAt": rfc3339(now).decode(), **msgspec.to_builtins(audit)}
        event = revocation_event(normal, audit, now, self._node_id, self._new_id())
        await self._store.revoke_certificate(normal, entry, event)
        return entry

    def revocations(self) -> "Deferred[list[dict[str, Any]]]":
        def listed(entries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
            rows = [{**entry, "fingerprint": fingerprint} for fingerprint, entry in entries.items()]
            return sorted(rows, key=lambda row: str(row.get("revokedAt", "")), reverse=True)

        return self._store.revocations().addCallback(listed)

    def page(self, search: str, offset: int, limit: int, *, full: bool) -> "Deferred[IdentityPage]":
        def shown(page: IdentityPage) -> IdentityPage:
            return page if full else IdentityPage([masked(identity) for identity in page.identities], page.total)

        return self._store.identities(search, offset, limit).addCallback(shown)

    def show(self, charge_point_id: str, *, full: bool) -> "Deferred[dict[str, Any]]":
        def shown(known: Known) -> dict[str, Any]:
            if known.identity is None:
                raise UnknownIdentity(charge_point_id)
            identity = dict(known.identity) if full else masked(known.identity)
            return {**identity, "securityProfile": known.security_profile}

        return self._store.look_up(charge_point_id).addCallback(shown)

    def file_event(self, event_type: str, identity: Mapping[str, Any]) -> Record:
        """The audit event of an identity that was taken from its file, or deleted because the file is gone."""
        payload = {"change": "file", "status": identity.get("status", "active")}
        return self._event(event_type, identity, payload, FILE_AUDIT)

    # --- inside

    async def _check_all(self, identities: Sequence[Any]) -> None:
        """Raises an OcppgwError that names what is wrong with any of them."""
        if not 0 < len(identities) <= MAX_IDENTITIES:
            raise ProvisioningError(
                f"{len(identities)} identities can't be stored at once", hint=f"send 1 to {MAX_IDENTITIES}"
            )
        faults: list[IdentityError] = []
        async for some in self._slices(identities):
            faults += [fault for fault in map(_fault, some) if fault is not None]
        if faults:
            raise faults[0] if len(identities) == 1 else _all_of(faults)
        counts = Counter(identity["chargePointId"] for identity in identities)
        twice = [name for name, count in counts.items() if count > 1][:MAX_PROBLEMS]
        if twice:
            raise ProvisioningError(f"given more than once: {', '.join(twice)}", hint="send each identity once")

    async def _slices(self, identities: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
        for start in range(0, len(identities), AT_ONCE):
            if start:
                paused: Deferred[None] = Deferred()
                self._clock.callLater(0, paused.callback, None)
                await paused
            yield identities[start : start + AT_ONCE]

    def _change(
        self, charge_point_id: str, change: Callable[[dict[str, Any]], str], audit: Audit, **details: Any
    ) -> "Deferred[dict[str, Any]]":
        """`change` edits the identity and says what it did, "" for nothing; `details` go into the event."""

        def edit(identity: dict[str, Any] | None) -> Edit | None:
            if identity is None:
                raise UnknownIdentity(charge_point_id)
            before = _problems(identity)
            done = change(identity)
            new = [problem for problem in _problems(identity) if problem not in before]
            if new:  # a slip that was stored long ago is no reason to refuse a rotation
                raise IdentityError(charge_point_id, new)
            return Edit(identity, self._upserted(identity, done, audit, details)) if done else None

        return self._store.edit_identity(charge_point_id, edit).addCallback(_masked)

    def _upserted(
        self, identity: Mapping[str, Any], change: str, audit: Audit, details: Mapping[str, Any] | None = None
    ) -> Record:
        payload = {"change": change, "status": identity.get("status", "active"), **(details or {})}
        return self._event("ChargerIdentityUpserted", identity, payload, audit)

    def _event(self, event_type: str, identity: Mapping[str, Any], payload: Mapping[str, Any], audit: Audit) -> Record:
        now = self._clock.seconds()
        return identity_event(event_type, identity, payload, audit, now, self._node_id, self._new_id())


def check_identity(identity: Any) -> Identity:
    """The parsed identity, if it may be stored; IdentityError names every bad member, plain secrets too."""
    plain = unhashed(identity)
    if plain:
        name = identity.get("chargePointId")
        raise IdentityError(name if isinstance(name, str) else "(unnamed)", [*plain, *_problems(identity)])
    return parse_identity(identity)


def _fault(identity: Any) -> IdentityError | None:
    try:
        check_identity(identity)
    except IdentityError as error:
        return error
    return None


def _masked(stored: Mapping[str, Any] | None) -> dict[str, Any]:
    assert stored is not None  # no change here deletes
    return masked(stored)


def _problems(identity: Any) -> tuple[str, ...]:
    try:
        parse_identity(identity)
    except IdentityError as error:
        return error.problems
    return ()


def _all_of(faults: Sequence[IdentityError]) -> ProvisioningError:
    named = "; ".join(str(fault) for fault in faults[:MAX_PROBLEMS])
    more = len(faults) - MAX_PROBLEMS
    return ProvisioningError(f"{named}; and {more} more" if more > 0 else named, hint="nothing was stored")

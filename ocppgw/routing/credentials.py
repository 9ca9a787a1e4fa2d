"""What stations prove themselves with, while it is being replaced.

    password     announce -> next secret stored beside the old one -> CALL -> settle -> one of them, or both until the
                 new one is first used
    certificate  hand_over -> pending -> CertificateSigned -> taken_back when the station refuses it, else bound next
                 to the old one when the station is first seen with it

A station may take a new password and never say so: its answer gets lost, it starts anew, the gateway is killed. So the
new one is good before the station can have it, and the old one is until it is known that the station has the new one.
Everything is one edit of the stored identity with its audit event. Stations without identity prove nothing: nothing is
kept for them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from ocppgw.access.authenticate import Hashing
from ocppgw.access.certificates import normal_fingerprint
from ocppgw.access.identity_edits import Kind, add_pending, bind_pending, drop_next, promote_next, set_next, set_now
from ocppgw.clock import Clock
from ocppgw.errors import CommandError
from ocppgw.ocpp.audit import by_gateway, identity_event
from ocppgw.ocpp.effects import CommandResult
from ocppgw.ocpp.secrets import Verdict, certificate_verdict, new_password, password_verdict
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import OcppVersion
from ocppgw.ports import Edit, Store
from ocppgw.routing.links import Links

log = Logger(namespace="ocppgw.credentials")

STATION_CERTIFICATE = "ChargingStationCertificate"  # also what is meant where a message names no type
SECRET: Final = "secret"  # noqa: S105  the kind, as the identity edits name it
MAX_PENDING_CERTIFICATES = 8  # of one station; beyond it the one handed over first is forgotten

InThread = Callable[[Callable[[], Any]], "Deferred[Any]"]


class Change(Protocol):
    """What one command changes of how its station proves itself."""

    def announce(self) -> "Deferred[None]":
        """Let the old and the new in. Fails with an OcppgwError: the CALL then must not go out."""

    def settle(self, result: CommandResult, *, sent: bool) -> "Deferred[None]":
        """Draw the consequence of the command's end; `sent`: its CALL went out. Called once, announced or not."""


@dataclass(slots=True)
class _Next:
    """A new secret as the identity stores it; `displaced` is the next secret that it took the place of."""

    salt: str
    algorithm: str
    digest: str = field(default="", repr=False)
    displaced: tuple[str, str, str] | None = field(default=None, repr=False)


class Credentials:
    """`new_id` makes UUIDs (for events, and for salts); `in_thread(function)` runs it off the reactor; `hashing`: how
    new secrets are hashed."""

    def __init__(
        self,
        store: Store,
        links: Links,
        clock: Clock,
        node_id: str,
        new_id: Callable[[], str],
        in_thread: InThread,
        hashing: Hashing,
    ) -> None:
        self._store = store
        self._links = links
        self._clock = clock
        self._node_id = node_id
        self._new_id = new_id
        self._in_thread = in_thread
        self._hashing = hashing
        self._announced: dict[str, _Next] = {}  # one a station, while its command is open

    def change(
        self, charge_point_id: str, version: OcppVersion, action: str, payload: Mapping[str, Any]
    ) -> Change | None:
        """What a valid CALL changes; None: nothing. CommandError for a change that can't be made."""
        secret = new_password(version, action, payload)
        if secret is not None:
            return _PasswordChange(self, charge_point_id, version, secret)
        if action != "CertificateSigned" or payload.get("certificateType", STATION_CERTIFICATE) != STATION_CERTIFICATE:
            return None
        binding = _binding(payload["certificateChain"], charge_point_id)
        if binding is None:
            log.warn("CertificateSigned holds no readable certificate: nothing to bind", station=charge_point_id)
            return None
        return _HandOver(self, charge_point_id, version, binding)

    # --- passwords

    def announce(self, charge_point_id: str, secret: bytes) -> "Deferred[None]":
        """Make the new secret good beside the old one, until it is settled which the station has."""
        if charge_point_id in self._announced:
            return fail(
                CommandError(
                    "another change of this station's password is under way",
                    hint="wait for its end",
                    code="PasswordChangeUnderWay",
                )
            )
        new = _Next(self._new_id(), self._hashing.algorithm)
        self._announced[charge_point_id] = new

        def forget(failure: Any) -> Any:
            del self._announced[charge_point_id]
            return failure

        hashed = self._in_thread(lambda: self._hashing.digest(secret, new.salt.encode(), new.algorithm))
        hashed.addCallback(self._announce, charge_point_id, new)
        return hashed.addErrback(forget)

    def _announce(self, digest: bytes, charge_point_id: str, new: _Next) -> "Deferred[None]":
        new.digest = digest.hex()

        def edit(identity: dict[str, Any]) -> str:
            new.displaced = _next_secret(identity["auth"])
            set_next(identity, SECRET, new.digest, new.salt, new.algorithm)
            return "secret-rotated"

        return self._edit(charge_point_id, edit, "a command sets the station's password")

    def settle(self, charge_point_id: str, verdict: Verdict) -> "Deferred[None]":
        """Of an announced secret: accepted, the old one is refused from now on; rejected, the new one is; both: the
        old one is refused once the new one was used. If it can't be stored, both stay, too."""
        new = self._announced.pop(charge_point_id, None)
        if new is None or verdict == "both":
            return succeed(None)
        if verdict == "accepted":
            self._renew_proof(charge_point_id, new)
            return self._edit(charge_point_id, lambda identity: _take(identity, new), "the station took its password")
        return self._edit(charge_point_id, lambda identity: _withdraw(identity, new), "the station kept its password")

    def _renew_proof(self, charge_point_id: str, new: _Next) -> None:
        """The connection on which the station took its new password is not one with a secret that was withdrawn."""
        link = self._links.get(charge_point_id)
        if link is not None and link.proof.method == "basic":
            link.proof = replace(link.proof, digest=bytes.fromhex(new.digest))

    def first_used(self, charge_point_id: str, kind: Kind, digest: bytes | None = None) -> "Deferred[None]":
        """The station got in with its next secret: it takes the old one's place. `digest`: of the secret that was used,
        where it is known; another one, stored since, stays the next."""

        def edit(identity: dict[str, Any]) -> str:
            return "secret-in-use" if promote_next(identity, kind, digest) else ""

        used = self._edit(charge_point_id, edit, f"the station used its next {kind}")
        return used.addErrback(_not_stored, charge_point_id)

    # --- certificates

    def hand_over(self, charge_point_id: str, binding: Mapping[str, Any]) -> "Deferred[bool]":
        """Let the station in with this certificate, too; fires with False when it was known before."""
        added = False

        def edit(identity: dict[str, Any]) -> str:
            nonlocal added
            auth = identity["auth"]
            known = [*_list(auth, "certificates"), *_list(auth, "pendingCertificates")]
            if any(_is_of(one, binding["fingerprint"]) for one in known):
                return ""
            add_pending(identity, dict(binding))
            del auth["pendingCertificates"][:-MAX_PENDING_CERTIFICATES]
            added = True
            return "certificate-added"

        stored = self._edit(charge_point_id, edit, "a command hands the station a certificate")
        return stored.addCallback(lambda _: added)

    def take_back(self, charge_point_id: str, fingerprint: str) -> "Deferred[None]":
        """The station refused a certificate that was handed over to it."""

        def edit(identity: dict[str, Any]) -> str:
            auth = identity["auth"]
            pending = _list(auth, "pendingCertificates")
            kept = [one for one in pending if not _is_of(one, fingerprint)]
            if len(kept) == len(pending):
                return ""
            auth["pendingCertificates"] = kept
            if not kept:
                del auth["pendingCertificates"]
            return "certificate-dropped"

        return self._edit(charge_point_id, edit, "the station refused the certificate")

    def certificate_seen(self, charge_point_id: str, fingerprint: str) -> "Deferred[None]":
        """The station got in with a certificate that was pending: it is bound, next to the old one."""

        def edit(identity: dict[str, Any]) -> str:
            return "certificate-seen" if bind_pending(identity, fingerprint) else ""

        seen = self._edit(charge_point_id, edit, "the station used its new certificate")
        return seen.addErrback(_not_stored, charge_point_id)

    # --- the store

    def _edit(self, charge_point_id: str, edit: Callable[[dict[str, Any]], str], reason: str) -> "Deferred[None]":
        """`edit` changes the identity and says what it did, "" for nothing."""

        def edited(identity: dict[str, Any] | None) -> Edit | None:
            change = "" if identity is None or not isinstance(identity.get("auth"), dict) else edit(identity)
            if identity is None or not change:
                return None
            audit = by_gateway(self._node_id, reason)
            now = self._clock.seconds()
            event = identity_event(
                "ChargerIdentityUpserted", identity, {"change": change}, audit, now, self._node_id, self._new_id()
            )
            return Edit(identity, event)

        return self._store.edit_identity(charge_point_id, edited).addCallback(lambda _: None)


class _PasswordChange:
    __slots__ = ("_charge_point_id", "_credentials", "_is_announced", "_secret", "_version")

    def __init__(self, credentials: Credentials, charge_point_id: str, version: OcppVersion, secret: bytes) -> None:
        self._credentials = credentials
        self._charge_point_id = charge_point_id
        self._version = version
        self._secret = secret
        self._is_announced = False

    def announce(self) -> "Deferred[None]":
        def announced(_result: None) -> None:
            self._is_announced = True

        return self._credentials.announce(self._charge_point_id, self._secret).addCallback(announced)

    def settle(self, result: CommandResult, *, sent: bool) -> "Deferred[None]":
        if not self._is_announced:
            return succeed(None)
        verdict = password_verdict(self._version, result) if sent else "rejected"
        return self._credentials.settle(self._charge_point_id, verdict)


class _HandOver:
    """Of a certificate that was known before nothing is taken back."""

    __slots__ = ("_binding", "_charge_point_id", "_credentials", "_is_added", "_version")

    def __init__(
        self, credentials: Credentials, charge_point_id: str, version: OcppVersion, binding: Mapping[str, Any]
    ) -> None:
        self._credentials = credentials
        self._charge_point_id = charge_point_id
        self._version = version
        self._binding = binding
        self._is_added = False

    def announce(self) -> "Deferred[None]":
        def announced(added: bool) -> None:
            self._is_added = added

        return self._credentials.hand_over(self._charge_point_id, self._binding).addCallback(announced)

    def settle(self, result: CommandResult, *, sent: bool) -> "Deferred[None]":
        verdict = certificate_verdict(self._version, result) if sent else "rejected"
        if not self._is_added or verdict != "rejected":
            return succeed(None)
        return self._credentials.take_back(self._charge_point_id, self._binding["fingerprint"])


def _binding(chain: str, charge_point_id: str) -> dict[str, Any] | None:
    """The binding of a chain's first certificate, None when it can't be read. By fingerprint alone: bound by its
    subject, too, every certificate with the same subject would be as good."""
    try:
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        return {
            "fingerprint": leaf.fingerprint(SHA256()).hex().upper(),
            "validFrom": rfc3339(leaf.not_valid_before_utc.timestamp()).decode(),
            "validTo": rfc3339(leaf.not_valid_after_utc.timestamp()).decode(),
            "status": "active",
            "chargePointId": charge_point_id,
        }
    except ValueError:
        return None


def _list(auth: Mapping[str, Any], member: str) -> list[Any]:
    found = auth.get(member)
    return found if isinstance(found, list) else []


def _is_of(binding: Any, fingerprint: str) -> bool:
    try:
        return normal_fingerprint(binding["fingerprint"]) == fingerprint
    except (KeyError, TypeError, ValueError, AttributeError):  # a binding by other criteria, or one with a slip
        return False


def _next_secret(auth: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if not auth.get("nextSecretHash"):
        return None
    return auth["nextSecretHash"], auth.get("nextSecretSalt", ""), auth.get("nextHashAlgorithm", "sha256")


def _is_next(identity: Mapping[str, Any], new: _Next) -> bool:
    return str(identity["auth"].get("nextSecretHash", "")).endswith(new.digest)  # it may begin with scrypt$


def _take(identity: dict[str, Any], new: _Next) -> str:
    """Whatever was stored since, this is the secret that the station has; what an operator set meanwhile stays next."""
    if str(identity["auth"].get("secretHash", "")).endswith(new.digest):
        return ""  # the station was quicker: it has used it already
    others = None if _is_next(identity, new) else _next_secret(identity["auth"])
    set_now(identity, SECRET, new.digest, new.salt, new.algorithm)
    if others is not None:
        set_next(identity, SECRET, *others)
    return "secret-in-use"


def _withdraw(identity: dict[str, Any], new: _Next) -> str:
    if not _is_next(identity, new):
        return ""
    if new.displaced is None:
        drop_next(identity, SECRET)
    else:
        set_next(identity, SECRET, *new.displaced)
    return "secret-dropped"


def _not_stored(failure: Any, charge_point_id: str) -> None:
    """Both the old and the new stay good until the next time."""
    log.error("credentials not stored: {reason}", reason=failure.getErrorMessage(), station=charge_point_id)

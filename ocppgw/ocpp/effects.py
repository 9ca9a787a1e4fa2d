"""What a session wants done. A session never does anything itself: it returns these, in order.

`ocppgw.routing.links.Link` performs them; a test just reads them. They are msgspec structs because one or two are made
for every message: a struct costs a fifth of a dataclass instance.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ocppgw.ocpp.outcomes import Outcome


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event on its way out: topic kind, partition key and the finished DomainEvent as UTF-8 JSON bytes."""

    topic: str  # one of the Topic constants in ocppgw.ocpp.events
    key: str
    value: bytes


class Change(msgspec.Struct, frozen=True):
    """A change of stored state that must become durable together with the record beside it."""


class SaveBoot(Change, frozen=True, tag="boot"):
    """The station's last BootNotification: status given, its payload, and when (seconds since the epoch)."""

    charge_point_id: str
    station_id: str
    tenant_id: str
    version: str
    status: str
    payload: bytes
    at: float


class SaveTransaction(Change, frozen=True, tag="transaction"):
    """A transaction's row as it is now (members of `state.Transaction`)."""

    charge_point_id: str
    version: str
    transaction_id: str
    key: str
    started_at: float | None
    ended_at: float | None
    records: dict[int, str]


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write this OCPP-J frame as one text message."""

    text: bytes


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Make `record` and `changes` durable, then call `session.durable(token)`; on failure `session.refused(token)`.
    `acknowledged`: wait for the bus's acknowledgement, too, as long as it comes in time."""

    record: Record
    token: int
    changes: tuple[Change, ...] = ()
    acknowledged: bool = False


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Find a transaction in the store; the reply comes back through `session.answered(token, reply)`.

    With `key` set: the transaction of this station that was started under that idempotency key, else a new id
    (`TransactionFound.transaction_id` is then fresh and never used before). With `transaction_id`: that transaction.
    """

    token: int
    charge_point_id: str
    key: str = ""
    transaction_id: str = ""


class Decide(msgspec.Struct, frozen=True, gc=False):
    """Ask the backend for the answer to a CALL; it comes back through `session.decided(token, answer, …)`, in a bounded
    time, also when nobody answers.

    `payload`: of the CALL, JSON. `key`: what the answer holds for, for this station. `judge` says what is wrong with an
    answer, "" when it can be given.
    """

    token: int
    action: str
    message_id: str
    payload: bytes
    key: str
    judge: Callable[[Mapping[str, Any]], str]


class Dispatched(msgspec.Struct, frozen=True, gc=False):
    """The CALL of this command was handed to the socket under this message id."""

    command_id: str
    message_id: str
    action: str
    payload: Any
    at: float


class CommandResult(msgspec.Struct, frozen=True):
    """How a command ended. `status` is the charger's own status text where it gave one."""

    outcome: Outcome
    status: str | None = None
    response: Mapping[str, Any] | None = None
    error_code: str | None = None
    error_description: str | None = None
    error_details: Any = None


class Late(msgspec.Struct, frozen=True, gc=False):
    """A charger answered after the command had ended: reported, never counted for another command."""

    command_id: str
    result: CommandResult


class Requeue(msgspec.Struct, frozen=True, gc=False):
    """The connection went before this command's CALL was sent; it may still go out on the next one."""

    command_id: str


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A command reached its end on this session."""

    command_id: str
    result: CommandResult


class WakeAt(msgspec.Struct, frozen=True, gc=False):
    """Call `session.tick(now)` at this time (seconds, the clock the session is driven with); replaces the last one."""

    at: float


class SignRequest(msgspec.Struct, frozen=True, gc=False):
    """Sign this request (PEM) and send the certificate with CertificateSigned.

    `certificate_type` and `request_id` are the station's own and go back to it; None where it gave none.
    """

    csr: str
    certificate_type: str | None = None
    request_id: int | None = None


class Close(msgspec.Struct, frozen=True, gc=False):
    """Close the WebSocket with this code (RFC 6455 section 7.4) and reason."""

    code: int
    reason: str


class Note(msgspec.Struct, frozen=True, gc=False):
    """Something worth a counter and, at most rate-limited, a log line: `kind` is one of ocppgw.ocpp.session.NOTES."""

    kind: str
    detail: str = ""


Effect = Send | Publish | Ask | Decide | Dispatched | Finished | Late | Requeue | WakeAt | SignRequest | Close | Note

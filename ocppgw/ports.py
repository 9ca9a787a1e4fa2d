"""The seams between the gateway and the outside, as typing.Protocol.

Implementations are in `ocppgw.net`: embedded (SQLite), redis, kafka; those of one protocol pass the same contract
tests. Methods return Deferreds unless said otherwise; they are called from the reactor thread only and never block it.
What the nodes of a fleet need of each other is in `ocppgw.fleet_ports`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred

from ocppgw.access.attempts import StoredAttempt
from ocppgw.ocpp.effects import Change, Record
from ocppgw.ocpp.state import StationState, TransactionFound


class Waiter(Protocol):
    """Who is told about a published record: exactly one of the two, in the reactor thread, in order of publishing."""

    def durable(self, token: int) -> None: ...
    def refused(self, token: int, reason: str) -> None: ...


class StoredEvent(msgspec.Struct, frozen=True):
    """A journaled event: `cursor` grows by one per event and never repeats in one state directory."""

    cursor: int
    topic: str
    key: str
    value: bytes  # DomainEvent, UTF-8 JSON


class Backlog(Protocol):
    """What is not durable yet. Plain attributes, because they are read for every message."""

    waiting: int  # records
    waiting_bytes: int


class Journal(Protocol):
    """The durable, ordered list of events (embedded: SQLite, group commit, fsync)."""

    @property
    def backlog(self) -> "Backlog": ...

    def give_up(self, reason: str) -> None:
        """Refuse all that waits: who sent it has waited long enough. It may still become durable later."""

    def append(self, record: Record, changes: tuple[Change, ...], waiter: Waiter, token: int) -> None:
        """Queue a record with its state changes; both become durable in one transaction. Never blocks, never raises."""

    def read(self, since: int, limit: int) -> "Deferred[list[StoredEvent]]":
        """Events with cursor > since, oldest first, at most `limit`."""

    def last_cursor(self) -> int:
        """Cursor of the newest durable event, 0 when there is none."""

    def on_durable(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call back with the newest cursor after each commit; returns the function that ends it."""

    def status(self) -> "JournalStatus":
        """State for /ready and /metrics."""

    def shipped(self) -> int:
        """Cursor up to which events have been shipped to a bus (kept durably), 0 when none was."""

    def set_shipped(self, cursor: int) -> "Deferred[None]":
        """Remember it. From the first call on events beyond it are kept, whatever their age."""


class JournalStatus(msgspec.Struct, frozen=True):
    healthy: bool
    reason: str  # "" when healthy, else the operator's sentence
    waiting: int  # records not yet durable
    oldest_wait_seconds: float
    last_cursor: int
    oldest_cursor: int
    bytes_on_disk: int
    is_full: bool = False  # of events that were not shipped: it must not grow, and drops none of them


class Message(msgspec.Struct, frozen=True):
    """A record read from the bus."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A record for the bus; `topic` is its real name."""

    topic: str
    key: str
    value: bytes


class BusStatus(msgspec.Struct, frozen=True):
    healthy: bool
    reason: str  # "" when healthy, else the operator's sentence


class BusState(msgspec.Struct, frozen=True):
    """The bus and what still has to get there, for /ready: `required` says whether the gateway is ready without it."""

    healthy: bool
    reason: str
    lag_records: int
    lag_seconds: float
    required: bool


class StoreState(msgspec.Struct, frozen=True):
    """The store that all nodes share (Redis), for /ready: `required` says whether the gateway is ready without it."""

    healthy: bool
    reason: str  # "" when healthy, else the operator's sentence
    required: bool


class Bus(Protocol):
    """Where events go and commands come from (Kafka)."""

    def start(self) -> None: ...

    def stop(self) -> "Deferred[None]":
        """Within a bounded time, whatever the broker does."""

    def ship(self, records: Sequence[Outgoing]) -> "Deferred[None]":
        """Fires when the broker has acknowledged all of them, in their order for each key. Fails with BusError
        otherwise: any of them may have got there all the same. At most one call is open at a time."""

    def consume(
        self,
        topics: Sequence[str],
        group: str,
        handle: Callable[[Sequence[Message]], "Deferred[None]"],
        member: str = "",
    ) -> None:
        """Call `handle` in the reactor thread with batches, one at a time. Their offsets are committed when its
        Deferred fires; when it fails, the same batch comes again after a pause. Call before `start`.

        `member`: where nobody else is to be in the group, the name under which a process takes the place of the one
        that died before it, at once.
        """

    def status(self) -> BusStatus:
        """State for /ready and /metrics."""


class CommandRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One command's life, as stored and as `/v1/commands/{id}` shows it (names of contract.md: command-audit)."""

    command_id: str
    command_type: str
    charge_point_id: str
    status: str  # Queued, Sent, then exactly one of Accepted, Rejected, Failed, Timeout
    requested_at: str
    action: str | None = None
    station_id: str | None = None
    tenant_id: str | None = None
    connector_id: int | None = None
    ocpp_version: str | None = None
    node_id: str | None = None
    unique_id: str | None = None
    outcome: str | None = None
    deadline: float | None = None
    sent_at: str | None = None
    response_at: str | None = None
    request_payload: Any = None
    response_payload: Any = None
    error: dict[str, Any] | None = None
    source: str | None = None  # where the request came from: a record's topic/partition/offset, or "" for HTTP
    taken_by: str | None = None  # nodeId/incarnation of the process that may send the CALL: only ever one
    coalesce_key: str | None = None  # while it waits for its station, a newer one with this key replaces it
    request: dict[str, Any] | None = None  # the whole request, while it waits for its station


class Known(msgspec.Struct, frozen=True):
    """All that is stored about who a station is, fetched in one go.

    `identity` is the JSON of contract.md section 2, None when the station is unknown; `revocation` the denylist's
    entry for the fingerprint that was asked about, None when it is not on it; `security_profile` the highest one
    (OCPP security profiles 0 to 3) the station ever connected with.
    """

    identity: Mapping[str, Any] | None = None
    revocation: Mapping[str, Any] | None = None
    security_profile: int = 0


class Edit(msgspec.Struct, frozen=True):
    """The outcome of a change to an identity: what to store (None: delete it) and the audit event beside it."""

    identity: Mapping[str, Any] | None
    event: Record | None = None


class AccessStore(Protocol):
    """Who may connect: identities, the denylist, security profiles, and the record of who tried."""

    def look_up(self, charge_point_id: str, fingerprint: str = "") -> "Deferred[Known]":
        """Who the station is, and whether the certificate with this fingerprint (normalised; "" for none) is on the
        denylist."""

    def put_identity(self, identity: Mapping[str, Any], event: Record | None = None) -> "Deferred[None]":
        """Store it, new or not, with its audit event in the same transaction."""

    def edit_identity(
        self, charge_point_id: str, edit: Callable[[dict[str, Any] | None], Edit | None]
    ) -> "Deferred[Mapping[str, Any] | None]":
        """Read, change and store an identity as one step; fires with what is stored afterwards.

        `edit` gets a copy it may change (None: there is no such identity) and returns what to store; None leaves
        everything as it is. It may raise an OcppgwError, which the Deferred then fails with. Deleting an identity
        also forgets its security profile.
        """

    def identities(self, search: str = "", offset: int = 0, limit: int = 100) -> "Deferred[IdentityPage]":
        """Identities in the order of their ids; `search`: part of chargePointId, stationId or tenantId, any case."""

    def revoke_certificate(self, fingerprint: str, entry: Mapping[str, Any], event: Record) -> "Deferred[None]":
        """Put a fingerprint on the denylist (contract.md section 2: revoked-certs), for the store's revocation TTL."""

    def revocations(self) -> "Deferred[Mapping[str, Mapping[str, Any]]]":
        """The denylist: fingerprint to entry."""

    def remember_profile(self, charge_point_id: str, security_profile: int) -> "Deferred[None]":
        """Raise the station's highest security profile; a lower one than stored changes nothing."""

    def on_access_change(self, callback: "AccessListener") -> None:
        """Call back, in the reactor thread, after every change of an identity or of the denylist, made on any node."""

    def save_attempts(self, attempts: Sequence[StoredAttempt]) -> "Deferred[None]":
        """Keep records of connection attempts; the store drops the oldest beyond its bound. May be lost in a crash."""

    def attempts(self, query: "AttemptQuery") -> "Deferred[Sequence[StoredAttempt]]":
        """Newest first."""


class Store(AccessStore, Protocol):
    """Identities, station state and command records (embedded: the same SQLite file as the journal)."""

    def load_station(self, charge_point_id: str) -> "Deferred[StationState]":
        """Boot state, open transactions and recent calls of a station (fresh when never seen)."""

    def find_transaction(self, charge_point_id: str, key: str, transaction_id: str) -> "Deferred[TransactionFound]":
        """The reply to `effects.Ask`."""

    def open_command(self, record: CommandRecord, event: Record) -> "Deferred[CommandRecord | None]":
        """Store a new command with its first event; None when it is new, else the record stored under that id."""

    def command(self, command_id: str) -> "Deferred[CommandRecord | None]": ...

    def change_command(self, record: CommandRecord, event: Record) -> "Deferred[bool]":
        """Compare-and-set: store progress or the end of a command that has not ended, its event in the same
        transaction. False: it had ended already, and nothing was stored."""

    def take_command(self, record: CommandRecord, held_by: str | None = None) -> "Deferred[bool]":
        """Compare-and-set: store `record` unless the command has ended, or has been taken (`taken_by`) by another than
        `record.taken_by` or `held_by`. False: it was not stored. No event goes with it."""

    def open_commands(self) -> "Deferred[Sequence[CommandRecord]]":
        """Commands without an end, for the sweep: of the whole fleet, oldest deadline first, a bounded number."""

    def waiting_commands(self, charge_point_id: str) -> "Deferred[Sequence[CommandRecord]]":
        """Commands that wait for the station to connect (`request` is set, not taken, not ended), oldest first."""

    def publish_unpublished(self) -> "Deferred[int]":
        """Ends of commands that another process stored and died before it published them: publish their events; fires
        with how many. An event may be published twice, with the same eventId. (Embedded: none ever.)"""

    def sync_files(
        self,
        files: Mapping[str, tuple[Mapping[str, Any], str]],
        event: Callable[[str, Mapping[str, Any]], Record],
    ) -> "Deferred[tuple[int, int]]":
        """Follow the identity files: `files` maps each station id to its identity and a digest of it; `event` makes the
        audit event of a change. Fires with how many identities were changed, and how many deleted."""

    def known_station(self, charge_point_id: str) -> "Deferred[StationRow | None]": ...

    def known_stations(self) -> "Deferred[Sequence[StationRow]]":
        """All stations ever seen or provisioned, for the console and `/v1/stations`."""


class IdentityPage(msgspec.Struct, frozen=True):
    """`total` counts all that match, whatever the page's size."""

    identities: Sequence[Mapping[str, Any]]
    total: int


class AccessListener(Protocol):
    """Who is told that access rights changed: a station's identity, or a certificate that was revoked."""

    def identity_changed(self, charge_point_id: str) -> None: ...
    def certificate_revoked(self, fingerprint: str) -> None: ...


class AttemptQuery(msgspec.Struct, frozen=True):
    """Which attempts: those that fit any of `charge_point_id`, `addresses`, `fingerprints`, `common_names` (all empty:
    every attempt); `refused_only` leaves out those that were let in."""

    charge_point_id: str = ""
    addresses: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    common_names: tuple[str, ...] = ()
    refused_only: bool = False
    limit: int = 20


class StationRow(msgspec.Struct, frozen=True):
    charge_point_id: str
    station_id: str
    tenant_id: str
    version: str | None = None
    boot_status: str | None = None
    boot: Any = None  # last BootNotification payload
    open_transactions: dict[str, float] = {}  # id -> started at (seconds)


class GatewayApi(Protocol):
    """What the operations HTTP server needs of the running gateway (implemented by `ocppgw.routing.gateway.Gateway`).

    Dicts are JSON-ready with camelCase members.
    """

    def stations(self) -> "Deferred[list[dict[str, Any]]]":
        """One per known station: {chargePointId, stationId, tenantId, connected, ocppVersion, bootStatus, vendor,
        model, connectedAt?, lastSeenAt?, address?, transactions: int}."""

    def station(self, charge_point_id: str) -> "Deferred[dict[str, Any] | None]":
        """The same plus {boot: payload?, connectors: {"1": "Available"}, openTransactions: [...], queuedCommands: int,
        messagesReceived, messagesSent, badFrames}. None when unknown."""

    def submit(self, request: Mapping[str, Any]) -> "Deferred[CommandRecord]":
        """Accept a CommandRequest (contract.md section 3; commandId and requestedAt are filled in when missing).

        Fires as soon as the command is stored durably. Errors: CommandError (bad request, nothing stored). A repeated
        commandId fires with the stored record, after a CommandDuplicate event.
        """

    def command(self, command_id: str) -> "Deferred[CommandRecord | None]": ...

    def command_ended(self, command_id: str) -> "Deferred[CommandRecord | None]":
        """Fires when the command has its terminal status (at once when it has it already)."""

    def events(self, since: int, limit: int) -> "Deferred[list[StoredEvent]]": ...

    def last_cursor(self) -> int: ...

    def on_events(self, callback: Callable[[int], None]) -> Callable[[], None]: ...

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """(ready?, {"journal": {...}, "draining": bool, "reason": str}): 503 when not ready."""

    def attempts(self, query: AttemptQuery) -> "Deferred[list[dict[str, Any]]]":
        """Connection attempts, newest first, as `/v1/attempts` shows them (ocppgw.access.attempts.shown)."""

    def health(self) -> dict[str, Any]:
        """{"status": "ok", "nodeId", "version", "uptimeSeconds", "connections": {"1.6J": n, ...}}."""

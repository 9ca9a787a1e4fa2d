"""A command's way: accepted, stored, sent, and ended exactly once.

    submit -> stored with CommandRouted -> where is the station?
        here       taken -> CALL on the station's link (CommandDispatched) -> answer, deadline or loss -> its end
        elsewhere  handed on to that node, which goes on as if it were submitted there
        nowhere    its end, or stored until the station connects, when the command asks for that

Taking is a compare-and-set, so that one process sends the CALL, and only once. So is the end: it is stored together
with the one terminal event, and the first one wins. What a crash left open is closed by `sweeping.Sweep`, on any node.

A command that changes how its station proves itself (a password, a certificate) is announced before the CALL goes out,
so that the station can get in with the old and with the new, and settled before its end is told. What is stored, told
and published of a command holds no password: only the CALL does.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import CommandError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import CommandResult, Dispatched
from ocppgw.ocpp.secrets import redacted
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import CommandRecord, Store
from ocppgw.routing.command_ends import Ends, Open
from ocppgw.routing.credentials import Credentials
from ocppgw.routing.links import Link, Links
from ocppgw.routing.outbox import NOBODY, Outbox
from ocppgw.routing.places import Places
from ocppgw.routing.requests import CommandRequest, read_request
from ocppgw.routing.results import payload_of, shown
from ocppgw.routing.routes import Routes

log = Logger(namespace="ocppgw.commands")

ENDED = frozenset({"Accepted", "Rejected", "Failed", "Timeout"})


class Commands:
    """`new_id` makes command ids; `default_timeout` in seconds."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        links: Links,
        places: Places,
        metrics: Metrics,
        clock: Clock,
        node_id: str,
        default_timeout: float,
        new_id: Callable[[], str],
        new_number: Callable[[], int],
        credentials: Credentials | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._links = links
        self._places = places
        self._clock = clock
        self._node_id = node_id
        self._default_timeout = default_timeout
        self._new_id = new_id
        self._ends = ends = Ends(store, metrics, clock, node_id)
        self._routes = Routes(store, links, places, ends, metrics, clock, node_id, new_number, credentials)

    # --- the backend's side

    def submit(self, request: Mapping[str, Any], source: str = "") -> "Deferred[CommandRecord]":
        """See `ports.GatewayApi.submit`. Raises nothing: errors come through the Deferred.

        `source` names a record of the bus: then it fires when the command is sent, handed on, or at its end, and the
        same record, read again, goes on where it came to.
        """
        return Deferred.fromCoroutine(self._submit(request, source))

    def command(self, command_id: str) -> "Deferred[CommandRecord | None]":
        return self._store.command(command_id)

    def ended(self, command_id: str) -> "Deferred[CommandRecord | None]":
        """Fires with the record once the command has ended; with None when there is no such command."""
        return self._ends.ended(command_id)

    def has(self, command_id: str) -> bool:
        """Whether it is on its way in this process."""
        return command_id in self._ends.open

    @property
    def in_flight(self) -> int:
        """How many of them have been sent, and have neither an answer nor reached their deadline."""
        return sum(command.record.unique_id is not None for command in self._ends.open.values())

    def close(self, record: CommandRecord, result: CommandResult, *, timed_out: bool) -> None:
        """End a command that is on its way nowhere."""
        self._ends.close(record, result, timed_out=timed_out)

    def tell_again(self) -> None:
        """The store has lost its data: what this process has taken, or has just ended, is its own still."""
        self._routes.tell_again()
        self._ends.tell_again()

    def resume(self, charge_point_id: str) -> None:
        """A command that waits for this station was lost and is there again; the station may have come meanwhile."""
        self._routes.resume(charge_point_id)

    # --- the link's side (links.CommandListener)

    def dispatched(self, link: Link, effect: Dispatched) -> None:
        command = self._ends.open.get(effect.command_id)
        if command is None:
            return
        command.record = msgspec.structs.replace(
            command.record, status="Sent", unique_id=effect.message_id, sent_at=rfc3339(effect.at).decode()
        )
        event = self._ends.event(
            "CommandDispatched", command.record, {"action": effect.action, "messageId": effect.message_id}
        )
        self._store.change_command(command.record, event).addErrback(self._ends.not_stored, effect.command_id)

    def finished(self, command_id: str, result: CommandResult) -> None:
        self._ends.finished(command_id, result)

    def late(self, command_id: str, result: CommandResult) -> None:
        """The charger answered after the end: reported, the end stands."""

        def report(record: CommandRecord | None) -> None:
            if record is not None:
                event = self._ends.event("CommandLateResult", record, payload_of(shown(result)))
                self._outbox.publish(event, (), NOBODY, 0)

        self._store.command(command_id).addCallback(report).addErrback(self._ends.not_stored, command_id)

    def requeued(self, command_id: str) -> None:
        self._routes.requeued(command_id)

    def link_opened(self, link: Link) -> None:
        self._routes.link_opened(link)

    def accepted(self, link: Link) -> None:
        self._routes.accepted(link)

    # --- from request to record

    async def _submit(self, request: Mapping[str, Any], source: str) -> CommandRecord:
        wanted = read_request(request)
        if wanted.routing is not None and wanted.command_id and source.startswith(self._places.topic):
            record = await self._store.command(wanted.command_id)
            if record is not None:
                await self._handed_on(record, wanted, request)
                return record
        name = await self._name_of(wanted)
        command = self._prepared(wanted, name, source)
        record = command.record
        existing = await self._store.open_command(record, self._ends.event("CommandRouted", record, {}))
        if existing is not None and source and existing.source == source:
            if not _goes_on(existing):
                return existing  # the bus told it again, not the backend
        elif existing is not None:
            repeat = self._ends.event("CommandDuplicate", existing, {"status": existing.status}, repeat=self._new_id())
            self._outbox.publish(repeat, (), NOBODY, 0)
            return existing
        if record.command_id in self._ends.open:
            return record
        routed = self._routes.go(command, request)
        if source:
            await routed
        return record

    async def _handed_on(self, record: CommandRecord, wanted: CommandRequest, request: Mapping[str, Any]) -> None:
        """By another node, which has stored it."""
        if record.outcome is not None or record.command_id in self._ends.open:
            return
        await self._routes.go(Open(record, wanted), request)

    async def _name_of(self, wanted: CommandRequest) -> str:
        if wanted.charge_point_id:
            return wanted.charge_point_id
        link = self._links.of_station(wanted.station_id or "")
        name = await self._places.station(wanted.station_id or "") if link is None else link.station.charge_point_id
        if name is None:
            raise CommandError(
                f"no connected charger belongs to stationId {wanted.station_id!r}", hint="give its chargePointId"
            )
        return name

    def _prepared(self, wanted: CommandRequest, name: str, source: str) -> Open:
        requested_at = wanted.requested(self._clock.seconds())
        record = CommandRecord(
            command_id=wanted.command_id or self._new_id(),
            command_type=wanted.command_type,
            charge_point_id=name,
            status="Queued",
            requested_at=rfc3339(requested_at).decode(),
            connector_id=wanted.connector_id,
            node_id=self._node_id,
            deadline=requested_at + (wanted.timeout_sec or self._default_timeout),
            request_payload=redacted(wanted.payload),
            source=source or None,
        )
        link = self._links.get(name)
        command = Open(record, wanted)
        if link is not None:
            self._routes.map(command, link)
        return command


def _goes_on(existing: CommandRecord) -> bool:
    """Nobody has sent it, and nobody will."""
    return existing.outcome is None and existing.taken_by is None and existing.request is None

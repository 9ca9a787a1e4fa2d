"""Where a stored command goes: to its station's link here, to the node that serves it, or back until the station comes.

What can't be done now, because Redis or Kafka is away, is tried again until the command's deadline. A command whose
connection went before it was sent follows its station, also to another node.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ocppgw.clock import Clock, rest
from ocppgw.errors import CommandError, OcppgwError
from ocppgw.fleet_ports import NodeRow
from ocppgw.metrics import Metrics
from ocppgw.ocpp.calls import NOT_SENT, PendingCall
from ocppgw.ocpp.effects import CommandResult
from ocppgw.ocpp.intents import map_command
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ports import CommandRecord, Store
from ocppgw.routing.command_ends import Ends, Open, cancel
from ocppgw.routing.credentials import Credentials
from ocppgw.routing.links import Link, Links
from ocppgw.routing.places import Places, process_of
from ocppgw.routing.requests import MAX_HOPS, read_request
from ocppgw.routing.results import ELSEWHERE, NOT_CONNECTED, OTHER_VERSION, SUPERSEDED

log = Logger(namespace="ocppgw.commands")

RETRY_SECONDS = 1.0  # between attempts to find a command's station, or to store that it is sent


class Routes:
    """`new_number` makes remoteStartIds."""

    def __init__(
        self,
        store: Store,
        links: Links,
        places: Places,
        ends: Ends,
        metrics: Metrics,
        clock: Clock,
        node_id: str,
        new_number: Callable[[], int],
        credentials: Credentials | None,
    ) -> None:
        self._store, self._links, self._places, self._ends = store, links, places, ends
        self._metrics, self._clock, self._node_id = metrics, clock, node_id
        self._new_number, self._credentials = new_number, credentials
        self._between: dict[str, list[str]] = {}  # charger id -> commands to send when it is back

    def go(self, command: Open, request: Mapping[str, Any]) -> "Deferred[None]":
        """Fires when it is sent, handed on, stored to wait, or at its end; never fails."""
        self._ends.open[command.record.command_id] = command
        return Deferred.fromCoroutine(self._route(command, request)).addErrback(self._broken, command)

    def map(self, command: Open, link: Link) -> None:
        """To the action and payload of the station's version. CommandError when that can't be done."""
        wanted, record, version = command.wanted, command.record, link.version
        action, payload = map_command(
            version,
            wanted.command_type,
            wanted.payload or {},
            wanted.connector_id,
            new_remote_start_id=self._new_number,
        )
        command.record = msgspec.structs.replace(
            record,
            action=action,
            station_id=link.station.station_id,
            tenant_id=link.station.tenant_id,
            ocpp_version=version.name,
        )
        command.pending = PendingCall(record.command_id, action, dict(payload), record.deadline or 0.0)
        if self._credentials is not None:
            command.change = self._credentials.change(record.charge_point_id, version, action, payload)

    def requeued(self, command_id: str) -> None:
        """Its connection went before it was sent: kept for the next one, wherever that is, until its deadline."""
        command = self._ends.open.get(command_id)
        if command is None:
            return
        self._between.setdefault(command.record.charge_point_id, []).append(command_id)
        self._look_for(command)

    def link_opened(self, link: Link) -> None:
        name = link.station.charge_point_id
        for command_id in self._between.pop(name, ()):
            command = self._ends.open.get(command_id)
            if command is not None:
                cancel(command)
                self._send(command, link)
        if link.is_accepted:
            self.accepted(link)

    def accepted(self, link: Link) -> None:
        """Before its boot is accepted, a station takes no commands (B02.FR.05): those that wait go on waiting."""
        resumed = Deferred.fromCoroutine(self._resume(link.station.charge_point_id))
        resumed.addErrback(self._not_routed)

    def resume(self, name: str) -> None:
        """Send what waits for the station, if it is connected, here or elsewhere."""
        Deferred.fromCoroutine(self._resume_if_there(name)).addErrback(self._not_routed)

    def tell_again(self) -> None:
        """What this process has taken, to a store that lost it: nobody else is to send it."""
        for command in list(self._ends.open.values()):
            if command.record.taken_by == self._places.me:
                Deferred.fromCoroutine(self._stored_again(command.record)).addErrback(self._not_routed)

    # --- to the station

    async def _route(self, command: Open, request: Mapping[str, Any]) -> None:
        """Until it is on its way, or its time is over."""
        record = command.record
        while True:
            try:
                link = self._links.get(record.charge_point_id)
                if link is not None and command.wanted.waits and not link.is_accepted:
                    await self._offline(command, request)  # it takes no commands yet
                    return
                if link is not None:
                    await self._serve(command, link)
                    return
                node = await self._places.holder(record.charge_point_id)
                if node is not None and process_of(node) != self._places.me:
                    await self._hand_on(command, node, request)
                    return
                await self._offline(command, request)
                return
            except CommandError as error:
                self._ends.finished(record.command_id, _refused(error))
                return
            except OcppgwError as fault:
                self._metrics.note("command-not-routed")
                if self._clock.seconds() + RETRY_SECONDS > (record.deadline or 0.0):
                    log.warn("command {command} was not sent: {reason}", command=record.command_id, reason=str(fault))
                    self._ends.finished(record.command_id, NOT_SENT)
                    return
            await rest(self._clock, RETRY_SECONDS)

    async def _serve(self, command: Open, link: Link) -> None:
        if command.pending is None:
            self.map(command, link)
        command.record = msgspec.structs.replace(command.record, taken_by=self._places.me, request=None)
        if not await self._taken(command.record):
            self._ends.let_go(command)  # another process has it, or it has ended
            return
        if command.change is not None:
            try:
                await command.change.announce()
            except Exception as fault:
                self._not_announced(fault, command)
                return
        here = self._links.get(command.record.charge_point_id)
        if here is None:  # it was there a moment ago, and may be back in another
            self.requeued(command.record.command_id)
        else:
            self._send(command, here)

    async def _taken(self, record: CommandRecord) -> bool:
        if await self._store.take_command(record):
            return True
        if await self._store.command(record.command_id) is not None:
            return False
        return await self._stored_again(record)

    async def _stored_again(self, record: CommandRecord) -> bool:
        """Redis has lost its data since it was opened."""
        opened = msgspec.structs.replace(record, taken_by=None)
        if await self._store.open_command(opened, self._ends.event("CommandRouted", opened, {})) is not None:
            return False
        return await self._store.take_command(record)

    async def _hand_on(self, command: Open, node: NodeRow, request: Mapping[str, Any]) -> None:
        record, routing = command.record, command.wanted.routing
        hops = 1 if routing is None else routing.hops + 1
        if hops > MAX_HOPS:
            self._ends.finished(record.command_id, ELSEWHERE)
            return
        if record.taken_by is not None or record.request is not None:
            command.record = msgspec.structs.replace(record, taken_by=process_of(node), request=None)
            if not await self._store.take_command(command.record, held_by=self._places.me):
                self._ends.let_go(command)
                return
        handed = {
            **request,
            "commandId": record.command_id,
            "chargePointId": record.charge_point_id,
            "routing": {"viaNodeId": self._node_id, "hops": hops},
        }
        await self._places.forward(node, handed)
        self._metrics.note("command-handed-on")
        self._ends.let_go(command)

    async def _offline(self, command: Open, request: Mapping[str, Any]) -> None:
        record, wanted = command.record, command.wanted
        if not wanted.waits:
            self._ends.finished(record.command_id, NOT_CONNECTED)
            return
        older = await self._store.waiting_commands(record.charge_point_id)
        command.record = msgspec.structs.replace(
            record, request=dict(request), coalesce_key=wanted.coalesce_key, taken_by=None
        )
        if not await self._store.take_command(command.record, held_by=self._places.me):
            self._ends.let_go(command)
            return
        self._ends.let_go(command)
        for other in older:
            if wanted.coalesce_key is not None and other.coalesce_key == wanted.coalesce_key:
                self._ends.close(other, SUPERSEDED, timed_out=False)
        await self._resume_if_there(record.charge_point_id)  # it came while this was being stored

    async def _resume_if_there(self, name: str) -> None:
        if await self._may_go(name):
            await self._resume(name)

    async def _may_go(self, name: str) -> bool:
        link = self._links.get(name)
        if link is not None:
            return link.is_accepted
        node = await self._places.holder(name)
        return node is not None and process_of(node) != self._places.me

    async def _resume(self, name: str) -> None:
        """Send what waits for a station that is connected now."""
        for record in await self._store.waiting_commands(name):
            if record.command_id in self._ends.open or record.request is None:
                continue
            wanted = read_request(record.request)
            await self.go(Open(record, wanted), record.request)

    def _send(self, command: Open, link: Link) -> None:
        """Its CALL was made for the OCPP version the station spoke then; it may have come back with another."""
        if command.pending is not None and command.record.ocpp_version == link.version.name:
            link.call(command.pending)
        else:
            self._ends.finished(command.record.command_id, OTHER_VERSION)

    def _look_for(self, command: Open) -> None:
        """Its station has gone and may come back here or elsewhere."""
        left = (command.record.deadline or 0.0) - self._clock.seconds()
        if left <= 0:
            self._ends.finished(command.record.command_id, NOT_SENT)
        else:
            command.timer = self._clock.callLater(min(left, RETRY_SECONDS), self._looked, command)

    def _looked(self, command: Open) -> None:
        command.timer = None
        found = Deferred.fromCoroutine(self._find_again(command))
        found.addErrback(self._not_routed)
        found.addCallback(lambda _: self._look_on(command))

    async def _find_again(self, command: Open) -> None:
        node = await self._places.holder(command.record.charge_point_id)
        if node is None or process_of(node) == self._places.me or not self._is_between(command):
            return
        self._between[command.record.charge_point_id].remove(command.record.command_id)
        await self._hand_on(command, node, _request_of(command))

    def _look_on(self, command: Open) -> None:
        if self._is_between(command):
            self._look_for(command)

    def _is_between(self, command: Open) -> bool:
        return command.record.command_id in self._between.get(command.record.charge_point_id, ())

    # --- faults

    def _not_announced(self, fault: Exception, command: Open) -> None:
        """Sent all the same, it could lock the station out: its new password would be wrong here."""
        if isinstance(fault, OcppgwError):
            self._ends.finished(command.record.command_id, _refused(fault))
        else:
            log.failure("a fault of the gateway itself")
            self._ends.finished(command.record.command_id, OWN_FAULT)

    def _broken(self, failure: Any, command: Open) -> None:
        log.failure("a fault of the gateway itself", failure=failure)
        self._ends.finished(command.record.command_id, OWN_FAULT)

    def _not_routed(self, failure: Any) -> None:
        self._metrics.note("command-not-routed")
        if failure.check(OcppgwError) is None:
            log.failure("a fault of the gateway itself", failure=failure)


OWN_FAULT = CommandResult(
    Outcome.FAILED, error_code=OcppgwError.code, error_description="a fault of the gateway itself; its log has it"
)


def _refused(fault: OcppgwError) -> CommandResult:
    return CommandResult(Outcome.FAILED, error_code=fault.code, error_description=str(fault))


def _request_of(command: Open) -> Mapping[str, Any]:
    """As it came, but for what only tells about it."""
    request: dict[str, Any] = msgspec.to_builtins(command.wanted)
    return {name: value for name, value in request.items() if value is not None and name != "routing"}

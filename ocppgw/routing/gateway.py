"""The running gateway as its operators see it: `ports.GatewayApi` over links, store, journal and commands."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from ocppgw import __version__
from ocppgw.access.refusals import Reason
from ocppgw.clock import Clock
from ocppgw.fleet_ports import SessionRow
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import AttemptQuery, BusState, CommandRecord, Journal, StationRow, Store, StoredEvent, StoreState
from ocppgw.routing.attempt_log import AttemptLog
from ocppgw.routing.commands import Commands
from ocppgw.routing.links import Link, Links
from ocppgw.routing.outbox import Outbox
from ocppgw.routing.traces import find_attempts


class Gateway:
    """`topics` maps the kinds of topic to their names."""

    def __init__(
        self,
        node_id: str,
        topics: Mapping[str, str],
        links: Links,
        store: Store,
        journal: Journal,
        outbox: Outbox,
        commands: Commands,
        attempts: AttemptLog,
        clock: Clock,
        service_name: str = "ocppgw",
        bus: Callable[[], BusState] | None = None,
        shared: Callable[[], StoreState] | None = None,
        sessions: Callable[[], "Deferred[Mapping[str, SessionRow]]"] | None = None,
    ) -> None:
        """`bus` tells the state of Kafka, `shared` that of Redis, `sessions` who is connected to which node; None:
        there is none."""
        self._node_id = node_id
        self._service_name = service_name
        self._topics = topics
        self._links = links
        self._store = store
        self._journal = journal
        self._outbox = outbox
        self._commands = commands
        self._attempts = attempts
        self._clock = clock
        self._bus = bus
        self._shared = shared
        self._sessions = sessions
        self._started_at = clock.seconds()
        self.starting = True
        self.draining = False

    def stations(self) -> "Deferred[list[dict[str, Any]]]":
        return Deferred.fromCoroutine(self._all_stations())

    def station(self, charge_point_id: str) -> "Deferred[dict[str, Any] | None]":
        def one(row: StationRow | None) -> dict[str, Any] | None:
            link = self._links.get(charge_point_id)
            if row is None and link is None:
                return None
            shown = _from_link(link) if row is None and link is not None else _from_row(row, link)
            return {**shown, **_details(row, link)}

        return self._store.known_station(charge_point_id).addCallback(one)

    def submit(self, request: Mapping[str, Any]) -> "Deferred[CommandRecord]":
        return self._commands.submit(request)

    def command(self, command_id: str) -> "Deferred[CommandRecord | None]":
        return self._commands.command(command_id)

    def command_ended(self, command_id: str) -> "Deferred[CommandRecord | None]":
        return self._commands.ended(command_id)

    def events(self, since: int, limit: int) -> "Deferred[list[StoredEvent]]":
        return self._journal.read(since, limit).addCallback(self._named)

    def last_cursor(self) -> int:
        return self._journal.last_cursor()

    def on_events(self, callback: Callable[[int], None]) -> Callable[[], None]:
        return self._journal.on_durable(callback)

    def ready(self) -> tuple[bool, dict[str, Any]]:
        status = self._journal.status()
        bus = None if self._bus is None else self._bus()
        own = "draining" if self.draining else "starting" if self.starting else ""
        reason = own or self._outbox.fault or status.reason
        shared = None if self._shared is None else self._shared()
        for name, state in (("Kafka", bus), ("Redis", shared)):
            if not reason and state is not None and state.required and state.reason:
                reason = f"{name}: {state.reason}"
        details = {"ready": reason == "", "reason": reason, "draining": self.draining, "journal": _shown(status)}
        if bus is not None:
            details["kafka"] = _shown(bus)
        if shared is not None:
            details["redis"] = _shown(shared)
        return reason == "", details

    def closed_for(self) -> Reason | None:
        """Why no station is let in now, if so."""
        if self.draining:
            return Reason.DRAINING
        if self.starting:
            return Reason.STARTING
        is_writable = not self._outbox.fault and self._journal.status().healthy
        return None if is_writable else Reason.STORE_UNAVAILABLE

    def attempts(self, query: AttemptQuery) -> "Deferred[list[dict[str, Any]]]":
        def flushed(_result: None) -> "Deferred[list[dict[str, Any]]]":
            return Deferred.fromCoroutine(find_attempts(self._store, query))

        return self._attempts.flush().addCallback(flushed)

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "service": self._service_name,
            "nodeId": self._node_id,
            "version": __version__,
            "uptimeSeconds": int(self._clock.seconds() - self._started_at),
            "connections": self._links.counts(),
        }

    def _named(self, events: list[StoredEvent]) -> list[StoredEvent]:
        return [msgspec.structs.replace(event, topic=self._topics[event.topic]) for event in events]

    async def _all_stations(self) -> list[dict[str, Any]]:
        listed = self._listed(await self._store.known_stations())
        elsewhere = {} if self._sessions is None else await self._sessions()
        for station in listed:
            session = elsewhere.get(station["chargePointId"])
            if session is not None and not station["connected"]:
                station.update(connected=True, nodeId=session.node_id, connectedAt=session.connected_at)
                station.update(lastSeenAt=session.last_seen_at, ocppVersion=session.ocpp_version)
        return listed

    def _listed(self, rows: Sequence[StationRow]) -> list[dict[str, Any]]:
        listed = {row.charge_point_id: _from_row(row, self._links.get(row.charge_point_id)) for row in rows}
        for link in self._links:
            listed.setdefault(link.station.charge_point_id, _from_link(link))
        return [listed[name] for name in sorted(listed)]


def _from_row(row: StationRow | None, link: Link | None) -> dict[str, Any]:
    assert row is not None
    boot = row.boot if isinstance(row.boot, dict) else {}
    maker = boot.get("chargingStation", boot)
    shown = {
        "chargePointId": row.charge_point_id,
        "stationId": row.station_id,
        "tenantId": row.tenant_id,
        "connected": link is not None,
        "ocppVersion": row.version,
        "bootStatus": row.boot_status,
        "vendor": maker.get("chargePointVendor") or maker.get("vendorName"),
        "model": maker.get("chargePointModel") or maker.get("model"),
        "transactions": len(row.open_transactions),
    }
    return shown if link is None else {**shown, **_from_link(link), "vendor": shown["vendor"], "model": shown["model"]}


def _from_link(link: Link) -> dict[str, Any]:
    state = link.session.state
    return {
        "chargePointId": link.station.charge_point_id,
        "stationId": link.station.station_id,
        "tenantId": link.station.tenant_id,
        "connected": True,
        "ocppVersion": link.version.name,
        "bootStatus": state.boot_status,
        "vendor": None,
        "model": None,
        "connectedAt": rfc3339(link.connected_at).decode(),
        "lastSeenAt": rfc3339(link.last_seen_at).decode(),
        "address": link.address,
        "transactions": len(_open_transactions(None, link)),
    }


def _details(row: StationRow | None, link: Link | None) -> dict[str, Any]:
    details: dict[str, Any] = {
        "boot": row.boot if row is not None else None,
        "connectors": {},
        "openTransactions": _open_transactions(row, link),
    }
    if link is None:
        return {**details, "queuedCommands": 0}
    quirks = link.session.quirks
    return {
        **details,
        **({} if quirks is None else {"quirks": quirks}),
        "connectors": dict(sorted(link.session.state.connectors.items())),
        "queuedCommands": link.session.queued_commands,
        "messagesReceived": link.messages,
        "messagesSent": link.sent,
        "badFrames": link.session.bad_frames,
    }


def _open_transactions(row: StationRow | None, link: Link | None) -> list[dict[str, Any]]:
    """Those in memory of a connected station, else those stored."""
    running = dict(row.open_transactions) if row is not None else {}
    if link is not None:
        running = {
            kept.transaction_id: kept.started_at
            for kept in link.session.state.transactions.values()
            if kept.started_at is not None and kept.ended_at is None
        }
    return [{"transactionId": name, "startedAt": rfc3339(at).decode()} for name, at in running.items()]


def _shown(status: msgspec.Struct) -> dict[str, Any]:
    return {_camel(name): value for name, value in msgspec.to_builtins(status).items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)

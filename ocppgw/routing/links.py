"""Charger id to Link. A Link is one open connection: it performs its session's effects in order, and nothing else.

The newest authenticated connection of a charger wins (protocol facts, section 4): the old one is closed with 1012 and
is unregistered by object, never by id, so that its late clean-up can't touch its successor.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.access.proof import Proof
from ocppgw.clock import Clock
from ocppgw.metrics import Metrics
from ocppgw.ocpp.calls import PendingCall
from ocppgw.ocpp.effects import (
    Ask,
    Close,
    Decide,
    Dispatched,
    Effect,
    Finished,
    Late,
    Note,
    Publish,
    Requeue,
    Send,
    SignRequest,
    WakeAt,
)
from ocppgw.ocpp.session import Session, StationFacts
from ocppgw.ocpp.state import StationState, TransactionFound
from ocppgw.ocpp.versions import OcppVersion
from ocppgw.ports import Store
from ocppgw.routing.lease import Lease
from ocppgw.routing.link_ports import CommandListener, Decider, Mirror, Owner, RequestSigner, Socket
from ocppgw.routing.outbox import Outbox

log = Logger(namespace="ocppgw.links")

UNPROVED = Proof("none")


class Surroundings:
    """What all links of a node share. `owner` and `mirror` are None for a node that is alone."""

    __slots__ = (
        "clock",
        "commands",
        "decisions",
        "lease",
        "links",
        "metrics",
        "mirror",
        "outbox",
        "owner",
        "signing",
        "store",
    )

    def __init__(self, clock: Clock, store: Store, outbox: Outbox, metrics: Metrics) -> None:
        self.clock = clock
        self.store = store
        self.outbox = outbox
        self.metrics = metrics
        self.links = Links()
        self.commands: CommandListener | None = (
            None  # set once by the composition root: links and commands know each other
        )
        self.signing: RequestSigner | None = None  # the same; None where no local CA signs
        self.decisions: Decider | None = None  # the same; asked where the backend decides
        self.owner: Owner | None = None
        self.lease: Lease | None = None  # the owner's, asked for every message
        self.mirror: Mirror | None = None

    def own(self, owner: Owner, mirror: Mirror) -> None:
        """This node is one of several."""
        self.owner, self.lease, self.mirror = owner, owner.lease, mirror


class Link:
    """One open connection of a charger. `received` and `closed` are called by the WebSocket, the rest by routing."""

    __slots__ = (
        "_around",
        "_session",
        "_socket",
        "_wake",
        "connected_at",
        "epoch",
        "is_accepted",
        "last_seen_at",
        "messages",
        "proof",
        "sent",
        "station",
        "subprotocol",
        "version",
    )

    def __init__(
        self,
        session: Session,
        socket: Socket,
        version: OcppVersion,
        subprotocol: str,
        around: Surroundings,
        proof: Proof = UNPROVED,
        epoch: int = 0,
    ) -> None:
        self._around = around
        self.epoch = epoch
        self.is_accepted = session.state.boot_status == "Accepted"  # commands that waited for the station may go out
        self._session = session
        self._socket: Socket | None = socket
        self._wake: IDelayedCall | None = None
        self.station: StationFacts = session.station
        self.version = version
        self.subprotocol = subprotocol
        self.proof = proof
        self.connected_at = self.last_seen_at = around.clock.seconds()
        self.messages = 0
        self.sent = 0

    def opened(self) -> None:
        """Register; an older connection of the same charger has to go."""
        around = self._around
        if around.owner is not None and not around.owner.opened(self):
            self.close(1012, "the station has connected to another node")
            self._socket = None  # not served: nothing is recorded of it
            return
        older = around.links.register(self)
        if older is not None:
            log.info("a newer connection takes over", station=self.station.charge_point_id)
            older.displaced()
        facts = {"address": self._socket.address if self._socket else "", "subprotocol": self.subprotocol}
        self._perform(self._session.opened(self.connected_at, facts))
        if around.commands is not None:
            around.commands.link_opened(self)

    # --- from the WebSocket

    def received(self, text: bytes) -> None:
        if self._socket is None:
            return  # displaced: this session's state is no longer the station's
        lease = self._around.lease
        if lease is not None and lease.is_over():
            self._hold(lease, self.received, text)
            return
        self.messages += 1
        now = self.last_seen_at = self._around.clock.seconds()
        self._perform(self._session.receive(text, now))

    def received_binary(self) -> None:
        if self._socket is not None:
            self._perform(self._session.receive_binary())

    def closed(self, code: int | None, reason: str) -> None:
        """The socket is gone (after any of the two sides closed it). Safe to call twice."""
        if self._socket is None:
            return
        self._socket = None
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        self._around.links.unregister(self)
        if self._around.owner is not None:
            self._around.owner.closed(self)
        self._around.metrics.closed(code)
        log.info("disconnected: {reason}", reason=reason, code=code, station=self.station.charge_point_id)
        self._perform(self._session.lost(self._around.clock.seconds(), code, reason))

    # --- from the outbox (ports.Waiter)

    def durable(self, token: int) -> None:
        session = self._session
        try:
            effects = session.durable(token, self._around.clock.seconds())
            mirror = self._around.mirror
            if mirror is not None:
                mirror.touch(self)
            if not self.is_accepted and session.state.boot_status == "Accepted":
                self._accepted()
            if effects:
                self._around.metrics.answered(session.latency)
                self._perform(effects)
        except Exception:  # the journal tells many links in a row: a fault costs this one only
            self._broken(Failure())

    def _accepted(self) -> None:
        self.is_accepted = True
        if self._around.commands is not None and self._socket is not None:
            self._around.commands.accepted(self)

    def refused(self, token: int, reason: str) -> None:
        log.warn("not stored: {reason}", reason=reason, station=self.station.charge_point_id)
        try:
            self._perform(self._session.refused(token, self._around.clock.seconds()))
        except Exception:
            self._broken(Failure())

    # --- from routing

    def call(self, pending: PendingCall) -> None:
        self._perform(self._session.call(pending, self._around.clock.seconds()))

    def decided(self, token: int, answer: Mapping[str, Any] | None, *, is_refused: bool = False) -> None:
        """(link_ports.Deciding)"""
        now = self._around.clock.seconds()
        try:
            self._perform(self._session.decided(token, answer, now, is_refused=is_refused))
        except Exception:  # the backend's other answers must not wait for it
            self._broken(Failure())

    def close(self, code: int, reason: str) -> None:
        if self._socket is not None:
            self._socket.close(code, reason)

    def probe(self, seconds: float) -> "Deferred[bool]":
        """Whether the peer is alive: it is pinged, and whatever comes from it within `seconds` counts."""
        socket = self._socket
        return succeed(False) if socket is None else socket.probe(seconds)

    def displaced(self) -> None:
        """A newer connection took this one's place."""
        self.withdraw(1012, "a newer connection of this charger")

    def withdraw(self, code: int, reason: str) -> None:
        """Close it, and be gone at once even if the peer never answers."""
        self.close(code, reason)
        self.closed(code, reason)

    @property
    def state(self) -> StationState:
        """All that outlives this connection."""
        return self._session.state

    @property
    def session(self) -> Session:
        return self._session

    @property
    def address(self) -> str:
        return self._socket.address if self._socket is not None else ""

    # --- effects

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Publish:
                publish: Publish = effect  # type: ignore[assignment]
                outbox = self._around.outbox
                if publish.acknowledged:
                    outbox.publish_acknowledged(publish.record, publish.changes, self, publish.token)
                else:
                    outbox.publish(publish.record, publish.changes, self, publish.token)
            elif kind is Send:
                self._send(effect.text)  # type: ignore[union-attr]
            else:
                self._perform_rarer(effect)

    def _send(self, text: bytes) -> None:
        if self._socket is None:
            return
        lease = self._around.lease
        if lease is not None and lease.is_over():
            self._hold(lease, self._send, text)
            return
        self.sent += 1
        self._socket.send_text(text)

    def _hold(self, lease: Lease, action: Callable[..., None], text: bytes) -> None:
        if not lease.hold(action, text):
            self._around.metrics.note("held-too-much")
            self.close(1013, "the gateway is overloaded")

    def _perform_rarer(self, effect: Effect) -> None:
        commands = self._around.commands
        assert commands is not None
        match effect:
            case Note():
                self._note(effect)
            case Ask():
                self._ask(effect)
            case Dispatched():
                commands.dispatched(self, effect)
            case Finished(command_id, result):
                commands.finished(command_id, result)
            case Late(command_id, result):
                commands.late(command_id, result)
            case Requeue(command_id):
                commands.requeued(command_id)
            case Decide():
                assert self._around.decisions is not None  # actions to decide without it: a fault of the composition
                self._around.decisions.ask(self, effect)
            case WakeAt(at):
                self._wake_at(at)
            case SignRequest():
                assert self._around.signing is not None  # a judge without a signer: a fault of the composition
                self._around.signing.request(self, effect)
            case Close(code, reason):
                log.info("closing: {reason}", reason=reason, code=code, station=self.station.charge_point_id)
                self.close(code, reason)

    def _note(self, note: Note) -> None:
        metrics = self._around.metrics
        if note.kind == "call-error":
            metrics.call_error(self.version.name, note.detail)
        elif note.kind == "repaired":
            metrics.repaired(note.detail)
        elif note.kind == "bad-frame":
            metrics.bad_frame(self.version.name, note.detail)
        else:
            metrics.note(note.kind)
        log.debug("{kind} {detail}", kind=note.kind, detail=note.detail, station=self.station.charge_point_id)

    def _ask(self, ask: Ask) -> None:
        def answered(found: TransactionFound) -> None:
            self._perform(self._session.answered(ask.token, found, self._around.clock.seconds()))

        def failed(failure: Any) -> None:
            self.refused(ask.token, failure.getErrorMessage())

        asked = self._around.store.find_transaction(ask.charge_point_id, ask.key, ask.transaction_id)
        asked.addCallbacks(answered, failed)
        asked.addErrback(self._broken)

    def _broken(self, failure: Any) -> None:
        log.failure("a fault of the gateway itself", failure=failure, station=self.station.charge_point_id)
        self.close(1011, "internal error")

    def _wake_at(self, at: float) -> None:
        delay = max(0.0, at - self._around.clock.seconds())
        if self._wake is not None and self._wake.active():
            self._wake.reset(delay)
        elif self._socket is not None:
            self._wake = self._around.clock.callLater(delay, self._tick)

    def _tick(self) -> None:
        try:
            self._perform(self._session.tick(self._around.clock.seconds()))
        except Exception:  # else its commands would never end
            self._broken(Failure())


class Links:
    """The open connections of this node."""

    def __init__(self) -> None:
        self._by_id: dict[str, Link] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._by_id.values()))

    def get(self, charge_point_id: str) -> Link | None:
        return self._by_id.get(charge_point_id)

    def of_station(self, station_id: str) -> Link | None:
        return next((link for link in self._by_id.values() if link.station.station_id == station_id), None)

    def register(self, link: Link) -> Link | None:
        """Returns the link that had the id before."""
        older = self._by_id.get(link.station.charge_point_id)
        self._by_id[link.station.charge_point_id] = link
        return older

    def unregister(self, link: Link) -> None:
        if self._by_id.get(link.station.charge_point_id) is link:
            del self._by_id[link.station.charge_point_id]

    def counts(self) -> dict[str, int]:
        """Open connections by OCPP version."""
        counts: dict[str, int] = {}
        for link in self._by_id.values():
            counts[link.version.name] = counts.get(link.version.name, 0) + 1
        return counts

"""A session with its doubles: a journal and a store in memory, and a driver that plays Link, so that a test is a story.

    station = build_session(V16)
    station.call("a", "Heartbeat", {})          -> the frames the gateway sent: [[3, "a", {"currentTime": …}]]
    station.event_types()                       -> ["StationHeartbeat"]

With `journal_waits=True` records wait until `station.commit()` (or `station.refuse()`); with `store_waits=True` the
store's replies wait until `station.store_replies()`.
"""

import json
from collections import deque
from collections.abc import Iterable
from copy import deepcopy
from itertools import count
from typing import Any

import msgspec

from ocppgw.ocpp.calls import PendingCall
from ocppgw.ocpp.effects import Ask, CommandResult, Effect, Finished, Note, Publish, SaveBoot, SaveTransaction, Send
from ocppgw.ocpp.recovery import recover
from ocppgw.ocpp.session import Session, SessionRules, StationFacts
from ocppgw.ocpp.state import StationState, Transaction, TransactionFound
from ocppgw.ocpp.versions import V16, OcppVersion

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
CHARGE_POINT = "CP-001"
FACTS = StationFacts(CHARGE_POINT, "station-1", "tenant-1")


class Store:
    """Transactions as the embedded store keeps them: what is durable, and ids that are never given twice."""

    def __init__(self) -> None:
        self.rows: dict[str, Transaction] = {}
        self.boot: SaveBoot | None = None
        self.asked: list[Ask] = []
        self._ids = count(1)

    def save(self, change: Any) -> None:
        if isinstance(change, SaveBoot):
            self.boot = change
        elif isinstance(change, SaveTransaction):
            self.rows[change.transaction_id] = Transaction(
                change.transaction_id, change.key, change.started_at, change.ended_at, dict(change.records)
            )

    def find(self, ask: Ask) -> TransactionFound:
        self.asked.append(ask)
        if not ask.key:
            return TransactionFound(deepcopy(self.rows.get(ask.transaction_id)))
        for row in self.rows.values():
            if row.key == ask.key:
                return TransactionFound(deepcopy(row))
        return TransactionFound(None, next(self._ids))


class Station:
    """Plays the station's side, the journal and the store of one session. Lists hold everything since the beginning."""

    def __init__(
        self,
        version: OcppVersion,
        state: StationState,
        store: Store,
        rules: SessionRules,
        facts: StationFacts,
        journal_waits: bool,
        store_waits: bool,
    ) -> None:
        self.version = version
        self.state = state
        self.store = store
        self.rules = rules
        self.facts = facts
        self.journal_waits = journal_waits
        self.store_waits = store_waits
        self.now = NOW
        self.epoch = 0
        self.sent: list[Any] = []
        self.events: list[dict[str, Any]] = []  # durable ones
        self.effects: list[Effect] = []
        self.counted: list[tuple[str, str]] = []
        self._ids = (f"our-{number}" for number in count(1))
        self._journal: deque[tuple[Session, Publish]] = deque()
        self._asks: deque[tuple[Session, Ask]] = deque()
        self.connect()

    # --- what a station does

    def connect(self) -> None:
        """A new connection: a new session over the same state and store."""
        self.epoch += 1
        self.session = Session(
            self.version,
            self.facts,
            self.state,
            self.rules,
            "node-1",
            self.epoch,
            new_id=lambda: next(self._ids),
            count=lambda version, action: self.counted.append((version, action)),
        )

    def lose(self) -> list[Effect]:
        """The connection goes; what happened then."""
        return self._noting(lambda: self.perform(self.session.lost(self.now, 1006, "gone")))

    def restart(self) -> None:
        """The gateway is killed: what was not durable is lost, the rest comes from the journal and the store."""
        self._journal.clear()
        self._asks.clear()
        boot = self.store.boot
        self.state = StationState(boot_status=boot.status if boot else None)
        for event in self.events:
            recover(self.state, event, self.now)
        self.connect()

    def receive(self, text: bytes | list[Any]) -> list[Any]:
        """The station sends a text (a list becomes JSON); the frames that were sent in return."""
        data = text if isinstance(text, bytes) else json.dumps(text).encode()
        return self._sending(lambda: self.perform(self.session.receive(data, self.now)))

    def call(self, message_id: str, action: str, payload: Any) -> list[Any]:
        return self.receive([2, message_id, action, payload])

    # --- what the backend does

    def command(
        self, action: str, payload: dict[str, Any], command_id: str = "command-1", within: float = 300.0
    ) -> list[Any]:
        """A command for the station; the frames that were sent."""
        pending = PendingCall(command_id, action, payload, self.now + within)
        return self._sending(lambda: self.perform(self.session.call(pending, self.now)))

    def wait(self, seconds: float) -> list[Any]:
        """Time passes, and what is due is done; the frames that were sent."""
        self.now += seconds
        return self._sending(lambda: self.perform(self.session.tick(self.now)))

    # --- what journal and store do

    def commit(self, records: int | None = None) -> list[Any]:
        """The oldest records (all by default) become durable; the frames that were sent."""
        return self._sending(lambda: self._settle(True, records))

    def refuse(self, records: int | None = None) -> list[Any]:
        """The oldest records can't be made durable; the frames that were sent."""
        return self._sending(lambda: self._settle(False, records))

    def store_replies(self) -> list[Any]:
        return self._sending(self._reply)

    # --- what is seen from outside

    def of_type(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if type(effect) is kind]

    def notes(self) -> list[str]:
        return [note.kind for note in self.of_type(Note)]

    def ends(self) -> dict[str, CommandResult]:
        """How the commands ended, by command id."""
        return {finished.command_id: finished.result for finished in self.of_type(Finished)}

    def event_types(self) -> list[str]:
        return [event["eventType"] for event in self.events]

    def last_event(self) -> dict[str, Any]:
        return self.events[-1]

    @property
    def waiting_records(self) -> int:
        return len(self._journal)

    # --- the link

    def perform(self, effects: Iterable[Effect]) -> None:
        """Do what a Link does, in order; the journal and the store reply at once unless they are told to wait."""
        session = self.session
        for effect in effects:
            self.effects.append(effect)
            if type(effect) is Send:
                self.sent.append(json.loads(effect.text))
            elif type(effect) is Publish:
                self._journal.append((session, effect))
            elif type(effect) is Ask:
                self._asks.append((session, effect))
        if not self.store_waits:
            self._reply()
        if not self.journal_waits:
            self._settle(True, None)

    def _reply(self) -> None:
        while self._asks:
            session, ask = self._asks.popleft()
            self._perform_of(session, session.answered(ask.token, self.store.find(ask), self.now))

    def _settle(self, durable: bool, records: int | None) -> None:
        for _ in range(len(self._journal) if records is None else records):
            if not self._journal:
                return
            session, publish = self._journal.popleft()
            if durable:
                self.events.append(msgspec.json.decode(publish.record.value))
                for change in publish.changes:
                    self.store.save(change)
                self._perform_of(session, session.durable(publish.token, self.now))
            else:
                self._perform_of(session, session.refused(publish.token, self.now))

    def _perform_of(self, session: Session, effects: list[Effect]) -> None:
        current, self.session = self.session, session
        try:
            self.perform(effects)
        finally:
            self.session = current

    def _sending(self, act: Any) -> list[Any]:
        before = len(self.sent)
        act()
        return self.sent[before:]

    def _noting(self, act: Any) -> list[Effect]:
        before = len(self.effects)
        act()
        return self.effects[before:]


def build_session(
    version: OcppVersion = V16,
    *,
    boot_status: str | None = "Accepted",
    rules: SessionRules | None = None,
    facts: StationFacts = FACTS,
    journal_waits: bool = False,
    store_waits: bool = False,
) -> Station:
    """A connected station in this boot state (None: it never booted), with an empty journal and store."""
    state = StationState(boot_status=boot_status)
    return Station(version, state, Store(), rules or SessionRules(), facts, journal_waits, store_waits)

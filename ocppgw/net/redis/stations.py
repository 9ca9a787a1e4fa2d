"""What stations have come to, written where every node finds it, a moment after it became durable here.

A message marks its station (`touch`); every FLUSH_SECONDS all marked stations are written in a few round trips. Nothing
waits for that but those who give a station away: `flush` first. While Redis is away marks stay, and cost nothing more.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet_keys import FleetKeys, ReplyKeys, escaped
from ocppgw.net.redis.fleet_scripts import LOAD_STATE, SAVE_ANSWERS, SAVE_STATES, SAVE_TRANSACTION
from ocppgw.net.redis.transactions import OPEN_LIFE, read, written
from ocppgw.net.redis.wire import Word
from ocppgw.ocpp.memory import StationMemory
from ocppgw.ocpp.state import Answered, StationState, Transaction

log = Logger(namespace="ocppgw.redis")

FLUSH_SECONDS = 0.25
AT_ONCE = 200  # stations in one round trip
ANSWERS_AT_ONCE = 500
MAX_MARKED = 100_000  # stations; beyond it the one that was marked first is written with its next message
STATES_IN_MEMORY = 100_000
STATE_LIFE = 400 * 86_400

_encode = msgspec.msgpack.Encoder().encode


class Body(msgspec.Struct, array_like=True):
    """A station's state as it stands in Redis. `boot_at`: seconds since the epoch, of the last BootNotification."""

    version: str = ""
    station_id: str = ""
    tenant_id: str = ""
    boot_status: str | None = None
    boot: bytes = b""
    recent: list[tuple[str, int, bytes, float]] = []
    connectors: dict[str, str] = {}
    memory: StationMemory | None = None


_decode = msgspec.msgpack.Decoder(Body).decode


class Facts(Protocol):
    @property
    def charge_point_id(self) -> str: ...
    @property
    def station_id(self) -> str: ...
    @property
    def tenant_id(self) -> str: ...


class Named(Protocol):
    @property
    def name(self) -> str: ...


class Carrier(Protocol):
    """What is used of a link."""

    epoch: int

    @property
    def station(self) -> Facts: ...
    @property
    def version(self) -> Named: ...
    @property
    def state(self) -> StationState: ...


class _Written(msgspec.Struct):
    """What of a station is in Redis already."""

    epoch: int
    state: StationState
    transactions: dict[str, tuple[float | None, float | None, int, str]] = {}
    answers: set[str] = set()


class Stations:
    """`transactions_kept` (seconds): after their end. `answers_kept` (seconds): how long a reply is; 0: replies are
    not written under keys of their own."""

    def __init__(
        self,
        calls: Connection,
        keys: FleetKeys,
        clock: Clock,
        transactions_kept: float,
        answers_kept: float,
        note: Callable[[str], None],
        replies: ReplyKeys,
    ) -> None:
        self._calls, self._keys, self._replies, self._clock, self._note = calls, keys, replies, clock, note
        self._transactions_kept, self._answers_kept = max(1, int(transactions_kept)), int(answers_kept * 1000)
        self._marked: dict[str, Carrier] = {}
        self._writing: dict[str, Carrier] = {}  # on their way
        self._written: dict[str, _Written] = {}
        self._flushing: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._is_stopped = False

    # --- writing

    def touch(self, carrier: Carrier) -> None:
        """Called for every message that became durable."""
        self._marked[carrier.station.charge_point_id] = carrier

    def start(self) -> None:
        self._timer = self._clock.callLater(FLUSH_SECONDS, self._turn)

    def stop(self) -> "Deferred[None]":
        self._is_stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return self.flush()

    def flush(self) -> "Deferred[None]":
        """Fires when all that is marked now is written, or could not be; never fails."""
        if self._flushing is not None:
            waiting: Deferred[None] = Deferred()
            self._flushing.addCallback(lambda _: self.flush().chainDeferred(waiting))
            return waiting
        if not self._marked:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._flushing = Deferred()
        Deferred.fromCoroutine(self._flush()).addErrback(self._failed).addBoth(self._flushed, done)
        return done

    def again(self, carriers: Iterable[Carrier]) -> None:
        """Redis has lost its data: all of it once more."""
        self._written.clear()
        for carrier in carriers:
            self.touch(carrier)

    def _turn(self) -> None:
        if self._is_stopped:
            return
        self._timer = self._clock.callLater(FLUSH_SECONDS, self._turn)
        if self._flushing is None and self._marked:
            self.flush()

    def _flushed(self, _result: object, done: "Deferred[None]") -> None:
        flushing, self._flushing = self._flushing, None
        done.callback(None)
        if flushing is not None:
            flushing.callback(None)

    async def _flush(self) -> None:
        while len(self._marked) > MAX_MARKED:
            del self._marked[next(iter(self._marked))]
            self._note("state-not-written")
        self._writing, self._marked = self._marked, {}
        marked = list(self._writing.items())
        try:
            for start in range(0, len(marked), AT_ONCE):
                try:
                    await self._write([carrier for _, carrier in marked[start : start + AT_ONCE]])
                except OcppgwError:
                    self._marked = dict(marked[start:]) | self._marked
                    raise
        finally:
            self._writing = {}

    async def _write(self, carriers: Sequence[Carrier]) -> None:
        keys: list[str] = []
        values: list[Word] = [STATE_LIFE]
        sent: list[Deferred[Any]] = []
        for carrier in carriers:
            name = carrier.station.charge_point_id
            keys.append(self._keys.state(name))
            values += [carrier.epoch, _encode(_body(carrier))]
        sent.append(self._calls.script(SAVE_STATES, keys, values))
        remembered = []
        answers: list[tuple[str, bytes]] = []
        for carrier in carriers:
            written_, more = self._rest(carrier, answers)
            sent += more
            remembered.append((carrier.station.charge_point_id, written_))
        for begin in range(0, len(answers), ANSWERS_AT_ONCE):
            some = answers[begin : begin + ANSWERS_AT_ONCE]
            texts: list[Word] = [text for _, text in some]
            names = [name for name, _ in some]
            sent.append(self._calls.script(SAVE_ANSWERS, names, [self._answers_kept, *texts]))
        failure: Failure | None = None
        for each in sent:
            try:
                await each
            except OcppgwError:
                failure = failure or Failure()
        if failure is not None:
            failure.raiseException()
        for name, one in remembered:
            self._remember(name, one)

    def _rest(self, carrier: Carrier, answers: list[tuple[str, bytes]]) -> "tuple[_Written, list[Deferred[Any]]]":
        """Transactions that are not in Redis yet, on their way; `answers` gets the replies that are not."""
        name, state = carrier.station.charge_point_id, carrier.state
        before = self._written.get(name)
        known = {} if before is None else before.transactions
        after, sent = _Written(carrier.epoch, state), []
        for transaction in list(state.transactions.values()):
            mark = _mark(transaction)
            after.transactions[transaction.transaction_id] = mark
            if known.get(transaction.transaction_id) != mark and transaction.records:
                sent.append(self._save(name, transaction, carrier.epoch))
        if self._answers_kept:
            told = set() if before is None else before.answers
            for message_id, answered in list(state.recent.items()):
                after.answers.add(message_id)
                key = self._replies.of(name, message_id)
                if message_id not in told and answered.text and key is not None:
                    answers.append((key, answered.text))
        return after, sent

    def _save(self, name: str, transaction: Transaction, epoch: int) -> "Deferred[Any]":
        key, number = transaction.key, transaction.transaction_id
        names = [self._keys.transaction(name, number), self._keys.opened(name)]
        if key:
            names.append(self._keys.start(name, key))
        values: list[Word] = [written(transaction, epoch), escaped(number), epoch, OPEN_LIFE, self._transactions_kept]
        return self._calls.script(SAVE_TRANSACTION, names, values)

    def save_transaction(self, charge_point_id: str, transaction: Transaction) -> "Deferred[Any]":
        """One that this node has on its disk from before."""
        return maybeDeferred(self._save, charge_point_id, transaction, 0)

    def _remember(self, name: str, written_: _Written) -> None:
        self._written.pop(name, None)
        self._written[name] = written_
        if len(self._written) > STATES_IN_MEMORY:
            del self._written[next(iter(self._written))]

    def _failed(self, failure: Failure) -> None:
        if failure.check(OcppgwError) is None:
            log.failure("stations' states could not be written", failure=failure)
        self._note("state-write-failed")

    # --- reading

    async def load(self, charge_point_id: str) -> StationState:
        """The one in memory, as long as no other node had the station since."""
        names = [self._keys.state(charge_point_id), self._keys.opened(charge_point_id)]
        found = await self._calls.script(LOAD_STATE, names, [self._keys.transaction(charge_point_id)])
        raw_epoch, raw, transactions = found
        epoch = int(raw_epoch) if raw_epoch is not None and raw_epoch.isdigit() else 0
        own = self.own(charge_point_id)
        if own is not None and epoch <= own[0]:
            return own[1]
        return _state(raw, transactions)

    def own(self, charge_point_id: str) -> tuple[int, StationState] | None:
        """What this node knows by itself, and since which epoch."""
        marked = self._marked.get(charge_point_id) or self._writing.get(charge_point_id)
        if marked is not None:
            return marked.epoch, marked.state
        kept = self._written.get(charge_point_id)
        return None if kept is None else (kept.epoch, kept.state)


def read_body(raw: bytes | None) -> Body | None:
    try:
        return None if raw is None else _decode(raw)
    except msgspec.MsgspecError:
        return None


def _body(carrier: Carrier) -> Body:
    state, station = carrier.state, carrier.station
    recent = [(name, answered.digest, answered.text, answered.at) for name, answered in state.recent.items()]
    return Body(
        carrier.version.name,
        station.station_id,
        station.tenant_id,
        state.boot_status,
        state.boot,
        recent,
        state.connectors,
        state.memory,
    )


def _state(raw: bytes | None, transactions: Sequence[bytes]) -> StationState:
    state = StationState(loaded=True)
    body = read_body(raw)
    if body is not None:
        state.boot_status, state.boot, state.connectors = body.boot_status, body.boot, body.connectors
        state.memory = body.memory
        for name, digest, text, at in body.recent:
            state.remember_answer(name, Answered(digest, text, at))
    known = [transaction for one in transactions if (transaction := read(one)) is not None]
    for transaction in sorted(known, key=lambda transaction: transaction.started_at or 0.0):
        if transaction.records:  # else only its id was given
            state.remember_transaction(transaction)
    return state


def _mark(transaction: Transaction) -> tuple[float | None, float | None, int, str]:
    records = transaction.records
    last = next(reversed(records), 0)
    return transaction.started_at, transaction.ended_at, last, records.get(last, "")

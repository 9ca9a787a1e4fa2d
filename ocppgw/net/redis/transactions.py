"""Transactions of all stations, found again on any node, and the ids that are given to them.

The id of a StartTransaction is reserved in Redis before the station hears of it: sent again to another node after a
crash, the same start gets the same id. A small lease of ids lets transactions begin while Redis is away; such a start,
sent again to another node before this one could tell, gets a second id.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.errors import OcppgwError, StoreError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet_keys import FleetKeys
from ocppgw.net.redis.fleet_scripts import LEASE_IDS, RESERVE_ID, RUNNING
from ocppgw.net.redis.wire import Word
from ocppgw.ocpp.state import RECENT_RECORDS, Transaction, TransactionFound

log = Logger(namespace="ocppgw.redis")

MAX_ID = 2**31 - 1
SECONDS_OF_2020 = 1_577_836_800
GAP = 1_000_000  # far more than all nodes together may have given out unseen
LEASED = 100
KEPT_EVERY = 1000  # ids, from one write to the disk to the next
OPEN_LIFE = 400 * 86_400  # a charger may be offline for long
MAX_LOCAL = 10_000  # starts that were given leased ids and are remembered
AT_ONCE = 200  # stations whose open transactions are read in one round trip

_encode = msgspec.json.Encoder().encode


class StoredTransaction(msgspec.Struct, rename="camel", omit_defaults=True):
    """As it stands in Redis: times in seconds since the epoch; `reserved`: only its id was given so far."""

    transaction_id: str
    key: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    records: dict[int, str] = {}
    epoch: int = 0
    reserved: bool = False


_decode = msgspec.json.Decoder(StoredTransaction, strict=False).decode


class Transactions:
    """`highest` is the highest id this node ever saw; `raised` keeps a higher one. `clock`: seconds since the epoch."""

    def __init__(
        self,
        calls: Connection,
        keys: FleetKeys,
        clock: Callable[[], float],
        highest: int,
        raised: Callable[[int], Any],
        note: Callable[[str], None],
    ) -> None:
        self._calls, self._keys, self._clock, self._raised, self._note = calls, keys, clock, raised, note
        self._highest, self._kept = highest, 0
        self._leased: list[int] = []
        self._is_leasing = False
        self._local: dict[tuple[str, str], int] = {}

    async def by_id(self, charge_point_id: str, transaction_id: str) -> TransactionFound:
        raw = await self._calls.call("GET", self._keys.transaction(charge_point_id, transaction_id))
        return TransactionFound(None if raw is None else read(raw))

    async def by_key(self, charge_point_id: str, key: str) -> TransactionFound:
        local = self._local.get((charge_point_id, key))
        if local is not None:
            return await self._from_hand(charge_point_id, key, local)
        try:
            answer = await self._reserve(charge_point_id, key)
        except StoreError:
            return TransactionFound(None, self._from_lease(charge_point_id, key))
        if answer is None:
            raise StoreError("transaction ids are used up", hint="2^31 of them were given")
        name, raw, was_given = answer
        self._saw(int(name))
        if was_given == b"1" and raw is not None:
            stored = read_stored(raw)
            if stored is not None and not stored.reserved:
                return TransactionFound(as_transaction(stored), 0)
        return TransactionFound(None, int(name))

    async def running(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Open transactions of stations: their ids, and when they started."""
        found: dict[str, dict[str, float]] = {}
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            fronts: list[Word] = [self._keys.transaction(name) for name in some]
            answer = await self._calls.script(RUNNING, [self._keys.opened(name) for name in some], fronts)
            found.update((name, _started(raws)) for name, raws in zip(some, answer, strict=True))
        return found

    async def lease(self) -> None:
        """Have some ids in hand. Called now and then."""
        if self._is_leasing or len(self._leased) > LEASED // 2:
            return
        self._is_leasing = True
        try:
            last = await self._calls.script(LEASE_IDS, [self._keys.transaction_ids], [LEASED, *self._counting()])
        except OcppgwError:
            return  # told elsewhere
        finally:
            self._is_leasing = False
        if last is not None:
            self._leased += range(last - LEASED + 1, last + 1)
            self._saw(last)

    # --- inside

    async def _reserve(self, charge_point_id: str, key: str) -> Any:
        front = self._keys.transaction(charge_point_id)
        stored = StoredTransaction("", key, self._clock(), reserved=True)
        tail = _encode(stored).partition(b'"transactionId":"",')[2]
        names = [self._keys.start(charge_point_id, key), self._keys.transaction_ids, self._keys.opened(charge_point_id)]
        return await self._calls.script(RESERVE_ID, names, [front, tail, OPEN_LIFE, *self._counting()])

    def _counting(self) -> list[Word]:
        return [self._highest, max(1, int(self._clock()) - SECONDS_OF_2020), GAP, MAX_ID]

    async def _from_hand(self, charge_point_id: str, key: str, number: int) -> TransactionFound:
        """Its id was given while Redis was away; it may have been stored since."""
        try:
            raw = await self._calls.call("GET", self._keys.transaction(charge_point_id, str(number)))
        except StoreError:
            raw = None
        transaction = None if raw is None else read(raw)
        if transaction is None:
            return TransactionFound(None, number)
        self._local.pop((charge_point_id, key), None)
        return TransactionFound(transaction, 0)

    def _from_lease(self, charge_point_id: str, key: str) -> int:
        self._note("transaction-id-from-lease")
        if not self._leased:
            raise StoreError("no transaction can begin: Redis is away, and the ids in hand are used up")
        if len(self._local) >= MAX_LOCAL:
            del self._local[next(iter(self._local))]
        number = self._local[charge_point_id, key] = self._leased.pop(0)
        return number

    def _saw(self, number: int) -> None:
        self._highest = max(self._highest, number)
        if number >= self._kept + KEPT_EVERY:
            self._kept = number
            maybeDeferred(self._raised, number).addErrback(self._not_kept)

    def _not_kept(self, failure: Failure) -> None:
        """A later one is; GAP is far larger than what is not kept."""
        self._note("transaction-id-not-kept")
        if failure.check(OcppgwError) is None:
            log.failure("the highest transaction id was not kept", failure=failure)


def _started(raws: Sequence[bytes]) -> dict[str, float]:
    """Without those of which only the id was given."""
    known = [transaction for raw in raws if (transaction := read(raw)) is not None]
    return {
        transaction.transaction_id: transaction.started_at
        for transaction in sorted(known, key=lambda transaction: transaction.started_at or 0.0)
        if transaction.started_at is not None and transaction.records
    }


def read_stored(raw: bytes) -> StoredTransaction | None:
    try:
        return _decode(raw)
    except msgspec.MsgspecError:
        return None


def read(raw: bytes) -> Transaction | None:
    stored = read_stored(raw)
    return None if stored is None else as_transaction(stored)


def as_transaction(stored: StoredTransaction) -> Transaction:
    """Its records in the order in which they came, as far as their numbers tell; 1.6's stop (-1) was the last."""
    numbers = sorted(stored.records, key=lambda number: (number < 0, number))[-RECENT_RECORDS:]
    records = {number: stored.records[number] for number in numbers}
    return Transaction(stored.transaction_id, stored.key, stored.started_at, stored.ended_at, records)


def written(transaction: Transaction, epoch: int) -> bytes:
    return _encode(
        StoredTransaction(
            transaction.transaction_id,
            transaction.key,
            transaction.started_at,
            transaction.ended_at,
            transaction.records,
            epoch,
        )
    )

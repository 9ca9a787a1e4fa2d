"""Transactions of all stations, found again on any node, and the ids that are given to them.

The id of a StartTransaction is reserved in Redis before the station hears of it: sent again to another node after a
crash, the same start gets the same id. A small lease of ids lets transactions begin while Redis is away; such a start,
sent again to another node before this one could tell, gets a second id.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.logger import Logger

from ocppgw.errors import OcppgwError, StoreError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.fleet_keys import FleetKeys
from ocppgw.net.redis.fleet_scripts import LEASE_IDS, RESERVE_ID
from ocppgw.net.redis.wire import Word
from ocppgw.ocpp.state import Transaction, TransactionFound

log = Logger(namespace="ocppgw.redis")

MAX_ID = 2**31 - 1
SECONDS_OF_2020 = 1_577_836_800
GAP = 1_000_000  # far more than all nodes together may have given out unseen
LEASED = 100
OPEN_LIFE = 400 * 86_400  # a charger may be offline for long
MAX_LOCAL = 10_000  # starts that were given leased ids and are remembered

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
        self._highest = highest
        self._leased: list[int] = []
        self._is_leasing = False
        self._local: dict[tuple[str, str], int] = {}

    async def by_id(self, charge_point_id: str, transaction_id: str) -> TransactionFound:
        raw = await self._calls.call("GET", self._keys.transaction(charge_point_id, transaction_id))
        return TransactionFound(None if raw is None else read(raw))

    async def by_key(self, charge_point_id: str, key: str) -> TransactionFound:
        local = self._local.get((charge_point_id, key))
        if local is not None:
            return TransactionFound(None, local)
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

    def _from_lease(self, charge_point_id: str, key: str) -> int:
        self._note("transaction-id-from-lease")
        if not self._leased:
            raise StoreError("no transaction can begin: Redis is away, and the ids in hand are used up")
        if len(self._local) >= MAX_LOCAL:
            del self._local[next(iter(self._local))]
        number = self._local[charge_point_id, key] = self._leased.pop(0)
        return number

    def _saw(self, number: int) -> None:
        if number > self._highest:
            self._highest = number
            self._raised(number)


def read_stored(raw: bytes) -> StoredTransaction | None:
    try:
        return _decode(raw)
    except msgspec.MsgspecError:
        return None


def read(raw: bytes) -> Transaction | None:
    stored = read_stored(raw)
    return None if stored is None else as_transaction(stored)


def as_transaction(stored: StoredTransaction) -> Transaction:
    return Transaction(stored.transaction_id, stored.key, stored.started_at, stored.ended_at, dict(stored.records))


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

"""What is remembered of a station across its connections: plain data, changed only by `ocppgw.ocpp.session`.

The boot state belongs to the charger id, not to the socket (OCPP 1.6J section 5.4; 2.1 part 4 section 5.4), and so do
its transactions and the answers it may ask for again.
"""

from zlib import crc32

import msgspec

from ocppgw.ocpp.memory import StationMemory

RECENT_CALLS = 8  # answers kept per station for repeated CALLs
RECENT_RECORDS = 16  # digests kept per transaction, by seqNo
RECENT_TRANSACTIONS = 64  # transactions kept in memory per station; older ones are asked from the store


class Transaction(msgspec.Struct):
    """One transaction of a station; times in seconds since the epoch.

    `key` is the idempotency key of its start ("" when the start was never seen); `records` maps seqNo (1.6: -1 for the
    StopTransaction) to the content id of the message recorded under it. `newest`: the highest of these that
    this process has seen; None while all is from the store, which does not hear of every update.
    """

    transaction_id: str
    key: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    records: dict[int, str] = {}
    newest: int | None = None

    def remember(self, number: int, content_id: str) -> None:
        self.records[number] = content_id
        if self.newest is None:
            self.newest = max(self.records)
        elif number > self.newest:
            self.newest = number
        while len(self.records) > RECENT_RECORDS:
            del self.records[next(iter(self.records))]


class TransactionFound(msgspec.Struct, frozen=True):
    """Reply to `Ask`: the stored transaction, or None with a fresh id when one was wanted by key."""

    transaction: Transaction | None
    fresh_id: int = 0


def content_digest(action: str, payload: bytes) -> int:
    """The same in every process, and cheap; it tells a repeated CALL from another one under the same message id."""
    return crc32(payload, crc32(action.encode()))


class Answered(msgspec.Struct, frozen=True, gc=False):
    """An answered CALL, for replay: `digest` is its `content_digest`; `text` is the frame that was sent."""

    digest: int
    text: bytes
    at: float


class StationState(msgspec.Struct):
    """All that outlives a socket. `boot_status` is None (never booted), Accepted, Pending or Rejected.

    `loaded`: complete, not only what the journal's tail told. `memory`: made when there is something for it.
    """

    boot_status: str | None = None
    boot: bytes = b""
    transactions: dict[str, Transaction] = {}
    recent: dict[str, Answered] = {}
    connectors: dict[str, str] = {}
    loaded: bool = False
    memory: StationMemory | None = None

    def remembering(self) -> StationMemory:
        if self.memory is None:
            self.memory = StationMemory()
        return self.memory

    def remember_answer(self, message_id: str, answered: Answered) -> None:
        recent = self.recent
        if message_id in recent:
            del recent[message_id]
        elif len(recent) >= RECENT_CALLS:
            del recent[next(iter(recent))]
        recent[message_id] = answered

    def remember_transaction(self, transaction: Transaction) -> None:
        """Keep it at hand; over the bound the oldest ended one goes first, then the oldest."""
        transactions = self.transactions
        transactions[transaction.transaction_id] = transaction
        if len(transactions) > RECENT_TRANSACTIONS:
            ended = (name for name, kept in transactions.items() if kept.ended_at is not None)
            del transactions[next(ended, next(iter(transactions)))]

    def started_under(self, key: str) -> Transaction | None:
        return next((kept for kept in self.transactions.values() if kept.key == key), None)

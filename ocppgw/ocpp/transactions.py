"""Transaction messages: answered whatever state they meet, recorded once, orphans flagged.

- 1.6 StartTransaction: the same (connectorId, idTag, timestamp, meterStart) of a charger is the same transaction,
  however often and under whatever message id it comes; its transactionId is a positive int32 that was never given
  before (errata 3.54).
- 1.6 StopTransaction and MeterValues may name a transaction nobody knows (0, -1, one of long ago): stored as
  `orphaned`, never guessed (errata 3.18).
- 2.x TransactionEvent: known again by (transactionId, seqNo) and content; order of arrival says nothing (E04, E13).

A rule takes the station's state and the message and says what is to be done; it changes nothing itself. What changes
when the record is durable is `Decision.then`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ocppgw.ocpp.answers import EMPTY, AnswerRules, id_tag_info, id_token_info
from ocppgw.ocpp.effects import SaveTransaction
from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.state import StationState, Transaction, TransactionFound
from ocppgw.ocpp.versions import V16, V21, V201

INTEGERS_OF_JSON = 2**53  # up to here every reader of JSON has the same numbers
STOP = -1  # the number under which a 1.6 StopTransaction is remembered beside seqNos


class Unresolved(msgspec.Struct, frozen=True):
    """The store has to be asked for the transaction first."""

    key: str = ""
    transaction_id: str = ""


class Repeat(msgspec.Struct, frozen=True):
    """Recorded before: answer it and do no more."""

    answer: bytes


class Decision(msgspec.Struct, frozen=True):
    """Record it under `event_type`, answer it. `saved` is the transaction's row to be stored with it, if any."""

    event_type: str
    answer: bytes
    extra: bytes
    then: Callable[[], None] | None = None
    saved: Transaction | None = None

    def change(self, charge_point_id: str, version: str) -> SaveTransaction | None:
        saved = self.saved
        if saved is None:
            return None
        return SaveTransaction(
            charge_point_id,
            version,
            saved.transaction_id,
            saved.key,
            saved.started_at,
            saved.ended_at,
            saved.records,
        )


Decide = Callable[
    [StationState, AnswerRules, Mapping[str, Any], str, TransactionFound | None, float], Decision | Repeat | Unresolved
]


def start_key(payload: Mapping[str, Any]) -> str:
    """The idempotency key of a 1.6 StartTransaction."""
    return f"{payload['connectorId']}|{payload['idTag']}|{payload['timestamp']}|{payload['meterStart']}"


def _start_16(
    state: StationState,
    rules: AnswerRules,
    payload: Mapping[str, Any],
    content_id: str,
    found: TransactionFound | None,
    now: float,
) -> Decision | Repeat | Unresolved:
    key = start_key(payload)
    transaction = state.started_under(key) or (found.transaction if found else None)
    if transaction is not None:
        return Repeat(_started(transaction.transaction_id, rules, payload, now))
    if found is None:
        return Unresolved(key=key)
    name = str(found.fresh_id)
    transaction = Transaction(name, key, started_at=now, records={0: content_id})
    return Decision(
        "SessionStarted",
        _started(name, rules, payload, now),
        b',"transactionId":%d' % found.fresh_id,
        then=lambda: state.remember_transaction(transaction),
        saved=transaction,
    )


def _started(transaction_id: str, rules: AnswerRules, payload: Mapping[str, Any], now: float) -> bytes:
    return dumps({"transactionId": int(transaction_id), "idTagInfo": id_tag_info(rules, payload["idTag"], now)})


def _stop_16(
    state: StationState,
    rules: AnswerRules,
    payload: Mapping[str, Any],
    content_id: str,
    found: TransactionFound | None,
    now: float,
) -> Decision | Repeat | Unresolved:
    number = payload["transactionId"]
    id_tag = payload.get("idTag")
    answer = EMPTY if id_tag is None else dumps({"idTagInfo": id_tag_info(rules, id_tag, now)})
    name = str(number)
    known = state.transactions.get(name) or (found.transaction if found else None)
    if known is None and found is None:
        return Unresolved(transaction_id=name)
    if known is not None and known.records.get(STOP) == content_id:
        return Repeat(answer)
    orphaned = known is None or known.started_at is None
    again = not orphaned and known is not None and STOP in known.records
    extra = _flags(b"%d" % number, orphaned, again)
    stored = _changed(known, name, STOP, content_id, ended_at=now)
    return Decision("SessionStopped", answer, extra, then=lambda: state.remember_transaction(stored), saved=stored)


def _meter_values_16(
    state: StationState,
    _rules: AnswerRules,
    payload: Mapping[str, Any],
    _content_id: str,
    found: TransactionFound | None,
    _now: float,
) -> Decision | Unresolved:
    number = payload.get("transactionId")
    if number is None:
        return Decision("MeterValuesReceived", EMPTY, b"")
    name = str(number)
    known = state.transactions.get(name)
    if known is None and found is None:
        return Unresolved(transaction_id=name)
    then = None
    if known is None and found is not None:
        # Remembered also when nobody knows it, so that the store is asked once and not for every sample.
        looked_up = found.transaction or Transaction(name)

        def then() -> None:
            state.remember_transaction(looked_up)

        known = looked_up
    orphaned = known is None or known.started_at is None
    return Decision("MeterValuesReceived", EMPTY, _flags(b"%d" % number, orphaned), then=then)


_EVENT_TYPES = {"Started": "SessionStarted", "Updated": "SessionEvent", "Ended": "SessionStopped"}


def _transaction_event(
    state: StationState,
    rules: AnswerRules,
    payload: Mapping[str, Any],
    content_id: str,
    found: TransactionFound | None,
    now: float,
) -> Decision | Repeat | Unresolved:
    name = payload["transactionInfo"]["transactionId"]
    token = payload.get("idToken")
    answer = EMPTY if token is None else dumps({"idTokenInfo": id_token_info(rules, token, now)})
    known = state.transactions.get(name) or (found.transaction if found else None)
    if known is None and found is None:
        return Unresolved(transaction_id=name)
    number = payload["seqNo"]
    if known is not None and known.records.get(number) == content_id:
        return Repeat(answer)
    again = known is not None and number in known.records
    kind = payload["eventType"]
    orphaned = kind != "Started" and (known is None or known.started_at is None)
    extra = _flags(dumps(name), orphaned, again) + _order(known, number)
    if kind == "Updated" and known is not None:
        # The commonest message: only memory remembers it; after a crash the journal's tail does (ADR 0004).
        transaction = known

        def then() -> None:
            state.remember_transaction(transaction)
            transaction.remember(number, content_id)

        return Decision("SessionEvent", answer, extra, then=then)
    stored = _changed(
        known,
        name,
        number,
        content_id,
        started_at=now if kind == "Started" else None,
        ended_at=now if kind == "Ended" else None,
    )
    return Decision(_EVENT_TYPES[kind], answer, extra, then=lambda: state.remember_transaction(stored), saved=stored)


def _changed(
    known: Transaction | None,
    name: str,
    number: int,
    content_id: str,
    *,
    started_at: float | None = None,
    ended_at: float | None = None,
) -> Transaction:
    """A copy with one more record: the one in memory changes only once the record is durable."""
    before = known or Transaction(name)
    changed = Transaction(
        name,
        before.key,
        before.started_at or started_at,
        before.ended_at or ended_at,
        dict(before.records),
        before.newest,
    )
    changed.remember(number, content_id)
    return changed


def _flags(transaction_id: bytes, orphaned: bool, again: bool = False) -> bytes:
    """`idempotent`: something was recorded under this number before, with other content; nothing is dropped."""
    return b',"transactionId":%b%b%b' % (
        transaction_id,
        b',"orphaned":true' if orphaned else b"",
        b',"idempotent":true' if again else b"",
    )


def _order(known: Transaction | None, number: int) -> bytes:
    """`expectedSeqNo`: there is a hole before this message (2.x E14; offline updates may be dropped, E04.FR.07).
    `outOfOrder`: one with a higher number came before it. Nothing is said of a transaction's first message: it may have
    any number."""
    if known is None or not known.records or number in known.records:
        return b""
    newest = known.newest
    if newest is None:  # what the store does not know makes no gap
        return b',"outOfOrder":true' if number < max(known.records) else b""
    if number < newest:
        return b',"outOfOrder":true'
    if number == newest + 1 or newest >= INTEGERS_OF_JSON:
        return b""
    return b',"expectedSeqNo":%d' % (newest + 1)


class Rule(msgspec.Struct, frozen=True):
    """`by_content`: the eventId follows from the content, so that a consumer can drop a repeat that slips through."""

    decide: Decide
    by_content: bool = True


_2X: Mapping[str, Rule] = {"TransactionEvent": Rule(_transaction_event)}
TRANSACTION_RULES: Mapping[str, Mapping[str, Rule]] = {
    V16.name: {
        "StartTransaction": Rule(_start_16),
        "StopTransaction": Rule(_stop_16),
        "MeterValues": Rule(_meter_values_16, by_content=False),
    },
    V201.name: _2X,
    V21.name: _2X,
}

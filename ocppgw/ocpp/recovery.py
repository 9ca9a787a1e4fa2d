"""Rebuilding what stations may ask for again, from the journal's newest events, after a crash.

A CALL that was recorded but whose answer never reached the charger comes again. Its record is in the journal's tail,
and from there it is known again: answered, not recorded twice.
"""

from collections.abc import Mapping
from typing import Any

from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.state import Answered, StationState, Transaction

_ENDS = {"StopTransaction"}


def recover(state: StationState, event: Mapping[str, Any], at: float) -> None:
    """Take one DomainEvent of the station into its state, oldest first; `at` is when it was recorded (seconds)."""
    body = event.get("payload", {})
    action, payload, message_id = body.get("action"), body.get("payload"), body.get("messageId")
    if not isinstance(message_id, str) or not isinstance(payload, dict) or "error" in body:
        return
    digest = hash((action, dumps(payload)))
    state.remember_answer(message_id, Answered(digest, b"", at))
    if action == "TransactionEvent":
        name = payload["transactionInfo"]["transactionId"]
        transaction = state.transactions.get(name) or Transaction(name)
        transaction.remember(payload["seqNo"], event["eventId"])
        state.remember_transaction(transaction)

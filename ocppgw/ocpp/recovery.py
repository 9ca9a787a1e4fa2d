"""Rebuilding what stations may ask for again, from the journal's newest events, after a crash.

A CALL that was recorded but whose answer never reached the charger comes again. Its record is in the journal's tail,
and from there it is known again: answered, not recorded twice.
"""

from collections.abc import Mapping
from typing import Any

from ocppgw.ocpp import answers
from ocppgw.ocpp.frames import Call, call_result, dumps
from ocppgw.ocpp.rules import SessionRules, StationFacts
from ocppgw.ocpp.state import Answered, StationState, Transaction, content_digest
from ocppgw.ocpp.transactions import TRANSACTION_RULES
from ocppgw.ocpp.versions import OcppVersion


def recover(state: StationState, event: Mapping[str, Any], at: float) -> None:
    """Take one DomainEvent of the station into its state, oldest first; `at` is when it was recorded (seconds)."""
    body = event.get("payload", {})
    action, payload, message_id = body.get("action"), body.get("payload"), body.get("messageId")
    if not isinstance(message_id, str) or not isinstance(payload, dict) or "error" in body:
        return
    digest = content_digest(action, dumps(payload))
    state.remember_answer(message_id, Answered(digest, b"", at))
    if action == "TransactionEvent":
        name = payload["transactionInfo"]["transactionId"]
        transaction = state.transactions.get(name) or Transaction(name)
        transaction.remember(payload["seqNo"], event["eventId"])
        state.remember_transaction(transaction)


def answer_again(
    version: OcppVersion, call: Call, rules: SessionRules, state: StationState, station: StationFacts, now: float
) -> bytes:
    """The frame that answers a CALL recorded before the restart.

    Empty for messages that start, end or belong to a transaction: their own rules know them again. 1.6 MeterValues
    have no such rule, and always one answer.
    """
    action = call.action
    if action == "MeterValues":
        payload = answers.EMPTY
    elif action in TRANSACTION_RULES[version.name]:
        return b""
    elif action == "BootNotification":
        status = state.boot_status or station.boot_status or rules.boot_status
        payload = answers.boot(rules.answers, status, now)
    else:
        payload = answers.answer(version, action, rules.answers, call.payload, now)
    return call_result(dumps(call.message_id), payload)

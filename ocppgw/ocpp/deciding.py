"""Answers that the backend gives: what it may leave to the gateway, and when what it said can't be sent.

The backend answers with the payload of the CALLRESULT, as the OCPP version of the station has it. It may leave out what
only the gateway knows: the time and the interval of a BootNotification's answer, the transactionId of a 1.6
StartTransaction, which is always the gateway's (errata 3.54).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from ocppgw.ocpp import frames
from ocppgw.ocpp.answers import AnswerRules
from ocppgw.ocpp.effects import Decide
from ocppgw.ocpp.inbound import Serving
from ocppgw.ocpp.schemas import Validator
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import VERSIONS, Direction

# Answered by the gateway alone, whatever a configuration says: they are the clock and the line's proof of life.
NEVER = frozenset({"Heartbeat"})
DECIDABLE = frozenset(
    action
    for version in VERSIONS
    for action, spec in version.actions.items()
    if spec.direction is not Direction.DOWN and not spec.is_send and action not in NEVER
)
# Their last answer holds for the same token, or for the station, until another is given.
REPEATABLE = frozenset({"Authorize", "BootNotification", "StartTransaction"})

NOBODY = "the backend has not decided; please send it again"

Payload = Mapping[str, Any]

_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


def answer_key(action: str, payload: Payload) -> str:
    """What an answer to this CALL of a station holds for: its action and, where it is about one, the token.

    In 2.x with its type: a key code of the same digits is another token than the card.
    """
    info = payload.get("idToken")
    if isinstance(info, Mapping):
        return f"{action} {info.get('idToken', '')} {info.get('type', '')}"
    return f"{action} {payload.get('idTag', '')}"


def completed(action: str, answer: Payload, rules: AnswerRules, now: float, own: bytes = b"") -> dict[str, Any]:
    """The answer with what the backend leaves to the gateway; `own`: the answer the gateway would have given, JSON."""
    if action == "BootNotification":
        accepted = answer.get("status") == "Accepted"
        interval = rules.heartbeat_interval if accepted else rules.boot_retry_interval
        return {"currentTime": rfc3339(now).decode(), "interval": interval, **answer}
    if action == "StartTransaction":
        return {**answer, "transactionId": _decode(own)["transactionId"]}
    return dict(answer)


def is_expired(answer: Payload, now: float) -> bool:
    """Does it say of itself that it holds no longer (idTagInfo.expiryDate; 2.x idTokenInfo.cacheExpiryDateTime)?"""
    for member, name in (("idTagInfo", "expiryDate"), ("idTokenInfo", "cacheExpiryDateTime")):
        info = answer.get(member)
        until = info.get(name) if isinstance(info, Mapping) else None
        if isinstance(until, str) and _seconds(until) <= now:
            return True
    return False


def _seconds(text: str) -> float:
    """A time without zone is meant in UTC; one that can't be read is long over."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def fault_of(action: str, answer: Payload, rules: AnswerRules, schema: Validator) -> str:
    """Why this is no answer to a CALL of this action, "" when it is one."""
    whole = completed(action, answer, rules, 0.0, b'{"transactionId":1}')
    if not schema.is_valid(whole):
        return schema.explain(whole).description
    try:
        frames.dumps(whole)
    except ValueError as fault:  # customData may hold what a frame can't, and the connection would break on it
        return str(fault)
    return ""


def question(serving: Serving, rules: AnswerRules, schema: Validator) -> Decide:
    """What is asked for the CALL being served, which is undecided from here on."""
    call = serving.call
    serving.is_undecided = True
    return Decide(
        serving.token,
        call.action,
        call.message_id,
        serving.payload,
        answer_key(call.action, call.payload),
        lambda answer: fault_of(call.action, answer, rules, schema),
    )


def put_answer(serving: Serving, error_code: str, rules: AnswerRules, now: float) -> None:
    """What was decided, in place of the gateway's own answer. A refusal is not kept for a CALL that is repeated."""
    decided, call = serving.decided, serving.call
    assert decided is not None
    if decided.answer is not None:
        whole = completed(call.action, decided.answer, rules, now, serving.answer)
        serving.text = frames.call_result(frames.dumps(call.message_id), frames.dumps(whole))
    elif decided.is_refused and not serving.spec.never_refused:
        serving.text = frames.call_error(call.message_id, error_code, NOBODY)
        serving.replay = False

"""CALLs of a charger that pipelines: it may have one unanswered CALL, but if it sends more they wait in order.

The same CALL again (id, action and payload) while the first waits for its answer is one CALL and gets one answer.
"""

from collections import deque

from ocppgw.ocpp.effects import Close, Effect, Note
from ocppgw.ocpp.frames import Call


def enqueue(waiting: deque[Call], serving: Call, call: Call, limit: int) -> list[Effect]:
    """Put `call` behind the one being served; over the limit the connection is closed (1013, try again later)."""
    if any(_same(other, call) for other in (serving, *waiting)):
        return [Note("repeated-in-flight")]
    if len(waiting) >= limit:
        return [Close(1013, "too many CALLs without waiting for an answer")]
    waiting.append(call)
    return [Note("pipelined")]


def _same(one: Call, other: Call) -> bool:
    if one.message_id != other.message_id:
        return False
    try:
        return one == other
    except RecursionError:  # nested as deeply as can be read at all
        return False

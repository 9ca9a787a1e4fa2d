"""The CALL being served, and the CALLs behind it.

A charger may have one unanswered CALL; what it sends beyond that waits in order.
The same CALL again (id, action and payload) while the first waits for its answer is one CALL and gets one answer.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ocppgw.ocpp.effects import Close, Effect, Note
from ocppgw.ocpp.frames import Call
from ocppgw.ocpp.versions import ActionSpec


class Decided(msgspec.Struct, frozen=True):
    """What became of a Decide: the backend's answer, or none, and whether the CALL is refused for that."""

    answer: Mapping[str, Any] | None
    is_refused: bool


class Serving(msgspec.Struct):
    """The CALL being served. `text` is the frame that answers it once `token` is durable, and decided if that is asked.

    `answer`: its payload, JSON. `is_undecided`: the backend has been asked for it and has not answered yet.
    """

    call: Call
    spec: ActionSpec
    token: int
    received_at: float
    payload: bytes = b""  # the call's payload, encoded anew
    digest: int = 0
    text: bytes = b""
    answer: bytes = b""
    is_undecided: bool = False
    decided: Decided | None = None
    is_durable: bool = False
    # What changes in the station's state when the record is durable, and what is to be done beside the answer.
    then: Callable[[], Effect | None] | None = None
    beside: Effect | None = None
    replay: bool = True
    repairs: bytes = b""  # what the event says of them: JSON members, each with a leading comma


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

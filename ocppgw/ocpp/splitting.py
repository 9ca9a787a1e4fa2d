"""One command whose items go out in several CALLs, because the station takes only so many in one.

The most a station takes is its ItemsPerMessage[action] (2.x B06.FR.16, B08.FR.17), told by a NotifyReport or in an
answer to GetVariables. Where it is not known, the station's CALLERROR OccurrenceConstraintViolation tells that the CALL
had too many: none of its items was looked at, so they are sent again in halves, and the size that passed is remembered.
The command ends once, with the results of all CALLs in order.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ocppgw.ocpp.memory import LIMITED
from ocppgw.ocpp.state import StationState

TOO_MANY = "OccurrenceConstraintViolation"


class Batch(msgspec.Struct):
    """`out`: the items of the CALL that is out; `rest`: those behind it; `results`: of the CALLs before it."""

    action: str
    members: Mapping[str, Any]  # the payload's other members
    size: int
    rest: list[Any]
    out: list[Any] = []
    results: list[Any] = []

    def next_payload(self) -> dict[str, Any]:
        """Takes the next items; the payload of their CALL."""
        self.out, self.rest = self.rest[: self.size], self.rest[self.size :]
        return {**self.members, LIMITED[self.action][0]: self.out}

    def took(self, answer: Mapping[str, Any]) -> bool:
        """Takes a valid answer in; whether it was the last one."""
        self.results += answer[LIMITED[self.action][1]]
        self.out = []
        return not self.rest

    def whole(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The last answer with the results of all."""
        return {**answer, LIMITED[self.action][1]: self.results}

    def so_far(self) -> dict[str, Any] | None:
        return {LIMITED[self.action][1]: self.results} if self.results else None

    def halve(self, state: StationState) -> bool:
        """The CALL that is out had too many items: they go back in front; False when it can't be smaller."""
        if len(self.out) < 2:
            return False
        self.size = len(self.out) // 2
        self.out, self.rest = [], self.out + self.rest
        state.remembering().limits[self.action] = self.size
        return True


def batch_of(action: str, payload: Mapping[str, Any], state: StationState) -> Batch | None:
    """None where the action has no items, or just one."""
    names = LIMITED.get(action)
    items = payload.get(names[0]) if names is not None else None
    if names is None or not isinstance(items, list) or not items:
        return None
    limit = state.memory.limits.get(action) if state.memory is not None else None
    members = {name: value for name, value in payload.items() if name != names[0]}
    return Batch(action, members, limit or len(items), list(items))

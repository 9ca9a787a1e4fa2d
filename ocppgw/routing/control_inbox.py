"""What other nodes tell this one, from its session-control topic: handled at once, or put aside as a dead letter.

A message says when it was sent. One that is older than MAX_AGE_SECONDS is of a time before this process was there to
answer: whoever sent it has long gone on.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import CommandError
from ocppgw.metrics import Metrics
from ocppgw.ports import Message
from ocppgw.routing.inbox import Inbox
from ocppgw.routing.outbox import Outbox

log = Logger(namespace="ocppgw.ownership")

MAX_AGE_SECONDS = 60.0


class ControlInbox(Inbox):
    """`control` hears each message."""

    def __init__(
        self,
        control: Callable[[Mapping[str, Any]], None],
        outbox: Outbox,
        metrics: Metrics,
        clock: Clock,
        node_id: str,
    ) -> None:
        super().__init__(outbox, metrics, clock, node_id, log)
        self._control = control

    def read(self, message: Message) -> None:
        try:
            told = orjson.loads(message.value)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            self._metrics.note("control-message-unreadable")
            fault = CommandError("the record is no JSON object", hint="only nodes write to this topic", code="BadJson")
            self.put_aside(message, fault, "a record that is no message of a node")
        elif self._age(told) > MAX_AGE_SECONDS:
            self._leave_out(told)
        else:
            self._hand_over(told)

    def _hand_over(self, told: Mapping[str, Any]) -> None:
        try:
            self._control(told)
        except Exception:  # whatever it is, the next message is another one's
            self._metrics.note("control-message-not-handled")
            log.failure("a message of another node could not be handled")

    def _leave_out(self, told: Mapping[str, Any]) -> None:
        self._metrics.note("control-message-old")
        self.limited.warn(
            "old",
            self._clock.seconds(),
            "a message of another node was left out: it is {age:.0f} s old, or the clocks of the nodes differ",
            age=self._age(told),
        )

    def _age(self, told: Mapping[str, Any]) -> float:
        try:
            return self._clock.seconds() - datetime.fromisoformat(str(told["requestedAt"])).timestamp()
        except (KeyError, ValueError, OverflowError):
            return 0.0

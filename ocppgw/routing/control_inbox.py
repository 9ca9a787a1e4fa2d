"""What other nodes tell this one, from its session-control topic: handled at once, or put aside as a dead letter.

A message says when it was sent. One that is older than MAX_AGE_SECONDS is of a time before this process was there to
answer: whoever sent it has long gone on.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import CommandError
from ocppgw.logs import RateLimitedLog
from ocppgw.metrics import Metrics
from ocppgw.ocpp.deadletters import command_letter
from ocppgw.ports import Message
from ocppgw.routing.outbox import NOBODY, Outbox

log = Logger(namespace="ocppgw.ownership")

MAX_AGE_SECONDS = 60.0
SAME_LINE_SECONDS = 60.0


class ControlInbox:
    """`handle` is the bus's handler (`ports.Bus.consume`)."""

    def __init__(
        self,
        control: Callable[[Mapping[str, Any]], None],
        outbox: Outbox,
        metrics: Metrics,
        clock: Clock,
        node_id: str,
    ) -> None:
        self._control, self._outbox, self._metrics = control, outbox, metrics
        self._clock, self._node_id = clock, node_id
        self._log = RateLimitedLog(log, SAME_LINE_SECONDS, metrics.log_left_out)

    def handle(self, messages: Sequence[Message]) -> "Deferred[None]":
        for message in messages:
            self._one(message)
        return succeed(None)

    def _one(self, message: Message) -> None:
        try:
            told = orjson.loads(message.value)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            self._put_aside(message)
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
        self._log.warn(
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

    def _put_aside(self, message: Message) -> None:
        self._metrics.note("control-message-unreadable")
        self._log.warn(
            "unreadable",
            self._clock.seconds(),
            "a record is no message of a node and went to the dead letters: {topic} {partition} {offset}",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
        )
        fault = CommandError("the record is no JSON object", hint="only nodes write to this topic", code="BadJson")
        place = (message.topic, message.partition, message.offset)
        letter = command_letter(
            fault, *place, message.key or b"", message.value, {}, self._clock.seconds(), self._node_id
        )
        self._outbox.publish(letter, (), NOBODY, 0)

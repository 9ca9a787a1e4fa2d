"""The backend's answers, from this node's response topic. What can't be used becomes a dead letter with the reason.

An answer that nobody waits for any more is no fault worth a letter: its time was over, or this process is a new one. It
is counted.
"""

from collections.abc import Callable, Mapping, Sequence
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
from ocppgw.routing.decisions import UnknownCall
from ocppgw.routing.outbox import NOBODY, Outbox

log = Logger(namespace="ocppgw.decisions")

SAME_LINE_SECONDS = 60.0


class DecisionInbox:
    """`handle` is the bus's handler (`ports.Bus.consume`)."""

    def __init__(
        self, reply: Callable[[Mapping[str, Any]], None], outbox: Outbox, metrics: Metrics, clock: Clock, node_id: str
    ) -> None:
        self._reply, self._outbox, self._metrics, self._clock, self._node_id = reply, outbox, metrics, clock, node_id
        self._log = RateLimitedLog(log, SAME_LINE_SECONDS, metrics.log_left_out)

    def handle(self, messages: Sequence[Message]) -> "Deferred[None]":
        for message in messages:
            self._one(message)
        return succeed(None)

    def _one(self, message: Message) -> None:
        try:
            reply = orjson.loads(message.value)
            if not isinstance(reply, dict):
                raise CommandError("the record is no JSON object", code="BadJson")
            self._reply(reply)
        except UnknownCall:
            return
        except orjson.JSONDecodeError as fault:
            self._put_aside(message, CommandError(f"the record is no JSON: {fault}", code="BadJson"))
        except CommandError as fault:
            self._put_aside(message, fault)
        except Exception:  # whatever it is, the next answer is another station's
            self._metrics.note("decision-not-handled")
            log.failure("an answer of the backend could not be handled")

    def _put_aside(self, message: Message, fault: CommandError) -> None:
        self._log.warn(
            fault.code,
            self._clock.seconds(),
            "an answer of the backend went to the dead letters: {reason} ({topic} {partition} {offset})",
            reason=str(fault),
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
        )
        place = (message.topic, message.partition, message.offset)
        letter = command_letter(
            fault, *place, message.key or b"", message.value, {}, self._clock.seconds(), self._node_id
        )
        self._outbox.publish(letter, (), NOBODY, 0)

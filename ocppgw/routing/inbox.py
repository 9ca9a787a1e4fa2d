"""Records from a topic that is this node's own, one by one; what can't be used is put aside as a dead letter."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.logs import RateLimitedLog
from ocppgw.metrics import Metrics
from ocppgw.ocpp.deadletters import command_letter
from ocppgw.ports import Message
from ocppgw.routing.outbox import NOBODY, Outbox

SAME_LINE_SECONDS = 60.0


class Inbox:
    """`handle` is the bus's handler (`ports.Bus.consume`); `read` is given by who reads them, and raises nothing."""

    def __init__(self, outbox: Outbox, metrics: Metrics, clock: Clock, node_id: str, log: Logger) -> None:
        self._outbox, self._metrics, self._clock, self._node_id = outbox, metrics, clock, node_id
        self.limited = RateLimitedLog(log, SAME_LINE_SECONDS, metrics.log_left_out)

    def handle(self, messages: Sequence[Message]) -> "Deferred[None]":
        for message in messages:
            self.read(message)
        return succeed(None)

    def read(self, message: Message) -> None:
        raise NotImplementedError

    def put_aside(self, message: Message, fault: OcppgwError, what: str) -> None:
        """`what` it is not, for the log."""
        now = self._clock.seconds()
        self.limited.warn(
            fault.code,
            now,
            "{what} went to the dead letters: {reason} ({topic} {partition} {offset})",
            what=what,
            reason=str(fault),
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
        )
        place = (message.topic, message.partition, message.offset)
        letter = command_letter(fault, *place, message.key or b"", message.value, {}, now, self._node_id)
        self._outbox.publish(letter, (), NOBODY, 0)

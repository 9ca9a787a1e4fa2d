"""The backend's answers, from this node's response topic. What can't be used becomes a dead letter with the reason.

An answer that nobody waits for any more is no fault worth a letter: its time was over, or this process is a new one. It
is counted.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import CommandError
from ocppgw.metrics import Metrics
from ocppgw.ports import Message
from ocppgw.routing.decisions import UnknownCall
from ocppgw.routing.inbox import Inbox
from ocppgw.routing.outbox import Outbox

log = Logger(namespace="ocppgw.decisions")

ANSWER = "an answer of the backend"


class DecisionInbox(Inbox):
    """`reply` is `Decisions.reply`."""

    def __init__(
        self, reply: Callable[[Mapping[str, Any]], None], outbox: Outbox, metrics: Metrics, clock: Clock, node_id: str
    ) -> None:
        super().__init__(outbox, metrics, clock, node_id, log)
        self._reply = reply

    def read(self, message: Message) -> None:
        try:
            reply = orjson.loads(message.value)
            if not isinstance(reply, dict):
                raise CommandError("the record is no JSON object", code="BadJson")
            self._reply(reply)
        except UnknownCall:
            return
        except orjson.JSONDecodeError as fault:
            self.put_aside(message, CommandError(f"the record is no JSON: {fault}", code="BadJson"), ANSWER)
        except CommandError as fault:
            self.put_aside(message, fault, ANSWER)
        except Exception:  # whatever it is, the next answer is another station's
            self._metrics.note("decision-not-handled")
            log.failure("an answer of the backend could not be handled")

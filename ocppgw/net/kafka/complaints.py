"""What the client library logs (standard library logging), as a few lines of ours.

While a broker is away the library says so many times a second; the bus itself logs an outage once. So the library's
lines are for the curious: one of a kind in a while. What it says of failures is also kept, because the
errors that it raises don't tell the cause.
"""

import logging
from collections.abc import Callable

from twisted.logger import Logger

from ocppgw.logs import Cooldown

log = Logger(namespace="ocppgw.kafka.client")

LIBRARY = "kafka"
SENDING = "kafka.producer.sender"  # who reports batches that are tried again, with the error's name
SAME_LINE_SECONDS = 300.0
CAUSE_SECONDS = 30.0  # how long a cause explains what fails


class Complaints(logging.Handler):
    """`tell` carries a call to the reactor thread."""

    def __init__(self, tell: Callable[..., None], monotonic: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._tell, self._monotonic = tell, monotonic
        self._cooldown = Cooldown(SAME_LINE_SECONDS)
        self._cause, self._caused_at = "", float("-inf")

    def attach(self) -> None:
        logging.getLogger(LIBRARY).addHandler(self)

    def detach(self) -> None:
        logging.getLogger(LIBRARY).removeHandler(self)

    def cause(self) -> str:
        """The name of the error for which a batch was tried again of late, or "". Any thread."""
        return self._cause if self._monotonic() - self._caused_at < CAUSE_SECONDS else ""

    def emit(self, record: logging.LogRecord) -> None:
        """In the library's threads, one at a time."""
        try:
            self._keep_cause(record)
            left_out = self._cooldown.admit((record.name, record.msg), self._monotonic())
            if left_out is not None:
                self._tell(_write, record.name, record.getMessage(), _fault(record), left_out)
        except Exception:
            self.handleError(record)

    def _keep_cause(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        for argument in arguments:
            if record.name == SENDING and isinstance(argument, str) and argument.endswith("Error"):
                self._cause, self._caused_at = argument, self._monotonic()


def _fault(record: logging.LogRecord) -> str:
    """What went wrong inside of the library, "" when it only tells of the network."""
    exception = record.exc_info[1] if record.exc_info else None
    return f"{type(exception).__name__}: {exception}" if exception is not None else ""


def _write(name: str, text: str, fault: str, left_out: int) -> None:
    template = "{name}: {text}"
    if fault:
        template += ": {fault}"
    if left_out:
        template += " ({left_out} more were left out since the last such line)"
    emit = log.warn if fault else log.info
    emit(template, name=name, text=text, fault=fault, left_out=left_out)

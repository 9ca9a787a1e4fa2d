"""The threads: one for the producer, one for each consumer. The reactor never waits for them.

They end by themselves within the stop's time unless a call of the library takes longer; the process does not wait
for them then. `turns` counts their rounds: where it stands still, a call of the library has not come back.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.errors import BusError
from ocppgw.net.kafka.reading import Reader
from ocppgw.net.kafka.shipping import Job, Shipper

log = Logger(namespace="ocppgw.kafka")

WAITING_SECONDS = 0.25
STOP_SHARE = 0.6  # of a stop's time is for what is open, the rest for closing


class Reactor(Protocol):
    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall: ...  # noqa: A002, N802
    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None: ...  # noqa: A002, N802


class ShippingThread:
    """`done` is called in the reactor thread with a job that was given, `ended` when the thread has ended."""

    def __init__(
        self,
        shipper: Shipper,
        reactor: Reactor,
        done: Callable[[Job], None],
        ended: Callable[[str], None],
        name: str = "producer",
    ) -> None:
        self.name = name
        self._shipper, self._reactor, self._done, self._ended = shipper, reactor, done, ended
        self.turns = 0
        self._signal = threading.Condition()
        self._job: Job | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"ocppgw-kafka-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give(self, job: Job) -> None:
        with self._signal:
            self._job = job
            self._signal.notify()

    def stop(self, seconds: float) -> None:
        """What was given and is not acknowledged after most of these seconds fails."""
        self._shipper.stop_in(seconds * STOP_SHARE)
        with self._signal:
            self._stopping = True
            self._signal.notify()

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._shipper.close()
            self._reactor.callFromThread(self._ended, self.name)

    def _turn(self) -> bool:
        self.turns += 1
        job = self._job
        if self._stopping and job is None:
            return False
        if self._is_done(job):
            self._job = None
            self._reactor.callFromThread(self._done, job)
        with self._signal:
            if self._job is not None and self._job is not job:
                return True  # it came in the meantime
            if self._job is not None:  # it waits for a connection, or for its deadline
                self._signal.wait(min(self._shipper.pause(), WAITING_SECONDS))
            elif not self._stopping:
                self._signal.wait(self._shipper.pause())
        return True

    def _is_done(self, job: Job | None) -> bool:
        try:
            return self._shipper.turn(job)
        except Exception as fault:  # whatever it is: a thread that ended would never ship again
            log.failure("a fault in the thread that ships to Kafka")
            self._shipper.close()
            if job is not None:
                job.error = BusError(f"a fault of the gateway: {type(fault).__name__}")
            return job is not None


class ReadingThread:
    def __init__(
        self, reader: Reader, stopping: threading.Event, reactor: Reactor, ended: Callable[[str], None]
    ) -> None:
        """`stopping` is also what `reader` sleeps on."""
        self._reader, self._stopping, self._reactor, self._ended = reader, stopping, reactor, ended
        self._thread = threading.Thread(target=self._work, name="ocppgw-kafka-consumer", daemon=True)
        self.name = f"consumer-{id(self)}"
        self.turns = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """A batch that is being handled is committed if that is done within most of these seconds."""
        self._reader.stop_in(seconds * STOP_SHARE)
        self._stopping.set()

    def _work(self) -> None:
        try:
            while not self._stopping.is_set() or self._reader.has_time_for_batch():
                self._turn()
        finally:
            self._reader.close()
            self._reactor.callFromThread(self._ended, self.name)

    def _turn(self) -> None:
        self.turns += 1
        try:
            self._reader.turn()
        except Exception:  # as above
            log.failure("a fault in the thread that reads from Kafka")
            self._stopping.wait(WAITING_SECONDS)

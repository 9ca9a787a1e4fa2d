"""The bus on Kafka (ports.Bus): Deferreds for the reactor, and threads behind them."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.errors import BusError, OcppgwError
from ocppgw.net.kafka.clients import Consumer, LibraryConsumer, LibraryProducer, Producer
from ocppgw.net.kafka.complaints import Complaints
from ocppgw.net.kafka.health import Health, Trouble
from ocppgw.net.kafka.reading import Batch, Reader
from ocppgw.net.kafka.settings import KafkaSettings
from ocppgw.net.kafka.shipping import MISSING, Job, Shipper
from ocppgw.net.kafka.telling import Teller
from ocppgw.net.kafka.threads import Reactor, ReadingThread, ShippingThread
from ocppgw.ports import BusStatus, Message, Outgoing

log = Logger(namespace="ocppgw.kafka")

MESSENGER = "messenger"
HANGING_SECONDS = 10.0  # beyond all that a turn may take; also between two looks

_encode = msgspec.json.Encoder().encode

Handle = Callable[[Sequence[Message]], "Deferred[None]"]
ConnectProducer = Callable[[KafkaSettings], Producer]
ConnectConsumer = Callable[[KafkaSettings, Sequence[str], str, str], Consumer]


class KafkaBus:
    """`note` counts, by a constant name, what went wrong. Nothing is sent or read before `start`."""

    def __init__(
        self,
        settings: KafkaSettings,
        reactor: Reactor,
        note: Callable[[str], None] = lambda kind: None,
        *,
        connect_producer: ConnectProducer = LibraryProducer,
        connect_consumer: ConnectConsumer = LibraryConsumer,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._reactor, self._note, self._monotonic = settings, reactor, note, monotonic
        self._connect_consumer = connect_consumer
        self._health = Health(settings.where, reactor.seconds, note)
        self._complaints = Complaints(reactor.callFromThread, monotonic)
        self._open: Job | None = None
        self._stopped: Deferred[None] | None = None
        self._stop_bound: IDelayedCall | None = None
        self._running: set[str] = set()
        self._looking: IDelayedCall | None = None
        self._turns: dict[str, tuple[int, float]] = {}  # of each thread: the last that was seen, and since when
        self._hanging: set[str] = set()
        self._connect_producer = connect_producer
        self._shipping = ShippingThread(self._shipper("producer"), reactor, self._shipped, self._ended)
        self._messenger: Teller | None = None
        self._reading: list[ReadingThread] = []

    def consume(self, topics: Sequence[str], group: str, handle: Handle, member: str = "") -> None:
        side = f"consumer {len(self._reading)}"
        self._health.expect(side)
        stopping = threading.Event()
        reader = Reader(
            self._settings,
            topics,
            lambda: self._connect_consumer(self._settings, topics, group, member),
            lambda batch: self._reactor.callFromThread(self._handle, handle, batch),
            stopping.wait,
            self._monotonic,
            self._teller(side),
            self._note_from_thread,
        )
        self._reading.append(ReadingThread(reader, stopping, self._reactor, self._ended))

    def messenger(self) -> None:
        """There are other nodes, to `tell` something. Call before `start`."""
        self._health.expect(MESSENGER)
        self._messenger = Teller(self._settings, self._shipper(MESSENGER), self._reactor, self._monotonic, self._ended)

    def tell(self, topic: str, message: Mapping[str, Any]) -> "Deferred[None]":
        """(fleet_ports.Peers)"""
        if self._messenger is None or not self._running or self._stopped is not None:
            return fail(BusError("the bus does not run"))
        try:
            record = Outgoing(topic, str(message["chargePointId"]), _encode(message))
        except (KeyError, TypeError, ValueError) as fault:  # UnicodeEncodeError, OverflowError are such, too
            return fail(BusError(f"a message to another node can't be written: {type(fault).__name__}"))
        return self._messenger.tell(record)

    def start(self) -> None:
        self._health.expect("producer")
        self._complaints.attach()
        for thread in self._threads():
            self._running.add(thread.name)
            thread.start()
        self._look()

    def stop(self) -> "Deferred[None]":
        """What is open has most of `stop_timeout` to end by itself; then it is given up."""
        if self._stopped is not None or not self._running:
            return succeed(None)
        self._stopped = Deferred()
        self._stop_bound = self._reactor.callLater(self._settings.stop_timeout, self._finish)
        if self._messenger is not None:
            self._messenger.stop()
        for thread in self._threads():
            thread.stop(self._settings.stop_timeout)
        return self._stopped

    def ship(self, records: Sequence[Outgoing]) -> "Deferred[None]":
        if not self._running or self._stopped is not None:
            return fail(BusError("the bus does not run"))
        if self._open is not None:
            return fail(BusError("a batch is being shipped already"))
        if not records:
            return succeed(None)
        self._open = Job(records, self._monotonic() + self._settings.ship_timeout, Deferred())
        self._shipping.give(self._open)
        return self._open.done

    def status(self) -> BusStatus:
        if not self._running:
            return BusStatus(False, "the connection to Kafka is not started")
        return self._health.status()

    def _threads(self) -> list[ShippingThread | ReadingThread]:
        messenger = [] if self._messenger is None else [self._messenger.thread]
        return [self._shipping, *messenger, *self._reading]

    # --- what the threads tell, in the reactor thread

    def _shipped(self, job: Job) -> None:
        if self._open is not job:
            return  # a stop has given it up
        self._open = None
        if job.error is not None:
            job.done.errback(job.error)
        else:
            job.done.callback(None)

    def _handle(self, handle: Handle, batch: Batch) -> None:
        def failed(failure: Failure) -> None:
            self._note("kafka-batch-not-handled")
            if failure.check(OcppgwError) is None:
                log.failure("records from Kafka were not handled, they come again", failure=failure)
            else:
                reason = failure.getErrorMessage()
                log.warn("records from Kafka were not handled, they come again: {reason}", reason=reason)
            batch.settle(False)

        maybeDeferred(handle, batch.messages).addCallbacks(lambda _: batch.settle(True), failed)

    def _look(self) -> None:
        """Nobody else would hear of a library that does not come back: it fails nothing, and ships nothing."""
        self._looking = self._reactor.callLater(HANGING_SECONDS, self._look)
        now = self._monotonic()
        longest = self._settings.ship_timeout + self._settings.connection_timeout + HANGING_SECONDS
        for thread in self._threads():
            turns, since = self._turns.get(thread.name, (-1, now))
            if turns != thread.turns:
                self._turns[thread.name] = (thread.turns, now)
                self._hangs(thread.name, "")
            elif now - since > longest and thread.name not in self._hanging:
                self._note("kafka-client-hangs")
                self._hangs(
                    thread.name, f"the client library of Kafka's {thread.name} has not come back for {longest:.0f} s"
                )

    def _hangs(self, name: str, reason: str) -> None:
        side = f"thread of {name}"
        if reason:
            self._hanging.add(name)
            log.error("{reason}: restart the gateway if it stays so", reason=reason)
            self._health.tell(side, Trouble("hanging", reason))
        elif name in self._hanging:
            self._hanging.discard(name)
            self._health.tell(side, None)

    def _ended(self, name: str) -> None:
        self._running.discard(name)
        if not self._running:
            self._finish()

    def _finish(self) -> None:
        if self._looking is not None and self._looking.active():
            self._looking.cancel()
        if self._stop_bound is not None and self._stop_bound.active():
            self._stop_bound.cancel()
        if self._running:
            log.warn("Kafka's client did not close within {seconds:g} s", seconds=self._settings.stop_timeout)
        self._running.clear()
        self._complaints.detach()
        job, self._open = self._open, None
        if job is not None:
            job.done.errback(BusError("the bus was stopped"))
        stopped, self._stop_bound = self._stopped, None
        if stopped is not None and not stopped.called:
            stopped.callback(None)

    # --- in a thread

    def _shipper(self, side: str) -> Shipper:
        return Shipper(
            self._settings,
            lambda: self._connect_producer(self._settings),
            self._monotonic,
            self._teller(side),
            self._complaints.cause,
            self._note_from_thread,
        )

    def _teller(self, side: str) -> Callable[[Trouble | None], None]:
        """Tells the reactor thread what changed."""
        last: list[Trouble | None] = [Trouble("", "")]

        def tell(trouble: Trouble | None) -> None:
            if side == MESSENGER and trouble is not None and trouble.kind == MISSING:
                trouble = None  # another node's topic: no trouble of this one
            if trouble != last[0]:
                last[0] = trouble
                self._reactor.callFromThread(self._health.tell, side, trouble)

        return tell

    def _note_from_thread(self, kind: str) -> None:
        self._reactor.callFromThread(self._note, kind)

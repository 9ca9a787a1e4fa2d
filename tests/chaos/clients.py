"""Stations that repeat a CALL until it is answered, on whatever node they get through to, as real ones do.

A connection that gave no answer in time is left open by half of them, and tried again later with a probe: a node that
hung must not answer there once another node serves the station.
"""

import contextlib
import json
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.chaos.auditor import Answered
from tests.chaos.charging import Call, charging
from tests.integration.harness import Gateway
from tests.integration.station import SUBPROTOCOLS

ANSWER_SECONDS = (4.5, 8.0)  # then the connection is given up; each station has its own limit between these, and more
# patience than a node has with a slow Kafka (kafka.acknowledgement_timeout_ms): real ones wait 10 s and longer
OPEN_SECONDS = 5.0  # more than it takes to find out that another node is silent
RETRY_SECONDS = 0.3
MAX_LEFT = 2  # given-up connections that a station keeps
PROBES = 0.2  # so many of its turns, a station tries those
IGNORED = 0.03  # so many CALLs of the gateway a station does not answer

JsonObject = dict[str, Any]


class NoAnswer(Exception):
    """It has to be sent again."""


class Left:
    """A connection that was given up, and the probes on it that have no answer yet: message id -> when it was sent."""

    def __init__(self, connected: ClientConnection, number: int) -> None:
        self.connected, self.number = connected, number
        self.probes: dict[str, float] = {}

    def probe(self) -> None:
        message_id = str(uuid.uuid4())
        self.probes[message_id] = time.monotonic()
        self.connected.send(json.dumps([2, message_id, "Heartbeat", {}]))

    def answers(self) -> Iterator[tuple[str, float]]:
        """Of those probes, as many as have come."""
        with contextlib.suppress(TimeoutError):
            while True:
                frame = json.loads(self.connected.recv(0))
                if frame[0] == 3 and frame[1] in self.probes:
                    yield frame[1], self.probes.pop(frame[1])


class StationThread(threading.Thread):
    """One simulated station; it chooses among `nodes` with every connection. After `stop` it ends its transaction."""

    def __init__(self, name: str, version: str, nodes: Sequence[Gateway], stop: threading.Event, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.version = version
        self.answered: list[Answered] = []
        self.attempts = 0
        self.repeated = 0
        self.refused = 0
        self.commands = 0  # CALLs of the gateway that were answered
        self.waits_for = ""  # the CALL under way
        self._nodes, self._stop_wanted, self._chance = nodes, stop, random.Random(seed)
        self._answer_seconds = self._chance.uniform(*ANSWER_SECONDS)
        self._socket: ClientConnection | None = None
        self._connection = 0
        self._left: list[Left] = []

    def run(self) -> None:
        calls = charging(self.version, self._chance, self._stop_wanted.is_set)
        with contextlib.suppress(StopIteration):
            call = next(calls)
            while True:
                answer = self._call(call)
                self._try_what_was_left()
                call = calls.send(answer)
        self._close()
        for left in self._left:
            _end(left.connected)

    # --- one CALL, until it is answered

    def _call(self, call: Call) -> JsonObject:
        message_id, first = str(uuid.uuid4()), time.monotonic()
        self.waits_for = f"{call.action} {message_id}"
        while True:
            sent = time.monotonic()
            try:
                answer = self._attempt(call, message_id)
                break
            except (NoAnswer, OSError, WebSocketException) as fault:  # TimeoutError is an OSError
                self.repeated += 1
                self._give_up(fault)
                time.sleep(RETRY_SECONDS * (0.5 + self._chance.random()))
        self.waits_for = ""
        number = answer.get("transactionId")
        self._answered(call, message_id, number, self._connection, first, sent)
        return answer

    def _answered(
        self, call: Call, message_id: str, number: int | None, connection: int, first: float, sent: float, **more: bool
    ) -> None:
        now = time.monotonic()
        self.answered.append(
            Answered(self.name, message_id, call.action, call.payload, number, connection, first, sent, now, **more)
        )

    def _attempt(self, call: Call, message_id: str) -> JsonObject:
        connected = self._connected()
        connected.send(json.dumps([2, message_id, call.action, call.payload]))
        deadline = time.monotonic() + self._answer_seconds
        while True:
            frame = json.loads(connected.recv(max(0.0, deadline - time.monotonic())))
            if frame[0] == 2:
                self._serve(connected, frame)
            elif frame[1] == message_id:
                if frame[0] == 4:
                    raise NoAnswer(frame[2])
                answer: JsonObject = frame[2]
                return answer

    def _serve(self, connected: ClientConnection, frame: list[Any]) -> None:
        if self._chance.random() >= IGNORED:
            connected.send(json.dumps([3, frame[1], {"status": "Accepted"}]))
            self.commands += 1

    # --- its connections

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            node = self._chance.choice(self._nodes)
            sock = socket.create_connection(("127.0.0.1", node.websocket_port), OPEN_SECONDS)
            try:
                self._socket = connect(
                    f"ws://localhost/ocpp/{self.version}/{self.name}",
                    sock=sock,
                    subprotocols=[SUBPROTOCOLS[self.version]],  # type: ignore[list-item]
                    compression=None,
                    proxy=None,
                    ping_interval=None,
                    open_timeout=OPEN_SECONDS,
                    close_timeout=1.0,
                ).__enter__()
            except (InvalidHandshake, OSError):
                sock.close()
                self._refused()
                raise
            self._connection += 1
        return self._socket

    def _refused(self) -> None:
        """What it left open may be why: it proves to be alive when it is asked."""
        self.refused += 1
        for left in self._left:
            _end(left.connected)
        self._left.clear()

    def _give_up(self, fault: Exception) -> None:
        hangs = isinstance(fault, TimeoutError) and self._socket is not None
        if hangs and len(self._left) < MAX_LEFT and self._chance.random() < 0.5:
            assert self._socket is not None
            self._left.append(Left(self._socket, self._connection))
            self._socket = None
        else:
            self._close()

    def _try_what_was_left(self) -> None:
        for left in list(self._left):
            try:
                if self._chance.random() < PROBES:
                    left.probe()
                for message_id, sent in left.answers():
                    self._answered(Call("Heartbeat", {}), message_id, None, left.number, sent, sent, is_probe=True)
            except ConnectionClosed:
                self._left.remove(left)

    def _close(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            _end(connected, without_a_word=self._chance.random() < 0.5)


def _end(connected: ClientConnection, *, without_a_word: bool = True) -> None:
    with contextlib.suppress(OSError, WebSocketException):
        if without_a_word:
            connected.socket.shutdown(socket.SHUT_RDWR)
        connected.close()

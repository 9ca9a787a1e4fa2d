"""The load generator: many stations on raw non-blocking sockets and one epoll.

It shares the machine with the servers, so what it does per message is little: read the answer by its frame header,
compare it, fill in a template, mask it with one big-integer XOR, send. Everything that happens once per connection
(connect, upgrade, boot, close) is a `Script`: a generator that yields whenever it needs its socket again.
"""

import json
import os
import select
import socket
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from bench import frames
from bench.payloads import Call, Row, encode_call

Script = Generator[None, None, None]

STALLED = 15.0  # seconds without any answer before the run is given up
_CLOSE_NORMAL = (1000).to_bytes(2, "big")
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the pair of RFC 6455 section 1.3


class LoadError(Exception):
    """The load can't go on: a connection was refused, cut or fell silent. Names the station and what came instead."""


class Clock:
    """Wall time as the text in the messages, formatted once per millisecond."""

    def __init__(self) -> None:
        self._millisecond = -1
        self._text = b""

    def text(self) -> bytes:
        """Now, in UTC, as in 2026-01-31T12:00:00.000Z."""
        millisecond = int(time.time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            seconds, rest = divmod(millisecond, 1000)
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%03dZ" % rest
        return self._text


@dataclass
class Target:
    """Where the load goes; `echo` says that answers are the sent bytes, else they are CALLRESULTs."""

    host: str
    port: int
    echo: bool


@dataclass
class Sample:
    """What one measured stretch saw; latencies in seconds."""

    seconds: float = 0.0
    messages: int = 0
    latencies: list[float] = field(default_factory=list)


_runs = count(1)  # every connection has ids of its own: none repeats, whatever a server remembers


class Station:
    """One connection: at most one CALL in flight, every message id used once."""

    def __init__(self, load: "Load", row: Row, station_id: str) -> None:
        self.load, self.row, self.id = load, row, station_id
        self.inbox = bytearray()
        self.sent_at = 0.0
        self.serial = 0
        self.seq = 0
        self.mismatches = load.mismatches
        self._run = next(_runs) & 0xFFFFFFFF
        self._id_format = b"%08x-0000-4000-8000-%%012x" % self._run
        self._transaction = f"{self._run:08x}-7a3c-4000-8000-{station_id}"
        self._template = row.template(self._transaction)
        self._sent = self._expected = b""
        self._fields: dict[bytes, bytes] = {}

    # -- once per connection

    def open(self) -> Script:
        """Connect and upgrade; LoadError unless the answer is a 101 with the offered subprotocol."""
        yield from self.connect()
        yield from self._upgrade()

    def connect(self) -> Script:
        """Connect; nothing is sent yet."""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex((self.load.target.host, self.load.target.port))
        self.load.attach(self)
        yield
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise LoadError(f"{self.id}: can't connect: {os.strerror(error)}")
        self.load.listen(self)

    def _upgrade(self) -> Script:
        self._write(self._upgrade_request())
        while b"\r\n\r\n" not in self.inbox:
            yield
            self._read()
        head, _, rest = bytes(self.inbox).partition(b"\r\n\r\n")
        self.inbox[:] = rest
        protocol = f"ocpp{self.row.version}".encode()
        if not head.startswith(b"HTTP/1.1 101 ") or _ACCEPT not in head or protocol not in head:
            raise LoadError(f"{self.id}: the upgrade was answered with {head[:200]!r}")

    def call(self, action: str, payload: Any) -> Script:
        """Send one CALL and wait for its answer."""
        self._send(encode_call(self._next_id().decode(), action, payload))
        while True:
            yield
            self._read()
            while (answer := self._take()) is not None:
                self._check(answer)
                return

    def start(self) -> Script:
        """Open, boot, and start a transaction where the row has one."""
        yield from self.open()
        yield from self._calls(self.row.opening(self._transaction, self.load.clock.text().decode()))

    def finish(self) -> Script:
        """Wait for the answer in flight, end the transaction where the row has one, close."""
        while self.sent_at:
            yield
            self.receive()
        yield from self._calls(self.row.closing(self._transaction, self.load.clock.text().decode(), self.seq + 1))
        yield from self.close()

    def close(self) -> Script:
        """The closing handshake; done when the server has dropped the connection (RFC 6455 section 7.1.1)."""
        self._write(frames.encode(frames.CLOSE, _CLOSE_NORMAL))
        while not self._ended():
            yield
        self.load.detach(self)
        self.sock.close()

    def _ended(self) -> bool:
        try:
            return not self.sock.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def _calls(self, calls: list[Call]) -> Script:
        for action, payload in calls:
            yield from self.call(action, payload)

    # -- once per message

    def send_next(self, now: float, time_text: bytes) -> None:
        """Send the row's next CALL; `now` in seconds of the load's monotonic clock."""
        self.seq += 1
        fields = self._fields
        fields[b"id"] = self._next_id()
        fields[b"time"] = time_text
        fields[b"seq"] = b"%d" % self.seq
        fields[b"energy"] = b"%d" % (1_000_000 + 7 * self.seq)
        self.sent_at = now
        self._send(self._template % fields)

    def receive(self) -> bool:
        """Take what the socket has; True when the CALL in flight is answered."""
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            raise LoadError(f"{self.id}: {error}") from error
        answer = frames.text_of(data) if not self.inbox else None
        if answer is None:
            self._accept(data)
            answer = self._take()
            if answer is None:
                return False
        self._check(answer)
        self.sent_at = 0.0
        return True

    def _next_id(self) -> bytes:
        self.serial += 1
        return self._id_format % self.serial

    def _send(self, message: bytes) -> None:
        self._sent = message
        self._expected = message if self.load.target.echo else b'[3,"' + message[4:40] + b'",'
        self._write(frames.encode(frames.TEXT, message))

    def _write(self, data: bytes) -> None:
        try:
            sent = self.sock.send(data)
        except OSError as error:
            raise LoadError(f"{self.id}: can't send: {error}") from error
        if sent != len(data):
            raise LoadError(f"{self.id}: the socket took {sent} of {len(data)} bytes with nothing else in flight")

    def _check(self, answer: bytes) -> None:
        if answer.startswith(self._expected) or self._is_result(answer):
            return
        self.mismatches.append(f"{self.id}: sent {self._sent[:120]!r}, got {answer[:200]!r}")

    def _is_result(self, answer: bytes) -> bool:
        """The patient look, for servers that put white space between the members."""
        if self.load.target.echo:
            return False
        try:
            message = json.loads(answer)
        except ValueError:
            return False
        return isinstance(message, list) and len(message) == 3 and message[:2] == [3, self._sent[4:40].decode()]

    def _read(self) -> None:
        try:
            self._accept(self.sock.recv(65536))
        except OSError as error:
            raise LoadError(f"{self.id}: {error}") from error

    def _accept(self, data: bytes) -> None:
        if not data:
            raise LoadError(f"{self.id}: the server dropped the connection; before that: {bytes(self.inbox)[:200]!r}")
        self.inbox += data

    def _take(self) -> bytes | None:
        """The next text message in the inbox; pings are answered on the way."""
        while (frame := frames.take(self.inbox)) is not None:
            opcode, payload = frame
            if opcode == frames.TEXT:
                return payload
            if opcode == frames.PING:
                self._write(frames.encode(frames.PONG, payload))
            elif opcode != frames.PONG:
                raise LoadError(f"{self.id}: unexpected frame, opcode {opcode}: {payload[:200]!r}")
        return None

    def serve_idle(self) -> None:
        """Answer pings; anything else on an idle connection is a mismatch."""
        self._read()
        if (message := self._take()) is not None:
            self.mismatches.append(f"{self.id}: unasked message {message[:200]!r}")

    def _upgrade_request(self) -> bytes:
        target = self.load.target
        return (
            f"GET /ocpp/{self.row.version}/{self.id} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {_KEY}\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp{self.row.version}\r\n\r\n"
        ).encode()


class Load:
    """All connections to one server. `mismatches` collects every answer that wasn't the expected one."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.clock = Clock()
        self.mismatches: list[str] = []
        self._epoll = select.epoll()
        self._stations: dict[int, Station] = {}

    def attach(self, station: Station) -> None:
        self._stations[station.sock.fileno()] = station
        self._epoll.register(station.sock, select.EPOLLOUT)

    def listen(self, station: Station) -> None:
        self._epoll.modify(station.sock, select.EPOLLIN)

    def detach(self, station: Station) -> None:
        self._epoll.unregister(station.sock)
        del self._stations[station.sock.fileno()]

    def abandon(self) -> None:
        """Drop all connections, without a word."""
        for station in self._stations.values():
            station.sock.close()
        self._stations.clear()
        self._epoll.close()

    def run(self, scripts: Iterable[tuple[Station, Script]], at_once: int) -> int:
        """Run all scripts to their end, at most `at_once` at a time; returns how many there were."""
        waiting, done = iter(scripts), 0
        running: dict[int, Script] = {}
        while True:
            while len(running) < at_once and (entry := next(waiting, None)) is not None:
                station, script = entry
                if self._advance(script):
                    running[station.sock.fileno()] = script
                else:
                    done += 1
            if not running:
                return done
            for descriptor, _ in self._wait(STALLED):
                active = running.get(descriptor)
                if active is None:
                    self._stations[descriptor].serve_idle()
                elif not self._advance(active):
                    del running[descriptor]
                    done += 1

    def drive(self, seconds: float) -> Sample:
        """Keep one CALL of every connection in flight for `seconds`; the last ones stay in flight."""
        stations, clock, sample = self._stations, self.clock, Sample()
        latencies = sample.latencies
        started = now = time.perf_counter()
        for station in stations.values():
            if not station.sent_at:
                station.send_next(now, clock.text())
        while (now := time.perf_counter()) - started < seconds:
            time_text = clock.text()
            for descriptor, _ in self._wait(STALLED):
                station = stations[descriptor]
                sent_at = station.sent_at
                if station.receive():
                    now = time.perf_counter()
                    latencies.append(now - sent_at)
                    station.send_next(now, time_text)
        sample.seconds, sample.messages = now - started, len(latencies)
        return sample

    def idle(self, seconds: float) -> None:
        """Let all connections rest for `seconds`, answering pings."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for descriptor, _ in self._epoll.poll(left, 256):
                self._stations[descriptor].serve_idle()

    def _wait(self, seconds: float) -> list[tuple[int, int]]:
        ready = self._epoll.poll(seconds, 256)
        if not ready:
            raise LoadError(f"{self.target.host}:{self.target.port}: no answer for {seconds:.0f} s")
        return ready

    @staticmethod
    def _advance(script: Script) -> bool:
        """Go on with a script to its next wait; False when it has ended."""
        try:
            next(script)
        except StopIteration:
            return False
        return True

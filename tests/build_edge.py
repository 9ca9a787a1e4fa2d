"""The WebSocket edge with its doubles, so that a test is a story.

    edge = build_edge()                     a factory on a Clock over a fake entrance and fake links
    peer = edge.connect()                   a TCP peer; peer.upgrade() makes it a station
    peer.send(frame(b"hello"))              -> edge.links[0].texts == [b"hello"]
    peer.frames()                           -> what the gateway sent: [(opcode, payload)]

`build_edge(real=True)` puts real links and 1.6 sessions behind it, over a journal that is durable at once.
Bytes sent to a peer whose reading is paused wait, as they do in the kernel.
"""

import struct
from itertools import count
from typing import Any

import msgspec
import txaio
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.admission import AdmissionRules, Admitted, HandshakeFacts, admit
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import TlsFailure
from ocppgw.fleet_ports import Claim
from ocppgw.metrics import Metrics
from ocppgw.net.websocket import ChargerFactory, WebSocketRules
from ocppgw.ocpp.session import Session, SessionRules, StationFacts
from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.versions import V16
from ocppgw.routing.entrance import Welcome
from ocppgw.routing.links import Link, Surroundings

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of KEY, RFC 6455 section 1.3
MASK = b"\x37\xfa\x21\x3d"
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
NOW = 1_800_000_000.0
METRICS = Metrics({"1.6J": ()}, "test")


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    return bytes(octet ^ mask[place % 4] for place, octet in enumerate(payload))


def frame(
    payload: bytes = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bytes: int | None = None,
) -> bytes:
    """A client's frame, RFC 6455 section 5.2. `length_bytes` forces a length encoding of 0, 2 or 8 extra bytes."""
    size = len(payload)
    extra = length_bytes if length_bytes is not None else 0 if size < 126 else 2 if size < 65_536 else 8
    bit = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    head += bytes([bit | size]) if extra == 0 else bytes([bit | (126 if extra == 2 else 127)]) + size.to_bytes(extra)
    return head + (payload if mask is None else mask + masked(payload, mask))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(struct.pack("!H", code) + reason, CLOSE)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """A server's bytes as (first byte without FIN, payload); fails on what is not whole."""
    found = []
    while data:
        length, start = data[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start])
        assert len(data) >= start + length, "half a frame was sent"
        found.append((data[0] & 0x7F, data[start : start + length]))
        data = data[start + length :]
    return found


def request(
    target: str = "/ocpp/CP-001", *headers: str, subprotocol: str | None = "ocpp1.6", extensions: str | None = None
) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: gateway", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *headers]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if extensions is not None:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class FakeEntrance:
    """Admits what `admit` admits; with `waits` a decision comes when the test says `decide_now`."""

    def __init__(self) -> None:
        self.waits = False
        self.refusal: Refused | None = None
        self.asked: list[HandshakeFacts] = []
        self.refused: list[Reason] = []
        self.failures: list[TlsFailure] = []
        self.inside = 0
        self._waiting: list[tuple[Deferred[Any], Any]] = []

    def visit(self, peer: str, listener: str) -> "FakeVisit":
        self.inside += 1
        return FakeVisit(self, peer)

    def decide(self, facts: HandshakeFacts, headers: Any) -> Deferred[Any]:
        self.asked.append(facts)
        admitted = self.refusal or admit(facts, AdmissionRules())
        decision = welcome(admitted) if isinstance(admitted, Admitted) else admitted
        if not self.waits:
            return succeed(decision)
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((waiting, decision))
        return waiting

    def decide_now(self) -> None:
        waiting, decision = self._waiting.pop(0)
        waiting.callback(decision)

    def refuse(self, reason: Reason, address: str) -> Refused:
        self.refused.append(reason)
        return Refused(reason)


class FakeVisit:
    """What the edge tells the entrance of one connection."""

    def __init__(self, entrance: FakeEntrance, peer: str) -> None:
        self.entrance = entrance
        self.address = peer
        self.is_upgraded = False
        self.has_left = False
        self.decide = entrance.decide

    def refuse(self, reason: Reason, detail: str = "", url: str = "", *, is_cut: bool = False) -> Refused:
        return self.entrance.refuse(reason, self.address)

    def gone(self, failure: TlsFailure | None) -> None:
        if failure is not None:
            self.entrance.failures.append(failure)

    def upgraded(self) -> None:
        self.is_upgraded = True

    def left(self) -> None:
        if not self.has_left:
            self.has_left = True
            self.entrance.inside -= 1


def welcome(admitted: Admitted) -> Welcome:
    facts = StationFacts(admitted.charge_point_id, "station-1", "tenant-1")
    state = StationState(boot_status="Accepted", transactions={}, recent={}, connectors={})
    return Welcome(admitted, facts, Claim(admitted.charge_point_id, 1), state, "192.0.2.1")


class FakeLink:
    """Remembers what the socket told it; sends `reply` for every text when it is set."""

    def __init__(self, given: Welcome, socket: Any) -> None:
        self.station = given.station
        self.socket = socket
        self.calls: list[Any] = []
        self.texts: list[bytes] = []
        self.reply: bytes | None = None
        self.fault: Exception | None = None

    def opened(self) -> None:
        self.calls.append("opened")

    def received(self, text: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        self.texts.append(text)
        if self.reply is not None:
            self.socket.send_text(self.reply)

    def received_binary(self) -> None:
        self.calls.append("binary")

    def closed(self, code: int | None, reason: str) -> None:
        self.calls.append(("closed", code, reason))


class DurableAtOnce:
    """An outbox whose disk takes no time."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def publish(self, record: Any, changes: Any, waiter: Any, token: int) -> None:
        self.events.append(msgspec.json.decode(record.value))
        waiter.durable(token)


class NoCommands:
    """Nobody sends commands."""

    def link_opened(self, link: Link) -> None:
        """Nothing waits for it."""


class Wire(StringTransport):
    """A transport that remembers how it ended: "" (open), "lost" (after what was written) or "aborted"."""

    end = ""

    def loseConnection(self) -> None:  # noqa: N802
        self.end = self.end or "lost"
        super().loseConnection()

    def unregisterProducer(self) -> None:  # noqa: N802
        """Like a TCP transport's: also when there is none."""
        self.producer = None

    def abortConnection(self) -> None:  # noqa: N802
        self.end = "aborted"
        self.disconnecting = True


class Peer:
    """The far end of one TCP connection."""

    def __init__(self, edge: "Edge") -> None:
        self.wire = Wire(peerAddress=IPv4Address("TCP", "192.0.2.1", 50_000))
        self.protocol = edge.factory.buildProtocol(None)
        self._kernel = b""  # arrived, not read: the gateway paused reading
        self.protocol.makeConnection(self.wire)

    def send(self, data: bytes) -> None:
        self._kernel += data
        self.deliver()

    def deliver(self) -> None:
        while self._kernel and self.wire.producerState == "producing" and not self.wire.end:
            data, self._kernel = self._kernel, b""
            self.protocol.dataReceived(data)

    def upgrade(self, *args: str, **options: Any) -> "Peer":
        self.send(request(*args, **options))
        self.last = self.answer()
        return self

    def take(self) -> bytes:
        data = self.wire.value()
        self.wire.clear()
        return data

    def answer(self) -> tuple[str, dict[str, str], bytes]:
        """Status line, headers (lower-case names) and body of the HTTP answer; what follows a 101 stays unread."""
        head, _, body = self.take().partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if status.startswith("HTTP/1.1 101"):
            self.wire.write(body) if body else None
            body = b""
        return status, headers, body

    def frames(self) -> list[tuple[int, bytes]]:
        return frames_of(self.take())

    def close_code(self) -> int | None:
        """The code of the close frame among the frames sent, None when there is none."""
        codes = [struct.unpack("!H", payload[:2])[0] for opcode, payload in self.frames() if opcode == CLOSE]
        return codes[0] if codes else None

    def gone(self) -> None:
        """The connection ends; reported to the protocol as the reactor does."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Edge:
    def __init__(self, rules: WebSocketRules, *, real: bool) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.entrance = FakeEntrance()
        self.links: list[Any] = []
        self.outbox = DurableAtOnce()
        around = Surroundings(self.clock, None, self.outbox, METRICS)  # type: ignore[arg-type]
        around.commands = NoCommands()  # type: ignore[assignment]
        ids = count(1)

        def open_link(given: Welcome, socket: Any) -> Any:
            link: Any = FakeLink(given, socket)
            if real:
                session = Session(V16, given.station, given.state, SessionRules(), "n1", 1, lambda: f"our-{next(ids)}")
                link = Link(session, socket, V16, given.admitted.subprotocol, around)
            self.links.append(link)
            return link

        txaio.config.loop = self.clock  # Autobahn's timers follow this, not the factory's reactor
        self.factory = ChargerFactory(rules, self.entrance, open_link, self.clock)  # type: ignore[arg-type]

    def connect(self) -> Peer:
        return Peer(self)

    def sweeps(self, turns: int) -> None:
        for _ in range(turns):
            self.factory.sweep()


def build_edge(case: SynchronousTestCase | None = None, *, real: bool = False, **rules: Any) -> Edge:
    """`rules` are members of WebSocketRules. With a `case` Autobahn's clock is put back when it ends."""
    before = txaio.config.loop
    edge = Edge(WebSocketRules(**rules), real=real)
    if case is not None:
        case.addCleanup(setattr, txaio.config, "loop", before)
    return edge

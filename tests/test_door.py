"""Before anything is read: refused addresses, the pace of accepting, and the PROXY protocol of listed peers."""

import struct
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.refusals import Reason, Refused
from ocppgw.net.door import MAX_TURNED_AWAY, TURNED_AWAY_SECONDS, Door
from ocppgw.net.opening import answer
from tests.build_edge import Wire

STATION, PROXY = "198.51.100.7", "10.0.0.1"


class Inner(Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.named: list[str] = []
        self.may_go_on = True

    def peer_named(self) -> bool:
        self.named.append(self.peer)
        return self.may_go_on

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.received += data

    @property
    def peer(self) -> str:
        return self.transport.getPeer().host  # type: ignore[union-attr, no-any-return]


class Port:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:  # noqa: N802
        self.calls.append("pause")

    def resumeProducing(self) -> None:  # noqa: N802
        self.calls.append("resume")


class DoorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.refusal: Refused | None = None
        self.faults: list[str] = []
        self.port = Port()
        self.door = self.build()

    def build(self, accepts: int = 0, **options: Any) -> Door:
        inner = Factory.forProtocol(Inner)
        inner.noisy = False
        door = Door(
            inner,
            self,  # type: ignore[arg-type]
            "plain port 8080",
            self.clock,
            options.get("answer", answer),
            lambda address: address == PROXY,
            self.faults.append,
            accepts,
        )
        door.port = self.port
        return door

    def turned_away(self, peer: str, listener: str, *, is_cut: bool) -> Refused | None:
        return self.refusal

    def connect(self, host: str = STATION, door: Door | None = None) -> tuple[Any, Wire]:
        address = IPv4Address("TCP", host, 50_000)
        protocol: Any = (door or self.door).buildProtocol(address)
        wire = Wire(peerAddress=address)
        if protocol is not None:
            protocol.makeConnection(wire)
        return protocol, wire

    # --- refused addresses

    def test_a_welcome_address_gets_its_protocol(self) -> None:
        protocol, _ = self.connect()
        protocol.dataReceived(b"hello")
        self.assertEqual((type(protocol), protocol.received), (Inner, b"hello"))

    def test_a_refused_address_is_told_once_it_has_sent_something(self) -> None:
        self.refusal = Refused(Reason.TOO_MANY_HANDSHAKES)
        protocol, wire = self.connect()
        self.assertEqual(wire.value(), b"")
        for _ in range(3):
            protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        self.assertEqual(wire.value(), answer(self.refusal))
        self.assertTrue(wire.value().startswith(b"HTTP/1.1 429 Too many handshakes\r\nRetry-After: 30\r\n"))
        self.assertEqual(wire.end, "lost")

    def test_one_that_says_nothing_is_cut_off(self) -> None:
        self.refusal = Refused(Reason.TOO_MANY_HANDSHAKES)
        protocol, wire = self.connect()
        self.clock.advance(TURNED_AWAY_SECONDS)
        self.assertEqual(wire.end, "aborted")
        protocol.connectionLost(None)
        self.assertEqual((self.door.turned_away, self.clock.getDelayedCalls()), (0, []))

    def test_those_who_are_told_are_bounded(self) -> None:
        self.refusal = Refused(Reason.TOO_MANY_HANDSHAKES)
        told = [self.connect()[0] for _ in range(MAX_TURNED_AWAY + 3)]
        self.assertEqual(told.count(None), 3)

    def test_a_tls_port_cuts_them_off(self) -> None:
        self.refusal = Refused(Reason.TOO_MANY_HANDSHAKES)
        self.assertIsNone(self.connect(door=self.build(answer=None))[0])

    # --- the pace

    def test_above_the_rate_accepting_pauses_and_goes_on(self) -> None:
        door = self.build(accepts=2)
        self.connect(door=door)
        self.assertEqual(self.port.calls, [])
        self.connect(door=door)
        self.connect(door=door)  # accepted in the same turn
        self.assertEqual(self.port.calls, ["pause"])
        self.clock.advance(0.5)
        self.assertEqual(self.port.calls, ["pause", "resume"])

    # --- the PROXY protocol

    def through(self, *pieces: bytes) -> tuple[Any, Wire]:
        protocol, wire = self.connect(PROXY)
        for piece in pieces:
            protocol.dataReceived(piece)
        return protocol.wrappedProtocol, wire

    def test_version_1_names_the_station(self) -> None:
        inner, _ = self.through(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 8080\r\nhello")
        self.assertEqual((inner.peer, inner.received), (STATION, b"hello"))
        inner, _ = self.through(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8080\r\n")
        self.assertEqual(inner.peer, "2001:db8::7")

    def test_version_2_names_the_station(self) -> None:
        inner, _ = self.through(_version_2() + b"hello")
        self.assertEqual((inner.peer, inner.received), (STATION, b"hello"))

    def test_a_station_that_may_not_go_on_is_not_read_from(self) -> None:
        protocol, _ = self.connect(PROXY)
        protocol.wrappedProtocol.may_go_on = False
        protocol.dataReceived(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 8080\r\nhello")
        self.assertEqual((protocol.wrappedProtocol.named, protocol.wrappedProtocol.received), ([STATION], b""))

    def test_a_header_may_come_in_pieces(self) -> None:
        for header in (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 8080\r\n", _version_2()):
            inner, _ = self.through(*(bytes([octet]) for octet in header + b"hello"))
            self.assertEqual((inner.peer, inner.received), (STATION, b"hello"))

    def test_a_proxys_own_check_keeps_its_address(self) -> None:
        for header in (b"PROXY UNKNOWN\r\n", _version_2(command=0x20)):
            inner, _ = self.through(header + b"hello")
            self.assertEqual((inner.peer, inner.received), (PROXY, b"hello"))
        self.assertEqual(self.faults, [])

    def test_a_listed_proxy_without_a_header_is_cut_off_and_reported(self) -> None:
        for data in (
            b"GET /ocpp/CP-001 HTTP/1.1\r\n",
            b"PROXY TCP4 198.51.100.7\r\n",
            b"PROXY TCP4 198.51.100.7 192.0.2.1 http 8080\r\n",
            b"PROXY TCP9 a b 1 2\r\n",
            b"PROXY " + b"x" * 200,
            _version_2(family=0x41),
            bytes(range(32)),
        ):
            self.faults.clear()
            inner, wire = self.through(data, b"more")
            self.assertEqual((wire.end, inner.received), ("lost", b""), data)
            self.assertEqual(self.faults, [PROXY], data)

    def test_anybody_elses_header_is_only_data(self) -> None:
        protocol, _ = self.connect()
        protocol.dataReceived(b"PROXY TCP4 10.9.9.9 192.0.2.1 4711 8080\r\n")
        self.assertEqual((protocol.peer, protocol.received[:5]), (STATION, b"PROXY"))


def _version_2(command: int = 0x21, family: int = 0x11) -> bytes:
    addresses = bytes([198, 51, 100, 7, 192, 0, 2, 1]) + struct.pack("!HH", 4711, 8080)
    return b"\r\n\r\n\x00\r\nQUIT\n" + bytes([command, family]) + struct.pack("!H", len(addresses)) + addresses

"""FastPoll over real sockets (pairs): what it hands on, what it gives back, and what it survives."""

import socket
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.fastpoll import EVENTS_AT_ONCE, FastPoll


class FakeReactor:
    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:  # noqa: N802
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:  # noqa: N802
        self.readers.remove(reader)


class FakeTransport:
    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.reading = True
        self.aborted = False

    def getHandle(self) -> socket.socket:  # noqa: N802
        return self.end

    def stopReading(self) -> None:  # noqa: N802
        self.reading = False

    def startReading(self) -> None:  # noqa: N802
        self.reading = True

    def abortConnection(self) -> None:  # noqa: N802
        self.aborted = True
        self.end.close()


class FastPollTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.poll = FastPoll(self.reactor)
        self.poll.start()
        self.addCleanup(self.poll.stop)
        self.got: list[bytes] = []

    def connect(self, received: Callable[[bytes], None] | None = None) -> tuple[FakeTransport, socket.socket, int]:
        near, far = socket.socketpair()
        near.setblocking(False)
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        transport = FakeTransport(near)
        return transport, far, self.poll.adopt(transport, received or self.got.append)

    def test_it_is_one_reader_of_the_reactor(self) -> None:
        self.assertEqual(self.reactor.readers, [self.poll])
        self.assertGreater(self.poll.fileno(), 0)

    def test_an_adopted_transport_is_read_here_and_by_nobody_else(self) -> None:
        transport, far, _ = self.connect()
        self.assertFalse(transport.reading)
        far.send(b"hello")
        self.poll.doRead()
        self.assertEqual(self.got, [b"hello"])

    def test_a_round_without_data_does_nothing(self) -> None:
        self.connect()
        self.poll.doRead()
        self.assertEqual(self.got, [])

    def test_the_end_of_a_stream_is_left_to_twisted(self) -> None:
        transport, far, _ = self.connect()
        far.close()
        self.poll.doRead()
        self.assertTrue(transport.reading)
        self.assertEqual((self.got, len(self.poll)), ([], 0))

    def test_data_before_the_end_comes_first(self) -> None:
        transport, far, _ = self.connect()
        far.send(b"last words")
        far.shutdown(socket.SHUT_WR)
        self.poll.doRead()
        self.assertEqual(self.got, [b"last words"])
        self.poll.doRead()
        self.assertTrue(transport.reading)

    def test_a_reset_is_left_to_twisted_with_its_unread_data(self) -> None:
        transport, far, number = self.connect()
        far.send(b"unread")
        far.close()  # EPOLLIN and EPOLLHUP together
        self.poll.doRead()
        self.assertEqual((transport.reading, len(self.poll)), (True, 0))
        self.assertEqual(transport.end.recv(100), b"unread")
        self.poll.forget(number)  # as the protocol will; no longer known, no complaint

    def test_a_paused_connection_waits_and_loses_nothing(self) -> None:
        _, far, number = self.connect()
        self.poll.pause(number)
        far.send(b"later")
        self.poll.doRead()
        self.assertEqual(self.got, [])
        self.poll.resume(number)
        self.poll.doRead()
        self.assertEqual(self.got, [b"later"])

    def test_a_forgotten_connection_is_not_read(self) -> None:
        _, far, number = self.connect()
        self.poll.forget(number)
        far.send(b"too late")
        self.poll.doRead()
        self.assertEqual(self.got, [])

    def test_forgetting_a_closed_socket_is_no_error(self) -> None:
        transport, _, number = self.connect()
        transport.end.close()
        self.poll.forget(number)
        self.assertEqual(len(self.poll), 0)

    def test_a_connection_closed_by_another_one_in_the_same_round_is_skipped(self) -> None:
        connections: list[tuple[FakeTransport, socket.socket, int]] = []

        def close_all(data: bytes) -> None:
            self.got.append(data)
            for transport, _, number in connections:
                self.poll.forget(number)
                transport.end.close()

        connections += [self.connect(close_all) for _ in range(3)]
        for _, far, _ in connections:
            far.send(b"x")
        self.poll.doRead()
        self.assertEqual(self.got, [b"x"])

    def test_a_failing_protocol_costs_its_own_connection_only(self) -> None:
        def fail(_data: bytes) -> None:
            raise RuntimeError("a fault")

        broken, far_of_broken, _ = self.connect(fail)
        _, far, _ = self.connect()
        far_of_broken.send(b"x")
        far.send(b"y")
        self.poll.doRead()
        self.assertEqual((broken.aborted, self.got), (True, [b"y"]))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_round_is_bounded_so_that_timers_get_their_turn(self) -> None:
        far_ends = [self.connect()[1] for _ in range(EVENTS_AT_ONCE + 5)]
        for far in far_ends:
            far.send(b"x")
        self.poll.doRead()
        self.assertEqual(len(self.got), EVENTS_AT_ONCE)
        self.poll.doRead()
        self.assertEqual(len(self.got), EVENTS_AT_ONCE + 5)

    def test_stopping_gives_everything_back(self) -> None:
        transport, _, _ = self.connect()
        poll = FastPoll(self.reactor)
        poll.start()
        other, far = socket.socketpair()
        self.addCleanup(other.close)
        self.addCleanup(far.close)
        adopted = FakeTransport(other)
        poll.adopt(adopted, self.got.append)
        poll.stop()
        self.assertTrue(adopted.reading)
        self.assertFalse(transport.reading)
        self.assertEqual(self.reactor.readers, [self.poll])

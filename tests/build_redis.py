"""A Redis that a test plays itself: connections to it, byte for byte, and a clock.

redis = FakeRedis()
connection = redis.connection(call_timeout=1.0)    a Connection, started
redis.hears()                                      -> the commands since the last time, as lists of words
redis.says(b"+OK\r\n")                             to the newest connection
redis.clock.advance(1.0)
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError, ConnectionAborted, ConnectionDone
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.health import Trouble
from ocppgw.net.redis.replies import ReplyReader
from ocppgw.net.redis.settings import RedisAddress, RedisSettings

ADDRESS = RedisAddress("redis.example")


class Transport(StringTransport):
    """Tells the protocol when it is gone."""

    is_gone = False
    protocol: Any = None

    def abortConnection(self) -> None:  # noqa: N802
        self.lose(ConnectionAborted())

    def lose(self, why: Exception | None = None) -> None:
        if not self.is_gone:
            self.is_gone = True
            self.protocol.connectionLost(Failure(why or ConnectionDone()))


@implementer(IStreamClientEndpoint)
class FakeRedis:
    """(IStreamClientEndpoint) `is_there`: somebody listens. `logs_in`: it answers the login's PING by itself.
    `is_far`: connecting takes for ever."""

    def __init__(self, *, is_there: bool = True, logs_in: bool = True, is_far: bool = False) -> None:
        self.clock = Clock()
        self.is_far = is_far
        self.is_there, self.logs_in = is_there, logs_in
        self.transports: list[Transport] = []
        self.troubles: list[Trouble | None] = []

    def connect(self, factory: Any) -> "Deferred[Any]":
        if not self.is_there:
            return fail(NobodyListens())
        if self.is_far:
            return Deferred(lambda connecting: connecting.errback(ConnectingCancelledError(None)))
        protocol = factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = protocol
        self.transports.append(transport)
        protocol.makeConnection(transport)
        if self.logs_in:
            self.clock.callLater(0, self._log_in, transport)
        return succeed(protocol)

    def connection(
        self, address: RedisAddress = ADDRESS, changed: Callable[[], None] = lambda: None, **settings: Any
    ) -> Connection:
        chosen = RedisSettings(**{"address": address, "call_timeout": 1.0, **settings})
        connection = Connection(chosen, self.clock, self, lambda: 0.5, self.troubles.append, changed)
        connection.start()
        self.clock.advance(0)
        return connection

    def hears(self) -> list[list[bytes]]:
        """Except for the PINGs."""
        transport = self.transports[-1]
        commands: list[list[bytes]] = ReplyReader().feed(transport.value())
        transport.clear()
        return [words for words in commands if words != [b"PING"]]

    def says(self, data: bytes) -> None:
        self.transports[-1].protocol.dataReceived(data)

    def _log_in(self, transport: Transport) -> None:
        if not transport.is_gone:
            transport.clear()
            transport.protocol.dataReceived(b"+PONG\r\n")

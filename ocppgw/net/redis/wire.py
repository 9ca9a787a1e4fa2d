"""One TCP connection to Redis, from login to loss: the client library's protocol, with its traps taken out.

What is not used of the library, and why:
- its login: when AUTH is refused, or merely not answered in time, it stops connecting for good, and says so with a
  ValueError; here that is one failed attempt;
- its time limit: it needs a timer for each command; here a whole group has one (connection.py);
- its parser and conversions: see replies.py; and an identity that reads `12` would become a number.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from txredisapi import BaseRedisProtocol, InvalidData

from ocppgw.net.redis.replies import Reply, ReplyReader

Pushed = Callable[[Reply], None]
Word = str | bytes | int


class Wire(BaseRedisProtocol):  # type: ignore[misc]
    """`pushed` gets what is published on channels that this connection subscribes to; `lost` fires when it is gone."""

    def __init__(self, pushed: Pushed) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._reader = ReplyReader()
        self._pushed = pushed
        self._lost: Deferred[None] = Deferred()
        self.is_lost = False
        self.is_dropped = False  # given up by this side
        self.why = ""  # it was lost
        self.losing: Callable[[Wire], None] = lambda wire: None  # hears of the loss before any of its calls does
        self.place: tuple[str, int] | None = None  # host and port, where these are not the configured ones

    def connectionMade(self) -> None:  # noqa: N802
        self.connected = 1  # the library's flag: commands may be sent

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: N802
        try:
            replies = self._reader.feed(data)
        except InvalidData:
            self.transport.abortConnection()
            return
        for reply in replies:
            self.replyReceived(reply)

    def replyReceived(self, reply: Reply) -> None:  # noqa: N802
        if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
            self._pushed(reply[2])
        elif self.replyQueue.waiting:
            super().replyReceived(reply)

    def connectionLost(self, why: Failure) -> None:  # noqa: N802
        self.is_lost = True
        self.why = why.getErrorMessage()
        self.losing(self)
        super().connectionLost(why)
        self._lost.callback(None)

    def until_lost(self) -> "Deferred[None]":
        """May be cancelled."""
        waiting: Deferred[None] = Deferred()

        def lost(_result: None) -> None:
            if not waiting.called:
                waiting.callback(None)

        self._lost.addCallback(lost)
        return waiting

    def ask(self, *words: Word) -> "Deferred[Reply]":
        asked: Deferred[Reply] = self.execute_command(*words)
        return asked

    def script(self, text: bytes, keys: list[str], values: list[Word]) -> "Deferred[Reply]":
        """Run a Lua script: by its hash, when this connection ran it before."""
        run: Deferred[Reply] = self.eval(text, keys, values)
        return run


class WireFactory(Factory):
    noisy = False

    def __init__(self, pushed: Pushed) -> None:
        self._pushed = pushed

    def buildProtocol(self, addr: Any) -> Wire:  # noqa: N802
        wire = Wire(self._pushed)
        wire.factory = self
        return wire

"""SIGTERM: an orderly end in a bounded time.

    no new stations -> commands in flight end -> stations are closed with 1001, paced, so that they spread over the
    other nodes and over time -> their closing handshakes -> what is left is cut

`ocppgw.tap` then ships what is left, gives the claims back and stops the rest.
"""

from math import ceil
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ocppgw.net.websocket import ChargerFactory
from ocppgw.routing.commands import Commands

log = Logger(namespace="ocppgw")

TICK_SECONDS = 0.05
COMMANDS_SECONDS = 5.0  # for commands in flight
CLOSING_SECONDS = 5.0  # for chargers to answer the close frame
REASON = "the gateway is shutting down"
GOING_AWAY = 1001


class Drain:
    """`per_second` stations are closed, or as many more as it takes to have closed all within `seconds`."""

    def __init__(
        self, chargers: ChargerFactory, commands: Commands, reactor: Any, per_second: float, seconds: float
    ) -> None:
        self._chargers, self._commands, self._reactor = chargers, commands, reactor
        self._per_second, self._seconds = per_second, seconds

    def run(self) -> "Deferred[None]":
        """Fires within COMMANDS_SECONDS + `seconds` + CLOSING_SECONDS. No station may come any more."""
        return Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        count = self._chargers.open_count
        await self._until(lambda: self._commands.in_flight == 0, COMMANDS_SECONDS)
        left = self._commands.in_flight
        if left:
            log.warn("{count} commands have not ended, their stations are closed all the same", count=left)
        at_once = ceil(max(self._per_second, count / self._seconds) * TICK_SECONDS)
        protocols = self._chargers.all_open()
        for start in range(0, len(protocols), at_once):
            for protocol in protocols[start : start + at_once]:
                protocol.close(GOING_AWAY, REASON)
            if start + at_once < len(protocols):
                await deferLater(self._reactor, TICK_SECONDS)
        await self._until(lambda: self._chargers.open_count == 0, CLOSING_SECONDS)

    async def _until(self, done: Any, seconds: float) -> None:
        until = self._reactor.seconds() + seconds
        while not done() and self._reactor.seconds() < until:
            await deferLater(self._reactor, TICK_SECONDS)

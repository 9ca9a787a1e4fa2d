"""Redis tells of changes: CLIENT TRACKING in its broadcasting mode, on two connections.

    listener   CLIENT ID → 7                       SUBSCRIBE __redis__:invalidate
    calls      CLIENT TRACKING ON REDIRECT 7 BCAST PREFIX ocpp:chargers: PREFIX ocpp:revoked-certs:

From then on Redis publishes to the listener the name of every key of these two families that anybody writes, deletes or
lets expire. That ends when either connection does; Redis says nothing then. So each answers a PING every second, and
when one is made again, the other is told so.

A user of Redis who may not do that (ACL) is told of nothing: changes.py sweeps instead. Asked for again now and then.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from txredisapi import ResponseError

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.net.redis.connection import Connection
from ocppgw.net.redis.keys import Keys
from ocppgw.net.redis.troubles import said
from ocppgw.net.redis.wire import Wire, Word

log = Logger(namespace="ocppgw.redis")

CHANNEL = "__redis__:invalidate"
ASK_AGAIN_SECONDS = 30.0


class Tracking:
    """`switched` hears when it begins (True) and ends (False); `note` counts that it is refused."""

    def __init__(self, clock: Clock, keys: Keys, switched: Callable[[bool], None], note: Callable[[str], None]) -> None:
        self._clock, self._switched, self._note = clock, switched, note
        prefixes = ("PREFIX", keys.identities, "PREFIX", keys.revocations)
        self._on: tuple[Word, ...] = ("BCAST", *prefixes)
        self._ids: dict[Wire, int] = {}  # of the listener, when it may listen
        self._is_on = False
        self._was_refused = False
        self._asking_again: IDelayedCall | None = None

    def stop(self) -> None:
        if self._asking_again is not None and self._asking_again.active():
            self._asking_again.cancel()

    async def subscribe(self, wire: Wire) -> None:
        """On a new listener's connection; that it is refused is no reason to give it up."""
        self._ids.clear()
        try:
            client_id = await wire.ask("CLIENT", "ID")
            await wire.ask("SUBSCRIBE", CHANNEL)
        except ResponseError as error:
            self._refused(error)
        else:
            self._ids[wire] = client_id

    def arrange(self, calls: Connection, listener: Connection) -> None:
        """One of the connections came or went."""
        self._switch(on=False)
        client_id = None if listener.wire is None else self._ids.get(listener.wire)
        if calls.wire is None or listener.wire is None:
            return
        if client_id is None:
            self._ask_again(listener, listener.wire)
            return
        Deferred.fromCoroutine(self._turn_on(calls, listener, client_id)).addErrback(
            lambda failure: log.failure("Redis can't be asked for its changes", failure=failure)
        )

    # --- inside

    async def _turn_on(self, calls: Connection, listener: Connection, client_id: int) -> None:
        pair = (calls.wire, listener.wire)
        commands: list[tuple[Word, ...]] = [
            ("CLIENT", "TRACKING", "OFF"),  # for a second ON the prefixes would be there already
            ("CLIENT", "TRACKING", "ON", "REDIRECT", client_id, *self._on),
        ]
        try:
            await calls.calls(commands)
        except OcppgwError as error:
            if pair != (calls.wire, listener.wire) or pair[1] is None:
                return
            if "does not exist" in str(error):  # the listener, for Redis: it only was not noticed here yet
                listener.renew()
            else:
                self._refused(error)
                self._ask_again(listener, pair[1])
            return
        if pair == (calls.wire, listener.wire):
            self._switch(on=True)

    def _switch(self, *, on: bool) -> None:
        if on != self._is_on:
            self._is_on = on
            self._switched(on)
        if on and self._was_refused:
            self._was_refused = False
            log.info("Redis tells of changes from now on")

    def _refused(self, error: Exception) -> None:
        if not self._was_refused:
            self._was_refused = True
            self._note("redis-changes-not-told")
            log.warn(
                "Redis does not tell this node of changes: {reason}; it looks for them itself every 1.5 seconds "
                "(to mend it, allow its user CLIENT, SUBSCRIBE, and the channel &{channel})",
                reason=said(error),
                channel=CHANNEL,
            )

    def _ask_again(self, listener: Connection, wire: Wire) -> None:
        self.stop()
        self._asking_again = self._clock.callLater(ASK_AGAIN_SECONDS, self._renew, listener, wire)

    def _renew(self, listener: Connection, wire: Wire) -> None:
        if listener.wire is wire:
            listener.renew()

"""This node's claims, kept alive and given back in batches: nothing here waits for a single station.

Every claim is refreshed once in `refresh_seconds`, a slice each turn; those of new connections, and all of them after
Redis was away, as soon as it can be. What was closed is given back with the next turn.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.fleet_ports import Claim, SessionRow, Sessions
from ocppgw.routing.links import Link, Links

log = Logger(namespace="ocppgw.ownership")

AT_ONCE = 200
GHOST_SECONDS = 60.0  # a claim whose connection was never opened is given back
MAX_RELEASES = 100_000  # that wait for Redis; beyond it claims end with their time to live


class Claims:
    """`row` makes what is stored of a link; `lost` hears of claims that others hold now, `failed` that Redis is away;
    `settle` has stations' states written."""

    def __init__(
        self,
        sessions: Sessions,
        links: Links,
        monotonic: Callable[[], float],
        row: Callable[[Link], SessionRow],
        lost: Callable[[Iterable[Claim]], None],
        failed: Callable[[Failure], object],
        refresh_seconds: float,
        turn_seconds: float,
        settle: "Callable[[], Deferred[None]]",
    ) -> None:
        self._sessions, self._links, self._monotonic = sessions, links, monotonic
        self._row, self._lost, self._failed = row, lost, failed
        self._share = turn_seconds / refresh_seconds  # of all claims, refreshed in one turn
        self._settle = settle
        self._unopened: dict[str, tuple[Claim, float]] = {}  # until when it may stay so
        self._released: dict[str, Claim] = {}
        self._urgent: dict[Link, None] = {}
        self._round: list[Link] = []
        self._is_refreshing = self._is_releasing = False

    # --- between claim and connection

    def granted(self, claim: Claim) -> None:
        self._unopened[claim.charge_point_id] = (claim, self._monotonic() + GHOST_SECONDS)

    def taken(self, claim: Claim) -> None:
        """Another node holds the station, under this epoch."""
        unopened = self._unopened.get(claim.charge_point_id)
        if unopened is not None and unopened[0].epoch < claim.epoch:
            del self._unopened[claim.charge_point_id]

    def opened(self, link: Link) -> bool:
        """False: it was taken away before the connection was open."""
        name = link.station.charge_point_id
        unopened = self._unopened.get(name)
        if unopened is None:
            return False
        if unopened[0].epoch == link.epoch:  # else a newer connection is on its way, and will replace this one
            del self._unopened[name]
        self._urgent[link] = None
        return True

    def closed(self, link: Link) -> None:
        self._urgent.pop(link, None)
        if len(self._released) < MAX_RELEASES:
            self._released[link.station.charge_point_id] = Claim(link.station.charge_point_id, link.epoch)

    # --- the turns

    def refresh_all(self) -> None:
        self._urgent = dict.fromkeys(self._links)

    async def refresh_now(self) -> None:
        """All of them, and what comes of it is told before this ends. Fails when Redis is away."""
        links = list(self._links)
        for start in range(0, len(links), AT_ONCE):
            some = [link for link in links[start : start + AT_ONCE] if self._is_current(link)]
            self._lost(await self._sessions.refresh([self._row(link) for link in some]))

    def turn(self) -> None:
        self._find_ghosts()
        self._release_some()
        self._refresh_some()

    async def give_all_back(self) -> None:
        """Fails when Redis does not take them."""
        await self._settle()
        claims = [*self._released.values(), *(claim for claim, _ in self._unopened.values())]
        self._released.clear()
        for start in range(0, len(claims), AT_ONCE):
            await self._sessions.release(claims[start : start + AT_ONCE])

    def _find_ghosts(self) -> None:
        now = self._monotonic()
        for name in [name for name, (_, until) in self._unopened.items() if until < now]:
            claim, _ = self._unopened.pop(name)
            self._released.setdefault(name, claim)

    def _release_some(self) -> None:
        if self._is_releasing or not self._released:
            return
        batch = dict(list(self._released.items())[:AT_ONCE])
        for name in batch:
            del self._released[name]

        def failed(failure: Failure) -> None:
            self._released = batch | self._released
            self._failed(failure)

        def done(result: Any) -> None:
            self._is_releasing = False
            _log_fault(result)

        self._is_releasing = True
        settled = self._settle()  # whoever gets the station next finds its state
        settled.addCallback(lambda _: self._sessions.release(list(batch.values()))).addErrback(failed).addBoth(done)

    def _refresh_some(self) -> None:
        if self._is_refreshing:
            return
        batch = self._next()
        if not batch:
            return

        def failed(failure: Failure) -> None:
            self._urgent = dict.fromkeys(batch) | self._urgent
            self._failed(failure)

        def done(result: Any) -> None:
            self._is_refreshing = False
            _log_fault(result)

        self._is_refreshing = True
        refreshed: Deferred[Any] = self._sessions.refresh([self._row(link) for link in batch])
        refreshed.addCallbacks(self._lost, failed).addBoth(done)

    def _next(self) -> Sequence[Link]:
        if self._urgent:
            batch = list(self._urgent)[:AT_ONCE]
            for link in batch:
                del self._urgent[link]
        else:
            if not self._round:
                self._round = list(self._links)
            count = min(AT_ONCE, int(len(self._links) * self._share) + 1)
            batch, self._round = self._round[:count], self._round[count:]
        return [link for link in batch if self._is_current(link)]

    def _is_current(self, link: Link) -> bool:
        return self._links.get(link.station.charge_point_id) is link


def _log_fault(result: Any) -> None:
    if isinstance(result, Failure):
        log.failure("a fault of the gateway itself", failure=result)

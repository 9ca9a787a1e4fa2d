"""What is wrong with the bus: a sentence for /ready, and one line in the log for an outage and one for its end.

Each thread's side of the bus tells its trouble here. Another kind of trouble in the same outage (the broker is back,
and refuses the password) is a line of its own. Reactor thread only.
"""

from collections.abc import Callable

import msgspec
from twisted.logger import Logger

from ocppgw.logs import Cooldown
from ocppgw.ports import BusStatus

log = Logger(namespace="ocppgw.kafka")

FLAPPING_SECONDS = 30.0  # in which the same trouble is logged once


class Trouble(msgspec.Struct, frozen=True):
    """`kind` tells troubles apart, `reason` is the operator's sentence."""

    kind: str
    reason: str


CONNECTING = "connecting"


class Health:
    """`clock` gives seconds; `note` counts outages."""

    def __init__(self, where: str, clock: Callable[[], float], note: Callable[[str], None]) -> None:
        self._where, self._clock, self._note = where, clock, note
        self._sides: dict[str, Trouble] = {}
        self._since: float | None = None  # of the outage
        self._kinds: set[str] = set()  # what was wrong in it
        self._was_logged = False
        self._cooldown = Cooldown(FLAPPING_SECONDS)

    def expect(self, side: str) -> None:
        """This side is connecting, for the first time."""
        self._sides[side] = Trouble(CONNECTING, f"connecting to Kafka at {self._where}")

    def tell(self, side: str, trouble: Trouble | None) -> None:
        """None: all is well on this side."""
        before = self._sides.pop(side, None)
        if trouble is not None:
            self._sides[side] = trouble
            self._begin(trouble)
        elif not self._sides and before is not None:
            self._end()

    def status(self) -> BusStatus:
        # What is known to be wrong says more than that a side is still connecting.
        troubles = sorted(self._sides.values(), key=lambda trouble: trouble.kind == CONNECTING)
        return BusStatus(not troubles, troubles[0].reason if troubles else "")

    def _begin(self, trouble: Trouble) -> None:
        now = self._clock()
        if self._since is None:
            self._since = now
            self._note("kafka-outage")
        if trouble.kind in self._kinds:
            return
        self._kinds.add(trouble.kind)
        if self._cooldown.admit(trouble.kind, now) is not None:
            self._was_logged = True
            log.warn("Kafka can't be used: {reason}", reason=trouble.reason)

    def _end(self) -> None:
        if self._since is None:
            log.info("connected to Kafka at {where}", where=self._where)
        elif self._was_logged:
            seconds = self._clock() - self._since
            log.info("Kafka can be used again, after {seconds:.1f} seconds", seconds=seconds)
        self._since, self._was_logged = None, False
        self._kinds.clear()

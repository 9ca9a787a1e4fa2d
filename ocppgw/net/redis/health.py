"""What is wrong with Redis: a sentence for /ready, and one line in the log for an outage and one for its end."""

from collections import deque
from collections.abc import Callable

import msgspec
from twisted.logger import Logger

from ocppgw.logs import Cooldown

log = Logger(namespace="ocppgw.redis")

FLAPPING_SECONDS = 30.0  # in which the same trouble is logged once
MINUTE = 60.0
MANY_OUTAGES = 3  # in a minute
MAX_OUTAGES = 100  # that are remembered
SLOW_SECONDS = 0.5  # for the answer to a PING
REFUSED_SECONDS = 10.0  # after the last refusal Redis counts as well again: nobody says that it is

# Errors, by their first word, that say something of Redis itself and not of one call.
REFUSALS = {
    "OOM": "refuses writes: its memory is used up (maxmemory)",
    "MISCONF": "refuses writes: it can't save its data to its disk",
    "NOREPLICAS": "refuses writes: too few replicas follow it (min-replicas-to-write)",
    "BUSY": "refuses calls: a script keeps it busy",
    "LOADING": "refuses calls: it loads its data",
    "MASTERDOWN": "refuses calls: it is a replica that lost its master",
}


class Trouble(msgspec.Struct, frozen=True):
    """`kind` tells troubles apart, `reason` is the operator's sentence."""

    kind: str
    reason: str


class Health:
    """`clock` gives seconds; `note` counts outages."""

    def __init__(self, where: str, clock: Callable[[], float], note: Callable[[str], None]) -> None:
        self._where, self._clock, self._note = where, clock, note
        self._trouble: Trouble | None = Trouble("connecting", f"connecting to Redis at {where}")
        self._since: float | None = None  # of the outage
        self._kinds: set[str] = set()  # what was wrong in it
        self._was_logged = False
        self._cooldown = Cooldown(FLAPPING_SECONDS)
        self._outages: deque[float] = deque(maxlen=MAX_OUTAGES)  # when they began
        self._slow = 0.0  # seconds that the last PING took, when that was too long
        self._refusal = ""  # what it refuses, and why
        self._refused_at = 0.0  # the last time

    def status(self) -> tuple[bool, str]:
        """Whether Redis can be used; why not, or what is not well all the same."""
        sentences = [] if self._trouble is None else [self._trouble.reason]
        if is_refusing := self._is_refusing():
            sentences.append(f"Redis at {self._where} {self._refusal}")
        if self._trouble is None and self._slow:
            sentences.append(f"Redis at {self._where} is slow: it took {self._slow:.1f} seconds to answer")
        if (outages := self._lately()) >= MANY_OUTAGES:
            sentences.append(f"Redis comes and goes: it went away {outages} times within a minute")
        return self._trouble is None and not is_refusing, "; ".join(sentences)

    def refused(self, kind: str) -> None:
        """A call was answered with an error of that kind."""
        if kind not in REFUSALS:
            return
        is_new, now = not self._is_refusing(), self._clock()
        self._refusal, self._refused_at = REFUSALS[kind], now
        if is_new:
            self._note("redis-refuses")
        if self._cooldown.admit(kind, now) is not None:
            log.warn("Redis at {where} {refusal}", where=self._where, refusal=self._refusal)

    def _is_refusing(self) -> bool:
        return bool(self._refusal) and self._clock() - self._refused_at < REFUSED_SECONDS

    def took(self, seconds: float) -> None:
        """To answer a PING."""
        if self._refusal and not self._is_refusing():
            self._refusal = ""
            log.info("Redis at {where} refuses nothing any more", where=self._where)
        was_slow, self._slow = self._slow, seconds if seconds >= SLOW_SECONDS else 0.0
        if not self._slow or was_slow:
            return
        self._note("redis-slow")
        if self._cooldown.admit("slow", self._clock()) is not None:
            log.warn("Redis at {where} is slow: it took {seconds:.1f} seconds", where=self._where, seconds=seconds)

    def _lately(self) -> int:
        horizon = self._clock() - MINUTE
        return sum(at > horizon for at in self._outages)

    def tell(self, trouble: Trouble | None) -> None:
        """None: all is well."""
        before, self._trouble = self._trouble, trouble
        if trouble is not None:
            self._begin(trouble)
        elif before is not None:
            self._end()

    def _begin(self, trouble: Trouble) -> None:
        """Another kind of trouble in the same outage (it is back, and refuses the password) is a line of its own."""
        now = self._clock()
        if self._since is None:
            self._since = now
            self._slow, self._refusal = 0.0, ""
            self._outages.append(now)
            self._note("redis-outage")
        if trouble.kind in self._kinds:
            return
        self._kinds.add(trouble.kind)
        if self._cooldown.admit(trouble.kind, now) is not None:
            self._was_logged = True
            log.warn("Redis can't be used: {reason}", reason=trouble.reason)

    def _end(self) -> None:
        if self._since is None:
            log.info("connected to Redis at {where}", where=self._where)
        elif self._was_logged:
            seconds = self._clock() - self._since
            log.info("Redis can be used again, after {seconds:.1f} seconds", seconds=seconds)
        self._since, self._was_logged = None, False
        self._kinds.clear()

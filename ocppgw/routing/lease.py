"""A process that was paused must not go on as if nothing had happened: another node may serve its stations by now.

A turn of the reactor every TURN_SECONDS proves that the process runs. When it finds, or a message finds first, that the
last proof is older than GAP_SECONDS, everything that would act for a station is held until Redis has told, in answer to
a question asked after the pause, which stations were lost meanwhile. Those were closed by then; the rest goes on.

The node that takes a station over waits for longer than a pause may last unnoticed (`ownership.SERVE_AFTER_SECONDS`).
While Redis can't be reached the question fails, and what is held goes on, too: an outage of Redis stops nobody.
"""

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

log = Logger(namespace="ocppgw.ownership")

GAP_SECONDS = 1.0
MAX_HELD = 20_000  # messages; a station that sends one more is closed with 1013


class Lease:
    """`monotonic` gives seconds that a stepped clock does not move; `ask` has Redis asked, and `confirmed` called."""

    __slots__ = ("_ask", "_held", "_is_asking", "_monotonic", "_until")

    def __init__(self, monotonic: Callable[[], float], ask: Callable[[], None]) -> None:
        self._monotonic = monotonic
        self._ask = ask
        self._until = monotonic() + GAP_SECONDS
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._is_asking = False

    def is_over(self) -> bool:
        """Asked for every message."""
        return self._monotonic() > self._until

    def turn(self) -> None:
        """The process runs."""
        if self.is_over():
            self._question()
        else:
            self._until = self._monotonic() + GAP_SECONDS

    def hold(self, action: Callable[..., None], *arguments: Any) -> bool:
        """Do it once that is confirmed, in order. False: too much is held, and it will not be done."""
        if len(self._held) >= MAX_HELD:
            return False
        self._held.append((action, arguments))
        self._question()
        return True

    def confirmed(self) -> None:
        """What was lost meanwhile is closed (or nobody can tell): go on."""
        self._is_asking = False
        self._until = self._monotonic() + GAP_SECONDS
        held, self._held = self._held, []
        for action, arguments in held:
            action(*arguments)

    def _question(self) -> None:
        if not self._is_asking:
            self._is_asking = True
            log.warn(
                "this process did not run for {gap:.1f} s; asking whether others serve its stations", gap=self._gap()
            )
            self._ask()

    def _gap(self) -> float:
        return self._monotonic() - self._until + GAP_SECONDS

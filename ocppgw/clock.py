"""The reactor's clock, as far as it is used: in tests it is one that only moves when it is told to."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

T = TypeVar("T")


class Clock(Protocol):
    """Two methods of Twisted's IReactorTime, which gives them these names."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall: ...  # noqa: A002, N802


# Twisted asks for all of IReactorTime below, and uses no more of it than `callLater`.


def rest(clock: Clock, seconds: float) -> "Deferred[None]":
    """Fires after `seconds`."""
    return deferLater(clock, seconds)  # type: ignore[arg-type]


def within(clock: Clock, seconds: float, done: "Deferred[T]") -> "Deferred[T]":
    """`done`, which is cancelled and fails with Twisted's TimeoutError when it takes longer."""
    return done.addTimeout(seconds, clock)  # type: ignore[arg-type]

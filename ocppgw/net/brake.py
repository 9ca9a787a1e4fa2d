"""Backpressure: Twisted pauses a producer when the send buffer is full, and the producer here is the peer itself."""

from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


class Braked(Protocol):
    """A connection whose reading can be stopped and taken up again."""

    def brake(self, *, on: bool) -> None: ...


@implementer(IPushProducer)
class Brake:
    """A peer that does not read its answers is not read from either, so that they can't pile up here."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Braked) -> None:
        self._protocol = protocol

    def pauseProducing(self) -> None:  # noqa: N802
        self._protocol.brake(on=True)

    def resumeProducing(self) -> None:  # noqa: N802
        self._protocol.brake(on=False)

    def stopProducing(self) -> None:  # noqa: N802
        """Nothing to stop: the messages come from the peer."""

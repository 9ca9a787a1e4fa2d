"""What is done again and again while the daemon runs."""

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger(namespace="ocppgw")


class Ticker(Service):
    """A periodic task that survives its own failures."""

    def __init__(self, seconds: float, action: Callable[[], Any], reactor: Any) -> None:
        self._seconds = seconds
        self._action = action
        self._loop = LoopingCall(self._run)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._seconds, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _run(self) -> None:
        try:
            self._action()
        except Exception:
            log.failure("a periodic task failed")

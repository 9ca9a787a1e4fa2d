"""Who is told that access rights changed: those who hold stations' connections, by every store (ports.AccessStore)."""

from collections.abc import Callable

from twisted.logger import Logger

from ocppgw.ports import AccessListener

log = Logger(namespace="ocppgw.access")


class AccessListeners:
    """(ports.AccessListener) Tells all; one that fails keeps nobody else from being told."""

    def __init__(self) -> None:
        self._listeners: list[AccessListener] = []

    def add(self, listener: AccessListener) -> None:
        self._listeners.append(listener)

    def identity_changed(self, charge_point_id: str) -> None:
        self._tell(lambda listener: listener.identity_changed(charge_point_id))

    def certificate_revoked(self, fingerprint: str) -> None:
        self._tell(lambda listener: listener.certificate_revoked(fingerprint))

    def _tell(self, tell: Callable[[AccessListener], None]) -> None:
        for listener in self._listeners:
            try:
                tell(listener)
            except Exception:
                log.failure("a listener to access rights failed")

"""kafka-python's connections, which also tell why they fail.

A refused password, a certificate that is not trusted: the library logs such things and tries again for ever, and who
waits for a connection learns no more than that there was none in time.
"""

from typing import Any

from kafka.errors import SaslAuthenticationFailedError, UnsupportedSaslMechanismError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager

REFUSALS = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)


class Connections(KafkaConnectionManager):  # type: ignore[misc]  # untyped
    refusal: Exception | None = None  # of the login; None once somebody was let in
    failure: Exception | None = None  # the last one of any kind

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        is_new = node_id not in self._conns
        connection = super().get_connection(node_id, *arguments, **options)
        if is_new:
            connection.init_future.add_both(self._tried)
        return connection

    async def _build_transport(self, *arguments: Any, **options: Any) -> Any:
        transport = await super()._build_transport(*arguments, **options)
        receive = transport._sock_recv

        def receive_all() -> tuple[bytes, Exception | None]:
            """What comes right before the end of a connection is dropped by the library: why a login was refused."""
            data, end = receive()
            return data, None if data else end  # the end is met again by the next read

        transport._sock_recv = receive_all
        return transport

    def update_backoff(self, node_id: Any) -> Any:
        """Called by the library between two attempts: a client that is refused at its start does not get to them."""
        if self.refusal is not None and self.cluster.is_bootstrap(node_id):
            raise self.refusal
        return super().update_backoff(node_id)

    def _tried(self, outcome: object) -> None:
        if not isinstance(outcome, Exception):
            self.refusal = self.failure = None
            return
        self.failure = outcome
        if isinstance(outcome, REFUSALS):
            self.refusal = outcome


class Network(KafkaNetClient):  # type: ignore[misc]  # untyped
    """The library's network client, which is not woken while records are only queued: a wake-up for each partition's
    first record costs as much as some ten records."""

    is_queueing = False

    def wakeup(self) -> None:
        if not self.is_queueing:
            super().wakeup()

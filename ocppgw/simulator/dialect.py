"""What an OCPP version has to provide so that a station can speak it. A dialect is data and pure functions."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.simulator.outbox import Outgoing

if TYPE_CHECKING:
    from ocppgw.simulator.charging import Cause, Connector, Session
    from ocppgw.simulator.configuration import Setting, SettingKey
    from ocppgw.simulator.station import Station

VENDOR = "ocppgw"

Payload = dict[str, Any]
Handler = Callable[["Station", Payload, float], Payload]


def timestamp(now: float) -> str:
    return rfc3339(now).decode()


class Refused(Exception):
    """Raised by a handler to answer a command with a CALLERROR."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code


class Dialect(Protocol):
    """Messages of one version; `now` is in seconds since the epoch. Outgoing items are complete but not yet queued."""

    version: str
    subprotocol: str
    is_2x: bool  # the station makes transaction ids and tells of expired reservations; there is no connector 0
    malformed: str  # error code for a payload that can't be read
    bad_frame: str  # error code for a CALL that is no proper frame
    heartbeat_key: "SettingKey"
    sample_key: "SettingKey"
    settings: Mapping["SettingKey", "Setting"]
    commands: Mapping[str, Handler]

    def boot(self, station: "Station") -> Payload: ...

    def wire_status(self, status: str) -> str:
        """The version's word for a connector status, given in 1.6 words."""

    def status(self, connector: "Connector", now: float) -> Payload: ...

    def authorize(self, id_token: str) -> Payload: ...

    def authorization(self, answer: Payload) -> str:
        """The status of the token in an answer to Authorize or to a transaction message; Accepted when it has none."""

    def started(self, connector: "Connector", session: "Session", now: float) -> Outgoing: ...

    def sampled(self, connector: "Connector", session: "Session", now: float, *, triggered: bool) -> Outgoing: ...

    def suspended(self, connector: "Connector", session: "Session", now: float) -> Outgoing | None: ...

    def resumed(self, connector: "Connector", session: "Session", now: float) -> Outgoing | None: ...

    def ended(self, connector: "Connector", session: "Session", cause: "Cause", now: float) -> Outgoing: ...

    def firmware(self, status: str, request_id: int | None, *, signed: bool) -> Outgoing: ...

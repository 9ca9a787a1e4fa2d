"""A backend's CommandRequest (the outside contract, section 3), read and checked before anything is stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from ocppgw.errors import CommandError
from ocppgw.ocpp.secrets import redacted

MAX_ID_LENGTH = 128
MAX_TIMEOUT_SECONDS = 86_400.0
MAX_WAIT_SECONDS = 7 * 86_400.0  # of a command that waits for its station
MAX_HOPS = 3  # from node to node, after a station that changes its node each time


class Routing(msgspec.Struct, frozen=True, rename="camel"):
    """What a node adds when it hands a command to the node that serves the station."""

    via_node_id: str = ""
    hops: int = 1


class CommandRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What a backend sends. Times: `requestedAt` RFC 3339, `timeoutSec` seconds.

    `when_offline`: "fail" at once, or "queue" until the deadline; `coalesce_key`: a newer command of the station with
    the same key replaces one that still waits. `routing`: another node has stored the command and hands it on.
    """

    command_type: str
    command_id: str = ""
    charge_point_id: str | None = None
    station_id: str | None = None
    connector_id: int | None = None
    ocpp_version: str | None = None
    requested_by: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None
    requested_at: str | None = None
    timeout_sec: float | None = None
    when_offline: Literal["fail", "queue"] = "fail"
    coalesce_key: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)] | None = None
    routing: Routing | None = None

    @property
    def waits(self) -> bool:
        return self.when_offline == "queue"

    def requested(self, now: float) -> float:
        """When it was asked for, in seconds; `now` where it does not say. CommandError when the time is none."""
        if self.requested_at is None:
            return now
        text = self.requested_at
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise CommandError(f"requestedAt {text[:40]!r} is no RFC 3339 time", hint="2026-11-23T12:00:00Z") from None
        if moment.tzinfo is None:
            raise CommandError("requestedAt has no time zone", hint="end it with Z")
        return moment.timestamp()


def read_request(request: Mapping[str, Any]) -> CommandRequest:
    """CommandError says what is wrong with it."""
    try:
        wanted = msgspec.convert(request, CommandRequest)
    except msgspec.ValidationError as error:
        raise CommandError(f"the command request is not valid: {error}", hint="see the CommandRequest schema") from None
    if not wanted.charge_point_id and not wanted.station_id:
        raise CommandError("neither chargePointId nor stationId is given", hint="name the station")
    if len(wanted.command_id) > MAX_ID_LENGTH:
        raise CommandError(f"commandId is longer than {MAX_ID_LENGTH} characters", hint="a UUID will do")
    longest = MAX_WAIT_SECONDS if wanted.waits else MAX_TIMEOUT_SECONDS
    if wanted.timeout_sec is not None and not 0 < wanted.timeout_sec <= longest:
        raise CommandError("timeoutSec is out of range", hint=f"above 0, at most {longest:.0f} seconds")
    if wanted.waits and redacted(wanted.payload) != wanted.payload:
        raise CommandError(
            "a command with a secret can't wait for its station: it would be stored",
            hint="send it while it is connected",
        )
    return wanted

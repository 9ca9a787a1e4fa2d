"""What a Link needs of those around it, as typing.Protocol: they know links, and links would know them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from ocppgw.ocpp.effects import CommandResult, Decide, Dispatched, SignRequest
from ocppgw.ocpp.rules import StationFacts
from ocppgw.ocpp.versions import OcppVersion
from ocppgw.routing.lease import Lease

if TYPE_CHECKING:
    from ocppgw.routing.links import Link


class Socket(Protocol):
    """What a link needs of its WebSocket."""

    address: str

    def send_text(self, text: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def probe(self, seconds: float) -> "Deferred[bool]": ...


class CommandListener(Protocol):
    """Who is told what becomes of commands on a link."""

    def dispatched(self, link: "Link", effect: Dispatched) -> None: ...
    def finished(self, command_id: str, result: CommandResult) -> None: ...
    def late(self, command_id: str, result: CommandResult) -> None: ...
    def requeued(self, command_id: str) -> None: ...
    def link_opened(self, link: "Link") -> None: ...
    def accepted(self, link: "Link") -> None: ...


class RequestSigner(Protocol):
    """Who has a station's certificate request signed, when the answer that promised it is out."""

    def request(self, link: "Link", wanted: SignRequest) -> None: ...


class Deciding(Protocol):
    """A link, for whoever asks the backend for an answer."""

    station: StationFacts
    version: OcppVersion

    def decided(self, token: int, answer: Mapping[str, Any] | None, *, is_refused: bool = False) -> None: ...


class Decider(Protocol):
    """Who asks the backend."""

    def ask(self, link: Deciding, decide: Decide) -> None: ...


class Owner(Protocol):
    """Who keeps the claims of links (`ocppgw.routing.ownership.FleetOwnership`)."""

    @property
    def lease(self) -> Lease: ...

    def opened(self, link: "Link") -> bool: ...
    def closed(self, link: "Link") -> None: ...


class Mirror(Protocol):
    """Who writes stations' states to where all nodes find them."""

    def touch(self, link: "Link") -> None: ...

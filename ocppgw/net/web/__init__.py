"""Operations HTTP: health, readiness, metrics, stations, commands and events, as JSON.

    guard.py       who may ask, and what a request may look like, before any route sees it
    routes.py      the table of routes and most of their handlers;  query.py, body.py  what is asked, checked
    identities.py  provisioning;  attempts.py  why a station can't get in;  calls.py  answers that the backend gives
    events.py      pages of the journal, and the endless stream of it
    request.py     one request and its bounded body
    replies.py     JSON answers and the one shape of an error: {"code", "message", "hint"}

`build_site` is the way in. The port is meant for operators and programs beside the gateway: it has no users, one
optional bearer token, and no CORS.
"""

from collections.abc import Collection

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Site

from ocppgw.metrics import Metrics
from ocppgw.net.web.events import Followers
from ocppgw.net.web.guard import Guard
from ocppgw.net.web.request import OperationsRequest
from ocppgw.net.web.routes import Routes
from ocppgw.ports import GatewayApi
from ocppgw.routing.decisions import CallsApi
from ocppgw.routing.provisioning import ProvisioningApi

__all__ = ["OperationsSite", "build_site"]

IDLE_SECONDS = 60.0  # for a whole request to arrive, and between two requests of a connection


class OperationsSite(Site):
    """The HTTP server; ends the event streams when its port is closed."""

    noisy = False

    def __init__(self, guard: Guard, followers: Followers, clock: IReactorTime) -> None:
        super().__init__(guard, OperationsRequest, timeout=IDLE_SECONDS, reactor=clock, parsePOSTFormSubmission=False)
        self._followers = followers

    def log(self, request: object) -> None:
        """No access log: a scrape every few seconds would drown everything else."""

    def stopFactory(self) -> None:  # noqa: N802
        self._followers.end()
        super().stopFactory()


def build_site(
    api: GatewayApi,
    metrics: Metrics,
    token: str | None,
    clock: IReactorTime,
    hosts: Collection[str] = (),
    *,
    provisioning: ProvisioningApi,
    calls: CallsApi,
) -> OperationsSite:
    """The operations HTTP over `api`, `provisioning` and `calls`.

    With `token` every route demands `Authorization: Bearer`. Without one, everything under /v1/ is served under an IP
    address, `localhost` or one of `hosts` only: a web page whose name was rebound to this address (DNS rebinding)
    sends its own name as Host.
    """
    followers = Followers(api, clock)
    routes = Routes(api, metrics, clock, followers, provisioning, calls)
    return OperationsSite(Guard(routes.resource(), token, hosts), followers, clock)

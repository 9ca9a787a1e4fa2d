"""What the operations HTTP serves. Handlers return bytes (through `reply`) or raise; `_failed` turns raises to JSON."""

from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from ocppgw.access.identity import IdentityError
from ocppgw.errors import CommandError, OcppgwError, Overloaded, StoreError
from ocppgw.metrics import CONTENT_TYPE, Metrics
from ocppgw.net.web.attempts import AttemptRoutes
from ocppgw.net.web.body import json_object
from ocppgw.net.web.calls import CallRoutes
from ocppgw.net.web.events import Filter, Followers, read_page
from ocppgw.net.web.identities import IdentityRoutes
from ocppgw.net.web.query import boolean, integer, parameters, seconds
from ocppgw.net.web.replies import HttpError, reply, reply_bytes, reply_error
from ocppgw.net.web.request import OperationsRequest
from ocppgw.ports import CommandRecord, GatewayApi
from ocppgw.routing.decisions import CallsApi
from ocppgw.routing.provisioning import ProvisioningApi, ProvisioningError, UnknownIdentity

ENDED = frozenset({"Accepted", "Rejected", "Failed", "Timeout"})
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_SEARCHED = ("chargePointId", "stationId", "tenantId", "vendor", "model", "address")


class Routes:
    """The handlers over one gateway."""

    _log = Logger()

    def __init__(
        self,
        api: GatewayApi,
        metrics: Metrics,
        clock: IReactorTime,
        followers: Followers,
        provisioning: ProvisioningApi,
        calls: CallsApi,
    ) -> None:
        self._api, self._metrics, self._clock, self._followers = api, metrics, clock, followers
        self._identities = IdentityRoutes(provisioning, api)
        self._attempts = AttemptRoutes(api)
        self._calls = CallRoutes(calls)

    def resource(self) -> Resource:
        """The table of routes as a resource."""
        app = Klein()
        app.url_map.strict_slashes = False  # `/health/` is `/health`, not a redirect
        app.url_map.merge_slashes = False
        for path, method, handler in (
            ("/health", "GET", self.health),
            ("/ready", "GET", self.ready),
            ("/metrics", "GET", self.metrics),
            ("/v1/stations", "GET", self.stations),
            ("/v1/stations/<path:charge_point_id>", "GET", self.station),
            ("/v1/commands", "POST", self.submit),
            ("/v1/commands/<path:command_id>", "GET", self.command),
            ("/v1/events", "GET", self.events),
            *self._identities.table(),
            *self._attempts.table(),
            *self._calls.table(),
        ):
            app.route(path, methods=[method])(handler)
        app.handle_errors(Exception)(self._failed)
        return app.resource()  # type: ignore[no-any-return]  # klein is untyped for us

    def health(self, request: OperationsRequest) -> bytes:
        """200 as long as anybody is there to answer."""
        return reply(request, 200, self._api.health())

    def ready(self, request: OperationsRequest) -> bytes:
        """200 when stations are served, else 503 with the reason."""
        ready, details = self._api.ready()
        return reply(request, 200 if ready else 503, {"ready": ready, **details})

    def metrics(self, request: OperationsRequest) -> bytes:
        """The counters in the Prometheus text format."""
        return reply_bytes(request, 200, CONTENT_TYPE, self._metrics.exposition())

    async def stations(self, request: OperationsRequest) -> bytes:
        """Known stations, by id: ?connected=true|false, ?version=, ?search=, ?limit=, ?offset=."""
        query = parameters(request, "connected", "version", "search", "limit", "offset")
        limit, offset = integer(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT), integer(query, "offset", 0, 0)
        wanted = _station_filter(query)
        rows = sorted(filter(wanted, await self._api.stations()), key=lambda row: str(row["chargePointId"]))
        page = rows[offset : offset + limit]
        return reply(request, 200, {"stations": page, "total": len(rows), "limit": limit, "offset": offset})

    async def station(self, request: OperationsRequest, charge_point_id: str) -> bytes:
        """One station in detail."""
        station = await self._api.station(charge_point_id)
        if station is None:
            raise HttpError(404, "UnknownStation", f"No station {charge_point_id!r} is known.", "GET /v1/stations")
        return reply(request, 200, station)

    async def submit(self, request: OperationsRequest) -> bytes:
        """A CommandRequest: 202 with its record; 200 when its id is known, or when it ended within ?wait= seconds."""
        wait = seconds(parameters(request, "wait"), "wait")
        body = json_object(request, "See schemas/command-request.schema.json.")
        # Looked up beforehand, because a stored record looks the same whether it is new or not. When the same id is
        # sent twice at once, both may get a 202; the command is sent once all the same.
        command_id = body.get("commandId")
        repeated = isinstance(command_id, str) and await self._api.command(command_id) is not None
        record = await self._api.submit(body)
        if wait and record.status not in ENDED:
            record = await self._wait(record, wait)
        return reply(request, 200 if repeated or record.status in ENDED else 202, record)

    async def _wait(self, record: CommandRecord, seconds: float) -> CommandRecord:
        ended: Deferred[CommandRecord | None] = self._api.command_ended(record.command_id)
        try:
            return await ended.addTimeout(seconds, self._clock) or record
        except defer.TimeoutError:
            return await self._api.command(record.command_id) or record

    async def command(self, request: OperationsRequest, command_id: str) -> bytes:
        """One command's record."""
        record = await self._api.command(command_id)
        if record is None:
            hint = "Records are kept for a limited time after the command ended."
            raise HttpError(404, "UnknownCommand", f"No command {command_id!r} is known.", hint)
        return reply(request, 200, record)

    async def events(self, request: OperationsRequest) -> bytes | None:
        """A page of events, or with ?follow=1 the endless stream: ?since=, ?limit=, ?topic=, ?chargePointId=."""
        query = parameters(request, "since", "limit", "topic", "chargePointId", "follow")
        wanted = Filter(query.get("topic"), query.get("chargePointId"))
        since = integer(query, "since", 0)
        limit = integer(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        if boolean(query, "follow") and request.method == b"GET":
            await self._followers.follow(request, since if "since" in query else None, wanted)
            return None
        return reply(request, 200, await read_page(self._api, since, limit, wanted))

    def _failed(self, request: OperationsRequest, failure: Failure) -> bytes:
        error = _known(failure.value)
        if error is None:
            self._log.failure("{method} {path} failed", failure=failure, method=request.method, path=request.path)
            error = HttpError(500, "InternalError", "The gateway failed to answer; its log says why.")
        return reply_error(request, error)


def _known(error: BaseException | None) -> HttpError | None:
    """The answer to a failure we have a name for."""
    match error:
        case HttpError():
            return error
        case MethodNotAllowed():
            allowed = ", ".join(sorted(error.valid_methods or ()))
            return HttpError(405, "MethodNotAllowed", f"Only {allowed} is served here.", headers=(("Allow", allowed),))
        case HTTPException():
            return HttpError(
                error.code or 404, "NotFound", "There is nothing at this path.", "See the README for the paths."
            )
        case UnknownIdentity():
            return HttpError(404, error.code, str(error.args[0]), "GET /v1/identities")
        case CommandError() | IdentityError() | ProvisioningError():
            return HttpError(400, error.code, str(error.args[0]), error.hint)
        case Overloaded() | StoreError():
            return HttpError(503, error.code, str(error.args[0]), error.hint, headers=(("Retry-After", "5"),))
        case OcppgwError():
            return HttpError(500, error.code, str(error.args[0]), error.hint)
    return None


def _station_filter(query: Mapping[str, str]) -> Callable[[Mapping[str, Any]], bool]:
    connected = boolean(query, "connected")
    version = query.get("version", "").lower().removeprefix("ocpp").removesuffix("j")
    search = query.get("search", "").casefold()

    def wanted(row: Mapping[str, Any]) -> bool:
        if connected is not None and row.get("connected") is not connected:
            return False
        if version and str(row.get("ocppVersion") or "").lower().removesuffix("j") != version:
            return False
        return not search or any(search in str(row.get(name) or "").casefold() for name in _SEARCHED)

    return wanted

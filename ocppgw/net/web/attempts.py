"""Connection attempts over HTTP: why a station can't get in, also when it never got past TLS."""

from ocppgw.access.addresses import parse_address
from ocppgw.access.certificates import normal_fingerprint
from ocppgw.net.web.query import boolean, integer, parameters
from ocppgw.net.web.replies import HttpError, Route, reply
from ocppgw.net.web.request import OperationsRequest
from ocppgw.ports import AttemptQuery, GatewayApi

DEFAULT_LIMIT = 20
MAX_LIMIT = 200  # each is decoded, its ClientHello too, while stations wait


class AttemptRoutes:
    def __init__(self, api: GatewayApi) -> None:
        self._api = api

    def table(self) -> tuple[Route, ...]:
        return (("/v1/attempts", "GET", self.attempts),)

    async def attempts(self, request: OperationsRequest) -> bytes:
        """The last ones, newest first: those that fit ?chargePointId=, ?address= or ?fingerprint= (none: all),
        ?refused=true, ?limit=."""
        query = parameters(request, "chargePointId", "address", "fingerprint", "refused", "limit")
        wanted = AttemptQuery(
            charge_point_id=query.get("chargePointId", ""),
            addresses=_address(query.get("address", "")),
            fingerprints=_fingerprint(query.get("fingerprint", "")),
            refused_only=boolean(query, "refused") is True,
            limit=integer(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        )
        return reply(request, 200, {"attempts": await self._api.attempts(wanted)})


def _address(text: str) -> tuple[str, ...]:
    if text and parse_address(text) is None:
        raise HttpError(400, "BadQuery", f"address={text!r} is no IP address.")
    return (text,) if text else ()


def _fingerprint(text: str) -> tuple[str, ...]:
    try:
        return (normal_fingerprint(text),) if text else ()
    except ValueError as error:
        raise HttpError(400, "BadQuery", f"fingerprint={text!r} {error}.") from None

"""Calls of stations that the backend is to answer, over HTTP: for a node without Kafka, and for trying things out."""

from ocppgw.net.web.body import json_object, only
from ocppgw.net.web.query import parameters, seconds
from ocppgw.net.web.replies import HttpError, Route, reply
from ocppgw.net.web.request import OperationsRequest
from ocppgw.routing.decisions import CallsApi, UnknownCall

MEMBERS = ("payload", "error")


class CallRoutes:
    def __init__(self, calls: CallsApi) -> None:
        self._calls = calls

    def table(self) -> tuple[Route, ...]:
        return (
            ("/v1/calls", "GET", self.waiting),
            ("/v1/calls/<path:correlation_id>", "POST", self.answer),
        )

    async def waiting(self, request: OperationsRequest) -> bytes:
        """Those that wait for an answer, oldest first; with ?wait= not before there is one, or so many seconds."""
        wait = seconds(parameters(request, "wait"), "wait")
        if wait and not self._calls.open_calls():
            await self._calls.until_asked(wait)
        return reply(request, 200, {"calls": self._calls.open_calls()})

    def answer(self, request: OperationsRequest, correlation_id: str) -> bytes:
        """{"payload": what the station is answered} or {"error": {"code", "description"}}."""
        body = json_object(request, "See schemas/call-response.schema.json.")
        only(body, MEMBERS)
        try:
            self._calls.reply({**body, "correlationId": correlation_id})
        except UnknownCall as error:
            raise HttpError(404, error.code, str(error.args[0]), error.hint) from None
        return reply(request, 200, {"correlationId": correlation_id})

"""How a command ended, as its record and its events tell it; and the ends that the gateway itself decides."""

from typing import Any

import msgspec

from ocppgw.ocpp.effects import CommandResult
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.secrets import hidden_texts, redacted, scrubbed

NOT_CONNECTED = CommandResult(
    Outcome.FAILED, error_code="NotConnected", error_description="the station is not connected to this gateway"
)
OTHER_VERSION = CommandResult(
    Outcome.FAILED,
    error_code="OtherVersion",
    error_description="the station reconnected with another OCPP version before the command was sent",
)
SUPERSEDED = CommandResult(
    Outcome.FAILED,
    error_code="Superseded",
    error_description="a newer command with the same coalesceKey took its place before the station connected",
)
ELSEWHERE = CommandResult(
    Outcome.FAILED,
    error_code="NotConnected",
    error_description="the station changed its node each time it was asked for",
)
RESTARTED = CommandResult(
    Outcome.UNKNOWN,
    error_code="GatewayRestarted",
    error_description="the gateway stopped before the command ended; the charger may have run it",
)


def shown(result: CommandResult, request: Any = None) -> CommandResult:
    """Without secrets: some chargers tell their password when they are asked for their configuration, or quote what
    they were sent. `request`: the payload that was sent, where it is known."""
    response, error = redacted(result.response), (result.error_description, result.error_details)
    texts = hidden_texts(request)
    if texts:
        try:
            response, error = scrubbed(response, texts), (scrubbed(error[0], texts), scrubbed(error[1], texts))
        except RecursionError:
            response, error = None, (None, None)
    return msgspec.structs.replace(result, response=response, error_description=error[0], error_details=error[1])


def error_of(result: CommandResult) -> dict[str, Any] | None:
    if result.error_code is None:
        return None
    error = {"code": result.error_code, "description": result.error_description or ""}
    return error if result.error_details is None else {**error, "details": result.error_details}


def payload_of(result: CommandResult) -> dict[str, Any]:
    payload: dict[str, Any] = {"outcome": result.outcome.value}
    if result.status is not None:
        payload["status"] = result.status
    if result.response is not None:
        payload["response"] = result.response
    error = error_of(result)
    if error is not None:
        payload["error"] = error
    return payload

"""What a payload says about connectors: 1.6 numbers them by station, 2.x by EVSE."""

from collections.abc import Mapping
from typing import Any

from ocppgw.ocpp.state import StationState

MAX_CONNECTORS = 64  # remembered per station


def connector_id(payload: Mapping[str, Any]) -> int | None:
    """The connector that a message is about (2.x: its number within its EVSE); None when it names none."""
    connector = payload.get("connectorId")
    if connector is None:
        evse = payload.get("evse")
        if type(evse) is dict:
            connector = evse.get("connectorId")
    return connector if type(connector) is int else None


def remember_status(state: StationState, payload: Mapping[str, Any]) -> None:
    """Keep what a valid StatusNotification says, under `connector` (1.6) or `evse.connector` (2.x)."""
    evse = payload.get("evseId")
    name = str(payload["connectorId"]) if evse is None else f"{evse}.{payload['connectorId']}"
    connectors = state.connectors
    if name in connectors or len(connectors) < MAX_CONNECTORS:
        connectors[name] = payload.get("status") or payload["connectorStatus"]

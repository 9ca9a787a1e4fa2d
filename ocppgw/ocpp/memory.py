"""What a station told of itself and what it was asked, as far as later messages are understood by it.

Part of `ocppgw.ocpp.state.StationState`, made when there is something to remember: most stations have none. Every
member has a bound; over it the oldest entry goes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from ocppgw.ocpp.state import StationState

COMMANDS_KEPT = 16
STREAMS_KEPT = 64

# The items of one CALL are limited by ItemsPerMessage[action] of these components (2.x part 2, referenced variables).
LIMITING = frozenset({"DeviceDataCtrlr", "MonitoringCtrlr"})


class StationMemory(msgspec.Struct):
    """- `commands`: "message|requestId" to the id of the command that the message is about; "message|" where it
      carries no requestId
    - `limits`: action to the most items that one CALL of it may have
    - `streams`: ids of open periodic event streams (2.1)
    """

    commands: dict[str, str] = {}
    limits: dict[str, int] = {}
    streams: list[int] = []

    def remember_command(self, name: str, command_id: str) -> None:
        self.commands.pop(name, None)
        self.commands[name] = command_id
        if len(self.commands) > COMMANDS_KEPT:
            del self.commands[next(iter(self.commands))]


def stream_opened(state: "StationState", payload: Mapping[str, Any]) -> None:
    """A valid OpenPeriodicEventStream."""
    streams, stream = state.remembering().streams, payload["constantStreamData"]["id"]
    if stream not in streams:
        streams.append(stream)
        del streams[:-STREAMS_KEPT]


def stream_closed(state: "StationState", payload: Mapping[str, Any]) -> None:
    """A valid ClosePeriodicEventStream."""
    if state.memory is not None and payload["id"] in state.memory.streams:
        state.memory.streams.remove(payload["id"])


def is_stream_open(state: "StationState", stream: int) -> bool:
    return state.memory is not None and stream in state.memory.streams


def limits_reported(state: "StationState", payload: Mapping[str, Any]) -> None:
    """A valid NotifyReport: it may tell how many items one CALL may have."""
    for row in payload.get("reportData", ()):
        for attribute in row["variableAttribute"]:
            if attribute.get("type", "Actual") == "Actual":
                _limit(state, row, attribute.get("value"))


def limits_read(state: "StationState", payload: Mapping[str, Any]) -> None:
    """The same for a valid answer to GetVariables."""
    for row in payload["getVariableResult"]:
        if row.get("attributeType", "Actual") == "Actual":
            _limit(state, row, row.get("attributeValue"))


def _limit(state: "StationState", row: Mapping[str, Any], value: object) -> None:
    variable = row["variable"]
    action = variable.get("instance")
    if variable["name"] != "ItemsPerMessage" or row["component"]["name"] not in LIMITING or not action:
        return
    if action in LIMITED and isinstance(value, str) and value.isdecimal() and 0 < int(value) < 2**31:
        state.remembering().limits[action] = int(value)


# Actions whose items may go out in several CALLs: members of the items and of their results.
LIMITED = {
    "GetVariables": ("getVariableData", "getVariableResult"),
    "SetVariables": ("setVariableData", "setVariableResult"),
    "SetVariableMonitoring": ("setMonitoringData", "setMonitoringResult"),
    "ClearVariableMonitoring": ("id", "clearMonitoringResult"),
}

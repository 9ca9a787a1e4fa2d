"""Charging stations made of the PyPI package `ocpp` over `websockets`, which nobody here wrote, against the daemon."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import ocpp.v16
import ocpp.v16.call
import ocpp.v16.call_result
import ocpp.v21
import ocpp.v21.call
import ocpp.v21.call_result
import ocpp.v201
import ocpp.v201.call
import ocpp.v201.call_result
import pytest
from ocpp.charge_point import ChargePoint
from ocpp.exceptions import NotSupportedError
from ocpp.routing import on
from websockets.asyncio.client import connect

from tests.integration.harness import NOW, SUBPROTOCOLS, TIME_LIMIT, Gateway

VERSIONS = ("1.6", "2.0.1", "2.1")
MODULES: dict[str, ModuleType] = {"1.6": ocpp.v16, "2.0.1": ocpp.v201, "2.1": ocpp.v21}
SETTINGS = {
    "answers": {"id_tokens": {"BLOCKED": "Blocked"}, "data_transfer_vendors": ["com.example"]},
    "ocpp": {"heartbeat_interval_seconds": 77},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("clients"), SETTINGS) as gateway:
        yield gateway


@dataclass
class Client:
    """A connected ChargePoint of the library and what its handlers saw."""

    version: str
    point: ChargePoint
    commands: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def call(self, action: str, **members: Any) -> Any:
        """The library checks our answer against the official schema; a CALLERROR raises."""
        request = getattr(MODULES[self.version].call, action)(**members)
        return await self.point.call(request, suppress=False)


def with_client(
    gateway: Gateway, version: str, charge_point_id: str, story: Callable[[Client], Awaitable[None]]
) -> None:
    """Connect a station, let it tell its story, disconnect it."""

    async def run() -> None:
        url = f"{gateway.websocket_url}/{version}/{charge_point_id}"
        async with connect(url, subprotocols=[SUBPROTOCOLS[version]], proxy=None) as socket:  # type: ignore[list-item]
            client = _client(version, charge_point_id, socket)
            listening = asyncio.create_task(client.point.start())
            try:
                await asyncio.wait_for(story(client), 2 * TIME_LIMIT)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(run())


def _client(version: str, charge_point_id: str, socket: Any) -> Client:
    module = MODULES[version]
    commands: list[tuple[str, dict[str, Any]]] = []

    class Point(module.ChargePoint):  # type: ignore[misc,name-defined]
        @on("Reset")  # type: ignore[untyped-decorator]
        def on_reset(self, **payload: Any) -> Any:
            commands.append(("Reset", payload))
            return module.call_result.Reset(status="Accepted")

        @on("UnlockConnector")  # type: ignore[untyped-decorator]
        def on_unlock(self, **payload: Any) -> Any:
            commands.append(("UnlockConnector", payload))
            return module.call_result.UnlockConnector(status="UnlockFailed")

        @on("RemoteStartTransaction" if version == "1.6" else "RequestStartTransaction")  # type: ignore[untyped-decorator]
        def on_start(self, **payload: Any) -> Any:
            commands.append(("start", payload))
            name = "RemoteStartTransaction" if version == "1.6" else "RequestStartTransaction"
            return getattr(module.call_result, name)(status="Accepted")

        @on("ClearCache")  # type: ignore[untyped-decorator]
        def on_clear_cache(self, **payload: Any) -> Any:
            raise NotSupportedError(description="no cache here")

    return Client(version, Point(charge_point_id, socket), commands)


async def boot(client: Client) -> None:
    if client.version == "1.6":
        answer = await client.call("BootNotification", charge_point_model="M", charge_point_vendor="V")
    else:
        maker = {"model": "M", "vendor_name": "V"}
        answer = await client.call("BootNotification", charging_station=maker, reason="PowerUp")
    assert (answer.status, answer.interval) == ("Accepted", 77)
    assert answer.current_time.endswith("Z")


async def status(client: Client) -> None:
    if client.version == "1.6":
        await client.call("StatusNotification", connector_id=1, error_code="NoError", status="Available")
    else:
        members = {"timestamp": NOW, "connector_status": "Available", "evse_id": 1, "connector_id": 1}
        await client.call("StatusNotification", **members)


async def authorize(client: Client, token: str) -> str:
    if client.version == "1.6":
        answer = await client.call("Authorize", id_tag=token)
        return str(answer.id_tag_info["status"])
    answer = await client.call("Authorize", id_token={"id_token": token, "type": "ISO14443"})
    return str(answer.id_token_info["status"])


async def charge_16(client: Client) -> int:
    started = await client.call("StartTransaction", connector_id=1, id_tag="TAG", meter_start=100, timestamp=NOW)
    assert started.id_tag_info == {"status": "Accepted"}
    number: int = started.transaction_id
    assert number > 0
    sample = {"timestamp": NOW, "sampled_value": [{"value": "150", "measurand": "Energy.Active.Import.Register"}]}
    await client.call("MeterValues", connector_id=1, transaction_id=number, meter_value=[sample])
    stopped = await client.call(
        "StopTransaction", meter_stop=200, timestamp=NOW, transaction_id=number, id_tag="TAG", reason="Local"
    )
    assert stopped.id_tag_info == {"status": "Accepted"}
    return number


async def charge_2x(client: Client, transaction_id: str) -> None:
    sample = {"timestamp": NOW, "sampled_value": [{"value": 150.5}]}
    for number, (kind, reason) in enumerate(
        (("Started", "CablePluggedIn"), ("Updated", "MeterValuePeriodic"), ("Ended", "EVDeparted"))
    ):
        more: dict[str, Any] = {"meter_value": [sample]} if kind == "Updated" else {}
        if kind == "Started":
            more = {"id_token": {"id_token": "TAG", "type": "ISO14443"}, "evse": {"id": 1, "connector_id": 1}}
        answer = await client.call(
            "TransactionEvent",
            event_type=kind,
            timestamp=NOW,
            trigger_reason=reason,
            seq_no=number,
            transaction_info={"transaction_id": transaction_id},
            **more,
        )
        assert (answer.id_token_info is not None) is (kind == "Started")


async def rest(client: Client) -> None:
    """Data transfer, security event, firmware status, heartbeat, and meter values outside of a transaction."""
    known = await client.call("DataTransfer", vendor_id="com.example", message_id="m", data="d")
    unknown = await client.call("DataTransfer", vendor_id="org.other")
    assert (known.status, unknown.status) == ("Accepted", "UnknownVendorId")
    assert (await client.call("Heartbeat")).current_time.endswith("Z")
    await client.call("SecurityEventNotification", type="SettingSystemTime", timestamp=NOW, tech_info="t")
    await client.call("FirmwareStatusNotification", status="Downloading")
    if client.version == "1.6":
        sample: dict[str, Any] = {"timestamp": NOW, "sampled_value": [{"value": "1"}]}
        await client.call("MeterValues", connector_id=0, meter_value=[sample])
    else:
        sample = {"timestamp": NOW, "sampled_value": [{"value": 1.0}]}
        await client.call("MeterValues", evse_id=1, meter_value=[sample])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_station_lives_its_day_and_every_message_becomes_an_event(gateway: Gateway, version: str) -> None:
    name = f"DAY-{version}"
    transactions: list[Any] = []

    async def story(client: Client) -> None:
        await boot(client)
        await status(client)
        assert await authorize(client, "TAG") == "Accepted"
        assert await authorize(client, "BLOCKED") == "Blocked"
        if version == "1.6":
            transactions.append(await charge_16(client))
        else:
            transactions.append("tx-1")
            await charge_2x(client, "tx-1")
        await rest(client)

    with_client(gateway, version, name, story)
    gateway.wait_event(lambda event: event["eventType"] == "StationDisconnected", charge_point_id=name)
    rows = gateway.rows(charge_point_id=name)
    assert [row["event"]["eventType"] for row in rows] == [
        "StationConnected",
        "StationBooted",
        "ConnectorStatusChanged",
        "Authorize",
        "Authorize",
        "SessionStarted",
        "MeterValuesReceived" if version == "1.6" else "SessionEvent",
        "SessionStopped",
        "DataTransferReceived",
        "DataTransferReceived",
        "StationHeartbeat",
        "SecurityEventNotification",
        "FirmwareStatusNotification",
        "MeterValuesReceived",
        "StationDisconnected",
    ]
    assert [row["event"]["payload"]["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    assert len({row["event"]["eventId"] for row in rows}) == len(rows)
    for row in rows:
        event = row["event"]
        assert event["source"] == "ocpp-gateway"
        assert (event["chargePointId"], event["tenantId"]) == (name, "dev")
        assert event["ocppVersion"] == ("1.6J" if version == "1.6" else version)
        assert row["key"] == event["stationId"]
        session = event["eventType"].startswith(("Session", "MeterValues"))
        assert row["topic"] == ("ocpp.session.events" if session else "ocpp.station.events")
    for row in rows[5:8]:
        assert row["event"]["payload"]["transactionId"] == transactions[0]
        assert "orphaned" not in row["event"]["payload"]
    assert rows[5]["event"]["connectorId"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_reach_the_station_and_their_end_comes_back(gateway: Gateway, version: str) -> None:
    name = f"COMMANDS-{version}"
    ids: dict[str, str] = {}

    async def story(client: Client) -> None:
        await boot(client)
        reset = {"type": "Hard" if version == "1.6" else "Immediate"}
        unlock = {"connectorId": 2} if version == "1.6" else {"evseId": 2, "connectorId": 1}
        for command_type, payload in (
            ("Reset", reset),
            ("UnlockConnector", unlock),
            ("RemoteStart", {"idTag": "TAG", "connectorId": 1}),
            ("ClearCache", {}),
        ):
            ids[command_type] = await asyncio.to_thread(gateway.command, name, command_type, payload)
            await asyncio.to_thread(gateway.ended, ids[command_type])
        assert client.commands[0] == ("Reset", reset)
        assert client.commands[1][0] == "UnlockConnector"
        start = client.commands[2][1]
        if version == "1.6":
            assert start == {"id_tag": "TAG", "connector_id": 1}
        else:
            assert start["id_token"] == {"id_token": "TAG", "type": "Central"}
            assert (start["evse_id"], start["remote_start_id"] > 0) == (1, True)

    with_client(gateway, version, name, story)
    expected = {
        "Reset": ("CommandAccepted", "Accepted", "Accepted"),
        "UnlockConnector": ("CommandRejected", "Rejected", "UnlockFailed"),
        "RemoteStart": ("CommandAccepted", "Accepted", "Accepted"),
        "ClearCache": ("CommandRejected", "NotSupported", None),
    }
    for command_type, (kind, outcome, answer) in expected.items():
        events = gateway.command_events(ids[command_type])
        assert [event["eventType"] for event in events] == ["CommandRouted", "CommandDispatched", kind]
        last = events[-1]["payload"]
        assert (last["commandType"], last["outcome"], last.get("status")) == (command_type, outcome, answer)
        assert ("error" in last) is (answer is None)
    assert gateway.ended(ids["ClearCache"])["error"] == {"code": "NotSupported", "description": "no cache here"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_command_line_sends_a_command_and_tells_its_end(gateway: Gateway, version: str) -> None:
    name = f"CLI-{version}"
    kind = "Soft" if version == "1.6" else "OnIdle"

    async def story(client: Client) -> None:
        await boot(client)
        arguments = ("command", name, "Reset", "--payload", json.dumps({"type": kind}), "--json")
        done = await asyncio.to_thread(gateway.cli, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        record = json.loads(done.stdout)
        assert (record["status"], record["responsePayload"]) == ("Accepted", {"status": "Accepted"})
        assert len(gateway.terminal_events(record["commandId"])) == 1

        unlock = {"connectorId": 1} if version == "1.6" else {"evseId": 1, "connectorId": 1}
        done = await asyncio.to_thread(gateway.cli, "command", name, "UnlockConnector", "--payload", json.dumps(unlock))
        assert done.returncode == 3, done
        assert "UnlockFailed" in done.stdout
        assert [action for action, _ in client.commands] == ["Reset", "UnlockConnector"]

    with_client(gateway, version, name, story)


def test_stations_of_all_versions_are_served_side_by_side(gateway: Gateway) -> None:
    async def one(version: str) -> None:
        name = f"SIDE-{version}"
        url = f"{gateway.websocket_url}/{name}"  # no version in the path: the subprotocol decides
        async with connect(url, subprotocols=[SUBPROTOCOLS[version]], proxy=None) as socket:  # type: ignore[list-item]
            client = _client(version, name, socket)
            listening = asyncio.create_task(client.point.start())
            await boot(client)
            together.append(version)
            if len(together) == len(VERSIONS):
                everybody.set()
            await everybody.wait()
            shown = await asyncio.to_thread(gateway.station, name)
            assert (shown["connected"], shown["bootStatus"]) == (True, "Accepted")
            assert shown["ocppVersion"] == ("1.6J" if version == "1.6" else version)
            listening.cancel()

    together: list[str] = []

    async def run() -> None:
        await asyncio.wait_for(asyncio.gather(*(one(version) for version in VERSIONS)), TIME_LIMIT)

    everybody = asyncio.Event()
    asyncio.run(run())

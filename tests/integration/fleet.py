"""Many stations at once, over the `websockets` library on asyncio, in a thread beside the test.

    with Fleet(gateway.websocket_port) as fleet:
        stations = [fleet.add("1.6", "CP-1", client), fleet.add("2.1", "CP-2", client, headers)]
        fleet.connect(stations)
        fleet.call(stations, "Heartbeat", {})

Each station has a source address of its own in 127/8: a gateway bounds what one address may do, and here, as in the
field, it is the number of stations that is large.
"""

import asyncio
import itertools
import json
import ssl
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.certificates import TlsClient
from tests.integration.harness import NOW, SUBPROTOCOLS, JsonObject, boot_payload

STEP_SECONDS = 60.0  # for anything that all of them are asked to do together


class FleetStation:
    """One of many. `sent` and `answered` hold the message ids of its CALLs by action."""

    def __init__(
        self,
        address: str,
        port: int,
        version: str,
        charge_point_id: str,
        client: TlsClient,
        headers: Mapping[str, str] | None,
    ) -> None:
        self.id = charge_point_id
        self.version = version
        self.client = client
        self.sent: list[tuple[str, str]] = []
        self.answered: list[tuple[str, str]] = []
        self.close_code: int | None = None
        self.closed_at = 0.0  # monotonic; 0 while it is connected
        self.resumed = False
        self._address = address
        self._port = port
        self._headers = dict(headers or {})
        self._socket: ClientConnection | None = None

    async def connect(self) -> None:
        """Raises websockets' InvalidStatus when the upgrade is refused."""
        self._socket = await connect(
            f"wss://localhost/ocpp/{self.version}/{self.id}",
            host="127.0.0.1",
            port=self._port,
            local_addr=(self._address, 0),
            ssl=self.client,
            subprotocols=[SUBPROTOCOLS[self.version]],  # type: ignore[list-item]
            additional_headers=self._headers,
            compression=None,
            proxy=None,
            ping_interval=None,
            open_timeout=STEP_SECONDS,
        )
        self.close_code, self.closed_at = None, 0.0
        tls: ssl.SSLObject = self._socket.transport.get_extra_info("ssl_object")
        self.resumed = bool(tls.session_reused)

    async def call(self, action: str, payload: JsonObject) -> JsonObject:
        """The payload of the CALLRESULT. Raises ConnectionClosed; AssertionError for any other answer."""
        assert self._socket is not None
        name = str(uuid.uuid4())
        self.sent.append((action, name))
        await self._socket.send(json.dumps([2, name, action, payload]))
        answer = json.loads(await self._socket.recv())
        assert answer[:2] == [3, name], answer
        self.answered.append((action, name))
        result: JsonObject = answer[2]
        return result

    async def charge(self, until: asyncio.Event, pace: float) -> None:
        """Boot, then a heartbeat or meter values each `pace` seconds, each answer awaited; until told, or closed."""
        try:
            await self.call("BootNotification", boot_payload(self.version))
            for number in itertools.count():
                if until.is_set():
                    return
                action = "Heartbeat" if number % 2 else "MeterValues"
                await self.call(action, {} if number % 2 else meter_values(self.version))
                with suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), pace)
        except ConnectionClosed as closed:
            self.closed_at = time.monotonic()
            self.close_code = None if closed.rcvd is None else closed.rcvd.code

    def vanish(self) -> None:
        """Cut the connection without a word."""
        assert self._socket is not None
        self._socket.transport.abort()

    def keep_session(self) -> None:
        self.client.keep()

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()


class Fleet:
    """The loop, its thread, and what is done by all stations together; every step is bounded in time."""

    def __init__(self, port: int) -> None:
        self.stations: list[FleetStation] = []
        self._port = port
        self._addresses = _addresses()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stop = asyncio.Event()
        self._charging: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._run(self._end())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STEP_SECONDS)
            self._loop.close()

    def add(
        self, version: str, charge_point_id: str, client: TlsClient, headers: Mapping[str, str] | None = None
    ) -> FleetStation:
        station = FleetStation(next(self._addresses), self._port, version, charge_point_id, client, headers)
        self.stations.append(station)
        return station

    def do(self, stations: Sequence[FleetStation], what: Callable[[FleetStation], Awaitable[Any]]) -> list[Any]:
        """All of them at once; raises what the first one raises that fails."""

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*map(what, stations))

        return self._run(all_of_them())

    def connect(self, stations: Sequence[FleetStation]) -> float:
        """Seconds until the last one is in. Raises InvalidStatus when one is refused."""
        begun = time.monotonic()
        self.do(stations, FleetStation.connect)
        return time.monotonic() - begun

    def call(self, stations: Sequence[FleetStation], action: str, payload: JsonObject) -> list[JsonObject]:
        return self.do(stations, lambda station: station.call(action, payload))

    def vanish(self, stations: Sequence[FleetStation]) -> None:
        async def vanish(station: FleetStation) -> None:
            station.vanish()

        self.do(stations, vanish)

    def start_charging(self, pace: float) -> None:
        async def start() -> None:
            self._charging = [asyncio.ensure_future(one.charge(self._stop, pace)) for one in self.stations]

        self._run(start())

    def stop_charging(self) -> None:
        """Each waits for its last answer; raises what went wrong in any of them."""

        async def stop() -> None:
            self._stop.set()
            await asyncio.gather(*self._charging)

        self._run(stop())

    async def _end(self) -> None:
        """What failed in a station was told by `stop_charging`, or the test has failed before."""
        self._stop.set()
        await asyncio.gather(*(station.close() for station in self.stations))
        await asyncio.gather(*self._charging, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        bounded = asyncio.wait_for(work, STEP_SECONDS)
        return asyncio.run_coroutine_threadsafe(bounded, self._loop).result(2 * STEP_SECONDS)


def meter_values(version: str) -> JsonObject:
    if version == "1.6":
        return {"connectorId": 1, "meterValue": [{"timestamp": NOW, "sampledValue": [{"value": "17.5"}]}]}
    return {"evseId": 1, "meterValue": [{"timestamp": NOW, "sampledValue": [{"value": 17.5}]}]}


def _addresses() -> Iterator[str]:
    return (f"127.{second}.{third}.1" for second in range(1, 255) for third in range(1, 255))

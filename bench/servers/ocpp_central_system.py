"""A minimal central system on the PyPI packages `ocpp` and `websockets`, as their documentation shows it.

Schema validation stays at the library's default (on, in a thread), nothing is stored. uvloop is used when it is
installed.
"""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import websockets
from ocpp.routing import on
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call_result as result16
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call_result as result201

try:
    import uvloop  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    uvloop = None  # type: ignore[assignment, unused-ignore]


def now() -> str:
    return datetime.now(UTC).isoformat()


class Station16(ChargePoint16):  # type: ignore[misc]
    @on("BootNotification")  # type: ignore[untyped-decorator]
    def on_boot(self, **_: Any) -> Any:
        return result16.BootNotification(current_time=now(), interval=300, status="Accepted")

    @on("Heartbeat")  # type: ignore[untyped-decorator]
    def on_heartbeat(self) -> Any:
        return result16.Heartbeat(current_time=now())

    @on("StatusNotification")  # type: ignore[untyped-decorator]
    def on_status(self, **_: Any) -> Any:
        return result16.StatusNotification()

    @on("MeterValues")  # type: ignore[untyped-decorator]
    def on_meter_values(self, **_: Any) -> Any:
        return result16.MeterValues()


class Station201(ChargePoint201):  # type: ignore[misc]
    @on("BootNotification")  # type: ignore[untyped-decorator]
    def on_boot(self, **_: Any) -> Any:
        return result201.BootNotification(current_time=now(), interval=300, status="Accepted")

    @on("TransactionEvent")  # type: ignore[untyped-decorator]
    def on_transaction_event(self, **_: Any) -> Any:
        return result201.TransactionEvent()


async def serve_station(connection: Any) -> None:
    station_class = Station16 if connection.subprotocol == "ocpp1.6" else Station201
    with contextlib.suppress(websockets.ConnectionClosed):
        await station_class(connection.request.path.rsplit("/", 1)[-1], connection).start()


async def serve() -> None:
    offered: Any = ["ocpp1.6", "ocpp2.0.1"]
    async with websockets.serve(serve_station, "127.0.0.1", 0, subprotocols=offered) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        loop = f"uvloop {uvloop.__version__}" if uvloop else "asyncio (uvloop is not installed)"
        print(json.dumps({"port": port, "about": loop}), flush=True)
        await server.serve_forever()


def run(main: Coroutine[Any, Any, None]) -> None:
    if uvloop:
        uvloop.run(main)
    else:
        asyncio.run(main)


if __name__ == "__main__":
    run(serve())

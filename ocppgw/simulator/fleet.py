"""Many stations in one process: who connects when, what the display is told, and how it all ends."""

import random
import urllib.parse
from collections.abc import Callable
from functools import cache
from typing import Any

import txaio
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from ocppgw.net.outgoing import TlsClient
from ocppgw.simulator.connection import StationConnection, client_endpoint, client_factory
from ocppgw.simulator.dialect import Dialect
from ocppgw.simulator.dialect2 import Dialect2
from ocppgw.simulator.dialect16 import Dialect16
from ocppgw.simulator.options import Plan, SimulatorOptions
from ocppgw.simulator.station import Station
from ocppgw.simulator.statistics import FleetSnapshot, Statistics

REPORT_INTERVAL = 1.0  # seconds
RAMP_STEP = 0.05
WIND_DOWN_LIMIT = 10.0  # seconds that stations have to end their sessions when the duration is over

DIALECTS: dict[str, Dialect] = {"1.6": Dialect16(), "2.0.1": Dialect2("2.0.1"), "2.1": Dialect2("2.1")}


async def run(options: SimulatorOptions, reactor: Any, report: Callable[[FleetSnapshot], None]) -> FleetSnapshot:
    """Run a fleet until its sessions or its duration are over, or until it is cancelled; all sockets are closed then.

    `report` gets a snapshot about once a second. The result is the last one, also after a cancellation; what `report`
    raises ends the run and is raised here. An OcppgwError names a certificate file that can't be used; nobody was
    connected then.
    """
    return await Fleet(options, reactor, report).run()


def read_tls(options: SimulatorOptions) -> list[IOpenSSLClientConnectionCreator]:
    """How each station of the fleet secures its connections. Reads files: it blocks."""
    client = cache(lambda host: TlsClient(host, options.ca_file))
    creator = cache(lambda host, certificate, key: client(host).creator(certificate, key))
    return [
        creator(
            str(urllib.parse.urlsplit(options.station_url(index)).hostname),
            options.station_certificate(index),
            options.station_key(index),
        )
        for index in range(options.count)
    ]


class Fleet:
    def __init__(self, options: SimulatorOptions, reactor: Any, report: Callable[[FleetSnapshot], None]) -> None:
        self._options = options
        self._reactor = reactor
        self._report = report
        self._statistics = Statistics()
        self._started: list[StationConnection] = []
        self._left = 0
        self._ended: Deferred[None] = Deferred()
        self._begun_at = 0.0
        self._winding_down = False
        self._tls: list[IOpenSSLClientConnectionCreator] = []  # one a station, when they connect over TLS

    async def run(self) -> FleetSnapshot:
        txaio.config.loop = self._reactor  # Autobahn's timers follow this, not the factory's reactor
        try:
            if self._options.secure:
                self._tls = await deferToThreadPool(
                    self._reactor, self._reactor.getThreadPool(), read_tls, self._options
                )
            await self._simulate()
        except CancelledError:
            pass
        return self.snapshot()

    async def _simulate(self) -> None:
        self._begun_at = self._reactor.seconds()
        loops = [self._loop(self._tell, REPORT_INTERVAL), self._loop(self._ramp, RAMP_STEP)]
        limits = self._limits()
        try:
            await self._ended
        finally:
            for loop in loops:
                if loop.running:
                    loop.stop()
            for call in limits:
                if call.active():
                    call.cancel()
            await gatherResults([connection.stop() for connection in self._started])

    def _loop(self, function: Callable[[], None], interval: float) -> LoopingCall:
        loop = LoopingCall(function)
        loop.clock = self._reactor
        loop.start(interval, now=True).addErrback(self._broken)
        return loop

    def _limits(self) -> list[Any]:
        duration = self._options.duration
        if duration is None:
            return []
        return [
            self._reactor.callLater(duration, self._wind_down),
            self._reactor.callLater(duration + WIND_DOWN_LIMIT, self._end),
        ]

    def _broken(self, failure: Failure) -> None:
        if not self._ended.called:
            self._ended.errback(failure)

    def _end(self) -> None:
        if not self._ended.called:
            self._ended.callback(None)

    def _tell(self) -> None:
        self._report(self.snapshot())

    def _ramp(self) -> None:
        """Connect as many stations as are due by now."""
        if self._winding_down:
            return
        elapsed = self._reactor.seconds() - self._begun_at
        due = min(self._options.count, int(elapsed * self._options.ramp_per_second) + 1)
        while len(self._started) < due:
            connection = self._connection(len(self._started))
            self._started.append(connection)
            connection.start()

    def _connection(self, index: int) -> StationConnection:
        options = self._options
        station_id, url = options.station_id(index), options.station_url(index)
        dialect = DIALECTS[options.station_version(index)]
        rng = random.Random(f"{options.seed}/{index}")  # noqa: S311  behaviour, not secrets
        plan = Plan(options.speed, options.sessions, options.heartbeat)
        station = Station(station_id, dialect, rng, plan, self._statistics)
        factory = client_factory(
            url,
            station_id,
            dialect.subprotocol,
            password=options.password,
            compression=options.compression,
            reactor=self._reactor,
        )
        endpoint = client_endpoint(url, self._reactor, self._tls[index] if self._tls else None)
        return StationConnection(station, factory, endpoint, self._reactor, self._gone)

    def _gone(self) -> None:
        self._left += 1
        self._end_when_all_left()

    def _wind_down(self) -> None:
        self._winding_down = True
        for connection in self._started:
            connection.wind_down()
        self._end_when_all_left()

    def _end_when_all_left(self) -> None:
        if self._left == (len(self._started) if self._winding_down else self._options.count):
            self._end()

    def snapshot(self) -> FleetSnapshot:
        stations = [connection.station for connection in self._started]
        return self._statistics.snapshot(
            stations=len(stations),
            connected=sum(connection.open for connection in self._started),
            booted=sum(station.online and station.accepted for station in stations),
            charging=sum(station.charging for station in stations),
            discarded=sum(station.outbox.discarded for station in stations),
        )

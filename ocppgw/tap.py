"""`twistd ocppgw`: options, and the daemon as one service: it starts, drains and stops what `ocppgw.assembly` built."""

import gc
import os
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from ocppgw.assembly import Assembly
from ocppgw.config import Loaded, load
from ocppgw.drain import GOING_AWAY, REASON, Drain
from ocppgw.errors import OcppgwError
from ocppgw.logs import observer
from ocppgw.net.websocket import SWEEPS_PER_INTERVAL
from ocppgw.ocpp.schemas import schema_set
from ocppgw.ocpp.versions import VERSIONS
from ocppgw.routing.sweeping import SWEEP_SECONDS
from ocppgw.rules_from_settings import read_identities
from ocppgw.ticker import Ticker

log = Logger(namespace="ocppgw")

CHECK_SECONDS = 1.0
TEND_SECONDS = 60.0
TRANSACTIONS_KEPT_SECONDS = 400 * 86_400.0  # ended ones, to know their repeats: a charger may be offline for long
GC_THRESHOLD = 50_000  # the hot path makes no cycles: looking for them 70 times less often saves several percent


class Options(usage.Options):
    synopsis = "[options]"
    longdesc = "OCPP gateway: charging stations (OCPP 1.6J, 2.0.1, 2.1) to events and back."
    optParameters = [  # noqa: RUF012  twisted's way
        ["config", "c", None, "Configuration file (TOML), for example etc/ocppgw.toml."],
        ["env-file", "e", None, "File of environment settings (KEY=VALUE lines) that override the configuration file."],
    ]

    def postOptions(self) -> None:
        if self["config"] is None:
            raise usage.UsageError("give a configuration file with -c, for example -c etc/ocppgw.dev.toml")


def makeService(options: Options) -> "GatewayService":
    """Called by twistd. A configuration or state directory that can't be used ends in a message, not a traceback."""
    from twisted.internet import reactor  # noqa: PLC0415  twistd may have installed one only now

    path = Path(options["config"])
    env_file = Path(options["env-file"]) if options["env-file"] else None
    try:
        loaded = load(path, os.environ, env_file)
        return GatewayService(loaded, path.parent, reactor)
    except OcppgwError as error:
        print(f"ocppgw can't start: {error}", file=sys.stderr)
        raise SystemExit(1) from None


class GatewayService(MultiService):
    """The whole daemon as one service: started and stopped in order, draining before it stops."""

    def __init__(self, loaded: Loaded, config_dir: Path, reactor: Any) -> None:
        super().__init__()
        self._loaded = loaded
        self._settings = loaded.settings
        self._reactor = reactor
        self._probe: Deferred[None] | None = None  # a write to find out whether the disk is well again
        self._parts = Assembly(loaded.settings, config_dir, reactor)
        self._identities = read_identities(loaded.settings, config_dir)
        self._keep_time()

    def _keep_time(self) -> None:
        parts, settings = self._parts, self._settings
        self._every(CHECK_SECONDS, self._check)
        self._every(TEND_SECONDS, self._tend)
        self._every(SWEEP_SECONDS, parts.sweep.run)
        self._every(settings.websocket.ping_interval_seconds / SWEEPS_PER_INTERVAL, parts.chargers.sweep)
        turns = {settings.tls.reload_seconds, settings.tls.crl_reload_seconds} - {0}
        if parts.reads_tls_files and turns:
            self._every(float(min(turns)), parts.reloading.look)

    # --- twisted.application.service

    def setServiceParent(self, parent: Any) -> None:
        """twistd asks its application for a log observer: this is where ours gets in."""
        super().setServiceParent(parent)
        if not IServiceCollection.providedBy(parent):
            logs = self._settings.logs
            level = "warn" if logs.level == "warning" else logs.level
            parent.setComponent(ILogObserver, observer(logs.format, level, sys.stdout))

    def privilegedStartService(self) -> None:
        """Listen before privileges are dropped; a port that is taken ends in a message."""
        super().privilegedStartService()
        operations = self._settings.operations
        parts = self._parts
        parts.stations.open(parts.ports)
        parts.ports.open(operations.port, parts.site, operations.host, 50, "operations at http")

    def startService(self) -> None:
        parts = self._parts
        for version in VERSIONS:
            schema_set(version)  # compiled now, not in the first station's handshake
        parts.threads.start()
        if parts.poll is not None:
            parts.poll.start()
        parts.database.start()
        joined = succeed(None) if parts.fleet is None else parts.fleet.start()
        synced = joined.addCallback(lambda _: parts.reloading.sync(self._identities))
        synced.addErrback(_log_failure, "identity files were not stored")
        synced.addCallback(self._open_to_stations)
        parts.reloading.listen_to_hangups()
        if parts.kafka is None:
            parts.journal.forget_shipped().addCallbacks(_log_unshipped, _log_failure, errbackArgs=("the journal",))
        parts.sweep.run()
        super().startService()
        for problem in self._loaded.warnings:
            log.warn("configuration: {problem}", problem=str(problem))
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 50)

    def _open_to_stations(self, _result: Any) -> None:
        """Every identity is known: before, a station could have been taken for an unknown one."""
        parts = self._parts
        parts.gateway.starting = False
        if parts.kafka is not None:
            parts.kafka.start()
        for purpose, host, port in parts.ports.addresses():
            log.info("{purpose}://{host}:{port}", purpose=purpose, host=host, port=port)

    def stopService(self) -> "Deferred[None]":
        """No new stations; 1001 to those connected; then the last commit."""
        parts, websocket = self._parts, self._settings.websocket
        parts.gateway.draining = True
        drain = Drain(
            parts.chargers, parts.commands, self._reactor, websocket.drain_per_second, websocket.drain_seconds
        )
        return parts.ports.close().addCallback(lambda _: drain.run()).addCallback(self._drained)

    def _drained(self, _result: Any) -> "Deferred[None]":
        parts = self._parts
        for link in parts.links:
            link.closed(GOING_AWAY, REASON)
        stopped = _stopped(super().stopService())
        stopped.addCallback(lambda _: parts.attempts.flush())
        kafka, fleet = parts.kafka, parts.fleet
        if kafka is not None:
            stopped.addCallback(lambda _: kafka.stop())
        if fleet is not None:
            stopped.addCallback(lambda _: fleet.stop())
        stopped.addCallback(lambda _: parts.database.stop())
        return stopped.addCallback(self._closed)

    def _closed(self, _result: Any) -> None:
        parts = self._parts
        parts.journal.close()
        parts.database.release()
        parts.threads.stop()
        if parts.poll is not None:
            parts.poll.stop()

    # --- inside

    def _every(self, seconds: float, action: Any) -> None:
        ticker = Ticker(seconds, action, self._reactor)
        ticker.setServiceParent(self)

    def _check(self) -> None:
        """A disk that hangs or is full is noticed here, and so is its recovery, also without traffic."""
        status = self._parts.outbox.check()
        if not status.healthy and self._probe is None:

            def settled(_result: Any) -> None:
                self._probe = None

            self._probe = self._parts.journal.tend()
            self._probe.addBoth(settled)

    def _tend(self) -> None:
        self._parts.journal.tend()
        self._parts.local.tend(TRANSACTIONS_KEPT_SECONDS).addErrback(_log_failure, "old records were not dropped")


def _stopped(result: Any) -> "Deferred[Any]":
    return result if isinstance(result, Deferred) else succeed(result)


def _log_failure(failure: Any, what: str) -> None:
    log.failure("{what}", failure=failure, what=what)


def _log_unshipped(count: int) -> None:
    if count:
        log.warn("Kafka is off; {count} events were not shipped to it and are kept as long as the others", count=count)

"""`twistd ocppgw`: options, and the one place where all is built: `_build`, read from the top, is the architecture.

Nothing below this module asks for the reactor, the wall clock, random numbers or the settings: they are handed down.
"""

import gc
import os
import random
import select
import sys
import uuid
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection, MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.threadpool import ThreadPool

from ocppgw import __version__
from ocppgw.access.refusals import Reason
from ocppgw.config import Loaded, Settings, load
from ocppgw.errors import AddressInUse, OcppgwError
from ocppgw.logs import observer
from ocppgw.metrics import Metrics
from ocppgw.net.embedded import Database, SqliteJournal, SqliteStore
from ocppgw.net.fastpoll import FastPoll
from ocppgw.net.web import build_site
from ocppgw.net.websocket import SWEEPS_PER_INTERVAL, ChargerFactory
from ocppgw.ocpp.schemas import schema_set
from ocppgw.ocpp.session import Session
from ocppgw.ocpp.versions import AUDIT, COMMAND, SESSION, STATION, VERSIONS
from ocppgw.routing.commands import Commands
from ocppgw.routing.entrance import Entrance, Welcome
from ocppgw.routing.gateway import Gateway
from ocppgw.routing.links import Link, Surroundings
from ocppgw.routing.outbox import Outbox
from ocppgw.rules_from_settings import entrance_rules, read_identities, session_rules, websocket_rules

log = Logger(namespace="ocppgw")

TOPICS = {
    STATION: "ocpp.station.events",
    SESSION: "ocpp.session.events",
    COMMAND: "ocpp.command.events",
    AUDIT: "cpms.audit.events",
}
HASHING_THREADS = 4
CHECK_SECONDS = 1.0
TEND_SECONDS = 60.0
DRAIN_SECONDS = 5.0  # for chargers to answer the close frame
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
        self._ports: list[IListeningPort] = []
        self._probe: Deferred[None] | None = None  # a write to find out whether the disk is well again
        self._build(loaded.settings, reactor)
        self._identities = read_identities(loaded.settings, config_dir)

    def _build(self, settings: Settings, reactor: Any) -> None:
        node_id = settings.node.id
        folder = Path(settings.state_dir)
        random_source = random.SystemRandom()

        metrics = Metrics({version.name: version.actions for version in VERSIONS}, __version__)
        self._database = Database(folder, reactor)
        self._store = SqliteStore(self._database, reactor.seconds, settings.commands.audit_ttl_seconds)
        self._journal = SqliteJournal(
            self._database,
            metrics,
            reactor,
            folder,
            settings.journal.retention_days,
            settings.journal.retention_bytes,
        )
        self._outbox = Outbox(
            self._journal,
            metrics,
            settings.journal.max_waiting_records,
            settings.journal.max_waiting_bytes,
            settings.journal.timeout_seconds,
        )

        around = Surroundings(reactor, self._store, self._outbox, metrics)
        self._links = around.links
        around.commands = self._commands = Commands(
            self._store,
            self._outbox,
            around.links,
            metrics,
            reactor,
            node_id,
            settings.commands.default_timeout_seconds,
            new_id=_uuid,
            new_number=lambda: random_source.randrange(1, 2**31),
        )

        self._hashing = ThreadPool(1, HASHING_THREADS, name="ocppgw-hashing")
        entrance = Entrance(
            entrance_rules(settings),
            self._store,
            around.links,
            metrics,
            reactor,
            in_thread=lambda function: deferToThreadPool(reactor, self._hashing, function),
            ready=self._closed_for,
        )
        rules = session_rules(settings)

        def open_link(welcome: Welcome, socket: Any) -> Link:
            version = welcome.admitted.version
            session = Session(
                version,
                welcome.station,
                welcome.state,
                rules,
                node_id,
                welcome.claim.epoch,
                _uuid,
                metrics.received,
            )
            return Link(session, socket, version, welcome.admitted.subprotocol, around)

        self._poll = FastPoll(reactor) if settings.websocket.fast_lane and hasattr(select, "epoll") else None
        self._chargers = ChargerFactory(websocket_rules(settings), entrance, open_link, reactor, self._poll)
        self._gateway = Gateway(
            node_id,
            TOPICS,
            around.links,
            self._store,
            self._journal,
            self._outbox,
            self._commands,
            reactor,
            settings.node.service_name,
        )
        metrics.watch(around.links.counts, self._journal.status)
        token = settings.operations.token.get_secret_value() or None
        self._site = build_site(self._gateway, metrics, token, reactor)

        self._every(CHECK_SECONDS, self._check)
        self._every(TEND_SECONDS, self._tend)
        self._every(settings.websocket.ping_interval_seconds / SWEEPS_PER_INTERVAL, self._chargers.sweep)

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
        settings = self._settings
        try:
            self._listen(settings.websocket.port, self._chargers, settings.websocket.host, settings.websocket.backlog)
            self._listen(settings.operations.port, self._site, settings.operations.host, 50)
        except AddressInUse as error:
            print(f"ocppgw can't start: {error}", file=sys.stderr)
            raise SystemExit(1) from None

    def startService(self) -> None:
        for version in VERSIONS:
            schema_set(version)  # compiled now, not in the first station's handshake
        self._hashing.start()
        if self._poll is not None:
            self._poll.start()
        self._database.start()
        for identity in self._identities:
            self._store.put_identity(identity).addErrback(_log_failure, "an identity was not stored")
        self._commands.sweep().addCallbacks(_log_swept, _log_failure, errbackArgs=("open commands were not swept",))
        super().startService()
        for problem in self._loaded.warnings:
            log.warn("configuration: {problem}", problem=str(problem))
        for port, purpose in zip(self._ports, ("stations at ws", "operations at http"), strict=True):
            address: Any = port.getHost()
            log.info("{purpose}://{host}:{port}", purpose=purpose, host=address.host, port=address.port)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 50)

    def stopService(self) -> "Deferred[None]":
        """No new stations; 1001 to those connected; then the last commit."""
        self._gateway.draining = True
        closed = DeferredList([_stopped(port.stopListening()) for port in self._ports])
        self._chargers.close_all(1001, "the gateway is shutting down")
        return closed.addCallback(self._drained, self._reactor.seconds() + DRAIN_SECONDS)

    def _drained(self, _result: Any, until: float) -> "Deferred[None]":
        if self._chargers.open_count and self._reactor.seconds() < until:
            again: Deferred[None] = Deferred()
            self._reactor.callLater(0.05, again.callback, None)
            return again.addCallback(self._drained, until)
        for link in self._links:
            link.closed(1001, "the gateway is shutting down")
        stopped = _stopped(super().stopService())
        stopped.addCallback(lambda _: self._database.stop())
        return stopped.addCallback(self._closed)

    def _closed(self, _result: Any) -> None:
        self._journal.close()
        self._database.release()
        self._hashing.stop()
        if self._poll is not None:
            self._poll.stop()

    # --- inside

    def _listen(self, port: int, factory: Any, host: str, backlog: int) -> None:
        try:
            self._ports.append(self._reactor.listenTCP(port, factory, backlog=backlog, interface=host))
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise AddressInUse(
                f"can't listen on {host}:{port}: {reason}",
                hint="another process has the port: find it with `ss -ltnp`, or change the port in the configuration",
            ) from None

    def _every(self, seconds: float, action: Any) -> None:
        ticker = _Ticker(seconds, action, self._reactor)
        ticker.setServiceParent(self)

    def _check(self) -> None:
        """A disk that hangs or is full is noticed here, and so is its recovery, also without traffic."""
        status = self._outbox.check()
        if not status.healthy and self._probe is None:

            def settled(_result: Any) -> None:
                self._probe = None

            self._probe = self._journal.tend()
            self._probe.addBoth(settled)

    def _tend(self) -> None:
        self._journal.tend()
        self._store.tend(TRANSACTIONS_KEPT_SECONDS).addErrback(_log_failure, "old records were not dropped")

    def _closed_for(self) -> Reason | None:
        """Why nobody is let in now, if so."""
        if self._gateway.draining:
            return Reason.DRAINING
        return Reason.STORE_UNAVAILABLE if self._outbox.fault else None


class _Ticker(Service):
    """A periodic task that survives its own failures."""

    def __init__(self, seconds: float, action: Any, reactor: Any) -> None:
        self._seconds = seconds
        self._action = action
        self._loop = LoopingCall(self._run)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._seconds, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _run(self) -> None:
        try:
            self._action()
        except Exception:
            log.failure("a periodic task failed")


def _uuid() -> str:
    return str(uuid.uuid4())


def _stopped(result: Any) -> "Deferred[Any]":
    return result if isinstance(result, Deferred) else succeed(result)


def _log_failure(failure: Any, what: str) -> None:
    log.failure("{what}", failure=failure, what=what)


def _log_swept(count: int) -> None:
    if count:
        log.warn("{count} commands were open when the gateway stopped; they ended as Failed", count=count)

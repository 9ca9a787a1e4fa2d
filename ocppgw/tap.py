"""`twistd ocppgw`: options, and the one place where all is built: `_build`, read from the top, is the architecture.

Nothing below this module asks for the reactor, the wall clock, random numbers or the settings: they are handed down.
"""

import gc
import os
import random
import select
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.threadpool import ThreadPool

from ocppgw import __version__
from ocppgw.access.refusals import Reason
from ocppgw.access.verified import KEY_BYTES, VerifiedSecrets
from ocppgw.config import Loaded, Settings, load
from ocppgw.errors import OcppgwError
from ocppgw.kafka_side import build_kafka
from ocppgw.logs import observer
from ocppgw.metrics import Metrics
from ocppgw.net.embedded import Database, SqliteJournal, SqliteStore
from ocppgw.net.fastpoll import FastPoll
from ocppgw.net.tls import TlsCreator, TlsReloader
from ocppgw.net.web import build_site
from ocppgw.net.websocket import SWEEPS_PER_INTERVAL, ChargerFactory
from ocppgw.ocpp.schemas import schema_set
from ocppgw.ocpp.session import Session
from ocppgw.ocpp.versions import VERSIONS
from ocppgw.reloading import Reloading
from ocppgw.routing.attempt_log import AttemptLog
from ocppgw.routing.commands import Commands
from ocppgw.routing.credentials import Credentials
from ocppgw.routing.entrance import Entrance, Renewals, Welcome
from ocppgw.routing.gateway import Gateway
from ocppgw.routing.handshake_log import HandshakeLog
from ocppgw.routing.links import Link, Surroundings
from ocppgw.routing.outbox import Outbox
from ocppgw.routing.proving import Prover
from ocppgw.routing.provisioning import Provisioning
from ocppgw.routing.signing import Signing
from ocppgw.routing.warden import Warden
from ocppgw.rules_from_settings import (
    entrance_rules,
    listeners,
    local_signer,
    proof_rules,
    proxy_rules,
    read_identities,
    session_rules,
    tls_files,
    topics,
    websocket_rules,
)
from ocppgw.station_ports import PLAIN, Ports, StationPorts, tls_ends
from ocppgw.ticker import Ticker

log = Logger(namespace="ocppgw")

HASHING_THREADS = 4
READING_THREADS = 2  # files that are read again, certificates that are signed
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
        self._probe: Deferred[None] | None = None  # a write to find out whether the disk is well again
        self._build(loaded.settings, config_dir, reactor)
        self._identities = read_identities(loaded.settings, config_dir)

    def _build(self, settings: Settings, config_dir: Path, reactor: Any) -> None:
        node_id = settings.node.id
        folder = Path(settings.state_dir)
        random_source = random.SystemRandom()

        metrics = Metrics({version.name: version.actions for version in VERSIONS}, __version__)
        self._hashing = ThreadPool(1, HASHING_THREADS, name="ocppgw-hashing")
        self._reading = ThreadPool(0, READING_THREADS, name="ocppgw-reading")

        def hash_in_thread(function: Callable[[], Any]) -> "Deferred[Any]":
            return deferToThreadPool(reactor, self._hashing, function)

        def read_in_thread(function: Callable[[], Any]) -> "Deferred[Any]":
            return deferToThreadPool(reactor, self._reading, function)

        self._database = Database(folder, reactor)
        self._store = SqliteStore(
            self._database,
            reactor.seconds,
            settings.commands.audit_ttl_seconds,
            settings.stations.revoked_ttl_seconds,
            settings.admission.attempts_kept,
        )
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
        proofs = proof_rules(settings)
        credentials = Credentials(self._store, around.links, reactor, node_id, _uuid, hash_in_thread, proofs.hashing)
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
            credentials=credentials,
        )
        signer, signing = local_signer(settings, config_dir), None
        if signer is not None:
            signing = Signing(signer, self._commands, around.links, self._store, metrics, reactor, read_in_thread)
        around.signing = signing

        self._attempts = AttemptLog(self._store, metrics, reactor)
        handshakes = HandshakeLog(metrics, self._attempts, reactor, settings.admission.flood_log_cooldown_seconds)
        verified = VerifiedSecrets(os.urandom(KEY_BYTES), settings.stations.verified_cache_seconds)
        entrance = Entrance(
            entrance_rules(settings),
            self._store,
            around.links,
            Prover(proofs, hash_in_thread, verified, reactor.seconds),
            handshakes,
            metrics,
            reactor,
            ready=self._closed_for,
            renewals=Renewals(credentials.first_used, credentials.certificate_seen),
        )
        warden = Warden(self._store, around.links, proofs, handshakes, reactor.seconds)
        self._store.on_access_change(warden)
        rules = session_rules(settings, None if signing is None else signing.judge)

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
            return Link(session, socket, version, welcome.admitted.subprotocol, around, welcome.proof)

        self._poll = FastPoll(reactor) if settings.websocket.fast_lane and hasattr(select, "epoll") else None
        self._chargers = ChargerFactory(websocket_rules(settings), entrance, open_link, reactor, self._poll)
        provisioning = Provisioning(self._store, reactor, node_id, _uuid)
        reloader = self._build_ports(settings, config_dir, reactor, entrance, warden, metrics, read_in_thread)
        self._reloading = Reloading(
            reloader,
            self._store,
            lambda: read_identities(settings, config_dir),
            provisioning.file_event,
            read_in_thread,
            reactor,
        )
        self._kafka = build_kafka(settings, config_dir, self._journal, self._commands, self._outbox, metrics, reactor)
        self._gateway = Gateway(
            node_id,
            topics(settings),
            around.links,
            self._store,
            self._journal,
            self._outbox,
            self._commands,
            self._attempts,
            reactor,
            settings.node.service_name,
            None if self._kafka is None else self._kafka.state,
        )
        metrics.watch(around.links.counts, self._journal.status)
        token = settings.operations.token.get_secret_value() or None
        self._site = build_site(self._gateway, metrics, token, reactor, provisioning=provisioning)

        self._keep_time(settings, reloader)

    def _build_ports(
        self,
        settings: Settings,
        config_dir: Path,
        reactor: Any,
        entrance: Entrance,
        warden: Warden,
        metrics: Metrics,
        in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"],
    ) -> TlsReloader | None:
        """What stations connect to; the TLS files are read here for the first time."""
        kinds, files = listeners(settings), tls_files(settings, config_dir)
        creator, reloader = None, None
        if files is not None:
            creator = TlsCreator({kind for _, kind in kinds} - {PLAIN}, reactor.seconds)
            reloader = TlsReloader(
                files, creator, in_thread, reactor.seconds, metrics.tls_reloaded, warden.crls_changed
            )
            reloader.load_first()
            metrics.watch_tls(lambda: tls_ends(creator))
        self._stations = StationPorts(
            kinds,
            settings.websocket.host,
            settings.websocket.backlog,
            self._chargers,
            entrance,
            creator,
            proxy_rules(settings) if settings.websocket.proxy_protocol else None,
            settings.admission.accepts_per_second,
            reactor,
        )
        self._ports = Ports(reactor)
        return reloader

    def _keep_time(self, settings: Settings, reloader: TlsReloader | None) -> None:
        self._every(CHECK_SECONDS, self._check)
        self._every(TEND_SECONDS, self._tend)
        self._every(settings.websocket.ping_interval_seconds / SWEEPS_PER_INTERVAL, self._chargers.sweep)
        turns = {settings.tls.reload_seconds, settings.tls.crl_reload_seconds} - {0}
        if reloader is not None and turns:
            self._every(float(min(turns)), self._reloading.look)

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
        self._stations.open(self._ports)
        self._ports.open(operations.port, self._site, operations.host, 50, "operations at http")

    def startService(self) -> None:
        for version in VERSIONS:
            schema_set(version)  # compiled now, not in the first station's handshake
        self._hashing.start()
        self._reading.start()
        if self._poll is not None:
            self._poll.start()
        self._database.start()
        synced = self._reloading.sync(self._identities).addErrback(_log_failure, "identity files were not stored")
        synced.addCallback(self._open_to_stations)
        self._reloading.listen_to_hangups()
        if self._kafka is None:
            self._journal.forget_shipped().addCallbacks(_log_unshipped, _log_failure, errbackArgs=("the journal",))
        self._commands.sweep().addCallbacks(_log_swept, _log_failure, errbackArgs=("open commands were not swept",))
        super().startService()
        for problem in self._loaded.warnings:
            log.warn("configuration: {problem}", problem=str(problem))
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 50)

    def _open_to_stations(self, _result: Any) -> None:
        """Every identity is known: before, a station could have been taken for an unknown one."""
        self._gateway.starting = False
        if self._kafka is not None:
            self._kafka.start()
        for purpose, host, port in self._ports.addresses():
            log.info("{purpose}://{host}:{port}", purpose=purpose, host=host, port=port)

    def stopService(self) -> "Deferred[None]":
        """No new stations; 1001 to those connected; then the last commit."""
        self._gateway.draining = True
        closed = self._ports.close()
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
        stopped.addCallback(lambda _: self._attempts.flush())
        kafka = self._kafka
        if kafka is not None:
            stopped.addCallback(lambda _: kafka.stop())
        stopped.addCallback(lambda _: self._database.stop())
        return stopped.addCallback(self._closed)

    def _closed(self, _result: Any) -> None:
        self._journal.close()
        self._database.release()
        self._hashing.stop()
        self._reading.stop()
        if self._poll is not None:
            self._poll.stop()

    # --- inside

    def _every(self, seconds: float, action: Any) -> None:
        ticker = Ticker(seconds, action, self._reactor)
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
        if self._gateway.starting:
            return Reason.STARTING
        return Reason.STORE_UNAVAILABLE if self._outbox.fault else None


def _uuid() -> str:
    return str(uuid.uuid4())


def _stopped(result: Any) -> "Deferred[Any]":
    return result if isinstance(result, Deferred) else succeed(result)


def _log_failure(failure: Any, what: str) -> None:
    log.failure("{what}", failure=failure, what=what)


def _log_unshipped(count: int) -> None:
    if count:
        log.warn("Kafka is off; {count} events were not shipped to it and are kept as long as the others", count=count)


def _log_swept(count: int) -> None:
    if count:
        log.warn("{count} commands were open when the gateway stopped; they ended as Failed", count=count)

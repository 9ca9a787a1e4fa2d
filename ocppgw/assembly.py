"""The one place where all is built: `Assembly`, read from the top, is the architecture.

Nothing below this module asks for the reactor, the wall clock, random numbers or the settings: they are handed down.
"""

import os
import random
import select
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from ocppgw import __version__
from ocppgw.access.verified import KEY_BYTES, VerifiedSecrets
from ocppgw.config import Settings
from ocppgw.fleet_side import build_fleet
from ocppgw.kafka_side import build_kafka
from ocppgw.metrics import Metrics
from ocppgw.net.embedded import Database, SqliteJournal, SqliteStore
from ocppgw.net.fastpoll import FastPoll
from ocppgw.net.tls import TlsCreator, TlsReloader
from ocppgw.net.web import build_site
from ocppgw.net.websocket import ChargerFactory
from ocppgw.ocpp.quirks import QuirkBook
from ocppgw.ocpp.rules import SessionRules
from ocppgw.ocpp.session import Session
from ocppgw.ocpp.tokens import TokenBook
from ocppgw.ocpp.versions import VERSIONS
from ocppgw.ports import Store
from ocppgw.reloading import Book, Reloading
from ocppgw.routing.attempt_log import AttemptLog
from ocppgw.routing.commands import Commands
from ocppgw.routing.credentials import Credentials
from ocppgw.routing.decisions import Decisions
from ocppgw.routing.entrance import Entrance, Owner, Renewals, Welcome
from ocppgw.routing.gateway import Gateway
from ocppgw.routing.handshake_log import HandshakeLog
from ocppgw.routing.links import Link, Surroundings
from ocppgw.routing.outbox import Outbox
from ocppgw.routing.ownership import LocalOwnership
from ocppgw.routing.places import OneNode, Places
from ocppgw.routing.proving import Prover
from ocppgw.routing.provisioning import Provisioning
from ocppgw.routing.signing import Signing
from ocppgw.routing.sweeping import Sweep
from ocppgw.routing.warden import Warden
from ocppgw.rules_from_settings import (
    decision_rules,
    entrance_rules,
    listeners,
    local_signer,
    proof_rules,
    proxy_rules,
    read_identities,
    read_profiles,
    read_tokens,
    session_rules,
    tls_files,
    topics,
    websocket_rules,
)
from ocppgw.station_ports import PLAIN, Ports, StationPorts, tls_ends
from ocppgw.threads import Threads


class Assembly:
    """All parts of one node, each built after those that it needs. Reads the state directory and the TLS files; an
    OcppgwError says what can't be used. Nothing runs yet: see `ocppgw.tap.GatewayService`."""

    def __init__(self, settings: Settings, config_dir: Path, reactor: Any) -> None:
        self._settings = settings
        self._config_dir = config_dir
        self._reactor = reactor
        self._random = random.SystemRandom()
        self._proofs = proof_rules(settings)
        self.metrics = Metrics({version.name: version.actions for version in VERSIONS}, __version__)
        self.threads = Threads(reactor)

        self._quirks = QuirkBook(read_profiles(settings, config_dir))
        self._build_state()
        self._build_fleet()
        self._build_commands()
        self._build_decisions()
        self.kafka = build_kafka(
            settings,
            config_dir,
            self.journal,
            self.commands,
            self.outbox,
            self.metrics,
            reactor,
            None if self.fleet is None else self.fleet.owner.control,
            self.decisions if settings.decisions.enabled else None,
        )
        if self.fleet is not None:
            assert self.kafka is not None  # the configuration's rules ask for it
            self.fleet.tell = self.kafka.tell
            self.fleet.store.all_acknowledged = self.kafka.all_acknowledged
        self._build_gateway()
        self._build_entrance()
        self._build_chargers()
        self._build_ports()
        self._build_provisioning()

    def _build_state(self) -> None:
        """What must outlive the process, and its way to the disk."""
        settings, reactor, folder = self._settings, self._reactor, Path(self._settings.state_dir)
        self.database = Database(folder, reactor)
        self.local = SqliteStore(
            self.database,
            reactor.seconds,
            settings.commands.audit_ttl_seconds,
            settings.stations.revoked_ttl_seconds,
            settings.admission.attempts_kept,
        )
        self.journal = SqliteJournal(
            self.database,
            self.metrics,
            reactor,
            folder,
            settings.journal.retention_days,
            settings.journal.retention_bytes,
        )
        self.outbox = Outbox(
            self.journal,
            self.metrics,
            settings.journal.max_waiting_records,
            settings.journal.max_waiting_bytes,
            settings.journal.timeout_seconds,
        )

    def _build_fleet(self) -> None:
        """The other nodes and what is shared with them; without Redis there are none."""
        self.fleet = build_fleet(self._settings, self._config_dir, self.local, self.outbox, self.metrics, self._reactor)
        self.store: Store = self.local if self.fleet is None else self.fleet.store

    def _build_commands(self) -> None:
        """Commands and those that the protocol's own flows make: new passwords, signed certificates."""
        settings, reactor, node_id = self._settings, self._reactor, self._settings.node.id
        self._around = around = Surroundings(reactor, self.store, self.outbox, self.metrics)
        self.links = around.links
        self._owner: Owner = LocalOwnership(self.local)
        self._places: Places = OneNode(node_id, _uuid())
        if self.fleet is not None:
            self._owner, self._places = self.fleet.join(around, _uuid), self.fleet.places
        self._credentials = Credentials(
            self.store, self.links, reactor, node_id, _uuid, self.threads.hash, self._proofs.hashing
        )
        around.commands = self.commands = Commands(
            self.store,
            self.outbox,
            self.links,
            self._places,
            self.metrics,
            reactor,
            node_id,
            settings.commands.default_timeout_seconds,
            new_id=_uuid,
            new_number=lambda: self._random.randrange(1, 2**31),
            credentials=self._credentials,
        )
        if self.fleet is not None:
            self.fleet.follow(self.commands)
        self.sweep = Sweep(self.store, self.commands, self._places, self.metrics, reactor, is_alone=self.fleet is None)
        signer, self._signing = local_signer(settings, self._config_dir), None
        if signer is not None:
            self._signing = Signing(
                signer, self.commands, self.links, self.store, self.metrics, reactor, self.threads.read
            )
        around.signing = self._signing

    def _build_decisions(self) -> None:
        """Answers that the backend gives: over Kafka, or where that is off over HTTP."""
        settings = self._settings
        topic, replies = settings.kafka.topic_call_requests, settings.kafka.topic_call_responses

        def ask(request: Mapping[str, Any]) -> "Deferred[None]":
            assert self.kafka is not None
            return self.kafka.tell(topic, request)

        self.decisions = self._around.decisions = Decisions(
            decision_rules(settings),
            ask if settings.kafka.enabled else None,
            f"{replies}.node.{settings.node.id}" if settings.kafka.enabled else "",
            self.metrics,
            self._reactor,
            _uuid,
        )

    def _build_gateway(self) -> None:
        """What operators see of all this."""
        self.attempts = AttemptLog(self.store, self.metrics, self._reactor)
        self.gateway = Gateway(
            self._settings.node.id,
            topics(self._settings),
            self.links,
            self.store,
            self.journal,
            self.outbox,
            self.commands,
            self.attempts,
            self._reactor,
            self._settings.node.service_name,
            None if self.kafka is None else self.kafka.state,
            None if self.fleet is None else self.fleet.state,
            None if self.fleet is None else self.fleet.sessions.sessions,
        )
        self.metrics.watch(self.links.counts, self.journal.status)

    def _build_entrance(self) -> None:
        """Who is let in, and who must go again."""
        settings, reactor = self._settings, self._reactor
        cooldown = settings.admission.flood_log_cooldown_seconds
        handshakes = HandshakeLog(self.metrics, self.attempts, reactor, cooldown)
        verified = VerifiedSecrets(os.urandom(KEY_BYTES), settings.stations.verified_cache_seconds)
        self._entrance = Entrance(
            entrance_rules(settings, self._quirks if settings.quirks.dir else None),
            self.store,
            self._owner,
            self.links,
            Prover(self._proofs, self.threads.hash, verified, reactor.seconds),
            handshakes,
            self.metrics,
            reactor,
            ready=self.gateway.closed_for,
            renewals=Renewals(self._credentials.first_used, self._credentials.certificate_seen),
        )
        self._warden = Warden(self.store, self.links, self._proofs, handshakes, reactor.seconds)
        self.store.on_access_change(self._warden)

    def _build_chargers(self) -> None:
        """WebSockets, each with a session of its station's version."""
        settings = self._settings
        self._tokens = TokenBook(read_tokens(settings, self._config_dir))
        judge = None if self._signing is None else self._signing.judge
        rules = session_rules(settings, judge, self._tokens, self._quirks if settings.quirks.dir else None)
        self.poll = FastPoll(self._reactor) if settings.websocket.fast_lane and hasattr(select, "epoll") else None
        self.chargers = ChargerFactory(
            websocket_rules(settings),
            self._entrance,
            lambda welcome, socket: self.open_link(rules, welcome, socket),
            self._reactor,
            self.poll,
        )

    def open_link(self, rules: SessionRules, welcome: Welcome, socket: Any) -> Link:
        version = welcome.admitted.version
        session = Session(
            version,
            welcome.station,
            welcome.state,
            rules,
            self._settings.node.id,
            welcome.claim.epoch,
            _uuid,
            self.metrics.received,
        )
        session.came_mended(welcome.admitted.repairs)
        return Link(
            session, socket, version, welcome.admitted.subprotocol, self._around, welcome.proof, welcome.claim.epoch
        )

    def _build_ports(self) -> None:
        """What stations connect to; the TLS files are read here for the first time."""
        settings, reactor = self._settings, self._reactor
        kinds, files = listeners(settings), tls_files(settings, self._config_dir)
        creator, self._tls_reloader = None, None
        if files is not None:
            creator = TlsCreator({kind for _, kind in kinds} - {PLAIN}, reactor.seconds)
            self._tls_reloader = TlsReloader(
                files,
                creator,
                self.threads.read,
                reactor.seconds,
                self.metrics.tls_reloaded,
                self._warden.crls_changed,
            )
            self._tls_reloader.load_first()
            self.metrics.watch_tls(lambda: tls_ends(creator))
        self.ports = Ports(reactor)
        self.stations = StationPorts(
            kinds,
            settings.websocket.host,
            settings.websocket.backlog,
            self.chargers,
            self._entrance,
            creator,
            proxy_rules(settings) if settings.websocket.proxy_protocol else None,
            settings.admission.accepts_per_second,
            reactor,
            is_shared=settings.websocket.reuse_port,
        )

    def _build_provisioning(self) -> None:
        """Identities, by HTTP and from files, and the HTTP of operators."""
        settings, reactor = self._settings, self._reactor
        provisioning = Provisioning(self.store, reactor, settings.node.id, _uuid)
        self.reloading = Reloading(
            self._tls_reloader,
            self.store,
            lambda: read_identities(settings, self._config_dir),
            provisioning.file_event,
            self.threads.read,
            reactor,
            (
                Book("known tokens", lambda: read_tokens(settings, self._config_dir), self._tokens),
                Book("quirk profiles", lambda: read_profiles(settings, self._config_dir), self._quirks),
            ),
        )
        token = settings.operations.token.get_secret_value() or None
        self.site = build_site(
            self.gateway, self.metrics, token, reactor, provisioning=provisioning, calls=self.decisions
        )

    @property
    def reads_tls_files(self) -> bool:
        return self._tls_reloader is not None


def _uuid() -> str:
    return str(uuid.uuid4())

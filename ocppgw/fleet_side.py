"""Redis beside the gateway: what the nodes of one fleet share, and which of them serves which station."""

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ocppgw.config import Settings
from ocppgw.metrics import Metrics
from ocppgw.net.embedded import SqliteStore
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ports import StoreState
from ocppgw.routing.challenges import Challenges
from ocppgw.routing.commands import Commands
from ocppgw.routing.links import Links, Surroundings
from ocppgw.routing.outbox import Outbox
from ocppgw.routing.ownership import FleetOwnership, OwnershipRules
from ocppgw.routing.places import FleetPlaces
from ocppgw.rules_from_settings import redis_settings, redis_tls

if TYPE_CHECKING:
    from ocppgw.net.redis.fleet_store import FleetStore

Tell = Callable[[str, Mapping[str, Any]], "Deferred[None]"]

LONGEST_REFRESH = 60.0  # seconds in which every claim is refreshed once


class FleetSide:
    """Built before what uses the store; `join` knows the links. `local` is what this node has on its own disk."""

    def __init__(
        self,
        settings: Settings,
        config_dir: Path,
        local: SqliteStore,
        outbox: Outbox,
        metrics: Metrics,
        reactor: Any,
    ) -> None:
        # Importing them installs Twisted's reactor (txredisapi does): not before a node needs Redis.
        from ocppgw.net.redis.session_records import NodeFacts  # noqa: PLC0415
        from ocppgw.net.redis.sessions import RedisSessions  # noqa: PLC0415

        self._settings, self._metrics, self._reactor = settings, metrics, reactor
        node, incarnation = settings.node, uuid.uuid4().hex
        command_topic = f"{settings.kafka.topic_command_requests}.node.{node.id}"
        self.control_topic = f"{settings.kafka.topic_session_control}.node.{node.id}"
        self.store = _store(settings, config_dir, local, outbox, metrics, reactor)
        started_at = rfc3339(reactor.seconds()).decode()
        facts = NodeFacts(
            node.id, incarnation, command_topic, self.control_topic, started_at, node.advertise_url or None
        )
        self.sessions = RedisSessions(
            self.store.calls,
            self.store.keys,
            facts,
            reactor,
            session_ttl=settings.redis.session_ttl_seconds,
            session_stale=settings.redis.session_stale_seconds,
            node_ttl=node.ttl_seconds,
            node_refresh=node.heartbeat_seconds,
        )
        self.places = FleetPlaces(self.sessions, self, node.id, incarnation, command_topic)
        self.tell: Tell = self._tell_nobody

    def join(self, around: Surroundings, new_id: Callable[[], str]) -> FleetOwnership:
        """Links are claimed, and their states shared, from here on."""
        settings, links, metrics, reactor = self._settings, around.links, self._metrics, self._reactor
        redis, stations = settings.redis, self.store.stations

        def tell(topic: str, message: Mapping[str, Any]) -> "Deferred[None]":
            return self.tell(topic, message)

        challenges = Challenges(
            settings.node.id, self.control_topic, self, links, metrics, reactor, new_id, stations.flush
        )
        rules = OwnershipRules(
            settings.node.id,
            redis.duplicate_policy,
            redis.when_away == "cached",
            min(LONGEST_REFRESH, redis.session_ttl_seconds / 3, redis.session_stale_seconds / 3),
        )
        self.owner = FleetOwnership(
            rules,
            self.sessions,
            challenges,
            tell,
            links,
            metrics,
            reactor,
            time.monotonic,
            lambda: self._tell_again(links),
            stations.flush,
        )
        around.own(self.owner, self.store)
        self.store.on_emptied(lambda: self._tell_again(links))
        self.store.watch(
            lambda: (
                [link.station.charge_point_id for link in links],
                [link.proof.certificate.fingerprint for link in links if link.proof.certificate is not None],
            )
        )
        return self.owner

    def follow(self, commands: Commands) -> None:
        """Commands outlive Redis' data, too."""
        self.store.on_emptied(commands.tell_again)
        self.store.on_command_put_back(commands.resume)

    def start(self) -> "Deferred[None]":
        """Fires when the fleet knows of this node, or could not be told for now."""
        self.store.start()
        return self.owner.start()

    def stop(self) -> "Deferred[None]":
        """After all links were closed: claims are given back, with the stations' last states."""
        stopped = self.owner.stop()
        stopped.addCallback(lambda _: self.store.stations.stop())
        return stopped.addCallback(lambda _: self.store.stop())

    def state(self) -> StoreState:
        healthy, reason = self.store.status()
        return StoreState(healthy, reason, self._settings.redis.required)

    # --- inside

    def _tell_again(self, links: Links) -> None:
        """Redis has lost what this node had told it."""
        self.store.stations.again(links)
        self.store.tell_old()

    def _tell_nobody(self, topic: str, message: Mapping[str, Any]) -> "Deferred[None]":
        raise AssertionError("the composition root gives the bus's `tell`")


def build_fleet(
    settings: Settings, config_dir: Path, local: SqliteStore, outbox: Outbox, metrics: Metrics, reactor: Any
) -> FleetSide | None:
    """None where Redis is off: this node is alone."""
    return FleetSide(settings, config_dir, local, outbox, metrics, reactor) if settings.redis.enabled else None


def _store(
    settings: Settings, config_dir: Path, local: SqliteStore, outbox: Outbox, metrics: Metrics, reactor: Any
) -> "FleetStore":
    from ocppgw.net.redis.fleet_store import FleetStore  # noqa: PLC0415 - as in FleetSide

    redis = settings.redis
    return FleetStore(
        redis_settings(settings),
        reactor,
        outbox.store,
        local,
        redis_tls(settings, config_dir),
        metrics.note,
        command_ttl=settings.commands.audit_ttl_seconds,
        transactions_kept=redis.transactions_kept_days * 86_400,
        answers_kept=settings.ocpp.response_cache_ttl_seconds if redis.response_cache else 0,
        serves_without=redis.when_away == "cached",
    )

"""Kafka beside the gateway: the bus, the relay that ships the journal to it, the intake that reads commands from it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from ocppgw.config import Settings
from ocppgw.metrics import Metrics
from ocppgw.net.kafka import KafkaBus, KafkaSettings
from ocppgw.ports import BusState, Journal
from ocppgw.routing.acknowledgements import Acknowledgements
from ocppgw.routing.commands import Commands
from ocppgw.routing.control_inbox import ControlInbox
from ocppgw.routing.decision_inbox import DecisionInbox
from ocppgw.routing.decisions import Decisions
from ocppgw.routing.intake import CommandIntake
from ocppgw.routing.outbox import Outbox
from ocppgw.routing.relay import Relay
from ocppgw.rules_from_settings import kafka_settings, topics

Control = Callable[[Mapping[str, Any]], None]


class KafkaSide:
    """Started after the journal, stopped before it. `command_topics`: the one that all nodes share, and this node's."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Mapping[str, str],
        command_topics: tuple[str, str],
        group: str,
        node_id: str,
        journal: Journal,
        commands: Commands,
        outbox: Outbox,
        metrics: Metrics,
        reactor: Any,
        control: Control | None,
        control_topic: str,
        acknowledgement_timeout: float,
        decisions: Decisions | None,
        *,
        required: bool,
    ) -> None:
        self._required = required
        self._bus = KafkaBus(settings, reactor, metrics.note)
        self._relay = Relay(journal, self._bus, topics, metrics, reactor)
        shared, own = command_topics
        # Two intakes: a command for this node must not wait behind one that is for all of them.
        for topic, members, member in ((shared, group, ""), (own, f"{group}.{node_id}", node_id)):
            intake = CommandIntake(commands, outbox, reactor, node_id, metrics)
            self._bus.consume((topic,), members, intake.handle, member)
        acknowledgements = Acknowledgements(self._relay, journal.last_cursor, metrics, reactor, acknowledgement_timeout)
        self._relay.acknowledged, self._relay.failing = acknowledgements.shipped, acknowledgements.failing
        outbox.wait_for(acknowledgements)
        self.tell = self._bus.tell
        self.all_acknowledged = acknowledgements.all_acknowledged
        if control is not None:
            inbox = ControlInbox(control, outbox, metrics, reactor, node_id)
            self._bus.consume((control_topic,), f"{group}.{node_id}.control", inbox.handle, node_id)
        if decisions is not None:
            replies = DecisionInbox(decisions.reply, outbox, metrics, reactor, node_id)
            self._bus.consume((decisions.reply_to,), f"{group}.{node_id}.calls", replies.handle, node_id)
        if control is not None or decisions is not None:
            self._bus.messenger()

    def start(self) -> None:
        self._bus.start()
        self._relay.start()

    def stop(self) -> "Deferred[None]":
        """In a bounded time, whatever the brokers do."""
        return self._relay.stop().addCallback(lambda _: self._bus.stop())

    def state(self) -> BusState:
        status = self._bus.status()
        records, seconds = self._relay.lag()
        return BusState(status.healthy, status.reason, records, round(seconds, 3), self._required)


def build_kafka(
    settings: Settings,
    config_dir: Path,
    journal: Journal,
    commands: Commands,
    outbox: Outbox,
    metrics: Metrics,
    reactor: Any,
    control: Control | None = None,
    decisions: Decisions | None = None,
) -> KafkaSide | None:
    """None where Kafka is off. `control` hears what other nodes tell this one; None: there are none. `decisions` hear
    the backend's answers; None: it gives none."""
    kafka, node_id = settings.kafka, settings.node.id
    if not kafka.enabled:
        return None
    shared = kafka.topic_command_requests
    return KafkaSide(
        kafka_settings(settings, config_dir),
        topics(settings),
        (shared, f"{shared}.node.{node_id}"),
        kafka.group_id,
        node_id,
        journal,
        commands,
        outbox,
        metrics,
        reactor,
        control,
        f"{kafka.topic_session_control}.node.{node_id}",
        kafka.acknowledgement_timeout_ms / 1000,
        decisions,
        required=kafka.required,
    )

"""The live challenge (the outside contract, section 1): before a station is taken from a node, that node proves its
connection dead, or does not answer.

    here                         there
    ProveSession ──────────────> a ping to the station
         <───────── asking ───── at once: the node is there
         <── alive | dead ────── when the station has answered, or PING_SECONDS are over and the connection is closed

No `asking` within ASKED_SECONDS, or nothing after it within PROOF_SECONDS: silent.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.fleet_ports import Peers, SessionRow
from ocppgw.metrics import Metrics
from ocppgw.routing import control
from ocppgw.routing.links import Link, Links

log = Logger(namespace="ocppgw.ownership")

PING_SECONDS = 3.0
ASKED_SECONDS = 1.5
PROOF_SECONDS = PING_SECONDS + 0.7
SILENT = "silent"
MAX_OPEN = 2000


class _Open:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.decided: Deferred[str] = Deferred()
        self.timer: IDelayedCall | None = None


class Challenges:
    """`topic` is this node's session-control topic."""

    def __init__(
        self,
        node_id: str,
        topic: str,
        peers: Peers,
        links: Links,
        metrics: Metrics,
        clock: Clock,
        new_id: Callable[[], str],
        settle: "Callable[[], Deferred[None]]" = lambda: succeed(None),
    ) -> None:
        """`settle` has all that is known of stations written to where the other node looks for it."""
        self._node_id, self._topic = node_id, topic
        self._peers, self._links, self._metrics, self._clock, self._new_id = peers, links, metrics, clock, new_id
        self._settle = settle
        self._open: dict[str, _Open] = {}

    # --- the one who asks

    def ask(self, held: SessionRow, topic: str) -> "Deferred[str]":
        """Fires with control.ALIVE, control.DEAD or SILENT, never fails. `topic`: the holder's, for session control."""
        if len(self._open) >= MAX_OPEN:  # more than that come at once when a node has died: they are right, then
            self._metrics.note("challenges-overflow")
            done: Deferred[str] = Deferred()
            self._clock.callLater(ASKED_SECONDS, done.callback, SILENT)
            return done
        challenge_id = self._new_id()
        opened = self._open[challenge_id] = _Open(held.epoch)
        opened.timer = self._clock.callLater(ASKED_SECONDS, self._decide, challenge_id, SILENT)
        message = control.prove_session(held, challenge_id, self._node_id, self._topic, self._clock.seconds())
        self._tell(topic, message)
        return opened.decided

    def proof(self, message: Mapping[str, Any]) -> None:
        opened = self._open.get(str(message.get("challengeId")))
        if opened is None or message.get("epoch") != opened.epoch:
            return
        state = message.get("state")
        if state == control.ASKING and opened.timer is not None and opened.timer.active():
            opened.timer.reset(PROOF_SECONDS)
        elif state in (control.ALIVE, control.DEAD):
            self._decide(str(message["challengeId"]), state)

    def _decide(self, challenge_id: str, state: str) -> None:
        opened = self._open.pop(challenge_id, None)
        if opened is None:
            return
        if opened.timer is not None and opened.timer.active():
            opened.timer.cancel()
        self._metrics.note(f"challenge-{state}")
        opened.decided.callback(state)

    # --- the one who is asked

    def prove(self, message: Mapping[str, Any]) -> None:
        """Somebody wants to know whether a connection of ours is alive. Until that is known it is served."""
        epoch, topic = message.get("epoch"), message.get("requesterTopic")
        if message.get("ownerNodeId") != self._node_id or not isinstance(epoch, int) or not isinstance(topic, str):
            return
        link = self._links.get(str(message.get("chargePointId")))
        if link is None or link.epoch != epoch:
            self._dead(topic, message)
            return
        self._answer(topic, message, control.ASKING)
        link.probe(PING_SECONDS).addCallback(self._probed, link, topic, message)

    def _probed(self, is_alive: bool, link: Link, topic: str, message: Mapping[str, Any]) -> None:
        if is_alive:
            self._answer(topic, message, control.ALIVE)
        else:
            link.withdraw(1012, "the station has connected elsewhere, and did not answer here")
            self._dead(topic, message)

    def _dead(self, topic: str, challenge: Mapping[str, Any]) -> None:
        self._settle().addBoth(lambda _: self._answer(topic, challenge, control.DEAD))

    def _answer(self, topic: str, challenge: Mapping[str, Any], state: str) -> None:
        self._tell(topic, control.session_proof(challenge, self._node_id, state, self._clock.seconds()))

    def _tell(self, topic: str, message: Mapping[str, Any]) -> None:
        self._peers.tell(topic, message).addErrback(self._not_told, message["type"], message["chargePointId"])

    def _not_told(self, failure: Any, kind: str, charge_point_id: str) -> None:
        """Who waits for it takes silence for an answer."""
        self._metrics.note("peer-not-told")
        log.warn("{kind} was not sent: {reason}", kind=kind, reason=failure.getErrorMessage(), station=charge_point_id)

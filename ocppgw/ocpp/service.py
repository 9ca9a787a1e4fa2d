"""Serving a CALL that is valid: its event, its answer, and what changes in the station's state.

    served ── Publish ──> durable(token) ──> the answer goes out, the CALLs behind it are served
      │  ^── answered(token, found)      the store's reply to an Ask: transactions only
      └─ Decide ──> decided(token, …)    the backend's reply, where it decides

One CALL is served at a time; those that a charger sends meanwhile wait in `_inbound`. `ocppgw.ocpp.session.Session` is
the rest: frames, gate and schema before it, commands beside it.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ocppgw.ocpp import answers, deciding, frames, memory, neutral, serials
from ocppgw.ocpp.badframes import BadFrames
from ocppgw.ocpp.calls import OutboundCalls
from ocppgw.ocpp.connectors import connector_id, remember_status
from ocppgw.ocpp.effects import (
    Ask,
    Change,
    Close,
    Effect,
    Note,
    Publish,
    SaveBoot,
    Send,
    SignRequest,
)
from ocppgw.ocpp.events import EventWriter
from ocppgw.ocpp.followups import MESSAGES, FollowUps
from ocppgw.ocpp.gate import BootGate
from ocppgw.ocpp.inbound import Decided, Serving
from ocppgw.ocpp.quirks import Quirks
from ocppgw.ocpp.rules import SessionRules, SigningJudge, StationFacts
from ocppgw.ocpp.schemas import schema_set
from ocppgw.ocpp.state import Answered, StationState, TransactionFound
from ocppgw.ocpp.transactions import TRANSACTION_RULES, Decision, Repeat, Unresolved
from ocppgw.ocpp.versions import OcppVersion

UNIQUE_ID_LENGTH = 16  # a message id as long as this is taken for one that the station uses once: UUIDs have 36
FAILED_INTERNALLY = "the gateway could not store the message; please send it again"


# What is kept of a valid message in the station's state, beside what is recorded of it.
KEPT: Mapping[str, Callable[[StationState, Mapping[str, Any]], None]] = {
    "StatusNotification": remember_status,
    "NotifyReport": memory.limits_reported,
    "OpenPeriodicEventStream": memory.stream_opened,
    "ClosePeriodicEventStream": memory.stream_closed,
}


def _uncounted(_version: str, _action: str) -> None:
    """Nobody counts."""


class Service:
    """The part of a Session that serves valid CALLs; it is never made by itself."""

    __slots__ = (
        "_actions",
        "_bad",
        "_calls",
        "_count",
        "_events",
        "_follow_ups",
        "_gate",
        "_inbound",
        "_lost",
        "_quirks",
        "_requests",
        "_rules",
        "_schemas",
        "_serving",
        "_signing",
        "_token",
        "_transactions",
        "_version",
        "latency",
        "state",
        "station",
    )

    def __init__(
        self,
        version: OcppVersion,
        station: StationFacts,
        state: StationState,
        rules: SessionRules,
        node_id: str,
        epoch: int,
        new_id: Callable[[], str],
        count: Callable[[str, str], None] = _uncounted,
    ) -> None:
        """`new_id` makes message ids (UUID4); `count(version, action)` is called for every CALL and SEND received."""
        schemas = schema_set(version)
        self._version = version
        self._actions = version.actions
        self._schemas = schemas
        self._requests = schemas.requests
        self._rules = rules
        self._events = EventWriter(
            station.charge_point_id, station.station_id, station.tenant_id, version.name, node_id, epoch
        )
        self._quirks = None if rules.quirks is None else Quirks(rules.quirks, station.charge_point_id, state.boot)
        assumed = rules.assume_accepted or (self._quirks is not None and self._quirks.has_no_boot)
        self._gate = BootGate(version, state, assumed, rules.trigger_boot_when_rejected)
        self._calls = OutboundCalls(
            version, schemas, self._gate, self._call_timeout(), rules.commands_per_station, new_id, state
        )
        self._follow_ups = None if state.memory is None else FollowUps(state, self._events)  # made when first needed
        self._transactions = TRANSACTION_RULES[version.name]
        self._serving: Serving | None = None
        self._inbound: deque[frames.Call] | None = None
        self._signing: SignRequest | None = None  # promised by the answer of the CALL being served
        self._count = count
        self._token = 0
        self._lost = False
        self._bad = BadFrames(version, rules)
        self.latency = 0.0  # seconds from the last answered CALL's arrival to its answer
        self.state = state
        self.station = station

    # --- what comes from the store, the journal and the backend

    def durable(self, token: int, now: float) -> list[Effect]:
        serving = self._serving
        if serving is None or serving.token != token:
            return []
        if serving.then is not None:
            serving.beside = serving.then()
        if serving.is_undecided:
            serving.is_durable = True
            return []
        return self._answer(serving, now)

    def refused(self, token: int, now: float) -> list[Effect]:
        """The record could not be made durable: a CALLERROR, or for what may not be lost a close without answer.

        A CALLERROR uses up the charger's attempts, and then it discards a transaction message (2.x E13).
        """
        serving = self._serving
        if serving is None or serving.token != token:
            return []
        self._serving = self._signing = None
        if self._lost:
            return []
        if serving.spec.never_refused:
            self._inbound = None
            return [Note("not-durable"), Close(1011, "not stored, please send again")]
        error = self._error(serving.call, self._version.codes.internal, FAILED_INTERNALLY)
        return [Note("not-durable"), *error, *self._serve_waiting(now)]

    def answered(self, token: int, found: TransactionFound, now: float) -> list[Effect]:
        """The store's reply to an Ask."""
        serving = self._serving
        if serving is None or serving.token != token:
            return []
        if self._lost:  # nothing was recorded yet: the charger will send it again
            self._serving = None
            return []
        effects = self._transaction(serving, now, found)
        return effects if self._serving is not None else [*effects, *self._serve_waiting(now)]

    def decided(
        self, token: int, answer: Mapping[str, Any] | None, now: float, *, is_refused: bool = False
    ) -> list[Effect]:
        """The reply to a Decide. None: nobody has answered; the gateway's own answer goes out, or with `is_refused` a
        CALLERROR, but never to a transaction message."""
        serving = self._serving
        if serving is None or serving.token != token or not serving.is_undecided:
            return []
        serving.is_undecided = False
        serving.decided = Decided(answer, is_refused and answer is None)
        if serving.call.action == "BootNotification":
            return self._booted(serving, now)
        return self._answer(serving, now) if serving.is_durable else []

    # --- serving

    def _serve(self, call: frames.Call, now: float) -> list[Effect]:
        """A CALL as it came (Session)."""
        raise NotImplementedError

    def _served(self, serving: Serving, now: float) -> list[Effect]:
        """With the gateway's own answer."""
        call = serving.call
        action = call.action
        if action in self._transactions:
            return self._transaction(serving, now, None)
        if action == "BootNotification":
            return self._boot(serving, now)
        if action == "SignCertificate" and self._rules.signing_judge is not None:
            return [self._sign(serving, self._rules.signing_judge, now)]
        keep = KEPT.get(action)
        if keep is not None:
            keep(self.state, call.payload)
        extra = b""
        if self._follow_ups is not None and action in MESSAGES:
            extra, serving.then = self._follow_ups.received(action, call.payload, serving.payload, now)
        answer = answers.answer(self._version, action, self._rules.answers, call.payload, now)
        return [self._publish(serving, serving.spec.event_type, answer, now, extra=extra)]

    def _asked(self, serving: Serving, now: float) -> list[Effect]:
        """The backend decides. The event does not wait for it, but that of a boot, which tells the decided status."""
        call = serving.call
        if call.action == "SignCertificate" and self._rules.signing_judge is not None:
            return self._served(serving, now)
        if call.action == "BootNotification" and serials.lacks(self.station.required_serial, call.payload):
            return self._served(serving, now)
        decide = deciding.question(serving, self._rules.answers, self._schemas.responses[call.action])
        if call.action == "BootNotification":
            return [decide]
        return [decide, *self._served(serving, now)]

    def _booted(self, serving: Serving, now: float) -> list[Effect]:
        """Nothing was recorded yet: on a connection that is gone nothing will be, and the station boots again."""
        decided, serving.decided = serving.decided, None
        if self._lost:
            self._serving = None
            return []
        if decided is not None and decided.is_refused:
            self._serving = None
            error = self._error(serving.call, self._version.codes.internal, deciding.NOBODY)
            return [*error, *self._serve_waiting(now)]
        return self._boot(serving, now, None if decided is None else decided.answer)

    def _boot(self, serving: Serving, now: float, decided: Mapping[str, Any] | None = None) -> list[Effect]:
        boot = serving.call.payload
        if serials.lacks(self.station.required_serial, boot):  # the CALL stays served, so that none behind it is
            return serials.mismatch(self._events, self.station.required_serial, boot, now)
        payload = serving.payload
        rules, state = self._rules, self.state
        status = self.station.boot_status or rules.boot_status_of(boot)
        answer = b""
        if decided is not None:
            status = decided["status"]
            answer = frames.dumps(deciding.completed("BootNotification", decided, rules.answers, now))

        def then() -> None:
            state.boot_status = status
            state.boot = payload
            if self._quirks is not None:
                self._quirks.booted(payload)
                self._calls.timeout = self._call_timeout()

        serving.then = then
        who = self.station
        change = SaveBoot(who.charge_point_id, who.station_id, who.tenant_id, self._version.name, status, payload, now)
        answer = answer or answers.boot(rules.answers, status, now)
        extra = b',"status":"%b"' % status.encode()
        return [self._publish(serving, serving.spec.event_type, answer, now, extra=extra, changes=(change,))]

    def _sign(self, serving: Serving, judge: SigningJudge, now: float) -> Publish:
        """Signed once the answer is out."""
        payload = serving.call.payload
        fault = judge(self.station.charge_point_id, payload)
        if not fault:
            self._signing = SignRequest(payload["csr"], payload.get("certificateType"), payload.get("requestId"))
        answer, extra = answers.signing(fault)
        return self._publish(serving, serving.spec.event_type, answer, now, extra=extra)

    def _transaction(self, serving: Serving, now: float, found: TransactionFound | None) -> list[Effect]:
        """StartTransaction, StopTransaction, MeterValues (1.6) or TransactionEvent: see `ocppgw.ocpp.transactions`."""
        call = serving.call
        rule = self._transactions[call.action]
        content_id = self._events.content_id(call.action, serving.payload) if rule.by_content else ""
        decision = rule.decide(self.state, self._rules.answers, call.payload, content_id, found, now)
        if type(decision) is Unresolved:
            return [Ask(serving.token, self.station.charge_point_id, decision.key, decision.transaction_id)]
        if type(decision) is Repeat:  # recorded before: the same answer, no second event
            return self._repeated(serving, decision.answer, now)
        assert type(decision) is Decision
        serving.then = decision.then
        change = decision.change(self.station.charge_point_id, self._version.name)
        return [
            self._publish(
                serving,
                decision.event_type,
                decision.answer,
                now,
                extra=decision.extra,
                event_id=content_id or None,
                changes=() if change is None else (change,),
            )
        ]

    def _repeated(self, serving: Serving, answer: bytes, now: float) -> list[Effect]:
        note = Note("repeated-transaction")
        serving.answer = answer
        serving.text = frames.call_result(frames.dumps(serving.call.message_id), answer)
        if serving.is_undecided:
            serving.is_durable = True
            return [note]
        if serving.decided is not None:
            return [note, *self._answer(serving, now)]
        self._serving = None
        return [note, Send(serving.text)]

    # --- its end

    def _publish(
        self,
        serving: Serving,
        event_type: str,
        answer: bytes,
        now: float,
        *,
        extra: bytes = b"",
        event_id: str | None = None,
        changes: tuple[Change, ...] = (),
    ) -> Publish:
        call = serving.call
        message_id = frames.dumps(call.message_id)
        if event_id is None and len(call.message_id) >= UNIQUE_ID_LENGTH and not self._reuses_ids():
            event_id = self._events.call_id(call.action, serving.payload, message_id)
        serving.answer = answer
        extra += serving.repairs
        if self._rules.normalises:
            extra += neutral.member(self._version.name, call.action, call.payload, answer)
        serving.text = frames.call_result(message_id, answer)
        record = self._events.call(
            serving.spec.topic,
            event_type,
            now,
            call.action,
            serving.payload,
            message_id,
            connector_id=connector_id(call.payload),
            extra=extra,
            event_id=event_id,
        )
        return Publish(record, serving.token, changes, call.action in self._rules.acknowledged)

    def _answer(self, serving: Serving, now: float) -> list[Effect]:
        self._serving = None
        if serving.decided is not None:
            deciding.put_answer(serving, self._version.codes.internal, self._rules.answers, now)
        if serving.replay:
            self.state.remember_answer(serving.call.message_id, Answered(serving.digest, serving.text, now))
        if self._lost:
            return []
        self.latency = now - serving.received_at
        if self._signing is None and serving.beside is None and not self._inbound:
            return [Send(serving.text)]
        promised, self._signing = self._signing, None
        beside = [effect for effect in (serving.beside, promised) if effect is not None]
        return [Send(serving.text), *beside, *self._serve_waiting(now)]

    def _serve_waiting(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._inbound and self._serving is None:
            effects += self._serve(self._inbound.popleft(), now)
        return effects

    def _error(self, call: frames.Call, code: str, description: str) -> list[Effect]:
        return [Note("call-error", code), Send(frames.call_error(call.message_id, code, description))]

    def _call_timeout(self) -> float:
        usual = self._rules.call_timeout
        return usual if self._quirks is None else self._quirks.call_timeout(usual)

    def _reuses_ids(self) -> bool:
        return self._quirks is not None and self._quirks.reuses_ids

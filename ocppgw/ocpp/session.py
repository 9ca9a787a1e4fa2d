"""The version state machine of one connection: text and seconds in, effects out.

    receive(text, now)      a text message came            durable(token, now)   a published record is on disk
    answered(token, found)  the store's reply to an Ask    refused(token, now)   it could not be made durable
    call(pending, now)      a command for the charger      tick(now)             a WakeAt fell due
    opened(now) / lost(now) the connection's ends

The order of things for a CALL: action known and in the right direction, boot gate, schema, repeated id, then the event
is published, and only when it is durable the answer goes out. CALLs are served one at a time, in order; a charger that
pipelines waits in a bounded queue. Transaction messages are never refused for the state they meet (OCPP 1.6 section
4.7 to 4.10, errata 3.18; 2.x J02.FR.19): a station must not throw billing data away.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ocppgw.ocpp import answers, frames, memory, serials, signed
from ocppgw.ocpp.badframes import BadFrames
from ocppgw.ocpp.calls import OutboundCalls, PendingCall
from ocppgw.ocpp.connectors import connector_id, remember_status
from ocppgw.ocpp.effects import (
    Ask,
    Change,
    Close,
    Dispatched,
    Effect,
    Finished,
    Note,
    Publish,
    SaveBoot,
    Send,
    SignRequest,
    WakeAt,
)
from ocppgw.ocpp.events import EventWriter
from ocppgw.ocpp.followups import FOLLOWED, MESSAGES, FollowUps
from ocppgw.ocpp.gate import BootGate
from ocppgw.ocpp.inbound import Serving, enqueue
from ocppgw.ocpp.recovery import answer_again
from ocppgw.ocpp.rules import SessionRules, SigningJudge, StationFacts
from ocppgw.ocpp.schemas import schema_set
from ocppgw.ocpp.state import Answered, StationState, TransactionFound, content_digest
from ocppgw.ocpp.transactions import TRANSACTION_RULES, Decision, Repeat, Unresolved
from ocppgw.ocpp.versions import ActionSpec, Direction, OcppVersion

__all__ = ["Session", "SessionRules", "StationFacts"]

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


class Session:
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
        "_requests",
        "_rules",
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
        self._requests = schemas.requests
        self._rules = rules
        self._events = EventWriter(
            station.charge_point_id, station.station_id, station.tenant_id, version.name, node_id, epoch
        )
        self._gate = BootGate(version, state, rules.assume_accepted, rules.trigger_boot_when_rejected)
        self._calls = OutboundCalls(
            version, schemas, self._gate, rules.call_timeout, rules.commands_per_station, new_id, state
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

    # --- the connection's ends

    def opened(self, now: float, facts: Mapping[str, Any]) -> list[Effect]:
        """`facts` go into the StationConnected event: address, subprotocol, …"""
        return [Publish(self._events.own("StationConnected", now, facts), 0)]

    def lost(self, now: float, code: int | None, reason: str) -> list[Effect]:
        """Called once. What is still being made durable is finished, but not answered here any more."""
        self._lost = True
        self._inbound = None
        gone = self._events.own("StationDisconnected", now, {"code": code, "reason": reason})
        broken_off = [] if self._follow_ups is None else self._follow_ups.lost(now)
        return [*self._calls.lost(), *broken_off, Publish(gone, 0)]

    # --- what comes from the charger

    def receive(self, text: bytes, now: float) -> list[Effect]:
        """One text message (UTF-8 bytes), whole."""
        frame = frames.parse(text)
        if type(frame) is frames.Call:
            if self._serving is None:
                return self._serve(frame, now)
            if self._inbound is None:
                self._inbound = deque()
            return enqueue(self._inbound, self._serving.call, frame, self._rules.pending_messages)
        if type(frame) is frames.CallResult:
            return self._followed(self._calls.result(frame, now), now)
        if type(frame) is frames.CallError:
            if frame.about_result:
                if not self._version.has_call_result_error:
                    return self._bad.unknown_type(frame.message_id)
                return [Note("our-answer-not-understood")]
            return self._followed(self._calls.error(frame, now), now)
        if type(frame) is frames.Send:
            return self._send(frame, now)
        assert type(frame) is frames.BadFrame
        return self._not_a_frame(frame, now)

    def receive_binary(self) -> list[Effect]:
        return [Note("binary"), Close(1003, "OCPP-J is text")]

    # --- what comes from the store and the journal

    def durable(self, token: int, now: float) -> list[Effect]:
        serving = self._serving
        if serving is None or serving.token != token:
            return []
        self._serving = None
        more = serving.then() if serving.then is not None else None
        if serving.replay:
            self.state.remember_answer(serving.call.message_id, Answered(serving.digest, serving.text, now))
        if self._lost:
            return []
        self.latency = now - serving.received_at
        if self._signing is None and more is None and not self._inbound:
            return [Send(serving.text)]
        promised, self._signing = self._signing, None
        beside = [effect for effect in (more, promised) if effect is not None]
        return [Send(serving.text), *beside, *self._serve_waiting(now)]

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

    # --- what comes from the backend

    def call(self, pending: PendingCall, now: float) -> list[Effect]:
        """Send a command's CALL, or queue it; refused at once when the boot state forbids it."""
        return self._followed(self._calls.submit(pending, now), now)

    def tick(self, now: float) -> list[Effect]:
        due = [] if self._follow_ups is None else self._follow_ups.tick(now)
        return self._followed([*due, *self._calls.tick(now)], now)

    def _followed(self, effects: list[Effect], now: float) -> list[Effect]:
        """Commands that went out or ended among `effects`: what they ask for is waited for."""
        more: list[Effect] = []
        for effect in effects:
            if type(effect) is Dispatched and effect.action in FOLLOWED:
                if self._follow_ups is None:
                    self._follow_ups = FollowUps(self.state, self._events)
                more += self._follow_ups.dispatched(effect)
            elif type(effect) is Finished and self._follow_ups is not None:
                more += self._follow_ups.ended(effect.command_id, effect.result, now)
        due = None if self._follow_ups is None else self._follow_ups.wake_at
        if due is not None:
            more.append(WakeAt(min([due, *(effect.at for effect in effects if type(effect) is WakeAt)])))
        return [*effects, *more]

    @property
    def bad_frames(self) -> int:
        return self._bad.count

    @property
    def queued_commands(self) -> int:
        return len(self._calls)

    # --- serving a CALL

    def _serve(self, call: frames.Call, now: float) -> list[Effect]:
        action = call.action
        self._count(self._version.name, action)
        codes = self._version.codes
        spec = self._actions.get(action)
        if spec is None:
            return self._unheard_of(call, now)
        if spec.direction is Direction.DOWN or spec.is_send:
            return self._error(call, codes.not_supported, f"{action} is not for a charging station to call")
        if not self._gate.lets_in(spec, call.payload, now):
            return self._error(call, codes.security, f"not before an accepted BootNotification: {action}")
        validator = self._requests[action]
        if not validator.is_valid(call.payload):
            return self._invalid(call, spec, now)
        try:
            payload = frames.dumps(call.payload)
        except ValueError as error:
            return self._error(call, codes.formation, str(error))
        digest = content_digest(action, payload)
        replay = self.state.recent.get(call.message_id)
        if replay is not None and replay.digest == digest and now - replay.at <= self._rules.replay_seconds:
            text = self._answer_again(replay, call, now)
            if text:
                return [Note("replayed"), Send(text)]
        self._token += 1
        serving = Serving(call, spec, self._token, now, payload, digest)
        self._serving = serving
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
            extra, serving.then = self._follow_ups.received(action, call.payload, payload, now)
        answer = answers.answer(self._version, action, self._rules.answers, call.payload, now)
        return [self._publish(serving, spec.event_type, answer, now, extra=extra)]

    def _unheard_of(self, call: frames.Call, now: float) -> list[Effect]:
        codes = self._version.codes
        if not self._version.has_signed or not call.action.endswith(signed.SUFFIX):
            return self._error(call, codes.not_implemented, "this OCPP version has no such action")
        unpacked = signed.unpack(call)
        if unpacked is None:
            return self._error(call, codes.formation, "the payload is no JWS with a JSON object in it")
        if unpacked.action not in self._actions:  # and no wrapper in a wrapper
            return self._error(call, codes.not_implemented, "this OCPP version has no such action")
        return self._serve(unpacked, now)

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
        if event_id is None and len(call.message_id) >= UNIQUE_ID_LENGTH:
            event_id = self._events.call_id(call.action, serving.payload, message_id)
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

    def _answer_again(self, replay: Answered, call: frames.Call, now: float) -> bytes:
        """The answer a CALL was given before; b"" when it has to be served anew."""
        if call.action == "SignCertificate" and self._rules.signing_judge is not None:
            return b""  # each Accepted is a promise of its own, and the first one may have gone with a crash
        if call.action == "BootNotification" and serials.lacks(self.station.required_serial, call.payload):
            return b""  # it was accepted on a connection with other credentials
        # Recorded before a restart: the text is not known any more.
        return replay.text or answer_again(self._version, call, self._rules, self.state, self.station, now)

    def _boot(self, serving: Serving, now: float) -> list[Effect]:
        boot = serving.call.payload
        if serials.lacks(self.station.required_serial, boot):  # the CALL stays served, so that none behind it is
            return serials.mismatch(self._events, self.station.required_serial, boot, now)
        payload = serving.payload
        status = self.station.boot_status or self._rules.boot_status
        state = self.state

        def then() -> None:
            state.boot_status = status
            state.boot = payload

        serving.then = then
        who = self.station
        change = SaveBoot(who.charge_point_id, who.station_id, who.tenant_id, self._version.name, status, payload, now)
        answer = answers.boot(self._rules.answers, status, now)
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
            self._serving = None
            answer = frames.call_result(frames.dumps(call.message_id), decision.answer)
            return [Note("repeated-transaction"), Send(answer)]
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

    def _invalid(self, call: frames.Call, spec: ActionSpec, now: float) -> list[Effect]:
        """A payload that breaks the schema: its CALLERROR. A transaction message is recorded first: it may be money."""
        violation = self._requests[call.action].explain(call.payload)
        if not spec.never_refused:
            return self._error(call, violation.code, violation.description)
        self._token += 1
        text = frames.call_error(call.message_id, violation.code, violation.description)
        serving = Serving(call, spec, self._token, now, text=text, replay=False)
        try:
            payload = frames.dumps(call.payload)
        except ValueError as error:
            return self._error(call, self._version.codes.formation, str(error))
        self._serving = serving
        fault = frames.dumps({"code": violation.code, "description": violation.description})
        record = self._events.call(
            spec.topic,
            "InvalidMessageReceived",
            now,
            call.action,
            payload,
            frames.dumps(call.message_id),
            extra=b',"error":%b' % fault,
        )
        return [Note("invalid-transaction-message"), Publish(record, serving.token)]

    def _error(self, call: frames.Call, code: str, description: str) -> list[Effect]:
        return [Note("call-error", code), Send(frames.call_error(call.message_id, code, description))]

    def _serve_waiting(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._inbound and self._serving is None:
            effects += self._serve(self._inbound.popleft(), now)
        return effects

    # --- the rarer frames

    def _send(self, sent: frames.Send, now: float) -> list[Effect]:
        """2.1 SEND: an event when it is valid, and nothing is ever sent back (part 4, N15.FR.02)."""
        if not self._version.has_send:
            return self._bad.unknown_type(sent.message_id)
        self._count(self._version.name, sent.action)
        spec = self._actions.get(sent.action)
        if spec is None or not spec.is_send or not self._gate.lets_in(spec, sent.payload, now):
            return [Note("send-refused", sent.action[:50])]
        try:
            payload = frames.dumps(sent.payload)
        except ValueError:
            return [Note("send-invalid", sent.action)]
        if not self._requests[sent.action].is_valid(sent.payload):
            return [Note("send-invalid", sent.action)]
        message_id = frames.dumps(sent.message_id)
        # A stream that was never opened, or was closed: flagged, since nothing can be answered.
        extra = b"" if memory.is_stream_open(self.state, sent.payload["id"]) else b',"unopened":true'
        event = self._events.call(spec.topic, spec.event_type, now, sent.action, payload, message_id, extra=extra)
        return [Publish(event, 0)]

    def _not_a_frame(self, bad: frames.BadFrame, now: float) -> list[Effect]:
        effects = self._bad.received(bad, now)
        if bad.kind in ("malformed-result", "malformed-error") and bad.message_id is not None:
            is_result = bad.kind == "malformed-result"
            effects += self._calls.malformed(bad.message_id, bad.reason, now, is_result=is_result)
            return self._followed(effects, now)
        return effects

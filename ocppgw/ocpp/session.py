"""The version state machine of one connection: text and seconds in, effects out.

    receive(text, now)      a text message came            durable(token, now)   a published record is on disk
    answered(token, found)  the store's reply to an Ask    refused(token, now)   it could not be made durable
    call(pending, now)      a command for the charger      tick(now)             a WakeAt fell due
    decided(token, answer)  the backend's reply to a Decide
    opened(now) / lost(now) the connection's ends

The order of things for a CALL: action known and in the right direction, boot gate, schema, repeated id, then the event
is published, and only when it is durable the answer goes out. CALLs are served one at a time, in order; a charger that
pipelines waits in a bounded queue. Transaction messages are never refused for the state they meet (OCPP 1.6 section
4.7 to 4.10, errata 3.18; 2.x J02.FR.19): a station must not throw billing data away.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ocppgw.ocpp import frames, memory, serials, signed
from ocppgw.ocpp.calls import PendingCall
from ocppgw.ocpp.effects import (
    Close,
    Dispatched,
    Effect,
    Finished,
    Note,
    Publish,
    Send,
    WakeAt,
)
from ocppgw.ocpp.followups import FOLLOWED, FollowUps
from ocppgw.ocpp.inbound import Serving, enqueue
from ocppgw.ocpp.recovery import answer_again
from ocppgw.ocpp.rules import SessionRules, StationFacts
from ocppgw.ocpp.service import Service
from ocppgw.ocpp.state import Answered, content_digest
from ocppgw.ocpp.versions import ActionSpec, Direction

__all__ = ["Session", "SessionRules", "StationFacts"]


class Session(Service):
    """Frames in and out of one connection; what is done with a valid CALL is the part in `Service`."""

    __slots__ = ()

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
    def quirks(self) -> dict[str, Any] | None:
        """Profiles that hold for the station, and repairs on this connection; None where no profiles are kept."""
        return None if self._quirks is None else self._quirks.shown()

    def came_mended(self, repairs: Sequence[str]) -> None:
        """These were made of its handshake."""
        if self._quirks is not None:
            self._quirks.counts.update(repairs)

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
        if not self._requests[action].is_valid(call.payload):
            return self._mended(call, spec, now)
        return self._valid(call, spec, now)

    def _mended(self, call: frames.Call, spec: ActionSpec, now: float) -> list[Effect]:
        """A payload that breaks the schema, in a way that may be known of this station."""
        found = None if self._quirks is None else self._quirks.mended(call, self._requests[call.action])
        if found is None:
            return self._invalid(call, spec, now)
        mended, members, names = found
        return [*(Note("repaired", name) for name in names), *self._valid(mended, spec, now, members)]

    def _valid(self, call: frames.Call, spec: ActionSpec, now: float, repairs: bytes = b"") -> list[Effect]:
        action = call.action
        try:
            payload = frames.dumps(call.payload)
        except ValueError as error:
            return self._error(call, self._version.codes.formation, str(error))
        digest = content_digest(action, payload)
        replay = self.state.recent.get(call.message_id)
        if replay is not None and replay.digest == digest and now - replay.at <= self._rules.replay_seconds:
            text = b"" if self._reuses_ids() else self._answer_again(replay, call, now)
            if text:
                return [Note("replayed"), Send(text)]
        self._token += 1
        serving = Serving(call, spec, self._token, now, payload, digest, repairs=repairs)
        self._serving = serving
        if action in self.station.decided:
            return self._asked(serving, now)
        return self._served(serving, now)

    def _answer_again(self, replay: Answered, call: frames.Call, now: float) -> bytes:
        """The answer a CALL was given before; b"" when it has to be served anew."""
        if call.action == "SignCertificate" and self._rules.signing_judge is not None:
            return b""  # each Accepted is a promise of its own, and the first one may have gone with a crash
        if call.action == "BootNotification" and serials.lacks(self.station.required_serial, call.payload):
            return b""  # it was accepted on a connection with other credentials
        # Recorded before a restart: the text is not known any more.
        return replay.text or answer_again(self._version, call, self._rules, self.state, self.station, now)

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

"""What a text that is no frame is answered with, and when there have been too many of them.

Answers, SENDs and unknown types are never answered. A 1.6 charger hears nothing about what has no readable id: some
drop the CALL they wait for when any answer with a foreign id arrives.
"""

from ocppgw.ocpp import frames
from ocppgw.ocpp.effects import Close, Effect, Note, Send
from ocppgw.ocpp.rules import SessionRules
from ocppgw.ocpp.versions import OcppVersion

_OF_2_1 = frozenset({"malformed-result-error", "malformed-send"})


class BadFrames:
    """The bad frames of one connection. `count`: all of them; the limit counts those within a span of time."""

    __slots__ = ("_counted", "_rules", "_since", "_version", "count")

    def __init__(self, version: OcppVersion, rules: SessionRules) -> None:
        self._version = version
        self._rules = rules
        self._since = 0.0
        self._counted = 0
        self.count = 0

    def received(self, bad: frames.BadFrame, now: float) -> list[Effect]:
        """The note about it and what is sent; `now` in seconds."""
        kind = bad.kind
        if kind == "unknown-type" or (kind in _OF_2_1 and not self._version.has_send):
            return self.unknown_type(bad.message_id)
        self.count += 1
        effects: list[Effect] = [Note("bad-frame", kind)]
        if kind == "not-utf8":
            return [*effects, Close(1007, "a text message has to be UTF-8")]
        if kind == "malformed" and bad.message_id is not None:
            effects.append(Send(frames.call_error(bad.message_id, self._version.codes.envelope, bad.reason)))
        elif kind == "unreadable" and self._version.answers_unreadable:
            effects.append(Send(frames.call_error("-1", self._version.codes.envelope, bad.reason)))
        if self._too_many(now):
            effects.append(Close(1002, "too many frames that are not OCPP-J"))
        return effects

    def unknown_type(self, message_id: str | None) -> list[Effect]:
        """Ignored (1.6J section 4.1.3); on 2.0.1 its own CALLERROR where the operator wants section 4.4's reading."""
        self.count += 1
        effects: list[Effect] = [Note("bad-frame", "unknown-type")]
        version = self._version
        if self._rules.unknown_type_error and version.answers_unreadable and not version.has_send:
            text = frames.call_error(message_id or "-1", "MessageTypeNotSupported", "unknown message type number")
            effects.append(Send(text))
        return effects

    def _too_many(self, now: float) -> bool:
        if now - self._since > self._rules.bad_frames_seconds:
            self._since, self._counted = now, 0
        self._counted += 1
        return self._counted >= self._rules.bad_frames

"""The outbound slot of a session: one CALL in flight, a bounded queue behind it, deadlines, late answers.

OCPP-J lets a sender have one unanswered CALL per connection (1.6J section 4.1.1; 2.x part 4 section 4.1.1). A command
that is not answered by its deadline ends as a timeout, with outcome UNKNOWN because the charger may have run it; its
id is remembered for a while so that a late answer is reported and never taken for another command's.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from ocppgw.ocpp import frames
from ocppgw.ocpp.effects import CommandResult, Dispatched, Effect, Finished, Late, Note, Requeue, Send, WakeAt
from ocppgw.ocpp.gate import BootGate
from ocppgw.ocpp.memory import limits_read
from ocppgw.ocpp.outcomes import Outcome, outcome_of_error, outcome_of_result
from ocppgw.ocpp.schemas import SchemaSet
from ocppgw.ocpp.splitting import TOO_MANY, Batch, batch_of
from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.versions import OcppVersion, normalise_code

LATE_RING = 16


class PendingCall(msgspec.Struct, frozen=True):
    """A command ready to be sent: action and payload of the charger's version; `deadline` in the session's seconds."""

    command_id: str
    action: str
    payload: dict[str, Any]
    deadline: float


class _InFlight(msgspec.Struct, frozen=True):
    message_id: str
    call: PendingCall
    answer_by: float
    batch: Batch | None = None  # of a command whose items may go out in several CALLs


TIMED_OUT = CommandResult(
    Outcome.UNKNOWN,
    error_code="Timeout",
    error_description="the charger did not answer in time; it may have run the command",
)
NOT_SENT = CommandResult(
    Outcome.UNKNOWN,
    error_code="Timeout",
    error_description="the deadline passed before the CALL could be sent",
)
CONNECTION_LOST = CommandResult(
    Outcome.UNKNOWN,
    error_code="ConnectionLost",
    error_description="the connection went before the charger answered; it may have run the command",
)
FOREIGN = Note("foreign-answer")
QUEUE_FULL = CommandResult(
    Outcome.FAILED,
    error_code="Overloaded",
    error_description="too many commands wait for this charger",
)


def _not_accepted(reason: str) -> CommandResult:
    return CommandResult(Outcome.REJECTED, error_code="NotAccepted", error_description=reason)


def _not_json(error: ValueError) -> CommandResult:
    return CommandResult(Outcome.FAILED, error_code="InvalidPayload", error_description=f"the payload: {error}")


def _with_part(result: CommandResult, batch: Batch | None) -> CommandResult:
    """With what the station answered to the CALLs of this command before."""
    response = None if batch is None else batch.so_far()
    return result if response is None else msgspec.structs.replace(result, response=response)


class OutboundCalls:
    """CALLs to one charger. Every method returns effects; times are the session's seconds."""

    __slots__ = (
        "_gate",
        "_in_flight",
        "_late",
        "_new_id",
        "_queue",
        "_queue_limit",
        "_schemas",
        "_state",
        "_version",
        "timeout",
    )

    def __init__(
        self,
        version: OcppVersion,
        schemas: SchemaSet,
        gate: BootGate,
        timeout: float,
        queue_limit: int,
        new_id: Callable[[], str],
        state: StationState,
    ) -> None:
        self._version = version
        self._state = state
        self._gate = gate
        self._schemas = schemas
        self.timeout = timeout  # seconds, of one CALL
        self._queue_limit = queue_limit
        self._new_id = new_id
        self._in_flight: _InFlight | None = None
        self._queue: deque[PendingCall] | None = None  # made when first needed: most connections never queue
        self._late: dict[str, PendingCall] | None = None

    def __len__(self) -> int:
        return len(self._queue or ()) + (self._in_flight is not None)

    def submit(self, call: PendingCall, now: float) -> list[Effect]:
        """Send it, or queue it; refused at once when the boot state forbids it or the queue is full."""
        forbidden = self._gate.forbids(call.action, call.payload)
        if forbidden:
            return [Finished(call.command_id, _not_accepted(forbidden))]
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= self._queue_limit:
            return [Finished(call.command_id, QUEUE_FULL)]
        self._queue.append(call)
        return self._advance(now)

    def result(self, answer: frames.CallResult, now: float) -> list[Effect]:
        batch = self._batch(answer.message_id)
        call, late = self._claim(answer.message_id)
        if call is None:
            return [FOREIGN]
        effects: list[Effect] = []
        validator = self._schemas.responses[call.action]
        if not validator.is_valid(answer.payload):
            violation = validator.explain(answer.payload)
            if self._version.has_call_result_error and not late:
                text = frames.call_error(answer.message_id, violation.code, violation.description, about_result=True)
                effects.append(Send(text))
            ended = CommandResult(
                Outcome.FAILED,
                response=answer.payload,
                error_code=violation.code,
                error_description=f"the charger's answer is not valid: {violation.description}",
            )
        else:
            payload = answer.payload
            if call.action == "GetVariables":
                limits_read(self._state, payload)
            if batch is not None:
                if not batch.took(payload):
                    return self._go_on(call, batch, now)
                payload = batch.whole(payload)
            outcome, status = outcome_of_result(self._version, call.action, payload)
            ended = CommandResult(outcome, status, payload)
        return self._end(call, ended, late, effects, now)

    def error(self, answer: frames.CallError, now: float) -> list[Effect]:
        batch = self._batch(answer.message_id)
        call, late = self._claim(answer.message_id)
        if call is None:
            return [FOREIGN]
        code = normalise_code(answer.code)
        if batch is not None and code == TOO_MANY and batch.halve(self._state):
            return self._go_on(call, batch, now)
        ended = CommandResult(
            outcome_of_error(code),
            response=None if batch is None else batch.so_far(),
            error_code=answer.code[:50],
            error_description=answer.description[: frames.MAX_DESCRIPTION_LENGTH],
            error_details=answer.details or None,
        )
        return self._end(call, ended, late, [], now)

    def malformed(self, message_id: str, reason: str, now: float, *, is_result: bool) -> list[Effect]:
        """A broken CALLRESULT or CALLERROR: it ends our CALL of that id, if there is one."""
        flying = self._in_flight
        if flying is None or flying.message_id != message_id:
            return []
        self._in_flight = None
        code = self._version.codes.envelope
        effects: list[Effect] = []
        if is_result and self._version.has_call_result_error:  # never about a CALLERROR
            effects.append(Send(frames.call_error(message_id, code, reason, about_result=True)))
        ended = CommandResult(
            Outcome.FAILED, error_code=code, error_description=f"the charger's answer is not valid: {reason}"
        )
        return self._end(flying.call, ended, False, effects, now)

    def tick(self, now: float) -> list[Effect]:
        """End what is overdue, send what may go."""
        effects: list[Effect] = []
        flying = self._in_flight
        if flying is not None and flying.answer_by <= now:
            self._in_flight = None
            self._remember_late(flying)
            effects.append(Finished(flying.call.command_id, _with_part(TIMED_OUT, flying.batch)))
        for call in [call for call in self._queue or () if call.deadline <= now]:
            assert self._queue is not None
            self._queue.remove(call)
            effects.append(Finished(call.command_id, NOT_SENT))
        return effects + self._advance(now)

    def lost(self) -> list[Effect]:
        """The connection is gone: what was sent is unknown, what waits may go out on the next connection."""
        effects: list[Effect] = []
        if self._in_flight is not None:
            flying, self._in_flight = self._in_flight, None
            effects.append(Finished(flying.call.command_id, _with_part(CONNECTION_LOST, flying.batch)))
        effects += [Requeue(call.command_id) for call in self._queue or ()]
        self._queue = None
        return effects

    def _claim(self, message_id: str) -> tuple[PendingCall | None, bool]:
        """The call that this id answers (None: not ours), and whether it had ended already."""
        flying = self._in_flight
        if flying is not None and flying.message_id == message_id:
            self._in_flight = None
            return flying.call, False
        if self._late and message_id in self._late:
            return self._late.pop(message_id), True
        return None, False

    def _end(
        self, call: PendingCall, ended: CommandResult, late: bool, effects: list[Effect], now: float
    ) -> list[Effect]:
        if late:
            return [*effects, Note("late-answer"), Late(call.command_id, ended)]
        return [*effects, Finished(call.command_id, ended), *self._advance(now)]

    def _advance(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._in_flight is None and self._queue:
            call = self._queue.popleft()
            if call.deadline <= now:
                effects.append(Finished(call.command_id, NOT_SENT))
                continue
            forbidden = self._gate.forbids(call.action, call.payload)
            if forbidden:  # the station has booted since, and was not accepted
                effects.append(Finished(call.command_id, _not_accepted(forbidden)))
                continue
            batch = batch_of(call.action, call.payload, self._state)
            try:
                text = self._fly(call, batch, now)
            except ValueError as error:
                effects.append(Finished(call.command_id, _not_json(error)))
                continue
            assert self._in_flight is not None
            message_id = self._in_flight.message_id
            effects.append(Dispatched(call.command_id, message_id, call.action, call.payload, now))
            effects.append(Send(text))
            self._gate.dispatched(call.action, call.payload, now)
        return effects + self._wake()

    def _fly(self, call: PendingCall, batch: Batch | None, now: float) -> bytes:
        """The CALL's frame; from now on it is out. ValueError: the payload is no JSON."""
        message_id = self._new_id()
        payload = call.payload if batch is None else batch.next_payload()
        text = frames.call(message_id, call.action, payload)
        self._in_flight = _InFlight(message_id, call, min(call.deadline, now + self.timeout), batch)
        return text

    def _go_on(self, call: PendingCall, batch: Batch, now: float) -> list[Effect]:
        """The next CALL of a command that has some more; the commands behind it wait."""
        if call.deadline <= now:
            return [Finished(call.command_id, _with_part(TIMED_OUT, batch)), *self._advance(now)]
        try:
            text = self._fly(call, batch, now)
        except ValueError as error:
            return [Finished(call.command_id, _with_part(_not_json(error), batch)), *self._advance(now)]
        return [Send(text), *self._wake()]

    def _batch(self, message_id: str) -> Batch | None:
        flying = self._in_flight
        return flying.batch if flying is not None and flying.message_id == message_id else None

    def _wake(self) -> list[Effect]:
        deadlines = [call.deadline for call in self._queue or ()]
        if self._in_flight is not None:
            deadlines.append(self._in_flight.answer_by)
        return [WakeAt(min(deadlines))] if deadlines else []

    def _remember_late(self, flying: _InFlight) -> None:
        if self._late is None:
            self._late = {}
        self._late[flying.message_id] = flying.call
        if len(self._late) > LATE_RING:
            del self._late[next(iter(self._late))]

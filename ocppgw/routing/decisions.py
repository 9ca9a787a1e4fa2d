"""Answers that the backend gives: asked with a deadline, and what goes out when it says nothing.

    session ── Decide ──> ask ── CallRequest ──> backend (Kafka, or whoever reads /v1/calls)
       ^                   |                        |
       └── decided ────────┴── deadline: fallback   └── reply: judged, then the answer

Each question has exactly one end: the first reply that can be sent, or the fallback of its action when the deadline
comes, the bus does not take the question, or too many are open: `local` (the gateway's own answer), `last` (what the
backend said of the same token of this station, while that holds, else local) or `error` (a CALLERROR, but never to a
transaction message).
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import CommandError, OcppgwError
from ocppgw.logs import RateLimitedLog
from ocppgw.metrics import Metrics
from ocppgw.ocpp.deciding import REPEATABLE, is_expired
from ocppgw.ocpp.effects import Decide
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.routing.link_ports import Deciding

log = Logger(namespace="ocppgw.decisions")

MOST_OPEN = 10_000  # questions; beyond them the fallback is given at once
MOST_WAITING = 1000  # for the next question; beyond them the answer comes at once
MOST_REMEMBERED = 50_000  # last answers, the one that was used longest ago goes first
SAME_LINE_SECONDS = 60.0


class DecisionRules(msgspec.Struct, frozen=True):
    """`timeout` in seconds; `fallback`: of actions that `fallbacks` does not name."""

    timeout: float = 5.0
    fallback: str = "local"
    fallbacks: Mapping[str, str] = {}

    def fallback_of(self, action: str) -> str:
        return self.fallbacks.get(action, self.fallback)


class Asking(Protocol):
    """Takes a CallRequest to the backend; fails with an OcppgwError when it can't."""

    def __call__(self, request: Mapping[str, Any]) -> "Deferred[None]": ...


class CallsApi(Protocol):
    """What the operations HTTP needs of Decisions."""

    def open_calls(self) -> list[dict[str, Any]]: ...
    def until_asked(self, seconds: float) -> "Deferred[None]": ...
    def reply(self, reply: Mapping[str, Any]) -> None: ...


class OpenCall(msgspec.Struct):
    """A question without an answer; `request` as the backend sees it."""

    request: dict[str, Any]
    link: Deciding
    decide: Decide
    asked_at: float
    timer: IDelayedCall


class Decisions:
    """`ask_backend`: None where there is no bus, and whoever looks at `open_calls` answers."""

    def __init__(
        self,
        rules: DecisionRules,
        ask_backend: Asking | None,
        reply_to: str,
        metrics: Metrics,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._rules, self._ask_backend, self.reply_to = rules, ask_backend, reply_to
        self._metrics, self._clock, self._new_id = metrics, clock, new_id
        self._open: dict[str, OpenCall] = {}
        self._last: OrderedDict[tuple[str, str], Mapping[str, Any]] = OrderedDict()
        self._waiting: list[Deferred[None]] = []
        self._log = RateLimitedLog(log, SAME_LINE_SECONDS, metrics.log_left_out)

    # --- the session's side

    def ask(self, link: Deciding, decide: Decide) -> None:
        """`link.decided` is called exactly once for it, perhaps before this returns."""
        if len(self._open) >= MOST_OPEN:
            self._fall_back(link, decide, "overloaded")
            return
        correlation_id, now = self._new_id(), self._clock.seconds()
        timer = self._clock.callLater(self._rules.timeout, self._late, correlation_id)
        call = OpenCall(self._request(correlation_id, link, decide, now), link, decide, now, timer)
        self._open[correlation_id] = call
        if self._ask_backend is not None:
            self._ask_backend(call.request).addErrback(self._not_asked, correlation_id)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    # --- the backend's side

    def reply(self, reply: Mapping[str, Any]) -> None:
        """A CallResponse. Errors: CommandError when it can't be used, or nobody waits for it; another may follow."""
        correlation_id = str(reply.get("correlationId", ""))
        call = self._open.get(correlation_id)
        if call is None:
            self._metrics.note("decision-late")
            name = correlation_id[:100]
            raise UnknownCall(
                f"no call waits under correlationId {name!r}", hint="its time is over, or it was answered"
            )
        answer, fault = _answer_of(reply, call.decide)
        if fault:
            self._metrics.note("decision-invalid")
            raise CommandError(f"the answer to {call.decide.action} can't be sent: {fault}", code="InvalidAnswer")
        if answer is None:
            self._end(correlation_id, "error")
            call.link.decided(call.decide.token, None, is_refused=True)
            return
        self._remember(call, answer)
        self._end(correlation_id, "backend")
        call.link.decided(call.decide.token, answer)

    def open_calls(self) -> list[dict[str, Any]]:
        """Those that wait for an answer, oldest first."""
        return [call.request for call in self._open.values()]

    def until_asked(self, seconds: float) -> "Deferred[None]":
        """Fires with the next question, or after so long; at once when too many wait already."""
        if len(self._waiting) >= MOST_WAITING:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        timer = self._clock.callLater(seconds, self._waited, waiting)
        return waiting.addCallback(lambda _: timer.cancel() if timer.active() else None)

    # --- inside

    def _request(self, correlation_id: str, link: Deciding, decide: Decide, now: float) -> dict[str, Any]:
        station = link.station
        return {
            "correlationId": correlation_id,
            "replyTo": self.reply_to,
            "requestedAt": rfc3339(now).decode(),
            "deadline": rfc3339(now + self._rules.timeout).decode(),
            "chargePointId": station.charge_point_id,
            "stationId": station.station_id,
            "tenantId": station.tenant_id,
            "ocppVersion": link.version.name,
            "action": decide.action,
            "messageId": decide.message_id,
            "payload": msgspec.Raw(decide.payload),
        }

    def _end(self, correlation_id: str, outcome: str) -> None:
        call = self._open.pop(correlation_id)
        if call.timer.active():
            call.timer.cancel()
        self._metrics.decided(call.decide.action, outcome, self._clock.seconds() - call.asked_at)

    def _late(self, correlation_id: str) -> None:
        self._give_up(correlation_id, "timeout")

    def _not_asked(self, failure: Any, correlation_id: str) -> None:
        if failure.check(OcppgwError) is None:
            log.failure("a fault of the gateway itself", failure=failure)
        self._give_up(correlation_id, "not-asked", failure.getErrorMessage())

    def _give_up(self, correlation_id: str, why: str, reason: str = "") -> None:
        call = self._open.get(correlation_id)
        if call is None:
            return
        self._end(correlation_id, why)
        self._fall_back(call.link, call.decide, why, reason, is_counted=True)

    def _fall_back(
        self, link: Deciding, decide: Decide, why: str, reason: str = "", *, is_counted: bool = False
    ) -> None:
        if not is_counted:
            self._metrics.decided(decide.action, why, 0.0)
        kind = self._rules.fallback_of(decide.action)
        self._log.warn(
            why,
            self._clock.seconds(),
            "the backend has not decided {action} ({why}): fallback {kind} {reason}",
            action=decide.action,
            why=why,
            kind=kind,
            reason=reason,
            station=link.station.charge_point_id,
        )
        last = self._last.get((link.station.charge_point_id, decide.key)) if kind == "last" else None
        if last is not None and (is_expired(last, self._clock.seconds()) or decide.judge(last)):
            last = None  # its time is over, or the station had another OCPP version then
        link.decided(decide.token, last, is_refused=kind == "error")

    def _remember(self, call: OpenCall, answer: Mapping[str, Any]) -> None:
        if self._rules.fallback_of(call.decide.action) != "last" or call.decide.action not in REPEATABLE:
            return
        key = (call.link.station.charge_point_id, call.decide.key)
        self._last[key] = {
            name: value for name, value in answer.items() if name != "currentTime"
        }  # it was that moment's
        self._last.move_to_end(key)
        if len(self._last) > MOST_REMEMBERED:
            self._last.popitem(last=False)

    def _waited(self, waiting: "Deferred[None]") -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.callback(None)


class UnknownCall(CommandError):
    """Nobody waits for this answer."""

    code = "UnknownCall"


def _answer_of(reply: Mapping[str, Any], decide: Decide) -> tuple[Mapping[str, Any] | None, str]:
    """The answer, None for a refusal, and what is wrong with the reply."""
    if "error" in reply:
        return None, "" if isinstance(reply["error"], dict) else "error is no JSON object"
    answer = reply.get("payload")
    if not isinstance(answer, dict):
        return None, "it has neither a payload nor an error that is a JSON object"
    return answer, decide.judge(answer)

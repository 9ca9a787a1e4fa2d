"""The boot gate: who may say what before BootNotification was accepted.

| state    | from the charger                                          | to the charger                                |
|----------|-----------------------------------------------------------|-----------------------------------------------|
| none     | BootNotification                                          | TriggerMessage(BootNotification), once        |
| Pending  | + what TriggerMessage, GetBaseReport, GetReport asked for | the version's `pending_down`                  |
| Rejected | BootNotification                                          | nothing (a switch lets TriggerMessage(Boot))  |
| Accepted | everything                                                | everything                                    |

Sources: OCPP 1.6 section 4.2 and errata 3.10; 2.x B01.FR.10, B02.FR.01/02/05/09, B03.FR.03/07. Transaction messages and
security events always pass (`never_refused`): a refused one is thrown away by the charger, and with it the bill
(ADR 0005). An exemption opens when the trigger is sent, not when it is answered: the message may come first.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ocppgw.ocpp.state import StationState
from ocppgw.ocpp.versions import ActionSpec, OcppVersion

EXEMPTION_SECONDS = 300.0


class BootGate:
    __slots__ = ("_assume_accepted", "_exempt", "_state", "_trigger_when_rejected", "_triggered", "_version")

    def __init__(
        self, version: OcppVersion, state: StationState, assume_accepted: bool, trigger_when_rejected: bool
    ) -> None:
        self._version = version
        self._state = state
        self._assume_accepted = assume_accepted
        self._trigger_when_rejected = trigger_when_rejected
        self._triggered = False  # TriggerMessage(BootNotification) to a station that never booted: once a connection
        self._exempt: dict[str, float] | None = None  # action -> until when (seconds); made when first needed

    def lets_in(self, spec: ActionSpec, payload: Mapping[str, Any], now: float) -> bool:
        """May the charger send this now? Uses up an exemption. `payload` is not validated yet."""
        status = self._state.boot_status
        if status == "Accepted" or spec.name == "BootNotification" or spec.never_refused:
            return True
        if status is None:
            return self._assume_accepted
        return status == "Pending" and self._exempted(spec.name, payload, now)

    def forbids(self, action: str, payload: Mapping[str, Any]) -> str:
        """Why this CALL may not go to the charger now; "" when it may."""
        status = self._state.boot_status
        if status == "Accepted" or (status is None and self._assume_accepted):
            return ""
        if status == "Pending":
            return "" if action in self._version.pending_down else f"{action} is not allowed while the boot is Pending"
        boots = action in self._version.trigger_actions and payload.get("requestedMessage") == "BootNotification"
        if status is None:
            allowed = boots and not self._triggered
            return "" if allowed else "the charger has not sent a BootNotification yet"
        return "" if boots and self._trigger_when_rejected else "the charger's boot was rejected"

    def dispatched(self, action: str, payload: Mapping[str, Any], now: float) -> None:
        """A CALL went out: remember what it entitles a charger to send that is not accepted yet."""
        if self._state.boot_status == "Accepted":
            return
        version = self._version
        self._triggered = self._triggered or action in version.trigger_actions
        replies: Iterable[str] = ()
        if action in version.trigger_actions:
            replies = version.trigger_reply_actions.get(payload.get("requestedMessage", ""), ())
        elif action in version.report_actions:
            replies = (version.report_actions[action],)
        for reply in replies:
            if self._exempt is None:
                self._exempt = {}
            self._exempt[reply] = now + EXEMPTION_SECONDS

    def _exempted(self, action: str, payload: Mapping[str, Any], now: float) -> bool:
        until = (self._exempt or {}).get(action)
        if until is None or now > until:
            return False
        more_to_come = action == "NotifyReport" and payload.get("tbc") is True
        if not more_to_come and self._exempt is not None:
            del self._exempt[action]
        return True

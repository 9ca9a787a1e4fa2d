"""One simulated station as a plain object: frames and seconds in, effects out. It knows no socket and no reactor.

The driver calls `connected`, `received`, `tick` and `disconnected`, performs the effects in order, and calls `tick`
again at `wake_at`. Times are seconds since the epoch.
"""

import random
from collections.abc import Callable
from typing import Any

import orjson

from ocppgw.ocpp import frames
from ocppgw.simulator.charging import Cause, Connector, Session
from ocppgw.simulator.configuration import SettingKey
from ocppgw.simulator.dialect import VENDOR, Dialect, Payload, Refused, timestamp
from ocppgw.simulator.effects import Disconnect, Effect, Send
from ocppgw.simulator.memory import Memory
from ocppgw.simulator.options import Plan
from ocppgw.simulator.outbox import Outbox, Outgoing
from ocppgw.simulator.statistics import Statistics
from ocppgw.simulator.vehicle import AC_22KW, DC_150KW

BOOT_RETRY = 30.0  # seconds, after a boot without a usable answer
BOOT_INTERVAL_DEFAULT = 60.0  # seconds, when a Pending or Rejected answer leaves it to the station
REBOOT_DELAY = 15.0  # simulated seconds
MIN_REBOOT_DELAY = 0.5  # real seconds
DRAIN_LIMIT = 10.0  # seconds a graceful reboot waits for its transaction messages
SUMMARY_PROBABILITY = 0.25  # of a DataTransfer after a session; the first one always sends it


class Station:
    def __init__(
        self, station_id: str, dialect: Dialect, rng: random.Random, plan: Plan, statistics: Statistics
    ) -> None:
        self.station_id = station_id
        self.dialect = dialect
        self.rng = rng
        self.plan = plan
        self.statistics = statistics
        self.online = False
        self.boot_status: str | None = None
        self.boot_reason = "PowerUp"
        self.firmware_version = "1.0.0"
        self.finished = False
        self.outbox = Outbox(rng)
        self.memory = Memory()
        self.settings = {key: setting.default for key, setting in dialect.settings.items()}
        supply = rng.choice((AC_22KW, DC_150KW))
        count = plan.connectors or rng.choice((1, 2))
        self.connectors = {number: Connector(self, number, supply) for number in range(1, count + 1)}
        if "NumberOfConnectors" in self.settings:
            self.settings["NumberOfConnectors"] = str(count)
        self._sessions_claimed = 0
        self._leaving = False
        self._reset_when_idle = False
        self._introduced = False
        self._summarized = False
        self._timers: dict[str, tuple[float, Callable[[float], None]]] = {}
        self._effects: list[Effect] = []
        self._after_boot: dict[str, Callable[[float], None]] = {}

    # What the driver calls

    @property
    def accepted(self) -> bool:
        return self.boot_status == "Accepted"

    @property
    def charging(self) -> int:
        return sum(connector.session is not None for connector in self.connectors.values())

    @property
    def wake_at(self) -> float | None:
        times = [at for at, _ in self._timers.values()]
        outbox = self.outbox.wake_at(transactional=self.accepted) if self.online else None
        if outbox is not None:
            times.append(outbox)
        return min(times, default=None)

    def connected(self, now: float) -> list[Effect]:
        self.online = True
        if self.accepted:  # a mere reconnect is no boot: 1.6J section 5.4, 2.x part 4 section 5.4
            self._report_all(now)
        elif self.boot_status is None or "boot" not in self._timers:  # else Pending or Rejected, and not due yet
            self.cancel("boot")
            self._boot(now)
        return self._step(now)

    def disconnected(self, now: float) -> list[Effect]:
        self.online = False
        self.outbox.lost(now)
        return self._step(now)

    def received(self, text: bytes, now: float) -> list[Effect]:
        match frames.parse(text):
            case frames.Call() as call:
                self._answer(call, now)
            case frames.CallResult(message_id, payload):
                self._answered(message_id, payload, now)
            case frames.CallError(message_id, code, description, _, about_result):
                self._refused(message_id, code, description, about_result, now)
            case frames.BadFrame() as bad:
                self._unreadable(bad)
            case frames.Send():  # only stations send these
                self.statistics.error(self.station_id, "the CSMS sent a SEND message")
        return self._step(now)

    def tick(self, now: float) -> list[Effect]:
        overdue = self.outbox.overdue(now)
        if overdue is not None:
            self._failed(overdue, "Timeout", "no answer in time", now)
        due = sorted((at, key) for key, (at, _) in self._timers.items() if at <= now)
        for _, key in due:
            timer = self._timers.get(key)
            if timer is not None and timer[0] <= now:
                del self._timers[key]
                timer[1](now)
        return self._step(now)

    def wind_down(self, now: float) -> list[Effect]:
        """End all sessions, send what is left, then disconnect for good."""
        self._leaving = True
        for connector in self.connectors.values():
            connector.stand_down(now)
            connector.stop(Cause.LOCAL, now)
        return self._step(now)

    def _step(self, now: float) -> list[Effect]:
        if self._reset_when_idle and not self.charging and "reboot" not in self._timers:
            self.reboot_soon(now, "ScheduledReset", cause=None, graceful=True)
        if self.online:
            text = self.outbox.take(now, transactional=self.accepted)
            if text is not None:
                self.statistics.calls_sent += 1
                self._effects.append(Send(text))
            self._leave_when_done()
        effects, self._effects = self._effects, []
        return effects

    def _leave_when_done(self) -> None:
        spent = self.plan.sessions is not None and self._sessions_claimed >= self.plan.sessions and self.accepted
        at_rest = self._leaving or (spent and all(connector.at_rest for connector in self.connectors.values()))
        if at_rest and not len(self.outbox) and not self.finished and "reboot" not in self._timers:
            self.finished = True
            self._timers.clear()
            self._effects.append(Disconnect(None))

    # Boot and heartbeat

    def boot_again(self, now: float, reason: str) -> None:
        """Triggered or after a lost boot state, without a reboot."""
        self.boot_reason = reason
        self._boot(now)

    def _boot(self, now: float) -> None:
        if self.online:
            payload = self.dialect.boot(self)
            self.queue(Outgoing("BootNotification", payload, self._boot_answered, self._boot_failed), now, early=True)

    def _boot_failed(self, code: str, now: float) -> None:
        if code != "Offline":  # else the next connection boots
            self.later("boot", now + BOOT_RETRY * self.rng.uniform(1.0, 1.5), self._boot)

    def _boot_answered(self, answer: Payload, now: float) -> None:
        self.boot_status = str(answer.get("status"))
        interval = answer.get("interval")
        interval = float(interval) if isinstance(interval, int) and interval > 0 else 0.0
        if not self.accepted:
            self.later("boot", now + (interval or BOOT_INTERVAL_DEFAULT), self._boot)
            return
        if interval:
            self.settings[self.dialect.heartbeat_key] = str(int(interval))
        self._plan_heartbeat(now, self.rng.uniform(0.5, 1.0))
        self._booted(now)

    def _booted(self, now: float) -> None:
        self._report_all(now)
        self.security_event("StartupOfTheDevice", now)
        if not self._introduced:
            self._introduced = True
            self.queue(self.dialect.firmware("Idle", None, signed=False), now)
        waiting, self._after_boot = self._after_boot, {}
        for callback in waiting.values():
            callback(now)
        for connector in self.connectors.values():
            if connector.session is None and connector.at_rest:
                connector.plan_arrival(now)

    def after_boot(self, key: str, callback: Callable[[float], None]) -> None:
        """Call back once, after the next accepted boot; a callback of the same key is replaced."""
        self._after_boot[key] = callback

    def heartbeat(self, now: float, *, early: bool = False) -> None:
        self.queue(Outgoing("Heartbeat", {}), now, early=early)

    def plan_heartbeat(self, now: float) -> None:
        """The interval has been changed by a command."""
        self._plan_heartbeat(now, 1.0)

    def _plan_heartbeat(self, now: float, part: float) -> None:
        interval = self.setting_seconds(self.dialect.heartbeat_key)
        if self.plan.heartbeat and interval > 0:
            self.later("heartbeat", now + max(1.0, interval * part), self._beat)

    def _beat(self, now: float) -> None:
        self.heartbeat(now)
        self._plan_heartbeat(now, 1.0)

    # Reboot

    def reboot_soon(self, now: float, reason: str, *, cause: Cause | None, graceful: bool) -> None:
        """Answer first, end the sessions (cause None: they go on afterwards), then go down."""
        for connector in self.connectors.values():
            connector.stand_down(now)
            if cause is not None:
                connector.stop(cause, now)
        limit = now + (DRAIN_LIMIT if graceful else 0.0)
        self.later("reboot", now + 0.2, lambda at: self._reboot_when_drained(at, limit, reason))

    def reset_when_idle(self) -> None:
        """Reboot after the last running session (2.x B12)."""
        self._reset_when_idle = True

    def _reboot_when_drained(self, now: float, limit: float, reason: str) -> None:
        if self.online and len(self.outbox) and now < limit:
            self.later("reboot", now + 0.2, lambda at: self._reboot_when_drained(at, limit, reason))
            return
        reservations = {key: timer for key, timer in self._timers.items() if key.startswith("reservation")}
        self._timers = reservations
        self._reset_when_idle = False
        self.boot_status = None
        self.boot_reason = reason
        self.online = False
        self.outbox.lost(now)
        self.memory.rebooted()
        for connector in self.connectors.values():
            connector.reboot(now)
            if connector.session is not None:
                self.after_boot(f"resume-{connector.number}", connector.resume)
        self._effects.append(Disconnect(max(MIN_REBOOT_DELAY, self.scaled(REBOOT_DELAY))))

    # Sending

    def queue(self, item: Outgoing, now: float, *, early: bool = False) -> bool:
        """Queue a CALL; False when the station is offline or not accepted (`early`: allowed then) and so it is lost."""
        if not item.transactional and not (self.online and (self.accepted or early)):
            if item.failed is not None:
                item.failed("Offline", now)
            return False
        self.outbox.add(item, now)
        return True

    def send(self, action: str, payload: Payload, now: float, *, early: bool = False) -> bool:
        return self.queue(Outgoing(action, payload), now, early=early)

    def security_event(self, kind: str, now: float) -> None:
        self.send("SecurityEventNotification", {"type": kind, "timestamp": timestamp(now)}, now)

    def _report_all(self, now: float) -> None:
        if not self.dialect.is_2x:  # connector 0 stands for the station
            payload = {"connectorId": 0, "errorCode": "NoError", "status": "Available", "timestamp": timestamp(now)}
            self.send("StatusNotification", payload, now)
        for connector in self.connectors.values():
            connector.report(now)

    # Receiving

    def _answered(self, message_id: str, payload: Payload, now: float) -> None:
        item = self.outbox.land(message_id)
        if item is None:
            self.statistics.error(self.station_id, f"an answer to an unknown message {message_id[:40]!r}")
            return
        self.statistics.calls_answered += 1
        if item.answered is None:
            return
        try:
            item.answered(payload, now)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.statistics.error(self.station_id, f"unusable answer to {item.action}: {error!r}")
            if item.failed is not None:
                item.failed("FormatViolation", now)

    def _refused(self, message_id: str, code: str, description: str, about_result: bool, now: float) -> None:
        if about_result:
            self.statistics.error(self.station_id, f"our answer was refused: {code} {description}")
            return
        item = self.outbox.land(message_id)
        if item is None:
            self.statistics.error(self.station_id, f"CALLERROR {code} {description} for an unknown message")
            return
        self._failed(item, code, description, now)

    def _failed(self, item: Outgoing, code: str, description: str, now: float) -> None:
        self.statistics.call_errors += 1
        self.statistics.error(self.station_id, f"{item.action}: {code} {description}")
        if code == "SecurityError" and self.accepted:
            # The CSMS has forgotten that it accepted this station: it wants a boot before anything else.
            self.boot_status = None
            self.later("boot", now + self.rng.uniform(1.0, 5.0), self._boot)
        self.outbox.failed(item, code, now)

    def _unreadable(self, bad: frames.BadFrame) -> None:
        self.statistics.error(self.station_id, f"unreadable frame: {bad.reason}")
        if bad.kind == "malformed" and bad.message_id is not None:
            self._effects.append(Send(frames.call_error(bad.message_id, self.dialect.bad_frame, bad.reason)))
            self.statistics.command_errors += 1

    def _answer(self, call: frames.Call, now: float) -> None:
        try:
            handler = self.dialect.commands.get(call.action)
            if handler is None:
                raise Refused("NotImplemented", f"{call.action[:50]} is not known to this station")
            text = frames.call_result(orjson.dumps(call.message_id), orjson.dumps(handler(self, call.payload, now)))
            self.statistics.commands_answered += 1
        except Refused as refusal:
            text = frames.call_error(call.message_id, refusal.code, str(refusal))
            self.statistics.command_errors += 1
        except (KeyError, TypeError, ValueError, AttributeError):  # a payload of another shape than the schema's
            text = frames.call_error(call.message_id, self.dialect.malformed, "the payload does not fit the schema")
            self.statistics.command_errors += 1
        self._effects.append(Send(text))

    # Services to connectors and commands

    def later(self, key: str, at: float, callback: Callable[[float], None]) -> None:
        """Call back at that time; a timer of the same key is replaced."""
        self._timers[key] = (at, callback)

    def cancel(self, key: str) -> None:
        self._timers.pop(key, None)

    def scaled(self, least: float, most: float | None = None) -> float:
        """Real seconds for so many simulated ones (or a random number between the two)."""
        return (least if most is None else self.rng.uniform(least, most)) / self.plan.speed

    def setting_seconds(self, key: SettingKey) -> float:
        return float(self.settings[key])

    def new_token(self) -> str:
        return f"{self.rng.getrandbits(32):08X}"

    def wants_session(self) -> bool:
        return not self._leaving and (self.plan.sessions is None or self._sessions_claimed < self.plan.sessions)

    def claim_session(self) -> bool:
        wanted = self.wants_session()
        self._sessions_claimed += wanted
        return wanted

    def authorize(self, id_token: str, done: Callable[[str, str, float], None], now: float) -> None:
        """Ask the CSMS about a token; without a connection the station trusts it (offline authorization)."""

        def answered(answer: Payload, at: float) -> None:
            done(id_token, self.dialect.authorization(answer), at)

        def failed(code: str, at: float) -> None:
            done(id_token, "Accepted" if code in ("Offline", "Timeout") else "Invalid", at)

        self.queue(Outgoing("Authorize", self.dialect.authorize(id_token), answered, failed), now)

    def session_over(self, connector: Connector, session: Session, now: float) -> None:
        self.statistics.sessions_completed += 1
        first, self._summarized = not self._summarized, True
        if first or self.rng.random() < SUMMARY_PROBABILITY:
            summary = {"connector": connector.number, "register": int(connector.register), "soc": session.vehicle.soc}
            data = orjson.dumps(summary).decode()
            self.send("DataTransfer", {"vendorId": VENDOR, "messageId": "SessionSummary", "data": data}, now)

    def session_of(self, transaction_id: Any) -> Connector | None:
        for connector in self.connectors.values():
            if connector.session is not None and connector.session.transaction_id == transaction_id:
                return connector
        return None

"""Counters of a running fleet, and the snapshot that a display or a test reads."""

from collections import deque
from dataclasses import dataclass, field

MAX_ERRORS = 20  # remembered sentences; the counters go on


@dataclass(frozen=True)
class FleetSnapshot:
    """The fleet at one moment. `connected`, `booted` and `charging` are gauges, the others count from the start."""

    stations: int = 0
    connected: int = 0
    booted: int = 0  # connected and accepted by the CSMS
    charging: int = 0  # connectors with a transaction
    sessions_completed: int = 0
    calls_sent: int = 0
    calls_answered: int = 0  # with a CALLRESULT
    call_errors: int = 0  # CALLERRORs received, and CALLs that got no answer in time
    commands_answered: int = 0
    command_errors: int = 0  # commands of the CSMS answered with a CALLERROR
    reconnects: int = 0  # connections opened again after a loss or a reboot
    messages_discarded: int = 0  # transaction messages given up after the last attempt, or dropped from a full queue
    last_errors: tuple[str, ...] = ()


@dataclass
class Statistics:
    """Shared by all stations of a fleet."""

    sessions_completed: int = 0
    calls_sent: int = 0
    calls_answered: int = 0
    call_errors: int = 0
    commands_answered: int = 0
    command_errors: int = 0
    reconnects: int = 0
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_ERRORS))

    def error(self, station_id: str, sentence: str) -> None:
        self.errors.append(f"{station_id}: {sentence[:200]}")

    def snapshot(self, stations: int, connected: int, booted: int, charging: int, discarded: int) -> FleetSnapshot:
        return FleetSnapshot(
            stations=stations,
            connected=connected,
            booted=booted,
            charging=charging,
            sessions_completed=self.sessions_completed,
            calls_sent=self.calls_sent,
            calls_answered=self.calls_answered,
            call_errors=self.call_errors,
            commands_answered=self.commands_answered,
            command_errors=self.command_errors,
            reconnects=self.reconnects,
            messages_discarded=discarded,
            last_errors=tuple(self.errors),
        )

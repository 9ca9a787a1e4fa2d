"""Connectors and the charging sessions on them: a driver comes, authorizes, charges, leaves; or the CSMS decides so.

Connector statuses are kept in the words of 1.6; a dialect translates them.
"""

import uuid
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ocppgw.simulator.dialect import Payload
from ocppgw.simulator.outbox import Outgoing
from ocppgw.simulator.vehicle import Reading, Supply, Vehicle

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

ARRIVAL = (20.0, 300.0)  # simulated seconds between two cars
STAY = (600.0, 3600.0)  # simulated seconds on the cable
UNPLUG = 15.0
REMOTE_PLUG_IN = 10.0
MIN_SAMPLE_INTERVAL = 0.2  # real seconds: a large time factor must not turn into a flood


class Cause(Enum):
    """Why a transaction ends: 1.6 reason, 2.x triggerReason, 2.x stoppedReason."""

    LOCAL = ("Local", "StopAuthorized", "Local")
    DEPARTED = ("EVDisconnected", "EVDeparted", "EVDisconnected")
    REMOTE = ("Remote", "RemoteStop", "Remote")
    DEAUTHORIZED = ("DeAuthorized", "Deauthorized", "DeAuthorized")
    HARD_RESET = ("HardReset", "ResetCommand", "ImmediateReset")
    SOFT_RESET = ("SoftReset", "ResetCommand", "ImmediateReset")
    UNLOCKED = ("UnlockCommand", "UnlockCommand", "Other")
    REBOOT = ("Reboot", "AbnormalCondition", "Reboot")


@dataclass
class Session:
    """A transaction; `transaction_id` is the station's own (2.x) or the CSMS's (1.6: None until it answered)."""

    id_token: str
    vehicle: Vehicle
    started_at: float
    advanced_at: float
    transaction_id: str | int | None = None
    remote_start_id: int | None = None
    reservation_id: int | None = None
    seq_no: int = -1
    suspended: bool = False

    def next_seq_no(self) -> int:
        self.seq_no += 1
        return self.seq_no


@dataclass(frozen=True)
class Reservation:
    reservation_id: int
    id_token: str


class Connector:
    """One connector (2.x: one EVSE with connector 1)."""

    def __init__(self, station: "Station", number: int, supply: Supply) -> None:
        self.station = station
        self.number = number
        self.supply = supply
        self.status = "Available"
        self.operative = True
        self.register = float(station.rng.randrange(5_000, 2_000_000))
        self.session: Session | None = None
        self.reservation: Reservation | None = None
        self._reported = ""

    @property
    def free(self) -> bool:
        return self.operative and self.session is None and self.status in ("Available", "Reserved")

    @property
    def at_rest(self) -> bool:
        return self.session is None and self.status in ("Available", "Reserved", "Unavailable")

    # Status

    def set_status(self, status: str, now: float) -> None:
        self.status = status
        if self.station.dialect.wire_status(status) != self._reported:
            self.report(now)

    def report(self, now: float) -> None:
        """StatusNotification with what is true now; unsent ones are made up for after a reconnect."""
        if self.station.send("StatusNotification", self.station.dialect.status(self, now), now):
            self._reported = self.station.dialect.wire_status(self.status)

    def rest(self, now: float) -> None:
        if not self.operative:
            self.set_status("Unavailable", now)
        else:
            self.set_status("Reserved" if self.reservation is not None else "Available", now)

    def set_operative(self, operative: bool, now: float) -> bool:
        """False: the change waits for the end of the session."""
        self.operative = operative
        if self.session is not None or not self.at_rest:
            return operative
        self.rest(now)
        self.plan_arrival(now)
        return True

    # A driver comes

    def plan_arrival(self, now: float) -> None:
        if self.station.wants_session():
            self.station.later(self._key("arrive"), now + self.station.scaled(*ARRIVAL), self._arrive)

    def _arrive(self, now: float) -> None:
        if not self.free or not self.station.claim_session():
            return
        token = self.reservation.id_token if self.reservation is not None else self.station.new_token()
        self.set_status("Preparing", now)
        self.station.authorize(token, self._authorized, now)

    def _authorized(self, id_token: str, status: str, now: float) -> None:
        if self.status != "Preparing":  # a reset or a command came between
            return
        if status == "Accepted":
            self.start(id_token, now)
        else:
            self.rest(now)
            self.plan_arrival(now)

    def remote_start(self, id_token: str, remote_start_id: int | None, now: float) -> None:
        self.station.cancel(self._key("arrive"))
        self.set_status("Preparing", now)
        delay = self.station.scaled(REMOTE_PLUG_IN)
        self.station.later(self._key("start"), now + delay, lambda at: self.start(id_token, at, remote_start_id))

    def stand_down(self, now: float) -> None:
        """Forget a driver who is about to charge: an answer to Authorize that comes later starts nothing."""
        for name in ("arrive", "start"):
            self.station.cancel(self._key(name))
        if self.session is None and self.status == "Preparing":
            self.rest(now)

    # Charging

    def start(self, id_token: str, now: float, remote_start_id: int | None = None) -> None:
        station = self.station
        session = Session(id_token, Vehicle.arriving(station.rng, self.supply), now, now)
        session.remote_start_id = remote_start_id
        if self.reservation is not None and self.reservation.id_token == id_token:
            session.reservation_id = self.reservation.reservation_id
            self.drop_reservation()
        if station.dialect.is_2x:
            session.transaction_id = str(uuid.UUID(int=station.rng.getrandbits(128), version=4))
        self.session = session
        self.set_status("Charging", now)
        station.queue(self._watched(station.dialect.started(self, session, now), session), now)
        self._plan_sample(now)
        station.later(self._key("leave"), now + station.scaled(*STAY), lambda at: self.stop(Cause.LOCAL, at))

    def _watched(self, item: Outgoing, session: Session) -> Outgoing:
        """Stop when the CSMS's answer withdraws the token: 1.6 section 5.8, 2.x E05."""
        inner = item.answered

        def answered(answer: Payload, now: float) -> None:
            if inner is not None:
                inner(answer, now)
            if self.station.dialect.authorization(answer) != "Accepted" and self.session is session:
                self.stop(Cause.DEAUTHORIZED, now)

        item.answered = answered
        return item

    def _plan_sample(self, now: float) -> None:
        interval = self.station.setting_seconds(self.station.dialect.sample_key)
        if interval > 0:  # 0 switches sampling off
            delay = max(MIN_SAMPLE_INTERVAL, self.station.scaled(interval))
            self.station.later(self._key("sample"), now + delay, self._sample)

    def _sample(self, now: float) -> None:
        session = self.session
        if session is None:
            return
        self.advance(now)
        if session.vehicle.full and not session.suspended:
            self._suspend(session, now)
        else:
            self.station.queue(self.station.dialect.sampled(self, session, now, triggered=False), now)
        self._plan_sample(now)

    def trigger_sample(self, now: float) -> None:
        """Report the transaction because the CSMS asked for it."""
        if self.session is not None:
            self.advance(now)
            self.station.queue(self.station.dialect.sampled(self, self.session, now, triggered=True), now)

    def _suspend(self, session: Session, now: float) -> None:
        session.suspended = True
        self.set_status("SuspendedEV", now)
        item = self.station.dialect.suspended(self, session, now)
        if item is not None:
            self.station.queue(item, now)

    def advance(self, now: float) -> None:
        """Let energy flow up to now."""
        if self.session is not None:
            seconds = max(0.0, now - self.session.advanced_at) * self.station.plan.speed
            self.register += self.session.vehicle.charge(seconds, self._limit(now))
            self.session.advanced_at = now

    def reading(self, now: float) -> Reading:
        if self.session is None:
            return Reading(int(self.register), 0, 0.0, self.supply.voltage, 0.0)
        return self.session.vehicle.reading(self.register, self.supply, self._limit(now))

    def _limit(self, now: float) -> float:
        started_at = self.session.started_at if self.session is not None else now
        return self.station.memory.power_limit(self.number, self.supply, started_at, now)

    # The end

    def stop(self, cause: Cause, now: float) -> None:
        session = self.session
        if session is None:
            return
        self.advance(now)
        self.station.queue(self.station.dialect.ended(self, session, cause, now), now)
        self.station.session_over(self, session, now)
        self.session = None
        self.station.memory.transaction_over(session.transaction_id)
        for name in ("sample", "leave"):
            self.station.cancel(self._key(name))
        self.set_status("Finishing", now)
        self.station.later(self._key("unplug"), now + self.station.scaled(UNPLUG), self._unplug)

    def _unplug(self, now: float) -> None:
        self.rest(now)
        self.plan_arrival(now)

    def resume(self, now: float) -> None:
        """Go on with the session that survived a reboot (2.1 ImmediateAndResume)."""
        if self.session is None:
            return
        item = self.station.dialect.resumed(self, self.session, now)
        if item is not None:
            self.station.queue(item, now)
        self._plan_sample(now)
        self.station.later(self._key("leave"), now + self.station.scaled(*STAY), lambda at: self.stop(Cause.LOCAL, at))

    # Reservations

    def reserve(self, reservation: Reservation, expires_at: float, now: float) -> None:
        self.reservation = reservation
        self.rest(now)
        self.station.later(self._key("reservation"), max(now, expires_at), self._expire)

    def _expire(self, now: float) -> None:
        reservation, self.reservation = self.reservation, None
        if reservation is None:
            return
        if self.station.dialect.is_2x:
            payload = {"reservationId": reservation.reservation_id, "reservationUpdateStatus": "Expired"}
            self.station.send("ReservationStatusUpdate", payload, now)
        if self.at_rest:
            self.rest(now)

    def drop_reservation(self) -> None:
        self.reservation = None
        self.station.cancel(self._key("reservation"))

    def reboot(self, now: float) -> None:
        """What is left after a reboot: the register, availability, reservations and a session to be resumed."""
        self._reported = ""
        if self.session is None:
            self.rest(now)

    def _key(self, name: str) -> str:
        return f"{name}-{self.number}"

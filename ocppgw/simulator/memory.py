"""What commands leave behind in a station: charging profiles, local list, displays, monitors, tariffs, certificates."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ocppgw.simulator.vehicle import Supply

Payload = dict[str, Any]
MAX_ENTRIES = 200  # of any one kind; a CSMS can't make a fleet in one process grow without end


class Full(Exception):
    """The station has no room for another entry."""


@dataclass(frozen=True)
class Profile:
    """A charging profile, read once: `payload` is what the CSMS sent; `number` 0 stands for all connectors."""

    profile_id: int
    number: int
    purpose: str
    starts_at: float | None
    duration: int | None
    in_amperes: bool
    periods: tuple[tuple[int, float | None], ...]
    payload: Payload

    def limit(self, supply: Supply, session_started_at: float, now: float) -> float | None:
        """W, or None when the profile sets no limit now."""
        offset = now - (session_started_at if self.starts_at is None else self.starts_at)
        if offset < 0 or (self.duration is not None and offset > self.duration):
            return None
        limits = [limit for start, limit in self.periods if start <= offset]
        if not limits or limits[-1] is None:
            return None
        watts = supply.watts(limits[-1]) if self.in_amperes else limits[-1]
        return min(supply.max_power, max(0.0, watts))


@dataclass
class Memory:
    profiles: dict[int, Profile] = field(default_factory=dict)
    local_list: dict[str, Payload] = field(default_factory=dict)  # id token -> entry
    list_version: int = 0
    displays: dict[int, Payload] = field(default_factory=dict)
    monitors: dict[int, Payload] = field(default_factory=dict)
    tariffs: dict[int, Payload] = field(default_factory=dict)  # EVSE (0: all) -> tariff
    der_controls: dict[str, Payload] = field(default_factory=dict)
    certificates: dict[str, tuple[str, Payload]] = field(default_factory=dict)  # serial number -> type, hash data
    published: set[str] = field(default_factory=set)  # checksums of firmware offered to the local network
    log_request: int | None = None  # requestId of the upload that is going on
    firmware_request: int | None = None
    firmware_running: bool = False

    def rebooted(self) -> None:
        """Uploads and updates that were going on are over."""
        self.log_request = self.firmware_request = None
        self.firmware_running = False

    @staticmethod
    def store(table: dict[Any, Any], key: Any, value: Any) -> None:
        if key not in table and len(table) >= MAX_ENTRIES:
            raise Full
        table[key] = value

    # Charging profiles; a profile is the object of 1.6 or 2.x as the CSMS sent it

    def add_profile(self, number: int, payload: Payload) -> None:
        """Raises KeyError, TypeError or ValueError when it does not fit its schema, Full when there are too many."""
        profile = parse_profile(number, payload)
        self.store(self.profiles, profile.profile_id, profile)

    def matching_profiles(self, number: int | None, purpose: str | None, level: int | None) -> list[int]:
        """Ids of the profiles that fit all criteria given."""
        return [
            key
            for key, profile in self.profiles.items()
            if number in (None, profile.number)
            and purpose in (None, profile.purpose)
            and level in (None, profile.payload["stackLevel"])
        ]

    def transaction_over(self, transaction_id: str | int | None) -> None:
        """TxProfiles end with their transaction: 1.6 section 3.13.1, 2.x K01.FR.09."""
        for key, profile in list(self.profiles.items()):
            bound = profile.payload.get("transactionId")
            if profile.purpose == "TxProfile" and bound is not None and bound == transaction_id:
                del self.profiles[key]

    def power_limit(self, number: int, supply: Supply, started_at: float, now: float) -> float:
        """W: the lowest limit that any profile of this connector (or of all) sets now."""
        applicable = [profile for profile in self.profiles.values() if profile.number in (0, number)]
        limits = [profile.limit(supply, started_at, now) for profile in applicable]
        return min((limit for limit in limits if limit is not None), default=supply.max_power)

    # Certificates

    def install_certificate(self, kind: str, pem: str) -> None:
        """The fingerprints are made of the text alone, so that any text can be installed, found and deleted again."""
        digest = hashlib.sha256(pem.encode()).hexdigest()
        data = {
            "hashAlgorithm": "SHA256",
            "issuerNameHash": digest,
            "issuerKeyHash": digest[::-1],
            "serialNumber": digest[:16],
        }
        self.store(self.certificates, data["serialNumber"], (kind, data))


def parse_profile(number: int, payload: Payload) -> Profile:
    """A profile of 1.6 (chargingProfileId, one schedule) or 2.x (id, a list of schedules, the first one counts)."""
    schedules = payload["chargingSchedule"]
    schedule = schedules[0] if isinstance(schedules, list) else schedules
    starts = schedule.get("startSchedule")
    periods = [(int(period["startPeriod"]), period.get("limit")) for period in schedule["chargingSchedulePeriod"]]
    return Profile(
        profile_id=int(payload["chargingProfileId"] if "chargingProfileId" in payload else payload["id"]),
        number=int(number),
        purpose=str(payload["chargingProfilePurpose"]),
        starts_at=None if starts is None else datetime.fromisoformat(starts).timestamp(),
        duration=schedule.get("duration"),
        in_amperes=schedule["chargingRateUnit"] == "A",
        periods=tuple((start, None if limit is None else float(limit)) for start, limit in periods),
        payload=payload,
    )

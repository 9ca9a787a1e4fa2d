"""An electric car on a cable: battery, charging curve, readings. Energies in Wh, powers in W, SoC in percent."""

import random
from dataclasses import dataclass

TAPER_FROM = 80.0  # percent: above it batteries take less and less
TAPER_END_FACTOR = 0.08  # of full power, reached at 100 %
STEP = 60.0  # seconds; the curve is integrated in steps no longer than this
MAX_STEPS = 240


@dataclass(frozen=True)
class Supply:
    """What one connector can give."""

    max_power: float
    voltage: float
    phases: int

    def watts(self, amperes: float) -> float:
        return amperes * self.voltage * self.phases


AC_22KW = Supply(22_000.0, 230.0, 3)
DC_150KW = Supply(150_000.0, 400.0, 1)


@dataclass(frozen=True)
class Reading:
    """A meter reading at one moment; `energy` is the connector's register."""

    energy: int
    power: int
    current: float
    voltage: float
    soc: float


@dataclass
class Vehicle:
    capacity: float
    max_power: float
    soc: float

    @classmethod
    def arriving(cls, rng: random.Random, supply: Supply) -> "Vehicle":
        capacity = rng.choice((40_000.0, 58_000.0, 77_000.0, 100_000.0))
        accepted = (7_400.0, 11_000.0, 22_000.0) if supply.phases > 1 else (50_000.0, 120_000.0, 170_000.0)
        return cls(capacity, rng.choice(accepted), rng.uniform(8.0, 70.0))

    @property
    def full(self) -> bool:
        return self.soc >= 99.95

    def power(self, limit: float) -> float:
        """Power drawn now when the supply allows `limit`."""
        if self.full:
            return 0.0
        above = max(0.0, self.soc - TAPER_FROM) / (100.0 - TAPER_FROM)
        wanted = self.max_power * (1.0 - above * (1.0 - TAPER_END_FACTOR))
        return max(0.0, min(wanted, limit))

    def charge(self, seconds: float, limit: float) -> float:
        """Charge for that long; returns the energy taken."""
        steps = min(MAX_STEPS, max(1, int(seconds / STEP) + 1))
        taken = 0.0
        for _ in range(steps):
            room = self.capacity * (100.0 - self.soc) / 100.0
            energy = min(room, self.power(limit) * seconds / steps / 3600.0)
            self.soc = min(100.0, self.soc + 100.0 * energy / self.capacity)
            taken += energy
        return taken

    def reading(self, register: float, supply: Supply, limit: float) -> Reading:
        power = self.power(limit)
        current = power / (supply.voltage * supply.phases)
        return Reading(int(register), int(power), round(current, 1), supply.voltage, round(self.soc, 1))

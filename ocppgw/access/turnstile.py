"""How much one address may cost: connections, half-open ones, handshakes and refusals, before anything is read.

Addresses are the peer's on TCP, or the station's own behind a listed proxy; IPv6 is counted by /64. Nothing here
reads a clock; `now` is in seconds of one that never goes back.
"""

from collections import OrderedDict
from dataclasses import dataclass

from ocppgw.access.addresses import subscriber
from ocppgw.access.limits import TokenBucket
from ocppgw.access.refusals import Reason

CAPACITY = 50_000


@dataclass(frozen=True, slots=True)
class TurnstileRules:
    """Bounds per address; 0: none. Rates are per minute, a minute's worth may come at once."""

    max_connections: int = 0
    max_half_open: int = 500
    handshakes_per_minute: int = 6000
    refusals_per_minute: int = 300


class _Address:
    """What one address does now and did lately."""

    __slots__ = ("connections", "half_open", "handshakes", "refusals")

    def __init__(self, rules: TurnstileRules, now: float) -> None:
        self.connections = 0
        self.half_open = 0
        self.handshakes = _bucket(rules.handshakes_per_minute, now)
        self.refusals = _bucket(rules.refusals_per_minute, now)


class Turnstile:
    """At most `capacity` addresses are remembered; of those without a connection, the one that came longest ago is
    forgotten first."""

    def __init__(self, rules: TurnstileRules, capacity: int = CAPACITY) -> None:
        self._rules = rules
        self._capacity = capacity
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def arrive(self, address: str, now: float) -> Reason | None:
        """A connection wants in. None: it is counted, and `leave` has to be called when it ends."""
        known = self._known(address, now)
        rules = self._rules
        if rules.max_connections and known.connections >= rules.max_connections:
            return Reason.TOO_MANY_FROM_ADDRESS
        if rules.max_half_open and known.half_open >= rules.max_half_open:
            return Reason.TOO_MANY_HALF_OPEN_FROM_ADDRESS
        if known.refusals is not None and known.refusals.wait(now) > 0:
            return Reason.TOO_MANY_REFUSALS
        if known.handshakes is not None and not known.handshakes.take(now):
            return Reason.TOO_MANY_HANDSHAKES
        known.connections += 1
        known.half_open += 1
        return None

    def upgraded(self, address: str) -> None:
        """Its handshake is over."""
        known = self._addresses.get(subscriber(address))
        if known is not None:
            known.half_open -= 1

    def leave(self, address: str, *, half_open: bool) -> None:
        """A counted connection ended; `half_open`: before `upgraded`."""
        known = self._addresses.get(subscriber(address))
        if known is not None:
            known.connections -= 1
            known.half_open -= half_open

    def refused(self, address: str, now: float) -> None:
        """A handshake of this address was refused for what it sent."""
        known = self._known(address, now)
        if known.refusals is not None:
            known.refusals.take(now)

    def wait(self, address: str, now: float) -> int:
        """Whole seconds after which a refused rate may be tried again, at least 1."""
        known = self._known(address, now)
        waits = [bucket.wait(now) for bucket in (known.refusals, known.handshakes) if bucket is not None]
        return int(max(waits, default=0.0)) + 1

    def __len__(self) -> int:
        return len(self._addresses)

    def _known(self, address: str, now: float) -> _Address:
        key = subscriber(address)
        known = self._addresses.get(key)
        if known is None:
            known = self._addresses[key] = _Address(self._rules, now)
            self._forget()
        self._addresses.move_to_end(key)
        return known

    def _forget(self) -> None:
        if len(self._addresses) <= self._capacity:
            return
        for tries, (key, known) in enumerate(self._addresses.items()):
            if known.connections <= 0:
                del self._addresses[key]
                return
            if tries >= 100:  # all busy: the bound on connections holds them
                return


def _bucket(per_minute: int, now: float) -> TokenBucket | None:
    return TokenBucket(per_minute / 60, per_minute, now) if per_minute else None

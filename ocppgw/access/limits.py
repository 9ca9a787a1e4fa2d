"""Bounds on what strangers and broken stations can cost: rates, flapping stations, repeated log lines.

Nothing here reads a clock: `now` is in seconds of any clock that never goes back, always the same one for one object.
"""

from collections import OrderedDict, deque


class TokenBucket:
    """At most `rate` a second in the long run and `burst` at once; full at the start."""

    def __init__(self, rate: float, burst: float, now: float = 0.0) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a bucket with rate {rate} and burst {burst} lets nothing through: rate > 0, burst >= 1")
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Use one token up; False when there is none."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: float) -> float:
        """Seconds until a token is there, 0.0 when one is there now."""
        tokens = self._tokens + max(0.0, now - self._at) * self._rate
        return max(0.0, (1 - tokens) / self._rate)


class SwapDamper:
    """Stops two stations under one id from throwing each other out for ever: at most `limit` swaps an id in `window`
    seconds.

    Refused swaps don't count, so the id is free again once its last swaps have grown old. At most `capacity` ids are
    remembered; the one that swapped longest ago is forgotten first.
    """

    def __init__(self, limit: int, window: float = 60.0, capacity: int = 10_000) -> None:
        if limit < 1:
            raise ValueError(f"limit {limit} would never let a station replace its own dead connection: limit >= 1")
        self._limit = limit
        self._window = window
        self._capacity = capacity
        self._swaps: OrderedDict[str, deque[float]] = OrderedDict()

    def allow(self, charge_point_id: str, now: float) -> bool:
        """Whether a new connection may replace the live one of this id; True counts as a swap."""
        swaps = self._swaps.setdefault(charge_point_id, deque())
        while swaps and swaps[0] <= now - self._window:
            swaps.popleft()
        if len(swaps) >= self._limit:
            return False
        swaps.append(now)
        self._swaps.move_to_end(charge_point_id)
        if len(self._swaps) > self._capacity:
            self._swaps.popitem(last=False)
        return True

    def wait(self, charge_point_id: str, now: float) -> float:
        """Seconds until `allow` would say True, 0.0 when it would now: the Retry-After of a 429."""
        swaps = self._swaps.get(charge_point_id)
        if not swaps or len(swaps) < self._limit:
            return 0.0
        return max(0.0, swaps[-self._limit] + self._window - now)

    def __len__(self) -> int:
        return len(self._swaps)


class LogCooldown:
    """One log line a key in `cooldown` seconds, and how many were left out since.

    At most `capacity` keys are remembered; the one logged longest ago is forgotten first, with its count, so that an
    attacker with many addresses costs log lines rather than memory.
    """

    def __init__(self, cooldown: float, capacity: int = 10_000) -> None:
        self._cooldown = cooldown
        self._capacity = capacity
        self._keys: OrderedDict[str, tuple[float, int]] = OrderedDict()  # key -> (logged at, left out since)

    def left_out(self, key: str, now: float) -> int | None:
        """None: don't log this one. A number: log it, and say that so many like it went unlogged before."""
        entry = self._keys.get(key)
        if entry is not None and now < entry[0] + self._cooldown:
            self._keys[key] = (entry[0], entry[1] + 1)
            return None
        self._keys[key] = (now, 0)
        self._keys.move_to_end(key)
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)
        return entry[1] if entry is not None else 0

    def __len__(self) -> int:
        return len(self._keys)

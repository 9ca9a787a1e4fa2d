"""Secrets that were verified a short while ago, so that a reconnecting fleet is not hashed anew.

Only scrypt is worth it: ten thousand stations that come back after a restart would cost minutes of CPU. What is kept is
a keyed hash (BLAKE2b, RFC 7693, under a key that lives as long as the process) of the stored digest, its salt and the
secret: a changed secret misses by itself, and a dump of the memory gives nothing that is cheaper to guess than SHA-256
under an unknown key.
"""

from collections import OrderedDict
from hashlib import blake2b

from ocppgw.access.identity import StoredSecret

CAPACITY = 100_000
KEY_BYTES = 32


class VerifiedSecrets:
    """`key`: KEY_BYTES random bytes; `seconds` a verification is believed, 0 for never."""

    def __init__(self, key: bytes, seconds: float, capacity: int = CAPACITY) -> None:
        self._key = key
        self._seconds = seconds
        self._capacity = capacity
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def add(self, stored: StoredSecret, secret: bytes, now: float) -> None:
        """It was hashed and fits."""
        if self._seconds <= 0:
            return
        mark = self._mark(stored, secret)
        self._until[mark] = now + self._seconds
        self._until.move_to_end(mark)
        if len(self._until) > self._capacity:
            self._until.popitem(last=False)

    def holds(self, stored: StoredSecret, secret: bytes, now: float) -> bool:
        """Whether it was found to fit lately."""
        return now < self._until.get(self._mark(stored, secret), 0.0)

    def __len__(self) -> int:
        return len(self._until)

    def _mark(self, stored: StoredSecret, secret: bytes) -> bytes:
        mark = blake2b(key=self._key, digest_size=32)
        for part in (stored.digest, stored.salt, secret):
            mark.update(len(part).to_bytes(4, "big"))
            mark.update(part)
        return mark.digest()

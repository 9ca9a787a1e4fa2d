"""The names of keys: the outside contract's, byte for byte, and those that are new (see the package's docstring)."""

from ocppgw.errors import ConfigError
from ocppgw.net.redis.settings import RedisSettings

_GLOB = str.maketrans({character: f"\\{character}" for character in "*?[]\\"})


class Keys:
    def __init__(self, settings: RedisSettings) -> None:
        front = f"{settings.prefix}:" if settings.prefix else ""
        self.identities = f"{front}{settings.identity_prefix}:"
        self.revocations = f"{front}{settings.revoked_prefix}:"
        self.profiles = f"{front}security-profiles"
        self.attempts = f"{front}attempts"
        self.attempt_bodies = f"{front}attempts:bodies"
        self.attempt_counts = f"{front}attempts:counts"
        self.sessions = f"{front}sessions:"
        self.nodes = f"{front}nodes:"
        self.losses = f"{front}node-losses:"
        self.epochs = f"{front}epochs"
        self.station_ids = f"{front}station-ids"
        self.fleet = f"{front}fleet"
        self._check()

    def identity(self, charge_point_id: str) -> str:
        return self.identities + charge_point_id

    def revocation(self, fingerprint: str) -> str:
        return self.revocations + fingerprint

    def session(self, charge_point_id: str) -> str:
        return self.sessions + charge_point_id

    def node(self, node_id: str) -> str:
        return self.nodes + node_id

    def node_losses(self, node_id: str) -> str:
        return self.losses + node_id

    def _check(self) -> None:
        """One family inside another would mix them up, and Redis doesn't track identities and revocations both then."""
        one, other = self.identities, self.revocations
        families = (self.sessions, self.nodes, self.losses)
        names = (
            self.profiles,
            self.attempts,
            self.attempt_bodies,
            self.attempt_counts,
            self.epochs,
            self.station_ids,
            self.fleet,
        )
        own = families + names
        mixed = one.startswith((other, *families)) or other.startswith((one, *families))
        if mixed or any(name.startswith((one, other)) for name in own):
            raise ConfigError(
                f"the Redis keys {one}… and {other}… can't be told apart, or not from {', '.join(own)}",
                hint="choose other prefixes for identities and revoked certificates",
            )


def pattern(front: str) -> str:
    """For SCAN: all keys that begin so, whatever characters are in there."""
    return front.translate(_GLOB) + "*"

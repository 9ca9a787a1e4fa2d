"""What a station wants done; `connection.py` does it, a test reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Send:
    text: bytes


@dataclass(frozen=True)
class Disconnect:
    """Close the socket; open it again after so many seconds, or never (None)."""

    reconnect_after: float | None


Effect = Send | Disconnect

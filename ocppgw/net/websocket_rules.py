"""The bounds and timers of the WebSocket listener."""

import msgspec


class WebSocketRules(msgspec.Struct, frozen=True):
    """Bounds and timers of the listener; seconds and bytes."""

    max_message_bytes: int = 262_144
    max_inflated_bytes: int = 1_048_576
    max_half_open: int = 1000
    handshake_timeout: float = 10.0
    close_timeout: float = 3.0
    ping_interval: float = 30.0
    ping_misses: int = 2
    compression: bool = True
    fast_lane: bool = True
    no_subprotocol_close: bool = False

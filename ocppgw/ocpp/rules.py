"""What a session is told when it is made: the rules of this gateway and who the station is."""

import msgspec

from ocppgw.ocpp.answers import AnswerRules


class SessionRules(msgspec.Struct, frozen=True):
    """What every session of this gateway follows; times in seconds."""

    answers: AnswerRules = AnswerRules()
    boot_status: str = "Accepted"
    assume_accepted: bool = False
    trigger_boot_when_rejected: bool = False
    unknown_type_error: bool = False
    call_timeout: float = 30.0
    commands_per_station: int = 20
    pending_messages: int = 100
    replay_seconds: float = 300.0
    bad_frames: int = 20
    bad_frames_seconds: float = 60.0


class StationFacts(msgspec.Struct, frozen=True):
    """Who the station is, from its identity."""

    charge_point_id: str
    station_id: str
    tenant_id: str
    boot_status: str | None = None  # None: as SessionRules says

"""What a session is told when it is made: the rules of this gateway and who the station is."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from ocppgw.ocpp.answers import AnswerRules
from ocppgw.ocpp.quirks import QuirkBook

# Given a charge point id and the payload of its SignCertificate: why the local CA will not sign it, "" when it will.
# Saying "" is a promise: the session then answers Accepted and asks for the signature (effects.SignRequest).
SigningJudge = Callable[[str, Mapping[str, Any]], str]


class SessionRules(msgspec.Struct, frozen=True):
    """What every session of this gateway follows; times in seconds.

    `signing_judge`: None where no local CA signs; SignCertificate is then answered as `answers` say. `acknowledged`:
    actions whose answer waits for the bus's acknowledgement. `boot_models`: vendor/model of the stations that get
    `boot_status`, in lower case, with * for any text; empty: all do. `normalises`: events hold a view that is the same
    for all versions, too. `quirks`: None where no profiles are kept.
    """

    answers: AnswerRules = AnswerRules()
    boot_status: str = "Accepted"
    boot_models: tuple[str, ...] = ()
    boot_unknown_model: str = "Pending"
    assume_accepted: bool = False
    trigger_boot_when_rejected: bool = False
    unknown_type_error: bool = False
    call_timeout: float = 30.0
    commands_per_station: int = 20
    pending_messages: int = 100
    replay_seconds: float = 300.0
    bad_frames: int = 20
    bad_frames_seconds: float = 60.0
    signing_judge: SigningJudge | None = None
    acknowledged: frozenset[str] = frozenset()
    normalises: bool = False
    quirks: QuirkBook | None = None

    def boot_status_of(self, payload: Mapping[str, Any]) -> str:
        """For a station whose identity says nothing; `payload`: of a valid BootNotification of any version."""
        if not self.boot_models:
            return self.boot_status
        station = payload.get("chargingStation", {})
        vendor = payload.get("chargePointVendor") or station.get("vendorName", "")
        model = payload.get("chargePointModel") or station.get("model", "")
        name = f"{vendor}/{model}".casefold()
        known = any(fnmatchcase(name, pattern) for pattern in self.boot_models)
        return self.boot_status if known else self.boot_unknown_model


class StationFacts(msgspec.Struct, frozen=True):
    """Who the station is, from its identity.

    `required_serial`: the common name of its certificate, where the identity wants it to be the serial number that
    the station reports (B01.FR.11, B01.FR.12); None where any will do. `decided`: actions whose answer the backend
    gives.
    """

    charge_point_id: str
    station_id: str
    tenant_id: str
    boot_status: str | None = None  # None: as SessionRules says
    required_serial: str | None = None
    decided: frozenset[str] = frozenset()

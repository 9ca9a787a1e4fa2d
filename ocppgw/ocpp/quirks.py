"""Which stations bend the standard, and what is done about it: profiles by vendor, model, firmware or charge point id.

A profile holds for a station when all its patterns match what is known of it. Vendor, model and firmware are known from
its last BootNotification, also on a new connection and on another node; an id is known at once. Beside the repairs of
`ocppgw.ocpp.repairs` there are some of how a station behaves, and those of its handshake:

    no-boot      it never sends a BootNotification: it is taken for accepted
    reused-ids   it uses message ids again: a CALL with the id of an earlier one is a new one, also with the same
                 content
    slow-answers it takes longer than others to answer CALLs: `answer_seconds` are waited for it
    url-spelling, subprotocol-spelling, no-subprotocol    see `ocppgw.access.handshake_repairs`

no-boot and those of the handshake go by id only: nothing else is known of the station by then.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from ocppgw.ocpp.frames import Call, dumps
from ocppgw.ocpp.repairs import PAYLOAD_REPAIRS, repaired
from ocppgw.ocpp.schemas import Validator

BEHAVIOUR = frozenset({"no-boot", "reused-ids", "slow-answers"})
URL_SPELLING, SUBPROTOCOL_SPELLING, NO_SUBPROTOCOL = "url-spelling", "subprotocol-spelling", "no-subprotocol"
HANDSHAKE = frozenset({URL_SPELLING, SUBPROTOCOL_SPELLING, NO_SUBPROTOCOL})
ALL_REPAIRS = PAYLOAD_REPAIRS | BEHAVIOUR | HANDSHAKE
BY_ID_ONLY = HANDSHAKE | {"no-boot"}

_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


class Profile(msgspec.Struct, frozen=True):
    """Patterns in lower case, with * for any text; empty ones match everything. `zone`: of times without one.
    `answer_seconds`: how long an answer may take, 0 for as long as any station's."""

    name: str
    repairs: frozenset[str]
    vendor: str = ""
    model: str = ""
    firmware: str = ""
    charge_point_id: str = ""
    zone: str = "Z"
    answer_seconds: float = 0.0

    def holds(self, charge_point_id: str, vendor: str, model: str, firmware: str) -> bool:
        known = (charge_point_id, vendor, model, firmware)
        patterns = (self.charge_point_id, self.vendor, self.model, self.firmware)
        return all(
            not pattern or fnmatchcase(text.casefold(), pattern) for pattern, text in zip(patterns, known, strict=True)
        )


class QuirkBook:
    """All profiles; `put` is for a reload, and counts for connections that come after it."""

    def __init__(self, profiles: Iterable[Profile] = ()) -> None:
        self._profiles = tuple(profiles)

    def __len__(self) -> int:
        return len(self._profiles)

    def put(self, profiles: Iterable[Profile]) -> None:
        self._profiles = tuple(profiles)

    def repairs_of(self, charge_point_id: str) -> frozenset[str]:
        """What is mended for a station of which nothing but its id is known."""
        return frozenset().union(*(profile.repairs for profile in self.of(charge_point_id, {})))

    def of(self, charge_point_id: str, boot: Mapping[str, Any]) -> tuple[Profile, ...]:
        """The profiles that hold; `boot`: payload of the station's BootNotification, valid or not, {} for none."""
        if not self._profiles:
            return ()
        station = boot.get("chargingStation")
        station = station if isinstance(station, Mapping) else {}
        vendor = _text(boot.get("chargePointVendor", station.get("vendorName")))
        model = _text(boot.get("chargePointModel", station.get("model")))
        firmware = _text(boot.get("firmwareVersion", station.get("firmwareVersion")))
        return tuple(each for each in self._profiles if each.holds(charge_point_id, vendor, model, firmware))


class Quirks:
    """What a session knows of its station's. `count` hears of each repair of a message, by name."""

    __slots__ = ("_book", "_name", "counts", "profiles", "repairs", "zone")

    def __init__(self, book: QuirkBook, charge_point_id: str, boot: bytes) -> None:
        self._book, self._name = book, charge_point_id
        self.counts: Counter[str] = Counter()
        self.booted(boot)

    def booted(self, boot: bytes) -> None:
        """`boot`: JSON of the payload of its BootNotification, b"" when there was none yet."""
        self._take(_decode(boot) if boot else {})

    @property
    def has_no_boot(self) -> bool:
        return "no-boot" in self.repairs

    @property
    def reuses_ids(self) -> bool:
        return "reused-ids" in self.repairs

    def call_timeout(self, usual: float) -> float:
        """How long this station's answers may take, in seconds."""
        return max([usual, *(profile.answer_seconds for profile in self.profiles)])

    def mended(self, call: Call, validator: Validator) -> tuple[Call, bytes, list[str]] | None:
        """A CALL whose payload breaks the schema, so that it does not; what its event says of that (JSON members, each
        with a leading comma), and the repairs that were made. None: they do not do."""
        if call.action == "BootNotification":  # what it says of itself is the newest that is known
            self._take(call.payload)
        found = repaired(call.payload, validator, self.repairs & PAYLOAD_REPAIRS, self.zone) if self.repairs else None
        if found is None:
            return None
        payload, names = found
        self.counts.update(names)
        members = b',"repairs":%b,"original":%b' % (dumps(names), dumps(call.payload))
        return msgspec.structs.replace(call, payload=payload), members, names

    def shown(self) -> dict[str, Any]:
        """For the station's page: profiles by name, and how often each repair was made on this connection."""
        return {"profiles": [profile.name for profile in self.profiles], "repairs": dict(self.counts)}

    def _take(self, boot: Mapping[str, Any]) -> None:
        self.profiles = self._book.of(self._name, boot)
        self.repairs = frozenset().union(*(profile.repairs for profile in self.profiles))
        self.zone = next((profile.zone for profile in self.profiles if profile.zone != "Z"), "Z")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)

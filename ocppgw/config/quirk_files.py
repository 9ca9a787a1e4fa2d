"""Quirk profiles: TOML files of a folder, each with the profile of one kind of station.

why = "sends numbers in MeterValues"      for whoever reads the file
repairs = ["number-for-text"]
[match]
vendor = "Vendor*"                        also model, firmware, charge_point_id; * is any text, case does not count
[options]
zone = "+02:00"                           of times without one (time-spelling)
answer_seconds = 120                      that an answer may take (slow-answers)
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ocppgw.config.problems import did_you_mean
from ocppgw.errors import ConfigError
from ocppgw.ocpp.quirks import ALL_REPAIRS, BY_ID_ONLY, Profile

TABLES = {"why": str, "repairs": list, "match": dict, "options": dict}
PATTERNS = ("vendor", "model", "firmware", "charge_point_id")
OPTIONS = ("zone", "answer_seconds")
MAX_ANSWER_SECONDS = 3600
_ZONE = re.compile(r"Z|[+-]\d\d:\d\d", re.ASCII)


def read_quirks(folder: Path) -> list[Profile]:
    """The profiles of all `*.toml` in `folder`, by name. Reads disk. Errors: ConfigError naming every file and key."""
    if not folder.is_dir():
        raise ConfigError(f"quirks.dir {folder} is not a folder", hint="create it, or mend the path")
    profiles: list[Profile] = []
    faults: list[str] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            profile = _profile(path.stem, tomllib.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as fault:  # tomllib's and Unicode's are ValueErrors
            faults.append(f"{path}: {fault}")
        else:
            profiles += [] if profile is None else [profile]
    if faults:
        raise ConfigError("; ".join(faults), hint="mend or remove these quirk profiles")
    return profiles


def _profile(name: str, found: Mapping[str, Any]) -> Profile | None:
    """None for one whose patterns are all empty: it is there to be filled in."""
    for key, value in found.items():
        if key not in TABLES:
            raise ValueError(f"{key}: there is no such key; {did_you_mean(key, list(TABLES), 'remove it')}")
        if not isinstance(value, TABLES[key]):
            raise ValueError(f"{key} must be a {'table' if TABLES[key] is dict else TABLES[key].__name__}")
    match = found.get("match", {})
    for key, value in match.items():
        if key not in PATTERNS or not isinstance(value, str):
            raise ValueError(f"{key}: known here are texts for {', '.join(PATTERNS)}")
    repairs = _repairs(found.get("repairs", []))
    zone, answer_seconds = _options(found.get("options", {}), repairs)
    patterns = {key: pattern(match.get(key, "")) for key in PATTERNS}
    if not any(patterns.values()):
        return None
    early = sorted(repairs & BY_ID_ONLY)
    if early and {key for key in PATTERNS if patterns[key]} != {"charge_point_id"}:
        raise ValueError(f"{early[0]}: match by charge_point_id only; nothing else is known of a station by then")
    return Profile(name, repairs, zone=zone, answer_seconds=answer_seconds, **patterns)


def _options(options: Mapping[str, Any], repairs: frozenset[str]) -> tuple[str, float]:
    """Zone, and how long an answer may take."""
    for key in options:
        if key not in OPTIONS:
            raise ValueError(f"{key}: options are {', '.join(OPTIONS)}")
    zone, seconds = options.get("zone", "Z"), options.get("answer_seconds", 0)
    if not isinstance(zone, str) or not _ZONE.fullmatch(zone):
        raise ValueError("zone must be Z or like +02:00")
    if ("slow-answers" in repairs) is not ("answer_seconds" in options):
        raise ValueError("slow-answers and the option answer_seconds need each other")
    if "answer_seconds" in options and (type(seconds) not in {int, float} or not 1 <= seconds <= MAX_ANSWER_SECONDS):
        raise ValueError(f"answer_seconds must be a number from 1 to {MAX_ANSWER_SECONDS}")
    return zone, float(seconds)


def _repairs(names: list[Any]) -> frozenset[str]:
    if not names:
        raise ValueError(f"repairs must name at least one of {', '.join(sorted(ALL_REPAIRS))}")
    for name in names:
        if name not in ALL_REPAIRS:
            hint = did_you_mean(str(name), sorted(ALL_REPAIRS), f"known: {', '.join(sorted(ALL_REPAIRS))}")
            raise ValueError(f"repairs: there is no {name!r}; {hint}")
    return frozenset(names)


def pattern(text: str) -> str:
    """In the language of fnmatch, where * means something and nothing else does; in lower case."""
    return text.casefold().replace("[", "[[]").replace("?", "[?]")

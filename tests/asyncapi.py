"""`schemas/asyncapi.json`, read for tests: which schema a record has to follow, and whether it does.

    contract = Contract()
    contract.fault("ocpp.station.events", "station-1", event)      "" when it is right, else what is wrong

The schemas are open, because later versions add members. Here they are closed: what the gateway writes today has to be
described. A topic is known by how its name ends, because tests have topics of their own.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator

JsonObject = dict[str, Any]

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
DOCUMENT = SCHEMAS / "asyncapi.json"

_NAMES = (
    (r"requests\.node\.", "nodeCommandRequests"),
    (r"control\.node\.", "sessionControl"),
    (r"call[._]requests$", "callRequests"),
    (r"station[._]events$", "stationEvents"),
    (r"session[._]events$", "sessionEvents"),
    (r"command[._]events$", "commandEvents"),
    (r"audit[._]events$", "auditEvents"),
    (r"dead[._]letters$", "deadLetters"),
)
_IN_PLACE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas")  # of the same value


def channel_of(topic: str) -> str:
    """The channel of the document; "" for a topic that the gateway does not write to."""
    return next((channel for pattern, channel in _NAMES if re.search(pattern, topic)), "")


class Contract:
    def __init__(self, document: JsonObject | None = None) -> None:
        self.document: JsonObject = document or json.loads(DOCUMENT.read_text())
        self._messages: dict[str, dict[str, list[Draft202012Validator]]] = {}
        for channel in self.document["channels"]:
            kinds = self._messages[channel] = defaultdict(list)
            for kind, validator in self._validators(channel):
                kinds[kind].append(validator)

    def fault(self, topic: str, key: str, value: Any) -> str:
        """What is wrong with a record of a topic that has a channel; "" for nothing."""
        messages = self._messages[channel_of(topic)]
        if not isinstance(value, dict):
            return "it is no JSON object"
        kind = _kind(value)
        validators = messages.get(kind) or messages.get("")
        if not validators:
            return f"the channel has no message {kind!r}"
        faults = min((_faults(validator, value) for validator in validators), key=len)
        wanted = key_of(topic, value)
        if wanted is not None and key != wanted:
            faults.append(f"its key is {key!r}, not {wanted!r}")
        return "; ".join(faults)

    def stored_fault(self, name: str, value: JsonObject) -> str:
        """The same for what is stored or shown as `schemas/{name}.schema.json` describes it."""
        whole, _ = self.resolved(f"{name}.schema.json")
        return "; ".join(_faults(Draft202012Validator(closed(whole), validate_formats=True), value))

    def kinds(self, channel: str) -> set[str]:
        """Values of eventType or type that the channel has messages for; "" where they carry none."""
        return set(self._messages[channel])

    def resolved(self, reference: str) -> tuple[JsonObject, str]:
        """The document a reference leads to, and the fragment in it. OSError when there is no such file."""
        name, _, fragment = reference.partition("#")
        whole: JsonObject = json.loads((SCHEMAS / name).read_text()) if name else self.document
        return whole, fragment

    def _validators(self, channel: str) -> Iterator[tuple[str, Draft202012Validator]]:
        for reference in self.document["channels"][channel]["messages"].values():
            message = at(*self.resolved(reference["$ref"]))
            whole, fragment = self.resolved(message["payload"]["$ref"])
            # A request goes on with all that a backend wrote into it.
            followed = whole if channel == "nodeCommandRequests" else closed(whole, fragment)
            validator = Draft202012Validator(followed, validate_formats=True)
            for kind in kinds_in(at(whole, fragment)):
                yield kind, validator


def at(whole: JsonObject, fragment: str) -> JsonObject:
    found = whole
    for part in filter(None, fragment.split("/")):
        found = found[part]
    return found


def kinds_in(schema: Mapping[str, Any]) -> list[str]:
    """The values of eventType, or type, of the messages that a schema is for; [""] when it has none of these."""
    members = schema.get("properties", {})
    kind = members.get("eventType", members.get("type", {}))
    return kind.get("enum") or [kind.get("const", "")]


def key_of(topic: str, value: Mapping[str, Any]) -> str | None:
    """The key that a record must have; None where any will do."""
    channel, key = channel_of(topic), value.get("chargePointId")
    if channel == "deadLetters":
        key = None
    elif channel in ("stationEvents", "sessionEvents"):
        key = value.get("stationId")
    elif value.get("eventType") == "ChargerCertificateRevoked":
        key = value.get("payload", {}).get("fingerprint")
    return None if key is None else str(key)


def closed(whole: JsonObject, fragment: str = "") -> JsonObject:
    """The schema at `fragment` of a document, in which each object has only the members that are described."""
    shared = set(_shared(whole))
    parts = {name: part if name in shared else _closed(part) for name, part in whole.get("$defs", {}).items()}
    parts = {name: _members_closed(part) if name in shared else part for name, part in parts.items()}
    top = {"$ref": f"#{fragment}"} if fragment else _closed({k: v for k, v in whole.items() if k != "$defs"})
    return {**top, "$schema": whole["$schema"], "$defs": parts}


def _faults(validator: Draft202012Validator, value: JsonObject) -> list[str]:
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(value)]


def _kind(value: Mapping[str, Any]) -> str:
    kind = value.get("eventType", value.get("type", ""))
    return kind if isinstance(kind, str) else ""


def _shared(schema: Any) -> Iterator[str]:
    """Definitions that are parts of other ones: closed, they would forbid the members of these."""
    if isinstance(schema, dict):
        for part in schema.get("allOf", ()):
            if "$ref" in part:
                yield part["$ref"].rpartition("/")[2]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _shared(part)


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    done = _members_closed(schema)
    if ("properties" in schema or "allOf" in schema) and "additionalProperties" not in schema:
        done["unevaluatedProperties"] = False
    return done


def _members_closed(schema: Any) -> Any:
    """Only what stands below it; of what is said of the object itself again (allOf, if), the same."""
    if not isinstance(schema, dict):
        return schema
    done = dict(schema)
    if "properties" in schema:
        done["properties"] = {name: _closed(member) for name, member in schema["properties"].items()}
    if "items" in schema:
        done["items"] = _closed(schema["items"])
    for name in _IN_PLACE:
        part = schema.get(name)
        if isinstance(part, list):
            done[name] = [_members_closed(one) for one in part]
        elif isinstance(part, dict):
            done[name] = _members_closed(part)
    return done

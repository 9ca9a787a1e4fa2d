"""Dead letters (the outside contract, section 3): what could not be used or passed on, with the reason.

    a command that is none:     {"eventId", "reason", "code", "hint", "topic", "partition", "offset", "record",
                                 "encoding"?, "bytes"?, "redacted"?, "at", "nodeId"}
    an event too large to ship: {"eventId", "reason", "code", "hint", "topic", "key", "cursor", "record", …, "at"};
                                the journal still has all of it under that cursor

`record` is the record's text; with `encoding` "base64" its bytes, because they are no text. With `bytes` it is only the
beginning of a record of that many bytes. With `redacted` secrets in it are hidden, as in everything that is stored of a
command: who may read the record itself finds it by topic, partition and offset. The eventId follows from the record and
where it was read: one that is read again makes the same letter.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from ocppgw.errors import OcppgwError
from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.events import name_based_id
from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.secrets import HIDDEN, hidden_texts, redacted, scrubbed
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import DEAD

MAX_RECORD_BYTES = 128 * 1024  # of a record; as JSON it still fits into what Kafka takes by default (1 MiB)
HEAD_BYTES = 1000  # of an event that was too large, and of its key

_NAMES_OF_SECRETS = (b"password", b"authorizationkey", b"vpnkey", b"simpin")


def command_letter(
    fault: OcppgwError,
    topic: str,
    partition: int,
    offset: int,
    key: bytes,
    value: bytes,
    request: Mapping[str, Any],
    now: float,
    node_id: str,
) -> Record:
    """A command record that can't be used; it keeps its key. `request`: what was read of it, {} when nothing was."""
    members = {
        "eventId": name_based_id("dead-letter", topic, str(partition), str(offset), value),
        **_why(fault, hidden_texts(request) + hidden_texts(request.get("payload"))),
        "topic": topic,
        "partition": partition,
        "offset": offset,
        **_without_secrets(value, request),
        "at": rfc3339(now).decode(),
        "nodeId": node_id,
    }
    return Record(DEAD, key.decode(errors="replace"), dumps(members))


def event_letter(fault: OcppgwError, topic: str, key: str, cursor: int, value: bytes, now: float) -> bytes:
    """The value of a letter about an event that `topic` can't take."""
    return dumps(
        {
            "eventId": name_based_id("dead-letter", topic, str(cursor), value),
            **_why(fault, []),
            "topic": topic,
            "key": key[:HEAD_BYTES],
            "cursor": cursor,
            **_content(value, HEAD_BYTES),
            "at": rfc3339(now).decode(),
        }
    )


def _why(fault: OcppgwError, secrets: list[str]) -> dict[str, str]:
    reason, hint = (scrubbed(text, secrets) for text in (fault.args[0], fault.hint))
    return {"reason": reason, "code": fault.code, "hint": hint}


def _without_secrets(value: bytes, request: Mapping[str, Any]) -> dict[str, Any]:
    """Where one is named and can't be found, the whole record is hidden."""
    if not any(name in value.lower() for name in _NAMES_OF_SECRETS):
        return _content(value, MAX_RECORD_BYTES)
    shown = redacted(request)
    if "payload" in shown:
        shown["payload"] = redacted(shown["payload"])
    if shown == request:
        return {"record": HIDDEN, "bytes": len(value), "redacted": True}
    return {**_content(dumps(shown), MAX_RECORD_BYTES), "redacted": True}


def _content(value: bytes, limit: int) -> dict[str, Any]:
    size = {"bytes": len(value)} if len(value) > limit else {}
    try:
        value.decode()
    except UnicodeDecodeError:
        return {"record": b64encode(value[:limit]).decode(), "encoding": "base64", **size}
    return {"record": value[:limit].decode(errors="ignore"), **size}  # without half a character at the end

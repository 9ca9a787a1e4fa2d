"""Signed messages of 2.x (part 4 section 7): a CALL `<Action>-Signed`, its payload a flattened JWS (RFC 7515 §7.2.2).

    [2, "id", "Heartbeat-Signed", {"payload": "e30", "protected": "…", "signature": "…"}]

The receiver has to unpack them; to verify the signature is optional, and is not done here: the connection is
authenticated already. The answer is a plain CALLRESULT.
"""

import base64
import binascii
import re
from typing import Any

import msgspec

from ocppgw.ocpp.frames import Call

SUFFIX = "-Signed"
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}", re.ASCII)


def unpack(call: Call) -> Call | None:
    """The CALL inside, with the same message id; None when it is no wrapper or can't be read. Never raises."""
    if not call.action.endswith(SUFFIX):
        return None
    payload = _payload(call.payload.get("payload"))
    return None if payload is None else Call(call.message_id, call.action.removesuffix(SUFFIX), payload)


def _payload(text: Any) -> dict[str, Any] | None:
    # The decoder itself would skip foreign characters silently.
    if type(text) is not str or not _BASE64URL.fullmatch(text):
        return None
    try:
        decoded = base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
        payload = msgspec.json.decode(decoded)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return payload if type(payload) is dict else None

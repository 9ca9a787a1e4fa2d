"""OCPP-J frames: bytes to Call, CallResult, CallError, CallResultError, Send, and back.

    [2, "id", "Action", {payload}]             CALL             both sides, answered by exactly one 3 or 4
    [3, "id", {payload}]                       CALLRESULT
    [4, "id", "Code", "description", {}]       CALLERROR
    [5, "id", "Code", "description", {}]       CALLRESULTERROR  2.1, about an answer that was not understood
    [6, "id", "Action", {payload}]             SEND             2.1, never answered

Sources: OCPP 1.6J section 4.2; OCPP 2.0.1 and 2.1 part 4 section 4.2. Numbers beyond 64 bits stay exact (msgspec),
duplicate member names: the last one wins, and what is validated is what is passed on, because events are encoded anew.
"""

from typing import Any

import msgspec
import orjson

CALL, CALL_RESULT, CALL_ERROR, CALL_RESULT_ERROR, SEND = 2, 3, 4, 5, 6
MAX_ID_LENGTH = 36
MAX_DESCRIPTION_LENGTH = 255
MAX_LEVELS = 254  # of nesting; what orjson writes

_decode = msgspec.json.Decoder().decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode_any = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True, gc=False):
    message_id: str
    action: str
    payload: dict[str, Any]


class CallResult(msgspec.Struct, frozen=True):
    message_id: str
    payload: dict[str, Any]


class CallError(msgspec.Struct, frozen=True):
    """Also a CALLRESULTERROR when `about_result` is true."""

    message_id: str
    code: str
    description: str
    details: Any
    about_result: bool = False


class Send(msgspec.Struct, frozen=True):
    message_id: str
    action: str
    payload: dict[str, Any]


class BadFrame(msgspec.Struct, frozen=True):
    """A text that is no frame. `kind` says what may be done about it:

    - `unreadable`: no JSON, no array, or a CALL without a usable id: 2.x answers with id "-1", 1.6 stays silent
    - `not-utf8`: close 1007 (RFC 6455 section 8.1)
    - `malformed`: a CALL whose id is readable: CALLERROR with that id
    - `malformed-result`, `malformed-error`: a broken CALLRESULT or CALLERROR: ends our own CALL of that id
    - `malformed-result-error`, `malformed-send`: a broken 5 or 6: never answered
    - `unknown-type`: any other message type number
    """

    kind: str
    reason: str
    message_id: str | None = None


_MALFORMED = {
    CALL: "malformed",
    CALL_RESULT: "malformed-result",
    CALL_ERROR: "malformed-error",
    CALL_RESULT_ERROR: "malformed-result-error",
    SEND: "malformed-send",
}
# Without a usable id only a CALL may be answered: else two peers would answer each other's broken answers for ever.
_UNIDENTIFIED = {**_MALFORMED, CALL: "unreadable"}

Frame = Call | CallResult | CallError | Send | BadFrame


def parse(text: bytes) -> Frame:
    """Read one text message (UTF-8 bytes). Never raises."""
    try:
        frame = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _undecodable(text, error)
    if type(frame) is list and len(frame) > 1:
        kind, message_id = frame[0], frame[1]
        if type(message_id) is str and message_id:
            if kind == CALL and type(kind) is int:
                return _call(frame, message_id)
            return _rarer(frame, kind, message_id)
    return _without_id(frame)


def _call(frame: list[Any], message_id: str) -> Call | BadFrame:
    if len(frame) == 4:
        action, payload = frame[2], frame[3]
        if type(action) is str:
            if type(payload) is dict and len(message_id) <= MAX_ID_LENGTH:
                return Call(message_id, action, payload)
            if payload is None and len(message_id) <= MAX_ID_LENGTH:  # tolerated: 1.6J section 4.2.1
                return Call(message_id, action, {})
    return BadFrame("malformed", _call_fault(frame, message_id), message_id)


def _call_fault(frame: list[Any], message_id: str) -> str:
    if len(message_id) > MAX_ID_LENGTH:
        return f"the message id has {len(message_id)} characters, at most {MAX_ID_LENGTH} are allowed"
    if len(frame) != 4:
        return f"a CALL has 4 elements, this one has {len(frame)}"
    if type(frame[2]) is not str:
        return "the action is not a string"
    return "the payload is not a JSON object"


def _rarer(frame: list[Any], kind: Any, message_id: str) -> Frame:
    if type(kind) is not int or not CALL_RESULT <= kind <= SEND:
        return BadFrame("unknown-type", "unknown message type number", message_id)
    if kind == CALL_RESULT:
        payload = frame[2] if len(frame) == 3 else None
        if type(payload) is dict:
            return CallResult(message_id, payload)
        if len(frame) == 3 and payload is None:
            return CallResult(message_id, {})
        return BadFrame("malformed-result", "a CALLRESULT is [3, id, {payload}]", message_id)
    if kind == SEND:
        sent = _call(frame, message_id)
        if type(sent) is Call:
            return Send(message_id, sent.action, sent.payload)
        return BadFrame("malformed-send", "a SEND is [6, id, action, {payload}]", message_id)
    return _call_error(frame, kind, message_id)


def _call_error(frame: list[Any], kind: int, message_id: str) -> CallError | BadFrame:
    # Details are often left out by chargers; without them the code still tells how the command ended.
    if len(frame) not in (4, 5) or type(frame[2]) is not str or type(frame[3]) is not str:
        return BadFrame(_MALFORMED[kind], f"it has to be [{kind}, id, code, description, {{details}}]", message_id)
    details = frame[4] if len(frame) == 5 else {}
    return CallError(message_id, frame[2], frame[3], details, kind == CALL_RESULT_ERROR)


def _without_id(frame: Any) -> BadFrame:
    if type(frame) is not list or not frame:
        return BadFrame("unreadable", "not an OCPP-J message array")
    reason = "the message id is missing or not a string"
    return BadFrame(_UNIDENTIFIED.get(frame[0], "unreadable") if type(frame[0]) is int else "unreadable", reason)


def _undecodable(text: bytes, error: Exception) -> BadFrame:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return BadFrame("not-utf8", "the text message is not UTF-8")
    if isinstance(error, RecursionError):
        return BadFrame("unreadable", "nested too deeply")
    try:  # a number out of range spoils the payload, not the envelope
        kind, message_id = map(_decode, _decode_elements(text)[:2])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return BadFrame("unreadable", "not JSON")
    if type(message_id) is not str or not message_id:
        return _without_id([kind])
    fault = _MALFORMED.get(kind, "unknown-type") if type(kind) is int else "unknown-type"
    return BadFrame(fault, "a number is out of range", message_id)


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON. Raises ValueError for more than 254 levels, so that what is stored can be read by anybody."""
    try:
        return orjson.dumps(value)
    except TypeError:  # too deep, or an integer beyond 64 bits, which the slower encoder knows
        if _deeper_than(MAX_LEVELS, value):
            raise ValueError(f"nested too deeply, at most {MAX_LEVELS} levels are allowed") from None
        return _encode_any(value)


def _deeper_than(levels: int, value: Any) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        containers = [one for one in layer if type(one) in (dict, list)]
        if not containers:
            return False
        layer = [child for one in containers for child in (one.values() if type(one) is dict else one)]
    return True


def call(message_id: str, action: str, payload: Any) -> bytes:
    return b'[2,%b,"%b",%b]' % (dumps(message_id), action.encode(), dumps(payload))


def call_result(message_id: bytes, payload: bytes) -> bytes:
    """Both arguments are JSON already: the id as it will be echoed, the payload object."""
    return b"[3,%b,%b]" % (message_id, payload)


def call_error(message_id: str, code: str, description: str, *, about_result: bool = False) -> bytes:
    kind = CALL_RESULT_ERROR if about_result else CALL_ERROR
    return b"[%d,%b,%b,%b,{}]" % (kind, dumps(message_id), dumps(code), dumps(description[:MAX_DESCRIPTION_LENGTH]))

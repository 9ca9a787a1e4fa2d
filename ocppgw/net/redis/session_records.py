"""Sessions and nodes as they stand in Redis (contract.md section 2), read and written.

Anybody may have written them: what can't be read is never an exception.
"""

from typing import Any, TypeVar

import msgspec

from ocppgw.fleet_ports import Claim, NodeRow, SessionRow


class NodeFacts(msgspec.Struct, frozen=True):
    """This node. `incarnation` is another one for each process; `started_at` is RFC 3339."""

    node_id: str
    incarnation: str
    command_topic: str
    session_control_topic: str
    started_at: str
    advertise_url: str | None = None

    def row(self, last_seen_at: str) -> NodeRow:
        return NodeRow(
            self.node_id,
            self.command_topic,
            self.session_control_topic,
            self.started_at,
            last_seen_at,
            self.incarnation,
            self.advertise_url,
        )


class StoredSession(SessionRow, frozen=True):
    """`incarnation` of the node's process; "" where the existing gateway wrote it."""

    incarnation: str = ""


Row = TypeVar("Row", SessionRow, NodeRow)

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_loss = msgspec.json.Decoder(tuple[str, str, str]).decode
encode = msgspec.json.Encoder().encode

_NO_SESSION = SessionRow("", "", "", "", "", "", 0, "", 0)
_NO_NODE = NodeRow("", "", "", "", "")


def stored(session: SessionRow, incarnation: str) -> bytes:
    return encode(StoredSession(**msgspec.structs.asdict(session), incarnation=incarnation))


def around_epoch(session: SessionRow, incarnation: str) -> tuple[bytes, bytes]:
    """What stands before the epoch's digits and after them. (Inside a string the quotes would be escaped.)"""
    raw = stored(msgspec.structs.replace(session, epoch=0), incarnation)
    head, middle, tail = raw.partition(b'"epoch":0')
    return head + middle[:-1], tail


def read_session(charge_point_id: str, raw: bytes | None) -> SessionRow | None:
    """What is missing or of another type is "" or 0; None when it names no node."""
    session = _read(raw, _NO_SESSION)
    if session is None or not session.node_id:
        return None
    return msgspec.structs.replace(session, charge_point_id=charge_point_id)


def read_node(node_id: str, raw: bytes | None) -> NodeRow | None:
    node = _read(raw, _NO_NODE)
    return None if node is None else msgspec.structs.replace(node, node_id=node_id)


def read_loss(raw: bytes) -> Claim | None:
    """Who lost it, the epoch it was lost to, and the node that has it now."""
    try:
        charge_point_id, epoch, _node_id = _decode_loss(raw)
        return Claim(charge_point_id, int(epoch))
    except (msgspec.DecodeError, ValueError):
        return None


def _read(raw: bytes | None, defaults: Row) -> Row | None:
    try:
        members = _decode(raw or b"")
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(defaults):
        try:
            found[field.name] = msgspec.convert(members[field.encode_name], field.type, strict=False)
        except (KeyError, msgspec.ValidationError):
            continue
    return msgspec.structs.replace(defaults, **found)

"""From frames to DomainEvents (the outside contract, section 3): finished UTF-8 JSON bytes, spliced, not re-encoded.

    {"eventId", "eventType", "source": "ocpp-gateway", "occurredAt", "stationId", "tenantId", "chargePointId",
     "ocppVersion", "connectorId"?, "payload": {"action", "payload", "messageId", …, "nodeId", "epoch", "sequence"}}

An eventId is deterministic, so that a consumer can drop duplicates: for transaction messages it follows from the
charger and the message's content (the same record sent again after any crash has the same id); for other messages from
the charger, the content and a message id that is used once (`Session` decides); for all else from charger, epoch and
sequence. Ids have the shape of a UUID version 8 (RFC 9562 section 5.8).
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from ocppgw.ocpp.effects import Record
from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.versions import COMMAND, STATION

SOURCE = "ocpp-gateway"


def name_based_id(*parts: str | bytes) -> str:
    """A UUID version 8 that follows from `parts` alone."""
    digest = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:%b" % (len(data), data))
    return _uuid8(digest.hexdigest())


def _uuid8(text: str) -> str:
    """122 bits of a hexadecimal digest, with the version and variant of RFC 9562 section 5.8."""
    return f"{text[:8]}-{text[8:12]}-8{text[12:15]}-a{text[15:18]}-{text[18:30]}"


class EventWriter:
    """Writes the events of one connection; everything that does not change on it is rendered once.

    `sequence` counts the records of this connection from 1.
    """

    __slots__ = ("_close", "_content", "_id_prefix", "_identity", "key", "sequence")

    def __init__(
        self, charge_point_id: str, station_id: str, tenant_id: str, version: str, node_id: str, epoch: int
    ) -> None:
        self.key = station_id
        self.sequence = 0
        self._content = sha256(b"content %b " % charge_point_id.encode())  # copied, never updated
        self._id_prefix = name_based_id("connection", charge_point_id, str(epoch))[:24].encode()
        self._identity = b'"stationId":%b,"tenantId":%b,"chargePointId":%b,"ocppVersion":"%b"' % (
            dumps(station_id),
            dumps(tenant_id),
            dumps(charge_point_id),
            version.encode(),
        )
        self._close = b',"nodeId":%b,"epoch":%d,"sequence":' % (dumps(node_id), epoch)

    def call(
        self,
        topic: str,
        event_type: str,
        now: float,
        action: str,
        payload: bytes,
        message_id: bytes,
        *,
        connector_id: int | None = None,
        extra: bytes = b"",
        event_id: str | None = None,
    ) -> Record:
        """The event of a charger's CALL or SEND.

        `payload` and `message_id` are JSON; `extra` is JSON members, each with a leading comma; `event_id` replaces
        the sequence's.
        """
        self.sequence += 1
        connector = b"" if connector_id is None else b',"connectorId":%d' % connector_id
        value = (
            b'{"eventId":"%b","eventType":"%b","source":"ocpp-gateway","occurredAt":"%b",%b%b,'
            b'"payload":{"action":"%b","payload":%b,"messageId":%b%b%b%d}}'
        ) % (
            b"%b%012x" % (self._id_prefix, self.sequence) if event_id is None else event_id.encode(),
            event_type.encode(),
            rfc3339(now),
            self._identity,
            connector,
            action.encode(),
            payload,
            message_id,
            extra,
            self._close,
            self.sequence,
        )
        return Record(topic, self.key, value)

    def content_id(self, action: str, payload: bytes) -> str:
        """An eventId that follows from the charger and the message's content alone."""
        digest = self._content.copy()
        digest.update(action.encode())
        digest.update(payload)  # starts with "{", so action and payload can't run into each other
        return _uuid8(digest.hexdigest())

    def call_id(self, action: str, payload: bytes, message_id: bytes) -> str:
        """An eventId that follows from the charger, the message's id and its content."""
        digest = self._content.copy()
        digest.update(b"%b %b " % (message_id, action.encode()))  # JSON strings end with a quote: no running together
        digest.update(payload)
        return _uuid8(digest.hexdigest())

    def own(
        self, event_type: str, now: float, members: Mapping[str, Any], *, extra: bytes = b"", correlation_id: str = ""
    ) -> Record:
        """An event of the gateway about the station (StationConnected, StationDisconnected, …).

        `extra` as in `call`; `correlation_id`: the command's that the event is about.
        """
        self.sequence += 1
        payload = dumps(dict(members))[:-1] + (b"" if members else b'"gateway":true') + extra
        correlation = b',"correlationId":%b' % dumps(correlation_id) if correlation_id else b""
        value = (
            b'{"eventId":"%b%012x","eventType":"%b","source":"ocpp-gateway","occurredAt":"%b",%b%b,"payload":%b%b%d}}'
            % (
                self._id_prefix,
                self.sequence,
                event_type.encode(),
                rfc3339(now),
                self._identity,
                correlation,
                payload,
                self._close,
                self.sequence,
            )
        )
        return Record(STATION, self.key, value)


def command_event(
    event_type: str,
    command: Mapping[str, Any],
    now: float,
    payload: Mapping[str, Any],
    node_id: str,
    *,
    repeat: str = "",
) -> Record:
    """A `Command…` event; `command`: a CommandRecord as a camelCase dict; `repeat` tells repeats of one type apart."""
    members = {
        "eventId": name_based_id("command", command["commandId"], event_type, repeat),
        "eventType": event_type,
        "source": SOURCE,
        "occurredAt": rfc3339(now).decode(),
        "correlationId": command["commandId"],
    }
    for name in ("stationId", "tenantId", "chargePointId", "connectorId", "ocppVersion"):
        if command.get(name) is not None:
            members[name] = command[name]
    members["payload"] = {"commandType": command["commandType"], **payload, "nodeId": node_id}
    return Record(COMMAND, command["chargePointId"], dumps(members))

"""A station that speaks raw OCPP-J frames over the `websockets` library, and upgrades made by hand."""

import base64
import json
import os
import socket
import ssl
import struct
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.integration.daemon import TIME_LIMIT

if TYPE_CHECKING:
    from tests.integration.harness import Gateway

SUBPROTOCOLS = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}
NOW = "2026-11-24T08:00:00Z"

JsonObject = dict[str, Any]


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Station:
    """A raw client: sends what it is told, unchecked, and answers nothing by itself (but pings and closes).

    Frames come back as Python lists. `path` and `subprotocols` default to what the version wants.
    """

    def __init__(
        self,
        gateway: "Gateway",
        version: str,
        charge_point_id: str,
        *,
        path: str | None = None,
        subprotocols: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
        compression: str | None = None,
        tls: ssl.SSLContext | None = None,
        port: int | None = None,
    ) -> None:
        """`tls`: connect with it, verifying the gateway as "localhost"; `port`: another than the gateway's first."""
        self.gateway = gateway
        self.version = version
        self.id = charge_point_id
        self.since = 0
        self._path = path or f"/ocpp/{version}/{charge_point_id}"
        self._subprotocols = list(subprotocols or [SUBPROTOCOLS[version]])
        self._headers = dict(headers or {})
        self._compression = compression
        self._tls = tls
        self._port = port
        self._socket: ClientConnection | None = None
        self._held: list[list[Any]] = []

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def connect(self) -> Self:
        """Raises websockets' InvalidStatus when the upgrade is refused."""
        self._held.clear()
        self._socket = connect(
            f"{'ws' if self._tls is None else 'wss'}://localhost{self._path}",
            sock=socket.create_connection(("127.0.0.1", self._port or self.gateway.websocket_port), TIME_LIMIT),
            ssl=self._tls,
            subprotocols=self._subprotocols,  # type: ignore[arg-type]
            additional_headers=self._headers,
            compression=self._compression,
            proxy=None,
            ping_interval=None,
            open_timeout=TIME_LIMIT,
            close_timeout=TIME_LIMIT,
            max_size=None,
        ).__enter__()
        return self

    def booted(self) -> Self:
        """Send a BootNotification; the gateway must accept it."""
        answer = self.call("BootNotification", boot_payload(self.version))
        assert answer["status"] == "Accepted", answer
        return self

    @property
    def socket(self) -> ClientConnection:
        assert self._socket is not None, "not connected"
        return self._socket

    def close(self, code: int = 1000) -> None:
        """The closing handshake."""
        if self._socket is not None:
            self._socket.close(code)
            self._socket = None

    def vanish(self) -> None:
        """Cut the TCP connection without a word (RST)."""
        raw = self.socket.socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._socket = None

    def closed_with(self, time_limit: float = TIME_LIMIT) -> int | None:
        """Wait for the gateway to close the connection; its close code, None without close frame."""
        deadline = time.monotonic() + time_limit
        try:
            while True:
                self._held.append(self._received(deadline - time.monotonic()))
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code

    # --- frames

    def send_text(self, text: str | bytes) -> None:
        """One text message; bytes go out as they are, UTF-8 or not."""
        self.socket.send(text, text=True)

    def send(self, frame: Any) -> None:
        self.send_text(json.dumps(frame))

    def recv(self, time_limit: float = TIME_LIMIT) -> list[Any]:
        """The next frame, in order of arrival. TimeoutError when none comes."""
        if self._held:
            return self._held.pop(0)
        return self._received(time_limit)

    def _received(self, time_limit: float) -> list[Any]:
        frame: list[Any] = json.loads(self.socket.recv(max(0.0, time_limit)))
        return frame

    def request(self, action: str, payload: Any, message_id: str | None = None) -> list[Any]:
        """Send a CALL and return the frame that answers it; other frames are kept for `recv`."""
        wanted = message_id or str(uuid.uuid4())
        self.send([2, wanted, action, payload])
        return self.answer_to(wanted)

    def answer_to(self, message_id: str, time_limit: float = TIME_LIMIT) -> list[Any]:
        deadline = time.monotonic() + time_limit
        for index, held in enumerate(self._held):
            if held[0] in (3, 4) and held[1] == message_id:
                return self._held.pop(index)
        while True:
            frame = self._received(deadline - time.monotonic())
            if frame[0] in (3, 4) and frame[1] == message_id:
                return frame
            self._held.append(frame)

    def call(self, action: str, payload: Any, message_id: str | None = None) -> JsonObject:
        """The payload of the CALLRESULT; AssertionError when it is a CALLERROR."""
        answer = self.request(action, payload, message_id)
        assert answer[0] == 3, answer
        result: JsonObject = answer[2]
        return result

    def refused(self, action: str, payload: Any) -> str:
        """The code of the CALLERROR; AssertionError when it is a CALLRESULT."""
        answer = self.request(action, payload)
        assert answer[0] == 4, answer
        assert len(answer) == 5, answer
        assert answer[4] == {}, answer
        code: str = answer[2]
        return code

    def expect_call(self, action: str | None = None) -> tuple[str, str, JsonObject]:
        """The next frame, which must be a CALL of the gateway's: its message id, action, payload."""
        frame = self.recv()
        assert frame[0] == 2, frame
        assert action is None or frame[2] == action, frame
        return frame[1], frame[2], frame[3]

    def reply(self, message_id: str, payload: Any) -> None:
        self.send([3, message_id, payload])

    def nothing_was_sent(self) -> None:
        """Nothing came since the last frame read: an unanswerable CALL's answer is the next thing to arrive."""
        barrier = str(uuid.uuid4())
        self.send([2, barrier, "NoSuchAction", {}])
        frame = self.recv()
        assert frame[:2] == [4, barrier], f"unexpected {frame}"

    # --- its events

    def events(self, *event_types: str) -> list[JsonObject]:
        """Those of this station, oldest first; of the given types, or all."""
        found = self.gateway.events(self.since, self.id)
        return [event for event in found if not event_types or event["eventType"] in event_types]

    def wait_event(self, event_type: str, predicate: Callable[[JsonObject], bool] = lambda event: True) -> JsonObject:
        return self.gateway.wait_event(
            lambda event: event["eventType"] == event_type and predicate(event),
            since=self.since,
            charge_point_id=self.id,
        )


# --- raw HTTP upgrades


def upgrade(
    gateway: "Gateway",
    path: str,
    subprotocols: str | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    is_websocket: bool = True,
    tls: ssl.SSLContext | None = None,
    port: int | None = None,
) -> tuple[Reply, socket.socket]:
    """Ask for an upgrade with exactly this request target; the answer's head and the socket (to be closed)."""
    lines = [f"GET {path} HTTP/1.1", "Host: gateway"]
    if is_websocket:
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines.append(f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}")
    if subprotocols is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocols}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    peer = socket.create_connection(("127.0.0.1", port or gateway.websocket_port), TIME_LIMIT)
    if tls is not None:
        peer = tls.wrap_socket(peer, server_hostname="localhost")
    peer.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    return _read_head(peer), peer


def refusal(gateway: "Gateway", path: str, subprotocols: str | None = None, **more: Any) -> Reply:
    """The answer to an upgrade that is expected to be refused."""
    reply, peer = upgrade(gateway, path, subprotocols, **more)
    peer.close()
    assert reply.status != 101, reply
    return reply


def _read_head(peer: socket.socket) -> Reply:
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(1)  # not a byte too much: what follows belongs to the WebSocket
        if not more:
            raise ConnectionError(f"closed after {data!r}")
        data += more
    status, *lines = data.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return Reply(int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, b"")


def basic(user: str | bytes, password: str | bytes) -> dict[str, str]:
    """The header of HTTP Basic authentication (RFC 7617), from octets."""
    octets = b":".join(part.encode() if isinstance(part, str) else part for part in (user, password))
    return {"Authorization": f"Basic {base64.b64encode(octets).decode()}"}


# --- payloads


def boot_payload(version: str) -> JsonObject:
    if version == "1.6":
        return {"chargePointVendor": "Vendor", "chargePointModel": "Model"}
    return {"reason": "PowerUp", "chargingStation": {"vendorName": "Vendor", "model": "Model"}}


def status_payload(version: str, connector: int = 1) -> JsonObject:
    if version == "1.6":
        return {"connectorId": connector, "errorCode": "NoError", "status": "Available"}
    return {"timestamp": NOW, "connectorStatus": "Available", "evseId": connector, "connectorId": 1}

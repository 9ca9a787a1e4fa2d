"""Bad input on a live daemon: a clear answer or a close with its code, and a bystander who notices nothing."""

import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.integration.harness import SUBPROTOCOLS, TIME_LIMIT, Gateway, Station

VERSIONS = tuple(SUBPROTOCOLS)
MAX_HALF_OPEN = 200
HANDSHAKE_SECONDS = 2


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    limits = {"max_half_open": MAX_HALF_OPEN, "handshake_timeout_seconds": HANDSHAKE_SECONDS}
    with Gateway(tmp_path_factory.mktemp("bad-input"), {"websocket": limits}) as running:
        yield running


@pytest.fixture(autouse=True)
def bystander(gateway: Gateway) -> Iterator[None]:
    """A station that is served before, and on the same connection after, whatever the test does."""
    with Station(gateway, "1.6", "BYSTANDER") as station:
        station.booted()
        station.call("Heartbeat", {})
        yield
        station.call("Heartbeat", {})


@pytest.fixture(params=VERSIONS)
def station(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[Station]:
    with Station(gateway, request.param, f"CP-{request.param}") as one:
        one.booted()
        yield one


NOT_FRAMES = [
    "{not json",
    "pong",
    "",
    "null",
    "[]",
    "[2]",
    '{"a":1}',
    '[2,7,"Heartbeat",{}]',
    '[2,"","Heartbeat",{}]',
    '"\\ud800"',
    "[" * 10_000 + "]" * 10_000,
    '[2,"deep","DataTransfer",' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "]",
    '[2,"nul","Heartbeat",{}]\x00',
]


@pytest.mark.parametrize("text", NOT_FRAMES, ids=range(len(NOT_FRAMES)))
def test_what_is_no_frame_gets_minus_one_on_2x_and_silence_on_16(station: Station, text: str) -> None:
    station.send_text(text)
    if station.version != "1.6":
        kind, message_id, code, description, details = station.recv()
        assert (kind, message_id, code, details) == (4, "-1", "RpcFrameworkError", {})
        assert description
        assert text[:20] not in description or not text
    assert "currentTime" in station.call("Heartbeat", {})


WRONG_CALLS = ['[2,"x","Heartbeat"]', '[2,"x","Heartbeat",[]]', '[2,"x",7,{}]', '[2,"x","Heartbeat",{},1]']
WRONG_CALLS += ['[2,"x","DataTransfer",{"vendorId":"v","n":1e999}]']


@pytest.mark.parametrize("text", WRONG_CALLS, ids=range(len(WRONG_CALLS)))
def test_a_wrong_call_with_a_readable_id_gets_its_error(station: Station, text: str) -> None:
    station.send_text(text)
    code = "FormationViolation" if station.version == "1.6" else "RpcFrameworkError"
    assert station.answer_to("x")[:3] == [4, "x", code]


def test_duplicate_names_are_published_as_they_were_validated(station: Station) -> None:
    station.send_text('[2,"twice","DataTransfer",{"vendorId":7,"vendorId":"last","data":"1"}]')
    assert station.answer_to("twice")[0] == 3
    event = station.wait_event("DataTransferReceived", lambda one: one["payload"]["messageId"] == "twice")
    assert event["payload"]["payload"] == {"vendorId": "last", "data": "1"}


def test_an_escaped_nul_is_text_like_any_other(station: Station) -> None:
    station.send_text('[2,"nul","DataTransfer",{"vendorId":"v","data":"a\\u0000b"}]')
    assert station.answer_to("nul")[0] == 3
    event = station.wait_event("DataTransferReceived", lambda one: one["payload"]["messageId"] == "nul")
    assert event["payload"]["payload"]["data"] == "a\0b"


def test_numbers_beyond_64_bits_are_kept_exactly(station: Station) -> None:
    huge = 10**40
    if station.version == "1.6":
        payload = f'{{"connectorId":{huge},"errorCode":"NoError","status":"Available"}}'
        station.send_text(f'[2,"big","StatusNotification",{payload}]')
    else:
        station.send_text(f'[2,"big","Heartbeat",{{"customData":{{"vendorId":"v","n":{huge}}}}}]')
    assert station.answer_to("big")[0] == 3
    [event] = [one for one in station.events() if one["payload"].get("messageId") == "big"]
    sent = event["payload"]["payload"]
    assert (sent["connectorId"] if station.version == "1.6" else sent["customData"]["n"]) == huge


def test_invalid_utf8_closes_with_1007(station: Station) -> None:
    raw = _Raw(station)
    raw.send_frame(b'[2,"a","Heartbeat",{"x":"\xff"}]')
    assert raw.close_code() == 1007


def test_a_megabyte_closes_with_1009(station: Station) -> None:
    station.send_text(f'[2,"big","DataTransfer",{{"vendorId":"v","data":"{"x" * 1_000_000}"}}]')
    assert station.closed_with() == 1009


def test_a_compression_bomb_closes_with_1009_and_takes_no_memory(gateway: Gateway) -> None:
    uri = f"{gateway.websocket_url}/2.0.1/BOMB"
    before = _resident_kib(gateway.pid)
    with connect(uri, subprotocols=["ocpp2.0.1"], compression="deflate") as socket_:  # type: ignore[list-item]
        assert "permessage-deflate" in str(socket_.response.headers)  # type: ignore[union-attr]
        squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = squeezed.compress(b" " * 100_000_000) + squeezed.flush(zlib.Z_SYNC_FLUSH)
        assert len(bomb) < 120_000
        mask = b"\0\0\0\0"
        header = b"\xc1\xff" + len(bomb[:-4]).to_bytes(8, "big") + mask
        socket_.socket.sendall(header + bomb[:-4])
        with pytest.raises(ConnectionClosed) as closed:
            socket_.recv(TIME_LIMIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert _resident_kib(gateway.pid) - before < 20_000


def test_a_slow_handshake_is_cut_off(gateway: Gateway) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", gateway.websocket_port), TIME_LIMIT) as slow:
        slow.sendall(b"GET /ocpp/1.6/SLOW HTTP/1.1\r\nHost: x\r\nX-Drip: ")
        answer = _read_all(slow)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert time.monotonic() - started < HANDSHAKE_SECONDS + 5


def test_a_thousand_half_open_sockets_are_bounded_and_harm_nobody(gateway: Gateway) -> None:
    with ExitStack() as sockets:
        half_open = [_half_open(gateway, sockets) for _ in range(1000)]
        cut = sum(one is None or _is_cut(one) for one in half_open[MAX_HALF_OPEN:])
        # The slots of the first ones are free again after the handshake's time limit: some later ones may get them.
        assert cut >= 1000 - 2 * MAX_HALF_OPEN
    with Station(gateway, "2.1", "AFTER") as station:
        station.booted()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\r\n\r\n\r\n",
        b"GET",
        b"POST /v1/commands HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A" * 100_000,
        b"\0" * 5000,
    ],
    ids=range(6),
)
def test_garbage_on_the_operations_port(gateway: Gateway, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.http_port), TIME_LIMIT) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        _read_all(client)
    assert gateway.http("GET", "/health").status == 200


class _Raw:
    """The bare socket under a station's connection, for frames a client library refuses to send."""

    def __init__(self, station: Station) -> None:
        self.station = station

    def send_frame(self, payload: bytes) -> None:
        self.station.socket.socket.sendall(bytes([0x81, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)

    def close_code(self) -> int | None:
        return self.station.closed_with()


def _read_all(client: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := client.recv(65_536):
            data += chunk
    except ConnectionResetError:
        """Cut off: as good an end as any."""
    return data


def _half_open(gateway: Gateway, sockets: ExitStack) -> socket.socket | None:
    """A connection that says nothing; None where the gateway's reset was there before `connect` had returned."""
    try:
        return sockets.enter_context(socket.create_connection(("127.0.0.1", gateway.websocket_port), TIME_LIMIT))
    except ConnectionResetError:
        return None


def _is_cut(client: socket.socket) -> bool:
    """Whether it was closed without an answer; one that is let stand gets a 400 when its time is over."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def _resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])

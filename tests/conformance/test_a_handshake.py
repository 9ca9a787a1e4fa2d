"""A: the opening handshake. Everything is decided before the upgrade, as an HTTP status (contract section 1)."""

import contextlib
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from tests.conformance.cases import case
from tests.conformance.conftest import PASSWORD
from tests.integration.harness import (
    SUBPROTOCOLS,
    TIME_LIMIT,
    Gateway,
    Reply,
    Station,
    basic,
    boot_payload,
    refusal,
    upgrade,
)

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
BOMB_BYTES = 100 * 1024 * 1024


@contextlib.contextmanager
def upgraded(gateway: Gateway, path: str, subprotocols: str | None, **more: dict[str, str]) -> Iterator[Reply]:
    reply, peer = upgrade(gateway, path, subprotocols, **more)  # type: ignore[arg-type]
    with peer:
        assert reply.status == 101, reply
        yield reply


@case(1, "*")
def test_a_served_subprotocol_is_echoed(gateway: Gateway, version: str, new_id: str) -> None:
    spellings = [SUBPROTOCOLS[version], SUBPROTOCOLS[version].upper()]
    spellings += ["ocpp1.6j", "OCPP1.6J"] if version == "1.6" else []
    for number, spelling in enumerate(spellings):
        with upgraded(gateway, f"/ocpp/{version}/{new_id}{number}", spelling) as reply:
            assert reply.headers["sec-websocket-protocol"] == spelling


@case(1, "*")
def test_a_reverse_proxys_prefix_is_let_through(gateway: Gateway, version: str, new_id: str) -> None:
    with upgraded(gateway, f"/some/prefix/ocpp/{version}/{new_id}", SUBPROTOCOLS[version]):
        assert gateway.wait_station(new_id, lambda row: row["connected"])


@case(2, "*")
@pytest.mark.parametrize("offer", ["ocpp0.1", "ocpp2.0", "ocpp1.5"])
def test_no_served_subprotocol_is_no_upgrade(gateway: Gateway, version: str, new_id: str, offer: str) -> None:
    assert refusal(gateway, f"/ocpp/{version}/{new_id}", offer).status == 400
    assert gateway.http("GET", f"/v1/stations/{new_id}").status == 404


@case(2, "*")
def test_no_served_subprotocol_in_the_other_mode_is_an_upgrade_that_is_closed(
    switched: Gateway, version: str, new_id: str
) -> None:
    reply, peer = upgrade(switched, f"/ocpp/{version}/{new_id}", "ocpp0.1")
    with peer:
        assert reply.status == 101
        assert "sec-websocket-protocol" not in reply.headers
        assert close_code(peer) == 1002
    assert switched.http("GET", f"/v1/stations/{new_id}").status == 404


@case(3, "*")
def test_the_first_served_offer_is_chosen(gateway: Gateway, version: str, new_id: str) -> None:
    with upgraded(gateway, f"/ocpp/{version}/{new_id}", f"ocpp0.1, {SUBPROTOCOLS[version]}") as reply:
        assert reply.headers["sec-websocket-protocol"] == SUBPROTOCOLS[version]


@case(5, "*")
def test_no_subprotocol_is_never_a_default_version(gateway: Gateway, version: str, new_id: str) -> None:
    assert refusal(gateway, f"/ocpp/{version}/{new_id}").status == 400
    assert refusal(gateway, f"/ocpp/{new_id}").status == 400


@case(6, "*")
def test_a_version_in_the_path_must_agree_and_none_lets_the_subprotocol_decide(
    gateway: Gateway, version: str, new_id: str
) -> None:
    other = next(name for name in SUBPROTOCOLS if name != version)
    assert refusal(gateway, f"/ocpp/{other}/{new_id}", SUBPROTOCOLS[version]).status == 400
    both = f"{SUBPROTOCOLS[other]}, {SUBPROTOCOLS[version]}"
    with upgraded(gateway, f"/ocpp/{version}/{new_id}", both) as reply:
        assert reply.headers["sec-websocket-protocol"] == SUBPROTOCOLS[version]
    with upgraded(gateway, f"/ocpp/{new_id}-2", f"{SUBPROTOCOLS[version]}, {SUBPROTOCOLS[other]}") as reply:
        assert reply.headers["sec-websocket-protocol"] == SUBPROTOCOLS[version]


@case(7, "*")
def test_an_unknown_id_learns_no_more_than_a_wrong_password(strict: Gateway, version: str, new_id: str) -> None:
    before = strict.cursor
    unknown = refusal(strict, f"/ocpp/{version}/{new_id}", SUBPROTOCOLS[version], headers=basic(new_id, "x" * 16))
    name = f"BASIC-{version}"
    wrong = refusal(strict, f"/ocpp/{version}/{name}", SUBPROTOCOLS[version], headers=basic(name, "x" * 16))
    assert unknown.status == wrong.status == 401
    assert unknown.headers == wrong.headers
    assert unknown.headers["www-authenticate"].startswith("Basic ")
    assert refusal(strict, f"/elsewhere/{version}/{new_id}", SUBPROTOCOLS[version]).status == 404
    assert strict.cursor == before


@case(9, "*")
def test_an_id_that_cannot_be_one_is_refused(gateway: Gateway, version: str, new_id: str) -> None:
    faulty = ["A%2FB", "A%00B", "A" * 49, "A%0AB", "A%ZZ", "A%FF"]
    for encoded in faulty:
        assert refusal(gateway, f"/ocpp/{version}/{encoded}", SUBPROTOCOLS[version]).status == 400, encoded
    for encoded in (f"{new_id}:1", f"{new_id}%3A1"):
        reply, peer = upgrade(gateway, f"/ocpp/{version}/{encoded}", SUBPROTOCOLS[version])
        peer.close()
        assert reply.status == (101 if version == "1.6" else 400)
    with upgraded(gateway, f"/ocpp/{version}/{'A' * (47 - len(version))}%7C{version}", SUBPROTOCOLS[version]):
        pass


@case(10, "*")
def test_a_plain_get_is_told_to_upgrade(gateway: Gateway, version: str, new_id: str) -> None:
    reply = refusal(gateway, f"/ocpp/{version}/{new_id}", is_websocket=False)
    assert (reply.status, reply.headers["upgrade"]) == (426, "websocket")
    assert gateway.http("GET", f"/v1/stations/{new_id}").status == 404


@case(11, "0 1")
def test_compressed_and_fragmented_frames_are_served(gateway: Gateway, version: str, new_id: str) -> None:
    with Station(gateway, version, new_id, compression="deflate") as station:
        assert [extension.name for extension in station.socket.protocol.extensions] == ["permessage-deflate"]
        station.booted()
        text = f'[2,"split","DataTransfer",{{"vendorId":"com.example","data":"{"x" * 5000}"}}]'
        station.socket.send([text[:7], text[7:30], text[30:4000], text[4000:]])
        assert station.answer_to("split")[2] == {"status": "Accepted"}
        assert station.wait_event("DataTransferReceived")["payload"]["payload"]["data"] == "x" * 5000


@case(11, "0 1")
def test_fragmented_frames_are_served_without_compression(gateway: Gateway, version: str, station: Station) -> None:
    station.socket.send(['[2,"split","He', "artb", 'eat",', "{}]"])
    assert "currentTime" in station.answer_to("split")[2]
    assert "currentTime" in station.call("Heartbeat", {})


@case(11, "0 1")
def test_an_offer_we_cannot_take_still_works(gateway: Gateway, version: str, new_id: str) -> None:
    headers = {"Sec-WebSocket-Extensions": "x-unknown; a=1"}
    with upgraded(gateway, f"/ocpp/{version}/{new_id}", SUBPROTOCOLS[version], headers=headers) as reply:
        assert "sec-websocket-extensions" not in reply.headers
    small = ClientPerMessageDeflateFactory(server_max_window_bits=10, client_max_window_bits=10)
    url = f"{gateway.websocket_url}/{version}/{new_id}"
    names = [SUBPROTOCOLS[version]]
    with connect(url, subprotocols=names, extensions=[small], compression=None, proxy=None) as peer:  # type: ignore[arg-type]
        peer.send(f'[2,"1","DataTransfer",{{"vendorId":"{"v" * 200}"}}]')
        assert peer.recv(TIME_LIMIT).startswith('[4,"1","SecurityError"')  # type: ignore[arg-type]


@cache
def bomb() -> bytes:
    """About 100 kB that inflate to 100 MB: a DataTransfer with a very long text (RFC 7692 section 7.2.1)."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [deflater.compress(b'[2,"bomb","DataTransfer",{"vendorId":"v","data":"')]
    chunk = b"x" * (1024 * 1024)
    parts += [deflater.compress(chunk) for _ in range(BOMB_BYTES // len(chunk))]
    parts += [deflater.compress(b'"}]'), deflater.flush(zlib.Z_SYNC_FLUSH)]
    return b"".join(parts)[:-4]


@case(12, "*")
def test_a_compression_bomb_is_closed_with_1009_and_costs_little_memory(
    gateway: Gateway, version: str, new_id: str
) -> None:
    before = peak_memory(gateway.pid)
    data = bomb()
    assert 90_000 < len(data) < 120_000
    reply, peer = upgrade(gateway, f"/ocpp/{version}/{new_id}", SUBPROTOCOLS[version], DEFLATE)
    with peer:
        assert reply.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        peer.sendall(struct.pack("!BBQ", 0xC1, 0xFF, len(data)) + mask + masked)
        assert close_code(peer) == 1009
    assert peak_memory(gateway.pid) - before < 16 * 1024 * 1024


@case(13, "*")
def test_the_newest_authenticated_connection_wins(strict: Gateway, version: str) -> None:
    name = f"BASIC-{version}"
    since = strict.cursor
    with Station(strict, version, name, headers=basic(name, PASSWORD)) as older:
        older.booted()
        command_id = strict.command(name, "ClearCache")
        older.expect_call("ClearCache")
        with Station(strict, version, name, headers=basic(name, PASSWORD)) as newer:
            assert older.closed_with() == 1012
            assert strict.ended(command_id)["outcome"] == "Unknown"
            assert "currentTime" in newer.call("Heartbeat", {})
            assert strict.station(name)["connected"] is True
            kinds = [event["eventType"] for event in strict.events(since, name)]
            assert kinds.count("StationDisconnected") == 1
            assert kinds.index("StationDisconnected") < len(kinds) - 1 - kinds[::-1].index("StationConnected")
            older.close()
            assert "currentTime" in newer.call("Heartbeat", {})
        gone = strict.wait_station(name, lambda row: not row["connected"])
        assert gone["bootStatus"] == "Accepted"
    kinds = [event["eventType"] for event in strict.events(since, name)]
    assert kinds.count("StationDisconnected") == kinds.count("StationConnected") == 2


@case(14, "*")
def test_bad_credentials_do_not_touch_the_session_that_is_there(strict: Gateway, version: str) -> None:
    name = f"BASIC-{version}"
    with Station(strict, version, name, headers=basic(name, PASSWORD)) as station:
        station.booted()
        with pytest.raises(InvalidStatus) as refused:
            Station(strict, version, name, headers=basic(name, "wrong wrong wrong")).connect()
        assert refused.value.response.status_code == 401
        assert "currentTime" in station.call("Heartbeat", {})


@case(16, "*")
def test_a_ping_is_answered(gateway: Gateway, version: str, station: Station) -> None:
    assert station.socket.ping(b"are you there").wait(TIME_LIMIT)


@case(16, "*")
def test_a_silent_peer_is_dropped_after_two_missed_pongs(switched: Gateway, version: str, new_id: str) -> None:
    with Station(switched, version, f"{new_id}-2") as lively:
        reply, peer = upgrade(switched, f"/ocpp/{version}/{new_id}", SUBPROTOCOLS[version])
        with peer:
            assert reply.status == 101
            gone = switched.wait_event(
                lambda event: event["eventType"] == "StationDisconnected", charge_point_id=new_id
            )
            assert "ping" in gone["payload"]["reason"]
            peer.settimeout(TIME_LIMIT)
            assert everything(peer).count(b"\x89") >= 2  # the pings it left unanswered
        assert lively.call("BootNotification", boot_payload(version))["status"] == "Accepted"


def close_code(peer: socket.socket) -> int:
    """The code of the close frame that comes next (RFC 6455 section 5.5.1)."""
    head = _exactly(peer, 2)
    assert head[0] == 0x88, head
    body = _exactly(peer, head[1])
    return int.from_bytes(body[:2], "big")


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        assert more, f"closed after {data!r}"
        data += more
    return data


def everything(peer: socket.socket) -> bytes:
    """Until the other side closes or resets."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := peer.recv(4096):
            data += more
    return data


def peak_memory(pid: int) -> int:
    """Bytes of the process's largest resident set so far."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

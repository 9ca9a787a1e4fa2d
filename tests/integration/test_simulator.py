"""The simulator over real sockets, against a small central system made of the `websockets` library."""

import base64
import contextlib
import http
import json
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.threads import deferToThread
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from ocppgw.pki import PkiError, PkiFolder
from ocppgw.simulator import FleetSnapshot, SimulatorOptions, run
from tests.simulator_support import Csms, assert_valid

VERSIONS = ("1.6", "2.0.1", "2.1")
TIME_LIMIT = 40.0


class CentralSystem:
    """Answers every CALL, sends the commands in `script` after the first boot of a station, and keeps all it sees."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.subjects: list[tuple[str, str]] = []  # path, CN of the client's certificate
        self._context = context
        self.script: list[tuple[str, dict[str, Any]]] = []
        self.drop_once: set[str] = set()  # cut the connection, once a station, instead of answering these actions
        self.calls: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self.answers: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self.offers: list[tuple[str, str | None, str]] = []  # path, Authorization, extensions
        self.close_codes: list[int | None] = []
        self.faults: list[str] = []
        self.refuse: http.HTTPStatus | None = None
        self._dropped: set[tuple[str, str]] = set()
        self._scripted: set[str] = set()
        self._server: Server | None = None
        self._closed = threading.Condition()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.socket.getsockname()[1])

    def start(self) -> None:
        names = [f"ocpp{version}" for version in VERSIONS]
        self._server = serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=names,  # type: ignore[arg-type]
            process_request=self._check,
            ssl=self._context,
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.shutdown()

    def all_closed(self, count: int) -> bool:
        """Blocks until so many connections have ended here."""
        with self._closed:
            return self._closed.wait_for(lambda: len(self.close_codes) == count, timeout=TIME_LIMIT)

    def of(self, station_id: str, action: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.calls[station_id] if name == action]

    def _check(self, connection: ServerConnection, request: Any) -> Any:
        headers = request.headers
        offer = (request.path, headers.get("Authorization"), headers.get("Sec-WebSocket-Extensions", ""))
        self.offers.append(offer)
        if isinstance(connection.socket, ssl.SSLSocket):
            certificate: Any = connection.socket.getpeercert() or {}
            subject = dict(attribute for part in certificate.get("subject", ()) for attribute in part)
            self.subjects.append((request.path, subject.get("commonName", "")))
        return None if self.refuse is None else connection.respond(self.refuse, "no\n")

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.subprotocol is not None
        station_id = connection.request.path.rpartition("/")[2]
        csms = Csms(connection.subprotocol.removeprefix("ocpp"))
        waiting: list[tuple[str, dict[str, Any]]] = []
        try:
            for text in connection:
                self._message(connection, csms, station_id, json.loads(text), waiting)
        except ConnectionClosed:
            pass
        except (AssertionError, LookupError, ValueError) as error:
            self.faults.append(repr(error))
        with self._closed:
            self.close_codes.append(connection.protocol.close_code)
            self._closed.notify_all()

    def _message(
        self,
        connection: ServerConnection,
        csms: Csms,
        station_id: str,
        frame: list[Any],
        waiting: list[tuple[str, dict[str, Any]]],
    ) -> None:
        if frame[0] != 2:
            self._answer(csms.version, station_id, frame)
            self._next_command(connection, waiting)
            return
        _, message_id, action, payload = frame
        assert_valid(csms.version, action, payload, response=False)
        self.calls[station_id].append((action, payload))
        if action in self.drop_once and (station_id, action) not in self._dropped:
            self._dropped.add((station_id, action))
            connection.socket.shutdown(socket.SHUT_RDWR)
            return
        connection.send(json.dumps(csms.answer(message_id, action, payload)))
        if action == "StatusNotification" and station_id not in self._scripted:
            self._scripted.add(station_id)
            waiting.extend(self.script)
            self._next_command(connection, waiting)

    def _next_command(self, connection: ServerConnection, waiting: list[tuple[str, dict[str, Any]]]) -> None:
        if waiting:
            action, payload = waiting.pop(0)
            connection.send(json.dumps([2, f"{action}/{len(waiting)}", action, payload]))

    def _answer(self, version: str, station_id: str, frame: list[Any]) -> None:
        kind, message_id, payload = frame
        action = message_id.partition("/")[0]
        assert kind == 3, frame
        assert_valid(version, action, payload, response=True)
        self.answers[station_id].append((action, payload))


@pytest.fixture
def central() -> Iterator[CentralSystem]:
    system = CentralSystem()
    system.start()
    yield system
    system.stop()


def running(central: CentralSystem, **more: Any) -> "tuple[Deferred[FleetSnapshot], list[FleetSnapshot]]":
    snapshots: list[FleetSnapshot] = []
    values: dict[str, Any] = {"url": f"ws://127.0.0.1:{central.port}/ocpp", "ramp_per_second": 100.0} | more
    fleet = ensureDeferred(run(SimulatorOptions(**values), reactor, snapshots.append))
    return fleet, snapshots


def unused_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_station_boots_obeys_reboots_runs_a_session_and_leaves(central: CentralSystem, version: str) -> None:
    if version == "1.6":
        central.script = [("GetConfiguration", {}), ("Reset", {"type": "Soft"})]
    else:
        report = {"requestId": 3, "reportBase": "FullInventory"}
        central.script = [("GetBaseReport", report), ("Reset", {"type": "Immediate"})]
    fleet, _ = running(central, version=version, count=2, speed=1500.0, sessions=1)
    last = await fleet.addTimeout(TIME_LIMIT, reactor)

    assert central.faults == []
    for station_id in ("SIM-00001", "SIM-00002"):
        assert len(central.of(station_id, "BootNotification")) == 2
        assert [action for action, _ in central.answers[station_id]] == [action for action, _ in central.script]
        if version == "1.6":
            assert len(central.answers[station_id][0][1]["configurationKey"]) > 10
            assert central.of(station_id, "MeterValues")
            assert (
                len(central.of(station_id, "StartTransaction")) == len(central.of(station_id, "StopTransaction")) == 1
            )
        else:
            assert [row["tbc"] for row in central.of(station_id, "NotifyReport")] == [True, True, True, False]
            kinds = [event["eventType"] for event in central.of(station_id, "TransactionEvent")]
            assert (kinds[0], kinds[1], kinds[-1]) == ("Started", "Updated", "Ended")
    assert (last.sessions_completed, last.connected, last.call_errors, last.reconnects) == (2, 0, 0, 2)
    assert (last.commands_answered, last.last_errors) == (4, ())


@pytest.mark.parametrize(("version", "action"), [("1.6", "StartTransaction"), ("2.1", "TransactionEvent")])
@pytest_twisted.ensureDeferred
async def test_a_transaction_message_lost_with_its_connection_is_sent_again_unchanged(
    central: CentralSystem, version: str, action: str
) -> None:
    central.drop_once = {action}
    fleet, _ = running(central, version=version, count=1, speed=1500.0, sessions=1)
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    first, second = central.of("SIM-00001", action)[:2]
    assert first == second
    assert len(central.of("SIM-00001", "BootNotification")) == 1
    assert (last.reconnects, last.sessions_completed, central.faults) == (1, 1, [])


@pytest_twisted.ensureDeferred
async def test_cancelling_closes_every_socket_and_gives_the_last_snapshot(central: CentralSystem) -> None:
    snapshots: list[FleetSnapshot] = []

    def report(snapshot: FleetSnapshot) -> None:
        snapshots.append(snapshot)
        if snapshot.booted == 30:
            reactor.callLater(0, fleet.cancel)  # type: ignore[attr-defined]

    options = SimulatorOptions(
        f"ws://127.0.0.1:{central.port}/ocpp/{{version}}", version="mixed", count=30, ramp_per_second=200.0
    )
    fleet = ensureDeferred(run(options, reactor, report))
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    assert (last.stations, last.connected) == (30, 0)
    assert await deferToThread(central.all_closed, 30)
    assert central.close_codes == [1000] * 30
    assert {path.split("/")[2] for path, _, _ in central.offers} == set(VERSIONS)


@pytest_twisted.ensureDeferred
async def test_duration_ends_all_sessions_before_leaving(central: CentralSystem) -> None:
    fleet, snapshots = running(central, version="2.0.1", count=5, speed=200.0, duration=3.0)
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    events = [event for calls in central.calls.values() for action, event in calls if action == "TransactionEvent"]
    started = [event for event in events if event["eventType"] == "Started"]
    ended = [event for event in events if event["eventType"] == "Ended"]
    assert max(snapshot.charging for snapshot in snapshots) > 0
    assert len(started) == len(ended) == last.sessions_completed > 0
    assert (last.connected, last.charging, central.faults) == (0, 0, [])


@pytest_twisted.ensureDeferred
async def test_credentials_and_compression_are_offered(central: CentralSystem) -> None:
    fleet, _ = running(
        central, version="2.1", count=1, speed=1500.0, sessions=1, password="pa:ss", compression=True, prefix="A "
    )
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    path, authorization, extensions = central.offers[0]
    assert path == "/ocpp/A%2000001"
    assert authorization == "Basic " + base64.b64encode(b"A 00001:pa:ss").decode()
    assert "permessage-deflate" in extensions
    assert (last.sessions_completed, central.faults) == (1, [])


@pytest_twisted.ensureDeferred
async def test_refused_stations_keep_trying_and_name_the_reason(central: CentralSystem) -> None:
    central.refuse = http.HTTPStatus.UNAUTHORIZED
    fleet, _ = running(central, version="1.6", count=1, duration=3.5)
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    assert last.connected == 0
    assert len(central.offers) >= 2
    assert "401" in last.last_errors[0]


@pytest_twisted.ensureDeferred
async def test_nobody_listening_is_an_error_not_a_crash() -> None:
    options = SimulatorOptions(f"ws://127.0.0.1:{unused_port()}/ocpp", count=2, duration=0.5)
    last = await ensureDeferred(run(options, reactor, lambda snapshot: None)).addTimeout(TIME_LIMIT, reactor)
    assert last.connected == 0
    assert "can't connect" in last.last_errors[0]


@pytest_twisted.ensureDeferred
async def test_a_server_that_never_answers_the_handshake_does_not_hold_up_the_end() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        options = SimulatorOptions(f"ws://127.0.0.1:{silent.getsockname()[1]}/ocpp", count=3, duration=0.5)
        last = await ensureDeferred(run(options, reactor, lambda snapshot: None)).addTimeout(5.0, reactor)
    assert (last.stations, last.connected) == (3, 0)


@pytest_twisted.ensureDeferred
async def test_a_failing_display_ends_the_run_and_is_told(central: CentralSystem) -> None:
    def report(snapshot: FleetSnapshot) -> None:
        if snapshot.connected:
            raise ValueError("the display broke")

    options = SimulatorOptions(f"ws://127.0.0.1:{central.port}/ocpp", count=3)
    with pytest.raises(ValueError, match="the display broke"):
        await ensureDeferred(run(options, reactor, report)).addTimeout(TIME_LIMIT, reactor)


class SecureCentral:
    """A central system behind TLS, its PKI, and the names (SNI) it was asked for."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ("localhost",)) -> None:
        self.pki = PkiFolder(folder)
        self.pki.create("Operator", names, time.time())
        self.server_names: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pki.servers[1])
        context.load_verify_locations(self.pki.root)
        context.verify_mode = ssl.CERT_REQUIRED
        context.sni_callback = lambda _socket, name, _context: self.server_names.append(name)
        self.system = CentralSystem(context)

    def running(self, **more: Any) -> "tuple[Deferred[FleetSnapshot], list[FleetSnapshot]]":
        url = f"wss://localhost:{self.system.port}/ocpp"
        return running(self.system, **{"url": url, "ca_file": self.pki.root} | more)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Callable[..., SecureCentral]]:
    """Makes a running SecureCentral for the names in its certificate."""
    with contextlib.ExitStack() as stack:

        def start(*names: str) -> SecureCentral:
            central = SecureCentral(tmp_path / "pki", names)
            central.system.start()
            stack.callback(central.system.stop)
            return central

        yield start


@pytest_twisted.ensureDeferred
async def test_every_station_shows_its_own_certificate(secure: Callable[..., SecureCentral]) -> None:
    central = secure("localhost")
    for number in (1, 2, 3):
        central.pki.add_station(f"SIM-{number:05d}", time.time(), is_rsa=number == 2)
    certificate = str(central.pki.path / "stations" / "{id}.pem")
    fleet, _ = central.running(count=3, speed=1500.0, sessions=1, certificate=certificate, password="pass")
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    assert (last.sessions_completed, last.connected, last.last_errors) == (3, 0, ())
    assert central.system.faults == []
    ids = [f"SIM-{number:05d}" for number in (1, 2, 3)]
    assert sorted(central.system.subjects) == [(f"/ocpp/{station_id}", station_id) for station_id in ids]
    assert central.server_names == ["localhost"] * 3
    sent = {authorization for _, authorization, _ in central.system.offers}
    assert sent == {"Basic " + base64.b64encode(f"{station_id}:pass".encode()).decode() for station_id in ids}


@pytest_twisted.ensureDeferred
async def test_a_reconnecting_station_shows_its_certificate_again(secure: Callable[..., SecureCentral]) -> None:
    central = secure("localhost")
    central.system.drop_once = {"StartTransaction"}
    certificate = central.pki.add_station("anything", time.time())
    fleet, _ = central.running(version="1.6", count=1, speed=1500.0, sessions=1, certificate=str(certificate))
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    assert (last.reconnects, last.sessions_completed) == (1, 1)
    assert central.system.subjects == [("/ocpp/SIM-00001", "anything")] * 2


@pytest_twisted.ensureDeferred
async def test_untrusted_servers_learn_nothing_and_the_reason_is_shown(secure: Callable[..., SecureCentral]) -> None:
    central = secure("other.example.com")
    central.pki.add_station("SIM-00001", time.time())
    certificate = str(central.pki.station_file("SIM-00001"))
    sentences = ("for DNS:other.example.com, not for localhost", "which is not among the CAs of the system")
    for ca_file, sentence in zip((central.pki.root, None), sentences, strict=True):
        fleet, _ = central.running(count=1, duration=1.0, certificate=certificate, ca_file=ca_file, password="pass")
        last = await fleet.addTimeout(TIME_LIMIT, reactor)
        assert last.connected == 0
        assert sentence in last.last_errors[0]
    assert central.system.offers == []


@pytest_twisted.ensureDeferred
async def test_a_server_that_wants_a_certificate_says_so(secure: Callable[..., SecureCentral]) -> None:
    central = secure("localhost")
    fleet, _ = central.running(count=1, duration=1.0)
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    assert (last.connected, central.system.offers) == (0, [])
    assert "certificate required" in last.last_errors[0]


@pytest_twisted.ensureDeferred
async def test_a_missing_certificate_ends_the_run_before_anybody_connects(secure: Callable[..., SecureCentral]) -> None:
    central = secure("localhost")
    central.pki.add_station("SIM-00001", time.time())
    folder = central.pki.path / "stations"
    fleet, snapshots = central.running(count=2, certificate=str(folder / "{id}.pem"))
    with pytest.raises(PkiError, match=r"SIM-00002\.pem does not exist"):
        await fleet.addTimeout(TIME_LIMIT, reactor)
    assert (snapshots, central.system.offers, central.server_names) == ([], [], [])


@pytest_twisted.ensureDeferred
async def test_cancelling_while_certificates_are_read_ends_the_run(secure: Callable[..., SecureCentral]) -> None:
    central = secure("localhost")
    fleet, snapshots = central.running(count=5)
    fleet.cancel()
    last = await fleet.addTimeout(TIME_LIMIT, reactor)
    assert (last.stations, snapshots, central.server_names) == (0, [], [])

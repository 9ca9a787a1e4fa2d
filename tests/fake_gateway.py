"""A gateway for the tests of its edges: `FakeGateway` is a GatewayApi in memory, `Browser` talks to a Site without a
socket. What a test wants to happen next, it makes happen by calling a method."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from ocppgw.errors import CommandError
from ocppgw.metrics import Metrics
from ocppgw.net.web import build_site
from ocppgw.ports import AttemptQuery, CommandRecord, StoredEvent
from ocppgw.routing.decisions import DecisionRules, Decisions
from ocppgw.routing.provisioning import Provisioning
from tests.inline_store import build_inline_store


def station(charge_point_id, connected=True, version="1.6J", **more):
    """A row of `GatewayApi.stations`."""
    row = {"chargePointId": charge_point_id, "stationId": charge_point_id, "tenantId": "dev", "connected": connected}
    return {
        **row,
        "ocppVersion": version,
        "bootStatus": "Accepted",
        "vendor": "V",
        "model": "M",
        "transactions": 0,
        **more,
    }


class FakeGateway:
    """`ended` maps a command id to the Deferreds that wait for its end; `hold_reads` keeps journal reads unanswered."""

    def __init__(self):
        self.rows = {row["chargePointId"]: row for row in (station("CP-001"), station("CP-002", False, "2.0.1"))}
        self.commands: dict[str, CommandRecord] = {}
        self.submitted: list[dict[str, Any]] = []
        self.ended: dict[str, list[Deferred]] = {}
        self.journal: list[StoredEvent] = []
        self.subscribers: list = []
        self.reads: list[int] = []
        self.hold_reads = False
        self.held: list = []
        self.is_ready = True
        self.failure: Exception | None = None
        self.queries: list[AttemptQuery] = []
        self.told_attempts: list[dict[str, Any]] = []

    # What tests do to it.

    def publish(self, count=1, topic="ocpp.station.events", charge_point_id="CP-001", size=0):
        """Append events and tell the subscribers."""
        for _ in range(count):
            cursor = len(self.journal) + 1
            value = {
                "eventType": "StationHeartbeat",
                "chargePointId": charge_point_id,
                "occurredAt": "2026-11-23T10:00:00Z",
            }
            value["payload"] = {"action": "Heartbeat", "payload": {}, "filler": "x" * size}
            self.journal.append(StoredEvent(cursor, topic, charge_point_id, msgspec.json.encode(value)))
        for callback in list(self.subscribers):
            callback(len(self.journal))

    def end(self, command_id, status, **more):
        """End a command."""
        record = msgspec.structs.replace(self.commands[command_id], status=status, **more)
        self.commands[command_id] = record
        for waiting in self.ended.pop(command_id, []):
            waiting.callback(record)

    def release_reads(self):
        """Answer the reads that were held."""
        held, self.held = self.held, []
        for since, limit, waiting in held:
            if not waiting.called:
                waiting.callback(self._read(since, limit))

    # GatewayApi.

    def stations(self):
        return maybeDeferred(self._stations)

    def _stations(self):
        if self.failure is not None:
            raise self.failure
        return list(self.rows.values())

    def station(self, charge_point_id):
        return succeed(self.rows.get(charge_point_id))

    def submit(self, request):
        return maybeDeferred(self._submit, request)

    def _submit(self, request):
        if self.failure is not None:
            raise self.failure
        self.submitted.append(dict(request))
        if request.get("commandType") == "Nonsense":
            raise CommandError("Nonsense is no command of 1.6J.", hint="See the README.", code="UnknownCommandType")
        command_id = request.get("commandId", "generated")
        known = self.commands.get(command_id)
        if known is None:
            where = request.get("chargePointId", "")
            known = CommandRecord(command_id, request["commandType"], where, "Queued", "2026-11-23T10:00:00Z")
            self.commands[command_id] = known
        return known

    def command(self, command_id):
        return succeed(self.commands.get(command_id))

    def command_ended(self, command_id):
        waiting = Deferred()
        self.ended.setdefault(command_id, []).append(waiting)
        return waiting

    def events(self, since, limit):
        self.reads.append(since)
        if self.hold_reads:
            self.held.append((since, limit, Deferred()))
            return self.held[-1][2]
        return succeed(self._read(since, limit))

    def _read(self, since, limit):
        return [event for event in self.journal if event.cursor > since][:limit]

    def last_cursor(self):
        return len(self.journal)

    def on_events(self, callback):
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def attempts(self, query):
        self.queries.append(query)
        return succeed(self.told_attempts)

    def ready(self):
        return self.is_ready, {"journal": {"healthy": self.is_ready}, "draining": not self.is_ready, "reason": ""}

    def health(self):
        connections = {"1.6J": 1}
        return {"status": "ok", "nodeId": "n1", "version": "0.1.0", "uptimeSeconds": 12.5, "connections": connections}


class Transport(StringTransport):
    """Tells the protocol when the connection is closed by either side, as a socket does."""

    def __init__(self):
        super().__init__(lenient=True)
        self.closed = False

    def loseConnection(self):  # noqa: N802
        super().loseConnection()
        self.closed = True

    def abortConnection(self):  # noqa: N802
        super().abortConnection()
        self.closed = True

    def setTcpNoDelay(self, _on):  # noqa: N802
        pass


@dataclass
class Answer:
    """One HTTP answer; `body` is unchunked."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return msgspec.json.decode(self.body)


@dataclass
class Connection:
    """One connection to the site."""

    protocol: Any
    transport: Transport = field(default_factory=Transport)

    def __post_init__(self):
        self.protocol.makeConnection(self.transport)

    def send(self, data):
        self.protocol.dataReceived(data)

    def answer(self):
        """What came back so far, as one answer."""
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = _unchunked(rest) if headers.get("transfer-encoding") == "chunked" else rest
        return Answer(int(first.split()[1]), headers, body)

    def lines(self):
        """The NDJSON lines that came back so far, blank ones too."""
        return self.answer().body.splitlines()


def _unchunked(data):
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


@dataclass
class Browser:
    """Sends requests to a site."""

    site: Any

    def connect(self):
        return Connection(self.site.buildProtocol(None))

    def request(self, method, path, body=b"", **headers):
        """Send one request; header names in snake_case, None leaves a default header out. Returns the connection."""
        given = {"host": "127.0.0.1:3001", **({"content_type": "application/json"} if body else {}), **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value is not None]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, *([f"Content-Length: {len(body)}"] if body else [])])
        connection = self.connect()
        connection.send(head.encode() + b"\r\n\r\n" + body)
        return connection

    def get(self, path, **headers):
        return self.request("GET", path, **headers).answer()

    def post(self, path, body, **headers):
        return self.request(
            "POST", path, body if isinstance(body, bytes) else msgspec.json.encode(body), **headers
        ).answer()


def build_web(token=None, hosts=()):
    """(browser, gateway, clock). Provisioning is the real one, over the store in `gateway.store`."""
    gateway, clock = FakeGateway(), Clock()
    clock.advance(1_800_000_000)
    metrics = Metrics({"1.6J": ("Heartbeat",)}, version="0.1.0")
    gateway.store = build_inline_store(clock)
    provisioning = Provisioning(gateway.store, clock, "n1", new_id=lambda: "00000000-0000-4000-8000-000000000000")
    numbers = count(1)
    gateway.calls = Decisions(DecisionRules(), None, "", metrics, clock, lambda: f"q-{next(numbers)}")
    site = build_site(gateway, metrics, token, clock, hosts, provisioning=provisioning, calls=gateway.calls)
    return Browser(site), gateway, clock

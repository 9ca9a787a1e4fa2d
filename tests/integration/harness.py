"""The real daemon in a subprocess, and a station that speaks raw OCPP-J frames to it.

    with Gateway(tmp_path, {"ocpp": {"boot_status": "Pending"}}) as gateway, Station(gateway, "1.6", "CP-1") as station:
        answer = station.call("Heartbeat", {})
        gateway.wait_event(lambda event: event["eventType"] == "StationHeartbeat")

Everything here blocks and is bounded by a deadline; nothing sleeps to synchronise. The one poll (`_until`) is for what
can only be asked of another process.
"""

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tests import record_watch
from tests.integration.daemon import BIN, TIME_LIMIT, Daemon
from tests.integration.station import (
    NOW,
    SUBPROTOCOLS,
    JsonObject,
    Reply,
    Station,
    basic,
    boot_payload,
    refusal,
    status_payload,
    upgrade,
)

__all__ = [
    "NOW",
    "SUBPROTOCOLS",
    "TERMINAL_EVENTS",
    "TIME_LIMIT",
    "Gateway",
    "JsonObject",
    "Reply",
    "Station",
    "basic",
    "boot_payload",
    "refusal",
    "status_payload",
    "upgrade",
]

POLL_SECONDS = 0.02
TERMINAL_EVENTS = ("CommandAccepted", "CommandRejected", "CommandFailed", "CommandTimeout")

Found = TypeVar("Found")


class Gateway(Daemon):
    """The daemon as its operators and stations see it; see `Daemon` for what can be configured."""

    # --- its operations HTTP

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.websocket_port}/ocpp"

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> Reply:
        """One request on its own connection; `body` is sent as JSON. OSError when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=time_limit)
        try:
            sent = None if body is None else json.dumps(body).encode()
            kind = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, sent, {**kind, **(headers or {})})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON of a 200."""
        reply = self.http("GET", path)
        assert reply.status == 200, (path, reply)
        return reply.json

    def station(self, charge_point_id: str) -> JsonObject:
        station: JsonObject = self.get(f"/v1/stations/{charge_point_id}")
        return station

    def wait_station(self, charge_point_id: str, predicate: Callable[[JsonObject], bool]) -> JsonObject:
        """Until `/v1/stations/{id}` satisfies `predicate`."""

        def look() -> JsonObject | None:
            reply = self.http("GET", f"/v1/stations/{charge_point_id}")
            return reply.json if reply.status == 200 and predicate(reply.json) else None

        return _until(look, lambda: f"station {charge_point_id}: {self.http('GET', f'/v1/stations/{charge_point_id}')}")

    def wait_ready(self) -> None:
        """Until `/ready` says so."""

        def look() -> bool | None:
            return self.http("GET", "/ready").status == 200 or None

        _until(look, lambda: str(self.http("GET", "/ready")))

    def metric(self, sample: str) -> float:
        """The value of a sample as `/metrics` writes its name and labels; 0 when there is none."""
        for line in self.http("GET", "/metrics").body.decode().splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def wait_metric(self, sample: str, least: float) -> None:
        """Until that sample is at least so much."""

        def look() -> bool | None:
            return self.metric(sample) >= least or None

        _until(look, lambda: f"{sample} is {self.metric(sample)}, not {least}")

    # --- who may connect

    def provision(self, *identities: JsonObject) -> None:
        """Store identities, or replace them."""
        for start in range(0, len(identities), 200):
            reply = self.http("POST", "/v1/identities", {"identities": identities[start : start + 200]})
            assert reply.status == 200, reply

    def identity(self, charge_point_id: str) -> JsonObject:
        """As stored, hashes included; with `securityProfile` and `connected`."""
        identity: JsonObject = self.get(f"/v1/identities/{charge_point_id}?full=true")
        return identity

    def wait_identity(self, charge_point_id: str, predicate: Callable[[JsonObject], bool]) -> JsonObject:
        """Until the stored identity satisfies `predicate`."""

        def look() -> JsonObject | None:
            identity = self.identity(charge_point_id)
            return identity if predicate(identity) else None

        return _until(look, lambda: f"identity {charge_point_id}: {self.identity(charge_point_id)}")

    def attempts(self, query: str = "limit=200") -> list[JsonObject]:
        """`/v1/attempts`, newest first."""
        attempts: list[JsonObject] = self.get(f"/v1/attempts?{query}")["attempts"]
        return attempts

    def wait_attempt(self, predicate: Callable[[JsonObject], bool], query: str = "limit=200") -> JsonObject:
        """The newest attempt that satisfies `predicate`: they are written a moment after they happen."""

        def look() -> JsonObject | None:
            return next(filter(predicate, self.attempts(query)), None)

        return _until(look, lambda: f"no such attempt; the last ones are {json.dumps(self.attempts(query), indent=1)}")

    def hang_up(self, outcome: str = "swapped") -> None:
        """SIGHUP; returns when the TLS files were read again, with this outcome (swapped, unchanged, kept)."""
        sample = f'ocppgw_tls_reloads_total{{outcome="{outcome}",why="SIGHUP"}}'
        before = self.metric(sample)
        self.signal(signal.SIGHUP)
        self.wait_metric(sample, before + 1)

    # --- its events

    @property
    def cursor(self) -> int:
        """The newest durable event's."""
        last: int = self.get("/v1/events?since=-1&limit=1")["last"]
        return last

    def rows(self, since: int = 0, charge_point_id: str | None = None) -> list[JsonObject]:
        """All events after `since` with their cursor, topic and key: [{cursor, topic, key, event}, …]. Each must be as
        schemas/asyncapi.json describes it."""
        wanted = "" if charge_point_id is None else f"&chargePointId={charge_point_id}"
        rows: list[JsonObject] = []
        while True:
            page = self.get(f"/v1/events?since={since}&limit=1000{wanted}")
            record_watch.seen(page["events"])
            rows += page["events"]
            if page["next"] <= since or page["next"] >= page["last"]:
                return rows
            since = page["next"]

    def events(self, since: int = 0, charge_point_id: str | None = None) -> list[JsonObject]:
        """The DomainEvents of `rows`."""
        return [row["event"] for row in self.rows(since, charge_point_id)]

    def wait_event(
        self,
        predicate: Callable[[JsonObject], bool],
        *,
        since: int = 0,
        charge_point_id: str | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> JsonObject:
        """The first event after `since` that satisfies `predicate`."""

        def look() -> JsonObject | None:
            return next(filter(predicate, self.events(since, charge_point_id)), None)

        def seen() -> str:
            return json.dumps(self.events(since, charge_point_id)[-20:], indent=1)

        return _until(look, lambda: f"no such event; the last ones are {seen()}", time_limit)

    # --- its commands

    def submit(self, charge_point_id: str, command_type: str, payload: Any = None, **members: Any) -> Reply:
        """POST /v1/commands; `members` are further ones of the CommandRequest; `wait` goes into the query."""
        wait = members.pop("wait", None)
        query = "" if wait is None else f"?wait={wait}"
        body = {"chargePointId": charge_point_id, "commandType": command_type, "payload": payload or {}, **members}
        return self.http("POST", f"/v1/commands{query}", body)

    def command(self, charge_point_id: str, command_type: str, payload: Any = None, **members: Any) -> str:
        """Submit a command that must be accepted for sending; its commandId."""
        reply = self.submit(charge_point_id, command_type, payload, **members)
        assert reply.status == 202, reply
        command_id: str = reply.json["commandId"]
        return command_id

    def ended(self, command_id: str, time_limit: float = TIME_LIMIT) -> JsonObject:
        """The command's record once it has ended."""

        def look() -> JsonObject | None:
            reply = self.http("GET", f"/v1/commands/{command_id}")
            if reply.status == 200:
                record_watch.seen_command(reply.json)
            over = reply.status == 200 and f"Command{reply.json['status']}" in TERMINAL_EVENTS
            return reply.json if over else None

        path = f"/v1/commands/{command_id}"
        return _until(look, lambda: f"command {command_id}: {self.http('GET', path)}", time_limit)

    def command_events(self, command_id: str) -> list[JsonObject]:
        """Everything that was published about a command, in order."""
        return [event for event in self.events() if event.get("correlationId") == command_id]

    def terminal_events(self, command_id: str) -> list[JsonObject]:
        """Of which there must never be more than one."""
        return [event for event in self.command_events(command_id) if event["eventType"] in TERMINAL_EVENTS]

    # --- its command line

    def cli(
        self,
        *arguments: str,
        time_limit: float = TIME_LIMIT,
        stdin: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run `ocppgw …` against this gateway; `environ` is added to a bare environment."""
        return subprocess.run(
            [str(BIN / "ocppgw"), *arguments],
            capture_output=True,
            text=True,
            timeout=time_limit,
            env={**self.environ, "OCPPGW_URL": self.http_url, **(environ or {})},
            cwd=self.folder,
            check=False,
            input=stdin,
        )

    def run(self, *arguments: str, **more: Any) -> str:
        """Run `ocppgw …`, which must succeed; what it printed."""
        done = self.cli(*arguments, **more)
        assert done.returncode == 0, done
        return done.stdout


def _until(look: Callable[[], Found | None], seen: Callable[[], str], time_limit: float = TIME_LIMIT) -> Found:
    """Poll another process until `look` finds something; AssertionError with `seen()` when it never does."""
    deadline = time.monotonic() + time_limit
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not within {time_limit} seconds: {seen()}")

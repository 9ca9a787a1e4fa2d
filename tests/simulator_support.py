"""Doubles for the simulator: official schemas, payloads made of them, a station on a Clock with a scripted CSMS."""

import importlib.resources
import json
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import jsonschema_rs
from twisted.internet.task import Clock

from ocppgw.simulator.effects import Disconnect, Effect, Send
from ocppgw.simulator.fleet import DIALECTS
from ocppgw.simulator.options import Plan
from ocppgw.simulator.station import Station
from ocppgw.simulator.statistics import Statistics

FOLDERS = {"1.6": "v16", "2.0.1": "v201", "2.1": "v21"}
NOW = 1_795_476_000.0
TIMESTAMP = "2026-11-23T23:20:00Z"


@cache
def schema(version: str, action: str, response: bool) -> dict[str, Any]:
    request_suffix = "" if version == "1.6" else "Request"
    name = f"{action}{'Response' if response else request_suffix}.json"
    file = importlib.resources.files("ocpp").joinpath(FOLDERS[version], "schemas", name)
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
    return loaded


@cache
def validator(version: str, action: str, response: bool) -> Any:
    return jsonschema_rs.validator_for(_without_float_steps(schema(version, action, response)), validate_formats=True)


def _without_float_steps(node: Any) -> Any:
    """`multipleOf: 0.1` is wrong for binary floats (8.1 would fail): left out here."""
    if isinstance(node, dict):
        return {key: _without_float_steps(value) for key, value in node.items() if key != "multipleOf"}
    return [_without_float_steps(item) for item in node] if isinstance(node, list) else node


def assert_valid(version: str, action: str, payload: Any, *, response: bool) -> None:
    errors = [
        f"{error.instance_path} {error.message}" for error in validator(version, action, response).iter_errors(payload)
    ]
    assert not errors, f"{version} {action} {'response' if response else 'request'} {payload}: {errors}"


class PayloadMaker:
    """Random valid payloads of a schema; optional members come and go with `fullness`."""

    def __init__(self, root: dict[str, Any], rng: random.Random, fullness: float) -> None:
        self._root = root
        self._rng = rng
        self._fullness = fullness

    def make(self, node: dict[str, Any] | None = None) -> Any:
        node = self._root if node is None else node
        if "$ref" in node:
            return self.make(self._root["definitions"][node["$ref"].rpartition("/")[2]])
        if "enum" in node:
            return self._rng.choice(node["enum"])
        return getattr(self, "_" + node.get("type", "any"))(node)

    def _object(self, node: dict[str, Any]) -> dict[str, Any]:
        required = node.get("required", [])
        return {
            name: self.make(child)
            for name, child in node.get("properties", {}).items()
            if name in required or (name != "customData" and self._rng.random() < self._fullness)
        }

    def _array(self, node: dict[str, Any]) -> list[Any]:
        return [self.make(node["items"]) for _ in range(max(1, node.get("minItems", 1)))]

    def _string(self, node: dict[str, Any]) -> str:
        if node.get("format") == "date-time":
            return TIMESTAMP
        return "http://127.0.0.1/x" if node.get("format") == "uri" else "text"[: node.get("maxLength", 4)]

    def _integer(self, node: dict[str, Any]) -> int:
        return int(min(node.get("maximum", 9), max(node.get("minimum", 0), self._rng.choice((0, 1, 2)))))

    def _number(self, node: dict[str, Any]) -> float:
        return float(min(node.get("maximum", 99), max(node.get("minimum", 0), self._rng.choice((0, 1.5, 16)))))

    def _boolean(self, node: dict[str, Any]) -> bool:
        return self._rng.random() < 0.5

    def _any(self, node: dict[str, Any]) -> str:
        return "anything"


Answer = Callable[[str, dict[str, Any]], Any]


class Csms:
    """Answers everything; `override` maps an action to a payload, to (code, text), or to None: silence."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.override: dict[str, Any] = {}
        self.next_transaction = 100

    def answer(self, message_id: str, action: str, payload: dict[str, Any]) -> list[Any] | None:
        reply = self.override.get(action, self._usual(action, payload))
        if reply is None:
            return None
        if isinstance(reply, tuple):
            return [4, message_id, *reply, {}]
        assert_valid(self.version, action, reply, response=True)
        return [3, message_id, reply]

    def _usual(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        token = (
            {"idTagInfo": {"status": "Accepted"}} if self.version == "1.6" else {"idTokenInfo": {"status": "Accepted"}}
        )
        if action == "BootNotification":
            return {"status": "Accepted", "currentTime": TIMESTAMP, "interval": 300}
        if action == "Heartbeat":
            return {"currentTime": TIMESTAMP}
        if action in ("DataTransfer", "SignCertificate"):
            return {"status": "Accepted"}
        if action == "StartTransaction":
            self.next_transaction += 1
            return {**token, "transactionId": self.next_transaction}
        if action == "Authorize" or (action == "TransactionEvent" and "idToken" in payload):
            return token
        return {}


class Driver:
    """A station, a clock and a CSMS. Every frame the station sends is checked against the official schema."""

    def __init__(self, version: str, *, sessions: int | None = None, speed: float = 60.0, connectors: int = 1) -> None:
        self.version = version
        self.clock = Clock()
        self.clock.advance(NOW)
        self.csms = Csms(version)
        self.statistics = Statistics()
        plan = Plan(speed=speed, sessions=sessions, heartbeat=False, connectors=connectors)
        self.station = Station("CP-1", DIALECTS[version], random.Random(7), plan, self.statistics)
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.frames: list[list[Any]] = []
        self.disconnects: list[Disconnect] = []
        self._commands: dict[str, str] = {}

    @property
    def now(self) -> float:
        return self.clock.seconds()

    def actions(self) -> list[str]:
        return [action for action, _ in self.sent]

    def payloads(self, action: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.sent if name == action]

    def connect(self) -> None:
        self.perform(self.station.connected(self.now))

    def disconnect(self) -> None:
        self.perform(self.station.disconnected(self.now))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(text):
                    self._frame(json.loads(text))
                case Disconnect():
                    self.disconnects.append(effect)

    def _frame(self, frame: list[Any]) -> None:
        self.frames.append(frame)
        if frame[0] == 2:
            assert_valid(self.version, frame[2], frame[3], response=False)
            self.sent.append((frame[2], frame[3]))
            reply = self.csms.answer(*frame[1:])
            if reply is not None:
                self.perform(self.station.received(json.dumps(reply).encode(), self.now))
        elif frame[0] == 3:
            assert_valid(self.version, self._commands[frame[1]], frame[2], response=True)

    def command(self, action: str, payload: dict[str, Any]) -> list[Any]:
        """Send a command; returns the frame that answers it."""
        message_id = f"command-{len(self._commands)}"
        self._commands[message_id] = action
        self.perform(self.station.received(json.dumps([2, message_id, action, payload]).encode(), self.now))
        return next(frame for frame in self.frames if frame[1] == message_id)

    def run_for(self, seconds: float) -> None:
        """Tick whenever the station asks for it, as the connection does."""
        end = self.now + seconds
        for _ in range(100_000):
            at = self.station.wake_at
            if at is None or at > end:
                break
            self.clock.advance(max(0.0, at - self.now))
            self.perform(self.station.tick(self.now))
        else:
            raise AssertionError("the station never comes to rest")
        self.clock.advance(max(0.0, end - self.now))

    def run_until(self, condition: Callable[[], bool], limit: float = 4000.0) -> None:
        end = self.now + limit
        while not condition():
            assert self.now < end, f"not in {limit} s; sent: {self.actions()}"
            self.run_for(0.5)


def booted(version: str, **more: Any) -> Driver:
    driver = Driver(version, **more)
    driver.connect()
    return driver

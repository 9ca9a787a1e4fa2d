"""Commands with more items than a station takes in one CALL."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.effects import Dispatched, Finished
from ocppgw.ocpp.memory import LIMITED
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.schemas import load_schema
from ocppgw.ocpp.versions import V21, V201
from tests.build_session import Station, build_session

NOW = "2027-01-15T08:00:00Z"
TOO_MANY = ["OccurrenceConstraintViolation", "at most two", {}]


def variable(number: int) -> dict[str, Any]:
    return {"component": {"name": "C"}, "variable": {"name": f"V{number}"}}


def wanted(items: int) -> dict[str, Any]:
    return {"getVariableData": [variable(number) for number in range(items)]}


def result(item: dict[str, Any], status: str = "Accepted") -> dict[str, Any]:
    return {**item, "attributeStatus": status, "attributeValue": "1"}


def limit_row(value: str, component: str = "DeviceDataCtrlr", instance: str = "GetVariables") -> dict[str, Any]:
    return {"component": {"name": component}, "variable": {"name": "ItemsPerMessage", "instance": instance}, "v": value}


class Splitting(SynchronousTestCase):
    def setUp(self) -> None:
        self.station = build_session(V201)
        self.calls: list[int] = []

    def answers(self, sent: list[Any], most: int, statuses: tuple[str, ...] = ()) -> None:
        """The station answers each GetVariables, or refuses it when it has more than `most` items."""
        left = list(statuses)
        while sent:
            ((kind, message_id, action, payload),) = sent
            self.assertEqual((kind, action), (2, "GetVariables"))
            items = payload["getVariableData"]
            self.calls.append(len(items))
            if len(items) > most:
                sent = self.station.receive([4, message_id, *TOO_MANY])
            else:
                rows = [result(item, left.pop(0) if left else "Accepted") for item in items]
                sent = self.station.receive([3, message_id, {"getVariableResult": rows}])

    def end(self) -> Any:
        (finished,) = self.station.of_type(Finished)
        return finished.result

    def report(self, *rows: dict[str, Any]) -> None:
        data = [
            {"component": row["component"], "variable": row["variable"], "variableAttribute": [{"value": row["v"]}]}
            for row in rows
        ]
        payload = {"requestId": 1, "generatedAt": NOW, "seqNo": 0, "reportData": data}
        self.assertEqual(self.station.call("r", "NotifyReport", payload), [[3, "r", {}]])

    def test_a_command_within_the_limit_is_one_call(self) -> None:
        self.report(limit_row("5"))
        self.answers(self.station.command("GetVariables", wanted(5)), 5)
        self.assertEqual(self.calls, [5])

    def test_a_reported_limit_splits_the_command_and_one_end_has_all_results(self) -> None:
        self.report(limit_row("2"), limit_row("1", instance="SetVariables"))
        self.answers(self.station.command("GetVariables", wanted(5)), 2)
        self.assertEqual(self.calls, [2, 2, 1])
        self.assertEqual(self.end().outcome, Outcome.ACCEPTED)
        names = [row["variable"]["name"] for row in self.end().response["getVariableResult"]]
        self.assertEqual(names, ["V0", "V1", "V2", "V3", "V4"])
        self.assertEqual(len(self.station.of_type(Dispatched)), 1)

    def test_results_that_differ_between_calls_are_partial(self) -> None:
        self.report(limit_row("1"))
        self.answers(self.station.command("GetVariables", wanted(2)), 1, ("Accepted", "UnknownVariable"))
        self.assertEqual((self.end().outcome, self.end().status), (Outcome.PARTIAL, None))

    def test_a_limit_is_learned_from_an_answer(self) -> None:
        row = limit_row("2")
        asked = {"getVariableData": [{"component": row["component"], "variable": row["variable"]}]}
        ((_, message_id, *_),) = self.station.command("GetVariables", asked, "ask")
        told = {**asked["getVariableData"][0], "attributeStatus": "Accepted", "attributeValue": "2"}
        self.station.receive([3, message_id, {"getVariableResult": [told]}])
        self.answers(self.station.command("GetVariables", wanted(3), "then"), 2)
        self.assertEqual(self.calls, [2, 1])

    def test_a_limit_is_found_where_it_is_not_told_and_then_known(self) -> None:
        self.answers(self.station.command("GetVariables", wanted(7)), 2)
        self.assertEqual(self.calls, [7, 3, 1, 1, 1, 1, 1, 1, 1])
        self.assertEqual(len(self.end().response["getVariableResult"]), 7)
        self.calls.clear()
        self.answers(self.station.command("GetVariables", wanted(2), "again"), 2)
        self.assertEqual(self.calls, [1, 1])

    def test_one_item_that_is_too_many_ends_the_command(self) -> None:
        self.answers(self.station.command("GetVariables", wanted(3)), 0)
        self.assertEqual(self.calls, [3, 1])
        self.assertEqual((self.end().outcome, self.end().error_code), (Outcome.FAILED, TOO_MANY[0]))

    def test_another_error_ends_it_with_what_was_answered_before(self) -> None:
        self.report(limit_row("1"))
        ((_, first, *_),) = self.station.command("GetVariables", wanted(3))
        ((_, second, *_),) = self.station.receive([3, first, {"getVariableResult": [result(variable(0))]}])
        self.assertEqual(self.station.receive([4, second, "GenericError", "", {}]), [])
        self.assertEqual((self.end().outcome, self.end().error_code), (Outcome.FAILED, "GenericError"))
        self.assertEqual(len(self.end().response["getVariableResult"]), 1)

    def test_timeout_deadline_and_loss_end_it_once_with_what_was_answered_before(self) -> None:
        for seconds, within in ((31.0, 300.0), (0.0, 300.0), (5.0, 4.0)):
            self.station = build_session(V201)
            self.report(limit_row("1"))
            ((_, first, *_),) = self.station.command("GetVariables", wanted(3), within=within)
            self.station.receive([3, first, {"getVariableResult": [result(variable(0))]}])
            self.station.lose() if not seconds else self.station.wait(seconds)
            self.assertEqual(self.end().outcome, Outcome.UNKNOWN)
            self.assertEqual(len(self.end().response["getVariableResult"]), 1)

    def test_a_deadline_that_passes_between_two_calls(self) -> None:
        self.report(limit_row("1"))
        ((_, first, *_),) = self.station.command("GetVariables", wanted(2), within=4.0)
        self.station.now += 5
        self.assertEqual(self.station.receive([3, first, {"getVariableResult": [result(variable(0))]}]), [])
        self.assertEqual(self.end().error_code, "Timeout")

    def test_a_later_item_that_is_no_json_ends_it(self) -> None:
        self.report(limit_row("1"))
        bad = {"component": {"name": "\ud800"}, "variable": {"name": "V"}}
        ((_, first, *_),) = self.station.command("GetVariables", {"getVariableData": [variable(0), bad]})
        self.station.command("ClearCache", {}, "behind")
        ((_, _, action, _),) = self.station.receive([3, first, {"getVariableResult": [result(variable(0))]}])
        self.assertEqual((action, self.end().error_code), ("ClearCache", "InvalidPayload"))

    def test_commands_behind_it_wait(self) -> None:
        self.report(limit_row("1"))
        ((_, first, *_),) = self.station.command("GetVariables", wanted(2))
        self.assertEqual(self.station.command("ClearCache", {}, "behind"), [])
        ((_, second, action, _),) = self.station.receive([3, first, {"getVariableResult": [result(variable(0))]}])
        self.assertEqual(action, "GetVariables")
        ((_, _, action, _),) = self.station.receive([3, second, {"getVariableResult": [result(variable(1))]}])
        self.assertEqual(action, "ClearCache")

    def test_an_invalid_answer_ends_it(self) -> None:
        station: Station = build_session(V21)
        ((_, first, *_),) = station.command("GetVariables", wanted(2))
        self.assertEqual(station.receive([3, first, {}])[0][0], 5)
        self.assertEqual(station.ends()["command-1"].outcome, Outcome.FAILED)

    def test_nonsense_is_no_limit(self) -> None:
        self.report(
            *(limit_row(value) for value in ("0", "-1", "many", "", "9" * 30, "1.5")),
            limit_row("1", component="OCPPCommCtrlr"),
            limit_row("1", instance="Reset"),
        )
        self.answers(self.station.command("GetVariables", wanted(5)), 5)
        self.assertEqual(self.calls, [5])

    def test_the_members_are_those_of_the_schemas(self) -> None:
        for version in (V201, V21):
            for action, (items, results) in LIMITED.items():
                self.assertEqual(load_schema(version, action, response=False)["properties"][items]["type"], "array")
                self.assertIn(results, load_schema(version, action, response=True)["required"])

    def test_every_limited_action_is_split(self) -> None:
        monitor = {**variable(0), "value": 1.0, "type": "Delta", "severity": 5}
        for action, component, item, row in (
            ("SetVariables", "DeviceDataCtrlr", {**variable(0), "attributeValue": "1"}, result(variable(0))),
            ("SetVariableMonitoring", "MonitoringCtrlr", monitor, {**variable(0), "type": "Delta", "severity": 5}),
            ("ClearVariableMonitoring", "MonitoringCtrlr", 1, {"id": 1}),
        ):
            self.station = build_session(V201)
            self.report(limit_row("1", component, action))
            items, results = LIMITED[action]
            answer = {results: [{"status": "Accepted", **row} if "attributeStatus" not in row else row]}
            answer[results][0].pop("attributeValue", None)
            ((_, first, _, payload),) = self.station.command(action, {items: [item, item]})
            self.assertEqual(payload, {items: [item]})
            ((_, second, *_),) = self.station.receive([3, first, answer])
            self.station.receive([3, second, answer])
            self.assertEqual((self.end().outcome, len(self.end().response[results])), (Outcome.ACCEPTED, 2))

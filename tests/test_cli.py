"""The command line, run against the real Site over a fake gateway, and against servers that misbehave."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest.mock import patch

from click import ClickException
from jsonschema import Draft202012Validator
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.cli import COMMANDS, check_config, events, main, simulate
from ocppgw.config.problems import Problem
from ocppgw.simulator import FleetSnapshot
from tests.cli_support import gateway_serving, run, serving
from tests.fake_gateway import station


class HelpTests(SynchronousTestCase):
    def test_help_lists_every_command(self):
        shown = run("", "--help").stdout
        for name in ("command", "events", "station", "stations"):
            self.assertIn(f"\n  {name} ", shown)
        self.assertEqual(set(COMMANDS), set(main.list_commands(None)))

    def test_command_help_documents_the_exit_codes(self):
        shown = run("", "command", "--help").stdout
        for words in ("3 rejected", "4 failed", "5 no answer in time", "OCPPGW_URL", '--payload \'{"type": "Soft"}\''):
            self.assertIn(words, shown)

    def test_unknown_command_is_a_usage_error(self):
        self.assertEqual(run("", "statoins").exit_code, 2)


class StationTests(SynchronousTestCase):
    def test_table_for_people(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "stations")
        heading, first, second = result.stdout.splitlines()
        self.assertTrue(heading.startswith("STATION"))
        self.assertEqual(first.split()[:4], ["CP-001", "yes", "1.6J", "Accepted"])
        self.assertEqual(second.split()[:3], ["CP-002", "no", "2.0.1"])

    def test_json_for_programs(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "stations", "--connected", "--json")
        self.assertEqual([row["chargePointId"] for row in json.loads(result.stdout)], ["CP-001"])

    def test_more_stations_than_a_page(self):
        def prepare(gateway):
            gateway.rows = {f"CP-{n:05}": station(f"CP-{n:05}") for n in range(1500)}

        with gateway_serving(prepare=prepare) as (url, _, requests):
            result = run(url, "stations", "--json")
        self.assertEqual((len(json.loads(result.stdout)), len(requests)), (1500, 2))

    def test_no_stations_is_said_on_stderr(self):
        with gateway_serving(prepare=lambda gateway: gateway.rows.clear()) as (url, _, _):
            result = run(url, "stations")
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, "", "No stations.\n"))

    def test_what_a_station_says_of_itself_is_shown_harmlessly(self):
        hostile = station("CP-001", vendor="\x1b[2J[red]V[/red]\nforged")

        def prepare(gateway):
            gateway.rows = {"CP-001": hostile}

        with gateway_serving(prepare=prepare) as (url, _, _):
            result = run(url, "stations")
        self.assertIn(r"\x1b[2J[red]V[/red]\nforged", result.stdout)
        self.assertEqual(len(result.stdout.splitlines()), 2)

    def test_one_station(self):
        with gateway_serving() as (url, gateway, _):
            gateway.rows["CP-001"]["connectors"] = {"1": "Available"}
            result = run(url, "station", "CP-001")
            as_json = run(url, "station", "CP-001", "--json")
        self.assertRegex(result.stdout, r"connectors\.1 +Available")
        self.assertEqual(json.loads(as_json.stdout)["connectors"], {"1": "Available"})

    def test_unknown_station_is_an_error(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "station", "CP/9 ü")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertIn("No station 'CP/9 ü' is known.", result.stderr)


class CommandTests(SynchronousTestCase):
    def ending(self, status, **more):
        """A gateway whose commands end so as soon as they are there."""

        def then(gateway, _clock):
            for command_id in list(gateway.ended):
                gateway.end(command_id, status, **more)

        return gateway_serving(then=then)

    def test_accepted_command(self):
        with self.ending("Accepted", response_payload={"status": "Accepted"}) as (url, gateway, _):
            result = run(url, "command", "CP-001", "Reset", "--payload", '{"type": "Soft"}', "--connector", "1")
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(result.stdout, r"(?m)^status +Accepted$")
        sent = gateway.submitted[0]
        self.assertTrue(sent.pop("commandId"))
        expected = {"commandType": "Reset", "chargePointId": "CP-001", "payload": {"type": "Soft"}, "connectorId": 1}
        self.assertEqual(sent, expected)

    def test_outcome_is_the_exit_code(self):
        for status, code in (("Accepted", 0), ("Rejected", 3), ("Failed", 4), ("Timeout", 5)):
            with self.ending(status) as (url, _, _):
                result = run(url, "command", "CP-001", "ClearCache", "--json", "--id", "c1")
            self.assertEqual((result.exit_code, json.loads(result.stdout)["status"]), (code, status))

    def test_time_limit_is_passed_on_and_waited_for(self):
        with gateway_serving(then=lambda _, clock: clock.advance(65)) as (url, gateway, requests):
            result = run(url, "command", "CP-001", "ClearCache", "--timeout", "60", "--id", "c1")
        self.assertEqual(gateway.submitted[0]["timeoutSec"], 60)
        self.assertIn(b"wait=65", requests[0])
        self.assertEqual(result.exit_code, 5)
        self.assertIn("--id c1", result.stderr)

    def test_no_wait_returns_at_once(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "command", "CP-001", "ClearCache", "--no-wait")
        self.assertEqual(result.exit_code, 0)
        self.assertIn("Queued", result.stdout)

    def test_payload_from_file_and_stdin(self):
        with TemporaryDirectory() as folder, self.ending("Accepted") as (url, gateway, _):
            path = os.path.join(folder, "payload.json")
            with open(path, "w") as file:
                file.write('{"from": "file"}')
            run(url, "command", "CP-001", "Reset", "--payload", f"@{path}")
            run(url, "command", "CP-001", "Reset", "--payload", "-", stdin='{"from": "stdin"}')
            self.assertEqual([sent["payload"]["from"] for sent in gateway.submitted], ["file", "stdin"])

    def test_bad_payload_is_a_usage_error(self):
        for payload, words in (
            ("{type: Soft}", "is not JSON"),
            ("[]", "JSON object"),
            ("@/nonexistent", "can't be read"),
        ):
            result = run("http://127.0.0.1:1", "command", "CP-001", "Reset", "--payload", payload)
            self.assertEqual(result.exit_code, 2)
            self.assertIn(words, result.stderr)

    def test_refused_command_shows_the_gateways_hint(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "command", "CP-001", "Nonsense")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("Nonsense is no command of 1.6J.\nSee the README.", result.stderr)


class ConnectionTests(SynchronousTestCase):
    def test_unreachable_gateway_is_explained(self):
        result = run("http://127.0.0.1:1", "stations")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertIn("No gateway answers at http://127.0.0.1:1", result.stderr)
        self.assertIn("make run", result.stderr)

    def test_lost_answer_tells_how_to_look_again(self):
        with serving(lambda _: b"") as url:
            result = run(url, "command", "CP-001", "Reset", "--id", "c1")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("--id c1", result.stderr)

    def test_something_else_on_the_port_is_explained(self):
        for answer in (b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\n<html>", b"HTTP/1.1 502 Bad\r\n\r\n<html>"):
            with serving(lambda _, answer=answer: answer) as url:
                result = run(url, "stations")
            self.assertEqual(result.exit_code, 1)
            self.assertIn(f"No gateway answers at {url}", result.stderr)

    def test_url_that_is_none_is_a_usage_error(self):
        for url in ("gateway:3001", "ws://127.0.0.1:8080", "http://"):
            self.assertEqual(run(url, "stations").exit_code, 2)

    def test_token_from_environment_and_file(self):
        with TemporaryDirectory() as folder, gateway_serving(token="s3cret") as (url, _, _):
            path = os.path.join(folder, "token")
            with open(path, "w") as file:
                file.write("s3cret\n")
            self.assertEqual(run(url, "stations", environment={"OCPPGW_TOKEN": "s3cret"}).exit_code, 0)
            self.assertEqual(run(url, "stations", "--token-file", path).exit_code, 0)
            refused = run(url, "stations", environment={"OCPPGW_TOKEN": "wr0ng"})
        self.assertEqual(refused.exit_code, 1)
        self.assertIn("OCPPGW_TOKEN", refused.stderr)
        self.assertNotIn("wr0ng", refused.stderr)


class EventsTests(SynchronousTestCase):
    def cursors(self, result):
        return [json.loads(line)["cursor"] for line in result.stdout.splitlines()]

    def test_last_events_by_default(self):
        with gateway_serving(prepare=lambda gateway: gateway.publish(30)) as (url, _, _):
            result = run(url, "events", "--json")
        self.assertEqual(self.cursors(result), list(range(11, 31)))

    def test_all_pages_from_the_beginning(self):
        with gateway_serving(prepare=lambda gateway: gateway.publish(2500)) as (url, _, _):
            result = run(url, "events", "--since", "0", "--json")
        self.assertEqual(self.cursors(result), list(range(1, 2501)))

    def test_line_for_people(self):
        with gateway_serving(prepare=lambda gateway: gateway.publish(1)) as (url, _, _):
            result = run(url, "events")
        self.assertTrue(result.stdout.startswith("1 2026-11-23T10:00:00Z CP-001 StationHeartbeat {"))
        self.assertEqual(len(result.stdout.splitlines()), 1)

    def test_filters(self):
        def prepare(gateway):
            gateway.publish(2)
            gateway.publish(1, charge_point_id="CP-002")
            gateway.publish(1, charge_point_id="CP-002", topic="ocpp.session.events")

        with gateway_serving(prepare=prepare) as (url, _, _):
            self.assertEqual(self.cursors(run(url, "events", "--station", "CP-002", "--json")), [3, 4])
            self.assertEqual(self.cursors(run(url, "events", "--topic", "ocpp.session.events", "--json")), [4])

    def follow(self, url, stop_after, *arguments):
        """Follow until `stop_after` sleeps between attempts, then Ctrl-C."""
        sleeps = []

        def sleep(seconds):
            sleeps.append(seconds)
            if len(sleeps) >= stop_after:
                raise KeyboardInterrupt

        with patch.object(events.time, "sleep", sleep):
            return run(url, "events", "--follow", "--json", *arguments), sleeps

    def test_follow_goes_on_at_its_cursor_when_the_stream_breaks(self):
        with gateway_serving(then=lambda gateway, _: gateway.publish(2)) as (url, _, requests):
            result, _ = self.follow(url, 3)
        self.assertEqual(self.cursors(result), [1, 2, 3, 4, 5, 6])
        self.assertEqual(result.exit_code, 130)
        self.assertIn(b"since=4", requests[2])
        self.assertIn("going on after cursor 2", result.stderr)

    def test_follow_that_has_seen_nothing_misses_nothing(self):
        with gateway_serving(prepare=lambda gateway: gateway.publish(5)) as (url, _, requests):
            result, _ = self.follow(url, 2)
        self.assertEqual(self.cursors(result), [])
        self.assertIn(b"since=5", requests[1])

    def test_follow_starts_over_on_a_new_journal(self):
        def then(gateway, _clock):
            if len(gateway.journal) == 3:
                gateway.journal.clear()
                gateway.publish(1)

        with gateway_serving(prepare=lambda gateway: gateway.publish(3), then=then) as (url, _, _):
            result, _ = self.follow(url, 3, "--since", "0")
        self.assertEqual(self.cursors(result), [1, 2, 3, 1])
        self.assertIn("new journal", result.stderr)

    def test_follow_of_a_gateway_that_was_never_there_fails(self):
        result, sleeps = self.follow("http://127.0.0.1:1", 1)
        self.assertEqual((result.exit_code, sleeps), (1, []))


class CheckConfigTests(SynchronousTestCase):
    def check(self, report, *arguments):
        """(result, what `config.check` was called with)."""
        with (
            patch.object(check_config.config, "check", return_value=report) as check,
            patch.object(check_config, "look_at_files", return_value=([], [])),
        ):
            return run("", "check-config", *arguments), check.call_args.args

    def problem(self, message):
        return Problem(file="etc/x.toml", line=7, key="listen.port", message=message, hint="use 8080")

    def test_usable_configuration(self):
        result, called = self.check(
            SimpleNamespace(ok=True, errors=[], warnings=[]), "-c", "etc/x.toml", "--env-file", ".env"
        )
        self.assertEqual((result.exit_code, result.stdout), (0, "The configuration is usable.\n"))
        self.assertEqual((str(called[0]), str(called[2])), ("etc/x.toml", ".env"))

    def test_all_problems_are_listed_with_place_and_hint(self):
        report = SimpleNamespace(
            ok=False, errors=[self.problem("is 0"), self.problem("is\x1b odd")], warnings=[self.problem("w")]
        )
        result, _ = self.check(report)
        self.assertEqual(result.exit_code, 1)
        expected = [
            "error: etc/x.toml:7: listen.port: is 0 (use 8080)",
            r"error: etc/x.toml:7: listen.port: is\x1b odd (use 8080)",
            "warning: etc/x.toml:7: listen.port: w (use 8080)",
        ]
        self.assertEqual(result.stdout.splitlines(), expected)

    def test_certificates_of_redis_are_looked_at(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        tables = '[node]\nid = "n"\n[kafka]\nenabled = true\n[redis]\nenabled = {}\nurl = "rediss://redis.example"\n'
        for is_on, code in (("true", 1), ("false", 0)):
            (folder / "x.toml").write_text(tables.format(is_on) + 'tls_ca_path = "nowhere.pem"\n')
            result = run("", "check-config", "-c", str(folder / "x.toml"))
            self.assertEqual((result.exit_code, "nowhere.pem" in result.output), (code, bool(code)), result.output)

    def test_the_files_that_are_named_are_looked_at_too(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "cert.pem").write_text("no PEM")
        (folder / "x.toml").write_text(
            '[tls]\nenabled = true\ncert_path = ["cert.pem", "missing.pem"]\n'
            '[signing]\nmode = "local"\nca_cert_path = "ca.pem"\nca_key_path = "ca.key"\n'
        )
        result = run("", "check-config", "-c", str(folder / "x.toml"))
        self.assertEqual(result.exit_code, 1)
        for named in ("cert.pem", "missing.pem", "ca.pem"):
            self.assertIn(named, result.stdout)

    def test_warnings_alone_are_no_failure(self):
        result, _ = self.check(SimpleNamespace(ok=True, errors=[], warnings=[self.problem("w")]))
        self.assertEqual(result.exit_code, 0)
        self.assertIn("warning: ", result.stdout)

    def test_json(self):
        result, _ = self.check(SimpleNamespace(ok=False, errors=[self.problem("is 0")], warnings=[]), "--json")
        problem = {"file": "etc/x.toml", "line": 7, "key": "listen.port", "message": "is 0", "hint": "use 8080"}
        self.assertEqual(json.loads(result.stdout), {"ok": False, "errors": [problem], "warnings": []})
        self.assertEqual(result.exit_code, 1)


class StubReactor:
    """Runs what it was told to run, then `during`, then what is to be done before shutdown."""

    def __init__(self, during=lambda: None):
        self.during = during
        self.start = None
        self.before_shutdown = []
        self.stops = 0

    def callWhenRunning(self, function):  # noqa: N802
        self.start = function

    def addSystemEventTrigger(self, _phase, _event, function):  # noqa: N802
        self.before_shutdown.append(function)

    def stop(self):
        self.stops += 1

    def run(self):
        self.start()
        self.during()
        for function in self.before_shutdown:
            function()


class SimulateTests(SynchronousTestCase):
    def options(self, *arguments, environment=None):
        """The SimulatorOptions that the command makes of its arguments."""
        with patch.object(simulate, "run_fleet", return_value=0) as run_fleet:
            result = run("", "simulate", *arguments, environment=environment)
        self.assertEqual(result.exit_code, 0, result.output)
        return run_fleet.call_args.args[0]

    def fleet(self, coroutine, during=lambda: None):
        """(exit code, reactor) of a run with `coroutine` as the fleet."""
        reactor = StubReactor(during)
        with patch.object(simulate, "run", coroutine):
            code = simulate.run_fleet(simulate.SimulatorOptions(url="ws://127.0.0.1:1/ocpp"), reactor)
        return code, reactor

    def test_options_reach_the_simulator(self):
        options = self.options("--count", "3", "--version", "2.1", "--ramp", "5", "--sessions", "2", "--no-heartbeat")
        self.assertEqual((options.count, options.version, options.ramp_per_second), (3, "2.1", 5.0))
        self.assertEqual((options.sessions, options.heartbeat, options.url), (2, False, "ws://127.0.0.1:8080/ocpp"))

    def test_password_comes_from_environment_or_file_only(self):
        with TemporaryDirectory() as folder:
            path = os.path.join(folder, "password")
            with open(path, "w") as file:
                file.write("from-file\n")
            self.assertEqual(self.options("--password-file", path).password, "from-file")
        environment = {"OCPPGW_SIMULATOR_PASSWORD": "from-environment"}
        self.assertEqual(self.options(environment=environment).password, "from-environment")
        self.assertEqual(run("", "simulate", "--password", "x").exit_code, 2)

    def test_unusable_options_are_a_usage_error(self):
        result = run("", "simulate", "--count", "0", "--speed", "-1")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("count is 0", result.stderr)
        self.assertIn("speed is -1", result.stderr)

    def test_fleet_that_is_done_ends_the_reactor(self):
        async def done(_options, _reactor, report):
            report(FleetSnapshot(stations=1))
            return FleetSnapshot(stations=1, calls_answered=5)

        code, reactor = self.fleet(done)
        self.assertEqual((code, reactor.stops), (0, 1))

    def test_fleet_that_nobody_answered_is_a_failure(self):
        async def unanswered(_options, _reactor, _report):
            return FleetSnapshot(stations=1, last_errors=("SIM-00001: refused",))

        self.assertEqual(self.fleet(unanswered)[0], 1)

    def test_ctrl_c_closes_the_fleet(self):
        events_seen = []

        async def endless(_options, _reactor, _report):
            try:
                await Deferred()
            except CancelledError:
                events_seen.append("closed")
            return FleetSnapshot()

        code, reactor = self.fleet(endless)
        self.assertEqual((code, events_seen, reactor.stops), (130, ["closed"], 0))

    def test_broken_fleet_is_an_error(self):
        async def broken(_options, _reactor, _report):
            raise OSError("no sockets left")

        with self.assertRaisesRegex(ClickException, "no sockets left"):
            self.fleet(broken)


class CommandRequestSchemaTests(SynchronousTestCase):
    """schemas/command-request.schema.json documents what POST /v1/commands takes."""

    def setUp(self):
        path = Path(__file__).parent.parent / "schemas" / "command-request.schema.json"
        self.schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(self.schema)
        self.validator = Draft202012Validator(self.schema)

    def test_its_examples_and_what_the_cli_sends_are_valid(self):
        with gateway_serving() as (url, gateway, _):
            arguments = ("--payload", '{"type": "Soft"}', "--connector", "1", "--timeout", "3", "--no-wait")
            run(url, "command", "CP-001", "Reset", *arguments)
            run(url, "command", "CP-001", "ClearCache", "--no-wait")
        for request in (*self.schema["examples"], *gateway.submitted):
            self.validator.validate(request)

    def test_incomplete_and_wrong_requests_are_not(self):
        good = self.schema["examples"][0]
        wrong = (
            {"timeoutSec": 0},
            {"payload": []},
            {"connectorId": "1"},
            {"commandId": "x" * 129},
            {"commandType": ""},
        )
        for change in (*wrong, {"timeoutSec": 86401}, {"requestedBy": "me"}):
            self.assertFalse(self.validator.is_valid({**good, **change}), change)
        self.assertFalse(self.validator.is_valid({"commandType": "Reset"}))
        self.assertFalse(self.validator.is_valid({"chargePointId": "CP-001"}))

import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.config import InvalidConfigurationError, Loaded, Problem, check, load, render_report
from ocppgw.config.envfile import parse_env
from ocppgw.config.keylines import key_lines
from ocppgw.config.settings import OperationsSettings, Settings, WebSocketSettings
from ocppgw.errors import ConfigError

SECRET = "s3cr3t-operations-token"


class ConfigTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        # Not mktemp(): under pytest that is the current directory, and nobody clears it.
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "ocppgw.toml"

    def write(self, text: str, name: str = "ocppgw.toml") -> Path:
        path = self.folder / name
        path.write_text(text, newline="")
        return path

    def load(self, text: str = "", environ: Mapping[str, str] | None = None, env_file: str | None = None) -> Loaded:
        return load(self.write(text), environ or {}, None if env_file is None else self.write(env_file, ".env"))

    def problems(
        self, text: str = "", environ: Mapping[str, str] | None = None, env_file: str | None = None
    ) -> list[Problem]:
        try:
            self.load(text, environ, env_file)
        except InvalidConfigurationError as error:
            return error.problems
        return self.fail("the configuration was accepted")

    def places(self, problems: list[Problem]) -> list[tuple[int | None, str]]:
        return [(problem.line, problem.key) for problem in problems]


class Tree(SynchronousTestCase):
    def test_is_frozen(self) -> None:
        with self.assertRaises(ValidationError):
            Settings().websocket.port = 1  # type: ignore[misc]

    def test_misspelt_name_in_code_is_an_error(self) -> None:
        with self.assertRaises(ValidationError):
            WebSocketSettings(prot=1)  # type: ignore[call-arg]

    def test_secret_does_not_show(self) -> None:
        settings = Settings(operations=OperationsSettings.model_validate({"token": SECRET}))
        for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
            self.assertNotIn(SECRET, shown)
        self.assertEqual(settings.operations.token.get_secret_value(), SECRET)


class Precedence(ConfigTestCase):
    FILE = "[websocket]\nport = 1001\nmax_message_bytes = 2001\n[operations]\nport = 3003\n"
    ENV_FILE = "WEBSOCKET_OCPP_PORT=1002\nOCPP_MAX_PAYLOAD_BYTES=2002\n"

    def test_file_below_env_file_below_environment(self) -> None:
        settings = self.load(self.FILE, {"WEBSOCKET_OCPP_PORT": "1003"}, self.ENV_FILE).settings
        found = (settings.websocket.port, settings.websocket.max_message_bytes, settings.operations.port)
        self.assertEqual(found, (1003, 2002, 3003))

    def test_sources_tell_where_each_setting_comes_from(self) -> None:
        sources = self.load(self.FILE, {"WEBSOCKET_OCPP_PORT": "1003"}, self.ENV_FILE).sources
        self.assertEqual(sources["websocket.port"], "environment WEBSOCKET_OCPP_PORT")
        self.assertEqual(sources["websocket.max_message_bytes"], f"{self.folder / '.env'}:2 OCPP_MAX_PAYLOAD_BYTES")
        self.assertEqual(sources["operations.port"], f"{self.path}:5")
        self.assertEqual(sources["logs.level"], "default")

    def test_empty_variable_does_not_widen_what_the_file_narrows(self) -> None:
        text = '[admission]\nallowed_cidrs = ["10.0.0.0/8"]\n'
        settings = self.load(text, {"OCPP_ALLOWED_CIDRS": ""}, "OCPP_ALLOWED_CIDRS=\n").settings
        self.assertEqual(settings.admission.allowed_cidrs, ("10.0.0.0/8",))

    def test_empty_variable_of_the_process_leaves_the_env_file_standing(self) -> None:
        self.assertEqual(self.load("", {"PORT": ""}, "PORT=3002\n").settings.operations.port, 3002)

    def test_environment_alone_is_enough(self) -> None:
        self.assertEqual(load(None, {"PORT": "3002"}).settings.operations.port, 3002)

    def test_every_contract_name_with_a_setting_sets_it(self) -> None:
        settings = self.load(
            "",
            {
                "NODE_ID": "node-7",
                "SERVICE_NAME": "edge",
                "OCPPGW_STATE_DIR": "/srv/state",
                "HEALTH_METRICS_AUTH_TOKEN": SECRET,
                "OCPP_AUTH_MODE": "token",
                "OCPP_PENDING_MESSAGE_LIMIT": "7",
                "OCPP_RESPONSE_CACHE_TTL_SECONDS": "8",
                "COMMAND_AUDIT_TTL_SECONDS": "9",
                "OCPP_ALLOWED_IPS": "192.0.2.1, 2001:db8::1",
                "OCPP_ALLOWED_CIDRS": "10.1.2.3/8",
                "FLOOD_LOG_COOLDOWN": "2.5",
            },
        ).settings
        self.assertEqual((settings.node.id, settings.node.service_name), ("node-7", "edge"))
        self.assertEqual(settings.state_dir, Path("/srv/state"))
        self.assertEqual(settings.operations.token.get_secret_value(), SECRET)
        self.assertEqual(settings.stations.auth_mode, "token")
        self.assertEqual((settings.ocpp.pending_message_limit, settings.ocpp.response_cache_ttl_seconds), (7, 8))
        self.assertEqual(settings.commands.audit_ttl_seconds, 9)
        self.assertEqual(settings.admission.allowed_ips, ("192.0.2.1", "2001:db8::1"))
        self.assertEqual(settings.admission.allowed_cidrs, ("10.0.0.0/8",))
        self.assertEqual(settings.admission.flood_log_cooldown_seconds, 2.5)

    def test_node_id_is_never_empty(self) -> None:
        for text in ("", '[node]\nid = ""\n'):
            self.assertRegex(self.load(text).settings.node.id, r"^[A-Za-z0-9._-]+-\d+$")


class Errors(ConfigTestCase):
    def test_all_are_reported_at_once_with_their_lines(self) -> None:
        text = (
            'state_dir = 3\n[websocket]\nport = "8080"\n\nbacklog = 0\n[logs]\nlevel = "INFO"\n'
            '[admission]\nallowed_cidrs = [\n  "10.0.0.0/8",\n  "nowhere",\n]\n[operations]\nhost = "0.0.0.0"\n'
        )
        problems = self.problems(text, {"FLOOD_LOG_COOLDOWN": "soon"}, "\nfoo bar\n")
        self.assertEqual(
            sorted(self.places(problems), key=str),
            sorted(
                [
                    (1, "state_dir"),
                    (3, "websocket.port"),
                    (5, "websocket.backlog"),
                    (7, "logs.level"),
                    (11, "admission.allowed_cidrs.1"),
                    (13, "operations.token"),
                    (None, "admission.flood_log_cooldown_seconds"),
                    (2, ""),
                ],
                key=str,
            ),
        )

    def test_sentence_names_place_key_fault_and_mend(self) -> None:
        (problem,) = self.problems("[websocket]\nport = 70000\n")
        self.assertEqual(
            render_report([problem]),
            [f"{self.path}:2: websocket.port: must be at most 65535, but is 70000 (set it to 65535 or less)"],
        )

    def test_error_is_a_config_error_that_lists_every_problem(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            self.load("[websocket]\nport = -1\nbacklog = -1\n")
        self.assertIn("2 errors", str(caught.exception))
        self.assertIn("websocket.port", str(caught.exception))
        self.assertIn("websocket.backlog", str(caught.exception))

    def test_variable_at_fault_is_named(self) -> None:
        (problem,) = self.problems("", {"PORT": "99999"})
        self.assertEqual((problem.file, problem.key), ("environment", "operations.port"))
        self.assertIn("PORT must be at most 65535", problem.message)

    def test_variable_of_the_env_file_at_fault_has_its_line(self) -> None:
        (problem,) = self.problems("", {}, "# comment\nPORT=many\n")
        self.assertEqual((problem.file, problem.line), (str(self.folder / ".env"), 2))

    def test_valid_variable_mends_the_file(self) -> None:
        self.assertEqual(self.load("[operations]\nport = 99999\n", {"PORT": "3001"}).settings.operations.port, 3001)

    def test_setting_where_a_table_belongs(self) -> None:
        problems = self.problems("websocket = 5\nlogs = []\n", {"WEBSOCKET_OCPP_PORT": "8081"})
        self.assertEqual(self.places(problems), [(1, "websocket"), (2, "logs")])

    def test_secret_never_appears(self) -> None:
        for text, environ, env_file in (
            (f"[operations]\ntoken = ['{SECRET}']\n", {}, None),
            (f"[operations]\ntoken = '{SECRET}'\nport = -1\n", {}, None),
            ("", {"HEALTH_METRICS_AUTH_TOKEN": SECRET, "PORT": "x"}, None),
            ("", {"KAFKA_ENABLED": SECRET, "REDIS_URL": f"redis://:{SECRET}@host"}, None),
            ("", {}, f"HEALTH_METRICS_AUTH_TOKEN='{SECRET}\n"),
            ("", {}, f"HEALTH_METRICS_AUTH_TOKEN {SECRET}\n"),
            (f"[operations]\ntoken = {SECRET}\n", {}, None),
            (f'[operations]\ntoken = "{SECRET}\n', {}, None),
        ):
            with self.assertRaises(InvalidConfigurationError) as caught:
                self.load(text, environ, env_file)
            error = caught.exception
            self.assertNotIn(SECRET, repr(error) + str(error) + repr(error.problems) + repr(error.warnings))

    def test_missing_file(self) -> None:
        with self.assertRaises(InvalidConfigurationError) as caught:
            load(self.folder / "none.toml", {}, self.folder / "none.env")
        self.assertEqual(
            [(problem.file, problem.message) for problem in caught.exception.problems],
            [
                (str(self.folder / name), "can't be read: no such file or directory")
                for name in ("none.toml", "none.env")
            ],
        )

    def test_file_that_is_not_utf_8(self) -> None:
        self.path.write_bytes(b"# fine\n# \xff\n")
        report = check(self.path, {})
        self.assertEqual(self.places(report.errors), [(2, "")])

    def test_syntax_error_has_its_line_and_the_environment_is_still_checked(self) -> None:
        problems = self.problems("[websocket]\nport = 1\nhost = nowhere\n", {"PORT": "x"})
        self.assertEqual(self.places(problems), [(3, ""), (None, "operations.port")])
        self.assertIn("quotes", problems[0].hint)

    def test_syntax_error_at_the_end_has_the_last_line(self) -> None:
        (problem,) = self.problems("[logs]\nlevel = [\n\n")
        self.assertEqual(problem.line, 2)

    def test_key_given_twice(self) -> None:
        (problem,) = self.problems("[logs]\nlevel = 'info'\nlevel = 'debug'\n")
        self.assertEqual(problem.line, 3)
        self.assertIn("twice", problem.hint)

    def test_depth_does_not_end_in_a_traceback(self) -> None:
        (problem,) = self.problems("a = " + "[" * 100_000)
        self.assertEqual(problem.file, str(self.path))

    def test_numbers_that_are_none(self) -> None:
        text = "[websocket]\nping_interval_seconds = nan\nhandshake_timeout_seconds = inf\nbacklog = true\n"
        self.assertEqual(sorted(problem.line or 0 for problem in self.problems(text)), [2, 3, 4])

    def test_values_that_make_no_sense(self) -> None:
        for text in (
            '[websocket]\nhost = ""',
            '[websocket]\nhost = "gateway.example"',
            '[stations]\nid_pattern = "("',
            '[ocpp]\nversions = ["1.5"]',
            "[ocpp]\nversions = []",
            '[ocpp]\nversions = ["2.1", "2.1"]',
            '[answers]\nid_tokens = {A = "Stolen"}',
            '[node]\nid = "a/b"',
            '[admission]\nallowed_ips = ["10.0.0.0/8"]',
        ):
            self.assertEqual([problem.line for problem in self.problems(text)], [2], text)

    def test_identities_folder_must_be_there(self) -> None:
        (problem,) = self.problems('[stations]\nidentities_dir = "gone"\n')
        self.assertEqual((problem.line, problem.key), (2, "stations.identities_dir"))

    def test_identities_folder_is_relative_to_the_file(self) -> None:
        (self.folder / "identities").mkdir()
        found = self.load('[stations]\nidentities_dir = "identities"\n').settings.stations.identities_dir
        self.assertEqual(found, str((self.folder / "identities").absolute()))


class Rules(ConfigTestCase):
    def test_operations_beyond_loopback_need_a_token(self) -> None:
        text = '[operations]\nhost = "0.0.0.0"\n'
        (problem,) = self.problems(text)
        self.assertEqual(problem.key, "operations.token")
        self.assertIn("HEALTH_METRICS_AUTH_TOKEN", problem.hint)
        self.assertEqual(self.load(text, {"HEALTH_METRICS_AUTH_TOKEN": SECRET}).settings.operations.host, "0.0.0.0")

    def test_operations_on_loopback_need_none(self) -> None:
        for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
            self.assertEqual(self.load(f'[operations]\nhost = "{host}"\n').settings.operations.host, host)

    def test_unknown_stations_are_admitted_beyond_loopback_only_by_the_explicit_word(self) -> None:
        text = '[stations]\nunknown = "admit"\n'
        (problem,) = self.problems(text)
        self.assertEqual((problem.line, problem.key), (2, "stations.unknown"))
        self.assertEqual(self.load(text + "admit_unknown_anywhere = true\n").settings.stations.unknown, "admit")
        self.assertEqual(self.load(text + '[websocket]\nhost = "::1"\n').settings.stations.unknown, "admit")

    def test_one_port_for_two_listeners(self) -> None:
        (problem,) = self.problems("[websocket]\nport = 3001\n")
        self.assertEqual(problem.key, "operations.port")
        self.assertEqual(self.load("[websocket]\nport = 0\n[operations]\nport = 0\n").settings.operations.port, 0)

    def test_rule_is_silent_about_a_setting_that_is_wrong_anyway(self) -> None:
        problems = self.problems('[websocket]\nhost = "nowhere"\n[stations]\nunknown = "admit"\n')
        self.assertEqual(self.places(problems), [(2, "websocket.host")])

    def test_certificates_without_tls_are_warned_about(self) -> None:
        (warning,) = self.load('[stations]\nauth_mode = "mtls"\n').warnings
        self.assertEqual((warning.line, warning.key), (2, "stations.auth_mode"))

    def test_a_tls_port_needs_its_files(self) -> None:
        (problem,) = self.problems("[tls]\nenabled = true\n")
        self.assertEqual((problem.key, "OCPP_TLS_CERT_PATH" in problem.hint), ("tls.cert_path", True))
        (problem,) = self.problems('[websocket]\nmore_ports = { 8444 = "tls" }\n')
        self.assertEqual(problem.key, "tls.cert_path")
        (problem,) = self.problems('[tls]\ncert_path = ["a.pem", "b.pem"]\nkey_path = ["a.key"]\n')
        self.assertEqual(problem.key, "tls.key_path")

    def test_demanding_client_certificates_needs_the_cas_that_sign_them(self) -> None:
        files = 'cert_path = ["a.pem"]\n'
        (problem,) = self.problems(f'[tls]\nenabled = true\nclient_auth = "require"\n{files}')
        self.assertEqual(problem.key, "tls.ca_path")
        (problem,) = self.problems(f'[websocket]\nmore_ports = {{ 8444 = "mtls" }}\n[tls]\n{files}')
        self.assertEqual(problem.key, "tls.ca_path")
        self.assertEqual(self.problems(f'[tls]\ncrl_path = ["crl.pem"]\n{files}')[0].key, "tls.crl_path")

    def test_every_listener_has_a_port_of_its_own(self) -> None:
        (problem,) = self.problems('[websocket]\nmore_ports = { 8080 = "plain" }\n')
        self.assertEqual(problem.key, "websocket.more_ports")
        for ports in ('{ http = "plain" }', '{ 0 = "plain" }', '{ 70000 = "plain" }', '{ 8444 = "wss" }'):
            (problem,) = self.problems(f"[websocket]\nmore_ports = {ports}\n")
            self.assertTrue(problem.key.startswith("websocket.more_ports"), ports)

    def test_the_existing_gateways_tls_variables_are_understood(self) -> None:
        environ = {
            "OCPP_TLS_ENABLED": "true",
            "OCPP_TLS_CLIENT_AUTH": "true",
            "OCPP_TLS_CERT_PATH": "rsa.pem, ecdsa.pem",
            "OCPP_TLS_KEY_PATH": "rsa.key,ecdsa.key",
            "OCPP_TLS_CA_PATH": "ca.pem",
        }
        tls = self.load("", environ).settings.tls
        self.assertEqual((tls.enabled, tls.client_auth), (True, "require"))
        self.assertEqual((tls.cert_path, tls.key_path), (("rsa.pem", "ecdsa.pem"), ("rsa.key", "ecdsa.key")))
        self.assertEqual(self.load("", environ | {"OCPP_TLS_CLIENT_AUTH": "false"}).settings.tls.client_auth, "none")

    def test_trusting_a_proxy_names_the_header_and_nobody_without_a_list(self) -> None:
        loaded = self.load("", {"OCPP_TRUST_PROXY": "true"})
        self.assertEqual(loaded.settings.admission.proxy_header, "x-forwarded-for")
        self.assertEqual([warning.key for warning in loaded.warnings], ["admission.proxy_header"])
        listed = self.load('[admission]\ntrusted_proxies = ["10.0.0.1"]\n', {"OCPP_TRUST_PROXY": "true"})
        self.assertEqual(listed.warnings, [])
        self.assertEqual(self.load("", {"OCPP_TRUST_PROXY": "false"}).settings, Settings())
        (problem,) = self.problems("", {"OCPP_TRUST_PROXY": "maybe"})
        self.assertEqual(problem.key, "OCPP_TRUST_PROXY")

    def test_a_local_ca_needs_its_files(self) -> None:
        problems = self.problems('[signing]\nmode = "local"\n')
        self.assertEqual([problem.key for problem in problems], ["signing.ca_cert_path", "signing.ca_key_path"])

    def test_the_existing_gateways_kafka_variables_are_understood(self) -> None:
        environ = {"KAFKA_ENABLED": "true", "REQUIRE_KAFKA": "true", "KAFKA_BROKERS": "a:9092, b:9093"}
        kafka = self.load("", environ).settings.kafka
        self.assertEqual((kafka.enabled, kafka.required, kafka.brokers), (True, True, ("a:9092", "b:9093")))
        self.assertEqual(self.problems("", {"KAFKA_BROKERS": "a"})[0].key, "kafka.brokers.0")
        self.assertEqual(self.problems("", {"REQUIRE_KAFKA": "true"})[0].key, "kafka.required")
        self.assertEqual(self.problems('[kafka]\nsasl_mechanism = "PLAIN"\n')[0].key, "kafka.sasl_mechanism")

    def test_scrypts_cost_is_a_power_of_two(self) -> None:
        (problem,) = self.problems("", {"OCPP_AUTH_SCRYPT_N": "10000"})
        self.assertEqual(problem.key, "stations.scrypt_n")

    def test_inflated_limit_below_the_wire_limit_is_warned_about(self) -> None:
        (warning,) = self.load("", {"OCPP_MAX_PAYLOAD_BYTES": "2000000"}).warnings
        self.assertEqual(warning.key, "websocket.max_inflated_bytes")


class Unknown(ConfigTestCase):
    def test_key_is_ignored_with_a_warning_and_a_guess(self) -> None:
        loaded = self.load("[websocket]\nprot = 1\n[webs]\nx = 1\n[logs]\nbacklog = 3\n")
        self.assertEqual(self.places(loaded.warnings), [(2, "websocket.prot"), (3, "webs"), (6, "logs.backlog")])
        self.assertIn("port", loaded.warnings[0].hint)
        self.assertIn("websocket.backlog", loaded.warnings[2].hint)
        self.assertEqual(loaded.settings.websocket, Settings().websocket)

    def test_own_variable_is_warned_about_with_a_guess(self) -> None:
        warnings = self.load("", {"OCPP_AUTH_MODES": "x", "OCPPGW_STATEDIR": "x", "PATH": "x", "PORTS": "1"}).warnings
        self.assertEqual([warning.key for warning in warnings], ["OCPP_AUTH_MODES", "OCPPGW_STATEDIR"])
        self.assertEqual(
            [warning.hint for warning in warnings],
            ["did you mean OCPP_AUTH_MODE?", "did you mean OCPPGW_STATE_DIR?"],
        )

    def test_variables_of_the_command_line_are_known(self) -> None:
        environ = {"OCPPGW_URL": "x", "OCPPGW_TOKEN": "x", "OCPPGW_SIMULATOR_PASSWORD": "x"}
        self.assertEqual(self.load("", environ).warnings, [])


class OtherReleases(ConfigTestCase):
    """Names of the contract that this version has no feature for."""

    def test_not_asking_for_them_is_silent(self) -> None:
        names = ("KAFKA_ENABLED", "REQUIRE_KAFKA", "REDIS_ENABLED", "REQUIRE_REDIS")
        self.assertEqual(self.load("", dict.fromkeys(names, "false")).warnings, [])

    def test_tuning_them_is_warned_about_once(self) -> None:
        names = ["KAFKA_RETRY_MAX", "KAFKA_CIRCUIT_OPEN_MS", "REDIS_RETRY_MAX", "METRICS_RATE_WINDOW_SECONDS"]
        warnings = self.load("", dict.fromkeys(names, "7"), "REDIS_RETRY_MAX=8\n").warnings
        self.assertEqual(sorted(warning.key for warning in warnings), sorted(names))
        self.assertTrue(all("no effect" in warning.message for warning in warnings))

    def test_switches_that_are_never_honoured_are_warned_about_when_on(self) -> None:
        name = "OCPP_ALLOW_PLAINTEXT_SECRETS"
        self.assertEqual([warning.key for warning in self.load("", {name: "true"}).warnings], [name])
        self.assertEqual(self.load("", {name: "false"}).warnings, [])

    def test_boot_gate_can_not_be_switched_off(self) -> None:
        (warning,) = self.load("", {"OCPP_STATE_STRICT": "false"}).warnings
        self.assertIn("assume_accepted", warning.hint)
        self.assertEqual(self.load("", {"OCPP_STATE_STRICT": "true"}).warnings, [])

    def test_only_data_transfer_may_be_an_additional_action(self) -> None:
        name = "OCPP_SCHEMA_ALLOW_ADDITIONAL_ACTIONS"
        self.assertEqual(self.load("", {name: "DataTransfer"}).warnings, [])
        self.assertEqual([warning.key for warning in self.load("", {name: "DataTransfer,Reset"}).warnings], [name])


class Check(ConfigTestCase):
    def test_usable_configuration(self) -> None:
        report = check(self.write("[logs]\nlevl = 1\n"), {})
        self.assertTrue(report.ok)
        self.assertEqual((report.errors, self.places(report.warnings)), ([], [(2, "logs.levl")]))

    def test_errors_and_warnings_together(self) -> None:
        report = check(self.write("[logs]\nlevl = 1\nlevel = 1\n"), {})
        self.assertFalse(report.ok)
        self.assertEqual(self.places(report.errors), [(3, "logs.level")])
        self.assertEqual(self.places(report.warnings), [(2, "logs.levl")])


class EnvFile(SynchronousTestCase):
    def parse(self, text: str) -> dict[str, str]:
        variables, problems = parse_env(text, ".env")
        self.assertEqual(problems, [])
        return {name: variable.value for name, variable in variables.items()}

    def test_forms_of_a_value(self) -> None:
        for line, value in {
            "A=b": "b",
            "  export A = b ": "b",
            "A=b c # comment": "b c",
            "A=b#c": "b#c",
            "A=# comment": "",
            "A=": "",
            "A='b # \\n'": "b # \\n",
            'A="b # \\n\\"" # comment': 'b # \n"',
            'A="b\nc"': "b\nc",
            "A=$B": "$B",
            "A=b=c": "b=c",
            "A=b\r": "b",
            "A=b\nA=c": "c",
            "\n# comment\n   \nA=b\n": "b",
        }.items():
            self.assertEqual(self.parse(line), {"A": value}, line)

    def test_line_numbers_pass_over_values_of_several_lines(self) -> None:
        variables, _ = parse_env("A='1\n2'\n\nB=3\n", ".env")
        self.assertEqual((variables["A"].line, variables["B"].line), (1, 4))

    def test_every_unreadable_line_is_reported_and_the_rest_is_read(self) -> None:
        variables, problems = parse_env('no\nA=1\nB=\'open\n1C=2\nD="x"y\nE=5\n', ".env")
        self.assertEqual([(problem.line, problem.key) for problem in problems], [(1, ""), (3, "B"), (4, ""), (5, "D")])
        self.assertEqual(sorted(variables), ["A", "E"])

    @given(st.text(alphabet="A=b'\"\\# \t\r\n1", max_size=40))
    def test_any_text_ends_in_variables_or_problems(self, text: str) -> None:
        variables, problems = parse_env(text, ".env")
        lines = text.count("\n") + 1
        self.assertTrue(all(1 <= found.line <= lines for found in variables.values()))
        self.assertTrue(all(problem.line and problem.line <= lines for problem in problems))


DOCUMENT = '''\
# a = 1
top = "x # no comment"   # = comment
quoted."dotted.key" = 1
[ table . "in ner" ]
text = """
not = "a key"
[nor] a "table" ""\\"""
"""
literal = \'\'\'
x = 1
\'\'\'
list = [
  # comment ]
  "a]", 'b',
  [1, 2],
  { k = 3 },
]
inline = { one = 1, two.three = "}" }
when = 1979-05-27 07:32:00Z
[[rows]]
a = 1
[[rows]]
b = 2
'''


class KeyLines(SynchronousTestCase):
    def test_every_kind_of_key_has_its_line(self) -> None:
        tomllib.loads(DOCUMENT)
        inner = ("table", "in ner")
        self.assertEqual(
            key_lines(DOCUMENT),
            {
                ("top",): 2,
                ("quoted",): 3,
                ("quoted", "dotted.key"): 3,
                ("table",): 4,
                inner: 4,
                (*inner, "text"): 5,
                (*inner, "literal"): 9,
                (*inner, "list"): 12,
                (*inner, "list", "0"): 14,
                (*inner, "list", "1"): 14,
                (*inner, "list", "2"): 15,
                (*inner, "list", "2", "0"): 15,
                (*inner, "list", "2", "1"): 15,
                (*inner, "list", "3"): 16,
                (*inner, "list", "3", "k"): 16,
                (*inner, "inline"): 18,
                (*inner, "inline", "one"): 18,
                (*inner, "inline", "two"): 18,
                (*inner, "inline", "two", "three"): 18,
                (*inner, "when"): 19,
                ("rows",): 20,
                ("rows", "a"): 21,
                ("rows", "b"): 23,
            },
        )

    @given(st.lists(st.text(alphabet="ab\"'\\#\n[]{}=,. ", max_size=12), max_size=6))
    def test_no_text_in_a_string_is_taken_for_a_key(self, texts: list[str]) -> None:
        lines = []
        for number, text in enumerate(texts):
            escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            several = text.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'k{number} = ["{escaped}", """{several}""", {{ a = "{escaped}" }}]\n')
        document = "".join(lines)
        tomllib.loads(document)
        found = {path[0]: line for path, line in key_lines(document).items() if len(path) == 1}
        expected = {f"k{number}": "".join(lines[:number]).count("\n") + 1 for number in range(len(texts))}
        self.assertEqual(found, expected)

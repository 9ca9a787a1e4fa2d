"""Provisioning on the command line, against the real Site, the real Provisioning and the real store (in memory)."""

import json
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.authenticate import Hashing
from ocppgw.cli import COMMANDS, main, new_secrets
from ocppgw.cli.drafts import read_draft
from ocppgw.cli.hashing import Hasher
from ocppgw.cli.new_secrets import NewSecret
from tests.cli_support import PASSWORD, SCRYPT_N, ProvisioningTestCase, gateway_serving, identity, run

IDS = ("--id", "CP-001", "--station-id", "s1", "--tenant-id", "acme")
CHANGES = ("provision", "rotate-secret", "add-cert", "revoke-cert", "enable", "disable", "delete", "import")
COMMANDS_HERE = (*CHANGES, "show", "list", "export", "explain")


class HelpTests(SynchronousTestCase):
    def test_every_command_documents_its_exit_codes_and_shows_examples(self):
        for name in COMMANDS_HERE:
            shown = run("", name, "--help").stdout
            self.assertIn("Exit code: 0", shown, name)
            self.assertIn(f"\n  ocppgw {name}", shown)

    def test_provision_says_what_wins(self):
        shown = " ".join(run("", "provision", "--help").stdout.split())
        self.assertIn("Options win over the file, the file wins over the environment", shown)

    def test_add_cert_warns_that_any_member_matches(self):
        self.assertIn("ANY ONE", run("", "add-cert", "--help").stdout)

    def test_no_option_of_any_command_takes_a_secret(self):
        for name in COMMANDS:
            for parameter in main.get_command(None, name).params:
                takes_a_value = not getattr(parameter, "is_flag", False)
                if takes_a_value and parameter.name in ("secret", "token", "password"):
                    self.fail(f"{name} {parameter.opts}")
        refused = run("", "provision", *IDS, "--secret", PASSWORD)
        self.assertEqual(refused.exit_code, 2)


class ProvisionTests(ProvisioningTestCase):
    def test_plain_password_of_a_file_is_hashed_and_never_sent(self):
        path = self.file(identity(type="basic", secret=PASSWORD))
        for algorithm in ("sha256", "scrypt"):
            with gateway_serving() as (url, gateway, requests):
                result = run(url, "provision", path, "--algorithm", algorithm)
                record = self.stored(gateway)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertEqual(record["auth"]["hashAlgorithm"], algorithm)
            self.assertEqual(set(record["auth"]), {"type", "secretHash", "secretSalt", "hashAlgorithm"})
            self.assertTrue(self.lets_in(record, PASSWORD.encode()))
            self.assertFalse(self.lets_in(record, b"something else"))
            self.assertNotIn(PASSWORD.encode(), b"".join(requests))
            self.assertNotIn(PASSWORD, result.output)

    def test_salts_differ(self):
        document = identity(type="basic", secret=PASSWORD)
        first, second = (self.provisioned(document=document)["auth"] for _ in range(2))
        self.assertNotEqual(first["secretSalt"], second["secretSalt"])
        self.assertNotEqual(first["secretHash"], second["secretHash"])

    def test_authorization_key_of_any_octets(self):
        octets = bytes(range(120, 140))
        record = self.provisioned(document=identity(type="basic", secretHex=octets.hex().upper()))
        self.assertTrue(self.lets_in(record, octets))

    def test_password_and_token_of_one_file_share_their_salt_as_the_contract_has_it(self):
        document = identity(type="basic", allowedTypes=["basic", "token"], secret=PASSWORD, token="t" * 40)
        record = self.provisioned(document=document)
        self.assertTrue(self.lets_in(record, PASSWORD.encode()))
        self.assertTrue(self.lets_in(record, b"t" * 40, "token"))
        self.assertNotIn("tokenSalt", record["auth"])

    def test_a_new_password_leaves_a_hashed_token_alone(self):
        hashed = self.provisioned(document=identity(type="token", token="t" * 40))["auth"]
        document = identity(**{**hashed, "allowedTypes": ["basic", "token"]}, secret=PASSWORD)
        record = self.provisioned("--algorithm", "sha256", document=document)
        self.assertTrue(self.lets_in(record, PASSWORD.encode()))
        self.assertTrue(self.lets_in(record, b"t" * 40, "token"))

    def test_algorithm_comes_from_flag_then_file_then_environment(self):
        plain, named = (
            identity(type="basic", secret=PASSWORD),
            identity(type="basic", secret=PASSWORD, hashAlgorithm="sha256"),
        )
        variable = {"OCPP_AUTH_HASH_ALGORITHM": "sha256"}
        scrypt = {"OCPP_AUTH_HASH_ALGORITHM": "scrypt"}
        for document, arguments, environment, expected in (
            (plain, (), {}, "scrypt"),
            (plain, (), variable, "sha256"),
            (named, (), scrypt, "sha256"),
            (named, ("--algorithm", "scrypt"), variable, "scrypt"),
        ):
            record = self.provisioned(*arguments, document=document, environment=environment)
            self.assertEqual(record["auth"]["hashAlgorithm"], expected)

    def test_scrypt_takes_the_gateways_parameters(self):
        environment = {"OCPP_AUTH_SCRYPT_N": "32", "OCPP_AUTH_SCRYPT_R": "4", "OCPP_AUTH_SCRYPT_KEYLEN": "64"}
        record = self.provisioned(document=identity(type="basic", secret=PASSWORD), environment=environment)
        auth = record["auth"]
        expected = Hashing(n=32, r=4, length=64).digest(PASSWORD.encode(), auth["secretSalt"].encode(), "scrypt")
        self.assertEqual(auth["secretHash"], expected.hex())

    def test_wrong_parameters_are_named(self):
        for name, value, words in (
            ("OCPP_AUTH_SCRYPT_N", "1000", "512 and 1024"),
            ("OCPP_AUTH_SCRYPT_P", "no", "a whole number from 1 to 16"),
            ("OCPP_AUTH_SCRYPT_KEYLEN", "16", "from 32 to 64"),
            ("OCPP_AUTH_HASH_ALGORITHM", "md5", "sha256 or scrypt"),
        ):
            shown = self.refused("provision", *IDS, "--generate-secret", environment={name: value})
            self.assertIn(name, shown)
            self.assertIn(words, shown)

    def test_generated_password_is_shown_once_in_both_forms(self):
        with gateway_serving() as (url, gateway, requests):
            result = run(url, "provision", *IDS, "--generate-secret")
            record = self.stored(gateway)
        shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
        self.assertRegex(shown["secret"], r"^[A-Za-z0-9]{20}$")
        self.assertEqual(bytes.fromhex(shown["secretHex"]).decode(), shown["secret"])
        self.assertTrue(self.lets_in(record, shown["secret"].encode()))
        self.assertEqual(result.output.count(shown["secret"]), 1)
        self.assertNotIn(shown["secret"].encode(), b"".join(requests))
        self.assertEqual(record["auth"]["type"], "basic")

    def test_generated_ones_as_json(self):
        with gateway_serving() as (url, gateway, _):
            result = run(url, "provision", *IDS, "--generate-secret", "--generate-token", "--json")
            record = self.stored(gateway)
        shown = json.loads(result.stdout)
        self.assertEqual((shown["chargePointId"], shown["created"]), ("CP-001", True))
        self.assertTrue(self.lets_in(record, shown["secret"].encode()))
        self.assertTrue(self.lets_in(record, shown["token"].encode(), "token"))
        self.assertEqual(record["auth"]["allowedTypes"], ["basic", "token"])

    def test_password_from_standard_input(self):
        octets = b"\xff\xfe colon: and \x01 blank"
        record = self.provisioned(*IDS, "--secret-stdin", stdin=octets + b"\r\n")
        self.assertTrue(self.lets_in(record, octets))
        self.assertEqual(record["auth"]["type"], "basic")

    def test_hex_from_standard_input(self):
        octets = bytes(range(200, 220))
        record = self.provisioned(*IDS, "--secret-stdin", "--hex", stdin=octets.hex().encode())
        self.assertTrue(self.lets_in(record, octets))

    def test_token_from_standard_input(self):
        record = self.provisioned(*IDS, "--token-stdin", stdin=b"a.b-c_d\n")
        self.assertTrue(self.lets_in(record, b"a.b-c_d", "token"))
        self.assertEqual(record["auth"]["type"], "token")

    def test_standard_input_that_holds_something_else(self):
        for option, data, words in (
            ("--secret-stdin", b"", "holds no secret"),
            ("--secret-stdin", b"hidden-one\nhidden-two\n", "on one line"),
            ("--secret-stdin", b"x" * 5000, "on one line"),
            ("--token-stdin", b"hidden one", "visible ASCII"),
        ):
            shown = self.refused("provision", *IDS, option, stdin=data)
            self.assertIn(words, shown)
            self.assertNotIn("hidden", shown)
        shown = self.refused("provision", *IDS, "--secret-stdin", "--hex", stdin=b"hidden")
        self.assertIn("32 to 40 hex digits", shown)
        self.assertNotIn("hidden", shown)

    def test_on_a_terminal_it_is_asked_for_twice_without_echo(self):
        with patch.object(new_secrets, "is_terminal", return_value=True), gateway_serving() as (url, gateway, _):
            answers = f"a-slip-of-the-finger\n{PASSWORD}\n{PASSWORD}\n{PASSWORD}\n"
            result = run(url, "provision", *IDS, "--secret-stdin", stdin=answers)
            record = self.stored(gateway)
        self.assertTrue(self.lets_in(record, PASSWORD.encode()))
        self.assertNotIn(PASSWORD, result.output)

    def test_options_win_over_the_file_and_the_file_over_the_environment(self):
        environment = {
            "PROVISION_ALLOWED_PROTOCOLS": "1.6, 2.1",
            "PROVISION_AUTH_TYPE": "token",
            "PROVISION_SECRET": "from-environment",
            "PROVISION_TOKEN": "token-from-environment",
        }
        full = identity(type="basic", secret="from-the-file-itself") | {"allowedProtocols": ["2.0.1"]}
        record = self.provisioned(document=full, environment=environment)
        self.assertEqual(record["allowedProtocols"], ["2.0.1"])
        self.assertEqual(record["auth"]["type"], "basic")
        self.assertTrue(self.lets_in(record, b"from-the-file-itself"))
        self.assertNotIn("tokenHash", record["auth"])
        hashed = self.provisioned(document=full)
        record = self.provisioned(document=hashed, environment=environment)
        self.assertTrue(self.lets_in(record, b"from-the-file-itself"))
        options = ("--protocol", "1.6", "--type", "basic", "--id", "CP-001", "--station-id", "s9", "--secret-stdin")
        record = self.provisioned(*options, document=full, environment=environment, stdin=b"from-standard-input")
        self.assertEqual((record["allowedProtocols"], record["stationId"]), (["1.6"], "s9"))
        self.assertTrue(self.lets_in(record, b"from-standard-input"))

    def test_environment_fills_in_what_the_file_leaves_out(self):
        environment = {
            "PROVISION_ALLOWED_PROTOCOLS": "1.6, 2.1",
            "PROVISION_AUTH_TYPE": "token",
            "PROVISION_SECRET": "from-environment",
            "PROVISION_TOKEN": "token-from-environment",
        }
        bare = identity()
        del bare["auth"]
        for document in (identity(), bare):
            record = self.provisioned(document=document, environment=environment)
            self.assertEqual((record["allowedProtocols"], record["auth"]["type"]), (["1.6", "2.1"], "token"))
            self.assertTrue(self.lets_in(record, b"token-from-environment", "token"))
            self.assertNotIn("secretHash", record["auth"])
        record = self.provisioned(*IDS, environment={"PROVISION_SECRET": "from-environment"})
        self.assertTrue(self.lets_in(record, b"from-environment"))
        wrong = self.refused("provision", *IDS, environment={"PROVISION_AUTH_TYPE": "magic"})
        self.assertIn("basic, token or mtls", wrong)

    def test_several_types(self):
        record = self.provisioned(*IDS, "--type", "mtls", "--type", "basic", "--generate-secret")
        self.assertEqual((record["auth"]["type"], record["auth"]["allowedTypes"]), ("mtls", ["mtls", "basic"]))

    def test_secret_that_is_not_accepted_is_warned_about(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "provision", *IDS, "--type", "mtls", "--generate-secret")
        self.assertIn("does not accept basic", result.stderr)
        self.assertIn("ocppgw add-cert CP-001", result.stderr)

    def test_a_second_time_it_is_replaced(self):
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="mtls"))
            result = run(url, "provision", self.file(identity(type="basic", secret=PASSWORD)))
            self.assertEqual(self.stored(gateway)["auth"]["type"], "basic")
        self.assertRegex(result.stdout, r"identity +replaced")

    def test_every_bad_member_is_named_with_its_mend_and_nothing_is_sent(self):
        bad = {"chargePointId": "CP-001", "stationId": "", "allowedCidrs": ["10.0.0.7/8"], "auth": {"type": "basic"}}
        shown = self.refused("provision", self.file(bad))
        for words in ("the identity CP-001 in", "stationId must be", "tenantId must be", "write 10.0.0.0/8"):
            self.assertIn(words, shown)
        self.assertIn("auth.secretHash is needed", shown)
        self.assertIn("--generate-secret", shown)
        self.assertNotIn("Usage:", shown)

    def test_what_plain_secrets_may_not_be(self):
        for auth, words in (
            ({"secret": ""}, "auth.secret must be a text that is not empty"),
            ({"secret": 12345678}, "auth.secret must be a text that is not empty"),
            ({"secret": PASSWORD, "secretHex": "00" * 16}, "auth.secret and auth.secretHex are given: keep one"),
            ({"secret": PASSWORD, "secretHash": "00" * 32}, "auth.secretHash and auth.secret are given: keep one"),
            ({"secretHex": PASSWORD}, "auth.secretHex must be 32 to 40 hex digits"),
            ({"secretHex": "00" * 15}, "auth.secretHex must be 32 to 40 hex digits"),
            ({"token": PASSWORD, "tokenHash": "00" * 32}, "auth.tokenHash and auth.token are given: keep one"),
            ({"token": PASSWORD + " x"}, "auth.token must be visible ASCII"),
            ({"password": PASSWORD}, "auth.password is no member: write a plain secret as auth.secret"),
            ({"authorizationKey": PASSWORD}, "auth.authorizationKey is no member"),
        ):
            shown = self.refused("provision", self.file(identity(type="basic", **auth)))
            self.assertIn(words, shown)
            self.assertNotIn(PASSWORD, shown)
            self.assertNotIn("is needed", shown)  # it is there, only wrong
        shown = self.refused("provision", self.file(identity(type="mtls") | {"secret": PASSWORD}))
        self.assertIn("secret is no member", shown)
        self.assertNotIn(PASSWORD, shown)

    def test_masked_secrets_are_not_stored(self):
        shown = self.refused("provision", self.file(identity(type="basic", secretHash="***", secretSalt="***")))
        self.assertIn("auth.secretHash is masked", shown)
        self.assertIn("ocppgw export", shown)

    def test_masked_identity_with_a_new_secret_is_whole_again(self):
        masked = identity(type="basic", secretHash="***", secretSalt="***", hashAlgorithm="scrypt")
        record = self.provisioned("--secret-stdin", document=masked, stdin=PASSWORD.encode())
        self.assertTrue(self.lets_in(record, PASSWORD.encode()))

    def test_files_that_are_no_identity(self):
        for content, words in ((b"{", "is not JSON"), (b"[]", "must be a JSON object"), (b'{"a": 1}\n{}', "import")):
            self.assertIn(words, self.refused("provision", self.file(content)))
        self.assertIn("auth must be a JSON object", self.refused("provision", self.file(identity() | {"auth": "x"})))
        bare = {name: value for name, value in identity().items() if name != "auth"}
        self.assertIn("auth must be a JSON object", self.refused("provision", self.file(bare)))
        self.assertIn("can't be read", self.refused("provision", str(self.folder / "nowhere.json")))

    def test_byte_order_mark_is_no_fault(self):
        content = b"\xef\xbb\xbf" + json.dumps(identity(type="mtls")).encode()
        with gateway_serving() as (url, gateway, _):
            result = run(url, "provision", "-", stdin=content)
            self.assertEqual(self.stored(gateway)["auth"], {"type": "mtls"}, result.output)

    def test_slips_that_would_protect_nothing_are_warned_about(self):
        document = identity(
            type="basic", secret="short", secretHsh="00", certificates=[{"subject": "a", "validTil": ""}]
        )
        with gateway_serving() as (url, _, _):
            result = run(url, "provision", self.file(document | {"allowedCidr": [], "note": "ours", "colour": "red"}))
        self.assertEqual(result.exit_code, 0, result.output)
        for words in ("allowedCidr is no member", "auth.secretHsh", "auth.certificates[0].validTil", "16 octets"):
            self.assertIn(words, result.stderr)
        self.assertNotIn("colour", result.stderr)

    def test_options_that_contradict_each_other(self):
        for arguments, words in (
            ((*IDS, "--secret-stdin", "--token-stdin"), "one thing"),
            (("-", "--secret-stdin"), "one thing"),
            ((*IDS, "--secret-stdin", "--generate-secret"), "not both"),
            ((*IDS, "--generate-secret", "--hex"), "--secret-stdin"),
            (IDS, "how the station proves itself"),
            (("--id", "CP-001", "--generate-secret"), "--station-id and --tenant-id are needed"),
        ):
            self.assertIn(words, self.refused("provision", *arguments))

    def test_what_holds_a_secret_does_not_show_it(self):
        draft = read_draft(identity(type="basic", secret=PASSWORD, tokenHash="hash-of-it"))
        hashed = Hasher(Hashing(n=SCRYPT_N)).new(PASSWORD.encode())
        shown = repr((draft, NewSecret("secret", PASSWORD.encode()), hashed))
        for hidden in (PASSWORD, "hash-of-it", hashed.digits, hashed.salt):
            self.assertNotIn(hidden, shown)


class AuditTests(ProvisioningTestCase):
    def event(self, *arguments, environment=None):
        """The payload of the audit event of a change."""
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="mtls"))
            result = run(url, "disable", "CP-001", *arguments, environment=environment)
            self.assertEqual(result.exit_code, 0, result.output)
            return gateway.store.database.events()[-1]["payload"]

    def test_defaults(self):
        payload = self.event()
        self.assertEqual(payload["change"], "disabled")
        told = {name: payload[name] for name in ("actorId", "actorType", "reason")}
        self.assertEqual(told, {"actorId": "unknown", "actorType": "system", "reason": "manual-provision"})

    def test_environment_and_options(self):
        environment = {
            "PROVISION_ACTOR_ID": "ci",
            "PROVISION_ACTOR_TYPE": "pipeline",
            "PROVISION_ACTOR_IP": "192.0.2.1",
            "PROVISION_REASON": "release",
        }
        payload = self.event(environment=environment)
        expected = {"actorId": "ci", "actorType": "pipeline", "ip": "192.0.2.1", "reason": "release"}
        self.assertEqual({name: payload[name] for name in expected}, expected)
        options = ("--actor-id", "kim", "--actor-type", "person", "--actor-ip", "2001:DB8::1", "--reason", "stolen")
        payload = self.event(*options, environment=environment)
        expected = {"actorId": "kim", "actorType": "person", "ip": "2001:db8::1", "reason": "stolen"}
        self.assertEqual({name: payload[name] for name in expected}, expected)

    def test_every_changing_command_takes_them(self):
        for name in CHANGES:
            options = {option for parameter in main.get_command(None, name).params for option in parameter.opts}
            self.assertLessEqual({"--actor-id", "--actor-type", "--actor-ip", "--reason"}, options, name)

    def test_bad_ones_are_named(self):
        for option, value in (("--actor-id", "a\nb"), ("--actor-ip", "here"), ("--reason", "x" * 256)):
            self.assertIn(option, self.refused("disable", "CP-001", option, value))


class RotateTests(ProvisioningTestCase):
    def rotate(self, *arguments, auth, **how):
        """(record, result) of a rotation on an identity with this `auth`, given with plain secrets."""
        with gateway_serving() as (url, gateway, requests):
            run(url, "provision", self.file(identity(**auth)))
            result = run(url, "rotate-secret", "CP-001", *arguments, **how)
            self.assertEqual(result.exit_code, 0, result.output)
            self.sent = b"".join(requests)
            return self.stored(gateway), result

    def test_old_and_new_both_work_at_first(self):
        record, result = self.rotate("--generate", "--json", auth={"type": "basic", "secret": PASSWORD})
        new = json.loads(result.stdout)["secret"].encode()
        self.assertTrue(self.lets_in(record, PASSWORD.encode()))
        self.assertTrue(self.lets_in(record, new))
        self.assertNotIn(new, self.sent)

    def test_immediately_only_the_new_one_works(self):
        auth = {"type": "basic", "secret": PASSWORD}
        record, result = self.rotate("--stdin", "--immediately", auth=auth, stdin=b"a-brand-new-password\n")
        self.assertFalse(self.lets_in(record, PASSWORD.encode()))
        self.assertTrue(self.lets_in(record, b"a-brand-new-password"))
        self.assertNotIn("a-brand-new-password", result.output)
        self.assertRegex(result.stdout, r"works +the new one only")

    def test_token(self):
        record, result = self.rotate("--token", "--generate", "--json", auth={"type": "token", "token": "t" * 40})
        shown = json.loads(result.stdout)
        self.assertRegex(shown["token"], r"^[A-Za-z0-9]{40}$")
        self.assertTrue(self.lets_in(record, shown["token"].encode(), "token"))
        self.assertTrue(self.lets_in(record, b"t" * 40, "token"))

    def test_hex(self):
        octets = bytes(range(128, 148))
        auth = {"type": "basic", "secret": PASSWORD}
        record, _ = self.rotate("--stdin", "--hex", auth=auth, stdin=octets.hex().encode())
        self.assertTrue(self.lets_in(record, octets))

    def test_short_one_is_warned_about(self):
        _, result = self.rotate("--stdin", auth={"type": "basic", "secret": PASSWORD}, stdin=b"short")
        self.assertIn("shorter than the 16 octets", result.stderr)

    def test_where_it_comes_from_has_to_be_said(self):
        for arguments in ((), ("--generate", "--stdin"), ("--generate", "--hex"), ("--stdin", "--token", "--hex")):
            self.refused("rotate-secret", "CP-001", *arguments)

    def test_unknown_identity_is_refused_by_the_gateway(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "rotate-secret", "CP-404", "--generate")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertIn("'CP-404'", result.stderr)

"""Certificates and identities on the command line, against the real Site, Provisioning and store (in memory)."""

import json
from unittest.mock import patch

from ocppgw.cli import identities
from tests.cli_support import ProvisioningTestCase, gateway_serving, identity, run, serving
from tests.make_certificates import make_ca, make_server, make_station

NOBODY = "http://127.0.0.1:1"


class CertificateTests(ProvisioningTestCase):
    def setUp(self):
        super().setUp()
        self.ca = make_ca("CA")
        self.made = make_station(self.ca, "CP-001")

    def pem(self, made, name="station.pem"):
        return self.file(made.pem, name)

    def bound(self, *arguments):
        """(binding, result) of `ocppgw add-cert CP-001`."""
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="mtls"))
            result = run(url, "add-cert", "CP-001", *arguments)
            self.assertEqual(result.exit_code, 0, result.output)
            return self.stored(gateway)["auth"]["certificates"][-1], result

    def test_bound_by_fingerprint_alone_for_as_long_as_the_certificate_is_valid(self):
        binding, result = self.bound(self.pem(self.made))
        certificate = self.made.certificate
        expected = {
            "fingerprint": self.made.fingerprint,
            "validFrom": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "validTo": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "chargePointId": "CP-001",
        }
        self.assertEqual(binding, expected)
        self.assertIn("CN=CP-001", result.stdout)
        self.assertIn(f"{certificate.serial_number:X}", result.stdout)

    def test_other_criteria_only_when_asked_for(self):
        server = make_server(self.ca, "cp-001.example", "cp-1.example")
        binding, _ = self.bound(self.pem(server), "--by", "subject", "--by", "san", "--by", "serial")
        self.assertEqual(binding["subject"], "O=Operator,CN=cp-001.example")
        self.assertEqual(binding["subjectAltName"], "DNS:cp-001.example,DNS:cp-1.example")
        self.assertEqual(binding["serialNumber"], f"{server.certificate.serial_number:X}")
        self.assertNotIn("fingerprint", binding)

    def test_window(self):
        window = ("--from", "2027-02-01T00:00:00Z", "--to", "2028-01-01T01:00:00+01:00")
        binding, _ = self.bound(self.pem(self.made), *window)
        self.assertEqual((binding["validFrom"], binding["validTo"]), (window[1], window[3]))
        binding, _ = self.bound(self.pem(self.made), "--to", "none", "--from", "none")
        self.assertEqual(set(binding), {"fingerprint", "chargePointId"})

    def test_fingerprint_as_openssl_prints_it(self):
        digits = self.made.fingerprint
        written = "sha256 Fingerprint=" + ":".join(digits[n : n + 2] for n in range(0, 64, 2)).lower()
        binding, _ = self.bound("--fingerprint", written)
        self.assertEqual(binding, {"fingerprint": digits, "chargePointId": "CP-001"})

    def test_binding_that_is_over_already_is_warned_about(self):
        _, result = self.bound(self.pem(make_station(self.ca, "CP-001", now=1_500_000_000.0)))
        self.assertIn("over already", result.stderr)

    def test_unusable_certificates_and_windows_are_named(self):
        good, plain = self.pem(self.made), self.file(b"-----BEGIN NOTHING-----\n", "plain.pem")
        for arguments, words in (
            ((), "FILE.pem or --fingerprint"),
            ((good, "--fingerprint", "00" * 32), "FILE.pem or --fingerprint"),
            ((plain,), "no readable certificate"),
            ((str(self.folder / "nowhere.pem"),), "can't be read"),
            ((self.pem(self.ca, "ca.pem"),), "that of a CA"),
            ((good, "--by", "san"), "no subjectAltName"),
            (("--fingerprint", "00" * 20), "SHA-256 fingerprint"),
            (("--fingerprint", "00" * 32, "--by", "subject"), "give FILE.pem"),
            ((good, "--to", "2027-01-01"), "with its zone"),
            ((good, "--to", "soon"), "with its zone"),
            ((good, "--to", "2020-01-01T00:00:00Z"), "before it begins"),
        ):
            self.assertIn(words, self.refused("add-cert", "CP-001", *arguments))

    def test_json_is_the_masked_identity(self):
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="mtls", secretHash="00" * 32, secretSalt="saltsalt"))
            result = run(url, "add-cert", "CP-001", self.pem(self.made), "--json")
        auth = json.loads(result.stdout)["auth"]
        self.assertEqual((auth["secretHash"], len(auth["certificates"])), ("***", 1))

    def test_revoked_by_file_and_by_fingerprint(self):
        with gateway_serving() as (url, gateway, _):
            by_file = run(url, "revoke-cert", self.pem(self.made), "--reason", "lost")
            by_text = run(url, "revoke-cert", "AA:" * 31 + "AA", "--json")
            denylist = self.successResultOf(gateway.store.revocations())
        self.assertEqual((by_file.exit_code, by_text.exit_code), (0, 0))
        self.assertIn(self.made.fingerprint, by_file.stdout)
        self.assertIn("CN=CP-001", by_file.stdout)
        self.assertEqual(set(denylist), {self.made.fingerprint, "AA" * 32})
        self.assertEqual(denylist[self.made.fingerprint]["reason"], "lost")
        self.assertEqual(json.loads(by_text.stdout)["fingerprint"], "AA" * 32)

    def test_what_is_neither_file_nor_fingerprint(self):
        self.assertIn("is no file, and is no SHA-256", self.refused("revoke-cert", "station.pem"))


class IdentityTests(ProvisioningTestCase):
    def test_table_and_json(self):
        hashed = {"secretHash": "00" * 32, "secretSalt": "saltsalt"}
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity("CP-002", type="basic", **hashed), identity("CP-001", type="mtls"))
            table, as_json = run(url, "list"), run(url, "list", "--search", "002", "--json")
        heading, first, second = table.stdout.splitlines()
        self.assertTrue(heading.startswith("STATION"))
        self.assertEqual(first.split()[:4], ["CP-001", "active", "mtls", "all"])
        self.assertEqual(second.split()[0], "CP-002")
        self.assertEqual([one["auth"]["secretHash"] for one in json.loads(as_json.stdout)], ["***"])

    def test_more_identities_than_a_page(self):
        with gateway_serving() as (url, gateway, requests), patch.object(identities, "PAGE", 10):
            self.store(gateway, *(identity(f"CP-{n:03}", type="mtls") for n in range(30)))
            result = run(url, "list", "--json")
        self.assertEqual((len(json.loads(result.stdout)), len(requests)), (30, 3))

    def test_none_is_said_on_stderr(self):
        with gateway_serving() as (url, _, _):
            self.assertEqual(run(url, "list").stderr, "No identities.\n")
            self.assertEqual(run(url, "list", "--search", "x").stderr, "No such identities.\n")

    def test_show_for_people(self):
        bindings = [
            {"fingerprint": "AA" * 32, "validTo": "2020-01-01T00:00:00Z"},
            {"fingerprint": "BB" * 32, "validFrom": "2100-01-01T00:00:00Z"},
            {"subject": "CN=CP-001", "status": "revoked"},
            {"serialNumber": "01"},
        ]
        auth = {"type": "mtls", "allowedTypes": ["mtls", "basic"], "secretHash": "12" * 32, "secretSalt": "salt-salt"}
        auth |= {"nextSecretHash": "34" * 32, "nextSecretSalt": "salt-salt", "certificates": bindings}
        document = identity(**auth, revokedFingerprints=["CC" * 32]) | {"allowedIps": ["192.0.2.1"], "note": "ours"}
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, document)
            gateway.store.remember_profile("CP-001", 3)
            result = run(url, "show", "CP-001")
        for line in (
            r"status +active",
            r"connected +yes",
            r"highest profile +3",
            r"addresses +192\.0\.2\.1",
            r"proof +mtls, basic",
            r"password +set; a new one waits for its first use",
            r"certificate +over, from the beginning to 2020-01-01T00:00:00Z",
            r"  fingerprint +AAAA",
            r"certificate +not yet",
            r"certificate +revoked",
            r"certificate +good",
            r"revoked +CCCC",
            r"note +ours",
        ):
            self.assertRegex(result.stdout, f"(?m)^{line}")
        for hidden in ("12" * 32, "34" * 32, "salt-salt"):
            self.assertNotIn(hidden, result.stdout)

    def test_show_as_json_is_masked(self):
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="basic", secretHash="12" * 32, secretSalt="salt-salt"))
            shown = json.loads(run(url, "show", "CP-001", "--json").stdout)
        self.assertEqual((shown["auth"]["secretHash"], shown["auth"]["secretSalt"]), ("***", "***"))
        self.assertEqual((shown["connected"], shown["securityProfile"]), (True, 0))

    def test_unknown_identity_is_an_error(self):
        with gateway_serving() as (url, _, _):
            for command in (("show",), ("disable",), ("enable",), ("delete", "--yes")):
                result = run(url, command[0], "CP/404", *command[1:])
                self.assertEqual((result.exit_code, result.stdout), (1, ""), command)
                self.assertIn("'CP/404'", result.stderr)

    def test_disable_and_enable(self):
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="mtls"))
            result = run(url, "disable", "CP-001")
            self.assertEqual(self.stored(gateway)["status"], "disabled")
            shown = json.loads(run(url, "enable", "CP-001", "--json").stdout)
            self.assertEqual(self.stored(gateway)["status"], "active")
        self.assertRegex(result.stdout, r"status +disabled")
        self.assertEqual(shown["status"], "active")

    def test_delete_asks_on_a_terminal(self):
        with gateway_serving() as (url, gateway, _), patch.object(identities, "is_terminal", return_value=True):
            self.store(gateway, identity(type="mtls"))
            self.assertEqual(run(url, "delete", "CP-001", stdin="n\n").exit_code, 1)
            self.assertIsNotNone(self.stored(gateway))
            self.assertEqual(run(url, "delete", "CP-001", stdin="y\n").exit_code, 0)
            self.assertIsNone(self.stored(gateway))

    def test_delete_without_a_terminal_wants_yes(self):
        self.assertIn("--yes", self.refused("delete", "CP-001"))
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="mtls"))
            result = run(url, "delete", "CP-001", "--yes", "--json")
            self.assertIsNone(self.stored(gateway))
        self.assertEqual(json.loads(result.stdout), {"deleted": True})

    def test_gateway_that_is_not_there(self):
        for command in (
            ("show", "CP-001"),
            ("list",),
            ("disable", "CP-001"),
            ("rotate-secret", "CP-001", "--generate"),
        ):
            result = run(NOBODY, *command)
            self.assertEqual((result.exit_code, result.stdout), (1, ""))
            self.assertIn("No gateway answers", result.stderr)
            self.assertNotIn("may be done", result.stderr)

    def test_lost_answer_of_a_change_is_told_as_one(self):
        with serving(lambda _: b"") as url:
            change, look = run(url, "rotate-secret", "CP-001", "--generate"), run(url, "list")
        self.assertEqual((change.exit_code, change.stdout), (1, ""))
        self.assertIn("It may be done all the same: repeat it", change.stderr)
        self.assertNotIn("may be done", look.stderr)

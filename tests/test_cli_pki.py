"""`ocppgw pki`, run as an operator runs it, in a folder of its own."""

import json
import os
import shlex
import ssl
import stat
import subprocess
import tempfile
import tomllib
from pathlib import Path

from click.testing import CliRunner, Result
from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from ocppgw import config
from ocppgw.cli import main
from ocppgw.pki import PkiFolder
from ocppgw.pki.files import read_certificates


def run(*arguments: str) -> Result:
    """`ocppgw pki …`."""
    return CliRunner().invoke(main, ["pki", *arguments], env={"NO_COLOR": "1"}, catch_exceptions=False)


class PkiTests(SynchronousTestCase):
    def setUp(self) -> None:
        # Not mktemp(): under pytest that is the current directory, and nobody clears it.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "my pki"

    def init(self, *options: str) -> Result:
        result = run("init", str(self.path), *options)
        self.assertEqual(0, result.exit_code, result.output)
        return result

    def assert_failed(self, result: Result, *sentences: str) -> None:
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        for sentence in sentences:
            self.assertIn(sentence, result.stderr)

    def revoked(self) -> list[int]:
        """The serial numbers on the issuing CA's CRL."""
        crl = x509.load_pem_x509_crl((self.path / "ca" / "issuing.crl.pem").read_bytes())
        return [entry.serial_number for entry in crl]

    # --- init

    def test_init_prints_a_configuration_that_is_usable_as_it_is(self) -> None:
        printed = self.init().stdout
        tables = tomllib.loads(printed)
        for path in (*tables["tls"]["cert_path"], *tables["tls"]["ca_path"], *tables["tls"]["crl_path"]):
            self.assertTrue(os.path.isabs(path) and os.path.exists(path), path)
        self.assertTrue(all(os.path.exists(tables["signing"][name]) for name in ("ca_cert_path", "ca_key_path")))
        file = self.path / "gateway.toml"
        file.write_text(printed)
        report = config.check(file, {})
        self.assertEqual(([], []), (list(report.errors), list(report.warnings)))

    def test_a_tls_server_starts_with_both_certificates(self) -> None:
        tables = tomllib.loads(self.init().stdout)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for path in tables["tls"]["cert_path"]:
            context.load_cert_chain(path)
        context.load_verify_locations(tables["tls"]["ca_path"][0])
        self.assertEqual(2, len(context.get_ca_certs()))

    def test_init_says_what_the_keys_are_for_and_how_to_go_on(self) -> None:
        said = self.init().stderr
        self.assertIn("For development: these keys lie unprotected on this disk", said)
        commands = [shlex.split(line) for line in said.splitlines() if line.startswith("  ocppgw ")]
        self.assertEqual(["ocppgw", "pki", "station", str(self.path), "SIM-00001", "SIM-00002"], commands[0])
        self.assertIn("wss://localhost:8080/ocpp", commands[1])
        self.assertIn(str(self.path / "stations"), commands[1])

    def test_only_the_owner_may_read_keys(self) -> None:
        self.init()
        run("station", str(self.path), "CP-001")
        with_key = [path for path in self.path.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
        self.assertEqual([0o600] * 5, [stat.S_IMODE(path.stat().st_mode) for path in with_key])

    def test_names_and_organization_are_taken(self) -> None:
        said = self.init("--name", "::1", "--name", "ocpp.test", "--organization", "My Company").stderr
        self.assertIn("wss://[::1]:8080/ocpp", said)
        shown = run("show", str(self.path / "server" / "rsa.pem")).stdout
        self.assertRegex(shown, r"(?m)^names +IP:::1, DNS:ocpp.test$")
        self.assertRegex(shown, r"(?m)^subject +CN=::1,O=My Company$")

    def test_an_existing_pki_is_left_alone_without_force(self) -> None:
        self.init()
        before = (self.path / "ca" / "root.pem").read_bytes()
        self.assert_failed(run("init", str(self.path)), "there is a PKI in", "--force")
        self.assertEqual(before, (self.path / "ca" / "root.pem").read_bytes())
        self.init("--force")
        self.assertNotEqual(before, (self.path / "ca" / "root.pem").read_bytes())

    # --- server

    def test_another_server_gets_both_kinds_and_its_line_of_configuration(self) -> None:
        self.init()
        result = run("server", str(self.path), "--name", "ocpp.example.com", "--days", "10")
        files = tomllib.loads(result.stdout)["sni"]["ocpp.example.com"]
        self.assertEqual(["ocpp.example.com-rsa.pem", "ocpp.example.com-ecdsa.pem"], [Path(one).name for one in files])
        kinds = [run("show", file).stdout.splitlines()[6].split()[1] for file in files]
        self.assertEqual(["RSA", "ECDSA"], kinds)
        self.assert_failed(run("server", str(self.path), "--name", "ocpp.example.com"), "exists already")
        self.assert_failed(run("server", str(self.path), "--name", "*.x"), "wildcard", "name each host")

    # --- station

    def test_a_station_gets_a_certificate_and_its_operator_the_binding(self) -> None:
        self.init()
        result = run("station", str(self.path), "CP-001")
        self.assertEqual(0, result.exit_code, result.output)
        file = self.path / "stations" / "CP-001.pem"
        command = ["openssl", "x509", "-in", str(file), "-noout", "-fingerprint", "-sha256"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        fingerprint = printed.strip().rpartition("=")[2].replace(":", "")
        self.assertIn(fingerprint, result.stdout)
        self.assertIn(f"ocppgw add-cert CP-001 {shlex.quote(str(file))}", result.stderr)
        binding = json.loads(next(line for line in result.stderr.splitlines() if line.strip().startswith("{")))
        self.assertEqual({"fingerprint": fingerprint, "chargePointId": "CP-001", "status": "active"}, binding)
        self.assertIn("For development", result.stderr)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file)

    def test_the_serial_number_becomes_the_common_name(self) -> None:
        self.init()
        run("station", str(self.path), "CP-001", "--serial-number", "SN-4711", "--rsa", "--days", "3")
        shown = run("show", str(self.path / "stations" / "CP-001.pem")).stdout
        self.assertRegex(shown, r"(?m)^subject +CN=SN-4711,O=Development$")
        self.assertRegex(shown, r"(?m)^key +RSA 2048$")

    def test_many_stations_are_a_table(self) -> None:
        self.init()
        result = run("station", str(self.path), "CP-1", "CP/2", "CP-3")
        self.assertEqual(["STATION", "CP-1", "CP/2", "CP-3"], [line.split()[0] for line in result.stdout.splitlines()])
        self.assertTrue((self.path / "stations" / "CP%2F2.pem").exists())
        self.assertEqual(2, run("station", str(self.path), "A", "B", "--serial-number", "S").exit_code)

    def test_a_station_is_not_replaced_without_force(self) -> None:
        self.init()
        run("station", str(self.path), "CP-001")
        self.assert_failed(run("station", str(self.path), "CP-001"), "CP-001.pem exists already", "--force")
        self.assertEqual(0, run("station", str(self.path), "CP-001", "--force").exit_code)

    def test_what_is_no_id_makes_no_file(self) -> None:
        self.init()
        for text in ("", "x" * 49, "a\nb"):
            self.assert_failed(run("station", str(self.path), text), "no station id", "1 to 48 printable characters")
        self.assertFalse((self.path / "stations").exists())

    # --- revoke, crl, show

    def test_revoked_certificates_are_on_the_list_by_id_and_by_file(self) -> None:
        self.init()
        run("station", str(self.path), "CP-1", "CP-2")
        files = [PkiFolder(self.path).station_file(name) for name in ("CP-1", "CP-2")]
        numbers = [read_certificates(file)[0].serial_number for file in files]
        by_id = run("revoke", str(self.path), "CP-1")
        self.assertIn(f"serial number {numbers[0]:X}, in {self.path / 'ca' / 'issuing.crl.pem'}", by_id.stdout)
        self.assertIn("SIGHUP", by_id.stderr)
        self.assertEqual([numbers[0]], self.revoked())
        self.assertEqual(0, run("revoke", str(self.path), str(files[1])).exit_code)
        self.assertEqual(numbers, self.revoked())

    def test_revoking_twice_is_no_failure_and_changes_nothing(self) -> None:
        self.init()
        run("station", str(self.path), "CP-1")
        run("revoke", str(self.path), "CP-1")
        before = (self.path / "ca" / "issuing.crl.pem").read_bytes()
        result = run("revoke", str(self.path), "CP-1")
        self.assertEqual(0, result.exit_code)
        self.assertIn("Nothing to do: CN=CP-1,O=Development", result.stdout)
        self.assertEqual(before, (self.path / "ca" / "issuing.crl.pem").read_bytes())

    def test_what_cannot_be_revoked_is_named(self) -> None:
        self.init()
        self.assert_failed(run("revoke", str(self.path), "nobody"), "neither a station nobody in", "nor a file")
        other = self.path.with_name("other")
        run("init", str(other))
        foreign = other / "server" / "rsa.pem"
        self.assert_failed(run("revoke", str(self.path), str(foreign)), "CN=localhost,O=Development was not signed by")

    def test_fresh_lists_keep_their_revocations(self) -> None:
        self.init()
        run("station", str(self.path), "CP-1")
        run("revoke", str(self.path), "CP-1")
        before = self.revoked()
        lines = run("crl", str(self.path), "--days", "3000").stdout.splitlines()
        self.assertRegex(lines[0], r"root.crl.pem: 0 revoked, good until 20\d\d-\d\d-\d\d \d\d:\d\d UTC$")
        self.assertRegex(lines[1], r"issuing.crl.pem: 1 revoked, good until")
        self.assertEqual(before, self.revoked())

    def test_show_describes_every_certificate_of_a_file(self) -> None:
        self.init()
        blocks = run("show", str(self.path / "server" / "ecdsa.pem")).stdout.split("\n\n")
        self.assertEqual(2, len(blocks))
        for name in ("subject", "names", "issuer", "serial number", "fingerprint", "valid", "key"):
            self.assertRegex(blocks[0], f"(?m)^{name} ")
        self.assertRegex(blocks[0], r"(?m)^key +ECDSA P-256$")
        self.assertIn("CN=Development issuing CA,O=Development", blocks[1])
        self.assertNotIn("PRIVATE", "".join(blocks))

    def test_show_tells_when_a_certificate_is_over(self) -> None:
        folder = PkiFolder(self.path)
        folder.create("Old", ["localhost"], now=1_000_000_000.0)
        self.assertIn("(expired)", run("show", str(folder.servers[0])).stdout)
        folder.create("Future", ["localhost"], now=20_000_000_000.0, replace=True)
        self.assertIn("(not yet valid)", run("show", str(folder.servers[0])).stdout)

    def test_files_and_folders_that_are_none_are_named_with_the_mend(self) -> None:
        self.assert_failed(run("show", str(self.path / "x.pem")), "x.pem does not exist")
        self.assert_failed(run("crl", str(self.path)), f"there is no PKI in {self.path}", "ocppgw pki init")
        self.init()
        crl = self.path / "ca" / "root.crl.pem"
        self.assert_failed(run("show", str(crl)), "root.crl.pem holds no readable certificate")
        crl.write_bytes(b"damaged")
        self.assert_failed(run("crl", str(self.path)), "root.crl.pem holds no readable CRL")

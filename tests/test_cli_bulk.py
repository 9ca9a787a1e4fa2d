"""`ocppgw import` and `ocppgw export`, against the real Site, the real Provisioning and the real store (in memory)."""

import json
import stat
from unittest.mock import patch

from ocppgw.cli import bulk
from ocppgw.ports import Edit
from tests.cli_support import PASSWORD, ProvisioningTestCase, gateway_serving, identity, run


def lines(*documents):
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def body(request):
    return json.loads(request.partition(b"\r\n\r\n")[2])


class ImportTests(ProvisioningTestCase):
    def test_plain_secrets_are_hashed_and_never_sent(self):
        secrets = [f"password-of-number-{n}" for n in range(30)]
        content = lines(*(identity(f"CP-{n}", type="basic", secret=one) for n, one in enumerate(secrets)))
        with gateway_serving() as (url, gateway, requests):
            result = run(url, "import", self.file(content))
            self.assertEqual(result.exit_code, 0, result.output)
            for number, secret in enumerate(secrets):
                self.assertTrue(self.lets_in(self.stored(gateway, f"CP-{number}"), secret.encode()))
        self.assertNotIn(b"password-of-number", b"".join(requests))
        self.assertEqual(result.stdout.split(), ["stored", "30", "created", "30", "updated", "0"])
        self.assertEqual(result.stderr, "")  # the bars are for terminals

    def test_as_many_requests_as_the_gateways_limits_ask_for(self):
        small = [identity(f"S-{n:04}", type="mtls") for n in range(1200)]
        large = [identity(f"L-{n:04}", type="mtls") | {"note": "ü" * 20_000} for n in range(20)]
        with gateway_serving() as (url, gateway, requests):
            result = run(url, "import", "-", "--reason", "r" * 255, "--json", stdin=lines(*small, *large))
            total = self.successResultOf(gateway.store.identities(limit=1)).total
        self.assertEqual(json.loads(result.stdout), {"stored": 1220, "created": 1220, "updated": 0, "bad": []})
        self.assertEqual(total, 1220)
        bodies = [request.partition(b"\r\n\r\n")[2] for request in requests]
        self.assertLessEqual(max(map(len, bodies)), 256 * 1024)
        self.assertLessEqual(max(len(body(request)["identities"]) for request in requests), 500)
        self.assertLess(len(requests), 8)
        self.assertEqual({body(request)["audit"]["reason"] for request in requests}, {"r" * 255})

    def test_bad_lines_are_all_reported_and_nothing_is_imported(self):
        content = lines(identity("CP-1", type="mtls")) + b'\n{"chargePointId": \n[]\n'
        content += lines(identity("CP-5", type="basic"), identity("CP-1", type="mtls"))
        content += lines(identity("CP-7", type="mtls") | {"tenantId": ""}, identity("CP-8", type="basic", secret=""))
        content += lines(identity("CP-9", type="mtls") | {"note": "x" * 200_000})
        shown = self.refused("import", self.file(content))
        for words in (
            "7 lines of 8 can't be stored",
            "line 3: is not JSON",
            "line 4: it must be a JSON object",
            "line 5 (CP-5): auth.secretHash is needed for basic",
            "line 6 (CP-1): chargePointId is on line 1 already",
            "line 7 (CP-7): tenantId must be a text",
            "line 8 (CP-8): auth.secret must be a text that is not empty",
            "line 9 (CP-9): is too large",
            "auth.secret or auth.token: it is hashed here",
            "Nothing was imported. Mend them, or leave them out with --skip-bad.",
        ):
            self.assertIn(words, shown)

    def test_bad_lines_can_be_left_out(self):
        content = lines(identity("CP-1", type="mtls")) + b"{\n" + lines(identity("CP-3", type="mtls"))
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity("CP-1", type="mtls"))
            result = run(url, "import", self.file(content), "--skip-bad")
            as_json = run(url, "import", self.file(content), "--skip-bad", "--json")
            self.assertIsNotNone(self.stored(gateway, "CP-3"))
        self.assertEqual(result.exit_code, 0)
        told = dict(line.rsplit(maxsplit=1) for line in result.stdout.splitlines())
        self.assertEqual(told, {"stored": "2", "created": "1", "updated": "1", "left out": "1"})
        self.assertIn("line 2: is not JSON", result.stderr)
        bad = json.loads(as_json.stdout)["bad"]
        self.assertEqual([(one["line"], one["chargePointId"]) for one in bad], [(2, "")])

    def test_report_is_bounded(self):
        shown = self.refused("import", self.file(b"{\n" * 1000))
        self.assertEqual(len(shown.splitlines()), bulk.MAX_REPORTED + 3)
        self.assertIn("… and 950 more", shown)

    def test_slips_are_warned_about_with_their_line(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "import", self.file(lines(identity(type="mtls") | {"allowedCidr": []})))
        self.assertEqual(result.exit_code, 0)
        self.assertIn("line 1 (CP-001): allowedCidr is no member", result.stderr)

    def test_bad_lines_do_not_show_secrets(self):
        content = lines(identity(type="mtls", password=PASSWORD)) + f'{{"secret": "{PASSWORD}\n'.encode()
        shown = self.refused("import", self.file(content))
        self.assertIn("auth.password is no member", shown)
        self.assertNotIn(PASSWORD, shown)

    def test_gateway_that_fails_in_the_middle_says_what_is_stored(self):
        def then(gateway, _clock):
            gateway.store.database.fault = "disk full"

        content = lines(*(identity(f"CP-{n:03}", type="mtls") for n in range(20)))
        with patch.object(bulk, "MAX_BATCH", 10), gateway_serving(then=then) as (url, gateway, requests):
            result = run(url, "import", self.file(content))
            total = self.successResultOf(gateway.store.identities(limit=1)).total
        self.assertEqual((result.exit_code, len(requests), total), (1, 2, 10))
        self.assertIn("10 of 20 identities are stored", result.stderr)
        self.assertIn("disk full", result.stderr)


class ExportTests(ProvisioningTestCase):
    def test_what_is_exported_can_be_imported_as_it_was(self):
        hashed = {"secretHash": "12" * 32, "secretSalt": "salt-salt"}
        documents = [identity(f"CP-{n:03}", type="basic", **hashed) | {"note": "ü"} for n in range(25)]
        path = self.folder / "out.jsonl"
        with gateway_serving() as (url, gateway, requests), patch.object(bulk, "PAGE", 10):
            self.store(gateway, *documents)
            result = run(url, "export", str(path))
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertEqual(len(requests), 3)
        self.assertEqual([json.loads(line) for line in path.read_bytes().splitlines()], documents)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual((result.stdout, result.stderr), ("", "identities exported: 25\n"))
        with gateway_serving() as (url, gateway, _):
            self.assertEqual(run(url, "import", str(path)).exit_code, 0)
            self.assertEqual(self.stored(gateway, "CP-007"), documents[7])

    def test_standard_output_and_search(self):
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity("CP-1", type="mtls"), identity("CP-2", type="mtls"))
            result = run(url, "export", "--search", "cp-2")
        self.assertEqual([json.loads(line) for line in result.stdout.splitlines()], [identity("CP-2", type="mtls")])

    def test_nothing_to_export(self):
        with gateway_serving() as (url, _, _):
            result = run(url, "export")
        self.assertEqual((result.exit_code, result.stdout), (0, ""))

    def test_file_that_is_there_is_kept_unless_forced(self):
        path = self.file(b"old", "out.jsonl")
        self.assertIn("--force", self.refused("export", path))
        with gateway_serving() as (url, gateway, _):
            self.store(gateway, identity(type="mtls"))
            self.assertEqual(run(url, "export", path, "--force").exit_code, 0)
        self.assertEqual(json.loads((self.folder / "out.jsonl").read_bytes()), identity(type="mtls"))

    def test_folder_that_is_not_there(self):
        self.assertIn("can't be written", self.refused("export", str(self.folder / "nowhere" / "out.jsonl")))

    def test_failed_export_leaves_no_file(self):
        path = self.file(b"old", "out.jsonl")
        result = run("http://127.0.0.1:1", "export", path, "--force")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual([(one.name, one.read_bytes()) for one in self.folder.iterdir()], [("out.jsonl", b"old")])

    def test_identity_that_goes_missing_between_two_pages_is_noticed(self):
        def then(gateway, _clock):
            self.delete(gateway, "CP-003")
            self.store(gateway, identity("CP-999", type="mtls"))  # so that the total stays the same

        with gateway_serving(then=then) as (url, gateway, _), patch.object(bulk, "PAGE", 10):
            self.store(gateway, *(identity(f"CP-{n:03}", type="mtls") for n in range(25)))
            result = run(url, "export", str(self.folder / "out.jsonl"))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("added or removed meanwhile", result.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])

    def delete(self, gateway, charge_point_id):
        self.successResultOf(gateway.store.edit_identity(charge_point_id, lambda _: Edit(None)))

"""`ocppgw explain`: what a field engineer reads about a station that can't get in."""

import json
import re
from unittest.mock import patch

import msgspec
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.attempts import ADMITTED, Attempt, Certificate, shown, stored
from ocppgw.access.refusals import Reason
from ocppgw.cli import output
from tests.cli_support import gateway_serving, run
from tests.fake_gateway import station

AT = 1_800_000_000.0  # 2027-01-15 08:00:00Z
ADDRESS = "192.0.2.7"


def attempt(reason=None, *, ago=0.0, **more):
    """As `/v1/attempts` shows it: one that was refused for `reason`, or with None let in."""
    outcome, status = (ADMITTED, 101) if reason is None else (reason.code, reason.status)
    known = {"status": status, "charge_point_id": "CP-002", "address": ADDRESS, **more}
    return shown(stored(Attempt(at=AT - ago, outcome=outcome, **known)))


def by_address(reason, **more):
    return {**attempt(reason, charge_point_id="", **more), "matchedBy": "address"}


class ExplainTestCase(SynchronousTestCase):
    def explain(self, *arguments, attempts=(), station=None, status="active", environment=None):
        """The result for CP-002, which has an identity unless `status` is None; `gateway.queries` as self.queries."""
        with gateway_serving() as (url, gateway, _):
            gateway.told_attempts = list(attempts)
            gateway.rows = {} if station is None else {"CP-002": station}
            if status is not None:
                record = {"chargePointId": "CP-002", "stationId": "s", "tenantId": "t", "auth": {"type": "mtls"}}
                self.successResultOf(gateway.store.put_identity({**record, "status": status}))
            result = run(url, "explain", *(arguments or ("CP-002",)), environment=environment)
            self.queries = gateway.queries
        self.assertEqual(result.exit_code, 0, result.output)
        return result.stdout

    def first_line(self, **how):
        return self.explain(**how).splitlines()[0]


class FirstLineTests(ExplainTestCase):
    def test_connected(self):
        row = station("CP-002", connectedAt="2027-01-15T07:00:00.000Z", address="10.0.0.1")
        self.assertEqual(
            self.first_line(station=row, attempts=[attempt(ago=3600)]),
            "CP-002 is connected by 1.6J from 10.0.0.1 since 2027-01-15 07:00:00Z.",
        )

    def test_connected_and_somebody_else_tries_its_id(self):
        row = station("CP-002", connectedAt="2027-01-15T07:00:00.000Z")
        before, after = attempt(Reason.CREDENTIALS_MISSING, ago=7200), attempt(Reason.CREDENTIALS_WRONG)
        self.assertTrue(self.first_line(station=row, attempts=[before]).endswith("07:00:00Z."))
        told = self.first_line(station=row, attempts=[after, before])
        self.assertIn("an attempt after that was refused (CredentialsWrong)", told)
        neighbour = by_address(Reason.TLS_VERSION)
        self.assertTrue(self.first_line(station=row, attempts=[neighbour]).endswith("07:00:00Z."))

    def test_refused_with_the_remedy(self):
        self.assertEqual(
            self.first_line(attempts=[attempt(Reason.NO_SUBPROTOCOL), attempt(Reason.CREDENTIALS_WRONG, ago=5)]),
            "CP-002 is not connected; its last attempt was refused (NoSubprotocol): " + Reason.NO_SUBPROTOCOL.remedy,
        )

    def test_every_reason_gives_one_line_with_its_remedy(self):
        for reason in Reason:
            self.assertIn(reason.remedy, self.first_line(attempts=[attempt(reason)]), reason)

    def test_unknown_and_disabled_identities_are_told(self):
        told = self.first_line(status=None, attempts=[attempt(Reason.UNKNOWN_STATION)])
        self.assertTrue(told.startswith("CP-002 has no identity here and is not connected; its last attempt was"))
        told = self.first_line(status="disabled", attempts=[attempt(ago=60)])
        self.assertTrue(told.startswith("CP-002 is disabled and is not connected; it was let in last at "))
        self.assertTrue(told.endswith("ocppgw enable CP-002 lets it in again."))

    def test_let_in_and_gone(self):
        told = self.first_line(attempts=[attempt(ago=60)])
        self.assertIn("it was let in last at 2027-01-15 07:59:00Z, and has left since", told)
        self.assertIn("ocppgw events --station CP-002", told)

    def test_nothing_seen(self):
        told = self.first_line()
        self.assertIn("no attempt of it is on record: look at the URL in the station, at DNS", told)
        self.assertIn("provision it", self.first_line(status=None))

    def test_attempts_that_only_the_address_speaks_for_are_told_with_doubt(self):
        guess, own = by_address(Reason.TLS_NO_COMMON_CIPHER), attempt(Reason.CREDENTIALS_WRONG, ago=60)
        told = self.first_line(attempts=[guess, own])
        self.assertIn(Reason.CREDENTIALS_WRONG.remedy, told)
        self.assertIn("(Later, from its address: TlsNoCommonCipher.)", told)
        told = self.first_line(attempts=[guess, attempt(ago=60)])
        self.assertIn("let in last at 2027-01-15 07:59:00Z", told)
        self.assertIn("an attempt from its address was refused (TlsNoCommonCipher)", told)
        told = self.first_line(attempts=[own, by_address(Reason.TLS_NO_COMMON_CIPHER, ago=120)])
        self.assertNotIn("Later", told)

    def test_address_and_all(self):
        attempts = [attempt(), attempt(Reason.TOO_MANY_REFUSALS, ago=1), attempt(Reason.CREDENTIALS_WRONG, ago=2)]
        told = self.explain("--address", ADDRESS, attempts=attempts)
        start = f"From {ADDRESS} 3 attempts, 2 refused; the last of these (TooManyRefusals): "
        self.assertTrue(told.startswith(start + Reason.TOO_MANY_REFUSALS.remedy), told)
        self.assertEqual(self.queries[0].addresses, (ADDRESS,))
        self.assertIn("From all stations 1 attempt, none refused.", self.explain("--all", attempts=attempts[:1]))
        self.assertIn("From all stations no attempt is on record", self.explain("--all"))


class FactsTests(ExplainTestCase):
    def block(self, told):
        """{name: value} of the first attempt shown; lines without a name belong to the one above."""
        facts = {}
        for line in told.split("\n\n")[1].splitlines()[1:]:
            name, value = line[2:16].strip(), line[16:]
            facts[name or f"{list(facts)[-1]}+"] = value
        return facts

    def heading(self, told):
        return told.split("\n\n")[1].splitlines()[0]

    def test_verdicts(self):
        for told, expected in (
            (attempt(), "let in"),
            (attempt(Reason.CREDENTIALS_WRONG), "refused, HTTP 401: CredentialsWrong"),
            (attempt(Reason.TLS_VERSION), "refused in the TLS handshake: TlsVersion"),
            (attempt(Reason.PROXY_PROTOCOL_INVALID), "refused before HTTP: ProxyProtocolInvalid"),
            (attempt(Reason.CERTIFICATE_REVOKED, status=0, close_code=1008), "cut off, close code 1008: Certificate"),
        ):
            heading = self.heading(self.explain(attempts=[told]))
            self.assertTrue(heading.startswith(f"2027-01-15 08:00:00Z  {ADDRESS} CP-002  {expected}"), heading)

    def test_all_that_is_known_of_a_certificate_that_is_not_bound(self):
        certificate = Certificate("CN=CP-002,O=Op", "AB" * 32, "CP-002", "1F", "CN=CA", AT - 60, "binding 1 is another")
        made = attempt(
            Reason.CERTIFICATE_MISMATCH,
            detail="it matches none",
            proxy="10.0.0.9",
            listener="TLS port 8443",
            url="/ocpp/1.6/CP-002?…",
            subprotocols=("ocpp2.0.1", "ocpp1.6"),
            method="mtls",
            security_profile=3,
            tls_version="TLSv1.3",
            cipher="TLS_AES_256_GCM_SHA384",
            server_name="ocpp.example.com",
            alert="sent: close_notify",
            resumed=True,
            certificate=certificate,
        )
        told = {**made, "offeredVersions": ["TLSv1.3", "TLSv1.2"], "offeredCiphers": ["A", "B", "C", "D", "E"]}
        expected = {
            "why": "it matches none",
            "remedy": Reason.CERTIFICATE_MISMATCH.remedy,
            "URL": "/ocpp/1.6/CP-002?…",
            "subprotocols": "ocpp2.0.1, ocpp1.6",
            "proof": "client certificate, security profile 3",
            "TLS": "TLSv1.3, TLS_AES_256_GCM_SHA384, SNI ocpp.example.com, session resumed",
            "offered": "TLSv1.3, TLSv1.2; A, B, C … and 2 more",
            "alert": "sent: close_notify",
            "certificate": "CN=CP-002,O=Op",
            "certificate+": "fingerprint " + "AB" * 32,
            "certificate++": "valid until 2027-01-15 07:59:00Z (ran out), serial number 1F, issuer CN=CA",
            "binding": "binding 1 is another",
            "came in": "TLS port 8443, by way of the proxy 10.0.0.9",
        }
        self.assertEqual(self.block(self.explain(attempts=[told])), expected)

    def test_all_that_was_offered_when_that_is_why_it_failed(self):
        offered = {"offeredVersions": ["TLSv1.1"], "offeredCiphers": ["A", "B", "C", "D", "E"]}
        for reason in (Reason.TLS_NO_COMMON_CIPHER, Reason.TLS_VERSION):
            told = {**by_address(reason), **offered}
            block = self.block(self.explain(attempts=[told]))
            self.assertEqual((block["offered"], block["TLS"]), ("TLSv1.1; A, B, C, D, E", "no SNI"))
            self.assertIn("another station behind the same one", block["found by"])

    def test_subprotocols(self):
        told = attempt(Reason.NO_SUBPROTOCOL, url="/ocpp/1.6/CP-002")
        self.assertEqual(self.block(self.explain(attempts=[told]))["subprotocols"], "none offered")
        told = attempt(url="/ocpp/CP-002", subprotocols=("a", "ocpp1.6"), subprotocol="ocpp1.6")
        self.assertEqual(self.block(self.explain(attempts=[told]))["subprotocols"], "a, ocpp1.6; chosen: ocpp1.6")

    def test_attempts_alike_are_one(self):
        wrong = [attempt(Reason.CREDENTIALS_WRONG, ago=10 * number) for number in range(13)]
        told = self.explain(attempts=[*wrong[:6], attempt(ago=55), *wrong[6:]])
        self.assertEqual(told.count("CP-002  refused"), 1)
        self.assertEqual(told.count("CP-002  let in"), 1)
        self.assertIn("12 more like it since 2027-01-15 07:58:00Z", told)

    def test_limit_counts_repetitions_once(self):
        different = [attempt(Reason.CREDENTIALS_WRONG, ago=number, url=f"/ocpp/{number}") for number in range(9)]
        told = self.explain("CP-002", "--limit", "3", attempts=[*different[:1] * 5, *different])
        self.assertEqual(re.findall("URL +/ocpp/(.)", told), ["0", "1", "2"])
        self.assertEqual(self.explain(attempts=different).count("URL"), 5)

    def test_refused_only(self):
        attempts = [attempt(), attempt(Reason.CREDENTIALS_WRONG, ago=5)]
        told = self.explain("CP-002", "--refused", attempts=attempts)
        self.assertIn("let in last at", told.splitlines()[0])
        self.assertIn("refused, HTTP 401", told)
        self.assertNotIn("CP-002  let in", told)
        self.assertFalse(self.queries[0].refused_only)  # the state in the first line depends on all of them
        self.explain("--all", "--refused", attempts=attempts)
        self.assertTrue(self.queries[0].refused_only)

    def test_json_gives_attempts_as_they_are(self):
        wrong = [attempt(Reason.CREDENTIALS_WRONG, ago=number) for number in range(4)]
        told = json.loads(self.explain("CP-002", "--json", "--limit", "3", attempts=wrong))
        self.assertEqual(told["attempts"], wrong[:3])
        self.assertEqual((told["connected"], told["identity"]), (False, "active"))
        self.assertIn(Reason.CREDENTIALS_WRONG.remedy, told["summary"])
        self.assertIsNone(json.loads(self.explain("CP-002", "--json", status=None))["identity"])

    def test_what_strangers_sent_is_shown_harmlessly(self):
        hostile = "\x1b[2J[red]x[/red]\nforged\u202e"
        told = self.explain(attempts=[attempt(Reason.UNKNOWN_PATH, url=hostile, server_name=hostile, tls_version="T")])
        self.assertEqual(told.count(r"\x1b[2J[red]x[/red]\nforged\u202e"), 2)
        self.assertNotIn("\x1b", told)

    def test_attempts_with_members_of_another_version_are_shown(self):
        told = self.explain(attempts=[{"at": "2027-01-15T08:00:00.000Z", "outcome": "FromTheFuture", "address": "a"}])
        self.assertIn("refused before HTTP: FromTheFuture", told)


class LayoutTests(ExplainTestCase):
    def on_terminal(self, width):
        """What a terminal of this width is sent, and that without its colours."""
        certificate = Certificate("CN=CP-002,O=Op", "AB" * 32, "CP-002", "1F" * 10, "CN=CA", AT)
        told = attempt(Reason.CERTIFICATE_MISMATCH, certificate=certificate, detail="none of its bindings " * 8)

        def console():
            return Console(file=output.sys.stdout, width=width, force_terminal=True, color_system="standard")

        with patch.object(output, "console", console):
            sent = self.explain(attempts=[told], environment={"NO_COLOR": None})
        return sent, re.sub(r"\x1b\[[0-9;]*m", "", sent)

    def test_nothing_is_cut_at_any_width(self):
        for width in (40, 80, 120):
            _, plain = self.on_terminal(width)
            self.assertLessEqual(max(len(line.rstrip()) for line in plain.splitlines()), width)
            joined = re.sub(r"\s+", "", plain)
            for whole in ("AB" * 32, "1F" * 10, Reason.CERTIFICATE_MISMATCH.remedy, "none of its bindings " * 8):
                self.assertIn(re.sub(r"\s+", "", whole), joined)
            self.assertNotIn("…", plain)

    def test_wrapped_lines_stand_below_their_value(self):
        _, plain = self.on_terminal(80)
        lines = plain.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("  why"))
        self.assertTrue(lines[start + 1].startswith(" " * 16 + "n"), lines[start + 1])

    def test_colours_on_a_terminal_only(self):
        sent, _ = self.on_terminal(80)
        self.assertIn("\x1b[1;31mrefused, HTTP 403: CertificateMismatch", sent)
        told = self.explain(attempts=[attempt(Reason.CREDENTIALS_WRONG)], environment={"NO_COLOR": None})
        self.assertNotIn("\x1b", told)


class UsageTests(SynchronousTestCase):
    def test_whose_attempts_has_to_be_said(self):
        for arguments in ((), ("CP-001", "--all"), ("--all", "--address", ADDRESS), ("CP-001", "--limit", "0")):
            self.assertEqual(run("http://127.0.0.1:1", "explain", *arguments).exit_code, 2)

    def test_gateway_that_is_not_there_or_refuses(self):
        result = run("http://127.0.0.1:1", "explain", "CP-001")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        with gateway_serving() as (url, _, _):
            result = run(url, "explain", "--address", "nowhere")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("'nowhere' is no IP address", result.stderr)

    def test_struct_of_the_gateway_has_the_members_shown_here(self):
        known = {field.encode_name for field in msgspec.structs.fields(Attempt)}
        shown_here = {"at", "outcome", "address", "status", "closeCode", "detail", "chargePointId", "proxy", "listener"}
        shown_here |= {"url", "subprotocols", "subprotocol", "method", "securityProfile", "tlsVersion", "cipher"}
        shown_here |= {"serverName", "alert", "resumed", "hello", "certificate"}
        self.assertEqual(known, shown_here)

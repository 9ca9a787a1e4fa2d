"""Reload: new files are taken over whole or not at all, and whoever asked is told."""

from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.tls import REQUIRE, TlsCreator, TlsMaterialError, TlsReloader
from tests.build_tls import Pki
from tests.make_certificates import DAY, NOW, make_server


class ReloadCase(SynchronousTestCase):
    def setUp(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        self.pki = Pki(folder, NOW)
        self.crl = self.pki.write_crls()
        self.files = self.pki.files(crl_paths=(self.crl,), crl_check="leaf")
        self.now = NOW
        self.reports = []
        self.handed = []
        self.threads = []
        self.creator = TlsCreator((REQUIRE,), lambda: self.now)
        self.reloader = TlsReloader(
            self.files,
            self.creator,
            self.in_thread,
            lambda: self.now,
            lambda *report: self.reports.append(report),
            self.handed.append,
        )
        self.reloader.load_first()
        self.first = self.creator.generation
        self.events = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def in_thread(self, function):
        """Runs when the test says so: `finish`."""
        done = Deferred()
        self.threads.append((function, done))
        return done

    def finish(self):
        """The thread comes to its end."""
        function, done = self.threads.pop(0)
        succeed(None).addCallback(lambda _: function()).chainDeferred(done)

    def reload(self, why="crls"):
        answer = self.reloader.reload(why)
        self.finish()
        return self.successResultOf(answer)

    def logged(self, level):
        return [event["log_format"].format(**event) for event in self.events if event.get("log_level") is level]


class SwapTests(ReloadCase):
    def test_new_certificate_is_taken_over(self):
        self.pki.write("ec.pem", make_server(self.pki.issuing, "localhost", label="new").pem)
        self.assertEqual(self.reload("certificates"), "swapped")
        self.assertIsNot(self.creator.generation, self.first)
        self.assertEqual(self.reports, [("certificates", "swapped")])
        self.assertIn("2 server certificates, 3 CAs, 3 CRLs", self.logged(LogLevel.info)[0])

    def test_new_crls_are_handed_on_for_the_live_stations(self):
        self.pki.write_crls(self.pki.rsa)
        self.assertEqual(self.reload(), "swapped")
        self.assertEqual(self.handed, [self.creator.crls])
        self.assertEqual(sum(len(crl.serials) for crl in self.creator.crls.crls), 1)

    def test_fault_of_who_gets_the_crls_does_not_undo_the_swap(self):
        self.patch(self.reloader, "_crls_changed", lambda crls: 1 // 0)
        self.pki.write_crls(self.pki.rsa)
        self.assertEqual(self.reload(), "swapped")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_unchanged_files_change_nothing(self):
        self.assertEqual(self.reload(), "unchanged")
        self.assertIs(self.creator.generation, self.first)
        self.assertEqual((self.reports, self.handed, self.events), ([("crls", "unchanged")], [], []))

    def test_nothing_is_swapped_before_the_thread_is_done(self):
        self.pki.write_crls(self.pki.rsa)
        answer = self.reloader.reload("crls")
        self.assertNoResult(answer)
        self.assertIs(self.creator.generation, self.first)


class KeptTests(ReloadCase):
    def assert_kept(self, *words):
        outcome = self.reload("certificates")
        self.assertTrue(outcome.startswith("kept: "), outcome)
        self.assertIs(self.creator.generation, self.first)
        self.assertEqual(self.handed, [])
        self.assertEqual(self.reports, [("certificates", "kept")])
        (line,) = self.logged(LogLevel.error)
        for word in words:
            self.assertIn(word, outcome)
            self.assertIn(word, line)

    def test_broken_pem(self):
        self.pki.write("ec.pem", self.pki.ec.pem[:200])
        self.assert_kept("ec.pem")

    def test_empty_file(self):
        self.pki.write("ec.pem")
        self.assert_kept("ec.pem: is empty")

    def test_missing_file(self):
        (self.pki.folder / "ca.pem").unlink()
        self.assert_kept("ca.pem: can't be read")

    def test_key_of_another_certificate(self):
        other = make_server(self.pki.issuing, "localhost", label="another")
        self.pki.write("ec.pem", other.key_pem, self.pki.ec.chain_pem)
        self.assert_kept("ec.pem", "holds no key for the certificate")

    def test_certificate_that_has_ended(self):
        self.pki.write("ec.pem", make_server(self.pki.issuing, "localhost", label="server", days=-0.5).pem)
        self.assert_kept("ec.pem", "ended on")

    def test_crl_with_a_wrong_signature(self):
        self.crl.write_bytes(self.crl.read_bytes().replace(b"\n-----END", b"A\n-----END", 1))
        self.assert_kept("crl.pem")

    def test_a_fault_of_ours_keeps_the_old_too(self):
        self.patch(self.creator, "prepare", lambda material: 1 // 0)
        self.pki.write_crls(self.pki.rsa)
        self.assertEqual(self.reload(), "kept: ZeroDivisionError")
        self.assertIs(self.creator.generation, self.first)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_after_the_mend_it_is_taken_over(self):
        good = make_server(self.pki.issuing, "localhost", label="new").pem
        self.pki.write("ec.pem", good[:-40])
        self.assertTrue(self.reload().startswith("kept"))
        self.pki.write("ec.pem", good)
        self.assertEqual(self.reload(), "swapped")


class QueueTests(ReloadCase):
    def test_second_call_waits_for_a_run_of_its_own(self):
        first = self.reloader.reload("certificates")
        self.pki.write_crls(self.pki.rsa)  # too late for the first run, as far as anybody knows
        second, third = self.reloader.reload("crls"), self.reloader.reload("signal")
        self.assertEqual(len(self.threads), 1)
        self.finish()
        self.assertEqual(self.successResultOf(first), "swapped")
        self.assertNoResult(second)
        self.assertEqual(len(self.threads), 1)
        self.finish()
        self.assertEqual([self.successResultOf(one) for one in (second, third)], ["unchanged"] * 2)
        self.assertEqual(self.threads, [])
        self.assertEqual(self.reports, [("certificates", "swapped"), ("crls", "unchanged"), ("signal", "unchanged")])

    def test_same_reason_twice_is_reported_once(self):
        self.reloader.reload("crls")
        self.reloader.reload("signal")
        self.reloader.reload("signal")
        self.finish()
        self.finish()
        self.assertEqual(self.reports, [("crls", "unchanged"), ("signal", "unchanged")])

    def test_next_run_begins_after_a_failed_one(self):
        first = self.reloader.reload("crls")
        second = self.reloader.reload("crls")
        self.pki.write("ec.pem")
        self.finish()
        self.pki.write("ec.pem", self.pki.ec.pem)
        self.finish()
        self.assertTrue(self.successResultOf(first).startswith("kept"))
        self.assertEqual(self.successResultOf(second), "unchanged")


class WarningTests(ReloadCase):
    def test_each_doubt_is_logged_once_while_it_lasts(self):
        self.now = NOW + 80 * DAY  # the CRLs are out of date, both certificates end soon
        for _ in range(3):
            self.assertEqual(self.reload(), "unchanged")
        warnings = self.logged(LogLevel.warn)
        self.assertEqual(len(warnings), 5, warnings)
        self.assertEqual(len([line for line in warnings if "out of date" in line]), 3)

    def test_start_without_usable_files_fails(self):
        self.pki.write("ec.pem")
        self.assertRaises(TlsMaterialError, self.reloader.load_first)

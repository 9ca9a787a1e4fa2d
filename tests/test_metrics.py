"""The counters, as Prometheus reads them."""

import timeit

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.metrics import Counts, Metrics
from ocppgw.ports import JournalStatus

ACTIONS = {"1.6J": ("BootNotification", "Heartbeat"), "2.0.1": ("BootNotification",)}


def build_metrics():
    return Metrics(ACTIONS, version="0.1.0")


def samples(metrics):
    """{(sample name, label values in order of the label names...): value} of one scrape."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (s.name, *(value for _, value in sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }


class ExpositionTests(SynchronousTestCase):
    def test_every_metric_has_help_and_the_prefix(self):
        for family in text_string_to_metric_families(build_metrics().exposition().decode()):
            self.assertTrue(family.name.startswith(("ocppgw_", "process_", "python_gc_")), family.name)
            self.assertTrue(family.documentation, family.name)

    def test_messages_are_counted_by_version_and_action(self):
        metrics = build_metrics()
        for _ in range(3):
            metrics.received("1.6J", "Heartbeat")
        got = samples(metrics)
        self.assertEqual(got["ocppgw_messages_received_total", "Heartbeat", "1.6J"], 3)
        self.assertEqual(got["ocppgw_messages_received_total", "BootNotification", "1.6J"], 0)

    def test_unknown_actions_and_versions_are_other(self):
        metrics = build_metrics()
        before = len(samples(metrics))
        for number in range(500):
            metrics.received("1.6J", f"Invented{number}")
            metrics.received(f"9.{number}", "Heartbeat")
        got = samples(metrics)
        self.assertEqual(got["ocppgw_messages_received_total", "other", "1.6J"], 500)
        self.assertEqual(got["ocppgw_messages_received_total", "other", "other"], 500)
        self.assertEqual(len(got), before)

    def test_everything_counted_is_exported(self):
        metrics = build_metrics()
        metrics.handshake("admitted")
        metrics.call_error("2.0.1", "FormatViolation")
        metrics.bad_frame("1.6J", "not-json")
        metrics.note("clock-off")
        metrics.published("station", 2)
        metrics.command_ended("Accepted")
        metrics.closed(1001)
        metrics.closed(None)
        metrics.closed(4999)
        metrics.log_left_out(4)
        got = samples(metrics)
        expected = {
            ("ocppgw_handshakes_total", "admitted"): 1,
            ("ocppgw_call_errors_total", "FormatViolation", "2.0.1"): 1,
            ("ocppgw_bad_frames_total", "not-json", "1.6J"): 1,
            ("ocppgw_notes_total", "clock-off"): 1,
            ("ocppgw_events_published_total", "station"): 2,
            ("ocppgw_commands_total", "Accepted"): 1,
            ("ocppgw_closes_total", "1001"): 1,
            ("ocppgw_closes_total", "1006"): 1,
            ("ocppgw_closes_total", "other"): 1,
            ("ocppgw_log_left_out_total",): 4,
        }
        self.assertEqual({key: got.get(key) for key in expected}, expected)
        self.assertEqual([value for key, value in got.items() if key[0] == "ocppgw_build_info"], [1])

    def test_histogram_buckets_are_cumulative(self):
        metrics = build_metrics()
        for seconds in (0.0005, 0.001, 0.003, 99.0):
            metrics.answered(seconds)
        got = samples(metrics)
        self.assertEqual(got["ocppgw_answer_seconds_bucket", "0.001"], 2)
        self.assertEqual(got["ocppgw_answer_seconds_bucket", "0.005"], 3)
        self.assertEqual(got["ocppgw_answer_seconds_bucket", "+Inf"], 4)
        self.assertEqual(got["ocppgw_answer_seconds_count",], 4)
        self.assertAlmostEqual(got["ocppgw_answer_seconds_sum",], 99.0045)

    def test_journal_commits_and_state_are_exported(self):
        metrics = build_metrics()
        metrics.journal_committed(0.004, 37)
        metrics.watch(lambda: {"1.6J": 2}, lambda: JournalStatus(True, "", 5, 0.25, 90, 3, 4096))
        got = samples(metrics)
        self.assertEqual(got["ocppgw_journal_commit_seconds_bucket", "0.005"], 1)
        self.assertEqual(got["ocppgw_journal_batch_records_bucket", "50.0"], 1)
        self.assertEqual(got["ocppgw_journal_waiting_records",], 5)
        self.assertEqual(got["ocppgw_journal_healthy",], 1)
        self.assertEqual(got["ocppgw_connections", "1.6J"], 2)
        self.assertEqual(got["ocppgw_connections", "2.0.1"], 0)

    def test_two_gateways_in_a_process_do_not_share_counters(self):
        one, other = build_metrics(), build_metrics()
        one.handshake("admitted")
        self.assertNotIn(("ocppgw_handshakes_total", "admitted"), samples(other))


class CountsTests(SynchronousTestCase):
    def test_label_sets_are_bounded(self):
        counts = Counts("c", "help", ("a", "b"), limit=2)
        for number in range(10):
            counts.add(str(number), "x")
        self.assertEqual(counts.values, {("0", "x"): 1, ("1", "x"): 1, ("other", "other"): 8})
        self.assertEqual(counts.total(), 10)


class CostTests(SynchronousTestCase):
    def test_a_message_costs_microseconds_at_most(self):
        """The budget is 1 µs on an idle core; the test allows ten times that, to catch only changes of kind."""
        metrics = build_metrics()

        def message():
            metrics.received("1.6J", "Heartbeat")
            metrics.published("station")
            metrics.answered(0.002)

        best = min(timeit.repeat(message, number=2000, repeat=5)) / 2000
        self.assertLess(best, 10e-6)

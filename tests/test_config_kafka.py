"""Settings of Kafka: which answers wait for it, and for how long."""

from ocppgw.config import Settings
from ocppgw.rules_from_settings import session_rules
from tests.test_config import ConfigTestCase

ON = {"KAFKA_ENABLED": "true", "NODE_ID": "n1"}


class AcknowledgedActions(ConfigTestCase):
    def settings(self, text: str, **environ: str) -> Settings:
        return self.load(f"[kafka]\n{text}\n", environ or ON).settings

    def test_by_default_all_answers_wait(self) -> None:
        acknowledged = session_rules(self.settings(""), None).acknowledged
        self.assertLessEqual({"Heartbeat", "StopTransaction", "TransactionEvent", "NotifyReport"}, acknowledged)

    def test_those_that_are_listed_wait(self) -> None:
        settings = self.settings('acknowledged_actions = ["StopTransaction", "TransactionEvent"]')
        self.assertEqual(session_rules(settings, None).acknowledged, {"StopTransaction", "TransactionEvent"})

    def test_an_empty_list_means_none(self) -> None:
        self.assertEqual(session_rules(self.settings("acknowledged_actions = []"), None).acknowledged, frozenset())

    def test_without_kafka_none_waits(self) -> None:
        self.assertEqual(session_rules(self.load("", {}).settings, None).acknowledged, frozenset())

    def test_a_word_that_is_no_action_is_an_error_with_a_guess(self) -> None:
        (problem,) = self.problems('[kafka]\nacknowledged_actions = ["StopTransactoin"]\n', ON)
        self.assertEqual(problem.key, "kafka.acknowledged_actions")
        self.assertIn("StopTransactoin", problem.message)
        self.assertIn("StopTransaction", problem.hint)

    def test_the_time_has_bounds(self) -> None:
        for milliseconds in (9, 20_001):
            (problem,) = self.problems(f"[kafka]\nacknowledgement_timeout_ms = {milliseconds}\n", ON)
            self.assertEqual(problem.key, "kafka.acknowledgement_timeout_ms")

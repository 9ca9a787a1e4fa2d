"""Settings of answers that the backend gives."""

from ocppgw.access.identity import parse_identity
from ocppgw.config import Settings
from ocppgw.rules_from_settings import decision_rules, entrance_rules
from tests.test_config import ConfigTestCase
from tests.test_identity import identity_json


class Decisions(ConfigTestCase):
    def settings(self, text: str) -> Settings:
        return self.load(f"[decisions]\n{text}\n", {}).settings

    def decided(self, text: str, **members: object) -> frozenset[str]:
        """For a station of tenant-abc."""
        return entrance_rules(self.settings(text)).decided_for(parse_identity(identity_json(**members)))

    def test_by_default_none(self) -> None:
        self.assertEqual(self.decided(""), frozenset())

    def test_the_identitys_list_counts_before_the_tenants_and_that_before_the_general_one(self) -> None:
        text = 'enabled = true\nbackend = ["Authorize"]'
        self.assertEqual(self.decided(text), {"Authorize"})
        text += '\ntenants = {tenant-abc = ["BootNotification"], other = []}'
        self.assertEqual(self.decided(text), {"BootNotification"})
        self.assertEqual(self.decided(text, decisions=["DataTransfer"]), {"DataTransfer"})
        self.assertEqual(self.decided(text, decisions=[]), frozenset())

    def test_switched_off_nobody_is_asked_whatever_is_listed(self) -> None:
        text = 'backend = ["Authorize"]'
        self.assertEqual(self.decided(text, decisions=["DataTransfer"]), frozenset())
        (warning,) = self.load(f"[decisions]\n{text}\n", {}).warnings
        self.assertIn("decisions.enabled", warning.message)

    def test_what_can_not_be_decided_is_named_with_a_guess(self) -> None:
        for action, hint in (("Autorize", "Authorize"), ("Heartbeat", ""), ("Reset", "")):
            (problem,) = self.problems(f'[decisions]\nbackend = ["{action}"]\n', {})
            self.assertEqual(problem.key, "decisions.backend")
            self.assertIn(action, problem.message)
            self.assertIn(hint, problem.message)

    def test_the_last_answer_only_where_answers_hold(self) -> None:
        (problem,) = self.problems('[decisions]\nfallbacks = {TransactionEvent = "last"}\n', {})
        self.assertEqual(problem.key, "decisions.fallbacks")
        self.assertIn("TransactionEvent", problem.message)
        rules = decision_rules(self.settings('fallbacks = {Authorize = "last", DataTransfer = "error"}'))
        found = [rules.fallback_of(action) for action in ("Authorize", "DataTransfer", "BootNotification")]
        self.assertEqual(found, ["last", "error", "local"])

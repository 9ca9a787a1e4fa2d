"""Every action of every version through a session: generated payloads, the same ones in every run.

Valid ones get a CALLRESULT that the official response schema allows; broken ones the CALLERROR of the table, always the
same; a SEND gets nothing.
"""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.schemas import load_schema, reference_validator
from ocppgw.ocpp.versions import VERSIONS, OcppVersion
from tests.build_session import Station, build_session
from tests.test_schemas_differential import Generator, expected_code

SHARES = (0.0, 0.3, 0.7, 1.0)  # of the optional members


def up_calls(version: OcppVersion) -> list[str]:
    return sorted(name for name in version.up if not version.actions[name].is_send)


class EveryAction(SynchronousTestCase):
    def setUp(self) -> None:
        self.number = 0

    def call(self, station: Station, action: str, payload: Any) -> list[Any]:
        self.number += 1
        frames = station.call(f"message-{self.number}", action, payload)
        self.assertEqual([frame[1] for frame in frames], [f"message-{self.number}"], (action, payload))
        (frame,) = frames
        return [frame[0], *frame[2:]]

    def test_valid_payloads_are_answered_as_the_response_schema_says(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            for action in up_calls(version):
                generator = Generator(load_schema(version, action, response=False), f"valid {version.name} {action}")
                official = reference_validator(version, action, response=True)
                for share in SHARES:
                    kind, answer = self.call(station, action, generator.payload(share))
                    self.assertEqual(kind, 3, f"{version.name} {action}")
                    self.assertTrue(official.is_valid(answer), f"{version.name} {action}: {answer}")

    def test_broken_payloads_get_the_code_of_the_table_always_the_same(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            for action in up_calls(version):
                generator = Generator(load_schema(version, action, response=False), f"broken {version.name} {action}")
                for keyword, payload in generator.mutations(generator.payload(1.0)):
                    first = self.call(station, action, payload)
                    where = f"{version.name} {action} {keyword}"
                    self.assertEqual(first[:2], [4, expected_code(version.codes, keyword)], where)
                    self.assertEqual(self.call(station, action, payload), first, where)

    def test_sends_are_never_answered(self) -> None:
        for version in VERSIONS:
            for action in version.up:
                if version.actions[action].is_send:
                    station = build_session(version)
                    generator = Generator(load_schema(version, action, response=False), f"send {version.name} {action}")
                    payload = generator.payload(1.0)
                    for sent in (payload, *(broken for _, broken in generator.mutations(payload))):
                        self.assertEqual(station.receive([6, "s", action, sent]), [])
                    self.assertEqual(station.event_types(), [action])

    def test_down_actions_are_refused_in_every_boot_state(self) -> None:
        for version in VERSIONS:
            for status in (None, "Pending", "Rejected", "Accepted"):
                station = build_session(version, boot_status=status)
                for action in sorted(version.down - version.up):
                    self.assertEqual(self.call(station, action, {})[:2], [4, "NotSupported"], action)

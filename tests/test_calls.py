"""Commands to one station: one CALL in flight, a bounded queue, deadlines, late and foreign answers."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.ocpp.effects import Dispatched, Finished, Late, Requeue, WakeAt
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.versions import V16, V21, V201, VERSIONS
from tests.build_session import NOW, Station, build_session

SOFT = {"type": "Soft"}
IMMEDIATE = {"type": "Immediate"}
# What follows the id in answers that are none.
REST_OF_RESULTS: list[list[Any]] = [[], [[]], [{}, {}]]
REST_OF_ERRORS: list[list[Any]] = [[], [7], ["NotSupported"], ["NotSupported", None, {}]]


def reset(station: Station, command_id: str = "command-1", within: float = 300.0) -> Any:
    """Send a Reset (or queue it); its message id when it went out, else None."""
    sent = station.command("Reset", SOFT if station.version is V16 else IMMEDIATE, command_id, within)
    return sent[0][1] if sent else None


def ended(station: Station, command_id: str = "command-1") -> tuple[Outcome, str | None]:
    result = station.ends()[command_id]
    return result.outcome, result.error_code


class Answers(SynchronousTestCase):
    def test_statuses_become_outcomes(self) -> None:
        cases: list[tuple[Any, str, Outcome]] = [
            (V16, "Accepted", Outcome.ACCEPTED),
            (V16, "Rejected", Outcome.REJECTED),
            (V201, "Scheduled", Outcome.SCHEDULED),
            (V21, "Accepted", Outcome.ACCEPTED),
        ]
        for version, status, outcome in cases:
            station = build_session(version)
            self.assertEqual(station.receive([3, reset(station), {"status": status}]), [])
            result = station.ends()["command-1"]
            self.assertEqual((result.outcome, result.status, result.response), (outcome, status, {"status": status}))

    def test_errors_become_outcomes(self) -> None:
        for version in VERSIONS:
            for code, outcome in (
                ("NotImplemented", Outcome.NOT_SUPPORTED),
                ("NotSupported", Outcome.NOT_SUPPORTED),
                ("SecurityError", Outcome.REJECTED),
                ("GenericError", Outcome.FAILED),
                ("FormationViolation", Outcome.FAILED),
                ("InventedByAVendor", Outcome.FAILED),
            ):
                station = build_session(version)
                self.assertEqual(station.receive([4, reset(station), code, "why", {"more": 1}]), [])
                result = station.ends()["command-1"]
                self.assertEqual(
                    (result.outcome, result.error_code, result.error_description, result.error_details),
                    (outcome, code, "why", {"more": 1}),
                )

    def test_error_without_details_is_understood(self) -> None:
        station = build_session()
        station.receive([4, reset(station), "NotSupported", ""])
        self.assertEqual(ended(station), (Outcome.NOT_SUPPORTED, "NotSupported"))

    def test_long_error_texts_are_cut(self) -> None:
        station = build_session()
        station.receive([4, reset(station), "C" * 500, "d" * 5000, {}])
        result = station.ends()["command-1"]
        self.assertEqual((len(result.error_code or ""), len(result.error_description or "")), (50, 255))

    def test_invalid_result_fails_and_only_2_1_is_told(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            message_id = reset(station)
            sent = station.receive([3, message_id, {"status": "Perhaps"}])
            told = [[5, message_id, "PropertyConstraintViolation"]] if version is V21 else []
            self.assertEqual([frame[:3] for frame in sent], told)
            self.assertEqual(ended(station), (Outcome.FAILED, "PropertyConstraintViolation"))

    def test_malformed_result_fails_and_only_2_1_is_told(self) -> None:
        for version in VERSIONS:
            for rest in REST_OF_RESULTS:
                station = build_session(version)
                message_id = reset(station)
                sent = station.receive([3, message_id, *rest])
                told = [[5, message_id, "RpcFrameworkError"]] if version is V21 else []
                self.assertEqual([frame[:3] for frame in sent], told)
                self.assertEqual(ended(station), (Outcome.FAILED, version.codes.envelope))

    def test_result_with_a_number_out_of_range_fails(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            text = b'[3,"%b",{"status":"Accepted","n":1e999}]' % reset(station).encode()
            station.receive(text)
            self.assertEqual(ended(station), (Outcome.FAILED, version.codes.envelope))

    def test_malformed_error_fails_and_is_never_answered(self) -> None:
        for version in VERSIONS:
            for rest in REST_OF_ERRORS:
                station = build_session(version)
                self.assertEqual(station.receive([4, reset(station), *rest]), [])
                self.assertEqual(ended(station), (Outcome.FAILED, version.codes.envelope))

    def test_malformed_answer_lets_the_next_command_go(self) -> None:
        station = build_session(V21)
        message_id = reset(station)
        station.command("ClearCache", {}, "next")
        self.assertEqual([frame[0] for frame in station.receive([3, message_id])], [5, 2])

    def test_complaint_about_an_answer_never_ends_our_call(self) -> None:
        for version in VERSIONS:
            for rest in (["GenericError", "", {}], []):
                station = build_session(version)
                self.assertEqual(station.receive([5, reset(station), *rest]), [])
                self.assertEqual(station.ends(), {})

    def test_foreign_answer_is_ignored_and_ours_stays_outstanding(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            message_id = reset(station)
            station.command("ClearCache", {}, "next")
            for foreign in (
                [3, "foreign", {"status": "Rejected"}],
                [4, "foreign", "GenericError", "", {}],
                [3, "foreign"],
                [4, "-1", "X", "", {}],
            ):
                self.assertEqual(station.receive(foreign), [])
            self.assertEqual(station.ends(), {})
            station.receive([3, message_id, {"status": "Accepted"}])
            self.assertEqual(ended(station), (Outcome.ACCEPTED, None))

    def test_second_answer_is_foreign(self) -> None:
        station = build_session()
        message_id = reset(station)
        station.receive([3, message_id, {"status": "Accepted"}])
        station.receive([3, message_id, {"status": "Rejected"}])
        self.assertEqual(len(station.of_type(Finished)), 1)
        self.assertEqual(ended(station), (Outcome.ACCEPTED, None))


class OneInFlight(SynchronousTestCase):
    def test_second_goes_out_after_the_first_is_answered(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            first = reset(station, "first")
            self.assertIsNone(reset(station, "second"))
            self.assertEqual(station.session.queued_commands, 2)
            sent = station.receive([3, first, {"status": "Accepted"}])
            self.assertEqual([frame[:1] + frame[2:3] for frame in sent], [[2, "Reset"]])
            self.assertNotEqual(sent[0][1], first)
            self.assertEqual(list(station.ends()), ["first"])

    def test_second_goes_out_after_the_first_timed_out(self) -> None:
        station = build_session()
        reset(station, "first")
        reset(station, "second")
        self.assertEqual([frame[0] for frame in station.wait(30)], [2])
        self.assertEqual(ended(station, "first"), (Outcome.UNKNOWN, "Timeout"))

    def test_dispatch_is_told_before_the_frame_is_sent(self) -> None:
        station = build_session()
        message_id = reset(station)
        kinds = [type(effect).__name__ for effect in station.effects]
        self.assertLess(kinds.index("Dispatched"), kinds.index("Send"))
        dispatched = station.of_type(Dispatched)[0]
        self.assertEqual(
            (dispatched.command_id, dispatched.message_id, dispatched.action, dispatched.payload, dispatched.at),
            ("command-1", message_id, "Reset", SOFT, NOW),
        )

    def test_queue_is_bounded_and_the_newest_is_refused(self) -> None:
        station = build_session(rules=SessionRules(commands_per_station=2))
        for name in ("flying", "one", "two", "three"):
            reset(station, name)
        self.assertEqual(ended(station, "three"), (Outcome.FAILED, "Overloaded"))
        self.assertEqual(list(station.ends()), ["three"])

    def test_payload_too_deep_to_be_written_fails_and_frees_the_slot(self) -> None:
        deep: Any = 1
        for _ in range(300):
            deep = [deep]
        station = build_session(V201)
        self.assertEqual(station.command("DataTransfer", {"vendorId": "v", "data": deep}, "deep"), [])
        self.assertEqual(ended(station, "deep"), (Outcome.FAILED, "InvalidPayload"))
        self.assertIsNotNone(reset(station, "next"))


class Deadlines(SynchronousTestCase):
    def test_unanswered_is_unknown_and_not_rejected(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            reset(station)
            station.wait(29.9)
            self.assertEqual(station.ends(), {})
            station.wait(0.1)
            self.assertEqual(ended(station), (Outcome.UNKNOWN, "Timeout"))

    def test_commands_own_deadline_may_be_shorter(self) -> None:
        station = build_session()
        reset(station, within=5)
        self.assertEqual([wake.at for wake in station.of_type(WakeAt)], [NOW + 5])
        station.wait(5)
        self.assertEqual(ended(station), (Outcome.UNKNOWN, "Timeout"))

    def test_waiting_command_ends_at_its_deadline_unsent(self) -> None:
        station = build_session()
        reset(station, "first")
        reset(station, "second", within=3)
        self.assertEqual(station.of_type(WakeAt)[-1].at, NOW + 3)
        self.assertEqual(station.wait(3), [])
        self.assertEqual(ended(station, "second"), (Outcome.UNKNOWN, "Timeout"))
        self.assertIn("before the CALL could be sent", station.ends()["second"].error_description or "")
        self.assertNotIn("first", station.ends())

    def test_command_that_comes_too_late_is_not_sent(self) -> None:
        station = build_session()
        self.assertIsNone(reset(station, within=0))
        self.assertEqual(ended(station), (Outcome.UNKNOWN, "Timeout"))

    def test_every_wait_has_a_wake(self) -> None:
        station = build_session()
        for number in range(3):
            reset(station, f"c{number}")
        for number in range(3):
            wake = station.of_type(WakeAt)[-1].at
            self.assertGreater(wake, station.now)
            station.wait(wake - station.now)
            self.assertEqual(len(station.ends()), number + 1)

    def test_early_tick_does_nothing(self) -> None:
        station = build_session()
        reset(station)
        self.assertEqual(station.wait(1), [])
        self.assertEqual(station.ends(), {})


class LateAnswers(SynchronousTestCase):
    def test_late_answer_is_reported_and_counts_for_nobody_else(self) -> None:
        for version in VERSIONS:
            station = build_session(version)
            first = reset(station, "first")
            second = station.wait(30) or [[2, reset(station, "second")]]
            self.assertEqual(station.receive([3, first, {"status": "Accepted"}]), [])
            late = station.of_type(Late)
            self.assertEqual([(one.command_id, one.result.outcome) for one in late], [("first", Outcome.ACCEPTED)])
            self.assertEqual(list(station.ends()), ["first"])
            station.receive([3, second[0][1], {"status": "Rejected"}])
            self.assertEqual(ended(station, "second"), (Outcome.REJECTED, None))

    def test_late_error_is_reported(self) -> None:
        station = build_session()
        message_id = reset(station)
        station.wait(30)
        station.receive([4, message_id, "NotSupported", "", {}])
        self.assertEqual([one.result.outcome for one in station.of_type(Late)], [Outcome.NOT_SUPPORTED])

    def test_late_invalid_result_is_not_complained_about(self) -> None:
        station = build_session(V21)
        message_id = reset(station)
        station.wait(30)
        self.assertEqual(station.receive([3, message_id, {"status": "Perhaps"}]), [])

    def test_late_answer_is_reported_once(self) -> None:
        station = build_session()
        message_id = reset(station)
        station.wait(30)
        for _ in range(2):
            station.receive([3, message_id, {"status": "Accepted"}])
        self.assertEqual(len(station.of_type(Late)), 1)

    def test_only_the_newest_are_remembered(self) -> None:
        station = build_session()
        ids = []
        for number in range(20):
            ids.append(reset(station, f"c{number}"))
            station.wait(30)
        for message_id in ids:
            station.receive([3, message_id, {"status": "Accepted"}])
        self.assertEqual([one.command_id for one in station.of_type(Late)], [f"c{n}" for n in range(4, 20)])


class LostConnection(SynchronousTestCase):
    def test_sent_is_unknown_and_waiting_may_go_out_again(self) -> None:
        station = build_session()
        for name in ("sent", "waiting", "waiting too"):
            reset(station, name)
        station.lose()
        self.assertEqual(ended(station, "sent"), (Outcome.UNKNOWN, "ConnectionLost"))
        self.assertEqual([one.command_id for one in station.of_type(Requeue)], ["waiting", "waiting too"])
        self.assertEqual(list(station.ends()), ["sent"])

    def test_nothing_happens_to_an_idle_station(self) -> None:
        station = build_session()
        station.lose()
        self.assertEqual((station.ends(), station.of_type(Requeue)), ({}, []))

    def test_answer_on_the_next_connection_is_foreign(self) -> None:
        station = build_session()
        message_id = reset(station)
        station.lose()
        station.connect()
        self.assertEqual(station.receive([3, message_id, {"status": "Accepted"}]), [])
        self.assertEqual(len(station.of_type(Finished)), 1)

"""Stations that bend the standard: mended where a profile says so, refused as ever where none does."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.config.quirk_files import read_quirks
from ocppgw.errors import ConfigError
from ocppgw.ocpp.quirks import ALL_REPAIRS, Profile, QuirkBook
from ocppgw.ocpp.repairs import PAYLOAD_REPAIRS, repaired
from ocppgw.ocpp.schemas import load_schema, schema_set
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.versions import V16, V201, VERSIONS, OcppVersion
from tests.build_session import Station, build_session
from tests.test_deciding import BOOT_2X, BOOT_16
from tests.test_schemas_differential import Generator
from tests.test_transactions import AT, START, event

ETC = Path(__file__).parent.parent / "etc/quirks.d"
STATUS = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}


def mend(version: OcppVersion, action: str, payload: dict[str, Any], *repairs: str, zone: str = "Z") -> Any:
    return repaired(payload, schema_set(version).requests[action], repairs or PAYLOAD_REPAIRS, zone)


class Repairs(SynchronousTestCase):
    def check(self, name: str, action: str, bent: dict[str, Any], mended: dict[str, Any], **more: Any) -> None:
        """By this repair alone; without it nothing is mended; and what was sent is left as it was."""
        before = repr(bent)
        version = more.pop("version", V16)
        self.assertEqual(mend(version, action, bent, name, **more), (mended, [name]))
        self.assertIsNone(mend(version, action, bent, *(PAYLOAD_REPAIRS - {name}), **more))
        self.assertEqual(repr(bent), before)

    def test_numbers_where_texts_belong(self) -> None:
        def meter(value: Any) -> dict[str, Any]:
            return {"connectorId": 1, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": value}]}]}

        self.check("number-for-text", "MeterValues", meter(12.5), meter("12.5"))
        self.check("number-for-text", "MeterValues", meter(True), meter("true"))

    def test_texts_where_numbers_belong(self) -> None:
        self.check("text-for-number", "StatusNotification", {**STATUS, "connectorId": " 1 "}, STATUS)
        whole = event("Started", 3, offline=True)
        self.check(
            "text-for-number", "TransactionEvent", {**whole, "seqNo": "3", "offline": "True"}, whole, version=V201
        )
        for text in ("one", "1e3", "0x1", "1_0", ""):
            self.assertIsNone(mend(V16, "StatusNotification", {**STATUS, "connectorId": text}), text)

    def test_null_and_unknown_members(self) -> None:
        self.check("null-member", "StatusNotification", {**STATUS, "info": None}, STATUS)
        self.check("unknown-member", "StatusNotification", {**STATUS, "vendorField": 1, "other": {}}, STATUS)
        self.assertIsNone(mend(V16, "StatusNotification", {**STATUS, "status": None}), "one that has to be there")

    def test_spellings_of_words(self) -> None:
        for spelling in ("suspendedev", "Suspended EV", "SUSPENDED_EV"):
            bent = {**STATUS, "status": spelling}
            self.check("enum-spelling", "StatusNotification", bent, {**STATUS, "status": "SuspendedEV"})
        self.assertIsNone(mend(V16, "StatusNotification", {**STATUS, "status": "Idle"}), "no word of the standard")

    def test_long_texts_are_cut(self) -> None:
        bent = {**BOOT_16, "chargePointModel": "M" * 25}
        self.check("long-text", "BootNotification", bent, {**BOOT_16, "chargePointModel": "M" * 20})

    def test_times(self) -> None:
        for spelling, time, zone in (
            ("2026-11-25T08:00:00", "2026-11-25T08:00:00Z", "Z"),
            ("2026-11-25 08:00:00", "2026-11-25T08:00:00+02:00", "+02:00"),
            ("2026-11-25T08:00:00.5+02", "2026-11-25T08:00:00.5+02:00", "Z"),
            ("2026-11-25T08:00:00-0330", "2026-11-25T08:00:00-03:30", "+02:00"),
        ):
            bent, mended = {**STATUS, "timestamp": spelling}, {**STATUS, "timestamp": time}
            self.check("time-spelling", "StatusNotification", bent, mended, zone=zone)
        for text in ("yesterday", "2026-13-25T08:00:00", "1764057600", ""):
            self.assertIsNone(mend(V16, "StatusNotification", {**STATUS, "timestamp": text}), text)

    def test_several_at_once_and_one_after_the_other(self) -> None:
        bent = {"connectorId": "1", "errorCode": "noerror", "status": "AVAILABLE", "info": 10**60, "x": 1}
        payload, names = mend(V16, "StatusNotification", bent)
        self.assertEqual(payload, {**STATUS, "info": str(10**60)[:50]})
        self.assertEqual(names, ["enum-spelling", "long-text", "number-for-text", "text-for-number", "unknown-member"])

    def test_one_that_is_nested_without_end_is_refused_as_ever(self) -> None:
        deep: Any = {}
        for _ in range(900):
            deep = {"x": deep}
        self.assertIsNone(mend(V16, "StatusNotification", {**STATUS, "info": deep}))

    def test_what_is_missing_is_not_made_up(self) -> None:
        self.assertIsNone(mend(V16, "StatusNotification", {"connectorId": 1, "status": "Available"}))

    def test_a_valid_payload_is_never_changed(self) -> None:
        for version in VERSIONS:
            for action in version.actions:
                generator = Generator(load_schema(version, action, response=False), f"quirks {version.name} {action}")
                for share in (0.0, 1.0, 0.5):
                    payload = generator.payload(share)
                    self.assertEqual(mend(version, action, payload), (payload, []), f"{version.name} {action}")

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=30),
            lambda each: (
                st.lists(each)
                | st.dictionaries(
                    st.sampled_from(["connectorId", "status", "errorCode", "info", "timestamp", "x"]), each
                )
            ),
        )
    )
    def test_whatever_comes_is_mended_to_something_valid_or_not_at_all(self, value: Any) -> None:
        for payload in ({**STATUS, "info": value}, {**STATUS, "status": value}, {"x": value}):
            found = mend(V16, "StatusNotification", payload)
            if found is not None:
                self.assertTrue(schema_set(V16).requests["StatusNotification"].is_valid(found[0]))


def with_profiles(*profiles: Profile, version: OcppVersion = V16, **settings: Any) -> Station:
    return build_session(version, rules=SessionRules(quirks=QuirkBook(profiles)), **settings)


def profile(*repairs: str, **patterns: str) -> Profile:
    return Profile("p", frozenset(repairs), **patterns)


class Sessions(SynchronousTestCase):
    def test_by_vendor_model_and_firmware_from_the_boot_on(self) -> None:
        bent = {**STATUS, "status": "available"}
        station = with_profiles(profile("enum-spelling", vendor="vend*", model="model", firmware="1.*"))
        self.assertEqual(station.call("a", "StatusNotification", bent)[0][0], 4, "nothing is known of it")
        station.call("b", "BootNotification", {**BOOT_16, "firmwareVersion": "1.2"})
        self.assertEqual(station.call("c", "StatusNotification", bent), [[3, "c", {}]])
        told = station.last_event()["payload"]
        self.assertEqual((told["payload"], told["original"], told["repairs"]), (STATUS, bent, ["enum-spelling"]))
        station.lose()
        station.connect()
        self.assertEqual(station.call("d", "StatusNotification", bent), [[3, "d", {}]], "also on a new connection")
        station.call("e", "BootNotification", {**BOOT_16, "firmwareVersion": "2.0"})
        self.assertEqual(station.call("f", "StatusNotification", bent)[0][0], 4, "a firmware that is mended itself")

    def test_a_boot_is_mended_by_what_it_says_of_itself(self) -> None:
        bent = {"reason": "powerup", "chargingStation": {**BOOT_2X["chargingStation"], "serialNumber": 7}}
        station = with_profiles(
            profile("enum-spelling", "number-for-text", vendor="vendor"), version=V201, boot_status=None
        )
        self.assertEqual(station.call("b", "BootNotification", bent)[0][2]["status"], "Accepted")
        self.assertEqual(station.last_event()["payload"]["payload"]["chargingStation"]["serialNumber"], "7")

    def test_without_a_profile_that_holds_nothing_is_mended(self) -> None:
        for station in (with_profiles(), with_profiles(profile("enum-spelling", vendor="other"))):
            station.call("b", "BootNotification", BOOT_16)
            sent = station.call("a", "StatusNotification", {**STATUS, "status": "available"})
            self.assertEqual(sent[0][:3], [4, "a", "PropertyConstraintViolation"])

    def test_a_transaction_message_is_a_transaction_again(self) -> None:
        station = with_profiles(profile("text-for-number", charge_point_id="cp-*"))
        number = station.call("a", "StartTransaction", {**START, "meterStart": "100"})[0][2]["transactionId"]
        self.assertEqual((station.event_types(), number > 0), (["SessionStarted"], True))
        self.assertEqual(station.last_event()["payload"]["payload"], START)

    def test_one_that_never_boots(self) -> None:
        silent = with_profiles(profile("no-boot", charge_point_id="cp-001"), boot_status=None)
        self.assertEqual(silent.call("a", "StatusNotification", STATUS), [[3, "a", {}]])
        other = with_profiles(profile("no-boot", charge_point_id="cp-002"), boot_status=None)
        self.assertEqual(other.call("a", "StatusNotification", STATUS)[0][2], "SecurityError")

    def test_one_that_uses_ids_again(self) -> None:
        name = "0" * 36
        station = with_profiles(profile("reused-ids", charge_point_id="*"))
        for _ in range(2):
            self.assertEqual(len(station.call(name, "Heartbeat", {})), 1)
        first, second = station.events
        self.assertNotEqual(first["eventId"], second["eventId"])
        self.assertNotIn("replayed", station.notes())

    def test_one_that_takes_long_to_answer(self) -> None:
        slow = Profile("p", frozenset({"slow-answers"}), vendor="vendor", answer_seconds=120.0)
        for seconds in (30, 120):  # before its boot nothing is known of it
            station = with_profiles(slow)
            if seconds == 120:
                station.call("b", "BootNotification", BOOT_16)
            station.command("ClearCache", {}, within=1000)
            station.wait(seconds - 1)
            self.assertEqual(station.ends(), {})
            station.wait(1)
            self.assertEqual(station.ends()["command-1"].error_code, "Timeout")

    def test_its_page_tells(self) -> None:
        station = with_profiles(profile("enum-spelling", charge_point_id="*"))
        station.call("a", "StatusNotification", {**STATUS, "status": "available"})
        self.assertEqual(station.session.quirks, {"profiles": ["p"], "repairs": {"enum-spelling": 1}})
        self.assertEqual(
            [note.detail for note in station.effects if getattr(note, "kind", "") == "repaired"], ["enum-spelling"]
        )
        self.assertIsNone(build_session(V16).session.quirks)

    def test_several_profiles_add_up(self) -> None:
        station = with_profiles(
            profile("enum-spelling", charge_point_id="*"), profile("null-member", charge_point_id="cp*")
        )
        bent = {**STATUS, "status": "available", "info": None}
        self.assertEqual(station.call("a", "StatusNotification", bent), [[3, "a", {}]])


class Files(SynchronousTestCase):
    def folder(self, text: str, name: str = "one.toml") -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / name).write_text(text)
        return folder

    def test_a_profile_is_read(self) -> None:
        text = 'why = "x"\nrepairs = ["time-spelling"]\n[match]\nvendor = "ACME*"\n[options]\nzone = "+02:00"\n'
        [found] = read_quirks(self.folder(text))
        self.assertEqual(found, Profile("one", frozenset({"time-spelling"}), vendor="acme*", zone="+02:00"))

    def test_the_shipped_ones_are_right_and_hold_for_nobody(self) -> None:
        self.assertEqual(read_quirks(ETC), [])
        named = {name for path in ETC.glob("*.toml") for name in ALL_REPAIRS if f'"{name}"' in path.read_text()}
        self.assertEqual(named, ALL_REPAIRS)
        page = (ETC / "README.md").read_text()
        self.assertEqual([name for name in sorted(ALL_REPAIRS) if f"| `{name}` |" not in page], [])

    def test_what_is_wrong_is_named_with_file_and_key(self) -> None:
        for text, words in (
            ("repairs = [", "one.toml: "),
            ('repairs = ["enum-speling"]', "no 'enum-speling'; did you mean enum-spelling?"),
            ("repairs = []", "repairs must name at least one"),
            ('repair = ["long-text"]', "repair: there is no such key; did you mean repairs?"),
            ('repairs = ["long-text"]\n[match]\nvender = "x"', "vender: known here are texts for vendor"),
            ('repairs = ["no-boot"]\n[match]\nvendor = "x"', "no-boot: match by charge_point_id only"),
            ('repairs = ["no-boot"]\n[match]\nmodel = "x"\ncharge_point_id = "y"', "no-boot: match by charge_point_id"),
            ('repairs = ["url-spelling"]\n[match]\nfirmware = "1"', "url-spelling: match by charge_point_id only"),
            ('repairs = ["long-text"]\n[match]\nvendor = 7', "vendor: known here are texts"),
            ('repairs = ["long-text"]\n[options]\nzone = "CET"', "zone must be Z or like +02:00"),
            ('repairs = "long-text"', "repairs must be a list"),
            ('repairs = ["slow-answers"]\n[match]\nmodel = "x"', "need each other"),
            ('repairs = ["long-text"]\n[options]\nanswer_seconds = 5', "need each other"),
            (
                'repairs = ["slow-answers"]\n[options]\nanswer_seconds = 9999',
                "answer_seconds must be a number",
            ),
            (
                'repairs = ["slow-answers"]\n[options]\nanswer_seconds = true',
                "answer_seconds must be a number",
            ),
            ('repairs = ["slow-answers"]\n[options]\nseconds = 5', "seconds: options are zone, answer_seconds"),
        ):
            with self.assertRaises(ConfigError) as caught:
                read_quirks(self.folder(text))
            self.assertIn(words, str(caught.exception), text)

    def test_a_missing_folder_is_named(self) -> None:
        with self.assertRaisesRegex(ConfigError, "/no/such is not a folder"):
            read_quirks(Path("/no/such"))

    def test_patterns_mean_stars_and_nothing_else(self) -> None:
        [found] = read_quirks(self.folder('repairs = ["long-text"]\n[match]\nmodel = "A[1]?*"'))
        self.assertTrue(found.holds("CP", "V", "a[1]?x", ""))
        self.assertFalse(found.holds("CP", "V", "a1yx", ""))

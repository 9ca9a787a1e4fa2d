"""Handshake decisions on the request alone; the numbers are those of the protocol's case list."""

import re
from time import thread_time
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.addresses import is_allowed, parse_network
from ocppgw.access.admission import (
    AdmissionRules,
    Admitted,
    HandshakeFacts,
    Reason,
    Refused,
    admit,
    admit_identity,
)
from ocppgw.access.identity import Auth, Identity
from ocppgw.ocpp.versions import V16, V21, V201

EVERYTHING = ("ocpp2.1", "ocpp2.0.1", "ocpp1.6")
ID_CHARACTERS = "ABCXYZabcxyz0189*-_=+|@."


def ask(path, *offers, rules=None, peer_ip="192.0.2.1", is_websocket=True):
    request = HandshakeFacts(path, offers or EVERYTHING, peer_ip, is_websocket)
    return admit(request, rules or AdmissionRules())


class AdmissionCase(SynchronousTestCase):
    def assert_refused(self, answer, reason, status):
        self.assertIsInstance(answer, Refused)
        self.assertIs(answer.reason, reason)
        self.assertEqual(answer.status, status)

    def assert_admitted(self, answer, charge_point_id, version, subprotocol=None):
        self.assertIsInstance(answer, Admitted)
        self.assertEqual(answer.charge_point_id, charge_point_id)
        self.assertIs(answer.version, version)
        if subprotocol is not None:
            self.assertEqual(answer.subprotocol, subprotocol)


class PathTests(AdmissionCase):
    def test_version_in_path_is_read_in_any_case(self):
        for name, version in (("1.6", V16), ("1.6j", V16), ("1.6J", V16), ("2.0.1", V201), ("2.1", V21)):
            self.assert_admitted(ask(f"/ocpp/{name}/CP-001"), "CP-001", version)

    def test_any_prefix_of_a_reverse_proxy_is_accepted(self):
        for prefix in ("/csms", "/a/b/c", "/admin", "/ocpp", "/ocpp/1.6", "http://gateway.example:8080"):
            self.assert_admitted(ask(f"{prefix}/ocpp/1.6/CP-001"), "CP-001", V16)

    def test_query_and_fragment_are_ignored(self):
        for tail in ("?token=a/b", "?x=../../etc/passwd", "?q=select+a+from+b", "#x", "?"):
            self.assert_admitted(ask(f"/ocpp/1.6/CP-001{tail}"), "CP-001", V16)

    def test_other_paths_are_unknown(self):
        for path in ("/", "/health", "/ocpp", "/ocpp/", "/ocpp/1.7/CP-001", "/ocpp/2.0/CP-001", "/x/1.6/CP-001"):
            self.assert_refused(ask(path), Reason.UNKNOWN_PATH, 404)

    def test_id_must_be_the_last_segment(self):
        for path in ("/ocpp/1.6/CP-001/", "/ocpp/1.6/CP-001/more", "/ocpp/1.6/"):
            self.assert_refused(ask(path), Reason.UNKNOWN_PATH, 404)

    def test_version_name_alone_is_a_path_without_id(self):
        for name in ("1.6", "1.6J", "2.0.1", "2.1"):
            self.assert_refused(ask(f"/ocpp/{name}"), Reason.UNKNOWN_PATH, 404)

    def test_version_name_after_a_version_is_an_id(self):
        self.assert_admitted(ask("/ocpp/1.6/1.6"), "1.6", V16)
        self.assert_admitted(ask("/ocpp/2.1/ocpp"), "ocpp", V21)

    def test_targets_that_are_no_http_are_malformed(self):
        for path in ("", "/ocpp/1.6/CP 1", "/ocpp/1.6/CP\r\nX: y", "/ocpp/1.6/é", "/ocpp/1.6/\udcff", "/" + "a" * 8192):
            self.assert_refused(ask(path), Reason.MALFORMED_REQUEST, 400)


class SuspiciousPathTests(AdmissionCase):
    def test_scanners_are_told_nothing(self):
        for path in (
            "/.env",
            "/app/.env.production",
            "/etc/passwd",
            "/static/etc/passwd",
            "/admin",
            "/Admin/",
            "/user/login",
            "/wp-admin/setup.php",
            "/phpMyAdmin/index.php",
            "/xmlrpc.php",
            "/a/../b",
            "/%2e%2E/x",
            "/..%2f..%2fetc%2Fpasswd",
            "/x'+select+a+from+b",
            "/SELECT%20*%20FROM%20x",
            "/ocpp/1.6/../../etc/passwd",
            "/ocpp/1.6/..",
            "/../ocpp/1.6/CP-001",
        ):
            self.assert_refused(ask(path), Reason.SUSPICIOUS_PATH, 404)

    def test_a_legal_charger_id_is_never_suspicious(self):
        for name in ("CP-ADMIN-1", "admin", "login", "xmlrpc", "wp-admin", ".env", "CP..1", "select-1-from-2"):
            self.assert_admitted(ask(f"/ocpp/1.6/{name}"), name, V16)
            self.assert_admitted(ask(f"/ocpp/{name}", "ocpp1.6"), name, V16)

    def test_words_inside_a_longer_segment_are_not_suspicious(self):
        for path in ("/administration", "/loginpage", "/from/select"):
            self.assert_refused(ask(path), Reason.UNKNOWN_PATH, 404)

    def test_scanner_is_named_even_without_upgrade(self):
        self.assert_refused(ask("/.env", is_websocket=False), Reason.SUSPICIOUS_PATH, 404)


class IdTests(AdmissionCase):
    def test_identifier_string_characters_are_let_through(self):
        self.assert_admitted(ask("/ocpp/2.1/aZ09*-_=+%7C@."), "aZ09*-_=+|@.", V21)

    def test_case_9_bad_ids_are_malformed(self):
        for name in (
            "a%2Fb",
            "a%2fb",
            "a%00",
            "%",
            "a%4",
            "a%zz",
            "a%FF",
            "%C0%AF",
            "a%0A",
            "a%7F",
            "%2e%2e",
            "A" * 49,
        ):
            for path in (f"/ocpp/2.0.1/{name}", f"/ocpp/1.6/{name}", f"/ocpp/{name}"):
                self.assert_refused(ask(path), Reason.MALFORMED_ID, 400)

    def test_case_9_longest_id_is_counted_after_decoding(self):
        self.assert_admitted(ask("/ocpp/2.1/" + "%41" * 48), "A" * 48, V21)
        self.assert_refused(ask("/ocpp/2.1/" + "%41" * 49), Reason.MALFORMED_ID, 400)

    def test_case_9_colon_is_refused_on_2x_only(self):
        for colon in (":", "%3A"):
            self.assert_admitted(ask(f"/ocpp/1.6/CP{colon}1"), "CP:1", V16)
            self.assert_refused(ask(f"/ocpp/2.0.1/CP{colon}1"), Reason.MALFORMED_ID, 400)
            self.assert_refused(ask(f"/ocpp/CP{colon}1", "ocpp2.1"), Reason.MALFORMED_ID, 400)
            self.assert_admitted(ask(f"/ocpp/CP{colon}1", "ocpp1.6"), "CP:1", V16)

    def test_id_is_decoded_only_once(self):
        percent = AdmissionRules(id_pattern=re.compile(r"[\w%]+"))
        self.assert_admitted(ask("/ocpp/1.6/%2541", rules=percent), "%41", V16)

    def test_configured_pattern_decides_on_the_whole_id(self):
        rules = AdmissionRules(id_pattern=re.compile(r"[\w-]{3,}"))
        self.assert_admitted(ask("/ocpp/1.6/CP-1", rules=rules), "CP-1", V16)
        for name in ("CP", "CP-1.2"):
            self.assert_refused(ask(f"/ocpp/1.6/{name}", rules=rules), Reason.MALFORMED_ID, 400)

    def test_configured_pattern_may_let_spaces_and_letters_of_all_scripts_through(self):
        rules = AdmissionRules(id_pattern=re.compile(r"[\w ]+"))
        self.assert_admitted(ask("/ocpp/2.0.1/RDAM%20123", rules=rules), "RDAM 123", V201)
        self.assert_admitted(ask("/ocpp/1.6/S%C3%BCd", rules=rules), "Süd", V16)

    def test_no_pattern_lets_controls_or_slashes_through(self):
        rules = AdmissionRules(id_pattern=re.compile(r"(?s).*"))
        for name in ("a%2Fb", "a%00", "a%0D%0A", "%E2%80%A8", "%2E%2E"):
            self.assert_refused(ask(f"/ocpp/1.6/{name}", rules=rules), Reason.MALFORMED_ID, 400)


class SubprotocolTests(AdmissionCase):
    def test_case_1_the_offered_spelling_is_echoed(self):
        for offer in ("ocpp1.6", "OCPP1.6", "ocpp1.6J"):
            self.assert_admitted(ask("/ocpp/1.6/CP-001", offer), "CP-001", V16, offer)

    def test_blanks_around_an_offer_are_trimmed(self):
        self.assert_admitted(ask("/ocpp/1.6/CP-001", "", " ocpp1.6\t"), "CP-001", V16, "ocpp1.6")

    def test_case_2_unknown_subprotocol_is_not_served(self):
        for offer in ("ocpp0.1", "ocpp1.5", "ocpp2.0", "ocpp", "chat"):
            for path in ("/ocpp/2.0.1/CP-001", "/ocpp/CP-001"):
                self.assert_refused(ask(path, offer), Reason.SUBPROTOCOL_NOT_SERVED, 400)

    def test_case_3_the_served_one_is_picked(self):
        self.assert_admitted(ask("/ocpp/2.1/CP-001", "ocpp0.1", "ocpp2.1"), "CP-001", V21, "ocpp2.1")

    def test_case_5_no_subprotocol_is_refused(self):
        for offers in ((), ("",), (" ", "\t")):
            answer = admit(HandshakeFacts("/ocpp/2.1/CP-001", offers, "192.0.2.1"), AdmissionRules())
            self.assert_refused(answer, Reason.NO_SUBPROTOCOL, 400)

    def test_case_6_path_and_subprotocol_must_agree(self):
        self.assert_refused(ask("/ocpp/2.0.1/CP-001", "ocpp1.6"), Reason.SUBPROTOCOL_MISMATCH, 400)
        self.assert_refused(ask("/ocpp/1.6/CP-001", "ocpp2.1", "ocpp2.0.1"), Reason.SUBPROTOCOL_MISMATCH, 400)

    def test_an_offer_that_agrees_with_the_path_is_taken_wherever_it_stands(self):
        self.assert_admitted(ask("/ocpp/1.6/CP-001", "ocpp2.1", "ocpp1.6"), "CP-001", V16, "ocpp1.6")

    def test_without_version_in_path_the_first_served_offer_decides(self):
        self.assert_admitted(ask("/ocpp/CP-001", "ocpp2.0", "ocpp2.0.1", "ocpp1.6"), "CP-001", V201, "ocpp2.0.1")
        self.assert_admitted(ask("/ocpp/CP-001", "ocpp1.6", "ocpp2.1"), "CP-001", V16, "ocpp1.6")

    def test_versions_that_are_switched_off_are_not_served(self):
        rules = AdmissionRules(versions=(V16,))
        self.assert_refused(ask("/ocpp/2.1/CP-001", "ocpp2.1", rules=rules), Reason.SUBPROTOCOL_NOT_SERVED, 400)
        self.assert_admitted(ask("/ocpp/CP-001", "ocpp2.1", "ocpp1.6", rules=rules), "CP-001", V16)


class RepairTests(AdmissionCase):
    """Handshakes of stations that are known to bend the rules, and the same of others."""

    def ask(self, path, *offers, repairs=("url-spelling", "subprotocol-spelling", "no-subprotocol"), **more):
        rules = AdmissionRules(repairs_of=lambda name: repairs if name.startswith("BENT") else (), **more)
        return admit(HandshakeFacts(path, offers, "192.0.2.1"), rules)

    def test_urls_that_say_too_much(self):
        for path in (
            "/ocpp/1.6//BENT-1",
            "//ocpp//1.6///BENT-1",
            "/ocpp/1.6/BENT-1/",
            "/ocpp/1.6/BENT-1/BENT-1",
            "/ocpp/BENT-1/BENT-1//BENT-1?x=1",
        ):
            answer = self.ask(path, "ocpp1.6")
            self.assert_admitted(answer, "BENT-1", V16, "ocpp1.6")
            self.assertEqual(answer.repairs, ("url-spelling",), path)
            self.assert_refused(self.ask(path.replace("BENT", "CP"), "ocpp1.6"), Reason.UNKNOWN_PATH, 404)
            self.assert_refused(self.ask(path, "ocpp1.6", repairs=("no-subprotocol",)), Reason.UNKNOWN_PATH, 404)

    def test_urls_that_stay_wrong(self):
        for path in ("1.6/BENT-1/more", "9.9//BENT-1", "BENT-1/x", "1.6//", "", "/", "../1.6//BENT-1"):
            self.assertIsInstance(self.ask(f"/ocpp/{path}", "ocpp1.6"), Refused, path)
            self.assertIsInstance(self.ask(f"/{path}", "ocpp1.6"), Refused, path)
        self.assert_refused(self.ask("/wp-admin//BENT-1", "ocpp1.6"), Reason.SUSPICIOUS_PATH, 404)

    def test_a_url_that_is_right_is_never_changed(self):
        answer = self.ask("/BENT-2/ocpp/1.6/1.6", "ocpp1.6")
        self.assert_admitted(answer, "1.6", V16, "ocpp1.6")
        self.assertEqual(answer.repairs, ())

    def test_misspelt_subprotocols_are_echoed_as_they_are(self):
        for offer, version in (("ocpp16", V16), ("OCPP-1.6J", V16), ("ocpp 2.0.1", V201), ("2.1", V21)):
            answer = self.ask("/ocpp/BENT-1", "mqtt", offer)
            self.assert_admitted(answer, "BENT-1", version, offer)
            self.assertEqual(answer.repairs, ("subprotocol-spelling",))
            self.assert_refused(self.ask("/ocpp/CP-1", "mqtt", offer), Reason.SUBPROTOCOL_NOT_SERVED, 400)
        self.assert_refused(self.ask("/ocpp/1.6/BENT-1", "ocpp21"), Reason.SUBPROTOCOL_NOT_SERVED, 400)
        self.assert_refused(self.ask("/ocpp/1.6/BENT-1", "ocpp1.5"), Reason.SUBPROTOCOL_NOT_SERVED, 400)
        self.assert_refused(self.ask("/ocpp/BENT-1", "ocpp21", versions=(V16,)), Reason.SUBPROTOCOL_NOT_SERVED, 400)

    def test_without_a_subprotocol_the_url_says_the_version(self):
        answer = self.ask("/ocpp/2.0.1/BENT-1")
        self.assert_admitted(answer, "BENT-1", V201)
        self.assertEqual((answer.subprotocol, answer.repairs), ("", ("no-subprotocol",)))
        self.assert_refused(self.ask("/ocpp/2.0.1/CP-1"), Reason.NO_SUBPROTOCOL, 400)
        self.assert_refused(self.ask("/ocpp/BENT-1"), Reason.NO_SUBPROTOCOL, 400)
        self.assert_refused(self.ask("/ocpp/2.0.1/BENT-1", versions=(V16,)), Reason.NO_SUBPROTOCOL, 400)

    def test_several_repairs_of_one_handshake(self):
        answer = self.ask("//ocpp/2.1//BENT-1/BENT-1")
        self.assert_admitted(answer, "BENT-1", V21)
        self.assertEqual(answer.repairs, ("url-spelling", "no-subprotocol"))

    def test_the_rules_of_ids_hold_all_the_same(self):
        for path in ("/ocpp/1.6//BENT%00", "/ocpp/1.6//BENT" + "x" * 60, "/ocpp/1.6//BENT%2F"):
            self.assertIsInstance(self.ask(path, "ocpp1.6"), Refused, path)
        self.assert_refused(self.ask("/ocpp/2.1//BENT:1", "ocpp2.1"), Reason.MALFORMED_ID, 400)

    @given(st.text(alphabet="/.%ocp126BENT-", max_size=60), st.lists(st.text(alphabet="ocp1.620 ,-", max_size=10)))
    def test_whatever_is_asked_is_answered(self, path, offers):
        for start in ("", "/ocpp/1.6/", "/ocpp/"):
            self.assertIsInstance(self.ask(start + path, *offers), Admitted | Refused)

    def test_a_path_of_slashes_costs_little(self):
        before = thread_time()
        for path in ("/" * 8000, "/a" * 4000, "/ocpp/1.6" + "/BENT" * 1600):
            self.assert_refused(self.ask(path, "ocpp1.6"), Reason.UNKNOWN_PATH, 404)
        self.assertLess(thread_time() - before, 0.5)


class AddressTests(AdmissionCase):
    def test_listed_addresses_and_networks_are_let_in(self):
        for entry, peer in (
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::/32", "2001:db8::7"),
            ("fe80::/10", "fe80::1%eth0"),
        ):
            rules = AdmissionRules(allowed=(parse_network(entry),))
            self.assert_admitted(ask("/ocpp/1.6/CP-001", rules=rules, peer_ip=peer), "CP-001", V16)

    def test_all_others_are_refused(self):
        rules = AdmissionRules(allowed=(parse_network("10.0.0.0/8"), parse_network("2001:db8::/32")))
        for peer in ("11.0.0.1", "::ffff:11.0.0.1", "2001:db9::1", "::a01:203", "", "not an address"):
            self.assert_refused(ask("/ocpp/1.6/CP-001", rules=rules, peer_ip=peer), Reason.ADDRESS_NOT_ALLOWED, 403)

    def test_strangers_learn_nothing_about_paths(self):
        rules = AdmissionRules(allowed=(parse_network("10.0.0.0/8"),))
        for path in ("/nowhere", "/ocpp/1.6/%00", "/ocpp/1.6/CP-001"):
            self.assert_refused(ask(path, "chat", rules=rules), Reason.ADDRESS_NOT_ALLOWED, 403)

    def test_a_network_with_host_bits_names_the_mend(self):
        error = self.assertRaises(ValueError, parse_network, "10.0.0.7/8")
        self.assertIn("10.0.0.0/8", str(error))
        self.assertIn("neither", str(self.assertRaises(ValueError, parse_network, "ten")))

    def test_no_list_allows_every_peer(self):
        self.assertTrue(is_allowed("not an address", ()))


class StationRecordTests(AdmissionCase):
    def record(self, **members):
        return Identity("CP-001", "station-1", "tenant-1", Auth(type="basic"), **members)

    def test_unrestricted_station_is_let_in(self):
        self.assertIsNone(admit_identity(self.record(), V16, "192.0.2.1"))

    def test_disabled_station_is_refused(self):
        answer = admit_identity(self.record(status="disabled"), V16, "192.0.2.1")
        self.assert_refused(answer, Reason.IDENTITY_DISABLED, 403)

    def test_station_is_bound_to_its_addresses(self):
        record = self.record(allowed_networks=(parse_network("10.0.0.0/8"),))
        self.assertIsNone(admit_identity(record, V16, "::ffff:10.0.0.9"))
        answer = admit_identity(record, V16, "192.0.2.1")
        self.assert_refused(answer, Reason.ADDRESS_NOT_ALLOWED_FOR_STATION, 403)

    def test_station_is_bound_to_its_protocols(self):
        record = self.record(allowed_protocols=("1.6J",))
        self.assertIsNone(admit_identity(record, V16, "192.0.2.1"))
        self.assert_refused(admit_identity(record, V201, "192.0.2.1"), Reason.PROTOCOL_NOT_ALLOWED, 403)


class AnswerTests(AdmissionCase):
    def test_case_10_plain_get_is_told_to_upgrade(self):
        for path in ("/", "/ocpp/1.6/CP-001"):
            answer = ask(path, is_websocket=False)
            self.assert_refused(answer, Reason.NOT_WEBSOCKET, 426)
            self.assertEqual(answer.headers, (("Upgrade", "websocket"),))

    def test_credentials_are_asked_for_with_a_challenge(self):
        for reason in (Reason.CREDENTIALS_MISSING, Reason.CREDENTIALS_WRONG):
            answer = Refused(reason)
            self.assertEqual(answer.status, 401)
            self.assertEqual(answer.headers, (("WWW-Authenticate", 'Basic realm="ocpp", charset="UTF-8"'),))

    def test_passing_conditions_say_when_to_come_back(self):
        for reason in Reason:
            names = [name for name, _ in Refused(reason).headers]
            self.assertEqual("Retry-After" in names, reason.status in {429, 503}, reason)
        self.assertEqual(Refused(Reason.DRAINING, retry_after=7).headers, (("Retry-After", "7"),))

    def test_every_reason_has_its_own_code_a_safe_phrase_and_a_remedy(self):
        self.assertEqual(len({reason.code for reason in Reason}), len(Reason))
        for reason in Reason:
            self.assertRegex(reason.code, r"\A([A-Z][a-z]+)+\Z")
            self.assertRegex(reason.text, r"\A[A-Za-z][A-Za-z0-9 -]+\Z" if reason.status else r"\A\Z")
            self.assertRegex(reason.remedy, r"\A[^\n]{20,120}\.\Z")
            self.assertIn(reason.status, {0, 400, 401, 403, 404, 409, 426, 429, 503})

    def test_nothing_the_peer_sent_is_in_the_answer(self):
        for path in ("/MARK", "/.env/MARK", "/ocpp/1.6/MARK%00", "/ocpp/1.6/MARK MARK", "/ocpp/2.1/MARK"):
            answer = ask(path, "ocppMARK")
            self.assertNotIn("MARK", f"{answer.text} {answer.detail} {answer.headers}")


class AnyRequestTests(AdmissionCase):
    @given(st.text(ID_CHARACTERS, min_size=1, max_size=48).filter(lambda name: name not in {".", ".."}))
    def test_every_id_survives_percent_encoding(self, name):
        self.assert_admitted(ask(f"/ocpp/2.0.1/{quote(name, safe='')}"), name, V201)
        self.assert_admitted(ask("/ocpp/2.0.1/" + "".join(f"%{ord(c):02x}" for c in name)), name, V201)

    @given(st.text(), st.lists(st.text(), max_size=4), st.text(), st.booleans())
    def test_no_request_makes_it_raise(self, path, offers, peer_ip, is_websocket):
        rules = AdmissionRules(allowed=(parse_network("10.0.0.0/8"),))
        for prefix in ("", "/ocpp/", "/ocpp/1.6/"):
            answer = admit(HandshakeFacts(prefix + path, offers, peer_ip, is_websocket), rules)
            self.assertIsInstance(answer, Admitted | Refused)

    @given(
        st.lists(st.sampled_from(["/", "ocpp", "1.6", "%", "%2F", "%00", "..", ".", "é", "CP", ":", "?", "#", "2.1"]))
    )
    def test_what_is_admitted_is_a_legal_id(self, parts):
        answer = ask("/" + "".join(parts))
        if isinstance(answer, Admitted):
            self.assertRegex(answer.charge_point_id, r"\A[A-Za-z0-9*_=:+|@.-]{1,48}\Z")
            self.assertNotIn(answer.charge_point_id, {".", ".."})

    @settings(max_examples=5)
    @given(st.sampled_from(["/", "%", "select", "/..", "/ocpp/1.6/" + "%41", "a:", ".env", "/ocpp/1.6"]))
    def test_long_paths_are_cheap(self, part):
        path = ("/" + part * 8192)[:8192]
        began = thread_time()  # whatever else the machine does
        for _ in range(20):
            ask(path)
        self.assertLess(thread_time() - began, 2.0)

"""Certificates bound to a station: any one criterion, inside its window, not revoked, for this id."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.bindings import Binding, find_binding, is_subject
from ocppgw.access.certificates import ClientCertificate, normal_fingerprint, normal_serial
from ocppgw.access.refusals import Reason, Refused

NOW = 1_800_000_000.0
DAY = 86_400.0
FINGERPRINT = "AB" * 32
CERTIFICATE = ClientCertificate(
    fingerprint=FINGERPRINT,
    subject="CN=CP-001,O=Operator\\, Ltd",
    common_name="CP-001",
    organizations=("Operator, Ltd",),
    names=("DNS:cp-001.example", "URI:urn:cp:001"),
    serial_number="A1B2",
    issuer="CN=Issuing CA",
    not_before=NOW - DAY,
    not_after=NOW + DAY,
)


def found(*bindings, charge_point_id="CP-001", now=NOW, certificate=CERTIFICATE):
    return find_binding(bindings, certificate, charge_point_id, now)


class CriteriaTests(SynchronousTestCase):
    def test_any_one_criterion_is_enough(self):
        for binding in (
            Binding(fingerprint=FINGERPRINT),
            Binding(subject="CP-001"),
            Binding(subject="CN=CP-001"),
            Binding(names=("DNS:CP-001.Example",)),
            Binding(names=("DNS:other.example", "URI:urn:cp:001")),
            Binding(serial_number="A1B2"),
            Binding(fingerprint="CD" * 32, serial_number="A1B2"),
        ):
            self.assertIs(found(binding), binding)

    def test_what_is_almost_the_same_matches_nothing(self):
        for binding in (
            Binding(fingerprint="AB" * 31 + "AC"),
            Binding(subject="cp-001"),
            Binding(subject="CN=CP-001,O=Operator"),
            Binding(subject="O=CP-001"),
            Binding(names=("DNS:cp-001.example.org",)),
            Binding(names=("URI:urn:CP:001",)),
            Binding(names=("IP:cp-001.example",)),
            Binding(serial_number="A1B"),
            Binding(),
        ):
            refused = found(binding)
            self.assertIsInstance(refused, Refused, binding)
            self.assertIs(refused.reason, Reason.CERTIFICATE_MISMATCH)

    def test_a_whole_name_may_be_written_in_either_order_and_notation(self):
        for written in (
            "CN=CP-001,O=Operator\\, Ltd",
            "O = Operator\\, Ltd, CN = CP-001",
            "/O=Operator, Ltd/CN=CP-001",
        ):
            self.assertTrue(is_subject(written, CERTIFICATE), written)

    def test_an_empty_common_name_is_nobodys(self):
        nameless = replace(CERTIFICATE, common_name="", subject="O=Operator")
        for written in ("", "  ", "CN=", "=", ","):
            self.assertFalse(is_subject(written, nameless), written)

    @given(st.text(max_size=60))
    def test_no_spelling_makes_it_raise(self, written):
        self.assertIsInstance(is_subject(written, CERTIFICATE), bool)


class WindowTests(SynchronousTestCase):
    def test_the_window_has_two_ends(self):
        binding = Binding(subject="CP-001", valid_from=NOW, valid_to=NOW + DAY)
        self.assertIs(found(binding), binding)
        self.assertIs(found(binding, now=NOW + DAY), binding)
        self.assertIs(found(binding, now=NOW - 1).reason, Reason.CERTIFICATE_BINDING_NOT_YET)
        self.assertIs(found(binding, now=NOW + DAY + 1).reason, Reason.CERTIFICATE_BINDING_OVER)

    def test_overlapping_windows_rotate_without_a_gap(self):
        old = Binding(fingerprint="CD" * 32, valid_to=NOW + DAY)
        new = Binding(fingerprint=FINGERPRINT, valid_from=NOW - DAY)
        before = replace(CERTIFICATE, fingerprint="CD" * 32, serial_number="1")
        self.assertIs(found(old, new), new)
        self.assertIs(found(old, new, certificate=before), old)

    def test_the_fault_of_a_matching_binding_is_told_not_the_mismatch_of_another(self):
        over = Binding(fingerprint=FINGERPRINT, valid_to=NOW - 1)
        refused = found(Binding(subject="CP-002"), over)
        self.assertIs(refused.reason, Reason.CERTIFICATE_BINDING_OVER)
        self.assertIn("binding 2", refused.detail)


class RevokedTests(SynchronousTestCase):
    def test_a_revoked_binding_lets_nobody_in(self):
        self.assertIs(found(Binding(subject="CP-001", revoked=True)).reason, Reason.CERTIFICATE_BINDING_REVOKED)

    def test_a_revoked_certificate_is_not_brought_back_by_a_binding_of_its_subject(self):
        refused = found(Binding(subject="CP-001"), Binding(fingerprint=FINGERPRINT, revoked=True))
        self.assertIs(refused.reason, Reason.CERTIFICATE_BINDING_REVOKED)

    def test_a_revoked_predecessor_with_the_same_subject_does_not_keep_the_new_one_out(self):
        new = Binding(fingerprint=FINGERPRINT)
        self.assertIs(found(Binding(fingerprint="CD" * 32, subject="CP-001", revoked=True), new), new)

    def test_a_binding_for_another_station_does_not_count(self):
        refused = found(Binding(subject="CP-001", charge_point_id="CP-002"))
        self.assertIs(refused.reason, Reason.CERTIFICATE_OF_ANOTHER_STATION)


class SpellingTests(SynchronousTestCase):
    def test_fingerprints_are_read_as_openssl_prints_them(self):
        for text in (
            ":".join(["ab"] * 32),
            "ab" * 32,
            f"sha256 Fingerprint={':'.join(['AB'] * 32)}",
            f" {'AB' * 32}\n",
        ):
            self.assertEqual(normal_fingerprint(text), FINGERPRINT)
        for text in ("", "AB" * 20, "AB" * 31 + "A", "ZZ" * 32):
            with self.assertRaises(ValueError):
                normal_fingerprint(text)

    def test_serial_numbers_are_read_as_people_write_them(self):
        for text in ("a1b2", "A1:B2", "0xA1B2", "00a1b2"):
            self.assertEqual(normal_serial(text), "A1B2")
        self.assertEqual((normal_serial("0"), normal_serial("serial")), ("0", ""))

"""CRLs: what is refused when they are read, and whom they keep out afterwards."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.certificates import ClientCertificate, read_certificate
from ocppgw.net.tls import CrlRules, Crls, TlsMaterialError, load
from ocppgw.net.tls.crl import Crl
from tests.build_tls import Pki
from tests.make_certificates import DAY, NOW, crl_pem, make_ca, make_crl, make_station


def point(**members):
    """An IssuingDistributionPoint with these members set."""
    names = ("full_name", "relative_name", "only_contains_user_certs", "only_contains_ca_certs", "only_some_reasons")
    names += ("indirect_crl", "only_contains_attribute_certs")
    values = {name: None if name in ("full_name", "relative_name", "only_some_reasons") else False for name in names}
    return x509.IssuingDistributionPoint(**{**values, **members}), True


def facts(made, chain=True):
    """As a handshake reads it; without the chain as a resumed session does."""
    above = [one.public_bytes(Encoding.DER) for one in made.above] if chain else []
    return read_certificate(made.certificate.public_bytes(Encoding.DER), above)


class CrlCase(SynchronousTestCase):
    def setUp(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        self.pki = Pki(folder, NOW)
        self.station = make_station(self.pki.issuing, "CP-001")
        self.other = make_station(self.pki.other_issuing, "CP-002")

    def load(self, *crls, now=NOW, **changes):
        path = self.pki.write("crl.pem", crl_pem(*crls))
        rules = {"crl_check": "leaf", "crl_paths": (path,), **changes}
        return load(self.pki.files(**rules), now)

    def crls(self, *crls, **changes):
        return self.load(*crls, **changes).crls

    def kind(self, crls, made, now=NOW, chain=True):
        fault = crls.fault(facts(made, chain), now)
        return fault and fault.kind


class LeafTests(CrlCase):
    def test_certificate_in_its_issuers_crl_is_revoked(self):
        crls = self.crls(make_crl(self.pki.issuing, [self.station]))
        fault = crls.fault(facts(self.station), NOW)
        self.assertEqual(fault.kind, "revoked")
        serial = f"{self.station.certificate.serial_number:X}"
        self.assertEqual(fault.detail, f"serial number {serial} is in the CRL of O=Operator,CN=Issuing")

    def test_certificate_that_is_not_in_it_passes(self):
        crls = self.crls(make_crl(self.pki.issuing, [self.station]))
        self.assertIsNone(crls.fault(facts(make_station(self.pki.issuing, "CP-003")), NOW))

    def test_same_serial_number_of_another_issuer_passes(self):
        crls = self.crls(make_crl(self.pki.issuing, [self.other]), make_crl(self.pki.other_issuing))
        self.assertIsNone(crls.fault(facts(self.other), NOW))

    def test_issuer_without_a_crl_is_a_fault_unless_accepted(self):
        crls = (make_crl(self.pki.issuing),)
        self.assertEqual(self.kind(self.crls(*crls), self.other), "missing")
        self.assertIsNone(self.kind(self.crls(*crls, crl_missing="accept"), self.other))

    def test_crl_out_of_date_is_a_fault_unless_accepted(self):
        crls = (make_crl(self.pki.issuing, days=7),)
        later = NOW + 8 * DAY
        self.assertIsNone(self.kind(self.crls(*crls), self.station, NOW + 6 * DAY))
        self.assertEqual(self.kind(self.crls(*crls), self.station, later), "expired")
        self.assertIsNone(self.kind(self.crls(*crls, crl_expired="accept"), self.station, later))

    def test_crl_out_of_date_still_revokes(self):
        crls = self.crls(make_crl(self.pki.issuing, [self.station], days=7), crl_expired="accept")
        self.assertEqual(self.kind(crls, self.station, NOW + 8 * DAY), "revoked")

    def test_crl_that_is_not_valid_yet_counts_as_out_of_date(self):
        crls = self.crls(make_crl(self.pki.issuing))
        self.assertEqual(self.kind(crls, self.station, NOW - DAY), "expired")

    def test_chain_above_the_leaf_is_not_looked_at(self):
        crls = self.crls(make_crl(self.pki.issuing), make_crl(self.pki.root, [self.pki.issuing]))
        self.assertIsNone(self.kind(crls, self.station))

    def test_nothing_is_looked_at_when_checking_is_off(self):
        crls = self.crls(make_crl(self.pki.issuing, [self.station], days=-1), crl_check="none")
        self.assertIsNone(self.kind(crls, self.station))


class ChainTests(CrlCase):
    def chain(self, *crls, **changes):
        return self.crls(*crls, crl_check="chain", **changes)

    def test_every_link_is_looked_up(self):
        crls = self.chain(make_crl(self.pki.issuing), make_crl(self.pki.root, [self.pki.issuing]))
        self.assertEqual(self.kind(crls, self.station), "revoked")

    def test_good_chain_passes(self):
        crls = self.chain(make_crl(self.pki.issuing), make_crl(self.pki.root, [self.pki.other_issuing]))
        self.assertIsNone(self.kind(crls, self.station))

    def test_crl_of_the_root_is_wanted_too(self):
        crls = (make_crl(self.pki.issuing),)
        self.assertEqual(self.kind(self.chain(*crls), self.station), "missing")
        self.assertIsNone(self.kind(self.chain(*crls, crl_missing="accept"), self.station))

    def test_crl_of_the_root_out_of_date_is_a_fault(self):
        crls = self.chain(make_crl(self.pki.issuing), make_crl(self.pki.root, days=-1))
        self.assertEqual(self.kind(crls, self.station), "expired")

    def test_revoked_goes_before_a_crl_out_of_date(self):
        crls = self.chain(make_crl(self.pki.issuing, days=-1), make_crl(self.pki.root, [self.pki.issuing]))
        self.assertEqual(self.kind(crls, self.station), "revoked")

    def test_of_a_chain_that_is_not_known_the_leaf_is_looked_up(self):
        crls = self.chain(make_crl(self.pki.issuing, [self.station]))
        self.assertEqual(self.kind(crls, self.station, chain=False), "revoked")
        self.assertIsNone(self.kind(crls, make_station(self.pki.issuing, "CP-003"), chain=False))


class SeveralTests(CrlCase):
    def test_pem_may_hold_several_and_text_between(self):
        pem = b"text\n" + crl_pem(make_crl(self.pki.issuing)) + b"more\n" + crl_pem(make_crl(self.pki.other_issuing))
        path = self.pki.write("two.pem", pem)
        material = self.load(crl_paths=(path,))
        self.assertEqual(len(material.revocation_lists), 2)

    def test_der_is_read(self):
        path = self.pki.write("crl.der", make_crl(self.pki.issuing, [self.station]).public_bytes(Encoding.DER))
        self.assertEqual(self.kind(self.crls(crl_paths=(path,)), self.station), "revoked")

    def test_newest_of_one_issuer_counts(self):
        old, new = make_crl(self.pki.issuing, [self.station], days=7), make_crl(self.pki.issuing, now=NOW + 60)
        for crls in ((old, new), (new, old)):
            self.assertIsNone(self.kind(self.crls(*crls), self.station, NOW + 90))

    def test_crls_of_an_old_and_a_new_key_of_the_issuer_are_looked_up_together(self):
        renewed = make_ca("Issuing", self.pki.root, label="renewed")
        self.pki.write_authorities(self.pki.root, self.pki.issuing, renewed)
        newer = make_station(renewed, "CP-003")
        crls = self.crls(make_crl(self.pki.issuing, [self.station]), make_crl(renewed, [newer], now=NOW + 60))
        self.assertEqual(self.kind(crls, self.station, NOW + 90), "revoked")
        self.assertEqual(self.kind(crls, newer, NOW + 90), "revoked")

    def test_parts_by_distribution_point_are_looked_up_together(self):
        parts = [
            make_crl(self.pki.issuing, revoked, extensions=[point(full_name=[x509.UniformResourceIdentifier(name)])])
            for name, revoked in (("http://ca/1", [self.station]), ("http://ca/2", []))
        ]
        self.assertEqual(self.kind(self.crls(*parts), self.station), "revoked")

    def test_crl_about_leaves_and_one_about_cas_are_told_apart(self):
        leaves = make_crl(self.pki.root, [self.pki.issuing], extensions=[point(only_contains_user_certs=True)])
        authorities = make_crl(self.pki.root, extensions=[point(only_contains_ca_certs=True)])
        issuing = make_crl(self.pki.issuing)
        self.assertIsNone(self.kind(self.crls(leaves, authorities, issuing, crl_check="chain"), self.station))
        crls = self.crls(leaves, issuing, crl_check="chain")
        self.assertEqual(self.kind(crls, self.station), "missing")


class RefusedTests(CrlCase):
    def assert_refused(self, *words, crl=None, **changes):
        error = self.assertRaises(TlsMaterialError, self.load, *([] if crl is None else [crl]), **changes)
        self.assertEqual(len(error.problems), 1, error.problems)
        for word in words:
            self.assertIn(word, error.problems[0])

    def test_crl_of_an_issuer_that_is_not_in_the_bundle(self):
        self.assert_refused("O=Operator,CN=Other root", "not in tls.ca_path", crl=make_crl(make_ca("Other root")))

    def test_crl_with_a_forged_signature(self):
        impostor = make_ca("Issuing", label="impostor")
        self.assert_refused("crl.pem", "wrong signature", crl=make_crl(impostor))

    def test_crl_of_a_ca_that_may_not_sign_crls(self):
        unfit = make_ca("Unfit", self.pki.root, crl_sign=False)
        self.pki.write_authorities(self.pki.root, unfit)
        self.assert_refused("cRLSign", crl=make_crl(unfit))

    def test_delta_crl(self):
        delta = make_crl(self.pki.issuing, extensions=[(x509.DeltaCRLIndicator(3), True)])
        self.assert_refused("delta CRL", "complete CRL", crl=delta)

    def test_indirect_crl(self):
        self.assert_refused("indirect CRL", crl=make_crl(self.pki.issuing, extensions=[point(indirect_crl=True)]))

    def test_crl_for_some_reasons_only(self):
        reasons = frozenset([x509.ReasonFlags.key_compromise])
        partial = make_crl(self.pki.issuing, extensions=[point(only_some_reasons=reasons)])
        self.assert_refused("covers a part only", crl=partial)

    def test_crl_with_a_critical_extension_that_is_not_known(self):
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        self.assert_refused("1.3.6.1.4.1.99999.1", crl=make_crl(self.pki.issuing, extensions=[(unknown, True)]))

    def test_file_without_a_crl(self):
        path = self.pki.write("not.crl", self.pki.ec.chain_pem)
        self.assert_refused("not.crl", "holds no CRL", crl_paths=(path,))

    def test_damaged_crl(self):
        pem = crl_pem(make_crl(self.pki.issuing))
        path = self.pki.write("damaged.crl", pem.replace(pem.splitlines()[2], pem.splitlines()[1]))
        self.assert_refused("damaged.crl", crl_paths=(path,))

    def test_crl_out_of_date_is_read_with_a_warning(self):
        material = self.load(make_crl(self.pki.issuing, days=-1))
        self.assertEqual(len(material.warnings), 1)
        self.assertIn("out of date since", material.warnings[0])

    def test_crl_of_the_future_is_read_with_a_warning(self):
        material = self.load(make_crl(self.pki.issuing, now=NOW + DAY))
        self.assertIn("valid from", material.warnings[0])


class LookUpTests(SynchronousTestCase):
    def test_look_up_takes_as_long_for_a_million_entries_as_for_none(self):
        """No timing: a set is asked once, and the number is not searched for."""
        asked = []

        class Serials(frozenset):
            def __contains__(self, number):
                asked.append(number)
                return super().__contains__(number)

            def __iter__(self):
                raise AssertionError("searched")

        crl = Crl("CN=CA", (b"", ""), "all", NOW - 1, NOW + 1, Serials(range(1_000_000)), Path("crl.pem"))
        crls = Crls([crl], CrlRules("leaf"))
        certificate = ClientCertificate("A" * 64, "CN=x", "x", (), (), "F4241", "CN=CA", 0, 9e9)
        self.assertIsNone(crls.fault(certificate, NOW))
        self.assertEqual(asked, [0xF4241])

    def test_names_of_issuers_cannot_break_log_lines(self):
        certificate = ClientCertificate("A" * 64, "CN=x", "x", (), (), "1", "CN=a\nfake line", 0, 9e9)
        fault = Crls([], CrlRules("leaf")).fault(certificate, NOW)
        self.assertEqual(fault.detail, "there is no CRL of CN=a?fake line")

    def test_crl_without_next_update_is_never_out_of_date(self):
        crl = Crl("CN=CA", (b"", ""), "all", NOW - 1, float("inf"), frozenset(), Path("crl.pem"))
        certificate = ClientCertificate("A" * 64, "CN=x", "x", (), (), "1", "CN=CA", 0, 9e9)
        self.assertIsNone(Crls([crl], CrlRules("leaf")).fault(certificate, NOW + 1e9))

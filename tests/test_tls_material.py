"""Certificates, keys and CAs are read and checked as a whole; what is wrong is said with its file and its mend."""

import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.tls import TlsMaterialError, load
from ocppgw.net.tls.credentials import covers
from tests.build_tls import Pki
from tests.make_certificates import DAY, NOW, crl_pem, key, make_ca, make_crl, make_server, make_station


class MaterialCase(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.pki = Pki(self.folder, NOW)

    def load(self, now=NOW, **changes):
        return load(self.pki.files(**changes), now)

    def problems(self, now=NOW, **changes):
        error = self.assertRaises(TlsMaterialError, self.load, now, **changes)
        self.assertEqual(error.code, "TlsMaterialInvalid")
        return error.problems

    def assert_problem(self, *words, **changes):
        """Exactly one problem, with these words in it."""
        problems = self.problems(**changes)
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])

    def assert_warning(self, *words, **changes):
        warnings = self.load(**changes).warnings
        self.assertEqual(len(warnings), 1, warnings)
        for word in words:
            self.assertIn(word, warnings[0])

    def only(self, made, *parts):
        """The one server certificate of a gateway: written to server.pem (with its key, or with these parts)."""
        path = self.pki.write("server.pem", *(parts or (made.pem,)))
        return {"cert_paths": (path,)}


class ServerCertificateTests(MaterialCase):
    def test_good_material_has_neither_problems_nor_warnings(self):
        material = self.load()
        self.assertEqual(material.warnings, ())
        self.assertEqual([one.kind for one in material.names[""]], ["RSA", "EC"])

    def test_status_names_each_certificate(self):
        material = self.load(sni={"OCPP.example.com": (self.folder / "ec.pem",)})
        first, _, third = material.certificates
        self.assertEqual(first.subject, "O=Operator,CN=localhost")
        self.assertEqual((first.name, first.names, first.key_type), ("", ("localhost",), "RSA"))
        self.assertEqual(first.not_after, NOW + 90 * DAY)
        self.assertEqual(first.path, str(self.folder / "rsa.pem"))
        self.assertEqual(third.name, "ocpp.example.com")

    def test_keys_may_be_in_files_of_their_own(self):
        for made, name in ((self.pki.rsa, "a"), (self.pki.ec, "b")):
            self.pki.write(f"{name}.pem", made.chain_pem)
            self.pki.write(f"{name}.key", made.key_pem)
        certificates = (self.folder / "a.pem", self.folder / "b.pem")
        material = self.load(cert_paths=certificates, key_paths=(self.folder / "a.key", self.folder / "b.key"))
        self.assertEqual(len(material.certificates), 2)

    def test_all_key_formats_are_read(self):
        for kind, made in (("EC", self.pki.ec), ("RSA", self.pki.rsa)):
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
                with self.subTest(kind=kind, form=str(form)):
                    pem = made.key.private_bytes(Encoding.PEM, form, NoEncryption())
                    material = self.load(**self.only(made, b"some text\n", pem, b"more\n", made.chain_pem))
                    self.assertEqual(material.names[""][0].kind, kind)

    def test_key_that_openssl_wrote_with_parameters_is_read(self):
        made = make_server(self.pki.issuing, "localhost", label="by openssl")
        parameters = subprocess.run(
            ["openssl", "ecparam", "-name", "prime256v1"], capture_output=True, check=True
        ).stdout
        sec1 = made.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        self.assertEqual(len(self.load(**self.only(made, parameters, sec1, made.chain_pem)).certificates), 1)

    def test_encrypted_key_is_refused_with_the_way_to_decrypt_it(self):
        encrypted = self.pki.ec.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        changes = self.only(None, encrypted, self.pki.ec.chain_pem)
        self.assert_problem("server.pem", "encrypted", "openssl pkey -in", **changes)

    def test_key_that_others_can_read_is_a_warning(self):
        changes = self.only(self.pki.ec)
        (self.folder / "server.pem").chmod(0o640)
        self.assert_warning("server.pem", "chmod 600", **changes)

    def test_key_of_another_certificate_is_refused(self):
        changes = self.only(None, key("ec", "another").private_bytes(*_PKCS8), self.pki.ec.chain_pem)
        self.assert_problem("server.pem", "no key for the certificate O=Operator,CN=localhost", **changes)

    def test_weak_rsa_key_is_refused(self):
        weak = make_server(self.pki.issuing, "localhost", kind="rsa1024")
        self.assert_problem("server.pem", "1024 bits", "2048", **self.only(weak))

    def test_key_that_is_neither_rsa_nor_ec_is_refused(self):
        other = ed25519.Ed25519PrivateKey.generate().private_bytes(*_PKCS8)
        self.assert_problem("server.pem", "neither RSA nor EC", **self.only(None, other, self.pki.ec.chain_pem))

    def test_damaged_key_is_refused_and_not_shown(self):
        damaged = self.pki.ec.key_pem.replace(b"M", b"A", 3)
        problems = self.problems(**self.only(None, damaged, self.pki.ec.chain_pem))
        self.assertIn("the key can't be parsed", problems[0])
        self.assertNotIn(damaged.splitlines()[1].decode(), "".join(problems))

    def test_file_without_key_or_certificate_says_so(self):
        self.assert_problem("server.pem", "no private key", **self.only(None, self.pki.ec.chain_pem))
        self.assert_problem("server.pem", "no certificate", **self.only(None, self.pki.ec.key_pem))

    def test_certificate_in_der_is_refused_with_the_way_to_convert_it(self):
        der = self.pki.ec.certificate.public_bytes(Encoding.DER)
        path = self.pki.write("server.der", der)
        changes = {"cert_paths": (path,), "key_paths": (self.pki.write("server.key", self.pki.ec.key_pem),)}
        self.assert_problem("server.der", "openssl x509 -inform DER", **changes)

    def test_damaged_certificate_is_refused(self):
        damaged = self.pki.ec.chain_pem.replace(b"MII", b"MIA", 1)
        problems = self.problems(**self.only(None, self.pki.ec.key_pem, damaged))
        self.assertIn("certificate 1 can't be parsed", problems[0])

    def test_missing_unreadable_and_empty_files_say_so(self):
        self.assert_problem("gone.pem", "No such file", cert_paths=(self.folder / "gone.pem",))
        self.assert_problem("Is a directory", cert_paths=(self.folder,))
        self.assert_problem("empty.pem", "is empty", cert_paths=(self.pki.write("empty.pem"),))

    def test_certificate_that_has_ended_is_refused(self):
        self.assert_problem("server.pem", "ended on", now=NOW + 91 * DAY, **self.only(self.pki.ec))

    def test_certificate_that_has_not_begun_is_refused(self):
        early = make_server(self.pki.issuing, "localhost", label="server", begins=NOW + DAY)
        self.assert_problem("server.pem", "valid from", "check the clock", **self.only(early))

    def test_certificate_that_ends_within_two_weeks_is_a_warning(self):
        self.assertEqual(self.load(NOW + 75 * DAY, **self.only(self.pki.ec)).warnings, ())
        self.assert_warning("server.pem", "ends on", now=NOW + 77 * DAY, **self.only(self.pki.ec))

    def test_intermediate_that_has_ended_is_refused(self):
        issuing = make_ca("Short", self.pki.root, days=10)
        changes = self.only(make_server(issuing, "localhost", label="server"))
        self.assert_problem("certificate 2 of the chain", "ended on", now=NOW + 11 * DAY, **changes)

    def test_chain_out_of_order_is_refused(self):
        made = self.pki.ec
        root = self.pki.root.certificate.public_bytes(Encoding.PEM)
        changes = self.only(None, made.key_pem, made.certificate.public_bytes(Encoding.PEM), root)
        self.assert_problem("server.pem", "O=Operator,CN=Root", "did not issue certificate 1", **changes)

    def test_chain_with_an_impostor_of_the_issuer_is_refused(self):
        impostor = make_ca("Other issuing", self.pki.root, label="impostor").certificate.public_bytes(Encoding.PEM)
        leaf = self.pki.ec.certificate.public_bytes(Encoding.PEM)
        self.assert_problem("did not issue", **self.only(None, self.pki.ec.key_pem, leaf, impostor))

    def test_two_certificates_of_one_kind_are_refused(self):
        paths = (self.folder / "ec.pem", self.pki.write("second.pem", self.pki.ec.pem))
        self.assert_problem("second.pem", "a second EC certificate beside", "ec.pem", cert_paths=paths)

    def test_certificate_that_is_not_for_servers_is_a_warning(self):
        station = make_station(self.pki.issuing, "localhost", label="server")
        self.assert_warning("server.pem", "serverAuth", **self.only(station))

    def test_certificate_that_is_not_for_its_sni_is_a_warning(self):
        sni = {"ocpp.example.com": (self.folder / "ec.pem",)}
        self.assert_warning("ec.pem", "is not for ocpp.example.com", "localhost", sni=sni)

    def test_certificate_for_its_sni_or_its_domain_is_no_warning(self):
        path = self.pki.write("sni.pem", make_server(self.pki.issuing, "*.example.com").pem)
        self.assertEqual(self.load(sni={"ocpp.example.com": (path,), "*.example.com": (path,)}).warnings, ())

    def test_as_many_keys_as_certificates_are_wanted(self):
        self.assert_problem("tls.key_path", "as many files", key_paths=(self.folder / "rsa.pem",))

    def test_no_certificate_at_all_is_refused(self):
        self.assert_problem("tls.cert_path", "names no certificate", cert_paths=())
        self.assert_problem("tls.sni x", "names no file", sni={"x": ()})

    def test_all_faults_of_all_files_are_reported_at_once(self):
        problems = self.problems(
            cert_paths=(self.folder / "gone.pem", self.pki.write("empty.pem")),
            sni={"x": (self.pki.write("text.pem", b"hello"),)},
            ca_paths=(self.folder / "gone-ca.pem",),
            crl_paths=(self.folder / "gone-crl.pem",),
        )
        for name in ("gone.pem", "empty.pem", "text.pem", "gone-ca.pem", "gone-crl.pem"):
            self.assertTrue(any(name in problem for problem in problems), (name, problems))

    def test_repr_shows_no_key(self):
        secret = self.pki.ec.key.private_numbers().private_value
        shown = repr(self.load())
        self.assertNotIn(str(secret), shown)
        self.assertNotIn("PRIVATE", shown)
        self.assertIn("<Credential EC", shown)


class AuthorityTests(MaterialCase):
    def test_bundles_are_joined_and_repeated_certificates_count_once(self):
        more = self.pki.write("more.pem", self.pki.root.certificate.public_bytes(Encoding.PEM), _ca_pem("New"))
        self.assertEqual(len(self.load(ca_paths=(self.folder / "ca.pem", more)).authorities), 4)

    def test_bundle_without_a_ca_is_refused(self):
        path = self.pki.write("bundle.pem", self.pki.ec.certificate.public_bytes(Encoding.PEM))
        error = self.assertRaises(TlsMaterialError, self.load, ca_paths=(path,))
        self.assertIn("bundle.pem: holds no CA certificate", str(error))

    def test_certificate_that_is_no_ca_is_left_out_with_a_warning(self):
        path = self.pki.write("bundle.pem", _ca_pem("New"), self.pki.ec.certificate.public_bytes(Encoding.PEM))
        self.assert_warning("bundle.pem", "is no CA certificate", ca_paths=(path,))
        self.assertEqual(len(self.load(ca_paths=(path,)).authorities), 1)

    def test_ca_that_has_ended_is_a_warning(self):
        path = self.pki.write("bundle.pem", _ca_pem("Old", days=5), _ca_pem("New"))
        self.assert_warning("bundle.pem", "the CA O=Operator,CN=Old ended", now=NOW + 6 * DAY, ca_paths=(path,))

    def test_root_of_version_1_counts(self):
        path = self.folder / "v1.pem"
        _openssl_v1_root(self.folder, path)
        self.assertEqual(len(self.load(ca_paths=(path,)).authorities), 1)


class DigestTests(MaterialCase):
    def test_digest_stays_while_nothing_changes(self):
        self.assertEqual(self.load().digest, self.load(NOW + DAY).digest)

    def test_digest_changes_with_each_file_and_rule(self):
        crl = self.pki.write_crls()
        before = {"crl_paths": (crl,), "crl_check": "leaf"}
        seen = {self.load(**before).digest}
        self.pki.write("ec.pem", make_server(self.pki.issuing, "localhost", label="server").pem)
        seen.add(self.load(**before).digest)
        self.pki.write("ca.pem", (self.folder / "ca.pem").read_bytes(), _ca_pem("New"))
        seen.add(self.load(**before).digest)
        self.pki.write_crls(self.pki.rsa)
        seen.add(self.load(**before).digest)
        seen.add(self.load(**before, session_seconds=1).digest)
        self.assertEqual(len(seen), 5)


class UseOfCrlsTests(MaterialCase):
    def test_checking_without_crls_is_refused(self):
        self.assert_problem("tls.crl_path", "is empty", crl_check="leaf")

    def test_checking_without_crls_is_possible_when_missing_ones_are_accepted(self):
        self.assertEqual(self.load(crl_check="chain", crl_missing="accept").warnings, ())

    def test_crls_that_nobody_asks_for_are_a_warning(self):
        self.assert_warning("tls.crl_path", "for nothing", crl_paths=(self.pki.write_crls(),))

    def test_status_names_each_crl(self):
        path = self.pki.write("one.crl", crl_pem(make_crl(self.pki.issuing, [self.pki.rsa, self.pki.ec])))
        (info,) = self.load(crl_paths=(path,), crl_check="leaf").revocation_lists
        self.assertEqual((info.issuer, info.entries, info.path), ("O=Operator,CN=Issuing", 2, str(path)))
        self.assertEqual((info.this_update, info.next_update), (NOW - 3600, NOW + 7 * DAY))


class NameTests(SynchronousTestCase):
    def test_names_cover_themselves_and_wildcards_one_label(self):
        for pattern, name, expected in (
            ("ocpp.example.com", "OCPP.example.com.", True),
            ("*.example.com", "ocpp.example.com", True),
            ("*.example.com", "*.example.com", True),
            ("*.example.com", "a.b.example.com", False),
            ("*.example.com", "example.com", False),
            ("*.com", "localhost", False),
            ("ocpp.example.com", "example.com", False),
        ):
            with self.subTest(pattern=pattern, name=name):
                self.assertEqual(covers(pattern, name), expected)


_PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _ca_pem(name, **more):
    return make_ca(name, **more).certificate.public_bytes(Encoding.PEM)


def _openssl_v1_root(folder, path):
    """A self-signed certificate of version 1, as old roots are: cryptography makes version 3 only."""
    (folder / "v1.key").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*_PKCS8))
    request = ["openssl", "req", "-new", "-key", folder / "v1.key", "-subj", "/CN=Old root", "-out", folder / "v1.csr"]
    subprocess.run(request, check=True, capture_output=True)
    sign = ["openssl", "x509", "-req", "-in", folder / "v1.csr", "-signkey", folder / "v1.key", "-days", "9000", "-out"]
    subprocess.run([*sign, path], check=True, capture_output=True)

"""Certificates made and signed here, judged by OpenSSL's own tools where there is something to judge."""

import base64
import os
import stat
import subprocess
import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.certificates import read_certificate
from ocppgw.pki import (
    Credentials,
    PkiError,
    PkiFolder,
    Signer,
    make_crl,
    make_issuing,
    make_root,
    make_server,
    make_station,
    new_key,
)
from ocppgw.pki.files import read_credentials, write_private, write_public
from ocppgw.pki.issuing import CLOCK_SKEW, DAY
from ocppgw.pki.pem import certificates_pem, key_pem, parse_certificates, parse_credentials, parse_key
from ocppgw.pki.revocation import ALREADY_REVOKED, parse_crl

NOW = 1_795_476_000.0  # 2026-11-23T23:20:00Z
PEM = serialization.Encoding.PEM


@cache
def authorities() -> tuple[Credentials, Credentials]:
    """Root and issuing CA."""
    root = make_root("Operator", NOW)
    return root, make_issuing(root, "Operator", NOW)


def issuing() -> Credentials:
    return authorities()[1]


def seconds(moment: datetime) -> float:
    return moment.timestamp()


def temporary_folder(test: SynchronousTestCase) -> Path:
    """Not mktemp(): under pytest that is the current directory, and nobody clears it."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return Path(folder.name)


class Folder:
    """A temporary folder that PEM texts are written to, and OpenSSL run in."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.path = temporary_folder(test)

    def write(self, name: str, *texts: bytes) -> str:
        path = self.path / name
        path.write_bytes(b"".join(texts))
        return str(path)

    def verify(self, credentials: Credentials, purpose: str, *options: str) -> str:
        """What `openssl verify` says of a certificate, given only the root and what comes with the certificate."""
        root = self.write("root.pem", authorities()[0].chain_pem)
        leaf, above = (
            self.write("leaf.pem", certificates_pem([credentials.certificate])),
            certificates_pem(credentials.chain),
        )
        chain = self.write("chain.pem", above)
        when = ["-attime", str(int(NOW) + 1), "-x509_strict", "-purpose", purpose, *options]
        command = ["openssl", "verify", *when, "-CAfile", root, "-untrusted", chain, leaf]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        return done.stdout + done.stderr


class ProfileTests(SynchronousTestCase):
    def test_openssl_accepts_each_kind_strictly_and_for_its_purpose_only(self) -> None:
        folder = Folder(self)
        for is_rsa in (True, False):
            server = make_server(issuing(), ["localhost", "127.0.0.1"], NOW, is_rsa=is_rsa)
            station = make_station(issuing(), "CP-001", NOW, is_rsa=is_rsa)
            self.assertIn("leaf.pem: OK", folder.verify(server, "sslserver"))
            self.assertIn("leaf.pem: OK", folder.verify(station, "sslclient"))
            self.assertIn("unsuitable certificate purpose", folder.verify(server, "sslclient"))
            self.assertIn("unsuitable certificate purpose", folder.verify(station, "sslserver"))

    def test_server_certificate_is_for_its_names(self) -> None:
        folder, server = Folder(self), make_server(issuing(), ["ocpp.example.com", "192.0.2.1", "::1"], NOW)
        facts = read_certificate(server.certificate.public_bytes(serialization.Encoding.DER))
        self.assertEqual(("DNS:ocpp.example.com", "IP:192.0.2.1", "IP:::1"), facts.names)
        self.assertIn("OK", folder.verify(server, "sslserver", "-verify_hostname", "ocpp.example.com"))
        self.assertIn("OK", folder.verify(server, "sslserver", "-verify_ip", "192.0.2.1"))
        self.assertIn("hostname mismatch", folder.verify(server, "sslserver", "-verify_hostname", "example.com"))

    def test_station_certificate_names_the_station_and_its_operator(self) -> None:
        station = make_station(issuing(), "SN-4711", NOW)
        facts = read_certificate(station.certificate.public_bytes(serialization.Encoding.DER))
        self.assertEqual(("SN-4711", ("Operator",)), (facts.common_name, facts.organizations))
        other = make_station(issuing(), "SN-4711", NOW, organization="Another")
        self.assertEqual("CN=SN-4711,O=Another", other.certificate.subject.rfc4514_string())

    def test_keys_are_what_ocpp_asks_for(self) -> None:
        strong, small = new_key(is_rsa=True), new_key()
        assert isinstance(strong, rsa.RSAPrivateKey)
        assert isinstance(small, ec.EllipticCurvePrivateKey)
        self.assertEqual((2048, "secp256r1"), (strong.key_size, small.curve.name))

    def test_rsa_servers_may_decrypt_keys_for_the_suites_without_ecdhe(self) -> None:
        for is_rsa in (True, False):
            server = make_server(issuing(), ["localhost"], NOW, is_rsa=is_rsa).certificate
            usage = server.extensions.get_extension_for_class(x509.KeyUsage)
            self.assertTrue(usage.critical and usage.value.digital_signature)
            self.assertEqual(is_rsa, usage.value.key_encipherment)

    def test_issuing_ca_signs_no_further_ca(self) -> None:
        third = make_issuing(issuing(), "Another", NOW)
        below = Credentials(
            make_station(third, "CP-001", NOW).certificate, third.key, (third.certificate, *third.chain)
        )
        self.assertIn("path length constraint exceeded", Folder(self).verify(below, "sslclient"))

    def test_validity_begins_early_and_ends_with_the_ca(self) -> None:
        later = NOW + 100 * DAY
        station = make_station(issuing(), "CP-001", later, days=10.0).certificate
        self.assertEqual(later - CLOCK_SKEW, seconds(station.not_valid_before_utc))
        self.assertEqual(later + 10 * DAY, seconds(station.not_valid_after_utc))
        ca_end = issuing().certificate.not_valid_after_utc
        self.assertEqual(ca_end, make_station(issuing(), "CP-001", NOW, days=36500.0).certificate.not_valid_after_utc)
        with self.assertRaisesRegex(PkiError, r"CN=Development issuing CA,O=Operator ran out on 2031-11-22"):
            make_station(issuing(), "CP-001", seconds(ca_end))

    def test_serial_numbers_are_given_or_random(self) -> None:
        given_number = make_station(issuing(), "CP-001", NOW, serial_number=lambda: 4711).certificate
        self.assertEqual(4711, given_number.serial_number)
        numbers = {make_station(issuing(), "CP-001", NOW).certificate.serial_number for _ in range(20)}
        self.assertEqual(20, len(numbers))
        self.assertGreater(min(number.bit_length() for number in numbers), 100)

    def test_names_that_make_no_certificate_are_refused_with_the_mend(self) -> None:
        for names, sentence in (
            (["*.example.com"], "wildcard.*name each host"),
            (["bücher.example"], "neither a host name nor an IP address.*xn--"),
            (["a b"], "neither a host name"),
            (["x" * 65], "longer than the 64 characters"),
            ([], "needs a host name"),
        ):
            with self.assertRaisesRegex(PkiError, sentence):
                make_server(issuing(), names, NOW)
        with self.assertRaisesRegex(PkiError, "needs a common name"):
            make_station(issuing(), "", NOW)

    def test_key_never_shows_in_a_repr(self) -> None:
        self.assertNotIn("key=", repr(issuing()))


class PemTests(SynchronousTestCase):
    def test_what_is_written_is_read_again(self) -> None:
        station = make_station(issuing(), "CP-001", NOW)
        again = parse_credentials(station.pem, "station.pem")
        self.assertEqual((station.certificate, station.chain), (again.certificate, again.chain))
        self.assertEqual(key_pem(station.key), key_pem(again.key))

    def test_a_root_in_the_file_is_not_sent_along(self) -> None:
        root, ca = authorities()
        station = make_station(ca, "CP-001", NOW)
        read = parse_credentials(station.pem + root.chain_pem, "station.pem")
        self.assertEqual((ca.certificate,), read.chain)

    def test_a_ca_that_took_a_new_key_is_no_root(self) -> None:
        ca = issuing()
        renewed = make_issuing(ca, "Operator", NOW)  # the same name, signed with the old key
        station = make_station(renewed, "CP-001", NOW)
        self.assertEqual((renewed.certificate, ca.certificate), station.chain)

    def test_faults_name_the_source_and_the_mend_and_show_no_key(self) -> None:
        station = make_station(issuing(), "CP-001", NOW)
        protected = station.key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
        other = key_pem(new_key())
        cases = (
            (lambda: parse_certificates(b"", "a.pem"), "a.pem holds no readable certificate.*openssl x509"),
            (lambda: parse_certificates(other, "a.pem"), "a.pem holds no readable certificate"),
            (lambda: parse_key(station.chain_pem, "a.pem"), "a.pem holds no readable private key"),
            (lambda: parse_key(protected, "a.key"), "a.key is protected by a passphrase.*openssl pkey"),
            (lambda: parse_credentials(station.chain_pem, "a.pem", other, "a.key"), "a.key is not that of the first"),
            (
                lambda: parse_credentials(issuing().chain_pem + station.pem, "a.pem"),
                "not that of the first certificate in a.pem, CN=Development issuing CA,O=Operator .*comes first",
            ),
        )
        for parse, sentence in cases:
            with self.assertRaisesRegex(PkiError, sentence) as caught:
                parse()
            self.assertNotIn("BEGIN PRIVATE KEY-----\n", str(caught.exception))


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporary_folder(self) / "new"

    def test_keys_are_created_readable_by_their_owner_only(self) -> None:
        modes: list[int] = []
        real = os.open

        def recording(path: str, flags: int, mode: int = 0o777) -> int:
            modes.append(mode)
            return real(path, flags, mode)

        with patch("ocppgw.pki.files.os.open", recording):
            write_private(self.folder / "new.pem", b"1")
            write_private(self.folder / "new.pem", b"2", replace=True)
        self.assertEqual([0o600, 0o600], modes)
        self.assertEqual(0o600, stat.S_IMODE((self.folder / "new.pem").stat().st_mode))
        self.assertEqual(b"2", (self.folder / "new.pem").read_bytes())

    def test_nothing_is_overwritten_unasked(self) -> None:
        path = self.folder / "a.pem"
        write_public(path, b"first")
        with self.assertRaisesRegex(PkiError, "a.pem exists already .nothing was changed; --force"):
            write_public(path, b"second")
        self.assertEqual(b"first", path.read_bytes())

    def test_a_failed_write_leaves_the_old_file_and_no_other(self) -> None:
        path = self.folder / "a.pem"
        write_public(path, b"first")
        for replace, target in ((True, path), (False, self.folder / "b.pem")):
            with (
                patch("ocppgw.pki.files.os.fsync", side_effect=OSError(28, "No space left on device")),
                self.assertRaisesRegex(PkiError, f"{target.name} can't be written: No space left on device"),
            ):
                write_public(target, b"second", replace=replace)
        self.assertEqual([path], list(self.folder.iterdir()))
        self.assertEqual(b"first", path.read_bytes())

    def test_unreadable_files_are_named(self) -> None:
        self.folder.mkdir()
        with self.assertRaisesRegex(PkiError, "nowhere.pem does not exist"):
            read_credentials(self.folder / "nowhere.pem")
        with self.assertRaisesRegex(PkiError, f"{self.folder.name} can't be read: Is a directory"):
            read_credentials(self.folder)
        write_public(self.folder / "file", b"")
        with self.assertRaisesRegex(PkiError, "folder .*file can't be made"):
            write_public(self.folder / "file" / "a.pem", b"")


class CrlTests(SynchronousTestCase):
    def crl_of(self, *certificates: x509.Certificate) -> x509.CertificateRevocationList:
        crl = make_crl(issuing(), NOW)
        for certificate in certificates:
            crl = make_crl(issuing(), NOW, previous=crl, revoke=certificate)
        return crl

    def test_openssl_refuses_what_is_on_the_list_and_nothing_else(self) -> None:
        folder = Folder(self)
        good, bad = (make_station(issuing(), "CP-001", NOW) for _ in range(2))
        root_crl, crl = make_crl(authorities()[0], NOW), self.crl_of(bad.certificate)
        lists = folder.write("crls.pem", root_crl.public_bytes(PEM), crl.public_bytes(PEM))
        options = ("-crl_check_all", "-CRLfile", lists)
        self.assertIn("leaf.pem: OK", folder.verify(good, "sslclient", *options))
        self.assertIn("certificate revoked", folder.verify(bad, "sslclient", *options))

    def test_earlier_revocations_stay_and_the_number_grows(self) -> None:
        first, second = (make_station(issuing(), name, NOW).certificate for name in ("CP-1", "CP-2"))
        crl = make_crl(issuing(), NOW + DAY, days=7.0, previous=self.crl_of(first, second))
        self.assertEqual({first.serial_number, second.serial_number}, {entry.serial_number for entry in crl})
        self.assertEqual(4, crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        assert crl.next_update_utc is not None
        self.assertEqual(NOW + 8 * DAY, seconds(crl.next_update_utc))

    def test_only_the_cas_own_certificates_are_revoked_and_once(self) -> None:
        station = make_station(issuing(), "CP-1", NOW).certificate
        foreign = make_station(make_root("Operator", NOW), "CP-1", NOW).certificate
        with self.assertRaisesRegex(PkiError, "CN=CP-1,O=Operator was not signed by CN=Development issuing CA"):
            self.crl_of(foreign)
        with self.assertRaisesRegex(PkiError, "is revoked already") as caught:
            self.crl_of(station, station)
        self.assertEqual(ALREADY_REVOKED, caught.exception.code)

    def test_a_foreign_list_is_never_carried_on(self) -> None:
        foreign = make_crl(make_root("Operator", NOW), NOW).public_bytes(PEM)
        with self.assertRaisesRegex(PkiError, "x.pem is not a CRL of CN=Development issuing CA"):
            parse_crl(foreign, "x.pem", issuing())
        with self.assertRaisesRegex(PkiError, "x.pem holds no readable CRL"):
            parse_crl(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "x.pem", issuing())


class FolderTests(SynchronousTestCase):
    def test_a_failed_init_changes_nothing(self) -> None:
        folder = PkiFolder(temporary_folder(self) / "pki")
        with self.assertRaises(PkiError):
            folder.create("Operator", ["*.example.com"], NOW)
        self.assertFalse(folder.path.exists())

    def test_ids_stay_inside_the_folder(self) -> None:
        folder = PkiFolder(Path("pki"))
        self.assertEqual(Path("pki/stations/..%2F..%2Fetc%2Fx.pem"), folder.station_file("../../etc/x"))
        self.assertEqual(Path("pki/stations/...pem"), folder.station_file(".."))

    def test_certificates_of_both_cas_can_be_revoked(self) -> None:
        folder = PkiFolder(temporary_folder(self) / "pki")
        folder.create("Operator", ["localhost"], NOW)
        self.assertEqual(folder.crls[0], folder.revoke(str(folder.issuing), NOW)[1])
        self.assertEqual(folder.crls[1], folder.revoke(str(folder.servers[0]), NOW)[1])
        self.assertEqual([1, 1], [len(x509.load_pem_x509_crl(path.read_bytes())) for path in folder.crls])


def request(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None,
    common_names: tuple[str, ...] = ("CP-001",),
    names: tuple[x509.GeneralName, ...] = (),
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> x509.CertificateSigningRequest:
    """A certificate request; the key is P-256 by default."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, text) for text in common_names]
    builder = x509.CertificateSigningRequestBuilder(
        x509.Name([*subject, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Somebody")])
    )
    for extension in (*extensions, *([x509.SubjectAlternativeName(names)] if names else ())):
        builder = builder.add_extension(extension, critical=False)
    key = key or new_key()
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pem(csr: x509.CertificateSigningRequest) -> str:
    return csr.public_bytes(PEM).decode()


def tampered(csr: x509.CertificateSigningRequest) -> str:
    """The same request for another station, under the old signature."""
    der = csr.public_bytes(serialization.Encoding.DER).replace(b"CP-001", b"CP-002")
    return pem(x509.load_der_x509_csr(der))


def build_signer(**more: object) -> Signer:
    values = {"valid_days": 90, **more}
    return Signer(issuing().chain_pem, key_pem(issuing().key), **values)  # type: ignore[arg-type]


class SignerTests(SynchronousTestCase):
    def test_what_is_signed_is_a_station_certificate_with_its_chain(self) -> None:
        key, signer = new_key(), build_signer(serial_number=lambda: 0x4711)
        text = pem(request(key))
        self.assertEqual("", signer.check(text, {"CP-001"}))
        issued = signer.sign(text, NOW)
        leaf, *above = x509.load_pem_x509_certificates(issued.chain_pem.encode())
        self.assertEqual([issuing().certificate], above)
        self.assertEqual(key.public_key(), leaf.public_key())
        self.assertIn("leaf.pem: OK", Folder(self).verify(Credentials(leaf, key, tuple(above)), "sslclient"))
        self.assertEqual(("CN=CP-001,O=Operator", "4711"), (issued.subject, issued.serial_number))
        self.assertEqual((NOW - CLOCK_SKEW, NOW + 90 * DAY), (issued.not_before, issued.not_after))
        facts = read_certificate(leaf.public_bytes(serialization.Encoding.DER))
        self.assertEqual((facts.fingerprint, facts.subject), (issued.fingerprint, issued.subject))
        self.assertLess(len(issued.chain_pem), 10_000)  # CertificateSigned.certificateChain

    def test_a_ca_that_has_run_out_says_so_before_anything_is_promised(self) -> None:
        signer, end = build_signer(), issuing().certificate.not_valid_after_utc.timestamp()
        self.assertEqual((signer.own_fault(NOW), signer.own_fault(end - 1)), ("", ""))
        self.assertIn("ended", signer.own_fault(end))

    def test_the_request_decides_nothing_but_key_and_name(self) -> None:
        greedy = request(
            extensions=(x509.BasicConstraints(True, None), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
        )
        leaf = x509.load_pem_x509_certificates(build_signer().sign(pem(greedy), NOW).chain_pem.encode())[0]
        self.assertFalse(leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual([ExtendedKeyUsageOID.CLIENT_AUTH], list(purposes))

    def test_own_names_are_taken_over(self) -> None:
        csr = pem(request(names=(x509.DNSName("cp-001"), x509.UniformResourceIdentifier("SN-1"))))
        self.assertEqual("", build_signer().check(csr, {"CP-001", "SN-1"}))
        leaf = x509.load_pem_x509_certificates(build_signer().sign(csr, NOW).chain_pem.encode())[0]
        facts = read_certificate(leaf.public_bytes(serialization.Encoding.DER))
        self.assertEqual(("DNS:cp-001", "URI:SN-1"), facts.names)

    def test_organization_is_the_cas_or_the_configured_one(self) -> None:
        csr = pem(request())
        self.assertEqual("CN=CP-001,O=Operator", build_signer().sign(csr, NOW).subject)
        self.assertEqual("CN=CP-001,O=Mine", build_signer(organization="Mine").sign(csr, NOW).subject)
        self.assertEqual("CN=CP-001", build_signer(organization="").sign(csr, NOW).subject)

    def test_each_fault_has_its_sentence(self) -> None:
        weak_rsa = rsa.generate_private_key(65537, 1024)
        cases = {
            "": "it is no readable PEM certificate request",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----": "no readable PEM",
            "\ud800": "no readable PEM",
            issuing().chain_pem.decode(): "no readable PEM",
            tampered(request()): "its signature is wrong",
            pem(request(weak_rsa)): "its RSA key has 1024 bits: at least 2048",
            pem(request(ec.generate_private_key(ec.SECP192R1()))): "on the curve secp192r1: at least P-224",
            pem(request(ed25519.Ed25519PrivateKey.generate())): "neither RSA nor ECDSA",
            pem(request(common_names=("CP-002",))): "its CN is 'CP-002', which is neither",
            pem(request(common_names=("cp-001",))): "its CN is 'cp-001', which is neither",
            pem(request(common_names=())): "needs one CN",
            pem(request(common_names=("CP-001", "CP-002"))): "needs one CN.*not several",
            pem(request(names=(x509.DNSName("CP-002"),))): "asks for the name 'CP-002'",
            pem(request(names=(x509.DNSName("CP-001"), x509.RFC822Name("a@b")))): "asks for the name 'a@b'",
            pem(request(names=(x509.DirectoryName(request().subject),))): "asks for the name",
            pem(request(common_names=("X\n" * 30,))): r"its CN is 'X\\nX.*', which",
        }
        for csr, sentence in cases.items():
            fault = build_signer().check(csr, {"CP-001", "SN-1"})
            self.assertRegex(fault, sentence)
            self.assertNotIn("\n", fault)

    def test_strong_keys_of_both_kinds_are_fine(self) -> None:
        for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP224R1())):
            self.assertEqual("", build_signer().check(pem(request(key)), ["CP-001"]))

    def test_unsound_requests_are_not_signed_even_when_nobody_checked(self) -> None:
        for csr in ("", tampered(request()), pem(request(rsa.generate_private_key(65537, 1024)))):
            with self.assertRaisesRegex(PkiError, "the certificate request can't be signed: it"):
                build_signer().sign(csr, NOW)

    def test_a_ca_that_ran_out_signs_nothing(self) -> None:
        with self.assertRaisesRegex(PkiError, "ran out on"):
            build_signer().sign(pem(request()), NOW + 2000 * DAY)

    def test_a_ca_that_cannot_sign_is_refused_at_once(self) -> None:
        root, station = authorities()[0], make_station(issuing(), "CP-001", NOW)
        with self.assertRaisesRegex(PkiError, "ca.pem is no CA certificate"):
            Signer(station.chain_pem, key_pem(station.key), valid_days=1, source="ca.pem")
        with self.assertRaisesRegex(PkiError, "ca.key is not that of the first certificate in ca.pem"):
            Signer(issuing().chain_pem, key_pem(root.key), valid_days=1, source="ca.pem", key_source="ca.key")

    def test_a_root_that_signs_itself_is_not_in_the_chain(self) -> None:
        root = authorities()[0]
        signer = Signer(root.chain_pem, key_pem(root.key), valid_days=1)
        self.assertEqual(1, signer.sign(pem(request()), NOW).chain_pem.count("BEGIN CERTIFICATE"))

    def test_key_identifier_of_a_foreign_ca_is_taken_over(self) -> None:
        root, key = authorities()[0], new_key()
        own = x509.SubjectKeyIdentifier(b"named by hand")
        template = make_issuing(root, "Operator", NOW).certificate
        builder = x509.CertificateBuilder(
            template.issuer, template.subject, key.public_key(), 5, template.not_valid_before_utc,
            template.not_valid_after_utc,
        )  # fmt: skip
        for extension in (x509.BasicConstraints(True, 0), usage_of(template), own):
            builder = builder.add_extension(extension, critical=True)
        assert isinstance(root.key, rsa.RSAPrivateKey)
        foreign = builder.sign(root.key, hashes.SHA256())
        signed = Signer(certificates_pem([foreign]), key_pem(key), valid_days=1).sign(pem(request()), NOW)
        leaf = x509.load_pem_x509_certificates(signed.chain_pem.encode())[0]
        named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        self.assertEqual(b"named by hand", named.key_identifier)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_any_broken_request_gives_a_sentence(self, data: st.DataObject) -> None:
        der = bytearray(SAMPLE)
        for _ in range(data.draw(st.integers(1, 4))):
            der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
        text = f"-----BEGIN CERTIFICATE REQUEST-----\n{base64_lines(bytes(der))}-----END CERTIFICATE REQUEST-----\n"
        fault = SAMPLE_SIGNER.check(text, {"CP-001"})
        self.assertTrue(fault or bytes(der) == SAMPLE)

    @given(st.text(max_size=200))
    def test_any_text_gives_a_sentence(self, text: str) -> None:
        self.assertIn("no readable PEM", SAMPLE_SIGNER.check(text, {"CP-001"}))


def usage_of(certificate: x509.Certificate) -> x509.KeyUsage:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage).value


def base64_lines(data: bytes) -> str:
    return base64.encodebytes(data).decode()


SAMPLE = request(names=(x509.DNSName("CP-001"),)).public_bytes(serialization.Encoding.DER)
SAMPLE_SIGNER = build_signer()

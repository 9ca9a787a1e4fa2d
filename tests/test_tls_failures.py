"""Handshakes that fail: each has the name, the alert and the certificate that tell an operator what to mend."""

from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from OpenSSL.SSL import X509VerificationCodes
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.refusals import BY_CODE
from ocppgw.net.tls import openssl as binding
from ocppgw.net.tls.failures import failure
from ocppgw.net.tls.handshake import ALERTS, First, Handshake
from tests.build_tls import Client, Listener, Pki
from tests.make_certificates import crl_pem, make_ca, make_crl, make_station

BOTH = ("TLSv1.2", "TLSv1.3")


class FailureCase(SynchronousTestCase):
    def setUp(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        self.pki = Pki(folder)
        self.now = self.pki.now
        self.station = make_station(self.pki.issuing, "CP-001", now=self.now)

    def listener(self, **changes):
        return Listener(self.pki.files(**changes))

    def failed(self, client, listener=None):
        """Why this handshake failed, as the edge learns it when TCP is closed."""
        accepted = (listener or self.listener()).connect(client)
        self.assertTrue(accepted.tcp.disconnecting)
        return accepted.lose()

    def assert_refused(self, kind, alert, certificate, *, listener=None, chain=True, words=()):
        """The same answer in both versions; the leaf is named whichever certificate is at fault."""
        for version in BOTH:
            with self.subTest(version=version):
                client = Client(certificate, version=version, chain=chain)
                found = self.failed(client, listener)
                self.assertEqual(found.kind, kind)
                self.assertEqual(found.alert, f"sent: {alert}")
                self.assertEqual(found.certificate.fingerprint, certificate.fingerprint)
                self.assertEqual((found.version, found.server_name), (version, "localhost"))
                self.assertEqual(found.hello[:1], b"\x16")
                self.assertIn(alert.replace("_", " "), client.error)
                for word in words:
                    self.assertIn(word, found.detail)


class CertificateTests(FailureCase):
    def test_station_without_a_certificate(self):
        for version, alert in (("TLSv1.2", "handshake_failure"), ("TLSv1.3", "certificate_required")):
            found = self.failed(Client(version=version))
            self.assertEqual((found.kind, found.alert), ("TlsCertificateMissing", f"sent: {alert}"))
            self.assertIsNone(found.certificate)

    def test_certificate_of_another_ca(self):
        stranger = make_station(make_ca("Other root", now=self.now), "CP-001", now=self.now)
        words = ("unable to get local issuer certificate", "issued by O=Operator,CN=Other root")
        self.assert_refused("TlsCertificateUnknownCa", "unknown_ca", stranger, words=words)

    def test_leaf_is_named_when_an_intermediate_is_at_fault(self):
        issuing = make_ca("Their issuing", make_ca("Other root", now=self.now), now=self.now)
        words = ("1 above the station's own", "issued by O=Operator,CN=Other root")
        stranger = make_station(issuing, "CP-001", now=self.now)
        self.assert_refused("TlsCertificateUnknownCa", "unknown_ca", stranger, words=words)

    def test_chain_that_is_not_complete(self):
        self.pki.write_authorities(self.pki.root)
        self.assert_refused("TlsCertificateUnknownCa", "unknown_ca", self.station, chain=False)

    def test_self_signed_certificate(self):
        self.assert_refused("TlsCertificateUnknownCa", "unknown_ca", make_station(None, "CP-001", now=self.now))

    def test_certificate_that_has_ended(self):
        ended = make_station(self.pki.issuing, "CP-001", now=self.now, days=-0.5)
        self.assert_refused("TlsCertificateExpired", "certificate_expired", ended)

    def test_certificate_that_has_not_begun(self):
        early = make_station(self.pki.issuing, "CP-001", now=self.now, begins=self.now + 3600)
        self.assert_refused("TlsCertificateNotYetValid", "bad_certificate", early)

    def test_certificate_for_another_purpose(self):
        server = make_station(self.pki.issuing, "CP-001", now=self.now, usage=ExtendedKeyUsageOID.SERVER_AUTH)
        self.assert_refused("TlsCertificateInvalid", "unsupported_certificate", server, words=("purpose",))

    def test_certificate_with_a_weak_key(self):
        weak = make_station(self.pki.issuing, "CP-001", now=self.now, kind="rsa1024")
        self.assert_refused("TlsCertificateInvalid", "bad_certificate", weak, words=("key too weak",))

    def test_chain_that_is_too_long_for_its_ca(self):
        last = make_ca("Last", self.pki.root, now=self.now, path_length=0)
        one_more = make_ca("One more", last, now=self.now)
        station = make_station(one_more, "CP-001", now=self.now)
        self.assert_refused("TlsCertificateInvalid", "unknown_ca", station, words=("path length",))

    def test_certificate_that_cannot_be_parsed_here_is_refused(self):
        """OpenSSL takes more than cryptography does: a fault of ours must refuse, not let in."""
        listener = self.listener()
        verifier = listener.creator.generation.verifier
        self.patch(verifier, "_verified", lambda asked: (_ for _ in ()).throw(ValueError("odd")))
        found = self.failed(Client(self.station), listener)
        self.assertEqual(found.kind, "TlsCertificateInvalid")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class CrlTests(FailureCase):
    def revoking(self, *revoked, check="leaf", days=7, **changes):
        path = self.pki.write_crls(*revoked, days=days)
        return self.listener(crl_paths=(path,), crl_check=check, **changes)

    def test_revoked_certificate(self):
        listener = self.revoking(self.station)
        self.assert_refused("TlsCertificateRevoked", "certificate_revoked", self.station, listener=listener)

    def test_revoked_intermediate(self):
        listener = self.revoking(self.pki.issuing, check="chain")
        self.assert_refused("TlsCertificateRevoked", "certificate_revoked", self.station, listener=listener)

    def test_revoked_intermediate_is_not_seen_when_the_leaf_alone_is_checked(self):
        accepted = self.revoking(self.pki.issuing).connect(Client(self.station))
        self.assertTrue(accepted.done)

    def test_crl_out_of_date(self):
        listener = self.revoking(days=-1)
        words = ("the CRL of O=Operator,CN=Issuing is out of date",)
        self.assert_refused("TlsCrlExpired", "certificate_expired", self.station, listener=listener, words=words)

    def test_crl_out_of_date_is_accepted_by_policy_and_still_revokes(self):
        listener = self.revoking(self.station, days=-1, crl_expired="accept")
        self.assert_refused("TlsCertificateRevoked", "certificate_revoked", self.station, listener=listener)
        self.assertTrue(listener.connect(Client(make_station(self.pki.issuing, "CP-002", now=self.now))).done)

    def test_crl_that_is_missing(self):
        path = self.pki.write("one.crl", crl_pem(make_crl(self.pki.other_issuing, now=self.now)))
        rules = {"crl_paths": (path,), "crl_check": "leaf"}
        listener = self.listener(**rules)
        self.assert_refused("TlsCrlMissing", "unknown_ca", self.station, listener=listener)
        self.assertTrue(self.listener(**rules, crl_missing="accept").connect(Client(self.station)).done)

    def test_crls_that_are_newer_than_the_contexts_are_asked(self):
        listener = self.listener()
        listener.creator.crls = self.revoking(self.station).creator.crls
        self.assert_refused("TlsCertificateRevoked", "certificate_revoked", self.station, listener=listener)


class NegotiationTests(FailureCase):
    def test_no_common_version(self):
        found = self.failed(Client(self.station, version="TLSv1.1"))
        self.assertEqual((found.kind, found.alert, found.version), ("TlsVersion", "sent: protocol_version", ""))

    def test_no_common_cipher(self):
        found = self.failed(Client(self.station, version="TLSv1.2", ciphers="AES128-SHA"))
        self.assertEqual((found.kind, found.alert), ("TlsNoCommonCipher", "sent: handshake_failure"))
        self.assertEqual(found.version, "")

    def test_no_common_signature_algorithm(self):
        client = Client(self.station, version="TLSv1.3")
        listener = self.listener(cert_paths=(self.pki.folder / "rsa.pem",))
        binding.lib.SSL_CTX_set1_sigalgs_list(client.context._context, b"ECDSA+SHA256")
        self.assertEqual(self.failed(client, listener).kind, "TlsNoCommonCipher")

    def test_hello_in_the_format_of_ssl_2(self):
        accepted = self.listener().accept()
        accepted.receive(b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10")
        self.assertTrue(accepted.tcp.disconnecting)
        found = accepted.lose()
        self.assertEqual((found.kind, found.hello), ("TlsVersion", b""))


class StationTests(FailureCase):
    def test_station_that_does_not_know_the_gateways_ca(self):
        for version in BOTH:
            client = Client(self.station, version=version, trusts=make_ca("Other root", now=self.now))
            found = self.failed(client)
            self.assertEqual((found.kind, found.alert), ("TlsRefusedByStation", "received: unknown_ca"))

    def test_each_alert_about_the_gateways_certificate_is_a_refusal(self):
        for alert in ("bad_certificate", "certificate_unknown", "certificate_expired", "unsupported_certificate"):
            found = self.failed(self._alerting(alert))
            self.assertEqual((found.kind, found.alert), ("TlsRefusedByStation", f"received: {alert}"))

    def test_other_alerts_have_their_own_names(self):
        for alert, kind in (("protocol_version", "TlsVersion"), ("internal_error", "TlsFailed")):
            found = self.failed(self._alerting(alert))
            self.assertEqual((found.kind, found.alert), (kind, f"received: {alert}"))
            self.assertIn(alert, found.detail)

    def test_station_that_closes_in_the_middle(self):
        client = Client(self.station)
        accepted = self.listener().accept()
        accepted.receive(client.step())
        found = accepted.lose()
        self.assertEqual((found.kind, found.version), ("TlsBrokenOff", "TLSv1.3"))
        self.assertEqual(found.detail, "closed after the gateway's first answer")

    def test_station_that_says_goodbye_in_the_middle(self):
        found = self.failed(self._alerting("close_notify"))
        self.assertEqual((found.kind, found.alert), ("TlsBrokenOff", "received: close_notify"))

    def test_station_that_closes_within_its_hello(self):
        accepted = self.listener().accept()
        accepted.receive(Client().step()[:100])
        self.assertEqual(accepted.tls.tls_failure().kind, "TlsBrokenOff")
        self.assertEqual(accepted.lose().detail, "closed before the ClientHello was whole")

    def test_peer_that_sends_nothing(self):
        found = self.listener().accept().lose()
        self.assertEqual((found.kind, found.detail), ("TlsBrokenOff", "closed before a byte was sent"))

    def test_station_whose_key_is_not_its_certificates(self):
        found = self.failed(Forging(self.station))
        self.assertEqual((found.kind, found.alert), ("TlsCertificateInvalid", "sent: decrypt_error"))
        self.assertIn("bad signature", found.detail)

    def _alerting(self, alert):
        """A client that answers the gateway's first flight (TLS 1.2, in the clear) with this alert."""
        number = next(number for number, name in ALERTS.items() if name == alert)
        return Alerting(self.station, number)


class Alerting(Client):
    def __init__(self, certificate, number):
        self.number = number
        super().__init__(certificate, version="TLSv1.2")

    def take(self, data):
        if data and not self.error:
            self.error = "alerting"
            self.answer = b"\x15\x03\x03\x00\x02" + bytes([1 if self.number == 0 else 2, self.number])

    def step(self):
        if not self.error:
            return super().step()
        answer, self.answer = self.answer, b""
        return answer


class Forging(Client):
    """Its proof that it has the certificate's key (TLS 1.2: CertificateVerify, in the clear) is false."""

    def __init__(self, certificate):
        super().__init__(certificate, version="TLSv1.2")

    def step(self):
        data = bytearray(super().step())
        place = 0
        while place < len(data):
            end = place + 5 + int.from_bytes(data[place + 3 : place + 5])
            if data[place] == 22 and data[place + 5] == 15:
                data[end - 1] ^= 1
            place = end
        return bytes(data)


class TableTests(SynchronousTestCase):
    def made(self, **noted):
        handshake = Handshake()
        handshake.first = First.TLS
        for name, value in noted.items():
            setattr(handshake, name, value)
        return failure(handshake, "TLSv1.3")

    def test_every_verify_error_has_a_reason_and_words(self):
        for number in (value for name, value in vars(X509VerificationCodes).items() if name.startswith("ERR_")):
            found = self.made(fault=number)
            self.assertIn(found.kind, BY_CODE)
            self.assertTrue(found.kind.startswith(("TlsCertificate", "TlsCrl")), (number, found))
            self.assertIn(f"({number})", found.detail)

    def test_every_alert_has_a_reason_and_its_name(self):
        for number, name in ALERTS.items():
            found = self.made(alert=number, alert_received=True)
            self.assertIn(found.kind, BY_CODE)
            self.assertEqual(found.alert, f"received: {name}")

    def test_alert_without_a_name_is_shown_by_number(self):
        found = self.made(alert=199, alert_received=True)
        self.assertEqual((found.kind, found.alert), ("TlsFailed", "received: 199"))

    def test_first_alert_stands_and_a_close_does_not_hide_it(self):
        handshake = Handshake()
        for received, number in ((False, 0), (False, 48), (True, 0), (True, 42)):
            handshake.alerted(received, number)
        self.assertEqual(handshake.alert_text, "sent: unknown_ca")

    def test_openssls_words_are_kept(self):
        handshake = Handshake()
        handshake.failed(SSL.Error([("SSL routines", "", "no shared cipher"), ("SSL routines", "", "other")]))
        self.assertEqual(handshake.errors, ("no shared cipher", "other"))
        found = self.made(errors=("something new", "and more"))
        self.assertEqual((found.kind, found.detail), ("TlsFailed", "OpenSSL says: something new; and more"))

    def test_the_word_that_is_known_counts_wherever_it_stands(self):
        self.assertEqual(self.made(errors=("new", "bad signature")).kind, "TlsCertificateInvalid")

    def test_errors_without_words_are_broken_off(self):
        for error in (SSL.ZeroReturnError(), SSL.SysCallError(-1, "Unexpected EOF"), SSL.Error([])):
            handshake = Handshake()
            handshake.failed(error)
            self.assertEqual(handshake.errors, ())
        self.assertEqual(self.made().kind, "TlsBrokenOff")

    def test_certificate_that_cannot_be_read_is_none(self):
        self.assertIsNone(self.made(fault=20, leaf=b"\x30\x03\x02\x01\x01").certificate)

    def test_issuers_name_cannot_break_a_log_line(self):
        self.assertNotIn("\n", self.made(fault=20, issuer="CN=a\nfake line").detail)

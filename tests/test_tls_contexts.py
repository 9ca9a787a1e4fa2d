"""Handshakes that succeed: versions, suites, certificates by cipher and by name, sessions resumed and not."""

import gc
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.net.tls import NONE, REQUEST, REQUIRE, TlsCreator, TlsFactory, TlsMaterialError, load
from ocppgw.net.tls import openssl as binding
from tests.build_tls import Accepted, Client, Edge, Listener, Pki
from tests.make_certificates import make_server, make_station

OCPP_SUITES = {  # the certificate that each needs
    "ECDHE-ECDSA-AES128-GCM-SHA256": "CN=Other issuing",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "CN=Other issuing",
    "AES128-GCM-SHA256": "CN=Issuing",
    "AES256-GCM-SHA384": "CN=Issuing",
}


class TlsCase(SynchronousTestCase):
    def setUp(self):
        folder = Path(self.mktemp())
        folder.mkdir()
        self.pki = Pki(folder)
        self.station = make_station(self.pki.issuing, "CP-001", now=self.pki.now)

    def listen(self, kind=REQUIRE, **changes):
        return Listener(self.pki.files(**changes), kind)

    def facts(self, listener, client):
        """Of a handshake that must succeed on both sides."""
        accepted = listener.connect(client)
        self.assertEqual(client.error, "")
        self.assertTrue(client.done)
        self.assertIsNone(accepted.tls.tls_failure())
        return accepted.tls.tls_facts()


class SuiteTests(TlsCase):
    def test_each_suite_of_ocpp_works_alone_with_the_certificate_it_needs(self):
        listener = self.listen()
        for suite, issuer in OCPP_SUITES.items():
            with self.subTest(suite=suite):
                client = Client(self.station, version="TLSv1.2", ciphers=suite, trusts=self.pki.root)
                self.assertEqual(self.facts(listener, client).cipher, suite)
                self.assertEqual(client.server_chain, ["O=Operator,CN=localhost", f"O=Operator,{issuer}"])

    def test_other_suites_with_forward_secrecy_work(self):
        listener = self.listen()
        for suite in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"):
            self.assertEqual(self.facts(listener, Client(self.station, version="TLSv1.2", ciphers=suite)).cipher, suite)

    def test_the_gateway_chooses_the_suite(self):
        worst_first = "AES256-GCM-SHA384:AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
        facts = self.facts(self.listen(), Client(self.station, version="TLSv1.2", ciphers=worst_first))
        self.assertEqual(facts.cipher, "ECDHE-RSA-AES128-GCM-SHA256")

    def test_one_certificate_serves_the_suites_of_its_kind(self):
        listener = self.listen(cert_paths=(self.pki.folder / "rsa.pem",))
        self.assertIn("RSA", self.facts(listener, Client(self.station, version="TLSv1.2")).cipher)
        only_ecdsa = Client(self.station, version="TLSv1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
        self.assertEqual(listener.connect(only_ecdsa).lose().kind, "TlsNoCommonCipher")

    def test_ciphers_can_be_set(self):
        listener = self.listen(ciphers="ECDHE-RSA-AES128-SHA256")
        facts = self.facts(listener, Client(self.station, version="TLSv1.2"))
        self.assertEqual(facts.cipher, "ECDHE-RSA-AES128-SHA256")

    def test_ciphers_that_openssl_does_not_know_are_refused_at_load(self):
        error = self.assertRaises(TlsMaterialError, self.listen, ciphers="NO-SUCH-CIPHER")
        self.assertIn("tls.ciphers", str(error))

    def test_certificate_that_openssl_does_not_take_is_refused_at_load(self):
        error = self.assertRaises(TlsMaterialError, self.listen, ciphers="ALL:@SECLEVEL=5")
        self.assertIn("rsa.pem: OpenSSL does not take this certificate: ee key too small", str(error))


class VersionTests(TlsCase):
    def test_tls_12_and_13_are_served(self):
        listener = self.listen()
        for version in ("TLSv1.2", "TLSv1.3"):
            self.assertEqual(self.facts(listener, Client(self.station, version=version)).version, version)

    def test_tls_13_is_preferred(self):
        self.assertEqual(self.facts(self.listen(), Client(self.station)).version, "TLSv1.3")

    def test_tls_11_is_refused(self):
        accepted = self.listen().connect(Client(self.station, version="TLSv1.1"))
        self.assertEqual(accepted.lose().kind, "TlsVersion")

    def test_tls_12_can_be_switched_off(self):
        listener = self.listen(min_version="TLSv1.3")
        self.assertEqual(self.facts(listener, Client(self.station)).version, "TLSv1.3")
        self.assertEqual(listener.connect(Client(self.station, version="TLSv1.2")).lose().kind, "TlsVersion")


class NameTests(TlsCase):
    def setUp(self):
        super().setUp()
        for name, subject in (("exact", "ocpp.example.com"), ("wild", "*.example.org")):
            self.pki.write(f"{name}.pem", make_server(self.pki.issuing, subject, now=self.pki.now).pem)
        sni = {name: (self.pki.folder / file,) for name, file in _SNI.items()}
        self.listener = self.listen(sni=sni)

    def served(self, server_name, version="TLSv1.3"):
        client = Client(self.station, server_name=server_name, version=version, trusts=self.pki.root)
        facts = self.facts(self.listener, client)
        self.assertEqual(facts.server_name, server_name)
        self.assertEqual(facts.certificate.common_name, "CP-001")
        return client.server_chain[0]

    def test_server_name_chooses_the_certificate(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            self.assertEqual(self.served("ocpp.example.com", version), "O=Operator,CN=ocpp.example.com")
            self.assertEqual(self.served("OCPP.Example.com", version), "O=Operator,CN=ocpp.example.com")

    def test_wildcard_serves_its_domain_but_not_what_is_below(self):
        self.assertEqual(self.served("a.example.org"), "O=Operator,CN=*.example.org")
        self.assertEqual(self.served("a.b.example.org"), "O=Operator,CN=localhost")

    def test_other_names_and_none_get_the_default(self):
        for name in ("other.example.com", "localhost", ""):
            self.assertEqual(self.served(name), "O=Operator,CN=localhost")

    def test_client_is_verified_behind_every_name(self):
        for name in ("ocpp.example.com", "localhost"):
            self.assertEqual(self.listener.connect(Client(server_name=name)).lose().kind, "TlsCertificateMissing")
            stranger = Client(make_station(None, "CP-001", now=self.pki.now), server_name=name)
            self.assertEqual(self.listener.connect(stranger).lose().kind, "TlsCertificateUnknownCa")

    def test_session_of_a_name_is_resumed(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            client = Client(self.station, server_name="ocpp.example.com", version=version)
            self.facts(self.listener, client)
            client.keep_session()
            facts = self.facts(self.listener, client)
            self.assertTrue(facts.resumed)
            self.assertEqual(facts.server_name, "ocpp.example.com")

    def test_swap_between_two_hellos_of_a_handshake_is_survived(self):
        client = Client(self.station, server_name="ocpp.example.com")
        binding.lib.SSL_set1_curves_list(client.tls._ssl, b"P-256:X25519MLKEM768")  # OpenSSL asks for the better one
        accepted = self.listener.accept()
        client.take(accepted.receive(client.step()))
        self.listener.load()
        gc.collect()
        second_hello = client.step()
        self.assertEqual(second_hello[:8], b"\x14\x03\x03\x00\x01\x01\x16\x03")  # RFC 8446 appendix D.4
        client.take(accepted.receive(second_hello))
        accepted.talk(client)
        self.assertTrue(accepted.done)
        self.assertEqual(client.server_chain[0], "O=Operator,CN=ocpp.example.com")


class ClientCertificateTests(TlsCase):
    def test_facts_name_the_certificate_with_its_chain(self):
        facts = self.facts(self.listen(), Client(self.station))
        self.assertEqual(facts.certificate.fingerprint, self.station.fingerprint)
        self.assertTrue(facts.asked)
        self.assertIsNone(facts.crl_fault)
        serials = (self.station.certificate.serial_number, self.pki.issuing.certificate.serial_number)
        names = ("O=Operator,CN=Issuing", "O=Operator,CN=Root")
        self.assertEqual(facts.certificate.chain, tuple((n, f"{s:X}") for n, s in zip(names, serials, strict=True)))

    def test_intermediates_may_come_from_the_bundle_or_from_the_station(self):
        self.assertTrue(self.facts(self.listen(), Client(self.station, chain=False)).certificate)
        self.pki.write_authorities(self.pki.root)
        self.assertTrue(self.facts(self.listen(), Client(self.station)).certificate)

    def test_intermediate_alone_is_no_anchor(self):
        self.pki.write_authorities(self.pki.issuing)
        self.assertEqual(self.listen().connect(Client(self.station)).lose().kind, "TlsCertificateUnknownCa")

    def test_listener_that_requests_takes_stations_with_and_without(self):
        listener = self.listen(REQUEST)
        self.assertEqual(self.facts(listener, Client(self.station)).certificate.common_name, "CP-001")
        facts = self.facts(listener, Client())
        self.assertTrue(facts.asked)
        self.assertIsNone(facts.certificate)

    def test_listener_that_requests_refuses_a_certificate_that_does_not_verify(self):
        stranger = Client(make_station(None, "CP-001", now=self.pki.now))
        self.assertEqual(self.listen(REQUEST).connect(stranger).lose().kind, "TlsCertificateUnknownCa")

    def test_listener_without_client_certificates_does_not_ask(self):
        facts = self.facts(self.listen(NONE), Client(self.station))
        self.assertFalse(facts.asked)
        self.assertIsNone(facts.certificate)

    def test_listener_that_requests_does_not_ask_without_a_ca(self):
        facts = self.facts(self.listen(REQUEST, ca_paths=()), Client(self.station))
        self.assertFalse(facts.asked)

    def test_listener_that_requires_needs_a_ca(self):
        error = self.assertRaises(TlsMaterialError, self.listen, ca_paths=())
        self.assertIn("tls.ca_path", str(error))

    def test_names_of_the_cas_are_sent(self):
        client = Client(self.station, version="TLSv1.2")
        self.facts(self.listen(), client)
        names = [name.rfc4514_string() for name in client.tls.get_client_ca_list(as_cryptography=True)]
        self.assertEqual(names, [f"O=Operator,CN={name}" for name in ("Root", "Issuing", "Other issuing")])

    def test_the_gateways_own_chain_is_not_completed_from_the_clients_cas(self):
        leaf = self.pki.ec.certificate.public_bytes(Encoding.PEM)
        path = self.pki.write("bare.pem", self.pki.ec.key_pem, leaf)
        client = Client(self.station)
        self.facts(self.listen(cert_paths=(path,)), client)
        self.assertEqual(client.server_chain, ["O=Operator,CN=localhost"])


class ResumptionTests(TlsCase):
    def twice(self, listener, version, between=lambda: None, client=None):
        """Facts of a second connection that offers the first one's session."""
        client = client or Client(self.station, version=version)
        self.assertFalse(self.facts(listener, client).resumed)
        client.keep_session()
        between()
        return self.facts(listener, client)

    def test_session_is_resumed_with_the_client_certificate_and_its_chain(self):
        listener = self.listen()
        for version in ("TLSv1.2", "TLSv1.3"):
            with self.subTest(version=version):
                facts = self.twice(listener, version)
                self.assertTrue(facts.resumed)
                self.assertEqual(facts.certificate.fingerprint, self.station.fingerprint)
                self.assertEqual(len(facts.certificate.chain), 2)

    def test_leaf_is_known_when_the_chain_is_forgotten(self):
        listener = self.listen()
        facts = self.twice(listener, "TLSv1.3", listener.creator.generation.verifier.forget)
        self.assertTrue(facts.resumed)
        self.assertEqual(facts.certificate.fingerprint, self.station.fingerprint)
        self.assertEqual(len(facts.certificate.chain), 1)

    def test_session_without_ticket_is_resumed_after_a_lost_link(self):
        listener = self.listen()
        client = Client(self.station, version="TLSv1.2", tickets=False)
        accepted = listener.connect(client)
        accepted.tls.dataReceived(client.records(b"GET / HTTP/1.1\r\n\r\n")[0])
        accepted.lose()
        client.keep_session()
        del accepted
        gc.collect()
        self.assertTrue(self.facts(listener, client).resumed)

    def test_no_session_outlives_a_swap(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            listener = self.listen()
            facts = self.twice(listener, version, listener.load)
            self.assertFalse(facts.resumed)
            self.assertEqual(facts.certificate.fingerprint, self.station.fingerprint)

    def test_sessions_can_be_switched_off(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            self.assertFalse(self.twice(self.listen(session_seconds=0), version).resumed)

    def test_resumed_session_of_a_revoked_certificate_shows_the_fault(self):
        listener = self.listen()
        revoking = self.listen(crl_check="leaf", crl_paths=(self.pki.write_crls(self.station),))
        facts = self.twice(listener, "TLSv1.3", lambda: setattr(listener.creator, "crls", revoking.creator.crls))
        self.assertTrue(facts.resumed)
        self.assertEqual(facts.crl_fault.kind, "revoked")

    def test_session_of_a_listener_without_certificates_is_not_resumed_where_one_is_required(self):
        creator = TlsCreator((NONE, REQUIRE), lambda: self.pki.now)
        creator.swap(creator.prepare(load(self.pki.files(), self.pki.now)))
        open_port, strict_port = (
            TlsFactory(creator, kind, Factory.forProtocol(Edge), Clock()) for kind in (NONE, REQUIRE)
        )
        for version in ("TLSv1.2", "TLSv1.3"):
            client = Client(version=version)
            Accepted(open_port).talk(client)
            client.keep_session()
            client.begin()
            resumed = Accepted(open_port)
            resumed.talk(client)
            self.assertTrue(resumed.tls.tls_facts().resumed)
            client.begin()
            accepted = Accepted(strict_port)
            accepted.talk(client)
            self.assertEqual(accepted.lose().kind, "TlsCertificateMissing")

    def test_remembered_certificates_are_bounded(self):
        listener = self.listen()
        verifier = listener.creator.generation.verifier
        verifier._kept = 3
        stations = [make_station(self.pki.issuing, f"CP-{n}", now=self.pki.now, label="all") for n in range(5)]
        for station in (*stations, stations[2]):
            self.facts(listener, Client(station))
        known = [certificate.common_name for _, certificate in verifier._known.values()]
        self.assertEqual(known, ["CP-3", "CP-4", "CP-2"])


class RenegotiationTests(TlsCase):
    def test_renegotiation_is_refused_and_the_connection_goes_on(self):
        listener = self.listen()
        client = Client(self.station, version="TLSv1.2")
        accepted = listener.connect(client)
        client.tls.renegotiate()
        self.assertRaises(SSL.WantReadError, client.tls.do_handshake)
        answer = accepted.receive(client.tls.bio_read(65_536))
        self.assertEqual(answer[:1], b"\x15")  # an alert: no_renegotiation
        self.assertIsNone(accepted.edge.lost)


_SNI = {"ocpp.example.com": "exact.pem", "*.example.org": "wild.pem"}

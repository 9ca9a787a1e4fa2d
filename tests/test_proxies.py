"""A station's address behind proxies: believed from listed ones only, and only the end of what they say."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.addresses import parse_network
from ocppgw.access.proxies import MAX_HOPS, Origin, ProxyRules, origin
from ocppgw.access.refusals import Reason, Refused

PROXY, INNER, STATION = "10.0.0.1", "10.0.0.2", "198.51.100.7"
TRUSTED = (parse_network("10.0.0.0/8"), parse_network("fd00::/8"))
XFF = ProxyRules(TRUSTED, "x-forwarded-for")
FORWARDED = ProxyRules(TRUSTED, "forwarded")


def by_xff(text, peer=PROXY, **headers):
    return origin(peer, {"x-forwarded-for": text, **headers}, XFF)


class TrustTests(SynchronousTestCase):
    def test_nobody_else_is_believed(self):
        self.assertEqual(by_xff("192.0.2.1", peer=STATION), Origin(STATION))
        self.assertEqual(origin(STATION, {"forwarded": "for=192.0.2.1;proto=https"}, FORWARDED), Origin(STATION))

    def test_without_a_configured_header_none_is_looked_at(self):
        self.assertEqual(origin(PROXY, {"x-forwarded-for": STATION}, ProxyRules(TRUSTED, "none")), Origin(PROXY))

    def test_the_other_header_is_not_looked_at(self):
        self.assertIsInstance(origin(PROXY, {"forwarded": f"for={STATION}"}, XFF), Refused)

    def test_what_the_station_itself_put_in_front_proves_nothing(self):
        self.assertEqual(by_xff(f"127.0.0.1, 10.9.9.9, 192.0.2.66, {STATION}"), Origin(STATION, PROXY))
        self.assertEqual(by_xff(f"nonsense, {STATION}"), Origin(STATION, PROXY))

    def test_listed_proxies_in_between_are_passed_over(self):
        self.assertEqual(by_xff(f"{STATION}, {INNER}"), Origin(STATION, PROXY))

    def test_where_all_are_proxies_the_first_is_the_client(self):
        self.assertEqual(by_xff(f"10.1.1.1, {INNER}"), Origin("10.1.1.1", PROXY))

    def test_a_proxy_that_names_no_address_is_refused(self):
        for text in (
            "",
            " ",
            "unknown",
            "_hidden",
            f"{STATION}, ",
            f"{STATION}, x",
            ",".join([INNER] * (MAX_HOPS + 1)),
        ):
            refused = by_xff(text)
            self.assertIsInstance(refused, Refused, text)
            self.assertIs(refused.reason, Reason.PROXY_HEADER_INVALID)
        self.assertIsInstance(origin(PROXY, {}, XFF), Refused)


class SpellingTests(SynchronousTestCase):
    def test_ports_and_brackets_are_taken_off(self):
        for text in (f"{STATION}:4711", f" {STATION} "):
            self.assertEqual(by_xff(text), Origin(STATION, PROXY))
        self.assertEqual(by_xff("[2001:db8::1]:4711"), Origin("2001:db8::1", PROXY))
        self.assertEqual(by_xff("2001:db8::1", peer="fd00::1"), Origin("2001:db8::1", "fd00::1"))

    def test_forwarded_is_read_as_rfc_7239_writes_it(self):
        for text, wanted in (
            (f"for={STATION}", Origin(STATION, PROXY)),
            (f'For="{STATION}:4711";proto=HTTPS;by={PROXY}', Origin(STATION, PROXY, is_secure=True)),
            (f'for=192.0.2.9, for="{STATION}";proto=http, for={INNER}', Origin(STATION, PROXY)),
            ('for="[2001:db8:cafe::17]:4711"', Origin("2001:db8:cafe::17", PROXY)),
            (f'for=192.0.2.1;host="a, for=10.0.0.9", for={STATION}', Origin(STATION, PROXY)),
        ):
            self.assertEqual(origin(PROXY, {"forwarded": text}, FORWARDED), wanted, text)

    def test_the_last_proxy_says_whether_it_was_tls(self):
        self.assertTrue(by_xff(STATION, **{"x-forwarded-proto": "https"}).is_secure)
        self.assertTrue(by_xff(STATION, **{"x-forwarded-proto": "http, wss"}).is_secure)
        self.assertFalse(by_xff(STATION, **{"x-forwarded-proto": "https, http"}).is_secure)
        self.assertFalse(by_xff(STATION).is_secure)

    @given(st.text(max_size=80))
    def test_no_header_makes_it_raise(self, text):
        for header, rules in (("x-forwarded-for", XFF), ("forwarded", FORWARDED)):
            found = origin(PROXY, {header: text}, rules)
            self.assertIsInstance(found, Origin | Refused)

"""The Redis URL and the names of keys."""

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import ConfigError
from ocppgw.net.redis import RedisAddress, RedisSettings, parse_url
from ocppgw.net.redis.keys import Keys, pattern

LOCAL = RedisAddress("127.0.0.1")


class Urls(SynchronousTestCase):
    def test_every_part_of_a_url_counts(self) -> None:
        for url, address in (
            ("redis://redis.example", RedisAddress("redis.example", 6379, 0, "", "", False)),
            ("redis://redis.example:7000/", RedisAddress("redis.example", 7000)),
            ("redis://:s3cret@h/3", RedisAddress("h", 6379, 3, "", "s3cret")),
            ("rediss://user:p%40ss%2Fword%3A@h:1/15", RedisAddress("h", 1, 15, "user", "p@ss/word:", True)),
            ("redis://[::1]:6380/0", RedisAddress("::1", 6380)),
        ):
            self.assertEqual(parse_url(url), address, url)

    def test_a_url_that_cannot_be_used_is_refused_without_repeating_its_password(self) -> None:
        for url, said in (
            ("", "must begin with redis://"),
            ("http://user:s3cret@h/0", "must begin with redis://"),
            ("localhost:6379", "must begin with redis://"),
            ("redis://", "names no host"),
            ("redis:///0", "names no host"),
            ("redis://user:s3cret@/0", "names no host"),
            ("redis://user:s3cret@h:port/0", "invalid host or port"),
            ("redis://user:s3cret@h:70000/0", "invalid host or port"),
            ("redis://user:s3cret@[::1/0", "invalid host or port"),
            ("redis://user:s3cret@h/zero", "number of the database"),
            ("redis://user:s3cret@h/-1", "number of the database"),
            ("redis://user:s3cret@h/0/1", "number of the database"),
            ("redis://user:s3cret?@h/0", ""),
            ("redis://h/0?password=s3cret", "goes on after"),
            ("redis://user@h/0", "user without a password"),
        ):
            with self.assertRaisesRegex(ConfigError, said, msg=url) as caught:
                parse_url(url)
            self.assertNotIn("s3cret", str(caught.exception))

    def test_the_password_shows_nowhere(self) -> None:
        address = parse_url("redis://user:s3cret@h/0")
        for shown in (repr(address), str(address), f"{address}", repr(RedisSettings(address=address))):
            self.assertNotIn("s3cret", shown)
        self.assertEqual(str(address), "h:6379/0")
        self.assertEqual(str(parse_url("redis://[::1]:1/2")), "[::1]:1/2")


class KeyNames(SynchronousTestCase):
    def test_keys_are_the_contracts(self) -> None:
        keys = Keys(RedisSettings(address=LOCAL))
        self.assertEqual(keys.identity("CP-001"), "ocpp:chargers:CP-001")
        self.assertEqual(keys.revocation("AB12"), "ocpp:revoked-certs:AB12")
        self.assertEqual(keys.profiles, "ocpp:security-profiles")

    def test_without_a_prefix_nothing_stands_in_front(self) -> None:
        keys = Keys(RedisSettings(address=LOCAL, prefix="", identity_prefix="ids"))
        self.assertEqual(keys.identity("CP-001"), "ids:CP-001")
        self.assertEqual(keys.revocation("AB12"), "revoked-certs:AB12")

    def test_families_of_keys_that_cannot_be_told_apart_are_refused(self) -> None:
        for identities, revoked in (("a", "a"), ("a", "a:b"), ("a:b", "a"), ("attempts", "r"), ("i", "attempts")):
            with self.assertRaisesRegex(ConfigError, "can't be told apart"):
                Keys(RedisSettings(address=LOCAL, identity_prefix=identities, revoked_prefix=revoked))

    def test_a_pattern_matches_its_characters_and_nothing_else(self) -> None:
        self.assertEqual(pattern("a*b?[c]\\:"), "a\\*b\\?\\[c\\]\\\\:*")

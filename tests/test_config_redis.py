"""Settings of Redis and of the node among its peers: names, rules, and no secret in what is said."""

import io
import time

from rich.console import Console

from ocppgw.config import Settings, check
from ocppgw.config.redis_settings import RESERVED_KEYS, url_fault
from ocppgw.errors import ConfigError, OcppgwError
from ocppgw.net.redis import RedisAddress, RedisSettings, parse_url
from ocppgw.net.redis.fleet_keys import FleetKeys
from ocppgw.net.redis.keys import Keys
from ocppgw.pki import make_root
from ocppgw.rules_from_settings import redis_settings, redis_tls
from tests.test_config import SECRET, ConfigTestCase

URL = f"redis://gateway:{SECRET}@redis.example:6380/2"
ON = {"KAFKA_ENABLED": "true", "NODE_ID": "n1", "REDIS_ENABLED": "true", "REDIS_URL": URL}


class RedisConfig(ConfigTestCase):
    def keys(self, text: str = "", **environ: str) -> list[str]:
        return [problem.key for problem in self.problems(text, ON | environ)]

    def test_the_variables_of_the_existing_gateway_are_understood(self) -> None:
        environ = {
            "REQUIRE_REDIS": "true",
            "REDIS_PREFIX": "fleet-1",
            "OCPP_IDENTITY_PREFIX": "ids",
            "OCPP_REVOKED_PREFIX": "revoked",
            "REDIS_CONNECT_TIMEOUT_MS": "1500",
            "SESSION_TTL_SECONDS": "600",
            "SESSION_STALE_SECONDS": "300",
            "OCPP_RESPONSE_CACHE_REDIS": "false",
            "NODE_TTL_SECONDS": "60",
            "NODE_HEARTBEAT_SECONDS": "15",
            "NODE_ADVERTISE_URL": "wss://n1.example",
        }
        loaded = self.load("", ON | environ)
        self.assertEqual(loaded.warnings, [])
        redis, node = loaded.settings.redis, loaded.settings.node
        self.assertEqual(redis.url.get_secret_value(), URL)
        self.assertTrue(redis.enabled and redis.required and not redis.response_cache)
        self.assertEqual((redis.prefix, redis.identity_prefix, redis.revoked_prefix), ("fleet-1", "ids", "revoked"))
        self.assertEqual((redis.session_ttl_seconds, redis.session_stale_seconds), (600, 300))
        self.assertEqual((node.ttl_seconds, node.heartbeat_seconds), (60, 15))
        self.assertEqual(node.advertise_url, "wss://n1.example")
        self.assertEqual(redis_settings(loaded.settings).connect_timeout, 1.5)

    def test_without_redis_none_of_it_is_asked_for(self) -> None:
        self.assertFalse(Settings().redis.enabled)
        self.assertEqual(self.load("", {"REDIS_ENABLED": "false", "REDIS_URL": "redis://h"}).warnings, [])

    def test_redis_needs_kafka_and_says_how_to_mend_it(self) -> None:
        (problem,) = self.problems("", ON | {"KAFKA_ENABLED": "false"})
        self.assertEqual(problem.key, "redis.enabled")
        self.assertIn("needs Kafka", problem.message)
        self.assertIn("KAFKA_ENABLED = true", problem.hint)

    def test_required_needs_enabled(self) -> None:
        self.assertEqual(self.keys(REDIS_ENABLED="false", REQUIRE_REDIS="true"), ["redis.required"])

    def test_a_switch_that_is_neither_yes_nor_no_stops_the_start(self) -> None:
        for name, key in (("REDIS_ENABLED", "redis.enabled"), ("REQUIRE_REDIS", "redis.required")):
            self.assertEqual(self.keys(**{name: "required"}), [key])

    def test_a_url_is_required(self) -> None:
        (problem,) = self.problems("", ON | {"REDIS_URL": " "})
        self.assertEqual((problem.key, problem.message), ("redis.url", "is required by redis.enabled"))

    def test_a_wrong_url_is_never_quoted(self) -> None:
        for url in (f"http://u:{SECRET}@h", f"redis://u:{SECRET}@", f"redis://u:{SECRET}@h:x", f"redis://h/0?{SECRET}"):
            for text, environ in (("", {"REDIS_URL": url}), (f"[redis]\nurl = '{url}'\n", {"REDIS_URL": ""})):
                report = check(self.write(text), ON | environ)
                self.assertEqual([problem.key for problem in report.errors], ["redis.url"])
                self.assertNotIn(SECRET, repr(report))

    def test_the_check_of_urls_agrees_with_what_uses_them(self) -> None:
        for url in (
            "redis://h",
            "redis://:pw@h/3",
            "rediss://u:p%40@h:1/15",
            "redis://[::1]:6380/0",
            "",
            "h:6379",
            "redis://",
            "redis://u:pw@/0",
            "redis://h:port",
            "redis://h:70000",
            "redis://[::1/0",
            "redis://h/zero",
            "redis://h/-1",
            "redis://h/0/1",
            "redis://h/0#x",
            "redis://user@h/0",
        ):
            try:
                parse_url(url)
                is_good = True
            except ConfigError:
                is_good = False
            self.assertEqual(url_fault(url) == "", is_good, url)

    def test_prefixes_must_be_told_apart(self) -> None:
        self.assertEqual(self.keys(OCPP_IDENTITY_PREFIX="a", OCPP_REVOKED_PREFIX="a"), ["redis.revoked_prefix"])
        self.assertEqual(self.keys(OCPP_IDENTITY_PREFIX="a:b", OCPP_REVOKED_PREFIX="a"), ["redis.revoked_prefix"])
        for name in ("sessions", "nodes", "command-audit:unique", "transaction"):
            self.assertEqual(self.keys(OCPP_IDENTITY_PREFIX=name), ["redis.identity_prefix"])
            self.assertEqual(self.keys(OCPP_REVOKED_PREFIX=name), ["redis.revoked_prefix"])
        self.assertEqual(self.keys(OCPP_IDENTITY_PREFIX="a*"), ["redis.identity_prefix"])

    def test_every_key_of_the_gateway_has_a_reserved_name(self) -> None:
        keys, fleet = Keys(RedisSettings(address=RedisAddress("h"))), FleetKeys("ocpp")
        names = [name for held in (keys, fleet) for name in vars(held).values() if name != fleet.front]
        own = {name.split(":")[1] for name in names if name not in (keys.identities, keys.revocations)}
        self.assertEqual(own - RESERVED_KEYS, set())

    def test_a_stale_session_is_younger_than_one_that_expires(self) -> None:
        self.assertEqual(
            self.keys(SESSION_STALE_SECONDS="900", SESSION_TTL_SECONDS="900"), ["redis.session_stale_seconds"]
        )

    def test_a_node_is_refreshed_twice_in_its_life(self) -> None:
        self.assertEqual(self.keys(NODE_HEARTBEAT_SECONDS="30", NODE_TTL_SECONDS="60"), ["node.heartbeat_seconds"])

    def test_sentinels_and_their_master_go_together(self) -> None:
        both = {"REDIS_SENTINELS": "s1.example:26379, [::1]:26380", "REDIS_SENTINEL_MASTER": "main"}
        found = redis_settings(self.load("", ON | both).settings)
        self.assertEqual(found.sentinels, (("s1.example", 26379), ("::1", 26380)))
        self.assertEqual(found.sentinel_master, "main")
        self.assertEqual(self.keys(REDIS_SENTINELS="s1:1"), ["redis.sentinel_master"])
        self.assertEqual(self.keys(REDIS_SENTINEL_MASTER="main"), ["redis.sentinel_master"])
        self.assertEqual(self.keys(REDIS_SENTINEL_PASSWORD=SECRET), ["redis.sentinel_password"])
        self.assertEqual(self.keys(REDIS_SENTINELS="s1", REDIS_SENTINEL_MASTER="main"), ["redis.sentinels.0"])

    def test_tls_belongs_to_a_url_that_speaks_it(self) -> None:
        loaded = self.load('[redis]\ntls_ca_path = "ca.pem"\n', ON)
        self.assertEqual([warning.key for warning in loaded.warnings], ["redis.url"])
        self.assertEqual(self.keys('[redis]\ntls_key_path = "key.pem"\n'), ["redis.tls_key_path"])

    def test_the_files_of_tls_are_read_at_the_start_beside_the_configuration(self) -> None:
        self.assertIsNone(redis_tls(self.load("", ON).settings, self.folder))
        text, tls = '[redis]\ntls_ca_path = "ca.pem"\n', ON | {"REDIS_URL": URL.replace("redis:", "rediss:")}
        settings = self.load(text, tls).settings
        with self.assertRaisesRegex(OcppgwError, "ca.pem"):
            redis_tls(settings, self.folder)
        (self.folder / "ca.pem").write_bytes(make_root("ours", time.time(), days=100.0).chain_pem)
        creator = redis_tls(settings, self.folder)
        assert creator is not None
        self.assertIs(creator("redis.example"), creator("redis.example"))

    def test_what_is_cached_is_for_outages_only_when_asked_for(self) -> None:
        self.assertEqual(redis_settings(self.load("", ON).settings).cached_admission, 0.0)
        text = '[redis]\nwhen_away = "cached"\ncached_admission_seconds = 60.0\n'
        self.assertEqual(redis_settings(self.load(text, ON).settings).cached_admission, 60.0)

    def test_secrets_do_not_show(self) -> None:
        environ = ON | {
            "REDIS_SENTINELS": "s1.example:26379",
            "REDIS_SENTINEL_MASTER": "main",
            "REDIS_SENTINEL_PASSWORD": SECRET,
        }
        settings = self.load("", environ).settings
        out = io.StringIO()
        Console(file=out).print(redis_settings(settings))
        for shown in (repr(settings), settings.model_dump_json(), repr(redis_settings(settings)), out.getvalue()):
            self.assertNotIn(SECRET, shown)

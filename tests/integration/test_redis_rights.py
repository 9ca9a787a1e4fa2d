"""All that is kept in Redis, as a user with exactly the rights that the package's docstring lists; also over TLS."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

import ocppgw.net.redis as redis_package
from ocppgw.net.outgoing import TlsClient
from ocppgw.net.redis import RedisSettings, parse_url
from ocppgw.net.redis.fleet_store import FleetStore
from tests.contract_access import FINGERPRINT, IDENTITY, AccessContract
from tests.contract_sessions import SessionsContract
from tests.contract_store import StoreContract
from tests.integration import redis_nodes as access
from tests.integration import store_nodes as stations
from tests.integration import test_redis_sessions as sessions
from tests.integration.certificates import Pki
from tests.services import RedisServer, RedisUser

pytest_plugins = ("tests.integration.certificates", "tests.services.fixtures")

ADMIN = RedisUser("admin", "an admin's password")
ROOT = Path(__file__).parents[2]


def least_rights() -> list[str]:
    text = redis_package.__doc__ or ""
    return [word for line in text.splitlines() for word in line.split() if word[0] in "~+&"]


class Limited:
    """A RedisServer whose URL is that of a user with those rights and no others."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        redis.call("ACL", "SETUSER", "least", "reset", "on", ">least", *least_rights())

    def url(self) -> str:
        return self._redis.url().replace("redis://", "redis://least:least@")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)


class LimitedCase(SynchronousTestCase):
    redis: Any

    @pytest.fixture(autouse=True)
    def _redis(self, session_redis: RedisServer) -> None:
        self.redis = Limited(session_redis)
        self.prefix = f"ocpp:{uuid.uuid4()}"


class Access(AccessContract, LimitedCase):
    def build(self) -> Any:
        node = access.Node(self.redis, self.prefix)
        self.addCleanup(node.stop)
        return node


class Stations(StoreContract, LimitedCase):
    def build(self) -> Any:
        node = stations.Node(self.redis, self.prefix)
        self.addCleanup(node.stop)
        return node

    def store_changes(self, *changes: Any) -> None:
        for change in changes:
            self.built.apply(change)  # type: ignore[attr-defined]
        self.built.settle()


class Sessions(SessionsContract, LimitedCase):
    def build(self) -> Any:
        fleet = sessions.RealFleet(self.redis, self.prefix)
        self.addCleanup(fleet.stop)
        return fleet


def test_operators_are_told_of_the_same_rights() -> None:
    text = " ".join((ROOT / "docs/operators.md").read_text().split())
    shown = text.partition("user gateway on >PASSWORD ")[2].partition(" (in one line)")[0].split()
    assert sorted(shown) == sorted(least_rights())


@access.blocking
def test_a_limited_user_over_tls(tmp_path: Path, pki: Pki) -> None:
    user = RedisUser("gateway", "correct horse:staple/@", rules=" ".join(least_rights()))
    with RedisServer(tmp_path, users=[ADMIN, user], tls=pki.files) as redis:
        settings = RedisSettings(address=parse_url(redis.url(user)), call_timeout=2.0)
        client = {"tls": lambda host: TlsClient(host, pki.files.root).creator()}
        store = FleetStore(settings, reactor, access.Journal().publish, stations.Local(), **client)
        store.start()
        try:
            pytest_twisted.blockon(store.put_identity(IDENTITY))
            assert pytest_twisted.blockon(store.look_up("CP-1", FINGERPRINT)).identity == IDENTITY
            access.until(lambda: store.hears_of_changes)
            redis.call("SET", "ocpp:chargers:CP-1", '{"v": 2}')
            access.until(lambda: pytest_twisted.blockon(store.look_up("CP-1")).identity == {"v": 2})
            pytest_twisted.blockon(store.stations.flush())
            assert store.status() == (True, "")
        finally:
            store.stop()

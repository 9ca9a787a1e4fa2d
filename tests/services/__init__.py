"""Real Redis and Kafka for tests, benches and `make services`: started, stopped, killed, paused, wiped. Blocking.

`tools/install-services` installs both. Fixtures for them: `pytest_plugins = ("tests.services.fixtures",)`. The standard
library is all this package needs, so that tools can use it before anything is installed.
"""

from tests.services.kafka import KafkaServer
from tests.services.process import ServiceProcess, free_ports, wait_until
from tests.services.redis import RedisServer, RedisUser
from tests.services.resp import RedisConnection, RedisReplyError
from tests.services.sentinels import RedisSentinels

__all__ = [
    "KafkaServer",
    "RedisConnection",
    "RedisReplyError",
    "RedisSentinels",
    "RedisServer",
    "RedisUser",
    "ServiceProcess",
    "free_ports",
    "wait_until",
]

"""What breaks: each acts on a running fleet for a while, and leaves it whole."""

import random
import resource
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.fleet import Fleet
from tests.services import KafkaServer, RedisServer


class Surroundings:
    """What a fault may lay hands on. `kafka_seconds`: how long Kafka is away. `sentinels`: with a primary to kill."""

    def __init__(
        self,
        fleet: Fleet,
        kafka: KafkaServer,
        redis: RedisServer,
        chance: random.Random,
        kafka_seconds: float,
        sentinels: Any = None,
    ) -> None:
        self.fleet, self.kafka, self.redis, self.chance = fleet, kafka, redis, chance
        self.kafka_seconds, self.sentinels = kafka_seconds, sentinels


Fault = Callable[[Surroundings], None]


def nothing(_around: Surroundings) -> None:
    """The load alone."""


def kill_node(around: Surroundings) -> None:
    node = around.chance.choice(around.fleet.nodes)
    node.kill()
    time.sleep(around.chance.uniform(0.0, 4.0))
    node.start()


def pause_node(around: Surroundings) -> None:
    node = around.chance.choice(around.fleet.nodes)
    node.signal(signal.SIGSTOP)
    time.sleep(around.chance.uniform(0.5, 9.0))
    node.signal(signal.SIGCONT)


def pause_nodes_in_turn(around: Surroundings) -> None:
    """For longer than stations wait, with a station here and there that comes back to a node that still hangs."""
    for _ in range(3):
        node = around.chance.choice(around.fleet.nodes)
        node.signal(signal.SIGSTOP)
        time.sleep(around.chance.uniform(3.0, 10.0))
        node.signal(signal.SIGCONT)
        time.sleep(around.chance.uniform(0.0, 1.0))


def pause_node_for_long(around: Surroundings) -> None:
    """Until others have ended its commands, and it wants to end them, too."""
    node = around.chance.choice(around.fleet.nodes)
    node.signal(signal.SIGSTOP)
    time.sleep(around.chance.uniform(17.0, 22.0))
    node.signal(signal.SIGCONT)


def stop_node(around: Surroundings) -> None:
    """In order: it drains."""
    node = around.chance.choice(around.fleet.nodes)
    node.stop(60.0)
    node.start()


def stop_kafka(around: Surroundings) -> None:
    around.kafka.kill()
    time.sleep(around.kafka_seconds)
    around.kafka.restart()


def pause_kafka(around: Surroundings) -> None:
    around.kafka.pause()
    time.sleep(around.kafka_seconds * around.chance.uniform(0.3, 1.0))
    around.kafka.resume()


def restart_redis(around: Surroundings) -> None:
    around.redis.kill()
    time.sleep(around.chance.uniform(0.0, 3.0))
    around.redis.restart()


def empty_redis(around: Surroundings) -> None:
    around.redis.kill()
    around.redis.restart(empty=True)


def fail_over(around: Surroundings) -> None:
    around.sentinels.fail_over()


def cut_redis(around: Surroundings) -> None:
    """One node can't reach Redis; the others can, and Kafka everybody."""
    cable = around.chance.choice(around.fleet.cables)
    cable.cut()
    time.sleep(around.chance.uniform(1.0, 8.0))
    cable.mend()


def fill_disk(around: Surroundings) -> None:
    """A node's files can't grow: what a full disk is to SQLite."""
    node = around.chance.choice(around.fleet.nodes)
    _, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (1, hard))
    time.sleep(around.chance.uniform(1.0, 5.0))
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (hard, hard))


def kill_node_while_kafka_is_away(around: Surroundings) -> None:
    around.kafka.kill()
    time.sleep(1.0)
    node = around.chance.choice(around.fleet.nodes)
    node.kill()
    time.sleep(1.0)
    node.start()
    time.sleep(around.kafka_seconds / 2)
    around.kafka.restart()


def both_away(around: Surroundings) -> None:
    around.kafka.pause()
    around.redis.pause()
    time.sleep(around.chance.uniform(1.0, 5.0))
    around.redis.resume()
    around.kafka.resume()


FAULTS: dict[str, Fault] = {
    "none": nothing,
    "kill -9 of a node": kill_node,
    "node paused": pause_node,
    "nodes paused in turn": pause_nodes_in_turn,
    "node paused for long": pause_node_for_long,
    "node stopped in order": stop_node,
    "Kafka stopped": stop_kafka,
    "Kafka paused": pause_kafka,
    "Redis restarted": restart_redis,
    "Redis restarted empty": empty_redis,
    "Redis failover": fail_over,
    "node cut off from Redis": cut_redis,
    "disk full": fill_disk,
    "node killed while Kafka is away": kill_node_while_kafka_is_away,
    "Redis and Kafka paused": both_away,
}

# Two disks have the events of a station: they come to Kafka as their nodes get to it, and are in order when sorted.
MOVED_WITHOUT_KAFKA = frozenset({"node killed while Kafka is away"})

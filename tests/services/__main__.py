"""`make services`: Redis and Kafka in the foreground, on their usual ports or the next free ones, until Ctrl-C."""

import argparse
import fcntl
import itertools
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.services.kafka import KafkaServer
from tests.services.process import ServiceProcess, is_free, wait_until
from tests.services.redis import RedisServer

FOR_EVER = float("inf")

READY = """
Redis {redis}, Kafka {kafka}; their data and logs are in {folder}. Ctrl-C stops both.
In a second terminal, one node with Kafka:

KAFKA_ENABLED=true KAFKA_BROKERS={brokers} make run

and in two others two nodes of one fleet:

export KAFKA_ENABLED=true KAFKA_BROKERS={brokers} REDIS_ENABLED=true REDIS_URL=redis://127.0.0.1:{redis_port}/0
NODE_ID=one make run
NODE_ID=two PORT=3002 WEBSOCKET_OCPP_PORT=8081 OCPPGW_STATE_DIR=var/two make run
"""


def main() -> int:
    options = parsed()
    options.folder.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: whoever starts this in the background ignores it
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as started, (options.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Redis and Kafka of {options.folder} run already, in another terminal.", file=sys.stderr)
            return 1
        try:
            return serve(options, started)
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # they are being stopped
            print("\nStopping Redis and Kafka …", flush=True)
            return 0


def serve(options: argparse.Namespace, started: ExitStack) -> int:
    redis = RedisServer(options.folder / "redis", next_free(options.redis_port))
    kafka = KafkaServer(options.folder / "kafka", next_free(options.kafka_port))
    services: tuple[ServiceProcess, ...] = (redis, kafka)
    for service in services:
        try:
            started.enter_context(service)
        except AssertionError as e:
            print(e, file=sys.stderr)
            return 1
    ports = {"redis": f"at 127.0.0.1:{redis.port}", "kafka": f"at {kafka.brokers}"}
    print(READY.format(**ports, folder=options.folder, brokers=kafka.brokers, redis_port=redis.port), flush=True)
    wait_until(lambda: any(service.has_ended() for service in services), "the end", FOR_EVER)
    ended = next(service for service in services if service.has_ended())
    print(ended.said("ended by itself"), file=sys.stderr)
    return 1


def next_free(port: int) -> int:
    return next(filter(is_free, itertools.count(port)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/services", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("var/services"), help="for data and logs (%(default)s)")
    parser.add_argument("--redis-port", type=int, default=6379, help="%(default)s, or the next free one")
    parser.add_argument("--kafka-port", type=int, default=9092, help="%(default)s, or the next free one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

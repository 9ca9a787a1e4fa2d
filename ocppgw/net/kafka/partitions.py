"""Which partition a key belongs to: the choice of Kafka's default partitioner, so that other producers agree."""

from functools import lru_cache

from kafka.partitioner import murmur2

KEYS_KEPT = 32_768  # the same stations send again and again, and the hash is computed in Python


def partition_of(key: str, partitions: int) -> int:
    return _hash(key) % partitions


@lru_cache(KEYS_KEPT)
def _hash(key: str) -> int:
    return int(murmur2(key.encode())) & 0x7FFF_FFFF

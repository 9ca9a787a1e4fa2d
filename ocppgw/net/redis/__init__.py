"""The part of the store that says who may connect (ports.AccessStore), in Redis, shared by all nodes.

settings.py    what is configured
keys.py        names of keys
health.py      what is wrong, told once an outage
replies.py     what Redis answers, parsed
wire.py        one TCP connection: the client library's protocol (txredisapi) with its traps taken out
connection.py  a connection that comes again, and calls with time limits
scripts.py     Lua
records.py     what stands in Redis, read and written
cache.py       what was looked up, for a few seconds
lookups.py     looking a station up, in at most one round trip
tracking.py    Redis tells of changes
changes.py     changes, told to listeners; sweeps where Redis does not tell
listing.py     all identities, all revocations
attempts.py    who tried to connect, bounded
store.py       all of it as one store

Keys, each behind `{prefix}:` (nothing when the prefix is empty). The first two are the outside contract's: anybody may
write them, with redis-cli for example.

    chargers:{chargePointId}        string   identity JSON
    revoked-certs:{FINGERPRINT}     string   `1` or the audit entry as JSON; with a time to live, or for ever
    security-profiles               hash     chargePointId → the highest security profile it ever connected with
    attempts                        zset     one member an attempt, score = its number: 16 hex digits of whom it counts
                                             for, 16 of its origin, 15 digits number, then JSON [at, chargePointId,
                                             address, fingerprint, common name, refused]
    attempts:bodies                 hash     number → the attempt's JSON
    attempts:counts                 hash     whom it counts for → how many there are

The least that Redis' ACL must allow, for the prefix `ocpp`; without the last line changes that others make are looked
for every 1.5 seconds, for connected stations, instead of heard of:

    ~ocpp:* +ping +select +scan +mget +get +set +del +hget +hmget +hset +hdel +hincrby +zadd +zrem +zcard +zrevrange
    +zrevrangebyscore +expire +eval +evalsha
    &__redis__:invalidate +subscribe +client|id +client|tracking

A profile that another node raises is not told of: it counts here when what is cached of the station runs out, after
`cache_seconds` at most.

Importing this package installs Twisted's reactor, because txredisapi imports it.
"""

from ocppgw.net.redis.settings import RedisAddress, RedisSettings, parse_url
from ocppgw.net.redis.store import RedisAccessStore

__all__ = ["RedisAccessStore", "RedisAddress", "RedisSettings", "parse_url"]

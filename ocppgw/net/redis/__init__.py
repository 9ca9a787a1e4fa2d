"""What the nodes of a fleet share, in Redis.

The way there:
settings.py    what is configured
health.py      what is wrong, told once an outage
troubles.py    failures as sentences
replies.py     what Redis answers, parsed
wire.py        one TCP connection: the client library's protocol (txredisapi) with its traps taken out
connection.py  a connection that comes again, and calls with time limits
sentinel.py    which Redis is the master, asked of its Sentinels
endpoints.py   where connections go, with TLS or without

Who may connect (ports.AccessStore):
keys.py        names of keys
scripts.py     Lua
records.py     what stands in Redis, read and written
cache.py       what was looked up, for a few seconds
memory.py      what Redis last said, for while it is away
fleet.py       whether this Redis is the one that it was, or was emptied
lookups.py     looking a station up, in at most one round trip
tracking.py    Redis tells of changes
changes.py     changes, told to listeners; sweeps where Redis does not tell
listing.py     all identities, all revocations
attempts.py    who tried to connect, bounded
store.py       all of it as one store

The rest (ports.Store, fleet_ports.Sessions): fleet_store.py with commands.py, stations.py, transactions.py,
identity_files.py, fleet_keys.py and fleet_scripts.py; sessions.py with session_records.py and session_scripts.py;
scanning.py for both.

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
    fleet                           string   a random id: who finds another one knows that Redis was emptied

Those of the rest are in fleet_keys.py and sessions.py.

The least that Redis' ACL must allow, for the prefix `ocpp`; without the last line changes that others make are looked
for every 1.5 seconds, for connected stations, instead of heard of:

    ~ocpp:* +ping +role +select +scan +eval +evalsha
    +mget +get +set +del +expire +pexpire +hget +hmget +hgetall +hset +hdel +hincrby
    +zadd +zrem +zcard +zrange +zrangebyscore +zrevrange +zrevrangebyscore +sadd +srem +smembers
    +rpush +lrange +ltrim
    &__redis__:invalidate +subscribe +client|id +client|tracking

A profile that another node raises is not told of: it counts here when what is cached of the station runs out, after
`cache_seconds` at most.

Importing this package installs Twisted's reactor, because txredisapi imports it.
"""

from ocppgw.net.redis.settings import RedisAddress, RedisSettings, parse_url
from ocppgw.net.redis.store import RedisAccessStore

__all__ = ["RedisAccessStore", "RedisAddress", "RedisSettings", "parse_url"]

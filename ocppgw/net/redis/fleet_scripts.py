"""Lua for commands, station states and transactions: each runs in Redis as one step, whatever other nodes do."""

# KEYS: record, open commands. ARGV: the record, deadline, seconds to live, commandId. Returns what stands there.
OPEN_COMMAND = b"""
local existing = redis.call('GET', KEYS[1])
if existing then
  return existing
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[4])
return false
"""

_HAS_ENDED = b"""
local function has_ended(record)
  local ends = {Accepted = true, Rejected = true, Failed = true, Timeout = true}
  return record.outcome ~= nil or ends[record.status] == true
end
"""

# KEYS: record, open commands, waiting commands, unpublished, their events, the unique key ("" for none).
# ARGV: the record, seconds to live, commandId, "1" when it is the end, its event, now. Returns 1 when it was stored.
CHANGE_COMMAND = (
    _HAS_ENDED
    + b"""
local existing = redis.call('GET', KEYS[1])
if not existing or has_ended(cjson.decode(existing)) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if ARGV[4] == '1' then
  redis.call('ZREM', KEYS[2], ARGV[3])
  redis.call('ZREM', KEYS[3], ARGV[3])
  redis.call('ZADD', KEYS[4], ARGV[6], ARGV[3])
  redis.call('HSET', KEYS[5], ARGV[3], ARGV[5])
end
if KEYS[6] ~= '' then
  redis.call('SET', KEYS[6], ARGV[3], 'EX', ARGV[2])
end
return 1
"""
)

# KEYS: record, waiting commands. ARGV: the record, commandId, its takenBy, another that may hold it, when it was asked
# for ("" when it does not wait). Returns 1 when it was stored.
TAKE_COMMAND = (
    _HAS_ENDED
    + b"""
local existing = redis.call('GET', KEYS[1])
if not existing then
  return 0
end
local before = cjson.decode(existing)
if has_ended(before) then
  return 0
end
local taken = before.takenBy
if taken and taken ~= ARGV[3] and taken ~= ARGV[4] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
if ARGV[5] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[2])
else
  redis.call('ZREM', KEYS[2], ARGV[2])
end
return 1
"""
)

# KEYS: unpublished, their events. ARGV: before when, now, how many. Returns commandId, event, commandId, event, …
TAKE_UNPUBLISHED = b"""
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  local event = redis.call('HGET', KEYS[2], id)
  if event then
    redis.call('ZADD', KEYS[1], ARGV[2], id)
    found[#found + 1] = id
    found[#found + 1] = event
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return found
"""

# KEYS: station states. ARGV: for each its epoch and body, and before them seconds to live.
SAVE_STATES = b"""
for i, key in ipairs(KEYS) do
  local epoch, body = ARGV[2 * i], ARGV[2 * i + 1]
  if (tonumber(redis.call('HGET', key, 'epoch')) or 0) <= tonumber(epoch) then
    redis.call('HSET', key, 'epoch', epoch, 'body', body)
    redis.call('EXPIRE', key, ARGV[1])
  end
end
"""

# KEYS: of replies. ARGV: milliseconds to live, then the replies.
SAVE_ANSWERS = b"""
for i, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1])
end
"""

# KEYS: station state, open transactions. ARGV: what keys of the station's transactions begin with.
# Returns {epoch, body, transaction, …}.
LOAD_STATE = b"""
local state = redis.call('HMGET', KEYS[1], 'epoch', 'body')
local found = {state[1], state[2]}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local transaction = redis.call('GET', ARGV[1] .. id)
  if transaction then
    found[#found + 1] = transaction
  else
    redis.call('SREM', KEYS[2], id)
  end
end
return found
"""

# KEYS: transaction, open transactions, the start's key ("" for none). ARGV: the transaction, its id, its epoch, seconds
# to live when open and when ended. An older node's records don't replace newer ones; start and end are kept whoever
# tells of them.
SAVE_TRANSACTION = b"""
local after = cjson.decode(ARGV[1])
local text = ARGV[1]
local existing = redis.call('GET', KEYS[1])
if existing then
  local before = cjson.decode(existing)
  local is_newer = not before.reserved and (before.epoch or 0) > tonumber(ARGV[3])
  if is_newer then
    before.startedAt = before.startedAt or after.startedAt
    before.endedAt = before.endedAt or after.endedAt
    after, text = before, cjson.encode(before)
  elseif (before.startedAt and not after.startedAt) or (before.endedAt and not after.endedAt) then
    after.startedAt = before.startedAt or after.startedAt
    after.endedAt = before.endedAt or after.endedAt
    text = cjson.encode(after)
  end
end
local life = after.endedAt and ARGV[5] or ARGV[4]
redis.call('SET', KEYS[1], text, 'EX', life)
if after.endedAt or not after.startedAt then
  redis.call('SREM', KEYS[2], ARGV[2])
else
  redis.call('SADD', KEYS[2], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[4])
end
if KEYS[3] ~= '' then
  redis.call('SET', KEYS[3], ARGV[2], 'EX', life)
end
"""

# The counter of transaction ids after `count` more: it goes on above what this node has seen, and far above when Redis
# has lost what it knew. ARGV from `at`: highest id this node knows, where a new fleet begins, the gap, the limit.
_COUNT = b"""
local function count_up(key, at, count)
  local current = tonumber(redis.call('GET', key))
  local seen, begin, gap = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if not current then
    current = math.max(begin, seen > 0 and seen + gap or 0)
  elseif current < seen then
    current = seen + gap
  end
  local last = current + count
  if last > tonumber(ARGV[at + 3]) then
    return nil
  end
  redis.call('SET', key, string.format('%d', last))
  return last
end
"""

# KEYS: counter. ARGV: how many, then as above. Returns the last of them; nothing when they are used up.
LEASE_IDS = (
    _COUNT
    + b"""
return count_up(KEYS[1], 2, tonumber(ARGV[1])) or false
"""
)

# KEYS: the start's key, counter, open transactions. ARGV: what keys of the station's transactions begin with, the
# transaction without its id, seconds to live, then as above. Returns {id, transaction or nothing, "1" when it was given
# before}; nothing when ids are used up.
RESERVE_ID = (
    _COUNT
    + b"""
local given = redis.call('GET', KEYS[1])
if given then
  return {given, redis.call('GET', ARGV[1] .. given), '1'}
end
local last = count_up(KEYS[2], 4, 1)
if not last then
  return false
end
local id = string.format('%d', last)
redis.call('SET', KEYS[1], id, 'EX', ARGV[3])
redis.call('SET', ARGV[1] .. id, '{"transactionId":"' .. id .. '",' .. ARGV[2], 'EX', ARGV[3])
redis.call('SADD', KEYS[3], id)
redis.call('EXPIRE', KEYS[3], ARGV[3])
return {id, false, '0'}
"""
)

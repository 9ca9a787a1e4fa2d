"""Lua for commands, station states and transactions: each runs in Redis as one step, whatever other nodes do.

Anybody may have written what stands there. What can't be read counts as nothing where it is this fleet's own; a
command's record that can't be read is left alone.
"""

from ocppgw.net.redis.lua import READ

# KEYS: record, open commands. ARGV: the record, deadline, seconds to live, commandId. Returns what stands there, '' for
# what is no string.
OPEN_COMMAND = b"""
local existing = redis.pcall('GET', KEYS[1])
if existing then
  return type(existing) == 'string' and existing or ''
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[4])
return false
"""

# read_command(key): a command's record, or nil. The existing gateway wrote records without an outcome.
_COMMANDS = (
    READ
    + b"""
local function read_command(key)
  local record = read(key)
  if record and type(record.status) == 'string' then
    return record
  end
  return nil
end

local function has_ended(record)
  local ends = {Accepted = true, Rejected = true, Failed = true, Timeout = true}
  return type(record.outcome) == 'string' or ends[record.status] == true
end
"""
)

# KEYS: record, open commands, waiting commands, unpublished, their events, the unique key if there is one (an
# empty key would be one that Redis' ACL forbids).
# ARGV: the record, seconds to live, commandId, "1" when it is the end, its event, now, "1" when this process has taken
# it: then Redis has lost the record when there is none. Returns 1 when it was stored, now or by the same call before:
# this very event is yet to be published then.
CHANGE_COMMAND = (
    _COMMANDS
    + b"""
local existing = read_command(KEYS[1])
if not existing and ARGV[7] ~= '1' then
  return 0
end
if existing and has_ended(existing) then
  local is_own = ARGV[4] == '1' and redis.call('HGET', KEYS[5], ARGV[3]) == ARGV[5]
  return is_own and 1 or 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if ARGV[4] == '1' then
  redis.call('ZREM', KEYS[2], ARGV[3])
  redis.call('ZREM', KEYS[3], ARGV[3])
  redis.call('ZADD', KEYS[4], ARGV[6], ARGV[3])
  redis.call('HSET', KEYS[5], ARGV[3], ARGV[5])
end
if KEYS[6] then
  redis.call('SET', KEYS[6], ARGV[3], 'EX', ARGV[2])
end
return 1
"""
)

# KEYS: record, waiting commands. ARGV: the record, commandId, its takenBy, another that may hold it, when it was asked
# for ("" when it does not wait). Returns 1 when it was stored.
TAKE_COMMAND = (
    _COMMANDS
    + b"""
local before = read_command(KEYS[1])
if not before or has_ended(before) then
  return 0
end
local taken = before.takenBy
if type(taken) == 'string' and taken ~= ARGV[3] and taken ~= ARGV[4] then
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

# KEYS: record, open commands, waiting commands. ARGV: the record, deadline, seconds to live, commandId, when it was
# asked for. Returns 1 when there was none.
PUT_BACK_COMMAND = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4])
return 1
"""

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
  local kept = redis.pcall('HGET', key, 'epoch')
  if type(kept) == 'table' then  -- an error: it is no hash
    redis.call('DEL', key)
    kept = false
  end
  if (tonumber(kept or '') or 0) <= tonumber(epoch) then
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

# running(key, front): the JSON of the open transactions whose set is `key`; `front` is what their own keys begin with.
# No more than a station may have: a faulty one starts them without end.
_RUNNING = b"""
local function running(key, front)
  local ids, found = redis.pcall('SMEMBERS', key), {}
  if ids.err then
    return found
  end
  for i = 1, math.min(#ids, 1000) do
    local id = ids[i]
    local transaction = redis.pcall('GET', front .. id)
    if type(transaction) == 'string' then
      found[#found + 1] = transaction
    else
      redis.call('SREM', key, id)
    end
  end
  return found
end
"""

# KEYS: station state, open transactions. ARGV: what keys of the station's transactions begin with.
# Returns {epoch, body, {transaction, …}}.
LOAD_STATE = (
    _RUNNING
    + b"""
local state = redis.pcall('HMGET', KEYS[1], 'epoch', 'body')
if state.err then
  state = {false, false}
end
return {state[1], state[2], running(KEYS[2], ARGV[1])}
"""
)

# KEYS: open transactions of stations. ARGV: for each what keys of its transactions begin with. Returns a list for each.
RUNNING = (
    _RUNNING
    + b"""
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = running(key, ARGV[i])
end
return found
"""
)

# add_open(key, id, life)
_ADD_OPEN = b"""
local function add_open(key, id, life)
  if type(redis.pcall('SADD', key, id)) == 'table' then  -- an error: it is no set
    redis.call('DEL', key)
    redis.call('SADD', key, id)
  end
  redis.call('EXPIRE', key, life)
end
"""

# KEYS: transaction, open transactions, the start's key if there is one. ARGV: the transaction, its id, its epoch,
# seconds to live when open and when ended. What two nodes tell of a transaction is merged: records of both, of two
# under one number the newer node's; its start and end, whoever tells of them. Times keep all their digits.
SAVE_TRANSACTION = (
    READ
    + _ADD_OPEN
    + b"""
local MOST_RECORDS = 32

local function object(value)
  return type(value) == 'table' and value or {}
end

local function encode(transaction)
  local times = ''
  for _, name in ipairs({'startedAt', 'endedAt'}) do
    if transaction[name] then
      times = times .. string.format('"%s":%.17g,', name, transaction[name])
      transaction[name] = nil
    end
  end
  return '{' .. times .. string.sub(cjson.encode(transaction), 2)
end

local after, text = cjson.decode(ARGV[1]), ARGV[1]
local before = read(KEYS[1])
if before and type(before.transactionId) == 'string' then
  local newer, older, is_merged = after, before, false
  if before.reserved ~= true and (tonumber(before.epoch) or 0) > tonumber(ARGV[3]) then
    newer, older, is_merged = before, after, true
  end
  local records, count = object(newer.records), 0
  for _ in pairs(records) do
    count = count + 1
  end
  for number, content in pairs(object(older.records)) do
    if records[number] == nil and count < MOST_RECORDS then
      records[number], count, is_merged = content, count + 1, true
    end
  end
  for name, kind in pairs({startedAt = 'number', endedAt = 'number', key = 'string'}) do
    if type(newer[name]) ~= kind and type(older[name]) == kind then
      newer[name], is_merged = older[name], true
    end
  end
  if is_merged then
    newer.records = count > 0 and records or nil
    after = {startedAt = newer.startedAt, endedAt = newer.endedAt}
    text = encode(newer)
  end
end
local life = after.endedAt and ARGV[5] or ARGV[4]
redis.call('SET', KEYS[1], text, 'EX', life)
if after.endedAt or not after.startedAt then
  redis.pcall('SREM', KEYS[2], ARGV[2])
else
  add_open(KEYS[2], ARGV[2], ARGV[4])
end
if KEYS[3] then
  redis.call('SET', KEYS[3], ARGV[2], 'EX', life)
end
"""
)

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
    + _ADD_OPEN
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
add_open(KEYS[3], id, ARGV[3])
return {id, false, '0'}
"""
)

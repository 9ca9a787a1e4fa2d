"""Lua: each runs in Redis as one step, whatever other nodes do meanwhile."""

# KEYS: identity, security profiles. ARGV: "1" when there has to be an identity, and its text; "1" to store another one
# ("0": delete it), and its text; chargePointId. Returns {1}, or {0, the text that stands there}.
SWAP_IDENTITY = b"""
local current = redis.call('GET', KEYS[1])
if current ~= (ARGV[1] == '1' and ARGV[2]) then
  return {0, current}
end
if ARGV[3] == '1' then
  redis.call('SET', KEYS[1], ARGV[4])
else
  redis.call('DEL', KEYS[1])
  redis.call('HDEL', KEYS[2], ARGV[5])
end
return {1}
"""

# KEYS: security profiles. ARGV: chargePointId, the profile.
RAISE_PROFILE = b"""
local kept = tonumber(redis.call('HGET', KEYS[1], ARGV[1])) or 0
if tonumber(ARGV[2]) > kept then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
"""

# KEYS: index, bodies, counts. ARGV: how many to keep in total, how many of one group, seconds to live; then for each
# attempt its group and origin (GROUP_DIGITS each), its marks, and its body.
SAVE_ATTEMPTS = b"""
local index, bodies, counts = KEYS[1], KEYS[2], KEYS[3]
local most, most_of_group = tonumber(ARGV[1]), tonumber(ARGV[2])
local last = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
local number = tonumber(last[2]) or 0
local crowded = {}

local function forget(member)
  redis.call('ZREM', index, member)
  redis.call('HDEL', bodies, string.format('%d', tonumber(string.sub(member, 33, 47))))
  local group = string.sub(member, 1, 16)
  if redis.call('HINCRBY', counts, group, -1) <= 0 then
    redis.call('HDEL', counts, group)
  end
end

-- Leaves as many of a group (nil: of all): those go first that have most newer ones of their own origin.
local function trim(group, left)
  local newer, members, ranks, with_rank = {}, {}, {}, {}
  for _, member in ipairs(redis.call('ZREVRANGE', index, 0, -1)) do
    if group == nil or string.sub(member, 1, 16) == group then
      local origin = string.sub(member, 17, 32)
      local rank = (newer[origin] or 0) + 1
      newer[origin] = rank
      members[#members + 1] = member
      ranks[#ranks + 1] = rank
      with_rank[rank] = (with_rank[rank] or 0) + 1
    end
  end
  local excess, highest = #members - left, #with_rank
  while excess > 0 and with_rank[highest] <= excess do
    excess = excess - with_rank[highest]
    highest = highest - 1
  end
  for i = #members, 1, -1 do
    if ranks[i] > highest then
      forget(members[i])
    elseif ranks[i] == highest and excess > 0 then
      forget(members[i])
      excess = excess - 1
    end
  end
end

for i = 4, #ARGV, 4 do
  number = number + 1
  redis.call('ZADD', index, number, ARGV[i] .. ARGV[i + 1] .. string.format('%015d', number) .. ARGV[i + 2])
  redis.call('HSET', bodies, string.format('%d', number), ARGV[i + 3])
  if redis.call('HINCRBY', counts, ARGV[i], 1) > 2 * most_of_group then
    crowded[ARGV[i]] = true
  end
end
for group in pairs(crowded) do
  trim(group, most_of_group)
end
if redis.call('ZCARD', index) > most then
  trim(nil, most - math.floor(most / 10))  -- not for every attempt: it takes milliseconds
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[3])
end
"""

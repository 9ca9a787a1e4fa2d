"""Lua for sessions: each runs in Redis as one step, whatever other nodes do meanwhile.

All of them may meet what another program or a person left there: what nobody can read counts as nothing.
"""

from ocppgw.net.redis.lua import READ

# number(value): a whole number, else 0. text(value): a string, else ''. living(session, nodes): the row of the
# session's node, as text; false when the process that claimed it is gone; `nodes` is what the keys of nodes begin with.
_READING = (
    READ
    + b"""
local function number(value)
  local found = tonumber(value)
  if found and found >= 0 and found < 9007199254740992 then
    return math.floor(found)
  end
  return 0
end

local function text(value)
  return type(value) == 'string' and value or ''
end

local function living(session, nodes)
  local node, raw = read(nodes .. session.nodeId)
  local incarnation = text(session.incarnation)
  if node and (incarnation == '' or incarnation == text(node.incarnation)) then
    return raw
  end
  return false
end
"""
)

# KEYS: epochs, station-ids. ARGV: what the keys of sessions, nodes and losses begin with; nodeId and incarnation of who
# calls; milliseconds that a session and a list of losses live; how many losses a list holds.
_CLAIMS = (
    _READING
    + b"""
local EPOCHS, STATIONS = KEYS[1], KEYS[2]
local SESSIONS, NODES, LOSSES, NODE, INCARNATION = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local SESSION_LIFE, LOSSES_LIFE, MOST_LOSSES = ARGV[6], ARGV[7], tonumber(ARGV[8])

local function put(name, station, epoch, value)
  redis.call('SET', SESSIONS .. name, value, 'PX', SESSION_LIFE)
  redis.call('HSET', EPOCHS, name, epoch)
  if station ~= '' then
    redis.call('HSET', STATIONS, station, name)
  end
end

-- Also when that node seems dead: it may be paused, and wake up long after its row has gone.
local function tell(node, name, epoch)
  local key = LOSSES .. node
  if redis.call('RPUSH', key, cjson.encode({name, epoch, NODE})) > MOST_LOSSES then
    redis.call('LTRIM', key, -MOST_LOSSES, -1)
  end
  redis.call('PEXPIRE', key, LOSSES_LIFE)
end
"""
)

# ARGV, after the common ones: chargePointId, stationId, the session's JSON before its epoch and after it, the epoch
# that may be taken from, the least epoch to give (less 1), and the time (ms) before which a session that was seen last
# is stale. Returns {'granted', epoch, nodeId of who held it ('' for nobody), its row when it lives},
# {'held', the session in the way, its node's row}, or {'another'}: this node's id belongs to another process.
CLAIM = (
    _CLAIMS
    + b"""
local name, station, head, tail = ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local over, least, oldest = number(ARGV[13]), number(ARGV[14]), number(ARGV[15])
local own = read(NODES .. NODE)
if own and text(own.incarnation) ~= INCARNATION then
  return {'another'}
end
local session, raw = read(SESSIONS .. name)
local epoch, holder, node = 0, '', false
if session then
  epoch, holder = number(session.epoch), text(session.nodeId)
end
if holder ~= '' and holder ~= NODE then
  node = living(session, NODES)
  local is_challenged = over > 0 and epoch == over
  if node and not is_challenged and number(session.lastSeenAtMs) >= oldest then
    return {'held', raw, node}
  end
end
local kept = number(redis.call('HGET', EPOCHS, name))
local digits = string.format('%.0f', math.max(epoch, kept, least) + 1)
put(name, station, digits, head .. digits .. tail)
if holder ~= '' and holder ~= NODE then
  tell(holder, name, digits)
end
return {'granted', digits, holder, node}
"""
)

# ARGV, after the common ones: chargePointId, stationId, epoch and JSON of each session. Returns {chargePointId, epoch}
# of those that are not this node's any more.
REFRESH = (
    _CLAIMS
    + b"""
local lost = {}
for i = 9, #ARGV, 4 do
  local name, station, digits, value = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local epoch, kept = number(digits), number(redis.call('HGET', EPOCHS, name))
  local session = read(SESSIONS .. name)
  local holder, incarnation, latest = '', '', 0
  if session then
    holder, incarnation, latest = text(session.nodeId), text(session.incarnation), number(session.epoch)
  end
  local is_own = holder == NODE and (incarnation == '' or incarnation == INCARNATION)
  if is_own and latest == epoch then
    redis.call('SET', SESSIONS .. name, value, 'PX', SESSION_LIFE)
  elseif not (is_own and latest > epoch) then  -- else a newer connection to this node
    -- An older claim of another node can only be in the way after Redis lost a newer one: in a failover, for example.
    -- Who writes no incarnation starts with small epochs again, which say nothing.
    local is_theirs = holder ~= '' and not is_own and (latest >= epoch or incarnation == '')
    if is_theirs or math.max(latest, kept) > epoch then
      lost[#lost + 1] = {name, string.format('%.0f', math.max(latest, kept, epoch + 1))}
    else
      put(name, station, digits, value)
      if holder ~= '' and holder ~= NODE then
        tell(holder, name, digits)
      end
    end
  end
end
return lost
"""
)

# KEYS: none. ARGV: what the keys of sessions begin with, nodeId; then chargePointId and epoch of each claim.
RELEASE = (
    _READING
    + b"""
for i = 3, #ARGV, 2 do
  local key = ARGV[1] .. ARGV[i]
  local session = read(key)
  if session and text(session.nodeId) == ARGV[2] and number(session.epoch) == number(ARGV[i + 1]) then
    redis.call('DEL', key)
  end
end
"""
)

# KEYS: the node's row, its losses. ARGV: incarnation, the row's JSON, milliseconds that it lives, "1" when it is time
# to write it again, and how many losses to return. Returns {'known' or 'forgotten', losses} or {'another', its
# startedAt}.
BEAT = (
    _READING
    + b"""
local row, state = read(KEYS[1]), 'known'
if row and text(row.incarnation) ~= ARGV[1] then
  return {'another', text(row.startedAt)}
end
if not row then
  state = 'forgotten'
end
if not row or ARGV[4] == '1' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
local losses = redis.call('LRANGE', KEYS[2], 0, ARGV[5] - 1)
if #losses > 0 then
  redis.call('LTRIM', KEYS[2], #losses, -1)
end
return {state, losses}
"""
)

# KEYS: the node's row, its losses. ARGV: incarnation.
RETIRE = (
    _READING
    + b"""
local row = read(KEYS[1])
if row and text(row.incarnation) == ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
end
"""
)

# KEYS: the session. ARGV: what the keys of nodes begin with. Returns {} when nobody has it, or {the session, the row of
# its node (nothing when the process that claimed it is gone)}.
OWNER = (
    _READING
    + b"""
local session, raw = read(KEYS[1])
if not session or text(session.nodeId) == '' then
  return {}
end
return {raw, living(session, ARGV[1])}
"""
)

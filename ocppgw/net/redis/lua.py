"""Lua that scripts of more than one kind begin with."""

# read(key): its JSON object and its text; nil when there is none that can be read.
READ = b"""
local function read(key)
  local raw = redis.pcall('GET', key)
  if type(raw) ~= 'string' then
    return nil
  end
  local is_json, value = pcall(cjson.decode, raw)
  if is_json and type(value) == 'table' then
    return value, raw
  end
  return nil
end
"""

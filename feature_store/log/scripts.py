"""The Lua scripts of the Redis log: each is one atomic step on a log's streams and its `logmeta` hash.

KEYS[1] is the hash, KEYS[2 + p] the stream of partition p. The hash holds `partitions`, `epoch`, `end:<epoch>` (how
many records each partition had when the epoch ended, comma separated) and `ack:<partition>:<consumer>`.
Ids travel as text `<epoch>-<n>`: one integer of both does not fit into Lua's doubles.
"""

_SPLIT = """
local function split(id)
  local epoch, n = string.match(id, '(%d+)-(%d+)')
  return tonumber(epoch), tonumber(n)
end
local function before(a, b)
  local ae, an = split(a)
  local be, bn = split(b)
  return ae < be or (ae == be and an < bn)
end
local function last_id(key)
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
"""

# ARGV: partitions, limit, records still to come per partition, then (partition, arrived, payload) for each record.
PUBLISH = """
local meta = redis.call('HMGET', KEYS[1], 'partitions', 'epoch')
if not meta[2] then return {'epoch'} end
if meta[1] ~= ARGV[1] then return {'partitions', meta[1]} end
local count, limit, ids = tonumber(ARGV[1]), tonumber(ARGV[2]), meta[2] .. '-*'
for p = 0, count - 1 do
  local coming = tonumber(ARGV[3 + p])
  if coming > 0 then
    if redis.call('EXISTS', KEYS[2 + p]) == 0 then return {'epoch'} end
    if redis.call('XLEN', KEYS[2 + p]) + coming > limit then return {'full', tostring(p)} end
  end
end
local reply = {'ok'}
for p = 0, count - 1 do reply[2 + p] = '' end
for i = 3 + count, #ARGV, 3 do
  local p = tonumber(ARGV[i])
  reply[2 + p] = redis.call('XADD', KEYS[2 + p], ids, 'a', ARGV[i + 1], 'd', ARGV[i + 2])
end
return reply
"""

LEAP = 64
"""Epochs that are left out by whoever comes back to a log that was wiped. The log may have begun some that he has not come to, one each
time its server started, and the lake or an archiver may have records of them: no number of an epoch is given twice.
"""

# ARGV: partitions, an epoch to exceed, '1' if all that the log holds is to come again. The number of days since 1970 is
# the least: a log that was wiped and filled again is then told from the one that stood there on an earlier day.
START_EPOCH = (
    _SPLIT
    + """
local count, above, again = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local known = redis.call('HGET', KEYS[1], 'partitions')
if known and known ~= ARGV[1] then return {'partitions', known} end
local current = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
local new = math.max(current + 1, above + 1, math.floor(redis.call('TIME')[1] / 86400))
local ends, gone = {}, {}
for p = 0, count - 1 do
  ends[1 + p] = 0
  if redis.call('EXISTS', KEYS[2 + p]) == 1 then
    local epoch, n = split(last_id(KEYS[2 + p]))
    if epoch == current then ends[1 + p] = n + 1 end
    new = math.max(new, epoch + 1)
  else
    gone[1 + p] = true
    redis.call('XGROUP', 'CREATE', KEYS[2 + p], 'made', '$', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', KEYS[2 + p], 'made')
  end
end
-- A stream that was evicted has lost what was unread of earlier epochs too, though the hash still counts it.
if next(gone) then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if string.match(all[i], '^end:') then
      local kept, p = {}, 0
      for n in string.gmatch(all[i + 1], '%d+') do
        p = p + 1
        kept[p] = gone[p] and '0' or n
      end
      redis.call('HSET', KEYS[1], all[i], table.concat(kept, ','))
    end
  end
end
-- A reader that knows a later epoch than the log has outlived a wiped log: nobody has read what was published since. So has
-- one that was further than a stream which still begins with its first record: the log was filled again on the same day.
-- (If that one has lost its tail only, the copies are duplicates, which readers drop.)
if again or (above > 0 and above >= current) then
  new = new + LEAP
  for p = 0, count - 1 do
    local first = redis.call('XRANGE', KEYS[2 + p], '-', '+', 'COUNT', 1)[1]
    if again or above > current or (first and first[1] == current .. '-0') then
      for _, entry in ipairs(redis.call('XRANGE', KEYS[2 + p], '-', '+')) do
        redis.call('XADD', KEYS[2 + p], new .. '-*', unpack(entry[2]))
      end
    end
    if above > current then redis.call('XTRIM', KEYS[2 + p], 'MINID', new .. '-0') end
  end
end
if current > 0 then redis.call('HSET', KEYS[1], 'end:' .. current, table.concat(ends, ',')) end
redis.call('HSET', KEYS[1], 'partitions', ARGV[1], 'epoch', new)
return {'ok', tostring(new)}
""".replace("LEAP", str(LEAP))
)

# ARGV: partitions, consumer, then an id or '' per partition.
REGISTER = (
    _SPLIT
    + """
local meta = redis.call('HMGET', KEYS[1], 'partitions', 'epoch')
if not meta[2] then return {'epoch'} end
if meta[1] ~= ARGV[1] then return {'partitions', meta[1]} end
local reply = {'ok'}
for p = 0, tonumber(ARGV[1]) - 1 do
  local field, id = 'ack:' .. p .. ':' .. ARGV[2], ARGV[3 + p]
  if id == '' then
    local first = redis.call('XRANGE', KEYS[2 + p], '-', '+', 'COUNT', 1)[1]
    if first then id = first[1] else
      if redis.call('EXISTS', KEYS[2 + p]) == 0 then return {'epoch'} end
      local epoch, n = split(last_id(KEYS[2 + p]))
      if epoch == tonumber(meta[2]) then id = epoch .. '-' .. (n + 1) else id = meta[2] .. '-0' end
    end
  end
  redis.call('HSETNX', KEYS[1], field, id)
  reply[2 + p] = redis.call('HGET', KEYS[1], field)
end
return reply
"""
)

# ARGV: consumer, then (partition, id) pairs.
ACKNOWLEDGE = (
    _SPLIT
    + """
for i = 2, #ARGV, 2 do
  if not redis.call('HGET', KEYS[1], 'ack:' .. ARGV[i] .. ':' .. ARGV[1]) then return {'unknown'} end
end
for i = 2, #ARGV, 2 do
  local field = 'ack:' .. ARGV[i] .. ':' .. ARGV[1]
  if before(redis.call('HGET', KEYS[1], field), ARGV[i + 1]) then redis.call('HSET', KEYS[1], field, ARGV[i + 1]) end
end
return {'ok'}
"""
)

# ARGV: a consumer without which nothing is removed, or ''.
TRIM = (
    _SPLIT
    + """
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[1], 'ack:0:' .. ARGV[1]) == 0 then return {'ok', '0'} end
local all, lowest, removed = redis.call('HGETALL', KEYS[1]), {}, 0
for i = 1, #all, 2 do
  local p = string.match(all[i], '^ack:(%d+):')
  if p and (not lowest[p] or before(all[i + 1], lowest[p])) then lowest[p] = all[i + 1] end
end
for p, id in pairs(lowest) do removed = removed + redis.call('XTRIM', KEYS[2 + tonumber(p)], 'MINID', id) end
return {'ok', tostring(removed)}
"""
)

"""The Lua of scoring again by reference; what holds for `scripts` holds here."""

from __future__ import annotations

from typing import Final

from .scripts import NOW_MS

# KEYS: meta chunks open, then of the other job: results failed chunks, then all of its keys.
# ARGV: the other job's id as JSON, chunks by the replies so far, items a chunk, bytes of items a chunk, entries looked
# at, seconds the other job is kept at least, seconds a job is kept by default, bytes of records looked at. Goes on
# where the call before ended, which `source_after` says. Returns {chunks of the job, its items, whether there is more
# (0/1)}. A call that is repeated because its reply was lost finds more chunks than it knows of, and gets these.
CUT: Final = (
    NOW_MS
    + """
local function reply(more)
  local counts = redis.call('HMGET', KEYS[1], 'next_chunk', 'submitted')
  return {tonumber(counts[1] or 0), tonumber(counts[2] or 0), more}
end
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 or redis.call('HEXISTS', KEYS[1], 'cancelled') == 1 then
  return {tonumber(ARGV[2]), 0, 0}
end
local chunk = tonumber(redis.call('HGET', KEYS[1], 'next_chunk') or 0)
if chunk > tonumber(ARGV[2]) then return reply(1) end
if redis.call('HEXISTS', KEYS[7], 'spec') == 1
    and tonumber(redis.call('HGET', KEYS[7], 'keep') or ARGV[7]) < tonumber(ARGV[6]) then
  redis.call('HSET', KEYS[7], 'keep', ARGV[6])  -- it may not have ended yet, or be retried
end
for i = 7, #KEYS do
  local left = redis.call('TTL', KEYS[i])
  if left >= 0 and left < tonumber(ARGV[6]) then redis.call('EXPIRE', KEYS[i], ARGV[6]) end
end
local first = tonumber(redis.call('HGET', KEYS[1], 'submitted') or 0)
local after = redis.call('HGET', KEYS[1], 'source_after') or '0'
local count, bytes, seen, upto, looked = 0, 0, {}, after, 0

local function close()
  if count > 0 then
    redis.call('HSET', KEYS[2], chunk, '{"first":' .. string.format('%d', first) .. ',"source":{"job":' .. ARGV[1]
      .. ',"after":"' .. after .. '","upto":"' .. upto .. '","count":' .. string.format('%d', count) .. '}}')
    redis.call('ZADD', KEYS[3], -now, chunk)
    chunk, first = chunk + 1, first + count
  end
  after, count, bytes, seen = upto, 0, 0, {}
end

local more, taken, step = 1, 0, 1
while looked < tonumber(ARGV[5]) and taken < tonumber(ARGV[8]) do
  local read = redis.call('XREAD', 'COUNT', step, 'STREAMS', KEYS[4], upto)
  if not read then
    more = 0
    break
  end
  for _, entry in ipairs(read[1][2]) do
    local fields = {}
    for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
    local rows = tonumber(fields['n'] or '1')
    if fields['r'] and redis.call('HGET', KEYS[5], fields['o']) == entry[1] then rows = 0 end
    local size = 0
    if not seen[fields['c']] then size = redis.call('HSTRLEN', KEYS[6], fields['c']) end
    if count > 0 and (count + rows > tonumber(ARGV[3]) or bytes + size > tonumber(ARGV[4])) then
      close()
      size = redis.call('HSTRLEN', KEYS[6], fields['c'])
    end
    count, bytes, upto, looked = count + rows, bytes + size, entry[1], looked + 1
    seen[fields['c']] = true
    local length = #(fields['b'] or fields['r'] or '')
    taken = taken + length
    step = math.max(1, math.min(32, math.floor(tonumber(ARGV[8]) / 4 / (length + 1))))
  end
end
close()
redis.call('HSET', KEYS[1], 'source_after', after, 'next_chunk', chunk, 'submitted', first, 'touched', now / 1000)
return reply(more)
"""
)

# KEYS: chunks leases. ARGV: chunk, token, the chunk itself. Puts it in the place of what refers to it, unless the lease
# was taken over: whoever has it now does so, too.
RESOLVE: Final = """
if redis.call('HGET', KEYS[2], 'token:' .. ARGV[1]) == ARGV[2] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
"""

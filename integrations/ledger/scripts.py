"""The ledger as Lua, the producer's half and the worker's: each script is one step that cannot be torn apart.

A chunk's score in `open` says how it stands: above zero it is leased until that Unix ms; below zero it waits, and
minus the score is when its message was sent or, for a postponed chunk, when it is to be sent. Every script reads
Redis's own clock, so no two hosts disagree, and none takes for granted that this clock never jumps. What keeps or ends
a lease removes something first: at its memory limit Redis refuses a script whose first write needs memory.
"""

from __future__ import annotations

from typing import Final

NOW_MS = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
"""Start of a script that needs the time: Redis's own clock, so that no two hosts disagree."""

NEW_CHUNK = """
local function new_chunk(meta) return 999999999 + redis.call('HINCRBY', meta, 'more_chunks', 1) end
"""
"""Indices for chunks made of other chunks' items: apart from the submitter's, which may still be counting up."""

LONGEST_PAUSE_MS: Final = 600_000
"""A chunk is never postponed for longer; a time to send that is further away comes from a clock that jumped back."""

# KEYS: meta chunks open leases held watermarks. ARGV: chunk, owner, lease ms, held member, alone (0/1).
CLAIM = (
    NOW_MS
    + """
if redis.call('HEXISTS', KEYS[1], 'cancelled') == 1 then return {'gone'} end
local deadline = tonumber(redis.call('HGET', KEYS[1], 'deadline') or 'inf')
if deadline <= now / 1000 then return {'gone'} end
local score = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or 'nan')
if score ~= score then return {'gone'} end
if score > now then return {'busy'} end
local postponed = tonumber(redis.call('HGET', KEYS[4], 'postponed:' .. ARGV[1]) or 0)
if postponed > 0 and -score > now then return {'busy'} end
if score > 0 then redis.call('HINCRBY', KEYS[4], 'deaths:' .. ARGV[1], 1) end
local deaths = tonumber(redis.call('HGET', KEYS[4], 'deaths:' .. ARGV[1]) or 0)
if deaths > 0 and ARGV[5] == '0' then
  if score > 0 then redis.call('ZADD', KEYS[3], -now, ARGV[1]) end
  return {'suspect'}
end
if score < 0 and -score <= now then
  local queue = redis.call('HGET', KEYS[1], 'queue')
  local mark = redis.call('HGET', KEYS[6], queue)
  if not mark or tonumber(mark) < -score then redis.call('HSET', KEYS[6], queue, -score) end
end
local token = redis.call('HINCRBY', KEYS[4], 'token:' .. ARGV[1], 1)
redis.call('HSET', KEYS[4], 'owner:' .. ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
redis.call('SADD', KEYS[5], ARGV[4])
redis.call('HSETNX', KEYS[1], 'started', now / 1000)
redis.call('HINCRBY', KEYS[1], 'leased', 1)
return {'claimed', token, deaths, postponed, redis.call('HGET', KEYS[4], 'why:' .. ARGV[1]),
  redis.call('HGET', KEYS[1], 'spec'), redis.call('HGET', KEYS[2], ARGV[1])}
"""
)

# KEYS: open leases. ARGV: chunk, token, lease ms. Returns 1, or 0 when the lease is no longer ours.
RENEW = (
    NOW_MS
    + """
if redis.call('HGET', KEYS[2], 'token:' .. ARGV[1]) ~= ARGV[2] then return 0 end
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
return 1
"""
)

_FORGET_CHUNK = """
local function forget(open, leases, chunk)
  redis.call('ZREM', open, chunk)
  redis.call('HDEL', leases, 'token:' .. chunk, 'deaths:' .. chunk, 'owner:' .. chunk, 'why:' .. chunk,
    'postponed:' .. chunk, 'handed:' .. chunk)
end
"""

# KEYS: meta open leases finished failed quarantined results held active catalogue connected, then all keys.
# ARGV: chunk, token, close (0/1), job id, ttl, held member, the project whose catalogue it is (0: none), the head of a
# catalogue, how many single outcomes, for each of them (ordinal, 0 answered / 1 failed / 2 quarantined, packed, its
# rows of the catalogue), then for each record (how many items, their ordinals as text, record, whether rows of the
# catalogue follow (0/1), ordinals..., rows...); see `entries` and `catalogue`. Returns {0 or -1 when fenced off,
# push_ready 0/1, ordinals written...}. Progress clears the chunk of suspicion.
COMPLETE = (
    NOW_MS
    + _FORGET_CHUNK
    + """
if redis.call('HGET', KEYS[3], 'token:' .. ARGV[1]) ~= ARGV[2] then
  redis.call('SREM', KEYS[8], ARGV[6])
  return {-1, 0}
end
local reply = {0, 0}
local function is_first(ordinal)
  if redis.call('SETBIT', KEYS[4], ordinal, 1) == 1 then return false end
  reply[#reply + 1] = tonumber(ordinal)
  return true
end
local catalogued = {}
local at = 10
for _ = 1, ARGV[9] do
  if is_first(ARGV[at]) then
    catalogued[#catalogued + 1] = ARGV[at + 3]
    local id = redis.call('XADD', KEYS[7], '*', 'o', ARGV[at], 'c', ARGV[1], 'r', ARGV[at + 2])
    if ARGV[at + 1] ~= '0' then redis.call('HSET', KEYS[5], ARGV[at], id) end
    if ARGV[at + 1] == '2' then redis.call('SADD', KEYS[6], ARGV[at]) end
  end
  at = at + 4
end
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local rows = {}
  for row = 0, count - 1 do
    if is_first(ARGV[at + 4 + row]) then
      rows[#rows + 1] = row
      if ARGV[at + 3] == '1' then catalogued[#catalogued + 1] = ARGV[at + 4 + count + row] end
    end
  end
  if #rows == count then
    redis.call('XADD', KEYS[7], '*', 'o', ARGV[at + 1], 'c', ARGV[1], 'n', count, 'b', ARGV[at + 2])
  elseif #rows > 0 then
    redis.call('XADD', KEYS[7], '*', 'o', ARGV[at + 1], 'c', ARGV[1], 'n', #rows, 'b', ARGV[at + 2],
      's', table.concat(rows, ','))
  end
  at = at + 4 + count * (1 + ARGV[at + 3])
end
local rows = table.concat(catalogued)
if #rows > 0 and redis.call('SISMEMBER', KEYS[11], ARGV[7]) == 1 then
  if redis.call('EXISTS', KEYS[10]) == 0 then redis.call('SET', KEYS[10], ARGV[8]) end
  redis.call('APPEND', KEYS[10], rows)
end
redis.call('HSET', KEYS[1], 'updated', now / 1000)
if #reply > 2 then redis.call('HDEL', KEYS[3], 'deaths:' .. ARGV[1]) end
if ARGV[3] == '1' then
  forget(KEYS[2], KEYS[3], ARGV[1])
  redis.call('SREM', KEYS[8], ARGV[6])
  if redis.call('HEXISTS', KEYS[1], 'sealed') == 1 and redis.call('ZCARD', KEYS[2]) == 0 then
    redis.call('SREM', KEYS[9], ARGV[4])
    local keep = redis.call('HGET', KEYS[1], 'keep') or ARGV[5]
    for i = 12, #KEYS do redis.call('EXPIRE', KEYS[i], keep) end
  end
end
reply[2] = redis.call('HEXISTS', KEYS[1], 'push_ready')
return reply
"""
)

# KEYS: meta chunks open leases held. ARGV: chunk, token, held member, deaths, why, chunk JSONs...
# Replaces a chunk by others, each as suspect as it was; returns their indices, or nothing when fenced off.
SPLIT = (
    NOW_MS
    + NEW_CHUNK
    + _FORGET_CHUNK
    + """
redis.call('SREM', KEYS[5], ARGV[3])
if redis.call('HGET', KEYS[4], 'token:' .. ARGV[1]) ~= ARGV[2] then return {} end
forget(KEYS[3], KEYS[4], ARGV[1])
local made = {}
for i = 6, #ARGV do
  local chunk = new_chunk(KEYS[1])
  redis.call('HSET', KEYS[2], chunk, ARGV[i])
  redis.call('ZADD', KEYS[3], -now, chunk)
  redis.call('HSET', KEYS[4], 'deaths:' .. chunk, ARGV[4], 'why:' .. chunk, ARGV[5])
  made[#made + 1] = chunk
end
return made
"""
)

_LET_GO = """
local function let_go(open, leases, held, at)
  redis.call('SREM', held, ARGV[3])
  if redis.call('HGET', leases, 'token:' .. ARGV[1]) ~= ARGV[2] then return false end
  if redis.call('ZREM', open, ARGV[1]) == 0 then return false end
  redis.call('ZADD', open, -at, ARGV[1])
  redis.call('HINCRBY', leases, 'token:' .. ARGV[1], 1)
  return true
end
"""
"""Of a script whose ARGV begins with chunk, token, held member: the chunk waits again, for a message of that time."""

# KEYS: open leases held. ARGV: chunk, token, held member, pause ms. Returns 1 when the chunk is free again. With a
# pause its message is to be sent that much later, by a sweep.
RELEASE = (
    NOW_MS
    + _LET_GO
    + """
if not let_go(KEYS[1], KEYS[2], KEYS[3], now + ARGV[4]) then return 0 end
if tonumber(ARGV[4]) > 0 then redis.call('HINCRBY', KEYS[2], 'postponed:' .. ARGV[1], 1) end
return 1
"""
)

# KEYS: meta open leases held model_queues. ARGV: chunk, token, held member, queue of the job's model. Frees a chunk
# whose message came to a worker with another model, and notes where the job belongs: an earlier release had all models
# on one queue. Returns 1 when it needs a message there: only the first time, or workers could pass it to and fro.
HAND_OVER = (
    NOW_MS
    + _LET_GO
    + """
if not let_go(KEYS[2], KEYS[3], KEYS[4], now) then return 0 end
if redis.call('HEXISTS', KEYS[1], 'updated') == 0 then redis.call('HDEL', KEYS[1], 'started') end
redis.call('HSET', KEYS[1], 'queue', ARGV[4])
redis.call('ZADD', KEYS[5], now / 1000, ARGV[4])
return redis.call('HSETNX', KEYS[3], 'handed:' .. ARGV[1], 1)
"""
)

# KEYS: open leases. ARGV: chunk, owner, why. Frees the lease of a dead owner; returns 1 when it was that owner's.
FREE = (
    NOW_MS
    + """
if redis.call('HGET', KEYS[2], 'owner:' .. ARGV[1]) ~= ARGV[2] then return 0 end
local deadline = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not deadline or tonumber(deadline) <= 0 then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'token:' .. ARGV[1], 1)
redis.call('HINCRBY', KEYS[2], 'deaths:' .. ARGV[1], 1)
redis.call('HSET', KEYS[2], 'why:' .. ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[1], -now, ARGV[1])
return 1
"""
)

# KEYS: open leases. ARGV: asked at (Unix ms), longest lease (ms). Frees every lease whose deadline has passed; returns
# the chunks. Does nothing when Redis was silent since it was asked: the holders could not renew either. A
# deadline further away than any lease lasts comes from a clock that jumped back: it is brought near.
REAP = (
    NOW_MS
    + """
if now - ARGV[1] > 2000 then return {} end
for _, chunk in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. (now + ARGV[2]), '+inf', 'LIMIT', 0, 1000)) do
  redis.call('ZADD', KEYS[1], now + ARGV[2], chunk)
end
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', now, 'LIMIT', 0, 1000)
for _, chunk in ipairs(expired) do
  redis.call('ZREM', KEYS[1], chunk)
  redis.call('HINCRBY', KEYS[2], 'token:' .. chunk, 1)
  redis.call('HINCRBY', KEYS[2], 'deaths:' .. chunk, 1)
  redis.call('HSET', KEYS[2], 'why:' .. chunk, 'its worker fell silent')
  redis.call('ZADD', KEYS[1], -now, chunk)
end
return expired
"""
)

# KEYS: open watermarks queue. ARGV: queue name, margin (ms), longest pause (ms). Chunks that wait without a message
# count as sent now; returns them. A queue is first in, first out: while there are messages on it, lost is what was
# sent before the newest one taken from it; when it is empty, lost is whatever was sent. Where the clock jumped
# back, times lie in the future: a watermark there is dropped, a time to send there becomes now.
OVERDUE = (
    NOW_MS
    + """
local future = '(-' .. (now + ARGV[3])
for _, chunk in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', future, 'LIMIT', 0, 1000)) do
  redis.call('ZADD', KEYS[1], -now, chunk)
end
local newest = now
if redis.call('LLEN', KEYS[3]) > 0 then
  newest = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
  if newest > now then
    redis.call('HDEL', KEYS[2], ARGV[1])
    newest = 0
  end
end
local before = math.floor(newest - ARGV[2])
if before <= 0 then return {} end
-- Scores are negative: sent earlier than `before` is between -before and 0.
local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '(-' .. before, '(0', 'LIMIT', 0, 1000)
for _, chunk in ipairs(overdue) do redis.call('ZADD', KEYS[1], -now, chunk) end
return overdue
"""
)


# KEYS: meta jobs active push_pending model_queues. ARGV: job id, spec, queue, whether it pushes (0/1), seconds until
# its deadline or nothing, seconds it is kept once it has ended or nothing, whether the queue is a model's (0/1). A
# second time changes nothing.
CREATE = (
    NOW_MS
    + """
if redis.call('HSETNX', KEYS[1], 'created', now / 1000) == 0 then return end
redis.call('HSET', KEYS[1], 'spec', ARGV[2], 'queue', ARGV[3], 'touched', now / 1000, 'submitted', 0)
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'deadline', now / 1000 + ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'keep', ARGV[6]) end
redis.call('ZADD', KEYS[2], now / 1000, ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
if ARGV[4] == '1' then redis.call('SADD', KEYS[4], ARGV[1]) end
if ARGV[7] == '1' then redis.call('ZADD', KEYS[5], now / 1000, ARGV[3]) end
"""
)


# KEYS: model_queues watermarks queue. ARGV: queue name, Unix second. Forgets a model's queue, and what is on it, unless
# a job came to it since that second; returns 1 when it did.
FORGET_QUEUE = """
local used = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not used or tonumber(used) > tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
return 1
"""

# KEYS: meta chunks open. ARGV: submitted in all, first chunk index, chunk JSONs... Returns 0 when the job was
# cancelled. Says the same thing however often it is sent: a client repeats what it got no reply to.
ADD_CHUNKS = (
    NOW_MS
    + """
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 or redis.call('HEXISTS', KEYS[1], 'cancelled') == 1 then return 0 end
for i = 3, #ARGV do
  local chunk = ARGV[2] + i - 3
  if redis.call('HSETNX', KEYS[2], chunk, ARGV[i]) == 1 then redis.call('ZADD', KEYS[3], -now, chunk) end
end
redis.call('HSET', KEYS[1], 'submitted', ARGV[1], 'next_chunk', ARGV[2] + #ARGV - 2, 'touched', now / 1000)
return 1
"""
)

# KEYS: meta open active, then all keys. ARGV: job id, ttl. Ends the job if everything is finished.
SEAL = """
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 then return end
redis.call('HSET', KEYS[1], 'sealed', 1)
if redis.call('ZCARD', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[3], ARGV[1])
  local keep = redis.call('HGET', KEYS[1], 'keep') or ARGV[2]
  for i = 4, #KEYS do redis.call('EXPIRE', KEYS[i], keep) end
end
"""

# KEYS: meta open leases active, then all keys. ARGV: job id, ttl, why. Returns 0 if the job had ended already.
# Deletes before it writes: at its memory limit Redis refuses a script whose first write needs memory.
CANCEL = """
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 or redis.call('HEXISTS', KEYS[1], 'cancelled') == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'sealed') == 1 and redis.call('ZCARD', KEYS[2]) == 0 then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'cancelled', ARGV[3])
redis.call('SREM', KEYS[4], ARGV[1])
local keep = redis.call('HGET', KEYS[1], 'keep') or ARGV[2]
for i = 5, #KEYS do redis.call('EXPIRE', KEYS[i], keep) end
return 1
"""

# KEYS: meta chunks open finished failed quarantined results active push_pending model_queues, then all keys.
# ARGV: job id, whether it pushes (0/1), chunk JSON, queue, whether that is a model's (0/1), ordinals... Takes failed
# items back to pending and opens one chunk with them, whether or not some are there already; returns its index, or -1
# when none is failed any more.
REOPEN = (
    NOW_MS
    + NEW_CHUNK
    + """
local reopened = 0
for i = 6, #ARGV do
  local entry = redis.call('HGET', KEYS[5], ARGV[i])
  if entry then
    redis.call('XDEL', KEYS[7], entry)
    redis.call('HDEL', KEYS[5], ARGV[i])
    redis.call('SREM', KEYS[6], ARGV[i])
    redis.call('SETBIT', KEYS[4], ARGV[i], 0)
    reopened = reopened + 1
  end
end
if reopened == 0 then return {-1, 0} end
local chunk = new_chunk(KEYS[1])
redis.call('HDEL', KEYS[1], 'started', 'updated')
redis.call('HSET', KEYS[1], 'base', redis.call('BITCOUNT', KEYS[4]), 'queue', ARGV[4])
redis.call('HSET', KEYS[2], chunk, ARGV[3])
redis.call('ZADD', KEYS[3], -now, chunk)
redis.call('SADD', KEYS[8], ARGV[1])
if ARGV[2] == '1' then redis.call('SADD', KEYS[9], ARGV[1]) end
if ARGV[5] == '1' then redis.call('ZADD', KEYS[10], now / 1000, ARGV[4]) end
for i = 11, #KEYS do redis.call('PERSIST', KEYS[i]) end
return {chunk, reopened}
"""
)

# KEYS: meta finished pushed. ARGV: delivered ordinals. Returns 1 when there is something to push now.
RELEASE_PUSH = """
redis.call('HSET', KEYS[1], 'push_ready', 1)
for i = 1, #ARGV do redis.call('SETBIT', KEYS[3], ARGV[i], 1) end
local ttl = redis.call('TTL', KEYS[1])
if ttl > 0 then redis.call('EXPIRE', KEYS[3], ttl) end
return redis.call('BITCOUNT', KEYS[2]) > redis.call('BITCOUNT', KEYS[3]) and 1 or 0
"""

-- What one replica charged and found while it could not reach the store.
-- KEYS: the day's fingerprints; what speaks against the caller; the day's fingerprints with marks; how many
-- of the first are unknown. ARGV: strikes at least, strikes more, now (seconds), rows that the store had
-- once, and that there are as far as the replica knows, fingerprints with and without a mark.
local rows, marked = {}, {}
for i = 6, #ARGV do table.insert(#ARGV[i] == 8 and rows or marked, ARGV[i]) end
-- A store that lost its memory lacks rows that a replica knows of by number only. These are counted as
-- unknown, until who charged them puts them back.
local unknown = tonumber(redis.call('GET', KEYS[4]) or 0)
local used, before = redis.call('SCARD', KEYS[1]), unknown
if used < tonumber(ARGV[4]) then
  while used < tonumber(ARGV[5]) do
    unknown = unknown + 1
    used = used + redis.call('SADD', KEYS[1], 'unknown ' .. unknown)
  end
end
local new = #rows > 0 and redis.call('SADD', KEYS[1], unpack(rows)) or 0
while new > 0 and unknown > 0 do
  redis.call('SREM', KEYS[1], 'unknown ' .. unknown)
  new, unknown = new - 1, unknown - 1
end
if unknown ~= before then redis.call('SET', KEYS[4], unknown, 'EX', 172800) end
redis.call('EXPIRE', KEYS[1], 172800)
if #marked > 0 then
  redis.call('SADD', KEYS[3], unpack(marked))
  redis.call('EXPIRE', KEYS[3], 172800)
end
local at_least, more, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if at_least > 0 or more > 0 then
  local state = redis.call('HMGET', KEYS[2], 'strikes', 'at')
  local strikes, at = tonumber(state[1] or 0), tonumber(state[2] or now)
  strikes = math.max(0, strikes - math.max(0, now - at) / 3600)
  strikes = math.min(math.max(strikes, at_least) + more, 24)
  redis.call('HSET', KEYS[2], 'strikes', string.format('%.17g', strikes), 'at', math.max(at, now))
  redis.call('EXPIRE', KEYS[2], 259200)
end
return redis.call('SCARD', KEYS[1])

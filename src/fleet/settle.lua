-- What one replica charged and found while it could not reach the store.
-- KEYS: the day's fingerprints; what speaks against the caller; the day's fingerprints of what was answered in full.
-- ARGV: strikes at least, strikes more, now (seconds), fingerprints with and without a version.
local rows, in_full = {}, {}
for i = 4, #ARGV do table.insert(#ARGV[i] == 8 and rows or in_full, ARGV[i]) end
for i, members in ipairs({rows, in_full}) do
  if #members > 0 then
    local key = KEYS[i * 2 - 1]
    redis.call('SADD', key, unpack(members))
    redis.call('EXPIRE', key, 172800)
  end
end
local least, more, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if least > 0 or more > 0 then
  local state = redis.call('HMGET', KEYS[2], 'strikes', 'at')
  local strikes, at = tonumber(state[1] or 0), tonumber(state[2] or now)
  strikes = math.max(0, strikes - math.max(0, now - at) / 3600)
  strikes = math.min(math.max(strikes, least) + more, 24)
  redis.call('HSET', KEYS[2], 'strikes', string.format('%.17g', strikes), 'at', math.max(at, now))
  redis.call('EXPIRE', KEYS[2], 259200)
end
return redis.call('SCARD', KEYS[1])

-- What one replica charged and found while it could not reach the store.
-- KEYS: the day's fingerprints; what speaks against the caller. ARGV: strikes, now (seconds), fingerprints.
if #ARGV > 2 then
  redis.call('SADD', KEYS[1], unpack(ARGV, 3))
  redis.call('EXPIRE', KEYS[1], 172800)
end
local strikes, now = tonumber(ARGV[1]), tonumber(ARGV[2])
if strikes > tonumber(redis.call('HGET', KEYS[2], 'strikes') or 0) then
  redis.call('HSET', KEYS[2], 'strikes', ARGV[1], 'at', now)
  redis.call('EXPIRE', KEYS[2], 259200)
end
return redis.call('SCARD', KEYS[1])

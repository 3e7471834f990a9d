-- What is quarantined, on all replicas. KEYS: subject by subject, "MILLISECONDS HOLD".
-- "memory" is what the first to come wrote: another one tells that the store has lost what it had.
-- ARGV: a random text; subject, milliseconds, hold (empty: released), and so on. The later change of a subject stands.
if not redis.call('HGET', KEYS[1], 'memory') then redis.call('HSET', KEYS[1], 'memory', ARGV[1]) end
for i = 2, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  local since = known and tonumber(string.match(known, '^(%d+)')) or -1
  if tonumber(ARGV[i + 1]) > since then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2])
  end
end
return redis.call('HGETALL', KEYS[1])

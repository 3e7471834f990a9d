-- How much of budgets is spent, as servers tell each other beside the request path.
-- KEYS: the day's rows by caller and model. ARGV: keyed hash of both, rows, and so on. The larger number stands.
for i = 1, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) > tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
if #ARGV > 0 then redis.call('EXPIRE', KEYS[1], 172800) end
return redis.call('HGETALL', KEYS[1])

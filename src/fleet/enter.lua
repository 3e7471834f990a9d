-- One row of one caller and model: src/extraction/ledger.rs, step by step, for all replicas.
-- KEYS: the day's fingerprints; what speaks against the caller; the day's embeddings.
-- Keys of a day end with it; nothing here is a row.
local fingerprint, embedding = ARGV[1], ARGV[2]
local flagged, now, rows, near, window = ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local if_flagged, if_passed = tonumber(ARGV[8]), tonumber(ARGV[9])
local enforced, bands, last = ARGV[10] == '1', ARGV[11] == '1', tonumber(ARGV[12])
local NEAR, MOST, CROWD, MULTITUDE, UNBUDGETED = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17])
local ALARM, PACE, BURST, near_strike = tonumber(ARGV[18]), tonumber(ARGV[19]), tonumber(ARGV[20]), tonumber(ARGV[21])
local DAY = 86400
local seconds = math.floor(now / 1000)
local day = math.floor(seconds / DAY)
local state = redis.call('HMGET', KEYS[2], 'cusum', 'strikes', 'at', 'pace', 'refused', 'exhausted', 'told')
local cusum, strikes, at = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or seconds)
local pace, refused, told = tonumber(state[4] or 0), state[5], tonumber(state[7] or 0)
local told_exhausted = state[6] == tostring(day)
local used = redis.call('SCARD', KEYS[1])
local events = 0

local function step()
  local s = 0
  if strikes >= 15.5 then s = 4 elseif strikes >= 7.5 then s = 3 elseif strikes >= 3.5 then s = 2 elseif strikes >= 0.5 then s = 1 end
  return math.min(s, last)
end
local function effect(s) if enforced then return s else return 0 end end
-- 2 in full, 1 the band, 0 nothing.
local function detail(s) if s <= 1 then return 2 elseif s == 2 then return 1 else return 0 end end
local function exact(n) return string.format('%.17g', n) end

local function verdict(why, value, charged, s)
  if s > told then events = bit.bor(events, 16) elseif s < told then events = bit.bor(events, 32) end
  redis.call('HSET', KEYS[2], 'cusum', exact(cusum), 'strikes', exact(strikes), 'at', at, 'pace', exact(pace),
    'refused', refused or '', 'exhausted', told_exhausted and day or '', 'told', s)
  redis.call('EXPIRE', KEYS[2], 3 * DAY)
  return {why, value, charged, used, s, events, exact(strikes), exact(cusum)}
end

-- Two replicas' clocks may differ: time does not go back.
strikes = math.max(0, strikes - math.max(0, seconds - at) / 3600)
at = math.max(at, seconds)
local before = step()
if effect(before) == 4 then return verdict(4, 0, 0, before) end
if redis.call('SISMEMBER', KEYS[1], fingerprint) == 1 then return verdict(0, detail(effect(before)), 0, before) end
local exhausted = rows >= 0 and used >= rows
if exhausted and not told_exhausted then
  told_exhausted = true
  events = bit.bor(events, 2)
end
if exhausted and not bands then return verdict(1, DAY - seconds % DAY, 0, before) end
local slowed = effect(before) >= 1 and not bands
local allowed = now + PACE * (BURST - 1)
if slowed and pace > allowed then return verdict(3, math.ceil((pace - allowed) / 1000), 0, before) end

-- Embeddings: 4 bytes of time, whose lowest bit says whether it was flagged, and 32 of bits.
local seen = redis.call('GET', KEYS[3]) or ''
local from = 1
while from <= #seen and struct.unpack('>I4', seen, from) + window < seconds do from = from + 36 end
if from > 1 then seen = string.sub(seen, from) end
local ones = {}
for byte = 0, 255 do
  local n, rest = 0, byte
  while rest > 0 do n = n + rest % 2; rest = math.floor(rest / 2) end
  ones[byte] = n
end
local first, count, again = nil, 0, false
if #embedding == 32 then
  local own = {string.byte(embedding, 1, 32)}
  for place = 1, #seen, 36 do
    local stamp = struct.unpack('>I4', seen, place)
    if (stamp % 2 == 1) == flagged then
      local other, differ = {string.byte(seen, place + 4, place + 35)}, 0
      for i = 1, 32 do
        differ = differ + ones[bit.bxor(own[i], other[i])]
        if differ > NEAR then break end
      end
      if differ <= NEAR then
        again = true
        count = count + 1
        first = first or stamp
      end
    end
  end
end
local near_duplicate = false
if not flagged then
  if #seen / 36 >= CROWD then near = near + 1 end
  if #seen / 36 >= MULTITUDE then near = near + 1 end
  near_duplicate = count > near
end
if near_duplicate then
  events = bit.bor(events, 4)
  if fingerprint ~= refused then
    refused = fingerprint
    strikes = math.min(strikes + near_strike, 24)
  end
elseif not (flagged and again) then
  cusum = math.max(0, cusum + (flagged and if_flagged or if_passed))
  if cusum >= ALARM then
    cusum = 0
    events = bit.bor(events, 8)
    strikes = math.min(strikes + 4, 24)
  end
end
local after = step()
if near_duplicate and enforced and not bands then
  return verdict(2, math.max(first + window - seconds, 1), 0, after)
end
if slowed then pace = math.max(pace, now) + PACE end
local answer = detail(effect(after))
local function remember_place()
  if #embedding ~= 32 then return end
  if #seen / 36 >= MOST then seen = string.sub(seen, 37) end
  local stamp = seconds - seconds % 2 + (flagged and 1 or 0)
  redis.call('SET', KEYS[3], seen .. struct.pack('>I4', stamp) .. embedding, 'EX', math.max(window, 60))
end
if exhausted or (near_duplicate and enforced) then
  if not near_duplicate and fingerprint ~= refused then
    refused = fingerprint
    remember_place()
  end
  return verdict(0, math.min(answer, 1), 0, after)
end

if rows < 0 and used >= UNBUDGETED then
  redis.call('DEL', KEYS[1])
end
redis.call('SADD', KEYS[1], fingerprint)
used = redis.call('SCARD', KEYS[1])
redis.call('EXPIRE', KEYS[1], 2 * DAY)
remember_place()
if rows >= 0 and used == math.ceil(rows * 4 / 5) then events = bit.bor(events, 1) end
return verdict(0, answer, 1, after)

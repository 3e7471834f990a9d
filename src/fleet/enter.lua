-- One row of one caller and model: src/extraction/ledger.rs, step by step, for all replicas.
-- KEYS: the day's fingerprints; what speaks against the caller; the day's embeddings; the day's fingerprints
-- with marks: of a version that answered in full, or BAND; the day's fingerprints that were tried in vain.
-- Keys of a day end with it; nothing here is a row.
-- Nothing takes longer when there is more of it, for everybody waits until the script has ended.
local fingerprint, in_full, embedding = ARGV[1], ARGV[2], ARGV[3]
local capped = fingerprint .. '\255'
local flagged, answered = ARGV[4] == '1', ARGV[5] == '1'
local now, rows, near, window = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local if_flagged, if_passed = tonumber(ARGV[10]), tonumber(ARGV[11])
local enforced, bands, last = ARGV[12] == '1', ARGV[13] == '1', tonumber(ARGV[14])
local NEAR, MOST, CROWD, MULTITUDE, UNBUDGETED = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17]), tonumber(ARGV[18]), tonumber(ARGV[19])
local ALARM, PACE, BURST, near_strike = tonumber(ARGV[20]), tonumber(ARGV[21]), tonumber(ARGV[22]), tonumber(ARGV[23])
-- What the replica compared already: the first `taken` embeddings of the list `epoch`.
local its_epoch, its_taken = tonumber(ARGV[24]), tonumber(ARGV[25])
local count, first, again, few = tonumber(ARGV[26]), tonumber(ARGV[27]), ARGV[28] == '1', tonumber(ARGV[29])
local TRIED = tonumber(ARGV[30])
local DAY = 86400
local seconds = math.floor(now / 1000)
local day = math.floor(seconds / DAY)
local state = redis.call('HMGET', KEYS[2], 'cusum', 'strikes', 'at', 'pace', 'exhausted', 'told', 'epoch', 'from', 'taken')
local cusum, strikes, at = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or seconds)
local pace, told = tonumber(state[4] or 0), tonumber(state[6] or 0)
local told_exhausted = state[5] == tostring(day)
-- Embeddings have numbers: those from `from` up to `taken`, without it, are kept, in as many fields as
-- there may be. Each is 4 bytes of time, whose lowest bits say whether it was flagged (1) and answered (2),
-- and 32 of bits. Those from `new` on are not known to the replica.
local epoch, from, taken, new = tonumber(state[7] or 0), tonumber(state[8] or 0), tonumber(state[9] or 0), nil
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
local function unknown()
  local fields = {}
  for number = new, taken - 1 do table.insert(fields, number % MOST) end
  return #fields > 0 and redis.call('HMGET', KEYS[3], unpack(fields)) or fields
end

local function verdict(why, value, charged, s)
  if s > told then events = bit.bor(events, 16) elseif s < told then events = bit.bor(events, 32) end
  redis.call('HSET', KEYS[2], 'cusum', exact(cusum), 'strikes', exact(strikes), 'at', at, 'pace', exact(pace),
    'exhausted', told_exhausted and day or '', 'told', s, 'epoch', exact(epoch), 'from', exact(from), 'taken', exact(taken))
  redis.call('EXPIRE', KEYS[2], 3 * DAY)
  if not new then return {why, value, charged, used, s, events, exact(strikes), exact(cusum), 0, 0, ''} end
  return {why, value, charged, used, s, events, exact(strikes), exact(cusum), epoch, taken, table.concat(unknown())}
end

-- Two replicas' clocks may differ: time does not go back.
strikes = math.max(0, strikes - math.max(0, seconds - at) / 3600)
at = math.max(at, seconds)
local before = step()
if effect(before) == 4 then return verdict(4, 0, 0, before) end
local so_far = detail(effect(before))
if redis.call('SISMEMBER', KEYS[1], fingerprint) == 1 then
  if redis.call('SISMEMBER', KEYS[4], capped) == 1 then return verdict(0, math.min(so_far, 1), 0, before) end
  return verdict(0, redis.call('SISMEMBER', KEYS[4], in_full) == 1 and 2 or so_far, 0, before)
end
local function tried() return redis.call('ZSCORE', KEYS[5], fingerprint) end
local exhausted = rows >= 0 and used >= rows
if exhausted and not told_exhausted then
  told_exhausted = true
  events = bit.bor(events, 2)
end
if exhausted and not bands then return verdict(1, DAY - seconds % DAY, 0, before) end
if exhausted and tried() then return verdict(0, math.min(so_far, 1), 0, before) end
local slowed = effect(before) >= 1 and not bands
local allowed = now + PACE * (BURST - 1)
if slowed and pace > allowed then return verdict(3, math.ceil((pace - allowed) / 1000), 0, before) end

local places = {}
if #embedding == 32 then
  if epoch == 0 then epoch = now end
  while from < taken do
    local oldest = redis.call('HGET', KEYS[3], from % MOST)
    if oldest and struct.unpack('>I4', oldest) + window >= seconds then break end
    from = oldest and from + 1 or taken
  end
  if epoch == its_epoch and taken >= its_taken then
    new = math.max(its_taken, from)
  else
    new, count, first, again = from, 0, -1, false
  end
  places = unknown()
  if taken - new > few then return {5, 0, 0, used, 0, 0, '', '', epoch, taken, table.concat(places)} end
end
if #places > 0 then
  local ones = {[0] = 0}
  for byte = 1, 255 do ones[byte] = ones[math.floor(byte / 2)] + byte % 2 end
  local own = {string.byte(embedding, 1, 32)}
  for _, place in ipairs(places) do
    local stamp = struct.unpack('>I4', place)
    local was_flagged, was_answered = flagged and stamp % 2 == 1, answered and stamp % 4 >= 2
    if was_flagged or was_answered then
      local other, differ = {string.byte(place, 5, 36)}, 0
      for i = 1, 32 do
        differ = differ + ones[bit.bxor(own[i], other[i])]
        if differ > NEAR then break end
      end
      if differ <= NEAR then
        again = again or was_flagged
        if was_answered then
          count = count + 1
          if first < 0 then first = stamp end
        end
      end
    end
  end
end
if taken - from >= CROWD then near = near + 1 end
if taken - from >= MULTITUDE then near = near + 1 end
local near_duplicate = count > near
local is_refused = near_duplicate and enforced and not bands
if near_duplicate then
  if not tried() then
    events = bit.bor(events, 4)
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
if (exhausted or is_refused) and not tried() then
  redis.call('ZADD', KEYS[5], now, fingerprint)
  redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -TRIED - 1)
  redis.call('EXPIRE', KEYS[5], 2 * DAY)
end
if is_refused then return verdict(2, math.max(first + window + 1 - seconds, 1), 0, after) end
if slowed then pace = math.max(pace, now) + PACE end
local answer = detail(effect(after))
local function remember_place()
  if not new then return end
  local stamp = seconds - seconds % 4 + (flagged and 1 or 0) + (answered and 2 or 0)
  redis.call('HSET', KEYS[3], taken % MOST, struct.pack('>I4', stamp) .. embedding)
  redis.call('EXPIRE', KEYS[3], math.max(window, 60))
  taken = taken + 1
  from = math.max(from, taken - MOST)
  new = math.max(new, from)
end
local is_capped = near_duplicate and enforced
if not is_capped then remember_place() end
if exhausted or is_capped then answer = math.min(answer, 1) end
if exhausted then return verdict(0, answer, 0, after) end

if rows < 0 and used >= UNBUDGETED then
  redis.call('DEL', KEYS[1], KEYS[4])
end
redis.call('SADD', KEYS[1], fingerprint)
used = redis.call('SCARD', KEYS[1])
redis.call('EXPIRE', KEYS[1], 2 * DAY)
local mark = is_capped and capped or answer == 2 and answered and in_full
if mark then
  redis.call('SADD', KEYS[4], mark)
  redis.call('EXPIRE', KEYS[4], 2 * DAY)
end
if rows >= 0 and used == math.ceil(rows * 4 / 5) then events = bit.bor(events, 1) end
return verdict(0, answer, 1, after)

-- Delete some of the keys that contain a rater's pseudonym, and subtract their judgments from the tallies. Each call is
-- idempotent: a judgment is subtracted in the same script run that deletes its comparison.
--
-- KEYS  1 stream      ARGV  1 cursor   2 number of keys to scan   3 pseudonym
-- Returns {the next cursor, '' at the end; the number of deleted keys}.

local stream, cursor, many, rater = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local function uncount(shown, judgment)
  local record = cjson.decode(shown.record)
  local tally = stream .. ':tally:' .. (type(record.pool) == 'string' and record.pool or 'own')
  if record.role and record.role ~= 'plain' then tally = tally .. ':' .. record.role end
  redis.call('HINCRBY', tally, shown.pair .. ':shown', -1)
  local outcome = ({a = 'first', b = 'second', tie = 'tie', both_bad = 'tie'})[redis.call('HGET', judgment, 'choice')]
  if not outcome then return end
  if shown.swapped == '1' and outcome ~= 'tie' then outcome = outcome == 'first' and 'second' or 'first' end
  redis.call('HINCRBY', tally, shown.pair .. ':' .. outcome, -1)
end

local function remove_comparison(key)
  local stored = redis.call('HMGET', key, 'record', 'pair', 'swapped', 'judgment')
  local judgment = stream .. ':judgment:' .. (stored[4] or '')
  uncount({record = stored[1], pair = stored[2], swapped = stored[3]}, judgment)
  return redis.call('DEL', key, judgment)
end

local function remove(key)
  if string.sub(key, -string.len(rater) - 1) == ':' .. rater then return redis.call('DEL', key) end
  if redis.call('TYPE', key).ok ~= 'hash' or redis.call('HGET', key, 'rater') ~= rater then return 0 end
  if redis.call('HEXISTS', key, 'record') == 1 then return remove_comparison(key) end
  -- A judgment is deleted with its comparison, which still needs its choice.
  local comparison = redis.call('HGET', key, 'comparison')
  if comparison and redis.call('EXISTS', stream .. ':comparison:' .. comparison) == 1 then return 0 end
  return redis.call('DEL', key)
end

local found = redis.call('SCAN', cursor, 'MATCH', stream .. ':*', 'COUNT', many)
local removed = 0
for _, key in ipairs(found[2]) do removed = removed + remove(key) end
return {found[1] == '0' and '' or found[1], removed}

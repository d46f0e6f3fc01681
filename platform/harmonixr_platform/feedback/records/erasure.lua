-- Removes some of the keys that name a rater, and takes their answers out of the tallies; says where to go on. Each step
-- may be run again: an answer is uncounted in the same breath as its comparison goes.
--
-- KEYS  1 stream      ARGV  1 cursor   2 how many to look at   3 pseudonym
-- Answers {where to go on, '' at the end; how many were removed}.

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
  local held = redis.call('HMGET', key, 'record', 'pair', 'swapped', 'judgment')
  local judgment = stream .. ':judgment:' .. (held[4] or '')
  uncount({record = held[1], pair = held[2], swapped = held[3]}, judgment)
  return redis.call('DEL', key, judgment)
end

local function remove(key)
  if string.sub(key, -string.len(rater) - 1) == ':' .. rater then return redis.call('DEL', key) end
  if redis.call('TYPE', key).ok ~= 'hash' or redis.call('HGET', key, 'rater') ~= rater then return 0 end
  if redis.call('HEXISTS', key, 'record') == 1 then return remove_comparison(key) end
  -- A judgment goes with its comparison, which still has to ask it what was chosen.
  local comparison = redis.call('HGET', key, 'comparison')
  if comparison and redis.call('EXISTS', stream .. ':comparison:' .. comparison) == 1 then return 0 end
  return redis.call('DEL', key)
end

local found = redis.call('SCAN', cursor, 'MATCH', stream .. ':*', 'COUNT', many)
local removed = 0
for _, key in ipairs(found[2]) do removed = removed + remove(key) end
return {found[1] == '0' and '' or found[1], removed}

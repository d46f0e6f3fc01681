-- Removes some of the keys that name a rater, and says where to go on; each step may be run again.
--
-- KEYS  1 stream      ARGV  1 cursor   2 how many to look at   3 pseudonym
-- Answers {where to go on, '' at the end; how many were removed}.

local stream, cursor, many, rater = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('SCAN', cursor, 'MATCH', stream .. ':*', 'COUNT', many)
local removed = 0
for _, key in ipairs(found[2]) do
  local named = string.sub(key, -string.len(rater) - 1) == ':' .. rater
  local of_rater = redis.call('TYPE', key).ok == 'hash' and redis.call('HGET', key, 'rater') == rater
  if named or of_rater then removed = removed + redis.call('DEL', key) end
end
return {found[1] == '0' and '' or found[1], removed}

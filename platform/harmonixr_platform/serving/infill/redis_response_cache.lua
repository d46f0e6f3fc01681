-- Keep an answer for a while, and of all answers only the latest.
--
-- KEYS  1 the answer   2 the times of all answers      ARGV  1 record   2 how long (ms)   3 how many   4 now (ms)

local keep, now = tonumber(ARGV[2]), tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'record', ARGV[1])
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('ZADD', KEYS[2], now, KEYS[1])
redis.call('PEXPIRE', KEYS[2], keep)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - keep)
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
if over > 0 then
  local gone = redis.call('ZPOPMIN', KEYS[2], over)
  for i = 1, #gone, 2 do redis.call('DEL', gone[i]) end
end
return {'1'}

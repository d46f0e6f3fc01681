-- Store a response with a time to live, and delete all but the latest responses.
--
-- KEYS  1 the response   2 the times of all responses      ARGV  1 record   2 time to live (ms)   3 capacity   4 now (ms)

local ttl, now = tonumber(ARGV[2]), tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'record', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('ZADD', KEYS[2], now, KEYS[1])
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ttl)
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
if over > 0 then
  local dropped = redis.call('ZPOPMIN', KEYS[2], over)
  for i = 1, #dropped, 2 do redis.call('DEL', dropped[i]) end
end
return {'1'}

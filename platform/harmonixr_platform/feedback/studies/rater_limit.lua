-- A bucket that fills at a steady rate: takes one token, or says how many milliseconds until there is one.
-- Run twice for one request it takes two, which only makes the limit a little stricter.
--
-- KEYS  1 bucket      ARGV  1 tokens a minute, also the most it holds   2 now (ms)

local rate, now = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = rate
if held[1] then
  tokens = math.min(rate, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * rate / 60000)
end
if tokens < 1 then return {tostring(math.ceil((1 - tokens) * 60000 / rate))} end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - 1), 'at', now)
redis.call('PEXPIRE', KEYS[1], 120000)
return {'0'}

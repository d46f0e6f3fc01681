-- Take one token from a bucket that fills at a steady rate; return 0, or the milliseconds until the next token.
-- A script that runs twice for one request takes two tokens, which makes the limit slightly stricter.
--
-- KEYS  1 bucket      ARGV  1 tokens a minute, also the bucket's capacity   2 now (ms)

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

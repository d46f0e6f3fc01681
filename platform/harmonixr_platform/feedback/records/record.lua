-- The only script that writes feedback. It is atomic, and running it again with the same ids changes nothing, so a
-- client that received no response may repeat its request.
--
-- KEYS  1 stream   2 comparison   3 judgment   4 tally of the pool's pairs in this role
--       5 the rater's history in the pool: by comparison, 'number|pair|role|swapped|answered'   6 the rater's erasure
-- ARGV  1 action; with the prefix 'replay ' the record is in the object store already: rebuild all but the stream
--       2 record (JSON)   3 now (ms)   4 how long to store ids after expiry (ms)   5… arguments of the action
-- Returns {status, model a, model b}.

local stream, comparison, judgment, tally, history, erased = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local action, record, now, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local replaying = string.sub(action, 1, 7) == 'replay '
if replaying then action = string.sub(action, 8) end

local function add()
  if not replaying then redis.call('XADD', stream, '*', 'record', record) end
end

local function count(pair, swapped, choice, step)
  local outcome = ({a = 'first', b = 'second', tie = 'tie', both_bad = 'tie'})[choice]
  if not outcome then return end
  if swapped == '1' and outcome ~= 'tie' then
    outcome = outcome == 'first' and 'second' or 'first'
  end
  redis.call('HINCRBY', tally, pair .. ':' .. outcome, step)
end

local function set_answered(comparison_id, answered)
  local shown = redis.call('HGET', history, comparison_id)
  if shown then redis.call('HSET', history, comparison_id, string.sub(shown, 1, -2) .. answered) end
end

-- `expected` is the length of the history by which the pair was chosen; the rater may have been shown others since.
local function show(comparison_id, pair, rater, swapped, role, expires, model_a, model_b, expected)
  if redis.call('EXISTS', erased) == 1 then return {'erased', '', ''} end
  if redis.call('EXISTS', comparison) == 1 then return {'duplicate', model_a, model_b} end
  local number = redis.call('HLEN', history)
  if expected ~= '' and number ~= tonumber(expected) then return {'stale', '', ''} end
  add()
  redis.call('HSET', comparison, 'pair', pair, 'rater', rater, 'swapped', swapped, 'expires', expires,
    'model_a', model_a, 'model_b', model_b, 'record', record)
  redis.call('PEXPIREAT', comparison, expires + keep)
  redis.call('HINCRBY', tally, pair .. ':shown', 1)
  redis.call('HSET', tally, pair .. ':last_ms', now)
  redis.call('HSET', history, comparison_id, table.concat({number, pair, role, swapped, '0'}, '|'))
  redis.call('PEXPIREAT', history, expires + keep)
  return {'stored', model_a, model_b}
end

local function judge(judgment_id, comparison_id, rater, choice, digest)
  local shown = redis.call('HMGET', comparison, 'pair', 'rater', 'swapped', 'expires', 'model_a', 'model_b', 'judgment')
  if redis.call('EXISTS', erased) == 1 then return {'erased', '', ''} end
  if not shown[1] then return {'unknown', '', ''} end
  local stored = redis.call('HMGET', judgment, 'comparison', 'digest')
  if stored[1] then
    local same = stored[1] == comparison_id and stored[2] == digest
    return {same and 'duplicate' or 'conflict', shown[5], shown[6]}
  end
  if shown[2] ~= rater then return {'wrong_rater', '', ''} end
  if shown[7] then return {'judged', '', ''} end
  if now > tonumber(shown[4]) then return {'expired', '', ''} end
  add()
  redis.call('HSET', comparison, 'judgment', judgment_id)
  redis.call('HSET', judgment, 'comparison', comparison_id, 'rater', rater, 'choice', choice, 'digest', digest)
  redis.call('PEXPIREAT', judgment, tonumber(shown[4]) + keep)
  count(shown[1], shown[3], choice, 1)
  set_answered(comparison_id, choice == 'skip' and '0' or '1')
  return {'stored', shown[5], shown[6]}
end

local function retract(retraction_id, judgment_id, rater)
  local stored = redis.call('HMGET', judgment, 'rater', 'choice', 'retracted', 'comparison')
  if not stored[1] then return {'unknown', '', ''} end
  if stored[1] ~= rater then return {'wrong_rater', '', ''} end
  if stored[3] then return {'duplicate', '', ''} end
  add()
  redis.call('HSET', judgment, 'retracted', retraction_id)
  local shown = redis.call('HMGET', comparison, 'pair', 'swapped', 'judgment')
  if shown[3] == judgment_id then
    -- The comparison is open again: the rater may judge it anew.
    redis.call('HDEL', comparison, 'judgment')
    count(shown[1], shown[2], stored[2], -1)
    set_answered(stored[4], '0')
  end
  return {'stored', '', ''}
end

local function append()
  if redis.call('EXISTS', judgment) == 1 then return {'duplicate', '', ''} end
  add()
  redis.call('SET', judgment, '1', 'PX', keep)
  return {'stored', '', ''}
end

-- This key never expires: a late request must not record an erased rater again.
local function erase()
  if redis.call('EXISTS', erased) == 1 then return {'duplicate', '', ''} end
  add()
  redis.call('SET', erased, '1')
  return {'stored', '', ''}
end

local actions = {comparison = show, judgment = judge, retraction = retract, append = append, erase = erase}
return actions[action](unpack(ARGV, 5))

-- What is kept: `answer:KEY`, and of it, so that it can be counted and found: `used`, `ends` (when, in ms), `owners`
-- ("BYTES PROJECT"), `bytes` of all, and for each project `of:PROJECT`. All in one slot: KEYS are the four of all projects.
local prefix = ARGV[1]

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- 1 if the answer was there, and wasn't over.
local function drop(key)
  local owner = redis.call('HGET', KEYS[3], key)
  if not owner then return 0 end
  local size, project = string.match(owner, '^(%d+) (.+)$')
  redis.call('ZREM', KEYS[1], key)
  redis.call('ZREM', KEYS[2], key)
  redis.call('HDEL', KEYS[3], key)
  redis.call('DECRBY', KEYS[4], size)
  redis.call('HDEL', prefix .. 'of:' .. project, key)
  return redis.call('UNLINK', prefix .. 'answer:' .. key)
end

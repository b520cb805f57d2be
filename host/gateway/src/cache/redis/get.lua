local key = ARGV[2]
local answer = redis.call('GET', prefix .. 'answer:' .. key)
if answer then
  redis.call('ZADD', KEYS[1], 'XX', now(), key)
else
  drop(key)
end
return answer

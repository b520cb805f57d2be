local key, answer, listed = ARGV[2], ARGV[3], ARGV[4]
local project, ttl, most = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
drop(key)
for _, over in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now(), 'LIMIT', 0, 100)) do drop(over) end
local size = #answer + #listed
if size > most then return 0 end
while tonumber(redis.call('GET', KEYS[4]) or 0) + size > most do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  if not oldest then break end
  drop(oldest)
end
redis.call('SET', prefix .. 'answer:' .. key, answer, 'PX', ttl)
redis.call('ZADD', KEYS[1], now(), key)
redis.call('ZADD', KEYS[2], now() + ttl, key)
redis.call('HSET', KEYS[3], key, size .. ' ' .. project)
redis.call('INCRBY', KEYS[4], size)
redis.call('HSET', prefix .. 'of:' .. project, key, listed)
return 1

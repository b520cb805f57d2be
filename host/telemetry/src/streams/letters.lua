-- At most so many letters behind a number: a project's, or everybody's.
-- KEYS: dead letters. ARGV: project or nothing, number, how many.
if ARGV[1] == '' then
    return redis.call('XRANGE', KEYS[1], '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
end
local found = {}
local numbers = redis.call('ZRANGEBYSCORE', KEYS[1] .. ':' .. ARGV[1], '(' .. ARGV[2], '+inf', 'LIMIT', 0, ARGV[3])
for _, number in ipairs(numbers) do
    found[#found + 1] = redis.call('XRANGE', KEYS[1], number .. '-0', number .. '-0')[1]
end
return found

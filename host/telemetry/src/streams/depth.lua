-- What is in the queue: rows, bytes, dead letters, and when its oldest entry came, in milliseconds (0: there is none).
-- KEYS: depth, dead letters, lanes.
local depth = redis.call('HMGET', KEYS[1], 'rows', 'bytes')
local oldest = 0
for lane = 3, #KEYS do
    local first = redis.call('XRANGE', KEYS[lane], '-', '+', 'COUNT', 1)[1]
    if first then
        local at = tonumber(string.match(first[1], '^%d+'))
        if oldest == 0 or at < oldest then oldest = at end
    end
end
local dead = redis.call('XLEN', KEYS[2])
return { tonumber(depth[1]) or 0, tonumber(depth[2]) or 0, dead, oldest }

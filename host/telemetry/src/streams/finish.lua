-- Acknowledges and deletes entries, and keeps what of them couldn't be stored. What another worker has finished counts
-- once; when all of it was finished by others, so were its letters.
-- KEYS: depth, dead letters, their last number, lanes. ARGV: group, time, number of letters, three for each letter (reason,
-- project or nothing, body), four for each entry (lane's index in KEYS, id, rows, bytes).
local group, died, letters = ARGV[1], ARGV[2], tonumber(ARGV[3])
local entries = 4 + 3 * letters
local rows, bytes, finished = 0, 0, 0
for at = entries, #ARGV, 4 do
    local lane, id = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
    if redis.call('XACK', lane, group, id) == 1 then
        finished = finished + 1
        if redis.call('XDEL', lane, id) == 1 then
            rows = rows + tonumber(ARGV[at + 2])
            bytes = bytes + tonumber(ARGV[at + 3])
        end
    end
end
redis.call('HINCRBY', KEYS[1], 'rows', -rows)
redis.call('HINCRBY', KEYS[1], 'bytes', -bytes)
-- Letters without entries come from a server's own file.
if finished > 0 or entries > #ARGV then
    for at = 4, entries - 1, 3 do
        local project = ARGV[at + 1]
        local number = redis.call('INCR', KEYS[3])
        redis.call('XADD', KEYS[2], number .. '-0',
            'died', died, 'reason', ARGV[at], 'project', project, 'body', ARGV[at + 2])
        if project ~= '' then redis.call('ZADD', KEYS[2] .. ':' .. project, number, number) end
    end
end
return finished

-- Takes a letter out, and puts it into a lane if one is named. 1, or 0 when there is no such letter.
-- KEYS: dead letters, depth, lane (or nothing). ARGV: project or nothing, number.
local id = ARGV[2] .. '-0'
local letter = redis.call('XRANGE', KEYS[1], id, id)[1]
if not letter then return 0 end
local fields = {}
for at = 1, #letter[2], 2 do fields[letter[2][at]] = letter[2][at + 1] end
if ARGV[1] ~= '' and ARGV[1] ~= fields.project then return 0 end
redis.call('XDEL', KEYS[1], id)
if fields.project ~= '' then redis.call('ZREM', KEYS[1] .. ':' .. fields.project, ARGV[2]) end
if KEYS[3] then
    redis.call('XADD', KEYS[3], '*', 'rows', 1, 'body', fields.body)
    redis.call('HINCRBY', KEYS[2], 'rows', 1)
    redis.call('HINCRBY', KEYS[2], 'bytes', #fields.body)
end
return 1

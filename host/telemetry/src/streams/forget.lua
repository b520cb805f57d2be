-- Forgets consumers of processes that are gone: those with nothing in hand that didn't ask for an hour.
-- KEYS: lanes. ARGV: group.
for _, lane in ipairs(KEYS) do
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', lane, ARGV[1])) do
        local fields = {}
        for at = 1, #consumer, 2 do fields[consumer[at]] = consumer[at + 1] end
        if fields.pending == 0 and fields.idle > 3600000 then
            redis.call('XGROUP', 'DELCONSUMER', lane, ARGV[1], fields.name)
        end
    end
end

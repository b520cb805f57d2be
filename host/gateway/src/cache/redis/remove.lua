local removed = 0
for at = 3, #ARGV do
  if redis.call('HEXISTS', prefix .. 'of:' .. ARGV[2], ARGV[at]) == 1 then
    removed = removed + drop(ARGV[at])
  end
end
return removed

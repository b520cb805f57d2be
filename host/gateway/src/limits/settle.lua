-- Settles what a call has taken.
-- KEYS: one for each. ARGV: member, and for each key: window in µs (0: requests at once), limit, the amount that is
-- charged (or below zero: given back), and when the taken amount is paid back, in µs of the script's clock.
local clock = redis.call('TIME')
local now = (tonumber(clock[1]) - 1735689600) * 1000000 + tonumber(clock[2])
for i = 1, #KEYS do
  local window, limit = tonumber(ARGV[i * 4 - 2]), tonumber(ARGV[i * 4 - 1])
  local amount, taken = tonumber(ARGV[i * 4]), tonumber(ARGV[i * 4 + 1])
  if window == 0 then
    redis.call('ZREM', KEYS[i], ARGV[1])
  elseif limit > 0 and amount ~= 0 then
    local paid = tonumber(redis.call('GET', KEYS[i]) or 0)
    if amount > 0 then
      paid = math.max(paid, now) + amount * window / limit
    else
      -- No more than time hasn't given back already.
      paid = paid - math.min(-amount * window / limit, math.max(taken - now, 0))
    end
    if paid > now then
      redis.call('SET', KEYS[i], string.format('%.17g', paid), 'PX', math.ceil((paid - now) / 1000) + 1000)
    else
      redis.call('DEL', KEYS[i])
    end
  end
end
return 0

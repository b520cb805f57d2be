-- Takes from several allowances at once, or from none.
-- KEYS: one for each. ARGV: member, lease in µs, and for each key: window in µs (0: requests at once), limit, amount.
-- Answers { index of what refuses or 0, now, then for each of those: µs until all of it is paid back (or the number
-- under way), and for what refuses: µs to wait, -1 for never }.
local clock = redis.call('TIME')
-- Since 2025, so that a double holds fractions of a microsecond.
local now = (tonumber(clock[1]) - 1735689600) * 1000000 + tonumber(clock[2])
local lease = tonumber(ARGV[2])
local after, answer = {}, { 0, now }
for i = 1, #KEYS do
  local window, limit, amount = tonumber(ARGV[i * 3]), tonumber(ARGV[i * 3 + 1]), tonumber(ARGV[i * 3 + 2])
  if window == 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    local running = redis.call('ZCARD', KEYS[i])
    if running >= limit then return { i, now, running, 1000000 } end
    answer[i + 2] = running + 1
  else
    local paid = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now)
    local cost = limit > 0 and amount * window / limit or 0
    -- A microsecond's grace is for rounding.
    if limit == 0 or paid + cost - now > window + 1 then
      local never = limit == 0 or cost > window + 1
      return { i, now, math.ceil(paid - now), never and -1 or math.ceil(paid + cost - now - window) }
    end
    after[i] = paid + cost
    answer[i + 2] = math.ceil(paid + cost - now)
  end
end
for i = 1, #KEYS do
  if after[i] then
    redis.call('SET', KEYS[i], string.format('%.17g', after[i]), 'PX', math.ceil((after[i] - now) / 1000) + 1000)
  else
    redis.call('ZADD', KEYS[i], now + lease, ARGV[1])
    redis.call('PEXPIRE', KEYS[i], math.ceil(lease / 1000) + 1000)
  end
end
return answer

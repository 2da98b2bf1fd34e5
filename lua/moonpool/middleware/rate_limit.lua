--- A bound on how often each client may ask: a bucket of tokens for each, from which a
-- request takes one, and which fills again at a steady rate. Whose bucket is empty gets
-- 429 with Retry-After (RFC 6585 4).
--
--     app:use("/login", rate_limit { rate = 0.1, burst = 5 })
--
--     rate   tokens a second that come back
--     burst  tokens that a full bucket has (rate, but at least 1)
--     key    a function of req: requests with the same string share a bucket, those
--            without one (nil) are free. By default it is the client's address without
--            the port, of IPv6 the /64 that a single client has. Behind a proxy all
--            clients have one address: there, take what the proxy says of them.
--     keys   buckets that are remembered at most (100,000, some 10 MB)
--
-- Each worker counts by itself, which costs a request nothing but a look into a table. A
-- connection stays with its worker, so who uses one gets the rate; who spreads his
-- requests over many gets up to as many times of it as the pool has workers. Divide by
-- that number where the bound must hold for the whole pool.
--
-- @module moonpool.middleware.rate_limit

local moonpool = require "moonpool"
local options = require "moonpool.options"

local KINDS = { rate = "number", burst = "number", key = "function", keys = "number" }
local SLACK = 1e-6 -- seconds: sums of fractions are not exact

---------------------------------------------------------------------------------------
-- Keys.

local function groups_of(text)
  local groups = {}
  for group in text:gmatch "[^:]+" do groups[#groups + 1] = group end
  return groups
end

-- "2001:db8::7" -> "2001:db8:0:0": without the half that a client chooses himself.
local function network(address)
  local front, back = address:match "^(.-)::(.*)$"
  local groups = groups_of(front or address)
  local gap = front and 8 - #groups - #groups_of(back) or 0
  local all = table.concat(groups, ":") .. (":0"):rep(gap) .. ":" .. (back or "")
  return table.concat(groups_of(all), ":", 1, 4)
end

local function client_address(req)
  local peer = req.peer or "unknown"
  local v6 = peer:match "^%[(.*)%]:%d+$"
  return v6 and network(v6) or peer:match "^(.*):%d+$" or peer
end

---------------------------------------------------------------------------------------
-- Buckets. One is the time at which it is full again: that says how many tokens it has,
-- and a bucket that nobody remembers is a full one.

local methods = {}
local mt = { __index = methods }

local function new_buckets(rate, burst, most)
  return setmetatable({
    step = 1 / rate,      -- seconds that one token takes
    depth = burst / rate, -- seconds that all of them take
    half = most / 2,
    young = {}, count = 0, old = {}, turn = -math.huge,
  }, mt)
end

-- Forgets the old ones: after this long they are full. Before that it happens only when
-- there are too many, and then it is those who have not asked for longest.
local function age(self, now)
  if now < self.turn and self.count < self.half then return end
  self.old, self.young, self.count = self.young, {}, 0
  self.turn = now + self.depth
end

--- Takes a token from a bucket.
-- @return nothing; or, when it is empty, the seconds until it has one
function methods:take(key, now)
  age(self, now)
  if not self.young[key] then self.count = self.count + 1 end
  local full_at = math.max(self.young[key] or self.old[key] or now, now)
  local missing = full_at + self.step - now - self.depth
  if missing > SLACK then
    self.young[key] = full_at
    return missing
  end
  self.young[key] = full_at + self.step
end

---------------------------------------------------------------------------------------

local function check_at_least(least, value, name)
  if value < least then
    error(("rate_limit: %s must be at least %s"):format(name, least), 3)
  end
  return value
end

local function refuse(res, seconds)
  res:status(429):header("Retry-After", ("%d"):format(math.ceil(seconds)))
  return res:send "Too Many Requests\n"
end

return function(given)
  local wanted = options.check("rate_limit", given, KINDS)
  local rate = wanted.rate or 0
  if not (rate > 0 and rate < math.huge) then
    error("rate_limit: there must be a rate, above 0", 2)
  end
  local burst = check_at_least(1, wanted.burst or math.max(rate, 1), "burst")
  local most = check_at_least(2, wanted.keys or 100000, "keys")
  local key_of = wanted.key or client_address
  local buckets = new_buckets(rate, burst, most)
  return function(req, res, next)
    local key = key_of(req)
    local missing = key ~= nil and buckets:take(key, moonpool.now())
    if missing then return refuse(res, missing) end
    next()
  end
end

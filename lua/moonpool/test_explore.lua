-- The order in which tasks run that are ready at the same time, which nobody may rely on.

local app = require "moonpool.test_app"
local core = require "moonpool.core"

--- Tasks run in an order that follows from seed; 0: in that in which they became ready.
local function shuffle(seed)
  core.loop.shuffle(seed)
end

local function try(seed, fn)
  local _ <close> = setmetatable({}, { __close = function() shuffle(0) end })
  shuffle(seed)
  math.randomseed(seed)
  local ok, why = xpcall(fn, debug.traceback, seed)
  local left = app.end_all()
  if ok and left then ok, why = false, "left behind:\n" .. left end
  return ok, why
end

--- Calls fn(seed) with n orders of the tasks that are ready, and as many sequences of
-- math.random, each time with fresh apps. With MOONPOOL_SEED only with that one.
-- What fails is raised, with the seed and how to see it again.
local function explore(n, fn)
  local only = math.tointeger(tonumber(os.getenv "MOONPOOL_SEED"))
  for seed = only or 1, only or n do
    local ok, why = try(seed, fn)
    if not ok then
      error(("order %d of %d fails; once more with MOONPOOL_SEED=%d busted ...\n%s")
        :format(seed, n, seed, tostring(why)), 0)
    end
  end
end

return { explore = explore, shuffle = shuffle, clear = function() shuffle(0) end }

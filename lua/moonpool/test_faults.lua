-- What goes wrong on demand. Faults are meant for the handlers and what the runtime does
-- for them; the spec and its clients are spared.
--
-- At the n-th place, for n = 1, 2, 3 ... until there is no such place any more:
--
--     test.every("error", function(n) ... end)       the n-th wait of a handler raises
--     test.every("kill", ...)       in the n-th wait the worker dies (app:kill)
--     test.every("memory", ...)     Lua's n-th allocation fails
--     test.every("EAGAIN", ...)     the n-th system call on a socket fails, as it may at
--                                   any time; "EINTR" likewise
--     test.every("ECONNRESET", ...) all fail from the n-th on: the client is gone
--     test.every("short", ...)      the n-th such call moves one byte
--
-- The function makes a client, uses it, and checks that what comes is right, or fails as
-- it should. For all calls at once there is test.io.

local core = require "moonpool.core"
local fault = require("moonpool.test_native").fault
local time = require "moonpool.test_time"

local MOST = 100000 -- places: a function that has more does not end

local kill -- set by who knows the apps

local kinds = {}

-- The n-th wait of a handler: what happens there is done by act, which may raise.
local function at_wait(n, act)
  local count = 0
  core.loop.probe(function()
    count = count + 1
    if count == n then act() end
  end)
  return function() return count end
end

function kinds.error(n)
  return at_wait(n, function() error(("fault: error at wait %d"):format(n), 0) end)
end

-- It has to wait first.
function kinds.kill(n)
  return at_wait(n, function() time.after_turn(kill) end)
end

function kinds.memory(n)
  fault.memory(n)
  return fault.memory
end

local function at_call(error, last)
  return function(n)
    fault.io { error = error, first = n, last = last or n }
    return fault.io
  end
end

kinds.EAGAIN = at_call "EAGAIN"
kinds.EINTR = at_call "EINTR"
kinds.ECONNRESET = at_call("ECONNRESET", math.maxinteger)

function kinds.short(n)
  fault.io { first = n, last = n }
  return fault.io
end

--- Nothing goes wrong any more.
local function clear()
  fault.io()
  fault.memory()
  fault.quiet(false)
  core.loop.probe()
end

local clearing = setmetatable({}, { __close = clear })

--- Calls fn with a fault at the n-th place of that kind.
-- @return how many places there were; then what fn has returned
local function fault_at(kind, n, fn)
  local arm = kinds[kind] or error("there is no fault " .. tostring(kind), 2)
  local _ <close> = clearing
  fault.quiet(true) -- the log would be full of what is meant to go wrong
  local count = arm(n)
  local results = table.pack(pcall(fn, n))
  local places = count()
  clear()
  if not results[1] then
    error(("%s at place %d of %d: %s"):format(kind, n, places, tostring(results[2])), 0)
  end
  return places, table.unpack(results, 2, results.n)
end

--- Calls fn(n) again and again, with a fault at the first, second, third ... place of
-- that kind, until there are no more. What it raises is raised here, with the place.
-- @return how many places there were
local function every(kind, fn)
  for n = 1, MOST do
    local places = fault_at(kind, n, fn)
    time.settle()
    if places < n then return n - 1 end
  end
  error(("%s: there is no end to the places"):format(kind), 2)
end

--- Calls fn while the handlers' system calls on sockets go as plan says: most = bytes
-- that each moves; error = "EAGAIN" with step = 2 for each second one; on = "read" or
-- "write"; first and last (runtime/lua_fault.h).
-- @return what fn returns
local function io(plan, fn)
  local _ <close> = clearing
  fault.quiet(true)
  fault.io(plan)
  return fn()
end

-- Input ---------------------------------------------------------------------------------

local function try_split(app, request, at, check)
  local client <close> = app:connect()
  client:write(request:sub(1, at))
  client:write(request:sub(at + 1))
  local ok, why = pcall(check, client, at)
  if not ok then
    error(("split after byte %d of %d: %s"):format(at, #request, tostring(why)), 0)
  end
end

local function try_bytes(app, request, check)
  local client <close> = app:connect()
  for byte in request:gmatch "." do client:write(byte) end
  local ok, why = pcall(check, client)
  if not ok then error("byte by byte: " .. tostring(why), 0) end
end

--- Sends request, to a new client of app each time, cut in two after its first byte, its
-- second ..., and in the end byte by byte; check(client) reads what comes.
local function every_split(app, request, check)
  for at = 1, #request - 1 do try_split(app, request, at, check) end
  try_bytes(app, request, check)
end

-- Moving --------------------------------------------------------------------------------

-- Calls fn while app is reloaded at the n-th step of the spec (nil: at each): what rests
-- then goes on in another instance. Returns how many steps there were.
local function reloading(app, n, fn)
  local last, count, busy = time.steps(), 0, false
  local stop = time.watch(function()
    if busy or time.steps() == last then return false end
    last, busy, count = time.steps(), true, count + 1
    local moved = (not n or n == count) and app:reload() > 0
    busy = false
    return moved
  end)
  local ok, why = pcall(fn, app)
  stop()
  if not ok then
    local step = n and "at step " .. n or "at each step"
    error(("reloaded %s: %s"):format(step, tostring(why)), 0)
  end
  return count
end

--- Calls fn(app), which talks with the app as a client, without a reload, with one at
-- each step, and with one at the first step only, at the second ...: for who talks it
-- must not make any difference. A step is whatever the spec does with a client.
-- @return how many steps there were
local function every_move(app, fn)
  fn(app)
  local steps = reloading(app, nil, fn)
  for n = 1, steps do reloading(app, n, fn) end
  return steps
end

return {
  fault = fault_at,
  every = every,
  every_split = every_split,
  every_move = every_move,
  io = io,
  clear = clear,
  on_kill = function(fn) kill = fn end,
}

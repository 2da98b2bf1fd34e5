-- Time in specs, and who waits for what.
--
-- The clock is virtual at first: it stands still while a spec runs, and moves when the
-- spec moves it, or jumps: when all wait, the spec too, to the next timer. So a timeout
-- of 30 seconds takes no time. Sleeps, timeouts and moonpool.now() follow it. os.time(),
-- os.date() and what Moonpool writes into cookies are the system's, until at() sets them:
-- then they follow it too. (The Date field of an answer is the system's always.)
--
-- The spec is not a task, so what it does with a connection is done by a task for it,
-- while the loop turns.

local core = require "moonpool.core"
local loop, task = core.loop, core.task

local ENDLESS = 1000000 -- turns of the loop, after which nothing will end by itself

loop.virtual(true)

local jumps = true -- whether the clock moves when all wait
local doing -- what the spec waits in, if it has a name
local steps = 0 -- of the spec: what it has done so far
local later = {} -- to be called after this turn
local watchers = {} -- called when nothing happens any more; true: they have done a thing

-- Who waits for what -------------------------------------------------------------------

local function where(thread)
  for level = 0, 20 do
    local info = debug.getinfo(thread, level, "Sl")
    if not info then break end
    if info.currentline > 0 then
      return (" at %s:%d"):format(info.short_src, info.currentline)
    end
  end
  return ""
end

-- One of core.loop.tasks(), as text.
local function describe(known)
  local left = known.left and (", for %.3g more seconds"):format(known.left) or ""
  if known.is_spec and doing then return "the spec waits in " .. doing .. left end
  local info = debug.getinfo(known.thread, 0, "n")
  local trace = debug.traceback(known.thread):gsub("^stack traceback:\n", "")
  return ("%s waits in %s%s%s\n%s"):format(known.is_spec and "the spec" or "a task",
    info and info.name or "what has no name", where(known.thread), left, trace)
end

--- Everybody who waits now, as text: what for, where, until when, with tracebacks.
local function waiting()
  local texts = {}
  for _, known in ipairs(loop.tasks()) do
    if known.thread and known.task ~= task.current() then
      texts[#texts + 1] = describe(known)
    end
  end
  return table.concat(texts, "\n")
end

-- Letting things happen ----------------------------------------------------------------

local function watchers_act()
  local acted = false
  for watcher in pairs(watchers) do acted = watcher() or acted end
  return acted
end

--- Calls fn() once this turn of the loop is over, outside of all tasks.
local function after_turn(fn)
  later[#later + 1] = fn
end

-- One turn: did anything happen?
local function turn_once()
  local happened = loop.turn()
  while later[1] do
    table.remove(later, 1)()
    happened = true
  end
  return happened
end

--- Turns the loop until nothing happens any more, or so often.
-- @return whether nothing happens any more
local function turn(times)
  for _ = 1, times do
    if not turn_once() then return true end
  end
  return false
end

--- Turns the loop until nothing happens any more, without moving the clock.
local function settle()
  if task.current() then return end -- it will happen when this task waits
  repeat
    if not turn(ENDLESS) then error("it does not come to rest:\n" .. waiting(), 2) end
  until not watchers_act()
end

--- Calls watcher() whenever nothing happens any more, before the clock moves on. If it
-- returns true, what it has done comes first.
-- @return a function that ends this
local function watch(watcher)
  watchers[watcher] = true
  return function() watchers[watcher] = nil end
end

-- One step towards the end of whatever is waited for.
local function progress()
  if turn_once() or watchers_act() then return end
  local pause = loop.next()
  if pause == math.huge then
    error("everybody waits, and nothing can happen any more:\n" .. waiting(), 0)
  elseif not loop.virtual() then
    loop.wait(pause)
  elseif jumps or pause <= 0 then -- what is due is due now
    loop.advance(math.max(pause, 0))
  else
    error("everybody waits, and the clock stands still:\n" .. waiting(), 0)
  end
end

local function finish(state)
  if not state.ok then error(state[1], 0) end
  return table.unpack(state, 1, state.n)
end

local function collect(state, ok, ...)
  state.ok, state.n = ok, select("#", ...)
  for i = 1, state.n do state[i] = select(i, ...) end
end

-- Who waits in vain would be in the way of whoever uses the same connection next.
local function finish_waiting(state, spec)
  while state.ok == nil do
    local ok, err = pcall(progress)
    if not ok then
      spec:cancel()
      settle()
      error(err, 0)
    end
  end
end

--- Runs fn(...) as a task until it returns; its errors are raised here.
-- @return what fn returns
local function run(fn, ...)
  if task.current() then return fn(...) end
  steps = steps + 1
  local state = {}
  finish_waiting(state, loop.spawn(function(...)
    collect(state, xpcall(fn, debug.traceback, ...))
  end, ...))
  return finish(state)
end

--- Waits until condition() is true: in virtual time, or for real where the clock runs.
-- What it raises counts as not yet.
-- @param seconds after which it fails
-- @return what it returned; or nil and what it raised last, if anything
local function eventually(condition, seconds)
  local deadline = task.now() + seconds
  while true do
    settle()
    local ok, value = pcall(condition)
    if ok and value then return value end
    local pause = math.min(loop.next(), deadline - task.now())
    if task.now() >= deadline then return nil, not ok and value or nil end
    if loop.virtual() then
      loop.advance(math.max(pause, 0))
    else
      loop.wait(math.min(pause, 0.005))
    end
  end
end

-- The clock ----------------------------------------------------------------------------

--- Moves the clock, with everything that happens on the way, each at its time.
local function advance(seconds)
  steps = steps + 1
  settle()
  loop.advance(seconds)
  settle()
end

--- Moves the clock at once, as if the machine had slept: all that is due happens then.
local function jump(seconds)
  settle()
  loop.jump(seconds)
  settle()
end

--- Says whether the clock moves by itself when all wait, as it does at first; with an
-- argument, sets it. Where it does not, waiting for time is an error.
local function autojump(on)
  if on ~= nil then jumps = on end
  return jumps
end

local system = { time = os.time, date = os.date, core = core.time }

--- Sets the time of day to so many seconds since 1970; it goes on with the clock. nil:
-- it is the system's again. Each test begins with the system's.
local function at(seconds)
  if not seconds then
    os.time, os.date, core.time = system.time, system.date, system.core -- luacheck: ignore
    return
  end
  local began = task.now()
  local function now() return seconds + task.now() - began end
  core.time = now
  os.time = function(when) -- luacheck: ignore
    return when and system.time(when) or math.floor(now())
  end
  os.date = function(format, when) -- luacheck: ignore
    return system.date(format, when or math.floor(now()))
  end
end

local undoing = setmetatable({}, { __close = function() doing = nil end })

--- As run, of something that has a name to be shown to who waits in vain.
local function run_as(name, fn, ...)
  if task.current() then return fn(...) end
  local _ <close> = undoing
  doing = name
  return run(fn, ...)
end

return {
  run = run,
  run_as = run_as,
  settle = settle,
  turn = turn,
  after_turn = after_turn,
  watch = watch,
  steps = function() return steps end, -- a number that changes with all that a spec does
  waiting = waiting,
  describe = describe, -- (one of core.loop.tasks()) -> text
  eventually = eventually,
  advance = advance,
  jump = jump,
  autojump = autojump,
  at = at,
  virtual = loop.virtual, -- (boolean): whether the clock is virtual; it is at first
}

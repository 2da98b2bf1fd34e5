-- Handlers in specs: over a real socketpair, in the spec's own process, without a server,
-- on a clock that stands still.
--
--     local test = require "moonpool.test"
--     local client = test.connect(handler)
--     client:write "hello\n"
--     assert.equal("hello", client:read "l")
--
-- The spec is not a task, so what it does with a connection is done by a task for it,
-- while the loop turns. When all wait, the clock is moved on to the next timer, so that a
-- timeout of 30 seconds takes no time; when nothing can ever happen that is an error.

local core = require "moonpool.core"
local loop, task = core.loop, core.task

loop.virtual(true)

local function finish(state)
  if not state.ok then error(state[1], 0) end
  return table.unpack(state, 1, state.n)
end

local function collect(state, ok, ...)
  state.ok, state.n = ok, select("#", ...)
  for i = 1, state.n do state[i] = select(i, ...) end
end

--- Turns the loop until nothing happens any more, without moving the clock.
local function settle()
  if task.current() then return end -- it will happen when this task waits
  while loop.turn() do end -- luacheck: ignore 542
end

-- One step towards the end of whatever is waited for.
local function progress()
  if loop.turn() then return end
  local pause = loop.next()
  if pause == math.huge then
    error("everybody waits, and nothing can happen any more", 0)
  elseif loop.virtual() then
    loop.advance(math.max(pause, 0))
  else
    loop.wait(pause)
  end
end

-- Who waits in vain would be in the way of whoever uses the same connection next.
local function finish_waiting(state, waiting)
  while state.ok == nil do
    local ok, err = pcall(progress)
    if not ok then
      waiting:cancel()
      settle()
      error(err, 0)
    end
  end
end

--- Runs fn(...) as a task until it returns; its errors are raised here.
-- @return what fn returns
local function run(fn, ...)
  if task.current() then return fn(...) end
  local state = {}
  finish_waiting(state, task.spawn(function(...)
    collect(state, xpcall(fn, debug.traceback, ...))
  end, ...))
  return finish(state)
end

local methods = {}
local mt = { __name = "moonpool.test.client" }

function mt:__index(name)
  local method = methods[name]
  if method then return method end
  local conn = rawget(self, "conn")
  return function(_, ...)
    return run(function(...)
      return conn[name](conn, ...)
    end, ...)
  end
end

--- Writes, and lets all that follows from it happen.
function methods:write(...)
  local arguments = table.pack(...)
  local conn = self.conn
  local ok, message, code = run(function()
    local ok, message, code = conn:write(table.unpack(arguments, 1, arguments.n))
    if ok then ok, message, code = conn:flush() end
    return ok, message, code
  end)
  settle()
  if not ok then return nil, message, code end
  return self
end

function methods:lines(...)
  local arguments = table.pack(...)
  return function()
    return (self:read(table.unpack(arguments, 1, arguments.n)))
  end
end

function methods:close()
  self.conn:close()
  settle()
  return true
end

mt.__close = methods.close

--- Moves the connection to another handler, as a reload does, if it can be moved now: it
-- waits for its next request, or at a checkpoint.
-- @param handler what the new script returns; the handler that has it, if there is none
-- @return whether it has moved
function methods:move(handler)
  settle()
  local to = handler and core.handler(handler) or self.server
  local moved = self.server:move(to) > 0
  if moved then self.server = to end
  settle()
  return moved
end

--- A client around a connection: the same methods, callable from the spec.
local function client(conn, server)
  return setmetatable({ conn = conn, server = server }, mt)
end

--- Serves handler, which is what a script would return, to a new client.
local function connect(handler)
  local server = core.handler(handler)
  return client(assert(server()), server)
end

return {
  connect = connect,
  client = client,
  run = run,
  settle = settle,
  advance = loop.advance, -- seconds: moves the clock, firing timers on the way
  virtual = loop.virtual, -- (boolean): whether the clock stands still; it does at first
  handler_timeout = loop.handler_timeout, -- (seconds), of real time; 0: none, as at first
}

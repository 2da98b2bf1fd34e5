--- Server-sent events (HTML, 9.2): a response that goes on for as long as the client is
-- there.
--
--     app:events("/ticks", function(stream, state)
--       state.n = state.n or 0
--       repeat
--         state.n = state.n + 1
--         stream:send { data = "tick " .. state.n, id = state.n }
--       until not stream:wait(1)
--     end)
--
-- A stream outlives its worker as a WebSocket does (websocket.lua): while it waits, it
-- may go on elsewhere. There the function is called anew with the state, which is kept as
-- it is at each wait and after each event, and with why. The client sees nothing of it.
-- One that has lost its connection all the same comes again by itself, and says which
-- event was its last: stream.last_id.
--
-- @module moonpool.events

local core = require "moonpool.core"
local log = require "moonpool.log"
local options = require "moonpool.options"
local task = core.task

local HEARTBEAT = 15 -- seconds without an event until there is a comment, for proxies
local MAGIC = "\xc5" -- no lua_pack begins with it

local kinds = { serve = "function", open = "function", name = "string",
  heartbeat = "number" }

---------------------------------------------------------------------------------------
-- Streams.

local methods = {}
local mt = { __name = "moonpool.events", __index = methods }

-- What it needs to go on elsewhere.
local function keep(self)
  if not self.name then return end
  core.http.keep(self.conn, MAGIC .. core.pack { name = self.name, state = self.state,
    last_id = self.last_id })
end

local function one_line(what, value)
  value = tostring(value)
  if value:find "[\r\n\0]" then error(what .. " is one line", 4) end
  return value
end

-- HTML 9.2.5: each line of the data by itself.
local function format(event)
  local lines = {}
  if event.event then lines[1] = "event: " .. one_line("an event's name", event.event) end
  if event.id then lines[#lines + 1] = "id: " .. one_line("an id", event.id) end
  if event.retry then
    lines[#lines + 1] = ("retry: %d"):format(math.floor(event.retry * 1000))
  end
  if event.data then
    local data = tostring(event.data):gsub("\r\n?", "\n")
    for line in (data .. "\n"):gmatch "(.-)\n" do
      lines[#lines + 1] = "data: " .. line
    end
  end
  return table.concat(lines, "\n") .. "\n\n"
end

local function write(self, text)
  local ok, message, code = self.conn:write(text)
  if not ok then return nil, message, code end
  return self
end

--- Sends an event; waits while the client is slow.
-- @param event its data, or a table with data, id, event (its name) and retry, the
-- seconds after which a client that has lost the connection comes again
-- @return the stream, or nil, message, code when the client has gone
function methods:send(event)
  if type(event) ~= "table" then event = { data = event } end
  local text = format(event)
  local ok, message, code = write(self, text)
  if not ok then return nil, message, code end
  if event.id then self.last_id = tostring(event.id) end
  keep(self)
  return self
end

--- Sends a comment, which clients do not look at.
function methods:comment(text)
  return write(self, ": " .. one_line("a comment", text) .. "\n\n")
end

-- Until then the client says nothing, or goes.
local function wait_for(self, seconds)
  keep(self)
  self.conn:settimeout(seconds < math.huge and seconds or nil)
  local ok, message, code = self.conn:readsome()
  self.conn:settimeout(nil)
  if ok or code == "ETIMEDOUT" then return true end
  return nil, message, code
end

--- Waits, and keeps the connection alive with comments.
-- @param seconds (optional) for ever, without them
-- @return true, or nil, message, code when the client has gone
function methods:wait(seconds)
  local deadline = task.now() + (seconds or math.huge)
  repeat
    local left = math.max(deadline - task.now(), 0)
    local ok, message, code = wait_for(self, math.min(left, self.heartbeat))
    if not ok then return nil, message, code end
    local is_over = task.now() >= deadline
    if not is_over and self.heartbeat <= left then
      ok, message, code = write(self, ":\n\n")
      if not ok then return nil, message, code end
    end
  until is_over
  return true
end

--- Ends the stream.
function methods:close()
  return self.conn:close()
end

--- Why it was moved to another worker, or nil.
function methods:moved()
  return self.conn:moved()
end

mt.__close = methods.close

local function new_stream(conn, fields)
  local self = { conn = conn, heartbeat = HEARTBEAT }
  for name, value in pairs(fields) do self[name] = value end
  return setmetatable(self, mt)
end

-- HTML 9.2.4; X-Accel-Buffering is nginx's.
local function begin(res)
  return res:header("Content-Type", "text/event-stream")
    :header("Cache-Control", "no-store"):header("X-Accel-Buffering", "no")
end

local function serve(req, res, fields, fn)
  begin(res)
  if req and req.method == "HEAD" then return res:send() end
  local conn, why = res:detach()
  if not conn then return res:error(400, why) end
  local stream <close> = new_stream(conn, fields)
  fn(stream, fields.state)
end

--- Makes the response of a stream, for a handler of any route: fn(stream) is called at
-- once, and with it the stream ends. It stays in its worker.
-- @param last_id (optional) req.headers["last-event-id"]
function core.http.res:events(fn, last_id)
  serve(nil, self, { last_id = last_id }, fn)
end

---------------------------------------------------------------------------------------
-- Routes.

local function usual_state(req)
  return { params = req.params, args = req:args() or {} }
end

local function answer(route, req, res)
  local state = route.open(req, res)
  if res.sent then return end
  if not state then return res:error(403) end
  serve(req, res, { name = route.name, state = state, heartbeat = route.heartbeat,
    last_id = req.headers["last-event-id"] }, route.serve)
end

local function go_on(route, conn, kept, why)
  local stream <close> = new_stream(conn, { name = route.name, state = kept.state,
    heartbeat = route.heartbeat, last_id = kept.last_id })
  route.serve(stream, kept.state, why)
end

--- Makes a route of a handler, for app:events.
-- @param path its name, where it has none
-- @param handler a function of (stream, state, why), or a table:
--
--     serve      that function
--     open       function(req, res) -> state, as a WebSocket's; without it the state has
--                params (of the path, if it has some) and args (of the query)
--     heartbeat  seconds without an event until there is a comment (15)
--     name       what it is called in the state of a connection
local function new(path, handler)
  if type(handler) == "function" then handler = { serve = handler } end
  local given = options.check("events", handler, kinds)
  assert(given.serve, "events: serve, a function, is needed")
  local route = { name = given.name or path, serve = given.serve,
    open = given.open or usual_state, heartbeat = given.heartbeat or HEARTBEAT,
    go_on = go_on }
  function route.answer(req, res) return answer(route, req, res) end
  return route
end

--- Goes on with a connection that has come with a checkpoint.
-- @param routes by their names
-- @return whether it was a stream's
local function take_over(routes, conn, checkpoint, why)
  if checkpoint:sub(1, 1) ~= MAGIC then return false end
  local kept = core.unpack(checkpoint:sub(2))
  local route = kept and routes[kept.name]
  if route and route.go_on then
    task.spawn(route.go_on, route, conn, kept, why):detach()
  else
    log.warn("there is no route any more for a stream of events: it is closed")
    conn:close()
  end
  return true
end

return { new = new, take_over = take_over }

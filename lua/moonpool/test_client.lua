-- A client of a handler: the other end of its connection, whose methods (those of a
-- connection, runtime/lua_conn.h) a spec can call. What its writing and closing bring
-- about has happened when they return.

local core = require "moonpool.core"
local fault = require("moonpool.test_native").fault
local time = require "moonpool.test_time"

local methods = {}
local mt = { __name = "moonpool.test.client" }

function mt:__index(name)
  local method = methods[name]
  if method then return method end
  local conn = rawget(self, "conn")
  return function(_, ...)
    return time.run_as("client:" .. name, function(...)
      return conn[name](conn, ...)
    end, ...)
  end
end

local function write(conn, ...)
  local ok, message, code = conn:write(...)
  if ok then ok, message, code = conn:flush() end
  return ok, message, code
end

--- Writes, and lets all that follows from it happen.
-- @return the client, or nil, message, code
function methods:write(...)
  local ok, message, code = time.run_as("client:write", write, self.conn, ...)
  time.settle()
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
  time.settle()
  return true
end

mt.__close = methods.close

--- Closes as a client that is gone at once: what the handler reads or writes next fails
-- (ECONNRESET), whatever was on its way.
function methods:reset()
  self.server:cut(self.id)
  return self:close()
end

--- Moves the connection to another handler, as a reload does, if it can be moved now: it
-- waits for its next request, or at a checkpoint.
-- @param handler what the new script returns; the handler that has it, if there is none
-- @return whether it has moved
function methods:move(handler)
  time.settle()
  local to = handler and core.handler(handler) or self.server
  local moved = self.server:move(to) > 0
  if moved then self.server = to end
  time.settle()
  return moved
end

--- A client around a connection: the same methods, callable from the spec.
local function new(conn, server)
  fault.spare(conn:fileno())
  return setmetatable({ conn = conn, server = server, id = false }, mt)
end

-- Of the connections of server the one that is new.
local function id_of_new(server, before)
  for id, fileno in pairs(server:connections()) do
    if not before[id] then return id, fileno end
  end
end

--- A new client of what core.handler has made.
-- @param options (optional) buffer: how many bytes the kernel holds of what the handler
--   writes and the client does not read
local function serve(server, options)
  local before = server:connections()
  local client = new(assert(server()), server)
  local id, fileno = id_of_new(server, before)
  client.id = id
  if fileno and options and options.buffer then fault.buffer(fileno, options.buffer) end
  return client
end

return { new = new, serve = serve }

-- An app in a spec: a script, served in this process, and clients of it.
--
--     local app = test.app "app.lua"
--     app:get "/"                     it is a client of HTTP (test_http.lua)
--     local client = app:connect()    raw ones
--     local other = app:browser()     other clients of HTTP, with cookies of their own
--
-- Each test has an instance of its own, with modules of its own (test_modules.lua), made
-- when it first needs one. At the end of the test the clients are closed, and what the
-- app has left behind, connections, tasks, timers and descriptors, fails the test.

local client = require "moonpool.test_client"
local core = require "moonpool.core"
local http = require "moonpool.test_http"
local leaks = require "moonpool.test_leaks"
local modules = require "moonpool.test_modules"
local time = require "moonpool.test_time"

local methods = setmetatable({}, { __index = http.methods })
local mt = { __name = "moonpool.test.app", __index = methods }

local live = {} -- set of apps that have an instance
local before -- what there was when there was none

-- Instances ----------------------------------------------------------------------------

local function load_script(self)
  if type(self.script) ~= "string" then return self.script end
  return modules.run(self.script, self.given)
end

-- What the script starts when it is loaded is the worker's, and ends with it.
local function new_instance(self)
  local others = leaks.tasks()
  local handler = load_script(self)
  local instance = { handler = handler, server = core.handler(handler), own = {} }
  for id in pairs(leaks.tasks()) do
    if not others[id] then instance.own[id] = true end
  end
  time.settle()
  return instance
end

local function need_instance(self)
  if not self.instance then
    if not next(live) then before = leaks.take() end
    live[self] = true
    self.instance = new_instance(self)
  end
  return self.instance
end

-- Clients ------------------------------------------------------------------------------

--- A raw client (test_client.lua).
-- @param options (optional) as test.connect
function methods:connect(options)
  local one = client.serve(need_instance(self).server, options)
  self.clients[#self.clients + 1] = one
  return one
end

--- Another client of HTTP, with its own connection and cookies.
function methods:browser()
  return http.new(function() return self:connect() end)
end

--- What the script has returned: the application itself.
function methods:value()
  return need_instance(self).handler
end

--- The connections that it has now: their descriptors, by what stays the same when one is
-- moved.
function methods:connections()
  return need_instance(self).server:connections()
end

-- Other workers ------------------------------------------------------------------------

local function move_clients(self, from, to, why)
  local count = from.server:move(to.server, why)
  for _, one in ipairs(self.clients) do
    if one.server == from.server then one.server = to.server end
  end
  return count
end

-- Replaces the instance of one app; the old one, and how many connections have gone on.
local function replace(self, why)
  local old = self.instance
  local new = new_instance(self)
  local count = move_clients(self, old, new, why)
  self.old[#self.old + 1] = old
  self.instance = new
  return old, count
end

--- Another worker with the script as it is now takes over, as by a reload: connections
-- that wait for a request, or at a checkpoint, go on there; the others stay.
-- @return how many have moved
function methods:reload()
  time.settle()
  need_instance(self)
  local _, count = replace(self, "reload")
  time.settle()
  return count
end

-- The tasks that the worker has: all but the spec's.
local function tasks_of_worker()
  local ids = leaks.tasks()
  for id in pairs(before.tasks) do ids[id] = nil end
  return ids
end

--- The worker dies, with all apps of the test in it, and another takes its place:
-- connections that rest, waiting for a request or at a checkpoint, go on there, the
-- others are cut, whatever their checkpoints say of that: see test.spawn. The <close>
-- variables of its tasks are closed, which no real death does.
-- @return how many have gone on
local function kill()
  local moved, tasks = 0, tasks_of_worker()
  for self in pairs(live) do
    local old, count = replace(self, "crash")
    old.server:cut()
    moved = moved + count
  end
  leaks.cancel(tasks)
  return moved
end

function methods.kill() return kill() end

-- The end ------------------------------------------------------------------------------

local function end_clients(self)
  self.client = nil
  for _, one in ipairs(self.clients) do one.conn:close() end
  self.clients = {}
  self.cookies:clear()
end

-- Adds to servers and tasks what this app has.
local function take_instances(self, servers, tasks)
  self.old[#self.old + 1] = self.instance
  for _, instance in ipairs(self.old) do
    servers[#servers + 1] = instance.server
    for id in pairs(instance.own) do tasks[id] = true end
  end
  self.instance, self.old = nil, {}
end

--- Ends the instances of all apps.
-- @return what they have left behind, as text, or nil
local function end_all()
  local servers, tasks = {}, {}
  if not next(live) then return nil end
  for self in pairs(live) do
    end_clients(self)
    take_instances(self, servers, tasks)
  end
  live = {}
  return leaks.finish(before, servers, tasks)
end

--- Ends all apps of the test as its end does; the next use makes another instance.
function methods.close()
  local left = end_all()
  if left then error("left behind:\n" .. left, 2) end
end

mt.__close = methods.close

--- An app that is served in this process.
-- @param script its path; or what a script would return
-- @param options (optional) modules, env: see test_modules.lua
local function new(script, options)
  local self
  self = http.new(function() return self:connect() end)
  self.script, self.given, self.clients, self.old = script, options, {}, {}
  return setmetatable(self, mt)
end

--- Serves handler, which is what a script would return, to a new raw client.
-- @param options (optional) as app:connect
local function connect(handler, options)
  return new(handler):connect(options)
end

return { new = new, connect = connect, end_all = end_all, kill = kill }

-- What the machine takes for the same thing just now: the time on a processor of a
-- request to the C floor. Where the machine is shared, that may be three times as much
-- from one second to another, as its cores are near each other or not; figures of the two
-- have nothing to do with each other.
--
--     local price <close> = price.new(setup)
--     price:is_dear()          whether it is much more now than it can be
--     price:wait()             until it is not, or for some seconds

local core = require "moonpool.core"
local machine = require "bench.machine"
local peers = require "bench.peers"
local program = require "bench.program"
local servers = require "bench.server"

local CASE = { app = "http", workers = 1, request = { path = "/" },
  answer = "Hello, world!\n" }
local SECONDS, LOOKS = 0.05, 20
local DEAR = 1.3   -- times the least
local PATIENCE = 5 -- seconds

local methods = {}
local mt = { __index = methods, __close = function(self) self.server:stop() end }

function methods:is_dear()
  local load, pids = self.setup.build .. "/bench/load", self.server:pids()
  local before = machine.cpu(pids).ns
  local told = assert(program.run({ load, "keep", "-d", tostring(SECONDS),
    self.server.port, CASE.request.path }, { core = self.setup.client_core }))
  local now = (machine.cpu(pids).ns - before) / tonumber(told:match "requests=(%d+)")
  self.least = math.min(self.least, now)
  return now > DEAR * self.least
end

function methods:wait()
  local deadline = core.task.now() + PATIENCE
  while self:is_dear() and core.task.now() < deadline do end
end

local function new(setup)
  local server = assert(servers.start(peers.floor, CASE, setup))
  local self = setmetatable({ server = server, setup = setup, least = math.huge }, mt)
  for _ = 1, LOOKS do self:is_dear() end
  return self
end

return { new = new }

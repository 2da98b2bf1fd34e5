-- Whether the server's core and the clients' are near each other. The host of a virtual
-- machine moves its cores about, and where they share no cache the kernel's part of the
-- same request takes up to three times as long.
--
-- distance.c measures that. Distances (ns) are near up to twice the least that was seen:
-- one machine had 75 to 130 and 320 to 420, and little between. Where there are none, as
-- for lists of cores, all is near.

local core = require "moonpool.core"
local program = require "bench.program"

local NEAR = 2 -- times the least
local FIRST_LOOK = 1 -- seconds in which the least is likely to be seen
local STEP = 0.02

local methods = {}
local mt = { __index = methods }

--- The distance now; nil if there is none.
function methods:probe()
  local text = program.run(self.argv, { core = self.client_core })
  local ns = text and tonumber(text:match "^ns=(%d+)")
  self:note(ns)
  return ns
end

function methods:note(ns)
  self.seen[#self.seen + 1] = ns
  self.least = math.min(self.least, ns or math.huge)
end

local function is_near(self, ns)
  return ns == nil or ns <= NEAR * self.least
end

--- What the cores were when something was measured, by the distances before and after:
-- "near" or "far"; nil if they were moved.
function methods:state(before, after)
  local was_near = is_near(self, before)
  if was_near ~= is_near(self, after) then return nil end
  return was_near and "near" or "far"
end

--- All distances that were seen: { near = a list, far = a list }.
function methods:distances()
  local lists = { near = {}, far = {} }
  for _, ns in ipairs(self.seen) do
    local list = is_near(self, ns) and lists.near or lists.far
    list[#list + 1] = ns
  end
  return lists
end

--- @param setup build, server_core, client_core
local function new(setup)
  return setmetatable({ seen = {}, least = math.huge, client_core = setup.client_core,
    argv = { setup.build .. "/bench/distance", setup.client_core, setup.server_core } },
    mt)
end

--- Likewise, after a first look.
local function look(setup)
  local self, deadline = new(setup), core.task.now() + FIRST_LOOK
  while self:probe() and core.task.now() < deadline do core.loop.wait(STEP) end
  return self
end

return { new = new, look = look }

-- What is left when it should not be: connections, tasks with their timers, descriptors.

local core = require "moonpool.core"
local proc = require "moonpool.test_proc"
local process = require("moonpool.test_native").process
local time = require "moonpool.test_time"

local TURNS = 1000 -- of the loop: who goes on after that goes on for ever
local PATIENCE = 20 -- seconds of the clock, more than a connection takes to close

local function descriptors() return proc.list_descriptors(process.pid()) end

--- The tasks that are not the spec's: id -> what is known of it.
local function tasks()
  local found = {}
  for _, known in ipairs(core.loop.tasks()) do
    if not known.is_spec then found[known.id] = known end
  end
  return found
end

--- What there is now, to compare with later.
local function take()
  return { descriptors = descriptors(), tasks = tasks() }
end

local function new_descriptors(before)
  local found = {}
  for name, target in pairs(descriptors()) do
    if before.descriptors[name] ~= target then
      found[#found + 1] = ("descriptor %s, %s"):format(name, target)
    end
  end
  table.sort(found)
  return found
end

-- What nobody holds any more is closed when it is collected.
local function left_descriptors(before)
  if #new_descriptors(before) == 0 then return {} end
  collectgarbage()
  collectgarbage()
  time.settle()
  core.loop.advance(PATIENCE)
  return new_descriptors(before)
end

local function left_connections(servers)
  local count = 0
  for _, server in ipairs(servers) do
    for _ in pairs(server:connections()) do count = count + 1 end
  end
  if count == 0 then return {} end
  return { count == 1 and "a connection" or count .. " connections" }
end

local function cancel(ids)
  for id, known in pairs(tasks()) do
    if ids[id] then known.task:cancel() end
  end
  time.settle()
end

local function left_tasks(before, own)
  local found, ids = {}, {}
  for id, known in pairs(tasks()) do
    if not before.tasks[id] and not own[id] then
      found[#found + 1] = time.describe(known)
      ids[id] = true
    end
  end
  return found, ids
end

local function append(list, other)
  table.move(other, 1, #other, #list + 1, list)
end

local function cut(servers)
  for _, server in ipairs(servers) do server:cut() end
end

--- Ends what servers (core.handler) have, whose clients have been closed.
-- @param before what take() returned
-- @param own ids of tasks that may be there, and end now
-- @return what should not have been left, as text; or nil
local function finish(before, servers, own)
  time.virtual(true)
  if not time.turn(TURNS) then cut(servers) end
  time.settle()
  core.loop.advance(PATIENCE)
  local left = left_connections(servers)
  local found, ids = left_tasks(before, own)
  append(left, found)
  cut(servers)
  cancel(ids)
  cancel(own)
  if #left > 0 then core.loop.advance(PATIENCE) end
  append(left, left_descriptors(before))
  return #left > 0 and table.concat(left, "\n") or nil
end

return { take = take, tasks = tasks, cancel = cancel, finish = finish }

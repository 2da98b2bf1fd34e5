-- Who is in which room, by name, in all workers of the pool.
--
-- Each worker tells the others which names have come to it, and which have left; one that
-- is new asks for them. When a worker has ended, or a client has moved, its names stay
-- for a moment: by then they are back in another worker, or they have left.

local json = require "moonpool.json"
local moonpool = require "moonpool"
local rooms = require "moonpool.rooms"

local MOMENT = 3 -- seconds

local me = ("%d.%d"):format(moonpool.worker.id, moonpool.worker.generation)
local words = rooms.open "chat-web presence"
local clients = {} -- of this worker: room -> name -> how many
local there = {}   -- room -> name -> set of workers that have it
local on_change = function(_) end

local function later(seconds, fn, ...)
  moonpool.spawn(function(...)
    moonpool.sleep(seconds)
    fn(...)
  end, ...):detach()
end

---------------------------------------------------------------------------------------
-- What is heard.

local function set(worker, room, name, is_there)
  local names = there[room] or {}
  local workers = names[name] or {}
  local was_there = next(workers) ~= nil
  workers[worker] = is_there or nil
  names[name] = next(workers) and workers
  there[room] = next(names) and names
  if was_there ~= (next(workers) ~= nil) then on_change(room) end
end

local function forget(worker)
  for room, names in pairs(there) do
    for name, workers in pairs(names) do
      if workers[worker] then set(worker, room, name, false) end
    end
  end
end

---------------------------------------------------------------------------------------
-- What is said.

local function count(room, name)
  return clients[room] and clients[room][name] or 0
end

-- What is so when there is room for it.
local function tell(room, name)
  local function word()
    return json.encode { worker = me, room = room, name = name,
      is_there = count(room, name) > 0 }
  end
  while not words:publish("all", word()) do moonpool.sleep(0.1) end
end

local function tell_all()
  local all = {}
  for room, names in pairs(clients) do
    for name in pairs(names) do all[#all + 1] = { room, name } end
  end
  for _, one in ipairs(all) do tell(one[1], one[2]) end
end

local function hear(text)
  local word = json.decode(text)
  if word.asks then
    later(0, tell_all)
  else
    set(word.worker, word.room, word.name, word.is_there)
  end
end

moonpool.spawn(function()
  words:join("all", hear)
  while not words:publish("all", '{"asks":true}') do moonpool.sleep(0.1) end
end)

moonpool.subscribe("moonpool.gone", function(worker) later(MOMENT, forget, worker) end)

---------------------------------------------------------------------------------------
-- For the app.

local function add(room, name, by)
  local names = clients[room] or {}
  local n = count(room, name) + by
  names[name] = n > 0 and n or nil
  clients[room] = next(names) and names
  tell(room, name)
end

return {
  MOMENT = MOMENT,

  enter = function(room, name)
    set(me, room, name, true)
    add(room, name, 1)
  end,

  --- Does not wait.
  -- @param moved whether the client goes on elsewhere
  leave = function(room, name, moved)
    later(moved and MOMENT or 0, add, room, name, -1)
  end,

  --- Calls fn(room) when other names are there than before; it must not wait.
  on_change = function(fn) on_change = fn end,

  --- A list, in its order.
  names = function(room)
    local names = {}
    for name in pairs(there[room] or {}) do names[#names + 1] = name end
    table.sort(names)
    return names
  end,
}

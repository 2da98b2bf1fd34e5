-- A chat in the browser: names, rooms, who is there, and the last 50 messages.
--
--     build/moonpool serve examples/chat-web/app.lua --survive
--     then open http://127.0.0.1:8080/ in two tabs, and try to kill it:
--     kill -9 $(pgrep -f "moonpool: worker")      the chat goes on
--
-- A client is in one room. Its state, which goes with its WebSocket from worker to
-- worker, is its name, its room, and how many workers have died under it.
--
-- What is said goes through the rooms of all workers (moonpool.rooms). Who is there is
-- told by each worker, of its own clients: when that has changed, and now and then. A
-- worker that has not been heard of for long has gone, with whoever was there then.
--
-- Messages in both directions are JSON objects with a "type":
--
--     from the page    { type = "say", text } { type = "room", room }
--     to the page      { type = "said", name, text, time } { type = "joined" or "left",
--                      name } { type = "online", names } { type = "worker", id, pid,
--                      why, deaths } { type = "room", room, history }

local core = require "moonpool.core"
local http = require "moonpool.http"
local json = require "moonpool.json"
local moonpool = require "moonpool"
local rooms = require "moonpool.rooms"

local HISTORY = 50
local TEXT_MOST = 2000 -- bytes
local PULSE = 20       -- seconds between two words of a worker, and how long it counts:
local GONE = 50

local here = debug.getinfo(1, "S").source:match "^@(.*)/"
local app = http.app()
local chat = rooms.open "chat-web"
local presence = rooms.open "chat-web presence"

local function is_word(text)
  return type(text) == "string" and #text >= 1 and #text <= 24
    and text:find "^[%w_-]+$" ~= nil
end

---------------------------------------------------------------------------------------
-- Who is there. Here: room -> name -> how many; elsewhere: room -> worker -> what it
-- said, this one too.

local here_now, elsewhere = {}, {}
local me = ("%d.%d"):format(moonpool.worker.id, moonpool.worker.pid)

local function names_here(room)
  local names = {}
  for name in pairs(here_now[room] or {}) do names[#names + 1] = name end
  return names
end

local function tell_presence(room)
  local names = json.array(names_here(room))
  presence:publish(room, json.encode { worker = me, names = names })
end

local function count(room, name, by)
  local names = here_now[room] or {}
  here_now[room] = names
  names[name] = (names[name] or 0) + by
  if names[name] <= 0 then names[name] = nil end
  tell_presence(room)
end

-- All names in a room, in their order.
local function online(room)
  local set, names = {}, {}
  for worker, said in pairs(elsewhere[room] or {}) do
    if moonpool.now() - said.at > GONE then
      elsewhere[room][worker] = nil
    else
      for _, name in ipairs(said.names) do set[name] = true end
    end
  end
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function hear_presence(room, text)
  local said = json.decode(text)
  elsewhere[room] = elsewhere[room] or {}
  elsewhere[room][said.worker] = { names = said.names, at = moonpool.now() }
end

local function pulse()
  for room, names in pairs(here_now) do
    tell_presence(room)
    if next(names) == nil then here_now[room] = nil end
  end
end

---------------------------------------------------------------------------------------
-- A client.

local function send(client, message)
  return client.ws:send(json.encode(message))
end

local function say(client, kind, text)
  client.room:publish(json.encode { type = kind, name = client.state.name, text = text,
    time = math.floor(core.time()) })
end

local function tell_worker(client, why)
  send(client, { type = "worker", id = moonpool.worker.id, pid = moonpool.worker.pid,
    generation = moonpool.worker.generation, why = why, deaths = client.state.deaths })
end

local function tell_online(client)
  send(client, { type = "online", names = json.array(online(client.state.room)) })
end

-- What was said by people: who came and went was news then.
local function history(client)
  local said = {}
  for _, text in ipairs(client.room:history()) do
    local message = json.decode(text)
    if message.type == "said" then said[#said + 1] = message end
  end
  return json.array(table.move(said, math.max(#said - HISTORY + 1, 1), #said, 1, {}))
end

local function enter(client)
  local state = client.state
  local since = not elsewhere[state.room] and 0 or nil -- what others have said before
  client.room = chat:join(state.room, client.ws)
  client.presence = presence:join(state.room, function(text)
    hear_presence(state.room, text)
    client.news:unpark()
  end, since)
  count(state.room, state.name, 1)
end

local function leave(client)
  client.room:leave()
  client.presence:leave()
  count(client.state.room, client.state.name, -1)
end

local function join(client)
  enter(client)
  send(client, { type = "room", room = client.state.room, history = history(client) })
  say(client, "joined")
end

local does = {}

function does.say(client, message)
  local text = message.text
  if type(text) == "string" and #text <= TEXT_MOST and text:find "%S" then
    say(client, "said", text)
  end
end

function does.room(client, message)
  if not is_word(message.room) or message.room == client.state.room then return end
  say(client, "left")
  leave(client)
  client.state.room = message.room
  join(client)
end

local function obey(client, text)
  local message = json.decode(text)
  local action = type(message) == "table" and does[message.type]
  if action then action(client, message) end
end

-- A task of its own tells who is there, when that changes.
local function watch_online(client)
  local before = ""
  while true do
    local names = table.concat(online(client.state.room), " ")
    if names ~= before then tell_online(client) end
    before = names
    core.task.park(GONE)
  end
end

-- It has not gone if it goes on elsewhere, where it is counted again.
local function bye(client)
  if not client.ws:moved() then say(client, "left") end
  leave(client)
end

local function serve(ws, state, why)
  local client <close> = setmetatable({ ws = ws, state = state }, { __close = bye })
  if why == "crash" then state.deaths = state.deaths + 1 end
  tell_worker(client, why)
  client.news = moonpool.spawn(function()
    core.task.park()
    watch_online(client)
  end)
  if why then enter(client) else join(client) end
  client.news:unpark()
  for text in ws:messages() do obey(client, text) end
end

local function open(req, res)
  local args = req:args() or {}
  if not is_word(args.name) or not is_word(args.room) then
    res:error(400, "a name and a room are letters, digits, - and _")
    return
  end
  return { name = args.name, room = args.room, deaths = 0 }
end

app:websocket("/chat", { open = open, serve = serve, message_limit = 8192 })

---------------------------------------------------------------------------------------
-- The page.

local POLICY = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
  .. "style-src 'unsafe-inline'; img-src data:; form-action 'none'"

app:get("/", function(_, res)
  res:header("Content-Type", "text/html; charset=utf-8")
    :header("Content-Security-Policy", POLICY):header("Cache-Control", "no-cache")
    :sendfile(here .. "/page.html")
end)

if moonpool.worker.pid then moonpool.every(PULSE, pulse) end

return app

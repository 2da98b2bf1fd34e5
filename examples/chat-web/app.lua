-- A chat in the browser: names, rooms, who is there, and the last 50 messages.
--
--     build/moonpool serve examples/chat-web/app.lua --survive
--     then open http://127.0.0.1:8080/ in two tabs, and try to kill it:
--     kill -9 $(pgrep -f "moonpool: worker")      the chat goes on
--
-- A client is in one room. Its state, which goes with its WebSocket from worker to
-- worker, is its name, its room, and how many workers have died under it.
--
-- What is said goes through the rooms of all workers (moonpool.rooms); who is there, in
-- any of them, presence.lua knows.
--
-- Messages in both directions are JSON objects with a "type":
--
--     from the page    { type = "say", text } { type = "room", room }
--     to the page      { type = "worker", id, pid, why, deaths }
--                      { type = "room", room, history }
--                      { type = "said", name, text, time }
--                      { type = "online", names }

local http = require "moonpool.http"
local json = require "moonpool.json"
local moonpool = require "moonpool"
local presence = require "presence"
local rooms = require "moonpool.rooms"
local websocket = require "moonpool.websocket"

local HISTORY = 50
local TEXT_MOST = 2000 -- bytes
local CALM = 0.1       -- seconds in which changes of who is there are one

local here = debug.getinfo(1, "S").source:match "^@(.*)/"
local app = http.app()
local chat = rooms.open "chat-web"

local function is_word(text)
  return type(text) == "string" and #text >= 1 and #text <= 24
    and text:find "^[%w_-]+$" ~= nil
end

---------------------------------------------------------------------------------------
-- Who is there: the page is sent all names, and finds out what is new. A frame for it is
-- made once. Who is too slow for that has what is said waiting as well, and is cut soon.

local watching = {} -- room -> set of WebSockets
local changed = {}  -- set of rooms

local function online(room)
  local names = json.array(presence.names(room))
  return websocket.frame(json.encode { type = "online", names = names })
end

local function tell_changes()
  moonpool.sleep(CALM)
  local these = changed
  changed = {}
  for room in pairs(these) do
    local frame = online(room)
    for ws in pairs(watching[room] or {}) do ws:put(frame) end
  end
end

presence.on_change(function(room)
  if not next(changed) then moonpool.spawn(tell_changes):detach() end
  changed[room] = true
end)

local function watch(room, ws)
  watching[room] = watching[room] or {}
  watching[room][ws] = true
  ws:put(online(room))
end

local function look_away(room, ws)
  if not watching[room] then return end
  watching[room][ws] = nil
  if not next(watching[room]) then watching[room] = nil end
end

---------------------------------------------------------------------------------------
-- A client.

local function send(client, message)
  return client.ws:send(json.encode(message))
end

local function tell_worker(client, why)
  send(client, { type = "worker", id = moonpool.worker.id, pid = moonpool.worker.pid,
    why = why, deaths = client.state.deaths })
end

local function tell_room(client)
  local said = json.array {}
  for i, text in ipairs(client.room:history(HISTORY)) do said[i] = json.decode(text) end
  send(client, { type = "room", room = client.state.room, history = said })
end

local function enter(client)
  local state = client.state
  client.room = chat:join(state.room, client.ws)
  presence.enter(state.room, state.name)
end

local function leave(client)
  local state, ws = client.state, client.ws
  if not client.room then return end -- it was not even in
  client.room:leave()
  look_away(state.room, ws)
  presence.leave(state.room, state.name, ws:moved())
end

-- The page has a room from before, and who was there; those who were are on their way
-- too, so it is a moment until it can be told who is not there any more.
local function go_on(client)
  enter(client)
  moonpool.spawn(function()
    moonpool.sleep(presence.MOMENT)
    watch(client.state.room, client.ws)
  end)
end

local function join(client)
  enter(client)
  tell_room(client)
  watch(client.state.room, client.ws)
end

local does = {}

function does.say(client, message)
  local text = message.text
  if type(text) == "string" and #text <= TEXT_MOST and text:find "%S" then
    client.room:publish(json.encode { type = "said", name = client.state.name,
      text = text, time = os.time() })
  end
end

function does.room(client, message)
  if not is_word(message.room) or message.room == client.state.room then return end
  leave(client)
  client.state.room = message.room
  join(client)
end

local function obey(client, text)
  local message = json.decode(text)
  local action = type(message) == "table" and does[message.type]
  if action then action(client, message) end
end

local function serve(ws, state, why)
  local client <close> = setmetatable({ ws = ws, state = state }, { __close = leave })
  if why == "crash" then state.deaths = state.deaths + 1 end
  tell_worker(client, why)
  if why then go_on(client) else join(client) end
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

return app

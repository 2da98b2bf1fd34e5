-- A chat: rooms that are shared by all workers.
--
--     build/moonpool serve examples/chat/app.lua --survive
--     nc 127.0.0.1 8080                in two terminals or more
--
-- A client says its name and is in the room "lobby". Its lines go to all in the room;
-- /join goes to another one, /who lists who is there, /quit ends. Nobody keeps a list, so
-- two clients may have the same name: /who asks all workers and waits a moment.
--
-- A room is a topic. Each client has its own subscription, which is a task that writes to
-- it, so a client that does not read holds up nobody but itself: 1024 lines wait for it,
-- then the oldest are dropped.
--
-- When a worker is replaced, or killed, its clients go on in another one: the name, the
-- room and the last line that was seen are all that it takes. What is said meanwhile
-- comes then, and nothing twice. A line that a worker had begun with when it was killed
-- is not said again; who does not see it come back says it once more.

local moonpool = require "moonpool"

local HELP = "* there are /join room, /who and /quit\n"
local WORD = "* up to 24 letters, digits, - and _, please\n"

local function is_word(text)
  return #text <= 24 and text:find "^[%w_-]+$" ~= nil
end

local function tell(client, text)
  client.conn:write(text)
end

local function say(client, text)
  local ok, why = moonpool.publish(client.topic, client.name .. ": " .. text .. "\n")
  if not ok then tell(client, "* not sent: " .. why .. "\n") end
end

local function announce(client, what)
  moonpool.publish(client.topic, ("* %s %s %s\n"):format(client.name, what, client.room))
end

local function leave(client)
  client.subscription:close()
  if not client.conn:moved() then announce(client, "has left") end
end

local function checkpoint(client)
  local seen = client.subscription.position
  client.conn:checkpoint({ name = client.name, room = client.room, seen = seen }, "on")
end

-- What comes over a topic is text, or "?" and the topic for an answer to /who.
local function enter(client, room, seen)
  client.room, client.topic = room, "room/" .. room
  client.subscription = moonpool.subscribe(client.topic, function(text)
    local asker = text:match "^%?(.*)"
    if asker then return moonpool.publish(asker, client.name) end
    tell(client, text)
    checkpoint(client)
  end, seen)
end

local function join(client, room)
  enter(client, room)
  announce(client, "has joined")
end

local commands = {}

function commands.join(client, room)
  if not is_word(room) then return tell(client, WORD) end
  leave(client)
  join(client, room)
end

local asked = 0

function commands.who(client)
  asked = asked + 1
  local topic, names = ("who/%d/%d"):format(moonpool.worker.pid, asked), {}
  local _ <close> = moonpool.subscribe(topic, function(name) names[#names + 1] = name end)
  moonpool.publish(client.topic, "?" .. topic)
  moonpool.sleep(0.1)
  table.sort(names)
  tell(client, ("* in %s: %s\n"):format(client.room, table.concat(names, " ")))
end

function commands.quit()
  return true
end

-- It has been asked for; nil if the client goes instead.
local function read_name(conn)
  while true do
    conn:checkpoint()
    local name = conn:read "l"
    if not name or is_word(name) then return name end
    conn:write(WORD, "name? ")
  end
end

-- True if it wants to leave.
local function obey(client, line)
  line = line:gsub("%c", "") -- it is shown on other people's terminals
  local command, argument = line:match "^/(%S*)%s*(.-)%s*$"
  if not command then
    say(client, line)
  elseif commands[command] then
    return commands[command](client, argument)
  else
    tell(client, HELP)
  end
end

-- From joining (or entering again, with no word about it) to leaving.
local function talk(conn, name, join_or_enter, room, seen)
  local client <close> = setmetatable({ conn = conn, name = name }, { __close = leave })
  join_or_enter(client, room, seen)
  repeat
    checkpoint(client)
    local line = conn:read "l"
  until not line or obey(client, line)
end

local function admit(conn)
  local name = read_name(conn)
  if name then talk(conn, name, join, "lobby") end
end

return {
  serve = function(conn)
    conn:write "name? "
    admit(conn)
  end,
  resume = function(conn, state)
    if not state then return admit(conn) end
    talk(conn, state.name, enter, state.room, state.seen)
  end,
}

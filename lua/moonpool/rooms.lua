--- Rooms that all workers of a pool share: what is said in one is heard by all who are in
-- it, in one order, and nothing of it is lost because a worker was replaced.
--
--     local chat = require("moonpool.rooms").open "chat"     -- when the script is loaded
--
--     app:websocket("/chat/:room", function(ws, state)
--       local room <close> = chat:join(state.params.room, ws)
--       for message in ws:messages() do room:publish(message) end
--     end)
--
-- A message costs one of the bus (bus.lua) for each worker, however many are in the room,
-- and is made a frame once in each. A WebSocket that does not take what is said, up to
-- write_limit, is cut.
--
-- Every worker listens to all rooms of a space, and keeps the last messages of each; one
-- that is new has those that the supervisor still has. The checkpoint of a WebSocket has
-- the position (bus.lua) of the last message that it was sent; where it goes on, it is
-- sent what came after that, in any room of any space. A position is of one bus: to join
-- rooms on two is an error.
--
-- Who is in a room, all in all, is what they would have to tell each other:
-- examples/chat-web/presence.lua does.
--
-- Another bus, for several machines, need only have publish and tap as bus.lua has them:
-- positions that grow, and are the same for all who listen.
--
-- @module moonpool.rooms

local bus = require "moonpool.bus"
local core = require "moonpool.core"
local log = require "moonpool.log"
local task = core.task

local KEEP = 256    -- messages of a room, at least; twice as many at most
local ROOMS = 10000 -- of which messages are kept

---------------------------------------------------------------------------------------
-- What is known of a room: entries { position, text } in their order, and who is in it:
-- of a member how many times, of a listener after which position. A WebSocket that has
-- ended without leaving is nobody's any more.

local weak = { __mode = "k" }

local function new_known(since)
  return { entries = {}, since = since, members = setmetatable({}, weak), listeners = {} }
end

local function is_empty(known)
  return not next(known.members) and not next(known.listeners)
end

-- They are thrown away by the hundred.
local function trim(known, keep)
  local entries = known.entries
  local count = #entries
  if count < 2 * keep then return end
  known.since = entries[count - keep][1]
  known.entries = table.move(entries, count - keep + 1, count, 1, {})
end

local function after(known, position)
  local list = {}
  for _, entry in ipairs(known.entries) do
    if entry[1] > position then list[#list + 1] = entry end
  end
  return list
end

local function last_position(known)
  local entry = known.entries[#known.entries]
  return entry and entry[1] or 0
end

---------------------------------------------------------------------------------------
-- A space: its rooms, by name.

local methods = {}
local mt = { __name = "moonpool.rooms", __index = methods }

-- Of the rooms that nobody is in, those in which nothing was said for longest.
local function forget_some(self)
  local names = {}
  for name, known in pairs(self.rooms) do
    if is_empty(known) then names[#names + 1] = name end
  end
  table.sort(names, function(a, b)
    return last_position(self.rooms[a]) < last_position(self.rooms[b])
  end)
  for i = 1, #names // 2 do
    local last = last_position(self.rooms[names[i]])
    self.since = math.max(self.since, last) -- what there was until then may be missing
    self.rooms[names[i]] = nil
    self.room_count = self.room_count - 1
  end
end

local function known_of(self, name)
  local known = self.rooms[name]
  if known then return known end
  if self.room_count >= ROOMS then forget_some(self) end
  known = new_known(self.since)
  self.rooms[name] = known
  self.room_count = self.room_count + 1
  return known
end

local function tell(known, text, position, frame)
  if next(known.members) then
    core.websocket.broadcast(known.members, frame(text), position)
  end
  for room, since in pairs(known.listeners) do
    if position > since then
      local ok, err = xpcall(room.who, debug.traceback, text, position)
      if not ok then log.error(err) end
    end
  end
end

-- Of the bus.
local function take(self, message, position)
  local name, at = string.unpack("s2", message)
  local text, known = message:sub(at), known_of(self, name)
  self.first, self.last = self.first or position, position
  table.insert(known.entries, { position, text })
  trim(known, self.keep)
  tell(known, text, position, self.frame)
end

-- What there is of before that position has come: all; or what is still kept, which is
-- all from its first on.
local function begin(self, complete, position)
  if not complete then
    self.since = self.first and self.first - 1 or position
    for _, known in pairs(self.rooms) do
      known.since = math.max(known.since, self.since)
    end
  end
  self.has_begun = true
  for waiting in pairs(self.waiting) do waiting:unpark() end
end

local function wait_for_beginning(self)
  if self.has_begun then return end
  local me = task.current()
  self.waiting[me] = true
  local _ <close> = setmetatable({}, { __close = function() self.waiting[me] = nil end })
  while not self.has_begun do task.park() end
end

---------------------------------------------------------------------------------------
-- Being in a room.

local room_methods = {}
local room_mt = { __name = "moonpool.room", __index = room_methods }

--- Says something to all who are in the room, in all workers.
-- @return true, or nil, message, code, as moonpool.publish
function room_methods:publish(text)
  return self.space:publish(self.name, text)
end

--- The last messages, the oldest first.
-- @param count (optional) at most so many
-- @return a list of texts, and one of their positions
function room_methods:history(count)
  return self.space:history(self.name, count)
end

--- Nothing more is heard. A room that is a <close> variable is left with it.
function room_methods:leave()
  local known = self.known
  if not known then return end
  self.known = nil
  known.listeners[self] = nil
  local times = known.members[self.who]
  if times then known.members[self.who] = times > 1 and times - 1 or nil end
end

room_mt.__close = room_methods.leave

-- What was said since that position comes first; nothing is waited for in between. It may
-- be one that this worker has not come to: where it was heard, they were faster.
local function be_listener(self, since)
  for _, entry in ipairs(since and after(self.known, since) or {}) do
    self.who(entry[2], entry[1])
  end
  self.known.listeners[self] = since or 0
end

local function be_member(self, since)
  local members, frame = self.known.members, self.space.frame
  local times = members[self.who] or 0
  if times == 0 and since then
    local only = { [self.who] = true }
    for _, entry in ipairs(after(self.known, since)) do
      core.websocket.broadcast(only, frame(entry[2]), entry[1])
    end
  end
  members[self.who] = times + 1
end

local homes = setmetatable({}, weak) -- WebSocket -> its first space

local function check_member(self, who)
  if type(who) ~= "userdata" then
    error("in a room is a WebSocket, or a function, and no " .. type(who), 3)
  end
  local home = homes[who] or self
  homes[who] = home
  if home.bus ~= self.bus then
    error(("this WebSocket is in rooms of %q, and those of %q have another bus"):format(
      home.name, self.name), 3)
  end
end

--- Enters a room. A WebSocket that has joined it twice hears all once, and has to leave
-- it twice.
-- @param who a WebSocket, to which what is said goes as it is; or a function that is
-- called with (text, position) and must not wait
-- @param since (optional) for a function: what was said after that position comes first
-- @return the room; its has_gap is true if some of what was said since then is not kept
-- any more
function methods:join(name, who, since)
  wait_for_beginning(self)
  local is_function = type(who) == "function"
  if not is_function then
    check_member(self, who)
    since = core.websocket.mark(who, self.last)
  end
  local known = known_of(self, name)
  local room = { space = self, name = name, known = known, who = who,
    has_gap = since ~= nil and since < known.since }
  local enter = is_function and be_listener or be_member
  enter(room, since)
  return setmetatable(room, room_mt)
end

--- As room:publish, without being in it.
function methods:publish(name, text)
  if self.kind == "text" and not utf8.len(text) then
    error('text that is not UTF-8: such rooms are opened with kind = "binary"', 2)
  end
  return self.bus.publish(self.topic, string.pack("s2", name) .. text)
end

--- As room:history, without being in it.
function methods:history(name, count)
  wait_for_beginning(self)
  local entries = known_of(self, name).entries
  local texts, positions = {}, {}
  for i = math.max(#entries - (count or #entries), 0) + 1, #entries do
    texts[#texts + 1], positions[#positions + 1] = entries[i][2], entries[i][1]
  end
  return texts, positions
end

--- Opens a space of rooms. Each worker has to, when it loads the script.
-- @param name of the space
-- @param options (optional)
--
--     kind   "text", or "binary"
--     keep   messages of each room (256)
--     bus    what has publish and tap (moonpool.bus)
local function open(name, options)
  options = options or {}
  local kind = options.kind or "text"
  local self = setmetatable({ name = name, topic = "rooms/" .. name, kind = kind,
    rooms = {}, room_count = 0, waiting = {}, since = 0, last = 0,
    keep = options.keep or KEEP, bus = options.bus or bus }, mt)
  function self.frame(text) return core.websocket.frame(text, kind) end
  self.bus.tap(self.topic,
    function(message, position) take(self, message, position) end, 0,
    function(complete, position) begin(self, complete, position) end)
  return self
end

return { open = open }

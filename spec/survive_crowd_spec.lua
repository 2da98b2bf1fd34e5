-- A thousand people in a chat whose workers are killed, one after the other, then all
-- replaced, and the program too: nobody joins again, nobody leaves, and no line is lost.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"

local PEOPLE, ROOM = 1000, 20 -- in rooms of so many

local function in_room(i)
  return "room" .. (i - 1) // ROOM
end

local function come_in(server, i)
  local conn = assert(core.net.connect(server.address, 30))
  conn:settimeout(30)
  conn:write(("p%d\n/join %s\n"):format(i, in_room(i)))
  local joined = ("* p%d has joined %s"):format(i, in_room(i))
  repeat local line = assert(conn:read "l") until line:sub(-#joined) == joined
  return conn
end

-- Everybody, one room after the other: all come through the lobby.
local function enter(server)
  local people = {}
  for first = 0, PEOPLE - 1, ROOM do
    harness.in_parallel(ROOM, function(i)
      people[first + i] = come_in(server, first + i)
    end)
  end
  -- Those who joined the room later are heard of by those who were there.
  harness.in_parallel(PEOPLE, function(i)
    people[i]:write "/join \n" -- has no name of a room, so it is answered at once
    repeat local line = assert(people[i]:read "l") until line:find "^%* up to"
  end)
  return people
end

-- Each says a line and reads until all of its room's have come, in whatever order, but
-- the same for all, and nothing else.
local function all_say(people, text)
  local heard = {}
  harness.in_parallel(PEOPLE, function(i)
    people[i]:write(text, "\n")
    local lines = {}
    for n = 1, ROOM do
      repeat lines[n] = assert(people[i]:read "l") until not lines[n]:find "has joined"
    end
    heard[i] = lines
  end)
  for i, lines in ipairs(heard) do
    local first = (i - 1) // ROOM * ROOM + 1
    assert.same(heard[first], lines)
    local missing = {}
    for n = 1, ROOM do missing[("p%d: %s"):format(first + n - 1, text)] = true end
    for _, line in ipairs(lines) do missing[line] = nil end
    assert.same({}, missing)
  end
end

describe("a thousand people in a chat", function()
  require "tidy" (before_each, after_each)

  it("go on talking when each worker is killed, and all are replaced, twice", function()
    assert(process.raise_fd_limit(3000))
    local server <close> = harness.run {
      app = "examples/chat/app.lua", workers = 4, args = { "--survive" } }
    local people = enter(server)
    all_say(people, "hello")
    for number = 1, 4 do
      assert(process.kill(server:workers()[number], "KILL"))
      all_say(people, "after " .. number)
    end
    server:kill "HUP"
    all_say(people, "while all are replaced")
    server:expect "reloaded: 1000 connections moved"
    server:kill "USR2"
    all_say(people, "while the program is")
    server:expect "upgraded:.*reloaded: 1000 connections moved"
    all_say(people, "bye")
    assert.is_nil(server.text:find "[1-9]%d* cut")
    assert.is_nil(server.text:find "[1-9]%d* lost")
    for _, conn in ipairs(people) do conn:close() end
  end)
end)

-- Rooms, over a bus of this process: two spaces of one name are as two workers.

local bus = require "moonpool.bus"
local http = require "moonpool.http"
local moonpool = require "moonpool"
local rooms = require "moonpool.rooms"
local test = require "moonpool.test"
local ws_client = require "ws_client"

require "tidy" (before_each, after_each)

local spaces = 0

local function new_name()
  spaces = spaces + 1
  return "space" .. spaces
end

-- An app whose WebSockets are in the rooms that their paths name: "/a,b".
local function chat(space)
  local app = http.app()
  app:websocket("/:rooms", { name = "chat", serve = function(ws, state)
    local left <close> = setmetatable({}, { __close = function(list)
      for _, room in ipairs(list) do room:leave() end
    end })
    for name in state.params.rooms:gmatch "[^,]+" do
      left[#left + 1] = space:join(name, ws)
    end
    for message in ws:messages() do left[1]:publish(message) end
  end })
  return app
end

local function open(app, path)
  local client = test.connect(app)
  return ws_client.open(client, path), client
end

local function members(space, name)
  local count = 0
  for _ in pairs(space.rooms[name].members) do count = count + 1 end
  return count
end

local function texts(space, name, count)
  return test.run(function() return (space:history(name, count)) end)
end

describe("a room", function()
  it("is heard by all who are in it, in one order", function()
    local space = rooms.open(new_name())
    local app = chat(space)
    local a <close> = open(app, "/x")
    local b <close> = open(app, "/x")
    local c <close> = open(app, "/y")
    a:send "one"
    b:send "two"
    c:send "other"
    for _, ws in ipairs { a, b } do
      assert.equal("one", (ws:receive()))
      assert.equal("two", (ws:receive()))
    end
    assert.equal("other", (c:receive()))
  end)

  it("is left at the end", function()
    local space = rooms.open(new_name())
    local app = chat(space)
    local a <close> = open(app, "/x")
    local b = open(app, "/x")
    b:close(1000)
    b.client:close()
    test.settle()
    assert.equal(1, members(space, "x"))
    a:send "still here"
    assert.equal("still here", (a:receive()))
  end)

  it("is heard once by who has joined it twice, until both are left", function()
    local space = rooms.open(new_name())
    local app = http.app()
    app:websocket("/", function(ws)
      local first <close> = space:join("x", ws)
      local second <close> = space:join("x", ws)
      for message in ws:messages() do
        if message == "leave" then first:leave() end
        second:publish(message)
      end
    end)
    local ws <close> = ws_client.open(test.connect(app), "/")
    for _, text in ipairs { "both", "leave", "leave", "one" } do
      ws:send(text)
      assert.equal(text, (ws:receive()))
    end
    ws:close(1000)
    ws.client:close()
    test.settle()
    assert.equal(0, members(space, "x"))
  end)

  it("is heard again by who has left it and comes back", function()
    local space = rooms.open(new_name())
    local app = http.app()
    app:websocket("/", function(ws)
      for message in ws:messages() do
        local _ <close> = space:join("x", ws)
        space:publish("x", message)
        ws:receive()
      end
    end)
    local ws <close> = ws_client.open(test.connect(app), "/")
    for _, text in ipairs { "one", "two" } do
      ws:send(text)
      assert.equal(text, (ws:receive()))
      ws:send "leave"
      space:publish("x", "unheard")
    end
    assert.equal(0, members(space, "x"))
  end)

  it("is not for what is no WebSocket, nor for one that is in rooms of another bus",
    function()
      local space, name = rooms.open(new_name()), new_name()
      local other = rooms.open(name, { bus = { publish = bus.publish, tap = bus.tap } })
      for _, wrong in ipairs { 1, "ws", {}, false } do
        assert.has_error(function() test.run(space.join, space, "x", wrong) end)
      end
      local app, why = http.app(), nil
      app:websocket("/", function(ws)
        local _ <close> = space:join("x", ws)
        why = select(2, pcall(other.join, other, "x", ws))
        for message in ws:messages() do space:publish("x", message) end
      end)
      local ws <close> = ws_client.open(test.connect(app), "/")
      ws:send "on"
      assert.equal("on", (ws:receive()))
      assert.matches(('in rooms of "%s", and those of "%s" have another bus'):format(
        space.name, name), why)
    end)

  it("has nobody in it who has ended without leaving it", function()
    local space = rooms.open(new_name())
    local app = http.app()
    app:websocket("/", function(ws)
      space:join("x", ws)
      ws:receive()
    end)
    local here <close> = ws_client.open(test.connect(app), "/")
    for _ = 1, 10 do ws_client.open(test.connect(app), "/").client:close() end
    test.settle()
    for _ = 1, 2 do collectgarbage() end
    assert.equal(1, members(space, "x"))
    space:publish("x", "on")
    assert.equal("on", (here:receive()))
  end)

  it("says nothing twice where a slower worker has yet to hear it", function()
    local hear, have_heard
    local slow = { tap = function(_, fn, _, on_complete)
      hear = function(position)
        fn(string.pack("s2", "x") .. position, position)
      end
      have_heard = on_complete
    end }
    local fast = rooms.open(new_name())
    local client <close> = test.connect(chat(fast))
    local ws = ws_client.open(client, "/x")
    for i = 1, 5 do
      ws:send(tostring(i))
      assert.equal(tostring(i), (ws:receive()))
    end
    local _, positions = test.run(fast.history, fast, "x")
    local last = positions[5]

    local space = rooms.open(new_name(), { bus = slow })
    hear(last - 2)
    have_heard(true)
    local heard = {}
    local _ <close> = test.run(space.join, space, "x",
      function(text) heard[#heard + 1] = text end, last - 1)
    assert.is_true(client:move(chat(space)))
    for position = last - 1, last + 2 do hear(position) end
    assert.same({ tostring(last), tostring(last + 1), tostring(last + 2) }, heard)
    assert.equal(tostring(last + 1), (ws:receive()))
    assert.equal(tostring(last + 2), (ws:receive()))
  end)

  it("can be listened to, with what was said after a number", function()
    local space = rooms.open(new_name())
    for i = 1, 3 do space:publish("x", tostring(i)) end
    test.settle()
    local _, numbers = test.run(space.history, space, "x")
    local heard = {}
    local room <close> = test.run(space.join, space, "x",
      function(text, number) heard[#heard + 1] = { text, number } end, numbers[1])
    assert.same({ { "2", numbers[2] }, { "3", numbers[3] } }, heard)
    room:publish "4"
    test.settle()
    assert.equal("4", heard[3][1])
    assert.is_true(heard[3][2] > numbers[3])
  end)

  it("keeps its last messages", function()
    local space = rooms.open(new_name(), { keep = 5 })
    assert.same({}, texts(space, "x"))
    for i = 1, 23 do space:publish("x", tostring(i)) end
    test.settle()
    local kept = texts(space, "x")
    assert.is_true(#kept >= 5)
    assert.equal("23", kept[#kept])
    assert.same({ "22", "23" }, texts(space, "x", 2))
  end)

  it("forgets those that nobody is in, when they are too many", function()
    local space = rooms.open(new_name())
    local _ <close> = test.run(space.join, space, "kept", function() end)
    for i = 1, 10000 do
      space:publish("r" .. i, "x")
      if i % 500 == 0 then test.settle() end
    end
    test.settle()
    assert.is_true(space.room_count < 10000)
    local forgotten <close> = test.run(space.join, space, "r1", function() end, 1)
    assert.is_true(forgotten.has_gap)
    assert.is_table(space.rooms.kept)
    assert.same({ "x" }, texts(space, "r10000"))
    assert.same({}, texts(space, "r1"))
  end)

  it("is of text, or of bytes", function()
    local space = rooms.open(new_name())
    assert.has_error(function() space:publish("x", "\xff") end)
    local bytes = rooms.open(new_name(), { kind = "binary" })
    local ws <close> = open(chat(bytes), "/x")
    bytes:publish("x", "\xff")
    assert.same({ "\xff", "binary" }, { ws:receive() })
  end)

  it("goes on where a listener fails", function()
    local space = rooms.open(new_name())
    local heard
    local function fail() error "on purpose" end
    local bad <close> = test.run(space.join, space, "x", fail)
    local good <close> = test.run(space.join, space, "x", function(text) heard = text end)
    good:publish "y"
    test.settle()
    assert.equal("y", heard)
    bad:leave()
    bad:leave()
    heard = nil
    good:publish "z"
    test.settle()
    assert.equal("z", heard)
  end)

  it("cuts who does not take what is said, and nobody else", function()
    local space, seen = rooms.open(new_name()), nil
    local app = http.app()
    app:websocket("/", function(ws)
      local room <close> = space:join("x", ws)
      seen = { room:publish "", ws:receive() }
    end)
    local slow <close> = ws_client.open(test.connect(app), "/")
    local good <close> = open(chat(space), "/x")
    assert.equal("", (good:receive()))
    local text = ("x"):rep(30000)
    for _ = 1, 30 do
      space:publish("x", text)
      assert.equal(text, (good:receive()))
    end
    assert.same({ true, nil, "the client is slow", "ETIMEDOUT" }, seen)
    slow.client:close()
  end)
end)

describe("another worker's rooms", function()
  it("have what is kept in the one whose place they take", function()
    local name = new_name()
    local old = rooms.open(name)
    for i = 1, 3 do
      old:publish("x", "x" .. i)
      old:publish("y", ("y"):rep(40000))
    end
    test.settle()
    local new = rooms.open(name)
    test.settle()
    assert.same({ "x1", "x2", "x3" }, texts(new, "x"))
    assert.equal(3, #texts(new, "y"))
    new:publish("x", "x4")
    test.settle()
    assert.same({ "x1", "x2", "x3", "x4" }, texts(new, "x"))
    assert.same(texts(old, "x"), texts(new, "x"))
  end)

  it("have it once, with what is said meanwhile", function()
    local name = new_name()
    local old = rooms.open(name)
    old:publish("x", "1")
    local new = rooms.open(name)
    new:publish("x", "2")
    old:publish("x", "3")
    test.settle()
    assert.same({ "1", "2", "3" }, texts(new, "x"))
    assert.same({ "1", "2", "3" }, texts(old, "x"))
  end)

  it("say so where what came before is not all kept", function()
    local name = new_name()
    local old = rooms.open(name)
    for i = 1, 50 do old:publish("x", i .. ("x"):rep(30000)) end
    old:publish("y", "1")
    test.settle()
    local new = rooms.open(name)
    local _, positions = test.run(new.history, new, "x")
    assert.is_true(#positions < 50)
    local function join(room, since)
      local count = 0
      local joined <close> = test.run(new.join, new, room,
        function() count = count + 1 end, since)
      return count, joined.has_gap
    end
    assert.same({ #positions, true }, { join("x", 1) })
    assert.same({ 0, true }, { join("z", 1) })
    assert.same({ #positions - 1, false }, { join("x", positions[1]) })
    assert.same({ 1, false }, { join("y", positions[1]) })
    assert.same({ 0, false }, { join("z", positions[1]) })
  end)

  it("say so where nothing of it is kept", function()
    local name = new_name()
    local old = rooms.open(name)
    old:publish("x", "1")
    test.settle()
    local _, positions = test.run(old.history, old, "x")
    for _ = 1, 50 do moonpool.publish("other", ("x"):rep(30000)) end
    test.settle()
    local new = rooms.open(name)
    local joined <close> = test.run(new.join, new, "x", print, positions[1] - 1)
    assert.is_true(joined.has_gap)
    assert.same({}, texts(new, "x"))
  end)

  it("do not wait where there is nobody to ask", function()
    local before = moonpool.now()
    assert.same({}, texts(rooms.open(new_name()), "x"))
    assert.equal(before, moonpool.now())
  end)
end)

describe("a WebSocket that moves", function()
  -- Two workers, and a client that is moved from one to the other.
  local function two()
    local name = new_name()
    return chat(rooms.open(name)), chat(rooms.open(name))
  end

  it("hears the very first message, wherever", function()
    local one, other = two()
    local ws <close>, client = open(one, "/x")
    assert.is_true(client:move(other))
    local speaker <close> = open(other, "/x")
    speaker:send "first"
    assert.is_true(client:move(one))
    assert.equal("first", (ws:receive()))
  end)

  it("hears each message once", function()
    local one, other = two()
    local ws <close>, client = open(one, "/x")
    local speaker <close> = open(other, "/x")
    for i = 1, 20 do
      speaker:send(tostring(i))
      if i % 3 == 0 then
        assert.is_true(client:move(other))
      elseif i % 3 == 1 then
        client:move(one)
      end
    end
    for i = 1, 20 do
      assert.equal(tostring(i), (ws:receive()))
    end
    speaker:send "end"
    assert.equal("end", (ws:receive()))
  end)

  it("hears what was said while it was on its way, in all its rooms", function()
    local space = rooms.open(new_name())
    local late = { served = 0 }
    local function script()
      local app = http.app()
      app:websocket("/", function(ws, _, why)
        if why then
          space:publish("a", "a on the way")
          space:publish("b", "b on the way")
          moonpool.sleep(1)
        end
        local a <close> = space:join("a", ws)
        local b <close> = space:join("b", ws)
        local _ <close> = space:join("a", ws) -- once more, which changes nothing
        late.served = late.served + 1
        for message in ws:messages() do
          a:publish(message)
          b:publish(message)
        end
      end)
      return app
    end
    local client <close> = test.connect(script())
    local ws = ws_client.open(client, "/")
    space:publish("a", "before")
    assert.equal("before", (ws:receive()))
    assert.is_true(client:move(script()))
    test.advance(2)
    assert.equal(2, late.served)
    assert.equal("a on the way", (ws:receive()))
    assert.equal("b on the way", (ws:receive()))
    ws:send "after"
    assert.equal("after", (ws:receive()))
    assert.equal("after", (ws:receive()))
  end)

  it("hears nothing of before in a room that it enters later", function()
    local space = rooms.open(new_name())
    local app = http.app()
    app:websocket("/", function(ws)
      local _ <close> = space:join("a", ws)
      for message in ws:messages() do
        local other <close> = space:join(message, ws)
        other:publish("in " .. message)
        ws:receive()
      end
    end)
    local client <close> = test.connect(app)
    local ws = ws_client.open(client, "/")
    space:publish("b", "old")
    assert.is_true(client:move(app))
    space:publish("b", "old too")
    ws:send "b"
    assert.equal("in b", (ws:receive()))
  end)

  -- The rooms in which its WebSockets are, each a space and a name, are in their states:
  -- "+ 1 x" enters x of the first space, "- 1 x" leaves it.
  local function visits(both)
    local app = http.app()
    local function serve(ws, state)
      local entered = {}
      local _ <close> = setmetatable(entered, { __close = function()
        for _, room in pairs(entered) do room:leave() end
      end })
      local function enter(path)
        local number, name = path:match "^(%d) (.*)$"
        entered[path] = both[tonumber(number)]:join(name, ws)
      end
      for path in pairs(state) do enter(path) end
      for message in ws:messages() do
        local sign, path = message:match "^([+-]) (.*)$"
        if sign == "+" then enter(path) else entered[path]:leave() end
        state[path] = sign == "+" or nil
        ws:send(message)
      end
    end
    app:websocket("/", { serve = serve, open = function() return {} end })
    return app
  end

  local function tell(ws, ...)
    for _, what in ipairs { ... } do
      ws:send(what)
      assert.equal(what, (ws:receive()))
    end
  end

  it("hears nothing of before it entered a room, first or again", function()
    for _, path in ipairs { "1 y", "2 y" } do
      local both = { rooms.open(new_name()), rooms.open(new_name()) }
      local space, app = both[tonumber(path:match "%d")], visits(both)
      local client <close> = test.connect(app)
      local ws = ws_client.open(client, "/")
      tell(ws, "+ 1 x")
      for _ = 1, 2 do
        space:publish("y", "old")
        tell(ws, "+ " .. path)
        assert.is_true(client:move(app))
        tell(ws, "- " .. path)
      end
      tell(ws, "+ " .. path)
      space:publish("y", "new")
      assert.equal("new", (ws:receive()))
    end
  end)

  it("hears once what is said in rooms of two spaces", function()
    local names = { new_name(), new_name() }
    local apps, workers = {}, {}
    for i = 1, 2 do
      workers[i] = { rooms.open(names[1]), rooms.open(names[2]) }
      apps[i] = visits(workers[i])
    end
    local client <close> = test.connect(apps[1])
    local ws = ws_client.open(client, "/")
    tell(ws, "+ 1 x", "+ 2 x")
    local heard = {}
    for i = 1, 20 do
      workers[i // 3 % 2 + 1][i % 2 + 1]:publish("x", tostring(i))
      if i % 4 > 1 then assert.is_true(client:move(apps[i % 4 - 1])) end
    end
    for _ = 1, 20 do
      local text = ws:receive()
      assert.is_nil(heard[text])
      heard[text] = true
    end
    tell(ws, "- 1 x")
  end)
end)

-- Workers that are killed, in a pool that survives: what becomes of each connection.

local harness = require "server"
local process = require "native.process"

-- Counts lines; "again" and "on" tell what is to become of one that a death interrupts.
local COUNTER = [[
  local moonpool = require "moonpool"
  local function go_on(conn, state, why)
    if why then conn:write(why, " ", state.n, "\n") end
    while true do
      conn:checkpoint(state, state.how)
      local line = conn:read "l"
      if not line then return end
      if line == "again" or line == "on" then
        state.how = line
      elseif line == "pin" then
        conn:pin()
      elseif line == "wait" then
        moonpool.sleep(60)
      elseif line == "die" then
        os.execute "kill -9 $PPID"
      elseif line == "stick" then
        local _ = ("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40))
      end
      state.n = state.n + 1
      conn:write(state.n, " ", line, "\n")
    end
  end
  return { serve = function(conn) go_on(conn, { n = 0 }) end, resume = go_on }
]]

local SITE = [[
  local moonpool = require "moonpool"
  local app = require("moonpool.http").app()
  app:get("/", function(_, res) res:send "hello" end)
  local begun = 0
  app:get("/begun", function(_, res) res:send(tostring(begun)) end)
  app:get("/wait", function(_, res)
    begun = begun + 1
    moonpool.sleep(60)
    res:send "late"
  end)
  app:get("/half", function(_, res) res:write "half" moonpool.sleep(60) end)
  app:get("/die", function() os.execute "kill -9 $PPID" end)
  app:post("/", function(req, res)
    begun = begun + 1
    res:send(req:body())
  end)
  return app
]]

local function run(script, options)
  options = options or {}
  options.script = script
  options.args = table.move(options.args or {}, 1, 8, 2, { "--survive" })
  return harness.run(options)
end

local function get(path)
  return "GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n"
end

-- The status and the content of the next answer.
local function answer(client)
  local status = assert(client:read "l"):match "^HTTP/1.1 (%d+)"
  local length
  for line in client:lines() do
    if line == "" then break end
    length = line:match "^Content%-Length: (%d+)" or length
  end
  return tonumber(status), length and client:read(tonumber(length))
end

local function ask(client, path)
  client:write(get(path or "/"))
  return answer(client)
end

-- A counter's answer to a line; and the same where news of deaths may come before it.
local function say(client, line)
  client:write(line, "\n")
  return client:read "l"
end

local function say_on(client, line)
  local text = say(client, line)
  while text:find "^crash" do text = client:read "l" end
  return text
end

-- Kills the worker with that number, and waits until another is ready.
local function kill(server, number, signal)
  local pid = server:workers()[number]
  assert(process.kill(pid, signal or "KILL"))
  local ready = ("spec/%d is ready again, pid (%%d+)"):format(number)
  harness.eventually(function()
    local last
    for now in server.text:gmatch(ready) do last = tonumber(now) end
    return last and last ~= pid and server:workers()[number] == last
  end, "another worker")
end

describe("a raw connection whose worker is killed", function()
  require "tidy" (before_each, after_each)

  it("goes on from its checkpoint", function()
    local server <close> = run(COUNTER, { workers = 2 })
    local clients = server:connect_many(20)
    for i, client in ipairs(clients) do
      for n = 1, i do assert.equal(n .. " x", say(client, "x")) end
    end
    for _ = 1, 2 do
      kill(server, 1)
      kill(server, 2)
    end
    for i, client in ipairs(clients) do
      assert.equal(i + 1 .. " more", say_on(client, "more"))
    end
    assert.is_nil(server.text:find "[1-9] lost")
    harness.close_all(clients)
  end)

  it("keeps what was read of a line", function()
    local server <close> = run(COUNTER)
    local text = "first line\n"
    local clients = server:connect_many(#text)
    for cut, client in ipairs(clients) do
      assert.equal("1 x", say(client, "x"))
      client:write(text:sub(1, cut - 1))
    end
    kill(server, 1)
    for cut, client in ipairs(clients) do
      assert.equal("crash 1", client:read "l")
      client:write(text:sub(cut))
      assert.equal("2 first line", client:read "l")
    end
    harness.close_all(clients)
  end)

  it("is sent what was written before the checkpoint", function()
    local server <close> = run [[
        local function go_on(conn, n)
        conn:checkpoint(n)
        assert(conn:read "l")
        conn:write(n, "\n")
        conn:checkpoint(n + 1)
        os.execute "kill -9 $PPID"
      end
      return { serve = function(conn) go_on(conn, 1) end, resume = function(conn, n)
        conn:write(n, " after\n")
        conn:read "l"
      end }
    ]]
    local client = server:connect()
    client:write "go\n"
    assert.equal("1", client:read "l")
    assert.equal("2 after", client:read "l")
    client.conn:close()
  end)

  it("ends in the midst of a line's work", function()
    local server <close> = run(COUNTER)
    local busy, idle = server:connect(), server:connect()
    for _, client in ipairs { busy, idle } do assert.equal("1 x", say(client, "x")) end
    busy:write "die\n"
    assert.is_nil((busy:read "l"))
    assert.equal("crash 1", idle:read "l")
    server:expect "%(Killed%) at 127.0.0.1:%d+ with 2 connections: 1 saved, 0 cut, 1 lost"
    busy.conn:close()
    idle.conn:close()
  end)

  it("reads the line again, or reads on, as its checkpoint says", function()
    local server <close> = run(COUNTER)
    local again, on = server:connect(), server:connect()
    again:write "again\nwait\n"
    on:write "on\nwait\nnext\n"
    assert.equal("1 again", again:read "l")
    assert.equal("1 on", on:read "l")
    kill(server, 1)
    assert.equal("crash 1", again:read "l")
    assert.equal("crash 1", on:read "l")
    assert.equal("2 next", on:read "l")
    kill(server, 1)
    assert.equal("crash 1", again:read "l") -- and waits once more
    assert.equal("crash 2", on:read "l")
    again.conn:close()
    on.conn:close()
  end)

  it("ends if it was pinned", function()
    local server <close> = run(COUNTER)
    local client = server:connect()
    assert.equal("1 pin", say(client, "pin"))
    kill(server, 1)
    assert.is_nil((client:read "l"))
    client.conn:close()
  end)

  it("goes on when another has its worker stuck in C code", function()
    local server <close> = run(COUNTER, {
      args = { "--handler-timeout", "100ms", "--stuck-timeout", "500ms" } })
    local idle, stuck = server:connect(), server:connect()
    for _, client in ipairs { idle, stuck } do assert.equal("1 x", say(client, "x")) end
    stuck:write "stick\n"
    assert.equal("crash 1", idle:read "l")
    assert.equal("2 y", say(idle, "y"))
    assert.is_nil((stuck:read "l"))
    server:expect "is stuck for 0.5 s, in C code .-2 connections: 1 saved, 0 cut"
    harness.close_all { idle, stuck }
  end)

  it("is closed when workers die of it again and again", function()
    local server <close> = run(COUNTER, { workers = 2 })
    local other, poison = server:connect(), server:connect()
    assert.equal("1 x", say(other, "x"))
    assert.equal("1 again", say(poison, "again"))
    assert.is_nil((say(poison, "die")))
    harness.eventually(function()
      return select(2, server.text:gsub("is ready again", "")) >= 3
    end)
    assert.equal("2 y", say_on(other, "y"))
    assert.equal(3, select(2, server.text:gsub("died of signal 9", "")))
    other.conn:close()
    poison.conn:close()
  end)

  it("begins elsewhere if it has not begun, and never twice", function()
    local directory = harness.directory()
    local server <close> = run(([[
      return function(conn)
        local begun <close> = io.open("%s/begun", "a+")
        begun:write "x"
        begun:flush()
        if begun:seek() == 1 then os.execute "kill -9 $PPID" end
        conn:write "hello\n"
      end
    ]]):format(directory))
    local worker = server:workers()[1]
    assert(process.kill(worker, "STOP"))
    local clients = server:connect_many(10)
    harness.eventually(function() return harness.queued(server.address) == 0 end,
      "all connections passed on")
    assert(process.kill(worker, "CONT"))
    local served = 0
    for _, client in ipairs(clients) do
      served = served + (client:read "l" == "hello" and 1 or 0)
    end
    assert.equal(9, served)
    harness.close_all(clients)
    for marks in io.lines(directory .. "/begun") do assert.equal(10, #marks) end
    server:stop()
    harness.remove(directory)
  end)

  it("goes on over a unix socket too", function()
    local directory = harness.directory()
    local server <close> = run(COUNTER, { listen = "unix:" .. directory .. "/s" })
    local client = server:connect()
    client:write "x\nhal"
    assert.equal("1 x", client:read "l")
    -- Here the kernel does not count bytes, so not in the instant in which they move.
    harness.eventually(function() return harness.state(server:workers()[1]) == "S" end)
    kill(server, 1)
    assert.equal("crash 1", client:read "l")
    client:write "f\n"
    assert.equal("2 half", client:read "l")
    client.conn:close()
    server:stop()
    harness.remove(directory)
  end)
end)

describe("an HTTP connection whose worker is killed", function()
  require "tidy" (before_each, after_each)

  it("goes on between requests, and before one is whole", function()
    local server <close> = run(SITE, { workers = 2 })
    local request = get "/"
    local clients = server:connect_many(#request)
    for cut, client in ipairs(clients) do
      assert.same({ 200, "hello" }, { ask(client) })
      client:write(request:sub(1, cut - 1))
    end
    kill(server, 1)
    kill(server, 2)
    for cut, client in ipairs(clients) do
      client:write(request:sub(cut))
      assert.same({ 200, "hello" }, { answer(client) })
    end
    assert.is_nil(server.text:find "[1-9] lost")
    assert.is_nil(server.text:find "[1-9] cut")
    harness.close_all(clients)
  end)

  it("gets a 502 in the midst of a request, unless some of an answer was sent", function()
    local server <close> = run(SITE)
    local waiting, half, upload = server:connect(), server:connect(), server:connect()
    local other = server:connect()
    waiting:write(get "/wait")
    upload:write "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    half:write(get "/half")
    assert.equal("HTTP/1.1 200 OK", half:read "l")
    harness.eventually(function() return select(2, ask(other, "/begun")) == "2" end)
    kill(server, 1)
    assert.same({ 502, "the request was interrupted\n" }, { answer(waiting) })
    assert.is_nil((waiting:read "l"))
    assert.equal(502, (answer(upload)))
    assert.matches("half\r\n$", half:read "a")
    harness.close_all { waiting, half, upload, other }
  end)

  it("is asked for nothing twice", function()
    local server <close> = run(SITE)
    local client = server:connect()
    client:write(get "/", get "/die", get "/")
    assert.equal(502, (answer(client))) -- none of them was answered before
    assert.is_nil((client:read "l"))
    assert.equal(1, select(2, server.text:gsub("died of signal 9", "")))
    client.conn:close()
  end)

  it("is served if nobody had come to it yet", function()
    local server <close> = run(SITE)
    local stopped = server:workers()[1]
    local before = server:connect()
    assert.equal(200, (ask(before)))
    assert(process.kill(stopped, "STOP"))
    local clients = server:connect_many(50)
    for _, client in ipairs(clients) do client:write(get "/") end
    before:write(get "/")
    kill(server, 1)
    assert.equal(200, (answer(before)))
    for _, client in ipairs(clients) do assert.equal(200, (answer(client))) end
    harness.close_all(clients)
    before.conn:close()
  end)
end)

describe("the log, when a worker has died", function()
  require "tidy" (before_each, after_each)

  it("says at what, for whom, and what became of the connections", function()
    local server <close> = run(SITE, { workers = 1 })
    local client, idle = server:connect(), server:connect()
    assert.equal(200, (ask(idle)))
    client:write(get "/die?secret=1")
    assert.equal(502, (answer(client)))
    server:expect("error: spec/1, pid %d+, died of signal 9 %(Killed%) at GET /die of "
      .. "127.0.0.1:%d+ with 2 connections: 1 saved, 1 cut, 0 lost\n")
    client.conn:close()
    idle.conn:close()
  end)

  it("names the line that a signal of its own has interrupted", function()
    local server <close> = run [[
      return function(conn)
        local pid = io.open("/proc/self/stat"):read "n"
        conn:read "l"
        os.execute("kill -ABRT " .. pid)
        local n = 0
        while true do n = n + 1 end
      end
    ]]
    local client = server:connect()
    client:write "go\n"
    server:expect("died of signal 6 %(Aborted%) at 127.0.0.1:%d+ in "
      .. "[^\n]*app.lua:[4-6] with 1 connections: 0 saved, 1 cut, 0 lost\n")
    assert.is_nil((client:read "l"))
    client.conn:close()
  end)

  it("says nothing of what it does not know", function()
    local server <close> = run(SITE)
    local client = server:connect()
    assert.equal(200, (ask(client)))
    kill(server, 1)
    server:expect "%d, died of signal 9 %(Killed%) with 1 connections: 1 saved, 0 cut"
    client.conn:close()
  end)
end)

describe("a pool that survives", function()
  require "tidy" (before_each, after_each)

  it("holds nothing of connections that are over", function()
    local server <close> = run(SITE, { workers = 2 })
    local counts = server:descriptors()
    for _ = 1, 3 do
      local clients = server:connect_many(100)
      for i, client in ipairs(clients) do
        if i % 2 == 0 then
          assert.equal(200, (ask(client)))
        else
          client:write "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
          assert.matches("hello$", client:read "a")
        end
      end
      harness.close_all(clients)
      server:back_to(counts)
    end
  end)

  it("has no more connections than the supervisor can hold", function()
    local server <close> = run(COUNTER, { workers = 2, fd_limit = 264 })
    server:expect "spec: concurrency is 100, not 10000: a process may have 264 desc"
    local clients = server:connect_many(220) -- of which some wait in the backlog
    for i = 1, 200 do assert.equal("1 x", say(clients[i], "x")) end
    kill(server, 1)
    for i = 1, 200 do assert.equal("2 y", say_on(clients[i], "y")) end
    for i = 1, 20 do clients[i].conn:close() end
    for i = 201, 220 do assert.equal("1 x", say(clients[i], "x")) end
    harness.close_all(clients)
  end)

  it("ends connections as one that does not", function()
    local server <close> = run(COUNTER)
    local client = server:connect()
    assert.equal("1 x", say(client, "x"))
    client.conn:shutdown()
    assert.is_nil((client:read "l")) -- the FIN came, although it was held
    client.conn:close()
  end)

  it("moves them in a reload, and holds them there", function()
    local server <close> = run(COUNTER, { workers = 2, control = true })
    local clients = server:connect_many(10)
    for _, client in ipairs(clients) do assert.equal("1 x", say(client, "x")) end
    assert.equal(0, select(2, server:reload()))
    for _, client in ipairs(clients) do assert.equal("reload 1", client:read "l") end
    kill(server, 1)
    kill(server, 2)
    for _, client in ipairs(clients) do assert.equal("2 y", say_on(client, "y")) end
    harness.close_all(clients)
  end)
end)

-- Says what a room hears. "ask" has its worker die before it can have an answer.
local ROOMS = [[
  local moonpool = require "moonpool"
  return function(conn)
    local command, room = conn:read("l"):match "^(%a+) (%a+)$"
    local _ <close> = moonpool.subscribe(room, function(text)
      conn:write(text, "\n")
    end, 0)
    if command == "ask" then -- the subscription's task has its turn first
      moonpool.spawn(function() os.execute "kill -9 $PPID" end)
    end
    for line in conn:lines() do moonpool.publish(room, line) end
  end
]]

-- Says what one room has heard since its script was loaded.
local HEARD = [[
  local moonpool = require "moonpool"
  local heard = {}
  moonpool.subscribe("open", function(text) heard[#heard + 1] = text end, 0)
  return function(conn)
    for _ in conn:lines() do conn:write(table.concat(heard, ", "), "\n") end
  end
]]

describe("a worker in another's place", function()
  require "tidy" (before_each, after_each)

  it("does not take for its own what that one had asked for", function()
    local server <close> = harness.run { script = ROOMS }
    for room, text in pairs { secret = "for others", open = "for all" } do
      local speaker <close> = server:connect()
      speaker:write("join ", room, "\n", text, "\n")
      assert.equal(text, speaker:read "l")
    end
    kill(server, 1) -- who comes next is as new as the one after
    server:change(HEARD)
    local asked <close> = server:connect()
    asked:write "ask secret\n"
    server:expect "is ready again.*is ready again"
    local client <close> = server:connect()
    local heard
    harness.eventually(function()
      client:write "?\n"
      heard = client:read "l"
      return heard ~= ""
    end)
    assert.equal("for all", heard)
  end)
end)

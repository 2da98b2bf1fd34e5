-- The whole program: what a reload changes, and what it leaves alone.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"
local scripts = require "scripts"
local test = require "moonpool.test"

local counter = scripts.counter

-- A script that answers with its label: HTTP at /, /slow/SECONDS, /stream, POST /.
local function service(label)
  return ([[
    local moonpool = require "moonpool"
    local label = "%s"
    local app = require("moonpool.http").app()
    app:get("/", function(_, res) res:send(label) end)
    app:get("/slow/:seconds", function(req, res)
      moonpool.sleep(tonumber(req.params.seconds))
      res:send(label)
    end)
    app:get("/stream", function(_, res)
      for i = 1, 20 do
        res:write(label, i, " ")
        moonpool.sleep(0.02)
      end
    end)
    app:post("/", function(req, res) res:send(label .. #req:body()) end)
    return app
  ]]):format(label)
end

-- A script without checkpoints.
local function echo(label)
  return ([[
    return function(conn)
      for line in conn:lines() do conn:write("%s ", line, "\n") end
    end
  ]]):format(label)
end

local function get(client, target)
  client:write("GET ", target or "/", " HTTP/1.1\r\nHost: x\r\n\r\n")
end

local function answer(client)
  local length
  local status = client:read "l"
  for line in client:lines() do
    if line == "" then break end
    length = line:match "^Content%-Length: (%d+)" or length
  end
  assert(status, "the connection was closed")
  return status:match "^HTTP/1.1 (%d+)" .. " " .. client:read(tonumber(length))
end

local function ask(client, target)
  get(client, target)
  return answer(client)
end

local function say(client, line)
  client:write(line, "\n")
  return client:read "l"
end

local function run(script, options)
  options = options or {}
  options.script, options.control = script, true
  return harness.run(options)
end

local function reloaded(server, script)
  if script then server:change(script) end
  local text, code = server:reload()
  assert.equal(0, code, text .. server.text)
  return text
end

local function gone(pid)
  local state = harness.state(pid)
  return not state or state == "Z"
end

-- Tells how many messages it has heard, and sends some.
local HEARD = [[
  local moonpool = require "moonpool"
  return function(conn)
    local count = 0
    local _ <close> = moonpool.subscribe("room", function() count = count + 1 end)
    conn:write "in\n"
    for line in conn:lines() do
      if line == "how many" then conn:write(count, "\n") end
      for _ = 1, tonumber(line) or 0 do moonpool.publish("room", "x") end
    end
  end
]]

-- The last client of an old worker has it send so many messages, and goes; meanwhile the
-- supervisor does nothing. That client, one of the new worker, the old worker.
local function say_at_the_end(server, count)
  local old, worker = server:connect(), server:workers()[1]
  assert.equal("in", old:read "l")
  server:kill "HUP"
  server:expect "ready: 1 workers.*ready: 1 workers"
  local new = server:connect()
  assert.equal("in", new:read "l")
  server:kill "STOP"
  harness.eventually(function() return harness.state(server.pid) == "T" end)
  old:write(count, "\n")
  old.conn:shutdown()
  return old, new, worker
end

describe("a reload", function()
  it("has the new code for whoever is connected", function()
    local server <close> = run(service "a", { workers = 2 })
    local before, counts = server:workers(), server:descriptors()
    local clients = server:connect_many(20)
    for _, client in ipairs(clients) do assert.equal("200 a", ask(client)) end
    for i = 1, 5 do
      local text = reloaded(server, service("s" .. i))
      assert.matches("reloaded: 20 connections moved\n$", text)
      for _, client in ipairs(clients) do assert.equal("200 s" .. i, ask(client)) end
    end
    for i, pid in ipairs(server:workers()) do assert.not_equal(before[i], pid) end
    for _, pid in ipairs(before) do assert.is_true(gone(pid)) end
    harness.close_all(clients)
    counts[2], counts[3] = nil, nil
    server:back_to(counts)
  end)

  it("is SIGHUP too", function()
    local server <close> = harness.run { script = service "a" }
    local client <close> = server:connect()
    assert.equal("200 a", ask(client))
    server:change(service "b")
    server:kill "HUP"
    server:expect "SIGHUP: reloading.*ready: 1 workers.*reloaded: 1 connections moved"
    assert.equal("200 b", ask(client))
  end)

  it("tells how it goes", function()
    local server <close> = run(counter "a", { workers = 3 })
    local client <close> = server:connect()
    say(client, "x")
    local lines = {}
    for line in reloaded(server):gmatch "[^\n]+" do
      if not line:find "left$" then lines[#lines + 1] = line end
    end
    assert.same({ "new workers start", "ready: 3 workers",
      "reloaded: 1 connections moved" }, lines)
    assert.equal("reload 1", client:read "l")
  end)

  it("lets what is in progress finish, and then moves it", function()
    local server <close> = run(service "a")
    local slow, stream, upload = table.unpack(server:connect_many(3))
    get(slow, "/slow/0.5")
    stream:write "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
    upload:write "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"
    assert.equal("HTTP/1.1 200 OK", stream:read "l")
    harness.eventually(function()
      return harness.descriptors(server:workers()[1]) > 8
    end)
    server:change(service "b")
    server:kill "HUP"
    server:expect "ready: 1 workers.*ready: 1 workers"
    local new <close> = server:connect()
    assert.equal("200 b", ask(new))
    upload:write "67890"
    assert.equal("200 a10", answer(upload))
    assert.equal("200 a", answer(slow))
    local pieces = {}
    repeat
      local line = stream:read "l"
      pieces[#pieces + 1] = line:match "^(a%d+) "
    until line == "0"
    assert.equal("", stream:read "l")
    assert.equal(20, #pieces)
    for _, client in ipairs { slow, stream, upload } do
      assert.equal("200 b", ask(client))
    end
    server:expect "reloaded: 3 connections moved"
    harness.close_all { slow, stream, upload }
  end)

  it("moves half a request, at every cut", function()
    local server <close> = run(service "a")
    local text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    local count = harness.descriptors(server:workers()[1])
    local clients = server:connect_many(#text)
    for cut, client in ipairs(clients) do client:write(text:sub(1, cut - 1)) end
    harness.eventually(function()
      return harness.descriptors(server:workers()[1]) == count + #text
    end)
    assert.matches(#text .. " connections moved", reloaded(server, service "b"))
    for cut, client in ipairs(clients) do
      client:write(text:sub(cut))
      assert.equal("200 b", answer(client))
    end
    harness.close_all(clients)
  end)

  it("moves what was pipelined behind a request", function()
    local server <close> = run(service "a")
    local client <close> = server:connect()
    client:write("GET /slow/0.3 HTTP/1.1\r\nHost: x\r\n\r\n", -- in one piece
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHo")
    server:change(service "b")
    local _, code = server:reload()
    assert.equal(0, code)
    assert.equal("200 a", answer(client))
    assert.equal("200 a", answer(client)) -- it had come before
    client:write "st: x\r\n\r\n"
    assert.equal("200 b", answer(client))
  end)

  it("moves a raw connection with its state and what was read ahead", function()
    local server <close> = run(counter "a", { workers = 2 })
    local clients = server:connect_many(10)
    for i, client in ipairs(clients) do
      for n = 1, i do assert.equal("a " .. n .. " x", say(client, "x")) end
      client:write("half")
    end
    assert.matches("10 connections moved", reloaded(server, counter "b"))
    for i, client in ipairs(clients) do
      assert.equal("reload " .. i, client:read "l")
      assert.equal("b " .. i + 1 .. " half a line", say(client, " a line"))
    end
    harness.close_all(clients)
  end)

  it("moves a raw connection once it comes to its checkpoint", function()
    local script = [[
      local moonpool = require "moonpool"
      local function go_on(conn, state, why)
        if why then conn:write(why, " ", state, "\n") end
        conn:read "l"
        moonpool.sleep(0.5)
        conn:checkpoint "slept"
        conn:read "l"
      end
      return { serve = go_on, resume = go_on }
    ]]
    local server <close> = run(script)
    local count = harness.descriptors(server:workers()[1])
    local client <close> = server:connect()
    client:write "x\n"
    harness.eventually(function()
      return harness.descriptors(server:workers()[1]) > count
    end)
    assert.matches("1 connections moved", reloaded(server))
    assert.equal("reload slept", client:read "l")
  end)

  it("moves more than a message holds", function()
    local script = [[
      local function go_on(conn, state)
        conn:checkpoint(state)
        conn:write("ready ", #state, "\n")
        conn:write(#conn:read "l", "\n")
      end
      local function serve(conn) go_on(conn, ("s"):rep(1 << 19)) end
      return { serve = serve, resume = go_on }
    ]]
    local server <close> = run(script, { args = { "--state-limit", "1m" } })
    local counts = server:descriptors()
    local client = server:connect()
    assert.equal("ready 524288", client:read "l")
    client:write(("x"):rep(400000))
    for _ = 1, 5 do
      assert.matches("1 connections moved", reloaded(server))
      assert.equal("ready 524288", client:read "l")
      client:write(("x"):rep(100000))
    end
    assert.equal("900000", say(client, ""))
    client:close()
    server:back_to(counts)
  end)

  it("moves who was on the way to another worker", function()
    local server <close> = run(counter "a", { args = { "--survive" } })
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    server:change "error 'not today'"
    server:signal_worker(1, "KILL")
    server:expect "1 saved.*not today.*started again in 0.8 s" -- time for what follows
    assert.matches("reloaded: 1 connections moved", reloaded(server, counter "b"))
    assert.equal("crash 1", client:read "l")
    assert.equal("b 2 x", say(client, "x"))
  end)

  it("leaves alone what has no checkpoint, until it ends", function()
    local server <close> = run(echo "a")
    local old = server:connect()
    assert.equal("a 1", say(old, "1"))
    local worker = server:workers()[1]
    server:change(echo "b")
    server:kill "HUP"
    server:expect "ready: 1 workers.*ready: 1 workers"
    harness.eventually(function()
      return harness.title(worker) == "moonpool: worker spec/1 (retiring)"
    end, "the title of a worker that retires")
    local new <close> = server:connect()
    assert.equal("b 1", say(new, "1"))
    assert.equal("a 2", say(old, "2"))
    old:close()
    server:expect "reloaded: 0 connections moved"
    assert.is_true(gone(worker))
  end)

  it("cuts what has not ended when the drain limit is over", function()
    local server <close> = run([[
      return function(conn)
        for line in conn:lines() do
          if line == "pin" then conn:pin() end
          conn:write("a ", line, "\n")
        end
      end
    ]], { args = { "--drain", "300ms" } })
    local client <close> = server:connect()
    assert.equal("a 1", say(client, "1"))
    local pinned = server:connect()
    assert.equal("a pin", say(pinned, "pin"))
    pinned:close()
    assert.matches("reloaded: 0 connections moved", reloaded(server, echo "b"))
    assert.is_nil((client:read "l"))
    assert.matches("drain limit is over: 1 connections are closed", server.text)
  end)

  it("ends an old worker that does not listen", function()
    local server <close> = run([[
      return function(conn)
        conn:write "looping\n":flush()
        while true do end
      end
    ]], { args = { "--drain", "300ms" } })
    local client <close> = server:connect()
    assert.equal("looping", client:read "l")
    reloaded(server, echo "b")
    assert.matches("is killed: the drain limit is over", server.text)
    local new <close> = server:connect()
    assert.equal("b 1", say(new, "1"))
  end)

  it("leaves to a worker what is pinned to it, for as long as it takes", function()
    local server <close> = run([[
      return function(conn)
        conn:pin()
        for line in conn:lines() do
          if line == "unpin" then conn:pin(false) end
          conn:write("a ", line, "\n")
        end
      end
    ]], { args = { "--drain", "300ms" } })
    local pinned, unpinned = server:connect(), server:connect()
    assert.equal("a 1", say(pinned, "1"))
    assert.equal("a unpin", say(unpinned, "unpin"))
    local worker = server:workers()[1]
    server:change(echo "b")
    local text = reloaded(server)
    assert.matches("0 connections moved; 1 that are pinned stay with 1 workers", text)
    assert.is_nil((unpinned:read "l")) -- it was cut
    assert.equal("a 2", say(pinned, "2"))
    assert.matches("1 that are pinned stay with 1 workers", reloaded(server))
    assert.equal("a 3", say(pinned, "3"))
    pinned:close()
    harness.eventually(function() return gone(worker) end)
    unpinned:close()
  end)

  it("leaves to the old worker a state for which the new script has no resume", function()
    local server <close> = run(counter "a")
    local client = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    server:change(echo "b")
    server:kill "HUP"
    server:expect "ready: 1 workers.*ready: 1 workers"
    assert.equal("a 2 x", say(client, "x"))
    client:close()
    server:expect "reloaded: 0 connections moved"
  end)

  it("carries messages between the generations", function()
    local server <close> = run(scripts.room)
    local old = server:connect()
    assert.equal("in", old:read "l")
    server:kill "HUP"
    server:expect "ready: 1 workers.*ready: 1 workers"
    local new <close> = server:connect()
    assert.equal("in", new:read "l")
    assert.equal("from old", say(old, "from old"))
    assert.equal("from old", new:read "l")
    assert.equal("from new", say(new, "from new"))
    assert.equal("from new", old:read "l")
    old:close()
    server:expect "reloaded"
  end)

  it("keeps who is connected counted, for a limit of each address", function()
    local function limited(n)
      return ([[
        local app = require("moonpool.http").app { connections_per_address = %d }
        app:get("/", function(_, res) res:send "ok" end)
        return app
      ]]):format(n)
    end
    local server <close> = run(limited(3), { workers = 2 })
    local clients = server:connect_many(3)
    for _, client in ipairs(clients) do assert.equal("200 ok", ask(client)) end
    for _, limit in ipairs { 3, 3, 2 } do -- the last lets them stay, but nobody in
      reloaded(server, limited(limit))
      for _, client in ipairs(clients) do assert.equal("200 ok", ask(client)) end
      local fourth <close> = server:connect()
      assert.matches("^503 ", answer(fourth))
    end
    harness.close_all(clients)
    harness.eventually(function()
      local again <close> = server:connect()
      return ask(again) == "200 ok"
    end)
  end)

  it("has who has moved wait for a slot, before who comes then", function()
    local server <close> = run(service "a", { args = { "--concurrency", "2" } })
    local first, second = server:connect(), server:connect()
    assert.equal("200 a", ask(first))
    assert.equal("200 a", ask(second))
    reloaded(server, service "b")
    local third = server:connect()
    get(third)
    assert.equal("200 b", ask(first))
    assert.equal("200 b", ask(second))
    first:close()
    assert.equal("200 b", answer(third))
    harness.close_all { second, third }
  end)

  it("has the others hear all that an old worker has said before its end", function()
    local server <close> = run(HEARD)
    local old, new, worker = say_at_the_end(server, 500)
    harness.eventually(function() return gone(worker) end)
    server:kill "CONT"
    harness.eventually(function() return say(new, "how many") == "500" end)
    server:expect "reloaded"
    harness.close_all { old, new }
  end)

  it("has them hear what was more than the supervisor had room for", function()
    local server <close> = run(HEARD)
    local old, new = say_at_the_end(server, 10000)
    assert.is_nil((old:read "l")) -- it has nobody left
    server:kill "CONT"
    harness.eventually(function() return say(new, "how many") == "10000" end)
    server:expect "reloaded"
    harness.close_all { old, new }
  end)

  it("serves who waits for a worker that is stuck", function()
    local server <close> = run([[
      return function(conn)
        conn:write("looping\n"):flush()
        while true do end
      end
    ]], { args = { "--drain", "60" } })
    local stuck <close> = server:connect()
    assert.equal("looping", stuck:read "l")
    local worker = server:workers()[1]
    local clients = server:connect_many(50)
    server:change(echo "b")
    server:kill "HUP"
    for i, client in ipairs(clients) do assert.equal("b " .. i, say(client, i)) end
    process.kill(worker, "KILL")
    harness.close_all(clients)
    server:expect "reloaded"
  end)
end)

describe("a worker that is told to end", function()
  it("passes on what can move to the others, or to its successor", function()
    for workers = 1, 2 do
      local server <close> = run(counter "a", { workers = workers })
      local clients = server:connect_many(20)
      for _, client in ipairs(clients) do assert.equal("a 1 x", say(client, "x")) end
      process.kill(server:workers()[1], "TERM")
      server:expect "spec/1 is ready again"
      local moved = 0
      for _, client in ipairs(clients) do
        local line = say(client, "y")
        while line:find "^%l+ 1$" do -- some may have moved again since, for balance
          if line == "recycle 1" then moved = moved + 1 end
          line = client:read "l"
        end
        assert.equal("a 2 y", line)
      end
      assert.equal(20 // workers, moved)
      harness.close_all(clients)
    end
  end)
end)

describe("a stop", function()
  it("closes who was on the way to a slot", function()
    local server = run(service "a", { args = { "--concurrency", "2" } })
    local clients = server:connect_many(2)
    for _, client in ipairs(clients) do assert.equal("200 a", ask(client)) end
    server:change(echo "b")
    local third = server:connect()
    server:kill "HUP"
    server:expect "reloaded: 2 connections moved"
    assert.equal("b x", say(third, "x"))
    local waits = 0
    server:kill "TERM"
    server:expect "SIGTERM: stopping"
    third:close()
    for _, client in ipairs(clients) do client:close() end
    assert.same({ "exit", 1 }, { server:wait() })
    for n in server.text:gmatch "(%d+) connections were on their way" do
      waits = waits + n
    end
    assert.equal(1, waits)
    server:stop()
  end)
end)

describe("a reload that cannot be", function()
  local function refused(server, pattern)
    local text, code = server:reload()
    assert.equal(1, code)
    assert.matches(pattern, text)
    assert.matches("the reload has failed, everything goes on as before\n$", text)
    assert.matches(pattern, server.text)
  end

  it("leaves everything as it was, and says why with its traceback", function()
    local server <close> = run(counter "a", { workers = 2 })
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    local workers, counts = server:workers(), server:descriptors()
    for script, pattern in pairs {
      ["local function f() error 'not today' end\nf()"] =
        "spec/%d cannot load its script: .*app.lua:1: not today\n%s*stack traceback:",
      ["return 42"] = "must return its handler, .* returns number",
      ["os.exit(7)"] = "spec/%d died before it was ready",
      ["return function("] = "app.lua:1: .* expected near <eof>",
    } do
      server:change(script)
      refused(server, pattern)
      harness.await_workers(server, workers)
      assert.equal("a", say(client, "x"):match "^%a")
    end
    server:back_to(counts)
    assert.matches("reloaded: 1 connections moved", reloaded(server, counter "b"))
    assert.equal("reload 5", client:read "l")
  end)

  it("says so, where nobody listens", function()
    local program = harness.start { "reload", "--control", "/nonexistent/control" }
    local _, code = program:wait()
    assert.equal(1, code)
    assert.matches("/nonexistent/control: No such file or directory", program.text)
    program:stop()
    program = harness.start { "reload", "examples/echo/app.lua" }
    _, code = program:wait()
    assert.equal(2, code)
    assert.matches("there is no control socket", program.text)
    program:stop()
  end)
end)

describe("the configuration", function()
  local function with_config(text, fn)
    local directory = harness.directory()
    local path = directory .. "/pools.lua"
    local function configure(new)
      harness.write_file(path, (new:gsub("CONTROL", directory .. "/control")))
    end
    harness.write_file(directory .. "/app.lua", service "a")
    configure(text)
    local server = harness.start { "serve", "--config", path }
    server.directory, server.name = directory, "web"
    server:expect "ready: %d+ workers"
    fn(server, configure)
    server:stop()
  end

  local BASE = [[return { control = "CONTROL", pools = {
    web = { app = "app.lua", listen = { "127.0.0.1:0" %s }, workers = %d %s } } }]]

  it("is read again: workers, limits, environment, app", function()
    with_config(BASE:format("", 1, ""), function(server, configure)
      local client <close> = server:connect(server:expect "listening on (%S+)")
      assert.equal("200 a", ask(client))
      assert.equal(1, #server:workers())
      harness.write_file(server.directory .. "/other.lua", [[
        local app = require("moonpool.http").app()
        app:get("/", function(_, res) res:send(os.getenv "GREETING") end)
        return app
      ]])
      configure([[return { control = "CONTROL", log_level = "warn", pools = {
        web = { app = "other.lua", listen = "127.0.0.1:0", workers = 3,
          env = { GREETING = "hi" } } } }]])
      reloaded(server)
      assert.equal("200 hi", ask(client))
      assert.equal(3, #server:workers())
      configure(BASE:format("", 2, ""))
      reloaded(server)
      assert.equal("200 a", ask(client))
      assert.equal(2, #server:workers())
      client:close()
    end)
  end)

  it("may add addresses and give up others, without a client lost", function()
    with_config(BASE:format("", 1, ""), function(server, configure)
      local first = server:expect "listening on (%S+)"
      local client <close> = server:connect(first)
      assert.equal("200 a", ask(client))
      local socket = server.directory .. "/web.sock"
      configure(BASE:format(', "unix:web.sock"', 1, ""))
      reloaded(server)
      local other <close> = server:connect("unix:" .. socket)
      assert.equal("200 a", ask(other))
      local again <close> = server:connect(first)
      assert.equal("200 a", ask(again))
      configure((BASE:format("", 1, ""):gsub('"127.0.0.1:0" ', '"unix:web.sock"')))
      reloaded(server)
      for _, one in ipairs { client, other, again } do assert.equal("200 a", ask(one)) end
      local conn, why = test.run(core.net.connect, first, 5)
      assert.same({ nil, "connection refused" }, { conn, why })
      local new <close> = server:connect("unix:" .. socket)
      assert.equal("200 a", ask(new))
      harness.close_all { client, other, again, new }
    end)
  end)

  it("that is wrong changes nothing", function()
    with_config(BASE:format("", 1, ""), function(server, configure)
      local count, workers = server:descriptors()[1], server:workers()
      local client <close> = server:connect(server:expect "listening on (%S+)")
      for text, pattern in pairs {
        ["return {"] = "pools.lua:1: .*expected",
        [BASE:format("", 0, "")] = "workers: must be",
        [BASE:format(', "256.0.0.1:1"', 1, "")] = "web: cannot listen on 256.0.0.1:1",
        ["os.exit(0)"] = "the configuration has not arrived",
        [(BASE:format("", 1, ""):gsub("web", "shop"))] = "pools: a reload can neither",
        [(BASE:format("", 1, ""):gsub("CONTROL", "CONTROL2"))] = "control: a reload can",
        [BASE:format("", 200, "")] = "web: too many workers of earlier generations",
      } do
        configure(text)
        local said, code = server:reload()
        assert.equal(1, code, said)
        assert.matches(pattern, said)
        assert.equal("200 a", ask(client))
        harness.await_workers(server, workers)
        server:back_to { count }
      end
      configure(BASE:format("", 1, ""))
      reloaded(server)
      client:close()
    end)
  end)
end)

describe("in the middle of a reload", function()
  -- Until go(server) there is time for something else.
  local function slow(directory, label)
    return harness.when(directory .. "/go", counter(label))
  end

  local function go(server)
    harness.write_file(server.directory .. "/go", "")
  end

  it("another follows, for what has changed meanwhile", function()
    local server <close> = run(counter "a", { workers = 2 })
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    server:change(slow(server.directory, "b"))
    server:kill "HUP"
    server:expect "SIGHUP"
    harness.eventually(function() return server:children() == 4 end)
    server:change(counter "c")
    local asker = harness.start { "reload", "--control", server.directory .. "/control" }
    server:expect "moonpool reload"
    go(server)
    assert.same({ "exit", 0 }, { asker:wait() })
    asker:stop()
    local line
    repeat line = say(client, "x") until line:find "^c"
    local new <close> = server:connect()
    assert.equal("c 1 x", say(new, "x"))
  end)

  it("during the start, one follows that", function()
    local directory = harness.directory()
    harness.write_file(directory .. "/app.lua", slow(directory, "a"))
    local server = harness.start { "serve", directory .. "/app.lua", "--name", "spec",
      "--listen", "127.0.0.1:0", "--workers", "1" }
    server.directory, server.name = directory, "spec"
    harness.eventually(function() return server:workers()[1] end)
    server:change(counter "b")
    server:kill "HUP"
    server:expect "SIGHUP"
    go(server)
    server:expect "ready: 1 workers.*ready: 1 workers"
    local client <close> = server:connect(server:expect "listening on (%S+)")
    assert.equal("b 1 x", say(client, "x"))
    client:close()
    server:stop()
    assert.equal(0, server.code)
  end)

  it("SIGTERM stops it all", function()
    local server = run(counter "a")
    local client = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    server:change("while true do end")
    server:kill "HUP"
    harness.eventually(function() return server:children() == 2 end)
    server:kill "TERM"
    client:close()
    assert.same({ "exit", 0 }, { server:wait() })
    server:stop()
  end)

  it("a worker's death is no matter", function()
    local server <close> = run(counter "a", { workers = 2 })
    local worker = server:workers()[1]
    server:change(slow(server.directory, "b"))
    server:kill "HUP"
    harness.eventually(function() return server:children() == 4 end)
    process.kill(worker, "KILL")
    server:expect "died of signal 9"
    go(server)
    server:expect "reloaded"
    local client <close> = server:connect()
    assert.equal("b 1 x", say(client, "x"))
  end)
end)

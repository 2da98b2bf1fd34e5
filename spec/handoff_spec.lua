-- Connections that a script hands to another pool, or to a certain worker of its own.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

-- Commands of a line: where to, and with what. "go" names a pool, "worker" a number. What
-- is not one is answered with who has it, which is how many lines it has seen.
local SERVICE = [[
  local moonpool = require "moonpool"
  local me = moonpool.worker.pool .. "/" .. moonpool.worker.id
  local commands = {}

  local function go_on(conn, state, why)
    conn:write(why or "new", " ", me, " ", state.n, "\n")
    while true do
      conn:checkpoint(state)
      local line = conn:read "l"
      if not line then return end
      state.n = state.n + 1
      local name, rest = line:match "^(%l+) ?(.*)$"
      if commands[name] then
        if commands[name](conn, rest, state) then return end
      else
        conn:write(me, " ", state.n, " ", line, "\n")
      end
    end
  end

  function commands.go(conn, pool, state)
    conn:handoff(pool, state)
    return true
  end
  function commands.anew(conn, pool) return conn:handoff(pool) end
  function commands.worker(conn, number, state)
    return conn:handoff(tonumber(number), state)
  end
  function commands.big(conn, pool, state) -- with much of everything
    state.load = ("s"):rep(60000)
    conn:write(("x"):rep(1 << 16))
    return conn:handoff(pool, state)
  end
  function commands.load(conn, _, state) conn:write(#state.load, "\n") end
  function commands.many(conn, rest, state) -- more than the kernel takes
    local n, pool = rest:match "^(%d+) (.*)$"
    conn:settimeout(0.2)
    local line = ("y"):rep(999) .. "\n"
    for _ = 1, n do
      if not conn:write(line) then break end
      state.written = (state.written or 0) + 1
    end
    conn:settimeout(nil)
    print("written", state.written)
    return conn:handoff(pool, state)
  end
  function commands.flood(conn, pool) -- likewise
    conn:settimeout(0.2)
    repeat until not conn:write(("y"):rep(1000))
    conn:settimeout(nil)
    print "flooded"
    return conn:handoff(pool)
  end
  function commands.try(conn, rest, state)
    local code = assert(load("local conn, state, moonpool = ... return " .. rest))
    local result = table.pack(pcall(code, conn, state, moonpool))
    for i = 1, result.n do result[i] = tostring(result[i]) end
    conn:write(table.concat(result, " "), "\n")
  end
  function commands.after(conn, pool)
    local other = moonpool.spawn(function()
      print("handed", conn:handoff(pool), conn:moved())
      print("again", pcall(conn.write, conn, "x"))
      print("closed", conn:close(), conn)
    end)
    while other:alive() do moonpool.sleep(0.001) end
    return true
  end
  function commands.pin(conn) conn:pin() end

  return { serve = function(conn) go_on(conn, { n = 0 }) end, resume = go_on }
]]

local SITE = [[
  local moonpool = require "moonpool"
  local app = require("moonpool.http").app()
  app:get("/", function(_, res) res:send(moonpool.worker.pool .. "\n") end)
  app:get("/to/:pool", function(req, res)
    local pool = req.params.pool
    local conn = res:upgrade "lines"
    conn:write "hello\n"
    conn:handoff(pool, { n = 10 })
  end)
  return app
]]

local SILENT = "return function(conn) conn:read 'a' end"

-- Starts pools, which are scripts by name or tables with more; all have an address.
local function run(pools)
  local directory = harness.directory()
  local lines = { "return { pools = {" }
  for name, pool in pairs(pools) do
    if type(pool) == "string" then pool = { script = pool } end
    harness.write_file(directory .. "/" .. name .. ".lua", pool.script)
    lines[#lines + 1] = ("%s = { app = '%s.lua', listen = %q, workers = %d, %s },")
      :format(name, name, pool.listen or "127.0.0.1:0", pool.workers or 1,
        pool.more or "")
  end
  lines[#lines + 1] = "} }"
  harness.write_file(directory .. "/pools.lua", table.concat(lines, "\n"))
  local server = harness.start { "serve", "--config", directory .. "/pools.lua" }
  server.directory, server.addresses = directory, {}
  harness.eventually(function()
    return server.text:find "ready: %d+ workers" or server:has_ended()
  end)
  for name in pairs(pools) do
    server.addresses[name] = server:expect(name .. ": listening on (%S+)")
  end
  return server
end

local function both()
  return run { a = SERVICE, b = SERVICE }
end

-- A client of a pool, that has been greeted.
local function greeted(server, pool)
  local client = server:connect(server.addresses[pool])
  assert.matches("^new " .. pool .. "/?%d? 0$", client:read "l")
  return client
end

local function say(client, line)
  client:write(line, "\n")
  return client:read "l"
end

-- All descriptors of the server, once nothing is on its way any more.
local function count(server, ...)
  local counts = { harness.descriptors(server.pid) }
  for _, pool in ipairs { ... } do
    for _, pid in ipairs(server:workers(pool)) do
      counts[#counts + 1] = harness.descriptors(pid)
    end
  end
  return table.concat(counts, " ")
end

local function back_to(server, before, ...)
  local pools = { ... }
  local ok = pcall(harness.eventually, function()
    return count(server, table.unpack(pools)) == before
  end)
  if not ok then assert.equal(before, count(server, table.unpack(pools))) end
end

describe("a connection that is handed to another pool", function()
  it("goes on there with its state", function()
    local server <close> = both()
    local before = count(server, "a", "b")
    local client = greeted(server, "a")
    assert.equal("a/1 1 x", say(client, "x"))
    assert.equal("handoff b/1 2", say(client, "go b"))
    assert.equal("b/1 3 y", say(client, "y"))
    assert.equal("handoff a/1 4", say(client, "go a"))
    assert.equal("handoff a/1 5", say(client, "go a")) -- its own is one too
    client.conn:shutdown()
    assert.is_nil((client:read "l"))
    client.conn:close()
    back_to(server, before, "a", "b")
  end)

  it("begins anew there without one, also with nil", function()
    local server <close> = both()
    local client <close> = greeted(server, "a")
    assert.equal("a/1 1 x", say(client, "x"))
    assert.equal("new b/1 0", say(client, "anew b"))
    client:write "try conn:handoff('a', nil)\n"
    assert.equal("new a/1 0", client:read "l")
  end)

  it("may have a state that is false, or empty", function()
    local server <close> = run { a = SERVICE, b = [[
      return { serve = print, resume = function(conn, ...)
        local all = table.pack(...)
        conn:write(all.n, " ", tostring(all[1]), " ", all[2], "\n")
      end }
    ]] }
    for state, shown in pairs { ["false"] = "false", ["0"] = "0", ["''"] = "" } do
      local client <close> = greeted(server, "a")
      client:write("try conn:handoff('b', ", state, ")\n")
      assert.equal("2 " .. shown .. " handoff", client:read "l")
    end
  end)

  it("takes along what was not read, at every cut", function()
    local server <close> = both()
    local text = "x\ngo b\nfirst line\nsecond\n"
    for cut = 0, #text do
      local client <close> = greeted(server, "a")
      client:write(text:sub(1, cut))
      if cut > 0 then core.loop.wait(0) end
      client:write(text:sub(cut + 1))
      assert.equal("a/1 1 x", client:read "l")
      assert.equal("handoff b/1 2", client:read "l")
      assert.equal("b/1 3 first line", client:read "l")
      assert.equal("b/1 4 second", client:read "l")
    end
  end)

  it("takes along what was read ahead, once", function()
    local server <close> = both()
    local client <close> = greeted(server, "a")
    local lines = {}
    for i = 1, 100 do lines[i] = "line " .. i .. " " .. ("z"):rep(i * 10) .. "\n" end
    client:write("go b\n", table.concat(lines))
    assert.equal("handoff b/1 1", client:read "l")
    for i, line in ipairs(lines) do
      assert.equal("b/1 " .. i + 1 .. " " .. line, client:read "L")
    end
  end)

  it("takes along what was not sent, however slow its client is", function()
    local server <close> = run { b = SERVICE,
      a = { script = SERVICE, more = "write_limit = '8m'" } }
    local client <close> = greeted(server, "a")
    client:write "many 20000 b\n"
    local written = tonumber(server:expect "written\t(%d+)\n")
    assert.is_true(written < 20000, "the kernel has taken all")
    for _ = 1, written do assert.equal(("y"):rep(999), client:read "l") end
    assert.matches("^y*handoff b/1 1$", client:read "l") -- of one line a part had fitted
    assert.equal("b/1 2 x", say(client, "x"))
  end)

  it("may bring more than fits in a message", function()
    local server <close> = both()
    local before = count(server, "a", "b")
    local client = greeted(server, "a")
    local rest = ("r"):rep(100000)
    client:write("big b\n", "load\n", rest, "\n")
    assert.equal(("x"):rep(1 << 16) .. "handoff b/1 1", client:read "l")
    assert.equal("60000", client:read "l")
    assert.equal("b/1 3 " .. rest, client:read "l")
    client.conn:close()
    back_to(server, before, "a", "b")
  end)

  it("is closed for who has handed it over, who goes on", function()
    local server <close> = run { a = SERVICE, b = SERVICE }
    local client <close> = greeted(server, "a")
    client:write "after b\n"
    server:expect "handed\ttrue\thandoff\n"
    server:expect "again\tfalse\t[^\n]*connection is closed"
    server:expect "closed\ttrue\tmoonpool.conn %(closed%)"
    assert.equal("new b/1 0", client:read "l")
    assert.equal("b/1 1 x", say(client, "x"))
    assert.is_nil(server.text:find "error:")
  end)

  it("is not pinned any more", function()
    local server <close> = both()
    local client <close> = greeted(server, "a")
    client:write "pin\n"
    assert.equal("handoff b/1 2", say(client, "go b"))
    server:kill "HUP"
    assert.equal("reload b/1 2", client:read "l")
    server:expect "reloaded: 1 connections moved"
  end)

  it("is HTTP's there, if that is what the pool serves", function()
    local server <close> = run { a = SERVICE, site = SITE }
    local client <close> = greeted(server, "a")
    client:write "anew site\nGET / HTTP/1.1\r\nHo"
    client:write "st: x\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK", client:read "l")
    repeat until client:read "l" == ""
    assert.equal("site", client:read "l")
  end)

  it("may have been HTTP's here", function()
    local server <close> = run { a = SERVICE, site = SITE }
    local before = count(server, "a", "site")
    local clients = {}
    for i = 1, 10 do
      local client = server:connect(server.addresses.site)
      clients[i] = client
      client:write "GET /to/a HTTP/1.1\r\nHost: x\r\nUpgrade: lines\r\n"
      client:write "Connection: upgrade\r\n\r\nfirst\n"
      assert.equal("HTTP/1.1 101 Switching Protocols", client:read "l")
      repeat until client:read "l" == ""
      assert.equal("hello", client:read "l")
      assert.equal("handoff a/1 10", client:read "l")
      assert.equal("a/1 11 first", client:read "l")
      assert.equal("a/1 12 x", say(client, "x"))
    end
    harness.close_all(clients)
    back_to(server, before, "a", "site")
    assert.is_nil(server.text:find "error:")
  end)

  it("may be a unix socket's", function()
    local directory = harness.directory()
    local server <close> = run { a = { script = SERVICE,
      listen = "unix:" .. directory .. "/s" }, b = SERVICE }
    local client <close> = greeted(server, "a")
    client:write "go b\nalong\n"
    assert.equal("handoff b/1 1", client:read "l")
    assert.equal("b/1 2 along", client:read "l")
    assert.equal("handoff a/1 3", say(client, "go a"))
    client:close()
    server:stop()
    harness.remove(directory)
  end)

  it("stays if it holds descriptors, until they are taken", function()
    local directory = harness.directory()
    local server <close> = run { a = { script = [[
      return function(conn)
        conn:read(1)
        local ok, why = pcall(conn.handoff, conn, "b")
        conn:write(tostring(ok), " ", why, "\n")
        conn:recvfd():close()
        conn:handoff "b"
      end
    ]], listen = "unix:" .. directory .. "/s" }, b = SERVICE }
    local client <close> = server:connect(server.addresses.a)
    local file = io.open "/dev/null"
    client:sendfd(file, "x")
    file:close()
    assert.matches("^false .*it holds descriptors that have come: recvfd them first",
      client:read "l")
    assert.equal("new b/1 0", client:read "l")
    client:close()
    server:stop()
    harness.remove(directory)
  end)

  it("may be one of the script's own", function()
    local server <close> = run { a = SERVICE, b = [[
      local moonpool, net = require "moonpool", require "moonpool.net"
      return function(conn)
        local address = conn:read "l"
        local ours <close>, theirs = net.pair()
        ours:write "x\n"
        assert(theirs:handoff "a")
        conn:write(ours:read "l", "\n", ours:read "l", "\n")
        ours:write "go a\n"
        conn:write(ours:read "l", "\n")
      end
    ]] }
    local before = count(server, "a", "b")
    local client = server:connect(server.addresses.b)
    client:write "\n"
    assert.equal("new a/1 0", client:read "l")
    assert.equal("a/1 1 x", client:read "l")
    assert.equal("handoff a/1 2", client:read "l")
    assert.is_nil((client:read "l"))
    client.conn:close()
    back_to(server, before, "a", "b")
  end)

  it("waits for a slot there", function()
    local server <close> = run { a = SERVICE,
      b = { script = SERVICE, more = "concurrency = 2" } }
    local before = harness.descriptors(server.pid)
    local first, second = greeted(server, "a"), greeted(server, "b")
    local third = greeted(server, "a")
    assert.equal("handoff b/1 1", say(first, "go b"))
    harness.eventually(function() return harness.descriptors(server.pid) == before end)
    third:write "go b\nwaited\n"
    harness.eventually(function()
      return harness.descriptors(server.pid) == before + 1
    end, "the connection on its way")
    local new = server:connect(server.addresses.b)
    assert.equal("b/1 1 still here", say(second, "still here"))
    second:close()
    assert.equal("handoff b/1 1", third:read "l")
    assert.equal("b/1 2 waited", third:read "l")
    first:close()
    assert.equal("new b/1 0", new:read "l")
    harness.close_all { third, new }
  end)

  it("is cut off there if the server stops before", function()
    local server <close> = run { a = SERVICE,
      b = { script = SERVICE, more = "concurrency = 1" } }
    local holder, client = greeted(server, "b"), greeted(server, "a")
    client:write "go b\n"
    assert.equal("a/1 1 x", say(greeted(server, "a"), "x")) -- it is on its way
    server:kill "TERM"
    server:expect "warn: 1 connections were on their way to another worker and are closed"
    assert.is_nil((client:read "l"))
    harness.close_all { holder, client }
    assert.same({ "exit", 1 }, { server:wait() })
  end)

  it("ends where there is no resume for it, which is said", function()
    local server <close> = run { a = SERVICE, b = SILENT }
    local client <close> = greeted(server, "a")
    client:write "go b\n"
    assert.is_nil((client:read "l"))
    server:expect "error: a connection has come with a state, but [^\n]* has no resume\n"
    local other <close> = greeted(server, "a")
    other:write "anew b\n"
    assert.equal("a/1 1 x", say(greeted(server, "a"), "x"))
  end)
end)

describe("conn:handoff raises", function()
  local function complains(line, pattern)
    local server <close> = run { a = { script = SERVICE, workers = 2 }, b = SERVICE }
    local client <close> = greeted(server, "a")
    assert.matches("^false .*" .. pattern, say(client, "try " .. line))
    assert.matches("^a/%d 2 x$", say(client, "x"))
    assert.matches("^handoff b/1 3$", say(client, "go b"))
  end

  for line, pattern in pairs {
    ["conn:handoff 'c'"] = 'bad argument #1 to \'handoff\' %(there is no pool "c"; '
      .. "there are a, b%)$",
    ["conn:handoff ''"] = 'there is no pool ""; there are a, b',
    ["conn:handoff 'a, b'"] = 'there is no pool "a, b"',
    ["conn:handoff 'a,'"] = 'there is no pool "a,"',
    ["conn:handoff '2'"] = 'there is no pool "2"',
    ["conn:handoff(0)"] = "there is no worker 0; there are 1 to 2",
    ["conn:handoff(3)"] = "there is no worker 3; there are 1 to 2",
    ["conn:handoff(-1)"] = "there is no worker %-1; there are 1 to 2",
    ["conn:handoff(1 << 32 | 1)"] = "there is no worker 4294967297",
    ["conn:handoff(1.5)"] = "number has no integer representation",
    ["conn:handoff()"] = "string expected, got no value",
    ["conn:handoff {}"] = "string expected, got table",
    ["conn:handoff('b', print)"] = "bad argument #2 to 'handoff' %(state is a function",
    ["conn:handoff('b', { x = { y = conn } })"] = "state%.x%.y is a userdata",
    ["conn:handoff('b', ('x'):rep(70000))"] = "state makes it more than 65536 bytes",
    ["conn.handoff({}, 'b')"] = "moonpool.conn expected, got table",
  } do
    it("for " .. line, function() complains(line, pattern) end)
  end

  it("while a task waits for the connection", function()
    complains("(function() local _ <close> = setmetatable({}, { __close = "
      .. "(function(task) return function() task:cancel() end end)("
      .. "moonpool.spawn(conn.read, conn, 'l')) }) "
      .. "moonpool.sleep(0) conn:handoff 'b' end)()", "a task waits for it")
  end)

  it("where there is no other worker", function()
    local why
    local client <close> = test.connect(function(conn)
      why = select(2, pcall(conn.handoff, conn, "b"))
      conn:write "fine\n"
    end)
    assert.equal("fine", client:read "l")
    assert.matches("there is nobody to hand it to: this is no worker", why)
  end)
end)

describe("a connection that has failed", function()
  it("is not handed over, and the call says why", function()
    local server <close> = run { a = [[
      return function(conn)
        local closed = conn:read "l" == "shutdown"
        if closed then conn:shutdown() else conn:read "a" end
        repeat local ok = closed or not conn:write("x"):flush() until ok
        print("result", conn:handoff "a")
        print("moved", conn:moved(), conn)
      end
    ]] }
    local client = server:connect(server.addresses.a)
    client:write "shutdown\n"
    server:expect "result\tnil\tclosed\tEPIPE\n"
    server:expect "moved\tnil\tmoonpool.conn %(%d+%)"
    client:close()
  end)

  it("has not, if its time was over", function()
    local server <close> = run { b = SERVICE, a = { script = [[
      return function(conn)
        conn:read "l"
        print("result", conn:handoff("b", {}))
      end
    ]], more = "idle_timeout = 0.05" } }
    local client <close> = server:connect(server.addresses.a)
    server:expect "result\tnil\ttimeout\tETIMEDOUT\n"
    assert.is_nil((client:read "l"))
  end)
end)

describe("a connection that is handed to a worker of its own pool", function()
  it("is that one's", function()
    local server <close> = run { a = { script = SERVICE, workers = 4 } }
    local clients, n = {}, 0
    for i = 1, 8 do clients[i] = greeted(server, "a") end
    for _ = 1, 3 do
      for number = 1, 4 do
        n = n + 1
        for _, client in ipairs(clients) do
          local line = say(client, "worker " .. number)
          while line:find "^balance" do line = client:read "l" end -- one has too many
          assert.equal(("handoff a/%d %d"):format(number, n), line)
        end
      end
    end
    harness.close_all(clients)
  end)

  it("is another's while that one has no free slot", function()
    local server <close> = run { a = { script = SERVICE, workers = 2,
      more = "concurrency = 1" } }
    local client, other = greeted(server, "a"), greeted(server, "a")
    local number = tonumber(say(client, "x"):match "^a/(%d)")
    for i = 1, 10 do
      assert.equal(("handoff a/%d %d"):format(number, i + 1),
        say(client, "worker " .. 3 - number))
    end
    other:close()
    client:write("worker ", 3 - number, "\n")
    assert.matches("^handoff", client:read "l")
    client:close()
  end)

  it("is another's while that one is not there", function()
    local server <close> = run { a = { script = SERVICE, workers = 2 } }
    local clients, number = server:connect_many(0), 2
    for i = 1, 4 do clients[i] = greeted(server, "a") end
    local on_one = {}
    for _, client in ipairs(clients) do
      if say(client, "worker 1") then on_one[#on_one + 1] = client end
    end
    assert(process.kill(server:workers("a")[number], "STOP"))
    server:change "error 'not now'"
    harness.write_file(server.directory .. "/a.lua", "error 'not now'")
    assert(process.kill(server:workers("a")[number], "KILL"))
    server:expect "a/2, pid %d+, died"
    for _, client in ipairs(on_one) do
      assert.equal("handoff a/1 2", say(client, "worker 2"))
    end
    harness.close_all(clients)
  end)
end)

-- A line is where to go; the greeting there is how often it has gone. It is no matter in
-- which instant a worker is killed.
local WANDERER = [[
  local moonpool = require "moonpool"
  local pool = moonpool.worker.pool
  local function go_on(conn, state, why)
    conn:write(why or "new", " ", pool, " ", state.n, "\n")
    conn:checkpoint(state, "again")
    local to = conn:read "l"
    if to then conn:handoff(to, { n = state.n + 1, load = state.load }) end
  end
  return {
    serve = function(conn) go_on(conn, { n = 0, load = ("x"):rep(1000) }) end,
    resume = go_on,
  }
]]

-- Goes to a pool, the n-th time.
local function wander(conn, to, n)
  assert(conn:write(to, "\n"))
  while true do
    local line = assert(conn:read "l")
    local pool, turn = line:match "^%l+ (%l) (%d+)$"
    if tonumber(turn) == n then
      assert.equal(to, pool)
      return
    end
    assert.equal(n - 1, tonumber(turn), line) -- once more, after a crash or a reload
  end
end

-- Each of n clients wanders between a and b, `times` times, or while act() does its work:
-- that begins when all have come as far as their first checkpoint.
local function wanderers(server, n, times, act)
  local turns, settled, acts = 0, 0, act ~= nil
  harness.in_parallel(acts and n + 1 or n, function(i)
    if i > n then
      harness.wait_for(function() return settled == n end, "everybody's first turn")
      act()
      acts = false
      return
    end
    local conn <close> = assert(core.net.connect(server.addresses.a, 20))
    conn:settimeout(20)
    assert.equal("new a 0", conn:read "l")
    local k = 0
    while k < times or acts do
      k = k + 1
      wander(conn, k % 2 == 1 and "b" or "a", k)
      turns = turns + 1
      if k == 1 then settled = settled + 1 end
      if acts then core.task.sleep(0.01 * math.random()) end
    end
  end)
  test.settle()
  return turns
end

describe("many connections that are handed from pool to pool", function()
  it("leave nothing behind", function()
    local server <close> = run { a = { script = WANDERER, workers = 2 }, b = WANDERER }
    local before = count(server, "a", "b")
    assert.equal(1000, wanderers(server, 20, 50))
    back_to(server, before, "a", "b")
    assert.is_nil(server.text:find "error:")
  end)

  it("leave nothing behind where they survive", function()
    local survive = { script = WANDERER, more = "survive = true" }
    local server <close> = run { a = survive, b = survive }
    local before = count(server, "a", "b")
    assert.equal(1000, wanderers(server, 20, 50))
    back_to(server, before, "a", "b")
    assert.is_nil(server.text:find "error:")
  end)

  it("are not lost by reloads", function()
    local server <close> = run { a = { script = WANDERER, workers = 2 }, b = WANDERER }
    local before = harness.descriptors(server.pid)
    local turns = wanderers(server, 50, 1, function()
      for i = 1, 8 do
        server:kill "HUP"
        harness.wait_for(function()
          return select(2, server.text:gsub("reloaded:", "")) == i
        end, "a reload")
      end
    end)
    assert.is_true(turns >= 50, turns .. " turns") -- everybody's, at least one
    assert.is_nil(server.text:find "error:")
    harness.eventually(function() return harness.descriptors(server.pid) == before end)
  end)

  it("are not lost by workers that are killed, where they survive", function()
    local survive = { script = WANDERER, workers = 2, more = "survive = true" }
    local server <close> = run { a = survive, b = survive }
    local before = harness.descriptors(server.pid)
    local turns = wanderers(server, 100, 1, function()
      for i = 1, 6 do
        local pool = i % 2 == 1 and "a" or "b"
        assert(process.kill(server:workers(pool)[i % 2 + 1], "KILL"))
        harness.wait_for(function()
          return select(2, server.text:gsub("is ready again", "")) == i
        end, "another worker")
      end
    end)
    assert.is_true(turns > 500, turns .. " turns")
    assert.is_nil(server.text:find "[1-9] cut")
    assert.is_nil(server.text:find "[1-9] lost")
    harness.eventually(function() return harness.descriptors(server.pid) == before end)
  end)
end)

describe("in a pool that survives, a connection that was handed to it", function()
  local function run_both(a, b)
    return run { a = { script = a, more = "survive = true, write_limit = '4m'" },
      b = { script = b, more = "survive = true" } }
  end

  it("is another worker's, if the one that it went to has not taken it", function()
    local server <close> = run_both(SERVICE, SERVICE)
    local before = count(server, "a")
    local clients = {}
    for i = 1, 10 do clients[i] = greeted(server, "a") end
    local stopped = server:workers("b")[1]
    assert(process.kill(stopped, "STOP"))
    for i, client in ipairs(clients) do
      client:write(i % 2 == 1 and "go b\n" or "big b\n", "half a li")
    end
    local other <close> = greeted(server, "a")
    assert.equal("a/1 1 x", say(other, "x")) -- they are on their way
    assert(process.kill(stopped, "KILL"))
    for i, client in ipairs(clients) do
      local written = i % 2 == 1 and "" or ("x"):rep(1 << 16)
      assert.equal(written .. "handoff b/1 1", client:read "l")
      client:write "ne\n"
      assert.equal("b/1 2 half a line", client:read "l")
    end
    other:close()
    harness.close_all(clients)
    back_to(server, before, "a")
  end)

  it("goes on there after a crash, and with what was not sent", function()
    local server <close> = run_both(SERVICE, SERVICE)
    local client <close> = greeted(server, "a")
    client:write "many 20000 b\n"
    local written = tonumber(server:expect "written\t(%d+)\n")
    assert.equal("handoff b/1 1", say(greeted(server, "a"), "go b")) -- which came later
    assert(process.kill(server:workers("b")[1], "KILL"))
    server:expect "b/1 is ready again"
    for _ = 1, written do assert.equal(("y"):rep(999), client:read "l") end
    assert.matches("^y*crash b/1 1$", client:read "l") -- nobody had come to greeting it
    assert.equal("b/1 2 x", say(client, "x"))
  end)

  it("is not served anew, where something was not sent yet", function()
    local server <close> = run { site = { script = SITE, more = "survive = true" },
      a = { script = SERVICE, more = "write_limit = '4m'" } }
    local client = greeted(server, "a")
    client:write "flood site\n"
    server:expect "flooded\n"
    local later = greeted(server, "a")
    later:write "anew site\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK", later:read "l")
    repeat until later:read "l" == ""
    assert.equal("site", later:read "l")
    assert(process.kill(server:workers("site")[1], "KILL"))
    server:expect "site/1, pid %d+, died .* with 2 connections: 1 saved, 0 cut, 1 lost"
    harness.close_all { client, later }
  end)
end)

describe("a flood of connections for a pool that is full", function()
  it("does not have pools wait for each other", function()
    local few = { script = WANDERER, more = "concurrency = 2" }
    local server <close> = run { a = few, b = few,
      c = { script = WANDERER, workers = 2 } }
    assert(process.raise_fd_limit(3000))
    local before, holders, clients = count(server, "a", "b", "c"), {}, {}
    for i = 1, 4 do holders[i] = greeted(server, i % 2 == 1 and "a" or "b") end
    for i = 1, 1000 do
      clients[i] = server:connect(server.addresses.c)
      clients[i]:write(i % 2 == 1 and "a\nb\na\nb\n" or "b\na\nb\na\n")
      assert.equal("new c 0", clients[i]:read "l")
    end
    harness.close_all(holders)
    harness.in_parallel(#clients, function(i)
      local conn = clients[i].conn
      for n = 1, 4 do
        local pool = (i + n) % 2 == 0 and "a" or "b"
        assert.equal("handoff " .. pool .. " " .. n, conn:read "l")
      end
      conn:close()
    end)
    back_to(server, before, "a", "b", "c")
    assert.is_nil(server.text:find "error:")
  end)

  it("waits where it comes from, and costs others nothing", function()
    local server <close> = run { a = SERVICE, c = SERVICE,
      b = { script = SERVICE, more = "concurrency = 1" } }
    assert(process.raise_fd_limit(3000))
    local before = count(server, "a", "b", "c")
    local holder, clients = greeted(server, "b"), {}
    for i = 1, 1000 do
      clients[i] = server:connect(server.addresses.a)
      clients[i]:write "anew b\n"
    end
    for _, client in ipairs(clients) do assert.equal("new a/1 0", client:read "l") end
    local other = greeted(server, "a")
    assert.equal("handoff c/1 1", say(other, "go c"))
    assert.equal("c/1 2 x", say(other, "x"))
    local held, same = 0, 0
    harness.eventually(function()
      local now = harness.descriptors(server.pid) - tonumber(before:match "%d+")
      same, held = now == held and same + 1 or 0, now
      return held >= 256 and same == 50
    end)
    assert.is_true(held < 500, held .. " descriptors")
    holder:close()
    local seen = 0
    harness.in_parallel(#clients, function(i)
      assert.equal("new b/1 0", clients[i].conn:read "l")
      clients[i].conn:close()
      seen = seen + 1
    end)
    assert.equal(1000, seen)
    other:close()
    back_to(server, before, "a", "b", "c")
    assert.is_nil(server.text:find "error:")
  end)
end)

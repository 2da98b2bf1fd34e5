-- The programs of the benchmark: load, the clients that wrk cannot be, the floor, and the
-- distance of two cores.

local core = require "moonpool.core"
local harness = require "server"
local machine = require "bench.machine"
local process = require "native.process"
local test = require "moonpool.test"

local PATIENCE = 20 -- seconds

local bench = harness.build .. "/bench"

local hello = [[
  local http = require "moonpool.http"
  local app = http.app()
  app:get("/hello", function(_, res) res:send "Hello, world!\n" end)
  app:get("/wrong", function(_, res) res:status(500):send() end)
  app:get("/slow", function(_, res)
    require("moonpool").sleep(0.05)
    res:send "slow\n"
  end)
  return app
]]

local echo = [[
  return function(conn) for line in conn:lines "L" do conn:write(line) end end
]]

-- "requests=12 errors=0" -> { requests = 12, errors = 0 }
local function figures(text)
  local found = {}
  for name, value in text:gmatch "(%l[%l%d]*)=([%d.]+)" do
    found[name] = tonumber(value)
  end
  return found
end

-- Runs a program of the benchmark to its end: what it says, "exit" | "signal", code.
local function run(program, ...)
  test.virtual(false)
  local pid, fd = assert(process.start({ bench .. "/" .. program, ... }, {}))
  local file <close> = assert(fd:file())
  local text = file:read "a"
  return text, process.wait(pid)
end

-- What it says to arguments that it refuses.
local function refusal(program, ...)
  local text, how, code = run(program, ...)
  assert.same({ "exit", 2 }, { how, code })
  return text
end

local function port_of(server)
  return server.address:match ":(%d+)$"
end

describe("load", function()
  local function load(mode, ...)
    local arguments = { mode, ... }
    table.insert(arguments, 2, "0.2")
    table.insert(arguments, 2, "-d")
    local text, how, code = run("load", table.unpack(arguments))
    assert.same({ "exit", 0, text }, { how, code, text })
    return figures(text)
  end

  it("keeps connections, or makes one for each request", function()
    local server <close> = harness.run { script = hello }
    for _, mode in ipairs { "keep", "close" } do
      local told = load(mode, "-c", "4", port_of(server), "/hello")
      assert.equal(0, told.errors)
      assert.is_true(told.requests > 10 and told.seconds >= 0.2)
      assert.is_true(told.p50 > 0 and told.p50 <= told.p99 and told.p99 <= told.max)
    end
  end)

  it("sends lines", function()
    local server <close> = harness.run { script = echo }
    local told = load("line", "-c", "4", port_of(server))
    assert.equal(0, told.errors)
    assert.is_true(told.requests > 10)
  end)

  it("begins as many requests as the rate says", function()
    local server <close> = harness.run { script = hello }
    for _, mode in ipairs { "keep", "close" } do
      local told = load(mode, "-r", "200", port_of(server), "/hello")
      assert.same({ 40, 0 }, { told.requests, told.errors })
    end
  end)

  it("counts from when a request was due, not from when it was sent", function()
    local server <close> = harness.run { script = hello }
    -- One client, 50 ms an answer, a request each 25 ms: the last of 8 waits for 0.2 s.
    local told = load("keep", "-c", "1", "-r", "40", port_of(server), "/slow")
    assert.same({ 8, 0 }, { told.requests, told.errors })
    assert.is_true(told.max >= 200e3)
  end)

  it("calls what is no answer, or the wrong one, an error", function()
    local server <close> = harness.run { script = hello }
    local told = load("close", "-c", "1", port_of(server), "/wrong")
    assert.equal(0, told.requests)
    assert.is_true(told.errors > 0)
    told = load("keep", "-c", "1", "-r", "10", port_of(server), "/wrong")
    assert.same({ 0, 2 }, { told.requests, told.errors })
  end)

  it("begins when it is told to, with connections that are there", function()
    local server <close> = harness.run { script = hello, workers = 1 }
    local before = harness.descriptors(server:workers()[1])
    local pid, fd = assert(process.start({ bench .. "/load", "keep", "-w", "-c", "10",
      "-r", "100", "-d", "0.1", port_of(server), "/hello" }, {}))
    local file <close> = assert(fd:file())
    assert.equal("ready=10", file:read "l")
    harness.eventually(function()
      return harness.descriptors(server:workers()[1]) == before + 10
        and harness.state(pid) == "S"
    end, "10 connections, and one who sleeps")
    assert.is_true(process.kill(pid, "USR1"))
    local told = figures(file:read "a")
    assert.same({ 10, 0 }, { told.requests, told.errors })
    assert.same({ "exit", 0 }, { process.wait(pid) })
  end)

  it("holds connections, and says how many have stayed", function()
    local server <close> = harness.run { script = hello, workers = 1 }
    local before = harness.descriptors(server:workers()[1])
    local pid, fd = assert(process.start({ bench .. "/load", "hold", "-c", "100",
      port_of(server), "/hello" }, {}))
    local file <close> = assert(fd:file())
    assert.equal("held=100", file:read "l")
    assert.equal(before + 100, harness.descriptors(server:workers()[1]))
    process.kill(pid, "TERM")
    assert.equal("open=100", file:read "l")
    assert.same({ "exit", 0 }, { process.wait(pid) })
  end)

  it("notices those that have not", function()
    local server <close> = harness.run { script = hello }
    local pid, fd = assert(process.start({ bench .. "/load", "hold", "-c", "3",
      port_of(server), "/hello" }, {}))
    local file <close> = assert(fd:file())
    assert.equal("held=3", file:read "l")
    process.kill(server:workers()[1], "KILL")
    server:expect "died of signal 9"
    process.kill(pid, "TERM")
    assert.equal("open=0", file:read "l")
    process.wait(pid)
  end)

  it("tells when the first answer came", function()
    local function uptime() -- of the same clock, in hundredths
      local file <close> = assert(io.open "/proc/uptime")
      return file:read "n"
    end
    local server <close> = harness.run { script = hello }
    local before = uptime()
    local text = run("load", "first", port_of(server), "/hello")
    local at = figures(text).at
    assert.is_true(before <= at and at <= uptime() + 0.01)
  end)

  it("refuses what it does not understand", function()
    for _, arguments in ipairs { {}, { "nothing", "1" }, { "keep" },
      { "keep", "-c", "0.5", "1" }, { "keep", "-x", "1" } } do
      assert.matches("usage: load", refusal("load", table.unpack(arguments)))
    end
    for _, text in ipairs { "", "x", "1s", "0.2 ", "0", "-1", "nan", "inf", "1e9" } do
      assert.matches(("-%s wants a number above 0 and up to %s, not %q"):format("d",
        "86400", text), refusal("load", "keep", "-d", text, "1"), 1, true)
    end
    assert.matches("-c wants", refusal("load", "keep", "-c", "65537", "1"), 1, true)
    assert.matches("-r wants", refusal("load", "keep", "-r", "0", "1"), 1, true)
  end)
end)

describe("the floor", function()
  local function start(...)
    test.virtual(false)
    local port = machine.free_port()
    local argv = { bench .. "/floor", ... }
    argv[#argv + 1] = tostring(port)
    local pid, fd = assert(process.start(argv, {}))
    local file = assert(fd:file())
    local address = "127.0.0.1:" .. port
    harness.eventually(function()
      local probe = test.run(core.net.connect, address, 1)
      if probe then probe:close() end
      return probe
    end)
    return setmetatable({ address = address }, { __close = function()
      process.kill(pid, "TERM")
      process.wait(pid)
      file:read "a" -- until the other one of a pair has ended too
      file:close()
    end })
  end

  local function connect(floor)
    local conn = assert(test.run(core.net.connect, floor.address, PATIENCE))
    conn:settimeout(PATIENCE)
    return test.client(conn)
  end

  local request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

  local function read_answer(client)
    assert.equal("HTTP/1.1 200 OK", client:read "l")
    repeat until client:read "l" == ""
    assert.equal("Hello, world!", client:read "l")
  end

  it("answers each request of a batch", function()
    local floor <close> = start()
    local client <close> = connect(floor)
    for _, count in ipairs { 1, 16, 1 } do
      client:write(request:rep(count))
      for _ = 1, count do read_answer(client) end
    end
  end)

  it("closes after an answer, passing connections or not", function()
    for _, flags in ipairs { "-c", "-cp" } do
      local floor <close> = start(flags)
      for _ = 1, 3 do
        local client <close> = connect(floor)
        client:write(request)
        read_answer(client)
        assert.is_nil(client:read "l")
      end
    end
  end)

  it("sends lines back", function()
    local floor <close> = start "-l"
    local client <close> = connect(floor)
    client:write "one\ntwo\n"
    assert.same({ "one", "two" }, { client:read("l", "l") })
  end)
end)

describe("distance", function()
  it("is some nanoseconds", function()
    local text, how, code = run("distance", "0", "1")
    assert.same({ "exit", 0, text }, { how, code, text })
    local ns = tonumber(text:match "^ns=(%d+)\n$")
    assert.is_true(ns > 0 and ns < 1e6)
  end)

  it("is of two cores", function()
    for _, arguments in ipairs { {}, { "0" }, { "0", "1", "2" } } do
      assert.matches("usage: distance CORE CORE",
        refusal("distance", table.unpack(arguments)))
    end
    for _, text in ipairs { "", "x", "1x", "-1", "0-1", "1024" } do
      assert.matches(("a core is a number from 0 to 1023, not %q"):format(text),
        refusal("distance", "0", text), 1, true)
    end
    assert.matches("core 1 has no distance from itself", refusal("distance", "1", "1"))
    local text, how, code = run("distance", "0", "1023")
    assert.same({ "exit", 1 }, { how, code })
    assert.matches("core 1023: Invalid argument", text)
  end)
end)

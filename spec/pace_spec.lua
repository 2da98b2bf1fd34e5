-- Clients that send a byte a second, thousands of them, and clients that are faster than
-- their handler: nobody else notices.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"

local net, task = core.net, core.task

local CLIENTS = 5000
local SECONDS = 3 -- that each of them has
local SLACK = 0.5 -- seconds, because a machine that runs specs does other things too

-- Bytes of a worker that a slow client may hold, and by which it may grow meanwhile.
local HELD = harness.is_sanitized and 16384 or 8192
local GROWTH = harness.is_sanitized and 4096 or 128

require "tidy" (before_each, after_each)

-- A visit on a connection of its own: how many seconds it took.
local function visit(address)
  local began = task.now()
  local conn <close> = assert(net.connect(address))
  conn:settimeout(20)
  conn:write "GET / HTTP/1.1\r\nHost: spec\r\nConnection: close\r\n\r\n"
  assert(conn:read("a"):match "\r\n\r\nquick\n$", "no proper answer")
  return task.now() - began
end

-- The slowest of one visit after the other, while condition() is true.
local function slowest_visit(address, condition)
  local slowest = 0
  while condition() do
    slowest = math.max(slowest, visit(address))
    task.sleep(0.005)
  end
  return slowest
end

local function for_seconds(seconds)
  local till = task.now() + seconds
  return function() return task.now() < till end
end

local function sum(list)
  local n = 0
  for _, value in ipairs(list) do n = n + value end
  return n
end

describe("5,000 clients that send a byte a second", function()
  local script = [[
    local app = require("moonpool.http").app { head_time = 3, idle_time = 3,
      min_rate = 1000000 }
    app:get("/", function(_, res) res:send "quick\n" end)
    app:post("/", function(req, res)
      local body = req:body()
      if body then res:send(body) end
    end)
    return app
  ]]

  -- Sends head, then a byte of text each second: what it is answered, and after how long.
  local function dribble(address, head, text)
    local conn <close> = assert(net.connect(address))
    local began = task.now()
    conn:settimeout(1)
    conn:write(head)
    for byte in text:gmatch "." do
      conn:write(byte)
      local line, _, code = conn:read "L"
      if code ~= "ETIMEDOUT" then
        local seconds = task.now() - began
        conn:settimeout(20)
        return assert(line) .. conn:read "a", seconds
      end
    end
    error "nobody has lost patience"
  end

  local function memory_of(server)
    local bytes = 0
    for _, pid in ipairs(server:workers()) do bytes = bytes + harness.memory(pid) end
    return bytes
  end

  -- What the others notice: the slowest visit, bytes held by the clients once all of them
  -- are there, and bytes by which that has grown when the first must go.
  local function watch(server, before)
    local coming = slowest_visit(server.address, for_seconds(1.1))
    assert(sum(server:descriptors()) - before.descriptors == CLIENTS, "some are late")
    local held = memory_of(server)
    local there = slowest_visit(server.address, for_seconds(SECONDS - 1.2))
    local at_last = memory_of(server)
    local going = slowest_visit(server.address, for_seconds(1.2))
    return math.max(coming, there, going), held - before.memory, at_last - held
  end

  -- Each begins at a time of its own in the first second.
  local function crowd(head, text, answer)
    assert(process.raise_fd_limit(CLIENTS + 500))
    harness.unharmed({ workers = 2, script = script }, function(server)
      local before = { descriptors = sum(server:descriptors()),
        memory = memory_of(server) }
      local alone, slowest, held, growth
      harness.in_parallel(1, function()
        alone = slowest_visit(server.address, for_seconds(0.5))
      end)
      local earliest, latest = math.huge, 0
      harness.in_parallel(CLIENTS + 1, function(i)
        if i > CLIENTS then
          slowest, held, growth = watch(server, before)
          return
        end
        task.sleep(i / CLIENTS)
        local got, seconds = dribble(server.address, head, text)
        assert(got:find("HTTP/1.1 408 Request Timeout\r\n", 1, true) == 1, got)
        assert(got:match "\r\nConnection: close\r\n\r\n(.*)$" == answer, got)
        earliest, latest = math.min(earliest, seconds), math.max(latest, seconds)
      end)
      assert.is_true(earliest > SECONDS - 0.1, earliest)
      assert.is_true(latest < SECONDS + 1, latest)
      assert.is_true(slowest < 10 * alone + SLACK, slowest)
      assert.is_true(held < HELD * CLIENTS, held)
      assert.is_true(growth < GROWTH * CLIENTS, growth)
    end)
  end

  it("of a head are told that it is late, and disturb nobody", function()
    crowd("", "GET / HTTP/1.1\r\nHost: spec\r\n\r\n",
      "the request did not arrive in time\n")
  end)

  it("of a body are told that it is late, and disturb nobody", function()
    crowd("POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 100\r\n\r\n", ("x"):rep(100),
      "the body did not arrive in time\n")
  end)
end)

-- A millisecond of work for each piece is more than a client needs to send or take one.
describe("a client that is faster than its handler", function()
  local PIECES = 500

  local script = [[
    local function work()
      local till = os.clock() + 0.001
      repeat until os.clock() >= till
    end
    local app = require("moonpool.http").app { body_limit = 1 << 30 }
    app:get("/", function(_, res) res:send "quick\n" end)
    app:post("/", function(req, res)
      for _ in function() return req:read() end do work() end
      res:send "done\n"
    end)
    local piece = ("x"):rep(65536)
    local function send(pieces, res)
      for _ = 1, pieces do
        work()
        res:write(piece)
      end
    end
    app:get("/chunks/:n", function(req, res) send(req.params.n, res) end)
    app:get("/length/:n", function(req, res)
      res:length(#piece * req.params.n)
      send(req.params.n, res)
    end)
    return app
  ]]

  -- A visit that has to wait for its end takes nearly all of the time.
  local function check(talk)
    harness.unharmed({ workers = 1, script = script }, function(server)
      local began, slowest, done = task.now(), nil, false
      harness.in_parallel(2, function(i)
        if i == 1 then
          slowest = slowest_visit(server.address, function() return not done end)
          return
        end
        local _ <close> = setmetatable({}, { __close = function() done = true end })
        local conn <close> = assert(net.connect(server.address))
        conn:settimeout(20)
        talk(conn)
      end)
      assert.is_true(slowest < (task.now() - began) / 2, slowest)
    end)
  end

  local function get(path)
    return function(conn)
      conn:write("GET ", path, PIECES,
        " HTTP/1.1\r\nHost: spec\r\nConnection: close\r\n\r\n")
      local n = 0
      for piece in function() return conn:readsome() end do n = n + #piece end
      assert(n > PIECES * 65536)
    end
  end

  it("leaves the others their turn when it sends", function()
    check(function(conn)
      conn:write("POST / HTTP/1.0\r\nContent-Length: ", PIECES * 65536, "\r\n\r\n")
      local piece = ("x"):rep(65536)
      for _ = 1, PIECES do conn:write(piece) end
      assert(conn:read("a"):match "\r\n\r\ndone\n$")
    end)
  end)

  it("leaves the others their turn when it takes", function()
    check(get "/length/")
    check(get "/chunks/")
  end)
end)

-- Clients that send a byte a second, thousands of them, and clients that are faster than
-- their handler: nobody else notices.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"

local net, task = core.net, core.task

local CLIENTS = 5000
local STEP = 500 -- who come at once
local SECONDS = 4 -- that each of them has
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

-- By how much this process itself wakes too late at most, while condition() is true: it
-- has clients to serve, and other processes beside it.
local function lateness(condition)
  local latest = 0
  while condition() do
    local due = task.now() + 0.005
    task.sleep(0.005)
    latest = math.max(latest, task.now() - due)
  end
  return latest
end

local function for_seconds(seconds)
  local till = task.now() + seconds
  return function() return task.now() < till end
end

describe("5,000 clients that send a byte a second", function()
  local script = [[
    local app = require("moonpool.http").app { head_time = 4, idle_time = 4,
      min_rate = 1000000 }
    app:get("/", function(_, res) res:send "quick\n" end)
    app:post("/", function(req, res)
      local body = req:body()
      if body then res:send(body) end
    end)
    return app
  ]]

  -- Sends head, then a byte of text each second: what it is answered, and after how long.
  local function dribble(address, crowd, head, text)
    local conn <close> = assert(net.connect(address))
    local began = task.now()
    conn:settimeout(1)
    conn:write(head)
    for byte in text:gmatch "." do
      conn:write(byte)
      crowd.bytes = crowd.bytes + 1
      local line, _, code = conn:read "L"
      if code ~= "ETIMEDOUT" then
        local seconds = task.now() - began
        conn:settimeout(20)
        return assert(line) .. conn:read "a", seconds
      end
    end
    error "nobody has lost patience"
  end

  -- What there is of something in all workers.
  local function sum(server, of)
    local n = 0
    for _, pid in ipairs(server:workers()) do n = n + of(pid) end
    return n
  end

  local function memory_of(server) return sum(server, harness.memory) end
  local function descriptors_of(server) return sum(server, harness.descriptors) end

  -- The server's memory when each of them has sent so many bytes, on the average.
  local function sent(server, crowd, n)
    harness.wait_for(function() return crowd.bytes >= n * CLIENTS end, "what they send")
    return memory_of(server)
  end

  -- Lets them in, some at a time: were all due at once, on a machine that is busy with
  -- other things, no backlog would hold them.
  local function usher(server, crowd)
    local before = descriptors_of(server)
    for n = 1, CLIENTS do
      crowd[n]:unpark()
      if n % STEP == 0 then
        harness.wait_for(function()
          return descriptors_of(server) - before >= n
        end, "clients that are there")
      end
    end
    crowd.held = sent(server, crowd, 1.5) - crowd.memory
    crowd.growth = sent(server, crowd, 2.5) - crowd.memory - crowd.held
  end

  -- One of them comes when it is let in, and is told that it is late.
  local function client(server, crowd, i, head, text)
    crowd[i] = task.current()
    task.park()
    local got, seconds = dribble(server.address, crowd, head, text)
    crowd.gone = crowd.gone + 1
    crowd.earliest = math.min(crowd.earliest, seconds)
    crowd.latest = math.max(crowd.latest, seconds)
    return got
  end

  -- All of them come and go, beside one who visits: what there is to tell of that.
  local function crowd_of(server, head, text, answer)
    local crowd = { memory = memory_of(server), bytes = 0, gone = 0,
      earliest = math.huge, latest = 0 }
    harness.in_parallel(1, function()
      crowd.alone = slowest_visit(server.address, for_seconds(0.5))
    end)
    local function is_on() return crowd.gone < CLIENTS end
    harness.in_parallel(CLIENTS + 3, function(i)
      if i <= CLIENTS then
        local got = client(server, crowd, i, head, text)
        assert(got:find("HTTP/1.1 408 Request Timeout\r\n", 1, true) == 1, got)
        assert(got:match "\r\nConnection: close\r\n\r\n(.*)$" == answer, got)
      elseif i == CLIENTS + 1 then
        usher(server, crowd)
      elseif i == CLIENTS + 2 then
        crowd.late = lateness(is_on)
      else
        crowd.slowest = slowest_visit(server.address, is_on)
      end
    end)
    return crowd
  end

  local function disturb_nobody(...)
    assert(process.raise_fd_limit(CLIENTS + 500))
    local request = table.pack(...)
    harness.unharmed({ workers = 2, script = script }, function(server)
      local crowd = crowd_of(server, table.unpack(request))
      assert.is_true(crowd.earliest > SECONDS - 0.1, crowd.earliest)
      assert.is_true(crowd.latest < SECONDS + 1 + crowd.late, crowd.latest)
      assert.is_true(crowd.slowest < 10 * crowd.alone + SLACK + crowd.late, crowd.slowest)
      assert.is_true(crowd.held < HELD * CLIENTS, crowd.held)
      assert.is_true(crowd.growth < GROWTH * CLIENTS, crowd.growth)
    end)
  end

  it("of a head are told that it is late, and disturb nobody", function()
    disturb_nobody("", "GET / HTTP/1.1\r\nHost: spec\r\n\r\n",
      "the request did not arrive in time\n")
  end)

  it("of a body are told that it is late, and disturb nobody", function()
    disturb_nobody("POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 100\r\n\r\n",
      ("x"):rep(100), "the body did not arrive in time\n")
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

-- Reloads under load: many connections, again and again, with workers that are killed.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"
local scripts = require "scripts"
local test = require "moonpool.test"

local HELLO = [[
  local moonpool = require "moonpool"
  local app = require("moonpool.http").app()
  app:get("/:id", function(req, res) res:send(req.params.id .. "\n") end)
  return app
]]

local COUNTER = scripts.numbers()

-- One request and its answer; raises for anything but the right one.
local function visit(conn, id)
  assert(conn:write("GET /", id, " HTTP/1.1\r\nHost: x\r\n\r\n"))
  assert.equal("HTTP/1.1 200 OK", (assert(conn:read "l")))
  repeat local line = assert(conn:read "l") until line == ""
  assert.equal(tostring(id), (assert(conn:read "l")))
end

local function count_line(conn, n)
  assert(conn:write("x", n, "\n"))
  assert.equal(n .. " x" .. n, (assert(conn:read "l")))
end

-- Each of n clients does turn(conn, i) again and again, while act() does what it does.
local function under_load(server, n, turn, act)
  local stop, turns = false, 0
  harness.in_parallel(n + 1, function(i)
    if i > n then
      act()
      stop = true
      return
    end
    local conn <close> = assert(core.net.connect(server.address, 20))
    conn:settimeout(20)
    local k = 0
    repeat
      k = k + 1
      turn(conn, k)
      turns = turns + 1
      core.task.sleep(0.02 * math.random())
    until stop
  end)
  return turns
end

-- n reloads, each begun when the one before has ended.
local function reload(server, n)
  local done = select(2, server.text:gsub("reloaded:", ""))
  for i = 1, n do
    server:kill "HUP"
    harness.wait_for(function()
      return select(2, server.text:gsub("reloaded:", "")) == done + i
    end, "the end of a reload")
  end
end

describe("under load", function()
  it("20 reloads cost 1,000 HTTP clients nothing", function()
    assert(process.raise_fd_limit(3000))
    local server <close> = harness.run { script = HELLO, workers = 2 }
    local count = harness.descriptors(server.pid)
    local turns = under_load(server, 1000, visit, function() reload(server, 20) end)
    assert.is_true(turns > 5000, turns .. " requests")
    assert.is_nil(server.text:find "error:")
    test.settle()
    harness.eventually(function() return harness.descriptors(server.pid) == count end)
  end)

  it("20 reloads cost 500 raw clients nothing", function()
    local server <close> = harness.run { script = COUNTER, workers = 2 }
    local count = harness.descriptors(server.pid)
    local turns = under_load(server, 500, count_line, function() reload(server, 20) end)
    assert.is_true(turns > 5000, turns .. " lines")
    assert.is_nil(server.text:find "error:")
    test.settle()
    harness.eventually(function() return harness.descriptors(server.pid) == count end)
  end)

  it("connections that come while reloads do are served", function()
    local server <close> = harness.run { script = HELLO, workers = 2 }
    local count = harness.descriptors(server.pid)
    local turns = under_load(server, 50, function(_, i)
      local conn <close> = assert(core.net.connect(server.address, 20))
      conn:settimeout(20)
      visit(conn, i)
    end, function() reload(server, 20) end)
    assert.is_true(turns > 200, turns .. " connections")
    test.settle()
    harness.eventually(function() return harness.descriptors(server.pid) == count end)
  end)

  it("signals that come faster than reloads are as one", function()
    local server <close> = harness.run { script = HELLO, workers = 2 }
    under_load(server, 50, visit, function()
      for _ = 1, 50 do
        server:kill "HUP"
        core.task.sleep(0.002)
      end
      core.task.sleep(0.5)
    end)
    assert.is_nil(server.text:find "error:")
  end)
end)

describe("a worker that is killed in the middle of a reload", function()
  -- All connections idle, then a reload, and soon the old worker is killed: each
  -- connection has either gone to the new worker, or ended with the old.
  it("neither takes along what it has given back nor has anybody served twice", function()
    local server <close> = harness.run { script = COUNTER, workers = 1,
      args = { "--drain", "5" } }
    local saved, lost = 0, 0
    for round = 1, 15 do
      local clients = server:connect_many(300)
      for _, client in ipairs(clients) do
        client:write "a\n"
        assert.equal("1 a", client:read "l")
      end
      local worker = server:workers()[1]
      server:kill "HUP"
      if round % 3 == 0 then
        harness.eventually(function()
          return select(2, server.text:gsub("ready: 1", "")) == round + 1
        end)
      else
        core.loop.wait(0.001 * (round % 15))
      end
      process.kill(worker, "KILL")
      harness.eventually(function()
        return select(2, server.text:gsub("reloaded:", "")) == round
      end)
      for _, client in ipairs(clients) do
        local ok = client:write "b\n"
        local line = ok and client:read "l"
        if line then
          assert.equal("2 b", line)
          saved = saved + 1
        else
          lost = lost + 1
        end
      end
      harness.close_all(clients)
    end
    assert.equal(15 * 300, saved + lost)
    assert.is_true(saved > 0)
  end)

  it("leaves what was stopped in its channel to the new workers", function()
    local server <close> = harness.run { script = COUNTER, workers = 1 }
    local worker = server:workers()[1]
    process.kill(worker, "STOP")
    harness.eventually(function() return harness.state(worker) == "T" end)
    local clients = server:connect_many(300)
    harness.eventually(function() return harness.queued(server.address) == 0 end)
    server:kill "HUP"
    server:expect "ready: 1 workers.*ready: 1 workers"
    for _, client in ipairs(clients) do -- although the old worker has not moved
      client:write "a\n"
      assert.equal("1 a", client:read "l")
    end
    process.kill(worker, "KILL")
    server:expect "reloaded: 0 connections moved"
    for _, client in ipairs(clients) do
      client:write "b\n"
      assert.equal("2 b", client:read "l")
    end
    harness.close_all(clients)
  end)
end)

describe("many moves", function()
  it("leave neither a descriptor nor memory", function()
    assert(process.raise_fd_limit(3000))
    local server <close> = harness.run { script = COUNTER, workers = 2 }
    local clients = server:connect_many(1000)
    for _, client in ipairs(clients) do client.conn:write "a\n" end
    for _, client in ipairs(clients) do assert.equal("1 a", client:read "l") end
    local counts = server:descriptors()
    local function many(n) test.run(reload, server, n) end
    many(10)
    local memory = harness.memory(server.pid)
    many(harness.is_sanitized and 5 or 40)
    assert.matches("reloaded: 1000 connections moved\n$", server.text)
    server:back_to { counts[1] }
    if not harness.is_sanitized then
      assert.is_true(harness.memory(server.pid) - memory < 1 << 20)
    end
    for _, client in ipairs(clients) do client.conn:write "b\n" end
    for _, client in ipairs(clients) do assert.equal("2 b", client:read "l") end
    harness.close_all(clients)
  end)
end)

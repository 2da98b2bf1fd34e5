-- Many connections: at once, one after the other, and on their way when a worker dies.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"
local test = require "moonpool.test"

local WAITING = 4000 -- connections
local WAITING_BYTES = 1536 -- of each, that its worker has allocated

local echo = [[
  return function(conn) for line in conn:lines() do conn:write(line, "\n") end end
]]

local function talk(clients)
  for i, client in ipairs(clients) do client:write(i, "\n") end
  for i, client in ipairs(clients) do assert.equal(tostring(i), client:read "l") end
end

describe("a crowd", function()
  it("of 10,000 clients at once is answered by 2 workers", function()
    assert(process.raise_fd_limit(10500))
    local server <close> = harness.run { workers = 2, script = echo }
    local counts = server:descriptors()
    local conns = {}
    harness.in_parallel(10000, function(i)
      conns[i] = assert(core.net.connect(server.address))
    end)
    harness.eventually(function()
      local now = server:descriptors()
      return now[2] - counts[2] + now[3] - counts[3] == 10000
    end, "10,000 connections in the workers")
    local now = server:descriptors()
    assert.equal(5000, now[2] - counts[2])
    assert.equal(counts[1], now[1])
    harness.in_parallel(10000, function(i)
      conns[i]:settimeout(20)
      conns[i]:write(i, "\n")
      assert(conns[i]:read "l" == tostring(i), "a wrong answer")
    end)
    for _, conn in ipairs(conns) do conn:close() end
    test.settle()
    server:back_to(counts)
  end)

  it("of 20,000 connections in a row leaves no descriptor", function()
    local server <close> = harness.run { workers = 2, script = echo }
    local counts = server:descriptors()
    harness.in_parallel(20, function(i)
      for n = 1, 1000 do
        local conn <close> = assert(core.net.connect(server.address))
        conn:settimeout(20)
        conn:write(i, " ", n, "\n")
        assert(conn:read "l" == i .. " " .. n, "a wrong answer")
      end
    end)
    test.settle()
    server:back_to(counts)
  end)

  it("that waits in a read takes 1.5 KB each", function()
    assert(process.raise_fd_limit(WAITING + 200))
    local server <close> = harness.run { workers = 1, script = echo }
    local worker = server:workers()[1]
    local first = server:connect_many(64)
    for _ = 1, 100 do talk(first) end -- by then the collector has its pace
    local before = harness.memory(worker)
    local clients = {}
    for _ = 1, WAITING / 50 do
      local some = server:connect_many(50)
      talk(some)
      table.move(some, 1, 50, #clients + 1, clients)
    end
    local bytes = (harness.memory(worker) - before) / WAITING
    talk(clients) -- they are all there
    harness.close_all(first)
    harness.close_all(clients)
    if not harness.is_sanitized then
      assert.is_true(bytes <= WAITING_BYTES, ("%.0f bytes for each"):format(bytes))
    end
  end)

  it("of 500 queued for a worker that is killed is served by its successor", function()
    local server <close> = harness.run { workers = 1, script = echo }
    local worker = server:workers()[1]
    local counts = server:descriptors()
    process.kill(worker, "STOP")
    harness.eventually(function() return harness.state(worker) == "T" end)
    local clients = server:connect_many(500)
    for i, client in ipairs(clients) do client.conn:write(i, "\n") end
    test.settle()
    harness.eventually(function() -- all are in the channel: none is the supervisor's
      return harness.queued(server.address) == 0
        and harness.descriptors(server.pid) == counts[1]
    end, "all connections passed on")
    assert.equal(counts[2], harness.descriptors(worker))
    process.kill(worker, "KILL")
    for i, client in ipairs(clients) do
      assert.same({ tostring(i) }, { client:read "l" })
    end
    assert.not_equal(worker, server:workers()[1])
    harness.close_all(clients)
    server:back_to(counts)
  end)

  it("keeps its slots right over deaths", function()
    local server <close> = harness.run { workers = 2, script = echo,
      args = { "--concurrency", "3" } }
    for _ = 1, 3 do
      local clients = server:connect_many(6)
      for i, client in ipairs(clients) do
        client:write(i, "\n")
        assert.equal(tostring(i), client:read "l")
      end
      for _, pid in ipairs(server:workers()) do process.kill(pid, "KILL") end
      for _, client in ipairs(clients) do assert.is_nil(client:read "l") end
      harness.close_all(clients)
    end
    local clients = server:connect_many(6)
    for i, client in ipairs(clients) do
      client:write(i, "\n")
      assert.equal(tostring(i), client:read "l")
    end
    harness.close_all(clients)
  end)
end)

describe("a pool of processes, one connection each", function()
  local script = [[
    local moonpool = require "moonpool"
    local inside = 0
    return function(conn)
      inside = inside + 1
      conn:write(moonpool.worker.id, " ", inside, "\n")
      conn:read "l"
      inside = inside - 1
    end
  ]]

  it("never has two in a worker, nor a free worker while somebody waits", function()
    local server <close> = harness.run { workers = 4, script = script,
      args = { "--concurrency", "1" } }
    local clients, places, used = server:connect_many(40), {}, {}
    for i, client in ipairs(clients) do -- served in the order of arrival
      if i > 4 then clients[i - 4]:write "go\n" end
      local place, inside = client:read("l"):match "^(%d) (%d+)$"
      assert.equal("1", inside)
      if i <= 4 then
        assert.is_nil(used[place])
        used[place] = true
      else
        assert.equal(places[i - 4], place)
      end
      places[i] = place
    end
    harness.close_all(clients)
  end)

  it("goes on when the worker that was to tell of its slot is killed", function()
    local server <close> = harness.run { workers = 1, script = [[
      return function(conn) conn:write "in\n" conn:read "l" end
    ]], args = { "--concurrency", "1" } }
    local first, second = server:connect(), server:connect()
    assert.equal("in", first:read "l")
    process.kill(server:workers()[1], "KILL")
    assert.equal("in", second:read "l")
    harness.close_all { first, second }
  end)
end)

describe("a policy", function()
  local script = [[
    local moonpool = require "moonpool"
    return function(conn)
      conn:write(moonpool.worker.id, "\n")
      conn:read "l"
    end
  ]]

  local function order_of(policy, n)
    local server <close> = harness.run { workers = 3, script = script,
      args = { "--policy", policy, "--concurrency", "2" } }
    local clients, order = {}, {}
    for i = 1, n do
      clients[i] = server:connect()
      order[i] = clients[i]:read "l"
    end
    harness.close_all(clients)
    return table.concat(order)
  end

  it("fills workers evenly, or in turn, or the first first", function()
    assert.equal("123123", order_of("least-loaded", 6))
    assert.equal("123123", order_of("round-robin", 6))
    assert.equal("112233", order_of("first-free", 6))
  end)
end)

describe("want of descriptors", function()
  it("makes the supervisor rest, and nobody is lost", function()
    local server <close> = harness.run { workers = 8, script = echo, fd_limit = 64 }
    server:expect "concurrency is 32, not 10000"
    process.kill(server.pid, "STOP")
    harness.eventually(function() return harness.state(server.pid) == "T" end)
    local clients = server:connect_many(150) -- more at once than it can hold
    process.kill(server.pid, "CONT")
    server:expect "accept: Too many open files; trying again in 1 s"
    for i, client in ipairs(clients) do
      client:write(i, "\n")
      assert.equal(tostring(i), client:read "l")
    end
    harness.close_all(clients)
  end)
end)

describe("messages", function()
  it("reach all workers in the order of their publisher", function()
    local server <close> = harness.run { workers = 3, script = [[
      local moonpool = require "moonpool"
      return function(conn)
        local kind = conn:read "l"
        if kind == "publish" then
          for i = 1, 1000 do
            while not moonpool.publish("t", ("%d"):format(i)) do moonpool.sleep(0.001) end
          end
          conn:write "published\n"
          return
        end
        moonpool.subscribe("t", function(message)
          conn:write(message, "\n")
        end)
        conn:write "subscribed\n"
        conn:read "l"
      end
    ]] }
    local clients = server:connect_many(6) -- two in each worker
    for _, client in ipairs(clients) do
      client:write "subscribe\n"
      assert.equal("subscribed", client:read "l")
    end
    local publisher <close> = server:connect()
    publisher:write "publish\n"
    assert.equal("published", publisher:read "l")
    for _, client in ipairs(clients) do
      for i = 1, 1000 do assert.equal(tostring(i), client:read "l") end
    end
    harness.close_all(clients)
  end)

  it("that a stopped worker does not take stall no connection", function()
    local server <close> = harness.run { workers = 2, script = [[
      local moonpool = require "moonpool"
      moonpool.subscribe("flood", function() end)
      return function(conn)
        for line in conn:lines() do
          if line == "flood" then
            local message = ("x"):rep(60000)
            local sent = 0
            for _ = 1, 300 do
              while not moonpool.publish("flood", message) do moonpool.sleep(0.001) end
              sent = sent + 1
            end
            conn:write(sent, "\n")
          else
            conn:write(moonpool.worker.pid, "\n")
          end
        end
      end
    ]] }
    local one <close> = server:connect()
    one:write "who\n"
    local mine = tonumber(one:read "l")
    local workers = server:workers()
    local other = workers[1] == mine and workers[2] or workers[1]
    process.kill(other, "STOP")
    harness.eventually(function() return harness.state(other) == "T" end)
    one:write "flood\n"
    assert.equal("300", one:read "l")
    server:expect "does not keep up"
    local clients = server:connect_many(20) -- half of them for the stopped one
    for _, client in ipairs(clients) do client.conn:write "who\n" end
    test.settle()
    process.kill(other, "CONT")
    for _, client in ipairs(clients) do assert.matches("^%d+$", client:read "l") end
    harness.close_all(clients)
  end)

  it("survive the death of a subscriber's worker for its successor", function()
    local server <close> = harness.run { workers = 1, script = [[
      local moonpool = require "moonpool"
      return function(conn)
        moonpool.subscribe("t", function(message) conn:write(message, "\n") end)
        conn:write "on\n"
        for line in conn:lines() do moonpool.publish("t", line) end
      end
    ]] }
    local first <close> = server:connect()
    assert.equal("on", first:read "l")
    process.kill(server:workers()[1], "KILL")
    local second <close> = server:connect()
    assert.equal("on", second:read "l")
    second:write "hello\n"
    assert.equal("hello", second:read "l")
  end)

  it("tell who has gone, after its last words", function()
    local server <close> = harness.run { workers = 2, control = true, script = [[
      local bus = require "moonpool.bus"
      local moonpool = require "moonpool"
      local me = moonpool.worker.id .. "." .. moonpool.worker.generation
      local heard = 0
      bus.tap("t", function() heard = heard + 1 end, 0)
      bus.tap("moonpool.gone", function(who)
        moonpool.log(("%s: %s has gone after %d"):format(me, who, heard))
      end, 0)
      return function(conn)
        conn:write(me, "\n")
        conn:read "l"
        for _ = 1, 1000 do
          while not moonpool.publish("t", "x") do moonpool.sleep(0.001) end
        end
        os.execute "kill -9 $PPID"
      end
    ]] }
    local speaker <close> = server:connect()
    local id = tonumber(speaker:read("l"):match "^([12])%.1$")
    speaker:write "go\n"
    server:expect(("%d%%.1: %d%%.1 has gone after 1000\n"):format(3 - id, id))
    server:expect(("%d%%.2: %d%%.1 has gone after 1000\n"):format(id, id))
    assert.equal(0, (select(2, server:reload())))
    server:expect(("%d%%.3: %d%%.2 has gone after 1000\n"):format(id, id))
  end)
end)

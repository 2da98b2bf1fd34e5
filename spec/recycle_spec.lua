-- Workers that are tired: another takes over, before they go.

local harness = require "server"
local request = require "ask"
local process = require "native.process"

local SCRIPT = [[
  local moonpool = require "moonpool"
  local app = require("moonpool.http").app()
  local who = moonpool.worker.id .. " " .. moonpool.worker.pid
  app:get("/", function(_, res) res:send(who) end)
  return app
]]

-- Asks, and returns who has answered: the worker's number and its pid.
local function ask(client)
  local id, pid = request(client, "GET", "/").body:match "^(%d+) (%d+)$"
  return tonumber(id), tonumber(pid)
end

local function run(n, options)
  options = options or {}
  options.script = options.script or SCRIPT
  options.args = { "--max-requests", tostring(n) }
  return harness.run(options)
end

local function gone(pid)
  local state = harness.state(pid)
  return not state or state == "Z"
end

describe("a worker that has served its requests", function()
  it("is relieved, without a client that notices", function()
    local server <close> = run(50, { workers = 2 })
    local count = harness.descriptors(server.pid)
    local clients, pids, n = server:connect_many(10), {}, 0
    harness.eventually(function()
      for _, client in ipairs(clients) do
        local id, pid = ask(client)
        assert.is_true(id == 1 or id == 2)
        n = pids[pid] and n or n + 1
        pids[pid] = true
      end
      return n > 5
    end, "the sixth worker")
    assert.is_nil(server.text:find "error:")
    assert.is_nil(server.text:find "warn:")
    harness.close_all(clients)
    harness.eventually(function()
      return #server:workers() == 2 and harness.descriptors(server.pid) == count
    end)
  end)

  it("does so at 100 to 110 percent, counting connections too", function()
    local server <close> = run(100, { script = [[
      local moonpool = require "moonpool"
      return function(conn) conn:write(moonpool.worker.pid, "\n") end
    ]] })
    local first = tostring(server:workers()[1])
    for i = 1, 100 do
      local client <close> = server:connect()
      assert.equal(first, client:read "l", i)
    end
    assert.is_nil(server.text:find "relieved")
    for _ = 1, 10 do server:connect():read "l" end
    server:expect "spec/1 is relieved by pid %d+"
    harness.eventually(function()
      local client <close> = server:connect()
      return client:read "l" ~= first
    end)
  end)

  it("goes on, if nobody can relieve it", function()
    local server <close> = run(10)
    local client <close> = server:connect()
    local _, first = ask(client)
    server:change "error 'broken meanwhile'"
    for _ = 1, 30 do assert.equal(first, (select(2, ask(client)))) end
    server:expect "cannot load its script: .*broken meanwhile"
    server:expect "spec/1 goes on without relief, for 0.1 s"
    assert.equal(first, (select(2, ask(client))))
    server:change(SCRIPT)
    harness.eventually(function() return select(2, ask(client)) ~= first end)
    harness.eventually(function() return gone(first) end)
  end)

  it("is relieved by whoever comes, if that one dies too", function()
    local server <close> = run(20, { workers = 2 })
    local clients = server:connect_many(4)
    for _ = 1, 30 do
      for _, client in ipairs(clients) do ask(client) end
    end
    server:expect "relieved"
    harness.close_all(clients)
    harness.eventually(function() return server:children() == 2 end)
    local killed = server:workers()
    for _, pid in pairs(killed) do process.kill(pid, "KILL") end
    harness.eventually(function()
      local now = server:workers()
      return now[1] and now[2] and now[1] ~= killed[1] and now[2] ~= killed[2]
    end)
    local client <close> = server:connect()
    assert.is_truthy(ask(client))
  end)

  it("takes part in a reload, and in a stop", function()
    local server = run(10, { workers = 2 })
    local clients = server:connect_many(6)
    for round = 1, 20 do
      server:kill "HUP"
      for _, client in ipairs(clients) do assert.is_truthy(ask(client)) end
      harness.eventually(function()
        for _, client in ipairs(clients) do assert.is_truthy(ask(client)) end
        return select(2, server.text:gsub("reloaded:", "")) == round
      end)
    end
    for _, client in ipairs(clients) do ask(client) end
    harness.close_all(clients)
    server:kill "TERM"
    assert.same({ "exit", 0 }, { server:wait() })
    server:stop()
    assert.is_nil(server.text:find "error:")
  end)
end)

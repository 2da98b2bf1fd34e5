-- SIGUSR1: what has a log file opens it anew, and nobody dies of it.

local harness = require "server"
local process = require "native.process"

local script = [[
  local moonpool = require "moonpool"
  local n = 0
  moonpool.subscribe("moonpool.reopen", function()
    n = n + 1
    moonpool.log("told " .. n .. " times")
  end)
  return function(conn)
    for line in conn:lines() do conn:write(line, " ", n, "\n") end
  end
]]

local function count(server, pattern)
  return select(2, server.text:gsub(pattern, ""))
end

describe("SIGUSR1", function()
  it("is told to every worker", function()
    local server <close> = harness.run { workers = 3, script = script }
    for i = 1, 3 do
      server:kill "USR1"
      harness.eventually(function()
        return count(server, ("told %d times\n"):format(i)) == 3
      end)
    end
    assert.equal(3, count(server, "info: SIGUSR1: log files are opened anew"))
  end)

  it("is told to every pool", function()
    local directory = harness.directory()
    harness.write_file(directory .. "/app.lua", script)
    harness.write_file(directory .. "/pools.lua", [[
      local pool = { app = "app.lua", listen = "127.0.0.1:0", workers = 1 }
      return { pools = { one = pool, two = pool } }
    ]])
    local server <close> = harness.start { "serve", "--config",
      directory .. "/pools.lua" }
    server:expect "ready: 2 workers"
    server:kill "USR1"
    server:expect "one/1%[%d+%] info: told 1 times"
    server:expect "two/1%[%d+%] info: told 1 times"
    harness.remove(directory)
  end)

  it("does nothing to a worker whose script does not listen", function()
    local server <close> = harness.run { app = "examples/echo/app.lua" }
    local client <close> = server:connect()
    server:kill "USR1"
    server:expect "SIGUSR1"
    client:write "on\n"
    assert.equal("on", client:read "l")
  end)

  it("ends no worker that gets it itself, not even one that is starting", function()
    local server <close> = harness.run { script = script }
    local client <close> = server:connect()
    process.kill(server:workers()[1], "USR1")
    client:write "on\n"
    assert.equal("on 0", client:read "l")
    process.kill(server:workers()[1], "KILL")
    harness.eventually(function()
      for _, pid in pairs(server:workers()) do process.kill(pid, "USR1") end
      return server.text:find "ready again"
    end)
    assert.equal(1, count(server, "died of signal"))
  end)

  it("reaches the others while one is dead, or being stopped", function()
    local server <close> = harness.run { workers = 2, script = script }
    local client <close> = server:connect()
    client:write "on\n"
    assert.equal("on 0", client:read "l")
    local pids = server:workers()
    process.kill(pids[2], "STOP")
    server:kill "USR1"
    server:expect "told 1 times"
    process.kill(pids[2], "KILL")
    server:expect "spec/2 is ready again"
    server:kill "TERM"
    server:expect "SIGTERM: stopping"
    server:kill "USR1"
    server:expect "told 2 times"
  end)
end)

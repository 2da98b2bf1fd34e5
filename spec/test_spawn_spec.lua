local process = require "native.process"
local proc = require "moonpool.test_proc"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local LEAKY = [[
  local kept = {}
  local app = require("moonpool.http").app()
  app:get("/", function(_, res) res:send "fine" end)
  app:get("/leak", function(_, res)
    kept[#kept + 1] = io.open "/dev/null"
    res:send "leaked"
  end)
  return app
]]

describe("test.spawn", function()
  it("starts a server, which is ready, and a client of it", function()
    local server <close> = test.spawn { app = "examples/hello/app.lua", workers = 2 }
    assert.equal(2, #server:workers())
    assert.response(server:get "/hello/ada").has.status(200).has.body "Hello, ada!\n"
    local client <close> = server:connect()
    client:write "GET / HTTP/1.0\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK", client:read "l")
  end)

  it("has its script inline, too, and restarts a worker", function()
    local server <close> = test.spawn { script = [[
      return function(conn) conn:write(require("moonpool").worker.pid, "\n") end
    ]] }
    local pid = tonumber(server:connect():read())
    assert.equal(server:workers()[1], pid)
    server:kill_worker(1)
    assert.not_equal(pid, tonumber(server:connect():read()))
    assert.is_false(pcall(server.kill_worker, server, 2))
  end)

  it("stops it when it is closed", function()
    local server = test.spawn { script = LEAKY }
    local worker = server:workers()[1]
    assert.equal("fine", server:get("/").body)
    server:stop()
    server:stop()
    assert.is_nil(proc.state(server.pid))
    assert.is_nil(proc.state(worker))
    assert.same({ "exit", 0 }, { server.how, server.code })
  end)

  local forgotten

  it("stops it at the end of the test", function()
    forgotten = test.spawn { script = LEAKY }
  end)

  it("stops it at the end of the test, really", function()
    assert.is_nil(proc.state(forgotten.pid))
  end)

  it("says why it does not start", function()
    local ok, why = pcall(test.spawn, { script = "error 'no such luck'" })
    assert.is_false(ok)
    assert.matches("the server did not start: .*no such luck", why)
    local again
    ok, again = pcall(test.spawn, { app = "/no/such.lua" })
    assert.is_false(ok)
    assert.matches("/no/such.lua", again)
  end)

  it("fails where a worker has something open that it had not", function()
    local spawn = require "moonpool.test_spawn"
    local server = test.spawn { script = LEAKY }
    assert.equal("leaked", server:get("/leak").body)
    finally(function() spawn.set_patience() end)
    spawn.set_patience(2)
    local ok, why = pcall(server.stop, server)
    spawn.set_patience()
    assert.is_false(ok)
    assert.matches("^.*worker %d+ has left open:\n%d+: /dev/null$", why)
    assert.is_nil(proc.state(server.pid))
    server = test.spawn { script = LEAKY, leaks = true }
    assert.equal("leaked", server:get("/leak").body)
    server:stop()
  end)

  it("tells why a test has failed, whatever that has left open", function()
    local spawn = require "moonpool.test_spawn"
    local left
    finally(function() spawn.set_patience() end)
    spawn.set_patience(2)
    local ok, why = pcall(function()
      local server <close> = test.spawn { script = LEAKY }
      assert.equal("leaked", server:get("/leak").body)
      left = server:connect()
      error("the reason", 0)
    end)
    left:close()
    assert.same({ false, "the reason" }, { ok, why })
  end)

  it("reloads a server that has a control socket", function()
    local server <close> = test.spawn { script = LEAKY, control = true }
    assert.equal("fine", server:get("/").body)
    server:change "return function(conn) conn:write 'new' end"
    local _, code = server:reload()
    assert.equal(0, code)
    assert.equal("new", server:connect():read "a")
  end)

  it("waits for what it is told in the output", function()
    local server <close> = test.spawn { script = [[
      require("moonpool").log.info "loaded 7 things"
      return function() end
    ]] }
    assert.equal("7", server:expect "loaded (%d+) things")
  end)

  it("runs for real time", function()
    assert.is_true(test.virtual())
    local server <close> = test.spawn { script = LEAKY }
    assert.is_false(test.virtual())
    assert.is_string(server.address)
    assert.is_not_nil(process.pid())
  end)
end)

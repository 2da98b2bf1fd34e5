-- Where a server listens, from outside, and pools from a config file.

local endpoint = require "native.endpoint"
local harness = require "server"
local lfs = require "lfs"
local process = require "native.process"

local echo = [[
  return function(conn) for line in conn:lines() do conn:write(line, "\n") end end
]]

local function answers(server, address)
  local client <close> = server:connect(address)
  client:write "hello\n"
  return client:read "l" == "hello"
end

describe("a server listens", function()
  it("on a port that is free, and says which", function()
    local server <close> = harness.run { script = echo }
    local port = tonumber(server.address:match "^127%.0%.0%.1:(%d+)$")
    assert.is_true(port > 0)
    assert.is_true(answers(server))
  end)

  it("on several addresses at once", function()
    local directory = harness.directory()
    local path = directory .. "/socket"
    local server = harness.run { script = echo, args = { "--listen", "[::1]:0",
      "--listen", "unix:" .. path, "--listen", "unix:@moonpool-" .. directory } }
    assert.is_true(answers(server))
    assert.is_true(answers(server, server.text:match "listening on (%[::1%]:%d+)"))
    assert.is_true(answers(server, "unix:" .. path))
    assert.is_true(answers(server, "unix:@moonpool-" .. directory))
    server:stop()
    assert.is_nil(lfs.attributes(path)) -- removed on exit
    harness.remove(directory)
  end)

  it("to all who come together, also where all came alone before", function()
    local server <close> = harness.run { script = echo, args = { "--listen", "[::1]:0" } }
    local other = server.text:match "listening on (%[::1%]:%d+)"
    for _ = 1, 10 do assert.is_true(answers(server)) end
    process.kill(server.pid, "STOP")
    local clients = {}
    for i = 1, 40 do clients[i] = server:connect(i % 2 == 0 and other or nil) end
    process.kill(server.pid, "CONT")
    for i, client in ipairs(clients) do
      client:write(i, "\n")
      assert.equal(tostring(i), client:read "l")
      client:close()
    end
  end)

  it("on every interface for :port", function()
    local server <close> = harness.run { script = echo, listen = ":0" }
    local port = server.address:match ":(%d+)$"
    assert.is_true(answers(server, "127.0.0.1:" .. port))
  end)

  it("on a name", function()
    local server <close> = harness.run { script = echo, listen = "localhost:0" }
    assert.is_true(answers(server))
  end)

  it("in place of a stale socket, with mode and limits told", function()
    local directory = harness.directory()
    local path = directory .. "/socket"
    local first = harness.run { script = echo, listen = "unix:" .. path }
    first:kill "KILL" -- leaves its file
    first:wait()
    first:stop()
    assert.equal("socket", lfs.attributes(path, "mode"))
    local second = harness.run { script = echo, listen = "unix:" .. path,
      args = { "--socket-mode", "0600" } }
    assert.is_true(answers(second, "unix:" .. path))
    assert.equal("rw-------", lfs.attributes(path, "permissions"))
    second:stop()
    harness.remove(directory)
  end)

  it("not where another server answers", function()
    local directory = harness.directory()
    local path = directory .. "/socket"
    local first = harness.run { script = echo, listen = "unix:" .. path }
    local program = harness.start { "serve", first.directory .. "/app.lua",
      "--listen", "unix:" .. path }
    assert.same({ "exit", 1 }, { program:wait() })
    assert.matches("cannot listen on unix:" .. path:gsub("%p", "%%%0"), program.text)
    program:stop()
    assert.is_true(answers(first, "unix:" .. path))
    first:stop()
    harness.remove(directory)
  end)

  it("on a socket that was passed on, as by systemd or as fd:3", function()
    for _, listen in ipairs { "systemd", "fd:3" } do
      local sockets = assert(endpoint.open "127.0.0.1:0")
      local server = harness.run { script = echo, listen = listen,
        listener = sockets:fd() }
      assert.equal(sockets:text(), server.address)
      assert.is_true(answers(server))
      server:stop()
      sockets:close()
    end
  end)

  it("on sockets that systemd has passed, each where its name says", function()
    local web <close> = assert(endpoint.open "127.0.0.1:0")
    local admin <close> = assert(endpoint.open "127.0.0.1:0")
    local spare <close> = assert(endpoint.open "127.0.0.1:0")
    local directory = harness.directory()
    harness.write_file(directory .. "/app.lua", [[
      local names = { "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES" }
      local moonpool, lfs = require "moonpool", require "lfs"
      local said = { moonpool.worker.pool }
      for _, name in ipairs(names) do said[#said + 1] = tostring(os.getenv(name)) end
      for fd in lfs.dir "/proc/self/fd" do
        local target = lfs.symlinkattributes("/proc/self/fd/" .. fd, "target")
        said[#said + 1] = target and target:match "^socket:.*"
      end
      return function(conn) conn:write(table.concat(said, " "), "\n") end
    ]])
    harness.write_file(directory .. "/pools.lua", [[
      return { pools = {
        web = { app = "app.lua", listen = "systemd:web", workers = 1 },
        admin = { app = "app.lua", listen = "systemd:admin", workers = 1 },
      } }
    ]])
    local server = harness.start({ "serve", "--config", directory .. "/pools.lua" }, {
      listener = { spare:fd(), admin:fd(), web:fd() },
      env = { "LISTEN_FDNAMES=spare:admin:web" },
    })
    server:expect "ready: 2 workers"
    server:expect 'warn: nothing listens on "spare", descriptor 3, which systemd has'
    for name, set in pairs { web = web, admin = admin } do
      assert.equal(set:text(), (server:expect(name .. ": listening on (%S+)")))
      local client <close> = server:connect(set:text())
      local said = client:read "l"
      assert.matches("^" .. name .. " nil nil nil socket", said)
      for _, other in ipairs { web, admin, spare } do -- no listener is the worker's
        local inode = lfs.attributes("/proc/self/fd/" .. other:fd(), "ino")
        assert.is_nil(said:find(inode, 1, true))
      end
    end
    server:stop()
    harness.remove(directory)
  end)

  it("not where no socket has the name", function()
    local sockets <close> = assert(endpoint.open "127.0.0.1:0")
    local server = harness.start({ "serve", "examples/echo/app.lua", "--listen",
      "systemd:web" }, { listener = sockets:fd(), env = { "LISTEN_FDNAMES=web.socket" } })
    assert.same({ "exit", 1 }, { server:wait() })
    assert.matches('cannot listen on systemd:web: no socket of that name was passed '
      .. '%(LISTEN_FDNAMES is "web.socket"%)', server.text)
    server:stop()
  end)
end)

describe("a config file", function()
  it("makes several pools with their own apps, addresses and environments", function()
    local directory = harness.directory()
    harness.write_file(directory .. "/one.lua", [[
      return function(conn) conn:write("one ", os.getenv "WHO", "\n") end
    ]])
    harness.write_file(directory .. "/two.lua", [[
      local moonpool = require "moonpool"
      return function(conn) conn:write("two ", moonpool.worker.pool, "\n") end
    ]])
    harness.write_file(directory .. "/pools.lua", [[
      return {
        drain = 5,
        pools = {
          first = { app = "one.lua", listen = "127.0.0.1:0", workers = 2,
                    env = { WHO = "me" } },
          second = { app = "two.lua", listen = { "127.0.0.1:0", "unix:two.sock" },
                     workers = 1, concurrency = 5 },
        },
      }
    ]])
    local server = harness.start { "serve", "--config", directory .. "/pools.lua" }
    server:expect "ready: 3 workers"
    local first = server:connect((server:expect "first: listening on (%S+)"))
    assert.equal("one me", first:read "l")
    local second = server:connect((server:expect "second: listening on (%S+)"))
    assert.equal("two second", second:read "l")
    local third = server:connect("unix:" .. directory .. "/two.sock")
    assert.equal("two second", third:read "l")
    harness.close_all { first, second, third }
    server:stop()
    assert.equal(0, server.code)
    harness.remove(directory)
  end)

  it("closes connections that are silent for too long", function()
    local server <close> = harness.run { script = [[
      return function(conn)
        local line, why, code = conn:read "l"
        conn:write(tostring(line), " ", why, " ", code, "\n")
      end
    ]], args = { "--idle-timeout", "50ms" } }
    local client <close> = server:connect()
    assert.is_nil(client:read "l")
  end)

  it("closes them at once where that is hardly any time", function()
    harness.unharmed({ script = echo,
      args = { "--idle-timeout", "0.00000000000000000001" } }, function(server)
      for _ = 1, 3 do
        local client <close> = server:connect()
        assert.same({ nil, "closed", "EOF" }, { client:read "l" })
      end
    end)
  end)

  it("closes them beside others that talk", function()
    local server <close> = harness.run { script = echo,
      args = { "--idle-timeout", "300ms" } }
    local talker <close> = server:connect()
    local silent <close> = server:connect()
    silent:settimeout(0.01)
    local code
    for i = 1, 1000 do
      talker:write(i, "\n")
      assert.equal(tostring(i), talker:read "l")
      code = select(3, silent:read "l")
      if code ~= "ETIMEDOUT" then break end
    end
    assert.equal("EOF", code)
  end)

  it("sets the longest line", function()
    local server <close> = harness.run { script = [[
      return function(conn)
        local line, why, code = conn:read "l"
        conn:write(tostring(line), " ", why or "", " ", code or "", "\n")
      end
    ]], args = { "--read-limit", "1k" } }
    local client <close> = server:connect()
    client:write(("x"):rep(1024))
    assert.equal("nil Message too long EMSGSIZE", client:read "l")
    local other <close> = server:connect()
    other:write(("x"):rep(1023), "\n")
    assert.equal(("x"):rep(1023) .. "  ", other:read "l")
  end)
end)

describe("hello", function()
  it("is answered to curl", function()
    local server <close> = harness.run { app = "examples/hello/app.lua", workers = 2 }
    local pipe = io.popen(("LD_PRELOAD= curl -s -i --max-time 10 http://%s/hello/%s")
      :format(server.address, "J%C3%B3n"))
    local answer = pipe:read "a"
    pipe:close()
    assert.matches("^HTTP/1.1 200 OK\r\n", answer)
    assert.matches("\r\n\r\nHello, J\u{f3}n!\n$", answer)
  end)
end)

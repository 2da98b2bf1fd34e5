-- The whole program under systemd: what it says, and to whom (sd_notify(3)).

local endpoint = require "native.endpoint"
local harness = require "server"
local lfs = require "lfs"
local notify = require "native.notify"

local echo = [[
  return function(conn) for line in conn:lines() do conn:write(line, "\n") end end
]]

local directory, systemd, said

before_each(function()
  directory = harness.directory()
  systemd = notify.receiver(directory .. "/notify")
  said = {}
end)

after_each(function()
  systemd:close()
  harness.remove(directory)
end)

local function environment(...)
  return { "NOTIFY_SOCKET=" .. directory .. "/notify", ... }
end

-- Adds what has come to the list.
local function listen()
  for message in function() return systemd:receive() end do said[#said + 1] = message end
end

-- Waits until some message has this in it, and returns the message.
local function hear(text)
  return harness.eventually(function()
    listen()
    for _, message in ipairs(said) do
      if message:find(text, 1, true) then return message end
    end
  end, text .. " from the program")
end

local function count(text)
  listen()
  local n = 0
  for _, message in ipairs(said) do
    if message:find(text, 1, true) then n = n + 1 end
  end
  return n
end

-- The changes of state, in their order.
local function states()
  listen()
  local list = {}
  for _, message in ipairs(said) do list[#list + 1] = message:match "^(%u+)=1" end
  return table.concat(list, " ")
end

-- A script that is loaded once a file is there, and the function that makes it.
local function gated(script)
  local path = directory .. "/gate"
  return ([[
    while not io.open(%q) do os.execute "sleep 0.01" end
    %s
  ]]):format(path, script), function() harness.write_file(path, "") end
end

local function start(script, ...)
  harness.write_file(directory .. "/app.lua", script)
  return harness.start({ "serve", directory .. "/app.lua", "--name", "spec", "--listen",
    "127.0.0.1:0", "--workers", "2" }, { env = environment(...) })
end

describe("systemd is told", function()
  it("that the service is ready once all workers are, and that it stops", function()
    local script, open = gated(echo)
    local server = start(script)
    assert.equal("STATUS=starting: 0 of 2 workers, 0 connections", hear "STATUS")
    open()
    assert.equal("READY=1\nSTATUS=serving: 2 of 2 workers, 0 connections", hear "READY")
    local client = server:connect((server:expect "listening on (%S+)"))
    client:write "hello\n"
    assert.equal("hello", client:read "l")
    server:kill "TERM"
    assert.equal("STOPPING=1\nEXTEND_TIMEOUT_USEC=12000000\n"
      .. "STATUS=stopping: 1 connections left", hear "STOPPING")
    client.conn:close()
    server:stop()
    assert.equal("READY STOPPING", states())
  end)

  it("how many connections and workers there are", function()
    local server <close> = harness.run { script = echo, env = environment() }
    local clients = server:connect_many(3)
    hear "STATUS=serving: 1 of 1 workers, 3 connections"
    harness.close_all(clients)
    said = {}
    hear "STATUS=serving: 1 of 1 workers, 0 connections"
  end)

  it("by an abstract socket too", function()
    local name = "@moonpool" .. directory
    local abstract <close> = notify.receiver(name)
    local server = harness.run { script = echo, env = { "NOTIFY_SOCKET=" .. name } }
    assert.matches("^READY=1\n", harness.eventually(function()
      return abstract:receive()
    end))
    server:stop()
  end)

  it("how long a stop may take, by drain", function()
    local server <close> = harness.run { script = echo, env = environment(),
      args = { "--drain", "300" } }
    server:kill "TERM"
    hear "EXTEND_TIMEOUT_USEC=302000000\n"
  end)

  it("once that it stops, be it asked twice", function()
    local server = harness.run { script = echo, env = environment() }
    local client = server:connect()
    client:write "hello\n"
    client:read "l"
    server:kill "TERM"
    hear "STOPPING"
    server:kill "TERM"
    server:wait()
    assert.equal("READY STOPPING", states())
    client.conn:close()
    server:stop()
  end)

  it("that it stops, not that it is ready, when a start is broken off", function()
    local server = start((gated(echo)))
    hear "starting"
    server:kill "TERM"
    assert.same({ "exit", 1 }, { server:wait() })
    assert.equal("STOPPING", states())
    server:stop()
  end)

  it("that it stops when a script cannot be loaded", function()
    local server = start "error 'no'"
    assert.same({ "exit", 1 }, { server:wait() })
    assert.equal("STOPPING", states())
    server:stop()
  end)

  it("that it reloads, and that it is ready again", function()
    local server <close> = harness.run { script = echo, env = environment() }
    server:kill "HUP"
    local reloading = "^RELOADING=1\nMONOTONIC_USEC=%d+\n"
      .. "STATUS=reloading: 1 of 1 workers, 0 connections$"
    assert.matches(reloading, hear "RELOADING")
    harness.eventually(function() return count "READY=1" == 2 end)
    assert.equal("READY RELOADING READY", states())
    assert.equal("READY=1\nSTATUS=serving: 1 of 1 workers, 0 connections", said[#said])
  end)

  it("that it is ready again when a reload has failed, and so by the status", function()
    local server <close> = harness.run { script = echo, env = environment(),
      control = true }
    local failed = "READY=1\nSTATUS=serving, after a reload that has failed: "
      .. "1 of 1 workers, 0 connections"
    server:change "error 'no'"
    assert.equal(1, select(2, server:reload()))
    assert.equal(failed, hear "failed")
    server:change "no Lua" -- of which the configuration tells
    assert.equal(1, select(2, server:reload()))
    harness.eventually(function() return count "READY=1" == 3 end)
    assert.equal(failed, said[#said])
    server:change(echo)
    assert.equal(0, select(2, server:reload()))
    harness.eventually(function() return count "READY=1" == 4 end)
    assert.equal("READY" .. (" RELOADING READY"):rep(3), states())
    assert.equal("READY=1\nSTATUS=serving: 1 of 1 workers, 0 connections", said[#said])
  end)

  it("of each reload, where several are asked for at once", function()
    local server <close> = harness.run { script = echo, env = environment() }
    server:kill "HUP"
    server:expect "SIGHUP: reloading"
    hear "RELOADING"
    local script, open = gated(echo)
    server:change(script)
    server:kill "HUP"
    server:expect "SIGHUP: reloading.-SIGHUP: reloading"
    open()
    harness.eventually(function() return count "READY=1" == 3 end)
    assert.equal("READY RELOADING READY RELOADING READY", states())
  end)

  it("that it stops, not that it is ready, when a stop breaks off a reload", function()
    local server = harness.run { script = echo, env = environment() }
    server:change((gated(echo)))
    server:kill "HUP"
    hear "RELOADING"
    server:kill "TERM"
    server:wait()
    assert.equal("READY RELOADING STOPPING", states())
    server:stop()
  end)

  it("that the supervisor lives, while it serves and while it drains", function()
    local server = harness.run { script = echo,
      env = environment "WATCHDOG_USEC=100000" }
    local client = server:connect()
    client:write "hello\n"
    client:read "l"
    harness.eventually(function() return count "WATCHDOG=1" >= 3 end)
    server:kill "TERM"
    hear "STOPPING"
    said = {}
    harness.eventually(function() return count "WATCHDOG=1" >= 3 end)
    client.conn:close()
    server:stop()
  end)

  it("by the supervisor alone", function()
    local server <close> = harness.run { script = [[
      local said = {}
      for i, name in ipairs { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" } do
        said[i] = tostring(os.getenv(name))
      end
      return function(conn) conn:write(table.concat(said, " "), "\n") end
    ]], env = environment("WATCHDOG_USEC=1000000", "WATCHDOG_PID=1") }
    assert.equal("nil nil nil", server:connect():read "l")
  end)
end)

describe("a server serves all the same", function()
  local function serves_with(variables, warning)
    local server = harness.run { script = echo, env = variables }
    local client = server:connect()
    client:write "hello\n"
    assert.equal("hello", client:read "l")
    client.conn:close()
    server:stop()
    local _, warnings = server.text:gsub(" warn: ", "")
    assert.equal(1, warnings)
    assert.matches(warning, server.text)
  end

  it("where nobody reads what it says", function()
    serves_with({ "NOTIFY_SOCKET=" .. directory .. "/nobody", "WATCHDOG_USEC=10000" },
      "systemd does not hear how the service is: unix:.-/nobody: No such file")
  end)

  it("where a stream socket is in the place of systemd's", function()
    local other <close> = assert(endpoint.open("unix:" .. directory .. "/stream"))
    assert.equal(1, #other)
    serves_with({ "NOTIFY_SOCKET=" .. directory .. "/stream" },
      "unix:.-/stream: Protocol wrong type for socket")
  end)

  it("where the name cannot be one", function()
    serves_with({ "NOTIFY_SOCKET=/" .. ("x"):rep(4000) },
      "NOTIFY_SOCKET: the path may have at most 107 bytes, this has 4001")
  end)

  it("where the watchdog wants nothing that is a time", function()
    serves_with(environment "WATCHDOG_USEC=soon", 'WATCHDOG_USEC is "soon"')
  end)

  it("where systemd does not read", function()
    local server = harness.run { script = echo,
      env = environment "WATCHDOG_USEC=2000" } -- the socket is full in no time
    local client = server:connect()
    for _ = 1, 100 do
      client:write "hello\n"
      assert.equal("hello", client:read "l")
    end
    server:kill "TERM"
    server:expect "SIGTERM: stopping"
    hear "STOPPING"
    client.conn:close()
    server:stop()
  end)
end)

describe("the units", function()
  local here = lfs.currentdir()

  -- The words after key= in a unit, with the program of this build.
  local function command(key)
    local file <close> = io.open "scripts/systemd/moonpool.service"
    local words = {}
    local line = file:read "a":match("\n" .. key .. "=/usr/local/bin/moonpool ([^\n]+)")
    for word in line:gmatch "%S+" do
      words[#words + 1] = word:gsub("^/etc/moonpool", directory)
        :gsub("^/run/moonpool", directory)
    end
    return words
  end

  it("start and reload the program as it is", function()
    harness.write_file(directory .. "/pools.lua", ([[
      return { app = %q, name = "spec", listen = "127.0.0.1:0", workers = 1 }
    ]]):format(here .. "/examples/echo/app.lua"))
    local server = harness.start(command "ExecStart", { env = environment() })
    hear "READY"
    local reload = harness.start(command "ExecReload")
    assert.same({ "exit", 0 }, { reload:wait() })
    reload:stop()
    assert.equal("READY RELOADING READY", states())
    server:stop()
  end)

  if os.execute "command -v systemd-analyze >/dev/null" then
    it("are what systemd itself finds right", function()
      for _, unit in ipairs { "service", "socket" } do
        local file <close> = io.open("scripts/systemd/moonpool." .. unit)
        local text = file:read "a":gsub("/usr/local/bin/moonpool", ("%s/%s/moonpool")
          :format(here, harness.build))
        harness.write_file(directory .. "/moonpool." .. unit, text)
      end
      assert.equal("", harness.shell(
        'systemd-analyze verify --man=no "$1"/moonpool.service "$1"/moonpool.socket',
        directory))
    end)
  end
end)

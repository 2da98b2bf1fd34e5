-- The whole program: another takes its place, in the same process.

local core = require "moonpool.core"
local endpoint = require "native.endpoint"
local harness = require "server"
local lfs = require "lfs"
local notify = require "native.notify"
local process = require "native.process"
local scripts = require "scripts"
local test = require "moonpool.test"

local counter = scripts.counter
local here = lfs.currentdir()

-- A script without checkpoints; "pin" is what it says.
local function echo(label)
  return ([[
    return function(conn)
      for line in conn:lines() do
        if line == "pin" then conn:pin() end
        conn:write("%s ", line, "\n")
      end
    end
  ]]):format(label)
end

local function say(client, line)
  client:write(line, "\n")
  return client:read "l"
end

-- The program and its library, in a directory where it can be replaced.
local home, program

before_each(function()
  home = harness.directory()
  program = home .. "/bin/moonpool"
  assert(lfs.mkdir(home .. "/bin"))
  assert(lfs.link(here .. "/lua", home .. "/lua", true))
end)

after_each(function()
  harness.remove(home .. "/bin")
  harness.remove(home)
end)

-- As an installation does: another file takes the place, the one before stays as it was.
local function install(text, mode)
  harness.write_file(program .. ".new", text)
  harness.shell('chmod "$2" "$1.new" && mv "$1.new" "$1"', program, mode or "755")
end

local built

-- The program as it is, but for its version.
local function install_version(version)
  if not built then
    local file <close> = io.open(harness.build .. "/moonpool", "rb")
    built = file:read "a"
  end
  local text, count = built:gsub("0%.1%.0", version)
  assert(count > 0 and #text == #built)
  install(text)
end

local function run(script, options)
  options = options or {}
  options.script, options.control, options.program = script, true, program
  install_version "0.1.0"
  return harness.run(options)
end

local function upgraded(server, script)
  if script then server:change(script) end
  local text, code = server:replace_program()
  assert.equal(0, code, text .. server.text)
  return text
end

local function gone(pid)
  local state = harness.state(pid)
  return not state or state == "Z"
end

local function times(server, pattern)
  return select(2, server.text:gsub(pattern, ""))
end

-- The program that a process runs.
local function program_of(pid)
  return lfs.symlinkattributes(("/proc/%d/exe"):format(pid), "target")
end

describe("an upgrade", function()
  it("goes on in the same process with another program, and reloads", function()
    local server <close> = run(counter "a", { workers = 2 })
    local before, counts = server:workers(), server:descriptors()
    local clients = server:connect_many(20)
    for _, client in ipairs(clients) do assert.equal("a 1 x", say(client, "x")) end
    for i = 1, 5 do
      install_version("0.1." .. i)
      local text = upgraded(server, counter("s" .. i))
      local lines = {}
      for line in text:gmatch "[^\n]+" do
        if not line:find "left$" then lines[#lines + 1] = line end
      end
      assert.same({
        ("upgraded: moonpool 0.1.%d, it was 0.1.%d"):format(i, i - 1),
        "new workers start", "ready: 2 workers", "reloaded: 20 connections moved",
      }, lines)
      assert.equal(program, program_of(server.pid))
      assert.equal("moonpool: supervisor", harness.title(server.pid))
      for _, client in ipairs(clients) do
        assert.equal("reload " .. i, client:read "l")
        assert.equal(("s%d %d x"):format(i, i + 1), say(client, "x"))
      end
      assert.equal(2, server:children())
    end
    for i, pid in ipairs(server:workers()) do
      assert.not_equal(before[i], pid)
      assert.is_true(gone(before[i]))
    end
    harness.close_all(clients)
    counts[2], counts[3] = nil, nil
    server:back_to(counts)
  end)

  it("is SIGUSR2 too", function()
    local server <close> = run(counter "a")
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    install_version "0.2.0"
    server:change(counter "b")
    server:kill "USR2"
    server:expect "SIGUSR2: upgrading.*moonpool 0.2.0, it was 0.1.0.*reloaded: 1 conn"
    assert.equal("reload 1", client:read "l")
    assert.equal("b 2 x", say(client, "x"))
    local worker = server:workers()[1] -- all may be sent it: it is for one
    process.kill(worker, "USR2")
    assert.equal("b 3 x", say(client, "x"))
    assert.same({ worker }, server:workers())
  end)

  it("is the program that it was started as, whatever links lead there", function()
    install_version "0.1.0"
    assert(lfs.link("bin", home .. "/current", true))
    local server <close> = harness.run { script = counter "a",
      program = home .. "/current/moonpool" }
    os.remove(home .. "/current")
    assert(lfs.mkdir(home .. "/next"))
    assert(lfs.link("next", home .. "/current", true))
    harness.shell('mv "$1" "$2"', program, home .. "/next")
    server:kill "USR2"
    server:expect "upgraded.*reloaded"
    assert.equal(home .. "/next/moonpool", program_of(server.pid))
    assert.equal(home .. "/next/moonpool", program_of(server:workers()[1]))
    os.remove(home .. "/current")
    harness.remove(home .. "/next")
  end)

  it("lets what is in progress finish", function()
    local server <close> = run [[
      local moonpool = require "moonpool"
      local app = require("moonpool.http").app()
      app:get("/", function(_, res)
        moonpool.sleep(0.5)
        res:send "done\n"
      end)
      return app
    ]]
    local client <close> = server:connect()
    client:write "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    harness.eventually(function()
      return harness.descriptors(server:workers()[1]) > 8
    end)
    upgraded(server)
    for _ = 1, 2 do
      assert.equal("HTTP/1.1 200 OK", client:read "l")
      repeat local line = client:read "l" until line == ""
      assert.equal("done", client:read "l")
    end
  end)

  it("keeps what is queued for workers", function()
    assert(process.raise_fd_limit(3000))
    local server <close> = run(counter "a")
    local worker = server:workers()[1]
    process.kill(worker, "STOP")
    harness.eventually(function() return harness.state(worker) == "T" end)
    local clients = {}
    repeat -- until it takes no more, and some who were accepted wait for it
      clients[#clients + 1] = server:connect()
      if harness.queued(server.address) > 10 then core.loop.wait(0.02) end
    until harness.queued(server.address) > 10
    server:change(counter "b")
    server:kill "USR2"
    for _, client in ipairs(clients) do assert.equal("b 1 x", say(client, "x")) end
    process.kill(worker, "CONT")
    server:expect "reloaded: 0 connections moved"
    harness.close_all(clients)
  end)

  it("keeps who waits for a slot, and before whom", function()
    local server <close> = run(counter "a", { args = { "--concurrency", "2" } })
    local first, second = server:connect(), server:connect()
    assert.equal("a 1 x", say(first, "x"))
    assert.equal("a 1 x", say(second, "x"))
    local third = server:connect()
    third:write "x\n"
    server:change(echo "b") -- which does not go on with them
    server:kill "HUP"
    assert.equal("b x", third:read "l") -- and has one slot left
    process.kill(server:workers()[2] or server:workers()[1], "NULL")
    server:change(counter "c")
    server:kill "USR2"
    server:expect "upgraded"
    server:expect "upgraded.*ready: 1 workers"
    assert.equal("b y", say(third, "y"))
    harness.close_all { first, second, third }
    server:expect "upgraded.*reloaded"
  end)

  it("keeps workers of earlier generations, and their drain limit", function()
    local server <close> = run(echo "a", { args = { "--drain", "2" } })
    local pinned, other = server:connect(), server:connect()
    assert.equal("a pin", say(pinned, "pin"))
    assert.equal("a x", say(other, "x"))
    local worker = server:workers()[1]
    server:change(echo "b")
    server:kill "HUP"
    server:expect "ready: 1 workers.*ready: 1 workers"
    assert.matches("2 left.*; 1 that are pinned stay with 1 workers",
      upgraded(server, echo "c"))
    assert.is_nil((other:read "l"))
    assert.equal("a x", say(pinned, "x"))
    assert.matches("0 connections moved; 1 that are pinned", upgraded(server))
    assert.equal("a y", say(pinned, "y"))
    assert.is_false(gone(worker))
    pinned:close()
    harness.eventually(function() return gone(worker) end)
    other:close()
  end)

  it("keeps the drain limit of a worker that does not listen", function()
    local server <close> = run([[
      return function(conn)
        conn:write("looping\n"):flush()
        while true do end
      end
    ]], { args = { "--drain", "1" } })
    local client <close> = server:connect()
    assert.equal("looping", client:read "l")
    local worker = server:workers()[1]
    server:change(echo "b")
    server:kill "HUP"
    server:expect "ready: 1 workers.*ready: 1 workers"
    upgraded(server)
    assert.matches("upgraded:.*pid " .. worker .. ", is killed: the drain limit is over",
      server.text)
    assert.is_true(gone(worker))
  end)

  it("keeps the count of generations", function()
    local server <close> = run [[
      local worker = require("moonpool").worker
      return function(conn) conn:write(worker.generation, "\n") end
    ]]
    local function generation()
      local client <close> = server:connect()
      return tonumber(client:read "l")
    end
    local first = generation()
    for i = 1, 3 do
      upgraded(server)
      assert.equal(first + i, generation())
    end
  end)

  it("keeps a unix socket, and the one of moonpool reload", function()
    local server <close> = run(counter "a", { listen = "unix:" .. home .. "/socket" })
    local inode = lfs.attributes(home .. "/socket", "ino")
    for i = 1, 3 do
      upgraded(server)
      assert.equal(inode, lfs.attributes(home .. "/socket", "ino"))
      local client <close> = server:connect()
      assert.equal("a 1 x", say(client, "x"))
      assert.equal(0, (select(2, server:reload())))
      assert.equal(i, times(server, "upgraded:"))
    end
    server:stop()
    assert.is_nil(lfs.attributes(home .. "/socket"))
  end)

  it("keeps the sockets that systemd has passed", function()
    install_version "0.1.0"
    local socket <close> = assert(endpoint.open("127.0.0.1:0"))
    for _, listen in ipairs { "systemd", "systemd:unknown", "fd:3" } do
      local server <close> = harness.run { script = counter "a", program = program,
        listen = listen, listener = socket:fd(), control = true }
      local counts = server:descriptors()
      for _ = 1, 2 do
        upgraded(server)
        local client <close> = server:connect()
        assert.equal("a 1 x", say(client, "x"))
      end
      server:back_to { counts[1] }
    end
  end)

  it("listens on them by default, as it did", function()
    install_version "0.1.0"
    harness.write_file(home .. "/app.lua", counter "a")
    local socket <close> = assert(endpoint.open("127.0.0.1:0"))
    local server = harness.start({ "serve", home .. "/app.lua", "--name", "spec",
      "--workers", "1", "--control", home .. "/control" },
      { program = program, listener = socket:fd() })
    server:expect "ready"
    server.directory, server.name = home, "spec"
    for _ = 1, 2 do upgraded(server) end
    local client = server:connect(server:expect "listening on (%S+)")
    assert.equal("a 1 x", say(client, "x"))
    client:close()
    server.directory = nil
    server:stop()
    os.remove(home .. "/app.lua")
  end)

  it("keeps the counts of who is connected", function()
    local server <close> = run([[
      local app = require("moonpool.http").app { connections_per_address = 2 }
      app:get("/", function(_, res) res:send "ok" end)
      return app
    ]], { workers = 2 })
    local function status(client)
      client:write "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
      local line = client:read "l"
      repeat local header = client:read "l" until header == ""
      return line:match " (%d+) ", client:read(2)
    end
    local clients = server:connect_many(2)
    for _ = 1, 3 do
      for _, client in ipairs(clients) do assert.equal("200", (status(client))) end
      local third <close> = server:connect()
      assert.equal("503", (status(third)))
      upgraded(server)
    end
    harness.close_all(clients)
  end)

  it("keeps messages between the workers of all generations", function()
    local server <close> = run(scripts.room)
    local old = server:connect()
    assert.equal("in", old:read "l")
    server:kill "USR2"
    server:expect "upgraded.*ready: 1 workers"
    local new <close> = server:connect()
    assert.equal("in", new:read "l")
    assert.equal("from old", say(old, "from old"))
    assert.equal("from old", new:read "l")
    assert.equal("from new", say(new, "from new"))
    assert.equal("from new", old:read "l")
    old:close()
    server:expect "reloaded"
  end)

  it("keeps messages for those who come back, and their positions", function()
    local server <close> = run [[
      local moonpool = require "moonpool"
      return function(conn)
        local since = tonumber(conn:read "l")
        local room
        room = moonpool.subscribe("room", function(text)
          conn:write(room.position, " ", text, "\n")
        end, since)
        conn:write "in\n"
        for line in conn:lines() do moonpool.publish("room", line) end
      end
    ]]
    local first = server:connect()
    assert.equal("in", say(first, ""))
    local position = tonumber(say(first, "one"):match "^(%d+) one$")
    for i, word in ipairs { "two", "three\0" } do
      assert.equal(position + i .. " " .. word, say(first, word))
    end
    first:close()
    for _ = 1, 2 do upgraded(server) end
    local again <close> = server:connect()
    assert.equal("in", say(again, position))
    assert.equal(position + 1 .. " two", again:read "l")
    assert.equal(position + 2 .. " three\0", again:read "l")
    -- Two workers have gone meanwhile, which were messages too.
    assert.equal(position + 5 .. " four", say(again, "four"))
  end)

  it("keeps what connections survive a crash with", function()
    local server <close> = run(counter "a", { workers = 2, args = { "--survive" } })
    local count = server:descriptors()[1]
    local clients = server:connect_many(20)
    for _, client in ipairs(clients) do assert.equal("a 1 x", say(client, "x")) end
    for i = 1, 2 do
      harness.eventually(function()
        return times(server, "is ready again") == 2 * i - 2
      end)
      local workers = server:workers()
      server:change "error 'not today'"
      assert.equal(1, (select(2, server:replace_program())))
      assert.equal(i, times(server, "upgraded:"))
      harness.await_workers(server, workers)
      server:change(counter "b")
      process.kill(workers[2], "STOP") -- so that it does nothing for the first
      harness.eventually(function() return harness.state(workers[2]) == "T" end)
      process.kill(workers[1], "KILL")
      process.kill(workers[2], "KILL")
      for _, client in ipairs(clients) do
        local line
        repeat line = client:read "l" until not line:find "^balance"
        assert.equal("crash " .. i, line)
        assert.equal(("b %d x"):format(i + 1), say(client, "x"))
      end
    end
    upgraded(server)
    for _, client in ipairs(clients) do
      local line
      repeat line = client:read "l" until not line:find "^balance"
      assert.equal("reload 3", line)
    end
    harness.close_all(clients)
    server:back_to { count }
  end)

  it("is told to systemd as a reload, whose watchdog hears on", function()
    local systemd <close> = notify.receiver(home .. "/notify")
    local server <close> = run(counter "a", { env = {
      "NOTIFY_SOCKET=" .. home .. "/notify", "WATCHDOG_USEC=100000" } })
    upgraded(server)
    local states, beats = {}, 0
    harness.eventually(function()
      for message in function() return systemd:receive() end do
        states[#states + 1] = message:match "^(%u+)=1" and not message:find "^WATCHDOG"
          and message:match "^%u+" or nil
        beats = #states == 3 and message:find "^WATCHDOG" and beats + 1 or beats
      end
      return beats >= 3
    end)
    assert.same({ "READY", "RELOADING", "READY" }, states)
    os.remove(home .. "/notify")
  end)
end)

describe("an upgrade whose reload fails", function()
  it("has the new program, and the workers that there were", function()
    local server <close> = run(counter "a", { workers = 2 })
    local count, workers = server:descriptors()[1], server:workers()
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    server:back_to { count } -- it has passed the client on
    local counts = server:descriptors()
    install_version "0.1.1"
    server:change "error 'not today'"
    for i = 1, 3 do
      local text, code = server:replace_program()
      assert.equal(1, code)
      assert.matches("upgraded: moonpool 0.1.1.*not today.*the reload has failed", text)
      harness.await_workers(server, workers)
      assert.equal(("a %d x"):format(i + 1), say(client, "x"))
    end
    server:back_to(counts)
    server:change(counter "b")
    process.kill(workers[1], "KILL") -- who is still its child
    process.kill(workers[2], "KILL")
    server:expect "spec/1, pid %d+, died of signal 9"
    server:expect "spec/2, pid %d+, died of signal 9"
    server:expect "spec/1 is ready again"
    server:expect "spec/2 is ready again"
    local other <close> = server:connect()
    assert.equal("b 1 x", say(other, "x"))
    assert.equal(2, server:children())
  end)
end)

describe("an upgrade that cannot be", function()
  local function refused(server, pattern)
    local text, code = server:replace_program()
    assert.equal(1, code, text)
    assert.matches(pattern, text)
    assert.matches("the upgrade has failed, everything goes on as before\n$", text)
    harness.eventually(function() return server.text:find(pattern) end)
  end

  it("leaves the program that there is, and says why", function()
    local server <close> = run(counter "a", { workers = 2 })
    local count, workers = server:descriptors()[1], server:workers()
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    server:back_to { count } -- it has passed the client on
    local counts = server:descriptors()
    for i, case in ipairs { -- what is said, and what is done before
      { "moonpool: No such file or directory", os.remove, program },
      { "moonpool: Permission denied", install, "#!/bin/sh\nexit 0\n", "644" },
      { "moonpool exited with 127", install, "no program at all\0\1" },
      { "moonpool exited with 1\n", install, "#!/bin/sh\nexit 1\n" },
      { "moonpool died of signal 11", install, "#!/bin/sh\nkill -SEGV $$\n" },
      { "moonpool is another program", install, "#!/bin/sh\nexit 0\n" },
      { "moonpool has not answered in 10 s", install, "#!/bin/sh\nexec sleep 100\n" },
      { "moonpool has not answered in 10 s", install,
        "#!/bin/sh\nexec cat /dev/zero >&3\n" },
      { "moonpool: No such file or directory", install, -- once it has been asked
        ('#!/bin/sh\nrm "$0"; exec %s/%s/moonpool "$@"\n'):format(here, harness.build) },
      { "moonpool was replaced while it was asked", install, -- by one that is broken
        ([[#!/bin/sh
          printf '#!/bin/sh\nexit 1\n' >"$0.new"; chmod 755 "$0.new"; mv "$0.new" "$0"
          exec %s/%s/moonpool "$@"
        ]]):format(here, harness.build) },
      { "cannot go on where the other stops", install, -- of which it reads nothing
        ('#!/bin/sh\nexec %s/%s/moonpool "$@" 4</dev/null\n')
          :format(here, harness.build) },
    } do
      case[2](table.unpack(case, 3))
      refused(server, case[1]:gsub("%p", "%%%0"))
      harness.await_workers(server, workers)
      assert.equal(("a %d x"):format(i + 1), say(client, "x"))
    end
    server:back_to(counts)
    assert.equal(2, server:children())
    install_version "0.1.1"
    assert.matches("0.1.1, it was 0.1.0", upgraded(server))
    assert.equal("reload 12", client:read "l")
  end)

  it("is one with another configuration than a reload may have", function()
    install_version "0.1.0"
    harness.write_file(home .. "/app.lua", counter "a")
    local function configure(text)
      harness.write_file(home .. "/pools.lua", text:format(home, home))
    end
    configure [[return { control = "%s/control", pools = {
      spec = { app = "%s/app.lua", listen = "127.0.0.1:0", workers = 1 } } }]]
    local server = harness.start({ "serve", "--config", home .. "/pools.lua" },
      { program = program })
    server.directory, server.name = home, "spec"
    local client = server:connect(server:expect "listening on (%S+).*ready")
    local workers = server:workers()
    for text, pattern in pairs {
      ["return {"] = "pools.lua:1: unexpected symbol",
      ["return { control = '%s/control', drain = -1, app = '%s/app.lua' }"] = "drain: ",
      ["return { control = '%s/control', pools = { other = { app = '%s/app.lua' } } }"] =
        "pools: a reload can neither add nor remove nor rename any",
      ["return { control = '%s/other', name = 'spec', app = '%s/app.lua' }"] =
        "control: a reload cannot change it",
    } do
      configure(text)
      refused(server, pattern)
      harness.await_workers(server, workers)
      assert.equal("a", say(client, "x"):match "^%a")
    end
    client:close()
    server.directory = nil
    server:stop()
    os.remove(home .. "/app.lua")
    os.remove(home .. "/pools.lua")
  end)

  it("says so, where nobody listens", function()
    local asker = harness.start { "upgrade", "--control", "/nonexistent/control" }
    assert.same({ "exit", 1 }, { asker:wait() })
    asker:stop()
  end)
end)

describe("in the middle of an upgrade", function()
  -- Installs a program that does something else before it answers, or another command.
  local function install_slow(work, command)
    install(([[
      #!/bin/sh
      if test "$1" = %s; then %s; fi
      exec %s/%s/moonpool "$@"
    ]]):gsub("\n *", "\n"):gsub("^%s+", ""):format(command or "successor", work, here,
      harness.build))
  end

  local function is_asked(server)
    return server:children() > 1
  end

  it("what is asked for follows, and who has asked hears of it", function()
    for _, signal in ipairs { "HUP", "USR2" } do
      local server <close> = run(counter "a")
      install_slow "sleep 0.5"
      server:kill "USR2"
      harness.eventually(function() return is_asked(server) end)
      server:kill(signal)
      local ask = signal == "HUP" and server.reload or server.replace_program
      assert.equal(0, (select(2, ask(server))))
      assert.equal(1, times(server, "upgraded:"))
      assert.equal(1, times(server, "reloaded:"))
    end
  end)

  it("a reload that was asked for is done, if the new program fails", function()
    local server <close> = run(counter "a")
    install_slow "sleep 0.5; exit 1"
    server:kill "USR2"
    harness.eventually(function() return is_asked(server) end)
    server:change(counter "b")
    server:kill "HUP"
    server:expect "the upgrade has failed.*ready: 1 workers.*reloaded:"
    local client <close> = server:connect()
    assert.equal("b 1 x", say(client, "x"))
  end)

  it("SIGTERM stops it all", function()
    local server = run(counter "a")
    install "#!/bin/sh\nexec sleep 100\n"
    local asker = harness.start { "upgrade", "--control", server.directory .. "/control" }
    harness.eventually(function() return is_asked(server) end)
    server:kill "TERM"
    assert.same({ "exit", 0 }, { server:wait() })
    assert.same({ "exit", 1 }, { asker:wait() })
    assert.matches("the server stops", asker.text)
    asker:stop()
    server:stop()
  end)

  it("a worker that dies is noticed, and replaced", function()
    local server <close> = run(counter "a", { workers = 2 })
    for i = 1, 10 do
      local workers = server:workers()
      server:kill "USR2"
      core.loop.wait(0.0005 * i)
      process.kill(workers[1], "KILL")
      harness.eventually(function()
        return times(server, "reloaded:") == i and server:children() == 2 and
          #server:workers() == 2
      end)
    end
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
  end)

  it("a worker that waits to be started again is", function()
    local server <close> = run(counter "a")
    for _ = 1, 3 do -- the pause grows
      local worker = harness.eventually(function() return server:workers()[1] end)
      process.kill(worker, "KILL")
      harness.eventually(function() return gone(worker) end)
    end
    server:change "error 'not today'"
    server:expect "is started again in 0.4 s"
    server:kill "USR2"
    server:expect "upgraded:.*the reload has failed"
    server:change(counter "b")
    server:expect "upgraded.*spec/1 is ready again"
    local client <close> = server:connect()
    assert.equal("b 1 x", say(client, "x"))
  end)

  it("no signal is lost", function()
    for i = 1, 10 do
      local server = run(counter "a")
      server:kill "USR2"
      core.loop.wait(0.0007 * i)
      server:kill "TERM"
      assert.same({ "exit", 0 }, { server:wait() })
      server:stop()
    end
  end)

  it("signals may come in any order, and each again, and cost nobody anything", function()
    local signals = { "HUP", "USR2", "USR1" }
    for round = 1, 6 do
      local server = run(counter "a", { workers = 2, args = { "--survive" } })
      local clients = server:connect_many(10)
      for _, client in ipairs(clients) do assert.equal("a 1 x", say(client, "x")) end
      for i = 1, 12 do
        server:kill(signals[(round * i + i // 3) % #signals + 1])
        if i % round == 0 then core.loop.wait(0.002 * i) end
      end
      harness.eventually(function()
        return harness.title(server.pid) == "moonpool: supervisor" and
          server:children() == 2
      end)
      assert.equal(0, (select(2, server:reload())))
      for _, client in ipairs(clients) do
        local line = say(client, "y")
        while line:find "^%l+ 1$" do line = client:read "l" end
        assert.equal("a 2 y", line)
      end
      server:kill "USR2"
      core.loop.wait(0.003 * round)
      for _, signal in ipairs { "HUP", "TERM", "USR2", "HUP" } do server:kill(signal) end
      harness.close_all(clients)
      assert.same({ "exit", 0 }, { server:wait() })
      server:stop()
    end
  end)

  it("a signal waits for the new program to watch", function()
    for signal, expected in pairs { TERM = "SIGTERM: stopping", HUP = "SIGHUP: reloading",
      USR1 = "SIGUSR1: log files", USR2 = "SIGUSR2: upgrading" } do
      local server = run(counter "a")
      install_slow("n=0; while test $n -lt 100000; do n=$((n + 1)); done", "serve")
      server:kill "USR2"
      harness.eventually(function()
        return harness.title(server.pid) ~= "moonpool: supervisor"
      end)
      server:kill(signal)
      server:expect("upgraded:.*" .. expected)
      if signal == "TERM" then server:wait() end
      server:stop()
      assert.equal(0, server.code)
    end
  end)

  it("a reload is first finished", function()
    local server <close> = run(counter "a", { workers = 2 })
    local client <close> = server:connect()
    assert.equal("a 1 x", say(client, "x"))
    local go = server.directory .. "/go"
    server:change(harness.when(go, counter "b"))
    server:kill "HUP"
    harness.eventually(function() return server:children() == 4 end)
    install_version "0.1.1"
    local asker = harness.start { "upgrade", "--control", server.directory .. "/control" }
    server:expect "moonpool upgrade"
    harness.write_file(go, "")
    assert.same({ "exit", 0 }, { asker:wait() })
    asker:stop()
    assert.matches("SIGHUP.*ready: 2 workers.*upgraded:.*reloaded: 1 conn", server.text)
    assert.equal("reload 1", client:read "l")
    assert.equal("reload 1", client:read "l")
    assert.equal("b 2 x", say(client, "x"))
  end)

  it("during the start, one follows that", function()
    install_version "0.1.0"
    harness.write_file(home .. "/app.lua", harness.when(home .. "/go", counter "a"))
    local server = harness.start({ "serve", home .. "/app.lua", "--name", "spec",
      "--listen", "127.0.0.1:0", "--workers", "1" }, { program = program })
    server.name = "spec"
    harness.eventually(function() return server:workers()[1] end)
    server:kill "USR2"
    server:expect "SIGUSR2"
    harness.write_file(home .. "/go", "")
    server:expect "SIGUSR2.*ready: 1 workers.*upgraded:.*ready: 1 workers.*reloaded"
    server:stop()
    assert.equal(0, server.code)
    os.remove(home .. "/app.lua")
    os.remove(home .. "/go")
  end)
end)

describe("under load", function()
  it("10 upgrades cost nobody anything", function()
    local server <close> = run(counter "a", { workers = 2 })
    local count = harness.descriptors(server.pid)
    local stop, turns, visits = false, 0, 0

    local function talk(conn, k)
      assert(conn:write("x", k, "\n"))
      local line = assert(conn:read "l")
      while line:find "^reload" do line = assert(conn:read "l") end
      assert.equal(("a %d x%d"):format(k, k), line)
    end

    local function connect()
      local conn = assert(core.net.connect(server.address, 20))
      conn:settimeout(20)
      return conn
    end

    harness.in_parallel(121, function(i)
      if i > 120 then
        for n = 1, 10 do
          server:kill "USR2"
          local deadline = core.task.now() + 20
          while times(server, "reloaded:") < n do
            assert(core.task.now() < deadline, server.text)
            core.task.sleep(0.005)
          end
        end
        stop = true
      elseif i > 100 then -- come and go
        repeat
          local conn <close> = connect()
          talk(conn, 1)
          visits = visits + 1
        until stop
      else
        local conn <close> = connect()
        local k = 0
        repeat
          k = k + 1
          talk(conn, k)
          turns = turns + 1
          core.task.sleep(0.02 * math.random())
        until stop
      end
    end)
    assert.equal(10, times(server, "upgraded:"))
    assert.is_true(turns > 500 and visits > 100, turns .. " turns, " .. visits)
    assert.is_nil(server.text:find "error:")
    test.settle()
    harness.eventually(function() return harness.descriptors(server.pid) == count end)
  end)
end)

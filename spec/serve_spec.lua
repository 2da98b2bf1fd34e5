-- The program from outside: starting, stopping, dying, and what it says.

local core = require "moonpool.core"
local harness = require "server"
local lfs = require "lfs"
local process = require "native.process"
local test = require "moonpool.test"

local echo = [[
  return function(conn) for line in conn:lines() do conn:write(line, "\n") end end
]]

-- Runs the program to its end: output, "exit" | "signal", number.
local function output_of(arguments, options)
  local program = harness.start(arguments, options)
  local how, code = program:wait()
  program:stop()
  return program.text, how, code
end

local function with_script(script, fn)
  local directory = harness.directory()
  harness.write_file(directory .. "/app.lua", script)
  local ok, err = xpcall(fn, debug.traceback, directory .. "/app.lua", directory)
  harness.remove(directory)
  if not ok then error(err, 0) end
end

describe("the command line", function()
  it("describes itself", function()
    local text, _, code = output_of { "--help" }
    assert.equal(0, code)
    assert.matches("%-%-listen ADDRESS", text)
    assert.matches("Exit codes: 0", text)
    assert.equal(text, (output_of { "serve", "--help" }))
  end)

  it("tells its version", function()
    local text, _, code = output_of { "--version" }
    assert.matches("^moonpool %d+%.%d+%.%d+\n$", text)
    assert.equal(0, code)
  end)

  it("refuses what it does not know, with 2", function()
    local text, _, code = output_of { "sevre" }
    assert.equal(2, code)
    assert.matches('unknown command "sevre"', text)
    text, _, code = output_of { "serve", "x.lua", "--lisen", ":1" }
    assert.equal(2, code)
    assert.matches('did you mean "%-%-listen"', text)
    assert.equal(2, select(3, output_of {}))
  end)

  it("checks a config without serving it", function()
    with_script(echo, function(_, directory)
      local path = directory .. "/pools.lua"
      harness.write_file(path, 'return {\n  app = "app.lua",\n  lisen = ":80",\n}')
      local text, _, code = output_of { "check", "--config", path }
      assert.equal(2, code)
      assert.matches('pools.lua:3: lisen: unknown key; did you mean "listen"?', text)
      harness.write_file(path, 'return { app = "app.lua", workers = 3 }')
      text, _, code = output_of { "check", "--config", path }
      assert.equal(0, code)
      assert.matches("3 workers", text)
    end)
  end)

  it("checks the syntax of the app", function()
    with_script("return function(", function(app)
      local text, _, code = output_of { "check", app }
      assert.equal(2, code)
      assert.matches("app.lua:1:", text)
    end)
  end)
end)

describe("starting", function()
  it("says in ps who is who", function()
    local server <close> = harness.run { workers = 2, name = "titled", script = echo }
    assert.equal("moonpool: supervisor", harness.title(server.pid))
    local workers = server:workers()
    assert.equal("moonpool: worker titled/1", harness.title(workers[1]))
    assert.equal("moonpool: worker titled/2", harness.title(workers[2]))
  end)

  it("tells the script who runs it", function()
    local server <close> = harness.run { workers = 1, args = { "--env", "GREETING=hi" },
      script = [[
        local moonpool = require "moonpool"
        return function(conn)
          local w = moonpool.worker
          conn:write(w.pool, " ", w.id, " ", w.pid, " ", w.generation, " ",
            os.getenv "GREETING", " ", tostring(w.dev), "\n")
        end
      ]] }
    local client <close> = server:connect()
    assert.equal(("spec 1 %d 1 hi false"):format(server:workers()[1]), client:read "l")
  end)

  it("finds modules beside the app", function()
    with_script('local m = require "beside"\nreturn function(c) c:write(m, "\\n") end',
      function(app, directory)
        harness.write_file(directory .. "/beside.lua", 'return "found"')
        local server <close> = harness.run { app = app }
        local client <close> = server:connect()
        assert.equal("found", client:read "l")
      end)
  end)

  it("fails at once with the traceback of a script that raises", function()
    with_script('local function deep() error "not today" end\ndeep()', function(app)
      local text, how, code = output_of { "serve", app, "--listen", "127.0.0.1:0",
        "--workers", "2" }
      assert.equal("exit", how)
      assert.equal(1, code)
      assert.matches("app.lua:1: not today", text)
      assert.matches("in local 'deep'", text)
      assert.not_matches("ready", text)
    end)
  end)

  it("fails with the place of a syntax error", function()
    with_script("return function(conn) end end", function(app)
      local text, _, code = output_of { "serve", app, "--listen", "127.0.0.1:0" }
      assert.matches("app.lua:1:", text)
      assert.equal(2, code)
    end)
  end)

  it("says so when a script returns nothing callable", function()
    local scripts = { ["return 42"] = "number", ["local x = 1"] = "nothing" }
    for script, what in pairs(scripts) do
      with_script(script, function(app)
        local text, _, code = output_of { "serve", app, "--listen", "127.0.0.1:0" }
        assert.matches("must return its handler.*returns " .. what, text)
        assert.equal(1, code)
      end)
    end
  end)

  it("fails when a worker dies while it loads", function()
    with_script("os.exit(7)", function(app)
      local text, _, code = output_of { "serve", app, "--listen", "127.0.0.1:0" }
      assert.matches("exited with 7", text)
      assert.equal(1, code)
    end)
  end)

  it("names the address that is in use", function()
    local server <close> = harness.run { script = echo }
    local text, _, code = output_of { "serve", server.directory .. "/app.lua",
      "--listen", server.address }
    assert.equal(1, code)
    assert.matches(server.address:gsub("%p", "%%%0") .. ": address already in use", text)
  end)

  it("runs workers as the user that is asked for", function()
    local id = io.popen("id -u"):read "l"
    if id ~= "0" then
      with_script(echo, function(app)
        local text, _, code = output_of { "serve", app, "--listen", "127.0.0.1:0",
          "--user", "nobody" }
        assert.equal(1, code)
        assert.matches("cannot become the configured user", text)
      end)
      return
    end
    local server = harness.start { "serve", "examples/echo/app.lua", "--user", "nobody",
      "--listen", "127.0.0.1:0", "--workers", "1" }
    local up = harness.eventually(function()
      return server:has_ended() and "ended" or server.text:find "ready" and "ready"
    end)
    if up == "ready" then -- else the tree is not readable for others, and says so
      local file <close> = io.open(("/proc/%d/status"):format(server:workers "echo"[1]))
      local status = file:read "a"
      local nobody = io.popen("id -u nobody"):read "l"
      assert.equal(nobody, status:match "\nUid:%s+(%d+)")
      assert.equal(nobody, status:match "\nUid:%s+%d+%s+%d+%s+(%d+)")
    else
      assert.matches("[Pp]ermission denied", server.text)
    end
    server:stop()
  end)

  it("is installed and runs from there", function()
    local root = harness.directory()
    local made = os.execute(("LD_PRELOAD= make -s install FROM=build DESTDIR=%s %s")
      :format(root, "PREFIX=/opt/m"))
    assert.is_true(made)
    test.virtual(false)
    local pid, fd = process.start({ root .. "/opt/m/bin/moonpool", "check",
      "examples/echo/app.lua" }, {})
    local _ <close> = fd
    harness.eventually(function() return process.wait(pid, true) end)
    local file = fd:file "r"
    assert.matches("nothing wrong", file:read "a")
    file:close()
    local units = root .. "/opt/m/lib/systemd/system"
    local unit <close> = io.open(units .. "/moonpool.service")
    local text = unit:read "a"
    assert.matches("\nExecStart=/opt/m/bin/moonpool serve ", text)
    assert.matches("\nExecReload=/opt/m/bin/moonpool reload ", text)
    local removed = os.execute(("make -s uninstall DESTDIR=%s PREFIX=/opt/m")
      :format(root))
    assert.is_true(removed)
    assert.is_nil(lfs.attributes(root .. "/opt/m/bin/moonpool"))
    assert.is_nil(lfs.attributes(units .. "/moonpool.service"))
    assert.is_nil(lfs.attributes(units .. "/moonpool.socket"))
    os.execute("rm -r " .. root)
  end)
end)

describe("warn", function()
  it("writes to the log once it is on", function()
    local server = harness.run { script = [[
      warn "too early"
      warn "@on"
      warn("all ", "in one")
      warn "@off"
      warn "too late"
      warn "@on"
      warn "again"
      return function() end
    ]] }
    server:expect "warn: all in one"
    server:expect "warn: again"
    server:stop()
    assert.is_nil(server.text:find "too")
  end)
end)

describe("stopping", function()
  local slow = [[
    local moonpool = require "moonpool"
    return function(conn)
      for line in conn:lines() do
        conn:write("got ", line, "\n")
        conn:flush()
        if line == "slow" then conn:read "l" end
        conn:write("done\n")
      end
    end
  ]]

  it("finishes what is open and exits with 0", function()
    local server = harness.run { script = slow }
    local client = server:connect()
    client:write "slow\n"
    assert.equal("got slow", client:read "l")
    server:kill "TERM"
    server:expect "SIGTERM: stopping"
    harness.eventually(function()
      return harness.title(server:workers()[1]) == "moonpool: worker spec/1 (stopping)"
    end)
    client:write "go on\n"
    assert.equal("done", client:read "l")
    client:close()
    assert.same({ "exit", 0 }, { server:wait() })
    server:stop()
  end)

  it("serves all who are in the backlog, also where all came alone before", function()
    local server <close> = harness.run { script = echo }
    for _ = 1, 3 do
      local alone <close> = server:connect()
      alone:write "x\n"
      assert.equal("x", alone:read "l")
      core.loop.wait(0.002) -- which is long
    end
    server:kill "STOP"
    harness.eventually(function() return harness.state(server.pid) == "T" end)
    local clients = server:connect_many(20)
    server:kill "TERM"
    server:kill "CONT"
    for i, client in ipairs(clients) do
      client:write(i, "\n")
      assert.equal(tostring(i), client:read "l")
      client:close()
    end
    assert.same({ "exit", 0 }, { server:wait() })
  end)

  it("serves whoever is in the backlog", function()
    local server = harness.run { script = echo, args = { "--concurrency", "1" } }
    local first, second = server:connect(), server:connect()
    first:write "1\n"
    assert.equal("1", first:read "l")
    second:write "2\n"
    first:close()
    assert.equal("2", second:read "l")
    second:close()
    server:stop()
    assert.equal(0, server.code)
  end)

  it("cuts connections at the drain limit and exits with 1", function()
    local server = harness.run { script = slow, args = { "--drain", "200ms" } }
    local client = server:connect()
    client:write "slow\n"
    assert.equal("got slow", client:read "l")
    server:kill "TERM"
    assert.same({ "exit", 1 }, { server:wait() })
    assert.matches("drain limit is over: 1 connections are closed", server.text)
    assert.is_nil(client:read "l")
    client:close()
    server:stop()
  end)

  it("stops at once at the second signal", function()
    local server = harness.run { workers = 2, script = slow,
      args = { "--drain", "1000" } }
    local client = server:connect()
    client:write "slow\n"
    assert.equal("got slow", client:read "l")
    server:kill "INT"
    server:expect "SIGINT: stopping, for"
    server:kill "INT"
    assert.same({ "exit", 1 }, { server:wait() })
    client:close()
    server:stop()
  end)

  it("ends a worker that does not listen to it", function()
    local server = harness.run { script = [[
      return function(conn)
        conn:write("looping\n"):flush()
        while true do end
      end
    ]], args = { "--drain", "100ms" } }
    local client = server:connect()
    assert.equal("looping", client:read "l")
    server:kill "TERM"
    assert.same({ "exit", 1 }, { server:wait() })
    client:close()
    server:stop()
  end)

  it("closes idle keep-alive connections, after a last look", function()
    local server = harness.run { app = "examples/hello/app.lua",
      args = { "--drain", "60" } }
    local client = server:connect()
    client:write "GET /hello/x HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK", client:read "l")
    server:kill "TERM"
    assert.same({ "exit", 0 }, { server:wait() })
    client:close()
    server:stop()
  end)

  it("leaves nobody behind when the supervisor is killed", function()
    for _, busy in ipairs { false, true } do
      local server = harness.run { workers = 3, script = [[
        return function(conn)
          for line in conn:lines() do
            conn:write(line, "\n"):flush()
            while line == "loop" do end
          end
        end
      ]] }
      local client = server:connect()
      client:write(busy and "loop\n" or "idle\n")
      client:read "l"
      local workers = server:workers()
      assert.equal(3, #workers)
      server:kill "KILL"
      local killed = require("moonpool").now()
      harness.eventually(function()
        for _, pid in ipairs(workers) do
          if harness.state(pid) and harness.state(pid) ~= "Z" then return false end
        end
        return true
      end)
      assert.is_true(require("moonpool").now() - killed < 1)
      assert.is_nil(client:read "l")
      client:close()
      server:stop()
    end
  end)
end)

describe("a worker's death", function()
  it("is followed by another with the same number", function()
    local server <close> = harness.run { workers = 2, script = echo }
    local before = server:workers()
    process.kill(before[2], "KILL")
    server:expect "spec/2, pid %d+, died of signal 9 %(Killed%) with 0 connections"
    server:expect "spec/2 is ready again"
    local after = server:workers()
    assert.equal(before[1], after[1])
    assert.not_equal(before[2], after[2])
    local client <close> = server:connect()
    client:write "on\n"
    assert.equal("on", client:read "l")
  end)

  it("is told in the generation", function()
    local server <close> = harness.run { script = [[
      local moonpool = require "moonpool"
      return function(conn) conn:write(moonpool.worker.generation, "\n") end
    ]] }
    process.kill(server:workers()[1], "KILL")
    server:expect "ready again"
    local client <close> = server:connect()
    assert.equal("2", client:read "l")
  end)

  it("waits longer each time in a crash loop", function()
    local server <close> = harness.run { script = [[
      local moonpool = require "moonpool"
      if moonpool.worker.generation > 1 and moonpool.worker.generation < 5 then
        error "broken meanwhile"
      end
      return function(conn) conn:write "served\n" end
    ]] }
    process.kill(server:workers()[1], "KILL")
    server:expect "cannot load its script: .*broken meanwhile.*stack traceback"
    server:expect "is started again in 0.1 s.*in 0.2 s.*in 0.4 s"
    server:expect "ready again"
    local client <close> = server:connect()
    assert.equal("served", client:read "l")
  end)

  it("does not reach the others", function()
    local server <close> = harness.run { workers = 2, script = [[
      local moonpool = require "moonpool"
      return function(conn)
        for line in conn:lines() do conn:write(moonpool.worker.pid, "\n") end
      end
    ]] }
    local clients = server:connect_many(4)
    local of = {}
    for i, client in ipairs(clients) do
      client:write "who\n"
      of[i] = tonumber(client:read "l")
    end
    process.kill(of[1], "KILL")
    for i, client in ipairs(clients) do
      client:write "who\n"
      local answer = client:read "l"
      assert.equal(of[i] ~= of[1] and of[i] or nil, tonumber(answer or ""))
    end
    harness.close_all(clients)
  end)

  it("has SIGTERM for a worker finish what it has", function()
    local server <close> = harness.run { script = echo }
    local client <close> = server:connect()
    client:write "1\n"
    assert.equal("1", client:read "l")
    local pid = server:workers()[1]
    process.kill(pid, "TERM")
    harness.eventually(function() return (harness.title(pid) or ""):find "retiring" end)
    client:write "2\n"
    assert.equal("2", client:read "l")
    client:close()
    server:expect "ready again"
  end)
end)

describe("a handler", function()
  it("that raises ends its own connection only", function()
    local server <close> = harness.run { script = [[
      return function(conn)
        for line in conn:lines() do
          if line == "boom" then error "as told" end
          conn:write(line, "\n")
        end
      end
    ]] }
    local good <close> = server:connect()
    local bad <close> = server:connect()
    bad:write "boom\n"
    assert.is_nil(bad:read "l")
    server:expect "app.lua:3: as told\n%s+stack traceback:"
    good:write "fine\n"
    assert.equal("fine", good:read "l")
  end)

  it("that writes 100 MB to a client that does not read stays small", function()
    local server <close> = harness.run { script = [[
      return function(conn)
        if conn:read "l" == "flood" then
          local piece = ("x"):rep(1 << 20)
          for _ = 1, 100 do conn:write(piece) end
        end
        conn:write "end\n"
      end
    ]] }
    local pid = server:workers()[1]
    local before = harness.memory(pid)
    local client = server:connect()
    client:write "flood\n"
    local other = server:connect()
    other:write "quick\n"
    assert.equal("end", other:read "l")
    assert.is_true(harness.memory(pid) - before < 16 << 20)
    local n = 0
    while true do
      local chunk = client:read(1 << 20)
      if not chunk then break end
      n = n + #chunk
    end
    assert.equal(100 * (1 << 20) + 4, n)
    client:close()
    other:close()
  end)
end)

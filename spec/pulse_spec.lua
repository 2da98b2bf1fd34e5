-- Workers that are stuck where no hook is called: they are found, killed and replaced.

local harness = require "server"
local lfs = require "lfs"
local process = require "native.process"

require "tidy" (before_each, after_each)

local LIMITS = { "--handler-timeout", "100ms", "--stuck-timeout", "500ms" }

-- A line is answered; a word that is a key of ways first does what that does.
local function script(ways)
  return [[
    local moonpool = require "moonpool"
    local function loop() while true do end end
    local ways = {
      pattern = function(conn)
        conn:write "now\n"
        conn:flush()
        return ("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40))
      end,
      ]] .. (ways or "") .. [[
    }
    return function(conn)
      for line in conn:lines() do
        if ways[line] then ways[line](conn) end
        conn:write(line, " ", moonpool.worker.pid, "\n")
      end
    end
  ]]
end

-- The worker that answers this client.
local function pid_of(client)
  client:write "who\n"
  return tonumber(client:read():match "who (%d+)")
end

-- Lets the worker of a client do one of the ways, and waits until another has its place.
local function be_stuck(server, way)
  local client <close> = server:connect()
  local stuck = pid_of(client)
  client:write(way, "\n")
  server:expect("pid " .. stuck .. ", died of signal 9")
  local last = client:read "a"
  assert.is_true(last == nil or last == "" or last == "now\n")
  harness.eventually(function()
    local pid = server:workers()[1]
    return pid and pid ~= stuck
  end, "a successor")
end

describe("a worker that is stuck in C code", function()
  it("is killed, and the line that has called it is named", function()
    local server <close> = harness.run { args = LIMITS, script = script() }
    be_stuck(server, "pattern")
    server:expect("error: spec/1, pid %d+, is stuck for 0.5 s, in C code that is called "
      .. "in [^\n]*app.lua:7: killed\n")
    local client <close> = server:connect()
    assert.equal(server:workers()[1], pid_of(client))
  end)

  it("is found as well while it waits for the kernel", function()
    local directory = harness.directory()
    local fifo = directory .. "/fifo"
    assert(os.execute("mkfifo " .. fifo))
    do
      local server <close> = harness.run { args = LIMITS,
        script = script("fifo = function() io.open('" .. fifo .. "') end") }
      be_stuck(server, "fifo")
      server:expect "stuck for 0.5 s, in C code that is called in [^\n]*app.lua:9:"
    end
    harness.remove(directory)
    assert.is_nil(lfs.attributes(directory))
  end)

  it("is found where hooks are not called: __gc, <close> below C functions", function()
    local server <close> = harness.run { args = LIMITS, script = script [[
      gc = function()
        setmetatable({}, { __gc = loop })
        collectgarbage()
      end,
      close = function()
        table.sort({ 3, 2, 1 }, function()
          local _ <close> = setmetatable({}, { __close = loop })
          loop()
        end)
      end,
    ]] }
    be_stuck(server, "gc")
    be_stuck(server, "close")
    local client <close> = server:connect()
    assert.equal(server:workers()[1], pid_of(client))
  end)

  it("leaves what waits in its channel to its successor, and the others alone", function()
    local server <close> = harness.run { workers = 2, script = script(),
      args = { "--policy", "round-robin", table.unpack(LIMITS) } }
    local stuck <close> = server:connect()
    local other <close> = server:connect()
    local pid, lucky = pid_of(stuck), pid_of(other)
    assert.not_equal(pid, lucky)
    stuck:write "pattern\n"
    assert.equal("now", stuck:read())
    local waiting = server:connect_many(20)
    for _, client in ipairs(waiting) do client:write "who\n" end
    local served = {}
    for _, client in ipairs(waiting) do
      local by = tonumber(client:read():match "who (%d+)")
      served[by] = (served[by] or 0) + 1
    end
    assert.is_nil(served[pid])
    assert.equal(10, served[lucky])
    assert.equal(lucky, pid_of(other))
    server:expect("pid " .. pid
      .. ", died of signal 9 %(Killed%) in [^\n]*app.lua:7 with 1 connections\n")
    harness.close_all(waiting)
  end)
end)

describe("a worker that is not stuck", function()
  it("may sleep, run and wait for longer than the limit", function()
    local server <close> = harness.run { args = LIMITS, script = script [[
      sleep = function() moonpool.sleep(1.5) end,
      turns = function()
        local start = moonpool.now()
        repeat moonpool.sleep(0) until moonpool.now() - start > 1.5
      end,
      loop = loop,
    ]] }
    local client <close> = server:connect()
    local looping <close> = server:connect()
    local pid = pid_of(client)
    client:write "sleep\n"
    assert.equal("sleep " .. pid, client:read())
    client:write "turns\n"
    assert.equal("turns " .. pid, client:read())
    looping:write "loop\n"
    assert.equal("", looping:read "a")
    assert.equal(pid, pid_of(client))
    assert.not_matches("stuck", server.text)
  end)

  it("may do anything where there is no limit", function()
    local server <close> = harness.run { args = { "--handler-timeout", "0" },
      script = script [[
        block = function() os.execute "sleep 1.5" end,
        run = function()
          local time = os.time
          local start = time()
          repeat until time() - start > 1
        end,
      ]] }
    local client <close> = server:connect()
    local pid = pid_of(client)
    client:write "block\nrun\n"
    assert.equal("block " .. pid, client:read())
    assert.equal("run " .. pid, client:read())
  end)
end)

describe("loading a script", function()
  it("has its limit at the start", function()
    local directory = harness.directory()
    harness.write_file(directory .. "/app.lua", "while true do pcall(error) end")
    local program = harness.start { "serve", directory .. "/app.lua", "--listen",
      "127.0.0.1:0", "--workers", "2", "--name", "spec", "--load-timeout", "500ms" }
    local how, code = program:wait()
    program:stop()
    harness.remove(directory)
    assert.equal("exit 1", how .. " " .. code)
    assert.matches("error: spec/1, pid %d+, has not loaded its script in 0.5 s: killed",
      program.text)
    assert.matches("spec/%d died before it was ready", program.text)
  end)

  it("has it again after a death", function()
    local server <close> = harness.run { args = { "--load-timeout", "500ms" }, script = [[
      local moonpool = require "moonpool"
      if moonpool.worker.generation == 2 then while true do end end
      return function(conn) conn:write(moonpool.worker.generation, "\n") end
    ]] }
    process.kill(server:workers()[1], "KILL")
    server:expect "spec/1, pid %d+, has not loaded its script in 0.5 s: killed"
    server:expect "spec/1 is ready again"
    local client <close> = server:connect()
    assert.equal("3", client:read())
  end)
end)

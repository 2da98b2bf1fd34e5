-- Workers that have more in use than they should: others take over, before they go.

local harness = require "server"
local now = require "moonpool.core".task.now
local request = require "ask"

require "tidy" (before_each, after_each)

-- Each line says how many KiB are to be kept, or only made.
local LEAKY = [[
  local moonpool = require "moonpool"
  local kept = {}
  local function go_on(conn, state)
    while true do
      conn:checkpoint(state)
      local what, n = (conn:read "l" or ""):match "^(%a+) (%d+)$"
      if not what then return end
      for i = 1, n do
        local block = ("x"):rep(1024 - 40) .. #kept .. i
        if what == "keep" then kept[#kept + 1] = block end
      end
      state.n = state.n + 1
      conn:write(state.n, " ", moonpool.worker.pid, "\n")
    end
  end
  return { serve = function(conn) go_on(conn, { n = 0 }) end, resume = go_on }
]]

local HTTP = [[
  local moonpool = require "moonpool"
  local app, kept = require("moonpool.http").app(), {}
  app:get("/", function(_, res)
    kept[#kept + 1] = ("x"):rep(10000) .. #kept
    res:send(tostring(moonpool.worker.pid))
  end)
  return app
]]

local function run(limit, options)
  options.args = { "--memory-soft-limit", limit }
  return harness.run(options)
end

-- The number of the answer, and the pid of who has given it.
local function ask(client, line)
  client:write(line, "\n")
  local n, pid = client:read "l":match "^(%d+) (%d+)$"
  return tonumber(n), tonumber(pid)
end

local function get(client)
  return tonumber(request(client, "GET", "/").body)
end

local function count(server, pattern)
  return select(2, server.text:gsub(pattern, ""))
end

describe("a worker that has more than its soft limit in use", function()
  it("is relieved, and its clients go on elsewhere with their state", function()
    local server <close> = run("8m", { script = LEAKY, workers = 2 })
    local fds = harness.descriptors(server.pid)
    local clients, kept, workers, n = server:connect_many(10), {}, 0, 0
    local of = {} -- who has answered each last
    harness.eventually(function()
      n = n + 1
      for _, client in ipairs(clients) do
        local is_enough = (kept[of[client]] or 0) > 16
        local seen, pid = ask(client, is_enough and "make 1" or "keep 1024")
        assert.equal(n, seen)
        workers = kept[pid] and workers or workers + 1
        kept[pid] = (kept[pid] or 0) + 1
        of[client] = pid
      end
      return workers >= 5
    end, "a fifth worker")
    server:expect "info: %d+ bytes of Lua's are in use %(memory_soft_limit%)"
    assert.is_nil(server.text:find "error:")
    assert.is_nil(server.text:find "warn:")
    harness.close_all(clients)
    harness.eventually(function()
      return #server:workers() == 2 and harness.descriptors(server.pid) == fds
    end)
  end)

  it("is relieved without an HTTP client that notices", function()
    local server <close> = run("4m", { script = HTTP })
    local clients, first = server:connect_many(5), server:workers()[1]
    harness.eventually(function()
      local others = 0
      for _, client in ipairs(clients) do
        if get(client) ~= first then others = others + 1 end
      end
      return others == #clients
    end)
    assert.is_nil(server.text:find "error:")
    harness.close_all(clients)
  end)

  it("says so once, however long it takes until another is ready", function()
    local server <close> = run("8m", { script = LEAKY })
    local client <close> = server:connect()
    local _, first = ask(client, "keep 100")
    server:change "error 'broken meanwhile'"
    ask(client, "keep 20000")
    server:expect "spec/1 goes on without relief, for 0.1 s"
    server:expect "spec/1 goes on without relief, for 0.8 s"
    assert.equal(1, count(server, "memory_soft_limit"))
    assert.equal(first, (select(2, ask(client, "make 1"))))
    server:change(LEAKY)
    harness.eventually(function() return select(2, ask(client, "make 1")) ~= first end)
  end)

  it("is left alone if that was garbage", function()
    local server <close> = run("8m", { script = LEAKY })
    local client <close> = server:connect()
    local _, first = ask(client, "keep 100")
    -- 7 MB are in use and as much again is waited for, in which it looks twice or more.
    ask(client, "keep 6000")
    local from = now()
    harness.eventually(function()
      ask(client, "make 300")
      return now() > from + 2.5
    end)
    assert.equal(first, (select(2, ask(client, "make 1"))))
    assert.is_nil(server.text:find "memory_soft_limit")
  end)
end)

describe("a script that has more than the soft limit by itself", function()
  it("is served all the same, and it is said once", function()
    local server <close> = run("2m", { script = [[
      local kept = ("x"):rep(3 << 20)
      local made = ("y"):rep(3 << 20)
      return function(conn) conn:write(#kept, "\n") end
    ]] })
    server:expect("warn: memory_soft_limit is ignored: the script alone has 3%d+ "
      .. "bytes in use, and it is 2097152\n")
    local first = server:workers()[1]
    local from = now()
    harness.eventually(function()
      local client <close> = server:connect()
      assert.equal("3145728", client:read "l")
      return now() > from + 2.5
    end)
    assert.equal(first, server:workers()[1])
    assert.equal(1, count(server, "memory_soft_limit"))
  end)

  it("is not one that has only left garbage", function()
    local server <close> = run("2m", { script = [[
      do local _ = ("y"):rep(3 << 20) end
      return function(conn) conn:read "l" end
    ]] })
    assert.is_nil(server.text:find "memory_soft_limit")
  end)
end)

-- Handlers that want more memory than their worker may have.

local ask = require "ask"
local core = require "moonpool.core"
local harness = require "server"

require "tidy" (before_each, after_each)

local LIMIT = 16 << 20
local REPORT = "error: [^\n]*not enough memory for %d+ bytes: %d+ of 16777216 are in use "
  .. "%(memory_limit%)\n    stack traceback:\n"

local APP = [[
  local moonpool = require "moonpool"
  local app = require("moonpool.http").app()
  local kept = {}
  local function grow(list)
    for i = 1, math.huge do list[i] = { i } end
  end
  local function closing(fn) return setmetatable({}, { __close = fn, __gc = fn }) end
  app:get("/grow", function() grow {} end)
  app:get("/keep", function(_, res)
    while collectgarbage "count" < 15.5 * 1024 do kept[#kept + 1] = { #kept } end
    res:send "kept"
  end)
  app:get("/drop", function(_, res) kept = {} res:send "dropped" end)
  app:get("/rep", function(_, res) res:send(("x"):rep(1 << 30)) end)
  app:get("/late", function(_, res) res:write "some" grow {} end)
  app:get("/caught", function(_, res)
    local ok, why = pcall(grow, {})
    res:send(tostring(ok) .. " " .. why)
  end)
  app:get("/other", function()
    pcall(grow, {})
    error "of another kind"
  end)
  app:get("/close", function()
    local _ <close> = closing(function() error "while closing" end)
    local _ <close> = closing(function() grow {} end)
    local list = {}
    for i = 1, math.huge do list[i] = closing(function() error(i) end) end
  end)
  app:get("/coroutines", function()
    local list = {}
    for i = 1, math.huge do list[i] = coroutine.wrap(grow) end
  end)
  app:get("/share", function(_, res)
    local list = {}
    for i = 1, 20000 do
      list[i] = { i }
      if i % 1000 == 0 then moonpool.sleep(0) end
    end
    res:send "done"
  end)
  app:get("/", function(_, res) res:send "fine" end)
  return app
]]

local function get(server, path)
  local client <close> = server:connect()
  return ask(client, "GET", path)
end

local function with_app(fn)
  local server <close> = harness.run { args = { "--memory-limit", "16m" }, script = APP }
  local worker = server:workers()[1]
  local witness <close> = server:connect()
  assert.equal("fine", ask(witness, "GET", "/").body)
  fn(server)
  assert.equal("fine", ask(witness, "GET", "/").body)
  assert.equal("fine", get(server, "/").body)
  assert.equal(worker, server:workers()[1])
end

describe("a handler that takes all memory", function()
  for _, path in ipairs { "/grow", "/rep", "/close", "/coroutines" } do
    it("at " .. path .. " has an error of its own, again and again", function()
      with_app(function(server)
        for _ = 1, 5 do
          local answer = get(server, path)
          assert.equal(500, answer.status)
          server:expect(REPORT)
          server.text = ""
        end
      end)
    end)
  end

  it("may go on without it", function()
    with_app(function(server)
      assert.equal("false not enough memory", get(server, "/caught").body)
      assert.not_matches("error", server.text)
    end)
  end)

  it("may fail for another reason then", function()
    with_app(function(server)
      assert.equal(500, get(server, "/other").status)
      server:expect "error: [^\n]*app.lua:%d+: of another kind\n"
    end)
  end)

  it("is cut off where its answer has begun", function()
    with_app(function(server)
      assert.equal("cut off", get(server, "/late").error or "cut off")
      server:expect(REPORT)
    end)
  end)

  it("leaves the others what they need", function()
    with_app(function(server)
      local done = 0
      harness.in_parallel(40, function(i)
        if i % 8 == 0 then
          assert.equal(500, get(server, "/grow").status)
        elseif get(server, "/share").status == 200 then
          done = done + 1
        end
      end)
      assert(done > 0, "nobody was served")
    end)
  end)

  it("and keeps it, lets others fail until it is given back", function()
    with_app(function(server)
      assert.equal("kept", get(server, "/keep").body)
      assert.equal(500, get(server, "/share").status)
      assert.equal("dropped", get(server, "/drop").body)
      assert.equal("done", get(server, "/share").body)
    end)
  end)

  it("does so on a raw connection as well", function()
    local server <close> = harness.run { args = { "--memory-limit", "16m" }, script = [[
      return function(conn)
        for line in conn:lines() do
          local list = {}
          while line == "grow" do list[#list + 1] = { conn } end
          conn:write(line, "\n")
        end
      end
    ]] }
    local other <close> = server:connect()
    for _ = 1, 3 do
      local client <close> = server:connect()
      client:write "grow\n"
      assert.equal("", client:read "a")
      other:write "hello\n"
      assert.equal("hello", other:read())
    end
    server:expect(REPORT)
  end)

  it("does not take more from the system, either", function()
    with_app(function(server)
      get(server, "/grow")
      local before = harness.memory(server:workers()[1])
      for _ = 1, 10 do get(server, "/grow") get(server, "/rep") end
      if harness.is_sanitized then return end
      assert(harness.peak_memory(server:workers()[1]) < before + 2 * LIMIT)
    end)
  end)
end)

describe("a script that does not fit", function()
  it("is not served, and it is said why", function()
    local directory = harness.directory()
    harness.write_file(directory .. "/app.lua", [[
      local list = {}
      for i = 1, math.huge do list[i] = { i } end
    ]])
    local program = harness.start { "serve", directory .. "/app.lua", "--listen",
      "127.0.0.1:0", "--name", "spec", "--memory-limit", "1m" }
    local how, code = program:wait()
    program:stop()
    harness.remove(directory)
    assert.equal("exit 1", how .. " " .. code)
    assert.matches("spec/%d+ cannot load its script: not enough memory for %d+ bytes: "
      .. "%d+ of 1048576 are in use %(memory_limit%)", program.text)
  end)
end)

describe("a task that wants too much", function()
  it("has its error only where there is a limit", function()
    local count = 0
    core.task.spawn(function()
      local list = {}
      for i = 1, 1e6 do list[i] = i end
      count = #list
    end)
    require "moonpool.test".settle()
    assert.equal(1e6, count)
  end)
end)

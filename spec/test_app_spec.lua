local core = require "moonpool.core"
local leaks = require "moonpool.test_leaks"
local lfs = require "lfs"
local moonpool = require "moonpool"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

-- A directory with these files, which goes with the test.
local function project(files)
  local directory = os.tmpname()
  os.remove(directory)
  assert(lfs.mkdir(directory))
  for name, text in pairs(files) do
    local file <close> = assert(io.open(directory .. "/" .. name, "w"))
    file:write(text)
  end
  finally(function()
    for name in pairs(files) do os.remove(directory .. "/" .. name) end
    lfs.rmdir(directory)
  end)
  return directory .. "/app.lua"
end

local function echo(conn)
  for line in conn:lines "L" do conn:write(line) end
end

-- What the end of the test would say.
local function left_behind(app)
  local ok, why = pcall(app.close, app)
  return ok and "" or why
end

describe("an app", function()
  local hello = test.app "examples/hello/app.lua"

  it("is a client of HTTP", function()
    local answer = hello:get "/hello/ada"
    assert.same({ 200, "OK", "1.1", "Hello, ada!\n" },
      { answer.status, answer.reason, answer.version, answer.body })
  end)

  it("has raw clients", function()
    local client <close> = test.app("examples/echo/app.lua"):connect()
    client:write "ping\n"
    assert.equal("ping", client:read "l")
  end)

  it("is what a script would return, too", function()
    local client = test.app(echo):connect()
    client:write "ping\n"
    assert.equal("ping", client:read "l")
  end)

  it("fails as a script fails", function()
    local app = test.app(project { ["app.lua"] = "error 'no such luck'" })
    local ok, why = pcall(app.get, app, "/")
    assert.is_false(ok)
    assert.matches("app.lua:1: no such luck", why)
    app = test.app(project { ["app.lua"] = "return 1" })
    ok, why = pcall(app.connect, app)
    assert.is_false(ok)
    assert.matches("the script must return its handler", why)
    ok, why = pcall(function() return test.app("/no/such.lua"):connect() end)
    assert.is_false(ok)
    assert.matches("/no/such.lua", why)
  end)

  describe("has for each test an instance of its own, with", function()
    local count = [[
      local state = require "state"
      seen = (seen or 0) + 1
      _G.other = (other or 0) + 1
      return function(conn)
        state.n = state.n + 1
        conn:write(state.n, " ", seen, " ", _G.other, " ", require "state".n, "\n")
      end
    ]]
    local app

    for test_number = 1, 2 do
      it("modules and globals that are new: " .. test_number, function()
        app = test.app(project {
          ["app.lua"] = count, ["state.lua"] = "return { n = 0 }" })
        assert.equal("1 1 1 1", app:connect():read "l")
        assert.equal("2 1 1 2", app:connect():read "l")
        assert.is_nil(rawget(_G, "seen"))
        assert.is_nil(package.loaded.state)
        app:close()
        assert.equal("1 1 1 1", app:connect():read "l")
      end)
    end

    it("Moonpool's own modules, which are shared", function()
      app = test.app(project { ["app.lua"] = [[
        local moonpool = require "moonpool"
        return function(conn)
          conn:write(tostring(moonpool == package.loaded.moonpool), "\n")
        end
      ]] })
      assert.equal("true", app:connect():read "l")
    end)

    it("modules and variables that the spec gives", function()
      app = test.app(project { ["app.lua"] = [[
        local name = require("database").name .. os.getenv "STAGE"
        return function(conn) conn:write(name, "\n") end
      ]] }, { modules = { database = { name = "fake " } }, env = { STAGE = "spec" } })
      assert.equal("fake spec", app:connect():read "l")
    end)

    it("chunks that it loads itself", function()
      app = test.app(project { ["app.lua"] = [[
        mine = "own"
        local directory = debug.getinfo(1, "S").source:match "^@(.*)/"
        local text = dofile(directory .. "/more.lua") .. load("return mine")()
        return function(conn) conn:write(text, "\n") end
      ]], ["more.lua"] = "return mine .. ' '" })
      assert.equal("own own", app:connect():read "l")
    end)
  end)

  it("says what is wrong with a module", function()
    local app = test.app(project {
      ["app.lua"] = "require 'bad'", ["bad.lua"] = "return =" })
    local ok, why = pcall(app.connect, app)
    assert.is_false(ok)
    assert.matches("error loading module 'bad' from file '.*/bad.lua'", why)
    app = test.app(project { ["app.lua"] = "require 'nowhere'" })
    ok, why = pcall(app.connect, app)
    assert.is_false(ok)
    assert.matches("module 'nowhere' not found", why)
  end)
end)

describe("what an app leaves behind is said:", function()
  it("nothing", function()
    local app = test.app(echo)
    app:connect():write "line\n"
    assert.equal("", left_behind(app))
    assert.equal("", left_behind(app))
  end)

  it("a connection", function()
    local kept
    local app = test.app(function(conn)
      kept = conn
      moonpool.sleep(3600)
    end)
    app:connect()
    assert.matches("left behind:\na connection\n", left_behind(app))
    assert.is_not_nil(kept)
    assert.equal("", left_behind(app))
  end)

  it("a task, with its traceback, and until when it waits", function()
    local before = leaks.tasks()
    local app = test.app(function(conn)
      moonpool.spawn(function() moonpool.sleep(100) end):detach()
      conn:read()
    end)
    app:connect()
    local why = left_behind(app)
    assert.matches("a task waits in sleep at %S+_spec.lua:%d+, for 80 more", why)
    assert.matches("in function <spec/test_app_spec.lua:%d+>", why)
    assert.is_nil(why:find "connection")
    for id in pairs(leaks.tasks()) do assert.is_not_nil(before[id]) end
  end)

  it("a descriptor", function()
    local file
    local app = test.app(function() file = io.open "/dev/null" end)
    app:connect()
    assert.matches("descriptor %d+, /dev/null", left_behind(app))
    file:close()
    app:connect()
    test.settle()
    file = nil -- luacheck: ignore 311
    assert.equal("", left_behind(app))
  end)

  it("not what a script starts when it is loaded, which ends", function()
    local ticks = 0
    local app = test.app(project { ["app.lua"] = [[
      local moonpool = require "moonpool"
      moonpool.every(1, tick)
      moonpool.subscribe("spec", function() tick() end)
      return function(conn) conn:read() end
    ]] })
    _G.tick = function() ticks = ticks + 1 end
    finally(function() _G.tick = nil end)
    app:connect()
    test.advance(3)
    assert.equal(3, ticks)
    moonpool.publish("spec", "x")
    test.settle()
    assert.equal(4, ticks)
    assert.equal("", left_behind(app))
    ticks = 0
    moonpool.publish("spec", "x")
    test.advance(30)
    assert.equal(0, ticks)
  end)
end)

describe("another worker", function()
  local function counter(conn, state)
    while true do
      conn:checkpoint(state)
      if not conn:read "l" then return end
      state.n = state.n + 1
      conn:write(state.n, state.why or "", "\n")
    end
  end

  local resuming = {
    serve = function(conn) counter(conn, { n = 0 }) end,
    resume = function(conn, state, why)
      state.why = why
      counter(conn, state)
    end,
  }

  local function count(client)
    client:write "\n"
    return client:read "l"
  end

  for _, way in ipairs { "reload", "kill" } do
    it("takes over, by " .. way .. ", what waits at a checkpoint", function()
      local app = test.app(resuming)
      local client = app:connect()
      assert.equal("1", count(client))
      for n = 2, 4 do
        assert.equal(1, app[way](app))
        assert.equal(n .. (way == "kill" and "crash" or "reload"), count(client))
      end
    end)

    it("takes over, by " .. way .. ", what waits for a request", function()
      local app = test.app "examples/hello/app.lua"
      assert.equal(200, app:get("/").status)
      assert.equal(1, app[way](app))
      assert.equal(200, app:get("/").status)
    end)
  end

  it("does not have what the former had in its modules", function()
    local app = test.app(project { ["app.lua"] = [[
      local n = 0
      local function serve(conn)
        while true do
          conn:checkpoint()
          if not conn:read "l" then return end
          n = n + 1
          conn:write(n, "\n")
        end
      end
      return { serve = serve, resume = serve }
    ]] })
    local client = app:connect()
    assert.same({ "1", "2" }, { count(client), count(client) })
    app:reload()
    assert.equal("1", count(client))
  end)

  it("cuts, when the former was killed, what was at work, and leaves it be in a reload",
    function()
      local app = test.app(function(conn)
        conn:read "l"
        moonpool.sleep(5)
        conn:write "done\n"
      end)
      local patient, unlucky = app:connect(), app:connect()
      patient:write "go\n"
      assert.equal(0, app:reload())
      assert.equal("done", patient:read "l")
      unlucky:write "go\n"
      assert.equal(0, app:kill())
      assert.client(unlucky).closes(0)
    end)
end)

describe("a client that is gone at once", function()
  it("fails what its handler reads and writes", function()
    local codes = {}
    local client = test.connect(function(conn)
      codes[1] = select(3, conn:read "l")
      codes[2] = select(3, conn:write "x")
    end)
    test.settle()
    client:reset()
    assert.same({ "ECONNRESET", "ECONNRESET" }, codes)
  end)

  it("is another one than its neighbour", function()
    local app = test.app(echo)
    local client, other = app:connect(), app:connect()
    client:reset()
    other:write "still here\n"
    assert.equal("still here", other:read "l")
  end)
end)

describe("a client that does not read", function()
  it("fills a buffer as small as is asked for", function()
    local written = 0
    local client = test.connect(function(conn)
      while conn:write(("x"):rep(1000)) do written = written + 1000 end
    end, { buffer = 4096 })
    test.settle()
    local small = written
    client:reset()
    written = 0
    client = test.connect(function(conn)
      while conn:write(("x"):rep(1000)) do written = written + 1000 end
    end)
    test.settle()
    assert.is_true(small > 0 and small < written / 2)
    client:reset()
  end)

  it("is cut at the end of the test, if it never ends", function()
    local app = test.app(function(conn)
      while conn:write(("x"):rep(1000)) do end -- luacheck: ignore 542
    end)
    app:connect()
    assert.equal("", left_behind(app))
  end)
end)

describe("core.handler", function()
  it("knows its connections", function()
    local serve = core.handler(echo)
    local one, two = test.client(serve()), test.client(serve())
    local ids = {}
    for id in pairs(serve:connections()) do ids[#ids + 1] = id end
    assert.equal(2, #ids)
    serve:cut(ids[1])
    test.settle()
    test.advance(20)
    assert.is_nil(serve:connections()[ids[1]])
    assert.is_not_nil(serve:connections()[ids[2]])
    one:close()
    two:close()
  end)
end)

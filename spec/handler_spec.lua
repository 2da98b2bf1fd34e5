local child = require "child"
local core = require "moonpool.core"
local http = require "moonpool.http"
local test = require "moonpool.test"

local task = core.task

require "tidy" (before_each, after_each)

describe("a handler", function()
  it("is a function of one connection", function()
    local arguments
    local client <close> = test.connect(function(...)
      arguments = table.pack(...)
      local conn = ...
      for line in conn:lines() do conn:write(line:upper(), "\n") end
      conn:write "bye"
    end)
    client:write "one\ntwo\n"
    assert.same({ "ONE", "TWO" }, { client:read("l", "l") })
    client:shutdown()
    assert.equal("bye", client:read "a")
    assert.equal(1, arguments.n)
    assert.matches("^moonpool.conn", tostring(arguments[1]))
  end)

  it("may be anything that can be called", function()
    local self
    local application = setmetatable({ name = "application" }, {
      __call = function(app, conn)
        self = app
        conn:write(app.name)
      end,
    })
    local client <close> = test.connect(application)
    assert.equal("application", client:read "a")
    assert.equal(application, self)
  end)

  it("may name another that takes its connections", function()
    local calls = 0
    local application = setmetatable({}, {
      __call = function() error "not called" end,
      __handler = function(self)
        calls = calls + 1
        return function(conn) conn:write(tostring(self)) end
      end,
    })
    local serve = core.handler(application)
    for _ = 1, 2 do
      local client <close> = test.client(serve())
      assert.equal(tostring(application), client:read "a")
    end
    assert.equal(1, calls)
    getmetatable(application).__handler = function() return "none" end
    assert.has_error(function() core.handler(application) end,
      "the script must return its handler, a function of one connection or an "
      .. "application, but returns string")
  end)

  it("may be an HTTP application, which is not called for each connection", function()
    local app = http.app()
    app:get("/", function(_, res) res:send "hello" end)
    local mt = getmetatable(app)
    local call = mt.__call
    finally(function() mt.__call = call end)
    mt.__call = function() error "called" end
    local client <close> = test.connect(app)
    client:write "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\nhello$", client:read "a")
  end)

  it("may be a function that passes connections on to an HTTP application", function()
    local app = http.app()
    app:get("/", function(_, res) res:send "hello" end)
    local client <close> = test.connect(function(conn) app(conn) end)
    client:write "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\nhello$", client:read "a")
  end)

  it("is nothing else", function()
    local sentence = "the script must return its handler, a function of one connection "
      .. "or an application, but returns "
    for what, returned in pairs {
      ["a table"] = {}, ["a string"] = "print", ["a number"] = 1, ["a boolean"] = true,
      ["a table "] = setmetatable({}, {}),
    } do
      local ok, why = pcall(core.handler, returned)
      assert.is_false(ok)
      assert.equal(sentence .. what:match "a (%w+)", why)
    end
    assert.has_error(function() core.handler(nil) end, sentence .. "nothing")
    assert.is_false(pcall(core.handler))
  end)

  it("serves many at a time, each on its own", function()
    local serve = core.handler(function(conn)
      local name = conn:read()
      for line in conn:lines() do conn:write(name, ": ", line, "\n") end
    end)
    local clients = {}
    for i = 1, 50 do clients[i] = test.client(serve()) end
    for i, client in ipairs(clients) do client:write("client ", i, "\n") end
    for round = 1, 2 do
      for i = #clients, 1, -1 do
        clients[i]:write("round ", round, "\n")
        assert.equal(("client %d: round %d"):format(i, round), clients[i]:read())
      end
    end
    for _, client in ipairs(clients) do client:close() end
  end)

  it("that returns at once ends the connection, after what it wrote", function()
    local nothing <close> = test.connect(function() end)
    assert.same({ nil, "closed", "EOF" }, { nothing:read() })
    local something <close> = test.connect(function(conn)
      conn:write(("x"):rep(1 << 19))
      return "ignored", conn
    end)
    assert.equal(1 << 19, #something:read "a")
  end)

  it("that never reads makes the client wait", function()
    local client <close> = test.connect(function() task.sleep(60) end)
    client:settimeout(5)
    local ok, why
    repeat ok, why = client:write(("x"):rep(1 << 16)) until not ok
    assert.equal("timeout", why)
    client:settimeout(nil)
    test.advance(60)
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("may close the connection and go on", function()
    local done = false
    local client <close> = test.connect(function(conn)
      conn:write "bye\n"
      conn:close()
      task.sleep(5)
      done = true
    end)
    assert.same({ "bye", nil, "closed", "EOF" }, { client:read("l", "l") })
    assert.is_false(done)
    test.advance(5)
    assert.is_true(done)
  end)

  it("may be left by its client in the middle", function()
    local got
    local client = test.connect(function(conn)
      got = table.pack(conn:read("l", "l", "l"))
    end)
    client:write "one\ntw"
    client:close()
    assert.same({ "one", "tw", nil, "closed", "EOF", n = 5 }, got)
  end)

  it("takes its tasks along when it ends", function()
    local ticks = 0
    local client <close> = test.connect(function(conn)
      task.spawn(function()
        while true do
          task.sleep(1)
          ticks = ticks + 1
          conn:write "tick\n"
        end
      end)
      conn:read()
    end)
    test.advance(3.5)
    client:write "enough\n"
    test.advance(10)
    assert.equal(3, ticks)
    assert.equal("tick\ntick\ntick\n", client:read "a")
  end)

  it("does not keep the connection for a detached task: it ends all the same", function()
    local ok, why
    local client <close> = test.connect(function(conn)
      task.spawn(function()
        task.sleep(1)
        ok, why = pcall(conn.write, conn, "late")
      end):detach()
      conn:write "in time"
    end)
    assert.equal("in time", client:read "a")
    test.advance(1)
    assert.is_false(ok)
    assert.matches("connection is closed", why)
  end)

  it("tells a detached task that waits for the connection", function()
    local code
    local client <close> = test.connect(function(conn)
      task.spawn(function() code = select(3, conn:read()) end):detach()
      task.sleep(1)
    end)
    test.advance(1)
    assert.equal("ECANCELED", code)
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("may cancel itself", function()
    local client <close> = test.connect(function(conn)
      conn:write "so far\n"
      task.current():cancel()
      task.sleep(1)
      conn:write "no further\n"
    end)
    assert.equal("so far\n", client:read "a")
  end)

  for how, finish in pairs {
    returns = "return",
    fails = "error 'meant'",
    ["is cancelled"] = "task.current():cancel() task.sleep(1)",
  } do
    it("that " .. how .. " has its connection until its variables are closed", function()
      local output = child(([[
        local core = require "moonpool.core"
        local test = require "moonpool.test"
        local task = core.task
        local had
        local client <close> = test.connect(function(conn, ...)
          local _ <close> = setmetatable({}, { __close = function()
            conn:write "last words"
          end })
          had = conn
          assert(select("#", ...) == 0)
          %s
        end)
        print(client:read "a", had)
      ]]):format(finish))
      assert.matches("last words\tmoonpool.conn %(closed%)\n$", output)
      assert.equal(how == "fails" and 1 or 0, select(2, output:gsub("error: ", "")))
    end)
  end

  it("that is cancelled before it begins closes its connection", function()
    local client, began
    task.spawn(function() -- and the tasks that it has started end with it
      client = test.client(core.handler(function() began = true end)())
    end)
    test.settle()
    assert.equal("", client:read "a")
    assert.is_nil(began)
    client:close()
  end)

  it("that fails ends its connection only, with a traceback in the log", function()
    local output, how, code = child [[
      local core = require "moonpool.core"
      local test = require "moonpool.test"
      local serve = core.handler(function(conn)
        local function greet(name)
          if name == "nobody" then error "there is nobody to greet" end
          conn:write("hello ", name, "\n")
        end
        for line in conn:lines() do greet(line) end
      end)
      local ada, nobody = test.client(serve()), test.client(serve())
      ada:write "ada\n"
      nobody:write "bob\n"
      nobody:write "nobody\n"
      print(nobody:read("l", "l"))
      print(ada:read())
      ada:write "again\n"
      print(ada:read())
      local third = test.client(serve())
      third:write "third\n"
      print(third:read())
    ]]
    assert.matches("error: %(command line%):5: there is nobody to greet\n", output)
    assert.matches("stack traceback:\n.*in %a+ 'greet'", output)
    assert.equal(1, select(2, output:gsub("error: ", "")))
    assert.matches("hello bob\tnil\tclosed\tEOF\nhello ada\nhello again\nhello third\n$",
      output)
    assert.same({ "exit", 0 }, { how, code })
  end)

  it("that fails long after its connection and its script are gone is logged", function()
    local output, how, code = child [[
      local test = require "moonpool.test"
      local sleep = require "moonpool.core".task.sleep
      local client = test.connect(function(conn)
        conn:close()
        sleep(30)
        error "late"
      end)
      client:close()
      client = nil
      collectgarbage()
      collectgarbage()
      test.advance(30)
    ]]
    assert.matches("error: [^\n]*late\n", output)
    assert.same({ "exit", 0 }, { how, code })
  end)

  it("that still runs at the end of the program is ended", function()
    local output, how, code = child [[
      local test = require "moonpool.test"
      local client = test.connect(function(conn)
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        conn:read()
      end)
      test.settle()
    ]]
    assert.equal("closed\n", output)
    assert.same({ "exit", 0 }, { how, code })
  end)
end)

-- Handlers that run for too long without waiting, in every way that they can.

local ask = require "ask"
local child = require "child"
local core = require "moonpool.core"
local harness = require "server"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local REPORT = "%(command line%):%d+: runs for 0.05 s without waiting: interrupted "
  .. "%(handler_timeout%)\n    stack traceback:\n"

-- What a handler of this body, whose limit is 50 ms, has in the log, and what its client
-- has read by the end. Another client of the same process is then served.
local function run(body, before, after)
  local output, how, code = child([[
    local test = require "moonpool.test"
    local task = require "moonpool.core".task
    local function loop() while true do end end
    local function closing(fn) return setmetatable({}, { __close = fn }) end
    local conn
    local function note(text) conn:write(text) end
    test.handler_timeout(0.05)
    ]] .. (before or "") .. [[

    do
      local client <close> = test.connect(function(c) conn = c; ]] .. body .. [[ end)
      print("read: " .. client:read "a")
    end
    local client <close> = test.connect(function(c) c:write(c:read "l") end)
    client:write "hello\n"
    print("next: " .. client:read "a")
  ]] .. (after or ""))
  assert.equal("exit 0", how .. " " .. code, output)
  local read, next = ("\n" .. output):match "\nread: ([^\n]*)\nnext: ([^\n]*)"
  assert.equal("hello", next, output)
  return output, read
end

describe("a handler that loops", function()
  local ways = {
    ["in plain code"] = "while true do end",
    ["in a function"] = "loop()",
    ["in a for"] = "for _ = 1, math.huge do end",
    ["by going back"] = "::again:: goto again",
    ["by calling itself"] = "local function f() return f() end f()",
    ["in a pcall"] = "pcall(loop) note 'swallowed'",
    ["by pcall again and again"] = "while true do pcall(loop) end",
    ["in pcalls within pcalls"] = "pcall(pcall, pcall, loop) note 'swallowed'",
    ["in a function that calls itself by pcall"] = [[
      local function f() pcall(f) while true do end end
      f() note 'swallowed']],
    ["in an xpcall"] = "xpcall(loop, function() note 'handled' end) note 'swallowed'",
    ["in an xpcall whose handler loops too"] = "while true do xpcall(loop, loop) end",
    ["in the handler of an xpcall"] = "xpcall(error, loop) note 'swallowed'",
    ["in table.sort"] = "table.sort({ 3, 2, 1 }, loop)",
    ["in table.sort in a pcall"] = [[
      while true do pcall(table.sort, { 3, 2, 1 }, loop) note 'swallowed' end]],
    ["in a pcall in table.sort"] = [[
      table.sort({ 3, 2, 1 }, function() pcall(loop) note 'swallowed' end)]],
    ["in an xpcall in table.sort"] = [[
      table.sort({ 3, 2, 1 }, function()
        xpcall(loop, function() note 'handled' end) note 'swallowed'
      end)]],
    ["in string.gsub"] = "string.gsub('abc', '.', loop)",
    ["in a pcall in string.gsub"] = [[
      string.gsub('abc', '.', function() while true do pcall(loop) end end)]],
    ["in a coroutine"] = [[
      coroutine.resume(coroutine.create(loop)) note 'swallowed']],
    ["by coroutines again and again"] = [[
      while true do coroutine.resume(coroutine.create(loop)) end]],
    ["in a coroutine in a coroutine"] = [[
      coroutine.wrap(function() pcall(coroutine.wrap(loop)) note 'swallowed' end)()]],
    ["in a coroutine that has waited"] = [[
      coroutine.wrap(function() task.sleep(1) loop() end)() note 'swallowed']],
    ["after a coroutine has waited"] = [[
      coroutine.wrap(function() task.sleep(1) end)() loop()]],
    ["in an iterator"] = "for _ in coroutine.wrap(loop) do end",
    ["over an iterator"] = [[
      local yield = coroutine.yield
      for _ in coroutine.wrap(function() while true do yield(1) end end) do end]],
    ["in table.sort in a coroutine in string.gsub"] = [[
      string.gsub('abc', '.', function()
        pcall(coroutine.wrap(function()
          pcall(table.sort, { 3, 2, 1 }, loop) note 'swallowed'
        end)) note 'swallowed'
      end) note 'swallowed']],
    ["while a coroutine is closed"] = [[
      local co = coroutine.create(function()
        local _ <close> = closing(loop)
        coroutine.yield()
      end)
      coroutine.resume(co)
      coroutine.close(co) note 'swallowed']],
    ["while a coroutine that has failed is closed"] = [[
      pcall(coroutine.wrap(function()
        local _ <close> = closing(loop)
        error 'failed'
      end)) note 'swallowed']],
    ["in __index"] = "local _ = setmetatable({}, { __index = loop }).x",
    ["in __lt, in table.sort"] = [[
      local mt = { __lt = loop }
      table.sort { setmetatable({}, mt), setmetatable({}, mt) }]],
    ["in __tostring"] = "tostring(setmetatable({}, { __tostring = loop }))",
    ["in __concat, __len, __call"] = [[
      local v = setmetatable({}, { __len = function(v) return v .. '' end,
        __concat = function(v) return v() end, __call = loop })
      pcall(function() return #v end) note 'swallowed']],
    ["in a <close> variable"] = "do local _ <close> = closing(loop) end",
    ["in load"] = "while true do load(loop) end",
    ["in require"] = "package.preload.looping = loop pcall(require, 'looping') note 'no'",
    ["in a task of its own"] = [[
      task.spawn(loop):detach() task.sleep(1)]],
    ["though it takes hooks off"] = [[
      while true do debug.sethook() end]],
    ["after a C function that did not return for long"] = [[
      os.execute 'sleep 0.2' note 'too late']],
    ["with calls of C functions"] = "while true do ('x'):rep(1000):find 'y' end",
  }

  for way, body in pairs(ways) do
    it(way .. " is interrupted, whatever it catches", function()
      local output, read = run(body)
      assert.matches(REPORT, output)
      assert.equal("", read)
      assert.equal(1, select(2, output:gsub("interrupted", "")), output)
    end)
  end

  it("is named in the log by its line, with the calls that have led there", function()
    local output = run [[
      local function deep() loop() end
      deep()]]
    assert.matches("error: %(command line%):3: runs for", output)
    assert.matches("in upvalue 'loop'\n.*in local 'deep'\n.*in function <", output)
  end)

  it("has a run for each wait: none of them is too long", function()
    local _, read = run([[
      for _ = 1, 4 do
        local start = task.now()
        repeat until task.now() - start > 0.3
        task.sleep(0)
      end
      note 'done']], "test.virtual(false) test.handler_timeout(1)")
    assert.equal("done", read)
  end)

  it("may wait for as long as it likes", function()
    local output, read = run([[
      coroutine.wrap(task.sleep)(0.2)
      task.sleep(0.2)
      note 'done']], "test.virtual(false)")
    assert.equal("done", read)
    assert.not_matches("interrupted", output)
  end)

  it("may run for ever where there is no limit", function()
    local _, read = run([[
      local start = task.now()
      repeat until task.now() - start > 0.2
      note 'done']], "test.virtual(false) test.handler_timeout(0)")
    assert.equal("done", read)
  end)

  it("is interrupted when it is cancelled, too", function()
    local output = run [[
      local t = task.spawn(function()
        local _ <close> = closing(loop)
        task.sleep(1e9)
      end)
      task.sleep(1)
      t:cancel()
      task.sleep(1)
      note 'done']]
    assert.matches(REPORT, output)
  end)
end)

describe("what is interrupted", function()
  it("has its <close> variables closed, the inner ones first", function()
    local output, read = run([[
      local _ <close> = closing(function() note '4' end)
      local _ <close> = closing(function() note '3' end)
      pcall(coroutine.wrap(function()
        local _ <close> = closing(function()
          for _ = 1, 100 do pcall(error) end
          note '2'
        end)
        local _ <close> = closing(function()
          note(coroutine.wrap(function() coroutine.yield '1' end)())
        end)
        loop()
      end))]], "test.handler_timeout(0.5)")
    assert.equal("1234", read, output)
  end)

  it("has them closed below C functions as well", function()
    local _, read = run([[
      local _ <close> = closing(function() note '2' end)
      pcall(table.sort, { 3, 2, 1 }, function()
        local _ <close> = closing(function()
          for _ = 1, 100 do pcall(error) end
          note '1'
        end)
        loop()
      end)]], "test.handler_timeout(0.5)")
    assert.equal("12", read)
  end)

  it("has no time for more than that", function()
    for _, closer in ipairs { "loop()", "while true do pcall(loop) end",
      "coroutine.wrap(loop)()", "table.sort({ 3, 2, 1 }, loop)" } do
      local start = core.time()
      local _, read = run([[
        local _ <close> = closing(function() note 'too late' end)
        local _ <close> = closing(function() note 'closing' ]] .. closer .. [[ end)
        loop()]], "test.handler_timeout(0.2)")
      assert.equal("closing", read, closer)
      _, read = run([[
        pcall(table.sort, { 3, 2, 1 }, function()
          local _ <close> = closing(function() note 'closing' ]] .. closer .. [[ end)
          loop()
        end)]], "test.handler_timeout(0.2)")
      assert.equal("closing", read, closer)
      assert(core.time() - start < 3, "it had more time")
    end
  end)

  it("takes the tasks that it has started along, and no others", function()
    local output = run([[
      task.spawn(function()
        local _ <close> = closing(function() print 'child' end)
        task.sleep(1e9)
      end)
      task.spawn(function() task.sleep(5) print 'detached' end):detach()
      task.sleep(0)
      local _ <close> = closing(function() print 'handler' end)
      loop()]], "print 'begin'", "test.advance(10)")
    assert.matches("begin\nhandler\n.*\nchild\nread: \nnext: hello\ndetached\n", output)
  end)
end)

describe("pcall and xpcall", function()
  it("are Lua's own for everything else", function()
    assert.same({ true, 1, nil, 3, nil, n = 5 },
      table.pack(pcall(function(...) return ... end, 1, nil, 3, nil)))
    assert.same({ false, "x", n = 2 }, table.pack(pcall(error, "x")))
    assert.same({ false, nil, n = 2 }, table.pack(pcall(error)))
    assert.same({ true, n = 1 }, table.pack(pcall(function() end)))
    assert.same({ false, "bad argument #1 to 'pcall' (value expected)", n = 2 },
      table.pack(pcall(pcall)))
    assert.is_false(pcall(xpcall, print))
    assert.same({ true, 1, nil, n = 3 },
      table.pack(xpcall(function(...) return ... end, print, 1, nil)))
    assert.same({ false, "handled x", n = 2 },
      table.pack(xpcall(error, function(err) return "handled " .. err end, "x")))
    assert.same({ false, "not enough memory", n = 2 },
      table.pack(pcall(error, "not enough memory")))
  end)

  it("wait for what they call", function()
    local task = core.task
    assert.same({ true, "a", true, "b" }, { test.run(function()
      local ok, a = pcall(function() task.sleep(1) return "a" end)
      local fine, b = xpcall(function() task.sleep(1) return "b" end, print)
      return ok, a, fine, b
    end) })
    assert.same({ false, "late", "handled late" }, { test.run(function()
      local function fail() task.sleep(1) error("late", 0) end
      local ok, why = pcall(fail)
      return ok, why, select(2, xpcall(fail, function(err) return "handled " .. err end))
    end) })
  end)
end)

describe("coroutine.close", function()
  it("is Lua's own for everything else", function()
    local function pending(fn)
      local co = coroutine.create(function()
        local _ <close> = setmetatable({}, { __close = fn })
        coroutine.yield()
      end)
      coroutine.resume(co)
      return co
    end
    local closed
    local co = pending(function() closed = true end)
    assert.is_true(coroutine.close(co))
    assert.is_true(closed)
    assert.equal("dead", coroutine.status(co))
    assert.is_true(coroutine.close(co))
    co = pending(function() error("x", 0) end)
    assert.same({ false, "x" }, { coroutine.close(co) })
    assert.is_true(coroutine.close(coroutine.create(print)))
    local main = coroutine.running()
    coroutine.wrap(function()
      assert.same({ false, "cannot close a running coroutine" },
        { pcall(coroutine.close, coroutine.running()) })
      assert.same({ false, "cannot close a normal coroutine" },
        { pcall(coroutine.close, main) })
    end)()
    assert.is_false(pcall(coroutine.close, 1))
  end)
end)

describe("a server with a handler that loops", function()
  local patience = harness.is_sanitized and 1 or 0.1 -- seconds, of everybody else

  it("answers 503, names the line and lives", function()
    local server <close> = harness.run { args = { "--handler-timeout", "200ms" },
      script = [[
        local app = require("moonpool.http").app()
        app:get("/loop", function()
          while true do pcall(function() while true do end end) end
        end)
        app:get("/late", function(_, res)
          res:write "some"
          while true do end
        end)
        app:get("/", function(_, res) res:send "fine" end)
        return app
      ]] }
    local worker = server:workers()[1]
    local client <close> = server:connect()
    local answer = ask(client, "GET", "/loop")
    assert.equal(503, answer.status)
    assert.equal("close", answer.fields.connection)
    server:expect "error: [^\n]*app.lua:3: runs for 0.2 s without waiting"
    local late <close> = server:connect()
    late:write "GET /late HTTP/1.1\r\nHost: spec\r\n\r\n"
    assert.matches("^HTTP/1.1 200 .*some\r\n$", late:read "a") -- and no last chunk
    server:expect "app.lua:7: runs for 0.2 s"
    local other <close> = server:connect()
    assert.equal("fine", ask(other, "GET", "/").body)
    assert.equal(worker, server:workers()[1])
  end)

  it("serves a hundred others soon after its end", function()
    local server <close> = harness.run { args = { "--handler-timeout", "200ms" },
      script = [[
        return function(conn)
          for line in conn:lines() do
            if line == "loop" then
              while true do pcall(table.sort, { 3, 2, 1 }, function()
                while true do end
              end) end
            end
            conn:write(line, "\n")
          end
        end
      ]] }
    local others, looping <close> = server:connect_many(100), server:connect()
    for _, client in ipairs(others) do
      client:write "before\n"
      assert.equal("before", client:read())
    end
    local start = core.task.now()
    looping:write "loop\n"
    for _, client in ipairs(others) do client:write "during\n" end
    assert.is_nil(looping:read())
    local ended = core.task.now()
    for _, client in ipairs(others) do assert.equal("during", client:read()) end
    local served = core.task.now()
    assert(ended - start >= 0.2, "it was cut short")
    assert(ended - start < 0.2 + 10 * patience, "it took too long")
    assert(served - ended < patience, "the others waited for too long")
    harness.close_all(others)
  end)
end)

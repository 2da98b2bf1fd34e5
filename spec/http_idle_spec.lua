-- Connections between two requests: how long they may wait, and what they cost.

local core = require "moonpool.core"
local harness = require "server"
local http = require "moonpool.http"
local process = require "native.process"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local GET = "GET / HTTP/1.1\r\nHost: spec\r\n\r\n"
local CLIENTS, BYTES = 2000, 300

local function hello(_, res) res:send "hello" end

-- A handler with an engine that has settings of its own.
local function engine(settings, handler)
  local e = core.http.engine(handler or hello, settings)
  return function(conn) core.http.serve(e, conn) end
end

-- The rest of an answer, once its first bytes were read; nil if there is none.
local function take(client)
  local line = client:read()
  if not line then return nil end
  local length
  repeat
    length = length or line:match "^Content%-Length: (%d+)"
    line = client:read()
  until line == ""
  return client:read(tonumber(length))
end

local function ask(client)
  client:write(GET)
  return take(client)
end

-- Whether it is still there, without a word from it.
local function is_open(client)
  client:settimeout(0)
  local _, _, code = client:read(1)
  client:settimeout(60)
  return code == "ETIMEDOUT"
end

local function open_ones(...)
  local open = {}
  for i, client in ipairs { ... } do open[i] = is_open(client) end
  return open
end

describe("between two requests, a connection", function()
  it("has its time from the end of an answer", function()
    local serve = engine { keep_alive = 10 }
    local a <close> = test.connect(serve)
    local b <close> = test.connect(serve)
    local c <close> = test.connect(serve)
    test.advance(4)
    assert.equal("hello", ask(b))
    test.advance(4)
    assert.equal("hello", ask(a))
    test.advance(1.9)
    assert.same({ true, true, true }, open_ones(a, b, c))
    test.advance(0.1) -- c has never asked
    assert.same({ true, true, false }, open_ones(a, b, c))
    test.advance(3.9)
    assert.same({ true, true }, open_ones(a, b))
    test.advance(0.1)
    assert.same({ true, false }, open_ones(a, b))
    assert.equal("hello", ask(a))
    test.advance(9.9)
    assert.is_true(is_open(a))
    test.advance(0.1)
    assert.is_false(is_open(a))
  end)

  it("has the time of its own application", function()
    local a <close> = test.connect(engine { keep_alive = 5 })
    local b <close> = test.connect(engine { keep_alive = 3 })
    test.advance(3)
    assert.same({ true, false }, open_ones(a, b))
    test.advance(2)
    assert.same({ false }, open_ones(a))
  end)

  it("has no limit but the head's once it has begun to ask", function()
    local client <close> = test.connect(engine { keep_alive = 5, head_time = 10 })
    test.advance(4.9)
    client:write(GET:sub(1, 5))
    test.advance(9)
    client:write(GET:sub(6))
    assert.equal("hello", take(client))
    test.advance(4.9)
    assert.is_true(is_open(client))
    test.advance(0.1)
    assert.is_false(is_open(client))
  end)

  it("is not one while its handler works", function()
    local client <close> = test.connect(engine({ keep_alive = 5 }, function(_, res)
      core.task.sleep(100)
      res:send "late"
    end))
    client:write(GET)
    test.advance(100)
    assert.equal("late", take(client))
    test.advance(4.9)
    assert.is_true(is_open(client))
  end)

  it("is counted on", function()
    local client <close> = test.connect(engine { requests = 3 })
    for _ = 1, 2 do
      assert.equal("hello", ask(client))
      test.advance(10)
      assert.is_true(is_open(client))
    end
    assert.equal("hello", ask(client))
    assert.is_false(is_open(client))
  end)

  it("may be closed by its client", function()
    local serve = engine { keep_alive = 10 }
    local a <close> = test.connect(serve)
    local b <close> = test.connect(serve)
    a:close()
    assert.equal("hello", ask(b))
    test.advance(10)
    assert.is_false(is_open(b))
  end)

  it("leaves nothing of an earlier request to the next", function()
    local own = {}
    local e = core.http.engine(function(req, res)
      req.name = req.target
      if req.target == "/slow" then core.task.sleep(1) end
      res:send "hello"
    end, { answered = function(entry) own[#own + 1] = entry.req or "none" end })
    local function serve(conn) core.http.serve(e, conn) end
    local a <close> = test.connect(serve)
    local b <close> = test.connect(serve)
    a:write "POST /early HTTP/1.1\r\nHost: spec\r\nContent-Length: 2\r\n\r\nx"
    assert.equal("hello", take(a)) -- its content is still to be skipped
    b:write "GET /slow HTTP/1.1\r\nHost: spec\r\n\r\n"
    a:write "ynonsense\r\n\r\n"
    assert.match("^HTTP/1%.1 400 ", a:read())
    test.advance(1)
    assert.same({ { name = "/early" }, "none", { name = "/slow" } }, own)
  end)

  it("keeps its application from being collected, and no longer", function()
    local kept = setmetatable({}, { __mode = "k" })
    local function connect()
      local app = http.app { keep_alive = 10 }
      app:get("/", hello)
      kept[app] = true
      return test.client(assert(core.handler(app)()))
    end
    local function serve_one()
      local client <close> = connect()
      collectgarbage()
      assert.equal("hello", ask(client))
      test.advance(10)
      assert.is_false(is_open(client))
    end
    serve_one()
    for _ = 1, 2 do collectgarbage() end -- the last task's thread is still marked by one
    assert.is_nil((next(kept)))
  end)

  it("comes back to an application that was alone", function()
    local serve = engine { keep_alive = 10 }
    for _ = 1, 3 do
      local client <close> = test.connect(serve)
      assert.equal("hello", ask(client))
      test.advance(9)
      assert.is_true(is_open(client))
      test.advance(1)
      assert.is_false(is_open(client))
    end
  end)
end)

describe("connections that have gone over to another protocol", function()
  it("keep what their handler needs", function()
    local over = 0
    local function handler(_, res)
      local conn = res:upgrade "echo"
      for line in conn:lines() do conn:write(line, "\n") end
      over = over + 1
    end
    local client <close> = test.connect(engine({}, handler))
    client:write("GET / HTTP/1.1\r\nHost: spec\r\nConnection: upgrade\r\n",
      "Upgrade: echo\r\n\r\n")
    repeat until client:read() == ""
    client.server = nil
    for _ = 1, 2 do collectgarbage() end
    test.advance(1000) -- no limit of HTTP's is theirs
    client:write "hello\n"
    assert.equal("hello", client:read())
    client:close()
    test.settle()
    assert.equal(1, over)
  end)
end)

describe("a server's idle connections", function()
  it("are given no more than its idle_timeout", function()
    local server <close> = harness.run { args = { "--idle-timeout", "100ms" }, script = [[
      local app = require("moonpool.http").app { keep_alive = 60 }
      app:get("/", function(_, res) res:send "hello" end)
      return app
    ]] }
    local client <close> = server:connect()
    assert.equal("hello", ask(client))
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("cost next to nothing", function()
    assert(process.raise_fd_limit(CLIENTS + 100))
    local server <close> = harness.run { workers = 1, script = [[
      local app = require("moonpool.http").app()
      app:get("/", function(_, res) res:send "hello" end)
      return app
    ]] }
    local worker = server:workers()[1]
    local function ask_all(clients, times)
      for _, client in ipairs(clients) do client:write(GET:rep(times)) end
      for _, client in ipairs(clients) do
        for _ = 1, times do assert.equal("hello", take(client)) end
      end
    end
    local first = server:connect_many(64)
    for _ = 1, 20 do ask_all(first, 20) end -- by then the collector has its pace
    local before = harness.memory(worker)
    local clients = {}
    for _ = 1, CLIENTS / 50 do
      local some = server:connect_many(50)
      ask_all(some, 1)
      table.move(some, 1, 50, #clients + 1, clients)
    end
    local bytes = (harness.memory(worker) - before) / CLIENTS
    harness.close_all(first)
    harness.close_all(clients)
    if not harness.is_sanitized then
      assert.is_true(bytes < BYTES, ("%.0f bytes for each"):format(bytes))
    end
  end)
end)
